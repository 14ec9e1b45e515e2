//! Packets that are sent while their context looks for a working path, kept for the path that is found.
//!
//! While REAP explores, payload goes on being sent on the pair that has probably failed (RFC 5534 section 6.9). A transport that loses it waits for a retransmission timer that has been backed off meanwhile, and a
//! datagram is gone. So a copy of each such packet is held, as the upper layer made it, and sent again when there is a path.
//!
//! - Each context has a queue, and keeps its order. What is older than [`HoldConfig::max_age`] is never sent again.
//! - When the context's bound is reached, its *oldest* go first: what is old has been sent again by any transport that
//!   still wants it. When the bound of all contexts is reached, a context makes room by its own oldest only, and one that
//!   has none to give holds nothing: nobody can push another's packets out.
//! - A packet is held whole or not at all. It counts for as many octets as it has, and [`OVERHEAD`] for its administration.
//! - Shim6's own messages and Neighbor Discovery are never held: they are about a path, and late they are wrong.
//! - The old pair may have worked after all, in the direction of the packets, and then the receiver gets them twice. A
//!   transport that retransmits sorts that out, as it has to do anyway; here these are TCP and SCTP. All else is
//!   *datagrams* (DCCP, too, which retransmits nothing): [`HoldConfig::datagrams`] says whether they are held.
//! - What was sent between the failure and its discovery is lost and not held. Of that the *last* packet of a TCP
//!   connection is remembered, if it is small and has data, and sent on another pair before anything held: when it arrives,
//!   the receiver says what it misses, and TCP sends all of that again at once instead of after its timer. It has to be newer
//!   than what was received last: an older one has probably been acknowledged.
//! - When the exploration ends with the pair on which a packet was sent already, only the retransmitting transports' packets
//!   are sent again. That does no harm to them, and where an outage has healed it saves a timer; the datagrams had
//!   their chance.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use shim6_reap::{Instant, LocatorPair};

use super::Flow;
use super::rewrite::{self, DESTINATION_OPTIONS, IPV6_HEADER_LEN};
use crate::id::ContextId;
use crate::wire::checksum;

/// Octets that each packet held counts for besides its own.
pub const OVERHEAD: usize = 64;

/// Age is looked for at all contexts so often within [`HoldConfig::max_age`], and no more than each [`SHORTEST_LOOK`].
const LOOKS: u32 = 8;
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// Octets of the largest packet that is remembered.
pub const SMALL: usize = 256;

const TCP: u8 = 6;
/// Octets of a TCP header without options, and where the octet with its length and that with its flags are (RFC 9293 section
/// 3.1).
const TCP_HEADER_LEN: usize = 20;
const TCP_DATA_OFFSET: usize = 12;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: core::ops::Range<usize> = 16..18;
const TCP_FIN: u8 = 1;
const SCTP: u8 = 132;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// How much is held, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldConfig {
    /// Octets held at most for one context. 256 KiB; with 0 nothing is held.
    pub octets_per_context: usize,
    /// Octets held at most for all contexts. 16 MiB.
    pub octets: usize,
    /// A packet that has been held for longer is not sent again. 2 s.
    pub max_age: Duration,
    /// Whether to hold the packets of transports that do not retransmit. They may then arrive twice. `true`.
    pub datagrams: bool,
    /// Whether the last small TCP packet that was sent before the failure was noticed is sent again, too. `true`.
    pub last_packet: bool,
}

impl HoldConfig {
    /// For small devices: 4 KiB for one context, and 16 KiB for all.
    pub const fn small() -> Self {
        Self {
            octets_per_context: 4 * 1024,
            octets: 16 * 1024,
            max_age: Duration::from_secs(2),
            datagrams: true,
            last_packet: true,
        }
    }
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self {
            octets_per_context: 256 * 1024,
            octets: 16 * 1024 * 1024,
            max_age: Duration::from_secs(2),
            datagrams: true,
            last_packet: true,
        }
    }
}

/// What became of packets that were to be held. Of those in `held`, each is in one of those behind it in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldCounters {
    /// Not held, because there was no room.
    pub refused: u64,
    /// Held.
    pub held: u64,
    /// Given back to be sent again.
    pub released: u64,
    /// Made room for newer ones of their context.
    pub pushed_out: u64,
    /// Held for too long.
    pub expired: u64,
    /// Datagrams whose pair turned out to be the one that they were sent on.
    pub sent_before: u64,
    /// Their context is gone, or whoever held them is.
    pub discarded: u64,
    /// Not of those in `held`: sent before the failure was noticed, remembered, and given back to be sent again.
    pub repeated: u64,
}

/// The packets held, of all contexts.
#[derive(Debug)]
pub struct HoldBuffer {
    config: HoldConfig,
    /// None of them is empty.
    queues: HashMap<ContextId, Queue>,
    /// Of all queues.
    octets: usize,
    /// The last small packet of each context.
    last: HashMap<ContextId, Last>,
    /// When to look at all queues for what is too old.
    next_look: Instant,
    counters: HoldCounters,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    sent_on: LocatorPair,
    /// Nothing had come back when its path was doubted.
    in_doubt: bool,
    /// Used again for the next one.
    packet: Vec<u8>,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Held>,
    octets: usize,
}

#[derive(Debug)]
struct Held {
    at: Instant,
    sent_on: LocatorPair,
    transport: Transport,
    packet: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    /// Sends again what is lost, and takes no harm from what comes twice.
    Retransmitting,
    Datagrams,
}

impl HoldBuffer {
    /// Holds nothing yet.
    pub fn new(config: HoldConfig) -> Self {
        Self {
            config,
            queues: HashMap::new(),
            octets: 0,
            last: HashMap::new(),
            next_look: Instant::EPOCH,
            counters: HoldCounters::default(),
        }
    }

    /// Keeps a copy of an outgoing IPv6 packet that starts at `packet[0]` and bears its ULIDs, while it is sent on the
    /// flow's present locators. False: it is not held, because there is no room or because it is not to be held.
    pub fn hold(&mut self, flow: &Flow, packet: &[u8], now: Instant) -> bool {
        let Some((packet, transport)) = classify(packet) else {
            return false;
        };
        if transport == Transport::Datagrams && !self.config.datagrams {
            return false;
        }
        if self.next_look <= now {
            self.handle_timeout(now);
        }
        let size = packet.len().saturating_add(OVERHEAD);
        let own = self.queues.get(&flow.context).map_or(0, |queue| queue.octets);
        let others = self.octets - own;
        let bound = (self.config.octets_per_context).min(self.config.octets.saturating_sub(others));
        let Some(rest) = bound.checked_sub(size) else {
            self.counters.refused += 1;
            return false;
        };
        let queue = self.queues.entry(flow.context).or_default();
        self.counters.expired += queue.expire(self.config.max_age, now);
        while queue.octets > rest && queue.pop().is_some() {
            self.counters.pushed_out += 1;
        }
        queue.octets += size;
        queue.packets.push_back(Held {
            at: now,
            sent_on: flow.locators,
            transport,
            packet: packet.into(),
        });
        self.octets = others + queue.octets;
        self.counters.held += 1;
        true
    }

    /// Whether [`remember`](Self::remember) has a use for an outgoing IPv6 packet: it is whole, not larger than [`SMALL`], and
    /// of TCP, without extension headers, with data or the end of a stream. The receiver of anything else says nothing of what
    /// it misses.
    pub fn is_memorable(packet: &[u8]) -> bool {
        packet.len() <= SMALL && asks_for_acknowledgement(packet).unwrap_or(false)
    }

    /// Remembers a packet that [`is_memorable`](Self::is_memorable) as the last one that was sent on a flow, which does not
    /// hold packets yet.
    pub fn remember(&mut self, flow: &Flow, packet: &[u8], now: Instant) {
        if !self.config.last_packet || flow.holding {
            return;
        }
        if self.next_look <= now {
            self.handle_timeout(now);
        }
        // There is a bound on contexts as well, but not a low one.
        let is_full = self.last.len() >= self.config.octets / (SMALL + OVERHEAD);
        let last = match self.last.entry(flow.context) {
            Entry::Vacant(_) if is_full => return,
            entry => entry.or_insert_with(|| Last {
                at: now,
                sent_on: flow.locators,
                in_doubt: false,
                packet: Vec::new(),
            }),
        };
        (last.at, last.sent_on, last.in_doubt) = (now, flow.locators, false);
        last.packet.clear();
        last.packet.extend_from_slice(packet);
    }

    /// Notes that the path of a flow is in doubt from now on. What comes back later comes on another path perhaps, and may be no
    /// answer but what the peer, for its part, sends again.
    pub fn doubt(&mut self, flow: &Flow) {
        if let Some(last) = self.last.get_mut(&flow.context) {
            last.in_doubt = !last.is_answered(flow);
        }
    }

    /// Takes out what is held for a context whose exploration has ended with `flow`: the packets to be sent on it, oldest
    /// first, still with their ULIDs.
    #[must_use]
    pub fn release(&mut self, flow: &Flow, now: Instant) -> Vec<Box<[u8]>> {
        let last = self.take_last(flow, now);
        let Some(mut queue) = self.take(flow.context) else {
            return last.into_iter().collect();
        };
        self.counters.expired += queue.expire(self.config.max_age, now);
        let is_new = |held: &Held| held.transport == Transport::Retransmitting || held.sent_on != flow.locators;
        let count = queue.packets.len();
        let packets = queue.packets.into_iter().filter(is_new).map(|held| held.packet);
        let first = usize::from(last.is_some());
        let packets: Vec<_> = last.into_iter().chain(packets).collect();
        let released = packets.len() - first;
        self.counters.released += released as u64;
        self.counters.sent_before += (count - released) as u64;
        packets
    }

    /// Drops what is held for a context.
    pub fn discard(&mut self, context: ContextId) {
        self.last.remove(&context);
        if let Some(queue) = self.take(context) {
            self.counters.discarded += queue.packets.len() as u64;
        }
    }

    /// Drops all that is held.
    pub fn discard_all(&mut self) {
        self.octets = 0;
        self.last.clear();
        let queues = self.queues.drain();
        self.counters.discarded += queues.map(|(_, queue)| queue.packets.len() as u64).sum::<u64>();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), so that what is too old takes no room for longer: never while
    /// nothing is held.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.next_look)
    }

    /// Drops what is too old.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.next_look = now + (self.config.max_age / LOOKS).max(SHORTEST_LOOK);
        let Self {
            config,
            queues,
            octets,
            last,
            counters,
            ..
        } = self;
        last.retain(|_, last| now - last.at <= config.max_age);
        queues.retain(|_, queue| {
            let before = queue.octets;
            counters.expired += queue.expire(config.max_age, now);
            *octets -= before - queue.octets;
            !queue.packets.is_empty()
        });
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// How many octets are held, for all contexts, with what the packets count for besides their own.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// How many contexts there are for which something is held.
    pub fn contexts(&self) -> usize {
        self.queues.len()
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> HoldCounters {
        self.counters
    }

    /// What was sent last, if the peer has probably not got it.
    fn take_last(&mut self, flow: &Flow, now: Instant) -> Option<Box<[u8]>> {
        let last = self.last.remove(&flow.context)?;
        let is_answered = !last.in_doubt && last.is_answered(flow);
        let is_wanted = last.sent_on != flow.locators && !is_answered && now - last.at <= self.config.max_age;
        is_wanted.then(|| {
            self.counters.repeated += 1;
            let mut packet = last.packet.into_boxed_slice();
            complete_checksum(&mut packet);
            packet
        })
    }

    fn take(&mut self, context: ContextId) -> Option<Queue> {
        let queue = self.queues.remove(&context)?;
        self.octets -= queue.octets;
        Some(queue)
    }
}

impl Last {
    /// Whether something has come back since.
    fn is_answered(&self, flow: &Flow) -> bool {
        flow.activity.last_received().is_some_and(|received| received > self.at)
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Held> {
        let held = self.packets.pop_front()?;
        self.octets -= held.packet.len() + OVERHEAD;
        Some(held)
    }

    /// Drops what is too old. Returns how many packets that were.
    fn expire(&mut self, max_age: Duration, now: Instant) -> u64 {
        let mut count = 0;
        while self.packets.front().is_some_and(|held| now - held.at > max_age) {
            self.pop();
            count += 1;
        }
        count
    }
}

/// The packet as far as its Payload Length says, and whose it is; none if it is not the upper layers' own.
fn classify(packet: &[u8]) -> Option<(&[u8], Transport)> {
    rewrite::addresses(packet)?;
    let found = rewrite::position(packet)?;
    if !rewrite::is_payload(found) {
        return None;
    }
    let (packet, field, offset) = found;
    Some((packet, transport(packet, field, offset)))
}

/// By the first header that is none of IPv6's own. A fragment shows no more than its fragment header, and that one decides, so
/// that all fragments of a packet are treated alike.
fn transport(packet: &[u8], mut field: usize, mut offset: usize) -> Transport {
    loop {
        let next = packet.get(field).copied();
        let end = match next {
            Some(DESTINATION_OPTIONS) => rewrite::end_of_extension(packet, offset),
            // Its length is in units of 4 octets (RFC 4302 section 2.2).
            Some(AUTHENTICATION) => packet
                .get(offset + 1)
                .map(|&length| offset + 8 + 4 * usize::from(length)),
            Some(FRAGMENT) => {
                let next = packet.get(offset).copied();
                return Transport::of(next);
            }
            next => return Transport::of(next),
        };
        // What cannot be read is no transport that is known to retransmit.
        let Some(end) = end else { return Transport::Datagrams };
        (field, offset) = (offset, end);
    }
}

fn asks_for_acknowledgement(packet: &[u8]) -> Option<bool> {
    rewrite::addresses(packet)?;
    let (packet, field, offset) = rewrite::position(packet)?;
    if packet.get(field) != Some(&TCP) || offset != IPV6_HEADER_LEN {
        return Some(false);
    }
    let segment = packet.get(offset..)?;
    let header = segment.get(..TCP_HEADER_LEN)?;
    let length = usize::from(header[TCP_DATA_OFFSET] >> 4) * 4;
    Some(segment.len() > length || header[TCP_FLAGS] & TCP_FIN != 0)
}

/// Puts the right checksum into a packet that is worth remembering. It may have been seen before the network card did that.
fn complete_checksum(packet: &mut [u8]) {
    let Some((addresses, segment)) = packet.split_at_mut_checked(IPV6_HEADER_LEN) else {
        return;
    };
    let Some(field) = segment.get_mut(TCP_CHECKSUM) else {
        return;
    };
    field.fill(0);
    // RFC 8200 section 8.1: source and destination, length, next header.
    let length = (segment.len() as u32).to_be_bytes();
    let summed = [&addresses[8..], &length, &[0, 0, 0, TCP], segment].concat();
    let sum = checksum(&summed);
    segment[TCP_CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

impl Transport {
    fn of(next_header: Option<u8>) -> Self {
        match next_header {
            Some(TCP | SCTP) => Self::Retransmitting,
            _ => Self::Datagrams,
        }
    }
}
