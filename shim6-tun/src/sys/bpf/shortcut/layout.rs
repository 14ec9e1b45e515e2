//! What the programs and we agree on: where things are in the maps' values. Numbers are in the host's byte order, what is part of a
//! packet is as in the packet.

/// What is done to the packets between two ULIDs. The key is the two as they stand in the packet.
pub(super) mod outgoing {
    pub(in super::super) const OCTETS: usize = 72;
    /// The locators, as in the packet, and behind them the payload header.
    pub(in super::super) const ADDRESSES: i16 = 0;
    /// 32 bits: the interface's index.
    pub(in super::super) const INTERFACE: i16 = 40;
    /// 32 bits: the most octets of a packet that still fits with its payload header.
    pub(in super::super) const MOST: i16 = 44;
    /// The next hop as the kernel wants it (`struct bpf_redir_neigh`).
    pub(in super::super) const NEXT_HOP: i16 = 48;
    pub(in super::super) const NEXT_HOP_OCTETS: i32 = 20;
}

/// What is done to the packets with a Context Tag. The key is the last six octets of the payload header, behind two zeroes.
pub(super) mod incoming {
    pub(in super::super) const OCTETS: usize = 64;
    /// The ULIDs, as in the packet.
    pub(in super::super) const ADDRESSES: i16 = 0;
    /// Our ULID, one of the two addresses that the packet may come to.
    pub(in super::super) const ULID: i16 = 16;
    /// The other one: our locator.
    pub(in super::super) const LOCATOR: i16 = 32;
}

/// Counts of packets, 64 bits each, by processor: else those would wait for each other with every packet.
pub(super) mod count {
    pub(in super::super) const OCTETS: usize = 40;
    pub(in super::super) const FAILED: i16 = 0;
    /// Packets, and behind them the octets that they have with their ULIDs.
    pub(in super::super) const REWRITTEN: i16 = 8;
    /// Likewise.
    pub(in super::super) const RESTORED: i16 = 24;
}
