//! Payload with and without the payload header (RFC 5533 sections 11 and 12).

use shim6_core::LocatorPair;
use shim6_core::wire::{Announcement, ContextTag, LocatorPreferences, Preference, PreferenceFlags};

use super::{Check, Done, Level, check};
use crate::conform::checks::reap::{move_away, probe_message};
use crate::conform::ms;
use crate::conform::packet::{ICMPV6, echo, echo_reply, octets_of, payload};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{Context, ECHO_ID, hold};
use shim6_core::wire::Message;

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5533-12.1-01",
        "With a context, payload between the ULIDs without a header is taken.",
        plain_payload
    ),
    check!(
        Must,
        "5533-12.2-01",
        "Payload with the header that comes on other locators gets its ULIDs back: the upper layer answers.",
        payload_on_other_locators
    ),
    check!(
        Must,
        "5533-12.2-02",
        "Payload with the header is taken on the ULIDs as well.",
        payload_on_the_ulids
    ),
    check!(
        Must,
        "5533-12.2-03",
        "Payload with a tag that no context has is not delivered.",
        unknown_tag
    ),
    check!(
        Must,
        "5533-5.2-01",
        "A payload header with Hdr Ext Len 1 is not taken for payload.",
        long_header
    ),
    check!(
        Must,
        "5533-11-01",
        "While the locators are the ULIDs payload goes to the ULID.",
        replies_stay_on_the_ulids
    ),
    check!(
        Must,
        "5533-11.1-01",
        "On other locators payload has the payload header with CT(peer).",
        moved_payload_has_the_header
    ),
    check!(
        Must,
        "5533-11.1-02",
        "On other locators the checksums of upper layers still cover the ULIDs.",
        moved_checksums_stay
    ),
    check!(
        Must,
        "5533-11.1-03",
        "On other locators payload comes from a locator that the target has told.",
        moved_source_is_told
    ),
    check!(
        Must,
        "5533-7.2-07",
        "A locator gets no payload before a probe to it has been answered, even if the other is called BROKEN.",
        unprobed_gets_no_payload
    ),
    check!(
        Must,
        "5533-12.4-01",
        "A Probe from an address that is not in Ls(peer) gets an R1bis.",
        probe_of_a_stranger
    ),
    check!(
        Must,
        "5533-12.4-02",
        "A Keepalive from an address that is not in Ls(peer) gets an R1bis.",
        keepalive_of_a_stranger
    ),
];

/// The reply to an echo request: number, tag of the header if there is one, and addresses.
fn reply(arrival: &Arrival, ulids: LocatorPair, number: u16) -> Option<(Option<ContextTag>, LocatorPair)> {
    match echo_reply(&arrival.packet, ulids)? {
        (ECHO_ID, of, tag) if of == number => Some((tag, arrival.pair()?)),
        _ => None,
    }
}

/// Whether the target's host answers echo requests at all.
async fn answers_echo(session: &mut Session) -> Done {
    let ulids = session.ulids();
    for _ in 0..3 {
        session.send_echo(ulids, 1);
        if session
            .find(ms(700), |arrival| reply(arrival, ulids, 1))
            .await
            .is_some()
        {
            return Ok(());
        }
    }
    Err(super::Stop::NotApplicable(
        "the target's host does not answer echo requests, which show that payload arrived".to_owned(),
    ))
}

async fn plain_payload(session: &mut Session) -> Done {
    answers_echo(session).await?;
    let ulids = session.ulids();
    session.context().await?;
    for number in 10..13 {
        session.send_echo(ulids, number);
    }
    for number in 10..13 {
        session
            .expect("echo reply", ms(2000), |arrival| reply(arrival, ulids, number))
            .await?;
    }
    Ok(())
}

fn send_payload(session: &mut Session, context: &Context, on: LocatorPair, tag: ContextTag, number: u16) {
    let request = echo(context.on, false, ECHO_ID, number);
    session.send_shim6(on, &payload(tag, ICMPV6, &request));
}

async fn delivered(session: &mut Session, on: LocatorPair) -> Done {
    answers_echo(session).await?;
    let context = session.context().await?;
    let ulids = context.on;
    for _ in 0..3 {
        send_payload(session, &context, on, context.theirs, 20);
        if session
            .find(ms(700), |arrival| reply(arrival, ulids, 20))
            .await
            .is_some()
        {
            return Ok(());
        }
    }
    session
        .expect("echo reply", ms(700), |arrival| reply(arrival, ulids, 20))
        .await
        .map(drop)
}

async fn payload_on_other_locators(session: &mut Session) -> Done {
    let on = session.second()?;
    delivered(session, on).await
}

async fn payload_on_the_ulids(session: &mut Session) -> Done {
    let on = session.ulids();
    delivered(session, on).await
}

async fn unknown_tag(session: &mut Session) -> Done {
    answers_echo(session).await?;
    let context = session.context().await?;
    let tag = session.tag();
    send_payload(session, &context, context.on, tag, 30);
    session
        .nothing("payload of no context", |arrival| {
            reply(arrival, context.on, 30).is_some()
        })
        .await
}

async fn long_header(session: &mut Session) -> Done {
    answers_echo(session).await?;
    let context = session.context().await?;
    let request = echo(context.on, false, ECHO_ID, 40);
    let mut octets = payload(context.theirs, ICMPV6, &request);
    octets[1] = 1;
    octets.splice(8..8, [0; 8]);
    session.send_shim6(context.on, &octets);
    session
        .nothing("a payload header of 16 octets", |arrival| {
            reply(arrival, context.on, 40).is_some()
        })
        .await
}

async fn replies_stay_on_the_ulids(session: &mut Session) -> Done {
    answers_echo(session).await?;
    let context = session.context().await?;
    for number in 50..55 {
        session.send_echo(context.on, number);
        let (_, on) = session
            .expect("echo reply", ms(2000), |arrival| reply(arrival, context.on, number))
            .await?;
        hold(on == context.on, || {
            format!("the request went on {}, the reply on {on}", context.on)
        })?;
    }
    Ok(())
}

/// A reply that the target sends once it has moved to our second locator.
async fn moved_reply(session: &mut Session) -> Done<(Context, Option<ContextTag>, LocatorPair)> {
    answers_echo(session).await?;
    let context = session.context().await?;
    let second = session.second()?;
    move_away(session, &context).await?;
    // Steering takes a moment.
    for number in 60..70 {
        send_payload(session, &context, second, context.theirs, number);
        let to_second =
            |arrival: &Arrival| reply(arrival, context.on, number).filter(|(_, on)| on.local == second.local);
        if let Some((tag, on)) = session.find(ms(300), to_second).await {
            return Ok((context, tag, on));
        }
    }
    session
        .expect(
            "echo reply on the second locator after the target's probe to it was reported",
            ms(300),
            |arrival| reply(arrival, context.on, 69).filter(|(_, on)| on.local == second.local),
        )
        .await
        .map(|(tag, on)| (context, tag, on))
}

async fn moved_payload_has_the_header(session: &mut Session) -> Done {
    let (context, tag, _) = moved_reply(session).await?;
    hold(tag == Some(context.ours), || match tag {
        Some(tag) => format!("its tag is {tag}, not {}", context.ours),
        None => "it has no payload header".to_owned(),
    })
}

async fn moved_checksums_stay(session: &mut Session) -> Done {
    // What has another checksum is no reply.
    moved_reply(session).await.map(drop)
}

async fn moved_source_is_told(session: &mut Session) -> Done {
    let (context, _, on) = moved_reply(session).await?;
    hold(context.locators().contains(&on.peer), || {
        format!("{} is not among the locators {:?}", on.peer, context.locators())
    })
}

async fn unprobed_gets_no_payload(session: &mut Session) -> Done {
    let second = session.second()?;
    answers_echo(session).await?;
    let context = session.context().await?;
    let element = |flags| Preference {
        flags,
        priority: 1,
        weight: 1,
    };
    let mut elements = vec![element(PreferenceFlags(0)); session.host.locators().len()];
    elements[0].flags = PreferenceFlags::BROKEN;
    let announcement = Announcement {
        preferences: Some(LocatorPreferences::new(session.host.generation(), elements)),
        ..Announcement::default()
    };
    session.update(&context, context.on, announcement).await?;
    for number in 70..78 {
        session.send_echo(context.on, number);
        session
            .nothing_for("the second locator has answered no probe", ms(150), |arrival| {
                echo_reply(&arrival.packet, context.on).is_some()
                    && arrival.pair().is_some_and(|on| on.local == second.local)
            })
            .await?;
    }
    Ok(())
}

async fn probe_of_a_stranger(session: &mut Session) -> Done {
    let context = session.context().await?;
    let on = session.strange();
    let probe = probe_message(session, context.theirs, on);
    session
        .r1bis(on, &octets_of(&Message::Probe(probe)), context.theirs)
        .await
        .map(drop)
}

async fn keepalive_of_a_stranger(session: &mut Session) -> Done {
    let context = session.context().await?;
    let on = session.strange();
    let keepalive = Message::Keepalive(shim6_core::wire::Keepalive {
        receiver_context_tag: context.theirs,
    });
    session
        .r1bis(on, &octets_of(&keepalive), context.theirs)
        .await
        .map(drop)
}
