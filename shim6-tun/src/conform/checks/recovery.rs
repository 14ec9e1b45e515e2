//! A context that one end has lost (RFC 5533 sections 7.17 to 7.20).

use shim6_core::LocatorPair;
use shim6_core::wire::{
    Announcement, ContextTag, I2bis, Keepalive, Message, MessageType, R1bis, UpdateAcknowledgement, UpdateRequest,
};

use super::{Check, Done, Level, Stop, check};
use crate::conform::packet::{message_of, octets_of, options, payload, seal};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{Context, hold, is_answer, r1bis_of, r2_of};
use crate::conform::{checks::reap::probe_message, ms};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-7.17-01",
        "A payload header of a context that does not exist gets an R1bis with its tag.",
        payload_header
    ),
    check!(
        Must,
        "5533-7.17-02",
        "A Keepalive of a context that does not exist gets an R1bis with its tag.",
        keepalive
    ),
    check!(
        Must,
        "5533-7.17-03",
        "A Probe of a context that does not exist gets an R1bis with its tag.",
        probe
    ),
    check!(
        Must,
        "5533-7.17-04",
        "An Update Request of a context that does not exist gets an R1bis with its tag.",
        update_request
    ),
    check!(
        Must,
        "5533-7.17-05",
        "An Update Acknowledgement of a context that does not exist gets an R1bis with its tag.",
        update_acknowledgement
    ),
    check!(
        Must,
        "5533-7.17-06",
        "An R1bis comes once, from the address that the packet was sent to.",
        one_r1bis
    ),
    check!(
        Must,
        "5533-7.17-07",
        "R1, R2 and R1bis that belong to nothing get no R1bis, nor any other answer.",
        setup_messages_get_none
    ),
    check!(
        Must,
        "5533-7.18-01",
        "An R1bis about a context gets an I2bis with its nonce, validator and tag.",
        r1bis_gets_i2bis
    ),
    check!(
        Must,
        "5533-7.18-02",
        "An R1bis with another tag than CT(peer) is silently discarded.",
        other_tag_is_discarded
    ),
    check!(
        Must,
        "5533-7.18-03",
        "An R1bis on addresses that are no locators of the context is silently discarded.",
        stranger_is_discarded
    ),
    check!(
        Must,
        "5533-7.18-04",
        "An R1bis with Hdr Ext Len 0 is silently discarded.",
        short_r1bis_is_discarded
    ),
    check!(
        Must,
        "5533-7.18-05",
        "An I2bis that is sent on other locators than the ULIDs has the ULID Pair option.",
        i2bis_has_the_ulids
    ),
    check!(
        Must,
        "5533-7.18-06",
        "The I2bis of a fork has its Forked Instance Identifier.",
        i2bis_has_the_instance
    ),
    check!(
        Must,
        "5533-7.18-07",
        "The R2 to an I2bis gives the context a new CT(peer).",
        r2_ends_the_recovery
    ),
    check!(
        Must,
        "5533-7.18-08",
        "In I2BIS-SENT, an R1bis with the same nonce does not lead to more messages.",
        second_r1bis_is_discarded
    ),
    check!(
        Must,
        "5533-7.19-01",
        "An I2bis that is not answered is sent again after 2 to 6 s, if at all.",
        i2bis_is_sent_again
    ),
    check!(
        Must,
        "5533-7.20-01",
        "An I2bis sets up a context: it gets an R2.",
        i2bis_gets_r2
    ),
    check!(
        Should,
        "5533-7.20-02",
        "The context that an I2bis sets up does not have the Packet Context Tag.",
        tag_is_new
    ),
    check!(
        Must,
        "5533-7.20-03",
        "An I2bis with Hdr Ext Len 2 is silently discarded.",
        short_i2bis
    ),
    check!(
        Must,
        "5533-7.20-04",
        "An I2bis whose validator has another bit is silently discarded.",
        other_validator
    ),
    check!(
        Must,
        "5533-7.20-05",
        "An I2bis with another Packet Context Tag than the R1bis is silently discarded.",
        other_packet_tag
    ),
    check!(
        Must,
        "5533-7.20-06",
        "An I2bis with another Responder Nonce is silently discarded.",
        other_nonce
    ),
    check!(
        Must,
        "5533-7.20-07",
        "An I2bis on other addresses than the R1bis is silently discarded.",
        other_addresses
    ),
    check!(
        Must,
        "5533-7.20-08",
        "An I2bis whose CGA Parameters are not those of the ULID is silently discarded.",
        other_parameters
    ),
    check!(
        Must,
        "5533-7.20-09",
        "An I2bis in the same state is not answered with the validator of an R1.",
        validator_of_r1
    ),
    check!(
        Must,
        "5533-5.9-01",
        "Reserved fields of an I2bis are ignored.",
        reserved_is_ignored
    ),
];

async fn unknown(session: &mut Session, octets: &[u8], tag: ContextTag) -> Done {
    session.r1bis(session.ulids(), octets, tag).await.map(drop)
}

async fn payload_header(session: &mut Session) -> Done {
    let tag = session.tag();
    unknown(session, &payload(tag, 59, &[]), tag).await
}

async fn keepalive(session: &mut Session) -> Done {
    let tag = session.tag();
    let message = Message::Keepalive(Keepalive {
        receiver_context_tag: tag,
    });
    unknown(session, &octets_of(&message), tag).await
}

async fn probe(session: &mut Session) -> Done {
    let tag = session.tag();
    let on = session.ulids();
    let probe = probe_message(session, tag, on);
    unknown(session, &octets_of(&Message::Probe(probe)), tag).await
}

async fn update_request(session: &mut Session) -> Done {
    let tag = session.tag();
    let message = Message::UpdateRequest(UpdateRequest {
        receiver_context_tag: tag,
        request_nonce: session.random(),
        announcement: Announcement::default(),
    });
    unknown(session, &octets_of(&message), tag).await
}

async fn update_acknowledgement(session: &mut Session) -> Done {
    let tag = session.tag();
    let message = Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: tag,
        request_nonce: session.random(),
    });
    unknown(session, &octets_of(&message), tag).await
}

async fn one_r1bis(session: &mut Session) -> Done {
    let tag = session.tag();
    let on = session.ulids();
    session.send_shim6(on, &payload(tag, 59, &[]));
    let from = session
        .expect("R1bis", ms(2000), |arrival| {
            r1bis_of(arrival, tag).and_then(|_| arrival.pair())
        })
        .await?;
    hold(from == on, || format!("the packet came on {on}, the R1bis on {from}"))?;
    session
        .nothing("one packet without a context", |arrival| {
            r1bis_of(arrival, tag).is_some()
        })
        .await
}

async fn setup_messages_get_none(session: &mut Session) -> Done {
    let on = session.ulids();
    let (nonce, tag) = (session.random(), session.tag());
    let r1 = session.own_r1(nonce);
    let r2 = session.own_r2(tag, nonce);
    let r1bis = R1bis {
        packet_context_tag: tag,
        responder_nonce: nonce,
        validator: vec![1; 20],
    };
    for message in [Message::R1(r1), Message::R2(r2), Message::R1bis(r1bis)] {
        session.send_message(on, &message);
        session
            .nothing(
                &format!("an {} that belongs to nothing", message.message_type()),
                is_answer,
            )
            .await?;
    }
    Ok(())
}

fn own_r1bis(session: &mut Session, context: &Context) -> R1bis {
    R1bis {
        packet_context_tag: context.ours,
        responder_nonce: session.random(),
        validator: (0..5).flat_map(|_| session.random().to_be_bytes()).collect(),
    }
}

fn i2bis_of(arrival: &Arrival, tag: ContextTag) -> Option<(LocatorPair, I2bis)> {
    match arrival.message()? {
        (on, Message::I2bis(i2bis)) if i2bis.packet_context_tag == tag => Some((on, i2bis)),
        _ => None,
    }
}

/// The tester has lost the context: sends an R1bis, and gives the I2bis.
pub(super) async fn lose(session: &mut Session, context: &Context, on: LocatorPair) -> Done<(R1bis, I2bis)> {
    let r1bis = own_r1bis(session, context);
    let octets = octets_of(&Message::R1bis(r1bis.clone()));
    let (_, i2bis) = session
        .ask("I2bis", on, &octets, |arrival| i2bis_of(arrival, context.ours))
        .await?;
    Ok((r1bis, i2bis))
}

async fn r1bis_gets_i2bis(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (r1bis, i2bis) = lose(session, &context, context.on).await?;
    hold(i2bis.responder_nonce == r1bis.responder_nonce, || {
        "the I2bis has another Responder Nonce".to_owned()
    })?;
    hold(i2bis.validator == r1bis.validator, || {
        "the I2bis has another validator".to_owned()
    })?;
    hold(i2bis.initiator_context_tag == context.theirs, || {
        format!(
            "the context has the tag {}, the I2bis has {}",
            context.theirs, i2bis.initiator_context_tag
        )
    })
}

async fn other_tag_is_discarded(session: &mut Session) -> Done {
    let context = session.context().await?;
    let mut r1bis = own_r1bis(session, &context);
    r1bis.packet_context_tag = session.tag();
    session.send_message(context.on, &Message::R1bis(r1bis));
    session
        .nothing("an R1bis with a tag that the target does not send to", is_answer)
        .await?;
    session.is_known(&context).await
}

async fn stranger_is_discarded(session: &mut Session) -> Done {
    let context = session.context().await?;
    let r1bis = own_r1bis(session, &context);
    let on = session.strange();
    session.send_message(on, &Message::R1bis(r1bis));
    session
        .nothing("an R1bis from an address that is no locator", is_answer)
        .await?;
    session.is_known(&context).await
}

async fn short_r1bis_is_discarded(session: &mut Session) -> Done {
    let context = session.context().await?;
    session.send_shim6(context.on, &message_of(MessageType::R1BIS.0, &[0, 1]));
    session.nothing("an R1bis of 8 octets", is_answer).await
}

async fn i2bis_has_the_ulids(session: &mut Session) -> Done {
    let context = session.context().await?;
    let on = session.second()?;
    let r1bis = own_r1bis(session, &context);
    session.send_message(on, &Message::R1bis(r1bis));
    let of_it = |arrival: &Arrival| i2bis_of(arrival, context.ours);
    let Some((pair, i2bis)) = session.find(ms(1500), of_it).await else {
        let why = "the target takes an R1bis on the current pair of locators only";
        return Err(Stop::NotApplicable(why.to_owned()));
    };
    if pair == context.on {
        return Err(Stop::NotApplicable("the target answers on the ULIDs".to_owned()));
    }
    let named = i2bis.ulid_pair.map(|ulids| (ulids.receiver, ulids.sender));
    hold(named == Some((context.on.local, context.on.peer)), || {
        format!("the I2bis names the ULIDs {:?}", i2bis.ulid_pair)
    })
}

async fn i2bis_has_the_instance(session: &mut Session) -> Done {
    let mut i1 = session.i1();
    i1.forked_instance = Some(77);
    let on = session.ulids();
    let r1 = session.r1(on, &i1).await?;
    let i2 = session.i2(&i1, &r1);
    let r2 = session.r2(on, &i2).await?;
    let context = Context {
        ours: i2.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on,
        told: r2.announcement,
    };
    let (_, i2bis) = lose(session, &context, on).await?;
    hold(i2bis.forked_instance == Some(77), || {
        format!("the instance is 77, the I2bis has {:?}", i2bis.forked_instance)
    })
}

async fn r2_ends_the_recovery(session: &mut Session) -> Done {
    let mut context = session.context().await?;
    let (_, i2bis) = lose(session, &context, context.on).await?;
    context.ours = session.tag();
    context.theirs = i2bis.initiator_context_tag;
    let r2 = session.own_r2(context.ours, i2bis.initiator_nonce);
    session.send_message(context.on, &Message::R2(r2));
    session.is_known_with_tag(&context).await
}

async fn second_r1bis_is_discarded(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (r1bis, _) = lose(session, &context, context.on).await?;
    session.send_message(context.on, &Message::R1bis(r1bis));
    session
        .nothing("an R1bis that came before", |arrival| {
            i2bis_of(arrival, context.ours).is_some()
        })
        .await
}

async fn i2bis_is_sent_again(session: &mut Session) -> Done {
    let context = session.context().await?;
    lose(session, &context, context.on).await?;
    let begun = session.found_at();
    let again = session
        .find(ms(6500), |arrival| i2bis_of(arrival, context.ours).map(|_| arrival.at))
        .await;
    let Some(at) = again else {
        return Err(Stop::NotApplicable(
            "the target does not send an I2bis again, which it need not".to_owned(),
        ));
    };
    let after = at.duration_since(begun);
    hold(after >= ms(1900), || {
        format!("it is sent again after {:.2} s", after.as_secs_f64())
    })
}

/// The target has lost a context: the I2bis that answers its R1bis.
async fn i2bis(session: &mut Session) -> Done<I2bis> {
    let tag = session.tag();
    let r1bis = session.r1bis(session.ulids(), &payload(tag, 59, &[]), tag).await?;
    Ok(I2bis {
        initiator_context_tag: session.tag(),
        initiator_nonce: session.random(),
        responder_nonce: r1bis.responder_nonce,
        packet_context_tag: tag,
        validator: r1bis.validator,
        ulid_pair: None,
        forked_instance: None,
        announcement: session.host.announcement(),
    })
}

/// The context that an I2bis sets up.
async fn recovered(session: &mut Session, i2bis: &I2bis) -> Done<Context> {
    let on = session.ulids();
    let octets = octets_of(&Message::I2bis(i2bis.clone()));
    let r2 = session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2bis.initiator_nonce))
        .await?;
    Ok(Context {
        ours: i2bis.initiator_context_tag,
        theirs: r2.responder_context_tag,
        on,
        told: r2.announcement,
    })
}

async fn i2bis_gets_r2(session: &mut Session) -> Done {
    let i2bis = i2bis(session).await?;
    let context = recovered(session, &i2bis).await?;
    session.is_known_with_tag(&context).await
}

async fn tag_is_new(session: &mut Session) -> Done {
    let i2bis = i2bis(session).await?;
    let context = recovered(session, &i2bis).await?;
    hold(context.theirs != i2bis.packet_context_tag, || {
        "the lost tag is used again".to_owned()
    })
}

async fn short_i2bis(session: &mut Session) -> Done {
    let i2bis = i2bis(session).await?;
    let mut octets = octets_of(&Message::I2bis(i2bis));
    octets.truncate(24);
    seal(&mut octets);
    let on = session.ulids();
    session.send_shim6(on, &octets);
    session.nothing("an I2bis of 24 octets", is_answer).await
}

/// An I2bis to which nothing comes, although nothing but this is wrong with it.
async fn discarded(session: &mut Session, what: &str, change: impl FnOnce(&mut I2bis)) -> Done {
    let right = i2bis(session).await?;
    let mut wrong = right.clone();
    change(&mut wrong);
    let on = session.ulids();
    session.send_message(on, &Message::I2bis(wrong));
    session.nothing(what, is_answer).await?;
    recovered(session, &right).await.map(drop)
}

async fn other_validator(session: &mut Session) -> Done {
    discarded(session, "an I2bis with a wrong validator", |i2bis| {
        if let Some(last) = i2bis.validator.last_mut() {
            *last ^= 1;
        }
    })
    .await
}

async fn other_packet_tag(session: &mut Session) -> Done {
    let tag = session.tag();
    discarded(session, "an I2bis with a wrong Packet Context Tag", |i2bis| {
        i2bis.packet_context_tag = tag
    })
    .await
}

async fn other_nonce(session: &mut Session) -> Done {
    discarded(session, "an I2bis with a wrong Responder Nonce", |i2bis| {
        i2bis.responder_nonce ^= 1
    })
    .await
}

async fn other_addresses(session: &mut Session) -> Done {
    let i2bis = i2bis(session).await?;
    let on = session.strange();
    let mut wrong = i2bis.clone();
    wrong.announcement = Announcement::default();
    session.send_message(on, &Message::I2bis(wrong));
    session
        .nothing("an I2bis with the validator of other addresses", is_answer)
        .await?;
    recovered(session, &i2bis).await.map(drop)
}

async fn other_parameters(session: &mut Session) -> Done {
    let parameters = session.host.other_parameters();
    discarded(session, "an I2bis with the parameters of another host", |i2bis| {
        i2bis.announcement = Announcement {
            cga_parameters: Some(parameters),
            ..Announcement::default()
        };
    })
    .await
}

async fn validator_of_r1(session: &mut Session) -> Done {
    let i1 = session.i1();
    let r1 = session.r1(session.ulids(), &i1).await?;
    let tag = i1.initiator_context_tag;
    discarded(session, "an I2bis with the validator of an R1", |i2bis| {
        i2bis.packet_context_tag = tag;
        i2bis.initiator_context_tag = tag;
        i2bis.responder_nonce = r1.responder_nonce;
        i2bis.validator = r1.validator;
    })
    .await
}

async fn reserved_is_ignored(session: &mut Session) -> Done {
    let i2bis = i2bis(session).await?;
    let mut octets = octets_of(&Message::I2bis(i2bis.clone()));
    octets[3] = 0xfe;
    octets[6] |= 0x80;
    octets[20..26].fill(0xff);
    octets[26] |= 0x80;
    seal(&mut octets);
    hold(options(&octets, 32).is_some(), || {
        "the tester's I2bis cannot be read".to_owned()
    })?;
    let on = session.ulids();
    session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2bis.initiator_nonce))
        .await?;
    Ok(())
}
