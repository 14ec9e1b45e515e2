//! Probe records, and choosing the pair by them (RFC 5534 5.2, 6.8).

use std::vec::Vec;

use super::{at, events, only_probe, pair, pairs, probe_from_peer, rng, transmits};
use crate::{Cause, Config, Event, LocatorPair, MAX_RECORDS, Probe, ProbeRecord, ProbeState, Reap, State};

/// A machine that explores, and what it sent: on (0,1), (1,0), (1,1).
fn after_three_probes() -> (Reap, Vec<Probe>) {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::default(), pairs(2, 2), pair(0, 0));
    reap.explore(at(1.0), Cause::LocalHint, rng);
    let mut probes = Vec::from([only_probe(&mut reap).1]);
    for _ in 0..2 {
        reap.handle_timeout(reap.poll_timeout().unwrap(), rng);
        probes.push(only_probe(&mut reap).1);
    }
    events(&mut reap);
    (reap, probes)
}

fn answer(reap: &mut Reap, state: ProbeState, reports: Vec<ProbeRecord>) -> (LocatorPair, Probe) {
    let probe = probe_from_peer(state, pair(0, 1), 77, reports);
    reap.handle_probe(at(10.0), pair(0, 1), &probe, &mut rng(9));
    only_probe(reap)
}

#[test]
fn a_probe_lists_itself_first_then_the_ones_before() {
    let (_, probes) = after_three_probes();
    let first: Vec<ProbeRecord> = probes.iter().map(|probe| probe.sent[0]).collect();
    assert_eq!(probes[2].sent, [first[2], first[1], first[0]]);
    assert_eq!(first[1].sender_pair(), pair(1, 0));
    assert!(first[0].nonce != first[1].nonce && first[1].nonce != first[2].nonce);
}

#[test]
fn the_latest_reported_probe_decides_the_pair() {
    let (mut reap, probes) = after_three_probes();
    // In whatever order the peer lists them.
    let reports = Vec::from([probes[0].sent[0], probes[1].sent[0]]);
    let (on, operational) = answer(&mut reap, ProbeState::InboundOk, reports);
    assert_eq!(reap.current_pair(), pair(1, 0));
    assert_eq!(on, pair(1, 0), "the answer itself takes the way that is known to work");
    assert_eq!(operational.state, ProbeState::Operational);
    assert_eq!(operational.received[0].nonce, 77);
    assert_eq!(operational.received[0].data, 7, "copied back unchanged");
    // What the peer has reported is not listed again.
    let listed = [operational.sent[0], probes[2].sent[0]];
    assert_eq!(operational.sent, listed);
    let (from, to) = (State::Exploring, State::Operational);
    assert_eq!(
        events(&mut reap),
        [
            Event::PairConfirmed { pair: pair(0, 1) },
            Event::PairConfirmed { pair: pair(1, 0) },
            Event::PairChanged {
                from: pair(0, 0),
                to: pair(1, 0),
                cause: Cause::LocalHint
            },
            Event::StateChanged {
                from,
                to,
                cause: Cause::PeerReport
            },
        ]
    );
}

#[test]
fn a_report_in_an_operational_probe_decides_too() {
    let (mut reap, probes) = after_three_probes();
    let probe = probe_from_peer(ProbeState::Operational, pair(0, 1), 77, Vec::from([probes[2].sent[0]]));
    reap.handle_probe(at(10.0), pair(0, 1), &probe, &mut rng(9));
    assert_eq!((reap.state(), reap.current_pair()), (State::Operational, pair(1, 1)));
    assert_eq!(transmits(&mut reap), []);
}

#[test]
fn without_reports_the_pair_stays() {
    let (mut reap, _) = after_three_probes();
    let (on, _) = answer(&mut reap, ProbeState::InboundOk, Vec::new());
    assert_eq!(
        (reap.state(), reap.current_pair(), on),
        (State::Operational, pair(0, 0), pair(0, 0))
    );
}

#[test]
fn reports_of_probes_that_were_not_sent_count_for_nothing() {
    let (_, probes) = after_three_probes();
    let sent = probes[1].sent[0];
    let forged = [
        ProbeRecord {
            nonce: sent.nonce ^ 1,
            ..sent
        },
        ProbeRecord {
            destination: pair(1, 1).peer,
            ..sent
        },
        ProbeRecord {
            source: pair(0, 0).local,
            ..sent
        },
        ProbeRecord { data: 1, ..sent },
        ProbeRecord {
            source: sent.destination,
            destination: sent.source,
            ..sent
        },
    ];
    for record in forged {
        let (mut reap, _) = after_three_probes();
        answer(&mut reap, ProbeState::InboundOk, Vec::from([record]));
        assert_eq!(reap.current_pair(), pair(0, 0), "{record:?}");
    }
}

#[test]
fn a_report_from_before_this_exploration_counts_for_nothing() {
    let (mut reap, probes) = after_three_probes();
    answer(&mut reap, ProbeState::InboundOk, Vec::new());
    reap.explore(at(11.0), Cause::LocalHint, &mut rng(2));
    assert_eq!(only_probe(&mut reap).1.sent.len(), 1);
    answer(&mut reap, ProbeState::InboundOk, Vec::from([probes[1].sent[0]]));
    assert_eq!(reap.current_pair(), pair(0, 0));
}

#[test]
fn an_answer_to_an_earlier_exploration_does_not_end_this_one() {
    let (mut reap, probes) = after_three_probes();
    answer(&mut reap, ProbeState::InboundOk, Vec::new());
    reap.explore(at(11.0), Cause::LocalHint, &mut rng(2));
    transmits(&mut reap);
    answer(&mut reap, ProbeState::Operational, Vec::from([probes[1].sent[0]]));
    assert_eq!(reap.state(), State::InboundOk);
}

#[test]
fn reports_of_probes_from_before_a_switch_do_not_undo_it() {
    let (mut reap, probes) = after_three_probes();
    let reports = |probe: &Probe| Vec::from([probe.sent[0]]);
    answer(&mut reap, ProbeState::InboundOk, reports(&probes[1]));
    assert_eq!(reap.current_pair(), pair(1, 0));
    assert!(reap.switch_to(at(10.0), pair(1, 1), Cause::Preferred));
    // Known already, and news.
    for probe in [&probes[1], &probes[0]] {
        let (on, operational) = answer(&mut reap, ProbeState::InboundOk, reports(probe));
        assert_eq!(
            (reap.current_pair(), on, operational.state),
            (pair(1, 1), pair(1, 1), ProbeState::Operational)
        );
    }
    // Those of a later exploration decide again.
    reap.explore(at(11.0), Cause::LocalHint, &mut rng(2));
    let (on, probe) = only_probe(&mut reap);
    answer(&mut reap, ProbeState::InboundOk, reports(&probe));
    assert!(on != pair(1, 1) && reap.current_pair() == on);
}

#[test]
fn a_reported_pair_that_is_no_longer_usable_is_not_taken() {
    let (mut reap, probes) = after_three_probes();
    reap.set_usable(pair(1, 0).local, false);
    let reports = probes.iter().map(|probe| probe.sent[0]).collect();
    answer(&mut reap, ProbeState::InboundOk, reports);
    assert_eq!(reap.current_pair(), pair(0, 1));

    let (mut reap, probes) = after_three_probes();
    reap.set_pairs(pairs(1, 2));
    answer(&mut reap, ProbeState::InboundOk, Vec::from([probes[2].sent[0]]));
    assert_eq!(reap.current_pair(), pair(0, 0));
}

#[test]
fn a_probe_whose_record_names_other_addresses_is_not_vouched_for() {
    let mut reap = Reap::new(Config::default(), pairs(2, 2), pair(0, 0));
    let probe = probe_from_peer(ProbeState::Exploring, pair(1, 1), 5, Vec::new());
    reap.handle_probe(at(1.0), pair(0, 1), &probe, &mut rng(1));
    let (_, answer) = only_probe(&mut reap);
    assert_eq!((answer.state, answer.received.len()), (ProbeState::InboundOk, 0));
}

#[test]
fn a_probe_without_records_is_ignored() {
    let mut reap = Reap::new(Config::default(), pairs(2, 2), pair(0, 0));
    let probe = Probe {
        state: ProbeState::Exploring,
        sent: Vec::new(),
        received: Vec::new(),
    };
    reap.handle_probe(at(1.0), pair(0, 1), &probe, &mut rng(1));
    assert_eq!((reap.state(), transmits(&mut reap).len()), (State::Operational, 0));
}

#[test]
fn an_inbound_ok_probe_reports_the_probe_that_caused_it() {
    let mut reap = Reap::new(Config::default(), pairs(2, 2), pair(0, 0));
    let (on, first) = answer(&mut reap, ProbeState::Exploring, Vec::new());
    assert_eq!((first.state, first.received[0].nonce), (ProbeState::InboundOk, 77));
    assert_eq!(on, pair(0, 1), "back the way it came");
    reap.handle_timeout(reap.poll_timeout().unwrap(), &mut rng(2));
    assert_eq!(only_probe(&mut reap).1.received, first.received);
}

#[test]
fn records_are_bounded_and_the_latest_come_first() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::default(), pairs(2, 2), pair(0, 0));
    let mut last = None;
    for nonce in 0..100 {
        // Each twice: a duplicate takes no second place.
        for _ in 0..2 {
            let probe = probe_from_peer(ProbeState::Exploring, pair(1, 1), nonce, Vec::new());
            reap.handle_probe(at(1.0), pair(1, 1), &probe, rng);
            last = Some(only_probe(&mut reap).1);
        }
    }
    let last = last.unwrap();
    let nonces: Vec<u32> = last.received.iter().map(|record| record.nonce).collect();
    assert_eq!(nonces, [99, 98, 97, 96, 95, 94, 93, 92]);
    assert_eq!(last.sent.len(), 8);
    // IPv6 header, message header, records: within the smallest MTU, and the counts within their fields.
    assert!(last.sent.len() <= MAX_RECORDS && last.received.len() <= MAX_RECORDS);
    assert!(40 + 16 + 40 * (last.sent.len() + last.received.len()) <= 1280);
}

#[test]
fn falling_back_to_exploring_forgets_what_was_received() {
    let mut reap = Reap::new(Config::default(), pairs(1, 1), pair(0, 0));
    let probe = probe_from_peer(ProbeState::Exploring, pair(0, 0), 5, Vec::new());
    reap.handle_probe(at(1.0), pair(0, 0), &probe, &mut rng(1));
    assert_eq!(only_probe(&mut reap).1.received.len(), 1);
    let probe = loop {
        reap.handle_timeout(reap.poll_timeout().unwrap(), &mut rng(1));
        let probe = only_probe(&mut reap).1;
        if probe.state == ProbeState::Exploring {
            break probe;
        }
    };
    assert_eq!(probe.received, []);
}

#[test]
fn outputs_that_nobody_fetches_are_bounded() {
    let mut reap = Reap::new(Config::default(), pairs(1, 1), pair(0, 0));
    for nonce in 0..1000 {
        let state = if nonce % 2 == 0 {
            ProbeState::Exploring
        } else {
            ProbeState::InboundOk
        };
        let probe = probe_from_peer(state, pair(0, 0), nonce, Vec::new());
        reap.handle_probe(at(1.0), pair(0, 0), &probe, &mut rng(1));
    }
    assert_eq!((transmits(&mut reap).len(), events(&mut reap).len()), (16, 16));
}
