//! When the target sends its messages again (RFC 5533 sections 7.8, 7.12, 7.19 and 14).

use std::time::Duration;

use shim6_core::wire::Message;
use tokio::time::Instant;

use super::{Check, Done, Level, Stop, check};
use crate::conform::checks::recovery::lose;
use crate::conform::ms;
use crate::conform::packet::{ICMPV6, icmp, ipv6, octets_of};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{hold, i2_of};
use shim6_core::wire::{I1, PROTOCOL};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Should,
        "5533-7.8-01",
        "An I1 that is not answered is sent again after 2 to 6 s.",
        i1_is_sent_again
    ),
    check!(
        Should,
        "5533-7.8-02",
        "I1 are sent again after twice the time each, times 0.5 to 1.5.",
        i1_backs_off,
        slow
    ),
    check!(
        Should,
        "5533-7.8-03",
        "After the ICMPv6 error Unrecognized Next Header about its I1 the target does not send it again.",
        icmp_ends_it
    ),
    check!(
        May,
        "5533-7.12-01",
        "An I2 that is not answered is sent again after 2 to 6 s, if at all.",
        i2_is_sent_again
    ),
    check!(
        Should,
        "5533-7.12-02",
        "After I2 without an answer the target goes back to sending an I1.",
        i2_falls_back,
        slow
    ),
    check!(
        Should,
        "5533-7.19-02",
        "After I2bis without an answer the target goes back to sending an I1.",
        i2bis_falls_back,
        slow
    ),
];

/// I1_TIMEOUT and I2_TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(4);
/// For the way of a packet and for a busy tester.
const SLACK: Duration = ms(300);
/// The longest time until three I2 have had no answer: 4, 8 and 16 s times 1.5, with slack.
const FALLBACK: Duration = ms(43_000);

fn i1_of(arrival: &Arrival) -> Option<(Instant, I1)> {
    match arrival.message()? {
        (_, Message::I1(i1)) => Some((arrival.at, i1)),
        _ => None,
    }
}

/// A message that comes for the `number`th time comes in time behind the one before.
fn in_time(what: &str, number: u32, after: Duration) -> Done {
    let nominal = TIMEOUT * 2_u32.pow(number);
    let (least, most) = (nominal / 2 - SLACK / 3, nominal * 3 / 2 + SLACK);
    hold((least..=most).contains(&after), || {
        format!(
            "{what} came again after {:.2} s, not {:?} to {:?}",
            after.as_secs_f64(),
            nominal / 2,
            nominal * 3 / 2
        )
    })
}

async fn i1_is_sent_again(session: &mut Session) -> Done {
    session.provoke().await?;
    let begun = session.found_at();
    let (at, _) = session.expect("second I1", ms(6500), i1_of).await?;
    in_time("an I1", 0, at.duration_since(begun))
}

async fn i1_backs_off(session: &mut Session) -> Done {
    session.provoke().await?;
    let mut last = session.found_at();
    for number in 0..3 {
        let (at, _) = session
            .expect("I1", TIMEOUT * 2_u32.pow(number) * 3 / 2 + SLACK * 2, i1_of)
            .await?;
        in_time("an I1", number, at.duration_since(last))?;
        last = at;
    }
    Ok(())
}

async fn icmp_ends_it(session: &mut Session) -> Done {
    let (on, i1) = session.provoke().await?;
    // Parameter Problem, Unrecognized Next Header: it is at octet 6 of the packet.
    let quoted = ipv6(on.seen_by_peer(), PROTOCOL, &octets_of(&Message::I1(i1)));
    let error = icmp(on, 4, 1, &[&6_u32.to_be_bytes()[..], &quoted].concat());
    session.send(on, ICMPV6, &error);
    session
        .nothing_for("after Unrecognized Next Header", ms(6500), |arrival| {
            i1_of(arrival).is_some()
        })
        .await
}

async fn i2_is_sent_again(session: &mut Session) -> Done {
    session.provoke_i2().await?;
    let begun = session.found_at();
    let again = session
        .find(ms(6500), |arrival| i2_of(arrival).map(|_| arrival.at))
        .await;
    match again {
        Some(at) => in_time("an I2", 0, at.duration_since(begun)),
        None => Err(Stop::NotApplicable(
            "the target does not send an I2 again, which it need not".to_owned(),
        )),
    }
}

async fn i2_falls_back(session: &mut Session) -> Done {
    session.provoke_i2().await?;
    session.forget();
    session.expect("I1 after the I2", FALLBACK, i1_of).await.map(drop)
}

async fn i2bis_falls_back(session: &mut Session) -> Done {
    let context = session.context().await?;
    lose(session, &context, context.on).await?;
    session.expect("I1 after the I2bis", FALLBACK, i1_of).await.map(drop)
}
