//! Forked contexts: several between the same ULIDs (RFC 5533 section 4.2).

use shim6_tests::sim::{Action, Agreement, Kind, Scenario, Session, World};

use super::{A, B, cut_both_ways, locator, pair, secs, session};

/// The same ULIDs with and without a Forked Instance Identifier.
fn scenario(name: &str) -> Scenario {
    let fork = Session {
        instance: 7,
        ..session(Kind::BothWays)
    };
    Scenario {
        sessions: vec![session(Kind::BothWays), fork],
        ..pair(name, Kind::BothWays)
    }
}

#[test]
fn fork_has_tags_and_a_path_of_its_own() {
    let mut world = World::new(scenario("forks::fork_has_tags_and_a_path_of_its_own"));
    for session in 0..2 {
        let reverse = session == 1;
        world.perform(Action::Establish { session, reverse }).unwrap();
    }
    world.run_for(secs(1)).unwrap();
    for session in 0..2 {
        assert_eq!(world.agreement(session), Agreement::Both, "session {session}");
    }
    let tags = |session| world.context(session, false).map(|context| context.local_tag);
    assert_ne!(tags(0), tags(1));
    cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
    world.run_for(secs(5)).unwrap();
    for session in 0..2 {
        assert!(world.flows(session, world.now() - secs(1)), "session {session}");
        assert_eq!(world.agreement(session), Agreement::Both, "session {session}");
    }
}
