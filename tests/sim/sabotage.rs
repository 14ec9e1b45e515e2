//! Hosts that do something wrong: each invariant notices what it is there for.

use std::time::Duration;

use shim6_core::EstablishmentConfig;
use shim6_tests::sim::pool::{Locator, Owner};
use shim6_tests::sim::{
    Action, AdversaryPlan, Forgery, Invariant, Kind, Link, Protect, Sabotage, Scenario, Session, World,
};

use super::{A, B, fast, locator, ms, secs, session};

const C: usize = 2;

/// Three hosts that have all reason for contexts, a path that dies, and an adversary.
fn scenario(sabotage: Option<Sabotage>) -> Scenario {
    let mut config = fast();
    config.quiescence = secs(5);
    config.establishment = EstablishmentConfig {
        i1_retries_max: 2,
        no_r1_holddown: secs(2),
        ..config.establishment
    };
    let between = |from: Locator, to: Locator| Session {
        from,
        to,
        protect: Protect::Both,
        ..session(Kind::BothWays)
    };
    let sessions = vec![
        between(locator(A, 0), locator(B, 0)),
        between(locator(C, 0), locator(B, 0)),
        between(locator(C, 1), locator(B, 1)),
        between(locator(A, 1), locator(B, 1)),
    ];
    let dead = |from, to| {
        let link = Link::dead();
        (secs(2), Action::SetLink { from, to, link })
    };
    let mut scenario = Scenario {
        sessions,
        script: vec![dead(locator(A, 0), locator(B, 0)), dead(locator(B, 0), locator(A, 0))],
        adversary: Some(AdversaryPlan {
            interval: ms(100),
            burst: 2,
            replays: 0,
            redirects: 0,
            forgeries: vec![Forgery::I1],
        }),
        horizon: secs(8),
        ..Scenario::quiet("sabotage", 3, &config)
    };
    scenario.hosts[B].sabotage = sabotage;
    scenario
}

fn broken_by(sabotage: Sabotage) -> Invariant {
    let failure = World::new(scenario(Some(sabotage)))
        .run()
        .expect_err("sabotage is noticed");
    assert!(failure.to_string().contains("seed 1"), "{failure}");
    failure.violation.invariant
}

#[test]
fn hosts_as_they_are_keep_all_invariants() {
    World::new(scenario(None)).run().unwrap();
}

#[test]
fn changed_ulids_or_octets_are_noticed() {
    assert_eq!(broken_by(Sabotage::Misdeliver), Invariant::Payload);
    assert_eq!(broken_by(Sabotage::Garble), Invariant::Payload);
}

#[test]
fn delivery_to_the_wrong_host_is_noticed() {
    assert_eq!(broken_by(Sabotage::WrongHost), Invariant::Payload);
}

#[test]
fn payload_to_a_locator_that_is_not_the_peers_is_noticed() {
    let foreign = Owner::of(C, 2, 0).locators()[1];
    assert_eq!(broken_by(Sabotage::Divert(foreign)), Invariant::Locators);
}

#[test]
fn payload_to_a_locator_that_was_not_tested_is_noticed() {
    let untested = Owner::of(A, 2, 0).locators()[0];
    assert_eq!(broken_by(Sabotage::Divert(untested)), Invariant::Locators);
}

#[test]
fn tag_for_two_contexts_is_noticed() {
    assert_eq!(broken_by(Sabotage::ReuseLocalTag), Invariant::UniqueTags);
}

#[test]
fn confused_contexts_are_noticed() {
    assert_eq!(broken_by(Sabotage::ConfusePeers), Invariant::NoConfusion);
}

#[test]
fn too_much_in_reply_to_a_spoofed_source_is_noticed() {
    assert_eq!(broken_by(Sabotage::Amplify), Invariant::Replies);
}

#[test]
fn packets_to_a_third_party_that_answer_nothing_are_noticed() {
    assert_eq!(broken_by(Sabotage::Remember), Invariant::Replies);
}

#[test]
fn host_that_never_comes_to_an_agreement_is_noticed() {
    assert_eq!(broken_by(Sabotage::Deaf), Invariant::Liveness);
}

#[test]
fn host_that_wants_to_be_called_again_and_again_is_noticed() {
    assert_eq!(broken_by(Sabotage::Restless), Invariant::Progress);
}

#[test]
fn teardown_under_traffic_is_noticed() {
    assert_eq!(broken_by(Sabotage::Hasty), Invariant::Quiescence);
}

#[test]
fn contexts_beyond_their_bound_are_noticed() {
    let run = |sabotage| {
        let mut scenario = scenario(sabotage);
        scenario.hosts[B].config.limits.contexts = 3;
        World::new(scenario).run_for(Duration::from_secs(5))
    };
    run(None).unwrap();
    let failure = run(Some(Sabotage::Unbounded)).expect_err("the bound is noticed");
    assert_eq!(failure.violation.invariant, Invariant::Bounds);
}

#[test]
fn panic_becomes_a_report_with_the_seed() {
    let mut world = World::new(scenario(None));
    world.set_filter(|_, _| panic!("something is wrong"));
    let failure = world.run_caught().expect_err("the panic is noticed");
    assert_eq!(failure.violation.invariant, Invariant::NoPanic);
    assert!(failure.to_string().contains("something is wrong"), "{failure}");
}
