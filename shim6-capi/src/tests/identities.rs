//! Identities: made, kept, damaged.

use std::ptr;

use super::call;
use super::network::{addresses, identity, prefix};
use crate::*;

fn save(identity: *const Identity) -> Vec<u8> {
    let mut length = 0;
    let asked = call!(shim6_identity_save(identity, ptr::null_mut(), 0, &raw mut length));
    assert_eq!(asked, Status::BufferTooShort);
    let mut saved = vec![0; length];
    let out = saved.as_mut_ptr();
    let short = call!(shim6_identity_save(identity, out, length - 1, &raw mut length));
    assert_eq!(short, Status::BufferTooShort);
    let status = call!(shim6_identity_save(identity, out, saved.len(), &raw mut length));
    assert_eq!((status, length), (Status::Ok, saved.len()));
    saved
}

fn load(saved: &[u8]) -> Result<*mut Identity, Status> {
    let mut identity = ptr::null_mut();
    match call!(shim6_identity_load(saved.as_ptr(), saved.len(), &raw mut identity)) {
        Status::Ok => Ok(identity),
        status => {
            assert!(identity.is_null());
            Err(status)
        }
    }
}

#[test]
fn a_saved_identity_has_the_same_addresses_after_a_restart() {
    let first = identity(1);
    let saved = save(first);
    let before = addresses(first);
    call!(shim6_identity_free(first));
    let second = load(&saved).expect("as it was");
    assert_eq!(addresses(second), before);
    assert_eq!(before.len(), 2);
    assert_eq!(before[0].octets[..8], prefix(1, 1).octets[..8]);
    assert_eq!(save(second), saved);
    call!(shim6_identity_free(second));
}

#[test]
fn a_damaged_identity_is_refused_or_another_one_and_never_does_harm() {
    let whole = identity(1);
    let saved = save(whole);
    let before = addresses(whole);
    call!(shim6_identity_free(whole));
    for cut in 0..saved.len() {
        assert_eq!(load(&saved[..cut]).err(), Some(Status::BadIdentity), "{cut}");
    }
    let (head, mut same) = (6, 0);
    for place in 0..saved.len() {
        let mut damaged = saved.clone();
        damaged[place] ^= 0x81;
        match load(&damaged) {
            Ok(identity) => {
                assert!(place >= head, "the head is checked");
                same += usize::from(addresses(identity) == before);
                call!(shim6_identity_free(identity));
            }
            Err(status) => assert_eq!(status, Status::BadIdentity),
        }
    }
    // The subnet prefix of the parameters, which each address has its own of.
    assert!(same <= 8, "{same}");
}

#[test]
fn addresses_that_are_taken_give_way_twice() {
    let mut current = identity(1);
    let mut seen = addresses(current);
    for _ in 0..2 {
        let mut other = ptr::null_mut();
        assert_eq!(
            call!(shim6_identity_after_collision(current, &raw mut other)),
            Status::Ok
        );
        call!(shim6_identity_free(current));
        current = other;
        let new = addresses(current);
        assert!(new.iter().all(|address| !seen.contains(address)));
        seen.extend(new);
    }
    let mut other = ptr::null_mut();
    let status = call!(shim6_identity_after_collision(current, &raw mut other));
    assert_eq!((status, other.is_null()), (Status::TooManyCollisions, true));
    call!(shim6_identity_free(current));
}

#[test]
fn prefixes_that_give_no_addresses_are_refused() {
    let generate = |prefixes: &[Address], count, sec| {
        let (mut identity, seed) = (ptr::null_mut(), [1; SHIM6_SEED_LEN]);
        let out = &raw mut identity;
        let status = call!(shim6_identity_generate(
            prefixes.as_ptr(),
            count,
            sec,
            seed.as_ptr(),
            out
        ));
        call!(shim6_identity_free(identity));
        status
    };
    let good = prefix(1, 1);
    let many: Vec<_> = (0..=255).map(|last| prefix(1, last)).collect();
    assert_eq!(generate(&[good], 1, 0), Status::Ok);
    assert_eq!(generate(&[good], 1, 1), Status::Ok);
    assert_eq!(generate(&[good], 0, 0), Status::BadPrefixes);
    assert_eq!(generate(&[good, good], 2, 0), Status::BadPrefixes);
    assert_eq!(generate(&[good, Address::default()], 2, 0), Status::BadPrefixes);
    assert_eq!(generate(&[Address { octets: [0xff; 16] }], 1, 0), Status::BadPrefixes);
    assert_eq!(generate(&many, many.len(), 0), Status::BadPrefixes);
    assert_eq!(generate(&[good], usize::MAX, 0), Status::BadPrefixes);
    assert_eq!(generate(&[good], 1, 3), Status::BadArgument);
    assert_eq!(generate(&[good], 1, 256), Status::BadArgument);
}

#[test]
fn an_identity_past_its_end_and_none_at_all_have_nothing() {
    let identity = identity(1);
    let mut address = Address::default();
    let past = call!(shim6_identity_address(identity, 2, &raw mut address));
    assert_eq!((past, address), (Status::None, Address::default()));
    call!(shim6_identity_free(identity));
    assert_eq!(call!(shim6_identity_count(ptr::null())), 0);
    call!(shim6_identity_free(ptr::null_mut()));
}

#[test]
fn a_saved_identity_with_prefixes_that_give_no_addresses_is_refused() {
    let whole = identity(1);
    let saved = save(whole);
    call!(shim6_identity_free(whole));
    // The list of prefixes is the end of the parameters, and Sec 0 leaves anybody free to change it.
    let (rest, last) = saved.split_at(saved.len() - 8);
    assert_eq!(last, &prefix(1, 2).octets[..8]);
    for other in [prefix(1, 1).octets[..8].to_vec(), vec![0; 8], vec![0xff; 8]] {
        assert_eq!(load(&[rest, &other].concat()).err(), Some(Status::BadIdentity));
    }
    let other = load(&[rest, &prefix(1, 3).octets[..8]].concat()).expect("another one");
    call!(shim6_identity_free(other));
}
