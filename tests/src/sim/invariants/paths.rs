//! Which directed pairs work, and who changes from which to which.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_core::{Cause, ContextId, Instant, LocatorPair};

use super::{Invariant, Violation};

/// A context's payload took another path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Instant,
    /// Whose context.
    pub host: usize,
    /// The context.
    pub context: ContextId,
    /// The pair that it left.
    pub from: LocatorPair,
    /// The pair that it uses now.
    pub to: LocatorPair,
    /// Why.
    pub cause: Cause,
}

/// The directed pairs of a world, as somebody sees them who looks from above, and the contexts' changes.
#[derive(Debug, Default)]
pub struct Paths {
    /// Since when those that do not work are dead.
    dead: BTreeMap<(Ipv6Addr, Ipv6Addr), Instant>,
    changes: Vec<Change>,
    /// How old what a host learns of a pair may be; `None` where it is not asked.
    report_age: Option<Duration>,
}

impl Paths {
    /// All of them work. What a host learns of a pair is at most this old, if that is known.
    pub fn new(report_age: Option<Duration>) -> Self {
        Self {
            report_age,
            ..Self::default()
        }
    }

    /// Whether a pair works in the direction from its local to its peer locator.
    pub fn works(&self, pair: LocatorPair) -> bool {
        !self.dead.contains_key(&(pair.local, pair.peer))
    }

    /// All changes of contexts so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// A directed pair works from now on, or does not.
    pub fn note(&mut self, now: Instant, path: (Ipv6Addr, Ipv6Addr), works: bool) {
        match works {
            true => drop(self.dead.remove(&path)),
            false => drop(self.dead.entry(path).or_insert(now)),
        }
    }

    /// A context changes its pair.
    ///
    /// # Errors
    /// It leaves one that works for one that is dead, and that for longer than it takes to learn of it.
    pub fn note_change(&mut self, change: Change) -> Result<(), Violation> {
        self.changes.push(change);
        let Change { at, from, to, .. } = change;
        let dead_since = self.dead.get(&(to.local, to.peer)).copied();
        match (dead_since, self.report_age) {
            (Some(since), Some(age)) if self.works(from) && at - since > age => {
                let what = format!(
                    "h{} leaves {from} for {to}, which has been dead for {:?} ({})",
                    change.host,
                    at - since,
                    change.cause
                );
                Err(Violation::new(Invariant::WorkingPath, what))
            }
            _ => Ok(()),
        }
    }
}
