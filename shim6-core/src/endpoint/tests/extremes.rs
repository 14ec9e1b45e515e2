//! No configuration makes an endpoint panic, however little sense it makes.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::world::identity;
use crate::wire::MAX_MESSAGE;
use crate::{
    Endpoint, EndpointConfig, EstablishmentConfig, FailbackConfig, Hint, Instant, LimitsConfig, LocatorPair,
    PeerConfig, Prefix, Profile, Rate, ReapConfig, UpdateConfig,
};

fn duration() -> impl Strategy<Value = Duration> {
    let usual = any::<u32>().prop_map(|micros| Duration::from_micros(micros.into()));
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        Just(Duration::from_secs(u64::MAX)),
        Just(Duration::from_nanos(1)),
        Just(Duration::from_micros(u64::MAX)),
        usual,
    ]
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 1 => Just(1), 4 => Just(usize::MAX), 20 => 2..20_usize]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 2..20_u32]
}

fn rate() -> impl Strategy<Value = Rate> {
    let drawn = (number(), number()).prop_map(|(total, per_prefix)| Rate::new(total, per_prefix));
    prop_oneof![10 => Just(Rate::UNLIMITED), 1 => drawn]
}

fn reap() -> impl Strategy<Value = ReapConfig> {
    let timers = (
        duration(),
        duration(),
        proptest::option::of(duration()),
        duration(),
        duration(),
    );
    (timers, number(), any::<bool>()).prop_map(|(timers, initial_probes, follow_rtt)| ReapConfig {
        send_timeout: timers.0,
        keepalive_timeout: timers.1,
        keepalive_interval: timers.2,
        initial_probe_timeout: timers.3,
        max_probe_timeout: timers.4,
        initial_probes,
        follow_rtt,
    })
}

fn failback() -> impl Strategy<Value = FailbackConfig> {
    (any::<bool>(), duration(), duration(), duration(), number()).prop_map(
        |(enabled, interval, stable, max_stable, rate)| FailbackConfig {
            enabled,
            interval,
            stable,
            max_stable,
            rate,
        },
    )
}

fn establishment() -> impl Strategy<Value = EstablishmentConfig> {
    let timers = (duration(), duration(), duration(), duration(), duration(), duration());
    (timers, number(), number(), number()).prop_map(|(timers, i1, i2, i2bis)| EstablishmentConfig {
        i1_timeout: timers.0,
        i2_timeout: timers.1,
        i2bis_timeout: timers.2,
        no_r1_holddown: timers.3,
        icmp_holddown: timers.4,
        validator_lifetime: timers.5,
        i1_retries_max: i1,
        i2_retries_max: i2,
        i2bis_retries_max: i2bis,
    })
}

fn limits() -> impl Strategy<Value = LimitsConfig> {
    let counts = (count(), count(), count(), count(), count(), count());
    let rates = (rate(), rate(), rate(), rate(), rate());
    (counts, rates, duration(), number(), count()).prop_map(|(counts, rates, idle, probes, prefixes)| LimitsConfig {
        contexts: counts.0,
        contexts_per_peer: counts.1,
        contexts_per_prefix: counts.2,
        peer_locators: counts.3,
        holddowns: counts.4,
        transmit_queue: counts.5,
        counted_prefixes: prefixes,
        idle_before_eviction: idle,
        probes,
        r1: rates.0,
        r2: rates.1,
        r1bis: rates.2,
        errors: rates.3,
        verifications: rates.4,
        #[cfg(feature = "rsa")]
        signatures: rates.4,
        #[cfg(feature = "rsa")]
        peer_key_sizes: shim6_cga::KeySizes::default(),
    })
}

fn config() -> impl Strategy<Value = EndpointConfig> {
    let parts = (reap(), failback(), establishment(), limits());
    let update = (duration(), duration());
    (parts, update, duration(), any::<bool>(), any::<u8>()).prop_map(|(parts, update, quiescence, fast, length)| {
        let profile = if fast { Profile::Fast } else { Profile::Rfc };
        EndpointConfig {
            profile,
            reap: parts.0,
            failback: parts.1,
            establishment: parts.2,
            limits: parts.3,
            update: UpdateConfig {
                timeout: update.0,
                max_timeout: update.1,
            },
            quiescence,
            peers: vec![PeerConfig {
                profile,
                reap: parts.0,
                ..PeerConfig::new(Prefix::new("2001:db8::".parse().expect("an address"), length))
            }],
            ..EndpointConfig::default()
        }
    })
}

/// Two hosts and the messages between them, each delivered at once. `on` says which pairs carry anything.
fn step(hosts: &mut [Endpoint; 2], now: Instant, on: impl Fn(LocatorPair) -> bool) {
    let mut buffer = vec![0; MAX_MESSAGE];
    for turn in 0..8 {
        let [from, to] = [turn % 2, (turn + 1) % 2];
        let mut sent = Vec::new();
        // With timers of zero there is always one more.
        while sent.len() < 20
            && let Some(transmit) = hosts[from].poll_transmit(&mut buffer)
        {
            sent.push((transmit, buffer[..transmit.len].to_vec()));
        }
        for (transmit, octets) in sent {
            let pair = LocatorPair::new(transmit.source, transmit.destination);
            if on(pair) && on(pair.seen_by_peer()) {
                hosts[to].handle_message(now, transmit.source, transmit.destination, &octets);
            }
        }
        while hosts[from].poll_dataplane().is_some() || hosts[from].poll_event().is_some() {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_configuration_makes_an_endpoint_panic(
        configs in [config(), config()],
        steps in proptest::collection::vec(duration(), 24),
    ) {
        let mut now = Instant::EPOCH;
        let mut number = 0;
        let mut hosts = configs.map(|config| {
            number += 1;
            Endpoint::new(config, identity(number), [number as u8; 32])
        });
        let ulids = LocatorPair::new(hosts[0].identity().locators()[0], hosts[1].identity().locators()[0]);
        let _ = hosts[0].establish(now, ulids);
        for (round, duration) in steps.into_iter().enumerate() {
            // The first path fails in the middle.
            step(&mut hosts, now, |pair| round < 8 || pair != ulids);
            for host in &mut hosts {
                for context in host.contexts().collect::<Vec<_>>() {
                    if let Some(activity) = &context.activity {
                        let _ = activity.record_sent(now, 1280);
                    }
                    host.handle_activity(now, context.id);
                    host.handle_hint(now, context.id, if round % 3 == 0 { Hint::Stalled } else { Hint::Progress });
                    let _ = host.probe(now, context.id, context.preferred, now + duration);
                }
                host.handle_timeout(now);
                let _ = (host.paths(), host.census());
            }
            let next = hosts.iter().filter_map(Endpoint::poll_timeout).min();
            now = next.unwrap_or(now).max(now) + duration.min(Duration::from_secs(1 << 20));
        }
    }
}
