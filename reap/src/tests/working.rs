//! A path that works, however long its round trip: no traffic whatever makes REAP believe that it has failed.

use std::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::secs;
use super::world::{Body, World};
use crate::{Config, Event, Instant, Rtt};

/// A part of the traffic, with times in thousandths of a round trip and a Send Timeout.
#[derive(Clone, Debug)]
enum Phase {
    /// One host sends so many packets, one after each gap.
    OneWay { host: usize, packets: u16, gap: u64 },
    /// Both send, each at its own pace.
    BothWays { packets: u16, gaps: [u64; 2] },
    /// One host asks, the other one answers after a while, and the next question waits, too.
    Requests {
        host: usize,
        packets: u16,
        thought: u64,
        pause: u64,
    },
    /// Nothing.
    Silence { time: u64 },
}

fn phase() -> impl Strategy<Value = Phase> {
    let gap = || prop_oneof![1u64..100, 100u64..1500, 1500u64..4000];
    prop_oneof![
        (0usize..2, 1u16..40, gap()).prop_map(|(host, packets, gap)| Phase::OneWay { host, packets, gap }),
        (1u16..40, gap(), gap()).prop_map(|(packets, first, second)| Phase::BothWays {
            packets,
            gaps: [first, second]
        }),
        (0usize..2, 1u16..15, gap(), gap()).prop_map(|(host, packets, thought, pause)| Phase::Requests {
            host,
            packets,
            thought,
            pause
        }),
        gap().prop_map(|time| Phase::Silence { time }),
    ]
}

/// When each host sends.
fn agendas(phases: &[Phase], start: Instant, rtt: Duration, unit: Duration) -> [Vec<Instant>; 2] {
    let mut agendas = [Vec::new(), Vec::new()];
    let mut now = start;
    let times = |thousandths: u64| unit * thousandths as u32 / 1000 + Duration::from_micros(1);
    for phase in phases {
        match *phase {
            Phase::OneWay { host, packets, gap } => {
                for _ in 0..packets {
                    now += times(gap);
                    agendas[host].push(now);
                }
            }
            Phase::BothWays { packets, gaps } => {
                for (agenda, gap) in agendas.iter_mut().zip(gaps) {
                    agenda.extend((0..u32::from(packets)).map(|index| now + times(gap) * index));
                }
                now += times(*gaps.iter().max().unwrap_or(&0)) * u32::from(packets);
            }
            Phase::Requests {
                host,
                packets,
                thought,
                pause,
            } => {
                for _ in 0..packets {
                    agendas[host].push(now);
                    agendas[1 - host].push(now + rtt / 2 + times(thought));
                    now += rtt + times(thought) + times(pause);
                }
            }
            Phase::Silence { time } => now += times(time),
        }
    }
    agendas.iter_mut().for_each(|agenda| agenda.sort());
    agendas
}

fn state_changes(world: &World) -> Vec<&(Instant, usize, Event)> {
    let is_change = |event: &&(Instant, usize, Event)| matches!(event.2, Event::StateChanged { .. });
    world.events.iter().filter(is_change).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// With jitter of 20 % either way, and with any samples that such a path can give.
    #[test]
    fn traffic_over_a_path_that_works_never_leads_to_an_exploration(
        phases in prop::collection::vec(phase(), 1..8),
        rtt in prop_oneof![1_000u64..100_000, 100_000u64..2_000_000].prop_map(Duration::from_micros),
        jitter in 0u32..=200,
        samples in [prop::collection::vec(0u32..=1000, 1..12), prop::collection::vec(0u32..=1000, 1..12)],
        tests in prop::collection::vec((0usize..2, 0u64..10_000), 0..4),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(Config::fast(), [2, 2], seed);
        world.delay = rtt / 2;
        world.jitter_per_mille = jitter;
        for (host, samples) in samples.iter().enumerate() {
            for sample in samples {
                let sample = rtt * (1000 - jitter + 2 * jitter * sample / 1000) / 1000;
                world.with_reap(host, |reap, _, _| reap.note_rtt(sample));
            }
        }
        let unit = rtt + Config::fast().send_timeout;
        let agendas = agendas(&phases, world.now, rtt, unit);
        let end = agendas.iter().flatten().max().copied().unwrap_or_default() + unit * 4;
        for (host, agenda) in agendas.into_iter().enumerate() {
            world.agenda(host, agenda);
        }
        // Tests of the current pair and of others in the midst of it.
        for (host, wait) in tests {
            let until = (world.now + unit * wait as u32 / 1000).min(end);
            world.run_until(until, |_| false);
            world.with_reap(host, |reap, now, rng| {
                let pairs = reap.pairs().to_vec();
                let tested = pairs[(wait % 4) as usize];
                reap.probe_quietly(now, tested, rng);
            });
        }
        world.run_until(end, |_| false);
        prop_assert_eq!(state_changes(&world), Vec::<&(Instant, usize, Event)>::new());
    }
}

/// One packet, and a keepalive after a third of the floor: the longest wait for an answer that can be.
fn is_left(rtt: f64, believed: f64) -> bool {
    let mut world = World::new(Config::fast(), [1, 1], 1);
    world.delay = secs(rtt / 2.0);
    // Samples enough for the variance to be at its least.
    for _ in 0..100 {
        world.know_rtt(secs(believed));
    }
    world.agenda(0, [world.now]);
    world.run_for(rtt * 4.0 + 1.0);
    !state_changes(&world).is_empty()
}

#[test]
fn an_answer_just_within_the_send_timeout_is_awaited_and_one_just_after_it_is_not() {
    // 120 ms, with 40 ms of them for the keepalive.
    assert!(!is_left(0.0799, 0.01));
    assert!(is_left(0.0801, 0.01));
    // 200 + 100 + 60 ms.
    assert!(!is_left(0.3199, 0.2));
    assert!(is_left(0.3201, 0.2));
}

#[test]
fn jitter_of_a_fifth_is_within_what_is_allowed_for_at_any_round_trip() {
    let rtts = [1, 5, 20, 50, 100, 200, 500, 1000, 2000];
    for rtt in rtts.map(|millis| f64::from(millis) / 1000.0) {
        assert!(!is_left(rtt * 1.2, rtt * 0.8), "{rtt}");
    }
}

#[test]
fn a_payload_packet_every_interval_takes_the_place_of_keepalives() {
    // Keepalives come 40 ms after the packet that they answer.
    for (gap, keepalives) in [(0.0399, 0), (0.0401, 40)] {
        let mut world = World::new(Config::fast(), [1, 1], 1);
        world.know_rtt(secs(0.02));
        let start = world.now;
        // The other host answers at once, and this one waits from then on.
        world.agenda(0, (0..40).map(|index| start + secs(0.2 * f64::from(index))));
        world.agenda(
            1,
            (0..40).map(|index| start + secs(0.01 + gap + 0.2 * f64::from(index))),
        );
        world.run_for(7.9);
        let sent = world
            .log
            .iter()
            .filter(|packet| packet.body == Body::Keepalive && packet.sender == 1);
        assert_eq!(sent.count(), keepalives, "{gap}");
        assert_eq!(state_changes(&world), Vec::<&(Instant, usize, Event)>::new());
    }
}

#[test]
fn a_long_path_of_which_nothing_is_known_is_measured_and_kept() {
    for rtt in [0.3, 0.6, 1.0, 2.0] {
        let mut world = World::new(Config::fast(), [2, 2], 1);
        world.delay = secs(rtt / 2.0);
        world.flow(0, 0.1, 0.0);
        world.flow(1, 0.1, 0.05);
        world.run_for(20.0);
        let is_pair = |event: &(Instant, usize, Event)| matches!(event.2, Event::PairChanged { .. });
        assert!(!world.events.iter().any(is_pair), "{rtt}");
        let changes = state_changes(&world).len();
        world.run_for(60.0);
        assert_eq!(state_changes(&world).len(), changes, "{rtt}");
        assert!(world.is_well());
    }
}

/// What a path measures while it changes: the estimate is within the range of its samples at all times.
#[test]
fn an_estimate_stays_among_its_samples() {
    let mut rtt = Rtt::first(secs(0.1));
    for index in 0..1000 {
        rtt = rtt.with_sample(secs(if index % 3 == 0 { 0.05 } else { 0.2 }));
        assert!((secs(0.05)..=secs(0.2)).contains(&rtt.smoothed()));
        assert!(rtt.variance() <= secs(0.15));
    }
}
