//! The target as the initiator of an exchange (RFC 5533 sections 7.4, 7.7, 7.11 and 7.16).

use shim6_core::wire::{Announcement, Message, MessageType, VerificationMethod};

use super::{Check, Done, Level, Stop, check};
use crate::conform::checks::formats::proved;
use crate::conform::packet::{message_of, octets_of};
use crate::conform::session::Session;
use crate::conform::steps::{Context, acknowledged, hold, i2_of, list, r2_of};
use crate::conform::{Trigger, ms};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-7.7-01",
        "The target's I1 names the ULIDs that it is for, by its addresses or by the option.",
        i1_names_the_ulids
    ),
    check!(
        Must,
        "5533-7.4-01",
        "An I1 that crosses the target's I1 gets an R2 with the tag of that I1.",
        crossing_i1_gets_r2
    ),
    check!(
        Must,
        "5533-7.4-02",
        "Two I1 that cross lead to one context.",
        crossing_i1_lead_to_one
    ),
    check!(
        Must,
        "5533-7.4-03",
        "An I2 that crosses the target's I1 gets an R2, and there is one context.",
        crossing_i2_gets_r2
    ),
    check!(Must, "5533-7.9-09", "In I2-SENT, an I1 gets an R2.", i1_in_i2_sent),
    check!(
        Must,
        "5533-7.11-01",
        "An R1 gets an I2 with its nonce and validator and the tag of the I1.",
        r1_gets_i2
    ),
    check!(
        Must,
        "5533-7.11-02",
        "An R1 with another nonce is silently discarded.",
        other_nonce
    ),
    check!(
        Must,
        "5533-7.11-03",
        "An R1 with Hdr Ext Len 0 is silently discarded.",
        short_r1
    ),
    check!(
        Must,
        "5533-7.11-04",
        "In I2-SENT, an R1 is silently discarded.",
        second_r1
    ),
    check!(
        Must,
        "5533-7.11-05",
        "In ESTABLISHED, an R1 is silently discarded.",
        late_r1
    ),
    check!(
        Must,
        "5533-7.11-06",
        "An R1 from another address is silently discarded.",
        r1_of_a_stranger
    ),
    check!(
        Must,
        "5533-7.11-07",
        "The Locator List of an I2 comes with CGA Parameters that prove it.",
        i2_list_is_proved
    ),
    check!(
        Must,
        "5533-7.6-01",
        "An I2 has a Locator List, so that contexts of one peer can be told.",
        i2_has_a_list
    ),
    check!(
        Must,
        "5533-7.16-01",
        "An R2 makes a context of its tag and that of the I2.",
        r2_makes_a_context
    ),
    check!(
        Must,
        "5533-7.16-02",
        "An R2 with another nonce is silently dropped.",
        r2_of_another_nonce
    ),
    check!(
        Must,
        "5533-7.16-03",
        "An R2 whose CGA Parameters are not those of the ULID is silently dropped.",
        r2_of_another_host
    ),
    check!(
        Must,
        "5533-7.16-04",
        "An R2 with Hdr Ext Len 0 is silently discarded.",
        short_r2
    ),
    check!(
        Must,
        "5533-7.16-05",
        "In ESTABLISHED, an R2 is silently ignored.",
        late_r2
    ),
    check!(
        Should,
        "5533-7.16-06",
        "Locators that an R2 does not prove are not accepted.",
        r2_that_proves_nothing
    ),
    check!(
        Must,
        "5533-7.16-07",
        "In I1-SENT, an R2 to the I1 makes a context.",
        r2_in_i1_sent
    ),
];

async fn i1_names_the_ulids(session: &mut Session) -> Done {
    let (on, i1) = session.provoke().await?;
    let named = i1
        .ulid_pair
        .map_or((on.local, on.peer), |pair| (pair.receiver, pair.sender));
    let ulids = session.ulids();
    hold(named == (ulids.local, ulids.peer), || {
        format!("the I1 is for {named:?}")
    })?;
    hold(i1.forked_instance.unwrap_or(0) == 0, || {
        "the I1 is for a fork".to_owned()
    })
}

/// The R2 to an I1 of ours that crosses the target's.
async fn cross(session: &mut Session) -> Done<Context> {
    let (on, theirs) = session.provoke().await?;
    let i1 = session.i1();
    let octets = octets_of(&Message::I1(i1.clone()));
    let r2 = session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i1.initiator_nonce))
        .await?;
    hold(r2.responder_context_tag == theirs.initiator_context_tag, || {
        format!(
            "the I1 has the tag {}, the R2 has {}",
            theirs.initiator_context_tag, r2.responder_context_tag
        )
    })?;
    // What the target's own I1 is waiting for.
    let own = session.own_r2(i1.initiator_context_tag, theirs.initiator_nonce);
    session.send_message(on, &Message::R2(own));
    Ok(Context {
        ours: i1.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on,
        told: r2.announcement,
    })
}

async fn crossing_i1_gets_r2(session: &mut Session) -> Done {
    cross(session).await.map(drop)
}

async fn crossing_i1_lead_to_one(session: &mut Session) -> Done {
    let context = cross(session).await?;
    session.is_known_with_tag(&context).await
}

async fn crossing_i2_gets_r2(session: &mut Session) -> Done {
    if session.trigger == Trigger::None {
        return session.provoke().await.map(drop);
    }
    // The first half is over before the target starts.
    let i2 = session.half_way().await?;
    let (on, theirs) = session.provoke().await?;
    let r2 = session.r2(on, &i2).await?;
    hold(r2.responder_context_tag == theirs.initiator_context_tag, || {
        format!(
            "the I1 has the tag {}, the R2 has {}",
            theirs.initiator_context_tag, r2.responder_context_tag
        )
    })?;
    let context = Context {
        ours: i2.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on,
        told: r2.announcement,
    };
    session.is_known_with_tag(&context).await
}

async fn i1_in_i2_sent(session: &mut Session) -> Done {
    let (on, _, _, i2) = session.provoke_i2().await?;
    let i1 = session.i1();
    let octets = octets_of(&Message::I1(i1.clone()));
    let r2 = session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i1.initiator_nonce))
        .await?;
    hold(r2.responder_context_tag == i2.initiator_context_tag, || {
        format!(
            "the I2 has the tag {}, the R2 has {}",
            i2.initiator_context_tag, r2.responder_context_tag
        )
    })
}

async fn r1_gets_i2(session: &mut Session) -> Done {
    let (_, i1, r1, i2) = session.provoke_i2().await?;
    hold(i2.responder_nonce == r1.responder_nonce, || {
        "the I2 has another Responder Nonce".to_owned()
    })?;
    hold(i2.validator == r1.validator, || {
        "the I2 has another validator".to_owned()
    })?;
    hold(i2.initiator_context_tag == i1.initiator_context_tag, || {
        format!(
            "the I1 has the tag {}, the I2 has {}",
            i1.initiator_context_tag, i2.initiator_context_tag
        )
    })
}

async fn other_nonce(session: &mut Session) -> Done {
    let (on, i1) = session.provoke().await?;
    let r1 = session.own_r1(i1.initiator_nonce ^ 1);
    session.send_message(on, &Message::R1(r1));
    session
        .nothing("an R1 with another nonce", |arrival| i2_of(arrival).is_some())
        .await
}

async fn short_r1(session: &mut Session) -> Done {
    let (on, _) = session.provoke().await?;
    session.send_shim6(on, &message_of(MessageType::R1.0, &[0, 1]));
    session
        .nothing("an R1 of 8 octets", |arrival| i2_of(arrival).is_some())
        .await
}

async fn second_r1(session: &mut Session) -> Done {
    let (on, i1, _, _) = session.provoke_i2().await?;
    let again = session.own_r1(i1.initiator_nonce);
    session.send_message(on, &Message::R1(again));
    session.nothing("a second R1", |arrival| i2_of(arrival).is_some()).await
}

async fn late_r1(session: &mut Session) -> Done {
    let (on, i1, r1, i2) = session.provoke_i2().await?;
    let tag = session.tag();
    let r2 = session.own_r2(tag, i2.initiator_nonce);
    session.send_message(on, &Message::R2(r2));
    let again = session.own_r1(i1.initiator_nonce);
    session.send_message(on, &Message::R1(r1));
    session.send_message(on, &Message::R1(again));
    session
        .nothing("an R1 after the exchange", |arrival| i2_of(arrival).is_some())
        .await
}

async fn r1_of_a_stranger(session: &mut Session) -> Done {
    let (_, i1) = session.provoke().await?;
    let r1 = session.own_r1(i1.initiator_nonce);
    let on = session.strange();
    session.send_message(on, &Message::R1(r1));
    session
        .nothing("an R1 of a stranger", |arrival| i2_of(arrival).is_some())
        .await
}

async fn i2_list_is_proved(session: &mut Session) -> Done {
    let (_, _, _, i2) = session.provoke_i2().await?;
    proved(session.target, &i2.announcement)
}

async fn i2_has_a_list(session: &mut Session) -> Done {
    let (_, _, _, i2) = session.provoke_i2().await?;
    hold(i2.announcement.locators.is_some(), || "it has none".to_owned())
}

async fn r2_makes_a_context(session: &mut Session) -> Done {
    session.be_responder().await.map(drop)
}

/// The context that the target has once the right R2 comes behind others; none of those may have been taken.
async fn after(session: &mut Session, wrong: impl FnOnce(&mut Session, u32) -> Vec<u8>) -> Done {
    let (on, _, _, i2) = session.provoke_i2().await?;
    let wrong = wrong(session, i2.initiator_nonce);
    session.send_shim6(on, &wrong);
    let ours = session.tag();
    let r2 = session.own_r2(ours, i2.initiator_nonce);
    session.send_message(on, &Message::R2(r2));
    let context = Context {
        ours,
        theirs: i2.initiator_context_tag,
        on,
        told: i2.announcement,
    };
    session.is_known_with_tag(&context).await
}

async fn r2_of_another_nonce(session: &mut Session) -> Done {
    after(session, |session, nonce| {
        let tag = session.tag();
        octets_of(&Message::R2(session.own_r2(tag, nonce ^ 0x80)))
    })
    .await
}

async fn r2_of_another_host(session: &mut Session) -> Done {
    after(session, |session, nonce| {
        let tag = session.tag();
        let mut r2 = session.own_r2(tag, nonce);
        r2.announcement = Announcement {
            cga_parameters: Some(session.host.other_parameters()),
            ..Announcement::default()
        };
        octets_of(&Message::R2(r2))
    })
    .await
}

async fn short_r2(session: &mut Session) -> Done {
    after(session, |_, _| message_of(MessageType::R2.0, &[0, 1])).await
}

async fn r2_that_proves_nothing(session: &mut Session) -> Done {
    let (on, _, _, i2) = session.provoke_i2().await?;
    let ours = session.tag();
    let mut r2 = session.own_r2(ours, i2.initiator_nonce);
    let stranger = session.host.stranger();
    list(&mut r2.announcement)
        .locators
        .push((VerificationMethod::HBA, stranger));
    session.send_message(on, &Message::R2(r2));
    let context = Context {
        ours,
        theirs: i2.initiator_context_tag,
        on,
        told: i2.announcement,
    };
    let request = session.request(&context, Announcement::default());
    let strange = session.strange();
    session.send_message(strange, &Message::UpdateRequest(request.clone()));
    session
        .nothing("an update from a locator that was not proved", |arrival| {
            acknowledged(arrival, request.request_nonce).is_some()
        })
        .await
}

async fn late_r2(session: &mut Session) -> Done {
    let (on, _, _, i2) = session.provoke_i2().await?;
    let ours = session.tag();
    let r2 = session.own_r2(ours, i2.initiator_nonce);
    session.send_message(on, &Message::R2(r2));
    let context = Context {
        ours,
        theirs: i2.initiator_context_tag,
        on,
        told: i2.announcement,
    };
    session.is_known(&context).await?;
    let other = session.tag();
    let r2 = session.own_r2(other, i2.initiator_nonce);
    session.send_message(on, &Message::R2(r2));
    session.is_known_with_tag(&context).await
}

async fn r2_in_i1_sent(session: &mut Session) -> Done {
    let (on, i1) = session.provoke().await?;
    let ours = session.tag();
    let r2 = session.own_r2(ours, i1.initiator_nonce);
    session.send_message(on, &Message::R2(r2));
    let context = Context {
        ours,
        theirs: i1.initiator_context_tag,
        on,
        told: Announcement::default(),
    };
    let known = session.is_known_with_tag(&context).await;
    known.map_err(|stop| match stop {
        Stop::Fail(why) => Stop::Fail(format!("after an R2 to its I1 the target has no context: {why}")),
        other => other,
    })?;
    session.wait(ms(10)).await;
    hold(session.find(ms(50), i2_of).await.is_none(), || {
        "the target goes on with an I2".to_owned()
    })
}
