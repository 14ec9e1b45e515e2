//! What is generated verifies, and what is changed in it afterwards does not.

use std::net::Ipv6Addr;

use proptest::prelude::*;
use proptest::sample::Index;
use shim6_cga::{CgaParametersRef, Sec, UnsupportedSec, VerifyError};

use crate::kinds::{Generated, KEY, Recipe, any_recipe, prefixes};

/// Whatever kind it is of: a CGA, a set with a key and one without.
fn one_of_each_kind(sec: Sec) -> [Generated; 3] {
    [(Some(KEY), false), (Some(KEY), true), (None, true)].map(|(key, is_set)| {
        let recipe = Recipe {
            prefixes: prefixes(3),
            public_key: key.map(|key| key.to_vec()),
            is_set,
            unknown_extensions: [vec![0xff, 0xfd, 0, 1, 0xaa], vec![0xff, 0xfe, 0, 0]],
            sec,
            seed: 4,
            collision_count: 1,
        };
        recipe.generate()
    })
}

/// Bit 0 is the leftmost, as in the RFCs.
fn with_flipped_bit(octets: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = octets.to_vec();
    flipped[bit / 8] ^= 0x80 >> (bit % 8);
    flipped
}

/// Nothing that is hashed may differ; for a set the prefix field is not, since that of the address takes its place.
fn assert_flip_is_noticed(generated: &Generated, bit: usize) {
    let flipped = with_flipped_bit(generated.parameters().octets(), bit);
    // Octets that are no parameters any more are refused as well.
    let received = CgaParametersRef::parse(&flipped).ok();
    let is_in_prefix_field = (16 * 8..24 * 8).contains(&bit);
    for address in generated.addresses() {
        let verdict = received.and_then(|received| generated.verify(&received, &address).ok());
        let expected = match generated {
            Generated::Set(set) if is_in_prefix_field => Some(set.sec()),
            _ => None,
        };
        assert_eq!(verdict, expected, "bit {bit} of {generated:?}");
        let as_cga = received.and_then(|received| received.verify_cga(&address).ok());
        let is_flipped_to_its_prefix = received.is_some_and(|received| received.subnet_prefix().contains(&address));
        assert!(
            as_cga.is_none() || is_in_prefix_field && is_flipped_to_its_prefix,
            "bit {bit} of {generated:?}"
        );
    }
}

#[test]
fn any_flipped_bit_of_the_parameters_is_noticed() {
    for generated in [Sec::ZERO, Sec::ONE].into_iter().flat_map(one_of_each_kind) {
        for bit in 0..generated.parameters().buffer_len() * 8 {
            assert_flip_is_noticed(&generated, bit);
        }
    }
}

/// Sec is not hashed: what another one in the address does.
#[test]
fn sec_of_the_address_decides_about_hash2() {
    for generated in one_of_each_kind(Sec::ONE) {
        let address = generated.addresses()[0].to_bits();
        let verify = |value: u8| {
            let address = Ipv6Addr::from_bits(address & !(0b111 << 61) | (u128::from(value) << 61));
            generated.verify(&generated.parameters().view(), &address)
        };
        assert_eq!(verify(0), Ok(Sec::ZERO), "the modifier is more than good enough");
        assert_eq!(verify(1), Ok(Sec::ONE));
        assert_eq!(verify(2), Err(VerifyError::Hash2NotZero { sec: Sec::TWO }));
        for value in 3..=7 {
            assert_eq!(verify(value), Err(UnsupportedSec { value }.into()));
        }
    }
}

proptest! {
    #[test]
    fn what_is_generated_verifies(recipe in any_recipe()) {
        let generated = recipe.generate();
        let sec = recipe.sec;
        prop_assert_eq!((generated.sec(), generated.collision_count()), (sec, recipe.collision_count));
        prop_assert!(generated.hash2_zero_bits() >= 16 * u32::from(sec.value()));
        let addresses = generated.addresses();
        prop_assert_eq!(addresses.len(), if recipe.is_set { recipe.prefixes.len() } else { 1 });
        let mut verifier = generated.parameters().hba_verifier().ok();
        prop_assert_eq!(verifier.is_some(), recipe.is_set);
        for (address, prefix) in addresses.iter().zip(&recipe.prefixes) {
            prop_assert!(prefix.contains(address));
            // "u" and "g".
            prop_assert_eq!(address.octets()[8] & 3, 0);
            prop_assert_eq!(generated.verify(&generated.parameters().view(), address), Ok(sec));
            if let Some(verifier) = &mut verifier {
                prop_assert_eq!(verifier.verify(address), Ok(sec));
            }
        }
    }

    /// RFC 5535 section 7.1.
    #[test]
    fn parameters_of_each_address_of_a_set_verify_it_as_cga(recipe in any_recipe()) {
        let Generated::Set(set) = recipe.generate() else { return Ok(()) };
        prop_assert_eq!(set.has_public_key(), recipe.public_key.is_some());
        prop_assert_eq!(set.prefixes(), &recipe.prefixes[..]);
        for own in 0..set.addresses().len() {
            let parameters = set.parameters_for(own).unwrap();
            for (other, address) in set.addresses().iter().enumerate() {
                prop_assert_eq!(parameters.verify_cga(address).is_ok(), other == own);
                prop_assert_eq!(parameters.verify_hba(address), Ok(set.sec()));
            }
        }
        prop_assert_eq!(set.parameters_for(set.addresses().len()), None);
    }

    #[test]
    fn flipped_bit_of_any_parameters_is_noticed(recipe in any_recipe(), bit in any::<Index>()) {
        let generated = recipe.generate();
        assert_flip_is_noticed(&generated, bit.index(generated.parameters().buffer_len() * 8));
    }

    #[test]
    fn flipped_bit_of_an_address_is_noticed_unless_ignored(
        recipe in any_recipe(),
        which in any::<Index>(),
        bit in 0..128_usize,
    ) {
        let generated = recipe.generate();
        let addresses = generated.addresses();
        let address = which.get(&addresses);
        let flipped = Ipv6Addr::from_bits(address.to_bits() ^ 1 << (127 - bit));
        let verdict = generated.verify(&generated.parameters().view(), &flipped);
        match (bit, Sec::try_from(flipped.octets()[8] >> 5)) {
            (0..64, _) => prop_assert!(verdict.is_err()),
            (64..67, Err(unsupported)) => prop_assert_eq!(verdict, Err(unsupported.into())),
            // Any modifier may happen to be good for more than was asked for.
            (64..67, Ok(sec)) if generated.hash2_zero_bits() < 16 * u32::from(sec.value()) => {
                prop_assert_eq!(verdict, Err(VerifyError::Hash2NotZero { sec }));
            }
            (64..67, Ok(sec)) => prop_assert_eq!(verdict, Ok(sec)),
            (70 | 71, _) => prop_assert_eq!(verdict, Ok(recipe.sec)),
            _ => prop_assert_eq!(verdict, Err(VerifyError::Hash1Mismatch)),
        }
    }

    /// Whatever it was asked before: addresses of the set, with a bit flipped or (at 128) none.
    #[test]
    fn verifier_agrees_with_the_verification_of_one_address(
        recipe in any_recipe(),
        asked in prop::collection::vec((any::<Index>(), prop_oneof![64..67_u32, 0..129_u32]), 1..20),
    ) {
        let Generated::Set(set) = recipe.generate() else { return Ok(()) };
        let parameters = set.parameters();
        let mut verifier = parameters.hba_verifier().unwrap();
        for (which, bit) in asked {
            let flip = 1_u128.checked_shl(127_u32.wrapping_sub(bit)).unwrap_or(0);
            let address = Ipv6Addr::from_bits(which.get(set.addresses()).to_bits() ^ flip);
            prop_assert_eq!(verifier.verify(&address), parameters.verify_hba(&address));
        }
    }

    #[test]
    fn addresses_of_other_parameters_fail(recipe in any_recipe(), seed in any::<u64>()) {
        prop_assume!(seed != recipe.seed);
        let generated = recipe.generate();
        let other = Recipe { seed, ..recipe }.generate();
        for address in other.addresses() {
            let verdict = generated.verify(&generated.parameters().view(), &address);
            prop_assert_eq!(verdict, Err(VerifyError::Hash1Mismatch));
        }
    }

    /// Unknown fields are kept as they are, wherever they stand, and none can be left out.
    #[test]
    fn unknown_extensions_are_kept_and_hashed(recipe in any_recipe()) {
        let generated = recipe.generate();
        let parameters = generated.parameters();
        let extensions = parameters.extension_octets();
        let [before, after] = &recipe.unknown_extensions;
        prop_assert!(extensions.starts_with(before) && extensions.ends_with(after));
        let bare = &extensions[before.len()..extensions.len() - after.len()];
        let bare = shim6_cga::CgaParameters::new(
            parameters.modifier(),
            parameters.subnet_prefix(),
            parameters.collision_count(),
            parameters.public_key(),
            bare,
        );
        let verdict = generated.verify(&bare.unwrap().view(), &generated.addresses()[0]);
        prop_assert_eq!(verdict.is_ok(), before.is_empty() && after.is_empty());
    }

    #[test]
    fn same_seed_gives_the_same(recipe in any_recipe()) {
        prop_assert_eq!(recipe.generate(), recipe.generate());
    }
}
