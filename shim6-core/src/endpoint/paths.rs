//! Which pairs of locators a context may use, and in which order they are tried (RFC 5533 sections 5.15.3 and 7.2).

mod order;
mod selection;

use core::net::Ipv6Addr;

use rand_core::Rng;
use shim6_reap::{Cause, Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use crate::context::{Association, Context, PeerLocators};
use crate::id::ContextId;
use crate::identity::Identity;

pub(super) use order::{exploration_order, is_better, is_last_resort};

/// The locators of both ends of a context.
pub(super) struct Ends<'a> {
    pub(super) ulids: LocatorPair,
    /// What this host has.
    pub(super) ours: &'a Identity,
    /// What the peer knows of it, if it knows more than the ULID: it accepts no packets from others (section 7.2).
    pub(super) known: Option<&'a Identity>,
    pub(super) peer: &'a PeerLocators,
    /// The pair that the transport wishes for.
    pub(super) wished: Option<LocatorPair>,
}

impl<'a> Ends<'a> {
    pub(super) fn of(context: &'a Context, association: &'a Association) -> Self {
        Self {
            ulids: context.ulids,
            ours: &context.identity,
            known: association.announced.as_deref(),
            peer: &association.peer,
            wished: association.wished,
        }
    }

    /// Whether the peer accepts packets from this address.
    fn is_known(&self, local: Ipv6Addr) -> bool {
        self.known
            .map_or(local == self.ulids.local, |known| known.contains(local))
    }
}

/// How often a pair that is not wanted, but works, is tried to be left. An exploration may end on it because payload on it
/// was heard at the same time.
const ATTEMPTS: u8 = 3;

impl Endpoint {
    /// Gives REAP the pairs that follow from the locators and preferences of both ends, and leaves the current pair if it is
    /// none of them any more, or if one end says that it does not work.
    pub(super) fn refresh_pairs(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(association) = context.association.as_deref() else {
            return;
        };
        let ends = Ends::of(context, association);
        let pairs = exploration_order(&ends, &mut self.rng);
        let is_broken = |pair: &LocatorPair| order::is_broken(&ends, *pair);
        let current = association.reap.current_pair();
        let is_lost = !pairs.contains(&current) || (is_broken(&current) && !pairs.iter().all(is_broken));
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.unwanted = if is_lost { ATTEMPTS } else { 0 };
            }
        });
        self.with_reap(now, id, |reap, _| reap.set_pairs(pairs));
        self.plan_failback(now, id);
    }
}

impl Association {
    /// Looks for another pair while the present one is not wanted.
    pub(super) fn leave_if_unwanted(&mut self, now: Instant, rng: &mut dyn Rng) {
        if self.unwanted > 0 && self.reap.state() == ReapState::Operational {
            self.unwanted -= 1;
            self.reap.explore(now, Cause::LocalHint, rng);
        }
    }
}
