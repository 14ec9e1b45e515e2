//! Hosts for the benches, and what passes between them.

// Each bench uses its part.
#![allow(dead_code)]

#[path = "../../../cga/benches/paired/mod.rs"]
pub(crate) mod paired;

use std::net::Ipv6Addr;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::wire::MAX_MESSAGE;
use shim6_core::{
    ContextId, DataplaneUpdate, Endpoint, EndpointConfig, Identity, Instant, LimitsConfig, LocatorPair, Rate,
};

pub(crate) fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

/// A host with one HBA under each of two prefixes.
pub(crate) fn set(rng: &mut dyn Rng) -> HbaSet {
    let mut site = [0; 4];
    rng.fill_bytes(&mut site);
    let prefixes =
        [1, 2].map(|uplink| SubnetPrefix::new([0x20, uplink, 0xd, 0xb8, site[0], site[1], site[2], site[3]]));
    HbaSet::generate(&prefixes, Sec::ZERO, rng).expect("a set")
}

/// The control side of such a host, with no limit in the way.
pub(crate) fn endpoint(rng: &mut dyn Rng) -> Endpoint {
    endpoint_with(boundless(), rng)
}

pub(crate) fn boundless() -> EndpointConfig {
    EndpointConfig {
        limits: LimitsConfig {
            contexts: usize::MAX,
            contexts_per_peer: usize::MAX,
            transmit_queue: usize::MAX,
            r1: Rate::UNLIMITED,
            contexts_per_prefix: usize::MAX,
            r2: Rate::UNLIMITED,
            verifications: Rate::UNLIMITED,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    }
}

/// The control side of such a host.
pub(crate) fn endpoint_with(config: EndpointConfig, rng: &mut dyn Rng) -> Endpoint {
    let identity = Identity::from_hba_set(&set(rng), rng);
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Endpoint::new(config, identity, seed)
}

/// The ULID pair that a context of these two hosts has by default, as `initiator` sees it.
pub(crate) fn ulids(initiator: &Endpoint, responder: &Endpoint) -> LocatorPair {
    LocatorPair {
        local: initiator.identity().locators()[0],
        peer: responder.identity().locators()[0],
    }
}

/// What one end of a context was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) context: Option<ContextId>,
    pub(crate) messages: u32,
}

/// Gives everything that `from` has to say to `to`.
pub(crate) fn deliver(now: Instant, from: &mut Endpoint, to: &mut Endpoint) -> Told {
    let mut told = Told::default();
    while let Some(update) = from.poll_dataplane() {
        if let DataplaneUpdate::Insert(flow) = update {
            told.context = Some(flow.context);
        }
    }
    let mut buffer = [0; MAX_MESSAGE];
    while let Some(transmit) = from.poll_transmit(&mut buffer) {
        to.handle_message(now, transmit.source, transmit.destination, &buffer[..transmit.len]);
        told.messages += 1;
    }
    while from.poll_event().is_some() {}
    told
}

/// A whole four-way exchange. Gives both ends' names of the context.
pub(crate) fn exchange(now: Instant, initiator: &mut Endpoint, responder: &mut Endpoint) -> [ContextId; 2] {
    let pair = ulids(initiator, responder);
    initiator.establish(now, pair).expect("a context");
    let mut contexts = [None; 2];
    let mut messages = 0;
    loop {
        let asked = deliver(now, initiator, responder);
        let answered = deliver(now, responder, initiator);
        contexts = [contexts[0].or(asked.context), contexts[1].or(answered.context)];
        if asked.messages + answered.messages == 0 {
            break;
        }
        messages += asked.messages + answered.messages;
    }
    assert_eq!(messages, 4, "I1, R1, I2, R2");
    contexts.map(|context| context.expect("a context"))
}

/// An address that anybody may claim to have.
pub(crate) fn stranger(rng: &mut dyn Rng) -> Ipv6Addr {
    let host = rng.next_u64().to_be_bytes();
    let site = rng.next_u64().to_be_bytes();
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&site);
    octets[8..].copy_from_slice(&host);
    (octets[0], octets[1]) = (0x20, 1);
    Ipv6Addr::from(octets)
}
