//! Locators that come and go while a session lives (RFC 5533 section 10).

use shim6_core::wire::{MessageType as M, Preference, PreferenceFlags};
use shim6_tests::sim::packet::control_type;
use shim6_tests::sim::{Action, AdversaryPlan, Agreement, HostPlan, Kind, Origin, Scenario, Verdict, World};

use super::{A, B, cut_both_ways, established, fast, locator, ms, pair, run_until_well, secs, sent_by};

fn set_identity(world: &mut World, host: usize, present: &[bool]) {
    let present = present.to_vec();
    world.perform(Action::SetIdentity { host, present }).unwrap();
}

/// Three locators each.
fn wide(name: &str) -> Scenario {
    let mut scenario = pair(name, Kind::BothWays);
    scenario.hosts.fill(HostPlan::new(3, &fast()));
    scenario
}

fn peer_knows(world: &World, indices: &[usize]) -> bool {
    let context = world.context(0, true).expect("a context");
    let mut known = context.peer_locators;
    let mut expected: Vec<_> = indices.iter().map(|&index| world.address(locator(A, index))).collect();
    known.sort();
    expected.sort();
    known == expected
}

#[test]
fn locator_that_is_gone_and_one_that_is_new_are_told() {
    let mut world = established(wide("locators::locator_that_is_gone_and_one_that_is_new_are_told"));
    assert!(peer_knows(&world, &[0, 1, 2]));
    set_identity(&mut world, A, &[true, true, false]);
    world.run_for(ms(100)).unwrap();
    assert!(peer_knows(&world, &[0, 1]));
    set_identity(&mut world, A, &[true, true, true]);
    world.run_for(ms(100)).unwrap();
    assert!(peer_knows(&world, &[0, 1, 2]));
    assert_eq!(sent_by(&world, A), [M::UPDATE_REQUEST; 2]);
    assert_eq!(sent_by(&world, B), [M::UPDATE_ACKNOWLEDGEMENT; 2]);
}

#[test]
fn update_is_repeated_until_it_is_acknowledged_and_newer_news_replace_it() {
    let name = "locators::update_is_repeated_until_it_is_acknowledged_and_newer_news_replace_it";
    let mut world = established(wide(name));
    let mut left = 3;
    world.set_filter(move |host, packet| match control_type(packet) {
        Some(M::UPDATE_REQUEST) if host == A && left > 0 => {
            left -= 1;
            Verdict::Lose
        }
        _ => Verdict::Pass,
    });
    set_identity(&mut world, A, &[true, true, false]);
    world.run_for(secs(1)).unwrap();
    set_identity(&mut world, A, &[true, false, true]);
    world.run_for(secs(60)).unwrap();
    assert!(peer_knows(&world, &[0, 2]));
    assert!(!world.context(0, false).expect("a context").updating);
}

#[test]
fn path_that_dies_while_an_update_is_under_way_does_not_end_the_session() {
    for moment in [0, 5, 15, 25] {
        let name = "locators::path_that_dies_while_an_update_is_under_way_does_not_end_the_session";
        let mut world = established(wide(name));
        set_identity(&mut world, A, &[true, true, false]);
        world.run_for(ms(moment)).unwrap();
        cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
        world.run_for(secs(1)).unwrap();
        run_until_well(&mut world, secs(10));
        world.run_for(secs(20)).unwrap();
        assert!(peer_knows(&world, &[0, 1]), "cut after {moment} ms");
    }
}

/// RFC 5533 section 10.4: the list does not have the locator that payload goes to.
#[test]
fn list_without_the_current_locator_moves_payload_to_another() {
    let mut world = established(wide(
        "locators::list_without_the_current_locator_moves_payload_to_another",
    ));
    cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
    world.run_for(secs(1)).unwrap();
    run_until_well(&mut world, secs(5));
    let current = world.context(0, true).expect("a context").locators.peer;
    let index = (0..3)
        .find(|&index| world.address(locator(A, index)) == current)
        .expect("one of A's");
    assert_ne!(index, 0);
    let present: Vec<_> = (0..3).map(|other| other != index).collect();
    set_identity(&mut world, A, &present);
    world.run_for(secs(2)).unwrap();
    run_until_well(&mut world, secs(10));
    assert_ne!(world.context(0, true).expect("a context").locators.peer, current);
}

#[test]
fn broken_locator_is_not_chosen_while_there_is_another() {
    let mut world = established(wide("locators::broken_locator_is_not_chosen_while_there_is_another"));
    let preference = |flags| Preference {
        flags,
        ..Preference::default()
    };
    let working = preference(PreferenceFlags::default());
    let preferences = vec![working, preference(PreferenceFlags::BROKEN), working];
    world.perform(Action::SetPreferences { host: A, preferences }).unwrap();
    world.run_for(ms(200)).unwrap();
    for other in 0..3 {
        cut_both_ways(&mut world, locator(A, 0), locator(B, other));
    }
    world.run_for(secs(1)).unwrap();
    run_until_well(&mut world, secs(10));
    let peer = world.context(0, true).expect("a context").locators.peer;
    assert_eq!(peer, world.address(locator(A, 2)));
}

/// What an I2 from before an Update says must not take the place of what the Update said, for longer than it takes to find
/// out.
#[test]
fn i2_that_is_replayed_after_an_update_does_not_end_the_session() {
    let mut world = World::new(wide(
        "locators::i2_that_is_replayed_after_an_update_does_not_end_the_session",
    ));
    super::establish(&mut world, false);
    world.run_for(secs(1)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    let i2 = world
        .trace()
        .sent()
        .find(|(_, _, packet)| control_type(packet) == Some(M::I2));
    let i2 = i2.expect("an I2 was sent").2.to_vec();
    set_identity(&mut world, A, &[true, true, false]);
    world.run_for(ms(100)).unwrap();
    assert!(peer_knows(&world, &[0, 1]));
    world.inject(Origin::Replayed, i2);
    world.run_for(secs(1)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    for other in 0..3 {
        cut_both_ways(&mut world, locator(A, 0), locator(B, other));
    }
    world.run_for(secs(1)).unwrap();
    run_until_well(&mut world, secs(10));
}

#[test]
fn updates_arrive_once_replays_and_forgeries_are_over() {
    let mut world = established(Scenario {
        adversary: Some(AdversaryPlan {
            interval: ms(50),
            burst: 2,
            replays: 500,
            redirects: 300,
            forgeries: shim6_tests::sim::Forgery::ALL.to_vec(),
        }),
        ..wide("locators::updates_arrive_once_replays_and_forgeries_are_over")
    });
    for round in 0..6 {
        set_identity(&mut world, A, &[true, true, round % 2 == 1]);
        world.run_for(secs(5)).unwrap();
    }
    assert!(world.flows(0, world.now() - secs(1)));
    // An Update Request that is sent again takes effect again: what is sent after the last replay holds.
    world.dismiss_adversary();
    set_identity(&mut world, A, &[true, true, false]);
    world.run_for(secs(20)).unwrap();
    assert!(peer_knows(&world, &[0, 1]));
    assert!(!world.context(0, false).expect("a context").updating);
}
