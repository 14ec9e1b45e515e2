//! Failure detection: Keepalives, and the two timers (RFC 5534).

use std::time::Duration;

use shim6_core::LocatorPair;
use shim6_core::wire::{Announcement, ContextTag, Keepalive, Message, MessageType};
use tokio::time::Instant;

use super::{Check, Done, Level, Stop, check};
use crate::conform::checks::reap::{leave_waiting, probe_of};
use crate::conform::ms;
use crate::conform::packet::{control, octets_of, options, reseal};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{Context, hold, r2_of};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5534-5.1-01",
        "Reserved fields of a Keepalive are zero.",
        keepalive_reserved_is_zero
    ),
    check!(
        Must,
        "5534-5.1-02",
        "A Keepalive is not answered.",
        keepalive_gets_no_answer
    ),
    check!(
        Should,
        "5534-5.3-01",
        "The Keepalive Timeout option of an I2 sets the time between Keepalives.",
        option_in_i2
    ),
    check!(
        Must,
        "5534-5.3-02",
        "The reserved field of the Keepalive Timeout option is ignored.",
        option_reserved_is_ignored
    ),
    check!(
        May,
        "5534-5.3-03",
        "The Keepalive Timeout option of an Update Request sets the time between Keepalives.",
        option_in_update
    ),
    check!(
        Must,
        "5534-6.1-01",
        "Keepalives have CT(peer) and go to the current pair.",
        keepalive_is_addressed
    ),
    check!(
        Must,
        "5534-6.2-01",
        "While the target sends payload it sends no Keepalive.",
        payload_stops_keepalives
    ),
    check!(
        Must,
        "5534-6.3-01",
        "Keepalives end with the Keepalive Timeout.",
        keepalives_end
    ),
    check!(
        Must,
        "5534-6.4-01",
        "A host that sends and hears nothing explores after 10 to 20 s.",
        send_timeout,
        slow
    ),
    check!(
        Must,
        "5534-6.6-01",
        "Keepalives of the peer keep a host from exploring.",
        keepalives_are_heard,
        slow
    ),
    check!(
        Must,
        "5534-6.1-02",
        "Payload of the peer keeps a host from exploring.",
        payload_is_heard,
        slow
    ),
    check!(
        Must,
        "5534-7-01",
        "Without the Keepalive Timeout option the first Keepalive comes within 7.5 s.",
        default_keepalive
    ),
];

/// What the tester announces, to see Keepalives soon.
const KEEPALIVE_TIMEOUT: u16 = 3;
const SLACK: Duration = ms(300);

fn keepalive_of(arrival: &Arrival) -> Option<(LocatorPair, ContextTag, Instant)> {
    match arrival.message()? {
        (on, Message::Keepalive(keepalive)) => Some((on, keepalive.receiver_context_tag, arrival.at)),
        _ => None,
    }
}

/// A context with a short Keepalive Timeout, and when payload came for it.
async fn waiting(session: &mut Session) -> Done<(Context, Instant)> {
    let context = session
        .context_with(|i2| i2.announcement.keepalive_timeout = Some(KEEPALIVE_TIMEOUT))
        .await?;
    session.send_silent_payload(context.on);
    Ok((context, Instant::now()))
}

/// The first Keepalive, which comes after half of the timeout at the latest.
async fn first_keepalive(session: &mut Session, timeout: u16) -> Done<(LocatorPair, ContextTag, Instant)> {
    let within = Duration::from_secs(timeout.into()) / 2 + SLACK;
    session.expect("Keepalive", within, keepalive_of).await
}

async fn option_in_i2(session: &mut Session) -> Done {
    waiting(session).await?;
    first_keepalive(session, KEEPALIVE_TIMEOUT).await.map(drop)
}

async fn option_in_update(session: &mut Session) -> Done {
    let context = session.context().await?;
    let announcement = Announcement {
        keepalive_timeout: Some(KEEPALIVE_TIMEOUT),
        ..Announcement::default()
    };
    session.update(&context, context.on, announcement).await?;
    session.send_silent_payload(context.on);
    first_keepalive(session, KEEPALIVE_TIMEOUT).await.map(drop)
}

async fn option_reserved_is_ignored(session: &mut Session) -> Done {
    let mut i2 = session.half_way().await?;
    i2.announcement.keepalive_timeout = Some(KEEPALIVE_TIMEOUT);
    let mut octets = octets_of(&Message::I2(i2.clone()));
    let at = options(&octets, 24)
        .unwrap_or_default()
        .iter()
        .find(|option| option.kind == 10)
        .map(|option| option.at + 4);
    let at = at.ok_or_else(|| Stop::Fail("the tester's I2 has no Keepalive Timeout".to_owned()))?;
    octets[at..at + 2].fill(0xff);
    reseal(&mut octets);
    let on = session.ulids();
    session
        .ask("R2", on, &octets, |arrival| r2_of(arrival, i2.initiator_nonce))
        .await?;
    session.send_silent_payload(on);
    first_keepalive(session, KEEPALIVE_TIMEOUT).await.map(drop)
}

async fn default_keepalive(session: &mut Session) -> Done {
    let context = session.context().await?;
    session.send_silent_payload(context.on);
    first_keepalive(session, 15).await.map(drop)
}

async fn keepalive_is_addressed(session: &mut Session) -> Done {
    let (context, _) = waiting(session).await?;
    let (on, tag, _) = first_keepalive(session, KEEPALIVE_TIMEOUT).await?;
    hold(tag == context.ours, || {
        format!("its tag is {tag}, not {}", context.ours)
    })?;
    hold(on == context.on, || {
        format!("it came on {on}, and the current pair is {}", context.on)
    })
}

async fn keepalive_reserved_is_zero(session: &mut Session) -> Done {
    waiting(session).await?;
    let within = Duration::from_secs(KEEPALIVE_TIMEOUT.into()) / 2 + SLACK;
    let octets = session
        .expect("Keepalive", within, |arrival| {
            keepalive_of(arrival)
                .and_then(|_| control(&arrival.packet))
                .map(<[u8]>::to_vec)
        })
        .await?;
    let zero = octets[3] == 0 && octets[6] & 0x80 == 0 && octets[12..16] == [0; 4];
    hold(zero, || format!("it is {octets:02x?}"))
}

async fn keepalive_gets_no_answer(session: &mut Session) -> Done {
    let context = session.context().await?;
    send_keepalive(session, &context);
    session
        .nothing("a Keepalive", |arrival| {
            control(&arrival.packet).is_some_and(|message| message[2] != MessageType::R1.0)
        })
        .await
}

fn send_keepalive(session: &mut Session, context: &Context) {
    let keepalive = Keepalive {
        receiver_context_tag: context.theirs,
    };
    session.send_message(context.on, &Message::Keepalive(keepalive));
}

async fn payload_stops_keepalives(session: &mut Session) -> Done {
    let (context, _) = waiting(session).await?;
    session.wait(ms(200)).await;
    leave_waiting(session, &context).await?;
    session
        .nothing_for("the target has sent payload since", ms(3500), |arrival| {
            keepalive_of(arrival).is_some()
        })
        .await
}

async fn keepalives_end(session: &mut Session) -> Done {
    let (_, begun) = waiting(session).await?;
    first_keepalive(session, KEEPALIVE_TIMEOUT).await?;
    let timeout = Duration::from_secs(KEEPALIVE_TIMEOUT.into());
    let late = session
        .find(ms(6000), |arrival| {
            keepalive_of(arrival).filter(|(_, _, at)| at.duration_since(begun) > timeout + SLACK)
        })
        .await;
    match late {
        None => Ok(()),
        Some((_, _, at)) => Err(Stop::Fail(format!(
            "a Keepalive came {:.2} s after the payload",
            at.duration_since(begun).as_secs_f64()
        ))),
    }
}

async fn send_timeout(session: &mut Session) -> Done {
    let context = session.context().await?;
    let begun = leave_waiting(session, &context).await?;
    let at = session
        .expect("Probe", ms(20_500), |arrival| probe_of(arrival).map(|_| arrival.at))
        .await?;
    let after = at.duration_since(begun);
    hold(after >= ms(9_900), || {
        format!("the first Probe came after {:.2} s", after.as_secs_f64())
    })
}

async fn stays_calm(session: &mut Session, heard: fn(&mut Session, &Context)) -> Done {
    let context = session.context().await?;
    leave_waiting(session, &context).await?;
    for _ in 0..6 {
        session
            .nothing_for("the target hears its peer", ms(4000), |arrival| {
                probe_of(arrival).is_some()
            })
            .await?;
        heard(session, &context);
    }
    Ok(())
}

async fn keepalives_are_heard(session: &mut Session) -> Done {
    stays_calm(session, send_keepalive).await
}

async fn payload_is_heard(session: &mut Session) -> Done {
    stays_calm(session, |session, context| session.send_silent_payload(context.on)).await
}
