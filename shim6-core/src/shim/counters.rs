//! What went through a [`Shim`](super::Shim), counted.

/// Packets since the shim was made. Control messages are in [`Counters`](crate::Counters), held packets in
/// [`HoldCounters`](crate::dataplane::HoldCounters).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShimCounters {
    /// Of the upper layers, given back to leave.
    pub sent: u64,
    /// Those of them that bear locators and a payload header.
    pub rewritten: u64,
    /// Of the network, given back for the upper layers.
    pub received: u64,
    /// Those of them that had a payload header.
    pub restored: u64,
    /// Held while a path was looked for, and sent again on it.
    pub replayed: u64,
    /// Of the upper layers, dropped: no IPv6 packet, cut short, or without headroom.
    pub malformed_out: u64,
    /// Of the network, dropped: cut short, or with a Shim6 header that is not well-formed. Those with another fault are among the
    /// endpoint's discards.
    pub malformed_in: u64,
    /// Events that nobody took before there were too many.
    pub events_lost: u64,
    /// Dropped because the caller's buffer was too short for them.
    pub too_long: u64,
}
