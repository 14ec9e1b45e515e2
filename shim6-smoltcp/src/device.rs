//! The wrapper: a device over the devices of the uplinks.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_core::shim::HEADROOM;
use shim6_core::{Event, Shim};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium, PacketMeta, RxToken as _};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IPV6_MIN_MTU, Ipv6Cidr, Ipv6Packet};

use crate::uplink::{Uplink, UplinkCounters};
use crate::{to_shim6, to_smoltcp};

/// Events that are kept until they are asked for. The oldest make room for others.
const EVENTS: usize = 256;

/// Packets of the shim's own that are taken from the devices in one call; what there is beyond that has to wait for the next.
const OWN_PACKETS: usize = 64;

/// Why devices cannot be uplinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// There are none.
    #[error("no uplinks: give a device and its prefix for each")]
    None,
    /// It sends frames.
    #[error(
        "the device of uplink {uplink} is not of Medium::Ip: EthernetUplink makes one out of a device for Ethernet"
    )]
    Medium {
        /// Which one.
        uplink: usize,
    },
    /// It is too narrow for IPv6 (RFC 8200 section 5).
    #[error("the device of uplink {uplink} has an MTU of {mtu} octets: IPv6 needs at least 1280")]
    Mtu {
        /// Which one.
        uplink: usize,
        /// Its MTU.
        mtu: usize,
    },
    /// Two uplinks have addresses in common.
    #[error("the prefix {prefix} of uplink {uplink} overlaps with that of another: each address belongs to one uplink")]
    Prefix {
        /// Which one.
        uplink: usize,
        /// Its prefix.
        prefix: Ipv6Cidr,
    },
}

/// The devices of several uplinks as one, with Shim6 under what uses it: see the [crate's documentation](crate).
///
/// A packet leaves on the device of the uplink that has its source address. Packets with a source that is no uplink's are
/// dropped and counted. All devices are of one type; an `enum` makes one out of several.
#[derive(Debug)]
pub struct Shim6Device<D> {
    lower: Lower<D>,
    /// The packet that smoltcp reads.
    incoming: Vec<u8>,
}

/// All but what a token to receive borrows.
#[derive(Debug)]
struct Lower<D> {
    shim: Shim,
    uplinks: Vec<Uplink<D>>,
    /// That of the shim's user.
    mtu: usize,
    /// Whose turn it is to be asked for a packet.
    turn: usize,
    /// Not all that has arrived was taken.
    has_more: bool,
    /// The packet that smoltcp writes, behind the headroom.
    outgoing: Vec<u8>,
    /// For the shim's own packets.
    scratch: Box<[u8]>,
    events: VecDeque<Event>,
    without_uplink: u64,
}

impl<D: Device> Shim6Device<D> {
    /// A device over those of the uplinks, each with the prefix of the addresses that belong to it.
    ///
    /// # Errors
    ///
    /// A device is no IP device or too narrow for IPv6, prefixes overlap, or there are no devices.
    pub fn new(shim: Shim, uplinks: impl IntoIterator<Item = (D, Ipv6Cidr)>) -> Result<Self, UplinkError> {
        let mut checked: Vec<Uplink<D>> = Vec::new();
        for (index, (device, prefix)) in uplinks.into_iter().enumerate() {
            let capabilities = device.capabilities();
            let mtu = capabilities.max_transmission_unit;
            let overlaps = |other: &Ipv6Cidr| other.contains_subnet(&prefix) || prefix.contains_subnet(other);
            if capabilities.medium != Medium::Ip {
                return Err(UplinkError::Medium { uplink: index });
            }
            if mtu < IPV6_MIN_MTU {
                return Err(UplinkError::Mtu { uplink: index, mtu });
            }
            if checked.iter().any(|uplink| overlaps(&uplink.prefix)) {
                return Err(UplinkError::Prefix { uplink: index, prefix });
            }
            checked.push(Uplink::new(device, prefix));
        }
        let mtus = || checked.iter().map(Uplink::mtu);
        let (Some(least), Some(most)) = (mtus().min(), mtus().max()) else {
            return Err(UplinkError::None);
        };
        let lower = Lower {
            shim,
            mtu: least - HEADROOM,
            turn: 0,
            has_more: false,
            outgoing: Vec::new(),
            scratch: vec![0; most].into(),
            events: VecDeque::new(),
            without_uplink: 0,
            uplinks: checked,
        };
        Ok(Self {
            lower,
            incoming: Vec::new(),
        })
    }

    /// The shim, to look at: contexts, sessions, counters.
    pub fn shim(&self) -> &Shim {
        &self.lower.shim
    }

    /// Command: does something with the shim, such as [`Shim::fork`] or, by [`Shim::command`], any command of the endpoint; what
    /// has to be sent in consequence is sent. Of the shim's outputs nothing is to be taken here.
    pub fn command<T>(&mut self, at: Instant, act: impl FnOnce(&mut Shim, shim6_core::Instant) -> T) -> T {
        let result = act(&mut self.lower.shim, to_shim6(at));
        self.lower.drain(at);
        result
    }

    /// Input: the link of an uplink is down, or up again, in the order of [`new`](Self::new). Contexts that use it look for another path at
    /// once, instead of after the Send Timeout. Without this the failure is noticed as well. An index that no uplink has is ignored.
    pub fn handle_link(&mut self, at: Instant, uplink: usize, is_up: bool) {
        let Lower { shim, uplinks, .. } = &mut self.lower;
        let Some(uplink) = uplinks.get_mut(uplink) else {
            return;
        };
        uplink.set_up(is_up);
        let own = shim.endpoint().identity().locators().iter();
        let affected: Vec<Ipv6Addr> = own
            .filter(|locator| uplink.prefix.contains_addr(locator))
            .copied()
            .collect();
        for locator in affected {
            shim.handle_locator(to_shim6(at), locator, is_up);
        }
        self.lower.drain(at);
    }

    /// How long smoltcp is asked to wait for a device that takes nothing, before what would leave on it is dropped: [`PATIENCE`](crate::PATIENCE).
    /// Below 60 kbit/s a packet of 1500 octets takes longer than that, and the uplink of such a device needs more.
    pub fn set_patience(&mut self, patience: Duration) {
        self.lower
            .uplinks
            .iter_mut()
            .for_each(|uplink| uplink.patience = patience);
    }

    /// The device of an uplink.
    pub fn uplink(&self, uplink: usize) -> Option<&D> {
        self.lower.uplinks.get(uplink).map(|uplink| &uplink.device)
    }

    /// The device of an uplink, to configure it. Packets are none of its owner's business.
    pub fn uplink_mut(&mut self, uplink: usize) -> Option<&mut D> {
        self.lower.uplinks.get_mut(uplink).map(|uplink| &mut uplink.device)
    }

    /// What became of the packets of an uplink.
    pub fn uplink_counters(&self, uplink: usize) -> Option<UplinkCounters> {
        self.lower.uplinks.get(uplink).map(|uplink| uplink.counters)
    }

    /// How many packets were dropped because their source address is no uplink's.
    pub fn without_uplink(&self) -> u64 {
        self.lower.without_uplink
    }

    /// Output: the next event. The latest 256 are kept.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.lower.events.pop_front()
    }

    /// Output: when `Interface::poll` has to be called at the latest on account of this device, besides what `Interface::poll_at` says.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.lower.has_more {
            return Some(Instant::ZERO);
        }
        let devices = self.lower.uplinks.iter().filter_map(Uplink::poll_at);
        devices.chain(self.lower.shim.poll_timeout().map(to_smoltcp)).min()
    }

    /// Output: [`poll_at`](Self::poll_at) as the time from now on, as `Interface::poll_delay` gives it.
    pub fn poll_delay(&self, now: Instant) -> Option<Duration> {
        self.poll_at()
            .map(|at| if at > now { at - now } else { Duration::ZERO })
    }
}

impl<D: Device> Lower<D> {
    /// Does what is due.
    fn advance(&mut self, at: Instant) {
        if self.shim.poll_timeout().is_some_and(|due| due <= to_shim6(at)) {
            self.shim.handle_timeout(to_shim6(at));
        }
        self.uplinks.iter_mut().for_each(|uplink| uplink.flush(at));
        self.drain(at);
    }

    /// Sends what the shim has to send, and keeps what it has to say.
    fn drain(&mut self, at: Instant) {
        while let Some(length) = self.shim.poll_transmit(&mut self.scratch) {
            let packet = &self.scratch[..length];
            match owner(&mut self.uplinks, packet) {
                Some(uplink) => uplink.send(at, packet, PacketMeta::default()),
                None => self.without_uplink += 1,
            }
        }
        while let Some(event) = self.shim.poll_event() {
            if self.events.len() >= EVENTS {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }

    /// Sends the packet that smoltcp has written.
    fn send(&mut self, at: Instant, meta: PacketMeta) {
        if let Some(start) = self.shim.send(to_shim6(at), &mut self.outgoing, HEADROOM) {
            let packet = &self.outgoing[start..];
            match owner(&mut self.uplinks, packet) {
                Some(uplink) => uplink.send(at, packet, meta),
                None => self.without_uplink += 1,
            }
        }
        self.drain(at);
    }

    /// Puts the next packet for smoltcp into `incoming`, and gives where it starts.
    fn receive(&mut self, at: Instant, incoming: &mut Vec<u8>) -> Option<(usize, PacketMeta)> {
        self.has_more = false;
        if let Some(length) = self.shim.poll_deliver(&mut self.scratch) {
            incoming.clear();
            incoming.extend_from_slice(&self.scratch[..length]);
            return Some((0, PacketMeta::default()));
        }
        for _ in 0..OWN_PACKETS {
            let meta = self.take(at, incoming)?;
            let start = self.shim.receive(to_shim6(at), incoming, 0);
            self.drain(at);
            if let Some(start) = start {
                return Some((start, meta));
            }
            // It may be an error about a packet of smoltcp's.
            if let Some(length) = self.shim.poll_deliver(&mut self.scratch) {
                incoming.clear();
                incoming.extend_from_slice(&self.scratch[..length]);
                return Some((0, meta));
            }
        }
        self.has_more = true;
        None
    }

    /// Takes a packet from one of the devices, each in turn.
    fn take(&mut self, at: Instant, incoming: &mut Vec<u8>) -> Option<PacketMeta> {
        for _ in 0..self.uplinks.len() {
            let index = self.turn % self.uplinks.len();
            self.turn = index + 1;
            let uplink = &mut self.uplinks[index];
            if let Some((token, _)) = uplink.device.receive(at) {
                let meta = token.meta();
                incoming.clear();
                token.consume(|packet| incoming.extend_from_slice(packet));
                uplink.counters.received += 1;
                return Some(meta);
            }
        }
        None
    }
}

/// The uplink that a packet leaves on.
fn owner<'a, D>(uplinks: &'a mut [Uplink<D>], packet: &[u8]) -> Option<&'a mut Uplink<D>> {
    let source = Ipv6Packet::new_checked(packet).ok()?.src_addr();
    uplinks.iter_mut().find(|uplink| uplink.prefix.contains_addr(&source))
}

impl<D: Device> Device for Shim6Device<D> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, D>
    where
        Self: 'a;

    fn receive(&mut self, timestamp: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let Self { lower, incoming } = self;
        lower.advance(timestamp);
        let (start, meta) = lower.receive(timestamp, incoming)?;
        let packet = RxToken::new(&incoming[start..], meta);
        Some((packet, TxToken::new(lower, timestamp)))
    }

    fn transmit(&mut self, timestamp: Instant) -> Option<Self::TxToken<'_>> {
        self.lower.advance(timestamp);
        let is_busy = self.lower.uplinks.iter().any(Uplink::is_busy);
        (!is_busy).then(|| TxToken::new(&mut self.lower, timestamp))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let bursts = self.lower.uplinks.iter();
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.lower.mtu;
        capabilities.max_burst_size = bursts
            .filter_map(|uplink| uplink.device.capabilities().max_burst_size)
            .min();
        // The checksums stay as they are by default: smoltcp computes and verifies all of them.
        capabilities
    }
}

/// A packet for smoltcp, with its ULIDs in it.
#[derive(Debug)]
pub struct RxToken<'a> {
    packet: &'a [u8],
    meta: PacketMeta,
}

impl<'a> RxToken<'a> {
    pub(crate) fn new(packet: &'a [u8], meta: PacketMeta) -> Self {
        Self { packet, meta }
    }
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F>(self, f: F) -> R
    where
        F: FnOnce(&[u8]) -> R,
    {
        f(self.packet)
    }

    fn meta(&self) -> PacketMeta {
        self.meta
    }
}

/// Room for a packet of smoltcp's.
#[derive(Debug)]
pub struct TxToken<'a, D> {
    lower: &'a mut Lower<D>,
    at: Instant,
    meta: PacketMeta,
}

impl<'a, D> TxToken<'a, D> {
    fn new(lower: &'a mut Lower<D>, at: Instant) -> Self {
        Self {
            lower,
            at,
            meta: PacketMeta::default(),
        }
    }
}

impl<D: Device> phy::TxToken for TxToken<'_, D> {
    fn consume<R, F>(self, len: usize, f: F) -> R
    where
        F: FnOnce(&mut [u8]) -> R,
    {
        self.lower.outgoing.clear();
        self.lower.outgoing.resize(HEADROOM + len, 0);
        let result = f(&mut self.lower.outgoing[HEADROOM..]);
        self.lower.send(self.at, self.meta);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}
