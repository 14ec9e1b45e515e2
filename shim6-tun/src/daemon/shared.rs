//! What the packet tasks and the engine share.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use shim6_core::dataplane::icmp;
use shim6_core::wire::ContextTag;
use shim6_core::{ContextId, Dataplane, Instant, LocatorPair};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::forks::{ForkTable, Heard};
use super::hold::Hold;
use super::wire::Wire;
use super::worker::Streams;
use crate::config::HoldConfig;
use crate::sys::wire_socket::{SendOutcome, WirePacket};

/// A Shim6 control message, from its Next Header octet on.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) octets: Vec<u8>,
}

/// The addresses of a packet with a payload header, and its Context Tag, which is not one of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnknownTag {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) tag: ContextTag,
}

/// Messages that may wait for the engine; anybody can fill this queue.
const MESSAGE_QUEUE: usize = 4_096;
/// Unknown tags that may wait; one of many packets with the same tag is enough.
const UNKNOWN_TAG_QUEUE: usize = 256;
/// ICMPv6 errors that may wait.
const ICMP_QUEUE: usize = 256;
/// ULID pairs that may wait for a context.
const CANDIDATE_QUEUE: usize = 1_024;

/// Reports of where packets arrive that may wait.
const HEARD_QUEUE: usize = 1_024;

/// Octets kept of a message: as many as its header can bound (RFC 5533 section 5.3). What follows has no meaning, but
/// would let a flood of large packets fill the memory.
const MAX_KEPT: usize = 8 * 256;

/// Octets of the longest ICMPv6 error that a host makes (RFC 4443 section 2.4).
const MAX_ICMP_ERROR: usize = 1_280;

/// What the packet tasks tell the engine. One queue for each kind, so that a flood of messages crowds out nothing else.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) unknown_tags: mpsc::Receiver<UnknownTag>,
    /// ICMPv6 errors about packets with a Shim6 header, as whole IPv6 packets.
    pub(crate) icmp_errors: mpsc::Receiver<Vec<u8>>,
    /// ULID pairs that have had enough traffic for a context.
    pub(crate) candidates: mpsc::Receiver<LocatorPair>,
    /// Where packets arrive, and in which forks.
    pub(crate) heard: mpsc::Receiver<Heard>,
    /// Contexts of which a packet passed that they waited for. A lost one would leave a context asleep through a failure,
    /// so there is no bound but that of the contexts: each asks for one wake at a time.
    pub(crate) wakes: mpsc::UnboundedReceiver<ContextId>,
}

/// Shared by the engine, which writes the table, and the packet tasks, which read it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) dataplane: ArcSwap<Dataplane>,
    /// Which flows have forks.
    pub(crate) forks: ArcSwap<ForkTable>,
    pub(crate) hold: Hold,
    pub(crate) wire: Wire,
    pub(crate) streams: Streams,
    /// The MTUs of the uplinks, by this host's locator there.
    pub(crate) uplink_mtus: ArcSwap<HashMap<Ipv6Addr, u32>>,
    pub(crate) counters: PacketCounters,
    too_big: TooBigLimit,
    messages: mpsc::Sender<Message>,
    unknown_tags: mpsc::Sender<UnknownTag>,
    icmp_errors: mpsc::Sender<Vec<u8>>,
    candidates: mpsc::Sender<LocatorPair>,
    heard: mpsc::Sender<Heard>,
    wakes: mpsc::UnboundedSender<ContextId>,
}

impl Shared {
    pub(crate) fn new(clock: Clock, wire: Wire, hold: &HoldConfig) -> (Self, Inputs) {
        let dataplane = ArcSwap::from_pointee(Dataplane::default());
        let counters = PacketCounters::default();
        let (messages, to_messages) = mpsc::channel(MESSAGE_QUEUE);
        let (unknown_tags, to_unknown_tags) = mpsc::channel(UNKNOWN_TAG_QUEUE);
        let (icmp_errors, to_icmp_errors) = mpsc::channel(ICMP_QUEUE);
        let (candidates, to_candidates) = mpsc::channel(CANDIDATE_QUEUE);
        let (heard, to_heard) = mpsc::channel(HEARD_QUEUE);
        let (wakes, to_wakes) = mpsc::unbounded_channel();
        let inputs = Inputs {
            messages: to_messages,
            unknown_tags: to_unknown_tags,
            icmp_errors: to_icmp_errors,
            candidates: to_candidates,
            heard: to_heard,
            wakes: to_wakes,
        };
        (
            Self {
                clock,
                dataplane,
                forks: ArcSwap::default(),
                hold: Hold::new(hold),
                wire,
                streams: Streams::new(),
                uplink_mtus: ArcSwap::default(),
                counters,
                too_big: TooBigLimit::default(),
                messages,
                unknown_tags,
                icmp_errors,
                candidates,
                heard,
                wakes,
            },
            inputs,
        )
    }

    /// Hands a control message to the engine, without ever waiting for it.
    pub(crate) fn hand_over(&self, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) {
        // First the place, then the copy: there may be no place because there are too many to copy.
        let Ok(place) = self.messages.try_reserve() else {
            return self.counters.engine_queue_full.add(1);
        };
        let octets = message[..message.len().min(MAX_KEPT)].to_vec();
        place.send(Message {
            source,
            destination,
            octets,
        });
    }

    /// Tells the engine that a peer sends on a context that this host does not have.
    pub(crate) fn report_unknown_tag(&self, unknown: UnknownTag) {
        if self.unknown_tags.try_send(unknown).is_err() {
            self.counters.engine_queue_full.add(1);
        }
    }

    /// Hands an ICMPv6 error to the engine, without ever waiting for it.
    pub(crate) fn hand_over_icmp_error(&self, packet: &[u8]) {
        match self.icmp_errors.try_reserve() {
            Ok(place) => place.send(packet.to_vec()),
            Err(_) => self.counters.engine_queue_full.add(1),
        }
    }

    /// Tells the engine of a ULID pair that is worth a context. Without room it is tried again after as much traffic.
    pub(crate) fn propose(&self, ulids: LocatorPair) {
        if self.candidates.try_send(ulids).is_err() {
            self.counters.engine_queue_full.add(1);
        }
    }

    /// Tells the engine where a packet arrived. False: there was no room; the next packet will tell it.
    pub(crate) fn report_heard(&self, heard: Heard) -> bool {
        self.heard.try_send(heard).is_ok()
    }

    /// Tells the engine that a packet passed that a context waited for.
    pub(crate) fn wake(&self, context: ContextId) {
        // Only while the daemon ends is nobody there.
        let _ = self.wakes.send(context);
    }

    /// What the packet tasks did, by name.
    pub(crate) fn report(&self) -> BTreeMap<String, u64> {
        let mut report = self.counters.report();
        report.append(&mut self.hold.report());
        report
    }

    /// Tells those who sent packets that do not fit the uplink, as a router behind it would (RFC 5533 section 8).
    fn report_too_big(&self, source: Ipv6Addr, packets: &[WirePacket<'_>]) {
        let Some(&mtu) = self.uplink_mtus.load().get(&source) else {
            return;
        };
        let mut error = [0; MAX_ICMP_ERROR];
        for packet in packets.iter().filter(|packet| packet.len() > mtu as usize) {
            if !self.too_big.allows(self.clock.now()) {
                return;
            }
            let packet = [packet.head, packet.body].concat();
            if let Some(length) = icmp::packet_too_big(&packet, mtu, &mut error) {
                self.hand_over_icmp_error(&error[..length]);
            }
        }
    }

    /// Sends whole IPv6 packets from one of our locators.
    pub(crate) fn send(&self, source: Ipv6Addr, packets: &[WirePacket<'_>]) {
        self.count(source, packets, self.wire.send(source, packets));
    }

    /// Sends whole IPv6 packets between the locators of a pair, the shortest way.
    pub(crate) fn send_on(&self, pair: LocatorPair, packets: &[WirePacket<'_>], now: Instant) {
        self.count(pair.local, packets, self.wire.send_on(pair, packets, now));
    }

    fn count(&self, source: Ipv6Addr, packets: &[WirePacket<'_>], outcome: Option<SendOutcome>) {
        match outcome {
            Some(outcome) => {
                self.counters.count_sent(outcome);
                if outcome.too_big > 0 {
                    self.report_too_big(source, packets);
                }
            }
            None => self.counters.not_our_source.add(packets.len()),
        }
    }
}

/// How many Packet Too Big this host writes to itself: one that is missing is made up for by the next packet.
#[derive(Debug, Default)]
struct TooBigLimit {
    /// The present interval, and how many there were in it.
    state: Mutex<(u64, u32)>,
}

impl TooBigLimit {
    const INTERVAL_MICROS: u64 = 100_000;
    const PER_INTERVAL: u32 = 32;

    fn allows(&self, now: Instant) -> bool {
        let interval = now.as_micros() / Self::INTERVAL_MICROS;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != interval {
            *state = (interval, 0);
        }
        state.1 += 1;
        state.1 <= Self::PER_INTERVAL
    }
}

/// A counter that any task may add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! packet_counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// What the packet tasks did, for `shim6 status`.
        #[derive(Debug, Default)]
        pub(crate) struct PacketCounters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl PacketCounters {
            /// All of them, by name.
            fn report(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name), self.$name.get()),)*].map(|(name, value)| (name.to_owned(), value)).into()
            }
        }
    };
}

packet_counters! {
    /// Packets rewritten to locators.
    out_rewritten;
    /// Octets of those, without the payload header.
    out_rewritten_octets;
    /// Packets that came into the TUN device and were sent as they are: their context looks for a path while it still uses its
    /// ULIDs, or is not steered any more.
    out_unchanged;
    /// Packets in the TUN device that belong to no context; dropped.
    out_no_context;
    /// Packets in the TUN device that could not be rewritten; dropped.
    out_malformed;
    /// Packets with a Shim6 payload header restored to their ULIDs.
    in_restored;
    /// Octets of those, without the payload header.
    in_restored_octets;
    /// Packets with a Context Tag that is not one of ours; dropped, but their sender is told.
    in_no_context;
    /// Packets with a malformed Shim6 payload header; dropped.
    in_malformed;
    /// Restored packets and ICMPv6 errors that the TUN device did not take; dropped.
    in_tun_full;
    /// Shim6 packets that did not fit the receive buffer or lacked information; dropped.
    in_truncated;
    /// ICMPv6 errors about packets with a Shim6 header, as far as there was room to receive them.
    icmp_errors;
    /// ICMPv6 errors about rewritten packets that were given to the applications' sockets, with the addresses they know.
    icmp_delivered;
    /// Ordinary packets seen on the uplinks.
    observed;
    /// Ordinary packets on the uplinks that went by unseen because the tap's ring was full.
    observe_missed;
    /// Messages, unknown tags, ICMPv6 errors and candidates for the engine that were dropped because its queue was full.
    engine_queue_full;
    /// Packets handed to an uplink, payload and control messages.
    wire_sent;
    /// Packets for which there was no route, or whose link is down.
    wire_unreachable;
    /// Packets larger than the uplink's MTU.
    wire_too_big;
    /// Packets for which the kernel had no room.
    wire_no_room;
    /// Packets refused by the kernel for another reason.
    wire_failed;
    /// Packets with a source that is not one of our locators; dropped.
    not_our_source;
}

impl PacketCounters {
    fn count_sent(&self, outcome: SendOutcome) {
        self.wire_sent.add(outcome.sent);
        self.wire_unreachable.add(outcome.unreachable);
        self.wire_too_big.add(outcome.too_big);
        self.wire_no_room.add(outcome.no_buffers + outcome.blocked);
        self.wire_failed
            .add(outcome.forbidden + outcome.invalid + outcome.other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> LocatorPair {
        LocatorPair {
            local: Ipv6Addr::LOCALHOST,
            peer: Ipv6Addr::LOCALHOST,
        }
    }

    #[test]
    fn no_more_than_a_few_packets_a_second_are_reported_as_too_big() {
        let limit = TooBigLimit::default();
        let at = |micros| Instant::from_micros(micros);
        let allowed = |from: u64| (0..1_000).filter(|n| limit.allows(at(from + n))).count();
        assert_eq!(allowed(1_000_000), TooBigLimit::PER_INTERVAL as usize);
        assert_eq!(allowed(1_050_000), 0);
        assert_eq!(allowed(1_100_000), TooBigLimit::PER_INTERVAL as usize);
    }

    #[test]
    fn a_flood_of_messages_is_bounded_and_crowds_out_no_candidate() {
        let (shared, mut inputs) = Shared::new(
            Clock::start(),
            Wire::new(HashMap::new(), None).0,
            &HoldConfig::default(),
        );
        let large = vec![0; 65_535];
        for _ in 0..MESSAGE_QUEUE + 10 {
            shared.hand_over(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &large);
        }
        let unknown = UnknownTag {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            tag: ContextTag::from_random_bits(1),
        };
        (0..UNKNOWN_TAG_QUEUE + 3).for_each(|_| shared.report_unknown_tag(unknown));
        (0..ICMP_QUEUE + 4).for_each(|_| shared.hand_over_icmp_error(&large[..1280]));
        shared.propose(pair());
        assert_eq!(shared.counters.engine_queue_full.get(), 17);
        let mut octets = 0;
        while let Ok(message) = inputs.messages.try_recv() {
            octets += message.octets.capacity();
        }
        assert_eq!(octets, MESSAGE_QUEUE * MAX_KEPT);
        assert_eq!(inputs.candidates.try_recv(), Ok(pair()));
    }
}
