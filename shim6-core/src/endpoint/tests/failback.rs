//! The way back to a preferred pair, and what upper layers say of a path.

use alloc::vec::Vec;

use super::world::{A, B, World, ms, secs};
use crate::wire::{MessageType, Preference, PreferenceFlags};
use crate::{Cause, EndpointConfig, Event, FailbackConfig, Hint, Instant, LAST_RESORT, LocatorPair, ReapState};

/// A context with requests and replies, both ends of which a failure has moved away from the ULIDs.
fn away(config: &EndpointConfig) -> World {
    let mut world = World::established(config);
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(20), true);
    world.run(secs(3));
    world.cut_both_ways(ulids);
    let moved = world.run_until(secs(5), |world| {
        [A, B].iter().all(|&host| {
            let context = world.hosts[host].context();
            context.reap == ReapState::Operational && context.locators != context.ulids
        })
    });
    assert!(moved.is_some(), "both ends move");
    world
}

fn locators(world: &World, host: usize) -> LocatorPair {
    world.hosts[host].context().locators
}

fn is_home(world: &World) -> bool {
    [A, B]
        .iter()
        .all(|&host| locators(world, host) == world.hosts[host].context().ulids)
}

/// When and why a host changed its pair, since a moment.
fn changes(world: &World, host: usize, since: Instant) -> Vec<(Instant, Cause)> {
    let events = world.hosts[host].events.iter();
    let since = events.filter(|(at, _)| *at >= since);
    since
        .filter_map(|(at, event)| match event {
            Event::PathChanged { cause, .. } => Some((*at, *cause)),
            _ => None,
        })
        .collect()
}

#[test]
fn both_ends_go_back_when_the_ulids_have_worked_for_as_long_as_is_asked_for() {
    let config = EndpointConfig::default();
    let FailbackConfig { interval, stable, .. } = config.failback;
    let mut world = away(&config);
    world.run(secs(30));
    assert!(!is_home(&world), "nobody goes back to a dead pair");
    let healed = world.now;
    world.heal(world.pair(A, B));
    let took = world.run_until(secs(60), is_home).expect("both ends go back");
    // An answer, then the time that it takes, then the next look.
    assert!((stable..=stable + interval * 3).contains(&took), "{took:?}");
    for host in [A, B] {
        let changes = changes(&world, host, healed);
        assert!(matches!(changes[..], [(_, Cause::Preferred)]), "{changes:?}");
        let context = world.hosts[host].context();
        let flow = world.hosts[host].dataplane.flow(context.ulids).cloned();
        assert!(flow.is_some_and(|flow| !flow.is_steered()));
        assert_eq!(context.preferred, context.ulids);
    }
    world.log.clear();
    world.run(secs(60));
    assert_eq!(world.control().len(), 0, "at home nothing is probed");
}

#[test]
fn a_pair_that_works_in_one_direction_is_taken_back_by_the_end_that_sends_on_it() {
    let mut world = away(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    world.heal(ulids);
    world.cut(ulids.peer, ulids.local);
    let since = world.now;
    world.run(secs(30));
    assert_eq!(locators(&world, A), ulids);
    assert_ne!(locators(&world, B), ulids.seen_by_peer());
    assert_eq!(changes(&world, B, since).len(), 0);
}

#[test]
fn contexts_that_are_not_used_are_not_probed() {
    let mut world = away(&EndpointConfig::default());
    world.stop_streams();
    world.run(secs(100));
    world.log.clear();
    world.run(secs(600));
    assert_eq!(world.control().len(), 0);
    // It goes on when there is traffic again.
    world.heal(world.pair(A, B));
    world.stream(A, world.pair(A, B), ms(20), true);
    assert!(world.run_until(secs(60), is_home).is_some());
}

#[test]
fn a_flow_with_a_packet_now_and_then_goes_back_as_well() {
    let mut world = away(&EndpointConfig::default());
    world.stop_streams();
    world.heal(world.pair(A, B));
    world.stream(A, world.pair(A, B), secs(60), true);
    assert!(world.run_until(secs(120), is_home).is_some());
}

#[test]
fn quiet_probes_are_no_more_than_one_in_an_interval() {
    let config = EndpointConfig::default();
    let mut world = away(&config);
    world.run(secs(2));
    world.log.clear();
    world.run(secs(60));
    for host in [A, B] {
        let own = locators(&world, host).local;
        let others = world.locator(host, 0);
        let probes = world.sent(MessageType::PROBE).into_iter();
        let tried = probes
            .filter(|sent| sent.source == others && sent.source != own)
            .count();
        assert!((45..=56).contains(&tried), "{tried}");
    }
    assert!(world.sent(MessageType::KEEPALIVE).is_empty());
}

#[test]
fn a_path_that_fails_again_and_again_is_taken_back_ever_later() {
    let config = EndpointConfig::default();
    let mut world = away(&config);
    let ulids = world.pair(A, B);
    let mut times = Vec::new();
    for _ in 0..4 {
        world.heal(ulids);
        times.push(world.run_until(secs(300), is_home).expect("both ends go back"));
        world.run(secs(5));
        world.cut_both_ways(ulids);
        world.run(secs(5));
        assert!(!is_home(&world));
    }
    for (index, time) in (0..).zip(times) {
        let expected = config.failback.stable * (1 << index);
        assert!((expected..expected + secs(6)).contains(&time), "{index}: {time:?}");
    }
}

#[test]
fn nobody_goes_back_who_is_told_not_to() {
    let mut config = EndpointConfig::default();
    config.failback.enabled = false;
    let mut world = away(&config);
    world.heal(world.pair(A, B));
    world.run(secs(1));
    world.log.clear();
    world.run(secs(60));
    assert!(!is_home(&world));
    assert_eq!(world.control().len(), 0);
}

#[test]
fn the_ulids_are_left_alone_while_they_work_whatever_is_preferred() {
    let mut world = World::established(&EndpointConfig::default());
    world.stream(A, world.pair(A, B), ms(20), true);
    let last = Preference {
        flags: PreferenceFlags(0),
        priority: 9,
        weight: 0,
    };
    let locator = world.locator(A, 0);
    world.set_preferences(A, &[(locator, last)]);
    world.run(secs(60));
    assert!(is_home(&world));
    // Once they have failed, what is preferred counts, and they are not it.
    world.cut_both_ways(world.pair(A, B));
    world.run(secs(5));
    world.heal(world.pair(A, B));
    world.run(secs(60));
    assert_eq!(locators(&world, A).local, world.locator(A, 1));
    assert_eq!(locators(&world, B).peer, world.locator(A, 1));
}

#[test]
fn the_last_resort_is_left_though_it_works_and_is_not_probed_after() {
    let mut world = World::established(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(20), true);
    let last = Preference {
        flags: PreferenceFlags(0),
        priority: LAST_RESORT,
        weight: 0,
    };
    world.set_preferences(A, &[(ulids.local, last)]);
    world.run(secs(5));
    assert!(is_home(&world), "not before the other pair has been stable");
    world.run(secs(25));
    let other = world.locator(A, 1);
    assert_eq!((locators(&world, A).local, locators(&world, B).peer), (other, other));
    world.log.clear();
    world.run(secs(60));
    assert_eq!(
        world.control().len(),
        0,
        "nothing is probed over the last resort while another pair works"
    );

    // It is used while nothing else works, and left again.
    for index in [0, 1] {
        world.cut_both_ways(world.pair_of(A, 1, B, index));
    }
    world.run(secs(20));
    assert_eq!(locators(&world, A).local, ulids.local);
    let received = world.received_since(B, world.now - secs(1));
    assert!(received > 40, "{received}");
    for index in [0, 1] {
        world.heal(world.pair_of(A, 1, B, index));
    }
    world.run(secs(60));
    assert_eq!((locators(&world, A).local, locators(&world, B).peer), (other, other));
}

#[test]
fn each_end_ends_on_the_pair_that_both_wish_for() {
    let mut world = away(&EndpointConfig::default());
    let wish = |priority| Preference {
        flags: PreferenceFlags(0),
        priority,
        weight: 0,
    };
    // A would rather use its second locator, and B its first.
    let (a0, b1) = (world.locator(A, 0), world.locator(B, 1));
    world.set_preferences(A, &[(a0, wish(1))]);
    world.set_preferences(B, &[(b1, wish(1))]);
    world.heal(world.pair(A, B));
    world.run(secs(60));
    let wished = world.pair_of(A, 1, B, 0);
    assert_eq!(
        (locators(&world, A), locators(&world, B)),
        (wished, wished.seen_by_peer())
    );
    let settled = world.now;
    world.run(secs(120));
    assert_eq!(
        (changes(&world, A, settled), changes(&world, B, settled)),
        (Vec::new(), Vec::new())
    );
}

#[test]
fn a_transport_that_stalls_has_the_pair_in_use_probed_first() {
    let mut world = World::established(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    let id = world.hosts[A].context().id;
    world.hosts[A].endpoint.handle_hint(world.now, id, Hint::Stalled);
    world.drain(A);
    world.run(secs(1));
    let probes = world.sent(MessageType::PROBE);
    assert_eq!((probes[0].source, probes[0].destination), (ulids.local, ulids.peer));
    let start = world.now - secs(1);
    assert_eq!(changes(&world, A, start), []);
    assert_eq!(world.hosts[A].context().reap, ReapState::Operational);

    world.cut_both_ways(ulids);
    world.hosts[A].endpoint.handle_hint(world.now, id, Hint::Stalled);
    world.drain(A);
    world.run(secs(1));
    assert!(matches!(changes(&world, A, start)[..], [(_, Cause::TransportHint)]));
}

#[test]
fn a_transport_that_makes_progress_keeps_the_send_timer_from_running_out() {
    let mut world = World::established(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    let id = world.hosts[A].context().id;
    world.cut(ulids.peer, ulids.local);
    for _ in 0..50 {
        world.send_payload(A, ulids);
        world.run(ms(20));
        world.hosts[A].endpoint.handle_hint(world.now, id, Hint::Progress);
        world.drain(A);
    }
    assert!(world.sent(MessageType::PROBE).is_empty());
    world.send_payload(A, ulids);
    world.run(secs(1));
    assert!(!world.sent(MessageType::PROBE).is_empty());
}

#[test]
fn both_ends_know_the_round_trip_time_from_the_exchange_alone() {
    let mut world = World::new(&EndpointConfig::default());
    world.establish(A, B);
    world.run(secs(1));
    for host in [A, B] {
        assert_eq!(world.hosts[host].context().rtt, Some(ms(20)));
    }
    let mut world = World::new(&EndpointConfig::default());
    world.establish(A, B);
    world.establish(B, A);
    world.run(secs(1));
    assert_eq!(world.sent(MessageType::I2).len(), 0, "the I1 messages have crossed");
    for host in [A, B] {
        assert_eq!(world.hosts[host].context().rtt, Some(ms(20)));
    }
}

#[test]
fn a_message_that_was_sent_again_shows_no_round_trip_time() {
    for kind in [MessageType::I2, MessageType::R2] {
        let mut world = World::new(&EndpointConfig::default());
        world.lose(kind, 1);
        world.establish(A, B);
        world.run(secs(20));
        assert_eq!(world.hosts[A].context().rtt, None, "{kind}");
        // The I2 that came second is the same to B, but for its age.
        let expected = (kind == MessageType::R2).then_some(ms(20));
        assert_eq!(world.hosts[B].context().rtt, expected, "{kind}");
    }
}

#[test]
fn send_timeout_follows_the_round_trip_time_of_the_exchange() {
    let config = EndpointConfig::default();
    for (delay, expected) in [(1, 120), (10, 120), (150, 300 + 4 * 150 + 60)] {
        let mut world = World::new(&config);
        let ulids = world.pair(A, B);
        world.set_delay(ulids.local, ulids.peer, ms(delay));
        world.set_delay(ulids.peer, ulids.local, ms(delay));
        world.establish(A, B);
        world.run(secs(2));
        for host in [A, B] {
            assert_eq!(world.hosts[host].context().send_timeout, ms(expected));
        }
    }
}

/// Contexts that fail together have their turns at the same moments.
#[test]
fn no_context_is_kept_from_its_tests_by_those_that_ask_with_it() {
    let mut config = EndpointConfig::default();
    config.failback.rate = 1;
    for healed in 0..3 {
        let mut world = World::established(&config);
        let ulids = [(0, 0), (1, 1), (0, 1), (1, 0)].map(|(local, peer)| world.pair_of(A, local, B, peer));
        for pair in &ulids[1..] {
            world.hosts[A]
                .endpoint
                .establish(world.now, *pair)
                .expect("an exchange can start");
            world.drain(A);
        }
        world.run(secs(1));
        for pair in ulids {
            world.stream(A, pair, ms(20), true);
        }
        world.run(secs(1));
        // All but the last of them have to move, and one can go back later.
        for pair in &ulids[..3] {
            world.cut_both_ways(*pair);
        }
        world.run(secs(5));
        world.heal(ulids[healed]);
        let is_home = |world: &World| {
            let mut contexts = world.hosts[A].endpoint.contexts();
            contexts.any(|context| context.ulids == ulids[healed] && context.locators == ulids[healed])
        };
        assert!(!is_home(&world));
        assert!(world.run_until(secs(300), is_home).is_some(), "{healed}");
    }
}
