//! That verification allocates nothing, from the octets received to the verdict.

use std::net::Ipv6Addr;

use allocation_counter::measure;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_cga::{Cga, CgaParametersRef, HbaSearch, HbaSet, Sec, SubnetPrefix, VerifyError};

/// Nobody looks inside.
const PUBLIC_KEY: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x2a];

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

fn prefixes(count: u16) -> Vec<SubnetPrefix> {
    (1..=count)
        .map(|site| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 0)))
        .collect()
}

fn assert_allocates_nothing(what: &str, run: impl FnMut()) {
    assert_eq!(measure(run).count_total, 0, "{what}");
}

#[test]
fn allocations_are_counted_at_all() {
    let set = HbaSet::generate(&prefixes(2), Sec::ZERO, &mut rng()).unwrap();
    assert_ne!(measure(|| drop(set.parameters().clone())).count_total, 0);
}

#[test]
fn verification_of_a_set_allocates_nothing() {
    // Short parameters and long ones.
    for count in [2, 32] {
        for sec in [Sec::ZERO, Sec::ONE] {
            let set = HbaSet::generate(&prefixes(count), sec, &mut rng()).unwrap();
            let octets = set.parameters().to_vec();
            let foreign: Ipv6Addr = "2001:db8:ffff::1".parse().unwrap();
            assert_allocates_nothing("one address at a time", || {
                let received = CgaParametersRef::parse(&octets).unwrap();
                for address in set.addresses() {
                    assert_eq!(received.verify_hba(address), Ok(sec));
                }
                assert!(received.verify_hba(&foreign).is_err());
            });
            assert_allocates_nothing("all addresses", || {
                let received = CgaParametersRef::parse(&octets).unwrap();
                let mut verifier = received.hba_verifier().unwrap();
                for address in set.addresses() {
                    assert_eq!(verifier.verify(address), Ok(sec));
                }
                assert!(verifier.verify(&foreign).is_err());
            });
        }
    }
}

#[test]
fn verification_of_a_cga_allocates_nothing() {
    for sec in [Sec::ZERO, Sec::ONE] {
        let cga = Cga::generate(prefixes(1)[0], &PUBLIC_KEY, &[], sec, &mut rng()).unwrap();
        let octets = cga.parameters().to_vec();
        let foreign: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
        assert_allocates_nothing("CGA", || {
            let received = CgaParametersRef::parse(&octets).unwrap();
            assert_eq!(received.verify_cga(&cga.address()), Ok(sec));
            assert_eq!(received.verify_cga(&foreign), Err(VerifyError::Hash1Mismatch));
        });
    }
}

#[test]
fn steps_of_a_search_allocate_nothing() {
    let mut search = HbaSearch::new(&prefixes(2), Sec::TWO, &mut rng()).unwrap();
    assert_allocates_nothing("1000 modifiers", || assert_eq!(search.step(1000), None));
    assert_eq!(search.tried(), 1000);
}
