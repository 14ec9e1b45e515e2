//! Hints that may be wrong, and advice: what is tried in which order, and what a pair that works has to fear.

use std::time::Duration;
use std::vec::Vec;

use super::world::World;
use super::{at, events, only_probe, pair, pairs, probe_from_peer, rng, secs, transmits};
use crate::{Advice, Cause, Config, Event, Instant, LocatorPair, ProbeState, Reap, State};

const HINTS: [Cause; 3] = [Cause::IcmpError, Cause::TransportHint, Cause::Requested];

fn advice(works: &[LocatorPair], fails: &[LocatorPair]) -> Advice {
    Advice {
        works: works.to_vec(),
        fails: fails.to_vec(),
    }
}

fn reap() -> Reap {
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    reap.note_rtt(secs(0.02));
    reap
}

/// The pairs of the probe that was just sent and of the next `count`.
fn order(reap: &mut Reap, count: usize) -> Vec<LocatorPair> {
    let rng = &mut rng(1);
    let mut order = Vec::from([only_probe(reap).0]);
    for _ in 0..count {
        reap.handle_timeout(reap.poll_timeout().unwrap(), rng);
        order.push(only_probe(reap).0);
    }
    order
}

#[test]
fn a_hint_tries_the_current_pair_first_and_a_lost_link_last() {
    let rng = &mut rng(1);
    for cause in HINTS {
        let mut reap = reap();
        assert!(reap.switch_to(at(0.5), pair(1, 0), Cause::Preferred));
        reap.explore(at(1.0), cause, rng);
        let first = [pair(1, 0), pair(0, 0), pair(0, 1), pair(1, 1)];
        assert_eq!(order(&mut reap, 7), [first, first].concat(), "{cause}");
    }
    let mut reap = reap();
    assert!(reap.switch_to(at(0.5), pair(1, 0), Cause::Preferred));
    reap.explore(at(1.0), Cause::LocalHint, rng);
    assert_eq!(order(&mut reap, 3), [pair(0, 0), pair(0, 1), pair(1, 1), pair(1, 0)]);
}

/// Hints while payload flows; the first answer comes after `probes` probes at most.
fn hint_on_a_working_pair(config: Config, rtt: f64, others: f64, is_known: bool) {
    for cause in HINTS {
        for seed in 0..20 {
            let mut world = World::new(config, [2, 2], seed);
            world.delay = secs(others / 2.0);
            for host in 0..2 {
                world.delay(host, 0, 0, secs(rtt / 2.0));
            }
            if is_known {
                world.know_rtt(secs(rtt));
            }
            let period = 0.02 + rtt / 3.0;
            world.flow(0, period, 0.0);
            world.flow(1, period, period / 2.0);
            world.run_for(10.0 * period);
            let hinted = (seed % 2) as usize;
            world.with_reap(hinted, |reap, now, rng| reap.explore(now, cause, rng));
            assert_eq!(world.reap(hinted).state(), State::Exploring);
            let end = world.now + secs(10.0 * rtt) + config.send_timeout * 3;
            world.run_until(end, |_| false);
            let is_change = |event: &&(Instant, usize, Event)| matches!(event.2, Event::PairChanged { .. });
            let changed = world.events.iter().find(is_change);
            assert_eq!(changed, None, "{rtt} s, others {others} s, {cause}, seed {seed}");
            assert!(world.is_well());
            let count = world.events.len();
            world.run_for(20.0);
            assert_eq!(world.events.len(), count, "it is over");
        }
    }
}

#[test]
fn a_hint_does_no_harm_to_a_pair_that_works() {
    for rtt in [0.002, 0.02, 0.08, 0.3, 0.9, 2.0] {
        hint_on_a_working_pair(Config::fast(), rtt, rtt, true);
        hint_on_a_working_pair(Config::rfc(), rtt, rtt, true);
    }
}

#[test]
fn a_hint_does_no_harm_where_probes_are_closer_than_the_round_trip() {
    // The spacing is 500 ms at most, and 50 ms where nothing is known.
    hint_on_a_working_pair(Config::fast(), 2.0, 2.0, true);
    hint_on_a_working_pair(Config::rfc(), 2.0, 1.6, true);
    let patient = Config {
        send_timeout: secs(3.0),
        keepalive_timeout: secs(3.0),
        ..Config::fast()
    };
    for rtt in [0.3, 0.9, 2.0] {
        hint_on_a_working_pair(patient, rtt, rtt, false);
    }
}

#[test]
fn a_hint_does_no_harm_although_other_pairs_are_far_quicker() {
    for rtt in [0.02, 0.08, 0.3, 0.9] {
        hint_on_a_working_pair(Config::fast(), rtt, rtt / 20.0, true);
    }
}

/// A hint on a pair that has failed costs one spacing more than knowing it, and far less than a Send Timeout.
#[test]
fn a_hint_on_a_dead_pair_hastens_leaving_it() {
    let recover = |cause: Option<Cause>| -> Duration {
        let mut world = World::new(Config::fast(), [2, 2], 1);
        world.know_rtt(secs(0.02));
        world.flow(0, 0.005, 0.0);
        world.flow(1, 0.005, 0.002);
        world.run_for(1.0);
        let start = world.now;
        world.cut(0, 0, 0);
        world.cut(1, 0, 0);
        if let Some(cause) = cause {
            world.run_for(0.015);
            world.with_reap(0, |reap, now, rng| reap.explore(now, cause, rng));
        }
        assert!(world.run_until(start + secs(2.0), World::is_well));
        world.now - start
    };
    let known = recover(Some(Cause::LocalHint));
    let hinted = recover(Some(Cause::IcmpError));
    let silent = recover(None);
    assert!(
        known < hinted && hinted <= known + secs(0.0575),
        "{known:?}, {hinted:?}"
    );
    assert!(hinted + secs(0.05) < silent, "{hinted:?}, {silent:?}");
}

#[test]
fn advice_decides_the_order_within_a_pass() {
    let rng = &mut rng(1);
    let mut reap = reap();
    reap.advise(at(1.0), advice(&[pair(1, 1)], &[pair(0, 1)]));
    reap.explore(at(1.0), Cause::LocalHint, rng);
    let pass = [pair(1, 1), pair(1, 0), pair(0, 1), pair(0, 0)];
    assert_eq!(order(&mut reap, 7), [pass, pass].concat());
}

#[test]
fn advice_puts_a_hinted_pair_that_fails_after_the_others() {
    let rng = &mut rng(1);
    let mut reap = reap();
    reap.advise(at(1.0), advice(&[pair(1, 0)], &[pair(0, 0)]));
    reap.explore(at(1.0), Cause::IcmpError, rng);
    assert_eq!(order(&mut reap, 3), [pair(1, 0), pair(0, 1), pair(1, 1), pair(0, 0)]);
}

#[test]
fn earlier_advice_that_the_lost_pair_works_does_not_put_it_first() {
    let rng = &mut rng(1);
    let mut reap = reap();
    reap.advise(at(1.0), advice(&[pair(0, 0)], &[]));
    reap.explore(at(1.0), Cause::LocalHint, rng);
    assert_eq!(order(&mut reap, 3)[3], pair(0, 0));
}

#[test]
fn advice_grows_old_and_is_replaced_and_ends_with_its_exploration() {
    let rng = &mut rng(1);
    let last = advice(&[pair(1, 1)], &[]);
    let first_tried = |reap: &mut Reap, now: f64| {
        reap.explore(at(now), Cause::LocalHint, &mut rng.clone());
        only_probe(reap).0
    };
    // The longest time between probes is 5 s.
    for (age, first) in [(5.0, pair(1, 1)), (5.001, pair(0, 1))] {
        let mut reap = reap();
        reap.advise(at(1.0), last.clone());
        assert_eq!(first_tried(&mut reap, 1.0 + age), first, "{age}");
    }
    for other in [advice(&[], &[]), advice(&[], &[pair(1, 0)])] {
        let mut reap = reap();
        reap.advise(at(1.0), last.clone());
        reap.advise(at(1.0), other);
        assert_eq!(first_tried(&mut reap, 1.1), pair(0, 1));
    }
    let mut reap = reap();
    reap.advise(at(1.0), last);
    assert_eq!(first_tried(&mut reap, 1.1), pair(1, 1));
    let probe = probe_from_peer(ProbeState::Operational, pair(0, 0), 1, Vec::new());
    reap.handle_probe(at(1.2), pair(0, 0), &probe, &mut rng.clone());
    assert_eq!(reap.state(), State::Operational);
    assert_eq!(first_tried(&mut reap, 1.3), pair(0, 1));
}

#[test]
fn news_of_a_pair_that_works_makes_the_next_probe_due_once() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::rfc(), pairs(2, 2), pair(0, 0));
    reap.explore(at(1.0), Cause::LocalHint, rng);
    assert_eq!(only_probe(&mut reap).0, pair(0, 1));
    let due = reap.poll_timeout();
    assert!(due > Some(at(1.4)));
    for useless in [
        advice(&[], &[pair(1, 1)]),
        advice(&[pair(0, 1)], &[]),
        advice(&[pair(2, 2)], &[]),
    ] {
        reap.advise(at(1.1), useless);
        assert_eq!(reap.poll_timeout(), due);
    }
    reap.advise(at(1.2), advice(&[pair(1, 1)], &[]));
    assert_eq!((reap.poll_timeout(), transmits(&mut reap)), (Some(at(1.2)), Vec::new()));
    reap.handle_timeout(at(1.2), rng);
    assert_eq!(only_probe(&mut reap).0, pair(1, 1));
    reap.advise(at(1.3), advice(&[pair(1, 1)], &[]));
    assert!(reap.poll_timeout() > Some(at(1.6)), "it was tried");
}

#[test]
fn news_that_the_lost_pair_works_again_counts() {
    let rng = &mut rng(1);
    let mut reap = reap();
    reap.explore(at(1.0), Cause::LocalHint, rng);
    only_probe(&mut reap);
    reap.advise(at(1.01), advice(&[pair(0, 0)], &[]));
    assert_eq!(reap.poll_timeout(), Some(at(1.01)));
    reap.handle_timeout(at(1.01), rng);
    assert_eq!(only_probe(&mut reap).0, pair(0, 0));
}

#[test]
fn advice_alone_sends_and_changes_nothing() {
    let mut reap = reap();
    reap.advise(at(1.0), advice(&[pair(1, 1)], &[pair(0, 0)]));
    assert_eq!((reap.poll_timeout(), reap.current_pair()), (None, pair(0, 0)));
    assert_eq!((transmits(&mut reap).len(), events(&mut reap).len()), (0, 0));
}
