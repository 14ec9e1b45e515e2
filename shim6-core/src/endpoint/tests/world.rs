//! Hosts with real identities and data planes, a network between them, and a clock that only the tests move.
//!
//! Everything on the network is a whole IPv6 packet, control messages too. Each host's application payload takes the way
//! that it takes in a daemon: seen by an observer while its flow is not steered, rewritten by the data plane when it is.
//! A payload packet that arrives must be the one that was sent, octet for octet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};

use super::packets::{UDP_HEADER_LEN, datagram, ipv6};
use crate::dataplane::{IPV6_HEADER_LEN, Inbound, Observed, Outbound, PAYLOAD_HEADER_LEN, addresses};
use crate::wire::{Discard, MAX_MESSAGE, Message, MessageType, PROTOCOL, Preference, checksum};
use crate::{
    ContextId, ContextInfo, ContextState, Dataplane, Endpoint, EndpointConfig, Event, FailbackConfig, Identity,
    Instant, LocatorPair, Profile, ReapConfig,
};

/// The first host, mostly the initiator.
pub(super) const A: usize = 0;
/// The second host.
pub(super) const B: usize = 1;

/// How long a packet is on its way unless a test says otherwise.
pub(super) const DELAY: Duration = Duration::from_millis(10);

/// More inputs at one moment than any scenario has: somebody asks to be called again and again.
const STEPS_AT_ONCE: usize = 2_000;

/// Destination port of payload that wants a reply.
const REQUEST: u16 = 7;
/// Destination port of payload that wants none.
const NO_REPLY: u16 = 9;

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The timers of RFC 5534, and no way back to a pair that works again.
pub(super) fn rfc() -> EndpointConfig {
    EndpointConfig {
        profile: Profile::Rfc,
        reap: ReapConfig::rfc(),
        failback: FailbackConfig {
            enabled: false,
            ..FailbackConfig::default()
        },
        ..EndpointConfig::default()
    }
}

/// REAP at fractions of a second that stay as they are, and no way back to a pair that works again.
pub(super) fn fast() -> EndpointConfig {
    EndpointConfig {
        profile: Profile::Fast,
        reap: ReapConfig {
            send_timeout: ms(500),
            keepalive_timeout: ms(500),
            initial_probe_timeout: ms(100),
            ..ReapConfig::rfc()
        },
        ..rfc()
    }
}

/// The identity of a host with two prefixes; another `number` gives another host.
pub(super) fn hba_set(number: u16) -> HbaSet {
    let prefix = |uplink| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, number + 1, uplink, 0, 0, 0, 0));
    let mut rng = ChaCha12Rng::seed_from_u64(u64::from(number));
    HbaSet::generate(&[prefix(0xa), prefix(0xb)], Sec::ZERO, &mut rng).expect("two prefixes make a set")
}

pub(super) fn identity(number: u16) -> Identity {
    Identity::from_hba_set(&hba_set(number), &mut ChaCha12Rng::seed_from_u64(u64::from(number)))
}

pub(super) fn emit(message: &Message) -> Vec<u8> {
    let mut octets = vec![0; MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("the message can be written");
    octets.truncate(length);
    octets
}

/// Gives a changed message its right length and checksum.
pub(super) fn seal(octets: &mut [u8]) {
    octets[1] = u8::try_from(octets.len() / 8 - 1).expect("the message has a length that it can say");
    octets[4..6].fill(0);
    let sum = checksum(octets);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
}

pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) dataplane: Dataplane,
    pub(super) events: Vec<(Instant, Event)>,
    /// When payload arrived, and its number.
    pub(super) received: Vec<(Instant, u32)>,
    /// ICMPv6 errors for the upper layers.
    pub(super) delivered: Vec<Vec<u8>>,
    /// Payload headers with a tag that this host does not know.
    pub(super) unknown_tags: usize,
}

impl Host {
    fn new(config: EndpointConfig, identity: Identity, seed: u8) -> Self {
        Self {
            endpoint: Endpoint::new(config, identity, [seed; 32]),
            dataplane: Dataplane::default(),
            events: Vec::new(),
            received: Vec::new(),
            delivered: Vec::new(),
            unknown_tags: 0,
        }
    }

    /// The only context.
    pub(super) fn context(&self) -> ContextInfo {
        let contexts: Vec<_> = self.endpoint.contexts().collect();
        assert_eq!(contexts.len(), 1, "{contexts:?}");
        contexts[0].clone()
    }

    pub(super) fn discarded(&self, reason: Discard) -> u64 {
        self.endpoint.counters().discarded(reason)
    }

    /// All discards, which is what a host that was left alone has none of.
    pub(super) fn discards(&self) -> Vec<(Discard, u64)> {
        self.endpoint
            .counters()
            .discards()
            .filter(|&(_, count)| count > 0)
            .collect()
    }
}

/// A packet that somebody put on the network, lost or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    /// `None` for payload.
    pub(super) kind: Option<MessageType>,
    /// The whole packet.
    pub(super) packet: Vec<u8>,
}

impl Sent {
    /// The control message in it.
    pub(super) fn message(&self) -> Message {
        Message::parse(&self.packet[IPV6_HEADER_LEN..]).expect("what hosts send is well-formed")
    }
}

#[derive(Debug)]
enum Due {
    Packet(Vec<u8>),
    /// The next packet of the stream with this index.
    Payload(usize),
}

#[derive(Debug, Clone)]
struct Stream {
    from: usize,
    ulids: LocatorPair,
    interval: Duration,
    port: u16,
    running: bool,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pub(super) log: Vec<Sent>,
    queue: BTreeMap<(Instant, u64), Due>,
    next_place: u64,
    delays: BTreeMap<(Ipv6Addr, Ipv6Addr), Duration>,
    holes: BTreeSet<(Ipv6Addr, Ipv6Addr)>,
    to_lose: Vec<(MessageType, usize)>,
    streams: Vec<Stream>,
    /// Payload as its application sent it, by number.
    payloads: Vec<Vec<u8>>,
    steps: usize,
}

impl World {
    /// Two hosts with the same configuration.
    pub(super) fn new(config: &EndpointConfig) -> Self {
        Self::with(&[config.clone(), config.clone()], 1)
    }

    pub(super) fn with(configs: &[EndpointConfig], seed: u8) -> Self {
        let hosts = (0..)
            .zip(configs)
            .map(|(number, config)| (config.clone(), identity(number)));
        Self::of(hosts, seed)
    }

    /// Two hosts with the same configuration and these identities.
    pub(super) fn with_identities(config: &EndpointConfig, identities: [Identity; 2]) -> Self {
        Self::of(identities.into_iter().map(|identity| (config.clone(), identity)), 1)
    }

    fn of(hosts: impl Iterator<Item = (EndpointConfig, Identity)>, seed: u8) -> Self {
        let host = |(number, (config, identity)): (u8, (EndpointConfig, Identity))| {
            Host::new(config, identity, seed.wrapping_mul(16).wrapping_add(number))
        };
        Self {
            // Not at the epoch, where mistakes about "never" hide.
            now: Instant::from_micros(1_000_000_000),
            hosts: (0..).zip(hosts).map(host).collect(),
            log: Vec::new(),
            queue: BTreeMap::new(),
            next_place: 0,
            delays: BTreeMap::new(),
            holes: BTreeSet::new(),
            to_lose: Vec::new(),
            streams: Vec::new(),
            payloads: Vec::new(),
            steps: 0,
        }
    }

    /// Two hosts with a context between their first locators.
    pub(super) fn established(config: &EndpointConfig) -> Self {
        let mut world = Self::new(config);
        world.establish(A, B);
        world.run(secs(1));
        for host in [A, B] {
            assert_eq!(world.hosts[host].context().state, ContextState::Established);
        }
        world.log.clear();
        world.hosts.iter_mut().for_each(|host| host.events.clear());
        world
    }

    pub(super) fn locator(&self, host: usize, index: usize) -> Ipv6Addr {
        self.hosts[host].endpoint.identity().locators()[index]
    }

    /// The pair of one locator each, as `from` sees it.
    pub(super) fn pair_of(&self, from: usize, local: usize, to: usize, peer: usize) -> LocatorPair {
        LocatorPair {
            local: self.locator(from, local),
            peer: self.locator(to, peer),
        }
    }

    /// The pair of the first locators, which is the ULID pair of most scenarios.
    pub(super) fn pair(&self, from: usize, to: usize) -> LocatorPair {
        self.pair_of(from, 0, to, 0)
    }

    pub(super) fn establish(&mut self, from: usize, to: usize) -> ContextId {
        let ulids = self.pair(from, to);
        let id = self.hosts[from]
            .endpoint
            .establish(self.now, ulids)
            .expect("an exchange can start");
        self.drain(from);
        id
    }

    /// The host forgets everything but who it is.
    pub(super) fn restart(&mut self, host: usize, config: &EndpointConfig, seed: u8) {
        let identity = self.hosts[host].endpoint.identity().clone();
        let received = core::mem::take(&mut self.hosts[host].received);
        self.hosts[host] = Host {
            received,
            ..Host::new(config.clone(), identity, seed)
        };
    }

    pub(super) fn set_locator(&mut self, host: usize, index: usize, usable: bool) {
        let locator = self.locator(host, index);
        self.hosts[host].endpoint.handle_locator(self.now, locator, usable);
        self.drain(host);
    }

    pub(super) fn set_identity(&mut self, host: usize, identity: Identity) {
        self.hosts[host].endpoint.set_identity(self.now, identity);
        self.drain(host);
    }

    pub(super) fn set_preferences(&mut self, host: usize, preferences: &[(Ipv6Addr, Preference)]) {
        self.hosts[host].endpoint.set_preferences(self.now, preferences);
        self.drain(host);
    }

    /// A whole packet arrives, whatever it is.
    pub(super) fn inject_packet(&mut self, host: usize, packet: &[u8]) {
        self.hosts[host].endpoint.handle_packet(self.now, packet);
        self.drain(host);
    }

    /// How long packets take from one address to another.
    pub(super) fn set_delay(&mut self, source: Ipv6Addr, destination: Ipv6Addr, delay: Duration) {
        self.delays.insert((source, destination), delay);
    }

    /// From now on packets from one address to another vanish, those on their way not.
    pub(super) fn cut(&mut self, source: Ipv6Addr, destination: Ipv6Addr) {
        self.holes.insert((source, destination));
    }

    pub(super) fn cut_both_ways(&mut self, pair: LocatorPair) {
        self.cut(pair.local, pair.peer);
        self.cut(pair.peer, pair.local);
    }

    pub(super) fn heal(&mut self, pair: LocatorPair) {
        self.holes.remove(&(pair.local, pair.peer));
        self.holes.remove(&(pair.peer, pair.local));
    }

    /// Whether packets on this pair vanish, one way or the other.
    pub(super) fn is_cut(&self, pair: LocatorPair) -> bool {
        self.holes.contains(&(pair.local, pair.peer)) || self.holes.contains(&(pair.peer, pair.local))
    }

    /// The next `count` messages of a type get lost.
    pub(super) fn lose(&mut self, kind: MessageType, count: usize) {
        self.to_lose.push((kind, count));
    }

    pub(super) fn forget_losses(&mut self) {
        self.to_lose.clear();
    }

    /// Payload from a host at this interval, one packet at once; with `replies` each gets one back.
    pub(super) fn stream(&mut self, from: usize, ulids: LocatorPair, interval: Duration, replies: bool) {
        let port = if replies { REQUEST } else { NO_REPLY };
        self.streams.push(Stream {
            from,
            ulids,
            interval,
            port,
            running: true,
        });
        self.enqueue(self.now, Due::Payload(self.streams.len() - 1));
    }

    pub(super) fn stop_streams(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.running = false);
    }

    /// One packet that wants no reply.
    pub(super) fn send_payload(&mut self, from: usize, ulids: LocatorPair) {
        self.send_to_port(from, ulids, NO_REPLY);
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until the condition holds; how long that took, or `None` if it never did within `limit`.
    pub(super) fn run_until(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + limit);
        loop {
            if condition(self) {
                return Some(self.now - start);
            }
            if !self.step(end) {
                self.now = end;
                return None;
            }
        }
    }

    /// A message arrives at whom it is addressed to, whatever its sender's address claims.
    pub(super) fn inject(&mut self, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) {
        let host = self.owner(destination).expect("the destination is a host's");
        self.inject_at(host, source, destination, message);
    }

    pub(super) fn inject_at(&mut self, host: usize, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) {
        self.hosts[host]
            .endpoint
            .handle_message(self.now, source, destination, message);
        self.drain(host);
    }

    /// Control messages on the network, by type.
    pub(super) fn sent(&self, kind: MessageType) -> Vec<&Sent> {
        self.log.iter().filter(|sent| sent.kind == Some(kind)).collect()
    }

    pub(super) fn control(&self) -> Vec<&Sent> {
        self.log.iter().filter(|sent| sent.kind.is_some()).collect()
    }

    pub(super) fn last(&self, kind: MessageType) -> Sent {
        (*self.sent(kind).last().expect("such a message was sent")).clone()
    }

    /// Payload that arrived at a host at or after a moment.
    pub(super) fn received_since(&self, host: usize, since: Instant) -> usize {
        self.hosts[host].received.iter().filter(|(at, _)| *at >= since).count()
    }

    fn step(&mut self, end: Instant) -> bool {
        let packets = self.queue.keys().next().map(|&(at, _)| at);
        let timers = self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout()).min();
        let Some(at) = [packets, timers].into_iter().flatten().min().filter(|at| *at <= end) else {
            return false;
        };
        if at > self.now {
            self.steps = 0;
            self.now = at;
        }
        self.steps += 1;
        assert!(self.steps < STEPS_AT_ONCE, "time stands still at {at}");
        if packets.is_some_and(|packets| packets <= self.now) {
            match self.queue.pop_first() {
                Some((_, Due::Packet(packet))) => self.arrive(packet),
                Some((_, Due::Payload(index))) => self.continue_stream(index),
                None => {}
            }
            return true;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host]
                .endpoint
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                self.hosts[host].endpoint.handle_timeout(self.now);
                self.drain(host);
            }
        }
        true
    }

    fn continue_stream(&mut self, index: usize) {
        let stream = self.streams[index].clone();
        if stream.running {
            self.send_to_port(stream.from, stream.ulids, stream.port);
            self.enqueue(self.now + stream.interval, Due::Payload(index));
        }
    }

    fn send_to_port(&mut self, from: usize, ulids: LocatorPair, port: u16) {
        let number = self.payloads.len() as u32;
        let packet = datagram(ulids, port, number);
        self.payloads.push(packet.clone());
        let mut buffer = vec![0; PAYLOAD_HEADER_LEN];
        buffer.extend_from_slice(&packet);
        let host = &self.hosts[from];
        let steered = host.dataplane.flow(ulids).is_some_and(|flow| flow.is_steered());
        let (start, wake) = if steered {
            match host.dataplane.outbound(&mut buffer, PAYLOAD_HEADER_LEN, self.now) {
                Outbound::Rewritten { start, flow, wake } => (start, wake.then_some(flow.context)),
                // Its path is in doubt: it would be held as well.
                Outbound::Unchanged { flow, wake } if flow.holding => {
                    (PAYLOAD_HEADER_LEN, wake.then_some(flow.context))
                }
                other => panic!("a steered flow's packet became {other:?}"),
            }
        } else {
            let observed = host
                .dataplane
                .observe(ulids.local, ulids.peer, true, packet.len(), self.now);
            (PAYLOAD_HEADER_LEN, woken(observed))
        };
        self.launch(buffer.split_off(start));
        self.wake(from, wake);
    }

    fn wake(&mut self, host: usize, context: Option<ContextId>) {
        if let Some(context) = context {
            self.hosts[host].endpoint.handle_activity(self.now, context);
            self.drain(host);
        }
    }

    /// In the order that `Endpoint` asks for.
    pub(super) fn drain(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        while let Some(update) = host.endpoint.poll_dataplane() {
            host.dataplane.apply(update);
        }
        let mut buffer = [0; MAX_MESSAGE];
        let mut packets = Vec::new();
        while let Some(transmit) = host.endpoint.poll_transmit(&mut buffer) {
            assert!(
                host.endpoint.identity().contains(transmit.source),
                "{transmit:?} is not sent from here"
            );
            let pair = LocatorPair {
                local: transmit.source,
                peer: transmit.destination,
            };
            packets.push(ipv6(pair, PROTOCOL, &buffer[..transmit.len]));
        }
        let mut delivery = [0; 1_280];
        while let Some(length) = host.endpoint.poll_deliver(&mut delivery) {
            host.delivered.push(delivery[..length].to_vec());
        }
        while let Some(event) = host.endpoint.poll_event() {
            host.events.push((self.now, event));
        }
        packets.into_iter().for_each(|packet| self.launch(packet));
        self.hosts[index].endpoint.assert_consistent();
    }

    fn launch(&mut self, packet: Vec<u8>) {
        let (source, destination) = addresses(&packet).expect("hosts send IPv6");
        let shim6 = &packet[IPV6_HEADER_LEN..];
        let is_control = packet[6] == PROTOCOL && shim6[2] & 0x80 == 0;
        let kind = is_control.then(|| MessageType(shim6[2]));
        self.log.push(Sent {
            at: self.now,
            source,
            destination,
            kind,
            packet: packet.clone(),
        });
        let lost = self
            .to_lose
            .iter_mut()
            .find(|(lost, count)| Some(*lost) == kind && *count > 0);
        if let Some((_, count)) = lost {
            *count -= 1;
        } else if !self.holes.contains(&(source, destination)) {
            let delay = self.delays.get(&(source, destination)).copied().unwrap_or(DELAY);
            self.enqueue(self.now + delay, Due::Packet(packet));
        }
    }

    fn enqueue(&mut self, at: Instant, due: Due) {
        self.queue.insert((at, self.next_place), due);
        self.next_place += 1;
    }

    fn arrive(&mut self, mut packet: Vec<u8>) {
        let (source, destination) = addresses(&packet).expect("hosts send IPv6");
        // What is sent to a locator that nobody has is lost.
        let Some(index) = self.owner(destination) else { return };
        let host = &mut self.hosts[index];
        match host.dataplane.inbound(&mut packet, 0, self.now) {
            Inbound::Restored { start, flow, wake } => {
                let wake = wake.then_some(flow.context);
                self.wake(index, wake);
                self.deliver(index, &packet[start..]);
            }
            Inbound::Control { start } => {
                host.endpoint
                    .handle_message(self.now, source, destination, &packet[start..]);
                self.drain(index);
            }
            Inbound::NotShim6 => {
                let observed = host
                    .dataplane
                    .observe(source, destination, false, packet.len(), self.now);
                self.wake(index, woken(observed));
                self.deliver(index, &packet);
            }
            Inbound::NoContext => {
                host.unknown_tags += 1;
                host.endpoint.handle_packet(self.now, &packet);
                self.drain(index);
            }
            Inbound::Malformed(reason) => panic!("a host sent a malformed packet: {reason:?}"),
        }
    }

    fn deliver(&mut self, index: usize, packet: &[u8]) {
        let at = IPV6_HEADER_LEN + UDP_HEADER_LEN;
        let number = u32::from_be_bytes(packet[at..at + 4].try_into().expect("payload has a number"));
        assert_eq!(
            packet, self.payloads[number as usize],
            "payload {number} arrived changed"
        );
        self.hosts[index].received.push((self.now, number));
        let (peer, local) = addresses(packet).expect("payload is IPv6");
        let port = u16::from_be_bytes([packet[IPV6_HEADER_LEN + 2], packet[IPV6_HEADER_LEN + 3]]);
        if port == REQUEST {
            self.send_to_port(index, LocatorPair { local, peer }, NO_REPLY);
        }
    }

    fn owner(&self, address: Ipv6Addr) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.endpoint.identity().contains(address))
    }
}

fn woken(observed: Observed) -> Option<ContextId> {
    match observed {
        Observed::Wake(context) => Some(context),
        Observed::Recorded | Observed::NoContext(_) => None,
    }
}
