//! The two hosts and the network.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::num::NonZeroU32;
use core::time::Duration;
use std::sync::LazyLock;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};

use super::super::Source;
use super::forge::Seen;
use crate::dataplane::{DataplaneUpdate, IPV6_HEADER_LEN, Inbound, Observed, Outbound, PAYLOAD_HEADER_LEN, addresses};
use crate::wire::{MAX_MESSAGE, Message, PROTOCOL, Preference, PreferenceFlags};
use crate::{
    ContextId, ContextState, Dataplane, Endpoint, EndpointConfig, Identity, Instant, LimitsConfig, LocatorPair, Rate,
    ReapConfig,
};

/// Packets on their way; the oldest are lost when there are more.
const IN_FLIGHT: usize = 32;
/// Outputs of a kind after one input: a fault if there are more.
const OUTPUTS: usize = 100;
/// Timeouts at one moment: a fault if there are more.
const TIMEOUTS_AT_ONCE: usize = 100;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const RATE: Rate = Rate {
    total: 20,
    per_prefix: 15,
};

/// Small enough for the bounds to be reached.
fn limits() -> LimitsConfig {
    LimitsConfig {
        contexts: 6,
        contexts_per_peer: 4,
        peer_locators: 4,
        holddowns: 2,
        transmit_queue: 12,
        counted_prefixes: 4,
        r1: RATE,
        r2: RATE,
        r1bis: RATE,
        errors: RATE,
        verifications: RATE,
        #[cfg(feature = "rsa")]
        signatures: RATE,
        ..LimitsConfig::default()
    }
}

#[derive(Clone)]
struct Host {
    number: usize,
    endpoint: Endpoint,
    dataplane: Dataplane,
}

#[derive(Clone)]
pub(super) struct World {
    now: Instant,
    hosts: [Host; 2],
    /// Whole IPv6 packets.
    network: VecDeque<Vec<u8>>,
    seen: Seen,
}

static ESTABLISHED: LazyLock<World> = LazyLock::new(|| {
    let mut world = World {
        now: Instant::from_micros(1_000_000_000),
        hosts: [0, 1].map(Host::new),
        network: VecDeque::new(),
        seen: Seen::default(),
    };
    let ulids = world.pair(0, 0, 0);
    let now = world.now;
    world.hosts[0].endpoint.establish(now, ulids).expect("a peer");
    world.drain(0);
    world.deliver_all();
    // A failure at one end: probes, too, have been seen then.
    let lost = ulids.local;
    world.hosts[0].endpoint.handle_locator(now, lost, false);
    world.drain(0);
    world.deliver_all();
    world.hosts[0].endpoint.handle_locator(now, lost, true);
    world.drain(0);
    world.deliver_all();
    for host in &world.hosts {
        let states: Vec<_> = host.endpoint.contexts().map(|context| context.state).collect();
        assert_eq!(states, [ContextState::Established]);
    }
    world
});

/// What a host may have of its three locators. The first one is what it begins with.
const PRESENT: [&[usize]; 5] = [&[0, 1], &[0, 1, 2], &[0, 2], &[0], &[1, 2]];

/// The identities that each host may have.
static IDENTITIES: LazyLock<[Vec<Identity>; 2]> = LazyLock::new(|| {
    [0, 1].map(|number: u16| {
        let prefix = |uplink| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, number, uplink, 0, 0, 0, 0));
        let mut rng = ChaCha12Rng::seed_from_u64(number.into());
        let prefixes = [prefix(0xa), prefix(0xb), prefix(0xc)];
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("three prefixes make a set");
        let of = |present: &&[usize]| {
            let is_present = |address| present.iter().any(|&index| set.addresses()[index] == address);
            Identity::from_hba_subset(&set, is_present, &mut rng)
        };
        PRESENT.iter().map(of).collect()
    })
});

impl Host {
    fn new(number: usize) -> Self {
        let config = EndpointConfig {
            reap: ReapConfig {
                send_timeout: Duration::from_millis(500),
                keepalive_timeout: Duration::from_millis(500),
                initial_probe_timeout: Duration::from_millis(100),
                ..ReapConfig::default()
            },
            limits: limits(),
            ..EndpointConfig::default()
        };
        Self {
            endpoint: Endpoint::new(config, IDENTITIES[number][0].clone(), [number as u8; 32]),
            dataplane: Dataplane::default(),
            number,
        }
    }

    /// Whether the host may ever have this address.
    fn owns(&self, address: Ipv6Addr) -> bool {
        IDENTITIES[self.number][1].contains(address)
    }
}

impl World {
    /// Two hosts with a context between their first locators.
    pub(super) fn established() -> Self {
        let mut world = ESTABLISHED.clone();
        // The clone's flows count for themselves.
        for Host {
            endpoint, dataplane, ..
        } in &mut world.hosts
        {
            *dataplane = Dataplane::default();
            endpoint
                .flows()
                .for_each(|flow| dataplane.apply(DataplaneUpdate::Insert(flow.clone())));
        }
        world
    }

    /// The packet at this place of the queue arrives.
    pub(super) fn deliver(&mut self, index: usize) {
        if let Some(packet) = self.take(index) {
            self.arrive(packet);
        }
    }

    /// Everything on its way arrives, and what is sent because of it.
    pub(super) fn deliver_all(&mut self) {
        for _ in 0..10 * IN_FLIGHT {
            self.deliver(0);
        }
    }

    pub(super) fn lose(&mut self, index: usize) {
        let _ = self.take(index);
    }

    pub(super) fn duplicate(&mut self, index: usize) {
        if let Some(packet) = self.take(index) {
            self.launch(packet.clone());
            self.launch(packet);
        }
    }

    /// Time passes; what is due in it is done in its time.
    pub(super) fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..TIMEOUTS_AT_ONCE {
            match self.next_timeout().filter(|&at| at <= until) {
                Some(at) => self.time_out(at),
                None => break,
            }
        }
        // Or it is done late.
        self.time_out(until);
    }

    pub(super) fn wait_for_timeout(&mut self) {
        if let Some(at) = self.next_timeout() {
            self.time_out(at);
        }
    }

    /// A forged message arrives.
    pub(super) fn inject(&mut self, source: &mut Source<'_>) {
        let on = self.any_pair(source);
        let message = self.seen.forge(source);
        self.arrive(ipv6(on, PROTOCOL, &message));
    }

    /// A message arrives that has never been one.
    pub(super) fn inject_as_it_is(&mut self, source: &mut Source<'_>) {
        let on = self.any_pair(source);
        let message = source.take();
        self.arrive(ipv6(on, PROTOCOL, &super::super::sealed(message)));
    }

    /// An application sends.
    pub(super) fn send_payload(&mut self, source: &mut Source<'_>) {
        let from = source.index(2);
        let ulids = self.pair(from, source.index(2), source.index(2));
        self.leave(from, ipv6(ulids, UDP, &[1, 2, 3, 4, 5, 6, 7, 8]));
    }

    /// A packet of any kind is sent, or arrives.
    pub(super) fn send_packet(&mut self, source: &mut Source<'_>) {
        let on = self.any_pair(source);
        let (kind, next_header) = (source.octet(), source.octet());
        let packet = ipv6(on, next_header, source.take());
        match self.owner(on.local).filter(|_| kind & 1 != 0) {
            Some(host) => self.leave(host, packet),
            None => self.arrive(packet),
        }
    }

    /// A router, or somebody else, says that a packet did not arrive.
    pub(super) fn answer_by_icmp(&mut self, source: &mut Source<'_>) {
        let index = source.octet().into();
        let Some(packet) = self.take(index) else { return };
        let Some((sender, _)) = addresses(&packet) else { return };
        let (kind, code, pointer) = (1 + source.octet() % 4, source.octet() % 8, source.octet());
        let kept = packet.len().saturating_sub(source.octet().into());
        let mut error = vec![kind, code, 0, 0, 0, 0, pointer, source.octet()];
        error.extend_from_slice(&packet[..kept]);
        let on = LocatorPair::new(self.any_pair(source).local, sender);
        let sum = icmp_checksum(on, &error);
        error[2..4].copy_from_slice(&sum.to_be_bytes());
        self.arrive(ipv6(on, ICMPV6, &error));
    }

    /// The owner of a host does something.
    pub(super) fn command(&mut self, source: &mut Source<'_>) {
        let (what, host, now) = (source.octet(), source.index(2), self.now);
        let pair = self.pair(host, source.index(2), source.index(2));
        let id = self.any_context(host, source);
        let endpoint = &mut self.hosts[host].endpoint;
        match (what % 10, id) {
            (0, _) => drop(endpoint.establish(now, pair)),
            (1, Some(id)) => endpoint.close(id),
            (2, _) => endpoint.handle_locator(now, pair.local, what < 128),
            (3, Some(id)) => endpoint.handle_activity(now, id),
            (4, Some(id)) => endpoint.set_in_use(id, what < 128),
            (5 | 6, _) => drop(endpoint.fork(now, pair, NonZeroU32::MIN)),
            (7 | 8, _) => endpoint.set_identity(now, IDENTITIES[host][source.index(PRESENT.len())].clone()),
            (9, _) => {
                let preference = Preference {
                    flags: PreferenceFlags(source.octet()),
                    priority: source.octet(),
                    weight: source.octet(),
                };
                endpoint.set_preferences(now, &[(pair.local, preference)]);
            }
            _ => endpoint.handle_timeout(now),
        }
        self.drain(host);
    }

    fn any_context(&self, host: usize, source: &mut Source<'_>) -> Option<ContextId> {
        let mut ids: Vec<_> = self.hosts[host].endpoint.contexts().map(|context| context.id).collect();
        // The table's order is not the same in every run.
        ids.sort_unstable();
        let which = source.octet();
        ids.get(usize::from(which).checked_rem(ids.len())?).copied()
    }

    fn pair(&self, from: usize, local: usize, peer: usize) -> LocatorPair {
        // Those of all three, whether the host has them now or not.
        let locator = |host: usize, index: usize| IDENTITIES[host][1].locators()[index];
        LocatorPair::new(locator(from, local), locator(1 - from, peer))
    }

    /// Addresses of a packet: mostly of one host to the other.
    fn any_pair(&self, source: &mut Source<'_>) -> LocatorPair {
        let which = source.octet();
        let bit = |bit: u8| usize::from(which >> bit & 1);
        let mut pair = self.pair(bit(0), bit(1), bit(2));
        match which >> 4 {
            0 => pair.local = Ipv6Addr::new(0x2001, 0xdb8, 99, 0, 0, 0, 0, 1),
            1 => pair.local = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            2 => pair.local = pair.peer,
            _ => {}
        }
        pair
    }

    fn take(&mut self, index: usize) -> Option<Vec<u8>> {
        self.network.remove(index.checked_rem(self.network.len())?)
    }

    fn launch(&mut self, packet: Vec<u8>) {
        if self.network.len() == IN_FLIGHT {
            self.network.pop_front();
        }
        self.network.push_back(packet);
    }

    fn owner(&self, address: Ipv6Addr) -> Option<usize> {
        self.hosts.iter().position(|host| host.owns(address))
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout()).min()
    }

    /// What is due at this time is done, and is not due any more then.
    fn time_out(&mut self, at: Instant) {
        self.now = self.now.max(at);
        for host in [0, 1] {
            let mut calls = 0;
            while self.hosts[host]
                .endpoint
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                self.hosts[host].endpoint.handle_timeout(self.now);
                self.drain(host);
                calls += 1;
                assert!(calls < TIMEOUTS_AT_ONCE, "a timeout is due again and again");
            }
        }
    }

    /// A packet goes out of a host.
    fn leave(&mut self, from: usize, packet: Vec<u8>) {
        let mut buffer = [&[0; PAYLOAD_HEADER_LEN], &packet[..]].concat();
        let now = self.now;
        let wake = match self.hosts[from]
            .dataplane
            .outbound(&mut buffer, PAYLOAD_HEADER_LEN, now)
        {
            Outbound::Rewritten { start, flow, wake } => {
                let wake = wake.then_some(flow.context);
                self.launch(buffer[start..].to_vec());
                wake
            }
            Outbound::Unchanged { flow, wake } => {
                let wake = wake.then_some(flow.context);
                self.launch(packet);
                wake
            }
            Outbound::NoContext | Outbound::NotPayload | Outbound::Malformed(_) => {
                self.launch(packet);
                None
            }
        };
        self.wake(from, wake);
    }

    /// A packet comes to its host.
    fn arrive(&mut self, mut packet: Vec<u8>) {
        let Some((source, destination)) = addresses(&packet) else {
            return;
        };
        let Some(to) = self.owner(destination) else { return };
        let (now, host) = (self.now, &mut self.hosts[to]);
        let wake = match host.dataplane.inbound(&mut packet, 0, now) {
            Inbound::Restored { flow, wake, .. } => wake.then_some(flow.context),
            // Every other message as if the caller had not kept its packet.
            Inbound::Control { start } if packet.len().is_multiple_of(16) => {
                host.endpoint.handle_message(now, source, destination, &packet[start..]);
                None
            }
            Inbound::NotShim6 => {
                host.endpoint.handle_packet(now, &packet);
                match host.dataplane.observe(source, destination, false, packet.len(), now) {
                    Observed::Wake(context) => Some(context),
                    Observed::Recorded | Observed::NoContext(_) => None,
                }
            }
            Inbound::Control { .. } | Inbound::NoContext | Inbound::Malformed(_) => {
                host.endpoint.handle_packet(now, &packet);
                None
            }
        };
        self.wake(to, wake);
        self.drain(to);
    }

    fn wake(&mut self, host: usize, context: Option<ContextId>) {
        if let Some(context) = context {
            self.hosts[host].endpoint.handle_activity(self.now, context);
            self.drain(host);
        }
    }

    /// Fetches what an endpoint has to give, and checks what must always hold of it.
    fn drain(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let mut outputs = 0;
        while let Some(update) = host.endpoint.poll_dataplane() {
            host.dataplane.apply(update);
            outputs += 1;
        }
        let mut sent = Vec::new();
        let mut buffer = vec![0; MAX_MESSAGE];
        while let Some(transmit) = host.endpoint.poll_transmit(&mut buffer) {
            let message = &buffer[..transmit.len];
            assert_eq!(
                Message::parse(message).map(|message| message.message_type()),
                Ok(transmit.message_type)
            );
            assert!(host.owns(transmit.source) && !host.owns(transmit.destination));
            self.seen.remember(message);
            let on = LocatorPair::new(transmit.source, transmit.destination);
            sent.push(ipv6(on, PROTOCOL, message));
        }
        assert!(sent.len() <= limits().transmit_queue);
        while let Some(length) = host.endpoint.poll_deliver(&mut buffer) {
            let (_, destination) = addresses(&buffer[..length]).expect("an IPv6 packet");
            assert!(host.owns(destination));
            outputs += 1;
        }
        while host.endpoint.poll_event().is_some() {
            outputs += 1;
        }
        assert!(outputs < OUTPUTS, "{outputs} outputs");
        check(host);
        sent.into_iter().for_each(|packet| self.launch(packet));
    }
}

fn check(host: &Host) {
    let (
        Host {
            endpoint, dataplane, ..
        },
        limits,
    ) = (host, limits());
    endpoint.assert_consistent();
    let contexts: Vec<_> = endpoint.contexts().collect();
    assert!(contexts.len() <= limits.contexts);
    let with = |peer| contexts.iter().filter(|context| context.ulids.peer == peer).count();
    for context in &contexts {
        assert!(with(context.ulids.peer) <= limits.contexts_per_peer);
        assert!(context.peer_locators.len() <= limits.peer_locators);
        assert!(host.owns(context.ulids.local) && host.owns(context.locators.local));
    }
    assert_eq!(dataplane.len(), endpoint.flows().count());
}

/// RFC 4443 section 2.3.
fn icmp_checksum(on: LocatorPair, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let header = [&on.local.octets()[..], &on.peer.octets(), &length, &[0, 0, 0, ICMPV6]].concat();
    // The sum of Shim6 is the same one.
    crate::wire::checksum(&[&header, message].concat())
}

fn ipv6(on: LocatorPair, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[next_header, 64]);
    packet.extend_from_slice(&on.local.octets());
    packet.extend_from_slice(&on.peer.octets());
    packet.extend_from_slice(payload);
    debug_assert!(packet.len() >= IPV6_HEADER_LEN);
    packet
}
