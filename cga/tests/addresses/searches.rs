//! Searches that are done in steps, left, resumed and split.

use std::sync::LazyLock;

use proptest::prelude::*;
use shim6_cga::{
    Cga, CgaParameters, CgaSearch, GenerateError, HbaSearch, HbaSet, Modifier, ModifierSearch, Sec, VerifyError,
};

use crate::kinds::{KEY, prefixes, rng};

fn search() -> HbaSearch {
    HbaSearch::with_public_key(&prefixes(2), &KEY, Sec::ONE, &mut rng(9)).unwrap()
}

/// What [`search`] gives when nobody interferes, and how many modifiers it tries.
fn found() -> (HbaSet, u64) {
    static FOUND: LazyLock<(HbaSet, u64)> = LazyLock::new(|| {
        let mut search = search();
        let set = search.step(u64::MAX).unwrap();
        (set, search.tried())
    });
    FOUND.clone()
}

/// The search for the same set as [`search`], with up to 2000 modifiers before the one that is found.
fn search_near_its_end(before: u64) -> HbaSearch {
    let found = u128::from_be_bytes(found().0.parameters().modifier());
    let start = (found - u128::from(before)).to_be_bytes();
    HbaSearch::resume(&search().parameters().with_modifier(start), Sec::ONE).unwrap()
}

#[test]
fn set_is_that_of_the_first_modifier_that_fits() {
    let (set, tried) = found();
    let start = u128::from_be_bytes(search().parameters().modifier());
    assert_eq!(
        u128::from_be_bytes(set.parameters().modifier()),
        start + u128::from(tried) - 1
    );
    assert!(tried > 2000, "the seed makes a search of some length");
}

#[test]
fn finish_takes_what_a_copy_of_the_search_finds() {
    let mut copy = search().modifier_search().clone();
    let modifier = copy.step(u64::MAX).unwrap();
    assert_eq!(search().finish(modifier), Ok(found().0));
    let other = copy.split_off(2).step(1).unwrap();
    assert_eq!(
        other, modifier,
        "a part of a search that has found starts with what was found"
    );
    assert_eq!(
        search().finish(copy.candidate()),
        Err(VerifyError::Hash2NotZero { sec: Sec::ONE })
    );
}

#[test]
fn parameters_of_no_set_are_not_resumed() {
    let parameters = CgaParameters::new([0; 16], prefixes(1)[0], 0, &KEY, &[]).unwrap();
    let error = HbaSearch::resume(&parameters, Sec::ONE).unwrap_err();
    assert_eq!(error, VerifyError::NoMultiPrefix);
}

/// RFC 5535 section 6, step 5: whatever the parameters had before.
#[test]
fn resumed_search_starts_with_no_collisions_and_the_first_prefix() {
    let stored = found().0.parameters_for(1).unwrap().with_collision_count(7);
    let set = HbaSearch::resume(&stored, Sec::ONE).unwrap().step(1).unwrap();
    assert_eq!(set, found().0);
    let stored = CgaParameters::new([7; 16], prefixes(1)[0], 2, &KEY, &[]).unwrap();
    let cga = CgaSearch::resume(&stored, Sec::ZERO).step(1).unwrap();
    assert_eq!(cga.collision_count(), 0);
    assert_eq!(cga.parameters().subnet_prefix(), prefixes(1)[0]);
}

#[test]
fn cga_is_found_in_steps_after_an_interruption_and_by_parts_alike() {
    let new = || CgaSearch::new(prefixes(1)[0], &KEY, &[], Sec::ONE, &mut rng(2)).unwrap();
    let at_once = Cga::generate(prefixes(1)[0], &KEY, &[], Sec::ONE, &mut rng(2)).unwrap();

    let mut stepped = new();
    let cga = loop {
        if let Some(cga) = stepped.step(1000) {
            break cga;
        }
        let stored = stepped.parameters().to_vec();
        assert_eq!(stepped.tried(), 1000);
        stepped = CgaSearch::resume(&CgaParameters::parse(&stored).unwrap(), Sec::ONE);
    };
    assert_eq!(cga, at_once);

    let mut rest = new().modifier_search().clone();
    let modifier = (0..).find_map(|_| rest.split_off(1000).step(u64::MAX)).unwrap();
    assert_eq!(new().finish(modifier), Ok(at_once));
    let wrong = new().finish(rest.candidate());
    assert_eq!(wrong, Err(VerifyError::Hash2NotZero { sec: Sec::ONE }));
}

#[test]
fn stored_cga_is_checked() {
    let cga = Cga::generate(prefixes(1)[0], &KEY, &[], Sec::ONE, &mut rng(2)).unwrap();
    for count in 0..=2 {
        let stored = cga.with_collision_count(count).unwrap();
        assert_eq!(Cga::from_parameters(stored.parameters(), Sec::ONE), Ok(stored));
    }
    assert_eq!(
        Cga::from_parameters(cga.parameters(), Sec::TWO),
        Err(VerifyError::Hash2NotZero { sec: Sec::TWO })
    );
    let damaged = cga.parameters().clone().with_collision_count(3);
    let error = Cga::from_parameters(&damaged, Sec::ONE);
    assert_eq!(error, Err(VerifyError::CollisionCount { found: 3 }));
}

#[test]
fn stored_set_with_a_key_is_given_back_at_any_collision_count() {
    for count in 0..=2 {
        let set = found().0.with_collision_count(count).unwrap();
        for index in 0..2 {
            let stored = set.parameters_for(index).unwrap();
            let again = HbaSet::from_parameters(&stored, Sec::ONE).unwrap();
            assert_eq!(again, set);
            assert!(again.has_public_key());
        }
    }
}

#[test]
fn prefixes_are_checked_before_the_random_octets_are_drawn() {
    let mut rng = rng(1);
    let error = HbaSearch::new(&[], Sec::ZERO, &mut rng).unwrap_err();
    assert_eq!(error, GenerateError::NoPrefixes);
    assert_eq!(rng, crate::kinds::rng(1));
}

/// What a caller may do with a search between two steps.
#[derive(Clone, Copy, Debug)]
enum Act {
    Step(u64),
    /// Search a part of so many candidates to its end.
    Part(u64),
    /// Search such a part in two halves, the later one first.
    Halves(u64),
    /// Leave, and come back.
    Resume,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..300_u64).prop_map(Act::Step),
        (0..300_u64).prop_map(Act::Part),
        (0..300_u64).prop_map(Act::Halves),
        Just(Act::Resume),
    ]
}

/// The first that is found, if any, and how many candidates were tried up to it.
fn act(
    act: Act,
    search: &mut ModifierSearch,
    start_again: impl Fn(Modifier) -> ModifierSearch,
) -> (Option<Modifier>, u64) {
    let before = search.tried();
    match act {
        Act::Step(budget) => {
            let found = search.step(budget);
            (found, search.tried() - before)
        }
        Act::Part(count) => {
            let mut part = search.split_off(count);
            let found = part.step(u64::MAX);
            assert_eq!(part.is_exhausted(), found.is_none());
            (found, part.tried())
        }
        Act::Halves(count) => {
            let mut later = search.split_off(count);
            let mut earlier = later.split_off(count / 2);
            let (in_later, in_earlier) = (later.step(u64::MAX), earlier.step(u64::MAX));
            let tried = earlier.tried() + if in_earlier.is_some() { 0 } else { later.tried() };
            (in_earlier.or(in_later), tried)
        }
        Act::Resume => {
            *search = start_again(search.candidate());
            (None, 0)
        }
    }
}

proptest! {
    /// However a search is interrupted and split, it tries the same candidates and finds the same modifier.
    #[test]
    fn any_course_of_a_search_finds_the_same(before in 0..2000_u64, acts in prop::collection::vec(any_act(), 1..8)) {
        let near_its_end = search_near_its_end(before);
        let start_again = |candidate| {
            let parameters = near_its_end.parameters().with_modifier(candidate);
            HbaSearch::resume(&parameters, Sec::ONE).unwrap().modifier_search().clone()
        };
        let mut search = near_its_end.modifier_search().clone();
        let mut tried = 0;
        let modifier = acts.into_iter().chain([Act::Step(1)]).cycle().find_map(|next| {
            let (found, more) = act(next, &mut search, start_again);
            tried += more;
            found
        });
        prop_assert_eq!(tried, before + 1);
        prop_assert_eq!(near_its_end.finish(modifier.unwrap()), Ok(found().0));
    }
}
