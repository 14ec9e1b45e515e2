//! What applications send while a path is looked for.

use shim6_core::ReapState;
use shim6_core::dataplane::HoldConfig;
use shim6_tests::sim::{Action, Agreement, HostPlan, Kind, Link, Scenario, SentDatagram, What, World};

use super::{A, B, cut, cut_both_ways, established, fast, locator, ms, pair, run_until_well, secs};

fn nothing() -> HoldConfig {
    HoldConfig {
        octets: 0,
        ..HoldConfig::default()
    }
}

fn without_datagrams() -> HoldConfig {
    HoldConfig {
        datagrams: false,
        ..HoldConfig::default()
    }
}

fn holding(name: &str, hold: HoldConfig) -> World {
    let mut scenario = pair(name, Kind::BothWays);
    scenario.sessions[0].interval = ms(5);
    scenario.hosts.iter_mut().for_each(|host| host.hold = hold);
    established(scenario)
}

/// Of the four pairs only one works from now on, so that it takes a while to find it.
fn cut_all_but_one(world: &mut World) {
    for (own, other) in [(0, 0), (0, 1), (1, 0)] {
        cut_both_ways(world, locator(A, own), locator(B, other));
    }
}

fn explores(world: &World, reverse: bool) -> bool {
    let context = world.context(0, reverse);
    context.is_some_and(|context| context.reap != ReapState::Operational)
}

/// The datagrams that one end sent while it looked for a path, from the next exploration on until all is well.
fn sent_while_exploring(world: &mut World, reverse: bool) -> Vec<SentDatagram> {
    world
        .run_until(secs(2), |world| explores(world, reverse))
        .unwrap()
        .expect("the failure is noticed");
    let from = world.now();
    world
        .run_until(secs(10), |world| !explores(world, reverse))
        .unwrap()
        .expect("a path is found");
    let to = world.now();
    run_until_well(world, secs(5));
    let sent = world.ledger().datagrams().iter();
    let sent = sent.filter(|sent| sent.reverse == reverse && sent.at >= from && sent.at < to);
    sent.cloned().collect()
}

#[test]
fn what_is_sent_while_a_path_is_looked_for_arrives_once_it_is_found() {
    let name = "hold::what_is_sent_while_a_path_is_looked_for_arrives_once_it_is_found";
    for (hold, all_arrive) in [(HoldConfig::default(), true), (nothing(), false)] {
        for reverse in [false, true] {
            let mut world = holding(name, hold);
            cut_all_but_one(&mut world);
            let sent = sent_while_exploring(&mut world, reverse);
            assert!(sent.len() > 3, "the scenario is as intended");
            let arrivals: Vec<_> = sent.iter().map(|datagram| datagram.arrivals).collect();
            let expected = u32::from(all_arrive);
            assert!(arrivals.iter().all(|&times| times == expected), "{arrivals:?}");
        }
    }
}

#[test]
fn what_was_held_arrives_in_order_and_before_what_is_newer() {
    let mut world = holding(
        "hold::what_was_held_arrives_in_order_and_before_what_is_newer",
        HoldConfig::default(),
    );
    cut_all_but_one(&mut world);
    assert!(sent_while_exploring(&mut world, false).len() > 3);
    let datagrams = world.ledger().datagrams();
    let arrived = world.trace().entries().filter_map(|entry| match entry.what {
        What::Delivered(B, number) if !datagrams[number as usize].reverse => Some(number),
        _ => None,
    });
    let arrived: Vec<_> = arrived.collect();
    assert!(arrived.is_sorted(), "{arrived:?}");
}

/// A's packets arrive all the time. It is B's that do not, so A looks for another path all the same.
#[test]
fn datagrams_arrive_twice_only_where_they_may() {
    let name = "hold::datagrams_arrive_twice_only_where_they_may";
    for (hold, may) in [(HoldConfig::default(), true), (without_datagrams(), false)] {
        let mut world = holding(name, hold);
        cut(&mut world, locator(B, 0), locator(A, 0));
        let sent = sent_while_exploring(&mut world, false);
        let twice = sent.iter().filter(|datagram| datagram.arrivals > 1).count();
        assert_eq!(twice > 0, may, "{twice} of {}", sent.len());
        let most = world.ledger().datagrams().iter().map(|datagram| datagram.arrivals);
        assert_eq!(most.max(), Some(1 + u32::from(may)));
    }
}

/// Both hosts have one locator: there is no other pair.
#[test]
fn datagrams_are_not_repeated_on_a_pair_that_works_again() {
    let name = "hold::datagrams_are_not_repeated_on_a_pair_that_works_again";
    let mut world = established(Scenario {
        hosts: vec![HostPlan::new(1, &fast()); 2],
        ..pair(name, Kind::BothWays)
    });
    world.perform(Action::SetAllLinks(Link::dead())).unwrap();
    world
        .run_until(secs(2), |world| explores(world, false))
        .unwrap()
        .expect("the failure is noticed");
    world.run_for(ms(500)).unwrap();
    let link = Link::clean(ms(10));
    world.perform(Action::SetAllLinks(link)).unwrap();
    run_until_well(&mut world, secs(10));
    let most = world.ledger().datagrams().iter().map(|datagram| datagram.arrivals);
    assert_eq!(most.max(), Some(1));
    let counters = world.host(A).hold_counters().expect("it has Shim6");
    assert!(counters.sent_before > 0 && counters.released == 0, "{counters:?}");
}

#[test]
fn what_was_held_for_too_long_or_for_a_context_that_is_gone_is_dropped() {
    let name = "hold::what_was_held_for_too_long_or_for_a_context_that_is_gone_is_dropped";
    let mut world = holding(name, HoldConfig::default());
    let dead = Link::dead();
    world.perform(Action::SetAllLinks(dead)).unwrap();
    world.run_for(secs(5)).unwrap();
    let counters = world.host(A).hold_counters().expect("it has Shim6");
    assert!(counters.expired > 20, "{counters:?}");
    world
        .perform(Action::Close {
            session: 0,
            reverse: false,
        })
        .unwrap();
    let after = world.host(A).hold_counters().expect("it has Shim6");
    assert!(after.discarded > 20, "{after:?}");
    assert_eq!(after.held, after.expired + after.discarded);
    assert_ne!(world.agreement(0), Agreement::Both);
}
