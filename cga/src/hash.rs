//! Hash1 and Hash2 (RFC 3972 section 3) with the hash function that Sec stands for (RFC 4982).
//!
//! Of both no more than the 64 leftmost bits are looked at: Hash1 is an interface identifier, and of Hash2 at most 32
//! bits have to be zero.

use alloc::vec::Vec;
use core::{mem, slice};

use sha1::block_api::compress;

use crate::format::{PARAMETERS_HEAD_LEN, PREFIX_AT, Varying};

/// An entry of the CGA Sec registry.
pub(crate) struct Registration {
    /// The hash function of Hash1 and Hash2.
    pub(crate) function: HashFunction,
    /// How many of Hash2's leftmost bits have to be zero.
    pub(crate) hash2_zero_bits: u32,
}

/// The registry (RFC 4982 section 6): what each Sec value stands for, in order from 0.
pub(crate) const REGISTERED: [Registration; 3] = [sha1_with(0), sha1_with(16), sha1_with(32)];

const fn sha1_with(hash2_zero_bits: u32) -> Registration {
    Registration {
        function: HashFunction::Sha1,
        hash2_zero_bits,
    }
}

/// A hash function of the CGA Sec registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFunction {
    Sha1,
}

impl HashFunction {
    /// The 64 leftmost bits of the hash over CGA Parameters.
    pub(crate) fn leftmost_bits(self, parameters: &[u8]) -> u64 {
        let Self::Sha1 = self;
        finish(SHA1_START, parameters, parameters.len())
    }

    /// The 64 leftmost bits of the hash over CGA Parameters with these octets in the place of those that vary.
    pub(crate) fn leftmost_bits_with(self, parameters: &[u8], varying: &Varying) -> u64 {
        let Self::Sha1 = self;
        let mut state = SHA1_START;
        let Some((first, rest)) = parameters.split_first_chunk() else {
            let mut last = LastBlocks::new(parameters, parameters.len());
            set_varying(&mut last.octets, varying);
            compress(&mut state, last.blocks());
            return leftmost(state);
        };
        let mut first: [u8; BLOCK_LEN] = *first;
        set_varying(&mut first, varying);
        compress(&mut state, slice::from_ref(&first));
        finish(state, rest, parameters.len())
    }
}

/// CGA Parameters that are short enough to be kept ready for some hashes, those of an HBA-only set of up to 17 prefixes
/// among them. All blocks in a row are hashed faster than one here and one there.
#[derive(Clone, Debug)]
pub(crate) struct ShortInput {
    blocks: [[u8; BLOCK_LEN]; Self::MAX_BLOCKS],
    count: usize,
}

impl ShortInput {
    const MAX_BLOCKS: usize = 4;

    /// `None` if they are not short enough.
    pub(crate) fn new(parameters: &[u8]) -> Option<Self> {
        let mut blocks = [[0; BLOCK_LEN]; Self::MAX_BLOCKS];
        let octets = blocks.as_flattened_mut();
        octets.get_mut(..parameters.len())?.copy_from_slice(parameters);
        let len = pad(octets, parameters.len(), parameters.len())?;
        Some(Self {
            blocks,
            count: len / BLOCK_LEN,
        })
    }

    /// See [`HashFunction::leftmost_bits_with`].
    pub(crate) fn leftmost_bits_with(&mut self, function: HashFunction, varying: &Varying) -> u64 {
        let HashFunction::Sha1 = function;
        set_varying(self.blocks.as_flattened_mut(), varying);
        let mut state = SHA1_START;
        compress(&mut state, &self.blocks[..self.count]);
        leftmost(state)
    }
}

/// The input of Hash2 in blocks that are ready to be hashed, for many modifiers one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Hash2Input {
    function: HashFunction,
    /// Two copies, in turns: a modifier is written while the hash of the one before it is under way. A processor that
    /// reads octets at once which were just written in pieces has to wait.
    copies: [Vec<[u8; BLOCK_LEN]>; 2],
}

impl Hash2Input {
    /// Prefix and collision count of the CGA Parameters do not matter: zeros take their place.
    pub(crate) fn new(function: HashFunction, parameters: &[u8]) -> Self {
        let HashFunction::Sha1 = function;
        let (blocks, rest) = parameters.as_chunks();
        let last = LastBlocks::new(rest, parameters.len());
        let mut blocks = [blocks, last.blocks()].concat();
        set_varying(blocks.as_flattened_mut(), &Varying::default());
        Self {
            function,
            copies: [blocks.clone(), blocks],
        }
    }

    /// Tries `count` modifiers, counting up from `start`, and gives the position of the first whose Hash2 has leftmost
    /// bits that are accepted.
    pub(crate) fn position(&mut self, start: u128, count: u64, accepts: impl Fn(u64) -> bool) -> Option<u64> {
        let HashFunction::Sha1 = self.function;
        let [this, next] = &mut self.copies;
        set_modifier(this, start);
        (0..count).find(|position| {
            set_modifier(next, start.wrapping_add(u128::from(*position) + 1));
            let mut state = SHA1_START;
            compress(&mut state, this);
            mem::swap(this, next);
            accepts(leftmost(state))
        })
    }
}

/// Octets of a block of SHA-1.
const BLOCK_LEN: usize = 64;

/// The state before the first block (FIPS 180-4 section 5.3.1).
const SHA1_START: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

fn set_modifier(blocks: &mut [[u8; BLOCK_LEN]], modifier: u128) {
    blocks.as_flattened_mut()[..PREFIX_AT].copy_from_slice(&modifier.to_be_bytes());
}

fn set_varying(octets: &mut [u8], varying: &Varying) {
    octets[PREFIX_AT..PARAMETERS_HEAD_LEN].copy_from_slice(varying);
}

/// Hashes what is left of a message of `message_len` octets, and the padding.
fn finish(mut state: [u32; 5], rest: &[u8], message_len: usize) -> u64 {
    let (blocks, rest) = rest.as_chunks();
    compress(&mut state, blocks);
    compress(&mut state, LastBlocks::new(rest, message_len).blocks());
    leftmost(state)
}

fn leftmost(state: [u32; 5]) -> u64 {
    u64::from(state[0]) << 32 | u64::from(state[1])
}

/// The last one or two blocks of a message, of which less than a block is left, with the padding.
struct LastBlocks {
    octets: [u8; 2 * BLOCK_LEN],
    len: usize,
}

impl LastBlocks {
    fn new(rest: &[u8], message_len: usize) -> Self {
        let mut octets = [0; 2 * BLOCK_LEN];
        octets[..rest.len()].copy_from_slice(rest);
        let len = pad(&mut octets, rest.len(), message_len).unwrap_or(0);
        Self { octets, len }
    }

    fn blocks(&self) -> &[[u8; BLOCK_LEN]] {
        self.octets[..self.len].as_chunks().0
    }
}

/// Pads the first `len` octets (FIPS 180-4 section 5.1.1), which zeros follow; gives the length with the padding, unless
/// there is no room for it.
fn pad(octets: &mut [u8], len: usize, message_len: usize) -> Option<usize> {
    let bits = (8 * message_len as u64).to_be_bytes();
    let end = (len + 1 + bits.len()).next_multiple_of(BLOCK_LEN);
    let padding = octets.get_mut(len..end)?;
    *padding.first_mut()? = 0x80;
    *padding.last_chunk_mut()? = bits;
    Some(end)
}

#[cfg(test)]
mod tests {
    use sha1::{Digest, Sha1};

    use super::*;

    fn digest(octets: &[u8]) -> u64 {
        u64::from_be_bytes(*Sha1::digest(octets).first_chunk().unwrap())
    }

    fn octets(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 7 % 251) as u8).collect()
    }

    /// All lengths around some ends of blocks, where the padding takes another block.
    fn parameters() -> impl Iterator<Item = Vec<u8>> {
        (PARAMETERS_HEAD_LEN..400).map(octets)
    }

    #[test]
    fn hashes_are_those_of_sha1() {
        for parameters in parameters() {
            let len = parameters.len();
            assert_eq!(
                HashFunction::Sha1.leftmost_bits(&parameters),
                digest(&parameters),
                "{len} octets"
            );
        }
    }

    #[test]
    fn varying_octets_are_hashed_in_their_place() {
        for parameters in parameters() {
            let len = parameters.len();
            let mut short = ShortInput::new(&parameters);
            assert_eq!(short.is_some(), len <= 4 * BLOCK_LEN - 9, "{len} octets");
            for varying in [[0; 9], [0xff; 9], [0x5a; 9]] {
                let mut whole = parameters.clone();
                whole[16..25].copy_from_slice(&varying);
                let hash = HashFunction::Sha1.leftmost_bits_with(&parameters, &varying);
                assert_eq!(hash, digest(&whole), "{len} octets");
                if let Some(short) = &mut short {
                    assert_eq!(
                        short.leftmost_bits_with(HashFunction::Sha1, &varying),
                        hash,
                        "{len} octets"
                    );
                }
            }
        }
    }

    #[test]
    fn hash2_of_a_modifier_is_sha1_of_modifier_zeros_and_the_rest() {
        for parameters in parameters() {
            let len = parameters.len();
            let mut whole = parameters.clone();
            whole[..16].copy_from_slice(&1_u128.to_be_bytes());
            whole[16..25].fill(0);
            let expected = digest(&whole);
            let mut input = Hash2Input::new(HashFunction::Sha1, &parameters);
            for (start, count, position) in [
                (1, 1, Some(0)),
                (0, 1, None),
                (u128::MAX, 2, None),
                (u128::MAX, 3, Some(2)),
                (0, 5, Some(1)),
            ] {
                assert_eq!(
                    input.position(start, count, |hash2| hash2 == expected),
                    position,
                    "{len} octets"
                );
            }
        }
    }
}
