//! Paths that die, and hosts that lose what they knew.

use shim6_core::wire::MessageType as M;
use shim6_core::{CloseReason, ContextState, Event};
use shim6_tests::sim::{Action, Agreement, HostPlan, Kind, Link, Protect, Scenario, What, World};

use super::{
    A, B, cut, cut_both_ways, establish, established, fast, locator, ms, pair, run_until_well, secs, sent_by, session,
};

fn crash(host: usize, same_seed: bool) -> Action {
    Action::Crash {
        host,
        down_for: ms(100),
        same_seed,
    }
}

#[test]
fn payload_flows_on_another_pair_when_its_path_dies() {
    for kind in [Kind::OneWay, Kind::Replies, Kind::BothWays] {
        let mut world = established(pair("recovery::payload_flows_on_another_pair_when_its_path_dies", kind));
        cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
        world.run_for(secs(1)).unwrap();
        run_until_well(&mut world, secs(5));
        let context = world.context(0, false).expect("a context");
        assert_ne!(context.locators, context.ulids, "{kind:?}");
    }
}

/// Nothing works but two directed pairs, of different addresses, one each way (RFC 5534 section 4.3).
#[test]
fn two_pairs_that_work_in_one_direction_each_are_enough() {
    let mut world = established(pair(
        "recovery::two_pairs_that_work_in_one_direction_each_are_enough",
        Kind::BothWays,
    ));
    for (own, other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        if (own, other) != (0, 1) {
            cut(&mut world, locator(A, own), locator(B, other));
        }
        if (own, other) != (1, 1) {
            cut(&mut world, locator(B, other), locator(A, own));
        }
    }
    world.run_for(secs(1)).unwrap();
    run_until_well(&mut world, secs(20));
    let ends = [false, true].map(|reverse| world.context(0, reverse).expect("a context").locators);
    assert_eq!(ends[0], world.pair(locator(A, 0), locator(B, 1)));
    assert_eq!(ends[1], world.pair(locator(B, 1), locator(A, 1)));
}

#[test]
fn path_that_dies_in_one_direction_is_left_by_the_one_who_sends_on_it() {
    for cut_from_a in [true, false] {
        let name = "recovery::path_that_dies_in_one_direction_is_left_by_the_one_who_sends_on_it";
        let mut world = established(pair(name, Kind::BothWays));
        let (from, to) = if cut_from_a { (A, B) } else { (B, A) };
        cut(&mut world, locator(from, 0), locator(to, 0));
        world.run_for(secs(1)).unwrap();
        run_until_well(&mut world, secs(5));
    }
}

#[test]
fn uplinks_that_go_one_after_the_other_do_not_end_the_session() {
    let name = "recovery::uplinks_that_go_one_after_the_other_do_not_end_the_session";
    let mut world = established(pair(name, Kind::BothWays));
    for round in 0..6 {
        for told in [true, false] {
            let locator = locator([A, B][round % 2], round / 2 % 2);
            let set = |up| Action::SetLocator { locator, up, told };
            world.perform(set(false)).unwrap();
            world.run_for(secs(1)).unwrap();
            run_until_well(&mut world, secs(10));
            world.perform(set(true)).unwrap();
        }
    }
}

/// RFC 5533 section 7.15: B loses all and chooses the same tag for other ULIDs.
#[test]
fn tag_that_the_peer_uses_for_other_ulids_shows_that_it_lost_the_context() {
    let name = "recovery::tag_that_the_peer_uses_for_other_ulids_shows_that_it_lost_the_context";
    let mut world = established(Scenario {
        reuses_seeds: true,
        sessions: vec![
            session(Kind::OneWay),
            shim6_tests::sim::Session {
                from: locator(A, 1),
                to: locator(B, 1),
                ..session(Kind::OneWay)
            },
        ],
        ..pair(name, Kind::OneWay)
    });
    let before = world.context(0, true).expect("a context").local_tag;
    let closed = |world: &World| {
        let entries = world.trace().entries();
        entries
            .filter(|entry| {
                matches!(
                    &entry.what,
                    What::Said(
                        A,
                        Event::Closed {
                            reason: CloseReason::Confusion,
                            ..
                        }
                    )
                )
            })
            .count()
    };
    world.perform(crash(B, true)).unwrap();
    world.run_for(ms(200)).unwrap();
    world
        .perform(Action::Establish {
            session: 1,
            reverse: true,
        })
        .unwrap();
    world.run_for(secs(1)).unwrap();
    let after = world.context(1, true).expect("a context").local_tag;
    assert_eq!(after, before, "the scenario is as intended");
    assert_eq!(world.agreement(1), Agreement::Both);
    assert_eq!(closed(&world), 1, "the confused context is gone");
    // It had traffic, so another one took its place.
    assert_eq!(world.agreement(0), Agreement::Both);
    assert_ne!(world.context(0, true).expect("a context").local_tag, before);
}

#[test]
fn crash_of_either_end_during_recovery_ends_in_agreement() {
    for host in [A, B] {
        for moment in (0..80).step_by(5) {
            let name = "recovery::crash_of_either_end_during_recovery_ends_in_agreement";
            let mut scenario = pair(name, Kind::BothWays);
            scenario.sessions[0].protect = Protect::Both;
            let mut world = established(scenario);
            cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
            world.run_for(secs(1)).unwrap();
            run_until_well(&mut world, secs(5));
            let close = Action::Close {
                session: 0,
                reverse: true,
            };
            world.perform(close).unwrap();
            let recovering = |world: &World| {
                let context = world.context(0, false);
                context.is_some_and(|context| context.state == ContextState::I2bisSent)
            };
            world
                .run_until(secs(1), recovering)
                .unwrap()
                .expect("A learns that B lost the context");
            world.run_for(ms(moment)).unwrap();
            world.perform(crash(host, false)).unwrap();
            // With the ULIDs' path dead there would be no new context.
            world.mend().unwrap();
            world.run_for(ms(200)).unwrap();
            // As long as the I2bis for a host that is no more is repeated.
            run_until_well(&mut world, secs(90));
        }
    }
}

#[test]
fn both_ends_that_crash_at_once_begin_anew() {
    let mut scenario = pair("recovery::both_ends_that_crash_at_once_begin_anew", Kind::BothWays);
    scenario.sessions[0].protect = Protect::Both;
    let mut world = established(scenario);
    for round in 0..5 {
        world.perform(crash(A, false)).unwrap();
        world.perform(crash(B, false)).unwrap();
        world.run_for(ms(200 + 150 * round)).unwrap();
        run_until_well(&mut world, secs(30));
    }
}

#[test]
fn crash_of_either_end_at_any_moment_of_the_exchange_ends_in_agreement() {
    for host in [A, B] {
        for moment in (0..60).step_by(5) {
            let name = "recovery::crash_of_either_end_at_any_moment_of_the_exchange_ends_in_agreement";
            let mut scenario = pair(name, Kind::BothWays);
            scenario.sessions[0].protect = Protect::Both;
            let mut world = World::new(scenario);
            establish(&mut world, false);
            world.run_for(ms(moment)).unwrap();
            world.perform(crash(host, false)).unwrap();
            world.run_for(ms(200)).unwrap();
            run_until_well(&mut world, secs(60));
        }
    }
}

#[test]
fn host_without_shim6_gets_ordinary_payload() {
    let mut scenario = pair("recovery::host_without_shim6_gets_ordinary_payload", Kind::Replies);
    scenario.hosts[B].shim6 = false;
    let mut world = World::new(scenario);
    establish(&mut world, false);
    world.run_for(secs(5)).unwrap();
    assert!(world.flows(0, world.now() - secs(1)));
    assert_eq!(sent_by(&world, A), [M::I1], "the answer to the first is enough");
    let failures: Vec<_> = world.host(A).endpoint().expect("it has Shim6").failures().collect();
    assert_eq!(failures[0].1, ContextState::NoSupport);
}

#[test]
fn signed_locators_are_as_good_as_members_of_the_set() {
    let mut scenario = pair(
        "recovery::signed_locators_are_as_good_as_members_of_the_set",
        Kind::BothWays,
    );
    for host in [A, B] {
        scenario.hosts[host] = HostPlan {
            signed: 1,
            ..HostPlan::new(1, &fast())
        };
    }
    let mut world = established(scenario);
    for other in [0, 1] {
        cut_both_ways(&mut world, locator(A, 0), locator(B, other));
        cut_both_ways(&mut world, locator(A, other), locator(B, 0));
    }
    world.run_for(secs(1)).unwrap();
    run_until_well(&mut world, secs(10));
    let context = world.context(0, false).expect("a context");
    assert_eq!(context.locators, world.pair(locator(A, 1), locator(B, 1)));
}

#[test]
fn path_of_any_quality_that_is_mended_serves_again() {
    let name = "recovery::path_of_any_quality_that_is_mended_serves_again";
    let mut scenario = pair(name, Kind::BothWays);
    scenario.sessions[0].protect = Protect::Both;
    scenario.exam = true;
    scenario.horizon = secs(30);
    scenario.link = Link {
        jitter: ms(40),
        loss: 300,
        duplication: 200,
        reordering: 300,
        corruption: 100,
        ..Link::clean(ms(30))
    };
    let summary = World::new(scenario).run().unwrap();
    assert!(summary.arrived < summary.sent, "the path is as bad as intended");
}
