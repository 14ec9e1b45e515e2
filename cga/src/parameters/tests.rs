//! The vector of RFC 3972 appendix A, parsing and the steps of verification.

use core::net::Ipv6Addr;

use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::{
    error::VerifyError,
    extension::encode_multi_prefix,
    format::ExtensionType,
    search::ModifierSearch,
    sec::{Sec, UnsupportedSec},
};

/// The public key of RFC 3972 appendix A.
const KEY: [u8; 94] = hex!(
    "305c 300d 0609 2a86 4886 f70d 0101 0105 0003 4b00 3048 0241"
    "00c2 c2f1 3730 5454 f10b d9ce a368 44b5 30e9 211a 4b26 2b16"
    "467c b7df ba1f 595c 0194 f275 be5a 4d38 6f2c 3c23 8250 8773"
    "c786 7f9b 3b9e 63a0 9c7b c48f 7a54 ebef af02 0301 0001"
);
const INITIAL: Modifier = hex!("89a8 a8b2 e858 d8b8 f263 3f44 d2d4 ce9a");
const FINAL: Modifier = hex!("89a8 a8b2 e858 d8b8 f263 3f44 d2d4 ce9b");

fn prefix() -> SubnetPrefix {
    SubnetPrefix::new(hex!("fe80 0000 0000 0000"))
}

fn address() -> Ipv6Addr {
    "fe80::3c4a:5bf6:ffb4:ca6c".parse().unwrap()
}

fn parameters() -> CgaParameters {
    CgaParameters::new(FINAL, prefix(), 0, &KEY, &[]).unwrap()
}

/// Parameters of a Sec 0 address with these extension fields.
fn extended(extensions: &[u8]) -> CgaParameters {
    CgaParameters::new(FINAL, prefix(), 0, &KEY, extensions).unwrap()
}

/// Steps 2 and 3: the two Hash2 values. The vector gives 112 bits, of which 64 are looked at.
#[test]
fn appendix_a_hash2_of_both_modifiers() {
    for (modifier, hash2, fits) in [
        (INITIAL, hex!("436b 9a70 dbfd dbf1"), false),
        (FINAL, hex!("0000 01ca 680b 8388"), true),
    ] {
        // Neither subnet prefix nor collision count are hashed.
        let parameters = parameters().with_modifier(modifier).with_collision_count(2);
        let zeroed = parameters
            .clone()
            .with_subnet_prefix(SubnetPrefix::new([0; 8]))
            .with_collision_count(0);
        let leftmost = Sec::ONE.hash_function().leftmost_bits(zeroed.octets());
        assert_eq!(leftmost.to_be_bytes(), hash2);
        assert_eq!(parameters.view().check_hash2(Sec::ONE).is_ok(), fits);
        assert!(parameters.view().check_hash2(Sec::TWO).is_err());
    }
}

#[test]
fn appendix_a_search_finds_the_modifier_at_the_second_try() {
    let mut search = ModifierSearch::new(INITIAL, Sec::ONE, &KEY, &[]);
    assert_eq!(search.step(1), None);
    assert_eq!(search.step(1), Some(FINAL));
    assert_eq!(search.tried(), 2);
}

#[test]
fn appendix_a_structure_hash1_and_address() {
    let octets = [
        &hex!("89a8 a8b2 e858 d8b8 f263 3f44 d2d4 ce9b fe80 0000 0000 0000 00")[..],
        &KEY,
    ]
    .concat();
    assert_eq!(parameters().to_vec(), octets);
    let hash1 = Sec::ONE.hash_function().leftmost_bits(&octets);
    assert_eq!(hash1, 0xfd4a_5bf6_ffb4_ca6c);
    assert_eq!(parameters().address(Sec::ONE), address());

    let parsed = CgaParametersRef::parse(&octets).unwrap();
    assert_eq!(parsed.modifier(), FINAL);
    assert_eq!(parsed.subnet_prefix(), prefix());
    assert_eq!(parsed.collision_count(), 0);
    assert_eq!(parsed.public_key(), KEY);
    assert_eq!(parsed.extensions().count(), 0);
    assert_eq!(parsed.verify_cga(&address()), Ok(Sec::ONE));
}

#[test]
fn collision_count_above_2_fails_at_the_first_step() {
    for count in 0..=2 {
        let parameters = parameters().with_collision_count(count);
        let address = parameters.address(Sec::ONE);
        assert_eq!(parameters.verify_cga(&address), Ok(Sec::ONE));
    }
    for found in [3, 4, 255] {
        let parameters = parameters().with_collision_count(found);
        let address = parameters.address(Sec::ONE);
        assert_eq!(
            parameters.verify_cga(&address),
            Err(VerifyError::CollisionCount { found })
        );
    }
}

#[test]
fn other_prefix_fails_as_cga() {
    let other = SubnetPrefix::new(hex!("fe80 0000 0000 0001"));
    let address = parameters().view().address_under(other, Sec::ONE);
    let error = VerifyError::PrefixMismatch {
        address: other,
        parameters: prefix(),
    };
    assert_eq!(parameters().verify_cga(&address), Err(error));
}

/// Each bit of the interface identifier: "u" and "g" do not matter, Sec is read from the address, the rest is hash.
#[test]
fn flipped_bit_of_the_interface_identifier_fails_unless_ignored() {
    for bit in 0..64 {
        // Bit 0 is the leftmost, as in the RFC.
        let flipped = Ipv6Addr::from_bits(address().to_bits() ^ (1 << (63 - bit)));
        let expected = match bit {
            0 => Err(UnsupportedSec { value: 0b101 }.into()),
            1 => Err(UnsupportedSec { value: 0b011 }.into()),
            // Sec 1 to Sec 0: the hash is right and no zero bits are asked for.
            2 => Ok(Sec::ZERO),
            6 | 7 => Ok(Sec::ONE),
            _ => Err(VerifyError::Hash1Mismatch),
        };
        assert_eq!(parameters().verify_cga(&flipped), expected, "bit {bit}");
    }
}

#[test]
fn sec_above_that_of_the_modifier_fails_at_hash2() {
    let weak = parameters().with_modifier(INITIAL);
    assert_eq!(weak.verify_cga(&weak.address(Sec::ZERO)), Ok(Sec::ZERO));
    for sec in [Sec::ONE, Sec::TWO] {
        assert_eq!(
            weak.verify_cga(&weak.address(sec)),
            Err(VerifyError::Hash2NotZero { sec })
        );
    }
}

#[test]
fn hba_verification_needs_the_multi_prefix_extension() {
    assert_eq!(parameters().verify_cga(&address()), Ok(Sec::ONE));
    assert_eq!(parameters().verify_hba(&address()), Err(VerifyError::NoMultiPrefix));
}

#[test]
fn set_with_a_key_verifies_as_cga_and_as_hba() {
    let other = SubnetPrefix::new(hex!("20010db800b10000"));
    let parameters = extended(&encode_multi_prefix(&[prefix(), other], true));
    assert!(parameters.multi_prefix().unwrap().has_public_key());
    let own = parameters.address(Sec::ZERO);
    let second = parameters.view().address_under(other, Sec::ZERO);
    assert_eq!(parameters.verify_cga(&own), Ok(Sec::ZERO));
    assert_eq!(parameters.verify_hba(&own), Ok(Sec::ZERO));
    assert_eq!(parameters.verify_hba(&second), Ok(Sec::ZERO));
    let foreign = SubnetPrefix::new(hex!("20010db800c10000"));
    let outside = parameters.view().address_under(foreign, Sec::ZERO);
    assert_eq!(
        parameters.verify_hba(&outside),
        Err(VerifyError::PrefixNotInSet { prefix: foreign })
    );
}

#[test]
fn unknown_extension_is_kept_and_hashed() {
    let extensions = hex!("fffd 0002 aabb");
    let parameters = extended(&extensions);
    let kinds: Vec<_> = parameters.extensions().map(|e| e.kind()).collect();
    assert_eq!(kinds, [ExtensionType(0xfffd)]);
    let address = parameters.address(Sec::ZERO);
    assert_eq!(parameters.verify_cga(&address), Ok(Sec::ZERO));
    for changed in [&hex!("fffd 0002 aaba")[..], &[]] {
        assert_eq!(extended(changed).verify_cga(&address), Err(VerifyError::Hash1Mismatch));
    }
}

#[test]
fn structure_cut_short_names_the_field() {
    let octets = extended(&hex!("fffd 0002 aabb")).to_vec();
    for len in 0..octets.len() {
        let (field, start) = match len {
            0..16 => (Field::Modifier, 0),
            16..24 => (Field::SubnetPrefix, 16),
            24 => (Field::CollisionCount, 24),
            25..119 => (Field::PublicKey, 25),
            // Cut between two fields: whole without the extension.
            119 => {
                assert_eq!(CgaParameters::parse(&octets[..len]), Ok(parameters()));
                continue;
            }
            _ => (Field::Extension, 119),
        };
        match CgaParametersRef::parse(&octets[..len]) {
            Err(ParseError::Truncated {
                field: found,
                needed,
                available,
            }) => {
                assert_eq!((found, available), (field, len - start), "cut at {len}");
                assert!(needed > available, "cut at {len}");
            }
            other => panic!("cut at {len}: {other:?}"),
        }
    }
}

#[test]
fn errors_say_what_was_expected() {
    let message = |octets: &[u8]| CgaParametersRef::parse(octets).unwrap_err().to_string();
    assert_eq!(message(&[0; 20]), "subnet prefix: expected 8 octets, found 4");
    assert_eq!(
        message(&[0; 30]),
        "public key: expected the DER tag 0x30 (SEQUENCE), found 0x00"
    );
    let mut long = [0; 30];
    long[25..27].copy_from_slice(&hex!("3088"));
    assert_eq!(
        message(&long),
        "public key: expected a DER length of at most 2 octets, found one of 8 octets"
    );
    assert_eq!(
        VerifyError::Hash2NotZero { sec: Sec::ONE }.to_string(),
        "Hash2 does not start with the 16 zero bits that Sec 1 asks for"
    );
}

#[test]
fn new_refuses_what_parse_would_read_differently() {
    let with_more = [&KEY[..], &[0, 0]].concat();
    assert_eq!(
        CgaParameters::new(FINAL, prefix(), 0, &with_more, &[]),
        Err(ParseError::PublicKeyTrailing { octets: 2 })
    );
    assert!(CgaParameters::new(FINAL, prefix(), 0, &[], &KEY).is_err());
    assert!(CgaParameters::new(FINAL, prefix(), 0, &KEY, &[0]).is_err());
}

#[test]
fn emit_writes_the_start_of_a_larger_buffer() {
    let parameters = parameters();
    let mut buffer = vec![0xee; parameters.buffer_len() + 3];
    assert_eq!(parameters.emit(&mut buffer), Some(parameters.buffer_len()));
    let (written, rest) = buffer.split_at(parameters.buffer_len());
    assert_eq!(written, parameters.to_vec());
    assert_eq!(rest, [0xee; 3]);
}

#[test]
fn emit_writes_nothing_where_there_is_too_little_room() {
    let parameters = parameters();
    let mut buffer = vec![0xee; parameters.buffer_len() - 1];
    assert_eq!(parameters.emit(&mut buffer), None);
    assert!(buffer.iter().all(|&octet| octet == 0xee));
}

/// A key field of any content whose length takes one to four octets.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![0_usize..300, 65_500_usize..=65_535].prop_flat_map(|len| {
        prop::collection::vec(any::<u8>(), len).prop_map(|content| {
            let len = content.len();
            let mut key = vec![0x30];
            match len {
                0..0x80 => key.push(len as u8),
                0x80..0x100 => key.extend([0x81, len as u8]),
                _ => key.extend([0x82, (len >> 8) as u8, len as u8]),
            }
            key.extend(content);
            key
        })
    })
}

/// Any row of extension fields, perhaps with one Multi-Prefix extension among them.
fn any_extensions() -> impl Strategy<Value = Vec<u8>> {
    let unknown = (0x0013..=u16::MAX, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, data)| {
        let len = (data.len() as u16).to_be_bytes();
        [&kind.to_be_bytes()[..], &len, &data].concat()
    });
    let prefixes = prop::collection::vec(any::<[u8; 8]>().prop_map(SubnetPrefix::new), 0..5);
    (prop::collection::vec(unknown, 0..4), prefixes, any::<bool>()).prop_map(|(mut all, prefixes, key)| {
        if !prefixes.is_empty() {
            all.insert(all.len() / 2, encode_multi_prefix(&prefixes, key));
        }
        all.concat()
    })
}

fn any_parameters() -> impl Strategy<Value = CgaParameters> {
    let head = (any::<Modifier>(), any::<[u8; 8]>(), any::<u8>());
    (head, any_key(), any_extensions()).prop_map(|((modifier, prefix, count), key, extensions)| {
        CgaParameters::new(modifier, prefix.into(), count, &key, &extensions).unwrap()
    })
}

proptest! {
    #[test]
    fn parse_gives_back_what_was_emitted(parameters in any_parameters()) {
        let octets = parameters.to_vec();
        prop_assert_eq!(octets.len(), parameters.buffer_len());
        prop_assert_eq!(CgaParameters::parse(&octets), Ok(parameters));
    }

    #[test]
    fn any_cga_verifies_at_its_sec(parameters in any_parameters(), count in 0..=2_u8) {
        let parameters = parameters.with_collision_count(count);
        let address = parameters.address(Sec::ZERO);
        prop_assert_eq!(parameters.verify_cga(&address), Ok(Sec::ZERO));
    }

    #[test]
    fn arbitrary_octets_never_panic(
        octets in prop::collection::vec(any::<u8>(), 0..400),
        address in any::<u128>(),
    ) {
        exercise(&octets, address);
    }

    /// Random octets rarely get past the key, so damage what is well-formed.
    #[test]
    fn damaged_parameters_never_panic(
        parameters in any_parameters(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        address in any::<u128>(),
    ) {
        let mut octets = parameters.to_vec();
        for (index, value) in damage {
            let index = index.index(octets.len());
            octets[index] = value;
        }
        exercise(&octets, address);
        octets.truncate(cut.index(octets.len()));
        exercise(&octets, address);
    }
}

/// Calls all that takes received octets; what parses has to emit the same octets.
fn exercise(octets: &[u8], address: u128) {
    let address = Ipv6Addr::from_bits(address);
    match CgaParametersRef::parse(octets) {
        Ok(view) => {
            assert_eq!(view.to_owned().to_vec(), octets);
            assert_eq!(view.to_owned().view(), view);
            let fields = view.extensions().map(|e| 4 + e.data().len());
            assert_eq!(fields.sum::<usize>(), view.extension_octets().len());
            // No random address is the right one.
            assert!(view.verify_cga(&address).is_err());
            assert!(view.verify_hba(&address).is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
