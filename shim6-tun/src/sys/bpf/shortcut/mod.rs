//! A way through the kernel for steered packets, which otherwise cross into the daemon and back.
//!
//! Four programs and a pair of connected virtual Ethernet interfaces, `inside` and `outside`:
//!
//! ```text
//! out:  TUN device -divert-> inside =cut, checksum=> outside -rewrite-> next hop on the uplink
//! in:   uplink -restore-> outside =put together=> inside -arrive-> TUN device
//! ```
//!
//! No device cuts packets of protocol 140, nor puts them together. So that happens between the two interfaces, where packets still,
//! or again, bear their ULIDs: `inside` offers no segmentation, so the kernel cuts on the way out of it, and has receive offload
//! in software on, so the kernel joins on the way into it. What the programs do not know how to treat takes the
//! way through the daemon: packets with extension headers, of other protocols than TCP and UDP, of contexts that nobody told
//! them of, and those that are too large.
//!
//! Packets that came or went by the shortcut look to everybody above as if they had come in or gone out on the TUN device.
//!
//! It needs `CAP_BPF` and `CAP_NET_ADMIN` in the initial user namespace and Linux 6.6.

mod layout;
mod programs;
#[cfg(test)]
mod tests;

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use self::layout::{count, incoming, outgoing};
use self::programs::Maps;
use super::Pair;
use super::assembler::Instruction;
use super::syscall::{self, Hook, MapKind};
use crate::sys::{IPV6_HEADER_OCTETS, while_doing};

const PAYLOAD_HEADER_OCTETS: u32 = 8;
/// The kernel permits no more (`rtnl_create_link`).
const MOST_QUEUES: u32 = 4096;

/// The interfaces of a shortcut. `inside` and `outside` are the ends of one virtual link; `inside` must not segment or compute
/// checksums, and has to have receive offload.
#[derive(Clone, Copy, Debug)]
pub struct ShortcutDevices {
    /// Index of the TUN device.
    pub tun: u32,
    /// Its MTU, in octets.
    pub tun_mtu: u32,
    /// Index of the inner end.
    pub inside: u32,
    /// Its link-layer address.
    pub inside_address: [u8; 6],
    /// Index of the outer end.
    pub outside: u32,
}

/// How packets between two ULIDs leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Our locator and the peer's.
    pub locators: Pair,
    /// The Context Tag that the peer knows: 47 bits.
    pub tag: u64,
    /// Index of the interface, which has to be an Ethernet.
    pub interface: u32,
    /// The neighbour there.
    pub next_hop: Ipv6Addr,
    /// The interface's MTU, in octets.
    pub mtu: u32,
}

/// What packets with one of our Context Tags are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Our ULID and the peer's.
    pub ulids: Pair,
    /// Our locator that packets come to. Those to our ULID are taken as well, those to others left to the daemon.
    pub locator: Ipv6Addr,
}

/// What the programs have done, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortcutCounts {
    /// Given their locators.
    pub rewritten: u64,
    /// Octets of those, without the payload header.
    pub rewritten_octets: u64,
    /// Given their ULIDs.
    pub restored: u64,
    /// Octets of those, without the payload header.
    pub restored_octets: u64,
    /// Lost, as the kernel had no room.
    pub failed: u64,
}

/// The programs, which end with this value, and what they know.
#[derive(Debug)]
pub struct Shortcut {
    outgoing: OwnedFd,
    incoming: OwnedFd,
    counts: OwnedFd,
    processors: usize,
    restore: OwnedFd,
    /// In the order in which they have to end.
    _attached: [OwnedFd; 3],
}

/// The connection of a [`Shortcut`] to an uplink, which ends when it is dropped.
#[derive(Debug)]
pub struct ShortcutAttachment {
    _restore: OwnedFd,
}

impl Shortcut {
    /// How many queues in each direction the virtual link should have: some for each processor. With fewer, packets of a flow can
    /// overtake each other.
    ///
    /// # Errors
    ///
    /// The kernel does not say how many processors there are.
    pub fn queues() -> io::Result<u32> {
        let queues = syscall::present_processors()? << programs::LOG_QUEUES;
        Ok(u32::try_from(queues).unwrap_or(MOST_QUEUES).min(MOST_QUEUES))
    }

    /// Loads the programs and attaches them to interfaces in the network namespace of the calling thread, for up to `contexts`
    /// contexts.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without the capabilities, as in any but the initial user namespace; otherwise the kernel's error
    /// and the step that it refused.
    pub fn new(devices: &ShortcutDevices, contexts: usize) -> io::Result<Self> {
        let map = |key, value| {
            let made = syscall::create_map(MapKind::Hash, key, value, contexts.max(1), syscall::NOT_PREALLOCATED);
            made.map_err(|error| while_doing("making a map (BPF)", error))
        };
        let (outgoing, incoming) = (map(32, outgoing::OCTETS)?, map(8, incoming::OCTETS)?);
        let counts = syscall::create_map(MapKind::ArrayByProcessor, 4, count::OCTETS, 1, 0)?;
        let maps = Maps {
            outgoing: outgoing.as_raw_fd(),
            incoming: incoming.as_raw_fd(),
            counts: counts.as_raw_fd(),
        };
        let restore = load(
            &programs::restore(maps, devices.outside, devices.inside_address),
            "restore",
        )?;
        let attach = |program: &[Instruction], name, interface, hook| {
            let program = load(program, name)?;
            let attached = syscall::attach(program.as_fd(), interface, hook);
            attached.map_err(|error| while_attaching(name, interface, error))
        };
        // From the end on, so that nothing is led where it is not expected.
        let arrive = programs::arrive(maps, devices.tun, devices.tun_mtu);
        let divert = programs::divert(maps, devices.inside);
        let arrive = attach(&arrive, "arrive", devices.inside, Hook::Ingress)?;
        let rewrite = attach(&programs::rewrite(maps), "rewrite", devices.outside, Hook::Ingress)?;
        let divert = attach(&divert, "divert", devices.tun, Hook::Egress)?;
        Ok(Self {
            outgoing,
            incoming,
            counts,
            processors: syscall::possible_processors()?,
            restore,
            _attached: [divert, rewrite, arrive],
        })
    }

    /// Takes payload packets that come in on this uplink, which has to be an Ethernet.
    ///
    /// # Errors
    ///
    /// The kernel's: there is no such interface, or it cannot do this.
    pub fn watch(&self, uplink: u32) -> io::Result<ShortcutAttachment> {
        // In front of what counts ordinary packets, for which these are none.
        let attached = syscall::attach_first(self.restore.as_fd(), uplink, Hook::Ingress);
        Ok(ShortcutAttachment {
            _restore: attached.map_err(|error| while_attaching("restore", uplink, error))?,
        })
    }

    /// From now on packets from our ULID to the peer's leave so.
    ///
    /// # Errors
    ///
    /// There are too many, or the kernel has no memory.
    pub fn send(&self, (local, peer): Pair, outgoing: &Outgoing) -> io::Result<()> {
        let mut value = [0; outgoing::OCTETS];
        let (ours, theirs) = outgoing.locators;
        put(&mut value, 0, &ours.octets());
        put(&mut value, 16, &theirs.octets());
        // In the payload header, Next Header and Hdr Ext Len stay 0 here: the program sets the first.
        put(&mut value, 32, &with_p_bit(outgoing.tag));
        put(
            &mut value,
            outgoing::INTERFACE as usize,
            &outgoing.interface.to_ne_bytes(),
        );
        let most = outgoing.mtu.saturating_sub(PAYLOAD_HEADER_OCTETS);
        put(&mut value, outgoing::MOST as usize, &most.to_ne_bytes());
        let family = (libc::AF_INET6 as u32).to_ne_bytes();
        put(&mut value, outgoing::NEXT_HOP as usize, &family);
        put(&mut value, outgoing::NEXT_HOP as usize + 4, &outgoing.next_hop.octets());
        let updated = syscall::update(self.outgoing.as_fd(), &super::key(local, peer), &value);
        updated.map_err(|error| while_doing(format_args!("taking {local} to {peer} into the shortcut (BPF)"), error))
    }

    /// From now on packets from our ULID to the peer's go to the daemon.
    pub fn stop_sending(&self, (local, peer): Pair) {
        // Not there, most of the time.
        let _ = syscall::delete(self.outgoing.as_fd(), &super::key(local, peer));
    }

    /// From now on packets with this Context Tag of ours are restored so.
    ///
    /// # Errors
    ///
    /// There are too many, or the kernel has no memory.
    pub fn receive(&self, tag: u64, incoming: &Incoming) -> io::Result<()> {
        let mut value = [0; incoming::OCTETS];
        let (local, peer) = incoming.ulids;
        put(&mut value, 0, &peer.octets());
        put(&mut value, incoming::ULID as usize, &local.octets());
        put(&mut value, incoming::LOCATOR as usize, &incoming.locator.octets());
        let updated = syscall::update(self.incoming.as_fd(), &with_p_bit(tag), &value);
        updated.map_err(|error| while_doing(format_args!("taking {peer} to {local} into the shortcut (BPF)"), error))
    }

    /// From now on packets with this tag go to the daemon.
    pub fn stop_receiving(&self, tag: u64) {
        let _ = syscall::delete(self.incoming.as_fd(), &with_p_bit(tag));
    }

    /// What was done since the shortcut is there.
    #[must_use]
    pub fn counts(&self) -> ShortcutCounts {
        let mut counts = ShortcutCounts::default();
        // It is there as long as we are.
        let by_processor = syscall::element_by_processor(self.counts.as_fd(), 0, count::OCTETS, self.processors);
        for numbers in by_processor.unwrap_or_default().chunks_exact(count::OCTETS / 8) {
            let number = |offset: i16| numbers[offset as usize / 8];
            counts.rewritten += number(count::REWRITTEN);
            counts.rewritten_octets += number(count::REWRITTEN + 8);
            counts.restored += number(count::RESTORED);
            counts.restored_octets += number(count::RESTORED + 8);
            counts.failed += number(count::FAILED);
        }
        counts
    }
}

fn load(program: &[Instruction], name: &str) -> io::Result<OwnedFd> {
    syscall::load(program).map_err(|error| while_doing(format_args!("loading the program {name} (BPF)"), error))
}

fn while_attaching(name: &str, interface: u32, error: io::Error) -> io::Error {
    let what = format_args!("attaching the program {name} to interface index {interface} (TCX, Linux 6.6)");
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn put(value: &mut [u8], at: usize, octets: &[u8]) {
    value[at..at + octets.len()].copy_from_slice(octets);
}

/// The last six octets of a payload header with this tag, behind two zeroes (RFC 5533 section 5.2).
fn with_p_bit(tag: u64) -> [u8; 8] {
    (1 << 47 | tag & ((1 << 47) - 1)).to_be_bytes()
}

const _: () =
    assert!(outgoing::ADDRESSES as usize + 32 + 8 == outgoing::INTERFACE as usize && IPV6_HEADER_OCTETS == 40);
