//! Exploration (RFC 5534).

use shim6_core::LocatorPair;
use shim6_core::reap::{Probe as Report, ProbeRecord, ProbeState};
use shim6_core::wire::{ContextTag, Message, Probe};
use tokio::time::Instant;

use super::{Check, Done, Level, Stop, check};
use crate::conform::ms;
use crate::conform::packet::{control, echo_reply, octets_of, reseal};
use crate::conform::session::{Arrival, Session};
use crate::conform::steps::{Context, hold};

pub(super) const CHECKS: &[Check] = &[
    check!(
        Must,
        "5534-4.3-01",
        "Probes come one after the other, the first ones 0.5 s apart, later ones farther.",
        probes_back_off
    ),
    check!(
        Should,
        "5534-4.3-02",
        "A host that explores tries other pairs of addresses than the current one.",
        other_pairs_are_tried,
        slow
    ),
    check!(
        Must,
        "5534-5.2-01",
        "The first sent probe of a Probe is the message itself.",
        first_record_is_the_probe
    ),
    check!(
        Must,
        "5534-5.2-02",
        "A Probe in InboundOk reports a received probe with its addresses, nonce and data.",
        received_is_reported
    ),
    check!(Must, "5534-5.2-03", "Probes have different nonces.", nonces_differ),
    check!(
        Must,
        "5534-5.2-04",
        "Reserved fields of a Probe are zero.",
        probe_reserved_is_zero
    ),
    check!(
        Must,
        "5534-5.2-05",
        "Reserved bits of a Probe are ignored.",
        probe_reserved_is_ignored
    ),
    check!(
        Must,
        "5534-5.2-06",
        "A Probe with more probes than it has room for is not taken.",
        too_many_records
    ),
    check!(
        Must,
        "5534-5.2-07",
        "A Probe without a sent probe is not taken.",
        no_record
    ),
    check!(
        Must,
        "5534-6.7-01",
        "A Probe with Exploring is answered by one with InboundOk.",
        exploring_gets_inbound_ok
    ),
    check!(
        Must,
        "5534-6.8-01",
        "A Probe with InboundOk is answered by one with Operational.",
        inbound_ok_gets_operational
    ),
    check!(
        Must,
        "5534-6.8-02",
        "A Probe that reports another pair moves the target's payload there.",
        reported_pair_is_taken
    ),
    check!(
        Must,
        "5534-6.9-01",
        "A Probe with Operational is not answered.",
        operational_gets_no_answer
    ),
    check!(
        Must,
        "5534-8-01",
        "A report of a probe that was not sent moves nothing.",
        forged_report_moves_nothing
    ),
];

/// A Probe of ours that has heard nothing.
pub(super) fn probe_message(session: &mut Session, tag: ContextTag, on: LocatorPair) -> Probe {
    Probe {
        receiver_context_tag: tag,
        report: Report {
            state: ProbeState::Exploring,
            sent: vec![ProbeRecord {
                source: on.local,
                destination: on.peer,
                nonce: session.random(),
                data: session.random(),
            }],
            received: Vec::new(),
        },
    }
}

pub(super) fn probe_of(arrival: &Arrival) -> Option<(LocatorPair, Probe)> {
    match arrival.message()? {
        (on, Message::Probe(probe)) => Some((on, probe)),
        _ => None,
    }
}

/// The answer to a probe that has heard nothing, and that probe.
async fn explore(session: &mut Session, context: &Context, on: LocatorPair) -> Done<(Probe, LocatorPair, Probe)> {
    let ours = probe_message(session, context.theirs, on);
    let octets = octets_of(&Message::Probe(ours.clone()));
    let nonce = ours.report.sent[0].nonce;
    let reports = |arrival: &Arrival| {
        let (on, probe) = probe_of(arrival)?;
        probe
            .report
            .received
            .iter()
            .any(|record| record.nonce == nonce)
            .then_some((on, probe))
    };
    let (on, theirs) = session.ask("Probe that reports ours", on, &octets, reports).await?;
    Ok((ours, on, theirs))
}

/// Has the target take the way to our second locator: reports its probe to there.
pub(super) async fn move_away(session: &mut Session, context: &Context) -> Done {
    let on = session.second()?;
    let (_, mut from, mut theirs) = explore(session, context, on).await?;
    if from.local != on.local {
        let to_second = |arrival: &Arrival| probe_of(arrival).filter(|(pair, _)| pair.local == on.local);
        let Some(found) = session.find(ms(4000), to_second).await else {
            return Err(Stop::NotApplicable(
                "the target sends no probe to the tester's second locator".to_owned(),
            ));
        };
        (from, theirs) = found;
    }
    let mut ours = probe_message(session, context.theirs, on);
    ours.report.state = ProbeState::InboundOk;
    ours.report.received = theirs.report.sent[..1].to_vec();
    hold(from.local == on.local, || "the probe is another".to_owned())?;
    let octets = octets_of(&Message::Probe(ours));
    session
        .ask("Probe with Operational", on, &octets, |arrival| {
            probe_of(arrival).filter(|(_, probe)| probe.report.state == ProbeState::Operational)
        })
        .await?;
    session.forget();
    Ok(())
}

async fn probes_back_off(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (on, begun) = (context.on, Instant::now());
    explore(session, &context, on).await?;
    let mut times = vec![begun];
    while begun.elapsed() < ms(8000) {
        let left = ms(8000).saturating_sub(begun.elapsed());
        match session
            .find(left, |arrival| probe_of(arrival).map(|_| arrival.at))
            .await
        {
            Some(at) => times.push(at),
            None => break,
        }
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    let shown = || {
        let gaps: Vec<_> = gaps.iter().map(|gap| format!("{:.2}", gap.as_secs_f64())).collect();
        format!("probes came {} s apart", gaps.join(", "))
    };
    hold(gaps.len() >= 3, || format!("only {} probes came in 8 s", times.len()))?;
    // Four at half a second each; the rest of 8 s has room for a few that are farther and farther from each other.
    hold(gaps.len() <= 8, shown)?;
    hold(gaps.iter().all(|gap| *gap >= ms(350)), shown)?;
    hold(gaps.iter().any(|gap| *gap >= ms(800)) || gaps.len() < 5, shown)
}

/// Payload to which the target's host sends a reply, after which the tester is silent.
pub(super) async fn leave_waiting(session: &mut Session, context: &Context) -> Done<Instant> {
    for number in 0..4 {
        session.send_echo(context.on, number);
        if let Some(at) = session
            .find(ms(700), |arrival| {
                echo_reply(&arrival.packet, context.on).map(|_| arrival.at)
            })
            .await
        {
            session.forget();
            return Ok(at);
        }
    }
    Err(Stop::NotApplicable(
        "the target's host does not answer echo requests".to_owned(),
    ))
}

async fn other_pairs_are_tried(session: &mut Session) -> Done {
    session.second()?;
    let context = session.context().await?;
    let mut tried = std::collections::BTreeSet::new();
    leave_waiting(session, &context).await?;
    let end = Instant::now() + ms(28_000);
    while Instant::now() < end && tried.len() < 2 {
        let left = end.saturating_duration_since(Instant::now());
        if let Some((on, _)) = session.find(left, probe_of).await {
            tried.insert((on.local, on.peer));
        }
    }
    hold(!tried.is_empty(), || "no probe came in 28 s".to_owned())?;
    hold(tried.len() >= 2, || format!("all probes came on {tried:?}"))
}

async fn exploring_gets_inbound_ok(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (_, _, theirs) = explore(session, &context, context.on).await?;
    hold(theirs.report.state == ProbeState::InboundOk, || {
        format!("its state is {}", theirs.report.state)
    })?;
    hold(theirs.receiver_context_tag == context.ours, || {
        format!("its tag is {}, not {}", theirs.receiver_context_tag, context.ours)
    })
}

async fn inbound_ok_gets_operational(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (_, _, theirs) = explore(session, &context, context.on).await?;
    let mut ours = probe_message(session, context.theirs, context.on);
    ours.report.state = ProbeState::InboundOk;
    ours.report.received = theirs.report.sent[..1].to_vec();
    let octets = octets_of(&Message::Probe(ours));
    session
        .ask("Probe with Operational", context.on, &octets, |arrival| {
            probe_of(arrival).filter(|(_, probe)| probe.report.state == ProbeState::Operational)
        })
        .await?;
    // It is content, and stays so.
    session
        .nothing_for("the target is Operational", ms(1500), |arrival| {
            probe_of(arrival).is_some_and(|(_, probe)| probe.report.state != ProbeState::Operational)
        })
        .await
}

async fn reported_pair_is_taken(session: &mut Session) -> Done {
    let context = session.context().await?;
    let second = session.second()?;
    leave_waiting(session, &context).await?;
    move_away(session, &context).await?;
    for number in 100..110 {
        session.send_echo(context.on, number);
        let to_second = |arrival: &Arrival| {
            echo_reply(&arrival.packet, context.on)?;
            arrival.pair().filter(|on| on.local == second.local)
        };
        if session.find(ms(300), to_second).await.is_some() {
            return Ok(());
        }
    }
    Err(Stop::Fail(
        "the target goes on sending payload to the first locator".to_owned(),
    ))
}

async fn operational_gets_no_answer(session: &mut Session) -> Done {
    let context = session.context().await?;
    let mut ours = probe_message(session, context.theirs, context.on);
    ours.report.state = ProbeState::Operational;
    session.send_message(context.on, &Message::Probe(ours));
    session
        .nothing_for("a Probe with Operational", ms(1200), |arrival| {
            probe_of(arrival).is_some()
        })
        .await
}

async fn first_record_is_the_probe(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (_, on, theirs) = explore(session, &context, context.on).await?;
    let first = &theirs.report.sent[0];
    hold((first.destination, first.source) == (on.local, on.peer), || {
        format!("it came on {on}, and says {} -> {}", first.source, first.destination)
    })
}

async fn received_is_reported(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (ours, _, theirs) = explore(session, &context, context.on).await?;
    let reported = theirs.report.received.contains(&ours.report.sent[0]);
    hold(reported, || {
        format!(
            "sent was {:?}, reported is {:?}",
            ours.report.sent[0], theirs.report.received
        )
    })
}

async fn nonces_differ(session: &mut Session) -> Done {
    let context = session.context().await?;
    let (_, _, first) = explore(session, &context, context.on).await?;
    let (_, second) = session.expect("second Probe", ms(2000), probe_of).await?;
    let (one, two) = (first.report.sent[0].nonce, second.report.sent[0].nonce);
    hold(one != two, || format!("both have the nonce {one:#010x}"))
}

async fn probe_reserved_is_zero(session: &mut Session) -> Done {
    let context = session.context().await?;
    let ours = probe_message(session, context.theirs, context.on);
    let octets = session
        .ask("Probe", context.on, &octets_of(&Message::Probe(ours)), |arrival| {
            probe_of(arrival)
                .and_then(|_| control(&arrival.packet))
                .map(<[u8]>::to_vec)
        })
        .await?;
    let zero = octets[3] == 0 && octets[6] & 0x80 == 0 && octets[13] & 0x3f == 0 && octets[14..16] == [0; 2];
    hold(zero, || format!("it starts with {:02x?}", &octets[..16]))
}

async fn probe_reserved_is_ignored(session: &mut Session) -> Done {
    let context = session.context().await?;
    let ours = probe_message(session, context.theirs, context.on);
    let mut octets = octets_of(&Message::Probe(ours));
    octets[3] = 0xfe;
    octets[6] |= 0x80;
    octets[13] |= 0x3f;
    octets[14..16].fill(0xff);
    reseal(&mut octets);
    session.ask("Probe", context.on, &octets, probe_of).await.map(drop)
}

/// A Probe whose counts are changed is not answered.
async fn miscounted(session: &mut Session, counts: u8, what: &str) -> Done {
    let context = session.context().await?;
    let ours = probe_message(session, context.theirs, context.on);
    let mut octets = octets_of(&Message::Probe(ours));
    octets[12] = counts;
    reseal(&mut octets);
    session.send_shim6(context.on, &octets);
    session
        .nothing_for(what, ms(900), |arrival| probe_of(arrival).is_some())
        .await
}

async fn too_many_records(session: &mut Session) -> Done {
    miscounted(session, 0x51, "a Probe that counts six probes and has one").await
}

async fn no_record(session: &mut Session) -> Done {
    miscounted(session, 0x10, "a Probe that counts no sent probe").await
}

async fn forged_report_moves_nothing(session: &mut Session) -> Done {
    let context = session.context().await?;
    let second = session.second()?;
    leave_waiting(session, &context).await?;
    let (_, _, theirs) = explore(session, &context, second).await?;
    let mut forged = theirs.report.sent[0];
    forged.source = context.on.peer;
    forged.destination = second.local;
    forged.nonce ^= 0x5555_5555;
    let mut ours = probe_message(session, context.theirs, second);
    ours.report.state = ProbeState::InboundOk;
    ours.report.received = vec![forged];
    session.send_message(second, &Message::Probe(ours));
    for number in 120..128 {
        session.send_echo(context.on, number);
        session
            .nothing_for(
                "the target's probe to the second locator was not answered",
                ms(120),
                |arrival| {
                    echo_reply(&arrival.packet, context.on).is_some()
                        && arrival.pair().is_some_and(|on| on.local == second.local)
                },
            )
            .await?;
    }
    Ok(())
}
