//! An Ethernet device as one of IP packets.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium, PacketMeta, RxToken as _};
use smoltcp::socket::raw;
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress, IpProtocol, Ipv6Address, Ipv6Cidr, Ipv6Packet,
};

const LINK_LOCAL: Ipv6Cidr = Ipv6Cidr::new(Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);

/// Of ICMPv6 messages: those of Neighbor Discovery (RFC 4861 section 4).
const NEIGHBOR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;

/// Why there is no uplink over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EthernetError {
    /// The device sends no frames.
    #[error("the device is not of Medium::Ethernet: give it to Shim6Device as it is, if it takes IP packets")]
    Medium,
    /// The device's own address can be no sender's.
    #[error("{0} is no unicast Ethernet address")]
    Hardware(EthernetAddress),
    /// Neither the host nor a router can have that address.
    #[error("{0} is no unicast IPv6 address")]
    Address(Ipv6Address),
    /// smoltcp is configured for too little.
    #[error("no room for two addresses and a route: raise smoltcp's iface-max-addr-count and iface-max-route-count")]
    Room,
}

/// An Ethernet device as one of IP packets, to be an uplink of [`Shim6Device`](crate::Shim6Device).
///
/// A smoltcp `Interface` of its own is at its heart: it resolves the router's address, answers Neighbor Solicitations for this host's address and
/// for a link-local one made from the hardware address, and does nothing else. All packets leave by the router, also those to
/// hosts on the same link, which is what a router is for. Traffic class and flow label of what is sent are lost.
///
/// The router has to be known: Router Advertisements are not heeded.
pub struct EthernetUplink<D> {
    link: Link<D>,
    incoming: Vec<u8>,
}

/// All but what a token to receive borrows.
struct Link<D> {
    device: D,
    hardware: EthernetAddress,
    interface: Interface,
    /// Nothing but the socket that sends what is above.
    sockets: SocketSet<'static>,
    raw: SocketHandle,
    outgoing: Vec<u8>,
}

impl<D> fmt::Debug for EthernetUplink<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EthernetUplink")
            .field("hardware", &self.link.hardware)
            .finish_non_exhaustive()
    }
}

impl<D: Device> EthernetUplink<D> {
    /// An uplink over a device with this hardware address, on whose link this host has `address`, and whose packets go to `router`.
    ///
    /// # Errors
    ///
    /// It is no Ethernet device, or an address is none of a single host.
    pub fn new(
        at: Instant,
        mut device: D,
        hardware: EthernetAddress,
        address: Ipv6Address,
        router: Ipv6Address,
    ) -> Result<Self, EthernetError> {
        if device.capabilities().medium != Medium::Ethernet {
            return Err(EthernetError::Medium);
        }
        if !hardware.is_unicast() {
            return Err(EthernetError::Hardware(hardware));
        }
        let is_wrong = |address: &&Ipv6Address| address.is_multicast() || address.is_unspecified();
        if let Some(&address) = [&address, &router].into_iter().find(is_wrong) {
            return Err(EthernetError::Address(address));
        }
        let hardware_address = HardwareAddress::Ethernet(hardware);
        let link_local = Ipv6Cidr::from_link_prefix(&LINK_LOCAL, hardware_address);
        let mut interface = Interface::new(Config::new(hardware_address), &mut device, at);
        let mut has_room = true;
        interface.update_ip_addrs(|addresses| {
            // As an address of a prefix without other hosts, so that all have to be reached by the router.
            for address in link_local.into_iter().chain([Ipv6Cidr::new(address, 128)]) {
                has_room &= addresses.push(address.into()).is_ok();
            }
        });
        has_room &= interface.routes_mut().add_default_ipv6_route(router).is_ok();
        if !has_room {
            return Err(EthernetError::Room);
        }
        let none = raw::PacketBuffer::new(vec![], vec![]);
        // One packet, and as much again for the ring to put it behind another.
        let mtu = device.capabilities().ip_mtu();
        let to_send = raw::PacketBuffer::new(vec![raw::PacketMetadata::EMPTY; 2], vec![0; 2 * mtu]);
        let mut sockets = SocketSet::new(vec![]);
        let raw = sockets.add(raw::Socket::new(None, None, none, to_send));
        Ok(Self {
            link: Link {
                device,
                hardware,
                interface,
                sockets,
                raw,
                outgoing: Vec::new(),
            },
            incoming: Vec::new(),
        })
    }

    /// The device below.
    pub fn device(&self) -> &D {
        &self.link.device
    }

    /// The device below, to configure it.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.link.device
    }
}

impl<D: Device> Link<D> {
    /// Sends what waits, if its next hop is known by now.
    fn flush(&mut self, at: Instant) {
        while self.interface.poll_egress(at, &mut self.device, &mut self.sockets) != PollResult::None {}
    }

    /// Whether a packet still waits.
    fn is_busy(&self) -> bool {
        self.sockets.get::<raw::Socket<'_>>(self.raw).send_queue() > 0
    }

    fn send(&mut self, at: Instant) {
        // smoltcp panics at an empty one.
        if Ipv6Packet::new_checked(&self.outgoing).is_ok() {
            let socket = self.sockets.get_mut::<raw::Socket<'_>>(self.raw);
            // A token is only given while there is room for a packet of the MTU; a longer one is lost.
            let _ = socket.send_slice(&self.outgoing);
            self.flush(at);
        }
    }

    /// Takes frames into `incoming` until one has a packet for the layers above, and gives where.
    fn receive(&mut self, at: Instant, incoming: &mut Vec<u8>) -> Option<(Range<usize>, PacketMeta)> {
        loop {
            let (token, _) = self.device.receive(at)?;
            let meta = token.meta();
            incoming.clear();
            token.consume(|frame| incoming.extend_from_slice(frame));
            if let Some(packet) = packet_in(incoming, self.hardware) {
                return Some((packet, meta));
            }
            let mut device = OneFrame {
                frame: Some(incoming),
                device: &mut self.device,
            };
            self.interface.poll_ingress_single(at, &mut device, &mut self.sockets);
            // It may have been an answer that packets have waited for.
            self.flush(at);
        }
    }
}

/// Where in a frame there is a packet that is no business of the link's.
fn packet_in(frame: &[u8], hardware: EthernetAddress) -> Option<Range<usize>> {
    let header = EthernetFrame::new_checked(frame).ok()?;
    if header.ethertype() != EthernetProtocol::Ipv6 || header.dst_addr() != hardware {
        return None;
    }
    let start = EthernetFrame::<&[u8]>::header_len();
    let packet = Ipv6Packet::new_checked(frame.get(start..)?).ok()?;
    let is_link_local = |address: Ipv6Address| LINK_LOCAL.contains_addr(&address) || address.is_multicast();
    let message = packet.payload().first();
    let is_of_neighbors =
        packet.next_header() == IpProtocol::Icmpv6 && message.is_some_and(|kind| NEIGHBOR_DISCOVERY.contains(kind));
    // Short frames are padded: the packet ends where it says.
    (!is_of_neighbors && !is_link_local(packet.dst_addr())).then(|| start..start + packet.total_len())
}

impl<D: Device> Device for EthernetUplink<D> {
    type RxToken<'a>
        = crate::RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = EthernetTxToken<'a, D>
    where
        Self: 'a;

    fn receive(&mut self, timestamp: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let Self { link, incoming } = self;
        let (packet, meta) = link.receive(timestamp, incoming)?;
        let packet = crate::RxToken::new(&incoming[packet], meta);
        Some((packet, EthernetTxToken { link, at: timestamp }))
    }

    fn transmit(&mut self, timestamp: Instant) -> Option<Self::TxToken<'_>> {
        self.link.flush(timestamp);
        (!self.link.is_busy()).then_some(EthernetTxToken {
            link: &mut self.link,
            at: timestamp,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.link.device.capabilities();
        capabilities.max_transmission_unit = capabilities.ip_mtu();
        capabilities.medium = Medium::Ip;
        capabilities
    }
}

/// Room for a packet on an Ethernet link.
pub struct EthernetTxToken<'a, D> {
    link: &'a mut Link<D>,
    at: Instant,
}

impl<D: Device> phy::TxToken for EthernetTxToken<'_, D> {
    fn consume<R, F>(self, len: usize, f: F) -> R
    where
        F: FnOnce(&mut [u8]) -> R,
    {
        self.link.outgoing.clear();
        self.link.outgoing.resize(len, 0);
        let result = f(&mut self.link.outgoing);
        self.link.send(self.at);
        result
    }
}

/// A device that has received one frame, and sends on another.
struct OneFrame<'f, 'd, D> {
    frame: Option<&'f [u8]>,
    device: &'d mut D,
}

impl<D: Device> Device for OneFrame<'_, '_, D> {
    type RxToken<'a>
        = crate::RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = D::TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, timestamp: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        // Without room for an answer the frame is lost, and its sender asks again.
        let answer = self.device.transmit(timestamp)?;
        Some((crate::RxToken::new(self.frame.take()?, PacketMeta::default()), answer))
    }

    fn transmit(&mut self, timestamp: Instant) -> Option<Self::TxToken<'_>> {
        self.device.transmit(timestamp)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}
