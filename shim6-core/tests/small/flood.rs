//! What a device's shim takes of the heap at the most, while everybody who can makes it take more.

use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use allocation_counter::measure;
use rand_chacha::rand_core::Rng;
use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::dataplane::HoldConfig;
use shim6_core::shim::{FlowKey, HEADROOM, Shim, ShimConfig};
use shim6_core::wire::{ContextTag, I1, MAX_MESSAGE, Message, PROTOCOL, payload};
use shim6_core::{
    ContextInfo, ContextState, Endpoint, EndpointConfig, Identity, Instant, LimitsConfig, LocatorPair, Rate,
};

use crate::hosts;

/// Octets of the heap that are enough for a small device, see the crate's README.
const ENOUGH: i64 = 96 * 1024;

/// A shim, and what it has of the heap.
struct Device {
    shim: Option<Shim>,
    ulid: Ipv6Addr,
    now: Instant,
    octets: i64,
    peak: i64,
    /// The most there ever were.
    contexts: usize,
    established: usize,
    held: usize,
    failures: usize,
    forked: usize,
}

impl Device {
    fn new(config: &ShimConfig) -> Self {
        let identity = hosts::identity(1);
        let mut device = Self {
            shim: None,
            ulid: identity.locators()[0],
            now: hosts::at(1_000_000),
            octets: 0,
            peak: 0,
            contexts: 0,
            established: 0,
            held: 0,
            failures: 0,
            forked: 0,
        };
        let mut made = None;
        // What the caller has made and gives away counts as well.
        device.count(|| made = Some(Shim::new(config.clone(), identity.clone(), [7; 32])));
        device.shim = made;
        device
    }

    fn count(&mut self, run: impl FnOnce()) {
        let taken = measure(run);
        let most = i64::try_from(taken.bytes_max).expect("octets of a test");
        self.peak = self.peak.max(self.octets + most);
        self.octets += taken.bytes_current;
    }

    /// Does something with the shim, and counts what that takes.
    fn act<T>(&mut self, act: impl FnOnce(&mut Shim, Instant) -> T) -> T {
        let (mut shim, now) = (self.shim.take().expect("it is there"), self.now);
        let mut result = None;
        self.count(|| result = Some(act(&mut shim, now)));
        self.contexts = self.contexts.max(shim.endpoint().contexts().count());
        let is_established = |context: &ContextInfo| context.state == ContextState::Established;
        let established = shim.endpoint().contexts().filter(is_established);
        self.established = self.established.max(established.count());
        self.held = self.held.max(shim.hold().octets());
        self.failures = self.failures.max(shim.endpoint().failures().count());
        self.forked = self.forked.max(shim.forked_flows());
        self.shim = Some(shim);
        result.expect("it was done")
    }

    fn receive(&mut self, packet: &mut [u8]) {
        self.act(|shim, now| shim.receive(now, packet, 0));
    }

    fn send(&mut self, peer: Ipv6Addr, octets: u16) {
        let mut buffer = hosts::datagram(self.ulid, peer, octets);
        self.act(|shim, now| shim.send(now, &mut buffer, HEADROOM));
    }

    /// Time passes. What the device has to say goes to `peer`, if it is for that, and the answers back.
    fn pass(&mut self, milliseconds: u64, mut peer: Option<&mut Endpoint>) {
        let end = self.now + std::time::Duration::from_millis(milliseconds);
        let mut room = [0; 1500];
        loop {
            while let Some(length) = self.act(|shim, _| shim.poll_transmit(&mut room)) {
                let [source, destination] = hosts::addresses(&room[..length]);
                if let Some(peer) = peer.as_deref_mut()
                    && room[6] == PROTOCOL
                    && peer.identity().contains(destination)
                {
                    peer.handle_message(self.now, source, destination, &room[40..length]);
                }
            }
            self.act(|shim, _| while shim.poll_event().is_some() {});
            let answers = peer.as_deref_mut().map_or_else(Vec::new, |peer| said(peer, self.now));
            if !answers.is_empty() {
                answers.into_iter().for_each(|mut packet| self.receive(&mut packet));
                continue;
            }
            let due = self.shim.as_ref().and_then(Shim::poll_timeout);
            let Some(due) = due.filter(|&due| due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.act(Shim::handle_timeout);
        }
        self.now = end;
    }
}

/// The control messages of a peer, as packets.
fn said(peer: &mut Endpoint, now: Instant) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut buffer = [0; MAX_MESSAGE];
    while let Some(transmit) = peer.poll_transmit(&mut buffer) {
        packets.push(control(transmit.source, transmit.destination, &buffer[..transmit.len]));
    }
    while peer.poll_dataplane().is_some() || peer.poll_event().is_some() {}
    if peer.poll_timeout().is_some_and(|due| due <= now) {
        peer.handle_timeout(now);
    }
    packets
}

fn control(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![6 << 4, 0, 0, 0];
    packet.extend(u16::try_from(message.len()).expect("a message").to_be_bytes());
    packet.extend([PROTOCOL, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}

/// A peer with as many locators as a message has room for, and no bounds of its own.
fn greedy(number: u16) -> Endpoint {
    let prefix = |uplink: u8| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, (number >> 8) as u8, number as u8, 0, uplink]);
    let prefixes: Vec<_> = (0..shim6_core::cga::MAX_PREFIXES as u8).map(prefix).collect();
    let mut rng = hosts::rng(number);
    let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("a set");
    let limits = LimitsConfig {
        contexts: usize::MAX,
        contexts_per_peer: usize::MAX,
        contexts_per_prefix: usize::MAX,
        r2: Rate::UNLIMITED,
        ..LimitsConfig::default()
    };
    let config = EndpointConfig {
        limits,
        ..EndpointConfig::default()
    };
    Endpoint::new(config, Identity::from_hba_set(&set, &mut rng), [number as u8; 32])
}

fn stranger(rng: &mut dyn Rng) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(rng.next_u64()) | 0x2a00_u128 << 112 | u128::from(rng.next_u32()) << 64)
}

/// Everything that anybody can do, one thing after the other. Gives the device as it is then.
fn flooded(config: &ShimConfig) -> Device {
    let mut device = Device::new(config);
    let mut rng = hosts::rng(99);
    // Exchanges begun with forged sources, and packets of contexts that never were, in bursts.
    for burst in 0..40 {
        for number in 0..100_u64 {
            let i1 = Message::I1(I1 {
                initiator_context_tag: ContextTag::from_random_bits(rng.next_u64()),
                initiator_nonce: rng.next_u32(),
                ulid_pair: None,
                forked_instance: None,
            });
            let mut message = [0; MAX_MESSAGE];
            let length = i1.emit(&mut message).expect("an I1");
            let source = stranger(&mut rng);
            device.receive(&mut control(source, device.ulid, &message[..length]));
            let mut header = [0; payload::LEN];
            payload::emit(ContextTag::from_random_bits(number << 8 | burst), 17, &mut header);
            device.receive(&mut control(source, device.ulid, &[&header[..], &[0; 40]].concat()));
            device.receive(&mut control(source, device.ulid, &[burst as u8; 64]));
        }
        device.pass(100, None);
    }
    // Peers that keep all rules, and have as many contexts as they get.
    let mut peers: Vec<_> = (1_000..1_060).map(greedy).collect();
    for peer in &mut peers {
        let ulids = LocatorPair::new(peer.identity().locators()[0], device.ulid);
        let _ = peer.establish(device.now, ulids);
        for instance in 1..6 {
            let instance = NonZeroU32::new(instance).expect("not zero");
            let _ = peer.fork(device.now, ulids, instance);
        }
        device.pass(500, Some(peer));
    }
    // Traffic on all of them, and then nothing comes back: everything is held, and nothing works.
    let ulids: Vec<_> = peers.iter().map(|peer| peer.identity().locators()[0]).collect();
    for round in 0..60 {
        for &peer in &ulids {
            device.send(peer, 1_280);
            let flow = FlowKey {
                ulids: LocatorPair::new(device.ulid, peer),
                protocol: 17,
                local_port: round,
                peer_port: 7,
            };
            let _ = device.act(|shim, now| shim.fork(now, flow));
        }
        device.pass(50, None);
    }
    // Pairs of addresses that deserve a context each, with peers that never answer.
    for _ in 0..600 {
        let peer = stranger(&mut rng);
        for _ in 0..6 {
            device.send(peer, 100);
            let mut packet = hosts::datagram(peer, device.ulid, 100).split_off(HEADROOM);
            device.receive(&mut packet);
        }
        device.pass(1_000, None);
    }
    device
}

#[test]
fn whatever_others_do_a_small_device_takes_no_more_than_its_share_of_the_heap() {
    let config = ShimConfig::small();
    let mut device = flooded(&config);
    println!(
        "heap: {} octets at the most, {} now; {} contexts, {} established, {} octets held, {} peers left alone, {} flows of their own",
        device.peak, device.octets, device.contexts, device.established, device.held, device.failures, device.forked
    );
    assert!(device.peak <= ENOUGH, "{} octets", device.peak);
    // The flood has got to the bounds.
    let limits = &config.endpoint.limits;
    assert_eq!(device.contexts, limits.contexts);
    assert_eq!(device.established, limits.contexts);
    assert!(
        (1..=limits.holddowns).contains(&device.failures),
        "{} left alone",
        device.failures
    );
    assert_eq!(device.forked, config.flows);
    assert!(device.held > config.hold.octets / 2, "{} octets held", device.held);

    // And the device still serves who comes.
    device.pass(60_000, None);
    let mut peer = greedy(2_000);
    let ulids = LocatorPair::new(peer.identity().locators()[0], device.ulid);
    peer.establish(device.now, ulids).expect("a new peer");
    device.pass(1_000, Some(&mut peer));
    let established = peer
        .contexts()
        .filter(|context| context.state == ContextState::Established);
    assert_eq!(established.count(), 1);
}

/// Or the test above could not fail.
#[test]
fn same_flood_makes_a_device_take_more_where_a_bound_is_lifted() {
    let config = ShimConfig {
        hold: HoldConfig::default(),
        ..ShimConfig::small()
    };
    assert!(flooded(&config).peak > ENOUGH);
}
