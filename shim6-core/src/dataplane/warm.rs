//! Bringing what a burst of packets needs into the cache, all at once.
//!
//! Among many flows a packet has to wait for memory several times, each time for what the wait before has brought: the slot
//! of the table, the flow, its activity. A processor can wait for many things at a time if it knows of them early enough.
//! So this goes through the burst once for each of these steps, and does nothing but to read.

use core::hint::black_box;

use shim6_reap::LocatorPair;

use super::index::Index;
use super::rewrite::addresses;
use super::{Dataplane, Flow, hash_of_tag, hash_of_ulids};
use crate::wire::ContextTag;

/// As many packets as are waited for at once.
const BURST: usize = 64;

impl Dataplane {
    /// Prepares for [`outbound`](Self::outbound) of some packets, each of which starts at `packet[0]`. Changes nothing but
    /// how long they take then: with a hundred thousand flows far less, so this is for packets that came together. More
    /// than a few dozen at a time push each other out again.
    pub fn warm_outbound<'p>(&self, packets: impl IntoIterator<Item = &'p [u8]>) {
        let ulids = packets.into_iter().filter_map(addresses);
        let hashes = ulids.map(|(local, peer)| hash_of_ulids(&self.hashing, LocatorPair { local, peer }, 0));
        warm(&self.by_ulids, hashes, |flow| {
            flow.touch() ^ u64::from(flow.forked_instance)
        });
    }

    /// The same for [`inbound`](Self::inbound), by the tags in the packets.
    pub fn warm_inbound(&self, tags: impl IntoIterator<Item = ContextTag>) {
        warm(&self.by_tag, tags.into_iter().map(hash_of_tag), Flow::touch);
    }
}

/// `touch` reads what is needed of a flow.
fn warm(index: &Index, mut hashes: impl Iterator<Item = u64>, touch: impl Fn(&Flow) -> u64) {
    let mut burst = [0; BURST];
    loop {
        let mut count = 0;
        for (place, hash) in burst.iter_mut().zip(&mut hashes) {
            *place = hash;
            count += 1;
        }
        // A single packet has none beside it to wait with.
        if count < 2 {
            return;
        }
        let burst = &burst[..count];
        black_box(burst.iter().fold(0, |sum, &hash| sum ^ index.touch(hash)));
        let mut flows = [None::<&Flow>; BURST];
        for (flow, &hash) in flows.iter_mut().zip(burst) {
            // Whether it is the right one only the flow itself can tell.
            *flow = index.get(hash, |_| true).map(|flow| &**flow);
        }
        let flows = || flows.iter().flatten();
        black_box(flows().fold(0, |sum, flow| sum ^ touch(flow)));
        black_box(flows().fold(0, |sum, flow| sum ^ flow.activity.touch()));
        if count < BURST {
            return;
        }
    }
}

impl Flow {
    /// Reads what is in the first of its two cache lines.
    fn touch(&self) -> u64 {
        self.local_tag.value()
    }
}
