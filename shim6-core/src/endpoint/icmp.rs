//! ICMPv6 errors about packets that this host sent on behalf of a context (RFC 5533 sections 7.8, 8 and 12.4).

use alloc::vec;

use shim6_reap::{Cause, Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use crate::context::ContextState;
use crate::dataplane::icmp::{IcmpError, Inner};
use crate::event::{CloseReason, Event};
use crate::id::ContextId;
use crate::wire::{ContextTag, Discard, Message};

/// Octets of the largest ICMPv6 error: its sender keeps to what every link carries (RFC 4443 section 2.4).
const MAX_ERROR: usize = 1280;

impl Endpoint {
    pub(super) fn handle_icmp(&mut self, now: Instant, error: &IcmpError<'_>) -> Result<(), Discard> {
        if !self.is_local(error.destination) {
            return Err(Discard::LocatorNotInSet);
        }
        let on = LocatorPair {
            local: error.inner_source,
            peer: error.inner_destination,
        };
        match error.inner {
            Inner::Control(message) => self.handle_icmp_about_control(now, on, message, error),
            Inner::Payload { tag, .. } => {
                let id = self.sender(on, tag).ok_or(Discard::NoContext)?;
                self.handle_icmp_about_payload(now, on, id, error);
                Ok(())
            }
        }
    }

    /// An error about a control message. The one that matters says that the peer has no Shim6: if it quotes the I1 that
    /// this host has just sent, with its nonce and tag, then whoever wrote it has seen that.
    fn handle_icmp_about_control(
        &mut self,
        now: Instant,
        on: LocatorPair,
        message: &[u8],
        error: &IcmpError<'_>,
    ) -> Result<(), Discard> {
        let Ok(Message::I1(i1)) = Message::parse(message) else {
            return Err(Discard::IcmpIgnored);
        };
        let context = self
            .contexts
            .by_nonce(i1.initiator_nonce)
            .ok_or(Discard::NoMatchingInitiator)?;
        let is_ours = context.local_tag == i1.initiator_context_tag
            && context.state() == ContextState::I1Sent
            && context.exchange.as_ref().is_some_and(|exchange| exchange.on == on);
        if !is_ours {
            return Err(Discard::NoMatchingInitiator);
        }
        if !error.is_no_support() {
            // The path may be better at the next attempt.
            return Err(Discard::IcmpIgnored);
        }
        let (id, ulids) = (context.id, context.ulids);
        self.hold_down(now, ulids.peer, ContextState::NoSupport);
        self.remove(id, CloseReason::NoAnswer);
        self.events.push_back(Event::NoSupport { ulids });
        Ok(())
    }

    /// An error about a rewritten packet: for the shim if it can act on it, which it can while there is another pair; for
    /// the upper layers otherwise.
    fn handle_icmp_about_payload(&mut self, now: Instant, on: LocatorPair, id: ContextId, error: &IcmpError<'_>) {
        let mut is_acted_on = false;
        if error.is_for_shim() {
            self.with_reap(now, id, |reap, rng| {
                is_acted_on = reap.pairs().iter().any(|&pair| pair != on && reap.is_usable(pair));
                // A pair that is not used any more has been left already.
                let is_current = reap.current_pair() == on;
                if is_current && is_acted_on && reap.state() == ReapState::Operational {
                    reap.explore(now, Cause::IcmpError, rng);
                }
            });
        }
        if !is_acted_on || self.config.deliver_all_icmp {
            self.deliver(id, error);
        }
    }

    /// Gives the upper layers an error about the packet as they sent it.
    fn deliver(&mut self, id: ContextId, error: &IcmpError<'_>) {
        let Some(context) = self.contexts.get(id) else { return };
        if self.deliveries.len() >= self.config.limits.transmit_queue {
            return self.counters.count_discard(Discard::QueueFull);
        }
        let mut packet = vec![0; MAX_ERROR];
        match error.restore(context.ulids, &mut packet) {
            Some(length) => {
                packet.truncate(length);
                self.deliveries.push_back(packet);
            }
            None => self.counters.count_discard(Discard::TooLong),
        }
    }

    pub(super) fn next_delivery(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while let Some(packet) = self.deliveries.pop_front() {
            if let Some(out) = buffer.get_mut(..packet.len()) {
                out.copy_from_slice(&packet);
                return Some(packet.len());
            }
            self.counters.count_discard(Discard::TooLong);
        }
        None
    }

    /// The context of a packet that this host sent: the error has CT(peer) in it, not CT(local) (section 8).
    pub(super) fn sender(&self, on: LocatorPair, tag: ContextTag) -> Option<ContextId> {
        let mut found = self.contexts.by_peer_tag(tag).into_iter();
        found.find(|&id| self.contexts.get(id).is_some_and(|context| context.is_between(on)))
    }
}
