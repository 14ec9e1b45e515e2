//! What checks have in common: exchanges on either side, and what shows that a context is there.

use std::net::Ipv6Addr;

use shim6_core::LocatorPair;
use shim6_core::wire::{
    Announcement, ContextTag, Error, ErrorCode, I1, I2, LocatorList, Message, PROTOCOL, R1, R1bis, R2, UpdateRequest,
};

use super::packet::{ICMPV6, IPV6_HEADER, echo, echo_reply, octets_of};
use super::session::{Arrival, Session};
use super::{Done, Stop, Trigger, Unfit, ms};

/// How often the target is asked whether it is there.
const SCOUTS: u16 = 6;
/// Echo requests between two looks at whether the target has started an exchange.
const BURST: u32 = 10;
/// Between bursts.
const BURST_DISTANCE: u64 = 20;
/// How long the target may take to start after the last one.
const START: u64 = 2000;

/// A context, as the tester knows it.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The tag that the target puts into what it sends.
    pub(super) ours: ContextTag,
    /// The tag that the target goes by.
    pub(super) theirs: ContextTag,
    pub(super) on: LocatorPair,
    /// The message of the target that told its locators.
    pub(super) told: Announcement,
}

impl Context {
    /// The target's locators; its ULID if it told none.
    pub(super) fn locators(&self) -> Vec<Ipv6Addr> {
        let listed = self.told.locators.as_ref();
        listed.map_or_else(
            || vec![self.on.peer],
            |list| list.locators.iter().map(|locator| locator.1).collect(),
        )
    }
}

/// An Error message as it came.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) error: Error,
    pub(super) on: LocatorPair,
    /// Of the packet that it came in.
    pub(super) octets: usize,
}

impl Session {
    /// Whether the target speaks Shim6.
    pub(super) async fn is_there(&mut self) -> Result<(), Unfit> {
        let on = self.ulids();
        let mut answers_echo = false;
        for number in 0..SCOUTS {
            let i1 = self.i1();
            self.send_message(on, &Message::I1(i1));
            self.send_echo(on, number);
            let found = self
                .find(ms(500), |arrival| match arrival.packet.get(6..)? {
                    [PROTOCOL, ..] => Some(Ok(())),
                    [ICMPV6, ..] => match *arrival.packet.get(IPV6_HEADER..)? {
                        [4, 1, ..] => Some(Err(Unfit::Unknown)),
                        // Unreachable, and what is wrong with a packet.
                        [kind @ (1 | 4), code, ..] => Some(Err(Unfit::Refused(kind, code))),
                        _ => {
                            answers_echo |= echo_reply(&arrival.packet, on).is_some();
                            None
                        }
                    },
                    _ => None,
                })
                .await;
            match found {
                // A router may not know yet where the target is.
                Some(Err(_)) if number + 1 < SCOUTS => self.forget(),
                Some(found) => return found,
                None => {}
            }
        }
        Err(if answers_echo { Unfit::NoShim6 } else { Unfit::Silent })
    }

    /// A first message of a new context on the ULIDs.
    pub(super) fn i1(&mut self) -> I1 {
        I1 {
            initiator_context_tag: self.tag(),
            initiator_nonce: self.random(),
            ulid_pair: None,
            forked_instance: None,
        }
    }

    /// The R1 to an I1.
    pub(super) async fn r1(&mut self, on: LocatorPair, i1: &I1) -> Done<R1> {
        let octets = octets_of(&Message::I1(i1.clone()));
        self.note_r1(i1.initiator_nonce);
        self.ask("R1", on, &octets, |arrival| r1_of(arrival, i1.initiator_nonce))
            .await
    }

    /// The I2 that goes with these, with all that there is to tell.
    pub(super) fn i2(&mut self, i1: &I1, r1: &R1) -> I2 {
        I2 {
            initiator_context_tag: i1.initiator_context_tag,
            initiator_nonce: self.random(),
            responder_nonce: r1.responder_nonce,
            validator: r1.validator.clone(),
            ulid_pair: i1.ulid_pair,
            forked_instance: i1.forked_instance,
            announcement: self.host.announcement(),
        }
    }

    /// The R2 to an I2.
    pub(super) async fn r2(&mut self, on: LocatorPair, i2: &I2) -> Done<R2> {
        let octets = octets_of(&Message::I2(i2.clone()));
        self.ask("R2", on, &octets, |arrival| r2_of(arrival, i2.initiator_nonce))
            .await
    }

    /// I1 and R1 on the ULIDs, and the I2 that would be next.
    pub(super) async fn half_way(&mut self) -> Done<I2> {
        let i1 = self.i1();
        let r1 = self.r1(self.ulids(), &i1).await?;
        Ok(self.i2(&i1, &r1))
    }

    /// A context that the tester has set up.
    pub(super) async fn context(&mut self) -> Done<Context> {
        self.context_with(|_| {}).await
    }

    /// A context for which the tester has sent another I2.
    pub(super) async fn context_with(&mut self, change: impl FnOnce(&mut I2)) -> Done<Context> {
        let mut i2 = self.half_way().await?;
        change(&mut i2);
        let on = self.ulids();
        let r2 = self.r2(on, &i2).await?;
        self.forget();
        Ok(Context {
            ours: i2.initiator_context_tag,
            theirs: r2.responder_context_tag,
            on,
            told: r2.announcement,
        })
    }

    /// The target knows the context: it acknowledges an update of nothing.
    pub(super) async fn is_known(&mut self, context: &Context) -> Done {
        self.update(context, context.on, Announcement::default())
            .await
            .map(drop)
    }

    /// The target knows the context, and that its peer goes by this tag.
    pub(super) async fn is_known_with_tag(&mut self, context: &Context) -> Done {
        let tag = self.update(context, context.on, Announcement::default()).await?;
        hold(tag == context.ours, || {
            format!("the Update Acknowledgement has the tag {tag}, not {}", context.ours)
        })
    }

    /// An Update Request that is to be acknowledged; with which tag.
    pub(super) async fn update(
        &mut self,
        context: &Context,
        on: LocatorPair,
        announcement: Announcement,
    ) -> Done<ContextTag> {
        let request = self.request(context, announcement);
        let octets = octets_of(&Message::UpdateRequest(request.clone()));
        self.ask("Update Acknowledgement", on, &octets, |arrival| {
            acknowledged(arrival, request.request_nonce)
        })
        .await
    }

    pub(super) fn request(&mut self, context: &Context, announcement: Announcement) -> UpdateRequest {
        UpdateRequest {
            receiver_context_tag: context.theirs,
            request_nonce: self.random(),
            announcement,
        }
    }

    /// The Error that a message leads to.
    pub(super) async fn error(&mut self, on: LocatorPair, octets: &[u8], code: ErrorCode) -> Done<Told> {
        let told = self.ask_slowly("Error message", on, octets, error_of).await?;
        hold(told.error.code == code, || {
            format!("the Error has the code {}, not {}", told.error.code.0, code.0)
        })?;
        let quoted = told.error.packet_in_error.get(40..40 + octets.len());
        let whole = told.error.packet_in_error.get(40..).unwrap_or_default();
        // It may be cut short, or padded.
        hold(
            quoted.map_or_else(|| octets.starts_with(whole), |quoted| quoted == octets),
            || "the Error does not quote the packet in error".to_owned(),
        )?;
        Ok(told)
    }

    /// The Error that a message leads to, and that it points there: an offset in the message.
    pub(super) async fn error_at(&mut self, on: LocatorPair, octets: &[u8], code: ErrorCode, at: usize) -> Done<Told> {
        let told = self.error(on, octets, code).await?;
        let pointer = usize::from(told.error.pointer);
        hold(pointer == 40 + at, || {
            format!("the Error points at octet {pointer} of the packet, not {}", 40 + at)
        })?;
        Ok(told)
    }

    /// The R1bis that a packet leads to.
    pub(super) async fn r1bis(&mut self, on: LocatorPair, octets: &[u8], tag: ContextTag) -> Done<R1bis> {
        self.note_r1bis(tag);
        self.ask("R1bis", on, octets, |arrival| r1bis_of(arrival, tag)).await
    }

    /// Payload that the target's host answers.
    pub(super) fn send_echo(&mut self, on: LocatorPair, number: u16) {
        self.send(on, ICMPV6, &echo(on, false, ECHO_ID, number));
    }

    /// Payload that nobody answers.
    pub(super) fn send_silent_payload(&mut self, on: LocatorPair) {
        self.send(on, ICMPV6, &echo(on, true, ECHO_ID, 0));
    }

    /// Has the target set up a context, and gives its first message.
    pub(super) async fn provoke(&mut self) -> Done<(LocatorPair, I1)> {
        let Trigger::Echo(most) = self.trigger else {
            return Err(Stop::NotApplicable(
                "the target is not to be made to start, see --trigger".to_owned(),
            ));
        };
        let first = |arrival: &Arrival| match arrival.message()? {
            (pair, Message::I1(i1)) => Some((pair, i1)),
            _ => None,
        };
        let on = self.ulids();
        let mut sent = 0;
        while sent < most {
            let burst = BURST.min(most - sent);
            for number in sent..sent + burst {
                self.send_echo(on, number as u16);
            }
            sent += burst;
            if let Some(i1) = self.find(ms(BURST_DISTANCE), first).await {
                return Ok(i1);
            }
        }
        self.find(ms(START), first).await.ok_or_else(|| {
            let answered = self.unread().any(|arrival| echo_reply(&arrival.packet, on).is_some());
            Stop::NotApplicable(match answered {
                true => format!(
                    "the target did not start an exchange after {most} echo requests and replies, see --trigger"
                ),
                false => "the target does not answer echo requests, which would make it start".to_owned(),
            })
        })
    }

    /// Has the target start and answers with an R1; gives its I2.
    pub(super) async fn provoke_i2(&mut self) -> Done<(LocatorPair, I1, R1, I2)> {
        let (on, i1) = self.provoke().await?;
        let r1 = self.own_r1(i1.initiator_nonce);
        self.send_message(on, &Message::R1(r1.clone()));
        let i2 = self.expect("I2 in answer to an R1", ms(2000), i2_of).await?;
        Ok((on, i1, r1, i2))
    }

    /// Has the target set up a context with the tester.
    pub(super) async fn be_responder(&mut self) -> Done<Context> {
        let (on, _, _, i2) = self.provoke_i2().await?;
        let ours = self.tag();
        let r2 = self.own_r2(ours, i2.initiator_nonce);
        self.send_message(on, &Message::R2(r2));
        let context = Context {
            ours,
            theirs: i2.initiator_context_tag,
            on,
            told: i2.announcement,
        };
        self.is_known_with_tag(&context).await?;
        self.forget();
        Ok(context)
    }

    /// An R1 of ours.
    pub(super) fn own_r1(&mut self, initiator_nonce: u32) -> R1 {
        R1 {
            initiator_nonce,
            responder_nonce: self.random(),
            validator: (0..5).flat_map(|_| self.random().to_be_bytes()).collect(),
        }
    }

    /// An R2 of ours, with all that there is to tell.
    pub(super) fn own_r2(&mut self, responder_context_tag: ContextTag, initiator_nonce: u32) -> R2 {
        R2 {
            responder_context_tag,
            initiator_nonce,
            announcement: self.host.announcement(),
        }
    }
}

/// In echo requests.
pub(super) const ECHO_ID: u16 = 0x5336;

/// What must hold, and what is said if not.
pub(super) fn hold(holds: bool, said: impl FnOnce() -> String) -> Done {
    if holds { Ok(()) } else { Err(Stop::Fail(said())) }
}

pub(super) fn r1_of(arrival: &Arrival, nonce: u32) -> Option<R1> {
    match arrival.message()? {
        (_, Message::R1(r1)) if r1.initiator_nonce == nonce => Some(r1),
        _ => None,
    }
}

pub(super) fn r2_of(arrival: &Arrival, nonce: u32) -> Option<R2> {
    match arrival.message()? {
        (_, Message::R2(r2)) if r2.initiator_nonce == nonce => Some(r2),
        _ => None,
    }
}

pub(super) fn i2_of(arrival: &Arrival) -> Option<I2> {
    match arrival.message()? {
        (_, Message::I2(i2)) => Some(i2),
        _ => None,
    }
}

pub(super) fn r1bis_of(arrival: &Arrival, tag: ContextTag) -> Option<R1bis> {
    match arrival.message()? {
        (_, Message::R1bis(r1bis)) if r1bis.packet_context_tag == tag => Some(r1bis),
        _ => None,
    }
}

/// The tag of the acknowledgement of this request.
pub(super) fn acknowledged(arrival: &Arrival, nonce: u32) -> Option<ContextTag> {
    match arrival.message()? {
        (_, Message::UpdateAcknowledgement(ack)) if ack.request_nonce == nonce => Some(ack.receiver_context_tag),
        _ => None,
    }
}

pub(super) fn error_of(arrival: &Arrival) -> Option<Told> {
    match arrival.message()? {
        (on, Message::Error(error)) => Some(Told {
            error,
            on,
            octets: arrival.packet.len(),
        }),
        _ => None,
    }
}

/// Any message that answers one.
pub(super) fn is_answer(arrival: &Arrival) -> bool {
    matches!(
        arrival.message(),
        Some((
            _,
            Message::R1(_)
                | Message::R2(_)
                | Message::R1bis(_)
                | Message::I2(_)
                | Message::I2bis(_)
                | Message::Error(_)
                | Message::UpdateAcknowledgement(_)
        ))
    )
}

/// The list of an announcement, to be changed.
pub(super) fn list(announcement: &mut Announcement) -> &mut LocatorList {
    announcement.locators.get_or_insert_with(|| LocatorList {
        generation: 0,
        locators: Vec::new(),
    })
}
