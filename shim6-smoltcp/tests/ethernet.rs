//! Uplinks over Ethernet: neighbours are resolved below the wrapper.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_smoltcp::shim6_core::cga::{HbaSet, Sec};
use shim6_smoltcp::shim6_core::{Identity, Shim, ShimConfig};
use shim6_smoltcp::{EthernetError, EthernetUplink, Shim6Device};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress, Icmpv6Packet, Icmpv6Repr, IpCidr, IpProtocol,
    Ipv6Address, Ipv6Cidr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const ROUTER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const OWN_IP: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x1234);
/// The multicast group that `OWN_IP` is looked for in.
const SOLICITED: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x1234);
const ROUTER_IP: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const PEER_IP: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x5678);

/// A network card in memory.
#[derive(Clone)]
struct Card {
    frames: Rc<RefCell<Frames>>,
    medium: Medium,
}

#[derive(Default)]
struct Frames {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

impl Card {
    fn new(medium: Medium) -> Self {
        let frames = Rc::default();
        Self { frames, medium }
    }

    fn receives(&self, frame: Vec<u8>) {
        self.frames.borrow_mut().received.push_back(frame);
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.frames.borrow_mut().sent.drain(..).collect()
    }
}

impl Device for Card {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Card;

    fn receive(&mut self, _: Instant) -> Option<(Frame, Card)> {
        let frame = self.frames.borrow_mut().received.pop_front()?;
        Some((Frame(frame), self.clone()))
    }

    fn transmit(&mut self, _: Instant) -> Option<Card> {
        Some(self.clone())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Card {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.frames.borrow_mut().sent.push_back(frame);
        result
    }
}

fn at(millis: i64) -> Instant {
    Instant::from_millis(millis)
}

fn uplink(card: &Card) -> EthernetUplink<Card> {
    EthernetUplink::new(at(0), card.clone(), OWN, OWN_IP, ROUTER_IP).expect("an Ethernet device")
}

/// An IPv6 packet with `payload`, in a frame to `hardware`.
fn frame(hardware: EthernetAddress, repr: Ipv6Repr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + 40 + payload.len()];
    let mut header = EthernetFrame::new_unchecked(&mut frame);
    header.set_dst_addr(hardware);
    header.set_src_addr(ROUTER);
    header.set_ethertype(EthernetProtocol::Ipv6);
    repr.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    frame[54..].copy_from_slice(payload);
    frame
}

fn from_peer(hardware: EthernetAddress, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv6Repr {
        src_addr: PEER_IP,
        dst_addr: OWN_IP,
        next_header: IpProtocol::Udp,
        payload_len: payload.len(),
        hop_limit: 60,
    };
    frame(hardware, repr, payload)
}

/// A message of Neighbor Discovery from the router.
fn neighbor(destination: Ipv6Address, message: NdiscRepr<'_>) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let mut payload = vec![0; message.buffer_len()];
    let mut packet = Icmpv6Packet::new_unchecked(&mut payload);
    message.emit(&ROUTER_IP, &destination, &mut packet, &ChecksumCapabilities::default());
    let repr = Ipv6Repr {
        src_addr: ROUTER_IP,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: payload.len(),
        hop_limit: 255,
    };
    frame(OWN, repr, &payload)
}

fn receive(uplink: &mut EthernetUplink<Card>) -> Option<Vec<u8>> {
    let (token, _) = uplink.receive(at(0))?;
    Some(token.consume(<[u8]>::to_vec))
}

/// The message of Neighbor Discovery in a frame, and whom the frame is for.
fn message(frame: &[u8]) -> (EthernetAddress, u8) {
    let header = EthernetFrame::new_checked(frame).expect("a frame");
    let packet = Ipv6Packet::new_checked(header.payload()).expect("an IPv6 packet");
    assert_eq!((packet.next_header(), packet.hop_limit()), (IpProtocol::Icmpv6, 255));
    (header.dst_addr(), packet.payload()[0])
}

#[test]
fn packets_wait_until_the_router_is_resolved_and_go_to_it() {
    let card = Card::new(Medium::Ethernet);
    let mut uplink = uplink(&card);
    assert_eq!(uplink.capabilities().max_transmission_unit, 1500);
    let mut packet = from_peer(OWN, &[7; 100]).split_off(14);
    packet[8..24].copy_from_slice(&OWN_IP.octets());
    packet[24..40].copy_from_slice(&PEER_IP.octets());
    for expected in [1, 0] {
        let token = uplink.transmit(at(0));
        assert_eq!(token.is_some(), expected == 1, "one packet waits, no more");
        if let Some(token) = token {
            token.consume(packet.len(), |buffer| buffer.copy_from_slice(&packet));
        }
        let solicitations: Vec<_> = card.sent().iter().map(|frame| message(frame).1).collect();
        assert_eq!(solicitations, vec![135; expected]);
    }
    let [.., a, b, c] = OWN.0;
    let own_link_local = Ipv6Address::new(
        0xfe80,
        0,
        0,
        0,
        0,
        0xff,
        0xfe00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    card.receives(neighbor(
        own_link_local,
        NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
            target_addr: ROUTER_IP,
            lladdr: Some(ROUTER.into()),
        },
    ));
    assert_eq!(receive(&mut uplink), None);
    let sent = card.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(&sent[0][..12], [ROUTER.0, OWN.0].concat());
    assert_eq!(&sent[0][14..], packet);
    assert!(uplink.transmit(at(1)).is_some());
}

#[test]
fn solicitations_are_answered_and_do_not_reach_the_stack() {
    let card = Card::new(Medium::Ethernet);
    let mut uplink = uplink(&card);
    let ask = |destination| {
        let message = NdiscRepr::NeighborSolicit {
            target_addr: OWN_IP,
            lladdr: Some(ROUTER.into()),
        };
        neighbor(destination, message)
    };
    card.receives(ask(OWN_IP));
    card.receives(ask(SOLICITED));
    assert_eq!(receive(&mut uplink), None);
    let answers: Vec<_> = card.sent().iter().map(|frame| message(frame)).collect();
    assert_eq!(answers, [(ROUTER, 136); 2]);
}

#[test]
fn stack_gets_packets_without_padding_and_none_that_are_for_others() {
    let card = Card::new(Medium::Ethernet);
    let mut uplink = uplink(&card);
    card.receives(from_peer(ROUTER, &[1; 20]));
    card.receives(vec![0; 13]);
    card.receives(vec![0xff; 80]);
    let mut padded = from_peer(OWN, &[2; 1]);
    padded[15] = 0x5a; // Traffic class and flow label.
    let packet = padded[14..].to_vec();
    padded.extend([0; 5]);
    card.receives(padded);
    assert_eq!(receive(&mut uplink), Some(packet));
    assert_eq!((receive(&mut uplink), card.sent().len()), (None, 0));
}

#[test]
fn what_can_be_no_ethernet_uplink_is_refused() {
    let new = |medium, hardware, address, router| {
        let card = Card::new(medium);
        EthernetUplink::new(at(0), card, hardware, address, router).err()
    };
    assert_eq!(new(Medium::Ip, OWN, OWN_IP, ROUTER_IP), Some(EthernetError::Medium));
    let hardware = EthernetAddress::BROADCAST;
    assert_eq!(
        new(Medium::Ethernet, hardware, OWN_IP, ROUTER_IP),
        Some(EthernetError::Hardware(hardware))
    );
    for wrong in [Ipv6Address::UNSPECIFIED, SOLICITED] {
        let error = Some(EthernetError::Address(wrong));
        assert_eq!(new(Medium::Ethernet, OWN, wrong, ROUTER_IP), error);
        assert_eq!(new(Medium::Ethernet, OWN, OWN_IP, wrong), error);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_frame_does_harm(
        changes in proptest::collection::vec((0u8..4, any::<proptest::sample::Index>(), any::<u8>(), 0usize..60), 1..30),
    ) {
        let card = Card::new(Medium::Ethernet);
        let mut uplink = uplink(&card);
        for (kind, index, octet, cut) in changes {
            let target_addr = if kind == 1 { OWN_IP } else { ROUTER_IP };
            let mut frame = match kind {
                0 => from_peer(OWN, &[octet; 30]),
                1 | 2 => neighbor(OWN_IP, NdiscRepr::NeighborSolicit { target_addr, lladdr: Some(ROUTER.into()) }),
                _ => vec![octet; cut],
            };
            frame.truncate(frame.len() - cut.saturating_sub(30).min(frame.len()));
            if !frame.is_empty() {
                let place = index.index(frame.len());
                frame[place] ^= octet;
            }
            let length = frame.len();
            card.receives(frame);
            if let Some(packet) = receive(&mut uplink) {
                prop_assert!(packet.len() >= 40 && packet.len() + 14 <= length);
            }
            if let Some(token) = uplink.transmit(at(0)) {
                token.consume(cut, |buffer| buffer.fill(octet));
            }
        }
    }
}

/// A host with two cards, whose routers are the cards of the other host.
struct Host {
    device: Shim6Device<EthernetUplink<Card>>,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    ulid: Ipv6Address,
    cards: [Card; 2],
}

fn hardware(host: u8, uplink: u8) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, host, uplink])
}

impl Host {
    fn new(host: u8) -> Self {
        let mut rng = ChaCha12Rng::from_seed([host; 32]);
        let prefix =
            |uplink: u8| Ipv6Address::new(0x2001, 0xdb8, u16::from(host) << 8 | u16::from(uplink), 0, 0, 0, 0, 0);
        let set = HbaSet::generate(&[0, 1].map(|uplink| prefix(uplink).into()), Sec::ZERO, &mut rng).expect("a set");
        let shim = Shim::new(
            ShimConfig::default(),
            Identity::from_hba_set(&set, &mut rng),
            [host; 32],
        );
        let cards = [0, 1].map(|_| Card::new(Medium::Ethernet));
        let uplinks = [0, 1].map(|uplink: u8| {
            let (card, address) = (cards[usize::from(uplink)].clone(), set.addresses()[usize::from(uplink)]);
            let link = Ipv6Cidr::new(Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
            let router = HardwareAddress::Ethernet(hardware(1 - host, uplink));
            let router = Ipv6Cidr::from_link_prefix(&link, router).expect("an Ethernet address");
            let device = EthernetUplink::new(at(0), card, hardware(host, uplink), address, router.address());
            (device.expect("an Ethernet device"), Ipv6Cidr::new(prefix(uplink), 64))
        });
        let mut device = Shim6Device::new(shim, uplinks).expect("two uplinks");
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, at(0));
        interface.update_ip_addrs(|addresses| {
            let own = set.addresses().iter().map(|&address| IpCidr::new(address.into(), 64));
            addresses.extend(own);
        });
        let routes = interface.routes_mut();
        routes.add_default_ipv6_route(Ipv6Address::UNSPECIFIED).expect("room");
        let buffer = || tcp::SocketBuffer::new(vec![0; 20_000]);
        let mut sockets = SocketSet::new(Vec::new());
        let tcp = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            device,
            interface,
            sockets,
            tcp,
            ulid: set.addresses()[0],
            cards,
        }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }
}

#[test]
fn transfer_goes_on_when_one_of_two_ethernet_links_is_cut() {
    const OCTETS: usize = 500_000;
    let mut hosts = [0, 1].map(Host::new);
    let peer = hosts[1].ulid;
    let Host {
        sockets,
        interface,
        tcp,
        ulid,
        ..
    } = &mut hosts[0];
    let local = (smoltcp::wire::IpAddress::from(*ulid), 49_152);
    let socket: &mut tcp::Socket<'_> = sockets.get_mut(*tcp);
    socket.connect(interface.context(), (peer, 80), local).expect("unused");
    hosts[1].tcp().listen(80).expect("unused");
    let (mut sent, mut received, mut cut_at) = (0, 0, None);
    let mut now = at(0);
    while received < OCTETS {
        assert!(now < at(30_000), "{received} octets; cut at {cut_at:?}");
        for host in &mut hosts {
            host.interface.poll(now, &mut host.device, &mut host.sockets);
        }
        // What a link carries in a millisecond arrives in the next.
        for uplink in 0..2 {
            for (from, to) in [(0, 1), (1, 0)] {
                let frames = hosts[from].cards[uplink].sent();
                if uplink == 1 || cut_at.is_none() {
                    frames
                        .into_iter()
                        .for_each(|frame| hosts[to].cards[uplink].receives(frame));
                }
            }
        }
        if hosts[0].tcp().can_send() {
            let octets: Vec<u8> = (sent..OCTETS.min(sent + 20_000))
                .map(|place| (place / 7) as u8)
                .collect();
            sent += hosts[0].tcp().send_slice(&octets).expect("it can send");
        }
        while hosts[1].tcp().can_recv() {
            let got = hosts[1].tcp().recv(|octets| (octets.len(), octets.to_vec()));
            let got = got.expect("it can receive");
            assert!((received..).zip(&got).all(|(place, &octet)| octet == (place / 7) as u8));
            received += got.len();
        }
        if cut_at.is_none() && received >= OCTETS / 2 {
            cut_at = Some(now);
        }
        now += Duration::from_millis(1);
    }
    let rewritten = hosts.map(|host| host.device.shim().counters().rewritten);
    assert!(rewritten.iter().all(|&count| count > 20), "{rewritten:?}");
}
