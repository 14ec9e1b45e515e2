//! The checks, by what they are about. Each stands for a sentence of an RFC, with a host and a context of its own.

mod exchange;
mod formats;
mod initiator;
mod keepalive;
mod payload;
mod reap;
mod receiving;
mod recovery;
mod timing;
mod updates;
mod verification;

use std::sync::LazyLock;

use super::{Check, Done, Level, Stop};

/// One check: level, id, what must hold, and the function that finds out.
macro_rules! check {
    ($level:ident, $id:literal, $title:literal, $run:path) => {
        Check {
            id: $id,
            level: Level::$level,
            title: $title,
            slow: false,
            run: |session| Box::pin($run(session)),
        }
    };
    ($level:ident, $id:literal, $title:literal, $run:path, slow) => {
        Check {
            slow: true,
            ..check!($level, $id, $title, $run)
        }
    };
}
use check;

const GROUPS: [&[Check]; 11] = [
    formats::CHECKS,
    verification::CHECKS,
    initiator::CHECKS,
    exchange::CHECKS,
    recovery::CHECKS,
    updates::CHECKS,
    payload::CHECKS,
    receiving::CHECKS,
    timing::CHECKS,
    keepalive::CHECKS,
    reap::CHECKS,
];

/// All checks, by RFC, section and number.
#[must_use]
pub fn all() -> &'static [&'static Check] {
    static ALL: LazyLock<Vec<&'static Check>> = LazyLock::new(|| {
        let mut all: Vec<_> = GROUPS.into_iter().flatten().collect();
        all.sort_by_key(|check| order(check.id));
        all
    });
    &ALL
}

/// Numbers in an id, for 7.9 to come before 7.13.
fn order(id: &str) -> Vec<u32> {
    id.split(['-', '.'])
        .map(|part| part.parse().unwrap_or(u32::MAX))
        .collect()
}
