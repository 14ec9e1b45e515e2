//! Recovery of a context that one end has lost: R1bis and I2bis (RFC 5533 sections 7.5, 7.17 to 7.19).

use alloc::boxed::Box;

use shim6_reap::{Instant, LocatorPair};

use super::{Arrival, Endpoint};
use crate::context::{ContextState, Exchange, Reply, Step};
use crate::event::Event;
use crate::id::ContextId;
use crate::validator;
use crate::wire::{ContextTag, Discard, Message, R1bis};

impl Endpoint {
    /// A payload header with a tag that has no flow, or that had none when it arrived (section 12.2).
    pub(super) fn handle_payload_tag(&mut self, now: Instant, on: LocatorPair, tag: ContextTag) -> Result<(), Discard> {
        match self
            .contexts
            .by_local_tag(tag)
            .map(|context| (context.id, context.association.is_some()))
        {
            None => self.send_r1bis(now, on, tag),
            Some((id, false)) => {
                self.hasten_exchange(now, id);
                Err(Discard::WrongState)
            }
            Some((id, true)) => {
                self.repeat_exchange(now, id);
                Ok(())
            }
        }
    }

    /// The context that a message with a Receiver Context Tag is for (section 12.4). If there is none, or its sender is not
    /// the context's peer, the sender holds on to a context that this host has lost, and is told so.
    pub(super) fn addressed_context(&mut self, arrival: Arrival<'_>, tag: ContextTag) -> Result<ContextId, Discard> {
        let Arrival { now, on, .. } = arrival;
        let Some(context) = self.contexts.by_local_tag(tag) else {
            self.send_r1bis(now, on, tag)?;
            return Err(Discard::NoContext);
        };
        if context.association.is_none() {
            // Whoever knows the tag has had our I2: its R2 got lost. Without CT(peer) nothing else can be done with the message.
            let id = context.id;
            self.hasten_exchange(now, id);
            return Err(Discard::WrongState);
        }
        if context.is_between(on) {
            let (id, is_news) = (context.id, !context.is_known_to_peer(on.local));
            if is_news {
                self.note_known(now, id);
            }
            return Ok(id);
        }
        let peer = context.association.as_ref().map(|association| &association.peer);
        // Of a list longer than the limit, this may be one of those that were left out: nothing is lost then.
        if peer.is_none_or(|peer| usize::from(peer.listed) == peer.locators.len()) {
            self.send_r1bis(now, on, tag)?;
        }
        Err(Discard::LocatorNotInSet)
    }

    /// The peer has sent to a locator of which no acknowledgement says that it knows it. So it does, and it can be a source.
    fn note_known(&mut self, now: Instant, id: ContextId) {
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.announced = Some(context.identity.clone());
            }
        });
        self.refresh_pairs(now, id);
    }

    /// R1bis (section 7.18): the peer has lost the context.
    ///
    /// The section wants the addresses to be the context's current pair. That would leave out the first of its own cases
    /// (section 7.5): the message that shows the loss is a probe, which goes to any pair. So any pair of the context's
    /// locators will do.
    pub(super) fn handle_r1bis(&mut self, arrival: Arrival<'_>, r1bis: &R1bis) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let id = self.sender(on, r1bis.packet_context_tag).ok_or(Discard::NoContext)?;
        match self.contexts.get(id).map(|context| context.state()) {
            Some(ContextState::Established) => {}
            Some(ContextState::I2bisSent) => return self.renew_recovery(now, id, r1bis),
            _ => return Err(Discard::WrongState),
        }
        let exchange = Exchange {
            nonce: self.allocate_nonce(),
            on,
            step: Step::I2bis {
                reply: Reply {
                    responder_nonce: r1bis.responder_nonce,
                    validator: r1bis.validator.as_slice().into(),
                    retries: 0,
                    repeated: false,
                    sent: now,
                },
                packet_context_tag: r1bis.packet_context_tag,
            },
            started: now,
            i1_retries: 0,
            deadline: self.backoff(now, self.config.establishment.i2bis_timeout, 0),
            has_told: false,
            announced: None,
        };
        self.contexts
            .modify(id, |context| context.exchange = Some(Box::new(exchange)));
        self.events.push_back(Event::Recovering { context: id });
        self.send_initiation(now, id);
        // From now on what the peer sends on this context is a reason to repeat the I2bis.
        self.look(now, id);
        Ok(())
    }

    /// Another R1bis while the answer to the first is awaited. The section has it discarded; but one with another Responder
    /// Nonce shows that the validator before has grown old, or that the peer has restarted once more and knows nothing of
    /// it. Then the I2bis is sent with the new one: else it would be in vain until the fallback to I1.
    fn renew_recovery(&mut self, now: Instant, id: ContextId, r1bis: &R1bis) -> Result<(), Discard> {
        let is_new = self.contexts.modify(id, |context| {
            let is_due = context.repetition().is_some_and(|at| at <= now);
            let Step::I2bis { reply, .. } = &mut context.exchange.as_deref_mut()?.step else {
                return None;
            };
            let is_new = reply.responder_nonce != r1bis.responder_nonce && is_due;
            is_new.then(|| {
                reply.responder_nonce = r1bis.responder_nonce;
                reply.validator = r1bis.validator.as_slice().into();
                reply.repeated = true;
            })
        });
        is_new.flatten().ok_or(Discard::WrongState)?;
        self.send_initiation(now, id);
        Ok(())
    }

    /// Tells the sender of a packet that this host does not know its context, and keeps nothing (section 7.17).
    pub(super) fn send_r1bis(&mut self, now: Instant, on: LocatorPair, tag: ContextTag) -> Result<(), Discard> {
        if !self.limits.r1bis.allow(now, on.peer) {
            return Err(Discard::RateLimited);
        }
        let exchange = validator::Exchange::Recovery {
            packet_context_tag: tag,
            locators: on,
        };
        let (responder_nonce, validator) = self.validator.issue(now, &exchange);
        let r1bis = R1bis {
            packet_context_tag: tag,
            responder_nonce,
            validator: validator.to_vec(),
        };
        self.send(on, Message::R1bis(r1bis));
        Ok(())
    }
}
