//! The way back to a preferred pair that works again.
//!
//! A context that a failure has moved away from the pair of its ULIDs, or from pairs that both ends prefer, probes those
//! quietly while it is in use, and takes one back that has been stable for long enough. Each end decides about the pair
//! that it sends on; what the other end wishes is in the order of the pairs.
//!
//! A context that still uses the pair of its ULIDs stays there, whatever is preferred, until that fails: nothing is
//! touched that works. Only where one of the ULIDs is the last resort it goes to a better pair that works, and where the
//! transport wishes for another pair it goes to that one.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::Rng;
use shim6_reap::{Cause, Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use super::initiate::randomised;
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
        let ends = paths::Ends::of(context, association);
        let may_leave = current != context.ulids || paths::is_last_resort(&ends, current);
        let is_worth_it = |pair: &LocatorPair| may_leave || association.wished == Some(*pair);
        if self.config.failback.enabled && !association.pinned {
            let before_current = association.reap.pairs().iter().take_while(|&&pair| pair != current);
            let better_ones = before_current.filter(|pair| paths::is_better(&ends, **pair, current));
            better.extend(better_ones.copied().filter(is_worth_it));
        }
        let next = Some(now + self.config.failback.interval);
        let away = (!better.is_empty()).then(|| Box::new(Away { better, next }));
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.away = away;
            }
        });
    }

    /// Probes a pair that the context would rather use, if it is time: the one that was probed longest ago.
    pub(super) fn try_failback(&mut self, now: Instant, id: ContextId) {
        let Some(association) = self.contexts.get(id).and_then(|context| context.association.as_deref()) else {
            return;
        };
        let Some(away) = association.away.as_deref().filter(|away| away.is_due(now)) else {
            return;
        };
        let interval = self.probe_interval(association);
        if away.next.is_none() {
            for &pair in &away.better {
                self.experience.note_pause(now, pair, interval.saturating_mul(2));
            }
        }
        let in_use = association.is_in_use(now);
        let is_settled = association.reap.state() == ReapState::Operational;
        let usable = away
            .better
            .iter()
            .copied()
            .filter(|&pair| association.reap.is_usable(pair));
        let oldest = usable.min_by_key(|&pair| self.experience.last_probed(pair));
        // Another context may have probed it.
        let is_probed = |&pair: &LocatorPair| {
            let last = self.experience.last_probed(pair);
            last.is_some_and(|last| now - last < interval)
        };
        let pair = oldest.filter(|pair| in_use && is_settled && !is_probed(pair));
        let is_allowed = pair.is_none() || self.trials.allow(now);
        // By lot: contexts that have failed together ask together, and the same ones would come too late each time. Nor must the
        // tests keep step with a flow that sends now and then.
        let wait = match is_allowed {
            true => interval.saturating_add(randomised(interval / 4, self.rng.next_u32())),
            false => randomised(interval, self.rng.next_u32()),
        };
        let next = in_use.then(|| now + wait);
        self.contexts.modify(id, |context| {
            let association = context.association.as_deref_mut();
            if let Some(away) = association.and_then(|association| association.away.as_deref_mut()) {
                away.next = next;
            }
        });
        let Some(pair) = pair.filter(|_| is_allowed) else {
            return;
        };
        let mut is_probed = false;
        self.with_reap(now, id, |reap, rng| is_probed = reap.probe_quietly(now, pair, rng));
        if is_probed {
            self.experience.note_probed(now, pair);
        }
    }

    /// Has all contexts that would rather use `pair` take it back, if it has been stable. It has just been heard to work: a
    /// look some time later might find that it did not any more.
    pub(super) fn take_back(&mut self, now: Instant, pair: LocatorPair) {
        let config = self.config.failback;
        if !self.experience.is_stable(now, pair, (&config, config.interval)) {
            return;
        }
        for id in self.contexts.ids() {
            let association = self.contexts.get(id).and_then(|context| context.association.as_deref());
            let is_wanted = association.is_some_and(|association| {
                let away = association.away.as_deref();
                away.is_some_and(|away| away.better.contains(&pair))
                    && self
                        .experience
                        .is_stable(now, pair, (&config, self.probe_interval(association)))
            });
            if is_wanted {
                self.with_reap(now, id, |reap, _| {
                    reap.switch_to(now, pair, Cause::Preferred);
                });
            }
        }
    }

    /// The time between two quiet probes of a context.
    fn probe_interval(&self, association: &Association) -> Duration {
        self.config.failback.interval.max(association.reap.test_interval())
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
