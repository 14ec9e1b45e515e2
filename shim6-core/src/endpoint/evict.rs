//! When contexts end by themselves: they are quiescent, or make room for others (RFC 5533 section 9).

use core::net::Ipv6Addr;

use shim6_reap::{Instant, State as ReapState};

use super::Endpoint;
use crate::context::{Context, ContextState};
use crate::event::CloseReason;
use crate::id::ContextId;

/// Contexts looked at for one to evict. Enough to find an attacker's among honest ones, and few enough to cost nothing.
const DRAWN: usize = 32;

impl Endpoint {
    /// Tears a context down if nothing has passed on it for long.
    pub(super) fn tear_down_if_quiescent(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(association) = context.association.as_deref() else {
            return;
        };
        if association.quiescence_check > now {
            return;
        }
        let last = association
            .last_payload()
            .unwrap_or(context.created)
            .max(context.created);
        let ends = last + self.config.quiescence;
        if ends <= now && !context.in_use && context.state() == ContextState::Established {
            return self.remove(id, CloseReason::Quiescent);
        }
        let next = if ends <= now {
            now + self.config.quiescence
        } else {
            ends
        };
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.quiescence_check = next;
            }
        });
    }

    /// Whether there is room for another context with a peer, if need be after evicting one.
    pub(super) fn make_room(&mut self, now: Instant, peer: Ipv6Addr) -> bool {
        let (limits, (with_peer, with_prefix)) = (&self.config.limits, self.contexts.with_peer(peer));
        let per_peer = self.config.towards(peer).and_then(|peer| peer.contexts_per_peer);
        if with_peer >= per_peer.unwrap_or(limits.contexts_per_peer) || with_prefix >= limits.contexts_per_prefix {
            return false;
        }
        if self.contexts.len() < limits.contexts {
            return true;
        }
        let Some(victim) = self.draw_victim(now) else {
            return false;
        };
        self.remove(victim, CloseReason::Evicted);
        self.contexts.len() < self.config.limits.contexts
    }

    /// Of some contexts drawn by lot, one that is idle: the longest idle of those whose prefix has the most contexts. Who
    /// has many is drawn more often as well, so whoever fills the table makes room himself.
    fn draw_victim(&mut self, now: Instant) -> Option<ContextId> {
        let mut best = None;
        for _ in 0..DRAWN {
            let Some(context) = self.contexts.draw(&mut self.rng) else {
                continue;
            };
            let Some(last) = idle_since(context).filter(|&last| now - last >= self.config.limits.idle_before_eviction)
            else {
                continue;
            };
            let share = self.contexts.with_prefix_of(context.ulids.peer);
            // More contexts first, then the earlier time.
            let score = (share, core::cmp::Reverse(last));
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, context.id));
            }
        }
        best.map(|(_, id)| id)
    }
}

/// Since when nothing has passed on a context that may go.
fn idle_since(context: &Context) -> Option<Instant> {
    let association = context.association.as_deref()?;
    let may_go = context.state() == ContextState::Established
        && !context.in_use
        && association.reap.state() == ReapState::Operational;
    may_go.then(|| {
        association
            .last_payload()
            .unwrap_or(context.created)
            .max(context.created)
    })
}
