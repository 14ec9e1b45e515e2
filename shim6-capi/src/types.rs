//! Addresses, pairs and flows.

use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_core::shim::FlowKey;
use shim6_core::{Instant, LocatorPair};

use crate::raw::{self, Plain};
use crate::status::Status;

/// Octets that have to be free in front of a packet for shim6_send: it grows by as many when it is rewritten. So the MTU of
/// what is above the shim is the interface's less this.
pub const SHIM6_HEADROOM: usize = 8;

/// Octets of a seed.
pub const SHIM6_SEED_LEN: usize = 32;

/// Octets that a buffer for shim6_poll_transmit and shim6_poll_deliver needs at least.
pub const SHIM6_LEAST_BUFFER: usize = 1280;

/// Stands for a time that is not known, or never comes.
pub const SHIM6_NEVER: u64 = 0xffff_ffff_ffff_ffff;

const _: () = assert!(SHIM6_HEADROOM == shim6_core::shim::HEADROOM && SHIM6_NEVER == u64::MAX);

/// An IPv6 address; the octets are those of struct in6_addr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Address {
    /// In network order.
    pub octets: [u8; 16],
}

// SAFETY: octets.
unsafe impl Plain for Address {}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self {
            octets: address.octets(),
        }
    }
}

impl From<Address> for Ipv6Addr {
    fn from(address: Address) -> Self {
        address.octets.into()
    }
}

/// An address of this host and one of the peer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pair {
    /// Of this host.
    pub local: Address,
    /// Of the peer.
    pub peer: Address,
}

// SAFETY: octets.
unsafe impl Plain for Pair {}

impl From<LocatorPair> for Pair {
    fn from(pair: LocatorPair) -> Self {
        Self {
            local: pair.local.into(),
            peer: pair.peer.into(),
        }
    }
}

impl From<Pair> for LocatorPair {
    fn from(pair: Pair) -> Self {
        Self::new(pair.local.into(), pair.peer.into())
    }
}

/// A flow of a transport between two ULIDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The addresses that the transport knows.
    pub ulids: Pair,
    /// This host's port.
    pub local_port: u16,
    /// The peer's port.
    pub peer_port: u16,
    /// The transport's protocol number: 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// Not used.
    pub reserved: [u8; 3],
}

// SAFETY: integers and octets.
unsafe impl Plain for Flow {}

impl From<FlowKey> for Flow {
    fn from(key: FlowKey) -> Self {
        Self {
            ulids: key.ulids.into(),
            local_port: key.local_port,
            peer_port: key.peer_port,
            protocol: key.protocol,
            reserved: [0; 3],
        }
    }
}

impl From<Flow> for FlowKey {
    fn from(flow: Flow) -> Self {
        Self {
            ulids: flow.ulids.into(),
            protocol: flow.protocol,
            local_port: flow.local_port,
            peer_port: flow.peer_port,
        }
    }
}

/// What this host says of one of its locators: lower priorities first, and shares by weight among equals (RFC 5533 section
/// 5.15.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Preference {
    /// Which one.
    pub locator: Address,
    /// 1: known not to work; 2: less stable than others.
    pub flags: u8,
    /// The lowest is used first. 255: the last resort, which is left for a better one that works.
    pub priority: u8,
    /// Share of the contexts among locators of the same priority.
    pub weight: u8,
    /// Not used.
    pub reserved: u8,
}

// SAFETY: octets.
unsafe impl Plain for Preference {}

/// The flow of an IPv6 packet that this host sends, with its ULIDs in it. SHIM6_STATUS_NONE where no ports are to be seen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_flow_of_sent(packet: *const u8, length: usize, flow: *mut Flow) -> Status {
    // SAFETY: the rules for all functions.
    unsafe { flow_of(packet, length, flow, FlowKey::of_sent) }
}

/// The flow of an IPv6 packet that shim6_receive gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_flow_of_received(packet: *const u8, length: usize, flow: *mut Flow) -> Status {
    // SAFETY: the rules for all functions.
    unsafe { flow_of(packet, length, flow, FlowKey::of_received) }
}

/// # Safety
///
/// As for the two functions that use it.
unsafe fn flow_of(
    packet: *const u8,
    length: usize,
    flow: *mut Flow,
    key: impl FnOnce(&[u8]) -> Option<FlowKey>,
) -> Status {
    // SAFETY: as the caller promises.
    let found = unsafe { raw::slice(packet, length) }.map(key);
    match found {
        Ok(None) => Status::None,
        // SAFETY: as the caller promises.
        Ok(Some(key)) => match unsafe { raw::write(flow, Flow::from(key)) } {
            Ok(()) => Status::Ok,
            Err(error) => error,
        },
        Err(error) => error,
    }
}

pub(crate) fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(SHIM6_NEVER)
}

/// A time that may be unknown.
pub(crate) fn micros_or_never(duration: Option<Duration>) -> u64 {
    duration.map_or(SHIM6_NEVER, micros)
}

/// A moment that may not have come.
pub(crate) fn moment_or_never(instant: Option<Instant>) -> u64 {
    instant.map_or(SHIM6_NEVER, Instant::as_micros)
}
