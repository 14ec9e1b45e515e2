//! The packet side: which packet belongs to which context, and what it looks like on the path in use.
//!
//! A [`Dataplane`] is a table that many threads read while one publishes a changed copy. It never waits for the
//! [`Endpoint`](crate::Endpoint): packets meet immutable [`Flow`]s and the atomics of their [`Activity`].

mod activity;
mod hold;
pub mod icmp;
mod index;
pub mod offload;
mod rewrite;
#[cfg(test)]
mod tests;
mod warm;

use alloc::sync::Arc;
use core::hash::{BuildHasher, Hasher};
use core::net::Ipv6Addr;

use hashbrown::DefaultHashBuilder;
use shim6_reap::{Instant, LocatorPair};

pub use activity::{Activity, Counted};
pub(crate) use activity::{WAKE_ON_RECEIVED, WAKE_ON_SENT};
pub use hold::{HoldBuffer, HoldConfig, HoldCounters, OVERHEAD as HOLD_OVERHEAD, SMALL as HOLD_SMALL};
pub(crate) use rewrite::position;
pub use rewrite::{IPV6_HEADER_LEN, Malformed, PAYLOAD_HEADER_LEN, addresses};

use self::index::Index;
use crate::id::ContextId;
use crate::wire::{ContextTag, PROTOCOL, payload};

/// How to treat one context's packets. Never changes: a path change makes a new flow, with the same activity.
///
/// In memory, what a packet received needs comes first, in one cache line; what a packet sent needs besides is in the next.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Flow {
    /// The tag that this host gave the context: it is in the packets received.
    pub local_tag: ContextTag,
    /// The addresses that the upper layers know.
    pub ulids: LocatorPair,
    /// What has passed.
    pub activity: Arc<Activity>,
    /// The context.
    pub context: ContextId,
    /// The tag that the peer gave the context: it is in the packets sent.
    pub peer_tag: ContextTag,
    /// The addresses that outgoing packets bear.
    pub locators: LocatorPair,
    /// The Forked Instance Identifier. Packets belong to instance 0 unless the upper layer names another (RFC 5533 section
    /// 12.4), see [`Dataplane::outbound_on`].
    pub forked_instance: u32,
    /// Whether the context looks for a working path. Packets are still sent on `locators`, and held to be sent again, see
    /// [`HoldBuffer`].
    pub holding: bool,
}

const _: () = assert!(core::mem::offset_of!(Flow, locators) <= 64);

impl Flow {
    /// Whether the packets between the ULIDs have to be brought to a [`Dataplane`]. While the locators are the ULIDs they
    /// are ordinary packets, which need not pass through one at all, unless they are to be held. Never for a forked instance,
    /// whose packets only their sender can tell from those of instance 0.
    pub fn is_steered(&self) -> bool {
        self.forked_instance == 0 && (self.holding || self.is_rewritten())
    }

    /// A fork's packets always bear its tag: without one they would count for instance 0 at the peer, and hide from it that
    /// its own path has failed.
    fn is_rewritten(&self) -> bool {
        self.forked_instance != 0 || self.locators != self.ulids
    }

    fn has_ulids(&self, ulids: LocatorPair, forked_instance: u32) -> bool {
        self.ulids == ulids && self.forked_instance == forked_instance
    }
}

/// A change to the table, see [`Endpoint::poll_dataplane`](crate::Endpoint::poll_dataplane).
#[derive(Debug, Clone)]
pub enum DataplaneUpdate {
    /// A flow is new, or replaces the one of the same context.
    Insert(Arc<Flow>),
    /// A context is gone.
    Remove(Arc<Flow>),
}

/// The table of flows. A copy shares what it has in common with the original, so that a changed one can be published
/// at little cost however many flows there are.
#[derive(Debug, Clone, Default)]
pub struct Dataplane {
    by_ulids: Index,
    by_tag: Index,
    /// Peers choose their ULIDs, and none of them must know which of them meet in the table.
    hashing: DefaultHashBuilder,
}

/// What became of a packet on its way out.
#[must_use]
#[derive(Debug)]
pub enum Outbound<'a> {
    /// It bears the locators now and starts at `start`. `wake`: call `handle_activity` for the flow's context.
    Rewritten {
        /// Offset of the packet in the buffer.
        start: usize,
        /// The flow it belongs to.
        flow: &'a Flow,
        /// Whether the endpoint wants to know.
        wake: bool,
    },
    /// It belongs to a flow whose locators are its ULIDs: it may leave as it is.
    Unchanged {
        /// The flow it belongs to.
        flow: &'a Flow,
        /// Whether the endpoint wants to know.
        wake: bool,
    },
    /// It belongs to no context.
    NoContext,
    /// It bears the ULIDs of a context, but is Shim6's own or Neighbor Discovery: it may leave as it is.
    NotPayload,
    /// It cannot be rewritten.
    Malformed(Malformed),
}

/// What became of a packet on its way in.
#[must_use]
#[derive(Debug)]
pub enum Inbound<'a> {
    /// It bears the ULIDs now and starts at `start`. `wake`: call `handle_activity` for the flow's context.
    Restored {
        /// Offset of the packet in the buffer.
        start: usize,
        /// The flow it belongs to.
        flow: &'a Flow,
        /// Whether the endpoint wants to know.
        wake: bool,
    },
    /// It has a Shim6 header, but not one for payload: [`Endpoint::handle_message`](crate::Endpoint::handle_message)
    /// wants what starts at this offset.
    Control {
        /// Offset of the Shim6 header in the buffer.
        start: usize,
    },
    /// It has no Shim6 header.
    NotShim6,
    /// Its Context Tag is not one of ours.
    NoContext,
    /// It is cut short, or its Shim6 header is not well-formed.
    Malformed(Malformed),
}

impl Dataplane {
    /// Applies a change that the endpoint asked for.
    pub fn apply(&mut self, update: DataplaneUpdate) {
        let hashing = &self.hashing;
        let hash_of = |flow: &Flow| hash_of_ulids(hashing, flow.ulids, flow.forked_instance);
        match update {
            DataplaneUpdate::Insert(flow) => {
                let hash = hash_of(&flow);
                self.by_ulids.insert(
                    hash,
                    flow.clone(),
                    |known| known.has_ulids(flow.ulids, flow.forked_instance),
                    hash_of,
                );
                let tag = flow.local_tag;
                let is_tagged = |known: &Flow| known.local_tag == tag;
                self.by_tag.insert(hash_of_tag(tag), flow, is_tagged, hash_by_tag);
            }
            DataplaneUpdate::Remove(flow) => {
                // Another context may have taken over the tag or the ULID pair meanwhile.
                let is_same = |known: &Flow| known.context == flow.context;
                let has_ulids = |known: &Flow| known.has_ulids(flow.ulids, flow.forked_instance);
                let is_tagged = |known: &Flow| known.local_tag == flow.local_tag;
                self.by_tag.remove(
                    hash_by_tag(&flow),
                    |known| is_same(known) && is_tagged(known),
                    hash_by_tag,
                );
                self.by_ulids
                    .remove(hash_of(&flow), |known| is_same(known) && has_ulids(known), hash_of);
            }
        }
    }

    /// The flow of a ULID pair, instance 0.
    pub fn flow(&self, ulids: LocatorPair) -> Option<&Arc<Flow>> {
        self.flow_on(0, ulids)
    }

    /// The flow of a forked instance of a ULID pair.
    pub fn flow_on(&self, forked_instance: u32, ulids: LocatorPair) -> Option<&Arc<Flow>> {
        let hash = hash_of_ulids(&self.hashing, ulids, forked_instance);
        self.by_ulids.get(hash, |flow| flow.has_ulids(ulids, forked_instance))
    }

    /// The flow that this host gave a tag.
    pub fn flow_by_tag(&self, local_tag: ContextTag) -> Option<&Arc<Flow>> {
        self.by_tag
            .get(hash_of_tag(local_tag), |flow| flow.local_tag == local_tag)
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.by_tag.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rewrites the outgoing IPv6 packet at `buffer[start..]` in place, with at least [`PAYLOAD_HEADER_LEN`] octets of
    /// headroom in front of it, and records it as sent (RFC 5533 section 11). It belongs to the instance 0 of its ULID pair.
    pub fn outbound(&self, buffer: &mut [u8], start: usize, now: Instant) -> Outbound<'_> {
        self.outbound_on(0, buffer, start, now)
    }

    /// [`outbound`](Self::outbound) for a packet whose sender has named the forked instance that it belongs to (RFC 5533
    /// section 12.4); without such a flow it is [`Outbound::NoContext`].
    pub fn outbound_on(&self, forked_instance: u32, buffer: &mut [u8], start: usize, now: Instant) -> Outbound<'_> {
        let Some((local, peer)) = buffer.get(start..).and_then(addresses) else {
            return Outbound::Malformed(Malformed::Truncated);
        };
        let ulids = LocatorPair { local, peer };
        let Some(flow) = self.flow_on(forked_instance, ulids) else {
            return Outbound::NoContext;
        };
        let Some(found) = rewrite::position(&buffer[start..]) else {
            return Outbound::Malformed(Malformed::Truncated);
        };
        if !rewrite::is_payload(found) {
            return Outbound::NotPayload;
        }
        let octets = buffer.len() - start;
        if !flow.is_rewritten() {
            return Outbound::Unchanged {
                flow,
                wake: flow.activity.record_sent(now, octets),
            };
        }
        match rewrite::insert(buffer, start, flow.peer_tag, flow.locators.local, flow.locators.peer) {
            Ok(start) => Outbound::Rewritten {
                start,
                flow,
                wake: flow.activity.record_sent(now, octets),
            },
            Err(reason) => Outbound::Malformed(reason),
        }
    }

    /// Restores the ULIDs of the incoming IPv6 packet at `buffer[start..]` in place and records it as received
    /// (RFC 5533 section 12.2). The context is found by its tag alone.
    pub fn inbound(&self, buffer: &mut [u8], start: usize, now: Instant) -> Inbound<'_> {
        let Some(packet) = buffer.get(start..).filter(|packet| addresses(packet).is_some()) else {
            return Inbound::Malformed(Malformed::Truncated);
        };
        let Some((packet, field, offset)) = rewrite::position(packet) else {
            return Inbound::Malformed(Malformed::Truncated);
        };
        if packet[field] != PROTOCOL {
            return Inbound::NotShim6;
        }
        let Some(header) = packet.get(offset..offset + PAYLOAD_HEADER_LEN) else {
            return Inbound::Malformed(Malformed::Truncated);
        };
        if header[2] & 0x80 == 0 {
            return Inbound::Control { start: start + offset };
        }
        let Ok((tag, next_header)) = payload::parse(header) else {
            return Inbound::Malformed(Malformed::HeaderLength);
        };
        if next_header == PROTOCOL {
            return Inbound::Malformed(Malformed::Nested);
        }
        let Some(flow) = self.flow_by_tag(tag) else {
            return Inbound::NoContext;
        };
        let octets = packet.len() - PAYLOAD_HEADER_LEN;
        match rewrite::remove(buffer, start, (field, offset), flow.ulids.peer, flow.ulids.local) {
            Ok(start) => Inbound::Restored {
                start,
                flow,
                wake: flow.activity.record_received(now, octets),
            },
            Err(reason) => Inbound::Malformed(reason),
        }
    }

    /// Records an ordinary packet that somebody saw pass on its way out of this host (`outgoing`) or into it. Returns its
    /// context if the endpoint wants to know, or [`Observed::NoContext`] if it belongs to none.
    ///
    /// An outgoing packet of a flow that is holding has come through [`outbound`](Self::outbound), and is not counted again.
    pub fn observe(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        outgoing: bool,
        octets: usize,
        now: Instant,
    ) -> Observed {
        let ulids = if outgoing {
            LocatorPair {
                local: source,
                peer: destination,
            }
        } else {
            LocatorPair {
                local: destination,
                peer: source,
            }
        };
        let Some(flow) = self.flow(ulids) else {
            return Observed::NoContext(ulids);
        };
        let wake = match outgoing {
            true if flow.holding => false,
            true => flow.activity.record_sent(now, octets),
            false => flow.activity.record_received(now, octets),
        };
        if wake {
            Observed::Wake(flow.context)
        } else {
            Observed::Recorded
        }
    }

    /// As [`observe`](Self::observe), for all packets between two ULIDs that somebody has counted since the last time.
    /// `sent_last`: the last of them was sent.
    pub fn observe_counted(
        &self,
        ulids: LocatorPair,
        sent: Option<Counted>,
        received: Option<Counted>,
        sent_last: bool,
    ) -> Observed {
        let Some(flow) = self.flow(ulids) else {
            return Observed::NoContext(ulids);
        };
        let sent = sent.filter(|_| !flow.holding);
        if flow.activity.record_counted(sent, received, sent_last) {
            Observed::Wake(flow.context)
        } else {
            Observed::Recorded
        }
    }
}

fn hash_of_ulids(hashing: &DefaultHashBuilder, ulids: LocatorPair, forked_instance: u32) -> u64 {
    let mut hasher = hashing.build_hasher();
    hasher.write_u128(ulids.local.to_bits());
    hasher.write_u128(ulids.peer.to_bits());
    hasher.write_u32(forked_instance);
    hasher.finish()
}

/// This host's tags are random, so that nobody can choose any: there is nothing to be kept secret, only to be spread.
fn hash_of_tag(tag: ContextTag) -> u64 {
    // 2^64 over the golden ratio. The upper half of the product depends on all bits, and is folded into the lower.
    let product = tag.value().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

fn hash_by_tag(flow: &Flow) -> u64 {
    hash_of_tag(flow.local_tag)
}

/// What [`Dataplane::observe`] made of a packet.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Recorded.
    Recorded,
    /// Recorded; call `handle_activity` for this context.
    Wake(ContextId),
    /// No context has this ULID pair.
    NoContext(LocatorPair),
}
