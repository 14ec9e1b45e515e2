//! How soon a pair may be taken back that has failed.

use std::collections::BTreeMap;
use std::time::Duration;

use shim6_core::{Cause, FailbackConfig, Instant, LocatorPair};

use crate::sim::invariants::{Change, Invariant, Violation};

/// What the hosts' changes show of each pair.
#[derive(Debug, Default)]
pub(super) struct Damping(BTreeMap<(usize, LocatorPair), Past>);

#[derive(Debug, Default)]
struct Past {
    failed: Option<Instant>,
    taken: Option<Instant>,
    /// How often it has failed in less time than it had to be stable for before.
    relapses: u32,
}

impl Damping {
    /// Checks a change of a host with this configuration.
    ///
    /// A pair is taken back no sooner than `stable` after a context of the host has left it. If it fails again in less time than
    /// that, it takes twice as long the next time, up to the limit. Ten times as long without a failure, and that is forgotten.
    pub(super) fn check(&mut self, change: &Change, config: &FailbackConfig) -> Result<(), Violation> {
        let Change { at, host, from, to, .. } = *change;
        if change.cause == Cause::Preferred {
            let past = self.0.entry((host, to)).or_default();
            past.taken.get_or_insert(at);
            let (needed, waited) = (required(config, past.relapses), past.failed.map(|failed| at - failed));
            return match waited.filter(|&waited| waited < needed) {
                None => Ok(()),
                Some(waited) => {
                    let what = format!("h{host} takes {to} back after {waited:?}, and not after {needed:?}");
                    Err(Violation::new(Invariant::Damping, what))
                }
            };
        }
        if change.cause != Cause::Requested {
            let past = self.0.entry((host, from)).or_default();
            past.failed = Some(at);
            if let Some(good) = past.taken.take().map(|taken| at - taken) {
                let needed = required(config, past.relapses);
                match good {
                    good if good < needed => past.relapses += 1,
                    good if good >= needed * 10 => past.relapses = 0,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn required(config: &FailbackConfig, relapses: u32) -> Duration {
    let factor = 1_u32.checked_shl(relapses).unwrap_or(u32::MAX);
    config.stable.saturating_mul(factor).min(config.max_stable)
}
