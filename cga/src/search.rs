//! The search for a modifier that Sec asks for (RFC 3972 section 4, steps 2 and 3).

use alloc::vec::Vec;

use crate::{
    parameters::{CgaParameters, Modifier},
    sec::Sec,
    verify::{hash2_fits, hash2_head},
};

/// A resumable search for the first modifier, counting up from a start, whose Hash2 starts with 16 times Sec zero
/// bits.
///
/// To search with several threads, [`split_off`](Self::split_off) a part of the range for each; the modifier found in
/// the earliest part is the one that a single search would have found. To resume in another process, keep
/// [`candidate`](Self::candidate), of the earliest part that is not searched to its end, and start from it.
#[derive(Clone, Debug)]
pub struct ModifierSearch {
    /// Hash2's whole input, the candidate at its start.
    input: Vec<u8>,
    candidate: u128,
    /// How many candidates are left, of a part that was split off.
    remaining: Option<u64>,
    sec: Sec,
    tried: u64,
}

impl ModifierSearch {
    /// A search from `start`, which is tried first, for parameters with this public key and these extension fields.
    pub fn new(start: Modifier, sec: Sec, public_key: &[u8], extensions: &[u8]) -> Self {
        Self {
            input: [&hash2_head(start)[..], public_key, extensions].concat(),
            candidate: u128::from_be_bytes(start),
            remaining: None,
            sec,
            tried: 0,
        }
    }

    /// A search from the modifier of these parameters.
    pub(crate) fn from_parameters(parameters: &CgaParameters, sec: Sec) -> Self {
        let view = parameters.view();
        Self::new(view.modifier(), sec, view.public_key(), view.extension_octets())
    }

    /// Tries at most `budget` modifiers, one hash each; gives the modifier once it is found.
    ///
    /// `None`: not found yet, call again, unless this is a part that [is exhausted](Self::is_exhausted). After the
    /// modifier was found, it is given again.
    pub fn step(&mut self, budget: u64) -> Option<Modifier> {
        for _ in 0..budget.min(self.remaining.unwrap_or(u64::MAX)) {
            let modifier = self.candidate.to_be_bytes();
            // Sec 0 asks for no bits: RFC 3972 lets the hash be skipped.
            if self.sec == Sec::ZERO {
                return Some(modifier);
            }
            self.input[..modifier.len()].copy_from_slice(&modifier);
            self.tried = self.tried.saturating_add(1);
            if hash2_fits(self.sec, &self.input, &[]) {
                return Some(modifier);
            }
            self.advance(1);
        }
        None
    }

    /// Makes a search of its own over the next `count` candidates, or as many as are left of a part; this one continues
    /// behind them.
    ///
    /// The part counts [`tried`](Self::tried) from zero. It may be split further.
    pub fn split_off(&mut self, count: u64) -> Self {
        let count = count.min(self.remaining.unwrap_or(u64::MAX));
        let part = Self {
            remaining: Some(count),
            tried: 0,
            ..self.clone()
        };
        self.advance(count);
        part
    }

    /// Whether this is a part that was split off, and no candidate is left in it.
    pub fn is_exhausted(&self) -> bool {
        self.remaining == Some(0)
    }

    /// The modifier that is tried next, or that was found; of an exhausted part, the one behind its last.
    pub fn candidate(&self) -> Modifier {
        self.candidate.to_be_bytes()
    }

    /// The Sec searched for.
    pub fn sec(&self) -> Sec {
        self.sec
    }

    /// Hashes computed so far; [`Sec::expected_hashes`] are expected in all.
    pub fn tried(&self) -> u64 {
        self.tried
    }

    /// Goes past `count` candidates; no more than are left.
    fn advance(&mut self, count: u64) {
        self.candidate = self.candidate.wrapping_add(u128::from(count));
        self.remaining = self.remaining.map(|remaining| remaining - count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search over a key that is no key: the search does not care.
    fn search(start: u128, sec: Sec) -> ModifierSearch {
        ModifierSearch::new(start.to_be_bytes(), sec, b"key", b"extensions")
    }

    fn finish(mut search: ModifierSearch) -> (Modifier, u64) {
        let found = search.step(u64::MAX).expect("an unlimited search finds");
        (found, search.tried())
    }

    #[test]
    fn small_steps_find_what_one_large_step_finds() {
        let (found, tried) = finish(search(7, Sec::ONE));
        let mut stepped = search(7, Sec::ONE);
        let mut steps = 0;
        let stepwise = loop {
            if let Some(modifier) = stepped.step(1000) {
                break modifier;
            }
            steps += 1;
            assert_eq!(stepped.tried(), steps * 1000);
        };
        assert_eq!(stepwise, found);
        assert_eq!(stepped.tried(), tried);
        assert_eq!(stepped.step(1), Some(found), "found again");
    }

    #[test]
    fn search_resumes_from_its_candidate() {
        let (found, tried) = finish(search(7, Sec::ONE));
        assert!(tried > 100);
        let mut first = search(7, Sec::ONE);
        assert_eq!(first.step(100), None);
        let resumed = search(u128::from_be_bytes(first.candidate()), Sec::ONE);
        assert_eq!(finish(resumed), (found, tried - 100));
    }

    #[test]
    fn modifier_wraps_after_its_highest_value() {
        let mut search = search(u128::MAX, Sec::TWO);
        assert_eq!(search.step(2), None);
        assert_eq!(search.candidate(), 1_u128.to_be_bytes());
    }

    #[test]
    fn sec_0_takes_the_start_without_hashing() {
        let mut search = search(42, Sec::ZERO);
        assert_eq!(search.step(0), None);
        assert_eq!(search.step(1), Some(42_u128.to_be_bytes()));
        assert_eq!(search.tried(), 0);
    }
}
