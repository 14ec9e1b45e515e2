//! Counts of the packets that cross interfaces, kept in the kernel by extended BPF programs.
//!
//! A program at each direction of an interface (TCX) counts the packets of the pairs of addresses that it is told to follow,
//! with the times of the last ones, in memory that it shares with us. So a packet costs no copy and wakes nobody. What has to
//! be known at once comes as an [`Event`]: that a pair which was [armed](Counters::arm) is active, and that a pair which is not
//! followed has had enough traffic for it.
//!
//! It needs `CAP_BPF` and `CAP_NET_ADMIN` in the initial user namespace and Linux 6.6. Where that is missing there is the
//! [tap](crate::sys::tap).

mod assembler;
mod layout;
mod memory;
mod program;
mod shortcut;
mod syscall;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

pub use self::shortcut::{Incoming, Outgoing, Shortcut, ShortcutAttachment, ShortcutCounts, ShortcutDevices};

use self::layout::{event, flow, pair, small};
use self::memory::{Array, Ring};
use self::program::{Direction, Maps, Threshold, program};
use self::syscall::{Hook, MapKind};
use super::while_doing;

/// Size of the ring of events, in octets: for some 1,300 pairs that deserve a context at once.
const RING_OCTETS: usize = 64 * 1024;
/// A slot whose pair is not followed any more is given to another one after this time: whatever counts for the old pair at the
/// same moment has ended by then.
const REST: Duration = Duration::from_secs(1);
/// The most local addresses that are looked for.
const LOCALS: usize = 256;
/// Pairs whose last small packet is kept.
const MOST_SMALL: usize = 65_536;

/// What to count.
#[derive(Clone, Copy, Debug)]
pub struct CounterOptions<'a> {
    /// How many pairs can be followed at the same time.
    pub flows: usize,
    /// Our own addresses: a pair of one of them and an address that is not is watched although nobody follows it.
    pub locals: &'a [Ipv6Addr],
    /// How many of those pairs are remembered.
    pub candidates: usize,
    /// At so many packets, some in each direction, such a pair makes an event; 0 means not.
    pub packets: u64,
    /// At so many octets, with packets in each direction, such a pair makes an event; 0 means not.
    pub octets: u64,
    /// Whether the last small TCP packet that was sent between a pair is kept.
    pub small: bool,
}

/// The number of a pair that is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// Two addresses: ours and the peer's.
pub type Pair = (Ipv6Addr, Ipv6Addr);

/// What was counted in one direction since the pair is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets. What is segmented below or was put together by receive offload counts as one.
    pub packets: u64,
    /// Their octets, IPv6 headers included.
    pub octets: u64,
    /// When the last one passed, on the clock of [`now`]; zero for never.
    pub last: Duration,
}

/// What was counted between two addresses since the pair is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Out of this host.
    pub sent: Count,
    /// Into this host.
    pub received: Count,
    /// When the first packet passed since one of the other direction, or since the pair was armed.
    pub first: Duration,
    /// Whether that one was sent.
    pub first_was_sent: bool,
}

impl Counts {
    /// Whether these were counted from nothing again since `other`.
    #[must_use]
    pub fn is_less_than(&self, other: &Self) -> bool {
        self.sent.packets < other.sent.packets || self.received.packets < other.received.packets
    }
}

/// What has to be known at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pair that was armed is active. It is not armed any more.
    Active(Slot),
    /// A pair that is not followed has had as much traffic as was asked for. It is counted from nothing again.
    Candidate(Pair),
}

/// Counts packets on all interfaces that it is attached to.
#[derive(Debug)]
pub struct Counters {
    ingress: OwnedFd,
    egress: OwnedFd,
    /// From the addresses of a packet, in their order, to the slot.
    pairs: OwnedFd,
    flows: Array,
    small: Option<Array>,
    locals: OwnedFd,
    /// What is in that map.
    known_locals: BTreeSet<Ipv6Addr>,
    // The programs hold this as well.
    _candidates: OwnedFd,
    events: Ring,
    record: Vec<u64>,
    followed: HashMap<Pair, Slot>,
    followed_by: Vec<Option<Pair>>,
    /// Slots that rest, and since when.
    free: VecDeque<(Instant, Slot)>,
}

/// A connection of [`Counters`] to an interface, which ends when it is dropped.
#[derive(Debug)]
pub struct Attachment {
    _ingress: OwnedFd,
    _egress: OwnedFd,
}

impl Counters {
    /// Makes the maps and loads the programs; nothing is counted before [`attach`](Self::attach).
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without the capabilities, as in any but the initial user namespace; otherwise the kernel's error
    /// and the step that it refused.
    pub fn new(options: CounterOptions<'_>) -> io::Result<Self> {
        let refused = |step: &str, error| while_doing(format_args!("{step} (BPF)"), error);
        let map = |error| refused("making a map", error);
        let lazy = syscall::NOT_PREALLOCATED;
        let slots = options.flows.clamp(1, 1 << 24);
        let flows = Array::new(flow::OCTETS, slots).map_err(map)?;
        let small = options
            .small
            .then(|| Array::new(small::TOTAL, slots.min(MOST_SMALL)))
            .transpose()
            .map_err(map)?;
        let pairs = syscall::create_map(MapKind::Hash, 32, 4, 2 * slots, lazy).map_err(map)?;
        let locals = syscall::create_map(MapKind::Hash, 16, 4, LOCALS, lazy).map_err(map)?;
        for address in options.locals {
            syscall::update(locals.as_fd(), &address.octets(), &[0; 4]).map_err(map)?;
        }
        let known = options.candidates.max(1);
        let candidates = syscall::create_map(MapKind::RecentHash, 32, pair::OCTETS, known, 0).map_err(map)?;
        let events = Ring::new(RING_OCTETS).map_err(map)?;
        let maps = Maps {
            pairs: pairs.as_raw_fd(),
            flows: flows.as_fd().as_raw_fd(),
            small: small.as_ref().map(|small| small.as_fd().as_raw_fd()),
            locals: locals.as_raw_fd(),
            candidates: candidates.as_raw_fd(),
            events: events.as_fd().as_raw_fd(),
        };
        let threshold = Threshold {
            packets: options.packets,
            octets: options.octets,
        };
        let load = |direction| {
            let loaded = syscall::load(&program(direction, maps, threshold));
            loaded.map_err(|error| refused("loading a program", error))
        };
        Ok(Self {
            ingress: load(Direction::In)?,
            egress: load(Direction::Out)?,
            pairs,
            flows,
            small,
            locals,
            known_locals: options.locals.iter().copied().collect(),
            _candidates: candidates,
            events,
            record: Vec::new(),
            followed: HashMap::new(),
            followed_by: Vec::new(),
            free: VecDeque::new(),
        })
    }

    /// Takes these for our own addresses, in place of those that were before.
    ///
    /// # Errors
    ///
    /// The kernel's: there are too many, or it has no memory for them.
    pub fn set_locals(&mut self, locals: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        let map = |error| while_doing("telling our addresses (BPF)", error);
        for address in self.known_locals.difference(locals) {
            match syscall::delete(self.locals.as_fd(), &address.octets()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                deleted => deleted.map_err(map)?,
            }
        }
        self.known_locals.retain(|address| locals.contains(address));
        for &address in locals {
            if !self.known_locals.contains(&address) {
                syscall::update(self.locals.as_fd(), &address.octets(), &[0; 4]).map_err(map)?;
                self.known_locals.insert(address);
            }
        }
        Ok(())
    }

    /// Counts what crosses the interface with this index in the network namespace of the calling thread, until what is returned
    /// is dropped or the interface is removed.
    ///
    /// # Errors
    ///
    /// The kernel's: there is no such interface, or it cannot do this (before Linux 6.6).
    pub fn attach(&self, interface: u32) -> io::Result<Attachment> {
        self.attach_by(interface, syscall::attach)
    }

    /// The same in front of other programs there.
    ///
    /// # Errors
    ///
    /// As for [`attach`](Self::attach).
    pub fn attach_in_front(&self, interface: u32) -> io::Result<Attachment> {
        self.attach_by(interface, syscall::attach_first)
    }

    fn attach_by(
        &self,
        interface: u32,
        attach: impl Fn(BorrowedFd<'_>, u32, Hook) -> io::Result<OwnedFd>,
    ) -> io::Result<Attachment> {
        let attach = |program: &OwnedFd, hook| {
            attach(program.as_fd(), interface, hook).map_err(|error| {
                while_doing(
                    format_args!("attaching a BPF program to interface index {interface} (TCX, Linux 6.6)"),
                    error,
                )
            })
        };
        Ok(Attachment {
            _ingress: attach(&self.ingress, Hook::Ingress)?,
            _egress: attach(&self.egress, Hook::Egress)?,
        })
    }

    /// Counts the packets between two addresses from now on; the pair is armed. Does nothing if it is followed already.
    ///
    /// # Errors
    ///
    /// `StorageFull` if too many are followed; the kernel's, which has no memory for it.
    pub fn follow(&mut self, pair: Pair) -> io::Result<()> {
        if self.followed.contains_key(&pair) {
            return Ok(());
        }
        let slot = self.take_slot().ok_or(io::ErrorKind::StorageFull)?;
        self.followed_by[slot.0 as usize] = Some(pair);
        for offset in (0..flow::OCTETS as i16).step_by(8) {
            self.flows.number(slot.0, offset).store(0, Ordering::Relaxed);
        }
        if let Some(small) = self.small_of(slot) {
            small.number(slot.0, small::LENGTH).store(0, Ordering::Relaxed);
        }
        self.flows.number(slot.0, flow::ARMED).store(1, Ordering::SeqCst);
        self.followed.insert(pair, slot);
        let result = [key(pair.0, pair.1), key(pair.1, pair.0)]
            .iter()
            .try_for_each(|key| syscall::update(self.pairs.as_fd(), key, &slot.0.to_ne_bytes()));
        if result.is_err() {
            self.unfollow(pair);
        }
        result.map_err(|error| while_doing("following a pair of addresses (BPF)", error))
    }

    /// Counts the packets between two addresses no longer as those of a pair that is followed.
    pub fn unfollow(&mut self, pair: Pair) {
        let Some(slot) = self.followed.remove(&pair) else {
            return;
        };
        self.followed_by[slot.0 as usize] = None;
        for key in [key(pair.0, pair.1), key(pair.1, pair.0)] {
            // Not there, or the kernel has not even memory to take it away: then it is counted, and nobody looks.
            let _ = syscall::delete(self.pairs.as_fd(), &key);
        }
        self.free.push_back((Instant::now(), slot));
    }

    /// Whose slot it is.
    pub fn pair(&self, slot: Slot) -> Option<Pair> {
        self.followed_by.get(slot.0 as usize).copied().flatten()
    }

    /// What was counted so far. Counts may be newer than others, but no time is older than its count.
    pub fn counts(&self, slot: Slot) -> Counts {
        let read = |offset| self.flows.number(slot.0, offset).load(Ordering::Acquire);
        let count = |direction| {
            let at = flow::counts(direction);
            Count {
                packets: read(at.packets),
                octets: read(at.octets),
                last: Duration::from_nanos(read(at.last)),
            }
        };
        let (sent, received) = (count(Direction::Out), count(Direction::In));
        let first = read(flow::FIRST);
        Counts {
            sent,
            received,
            first: Duration::from_nanos(first >> 1),
            first_was_sent: first & 1 != 0,
        }
    }

    /// Asks for an event at the next packet. True: there was one since `known`, and so no event is to be waited for.
    pub fn arm(&self, slot: Slot, known: &Counts) -> bool {
        let armed = self.flows.number(slot.0, flow::ARMED);
        armed.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let now = self.counts(slot);
        let passed = (now.sent.packets, now.received.packets) != (known.sent.packets, known.received.packets);
        // If it was taken, the event is on its way.
        passed && armed.swap(0, Ordering::SeqCst) != 0
    }

    /// The last small TCP packet that was sent, unless it is `known`, the one that this has returned before: what tells it from
    /// others, and when it was sent. Its octets are put into `packet`.
    pub fn last_small(&self, slot: Slot, known: u64, packet: &mut Vec<u8>) -> Option<(u64, Duration)> {
        let map = self.small_of(slot)?;
        let read = |offset| map.number(slot.0, offset).load(Ordering::Relaxed);
        let sequence = map.number(slot.0, small::SEQUENCE).load(Ordering::Acquire);
        let length = read(small::LENGTH) as usize;
        if sequence == known || sequence & 1 != 0 || length == 0 || length > small::MOST {
            return None;
        }
        packet.clear();
        let words = (0..length.next_multiple_of(8)).step_by(8);
        for offset in words {
            packet.extend_from_slice(&read(small::OCTETS + offset as i16).to_ne_bytes());
        }
        packet.truncate(length);
        let sent_at = Duration::from_nanos(read(small::SENT_AT));
        fence(Ordering::Acquire);
        // Else it was overwritten meanwhile.
        (read(small::SEQUENCE) == sequence).then_some((sequence, sent_at))
    }

    /// Shows to `see` the events that have come; returns how many.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there are none; the descriptor polls as readable when there is one.
    pub fn read(&mut self, see: &mut dyn FnMut(Event)) -> io::Result<usize> {
        let mut record = std::mem::take(&mut self.record);
        let mut seen = 0;
        while self.events.next(&mut record).is_some() {
            if let Some(event) = parse(&record) {
                see(event);
            }
            seen += 1;
        }
        self.record = record;
        if seen == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(seen)
    }

    fn small_of(&self, slot: Slot) -> Option<&Array> {
        self.small.as_ref().filter(|small| (slot.0 as usize) < small.elements())
    }

    fn take_slot(&mut self) -> Option<Slot> {
        if self.free.front().is_some_and(|(since, _)| since.elapsed() >= REST) {
            return self.free.pop_front().map(|(_, slot)| slot);
        }
        if self.followed_by.len() < self.flows.elements() {
            self.followed_by.push(None);
            return u32::try_from(self.followed_by.len() - 1).ok().map(Slot);
        }
        None
    }
}

impl AsFd for Counters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// The time on the clock that the counts are stamped with.
#[must_use]
pub fn now() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(Duration::ZERO, Duration::from)
}

fn key(source: Ipv6Addr, destination: Ipv6Addr) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&source.octets());
    key[16..].copy_from_slice(&destination.octets());
    key
}

fn parse(record: &[u64]) -> Option<Event> {
    let mut octets = [0; event::OCTETS];
    for (octets, number) in octets.chunks_exact_mut(8).zip(record) {
        octets.copy_from_slice(&number.to_ne_bytes());
    }
    let half = |offset: i16| {
        let octets = octets.get(offset.unsigned_abs() as usize..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*octets))
    };
    let address = |offset: usize| {
        let octets: &[u8; 16] = octets.get(offset..)?.first_chunk()?;
        Some(Ipv6Addr::from(*octets))
    };
    let start = event::PAIR.unsigned_abs() as usize;
    match half(event::KIND)? {
        layout::ACTIVE => Some(Event::Active(Slot(half(event::SLOT)?))),
        layout::CANDIDATE => Some(Event::Candidate((address(start)?, address(start + 16)?))),
        _ => None,
    }
}
