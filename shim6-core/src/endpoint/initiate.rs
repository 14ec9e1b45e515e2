//! The initiator of a context: I1, R1, I2, R2, and what is sent again (RFC 5533 sections 7.7, 7.8, 7.11, 7.12, 7.16).

use alloc::boxed::Box;
use core::time::Duration;

use rand_core::Rng;
use shim6_reap::{Instant, LocatorPair};

use super::verify::is_locator;
use super::{Arrival, Endpoint, EstablishError};
use crate::context::{Context, ContextState, Exchange, Reply, Step};
use crate::dataplane::DataplaneUpdate;
use crate::event::{CloseReason, Event};
use crate::id::ContextId;
use crate::wire::{ContextTag, Discard, I1, I2, I2bis, Message, R1, R2, UlidPair};

impl Endpoint {
    /// Starts the exchange for a ULID pair and Forked Instance Identifier.
    pub(super) fn initiate(
        &mut self,
        now: Instant,
        ulids: LocatorPair,
        forked_instance: u32,
    ) -> Result<ContextId, EstablishError> {
        if !self.identity.is_ulid(ulids.local) || self.is_local(ulids.peer) || !is_locator(ulids.peer) {
            return Err(EstablishError::NotOurs(ulids));
        }
        if self.never.contains(&ulids) {
            return Err(EstablishError::Never(ulids));
        }
        let now = self.advance(now);
        if let Some(context) = self.contexts.by_ulids(ulids, forked_instance) {
            return Err(EstablishError::Exists(context.id));
        }
        if let Some((state, until)) = self.failures.get(ulids.peer, now) {
            return Err(EstablishError::HoldDown { state, until });
        }
        if !self.make_room(now, ulids.peer) {
            return Err(EstablishError::Limit);
        }
        self.failures.forget(ulids.peer);
        let mut context = self.new_context(now, ulids, forked_instance);
        let id = context.id;
        context.exchange = Some(Box::new(Exchange {
            nonce: self.allocate_nonce(),
            on: ulids,
            step: Step::I1,
            started: now,
            i1_retries: 0,
            deadline: self.backoff(now, self.config.establishment.i1_timeout, 0),
            has_told: false,
            announced: None,
        }));
        self.contexts.insert(context);
        self.send_initiation(now, id);
        Ok(id)
    }

    /// A context with nothing but what it is for.
    pub(super) fn new_context(&mut self, now: Instant, ulids: LocatorPair, forked_instance: u32) -> Context {
        Context {
            id: self.contexts.next_id(),
            ulids,
            forked_instance,
            local_tag: self.allocate_tag(),
            created: now,
            identity: self.identity.clone(),
            exchange: None,
            association: None,
            was_established: false,
            in_use: false,
            timer: None,
            place: 0,
        }
    }

    /// R1 (section 7.11).
    pub(super) fn handle_r1(&mut self, arrival: Arrival<'_>, r1: &R1) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let context = self.initiator(on, r1.initiator_nonce)?;
        let id = context.id;
        if context.state() != ContextState::I1Sent {
            return Err(Discard::WrongState);
        }
        let deadline = self.backoff(now, self.config.establishment.i2_timeout, 0);
        self.contexts.modify(id, |context| {
            if let Some(exchange) = &mut context.exchange {
                exchange.deadline = deadline;
                exchange.step = Step::I2(Reply {
                    responder_nonce: r1.responder_nonce,
                    validator: r1.validator.as_slice().into(),
                    retries: 0,
                    repeated: false,
                    sent: now,
                });
            }
        });
        self.send_initiation(now, id);
        Ok(())
    }

    /// R2 (section 7.16).
    pub(super) fn handle_r2(&mut self, arrival: Arrival<'_>, r2: &R2) -> Result<(), Discard> {
        let context = self.initiator(arrival.on, r2.initiator_nonce)?;
        let (id, ulid) = (context.id, context.ulids.peer);
        let rtt = context
            .exchange
            .as_deref()
            .and_then(|exchange| exchange.rtt(arrival.now));
        let mut peer = self.describe(arrival, ulid, r2.responder_context_tag, &r2.announcement)?;
        peer.rtt = rtt;
        self.associate(arrival.now, arrival.on, id, peer);
        Ok(())
    }

    /// The exchange's retransmission timer, if it has run out (sections 7.8, 7.12, 7.19).
    pub(super) fn retransmit(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(exchange) = context.exchange.as_deref().filter(|exchange| exchange.deadline <= now) else {
            return;
        };
        let timers = &self.config.establishment;
        let (retries, timeout, max) = match &exchange.step {
            Step::I1 => (0, timers.i1_timeout, 0),
            Step::I2(reply) => (reply.retries, timers.i2_timeout, timers.i2_retries_max),
            Step::I2bis { reply, .. } => (reply.retries, timers.i2bis_timeout, timers.i2bis_retries_max),
        };
        if retries < max {
            let deadline = self.backoff(now, timeout, retries + 1);
            self.contexts.modify(id, |context| {
                if let Some(exchange) = &mut context.exchange {
                    exchange.deadline = deadline;
                    if let Step::I2(reply) | Step::I2bis { reply, .. } = &mut exchange.step {
                        reply.retries += 1;
                    }
                }
            });
        } else if exchange.i1_retries < timers.i1_retries_max {
            let retries = exchange.i1_retries + 1;
            let deadline = self.backoff(now, timers.i1_timeout, retries);
            self.fall_back(id, retries, deadline);
        } else {
            let ulids = context.ulids;
            self.hold_down(now, ulids.peer, ContextState::EFailed);
            self.remove(id, CloseReason::NoAnswer);
            self.events.push_back(Event::NoAnswer { ulids });
            return;
        }
        self.send_initiation(now, id);
    }

    /// I1-SENT, from any state of the exchange. What is known of the peer is over: only in ESTABLISHED and I2BIS-SENT is there a
    /// CT(peer) (section 11).
    fn fall_back(&mut self, id: ContextId, i1_retries: u32, deadline: Instant) {
        let association = self.contexts.modify(id, |context| {
            if let Some(exchange) = &mut context.exchange {
                exchange.step = Step::I1;
                exchange.i1_retries = i1_retries;
                exchange.deadline = deadline;
            }
            context.association.take()
        });
        if let Some(association) = association.flatten() {
            self.updates.push_back(DataplaneUpdate::Remove(association.flow));
        }
    }

    /// The peer still sends on a context of which it has not answered our last message: so that is sent again (sections
    /// 10.4, 12.2), within bounds.
    pub(super) fn repeat_exchange(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        if context.repetition().is_none_or(|at| at > now) {
            return;
        }
        self.contexts.modify(id, |context| {
            let step = context.exchange.as_deref_mut().map(|exchange| &mut exchange.step);
            if let Some(Step::I2(reply) | Step::I2bis { reply, .. }) = step {
                reply.repeated = true;
            }
        });
        self.send_initiation(now, id);
    }

    /// The peer seems to have got our I2, and its R2 to have got lost: the I2 is sent again sooner, but no more often. Nobody has
    /// proved to be the peer yet, and whoever knows the tag must not make us send to it more than we would anyway.
    pub(super) fn hasten_exchange(&mut self, now: Instant, id: ContextId) {
        let max = self.config.establishment.i2_retries_max;
        self.contexts.modify(id, |context| {
            let at = context.repetition()?.max(now);
            let exchange = context.exchange.as_deref_mut()?;
            if matches!(&exchange.step, Step::I2(reply) if reply.retries < max) {
                exchange.deadline = exchange.deadline.min(at);
            }
            Some(())
        });
    }

    /// Sends the message of the exchange's state.
    pub(super) fn send_initiation(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(exchange) = context.exchange.as_deref() else {
            return;
        };
        let ulid_pair = (exchange.on != context.ulids).then_some(UlidPair {
            sender: context.ulids.local,
            receiver: context.ulids.peer,
        });
        let forked_instance = (context.forked_instance != 0).then_some(context.forked_instance);
        let (identity, ulids, on) = (&context.identity, context.ulids, exchange.on);
        let built = match &exchange.step {
            Step::I1 => Ok((
                Message::I1(I1 {
                    initiator_context_tag: context.local_tag,
                    initiator_nonce: exchange.nonce,
                    ulid_pair,
                    forked_instance,
                }),
                None,
            )),
            Step::I2(reply) => self.announce(identity, ulids, |announcement| {
                Message::I2(I2 {
                    initiator_context_tag: context.local_tag,
                    initiator_nonce: exchange.nonce,
                    responder_nonce: reply.responder_nonce,
                    validator: reply.validator.to_vec(),
                    ulid_pair,
                    forked_instance,
                    announcement,
                })
            }),
            Step::I2bis {
                reply,
                packet_context_tag,
            } => self.announce(identity, ulids, |announcement| {
                Message::I2bis(I2bis {
                    initiator_context_tag: context.local_tag,
                    initiator_nonce: exchange.nonce,
                    responder_nonce: reply.responder_nonce,
                    packet_context_tag: *packet_context_tag,
                    validator: reply.validator.to_vec(),
                    ulid_pair,
                    forked_instance,
                    announcement,
                })
            }),
        };
        match built {
            Ok((message, announced)) => {
                self.contexts.modify(id, |context| {
                    if let Some(exchange) = &mut context.exchange {
                        // An I1 tells nothing; what was told before stays so.
                        if let Step::I2(reply) | Step::I2bis { reply, .. } = &mut exchange.step {
                            reply.sent = now;
                            exchange.tell(announced);
                        }
                    }
                });
                self.send(on, message);
            }
            // A validator that leaves no room: the peer's doing.
            Err(reason) => self.counters.count_discard(reason),
        }
    }

    /// The context that waits for an R1 or R2 with this nonce on this pair. Both are answered on the addresses that the
    /// I1, I2 or I2bis was sent on.
    fn initiator(&self, on: LocatorPair, nonce: u32) -> Result<&Context, Discard> {
        let context = self.contexts.by_nonce(nonce).ok_or(Discard::NoMatchingInitiator)?;
        let is_on = context.exchange.as_ref().is_some_and(|exchange| exchange.on == on);
        is_on.then_some(context).ok_or(Discard::NoMatchingInitiator)
    }

    /// A Context Tag that no context of this host has (section 7.1).
    fn allocate_tag(&mut self) -> ContextTag {
        loop {
            let tag = self.tags.next_tag();
            if self.contexts.by_local_tag(tag).is_none() {
                return tag;
            }
        }
    }

    /// An Initiator Nonce by which exactly one context is found.
    pub(super) fn allocate_nonce(&mut self) -> u32 {
        loop {
            let nonce = self.rng.next_u32();
            if self.contexts.by_nonce(nonce).is_none() {
                return nonce;
            }
        }
    }

    /// When a message that has been sent again `retries` times is sent again.
    pub(super) fn backoff(&mut self, now: Instant, nominal: Duration, retries: u32) -> Instant {
        let backed_off = nominal.saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX));
        now + randomised(backed_off, self.rng.next_u32())
    }
}

/// Between 0.5 and 1.5 of a time, after the backoff (section 14).
pub(super) fn randomised(nominal: Duration, jitter: u32) -> Duration {
    let span = nominal.as_micros().saturating_mul(u128::from(jitter)) >> 32;
    nominal / 2 + Duration::from_micros(u64::try_from(span).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_randomised_between_half_and_one_and_a_half() {
        for nominal in [4, 8, 64] {
            let nominal = Duration::from_secs(nominal);
            assert_eq!(randomised(nominal, 0), nominal / 2);
            assert_eq!(randomised(nominal, 1 << 31), nominal);
            assert!(randomised(nominal, u32::MAX).abs_diff(nominal * 3 / 2) < Duration::from_micros(10));
        }
        assert!(randomised(Duration::MAX, u32::MAX) > Duration::from_secs(1 << 40));
    }
}
