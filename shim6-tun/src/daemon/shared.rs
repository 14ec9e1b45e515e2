//! What the packet tasks and the engine share.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use shim6_core::{ContextId, Dataplane, LocatorPair};
use tokio::sync::mpsc;

use super::clock::Clock;
use crate::sys::wire_socket::{SendOutcome, WireSender};

/// Things that the packet tasks tell the engine. The queue is bounded: what does not fit is dropped and counted.
#[derive(Debug)]
pub(crate) enum Input {
    /// A Shim6 control message, from its Next Header octet on.
    Message { source: Ipv6Addr, destination: Ipv6Addr, octets: Vec<u8> },
    /// A packet passed that a context waits for.
    Activity(ContextId),
    /// A ULID pair has had enough traffic for a context.
    Candidate(LocatorPair),
}

/// How many inputs may wait for the engine.
pub(crate) const INPUT_QUEUE: usize = 4_096;

/// Shared by the engine, which writes the table, and the packet tasks, which read it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) dataplane: ArcSwap<Dataplane>,
    /// A socket per local locator, made at the start.
    pub(crate) senders: HashMap<Ipv6Addr, WireSender>,
    pub(crate) counters: PacketCounters,
    inputs: mpsc::Sender<Input>,
}

impl Shared {
    pub(crate) fn new(clock: Clock, senders: HashMap<Ipv6Addr, WireSender>, inputs: mpsc::Sender<Input>) -> Self {
        let dataplane = ArcSwap::from_pointee(Dataplane::default());
        Self { clock, dataplane, senders, counters: PacketCounters::default(), inputs }
    }

    /// Hands something to the engine without ever waiting for it.
    pub(crate) fn tell(&self, input: Input) {
        if self.inputs.try_send(input).is_err() {
            self.counters.engine_queue_full.add(1);
        }
    }

    /// Sends whole IPv6 packets from one of our locators.
    pub(crate) fn send(&self, source: Ipv6Addr, packets: &[&[u8]]) {
        match self.senders.get(&source).map(|sender| sender.send_batch(packets)) {
            Some(Ok(outcome)) => self.counters.count_sent(outcome),
            Some(Err(_)) => self.counters.wire_failed.add(packets.len()),
            None => self.counters.not_our_source.add(packets.len()),
        }
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
            pub(crate) fn report(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name), self.$name.get()),)*].map(|(name, value)| (name.to_owned(), value)).into()
            }
        }
    };
}

packet_counters! {
    /// Packets rewritten to locators.
    out_rewritten;
    /// Packets that came into the TUN device although their context is not steered (any more); sent as they are.
    out_unchanged;
    /// Packets in the TUN device that belong to no context; dropped.
    out_no_context;
    /// Packets in the TUN device that could not be rewritten; dropped.
    out_malformed;
    /// Packets with a Shim6 payload header restored to their ULIDs.
    in_restored;
    /// Packets with a Context Tag that is not one of ours; dropped.
    in_no_context;
    /// Packets with a malformed Shim6 payload header; dropped.
    in_malformed;
    /// Restored packets that the TUN device did not take; dropped.
    in_tun_full;
    /// Shim6 packets that did not fit the receive buffer or lacked information; dropped.
    in_truncated;
    /// Ordinary packets seen on the uplinks.
    observed;
    /// Ordinary packets on the uplinks that went by unseen because the tap's ring was full.
    observe_missed;
    /// Messages and wakes for the engine that were dropped because its queue was full.
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
        self.wire_failed.add(outcome.forbidden + outcome.invalid + outcome.other);
    }
}
