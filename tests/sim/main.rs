//! Tests of the protocol in the simulator: named scenarios, random worlds, and the simulator's own tests.

mod adversary;
mod crowd;
mod determinism;
mod errors;
mod failover;
mod figures;
mod forks;
mod hold;
mod locators;
mod recovery;
mod sabotage;
mod worlds;

use std::time::Duration;

use shim6_core::wire::MessageType;
use shim6_core::{EndpointConfig, LimitsConfig, ReapConfig};
use shim6_tests::sim::{Action, Agreement, Kind, Link, Locator, Protect, Scenario, Session, World};

/// The first host, mostly the initiator.
const A: usize = 0;
/// The second host.
const B: usize = 1;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// REAP at fractions of a second, as two of our hosts may agree on.
fn fast() -> EndpointConfig {
    EndpointConfig {
        reap: ReapConfig {
            send_timeout: ms(500),
            keepalive_timeout: ms(500),
            initial_probe_timeout: ms(100),
            max_probe_timeout: secs(2),
            ..ReapConfig::default()
        },
        limits: LimitsConfig {
            contexts: 100,
            counted_prefixes: 16,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    }
}

fn locator(host: usize, index: usize) -> Locator {
    Locator { host, index }
}

/// Payload from A's first locator to B's, and back as `kind` says; contexts are for the test to set up.
fn session(kind: Kind) -> Session {
    Session {
        from: locator(A, 0),
        to: locator(B, 0),
        interval: ms(100),
        kind,
        protect: Protect::Nobody,
        octets: 200,
        instance: 0,
    }
}

/// Two hosts and one session, whose contexts are for the test to set up.
fn pair(name: &str, kind: Kind) -> Scenario {
    Scenario {
        sessions: vec![session(kind)],
        ..Scenario::quiet(name, 2, &fast())
    }
}

/// Two hosts that have agreed on a context for their session, with an empty trace.
fn established(scenario: Scenario) -> World {
    let mut world = World::new(scenario);
    establish(&mut world, false);
    world.run_for(secs(1)).unwrap();
    assert_eq!(world.agreement(0), Agreement::Both);
    world.clear_trace();
    world
}

fn establish(world: &mut World, reverse: bool) {
    world.perform(Action::Establish { session: 0, reverse }).unwrap();
}

/// What is sent on one directed pair vanishes from now on.
fn cut(world: &mut World, from: Locator, to: Locator) {
    let link = Link::dead();
    world.perform(Action::SetLink { from, to, link }).unwrap();
}

fn cut_both_ways(world: &mut World, one: Locator, other: Locator) {
    cut(world, one, other);
    cut(world, other, one);
}

/// Types of the control messages that a host sent, in order.
fn sent_by(world: &World, host: usize) -> Vec<MessageType> {
    use shim6_tests::sim::Origin;
    use shim6_tests::sim::packet::control_type;
    let sent = world
        .trace()
        .sent()
        .filter(|(_, origin, _)| *origin == Origin::Host(host));
    sent.filter_map(|(_, _, packet)| control_type(packet)).collect()
}

/// Runs until payload of the session flows and both ends agree.
fn run_until_well(world: &mut World, limit: Duration) {
    let start = world.now();
    let well = |world: &World| world.agreement(0) == Agreement::Both && world.flows(0, start + ms(500));
    let end = start + limit;
    while !well(world) {
        if world.now() >= end {
            let tail: Vec<_> = world
                .trace()
                .entries()
                .rev()
                .take(60)
                .map(ToString::to_string)
                .collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            panic!("{:?} at {}\n{}", world.agreement(0), world.now(), tail.join("\n"));
        }
        world.run_for(ms(100)).unwrap();
    }
}
