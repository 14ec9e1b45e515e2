//! Which Context Tag is next (RFC 5533 section 7.1).

use rand_core::Rng;
use sha2::{Digest, Sha256};

use crate::wire::ContextTag;

/// Goes through all 2^47 Context Tags in a random order, so that a tag comes again only after all others, and nobody who
/// knows some of them can tell another one.
///
/// The order is a permutation of a counter: a Feistel network over halves of 24 and 23 bits with a keyed hash as its
/// round function. All bits of the tag depend on the key and the counter, none is structure.
#[derive(Clone)]
pub(crate) struct TagSequence {
    key: [u8; 32],
    next: u64,
}

/// Twice what a Feistel network needs to look like a random permutation.
const ROUNDS: u8 = 8;
const LEFT_BITS: u32 = 24;
const RIGHT_BITS: u32 = 23;
const LEFT: u64 = (1 << LEFT_BITS) - 1;
const RIGHT: u64 = (1 << RIGHT_BITS) - 1;

impl TagSequence {
    pub(crate) fn new(rng: &mut dyn Rng) -> Self {
        const { assert!(LEFT_BITS + RIGHT_BITS == ContextTag::BITS) };
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self { key, next: 0 }
    }

    pub(crate) fn next_tag(&mut self) -> ContextTag {
        let counter = self.next;
        self.next = self.next.wrapping_add(1) & ContextTag::MAX.value();
        self.permute(counter)
    }

    fn permute(&self, counter: u64) -> ContextTag {
        let (mut left, mut right) = (counter >> RIGHT_BITS & LEFT, counter & RIGHT);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                left ^= self.round(round, right) & LEFT;
            } else {
                right ^= self.round(round, left) & RIGHT;
            }
        }
        ContextTag::from_random_bits(left << RIGHT_BITS | right)
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        // One block of the hash: 32 octets of key, 9 of input and the padding.
        let hash = Sha256::new()
            .chain_update(self.key)
            .chain_update([round])
            .chain_update(half.to_be_bytes())
            .finalize();
        hash.iter().take(8).fold(0, |bits, &octet| bits << 8 | u64::from(octet))
    }
}

impl core::fmt::Debug for TagSequence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TagSequence").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn sequence(seed: u64) -> TagSequence {
        TagSequence::new(&mut ChaCha12Rng::seed_from_u64(seed))
    }

    #[test]
    fn no_tag_comes_twice() {
        let mut tags = sequence(1);
        let distinct: BTreeSet<_> = (0..20_000).map(|_| tags.next_tag()).collect();
        assert_eq!(distinct.len(), 20_000);
    }

    /// A permutation of a smaller space would show collisions; here both halves can be undone, round by round.
    #[test]
    fn the_order_is_a_permutation() {
        let tags = sequence(2);
        for counter in [0, 1, 12_345, RIGHT, RIGHT + 1, ContextTag::MAX.value()] {
            let tag = tags.permute(counter).value();
            let (mut left, mut right) = (tag >> RIGHT_BITS, tag & RIGHT);
            for round in (0..ROUNDS).rev() {
                if round % 2 == 0 {
                    left ^= tags.round(round, right) & LEFT;
                } else {
                    right ^= tags.round(round, left) & RIGHT;
                }
            }
            assert_eq!(left << RIGHT_BITS | right, counter);
        }
    }

    #[test]
    fn every_bit_of_a_tag_is_set_in_half_of_them() {
        let mut tags = sequence(3);
        let tags: alloc::vec::Vec<_> = (0..4_096).map(|_| tags.next_tag().value()).collect();
        for bit in 0..ContextTag::BITS {
            let set = tags.iter().filter(|tag| *tag >> bit & 1 == 1).count();
            // 2048 and six standard deviations of 32.
            assert!((1_856..=2_240).contains(&set), "bit {bit}: {set}");
        }
    }

    #[test]
    fn another_host_has_another_order() {
        let (mut one, mut other) = (sequence(4), sequence(5));
        assert!((0..100).all(|_| one.next_tag() != other.next_tag()));
    }

    #[test]
    fn after_the_last_tag_comes_the_first_one_again() {
        let mut tags = sequence(6);
        let first = tags.next_tag();
        tags.next = ContextTag::MAX.value();
        tags.next_tag();
        assert_eq!(tags.next_tag(), first);
    }
}
