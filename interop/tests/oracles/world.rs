//! Two hosts with two locators each, and the network between them. It embeds the stack as anybody could: over its public
//! API alone.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::dataplane::{Dataplane, Inbound, Observed, Outbound, PAYLOAD_HEADER_LEN};
use shim6_core::{ContextId, Endpoint, EndpointConfig, Event, Identity, Instant, LocatorPair};
use shim6_interop::packet::{self, Extensions, Packet, Upper};

/// One way.
const DELAY: Duration = Duration::from_millis(20);

/// One of the two hosts.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    pub(crate) dataplane: Dataplane,
    pub(crate) events: Vec<Event>,
    /// Packets that arrived for the upper layers.
    pub(crate) received: Vec<Vec<u8>>,
}

impl Host {
    fn new(seed: u8, prefixes: [u16; 2]) -> Self {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        let prefixes = prefixes.map(|net| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 0).into());
        let prefixes: [SubnetPrefix; 2] = prefixes;
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("an HBA set");
        let identity = Identity::from_hba_set(&set, &mut rng);
        Self {
            endpoint: Endpoint::new(EndpointConfig::default(), identity, [seed; 32]),
            dataplane: Dataplane::default(),
            events: Vec::new(),
            received: Vec::new(),
        }
    }

    pub(crate) fn locator(&self, index: usize) -> Ipv6Addr {
        self.endpoint.identity().locators()[index]
    }
}

/// A packet on its way.
struct InFlight {
    arrives: Instant,
    to: usize,
    packet: Vec<u8>,
}

/// Both hosts, the time, and what is between them.
pub(crate) struct World {
    pub(crate) hosts: [Host; 2],
    pub(crate) now: Instant,
    in_flight: VecDeque<InFlight>,
    /// Directed address pairs whose packets vanish.
    blackholes: BTreeSet<(Ipv6Addr, Ipv6Addr)>,
    /// All that was sent, whether it arrived or not.
    pub(crate) wire: Vec<(Instant, Vec<u8>)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            hosts: [Host::new(1, [0xa1, 0xa2]), Host::new(2, [0xb1, 0xb2])],
            now: Instant::from_micros(1_000_000),
            in_flight: VecDeque::new(),
            blackholes: BTreeSet::new(),
            wire: Vec::new(),
        }
    }

    /// Two hosts that had a context, lost the path of their ULIDs in both directions, and found another.
    pub(crate) fn failed_over() -> Self {
        let mut world = Self::new();
        world.establish();
        world.blackhole();
        world.converse(40);
        for host in 0..2 {
            assert!(
                world.is_steered(host),
                "host {host} has not left the dead path: {:?}",
                world.hosts[host].events
            );
        }
        world
    }

    /// The ULID pair, as `host` sees it.
    pub(crate) fn ulids(&self, host: usize) -> LocatorPair {
        LocatorPair {
            local: self.hosts[host].locator(0),
            peer: self.hosts[1 - host].locator(0),
        }
    }

    pub(crate) fn establish(&mut self) {
        let ulids = self.ulids(0);
        self.hosts[0]
            .endpoint
            .establish(self.now, ulids)
            .expect("nothing is in the way of a context");
        self.drain(0);
        self.run_for(Duration::from_secs(1));
        for host in &self.hosts {
            assert!(
                host.events
                    .iter()
                    .any(|event| matches!(event, Event::Established { .. })),
                "no context: {:?}",
                host.events
            );
        }
    }

    /// From now on nothing passes between the ULIDs.
    pub(crate) fn blackhole(&mut self) {
        let LocatorPair { local, peer } = self.ulids(0);
        self.blackholes.extend([(local, peer), (peer, local)]);
    }

    /// A request and a response each second.
    pub(crate) fn converse(&mut self, seconds: u16) {
        for sequence in 0..seconds {
            for host in 0..2 {
                let packet = self.datagram(host, sequence);
                self.send(host, &packet);
            }
            self.run_for(Duration::from_secs(1));
        }
    }

    /// The first host sends a packet each second, and the other has nothing to say.
    pub(crate) fn monologue(&mut self, seconds: u16) {
        for sequence in 0..seconds {
            let packet = self.datagram(0, sequence);
            self.send(0, &packet);
            self.run_for(Duration::from_secs(1));
        }
    }

    /// The control messages that `host` sends because this one arrives from the other host's first locator.
    pub(crate) fn answers(&mut self, host: usize, message: &[u8]) -> Vec<Vec<u8>> {
        let LocatorPair { local, peer } = self.ulids(host);
        let before = self.wire.len();
        self.receive(host, packet::control(peer, local, message).expect("a small packet"));
        self.wire[before..].iter().map(|(_, packet)| packet.clone()).collect()
    }

    pub(crate) fn is_steered(&self, host: usize) -> bool {
        let flow = self.hosts[host].dataplane.flow(self.ulids(host));
        flow.is_some_and(|flow| flow.is_steered())
    }

    fn datagram(&self, host: usize, sequence: u16) -> Vec<u8> {
        let LocatorPair { local, peer } = self.ulids(host);
        let packet = Packet {
            source: local,
            destination: peer,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            extensions: Extensions::default(),
            upper: Upper::Udp {
                ports: (4000 + host as u16, 4001),
            },
            payload: sequence.to_be_bytes().to_vec(),
        };
        packet.build().expect("a packet of a few octets")
    }

    /// An upper layer of `host` sends a packet.
    pub(crate) fn send(&mut self, host: usize, packet: &[u8]) {
        let mut buffer = [&[0; PAYLOAD_HEADER_LEN], packet].concat();
        let sender = &self.hosts[host];
        let (start, woken) = match sender.dataplane.outbound(&mut buffer, PAYLOAD_HEADER_LEN, self.now) {
            Outbound::Rewritten { start, flow, wake } => (start, wake.then_some(flow.context)),
            Outbound::Unchanged { flow, wake } => (PAYLOAD_HEADER_LEN, wake.then_some(flow.context)),
            Outbound::NoContext | Outbound::NotPayload => (PAYLOAD_HEADER_LEN, None),
            Outbound::Malformed(reason) => panic!("a whole packet was refused: {reason:?}"),
        };
        self.transmit(host, buffer.split_off(start));
        self.wake(host, woken);
    }

    /// Lets time pass, with all that falls due in it.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..100_000 {
            let timers = (0..2).filter_map(|host| self.hosts[host].endpoint.poll_timeout());
            let arrivals = self.in_flight.front().map(|first| first.arrives);
            match timers.chain(arrivals).min().filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => {
                    self.now = end;
                    return;
                }
            }
            self.step();
        }
        panic!("the hosts never come to rest");
    }

    fn step(&mut self) {
        while self.in_flight.front().is_some_and(|first| first.arrives <= self.now) {
            if let Some(InFlight { to, packet, .. }) = self.in_flight.pop_front() {
                self.receive(to, packet);
            }
        }
        for host in 0..2 {
            let due = self.hosts[host].endpoint.poll_timeout();
            if due.is_some_and(|due| due <= self.now) {
                self.hosts[host].endpoint.handle_timeout(self.now);
                self.drain(host);
            }
        }
    }

    fn receive(&mut self, host: usize, mut buffer: Vec<u8>) {
        let receiver = &mut self.hosts[host];
        let Some((source, destination)) = shim6_core::dataplane::addresses(&buffer) else {
            panic!("no IPv6 packet arrived: {buffer:02x?}");
        };
        let woken = match receiver.dataplane.inbound(&mut buffer, 0, self.now) {
            Inbound::Restored { start, flow, wake } => {
                let woken = wake.then_some(flow.context);
                receiver.received.push(buffer.split_off(start));
                woken
            }
            Inbound::Control { start } => {
                receiver
                    .endpoint
                    .handle_message(self.now, source, destination, &buffer[start..]);
                None
            }
            Inbound::NotShim6 => {
                let observed = receiver
                    .dataplane
                    .observe(source, destination, false, buffer.len(), self.now);
                receiver.received.push(buffer);
                match observed {
                    Observed::Wake(context) => Some(context),
                    Observed::Recorded | Observed::NoContext(_) => None,
                }
            }
            refused @ (Inbound::NoContext | Inbound::Malformed(_)) => panic!("refused: {refused:?}"),
        };
        self.wake(host, woken);
        self.drain(host);
    }

    fn wake(&mut self, host: usize, context: Option<ContextId>) {
        if let Some(context) = context {
            self.hosts[host].endpoint.handle_activity(self.now, context);
            self.drain(host);
        }
    }

    /// In the order that the endpoint's documentation asks for.
    fn drain(&mut self, host: usize) {
        let Host {
            endpoint,
            dataplane,
            events,
            ..
        } = &mut self.hosts[host];
        while let Some(update) = endpoint.poll_dataplane() {
            dataplane.apply(update);
        }
        let mut packets = Vec::new();
        let mut buffer = [0; shim6_core::wire::MAX_MESSAGE];
        while let Some(transmit) = endpoint.poll_transmit(&mut buffer) {
            let message = &buffer[..transmit.len];
            packets.push(packet::control(transmit.source, transmit.destination, message).expect("a small packet"));
        }
        events.extend(std::iter::from_fn(|| endpoint.poll_event()));
        for packet in packets {
            self.transmit(host, packet);
        }
    }

    fn transmit(&mut self, host: usize, packet: Vec<u8>) {
        self.wire.push((self.now, packet.clone()));
        let addresses = shim6_core::dataplane::addresses(&packet).expect("an IPv6 packet");
        if !self.blackholes.contains(&addresses) {
            self.in_flight.push_back(InFlight {
                arrives: self.now + DELAY,
                to: 1 - host,
                packet,
            });
        }
    }
}
