//! The way back to a preferred pair that works again.
//!
//! A context that a failure has moved away from the pair of its ULIDs, or from pairs that both ends prefer, probes those
//! quietly while it is in use, and takes one back that has been stable for long enough. Each end decides about the pair
//! that it sends on; what the other end wishes is in the order of the pairs.
//!
//! A context that still uses the pair of its ULIDs stays there, whatever is preferred, until that fails: nothing is
//! touched that works.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use shim6_reap::{Cause, Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use super::experience::Verdict;
use super::paths;
use crate::context::{Association, Away};
use crate::id::ContextId;

/// How long after its last payload a context is still in use. Longer than what keeps connections alive is apart.
const IN_USE: Duration = Duration::from_secs(90);

impl Endpoint {
    /// Finds out which pairs the context would rather use than the present one.
    pub(super) fn plan_failback(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(association) = context.association.as_deref() else {
            return;
        };
        let current = association.reap.current_pair();
        let mut better = Vec::new();
        if self.config.failback.enabled && current != context.ulids {
            let ends = paths::Ends::of(context, association);
            let before_current = association.reap.pairs().iter().take_while(|&&pair| pair != current);
            better.extend(before_current.filter(|pair| paths::is_better(&ends, **pair, current)));
        }
        let next = Some(now + self.config.failback.interval);
        let away = (!better.is_empty()).then(|| Box::new(Away { better, next }));
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.away = away;
            }
        });
    }

    /// Probes a pair that the context would rather use, or takes it back, if it is time.
    pub(super) fn try_failback(&mut self, now: Instant, id: ContextId) {
        let Some(association) = self.contexts.get(id).and_then(|context| context.association.as_deref()) else {
            return;
        };
        let Some(away) = association.away.as_deref().filter(|away| away.is_due(now)) else {
            return;
        };
        let interval = self.config.failback.interval.max(association.reap.test_interval());
        let next = association.is_in_use(now).then(|| now + interval);
        let is_settled = association.reap.state() == ReapState::Operational;
        let usable = away.better.iter().filter(|&&pair| association.reap.is_usable(pair));
        let candidates: Vec<LocatorPair> = match next {
            Some(_) if is_settled => usable.copied().collect(),
            _ => Vec::new(),
        };
        self.contexts.modify(id, |context| {
            let association = context.association.as_deref_mut();
            if let Some(away) = association.and_then(|association| association.away.as_deref_mut()) {
                away.next = next;
            }
        });
        for pair in candidates {
            match self.experience.judge(now, pair, (&self.config.failback, interval)) {
                Verdict::Take => {
                    self.with_reap(now, id, |reap, _| {
                        reap.switch_to(now, pair, Cause::Preferred);
                    });
                    return;
                }
                Verdict::Probe if self.trials.allow(now) => {
                    let mut is_probed = false;
                    self.with_reap(now, id, |reap, rng| is_probed = reap.probe_quietly(now, pair, rng));
                    if is_probed {
                        self.experience.note_probed(now, pair);
                    }
                }
                Verdict::Probe | Verdict::Wait => {}
            }
        }
    }
}

impl Away {
    fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }
}

impl Association {
    fn is_in_use(&self, now: Instant) -> bool {
        self.last_payload().is_some_and(|last| now - last < IN_USE)
    }
}
