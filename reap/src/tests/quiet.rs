//! Testing a pair while all is well, and taking it into use.

use std::vec::Vec;

use super::world::{Body, World};
use super::{at, events, only_probe, pair, pairs, probe_from_peer, rng, secs, transmits};
use crate::{Cause, Config, Event, LocatorPair, ProbeState, Reap, State};

const PROFILES: [Config; 2] = [Config::rfc(), Config::fast()];

/// Both hosts with two locators each, and the round-trip time known.
fn world(config: Config, rtt: f64) -> World {
    let mut world = World::new(config, [2, 2], 1);
    world.delay = secs(rtt / 2.0);
    world.know_rtt(secs(rtt));
    world.run_for(1.0);
    world
}

fn test(world: &mut World, pair: LocatorPair) -> bool {
    let mut is_sent = false;
    world.with_reap(0, |reap, now, rng| is_sent = reap.probe_quietly(now, pair, rng));
    is_sent
}

/// The payload of a busy context, both ways.
fn talk(world: &mut World, config: Config) {
    let period = config.send_timeout.as_secs_f64() / 15.0;
    world.flow(0, period, 0.0);
    world.flow(1, period, period / 2.0);
}

fn has_changes(world: &World) -> bool {
    let mut events = world.events.iter();
    events.any(|(_, _, event)| !matches!(event, Event::PairConfirmed { .. }))
}

fn confirmed(world: &World, host: usize) -> Vec<LocatorPair> {
    let events = world.events.iter().filter(|event| event.1 == host);
    let confirmed = events.filter_map(|event| match event.2 {
        Event::PairConfirmed { pair } => Some(pair),
        _ => None,
    });
    confirmed.collect()
}

/// What REAP sent: by whom, and a word for it.
fn sent(world: &World) -> Vec<(usize, &'static str)> {
    let word = |body: &Body| match body {
        Body::Payload => "payload",
        Body::Keepalive => "keepalive",
        Body::Probe(probe) => match probe.state {
            ProbeState::Operational => "operational",
            ProbeState::Exploring => "exploring",
            ProbeState::InboundOk => "inbound-ok",
        },
    };
    let packets = world.reap_packets();
    packets.map(|packet| (packet.sender, word(&packet.body))).collect()
}

#[test]
fn a_test_is_answered_and_changes_neither_end_under_traffic() {
    for config in PROFILES {
        let mut world = world(config, 0.02);
        talk(&mut world, config);
        world.run_for(10.0);
        for tested in pairs(2, 2) {
            let before = (world.events.len(), sent(&world).len());
            assert!(test(&mut world, tested));
            world.run_for(config.send_timeout.as_secs_f64() * 4.0);
            assert_eq!(sent(&world)[before.1..], [(0, "inbound-ok"), (1, "operational")]);
            assert_eq!(world.events.len() - before.0, 1);
        }
        assert_eq!(confirmed(&world, 0), pairs(2, 2));
        assert!(!has_changes(&world));
        assert_eq!(world.reap(0).current_pair(), pair(0, 0));
        assert_eq!(world.reap(1).current_pair(), pair(0, 0).seen_by_peer());
    }
}

#[test]
fn a_test_is_sent_alone_with_one_record_on_its_pair() {
    let mut world = world(Config::fast(), 0.02);
    for start in 1..4 {
        assert!(test(&mut world, pair(1, 1)));
        world.run_until(at(1.0 + f64::from(start) * 10.0), |_| false);
    }
    let tests = world.reap_packets().filter_map(|packet| match &packet.body {
        Body::Probe(probe) if packet.sender == 0 => Some((packet, probe)),
        _ => None,
    });
    for (packet, probe) in tests {
        assert_eq!(LocatorPair::new(packet.source, packet.destination), pair(1, 1));
        assert_eq!(
            (probe.state, probe.sent.len(), probe.received.len()),
            (ProbeState::InboundOk, 1, 0)
        );
    }
}

/// RFC 5534 6.8 makes the peer wait for a packet, so it has to get one.
#[test]
fn a_test_between_idle_hosts_is_followed_by_keepalives_and_then_silence() {
    for (config, rtt) in [
        (Config::rfc(), 0.02),
        (Config::rfc(), 6.0),
        (Config::fast(), 0.001),
        (Config::fast(), 0.02),
        (Config::fast(), 0.14),
        (Config::fast(), 0.3),
        (Config::fast(), 2.0),
    ] {
        let mut world = world(config, rtt);
        assert!(test(&mut world, pair(1, 1)));
        world.run_for(1000.0);
        assert!(!has_changes(&world), "{rtt}: {:?}", world.events);
        assert_eq!(confirmed(&world, 0), [pair(1, 1)]);
        let [first, .., last] = sent(&world)[..] else {
            panic!("nothing sent")
        };
        assert_eq!((first, last), ((0, "inbound-ok"), (0, "keepalive")));
        assert!(world.log.len() <= 8, "{rtt}: {:?}", sent(&world));
        assert!(world.now - world.log.last().unwrap().at > secs(900.0));
    }
}

#[test]
fn a_test_is_harmless_although_the_peer_does_not_know_the_round_trip() {
    for rtt in [0.02, 0.3, 2.0] {
        let mut world = World::new(Config::fast(), [2, 2], 1);
        world.delay = secs(rtt / 2.0);
        assert!(test(&mut world, pair(1, 1)));
        world.run_for(100.0);
        assert!(!has_changes(&world), "{rtt}: {:?}", world.events);
    }
}

#[test]
fn a_test_is_harmless_although_its_answer_is_lost() {
    for config in PROFILES {
        let mut world = world(config, 0.02);
        world.cut(1, 0, 0);
        assert!(test(&mut world, pair(1, 1)));
        world.run_for(0.03);
        world.mend(1, 0, 0);
        world.run_for(1000.0);
        assert_eq!((confirmed(&world, 0), world.events.len()), (Vec::new(), 0));
    }
}

#[test]
fn a_test_on_a_dead_pair_changes_nothing() {
    for config in PROFILES {
        for is_busy in [false, true] {
            let mut world = world(config, 0.02);
            if is_busy {
                talk(&mut world, config);
            }
            world.cut(0, 1, 1);
            world.cut(1, 1, 1);
            for _ in 0..20 {
                assert!(test(&mut world, pair(1, 1)));
                world.run_for(config.send_timeout.as_secs_f64() * 4.5);
            }
            assert_eq!(world.events, []);
            assert!(sent(&world).iter().all(|&(host, _)| host == 0), "{:?}", sent(&world));
        }
    }
}

#[test]
fn both_hosts_may_test_at_the_same_time() {
    for config in PROFILES {
        let mut world = world(config, 0.02);
        assert!(test(&mut world, pair(1, 1)));
        world.with_reap(1, |reap, now, rng| {
            assert!(reap.probe_quietly(now, pair(1, 0).seen_by_peer(), rng));
        });
        world.run_for(1000.0);
        assert!(!has_changes(&world), "{:?}", world.events);
        assert_eq!(confirmed(&world, 0), [pair(1, 1)]);
        assert_eq!(confirmed(&world, 1), [pair(1, 0).seen_by_peer()]);
        assert!(world.now - world.log.last().unwrap().at > secs(900.0));
    }
}

#[test]
fn there_is_no_test_unless_operational_on_a_usable_pair() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    let now = at(1.0);
    assert!(!reap.probe_quietly(now, pair(2, 0), rng), "not one of the pairs");
    reap.set_usable(pair(1, 0).local, false);
    assert!(!reap.probe_quietly(now, pair(1, 0), rng), "locally gone");
    reap.explore(now, Cause::LocalHint, rng);
    transmits(&mut reap);
    assert!(!reap.probe_quietly(now, pair(0, 1), rng), "exploring");
    reap.handle_keepalive(now, rng);
    transmits(&mut reap);
    assert_eq!(reap.state(), State::InboundOk);
    assert!(!reap.probe_quietly(now, pair(0, 1), rng));
    assert_eq!(transmits(&mut reap), []);
}

#[test]
fn tests_leave_four_send_timeouts_between_them() {
    let rng = &mut rng(1);
    // Ours, the peer's, and ours as it has grown.
    for (peers, rtt, pause) in [(0.15, None, 0.6), (0.4, None, 1.6), (0.15, Some(0.3), 3.9)] {
        let config = Config {
            keepalive_timeout: secs(peers),
            ..Config::fast()
        };
        let mut reap = Reap::new(config, pairs(2, 2), pair(0, 0));
        rtt.into_iter().for_each(|rtt| reap.note_rtt(secs(rtt)));
        assert!(reap.probe_quietly(at(1.0), pair(1, 0), rng));
        assert!(!reap.probe_quietly(at(1.0 + pause - 0.001), pair(0, 1), rng));
        assert!(reap.probe_quietly(at(1.0 + pause), pair(0, 1), rng));
        assert_eq!(transmits(&mut reap).len(), 2);
    }
}

/// Each test restarts the peer's Send Timer (RFC 5534 6.8), and its answer stops ours (6.9).
#[test]
fn tests_without_end_do_not_hide_that_the_current_pair_has_failed() {
    for config in PROFILES {
        for dead in [&[0][..], &[1], &[0, 1]] {
            let mut world = world(config, 0.02);
            talk(&mut world, config);
            world.run_for(1.0);
            for &host in dead {
                world.cut(host, 0, 0);
            }
            let timeout = config.send_timeout;
            let end = world.now + timeout * 5;
            while !(has_changes(&world) && world.is_well()) {
                assert!(world.now < end, "{dead:?} cut, {:?}", world.events);
                test(&mut world, pair(1, 1));
                world.run_until(world.now + timeout / 50, |_| false);
            }
        }
    }
}

/// A test that gets through tells a peer that explores that we hear it (6.8), although we may not be heard ourselves.
#[test]
fn a_peer_that_explores_gets_over_a_test() {
    for config in PROFILES {
        let mut world = world(config, 0.02);
        let timeout = config.send_timeout;
        world.flow(1, timeout.as_secs_f64() / 15.0, 0.0);
        world.run_for(1.0);
        // The payload arrives, the keepalives do not; nor do probes, for a while.
        world.cut(0, 0, 0);
        for (from, to) in [(0, 1), (1, 0), (1, 1)] {
            world.cut(1, from, to);
        }
        let explores = |world: &World| world.reap(1).state() == State::Exploring;
        assert!(world.run_until(world.now + timeout * 2, explores));
        assert!(test(&mut world, pair(1, 1)));
        // It hears the test, and knows that it is not heard itself.
        let hears = |world: &World| world.reap(1).state() == State::InboundOk;
        assert!(world.run_until(world.now + timeout, hears));
        world.mend(1, 1, 1);
        let is_well = |world: &World| world.is_well() && world.reap(0).current_pair() != pair(0, 0);
        assert!(world.run_until(world.now + timeout * 4, is_well), "{:?}", world.events);
    }
}

#[test]
fn a_peer_in_inbound_ok_gets_over_a_test() {
    for config in PROFILES {
        let mut world = world(config, 0.02);
        let timeout = config.send_timeout;
        let period = timeout.as_secs_f64() / 15.0;
        world.flow(0, period, 0.0);
        world.flow(1, period, 0.0);
        world.run_for(1.0);
        // Whatever the peer sends is lost, and so is for a moment what it hears.
        for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            world.cut(1, from, to);
        }
        world.with_reap(1, |reap, now, rng| reap.explore(now, Cause::LocalHint, rng));
        let is_heard = |world: &World| world.reap(1).state() == State::InboundOk;
        assert!(world.run_until(world.now + timeout, is_heard));
        assert!(test(&mut world, pair(1, 0)));
        world.run_for(0.02);
        assert_ne!(
            world.reap(1).state(),
            State::Operational,
            "a test says nothing of what is heard"
        );
        world.mend(1, 1, 0);
        let end = world.now + timeout * 6;
        assert!(world.run_until(end, World::is_well), "{:?}", world.events);
    }
}

/// A machine that has tested (1, 1), and then explores because its own link is gone; and the probes of both.
fn exploring_after_test() -> (Reap, crate::Probe, crate::Probe) {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    assert!(reap.probe_quietly(at(1.0), pair(1, 1), rng));
    let test = only_probe(&mut reap).1;
    reap.explore(at(1.01), Cause::LocalHint, rng);
    let search = only_probe(&mut reap).1;
    events(&mut reap);
    (reap, test, search)
}

fn answer(reap: &mut Reap, state: ProbeState, received: &[&crate::Probe]) {
    let records = received.iter().map(|probe| probe.sent[0]).collect();
    let probe = probe_from_peer(state, pair(0, 0), 5, records);
    reap.handle_probe(at(1.02), pair(0, 0), &probe, &mut rng(1));
}

#[test]
fn a_tests_answer_does_not_end_an_exploration_begun_since() {
    let (mut reap, test, search) = exploring_after_test();
    assert_eq!(search.sent.len(), 1, "the test is not listed as one of its probes");
    answer(&mut reap, ProbeState::Operational, &[&test]);
    assert_eq!((reap.state(), reap.current_pair()), (State::InboundOk, pair(0, 0)));
    assert_eq!(
        only_probe(&mut reap).1.state,
        ProbeState::InboundOk,
        "the peer is heard"
    );
    assert_eq!(events(&mut reap)[0], Event::PairConfirmed { pair: pair(1, 1) });
    // The real end.
    answer(&mut reap, ProbeState::Operational, &[&search, &test]);
    assert_eq!((reap.state(), reap.current_pair()), (State::Operational, pair(0, 1)));
}

#[test]
fn a_tests_pair_is_not_taken_for_one_that_the_exploration_found() {
    let (mut reap, test, _) = exploring_after_test();
    answer(&mut reap, ProbeState::InboundOk, &[&test]);
    assert_eq!((reap.state(), reap.current_pair()), (State::Operational, pair(0, 0)));

    let (mut reap, test, search) = exploring_after_test();
    answer(&mut reap, ProbeState::InboundOk, &[&test, &search]);
    assert_eq!(reap.current_pair(), pair(0, 1));
}

#[test]
fn a_test_of_the_current_pair_does_not_keep_it_in_an_exploration_begun_since() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    assert!(reap.probe_quietly(at(1.0), pair(0, 0), rng));
    let test = only_probe(&mut reap).1;
    reap.explore(at(1.01), Cause::LocalHint, rng);
    let search = only_probe(&mut reap).1;
    answer(&mut reap, ProbeState::InboundOk, &[&test, &search]);
    assert_eq!(reap.current_pair(), pair(0, 1));
}

#[test]
fn a_test_is_confirmed_once() {
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    assert!(reap.probe_quietly(at(1.0), pair(1, 1), &mut rng(1)));
    let test = only_probe(&mut reap).1;
    let mut forged = test.clone();
    forged.sent[0].nonce ^= 1;
    answer(&mut reap, ProbeState::Operational, &[&forged]);
    assert_eq!(events(&mut reap), []);
    answer(&mut reap, ProbeState::Operational, &[&test]);
    answer(&mut reap, ProbeState::Operational, &[&test]);
    assert_eq!(events(&mut reap), [Event::PairConfirmed { pair: pair(1, 1) }]);
}

#[test]
fn of_many_tests_the_latest_are_remembered_and_nothing_else_is_forgotten_for_them() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    reap.explore(at(0.5), Cause::LocalHint, rng);
    let search = only_probe(&mut reap).1;
    answer(&mut reap, ProbeState::InboundOk, &[]);
    transmits(&mut reap);
    let mut tests = Vec::new();
    for index in 0..100 {
        assert!(reap.probe_quietly(at(2.0 + f64::from(index)), pair(1, 1), rng));
        tests.push(only_probe(&mut reap).1);
    }
    events(&mut reap);
    let mut is_known = |probe: &crate::Probe| {
        answer(&mut reap, ProbeState::Operational, &[probe]);
        !events(&mut reap).is_empty()
    };
    assert_eq!(tests.iter().filter(|test| is_known(test)).count(), 8);
    assert!(is_known(&search));
    let last = tests.pop().expect("a hundred");
    assert!(!is_known(&last), "it was confirmed before");
}

#[test]
fn a_pair_is_taken_into_use_without_an_exploration() {
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    let (from, to, cause) = (pair(0, 0), pair(1, 1), Cause::Preferred);
    assert!(reap.switch_to(at(1.0), to, cause));
    assert_eq!((reap.state(), reap.current_pair()), (State::Operational, to));
    assert_eq!(events(&mut reap), [Event::PairChanged { from, to, cause }]);
    assert_eq!(transmits(&mut reap), []);
}

#[test]
fn there_is_no_switch_unless_operational_to_another_usable_pair() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    reap.set_usable(pair(1, 0).local, false);
    for to in [pair(0, 0), pair(1, 0), pair(2, 2)] {
        assert!(!reap.switch_to(at(1.0), to, Cause::Preferred), "{to}");
    }
    reap.explore(at(1.0), Cause::LocalHint, rng);
    assert!(!reap.switch_to(at(1.0), pair(0, 1), Cause::Preferred));
    reap.handle_keepalive(at(1.0), rng);
    assert!(!reap.switch_to(at(1.0), pair(0, 1), Cause::Preferred));
    assert_eq!(reap.current_pair(), pair(0, 0));
}

#[test]
fn a_test_measures_its_pair_and_says_when_the_next_may_be() {
    let mut reap = Reap::new(Config::fast(), pairs(2, 2), pair(0, 0));
    reap.note_rtt(secs(0.005));
    assert_eq!(reap.next_test(), None);
    assert!(reap.probe_quietly(at(1.0), pair(1, 1), &mut rng(1)));
    let next = reap.next_test().expect("there was a test");
    assert_eq!(next, at(1.0) + reap.test_interval());
    let test = only_probe(&mut reap).1;
    assert_eq!(reap.pair_rtt(pair(1, 1)), None);
    answer(&mut reap, ProbeState::Operational, &[&test]);
    // 20 ms, less the few microseconds for which the answer says that it has waited.
    let measured = reap.pair_rtt(pair(1, 1)).expect("a sample").smoothed();
    assert!((secs(0.0199)..=secs(0.02)).contains(&measured), "{measured:?}");
    assert_eq!(
        reap.pair_rtt(pair(0, 0)).map(|rtt| rtt.smoothed()),
        Some(secs(0.005)),
        "that is another pair's"
    );
    assert_eq!(reap.pair_rtt(pair(0, 1)), None);
    let just_before = at(1.0) + (reap.test_interval() - core::time::Duration::from_micros(1));
    assert!(!reap.probe_quietly(just_before, pair(1, 1), &mut rng(1)));
    assert!(reap.probe_quietly(next, pair(1, 1), &mut rng(1)));
}
