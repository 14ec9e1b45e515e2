//! Random worlds: any directed failures that leave a way in each direction.

use std::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::secs;
use super::world::World;
use crate::Config;
use crate::pace::Pace;

/// The longest time between payload packets in a world.
const SLOWEST_FLOW: Duration = Duration::from_secs(2);

/// What a world looks like, apart from its seed.
#[derive(Clone, Debug)]
struct Plan {
    locators: [usize; 2],
    /// Per direction, which pairs fail; indexed by local locator times the number of the peer's plus the peer's.
    dead: [Vec<bool>; 2],
    /// How often each host sends payload, in milliseconds; `None` for not at all.
    flows: [Option<u16>; 2],
    seed: u64,
    /// Whether the hosts know the round-trip time; it matters only where the timers follow it.
    rtt_known: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let flow = || prop::option::weighted(0.8, 20..=SLOWEST_FLOW.as_millis() as u16);
    (1usize..=3, 1usize..=3, flow(), flow(), any::<u64>(), any::<bool>())
        .prop_flat_map(|(ours, theirs, first, second, seed, rtt_known)| {
            let n = ours * theirs;
            let dead = || {
                (prop::collection::vec(prop::bool::weighted(0.7), n), 0..n).prop_map(|(mut dead, spared)| {
                    dead[spared] = false;
                    dead
                })
            };
            // Somebody has to notice.
            let flows = if first.is_none() && second.is_none() {
                [Some(500), None]
            } else {
                [first, second]
            };
            (
                Just([ours, theirs]),
                dead(),
                dead(),
                Just(flows),
                Just(seed),
                Just(rtt_known),
            )
        })
        .prop_map(|(locators, there, back, flows, seed, rtt_known)| Plan {
            locators,
            dead: [there, back],
            flows,
            seed,
            rtt_known,
        })
}

fn pairs_of(plan: &Plan) -> u32 {
    (plan.locators[0] * plan.locators[1]) as u32
}

fn build(plan: &Plan, config: Config) -> World {
    let mut world = World::new(config, plan.locators, plan.seed);
    if plan.rtt_known {
        world.know_rtt(world.delay * 2);
    }
    for (host, flow) in plan.flows.into_iter().enumerate() {
        if let Some(millis) = flow {
            world.flow(host, f64::from(millis) / 1000.0, f64::from(millis) / 2000.0);
        }
    }
    world.run_for(30.0);
    world.fail(plan.locators, &plan.dead);
    world
}

/// The time by which a failure must be over.
///
/// It takes a packet, and a Send Timeout, to notice it, and both once more when the peer had been heard just before the
/// failure. Then within
/// one pass over the pairs a probe of one host gets through, and within one more, which begins at the shortest interval
/// again, the other host's answer does, if the pass fits into the Send Timeout for which the first one counts as heard.
/// If it does not, that host has to be heard a second time, by which time intervals may be at their longest, and again
/// if the other one was heard in between.
fn bound(config: &Config, plan: &Plan) -> Duration {
    let pairs = pairs_of(plan);
    let gap = Duration::from_millis(plan.flows.iter().flatten().copied().max().unwrap_or(0).into());
    let pass: Duration = (1..=pairs + 1)
        .map(|count| Pace::new(config, None).probe_interval(count))
        .sum();
    let pass = pass.mul_f64(1.15);
    let noticed = (config.send_timeout + gap) * 2;
    if pass <= config.send_timeout {
        noticed + pass * 2
    } else {
        noticed * 2 + pass * 2 + config.max_probe_timeout.mul_f64(1.15) * pairs * 2
    }
}

fn quick() -> Config {
    Config {
        send_timeout: secs(1.0),
        keepalive_timeout: secs(1.0),
        initial_probe_timeout: secs(0.1),
        max_probe_timeout: secs(1.0),
        ..Config::default()
    }
}

fn config() -> impl Strategy<Value = Config> {
    prop::sample::select(Vec::from([Config::rfc(), Config::fast(), quick()]))
}

/// Lets `plan`'s failures happen and gives whether all is well within `bounds` times the bound.
fn recovers(plan: &Plan, config: Config, loss_per_mille: u32, bounds: u32) -> World {
    let mut world = build(plan, config);
    world.loss_per_mille = loss_per_mille;
    let end = world.now + bound(&config, plan) * bounds;
    let is_well = world.run_until(end, World::is_well);
    assert!(
        is_well,
        "{plan:?}: {:?}, {:?}",
        world.reap(0).state(),
        world.reap(1).state()
    );
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_world_recovers_in_time_and_then_stays(plan in plan(), config in config()) {
        let mut world = recovers(&plan, config, 0, 1);
        // Probes that were on their way may still cause some to and fro.
        world.run_for(2.0);
        prop_assert!(world.is_well());
        let changes = world.events.len();
        world.run_for(config.send_timeout.as_secs_f64() * 20.0);
        prop_assert!(world.is_well());
        prop_assert_eq!(world.events.len(), changes);
    }

    #[test]
    fn every_world_recovers_although_packets_get_lost(plan in plan()) {
        recovers(&plan, quick(), 100, 20);
        recovers(&plan, Config::fast(), 100, 20);
    }

    #[test]
    fn two_locators_each_recover_in_two_passes(mut plan in plan(), alive in (0usize..4, 0usize..4)) {
        plan.locators = [2, 2];
        plan.dead = [alive.0, alive.1].map(|alive| (0..4).map(|index| index != alive).collect());
        recovers(&plan, Config::default(), 0, 1);
        recovers(&plan, quick(), 0, 1);
        recovers(&plan, Config::fast(), 0, 1);
    }

    #[test]
    fn three_locators_each_recover_by_the_only_pair_of_each_direction(
        mut plan in plan(),
        alive in (0usize..9, 0usize..9),
    ) {
        plan.locators = [3, 3];
        plan.dead = [alive.0, alive.1].map(|alive| (0..9).map(|index| index != alive).collect());
        recovers(&plan, Config::default(), 0, 1);
        recovers(&plan, quick(), 0, 1);
        recovers(&plan, Config::fast(), 0, 1);
    }

    #[test]
    fn what_fails_in_the_middle_of_an_exploration_is_found_out(
        plan in plan(),
        other in plan(),
        wait in 0.0..5.0,
        config in prop::sample::select(Vec::from([quick(), Config::fast()])),
    ) {
        let mut world = build(&plan, config);
        world.run_for(wait);
        // The other plan's failures take the place of the first one's.
        let [ours, theirs] = plan.locators;
        let mut now = plan.clone();
        for host in 0..2 {
            let n = ours * theirs;
            let mut dead: Vec<bool> = (0..n).map(|index| other.dead[host].get(index).copied().unwrap_or(true)).collect();
            if dead.iter().all(|&dead| dead) {
                dead[n - 1] = false;
            }
            now.dead[host] = dead;
        }
        world.fail(plan.locators, &now.dead);
        let end = world.now + bound(&config, &plan) * 2;
        prop_assert!(world.run_until(end, World::is_well), "{:?}", now);
    }
}
