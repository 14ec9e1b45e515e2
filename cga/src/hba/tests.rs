//! HBA-only sets. What holds for all kinds of addresses is tested beside the crate, in `tests/`.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::{error::ParseError, parameters::CgaParametersRef};

fn prefixes(count: u16) -> Vec<SubnetPrefix> {
    (1..=count)
        .map(|site| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, site, 1, 0, 0, 0, 0)))
        .collect()
}

fn generate(seed: u64, count: u16, sec: Sec) -> HbaSet {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    HbaSet::generate(&prefixes(count), sec, &mut rng).unwrap()
}

/// The parameters of each address verify all addresses as HBAs at `sec`, and only their own as CGA.
fn assert_verifies(set: &HbaSet) {
    let sec = set.sec();
    assert_eq!(set.addresses().len(), set.prefixes().len());
    for (own, prefix) in set.prefixes().iter().enumerate() {
        let octets = set.parameters_for(own).unwrap().to_vec();
        let received = CgaParametersRef::parse(&octets).unwrap();
        assert!(prefix.contains(&set.addresses()[own]));
        assert_eq!(received.subnet_prefix(), *prefix);
        assert!(!received.multi_prefix().unwrap().has_public_key());
        for (other, address) in set.addresses().iter().enumerate() {
            assert_eq!(received.verify_hba(address), Ok(sec));
            assert_eq!(received.verify_cga(address).is_ok(), other == own);
        }
    }
}

#[test]
fn sec_1_set_verifies() {
    for seed in 0..4 {
        assert_verifies(&generate(seed, 3, Sec::ONE));
    }
}

#[test]
fn same_seed_gives_the_same_set() {
    assert_eq!(generate(5, 3, Sec::ONE), generate(5, 3, Sec::ONE));
    assert_ne!(
        generate(5, 3, Sec::ONE).addresses(),
        generate(6, 3, Sec::ONE).addresses()
    );
}

/// Gives the octets 0, 1, 2 and so on.
struct Counter(u8);

impl rand_core::TryRng for Counter {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for octet in out {
            *octet = self.0;
            self.0 += 1;
        }
        Ok(())
    }
}

#[test]
fn random_octets_are_modifier_then_extended_modifier() {
    let set = HbaSet::generate(&prefixes(2), Sec::ZERO, &mut Counter(0)).unwrap();
    let parameters = set.parameters();
    let counted: Vec<u8> = (0..64).collect();
    assert_eq!(parameters.modifier(), counted[..16]);
    let key = parameters.public_key();
    assert_eq!(key[key.len() - 5 - NONCE_LEN..][..NONCE_LEN], counted[16..]);
    assert_eq!(parameters.subnet_prefix(), set.prefixes()[0]);
}

/// The expected values come from a separate program, written from RFC 5535 section 6 alone.
#[test]
fn generated_sets_are_those_of_another_implementation() {
    for (sec, modifier, addresses) in [
        (
            Sec::ZERO,
            0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128,
            ["2001:db8:1:1:18f3:983a:af51:5311", "2001:db8:2:1:1487:c089:ba6a:8c0e"],
        ),
        (
            Sec::ONE,
            0x0001_0203_0405_0607_0809_0a0b_0c0e_fb31,
            ["2001:db8:1:1:2cf0:2a28:5130:63e6", "2001:db8:2:1:34a3:e4fe:858d:57ed"],
        ),
    ] {
        let set = HbaSet::generate(&prefixes(2), sec, &mut Counter(0)).unwrap();
        assert_eq!(u128::from_be_bytes(set.parameters().modifier()), modifier);
        let addresses: [Ipv6Addr; 2] = addresses.map(|address| address.parse().unwrap());
        assert_eq!(set.addresses(), addresses);
    }
}

#[test]
fn search_in_steps_gives_the_same_set() {
    let at_once = generate(9, 2, Sec::ONE);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut search = HbaSearch::new(&prefixes(2), Sec::ONE, &mut rng).unwrap();
    let mut steps = 0;
    let stepwise = loop {
        if let Some(set) = search.step(500) {
            break set;
        }
        steps += 1;
        assert_eq!(search.tried(), steps * 500);
    };
    assert!(steps > 0, "the seed makes more than one step necessary");
    assert_eq!(stepwise, at_once);
}

#[test]
fn search_resumes_from_its_parameters() {
    let at_once = generate(9, 2, Sec::ONE);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut search = HbaSearch::new(&prefixes(2), Sec::ONE, &mut rng).unwrap();
    assert_eq!(search.step(500), None);
    let stored = search.parameters().to_vec();
    let mut resumed = HbaSearch::resume(&CgaParameters::parse(&stored).unwrap(), Sec::ONE).unwrap();
    assert_eq!(resumed.step(u64::MAX), Some(at_once));
}

#[test]
fn prefixes_that_make_no_set_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut error = |prefixes: &[SubnetPrefix]| {
        // Refused before any search: `new` does none.
        HbaSearch::new(prefixes, Sec::TWO, &mut rng).unwrap_err()
    };
    assert_eq!(error(&[]), GenerateError::NoPrefixes);
    let mut twice = prefixes(3);
    twice.push(twice[1]);
    assert_eq!(error(&twice), GenerateError::DuplicatePrefix { prefix: twice[1] });
    let too_many = GenerateError::TooManyPrefixes {
        given: 33,
        most: 32,
        public_key_len: 78,
    };
    assert_eq!(error(&prefixes(33)), too_many);
    for octets in [[0; 8], [0xff; 8], [0xff, 0x02, 0, 0, 0, 0, 0, 0]] {
        let prefix = SubnetPrefix::new(octets);
        let refused = GenerateError::UnassignablePrefix { prefix };
        assert_eq!(error(&[prefixes(1)[0], prefix]), refused);
    }
    assert_verifies(&generate(1, 32, Sec::ZERO));
}

#[test]
fn stored_parameters_give_the_set_back() {
    let set = generate(2, 3, Sec::ONE);
    for index in 0..3 {
        let stored = set.parameters_for(index).unwrap();
        assert_eq!(HbaSet::from_parameters(&stored, Sec::ONE).as_ref(), Ok(&set));
    }
    assert_eq!(set.parameters_for(3), None);
    assert_eq!(
        HbaSet::from_parameters(set.parameters(), Sec::TWO),
        Err(VerifyError::Hash2NotZero { sec: Sec::TWO })
    );
    let damaged = set.parameters().clone().with_collision_count(7);
    assert_eq!(
        HbaSet::from_parameters(&damaged, Sec::ONE),
        Err(VerifyError::CollisionCount { found: 7 })
    );
}

#[test]
fn octets_after_the_extension_fail() {
    let set = generate(4, 2, Sec::ZERO);
    let mut octets = set.parameters().to_vec();
    octets.extend([0; 3]);
    assert!(matches!(
        CgaParametersRef::parse(&octets),
        Err(ParseError::Truncated { .. })
    ));
    // An empty extension parses, but it is hashed.
    octets.push(0);
    let received = CgaParametersRef::parse(&octets).unwrap();
    assert_eq!(
        received.verify_hba(&set.addresses()[0]),
        Err(VerifyError::Hash1Mismatch)
    );
}
