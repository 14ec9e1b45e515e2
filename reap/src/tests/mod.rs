//! Scenarios and what they share: a pair of machines over a small virtual network.

mod examples;
mod exploration;
mod hints;
mod properties;
mod quiet;
mod reports;
mod rtt;
mod table;
mod timing;
mod working;
mod world;
mod worlds;

use std::net::Ipv6Addr;
use std::time::Duration;
use std::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::{Event, Instant, LocatorPair, Probe, ProbeRecord, ProbeState, Reap, Transmit};

/// Locator number `index` of host `host` (0 or 1).
fn locator(host: usize, index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, host as u16 + 0xa, index as u16 + 1, 0, 0, 0, 1)
}

/// The pair of host 0's locator `local` and host 1's locator `peer`, as host 0 sees it.
fn pair(local: usize, peer: usize) -> LocatorPair {
    LocatorPair::new(locator(0, local), locator(1, peer))
}

/// All pairs of host 0, ordered by its own locator, then by the peer's.
fn pairs(locals: usize, peers: usize) -> Vec<LocatorPair> {
    (0..locals)
        .flat_map(|local| (0..peers).map(move |peer| pair(local, peer)))
        .collect()
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn at(seconds: f64) -> Instant {
    Instant::EPOCH + Duration::from_secs_f64(seconds)
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A probe as host 1 sends it to host 0 on `on` (as host 0 sees that pair).
fn probe_from_peer(state: ProbeState, on: LocatorPair, nonce: u32, received: Vec<ProbeRecord>) -> Probe {
    let record = ProbeRecord {
        source: on.peer,
        destination: on.local,
        nonce,
        data: 7,
    };
    Probe {
        state,
        sent: Vec::from([record]),
        received,
    }
}

fn transmits(reap: &mut Reap) -> Vec<Transmit> {
    std::iter::from_fn(|| reap.poll_transmit()).collect()
}

fn events(reap: &mut Reap) -> Vec<Event> {
    std::iter::from_fn(|| reap.poll_event()).collect()
}

/// The one probe that was sent, with its pair.
fn only_probe(reap: &mut Reap) -> (LocatorPair, Probe) {
    match <[Transmit; 1]>::try_from(transmits(reap)) {
        Ok([Transmit::Probe { pair, probe }]) => (pair, probe),
        other => panic!("not one probe: {other:?}"),
    }
}
