//! Failing over and going back: random worlds, what they would notice, and what must not happen without a failure. More worlds:
//! `cargo run --release -p shim6-tests --bin worlds -- --failovers`.

use std::ops::Range;
use std::time::Duration;

use shim6_core::{Cause, EndpointConfig, Event, ReapConfig, ReapState};
use shim6_tests::sim::failover::{Failovers, run_failovers};
use shim6_tests::sim::{Action, HostPlan, Invariant, Kind, Link, Sabotage, Scenario, What, World};

use super::{A, B, cut_both_ways, established, locator, ms, pair, secs, sent_by};

fn run(seeds: Range<u64>) {
    let (mut failovers, mut failures) = (0, Vec::new());
    for seed in seeds {
        match run_failovers(seed) {
            Ok(tally) => failovers += tally.failovers,
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(first) = failures.first() {
        let seeds: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
        panic!("{first}failing seeds: {seeds:?}");
    }
    assert!(failovers > 1_000, "{failovers}");
}

#[test]
fn no_session_is_lost_in_random_failovers_part_1() {
    run(0..130);
}

#[test]
fn no_session_is_lost_in_random_failovers_part_2() {
    run(130..260);
}

/// What the first of some worlds notices whose hosts are all broken in this way.
fn noticed(sabotage: Sabotage) -> Invariant {
    let broken = |seed| Failovers::sabotaged(seed, sabotage).run_caught().err();
    let failure = (0..60).find_map(broken).expect("sabotage is noticed");
    failure.violation.invariant
}

#[test]
fn host_that_notices_failures_too_late_is_noticed() {
    assert_eq!(noticed(Sabotage::Sluggish), Invariant::Liveness);
}

#[test]
fn host_that_leaves_a_working_pair_for_a_dead_one_is_noticed() {
    // Some of them are first noticed because they do it too often.
    let is_noticed = |seed| {
        let failure = Failovers::sabotaged(seed, Sabotage::Backwards).run_caught().err();
        failure.is_some_and(|failure| failure.violation.invariant == Invariant::WorkingPath)
    };
    assert!((0..60).any(is_noticed));
}

#[test]
fn host_that_takes_a_flapping_pair_back_at_once_is_noticed() {
    assert_eq!(noticed(Sabotage::Undamped), Invariant::Damping);
}

#[test]
fn host_that_does_not_go_back_is_noticed() {
    assert_eq!(noticed(Sabotage::Stubborn), Invariant::Convergence);
}

/// Two hosts as they are by default, so far apart, with packets both ways so often.
fn default_pair(name: &str, kind: Kind, delay: Duration, interval: Duration) -> Scenario {
    let mut scenario = pair(name, kind);
    scenario.hosts.fill(HostPlan::new(2, &EndpointConfig::default()));
    scenario.link = Link::clean(delay);
    scenario.sessions[0].interval = interval;
    scenario
}

fn explorations(world: &World) -> usize {
    let is_one = |what: &What| {
        let explores = |to: &ReapState| *to != ReapState::Operational;
        matches!(what, What::Said(_, Event::Reachability { to, .. }) if explores(to))
    };
    world.trace().entries().filter(|entry| is_one(&entry.what)).count()
}

#[test]
fn flow_in_both_directions_adds_no_packet_and_an_idle_context_sends_none() {
    let name = "failover::flow_in_both_directions_adds_no_packet_and_an_idle_context_sends_none";
    let mut world = established(default_pair(name, Kind::BothWays, ms(10), ms(20)));
    world.run_for(secs(60)).unwrap();
    assert!([A, B].iter().all(|&host| sent_by(&world, host).is_empty()));
    pause(&mut world);
    // Who heard last says so for a Send Timeout.
    world.run_for(secs(1)).unwrap();
    world.clear_trace();
    world.run_for(secs(600)).unwrap();
    assert_eq!(world.trace().sent().count(), 0);
}

fn pause(world: &mut World) {
    let pause = Action::SetSession {
        session: 0,
        running: false,
    };
    world.perform(pause).unwrap();
}

#[test]
fn context_that_was_moved_and_is_idle_sends_nothing_either() {
    let name = "failover::context_that_was_moved_and_is_idle_sends_nothing_either";
    let mut world = established(default_pair(name, Kind::BothWays, ms(10), ms(20)));
    cut_both_ways(&mut world, locator(A, 0), locator(B, 0));
    world.run_for(secs(5)).unwrap();
    let context = world.context(0, false).expect("a context");
    assert_ne!(context.locators, context.ulids);
    assert!(
        !sent_by(&world, A).is_empty(),
        "the pair of the ULIDs is tested while there is traffic"
    );
    pause(&mut world);
    world.run_for(secs(120)).unwrap();
    world.clear_trace();
    world.run_for(secs(600)).unwrap();
    assert_eq!(world.trace().sent().count(), 0);
}

/// Everything between two hosts is lost for so long; how long after that began one of them explored, and its Send Timeout.
fn outage(delay: Duration, lasts: impl Fn(Duration) -> Duration) -> (Option<Duration>, Duration) {
    let interval = ms(20);
    let name = "failover::outages_just_below_the_send_timeout_are_sat_out_and_longer_ones_noticed_in_time";
    let mut world = established(default_pair(name, Kind::BothWays, delay, interval));
    let send_timeout = |world: &World, host: usize| {
        let endpoint = world.host(host).endpoint().expect("it runs");
        endpoint
            .contexts()
            .map(|context| context.send_timeout)
            .max()
            .expect("a context")
    };
    let timeouts = [A, B].map(|host| send_timeout(&world, host));
    let (least, most) = (timeouts[0].min(timeouts[1]), timeouts[0].max(timeouts[1]));
    // As long as nothing happens nothing is explored, however far the other end is.
    world.run_for(secs(30)).unwrap();
    assert_eq!(explorations(&world), 0);
    let start = world.now();
    world.perform(Action::SetAllLinks(Link::dead())).unwrap();
    world.run_for(lasts(least)).unwrap();
    world.perform(Action::SetAllLinks(Link::clean(delay))).unwrap();
    world.run_for(most + delay * 2).unwrap();
    let first = world.trace().entries().find(|entry| {
        matches!(
            entry.what,
            What::Said(
                _,
                Event::Reachability {
                    cause: Cause::SendTimeout,
                    ..
                }
            )
        )
    });
    (first.map(|entry| entry.at - start), most)
}

#[test]
fn outages_just_below_the_send_timeout_are_sat_out_and_longer_ones_noticed_in_time() {
    for delay in [Duration::from_micros(500), ms(10), ms(150)] {
        // What is on its way still arrives; after the outage the first packet has to be sent and to arrive.
        let gap = ms(30);
        let (explored, _) = outage(delay, |timeout| timeout - gap * 2 - delay.min(timeout / 3));
        assert_eq!(explored, None, "{delay:?}");
        let (explored, timeout) = outage(delay, |timeout| timeout * 3);
        let explored = explored.expect("the outage is noticed");
        assert!(
            explored <= timeout + delay + gap * 2,
            "{delay:?}: {explored:?}, {timeout:?}"
        );
        let is_near = delay < ms(50);
        assert!(
            !is_near || timeout == ReapConfig::fast().send_timeout,
            "{delay:?}: {timeout:?}"
        );
    }
}
