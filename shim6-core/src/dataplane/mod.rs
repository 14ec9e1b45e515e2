//! The packet side: which packet belongs to which context, and what it looks like on the path in use.
//!
//! A [`Dataplane`] is a table that many threads read while one publishes a changed copy. It never waits for the
//! [`Endpoint`](crate::Endpoint): packets meet immutable [`Flow`]s and the atomics of their [`Activity`].

mod activity;
pub mod icmp;
mod rewrite;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::net::Ipv6Addr;

use hashbrown::HashMap;
use shim6_reap::{Instant, LocatorPair};

pub use activity::Activity;
pub(crate) use activity::{Snapshot, WAKE_ON_RECEIVED, WAKE_ON_SENT};
pub(crate) use rewrite::position;
pub use rewrite::{IPV6_HEADER_LEN, Malformed, PAYLOAD_HEADER_LEN, addresses};

use crate::id::ContextId;
use crate::wire::{ContextTag, PROTOCOL, payload};

/// How to treat one context's packets. Never changes: a path change makes a new flow, with the same activity.
#[derive(Debug)]
pub struct Flow {
    /// The context.
    pub context: ContextId,
    /// The addresses that the upper layers know.
    pub ulids: LocatorPair,
    /// The Forked Instance Identifier. Packets belong to instance 0 unless the upper layer names another (RFC 5533 section
    /// 12.4), see [`Dataplane::outbound_on`].
    pub forked_instance: u32,
    /// The addresses that outgoing packets bear.
    pub locators: LocatorPair,
    /// The tag that this host gave the context: it is in the packets received.
    pub local_tag: ContextTag,
    /// The tag that the peer gave the context: it is in the packets sent.
    pub peer_tag: ContextTag,
    /// What has passed.
    pub activity: Arc<Activity>,
}

impl Flow {
    /// Whether the packets between the ULIDs have to be brought to a [`Dataplane`]. While the locators are the ULIDs they
    /// are ordinary packets, which need not pass through one at all. Never for a forked instance, whose packets only their
    /// sender can tell from those of instance 0.
    pub fn is_steered(&self) -> bool {
        self.forked_instance == 0 && self.is_rewritten()
    }

    fn is_rewritten(&self) -> bool {
        self.locators != self.ulids
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

/// The table of flows.
#[derive(Debug, Clone, Default)]
pub struct Dataplane {
    by_ulids: HashMap<LocatorPair, Arc<Flow>>,
    by_instance: HashMap<(LocatorPair, u32), Arc<Flow>>,
    by_tag: HashMap<ContextTag, Arc<Flow>>,
}

/// What became of a packet on its way out.
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
        match update {
            DataplaneUpdate::Insert(flow) => {
                match flow.forked_instance {
                    0 => drop(self.by_ulids.insert(flow.ulids, flow.clone())),
                    instance => drop(self.by_instance.insert((flow.ulids, instance), flow.clone())),
                }
                self.by_tag.insert(flow.local_tag, flow);
            }
            DataplaneUpdate::Remove(flow) => {
                // Another context may have taken over the tag or the ULID pair meanwhile.
                let is_same = |current: &Arc<Flow>| current.context == flow.context;
                if self.by_tag.get(&flow.local_tag).is_some_and(is_same) {
                    self.by_tag.remove(&flow.local_tag);
                }
                if self.by_ulids.get(&flow.ulids).is_some_and(is_same) {
                    self.by_ulids.remove(&flow.ulids);
                }
                let instance = (flow.ulids, flow.forked_instance);
                if self.by_instance.get(&instance).is_some_and(is_same) {
                    self.by_instance.remove(&instance);
                }
            }
        }
    }

    /// The flow of a ULID pair, instance 0.
    pub fn flow(&self, ulids: LocatorPair) -> Option<&Arc<Flow>> {
        self.by_ulids.get(&ulids)
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.by_tag.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.by_tag.is_empty()
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
        let flow = match forked_instance {
            0 => self.by_ulids.get(&ulids),
            instance => self.by_instance.get(&(ulids, instance)),
        };
        let Some(flow) = flow else {
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
        let Some(flow) = self.by_tag.get(&tag) else {
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
        let Some(flow) = self.by_ulids.get(&ulids) else {
            return Observed::NoContext(ulids);
        };
        let wake = match outgoing {
            true => flow.activity.record_sent(now, octets),
            false => flow.activity.record_received(now, octets),
        };
        if wake {
            Observed::Wake(flow.context)
        } else {
            Observed::Recorded
        }
    }
}

/// What [`Dataplane::observe`] made of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Recorded.
    Recorded,
    /// Recorded; call `handle_activity` for this context.
    Wake(ContextId),
    /// No context has this ULID pair.
    NoContext(LocatorPair),
}
