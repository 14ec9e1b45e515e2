//! What the programs and we agree on: where things are in the maps' values. All are 64-bit numbers unless it is said.

use super::program::Direction;

/// Kind of an event: a flow that was armed is active.
pub(super) const ACTIVE: u32 = 0;
/// Kind of an event: a pair without a context has had enough traffic for one.
pub(super) const CANDIDATE: u32 = 1;

/// Adds to a map what it does not have yet (`BPF_NOEXIST`).
pub(super) const ONLY_NEW: i32 = 1;

/// The counts of one pair: a cache line.
pub(super) mod flow {
    use super::Direction;

    /// Where the counts of one direction are.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::sys::bpf) struct Counts {
        pub(in crate::sys::bpf) packets: i16,
        pub(in crate::sys::bpf) octets: i16,
        /// Monotonic nanoseconds.
        pub(in crate::sys::bpf) last: i16,
    }

    pub(in crate::sys::bpf) const OCTETS: usize = 64;
    /// Twice the time of the first packet since one of the other direction, and one more if it was sent.
    pub(in crate::sys::bpf) const FIRST: i16 = 48;
    /// Not 0: the next packet makes an event.
    pub(in crate::sys::bpf) const ARMED: i16 = 56;

    pub(in crate::sys::bpf) fn counts(direction: Direction) -> Counts {
        let start = match direction {
            Direction::Out => 0,
            Direction::In => 24,
        };
        Counts {
            packets: start,
            octets: start + 8,
            last: start + 16,
        }
    }
}

/// The last small packet that was sent between a pair.
pub(super) mod small {
    /// The largest packet that is kept.
    pub(in crate::sys::bpf) const MOST: usize = 256;
    /// Odd while the packet is written, another one with each.
    pub(in crate::sys::bpf) const SEQUENCE: i16 = 0;
    /// Not 0 while the packet is written.
    pub(in crate::sys::bpf) const LOCK: i16 = 8;
    pub(in crate::sys::bpf) const SENT_AT: i16 = 16;
    pub(in crate::sys::bpf) const LENGTH: i16 = 24;
    /// Where its octets start.
    pub(in crate::sys::bpf) const OCTETS: i16 = 32;
    pub(in crate::sys::bpf) const TOTAL: usize = OCTETS as usize + MOST;
}

/// What is counted of a pair without a context.
pub(super) mod pair {
    pub(in crate::sys::bpf) const OCTETS: usize = 32;
    pub(in crate::sys::bpf) const SENT: i16 = 0;
    pub(in crate::sys::bpf) const RECEIVED: i16 = 8;
    pub(in crate::sys::bpf) const OCTETS_OF_BOTH: i16 = 16;
    pub(in crate::sys::bpf) const TOLD_AT: i16 = 24;
}

/// An event in the ring.
pub(super) mod event {
    pub(in crate::sys::bpf) const OCTETS: usize = 40;
    /// 32 bits.
    pub(in crate::sys::bpf) const KIND: i16 = 0;
    /// 32 bits.
    pub(in crate::sys::bpf) const SLOT: i16 = 4;
    /// Of a candidate only: our address and the peer's.
    pub(in crate::sys::bpf) const PAIR: i16 = 8;
}
