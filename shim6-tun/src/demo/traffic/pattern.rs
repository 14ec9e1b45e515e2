//! Deterministic data: both ends derive it from a seed, so a digest can be checked without a copy.

use sha2::{Digest, Sha256};

/// A stream of pseudo-random octets that depends on nothing but its seed.
///
/// The octets at an offset are a mix of the seed and the offset, so that lost, repeated or shifted
/// data changes the digest.
#[derive(Debug, Clone)]
pub struct Pattern {
    seed: u64,
    position: u64,
}

impl Pattern {
    /// The stream of `seed`, from its first octet.
    pub fn new(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// The stream of `seed`, from the octet at `position`.
    pub fn at(seed: u64, position: u64) -> Self {
        Self { seed, position }
    }

    /// Fills `buffer` with the next octets of the stream.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let inside = (self.position % 8) as usize;
        let head = ((8 - inside) % 8).min(buffer.len());
        let (first, rest) = buffer.split_at_mut(head);
        if !first.is_empty() {
            let octets = self.word(self.position / 8).to_le_bytes();
            first.copy_from_slice(&octets[inside..inside + first.len()]);
        }
        for (index, chunk) in (self.position.div_ceil(8)..).zip(rest.chunks_mut(8)) {
            chunk.copy_from_slice(&self.word(index).to_le_bytes()[..chunk.len()]);
        }
        self.position += buffer.len() as u64;
    }

    /// One step of the SplitMix64 generator, entered at `index`.
    fn word(&self, index: u64) -> u64 {
        let mut z = self
            .seed
            .wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The SHA-256 of the first `octets` octets of the stream of `seed`.
pub fn digest(seed: u64, octets: u64) -> [u8; 32] {
    let mut pattern = Pattern::new(seed);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = octets;
    while left > 0 {
        let take = left.min(buffer.len() as u64) as usize;
        pattern.fill(&mut buffer[..take]);
        hash.update(&buffer[..take]);
        left -= take as u64;
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_give_the_same_stream() {
        let mut whole = [0; 100];
        Pattern::new(7).fill(&mut whole);
        let mut pattern = Pattern::new(7);
        let mut pieces = [0; 100];
        let mut rest = &mut pieces[..];
        for size in [1, 2, 8, 3, 0, 16, 5, 7, 58] {
            let (piece, tail) = rest.split_at_mut(size);
            pattern.fill(piece);
            rest = tail;
        }
        assert!(rest.is_empty());
        assert_eq!(whole, pieces);
        let mut tail = [0; 41];
        Pattern::at(7, 59).fill(&mut tail);
        assert_eq!(whole[59..], tail);
    }

    #[test]
    fn digest_depends_on_seed_and_length() {
        assert_eq!(digest(1, 100_000), digest(1, 100_000));
        assert_ne!(digest(1, 100_000), digest(2, 100_000));
        assert_ne!(digest(1, 100_000), digest(1, 99_999));
        let empty = Sha256::digest([]);
        assert_eq!(digest(1, 0)[..], empty[..]);
    }
}
