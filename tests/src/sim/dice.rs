//! All randomness of a world, from its one seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Who draws. Each has a stream of its own, so that one more draw of one does not change what the others get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// What the scenario is.
    Scenario,
    /// What the network does to packets.
    Network,
    /// Seeds of the hosts' endpoints.
    Hosts,
    /// When and what applications send.
    Applications,
    /// The adversary.
    Adversary,
    /// What fails when.
    Failovers,
}

/// A generator with the few kinds of draws that worlds need.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of one stream of a seed.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64 + 1);
        Self(rng)
    }

    /// Any number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Any number of 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number below `bound`, which must not be 0. The bias of the remainder does not matter here.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.u64() % bound as u64) as usize
    }

    /// A number in a range.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.u64() % (range.end() - range.start() + 1)
    }

    /// So many milliseconds, from a range.
    pub fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.between(range.start() * 1000..=range.end() * 1000))
    }

    /// A duration up to `longest`.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.between(0..=micros))
    }

    /// True so many times in a thousand. Draws nothing where the answer is known.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.u32() % 1000 < per_mille
    }

    /// One of a slice that is not empty.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Octets.
    pub fn fill(&mut self, octets: &mut [u8]) {
        self.0.fill_bytes(octets);
    }

    /// A generator of its own, for who draws by itself.
    pub fn generator(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.seed())
    }

    /// The seed of an endpoint.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let draw = |seed, stream| Dice::new(seed, stream).u64();
        assert_eq!(draw(1, Stream::Network), draw(1, Stream::Network));
        assert_ne!(draw(1, Stream::Network), draw(1, Stream::Hosts));
        assert_ne!(draw(1, Stream::Network), draw(2, Stream::Network));
    }

    #[test]
    fn draws_stay_in_their_ranges() {
        let mut dice = Dice::new(3, Stream::Network);
        for _ in 0..1000 {
            assert!((5..=7).contains(&dice.between(5..=7)));
            assert!(dice.below(3) < 3);
            assert!(dice.up_to(Duration::from_millis(2)) <= Duration::from_millis(2));
        }
        assert!((0..1000).all(|_| !dice.chance(0) && dice.chance(1000)));
    }
}
