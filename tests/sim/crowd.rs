//! Thousands of contexts that lose their path at once.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shim6_core::wire::MessageType as M;
use shim6_core::{ContextState, EndpointConfig, FailbackConfig, LimitsConfig, Profile, Rate, ReapConfig, ReapState};
use shim6_tests::sim::packet::control_type;
use shim6_tests::sim::{Action, HostPlan, Kind, Protect, Scenario, Session, Verdict, World};

use super::{A, B, locator, ms, secs};

const C: usize = 2;
/// Probes in a second, of all contexts of a host.
const RATE: u32 = 5_000;
/// Quiet probes in a second.
const TRIALS: u32 = 10;
/// Between two requests of a session.
const INTERVAL: Duration = Duration::from_secs(2);
/// How finely probes are counted.
const TICK: Duration = Duration::from_millis(10);

fn config(rate: u32) -> EndpointConfig {
    EndpointConfig {
        profile: Profile::Fast,
        reap: ReapConfig::fast(),
        failback: FailbackConfig {
            interval: ms(700),
            stable: secs(2),
            rate: TRIALS,
            ..FailbackConfig::default()
        },
        limits: LimitsConfig {
            contexts: 10_000,
            contexts_per_peer: 10_000,
            contexts_per_prefix: 10_000,
            probes: rate,
            transmit_queue: 100_000,
            r1: Rate::UNLIMITED,
            r2: Rate::UNLIMITED,
            verifications: Rate::UNLIMITED,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    }
}

/// How many probes each of three hosts has sent, of which some to or from the first locators.
type Sent = Arc<Mutex<[usize; 3]>>;

/// Contexts of A with B and with C, all instances of the same ULID pairs.
fn established(contexts: u32, rate: u32, name: &str) -> (World, Sent) {
    let session = |peer, instance| Session {
        from: locator(A, 0),
        to: locator(peer, 0),
        interval: INTERVAL,
        kind: Kind::Replies,
        protect: Protect::Nobody,
        octets: 20,
        instance,
    };
    let sessions = (1..=contexts / 2).flat_map(|instance| [session(B, instance), session(C, instance)]);
    let mut world = World::new(Scenario {
        hosts: vec![HostPlan::new(2, &config(rate)); 3],
        sessions: sessions.collect(),
        keep_trace: false,
        ..Scenario::quiet(name, 0, &config(rate))
    });
    for session in 0..world.scenario().sessions.len() {
        let establish = Action::Establish {
            session,
            reverse: false,
        };
        world.perform(establish).unwrap();
        if session.is_multiple_of(50) {
            world.run_for(TICK).unwrap();
        }
    }
    world.run_for(ms(100)).unwrap();
    assert_eq!(operational(&world, A), contexts as usize);
    let sent = Sent::default();
    let count = sent.clone();
    world.set_filter(move |host, packet| {
        count.lock().unwrap()[host] += usize::from(control_type(packet) == Some(M::PROBE));
        Verdict::Pass
    });
    (world, sent)
}

/// How many contexts of a host are content.
fn operational(world: &World, host: usize) -> usize {
    let contexts = world.host(host).contexts();
    let is_well = |context: &&_| {
        let context: &shim6_tests::sim::host::ContextView = context;
        context.state == ContextState::Established && context.reap == ReapState::Operational
    };
    contexts.iter().filter(is_well).count()
}

/// How many of its contexts use its first locator.
fn at_home(world: &World, host: usize) -> usize {
    let first: Ipv6Addr = world.address(locator(host, 0));
    let contexts = world.host(host).contexts();
    contexts
        .iter()
        .filter(|context| context.locators.local == first)
        .count()
}

/// Runs until a condition holds, which is looked at now and then, and gives how long that took and the most probes that a host
/// sent in any second.
fn run(world: &mut World, sent: &Sent, limit: Duration, condition: impl Fn(&World) -> bool) -> (Duration, [usize; 3]) {
    let (start, mut window, mut most) = (world.now(), VecDeque::from([*sent.lock().unwrap()]), [0; 3]);
    for tick in 1_u32.. {
        world.run_for(TICK).unwrap();
        let now = *sent.lock().unwrap();
        window.push_back(now);
        if window.len() > 101 {
            window.pop_front();
        }
        for host in [A, B, C] {
            most[host] = most[host].max(now[host] - window[0][host]);
        }
        if tick.is_multiple_of(20) && condition(world) {
            break;
        }
        assert!(
            world.now() - start < limit,
            "{} and {} of A's contexts",
            operational(world, A),
            at_home(world, A)
        );
    }
    (world.now() - start, most)
}

/// A's first uplink dies and comes back, with as many contexts as that.
fn lose_and_regain(contexts: u32, told: bool, name: &str) {
    let (mut world, sent) = established(contexts, RATE, name);
    let all = contexts as usize;
    let set = |up| Action::SetLocator {
        locator: locator(A, 0),
        up,
        told,
    };
    world.perform(set(false)).unwrap();
    let (took, most) = run(&mut world, &sent, secs(20), |world| {
        let hosts = [(A, all), (B, all / 2), (C, all / 2)];
        at_home(world, A) == 0 && hosts.iter().all(|&(host, all)| operational(world, host) == all)
    });
    let probes = *sent.lock().unwrap();
    // One to find the path and one to conclude, all in one queue; and without being told, somebody has to send first.
    let noticing = if told {
        Duration::ZERO
    } else {
        INTERVAL * 3 / 2 + ms(120)
    };
    let bound = noticing + secs(1) + Duration::from_secs(1) * (contexts * 5 / 2) / RATE;
    assert!(took <= bound, "{took:?}, {bound:?}");
    let (rate, burst) = (RATE as usize, RATE as usize / 50);
    assert!(most.iter().all(|&most| most <= rate + burst), "{most:?}");
    // An exchange is two of ours and one of the peer's, who may have noticed as well.
    assert!(
        probes[A] <= all * 5 / 2 && probes[B] + probes[C] <= all * 3,
        "{probes:?}"
    );

    world.perform(set(true)).unwrap();
    let (took, most) = run(&mut world, &sent, secs(20), |world| at_home(world, A) == all);
    let failback = config(RATE).failback;
    let in_time = failback.stable..=failback.stable + failback.interval * 4;
    assert!(in_time.contains(&took), "{took:?}");
    let trials = [A, B, C].map(|host| sent.lock().unwrap()[host] - probes[host]);
    // What each of them sends are tests of its own and answers to the others'.
    assert!(most.iter().all(|&most| most <= 2 * TRIALS as usize + 2), "{most:?}");
    assert!(
        trials.iter().all(|&trials| trials <= 30),
        "{trials:?} for {contexts} contexts"
    );
}

#[test]
fn ten_thousand_contexts_that_lose_an_uplink_are_paced_help_each_other_and_go_back_together() {
    let name = "crowd::ten_thousand_contexts_that_lose_an_uplink_are_paced_help_each_other_and_go_back_together";
    lose_and_regain(10_000, true, name);
}

#[test]
fn contexts_that_lose_an_uplink_silently_need_an_exchange_each() {
    let name = "crowd::contexts_that_lose_an_uplink_silently_need_an_exchange_each";
    lose_and_regain(2_000, false, name);
}

/// The rate is what keeps to the rate.
#[test]
fn without_a_rate_there_would_be_a_burst() {
    let (mut world, sent) = established(1_000, 1_000_000, "crowd::without_a_rate_there_would_be_a_burst");
    let down = Action::SetLocator {
        locator: locator(A, 0),
        up: false,
        told: true,
    };
    world.perform(down).unwrap();
    let at_once = sent.lock().unwrap()[A];
    assert!(at_once > RATE as usize / 50, "{at_once}");
}
