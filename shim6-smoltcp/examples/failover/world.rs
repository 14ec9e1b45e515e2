//! Two hosts with two providers each, in virtual time: smoltcp stacks with or without Shim6 under them, over links with a rate and a
//! delay. The example and the tests use it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_smoltcp::Shim6Device;
use shim6_smoltcp::shim6_core::cga::{HbaSet, Sec};
use shim6_smoltcp::shim6_core::{Event, Identity, Shim, ShimConfig};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, Ipv6Address, Ipv6Cidr, Ipv6Packet};

/// The host that sends.
pub(crate) const A: usize = 0;
/// The host that receives.
pub(crate) const B: usize = 1;

/// Of a link, in octets.
const MTU: usize = 1500;
/// Packets that a device takes before it is busy.
const RING: usize = 16;
/// Of a link, in bits per second.
const RATE: u64 = 20_000_000;
/// From one host to the other.
const DELAY: Duration = Duration::from_millis(10);
/// After so long without an acknowledgement a TCP connection is given up.
pub(crate) const TCP_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two datagrams.
const UDP_INTERVAL: Duration = Duration::from_millis(20);
const TCP_PORT: u16 = 80;
const UDP_PORT: u16 = 5004;

/// A device in memory, with a ring in each direction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Port(Rc<RefCell<Rings>>);

#[derive(Debug, Default)]
struct Rings {
    received: VecDeque<Vec<u8>>,
    to_send: VecDeque<Vec<u8>>,
}

impl Device for Port {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room;

    fn receive(&mut self, _: Instant) -> Option<(Received, Room)> {
        let packet = self.0.borrow_mut().received.pop_front()?;
        Some((Received(packet), Room(self.clone())))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room> {
        (self.0.borrow().to_send.len() < RING).then(|| Room(self.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;

        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

pub(crate) struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Room(Port);

impl phy::TxToken for Room {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.0.borrow_mut().to_send.push_back(packet);
        result
    }
}

/// What a host's stack stands on.
enum Ground {
    Shim6(Box<Shim6Device<Port>>),
    /// The first uplink alone: smoltcp has one device for an interface.
    Plain(Port),
}

struct Host {
    ground: Ground,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    udp: SocketHandle,
    ulid: Ipv6Address,
}

impl Host {
    fn new(number: u8, ports: [(Port, Ipv6Cidr); 2], is_protected: bool) -> Self {
        let mut rng = ChaCha12Rng::from_seed([number; 32]);
        let prefixes = [0, 1].map(|uplink: usize| ports[uplink].1.address().into());
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("two prefixes");
        let [first, _] = &ports;
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = number.into();
        let (ground, mut interface) = if is_protected {
            let identity = Identity::from_hba_set(&set, &mut rng);
            let shim = Shim::new(ShimConfig::default(), identity, [number; 32]);
            let mut device = Shim6Device::new(shim, ports).expect("IP devices with prefixes of their own");
            let interface = Interface::new(config, &mut device, Instant::ZERO);
            (Ground::Shim6(Box::new(device)), interface)
        } else {
            let mut device = first.0.clone();
            let interface = Interface::new(config, &mut device, Instant::ZERO);
            (Ground::Plain(device), interface)
        };
        interface.update_ip_addrs(|addresses| {
            for &address in set.addresses() {
                addresses
                    .push(IpCidr::new(address.into(), 64))
                    .expect("room for two addresses");
            }
        });
        let routes = interface.routes_mut();
        routes
            .add_default_ipv6_route(Ipv6Address::UNSPECIFIED)
            .expect("room for a route");
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let mut tcp = tcp::Socket::new(buffer(), buffer());
        tcp.set_timeout(Some(TCP_TIMEOUT));
        tcp.set_congestion_control(tcp::CongestionControl::Reno);
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 4_096]);
        let udp = udp::Socket::new(buffer(), buffer());
        let mut sockets = SocketSet::new(Vec::new());
        Self {
            ground,
            interface,
            tcp: sockets.add(tcp),
            udp: sockets.add(udp),
            sockets,
            ulid: set.addresses()[0],
        }
    }

    fn poll(&mut self, now: Instant) -> bool {
        let Self { interface, sockets, .. } = self;
        let result = match &mut self.ground {
            Ground::Shim6(device) => interface.poll(now, &mut **device, sockets),
            Ground::Plain(device) => interface.poll(now, device, sockets),
        };
        result == PollResult::SocketStateChanged
    }

    fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let device = match &self.ground {
            Ground::Shim6(device) => device.poll_at(),
            Ground::Plain(_) => None,
        };
        let stack = self.interface.poll_at(now, &self.sockets);
        // What the stack wants at once and could not do now waits for room in a ring.
        [device, stack].into_iter().flatten().filter(|&at| at > now).min()
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    fn udp(&mut self) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(self.udp)
    }
}

/// The way between the hosts, with one link for each uplink.
struct Network {
    links: Vec<Link>,
    /// By arrival time and order.
    flying: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
}

struct Link {
    port: Port,
    prefix: Ipv6Cidr,
    free_at: Instant,
    /// Packets vanish.
    is_cut: bool,
    /// The device sends nothing at all.
    is_jammed: bool,
}

impl Network {
    /// Takes from the rings what fits the links, and brings what has arrived.
    fn run(&mut self, now: Instant) {
        for link in 0..self.links.len() {
            while self.links[link].free_at <= now && !self.links[link].is_jammed {
                let packet = self.links[link].port.0.borrow_mut().to_send.pop_front();
                let Some(packet) = packet else {
                    break;
                };
                let micros = packet.len() as u64 * 8 * 1_000_000 / RATE;
                self.links[link].free_at = now + Duration::from_micros(micros);
                self.count += 1;
                if self.links[link].is_cut || packet.len() > MTU {
                    continue;
                }
                self.flying
                    .insert((self.links[link].free_at + DELAY, self.count), packet);
            }
        }
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            let packet = entry.remove();
            let destination = Ipv6Packet::new_unchecked(&packet).dst_addr();
            let mut links = self.links.iter();
            let link = links.find(|link| link.prefix.contains_addr(&destination) && !link.is_cut);
            if let Some(link) = link {
                link.port.0.borrow_mut().received.push_back(packet);
            }
        }
    }

    fn poll_at(&self, now: Instant) -> Option<Instant> {
        let sending = self
            .links
            .iter()
            .filter(|link| !link.port.0.borrow().to_send.is_empty());
        let links = sending.map(|link| link.free_at);
        let arrivals = self.flying.keys().next().map(|&(at, _)| at);
        links.chain(arrivals).filter(|&at| at > now).min()
    }
}

/// What happens to the first uplink of the host that sends, when half of the octets have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// None.
    Nothing,
    /// Its provider swallows all packets, in silence.
    Cut,
    /// Its device takes no packets any more.
    Jam,
}

/// What was transferred, and when.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// When the failure began.
    pub(crate) failed_at: Option<Instant>,
    /// When the last octet had arrived and was acknowledged.
    pub(crate) completed_at: Option<Instant>,
    /// When TCP gave the connection up.
    pub(crate) given_up_at: Option<Instant>,
    /// Octets that arrived over TCP, each compared with what was sent.
    pub(crate) received: usize,
    /// The longest time without a new octet.
    pub(crate) tcp_stall: Duration,
    /// Datagrams sent.
    pub(crate) datagrams: u64,
    /// Datagrams that came back.
    pub(crate) echoes: u64,
    /// The longest time without one, while they were sent.
    pub(crate) udp_stall: Duration,
    /// What the shims of the hosts told.
    pub(crate) events: Vec<(Instant, usize, Event)>,
}

/// A transfer of so many octets from one host to the other, with a stream of datagrams beside it.
pub(crate) struct World {
    now: Instant,
    hosts: [Host; 2],
    network: Network,
    failure: Failure,
    octets: usize,
    sent: usize,
    last_octet: Instant,
    next_datagram: Instant,
    last_echo: Instant,
    report: Report,
}

/// The octet of the transfer at this place.
fn octet(place: usize) -> u8 {
    ((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl World {
    /// A transfer that fails in the middle, between hosts with or without Shim6.
    pub(crate) fn new(octets: usize, is_protected: [bool; 2], failure: Failure) -> Self {
        let mut links = Vec::new();
        let mut host = |number: u8| {
            let uplinks = [1, 2].map(|uplink| {
                let prefix = Ipv6Address::new(0x2001, 0xdb8, 0xa0 + u16::from(number) * 16 + uplink, 0, 0, 0, 0, 0);
                (Port::default(), Ipv6Cidr::new(prefix, 64))
            });
            links.extend(uplinks.clone().map(|(port, prefix)| Link {
                port,
                prefix,
                free_at: Instant::ZERO,
                is_cut: false,
                is_jammed: false,
            }));
            Host::new(number, uplinks, is_protected[usize::from(number)])
        };
        let mut hosts = [host(A as u8), host(B as u8)];
        let peer = hosts[B].ulid;
        let a = &mut hosts[A];
        let local = (smoltcp::wire::IpAddress::from(a.ulid), 49_152);
        let tcp: &mut tcp::Socket<'_> = a.sockets.get_mut(a.tcp);
        tcp.connect(a.interface.context(), (peer, TCP_PORT), local)
            .expect("a socket that was not used");
        let own = IpEndpoint::new(a.ulid.into(), UDP_PORT);
        a.udp().bind(own).expect("a port that is free");
        hosts[B].tcp().listen(TCP_PORT).expect("a port that is free");
        hosts[B].udp().bind(UDP_PORT).expect("a port that is free");
        Self {
            now: Instant::ZERO,
            hosts,
            network: Network {
                links,
                flying: BTreeMap::new(),
                count: 0,
            },
            failure,
            octets,
            sent: 0,
            last_octet: Instant::ZERO,
            next_datagram: Instant::ZERO,
            last_echo: Instant::ZERO,
            report: Report::default(),
        }
    }

    /// Lets time pass until the transfer is complete or given up, but not for more than two minutes.
    pub(crate) fn run(mut self) -> Report {
        while self.report.completed_at.is_none() && self.report.given_up_at.is_none() {
            assert!(
                self.now < Instant::from_secs(120),
                "neither complete nor given up: {:?}",
                self.report
            );
            self.step();
            let hosts = self.hosts.iter_mut().filter_map(|host| host.poll_at(self.now));
            let others = [self.network.poll_at(self.now), Some(self.next_datagram)];
            let next = hosts.chain(others.into_iter().flatten()).min();
            self.now = next.expect("there is always another datagram");
        }
        let now = self.now;
        self.report.tcp_stall = self.report.tcp_stall.max(now - self.last_octet);
        self.report.udp_stall = self.report.udp_stall.max(now - self.last_echo);
        self.report
    }

    /// All that happens now.
    fn step(&mut self) {
        loop {
            self.network.run(self.now);
            let mut is_busy = self.exchange_datagrams();
            is_busy |= self.transfer();
            for host in [A, B] {
                is_busy |= self.hosts[host].poll(self.now);
                if let Ground::Shim6(device) = &mut self.hosts[host].ground {
                    while let Some(event) = device.poll_event() {
                        self.report.events.push((self.now, host, event));
                    }
                }
            }
            if !is_busy {
                break;
            }
        }
        if self.report.failed_at.is_none() && self.report.received >= self.octets / 2 {
            self.report.failed_at = Some(self.now);
            self.network.links[0].is_cut = self.failure == Failure::Cut;
            self.network.links[0].is_jammed = self.failure == Failure::Jam;
        }
    }

    /// The applications over TCP.
    fn transfer(&mut self) -> bool {
        let (place, octets) = (self.sent, self.octets);
        let sender = self.hosts[A].tcp();
        let mut written = 0;
        if sender.can_send() {
            let write = |buffer: &mut [u8]| {
                let length = buffer.len().min(octets - place);
                let fresh = (place..).zip(&mut buffer[..length]);
                fresh.for_each(|(place, out)| *out = octet(place));
                (length, length)
            };
            written = sender.send(write).expect("a socket that can send");
        }
        let is_over = !sender.is_open();
        let is_acknowledged = place + written == octets && sender.send_queue() == 0;
        self.sent += written;
        if is_over {
            self.report.given_up_at = Some(self.now);
        }
        let receiver = self.hosts[B].tcp();
        let place = self.report.received;
        let mut read = 0;
        if receiver.can_recv() {
            let check = |buffer: &mut [u8]| {
                let is_right = (place..).zip(buffer.iter()).all(|(place, &got)| got == octet(place));
                assert!(is_right, "an octet behind {place} is not what was sent");
                (buffer.len(), buffer.len())
            };
            read = receiver.recv(check).expect("a socket that can receive");
        }
        if read > 0 {
            self.report.received += read;
            self.report.tcp_stall = self.report.tcp_stall.max(self.now - self.last_octet);
            self.last_octet = self.now;
        }
        if is_acknowledged && self.report.received == octets {
            self.report.completed_at = Some(self.now);
        }
        written + read > 0
    }

    /// The applications over UDP: what one host sends, the other sends back.
    fn exchange_datagrams(&mut self) -> bool {
        let peer = IpEndpoint::new(self.hosts[B].ulid.into(), UDP_PORT);
        let sender = self.hosts[A].udp();
        let mut is_busy = false;
        if self.next_datagram <= self.now {
            self.next_datagram = self.now + UDP_INTERVAL;
            // Without room it is lost, as on any host.
            let _ = sender.send_slice(&self.report.datagrams.to_be_bytes(), peer);
            self.report.datagrams += 1;
            is_busy = true;
        }
        while let Ok((datagram, _)) = sender.recv() {
            assert_eq!(datagram.len(), 8);
            self.report.echoes += 1;
            self.report.udp_stall = self.report.udp_stall.max(self.now - self.last_echo);
            self.last_echo = self.now;
            is_busy = true;
        }
        let echo = self.hosts[B].udp();
        while let Ok((datagram, from)) = echo.recv().map(|(datagram, from)| (datagram.to_vec(), from)) {
            let _ = echo.send_slice(&datagram, from);
            is_busy = true;
        }
        is_busy
    }
}
