//! The search for a modifier that Sec asks for (RFC 3972 section 4, steps 2 and 3).

use crate::{format::Modifier, hash::Hash2Input, parameters::CgaParameters, sec::Sec};

/// A resumable search for the first modifier, counting up from a start, whose Hash2 starts with 16 times Sec zero
/// bits.
///
/// To search with several threads, [`split_off`](Self::split_off) a part of the range for each; the modifier found in
/// the earliest part is the one that a single search would have found. To resume in another process, keep
/// [`candidate`](Self::candidate), of the earliest part that is not searched to its end, and start from it.
#[derive(Clone, Debug)]
pub struct ModifierSearch {
    input: Hash2Input,
    candidate: u128,
    /// Whether the candidate is what was searched for.
    found: bool,
    /// How many candidates are left, of a part that was split off.
    remaining: Option<u64>,
    sec: Sec,
    tried: u64,
}

impl ModifierSearch {
    /// A search from `start`, which is tried first, for parameters with this public key and these extension fields.
    pub fn new(start: Modifier, sec: Sec, public_key: &[u8], extensions: &[u8]) -> Self {
        Self::from_parameters(&CgaParameters::from_checked(start, public_key, extensions), sec)
    }

    /// A search from the modifier of these parameters.
    pub(crate) fn from_parameters(parameters: &CgaParameters, sec: Sec) -> Self {
        Self {
            input: Hash2Input::new(sec.hash_function(), parameters.octets()),
            candidate: u128::from_be_bytes(parameters.modifier()),
            found: false,
            remaining: None,
            sec,
            tried: 0,
        }
    }

    /// Tries at most `budget` modifiers, one hash each; gives the modifier once it is found.
    ///
    /// `None`: not found yet, call again, unless this is a part that [is exhausted](Self::is_exhausted). After the
    /// modifier was found, it is given again.
    pub fn step(&mut self, budget: u64) -> Option<Modifier> {
        let budget = budget.min(self.remaining.unwrap_or(u64::MAX));
        if budget == 0 {
            return None;
        }
        // Where no bits are asked for, RFC 3972 lets the hash be skipped.
        if !self.found && self.sec.hash2_zero_bits() != 0 {
            let sec = self.sec;
            let found = self
                .input
                .position(self.candidate, budget, |hash2| sec.accepts_hash2(hash2));
            let passed = found.unwrap_or(budget);
            self.advance(passed);
            self.tried = self.tried.saturating_add(passed + u64::from(found.is_some()));
            found?;
        }
        self.found = true;
        Some(self.candidate())
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
        self.found &= count == 0;
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

    #[test]
    fn what_was_found_is_given_again_without_hashing() {
        let mut search = search(7, Sec::ONE);
        let found = search.step(u64::MAX);
        let tried = search.tried();
        assert_eq!(search.step(1000), found);
        assert_eq!(search.tried(), tried);
        assert_eq!(search.step(0), None);
    }

    #[test]
    fn part_that_is_used_up_gives_nothing_forever() {
        let mut whole = search(7, Sec::TWO);
        let mut part = whole.split_off(10);
        assert_eq!(part.step(9), None);
        assert!(!part.is_exhausted());
        for _ in 0..3 {
            assert_eq!(part.step(u64::MAX), None);
            assert!(part.is_exhausted());
            assert_eq!(part.tried(), 10);
        }
        assert!(part.split_off(5).is_exhausted());
        assert_eq!(part.candidate(), whole.candidate());
        assert!(!whole.is_exhausted(), "endless");
    }

    #[test]
    fn parts_follow_each_other() {
        let mut whole = search(7, Sec::TWO);
        assert_eq!(whole.step(3), None);
        let mut first = whole.split_off(100);
        let second = whole.split_off(50);
        let third = first.split_off(60);
        let starts = [&third, &first, &second, &whole].map(|part| u128::from_be_bytes(part.candidate()));
        assert_eq!(starts, [10, 70, 110, 160]);
        // No more than a part has left.
        let all = first.split_off(u64::MAX);
        assert!(first.is_exhausted() && !all.is_exhausted());
        assert_eq!(first.candidate(), second.candidate());
        assert_eq!([whole.tried(), second.tried()], [3, 0]);
    }

    #[test]
    fn parts_of_sec_0_each_take_their_start() {
        let mut whole = search(42, Sec::ZERO);
        let mut part = whole.split_off(5);
        assert_eq!(part.step(1), Some(42_u128.to_be_bytes()));
        assert_eq!(whole.step(1), Some(47_u128.to_be_bytes()));
        assert_eq!(whole.split_off(0).step(1), None);
    }

    #[test]
    fn search_that_has_found_goes_on_behind_a_part() {
        let mut search = search(7, Sec::ONE);
        let found = search.step(u64::MAX).unwrap();
        let mut part = search.split_off(1);
        assert_eq!(part.step(1), Some(found));
        assert_eq!(search.step(1), None, "the seed makes no two in a row");
    }
}
