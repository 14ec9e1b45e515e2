//! A hash table of flows whose copies share all but what is different.
//!
//! A changed table is published while packets still find their flows in the one before, so each change is made to a copy.
//! With a million flows the copy must not be a whole one: the table consists of shards behind pointers, about twice as
//! many as the square root of the flows, so that a change copies one shard, and both the pointers and the shard are few.
//!
//! A shard is an array that is probed linearly. A packet waits for memory twice at most, once for the place in the array,
//! which is enough to tell by 32 bits of the hash that a flow is another's, and once for the flow.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Flow;

/// Slots of a shard that holds its first flow.
const MIN_SLOTS: usize = 4;

#[derive(Debug, Clone, Default)]
struct Slot {
    /// A part of the hash that the slot's place does not depend on.
    print: u32,
    flow: Option<Arc<Flow>>,
}

#[derive(Debug, Clone)]
struct Shard {
    /// None, or a power of two of them, of which a quarter at least is free.
    slots: Arc<[Slot]>,
    len: usize,
}

/// Flows by 64-bit hashes of something of theirs. All calls have to use the same hash, and each of its bits has to depend on
/// what is hashed: the uppermost choose the shard, the lowest the place in it.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// A power of two of them.
    shards: Vec<Shard>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: Vec::from([Shard::empty()]),
            len: 0,
        }
    }
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The flow with this hash for which `is_it` holds.
    pub(super) fn get(&self, hash: u64, is_it: impl Fn(&Flow) -> bool) -> Option<&Arc<Flow>> {
        let shard = self.shard(hash);
        let slot = &shard.slots[shard.find(hash, is_it)?];
        slot.flow.as_ref()
    }

    /// Reads the slot where the flow with this hash is at best.
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let slots = &self.shard(hash).slots;
        let home = hash as usize & slots.len().wrapping_sub(1);
        slots.get(home).map_or(0, |slot| slot.print)
    }

    /// Puts a flow in the place of the one for which `is_it` holds, or a new one. `hash_of` gives the hash of any flow.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        flow: Arc<Flow>,
        is_it: impl Fn(&Flow) -> bool,
        hash_of: impl Fn(&Flow) -> u64,
    ) {
        let shard = self.shard_number(hash);
        if self.shards[shard].replace(hash, &flow, is_it) {
            return;
        }
        self.len += 1;
        if self.len > self.shards.len() * self.shards.len() / 4 {
            self.split(&hash_of);
        }
        let shard = self.shard_number(hash);
        self.shards[shard].add(hash, flow, &hash_of);
    }

    /// Removes the flow for which `is_it` holds.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(&Flow) -> bool, hash_of: impl Fn(&Flow) -> u64) {
        let shard = self.shard_number(hash);
        if self.shards[shard].remove(hash, is_it, &hash_of) {
            self.len -= 1;
        }
    }

    fn shard_number(&self, hash: u64) -> usize {
        // In two steps, since a single shard takes a shift by all 64 bits.
        (hash >> 1 >> (63 - self.shards.len().trailing_zeros())) as usize
    }

    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[self.shard_number(hash)]
    }

    /// Makes two shards of each.
    fn split(&mut self, hash_of: &impl Fn(&Flow) -> u64) {
        let before = core::mem::take(&mut self.shards);
        self.shards = (0..2 * before.len()).map(|_| Shard::empty()).collect();
        for flow in before.iter().flat_map(Shard::flows) {
            let hash = hash_of(flow);
            let shard = self.shard_number(hash);
            self.shards[shard].add(hash, flow.clone(), hash_of);
        }
    }
}

impl Shard {
    fn empty() -> Self {
        Self {
            slots: Arc::from([]),
            len: 0,
        }
    }

    fn flows(&self) -> impl Iterator<Item = &Arc<Flow>> {
        self.slots.iter().filter_map(|slot| slot.flow.as_ref())
    }

    /// The slots from the one on where a flow with this hash is at best.
    fn probes(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().wrapping_sub(1);
        let home = hash as usize;
        (0..self.slots.len()).map(move |step| home.wrapping_add(step) & mask)
    }

    fn find(&self, hash: u64, is_it: impl Fn(&Flow) -> bool) -> Option<usize> {
        let print = print(hash);
        for index in self.probes(hash) {
            let slot = &self.slots[index];
            let flow = slot.flow.as_ref()?;
            if slot.print == print && is_it(flow) {
                return Some(index);
            }
        }
        None
    }

    fn replace(&mut self, hash: u64, flow: &Arc<Flow>, is_it: impl Fn(&Flow) -> bool) -> bool {
        let found = self.find(hash, is_it);
        if let Some(index) = found {
            Arc::make_mut(&mut self.slots)[index].flow = Some(flow.clone());
        }
        found.is_some()
    }

    fn add(&mut self, hash: u64, flow: Arc<Flow>, hash_of: &impl Fn(&Flow) -> u64) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let slots = (2 * self.slots.len()).max(MIN_SLOTS);
            let before = core::mem::replace(&mut self.slots, (0..slots).map(|_| Slot::default()).collect());
            for slot in before.iter() {
                if let Some(flow) = &slot.flow {
                    self.put(hash_of(flow), flow.clone());
                }
            }
        }
        self.put(hash, flow);
        self.len += 1;
    }

    /// Into the first free slot, of which there is one.
    fn put(&mut self, hash: u64, flow: Arc<Flow>) {
        let free = self.probes(hash).find(|&index| self.slots[index].flow.is_none());
        if let Some(index) = free {
            Arc::make_mut(&mut self.slots)[index] = Slot {
                print: print(hash),
                flow: Some(flow),
            };
        }
    }

    fn remove(&mut self, hash: u64, is_it: impl Fn(&Flow) -> bool, hash_of: &impl Fn(&Flow) -> u64) -> bool {
        let Some(mut gap) = self.find(hash, is_it) else {
            return false;
        };
        let slots = Arc::make_mut(&mut self.slots);
        let mask = slots.len() - 1;
        slots[gap] = Slot::default();
        // Flows behind the gap that were only there because it was taken move up, so that no probe ends early.
        let mut index = (gap + 1) & mask;
        while let Some(flow) = &slots[index].flow {
            let home = hash_of(flow) as usize & mask;
            if index.wrapping_sub(home) & mask >= index.wrapping_sub(gap) & mask {
                slots.swap(gap, index);
                gap = index;
            }
            index = (index + 1) & mask;
        }
        self.len -= 1;
        true
    }
}

fn print(hash: u64) -> u32 {
    (hash >> 24) as u32
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use hashbrown::HashMap;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};
    use shim6_reap::LocatorPair;

    use super::*;
    use crate::id::ContextId;
    use crate::wire::ContextTag;

    const ULIDS: LocatorPair = LocatorPair::new(Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);

    /// The tag is the key.
    fn flow(context: u64, tag: u64) -> Arc<Flow> {
        Arc::new(Flow {
            context: ContextId(context),
            ulids: ULIDS,
            forked_instance: 0,
            locators: ULIDS,
            local_tag: ContextTag::from_random_bits(tag),
            peer_tag: ContextTag::from_random_bits(0),
            activity: Arc::default(),
            holding: false,
        })
    }

    fn spread(tag: u64) -> u64 {
        tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    fn get(index: &Index, tag: u64, hash: impl Fn(u64) -> u64) -> Option<u64> {
        let found = index.get(hash(tag), |flow| flow.local_tag.value() == tag);
        found.map(|flow| flow.context.value())
    }

    fn insert(index: &mut Index, context: u64, tag: u64, hash: impl Fn(u64) -> u64) {
        let is_it = |known: &Flow| known.local_tag.value() == tag;
        index.insert(hash(tag), flow(context, tag), is_it, |flow| {
            hash(flow.local_tag.value())
        });
    }

    fn remove(index: &mut Index, tag: u64, hash: impl Fn(u64) -> u64) {
        let is_it = |known: &Flow| known.local_tag.value() == tag;
        index.remove(hash(tag), is_it, |flow| hash(flow.local_tag.value()));
    }

    #[test]
    fn copy_shares_all_shards_but_the_one_that_changes() {
        let mut index = Index::default();
        (0..10_000).for_each(|tag| insert(&mut index, tag, tag, spread));
        assert_eq!(index.shards.len(), 256);
        let before = index.clone();
        insert(&mut index, 77, 5, spread);
        remove(&mut index, 6, spread);
        let pairs = index.shards.iter().zip(&before.shards);
        assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(&a.slots, &b.slots)).count(), 2);
        assert_eq!((get(&index, 5, spread), get(&before, 5, spread)), (Some(77), Some(5)));
        assert_eq!((get(&index, 6, spread), get(&before, 6, spread)), (None, Some(6)));
        assert_eq!((index.len(), before.len()), (9_999, 10_000));
        for shard in &index.shards {
            assert_eq!(shard.flows().count(), shard.len);
        }
    }

    proptest! {
        /// `bits` of the hash are different at all, so that shards and slots collide.
        #[test]
        fn it_does_what_a_map_does(
            steps in vec((any::<bool>(), 0..40_u64), 0..200),
            bits in any::<u64>(),
        ) {
            let hash = |tag| spread(tag) & bits;
            let (mut index, mut map) = (Index::default(), HashMap::new());
            for (context, (is_inserted, tag)) in (0..).zip(steps) {
                let before = (index.clone(), map.clone());
                if is_inserted {
                    insert(&mut index, context, tag, hash);
                    map.insert(tag, context);
                } else {
                    remove(&mut index, tag, hash);
                    map.remove(&tag);
                }
                for (index, map) in [(&index, &map), (&before.0, &before.1)] {
                    prop_assert_eq!(index.len(), map.len());
                    for tag in 0..40 {
                        prop_assert_eq!(get(index, tag, hash), map.get(&tag).copied());
                    }
                }
            }
        }
    }
}
