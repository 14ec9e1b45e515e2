//! The responder: I1, I2 and I2bis, and what answers them (RFC 5533 sections 7.9, 7.10, 7.13, 7.14, 7.20).

use core::time::Duration;

use shim6_reap::{Instant, LocatorPair};

use super::associate::PeerDescription;
use super::verify::is_locator;
use super::{Arrival, Endpoint};
use crate::context::{Context, ContextState};
use crate::id::ContextId;
use crate::validator::Exchange;
use crate::wire::option::Announcement;
use crate::wire::{ContextTag, Discard, I1, I2, I2bis, Message, R1, R2, UlidPair};

/// Which context an I1, I2 or I2bis is about.
#[derive(Debug, Clone, Copy)]
struct Subject {
    ulids: LocatorPair,
    forked_instance: u32,
    /// The initiator's tag for it.
    tag: ContextTag,
    nonce: u32,
}

/// When this host issued the validator of an I2 or I2bis, and how long it was under way.
#[derive(Debug, Clone, Copy)]
struct Issued {
    at: Instant,
    elapsed: Duration,
}

impl Endpoint {
    /// I1 (section 7.9).
    pub(super) fn handle_i1(&mut self, arrival: Arrival<'_>, i1: &I1) -> Result<(), Discard> {
        let on = arrival.on;
        let subject = Subject {
            ulids: ulid_pair(on, i1.ulid_pair),
            forked_instance: i1.forked_instance.unwrap_or(0),
            tag: i1.initiator_context_tag,
            nonce: i1.initiator_nonce,
        };
        let existing = self.subject(&subject)?;
        match existing.filter(|context| has_the_peer_at(context, on, i1)) {
            Some(context) => {
                let id = context.id;
                self.send_r2(arrival, id, subject.nonce)
            }
            None => self.send_r1(arrival, &subject),
        }
    }

    /// I2 (section 7.13).
    pub(super) fn handle_i2(&mut self, arrival: Arrival<'_>, i2: &I2) -> Result<(), Discard> {
        let on = arrival.on;
        let subject = Subject {
            ulids: ulid_pair(on, i2.ulid_pair),
            forked_instance: i2.forked_instance.unwrap_or(0),
            tag: i2.initiator_context_tag,
            nonce: i2.initiator_nonce,
        };
        self.subject(&subject)?;
        let exchange = Exchange::Establishment {
            initiator_context_tag: subject.tag,
            ulids: subject.ulids,
            locators: on,
            forked_instance: subject.forked_instance,
        };
        let issued = self.check_validator(arrival.now, i2.responder_nonce, &i2.validator, &exchange)?;
        self.accept(arrival, (&subject, issued), &i2.announcement)
    }

    /// I2bis (section 7.20).
    pub(super) fn handle_i2bis(&mut self, arrival: Arrival<'_>, i2bis: &I2bis) -> Result<(), Discard> {
        let on = arrival.on;
        let subject = Subject {
            ulids: ulid_pair(on, i2bis.ulid_pair),
            forked_instance: i2bis.forked_instance.unwrap_or(0),
            tag: i2bis.initiator_context_tag,
            nonce: i2bis.initiator_nonce,
        };
        self.subject(&subject)?;
        let exchange = Exchange::Recovery {
            packet_context_tag: i2bis.packet_context_tag,
            locators: on,
        };
        let issued = self.check_validator(arrival.now, i2bis.responder_nonce, &i2bis.validator, &exchange)?;
        self.accept(arrival, (&subject, issued), &i2bis.announcement)
    }

    fn check_validator(
        &mut self,
        now: Instant,
        nonce: u32,
        validator: &[u8],
        exchange: &Exchange,
    ) -> Result<Issued, Discard> {
        let elapsed = self.validator.check(now, nonce, validator, exchange)?;
        Ok(Issued {
            at: now - elapsed,
            elapsed,
        })
    }

    /// The context of an initiator's message, if there is one; an error if there could not be one.
    fn subject(&self, subject: &Subject) -> Result<Option<&Context>, Discard> {
        let ulids = subject.ulids;
        if let Some(context) = self.contexts.by_ulids(ulids, subject.forked_instance) {
            return Ok(Some(context));
        }
        if !self.identity.is_ulid(ulids.local) || self.is_local(ulids.peer) || !is_locator(ulids.peer) {
            return Err(Discard::LocatorNotInSet);
        }
        if self.never.contains(&ulids) || !self.config.is_answered(ulids) {
            return Err(Discard::NotAnswered);
        }
        Ok(None)
    }

    /// An I2 or I2bis with a right validator: makes or renews its context, and answers with an R2.
    ///
    /// A context that has the initiator's tag already is left as it is: its R2 was lost, and there is nothing new in the
    /// repetition. Section 7.13 wants the locators taken from it; but what was said later in an Update Request must not be
    /// undone by an old message, which anybody on the path can send again. For the same reason one whose validator is older
    /// than that of the message before is not believed.
    fn accept(
        &mut self,
        arrival: Arrival<'_>,
        (subject, issued): (&Subject, Issued),
        announcement: &Announcement,
    ) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let ulids = subject.ulids;
        let existing = self.contexts.by_ulids(ulids, subject.forked_instance);
        let made_by = existing.and_then(|context| context.association.as_ref()?.issued);
        if made_by.is_some_and(|before| issued.at < before) {
            return Err(Discard::StaleValidator);
        }
        let existing = existing.map(|context| {
            let is_repetition = context.state() == ContextState::Established
                && context.peer_tag() == Some(subject.tag)
                && context.is_between(on);
            (context.id, context.state(), is_repetition)
        });
        let id = match existing {
            Some((id, _, true)) => id,
            Some((id, state, false)) => {
                let peer = self.describe_initiator(arrival, (subject, issued), announcement)?;
                match state {
                    ContextState::I2Sent | ContextState::I2bisSent => self.hear_from(now, on, id, peer),
                    _ => self.associate(now, on, id, peer),
                }
                id
            }
            None => {
                let peer = self.describe_initiator(arrival, (subject, issued), announcement)?;
                if !self.make_room(now, ulids.peer) {
                    return Err(Discard::ContextLimit);
                }
                let id = self.respond_with_context(arrival, subject, peer);
                self.failures.forget(ulids.peer);
                id
            }
        };
        self.send_r2(arrival, id, subject.nonce)
    }

    fn describe_initiator(
        &mut self,
        arrival: Arrival<'_>,
        (subject, issued): (&Subject, Issued),
        announcement: &Announcement,
    ) -> Result<PeerDescription, Discard> {
        let mut peer = self.describe(arrival, subject.ulids.peer, subject.tag, announcement)?;
        peer.issued = Some(issued.at);
        // An initiator answers an R1 at once. What took longer than until its first repetition may have been sent again.
        peer.rtt = Some(issued.elapsed).filter(|&elapsed| elapsed < self.config.establishment.i2_timeout / 2);
        Ok(peer)
    }

    fn respond_with_context(&mut self, arrival: Arrival<'_>, subject: &Subject, peer: PeerDescription) -> ContextId {
        let Arrival { now, on, .. } = arrival;
        let context = self.new_context(now, subject.ulids, subject.forked_instance);
        let id = context.id;
        self.contexts.insert(context);
        self.associate(now, on, id, peer);
        id
    }

    /// Sends an R1 and keeps nothing (section 7.10).
    fn send_r1(&mut self, arrival: Arrival<'_>, subject: &Subject) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        if !self.limits.r1.allow(now, on.peer) {
            return Err(Discard::RateLimited);
        }
        let exchange = Exchange::Establishment {
            initiator_context_tag: subject.tag,
            ulids: subject.ulids,
            locators: on,
            forked_instance: subject.forked_instance,
        };
        let (responder_nonce, validator) = self.validator.issue(now, &exchange);
        let r1 = R1 {
            initiator_nonce: subject.nonce,
            responder_nonce,
            validator: validator.to_vec(),
        };
        self.send(on, Message::R1(r1));
        Ok(())
    }

    /// Sends an R2 on the reversed addresses of what it answers (section 7.14).
    fn send_r2(&mut self, arrival: Arrival<'_>, id: ContextId, nonce: u32) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        if !self.limits.r2.allow(now, on.peer) {
            return Err(Discard::RateLimited);
        }
        let context = self.contexts.get(id).ok_or(Discard::NoContext)?;
        let (message, announced) = self.announce(&context.identity, context.ulids, |announcement| {
            Message::R2(R2 {
                responder_context_tag: context.local_tag,
                initiator_nonce: nonce,
                announcement,
            })
        })?;
        self.contexts.modify(id, |context| {
            if let Some(exchange) = &mut context.exchange {
                // Where both ends initiate, this is what the peer learns.
                exchange.tell(announced);
            }
        });
        self.send(on, message);
        Ok(())
    }
}

/// The ULID pair of an initiator's message, as this host sees it.
fn ulid_pair(on: LocatorPair, option: Option<UlidPair>) -> LocatorPair {
    option.map_or(on, |pair| LocatorPair {
        local: pair.receiver,
        peer: pair.sender,
    })
}

/// Whether an I1 is answered by an R2 at once: its context exists, with the initiator at the other end.
///
/// While an exchange of ours is under way, the I1 crossed our own message (section 7.4). That is believed only of one that
/// came on the addresses of the ULIDs or of our message: an R2 is far larger than an I1, and would go to whatever address
/// a forger names. Others get an R1, and complete the exchange as well.
fn has_the_peer_at(context: &Context, on: LocatorPair, i1: &I1) -> bool {
    match (&context.exchange, &context.association) {
        (Some(exchange), _) => on == context.ulids || on == exchange.on,
        (None, Some(association)) => {
            // Without the option the initiator uses the ULIDs, which always belong to the context.
            let in_set = i1.ulid_pair.is_none() || association.peer.locators.contains(&on.peer);
            in_set && association.peer_tag == i1.initiator_context_tag
        }
        (None, None) => false,
    }
}
