//! Bringing what a burst of packets needs into the cache, all at once.
//!
//! Among many flows a packet has to wait for memory several times, each time for what the wait before has brought: the slot
//! of the table, the flow, its activity. A processor can wait for many things at a time if it knows of them early enough.
//! So this goes through the burst once for each of these steps, and does nothing but to read.

use core::hint::black_box;

use super::index::Index;
use super::rewrite::{PAYLOAD_HEADER_LEN, addresses, position};
use super::{Dataplane, Flow, hash_of_tag, hash_of_ulids};
use crate::wire::{PROTOCOL, payload};
use shim6_reap::LocatorPair;

/// The most packets that [`Dataplane::warm_outbound`] and [`Dataplane::warm_inbound`] take at a time.
pub const BURST: usize = 32;

impl Dataplane {
    /// Prepares for [`outbound`](Self::outbound) of some packets, [`BURST`] at most, that start at `packet[0]` each.
    /// Changes nothing but how long they take then: with a hundred thousand flows, far less.
    pub fn warm_outbound<'p>(&self, packets: impl IntoIterator<Item = &'p [u8]>) {
        warm(&self.by_ulids, packets, |packet| {
            let (local, peer) = addresses(packet)?;
            Some(hash_of_ulids(&self.hashing, LocatorPair { local, peer }, 0))
        });
    }

    /// The same for [`inbound`](Self::inbound).
    pub fn warm_inbound<'p>(&self, packets: impl IntoIterator<Item = &'p [u8]>) {
        warm(&self.by_tag, packets, |packet| {
            let (packet, field, offset) = position(packet)?;
            let header = packet.get(offset..offset + PAYLOAD_HEADER_LEN)?;
            let (tag, _) = payload::parse(header).ok().filter(|_| packet[field] == PROTOCOL)?;
            Some(hash_of_tag(tag))
        });
    }
}

fn warm<'p>(index: &Index, packets: impl IntoIterator<Item = &'p [u8]>, hash_of: impl Fn(&'p [u8]) -> Option<u64>) {
    let mut hashes = [0; BURST];
    let mut count = 0;
    let found = packets.into_iter().take(BURST).filter_map(hash_of);
    for (place, hash) in hashes.iter_mut().zip(found) {
        *place = hash;
        count += 1;
    }
    let hashes = &hashes[..count];
    black_box(hashes.iter().fold(0, |sum, &hash| sum ^ index.touch(hash)));
    let mut flows = [None::<&Flow>; BURST];
    for (flow, &hash) in flows.iter_mut().zip(hashes) {
        // Whether it is the right one only the flow itself can tell.
        *flow = index.get(hash, |_| true).map(|flow| &**flow);
    }
    let flows = || flows.iter().flatten();
    black_box(flows().fold(0, |sum, flow| sum ^ flow.touch()));
    black_box(flows().fold(0, |sum, flow| sum ^ flow.activity.touch()));
}

impl Flow {
    /// Reads something of each cache line.
    fn touch(&self) -> u64 {
        let addresses = [
            self.ulids.local,
            self.ulids.peer,
            self.locators.local,
            self.locators.peer,
        ];
        let sum = addresses.iter().fold(0, |sum, address| sum ^ address.to_bits() as u64);
        sum ^ self.local_tag.value() ^ self.peer_tag.value() ^ self.context.value()
    }
}
