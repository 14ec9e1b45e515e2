//! Tests of signatures: what verifies, and that nothing else does.

use alloc::{format, vec};

use hex_literal::hex;
use proptest::{prelude::*, sample::Index};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::*;
use crate::{
    CgaParameters, ModifierSearch, SubnetPrefix,
    der::{MAX_ENCODED_NONCE_LEN, NONCE_LEN, encode_nonce},
    extension::encode_multi_prefix,
};

const LOCATORS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 2),
];
const PREFIXES: [SubnetPrefix; 2] = [
    SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xa1, 0, 0]),
    SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0xb1, 0, 0]),
];

fn read(pem: &str) -> PrivateKey {
    PrivateKey::from_pkcs8_pem(pem, KeySizes::default()).unwrap()
}

fn key_1024() -> PrivateKey {
    read(include_str!("../../testdata/test-key-1024.pem"))
}

fn other_key() -> PrivateKey {
    read(include_str!("../../testdata/test-key-1024-other.pem"))
}

fn key_2048() -> PrivateKey {
    read(include_str!("../../testdata/test-key-2048.pem"))
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// The parameters of a CGA with this key, and the CGA.
fn cga(public_key: &[u8], sec: Sec) -> (CgaParameters, Ipv6Addr) {
    let modifier = ModifierSearch::new([7; 16], sec, public_key, &[])
        .step(u64::MAX)
        .unwrap();
    let parameters = CgaParameters::new(modifier, PREFIXES[0], 0, public_key, &[]).unwrap();
    let address = parameters.view().address(sec);
    (parameters, address)
}

/// The parameters of a set of addresses, and the addresses.
fn set(public_key: &[u8], p_flag: bool) -> (CgaParameters, [Ipv6Addr; 2]) {
    let extension = encode_multi_prefix(&PREFIXES, p_flag);
    let parameters = CgaParameters::new([7; 16], PREFIXES[0], 0, public_key, &extension).unwrap();
    let addresses = PREFIXES.map(|prefix| {
        let parameters = parameters.clone().with_subnet_prefix(prefix);
        parameters.view().address(Sec::ZERO)
    });
    (parameters, addresses)
}

fn verify(
    parameters: &CgaParameters,
    ulid: &Ipv6Addr,
    locators: &[Ipv6Addr],
    signature: &[u8],
) -> Result<Sec, SignedLocatorsError> {
    parameters
        .view()
        .verify_signed_locators(ulid, 7, locators, signature, KeySizes::default())
}

#[test]
fn signatures_are_those_of_openssl() {
    // `openssl dgst -sha1 -sign test-key-1024.pem` over the tag, 00000007 and the two locators.
    let expected = hex!(
        "47670ff20d7ae080db2eed8d9ea85796d633615fcdbb2ae723ecf16848b9a8973560c6ed52642ab61bfe32acf2a0c443"
        "bc6f4f90678fb94066e3afe02618645349083ef3378ade7e7ad64865369236383fd4732ef2a330e02542cd9819c77b51"
        "2525f49fbc1ff6780faca4d0aba051b4093e99f2d344b1662be6702c507de56d"
    );
    let key = key_1024();
    assert_eq!(key.sign_locators(7, &LOCATORS, &mut rng()).unwrap(), expected);
    assert_eq!(key.public_key().verify_locators(7, &LOCATORS, &expected), Ok(()));

    // The same with `test-key-2048.pem`.
    let expected = hex!(
        "73c5a1e82b239399e99aab524b150b2925780297283fa8d1add7933b408e916a8153c243e420d6c3d57d98b7ddaf2d84"
        "ee3d816b270f8f88b7244a4d88bf30c26aebe06908b108fa0f2029d629833cb191521210ed07eca0f69c2609c11e9882"
        "d545ad4e461284c683efb6afb33f66c327999917820dc84f18d29033e1b22e09333ad92715649ca7f8aa68112f9534e6"
        "aca571e6fe9df6eda2b65a0af2ced0610e369d4b6022b7f1dfb74aef2dd78e91f652f164f3dcd4f9af94ba6b741d299f"
        "7b84e35b80256099a5fb9fc0566b6bca3a06efb04a7d216357978ddd45643862e8860e3fc1ea98e05b0fb42720f4c1a8"
        "24761b27a9def7f4abb1d5e94e96cf5b"
    );
    let key = key_2048();
    assert_eq!(key.sign_locators(7, &LOCATORS, &mut rng()).unwrap(), expected);
    assert_eq!(key.public_key().verify_locators(7, &LOCATORS, &expected), Ok(()));
}

#[test]
fn tag_of_shim6_is_that_of_the_rfc() {
    assert_eq!(
        MessageTypeTag::SHIM6.0,
        hex!("4A 30 5662 4858 574B 3655 416F 506A 6D48")
    );
    assert_eq!(
        format!("{:?}", MessageTypeTag::SHIM6),
        "MessageTypeTag(0x4a3056624858574b3655416f506a6d48)"
    );
}

#[test]
fn locator_list_is_signed_as_the_message_behind_the_tag() {
    let key = key_1024();
    let [one, two] = LOCATORS.map(|locator| locator.octets());
    let pieces: [&[u8]; 3] = [&[0, 0, 0, 7], &one, &two];
    let signature = key.sign(MessageTypeTag::SHIM6, &pieces, &mut rng()).unwrap();
    assert_eq!(key.public_key().verify_locators(7, &LOCATORS, &signature), Ok(()));
}

#[test]
fn message_may_come_in_any_pieces() {
    let key = key_1024();
    let tag = MessageTypeTag([3; 16]);
    let signature = key.sign(tag, &[b"one message"], &mut rng()).unwrap();
    for pieces in [&[&b"one"[..], b" ", b"message", b""][..], &[b"", b"one message"]] {
        assert_eq!(key.public_key().verify(tag, pieces, &signature), Ok(()));
    }
    let empty = key.sign(tag, &[], &mut rng()).unwrap();
    assert_eq!(key.public_key().verify(tag, &[b""], &empty), Ok(()));
}

#[test]
fn blinding_does_not_show_in_the_signature() {
    let key = key_1024();
    let signatures = [1, 2].map(|seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        key.sign_locators(7, &LOCATORS, &mut rng).unwrap()
    });
    assert_eq!(signatures[0], signatures[1]);
}

#[test]
fn signing_draws_from_the_generator() {
    let mut used = rng();
    key_1024().sign_locators(7, &LOCATORS, &mut used).unwrap();
    assert_ne!(used.get_word_pos(), rng().get_word_pos());
}

#[test]
fn anything_else_than_what_was_signed_is_refused() {
    let key = key_1024();
    let public = key.public_key();
    let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
    let [one, two] = LOCATORS;
    for (generation, locators) in [
        (8, &[one, two][..]),
        (7 << 24, &[one, two]),
        (7, &[two, one]),
        (7, &[one]),
        (7, &[two]),
        (7, &[one, two, two]),
        (7, &[one, one]),
    ] {
        let verdict = public.verify_locators(generation, locators, &signature);
        assert_eq!(verdict, Err(SignatureError::Mismatch), "{generation} {locators:?}");
    }
    let other = other_key();
    let verdict = other.public_key().verify_locators(7, &LOCATORS, &signature);
    assert_eq!(verdict, Err(SignatureError::Mismatch));
}

#[test]
fn signature_is_as_long_as_the_modulus() {
    let key = key_1024();
    let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
    assert_eq!(signature.len(), key.public_key().signature_len());
    let longer = [&signature[..], &[0]].concat();
    let padded = [&[0], &signature[..]].concat();
    for wrong in [&[], &signature[1..], &signature[..127], &longer, &padded] {
        let error = SignatureError::Length {
            expected: 128,
            found: wrong.len(),
        };
        assert_eq!(key.public_key().verify_locators(7, &LOCATORS, wrong), Err(error));
    }
}

#[test]
fn signature_not_below_the_modulus_is_refused() {
    let key = key_1024();
    for octets in [vec![0xff; 128], vec![0; 128]] {
        let verdict = key.public_key().verify_locators(7, &LOCATORS, &octets);
        assert_eq!(verdict, Err(SignatureError::Mismatch));
    }
}

#[test]
fn empty_list_is_neither_signed_nor_verified() {
    let key = key_1024();
    let none = key.sign_locators(7, &[], &mut rng());
    assert_eq!(none, Err(SignatureError::NoLocators));
    let over_nothing = key.sign(MessageTypeTag::SHIM6, &[&[0, 0, 0, 7]], &mut rng()).unwrap();
    let verdict = key.public_key().verify_locators(7, &[], &over_nothing);
    assert_eq!(verdict, Err(SignatureError::NoLocators));
}

#[test]
fn key_whose_factors_are_not_prime_gives_no_signature() {
    let key = read(include_str!("../../testdata/test-composite-factor.pem"));
    assert_eq!(
        key.sign_locators(7, &LOCATORS, &mut rng()),
        Err(SignatureError::NotMade)
    );
}

#[test]
fn list_signed_by_the_owner_of_a_cga_verifies() {
    for key in [key_1024(), key_2048()] {
        let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
        for sec in [Sec::ZERO, Sec::ONE] {
            let (parameters, ulid) = cga(key.public_key().spki(), sec);
            assert_eq!(verify(&parameters, &ulid, &LOCATORS, &signature), Ok(sec));
        }
    }
}

#[test]
fn list_signed_by_the_owner_of_a_set_verifies_for_each_address_of_it() {
    let key = key_1024();
    let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
    let (parameters, addresses) = set(key.public_key().spki(), true);
    for ulid in &addresses {
        assert_eq!(verify(&parameters, ulid, &LOCATORS, &signature), Ok(Sec::ZERO));
    }
}

#[test]
fn nonce_is_not_taken_for_a_key() {
    let signature = [0; 48];
    let nonce = encode_nonce(&[0xa5; NONCE_LEN]);
    assert_eq!(nonce.len(), MAX_ENCODED_NONCE_LEN);
    let (parameters, [ulid, _]) = set(&nonce, false);
    let verdict = verify(&parameters, &ulid, &LOCATORS, &signature);
    assert_eq!(verdict, Err(SignedLocatorsError::NoPublicKey));

    // Nor when the P flag says that it is one, or without the flag.
    let sizes = KeySizes::default();
    let too_short = SignedLocatorsError::Key(KeyError::Size { found: 384, sizes });
    let (parameters, [ulid, _]) = set(&nonce, true);
    assert_eq!(
        verify(&parameters, &ulid, &LOCATORS, &signature),
        Err(too_short.clone())
    );
    let (parameters, ulid) = cga(&nonce, Sec::ZERO);
    assert_eq!(verify(&parameters, &ulid, &LOCATORS, &signature), Err(too_short));
}

#[test]
fn real_key_without_the_p_flag_is_not_used() {
    let key = key_1024();
    let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
    let (parameters, [ulid, _]) = set(key.public_key().spki(), false);
    let verdict = verify(&parameters, &ulid, &LOCATORS, &signature);
    assert_eq!(verdict, Err(SignedLocatorsError::NoPublicKey));
}

#[test]
fn address_of_someone_else_is_refused_before_the_signature() {
    let key = key_1024();
    let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
    let (parameters, ulid) = cga(key.public_key().spki(), Sec::ZERO);
    let (_, victim) = cga(other_key().public_key().spki(), Sec::ZERO);
    let verdict = verify(&parameters, &victim, &LOCATORS, &signature);
    assert_eq!(verdict, Err(SignedLocatorsError::Ulid(VerifyError::Hash1Mismatch)));

    let verdict = verify(&parameters, &LOCATORS[1], &LOCATORS, &signature);
    assert!(matches!(
        verdict,
        Err(SignedLocatorsError::Ulid(VerifyError::PrefixMismatch { .. }))
    ));

    let verdict = verify(&parameters, &ulid, &LOCATORS[..1], &signature);
    assert_eq!(verdict, Err(SignatureError::Mismatch.into()));
    let verdict = verify(&parameters, &ulid, &[], &signature);
    assert_eq!(verdict, Err(SignatureError::NoLocators.into()));
}

#[test]
fn key_outside_the_sizes_is_refused_before_the_signature() {
    let key = key_1024();
    let signature = key.sign_locators(7, &LOCATORS, &mut rng()).unwrap();
    let (parameters, ulid) = cga(key.public_key().spki(), Sec::ZERO);
    let sizes = KeySizes::new(2048, 3072).unwrap();
    let verdict = parameters
        .view()
        .verify_signed_locators(&ulid, 7, &LOCATORS, &signature, sizes);
    let error = KeyError::Size { found: 1024, sizes };
    assert_eq!(verdict, Err(SignedLocatorsError::Key(error)));
}

proptest! {
    #[test]
    fn what_is_signed_verifies(tag: [u8; 16], pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let key = key_1024();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let signature = key.sign(MessageTypeTag(tag), &pieces, &mut rng()).unwrap();
        prop_assert_eq!(key.public_key().verify(MessageTypeTag(tag), &pieces, &signature), Ok(()));
    }

    #[test]
    fn no_bit_of_tag_message_or_signature_may_change(
        mut tag: [u8; 16],
        mut message in proptest::collection::vec(any::<u8>(), 1..100),
        part in 0..3,
        place: Index,
        bit in 0..8,
    ) {
        let key = key_1024();
        let mut signature = key.sign(MessageTypeTag(tag), &[&message], &mut rng()).unwrap();
        let changed = match part {
            0 => &mut tag[..],
            1 => &mut message,
            _ => &mut signature,
        };
        changed[place.index(changed.len())] ^= 1_u8 << bit;
        let verdict = key.public_key().verify(MessageTypeTag(tag), &[&message], &signature);
        prop_assert_eq!(verdict, Err(SignatureError::Mismatch));
    }

    #[test]
    fn no_bit_of_generation_or_locators_may_change(
        mut generation: u32,
        locators in proptest::collection::vec(any::<u128>(), 1..4),
        place: Index,
        bit in 0..128_u32,
        in_generation: bool,
    ) {
        let key = key_1024();
        let mut locators: Vec<_> = locators.into_iter().map(Ipv6Addr::from_bits).collect();
        let signature = key.sign_locators(generation, &locators, &mut rng()).unwrap();
        prop_assert_eq!(key.public_key().verify_locators(generation, &locators, &signature), Ok(()));
        if in_generation {
            generation ^= 1_u32 << (bit % 32);
        } else {
            let index = place.index(locators.len());
            locators[index] = Ipv6Addr::from_bits(locators[index].to_bits() ^ (1_u128 << bit));
        }
        let verdict = key.public_key().verify_locators(generation, &locators, &signature);
        prop_assert_eq!(verdict, Err(SignatureError::Mismatch));
    }

    #[test]
    fn no_octets_are_a_signature_or_panic(signature: [u8; 32], repeat in 0..8_usize) {
        let verdict = key_1024().public_key().verify_locators(7, &LOCATORS, &signature.repeat(repeat));
        prop_assert!(verdict.is_err());
    }
}
