//! Duplicate address detection (RFC 3972 section 4, step 8; RFC 5535 section 6, step 6.4).

use std::net::Ipv6Addr;

use shim6_cga::{Cga, GenerateError, HbaSet, Sec};

use crate::kinds::{KEY, prefixes, rng};

fn cga() -> Cga {
    Cga::generate(prefixes(1)[0], &KEY, &[], Sec::ONE, &mut rng(1)).unwrap()
}

fn set() -> HbaSet {
    HbaSet::generate(&prefixes(3), Sec::ONE, &mut rng(1)).unwrap()
}

/// Finds the first so many addresses that it is asked for in use, and remembers them all.
fn taken(count: usize, asked: &mut Vec<Ipv6Addr>) -> impl FnMut(Ipv6Addr) -> bool {
    move |address| {
        asked.push(address);
        asked.len() <= count
    }
}

#[test]
fn cga_in_use_gives_way_to_that_of_the_next_collision_count() {
    let counts = [0, 1, 2].map(|count| cga().with_collision_count(count).unwrap());
    for (collisions, free) in counts.iter().enumerate() {
        let mut asked = Vec::new();
        let found = cga().without_duplicates(taken(collisions, &mut asked)).unwrap();
        assert_eq!(found, *free);
        assert_eq!(usize::from(found.collision_count()), collisions);
        let expected: Vec<_> = counts[..=collisions].iter().map(Cga::address).collect();
        assert_eq!(asked, expected);
        assert_eq!(found.parameters().verify_cga(&found.address()), Ok(Sec::ONE));
        assert_eq!(found.parameters().modifier(), cga().parameters().modifier());
    }
}

#[test]
fn third_collision_of_a_cga_is_an_error() {
    let mut asked = Vec::new();
    let last = cga().with_collision_count(2).unwrap().address();
    let error = cga().without_duplicates(taken(usize::MAX, &mut asked));
    assert_eq!(error, Err(GenerateError::TooManyCollisions { address: last }));
    assert_eq!(asked.len(), 3);
}

#[test]
fn one_address_in_use_changes_all_of_a_set() {
    let next = set().with_collision_count(1).unwrap();
    for taken in set().addresses() {
        let found = set().without_duplicates(|address| address == *taken).unwrap();
        assert_eq!(found, next);
        assert_eq!(found.collision_count(), 1);
        for (before, after) in set().addresses().iter().zip(found.addresses()) {
            assert_ne!(before, after);
            assert_eq!(found.parameters().verify_hba(after), Ok(Sec::ONE));
            assert!(found.parameters().verify_hba(before).is_err());
        }
    }
}

/// After a collision the others of the set are not asked for: they are gone with it.
#[test]
fn addresses_of_a_set_are_asked_for_in_their_order_until_one_is_in_use() {
    let mut asked = Vec::new();
    let found = set().without_duplicates(taken(1, &mut asked)).unwrap();
    assert_eq!(asked[0], set().addresses()[0]);
    assert_eq!(asked[1..], *found.addresses());
    let mut asked = Vec::new();
    assert_eq!(set().without_duplicates(taken(0, &mut asked)), Ok(set()));
    assert_eq!(asked, set().addresses());
}

#[test]
fn third_collision_of_a_set_is_an_error() {
    let mut asked = Vec::new();
    let last = set().with_collision_count(2).unwrap().addresses()[0];
    let error = set().without_duplicates(taken(usize::MAX, &mut asked)).unwrap_err();
    assert_eq!(error, GenerateError::TooManyCollisions { address: last });
    assert_eq!(asked.len(), 3);
    assert!(error.to_string().contains(&last.to_string()), "{error}");
}

#[test]
fn counts_that_were_used_up_before_are_not_tried_again() {
    let mut asked = Vec::new();
    let found = set().with_collision_count(1).unwrap();
    let found = found.without_duplicates(taken(1, &mut asked)).unwrap();
    assert_eq!(found.collision_count(), 2);
    assert!(found.without_duplicates(|_| true).is_err());
}

#[test]
fn collision_count_above_2_is_refused() {
    for given in [3, 255] {
        let refused = GenerateError::CollisionCount { given };
        assert_eq!(set().with_collision_count(given), Err(refused));
        assert_eq!(cga().with_collision_count(given), Err(refused));
    }
}
