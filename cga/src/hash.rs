//! Hash1 and Hash2 (RFC 3972 section 3) with the hash function that Sec stands for (RFC 4982).

use sha1::{Digest, Sha1};

/// A hash function of the CGA Sec registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFunction {
    Sha1,
}

/// The registry (RFC 4982 section 6): the hash function of each Sec value, in order from 0.
pub(crate) const REGISTERED: [HashFunction; 3] = [HashFunction::Sha1; 3];

impl HashFunction {
    /// The 64 leftmost bits of the hash over `head` and then `tail`.
    ///
    /// Hash1 and Hash2 need no more: the former is the interface identifier, the latter up to 32 zero bits.
    pub(crate) fn leftmost_bits(self, head: &[u8], tail: &[u8]) -> u64 {
        let Self::Sha1 = self;
        let hash = Sha1::new().chain_update(head).chain_update(tail).finalize();
        let mut leftmost = [0; 8];
        leftmost.copy_from_slice(&hash[..8]);
        u64::from_be_bytes(leftmost)
    }
}
