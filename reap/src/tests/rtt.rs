//! Measuring the round-trip time, and timers that follow it.

use std::time::Duration;
use std::vec::Vec;

use super::world::World;
use super::{at, only_probe, pair, pairs, probe_from_peer, rng, secs, transmits};
use crate::{Cause, Config, Instant, LocatorPair, ProbeRecord, ProbeState, Reap, State};

fn reap(config: Config) -> Reap {
    Reap::new(config, pairs(2, 2), pair(0, 0))
}

/// The smoothed time and the variance in milliseconds.
fn rtt(reap: &Reap) -> Option<(f64, f64)> {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    reap.rtt().map(|rtt| (millis(rtt.smoothed()), millis(rtt.variance())))
}

/// A machine that explores since 1 s, and what it sent 300 ms apart: on (0,1), (1,0), (1,1).
fn after_probes(config: Config, count: u32) -> (Reap, Vec<ProbeRecord>) {
    let rng = &mut rng(1);
    let mut reap = reap(config);
    reap.explore(at(1.0), Cause::LocalHint, rng);
    let mut records = Vec::from([only_probe(&mut reap).1.sent[0]]);
    for index in 1..count {
        reap.handle_timeout(at(1.0 + 0.3 * f64::from(index)), rng);
        records.push(only_probe(&mut reap).1.sent[0]);
    }
    (reap, records)
}

/// The peer reports these, the latest first, at once.
fn report(reap: &mut Reap, now: Instant, state: ProbeState, records: &[ProbeRecord]) {
    report_late(reap, now, state, records, 0);
}

/// The latest has waited for `waited` microseconds, as the peer says.
fn report_late(reap: &mut Reap, now: Instant, state: ProbeState, records: &[ProbeRecord], waited: u32) {
    let records = records.iter().rev().copied().collect();
    let mut probe = probe_from_peer(state, pair(0, 1), now.as_micros() as u32, records);
    probe.sent[0].data = waited;
    reap.handle_probe(now, pair(0, 1), &probe, &mut rng(9));
}

/// A peer that does not say how long a report has waited.
const UNTOLD: Config = Config {
    follow_rtt: false,
    ..Config::fast()
};

#[test]
fn the_handshakes_time_sets_the_send_timeout_and_moves_the_deadline_that_runs() {
    let mut reap = reap(Config::fast());
    reap.handle_payload_sent(at(1.0));
    assert_eq!((reap.rtt(), reap.poll_timeout()), (None, Some(at(1.12))));
    reap.note_rtt(secs(0.3));
    assert_eq!(reap.send_timeout(), secs(0.96), "300 + 4 * 150 + 60 ms");
    assert_eq!(reap.poll_timeout(), Some(at(1.96)));
    reap.handle_timeout(at(1.959999), &mut rng(1));
    assert_eq!(reap.state(), State::Operational);
    reap.handle_timeout(at(1.96), &mut rng(1));
    assert_eq!(reap.state(), State::Exploring);
}

#[test]
fn the_rfcs_profile_measures_and_follows_nothing() {
    let mut reap = reap(Config::rfc());
    reap.handle_payload_sent(at(1.0));
    reap.note_rtt(secs(9.0));
    assert_eq!(rtt(&reap), Some((9000.0, 4500.0)));
    assert_eq!((reap.send_timeout(), reap.poll_timeout()), (secs(15.0), Some(at(16.0))));
}

#[test]
fn keepalives_do_not_follow_the_round_trip() {
    let mut reap = reap(Config::fast());
    reap.note_rtt(secs(2.0));
    reap.handle_payload_received(at(1.0), at(1.0), &mut rng(1));
    let mut times = Vec::new();
    while let Some(now) = reap.poll_timeout() {
        reap.handle_timeout(now, &mut rng(1));
        times.extend(transmits(&mut reap).iter().map(|_| now));
    }
    assert_eq!(times, [at(1.04), at(1.08), at(1.12)]);
}

#[test]
fn probes_are_a_round_trip_apart_within_their_jitter() {
    for (millis, nominal) in [
        (20, 0.05),
        (49, 0.05),
        (51, 0.051),
        (300, 0.3),
        (499, 0.499),
        (2000, 0.5),
    ] {
        let mut reap = reap(Config::fast());
        reap.note_rtt(Duration::from_millis(millis));
        reap.explore(at(1.0), Cause::LocalHint, &mut rng(millis));
        let gap = (reap.poll_timeout().unwrap() - at(1.0)).as_secs_f64();
        assert!(
            gap >= nominal * 0.85 - 1e-6 && gap <= nominal * 1.15 + 1e-6,
            "{gap} for {nominal}"
        );
    }
}

#[test]
fn the_probe_that_finds_a_pair_measures_it() {
    let (mut reap, sent) = after_probes(Config::fast(), 2);
    report(&mut reap, at(1.42), ProbeState::InboundOk, &sent[..2]);
    assert_eq!(reap.current_pair(), pair(1, 0));
    assert_eq!(rtt(&reap), Some((120.0, 60.0)), "since 1.3 s, when it was sent");
    assert_eq!(reap.send_timeout(), secs(0.42), "120 + 4 * 60 + 60 ms");
}

#[test]
fn a_new_pair_starts_the_estimate_anew() {
    let (mut reap, sent) = after_probes(Config::fast(), 2);
    reap.note_rtt(secs(0.002));
    report(&mut reap, at(1.42), ProbeState::InboundOk, &sent[..2]);
    assert_eq!(rtt(&reap), Some((120.0, 60.0)));
}

#[test]
fn a_new_pair_without_a_sample_leaves_nothing_known() {
    let (mut reap, sent) = after_probes(Config::fast(), 2);
    reap.note_rtt(secs(0.002));
    // The latest of the reported probes cannot be used, and how long the one before has waited is not said.
    reap.set_usable(pair(1, 0).local, false);
    report(&mut reap, at(1.42), ProbeState::InboundOk, &sent[..2]);
    assert_eq!((reap.current_pair(), reap.rtt()), (pair(0, 1), None));
    assert_eq!(reap.send_timeout(), secs(0.12));
}

#[test]
fn only_the_first_report_of_the_latest_probe_is_a_sample() {
    let (mut reap, sent) = after_probes(UNTOLD, 3);
    report(&mut reap, at(1.7), ProbeState::InboundOk, &sent[2..]);
    assert_eq!(rtt(&reap), Some((100.0, 50.0)));
    report(&mut reap, at(1.9), ProbeState::InboundOk, &sent[2..]);
    assert_eq!(rtt(&reap), Some((100.0, 50.0)), "the same once more");
    report(&mut reap, at(1.9), ProbeState::InboundOk, &sent);
    assert_eq!(rtt(&reap), Some((100.0, 50.0)), "older ones");
}

#[test]
fn samples_of_other_pairs_do_not_count_for_the_current_one() {
    let (mut reap, sent) = after_probes(Config::fast(), 2);
    report(&mut reap, at(1.35), ProbeState::InboundOk, &sent[..1]);
    assert_eq!((reap.current_pair(), rtt(&reap)), (pair(0, 1), Some((350.0, 175.0))));
    report(&mut reap, at(1.7), ProbeState::InboundOk, &sent[1..]);
    assert_eq!((reap.current_pair(), rtt(&reap)), (pair(0, 1), Some((350.0, 175.0))));
}

#[test]
fn a_probe_that_nobody_has_to_answer_is_no_sample() {
    let (mut reap, sent) = after_probes(UNTOLD, 3);
    report(&mut reap, at(1.7), ProbeState::InboundOk, &sent[2..]);
    let conclusion = only_probe(&mut reap).1;
    assert_eq!(conclusion.state, ProbeState::Operational);
    report(&mut reap, at(9.0), ProbeState::InboundOk, &conclusion.sent[..1]);
    assert_eq!(rtt(&reap), Some((100.0, 50.0)));
}

#[test]
fn a_test_of_the_current_pair_adds_a_sample() {
    let mut reap = reap(Config::fast());
    reap.note_rtt(secs(0.1));
    assert!(reap.probe_quietly(at(1.0), pair(0, 0), &mut rng(1)));
    let test = only_probe(&mut reap).1;
    report(&mut reap, at(1.18), ProbeState::Operational, &test.sent);
    assert_eq!(rtt(&reap), Some((110.0, 57.5)));
}

#[test]
fn a_test_of_another_pair_counts_once_that_is_taken_into_use() {
    let mut reap = reap(Config::fast());
    reap.note_rtt(secs(0.1));
    for (start, time) in [(1.0, 0.3), (4.0, 0.2)] {
        assert!(reap.probe_quietly(at(start), pair(1, 1), &mut rng(1)));
        let test = only_probe(&mut reap).1;
        report(&mut reap, at(start + time), ProbeState::Operational, &test.sent);
    }
    assert_eq!(rtt(&reap), Some((100.0, 50.0)));
    assert!(reap.switch_to(at(5.0), pair(1, 1), Cause::Preferred));
    assert_eq!(rtt(&reap), Some((200.0, 100.0)), "the latest");
    assert!(reap.switch_to(at(6.0), pair(0, 1), Cause::Preferred));
    assert_eq!(reap.rtt(), None);
}

/// Without a sample the Send Timeout may be too short for the path, so that nothing has failed at all.
#[test]
fn a_send_timeout_that_knows_no_round_trip_tries_the_current_pair_first() {
    let order = |config: Config, known: bool| -> Vec<LocatorPair> {
        let rng = &mut rng(1);
        let mut reap = reap(config);
        if known {
            reap.note_rtt(secs(0.02));
        }
        reap.handle_payload_sent(at(1.0));
        let mut order = Vec::new();
        for _ in 0..4 {
            reap.handle_timeout(reap.poll_timeout().unwrap(), rng);
            order.push(only_probe(&mut reap).0);
        }
        order
    };
    let last = [pair(0, 1), pair(1, 0), pair(1, 1), pair(0, 0)];
    let first = [pair(0, 0), pair(0, 1), pair(1, 0), pair(1, 1)];
    assert_eq!(order(Config::fast(), false), first);
    assert_eq!(order(Config::fast(), true), last);
    assert_eq!(order(Config::rfc(), false), last);
}

#[test]
fn a_probe_from_the_future_is_survived() {
    let (mut reap, sent) = after_probes(Config::fast(), 3);
    report(&mut reap, at(0.5), ProbeState::InboundOk, &sent);
    assert_eq!(reap.state(), State::Operational);
    assert!(reap.rtt().is_some());
}

#[test]
fn the_time_that_a_report_waited_at_the_peer_does_not_count() {
    let (mut reap, sent) = after_probes(Config::fast(), 2);
    report_late(&mut reap, at(2.42), ProbeState::InboundOk, &sent, 1_000_000);
    assert_eq!(rtt(&reap), Some((120.0, 60.0)));

    // Even if nobody had to answer that probe.
    let conclusion = only_probe(&mut reap).1;
    report_late(
        &mut reap,
        at(9.0),
        ProbeState::InboundOk,
        &conclusion.sent[..1],
        6_460_000,
    );
    assert_eq!(rtt(&reap), Some((120.0, 45.0)));
}

#[test]
fn a_report_that_waited_longer_than_its_probe_is_old_is_no_sample() {
    for (waited, expected) in [(119_999, Some((0.001, 0.0))), (120_001, None)] {
        let (mut reap, sent) = after_probes(Config::fast(), 2);
        report_late(&mut reap, at(1.42), ProbeState::InboundOk, &sent, waited);
        assert_eq!((reap.current_pair(), rtt(&reap)), (pair(1, 0), expected));
    }
}

#[test]
fn a_probe_says_how_long_the_latest_one_received_has_waited() {
    let rng = &mut rng(1);
    let mut reap = reap(Config::fast());
    for (nonce, on, when) in [(1, pair(0, 0), 1.0), (2, pair(0, 1), 1.01)] {
        let probe = probe_from_peer(ProbeState::Exploring, on, nonce, Vec::new());
        reap.handle_probe(at(when), on, &probe, rng);
        assert_eq!(only_probe(&mut reap).1.sent[0].data, 0, "an answer");
    }
    let due = reap.poll_timeout().unwrap();
    reap.handle_timeout(due, rng);
    let probe = only_probe(&mut reap).1;
    assert_eq!(u64::from(probe.sent[0].data), due.as_micros() - 1_010_000);
    assert_eq!(probe.received[0].nonce, 2);
}

/// Answers get lost, and what the peer sends later reports the same probe: that tells the same round-trip time.
#[test]
fn lost_answers_do_not_lengthen_the_estimate() {
    for seed in 0..200 {
        let mut world = World::new(Config::fast(), [3, 3], seed);
        world.know_rtt(secs(0.02));
        world.flow(0, 0.02, 0.0);
        world.flow(1, 0.02, 0.01);
        world.run_for(1.0);
        for index in (0..9).filter(|&index| index != seed as usize % 9) {
            world.cut(0, index / 3, index % 3);
        }
        for index in (0..9).filter(|&index| index != seed as usize / 9 % 9) {
            world.cut(1, index / 3, index % 3);
        }
        world.loss_per_mille = 100;
        world.run_until(at(60.0), World::is_well);
        for host in 0..2 {
            let rtt = rtt(world.reap(host));
            assert!(
                rtt.is_none_or(|(smoothed, _)| (smoothed - 20.0).abs() < 0.1),
                "seed {seed}, host {host}: {rtt:?}"
            );
        }
    }
}

/// The peer's probe comes at 1 s, and what answers it leaves only at 1.4 s.
#[test]
fn a_probe_that_had_to_wait_says_so_and_its_answer_is_waited_for_from_then_on() {
    let rng = &mut rng(1);
    let mut reap = reap(Config::fast());
    let probe = probe_from_peer(ProbeState::Exploring, pair(0, 1), 7, Vec::new());
    reap.handle_probe(at(1.0), pair(0, 1), &probe, rng);
    assert_eq!(reap.state(), State::InboundOk);
    let (_, mut answer) = only_probe(&mut reap);
    assert_eq!(answer.sent[0].data, 0);
    reap.note_probe_left(at(1.4), &mut answer);
    assert_eq!(answer.sent[0].data, 400_000);
    // What the peer returns is what it got.
    reap.handle_timeout(at(1.4), rng);
    assert_eq!(reap.state(), State::InboundOk, "its Send Timeout is not over");
    report(&mut reap, at(1.42), ProbeState::Operational, &answer.sent[..1]);
    assert_eq!(reap.state(), State::Operational);
    assert_eq!(rtt(&reap), Some((20.0, 10.0)));
}
