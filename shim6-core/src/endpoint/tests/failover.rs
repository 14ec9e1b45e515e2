//! Paths that fail and come back, and what becomes of the traffic (RFC 5534).

use alloc::vec::Vec;
use core::time::Duration;

use super::world::{A, B, Sent, World, fast, ms, rfc, secs};
use crate::wire::MessageType;
use crate::{Cause, EndpointConfig, Event, LocatorPair, ReapState};

/// An established context with requests and replies running over it.
fn busy(config: &EndpointConfig) -> World {
    let mut world = World::established(config);
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(3));
    world.log.clear();
    world
}

fn is_operational(world: &World) -> bool {
    [A, B]
        .iter()
        .all(|&host| world.hosts[host].context().reap == ReapState::Operational)
}

fn locators(world: &World, host: usize) -> LocatorPair {
    world.hosts[host].context().locators
}

/// Both hosts have found a pair, and payload comes through in both directions from now on.
fn assert_traffic_flows(world: &mut World) {
    world.run(ms(100));
    let since = world.now;
    world.run(secs(2));
    for host in [A, B] {
        let received = world.received_since(host, since);
        // One at either end of the 2 s.
        assert!((100..=101).contains(&received), "{received} packets at host {host}");
    }
    assert!(is_operational(world));
}

/// How long no payload arrived at a host, at most, since a moment.
fn stall(world: &World, host: usize, since: crate::Instant) -> Duration {
    let mut last = since;
    let mut longest = Duration::ZERO;
    let arrivals = world.hosts[host]
        .received
        .iter()
        .map(|&(at, _)| at)
        .filter(|at| *at >= since);
    for at in arrivals.chain([world.now]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

#[test]
fn silent_blackhole_moves_both_ends_to_a_working_pair() {
    for config in [rfc(), fast()] {
        let reap = config.reap;
        let mut world = busy(&config);
        let ulids = world.pair(A, B);
        let cut = world.now;
        world.cut_both_ways(ulids);
        let moved = |world: &World| {
            is_operational(world) && locators(world, A) != ulids && locators(world, B) != ulids.seen_by_peer()
        };
        let limit = reap.send_timeout + 3 * reap.initial_probe_timeout;
        let took = world.run_until(limit, moved).expect("both ends move in time");
        assert!(took >= reap.send_timeout - ms(50), "nobody explores early: {took:?}");
        assert_traffic_flows(&mut world);
        assert!(stall(&world, A, cut) <= limit && stall(&world, B, cut) <= limit);
        assert!(!world.is_cut(locators(&world, A)) && !world.is_cut(locators(&world, B)));

        let context = world.hosts[A].context();
        assert_eq!((context.ulids, context.failovers), (ulids, 1));
        let failover = context.last_failover.expect("the path changed");
        assert_eq!((failover.from, failover.to), (ulids, context.locators));
        let (id, to) = (context.id, context.locators);
        let changes: Vec<_> = world.hosts[A]
            .events
            .iter()
            .filter_map(|(at, event)| matches!(event, Event::PathChanged { .. }).then_some((*at, event)))
            .collect();
        let cause = failover.cause;
        assert_eq!(
            changes,
            [(
                failover.at,
                &Event::PathChanged {
                    context: id,
                    from: ulids,
                    to,
                    cause,
                    took: failover.took,
                }
            )]
        );
        // The last packet may have been sent up to 20 ms before the cut or after it.
        let took = failover.took.expect("there was a failure");
        let bounds = (failover.at - cut).saturating_sub(ms(50))..=failover.at - cut + ms(50);
        assert!(bounds.contains(&took), "{took:?} is not in {bounds:?}");
    }
}

#[test]
fn payload_stays_on_the_old_pair_until_another_is_confirmed() {
    let mut world = busy(&fast());
    let ulids = world.pair(A, B);
    for (local, peer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        world.cut_both_ways(world.pair_of(A, local, B, peer));
    }
    world.run(secs(20));
    assert_eq!(world.hosts[A].context().reap, ReapState::Exploring);
    let payload: Vec<_> = world
        .log
        .iter()
        .filter(|sent| sent.kind.is_none() && sent.source == ulids.local)
        .collect();
    assert!(payload.len() > 900);
    assert!(payload.iter().all(|sent| sent.destination == ulids.peer));
    let flow = world.hosts[A].dataplane.flow(ulids).expect("there is a flow");
    assert_eq!((flow.locators, flow.holding), (ulids, true));
}

#[test]
fn failure_of_one_direction_moves_that_direction() {
    for (sender, receiver) in [(A, B), (B, A)] {
        let mut world = busy(&fast());
        let broken = world.pair(sender, receiver);
        world.cut(broken.local, broken.peer);
        let limit = ms(500) + ms(600);
        let moved = |world: &World| is_operational(world) && locators(world, sender) != broken;
        assert!(world.run_until(limit, moved).is_some(), "{sender} to {receiver}");
        assert_traffic_flows(&mut world);
        world.log.clear();
        world.run(secs(10));
        assert!(world.control().is_empty(), "both ends are content");
    }
}

#[test]
fn failure_under_a_one_directional_flow_is_noticed_in_either_direction() {
    for (config, warm_up) in [(rfc(), secs(100)), (fast(), secs(10))] {
        let reap = config.reap;
        for (sender, receiver) in [(A, B), (B, A)] {
            let mut world = World::established(&config);
            let ulids = world.pair(A, B);
            world.stream(A, ulids, ms(20), false);
            world.run(warm_up);
            assert!(world.sent(MessageType::PROBE).is_empty());
            let broken = world.pair(sender, receiver);
            world.cut(broken.local, broken.peer);
            let moved = |world: &World| is_operational(world) && locators(world, sender) != broken;
            // Only keepalives answer: the Send Timer may have just been stopped by one.
            let limit = reap.send_timeout + reap.keepalive_timeout / 3 + 6 * reap.initial_probe_timeout;
            assert!(world.run_until(limit, moved).is_some(), "{sender} to {receiver}");
            let since = world.now + ms(100);
            world.run(secs(30));
            assert!(world.received_since(B, since) >= 29 * 50);
            assert!(is_operational(&world));
        }
    }
}

#[test]
fn local_hint_moves_at_once() {
    let mut world = busy(&rfc());
    let ulids = world.pair(A, B);
    world.cut_both_ways(ulids);
    world.cut_both_ways(world.pair_of(A, 0, B, 1));
    let hint = world.now;
    world.set_locator(A, 0, false);
    let moved = |world: &World| {
        is_operational(world)
            && locators(world, A).local == world.locator(A, 1)
            && locators(world, B).peer != ulids.local
    };
    assert!(world.run_until(ms(600), moved).is_some());
    assert_traffic_flows(&mut world);
    assert!(stall(&world, B, hint) < ms(700));
    assert!(world.hosts[A].events.iter().any(|(at, event)| {
        *at == hint
            && matches!(
                event,
                Event::Reachability {
                    to: ReapState::Exploring,
                    cause: Cause::LocalHint,
                    ..
                }
            )
    }));
    let probes = world.sent(MessageType::PROBE);
    assert!(
        probes.iter().all(|sent| sent.source != ulids.local),
        "nothing is tried from a lost address"
    );
}

#[test]
fn hint_about_an_address_that_is_not_in_use_moves_nothing() {
    let mut world = busy(&fast());
    world.set_locator(A, 1, false);
    world.run(secs(5));
    world.set_locator(A, 1, true);
    world.run(secs(5));
    assert!(world.control().is_empty());
    assert!(world.hosts[A].events.is_empty() && world.hosts[B].events.is_empty());
}

#[test]
fn address_that_was_lost_before_is_not_explored_in_a_later_context() {
    let mut world = World::new(&fast());
    world.set_locator(A, 1, false);
    world.establish(A, B);
    world.run(secs(1));
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(1));
    world.cut_both_ways(world.pair(A, B));
    world.run(secs(20));
    let lost = world.locator(A, 1);
    assert!(world.log.iter().all(|sent| sent.source != lost));
    assert_eq!(locators(&world, A).local, world.locator(A, 0));
    assert_traffic_flows(&mut world);
}

#[test]
fn address_that_went_away_during_the_exchange_is_left_at_once() {
    let mut world = World::new(&EndpointConfig::default());
    world.establish(A, B);
    // The R2 is on its way.
    world.run(ms(35));
    world.set_locator(A, 0, false);
    assert_eq!(world.sent(MessageType::R2).len(), 1);
    let moved = |world: &World| is_operational(world) && locators(world, A).local == world.locator(A, 1);
    assert_eq!(world.run_until(ms(4), moved), None);
    world
        .run_until(ms(2), |world| world.hosts[A].context().activity.is_some())
        .expect("the R2 arrives");
    world
        .run_until(ms(200), moved)
        .expect("no failure has to be waited for");
}

#[test]
fn payload_that_arrives_ends_the_search_for_it_at_once() {
    let mut world = World::established(&fast());
    let ulids = world.pair(A, B);
    for (local, peer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        world.cut_both_ways(world.pair_of(A, local, B, peer));
    }
    world.send_payload(A, ulids);
    world.run(secs(300));
    assert_eq!(world.hosts[A].context().reap, ReapState::Exploring);
    // Probes are a minute apart by now.
    world.heal(ulids);
    world.send_payload(B, ulids.seen_by_peer());
    let hears = |world: &World| world.hosts[A].context().reap != ReapState::Exploring;
    assert_eq!(world.run_until(ms(100), hears), Some(ms(10)));
    assert!(world.run_until(ms(1_000), is_operational).is_some());
}

#[test]
fn all_addresses_lost_and_one_back_recovers() {
    let mut world = busy(&fast());
    for (local, peer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        world.cut_both_ways(world.pair_of(A, local, B, peer));
    }
    world.set_locator(A, 0, false);
    world.set_locator(A, 1, false);
    world.run(secs(120));
    let before = world
        .sent(MessageType::PROBE)
        .iter()
        .filter(|sent| sent.destination == world.locator(B, 0))
        .count();
    assert!(before < 20, "{before} probes in two minutes");
    world.heal(world.pair_of(A, 1, B, 0));
    world.set_locator(A, 1, true);
    let pair = world.pair_of(A, 1, B, 0);
    let moved = |world: &World| is_operational(world) && locators(world, A) == pair;
    assert!(world.run_until(secs(2), moved).is_some());
    assert_traffic_flows(&mut world);
}

#[test]
fn healed_path_is_found_after_all_were_dead() {
    for (local, peer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = busy(&fast());
        let pairs = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(local, peer)| world.pair_of(A, local, B, peer));
        pairs.iter().for_each(|&pair| world.cut_both_ways(pair));
        world.run(secs(30));
        assert!(
            [A, B]
                .iter()
                .any(|&host| world.hosts[host].context().reap == ReapState::Exploring)
        );
        let healed = world.pair_of(A, local, B, peer);
        world.heal(healed);
        // Probes have backed off to at most 60 s by then, and a pass has four pairs.
        let found = |world: &World| is_operational(world) && locators(world, A) == healed;
        let took = world.run_until(secs(240), found);
        assert!(took.is_some(), "{healed} was not found");
        assert_eq!(locators(&world, B), healed.seen_by_peer());
        assert_traffic_flows(&mut world);
    }
}

#[test]
fn way_back_to_the_ulids_takes_the_flow_out_of_the_data_plane() {
    let mut world = busy(&fast());
    let ulids = world.pair(A, B);
    world.cut_both_ways(ulids);
    let away = |world: &World| is_operational(world) && locators(world, A) != ulids;
    assert!(world.run_until(secs(2), away).is_some());
    assert!(
        world.hosts[A]
            .dataplane
            .flow(ulids)
            .is_some_and(|flow| flow.is_steered())
    );
    world.run(secs(1));
    world.heal(ulids);
    for (local, peer) in [(0, 1), (1, 0), (1, 1)] {
        world.cut_both_ways(world.pair_of(A, local, B, peer));
    }
    let back = |world: &World| {
        is_operational(world) && locators(world, A) == ulids && locators(world, B) == ulids.seen_by_peer()
    };
    assert!(world.run_until(secs(5), back).is_some());
    world.run(ms(100));
    world.log.clear();
    assert_traffic_flows(&mut world);
    for (host, ulids) in [(A, ulids), (B, ulids.seen_by_peer())] {
        assert!(
            world.hosts[host]
                .dataplane
                .flow(ulids)
                .is_some_and(|flow| !flow.is_steered())
        );
        assert_eq!(world.hosts[host].dataplane.len(), 1);
    }
    // Ordinary packets: UDP right behind the IPv6 header, as the application sent them.
    assert!(
        world
            .log
            .iter()
            .filter(|sent| sent.kind.is_none())
            .all(|sent| sent.packet[6] == 17)
    );
}

#[test]
fn idle_context_on_another_pair_sends_nothing() {
    let mut world = busy(&fast());
    world.cut_both_ways(world.pair(A, B));
    world.run(secs(5));
    assert!(is_operational(&world));
    world.stop_streams();
    world.run(secs(10));
    world.log.clear();
    world.run(secs(3_600));
    assert_eq!(world.log, Vec::<Sent>::new());
    // And it still works, both ways.
    let since = world.now;
    world.send_payload(B, world.pair(B, A));
    world.send_payload(A, world.pair(A, B));
    world.run(ms(100));
    assert_eq!((world.received_since(A, since), world.received_since(B, since)), (1, 1));
}

#[test]
fn idle_context_does_not_notice_a_failure_until_it_has_something_to_send() {
    let mut world = World::established(&fast());
    let ulids = world.pair(A, B);
    world.cut_both_ways(ulids);
    world.run(secs(600));
    assert_eq!(world.log, []);
    world.send_payload(A, ulids);
    let moved = |world: &World| is_operational(world) && locators(world, A) != ulids;
    assert!(world.run_until(ms(500) + ms(300), moved).is_some());
}

#[test]
fn paths_may_fail_again_and_again() {
    let mut world = busy(&fast());
    for round in 0..12 {
        let pair = locators(&world, A);
        world.cut_both_ways(pair);
        let moved = |world: &World| {
            is_operational(world) && locators(world, A) != pair && locators(world, B) != pair.seen_by_peer()
        };
        assert!(world.run_until(secs(2), moved).is_some(), "round {round}");
        world.heal(pair);
        assert_traffic_flows(&mut world);
    }
    assert_eq!(world.hosts[A].context().failovers, 12);
}

#[test]
fn several_contexts_fail_over_each_for_itself() {
    let mut world = World::with(&[fast(), fast(), fast()], 1);
    world.establish(A, B);
    world.establish(A, 2);
    world.run(secs(1));
    world.stream(A, world.pair(A, B), ms(20), true);
    world.stream(A, world.pair(A, 2), ms(20), true);
    world.run(secs(2));
    world.cut_both_ways(world.pair(A, B));
    world.run(secs(3));
    let context = |world: &World, peer: usize| {
        let ulids = world.pair(A, peer);
        world.hosts[A]
            .endpoint
            .contexts()
            .find(|context| context.ulids == ulids)
            .expect("the context is there")
    };
    assert_ne!(context(&world, B).locators, world.pair(A, B));
    assert_eq!(context(&world, 2).locators, world.pair(A, 2));
    assert_eq!(context(&world, 2).failovers, 0);
    let since = world.now;
    world.run(secs(1));
    assert!(world.received_since(B, since) >= 49 && world.received_since(2, since) >= 49);
}

#[test]
fn same_seed_and_inputs_give_the_same_octets() {
    let scenario = |seed| {
        let mut world = World::with(&[fast(), fast(), fast()], seed);
        world.lose(MessageType::R1, 1);
        world.establish(A, B);
        world.establish(2, A);
        world.establish(B, A);
        world.run(secs(10));
        world.stream(A, world.pair(A, B), ms(20), true);
        world.stream(2, world.pair(2, A), ms(30), false);
        world.run(secs(2));
        world.cut_both_ways(world.pair(A, B));
        world.cut(world.locator(2, 0), world.locator(A, 0));
        world.lose(MessageType::PROBE, 3);
        world.run(secs(3));
        world.set_locator(A, 0, false);
        world.run(secs(10));
        assert!(world.hosts[A].endpoint.contexts().all(|context| context.failovers > 0));
        world.log
    };
    let first = scenario(5);
    assert_eq!(first, scenario(5));
    assert_ne!(first, scenario(6));
}
