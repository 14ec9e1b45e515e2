mod openmetrics;
mod scrape;
mod text;

use std::time::Duration;

use shim6_core::{Cause, Endpoint, EndpointConfig, LocatorPair};

use super::*;
use crate::status::PairStatus;

/// Figures of a daemon with `paths` locator pairs.
fn figures(paths: usize) -> Figures {
    let address = |last: usize| format!("2001:db8::{last:x}").parse().unwrap();
    let path = |number: usize| PathStatus {
        pair: PairStatus {
            local: address(1),
            peer: address(0x100 + number),
        },
        uplink: Some("eth0".to_owned()),
        state: ["working", "failed", "unknown"][number % 3].to_owned(),
        used_by: vec![7],
        users: 1,
        rtt_us: Some(20_500),
        probes_sent: 9,
        probes_answered: 8,
        loss_permille: Some(111),
        answered_ago_ms: Some(1),
        failed_ago_ms: None,
        heard_ago_ms: Some(2),
    };
    let amounts = |names: &[&str]| {
        (0..)
            .zip(names)
            .map(|(count, &name)| (name.to_owned(), count))
            .collect()
    };
    let failovers = Failovers::default();
    failovers.note(&changed(Cause::SendTimeout, Some(Duration::from_millis(171))));
    failovers.note(&changed(Cause::SendTimeout, Some(Duration::from_secs(90))));
    failovers.note(&changed(Cause::Preferred, None));
    let real = real_endpoint();
    Figures {
        uptime_ms: 12_345,
        observation: "ebpf".to_owned(),
        problems: 1,
        uplinks: vec![UplinkStatus {
            interface: "odd\"name\\".to_owned(),
            prefix: "2001:db8:a1::/64".to_owned(),
            gateway: None,
            address: address(1),
            ulid: true,
            up: true,
        }],
        contexts: amounts(&["established", "i1-sent"]),
        reachability: amounts(&["exploring", "inbound-ok", "operational"]),
        moved: 3,
        left_alone: amounts(&["e-failed", "no-support"]),
        sent: Volume { packets: 1, octets: 2 },
        received: Volume { packets: 3, octets: 4 },
        counters: Counters {
            received: amounts(&["I1", "Probe"]),
            sent: amounts(&["R1"]),
            discards: real
                .counters()
                .discards()
                .map(|(reason, count)| (reason.to_string(), count))
                .collect(),
            dataplane: amounts(&["out_rewritten", "hold_held", "out_rewritten_octets"]),
        },
        paths: (0..paths).map(path).collect(),
        paths_omitted: 5,
        failovers,
    }
}

fn changed(cause: Cause, took: Option<Duration>) -> Event {
    let mut context = real_endpoint();
    let ulids = LocatorPair::new(context.identity().locators()[0], "2001:db8:b1::1".parse().unwrap());
    let context = context.establish(shim6_core::Instant::EPOCH, ulids).unwrap();
    Event::PathChanged {
        context,
        from: ulids,
        to: ulids,
        cause,
        took,
    }
}

fn real_endpoint() -> Endpoint {
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;
    use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
    let prefix = |number| SubnetPrefix::from(std::net::Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0));
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let set = HbaSet::generate(&[prefix(1), prefix(2)], Sec::ZERO, &mut rng).unwrap();
    let identity = shim6_core::Identity::from_hba_set(&set, &mut rng);
    Endpoint::new(EndpointConfig::default(), identity, [1; 32])
}
