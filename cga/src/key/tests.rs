//! Tests of what is accepted as a key, and of why other octets are not.

use alloc::format;

use hex_literal::hex;
use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use rsa::{RsaPublicKey, pkcs8::DecodePublicKey};

use super::*;
use crate::der::{BIT_STRING, DerError, INTEGER, SEQUENCE};

const KEY_1024: &str = include_str!("../../testdata/test-key-1024.pem");
const KEY_2048: &str = include_str!("../../testdata/test-key-2048.pem");
const KEY_3072: &str = include_str!("../../testdata/test-key-3072.pem");
const EXPONENT_3: &str = include_str!("../../testdata/test-exponent-3.pem");

const ALGORITHM: &[u8] = &hex!("300d 0609 2a864886f70d010101 0500");
const EXPONENT: &[u8] = &hex!("0203 010001");

fn read(pem: &str) -> Result<PrivateKey, KeyError> {
    PrivateKey::from_pkcs8_pem(pem, KeySizes::default())
}

fn public(octets: &[u8]) -> Result<PublicKey, KeyError> {
    PublicKey::from_spki(octets, KeySizes::default())
}

fn der(pem: &str) -> Vec<u8> {
    rsa::pkcs8::Document::from_pem(pem).unwrap().1.into_vec()
}

/// An element with a length of its shortest form.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let length = match length {
        0..0x80 => vec![length as u8],
        0x80..0x100 => vec![0x81, length as u8],
        _ => vec![0x82, (length >> 8) as u8, length as u8],
    };
    [&[tag][..], &length, content].concat()
}

/// A modulus as an INTEGER: `bits` long and odd.
fn modulus(bits: usize) -> Vec<u8> {
    let mut octets = vec![0xa5; bits.div_ceil(8)];
    octets[0] = 1 << ((bits - 1) % 8);
    if octets[0] == 0x80 {
        octets.insert(0, 0);
    }
    tlv(INTEGER, &octets)
}

/// A SubjectPublicKeyInfo of these parts.
fn spki(algorithm: &[u8], rsa_public_key: &[u8]) -> Vec<u8> {
    let bit_string = tlv(BIT_STRING, &[&[0], rsa_public_key].concat());
    tlv(SEQUENCE, &[algorithm, &bit_string].concat())
}

/// A SubjectPublicKeyInfo of these INTEGERs.
fn spki_of(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    spki(ALGORITHM, &tlv(SEQUENCE, &[modulus, exponent].concat()))
}

#[test]
fn public_key_is_given_back_octet_for_octet() {
    for (pem, bits) in [(KEY_1024, 1024), (KEY_2048, 2048), (KEY_3072, 3072), (EXPONENT_3, 1024)] {
        let private = read(pem).unwrap();
        let octets = private.public_key().spki();
        let key = public(octets).unwrap();
        assert_eq!(key.spki(), octets);
        assert_eq!(&key, private.public_key());
        assert_eq!((key.bits(), key.signature_len()), (bits, bits / 8));
    }
}

#[test]
fn public_key_is_the_one_that_openssl_derives() {
    let octets = der(include_str!("../../testdata/test-public.pem"));
    assert_eq!(read(KEY_1024).unwrap().public_key().spki(), octets);
}

#[test]
fn modulus_outside_the_sizes_is_refused_with_its_size() {
    let sizes = KeySizes::default();
    for found in [384, 1016, 1023, 3073, 3080, 4096, 16384] {
        let refused = KeyError::Size { found, sizes };
        assert_eq!(public(&spki_of(&modulus(found), EXPONENT)), Err(refused));
    }
    for accepted in [1024, 1025, 1031, 1032, 3071, 3072] {
        let key = public(&spki_of(&modulus(accepted), EXPONENT)).unwrap();
        assert_eq!(key.bits(), accepted);
        assert_eq!(key.signature_len(), accepted.div_ceil(8));
    }
    let only = KeySizes::new(2048, 2048).unwrap();
    let octets = spki_of(&modulus(1024), EXPONENT);
    let refused = KeyError::Size {
        found: 1024,
        sizes: only,
    };
    assert_eq!(PublicKey::from_spki(&octets, only), Err(refused));
    let zero = tlv(INTEGER, &[0]);
    let refused = KeyError::Size { found: 0, sizes };
    assert_eq!(public(&spki_of(&zero, EXPONENT)), Err(refused));
}

#[test]
fn largest_default_size_leaves_room_for_two_locators() {
    // The largest message with a signature, an I2bis: headers, ULID pair, and room for the responder's validator.
    let fixed = 40 + 32 + 40 + 104;
    let locators_and_preferences = (16 + 2 * 16) + 16;
    let message_len = |bits| {
        let multi_prefix = 4 + 4 + 2 * 8;
        let parameters = 25 + spki_of(&modulus(bits), EXPONENT).len() + multi_prefix;
        let option = |content: usize| (4 + content).next_multiple_of(8);
        fixed + locators_and_preferences + option(parameters) + option(bits / 8)
    };
    assert!(message_len(KeySizes::default().max()) <= 1280);
    assert!(message_len(4096) > 1280);
}

#[test]
fn bounds_beyond_floor_and_ceiling_are_refused() {
    for (min, max) in [(1023, 2048), (2049, 2048), (1024, 4097), (0, 0)] {
        assert_eq!(KeySizes::new(min, max), Err(KeyError::Sizes { min, max }));
    }
    let sizes = KeySizes::new(1024, 4096).unwrap();
    assert!(sizes.contains(1024) && sizes.contains(4096) && !sizes.contains(4097) && !sizes.contains(1023));
}

#[test]
fn nonce_of_an_hba_only_set_is_no_key() {
    let nonce = crate::der::encode_nonce(&[0xa5; 48]);
    let sizes = KeySizes::default();
    assert_eq!(public(&nonce), Err(KeyError::Size { found: 384, sizes }));
}

#[test]
fn even_modulus_is_refused() {
    let mut octets = modulus(1024);
    *octets.last_mut().unwrap() -= 1;
    assert_eq!(public(&spki_of(&octets, EXPONENT)), Err(KeyError::EvenModulus));
}

#[test]
fn public_exponent_is_odd_and_of_2_to_33_bits() {
    let modulus = modulus(1024);
    for (exponent, error) in [
        (&hex!("00")[..], KeyError::ExponentSize { found: 0 }),
        (&hex!("01"), KeyError::ExponentSize { found: 1 }),
        (&hex!("02"), KeyError::EvenExponent),
        (&hex!("010000"), KeyError::EvenExponent),
        (&hex!("0200000001"), KeyError::ExponentSize { found: 34 }),
        (&[0x7f; 128], KeyError::ExponentSize { found: 1023 }),
    ] {
        assert_eq!(public(&spki_of(&modulus, &tlv(INTEGER, exponent))), Err(error));
    }
    for exponent in [&hex!("03")[..], &hex!("11"), &hex!("01ffffffff")] {
        assert!(public(&spki_of(&modulus, &tlv(INTEGER, exponent))).is_ok());
    }
}

#[test]
fn octets_left_over_at_any_level_are_refused() {
    let good = tlv(SEQUENCE, &[&modulus(1024), EXPONENT].concat());
    let trailing = |field| Err(KeyError::Trailing { field, octets: 2 });
    let after_all = [spki(ALGORITHM, &good), vec![5, 0]].concat();
    assert_eq!(public(&after_all), trailing(KeyField::SubjectPublicKeyInfo));

    let bit_string = tlv(BIT_STRING, &[&[0], &good[..]].concat());
    let after_bit_string = tlv(SEQUENCE, &[ALGORITHM, &bit_string, &[5, 0]].concat());
    assert_eq!(public(&after_bit_string), trailing(KeyField::SubjectPublicKeyInfo));

    let in_bit_string = spki(ALGORITHM, &[&good[..], &[5, 0]].concat());
    assert_eq!(public(&in_bit_string), trailing(KeyField::RsaPublicKey));

    let in_rsa_public_key = tlv(SEQUENCE, &[&modulus(1024), EXPONENT, &[5, 0]].concat());
    assert_eq!(
        public(&spki(ALGORITHM, &in_rsa_public_key)),
        trailing(KeyField::RsaPublicKey)
    );

    let in_algorithm = hex!("300f 0609 2a864886f70d010101 0500 0500");
    assert_eq!(
        public(&spki(&in_algorithm, &good)),
        trailing(KeyField::AlgorithmIdentifier)
    );

    let in_parameters = hex!("300f 0609 2a864886f70d010101 0502 0000");
    assert_eq!(
        public(&spki(&in_parameters, &good)),
        trailing(KeyField::AlgorithmParameters)
    );
}

#[test]
fn other_algorithms_and_parameters_are_refused() {
    let good = tlv(SEQUENCE, &[&modulus(1024), EXPONENT].concat());
    for (identifier, found) in [
        (&hex!("300d 0609 2a864886f70d01010a 0500")[..], "1.2.840.113549.1.1.10"),
        (
            &hex!("3013 0607 2a8648ce3d0201 0608 2a8648ce3d030107"),
            "1.2.840.10045.2.1",
        ),
        (&hex!("3004 0600 0500"), "an invalid one"),
        (&hex!("3005 0601 80 0500"), "an invalid one"),
    ] {
        let found = found.to_string();
        assert_eq!(public(&spki(identifier, &good)), Err(KeyError::Algorithm { found }));
    }
    let absent = hex!("300b 0609 2a864886f70d010101");
    let error = DerError::Truncated {
        needed: 2,
        available: 0,
    };
    let field = KeyField::AlgorithmParameters;
    assert_eq!(public(&spki(&absent, &good)), Err(KeyError::Der { field, error }));
    let sequence = hex!("300d 0609 2a864886f70d010101 3000");
    let error = DerError::Tag {
        expected: 0x05,
        found: 0x30,
    };
    assert_eq!(public(&spki(&sequence, &good)), Err(KeyError::Der { field, error }));
}

#[test]
fn bit_string_has_no_unused_bits() {
    let good = tlv(SEQUENCE, &[&modulus(1024), EXPONENT].concat());
    for found in [1, 7, 8, 255] {
        let bit_string = tlv(BIT_STRING, &[&[found], &good[..]].concat());
        let octets = tlv(SEQUENCE, &[ALGORITHM, &bit_string].concat());
        assert_eq!(public(&octets), Err(KeyError::UnusedBits { found }));
    }
    let octets = tlv(SEQUENCE, &[ALGORITHM, &hex!("0300")].concat());
    let error = DerError::Truncated {
        needed: 1,
        available: 0,
    };
    let field = KeyField::SubjectPublicKey;
    assert_eq!(public(&octets), Err(KeyError::Der { field, error }));
}

#[test]
fn integers_are_positive_and_of_the_shortest_form() {
    let good = modulus(1024);
    let content = &good[3..];
    assert_eq!(content[0], 0, "the sign");
    let field = KeyField::Modulus;
    let negative = tlv(INTEGER, &content[1..]);
    assert_eq!(public(&spki_of(&negative, EXPONENT)), Err(KeyError::Negative { field }));
    let longer = tlv(INTEGER, &[&[0], content].concat());
    let not_minimal = Err(KeyError::IntegerNotMinimal { field });
    assert_eq!(public(&spki_of(&longer, EXPONENT)), not_minimal);

    let field = KeyField::PublicExponent;
    for (exponent, error) in [
        (&hex!("00 010001")[..], KeyError::IntegerNotMinimal { field }),
        (&hex!("00 00"), KeyError::IntegerNotMinimal { field }),
        (&hex!(""), KeyError::IntegerNotMinimal { field }),
        (&hex!("81"), KeyError::Negative { field }),
        (&hex!("ff ff"), KeyError::Negative { field }),
    ] {
        assert_eq!(public(&spki_of(&good, &tlv(INTEGER, exponent))), Err(error));
    }
}

#[test]
fn lengths_that_der_forbids_are_refused_at_any_level() {
    let der = |field, error| Err(KeyError::Der { field, error });
    // The header of RSAPublicKey is 30 81 89: within the BIT STRING, give it in other forms.
    let content = [&modulus(1024)[..], EXPONENT].concat();
    let field = KeyField::RsaPublicKey;
    assert_eq!(content.len(), 0x89);
    for (header, error) in [
        (&hex!("3082 0089")[..], DerError::LengthNotMinimal),
        (&hex!("3080"), DerError::IndefiniteLength),
        (&hex!("3083 000089"), DerError::TooLong { length_octets: 3 }),
        (&hex!("3084 ffffff89"), DerError::TooLong { length_octets: 4 }),
    ] {
        let octets = spki(ALGORITHM, &[header, &content].concat());
        assert_eq!(public(&octets), der(field, error), "{header:02x?}");
    }
    let error = DerError::Truncated {
        needed: 3 + 0x8a,
        available: 3 + 0x89,
    };
    let octets = spki(ALGORITHM, &[&hex!("3081 8a")[..], &content].concat());
    assert_eq!(public(&octets), der(field, error));
}

#[test]
fn generated_key_reads_back_what_it_writes() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    // Sizes that are no multiple of 8, 16 or 64 too.
    for bits in [1024, 1025, 1086] {
        let key = PrivateKey::generate(bits, KeySizes::default(), &mut rng).unwrap();
        assert_eq!(key.public_key().bits(), bits);
        let pem = key.to_pkcs8_pem();
        let again = read(&pem).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.to_pkcs8_pem(), pem);
    }
}

#[test]
fn same_seed_makes_the_same_key() {
    let [one, two] = [7, 7].map(|seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        PrivateKey::generate(1024, KeySizes::default(), &mut rng).unwrap()
    });
    assert_eq!(one.to_pkcs8_pem(), two.to_pkcs8_pem());
}

#[test]
fn no_key_is_generated_outside_the_sizes() {
    let sizes = KeySizes::default();
    for found in [0, 512, 1023, 3073, usize::MAX] {
        let key = PrivateKey::generate(found, sizes, &mut ChaCha20Rng::seed_from_u64(1));
        assert_eq!(key.unwrap_err(), KeyError::Size { found, sizes });
    }
}

#[test]
fn private_key_is_written_as_openssl_wrote_it() {
    for pem in [KEY_1024, KEY_2048, KEY_3072, EXPONENT_3] {
        assert_eq!(*read(pem).unwrap().to_pkcs8_pem(), pem);
        assert!(PrivateKey::from_pkcs8_der(&der(pem), KeySizes::default()).is_ok());
    }
}

#[test]
fn text_before_the_block_and_line_ends_of_any_kind_do_not_matter() {
    let expected = read(KEY_1024).unwrap();
    let text = format!("A key.\nFor tests.\n{KEY_1024}");
    assert_eq!(read(&text).unwrap().public_key(), expected.public_key());
    let text = KEY_1024.replace('\n', "\r\n");
    assert_eq!(read(&text).unwrap().public_key(), expected.public_key());
    let text = KEY_1024.trim_end();
    assert_eq!(read(text).unwrap().public_key(), expected.public_key());
}

#[test]
fn other_contents_of_a_key_file_are_told_apart() {
    let label = |label: &str| KeyError::OtherPem { label: label.into() };
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (text, error) in [
        ("", KeyError::NoPem),
        ("no key", KeyError::NoPem),
        ("-----BEGIN PRIVATE KEY", KeyError::NoPem),
        ("-----BEGIN \u{1b}[31mKEY-----", KeyError::NoPem),
        ("-----BEGIN PRIVATE KEY-----", KeyError::PemBody),
        (
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
            KeyError::PemBody,
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAA:A\n-----END PRIVATE KEY-----\n",
            KeyError::PemBody,
        ),
        (
            include_str!("../../testdata/test-encrypted.pem"),
            KeyError::EncryptedPem,
        ),
        (include_str!("../../testdata/test-pkcs1.pem"), KeyError::Pkcs1Pem),
        (legacy, KeyError::Pkcs1Pem),
        (include_str!("../../testdata/test-public.pem"), KeyError::PublicKeyPem),
        (include_str!("../../testdata/test-sec1.pem"), label("EC PRIVATE KEY")),
        ("-----BEGIN CERTIFICATE-----\nAAAA", label("CERTIFICATE")),
    ] {
        assert_eq!(read(text).unwrap_err(), error, "{text}");
    }
    let two = format!("{KEY_1024}{KEY_2048}");
    assert_eq!(read(&two).unwrap_err(), KeyError::PemBody);
}

#[test]
fn private_keys_of_another_kind_or_size_are_refused() {
    let sizes = KeySizes::default();
    let algorithm = |found: &str| KeyError::Algorithm { found: found.into() };
    for (pem, error) in [
        (
            include_str!("../../testdata/test-rsa-512.pem"),
            KeyError::Size { found: 512, sizes },
        ),
        (
            include_str!("../../testdata/test-rsa-pss.pem"),
            algorithm("1.2.840.113549.1.1.10"),
        ),
        (
            include_str!("../../testdata/test-ec.pem"),
            algorithm("1.2.840.10045.2.1"),
        ),
        (
            include_str!("../../testdata/test-three-primes-2048.pem"),
            KeyError::MultiPrime,
        ),
        (
            include_str!("../../testdata/test-exponent-35-bits.pem"),
            KeyError::ExponentSize { found: 35 },
        ),
    ] {
        assert_eq!(read(pem).unwrap_err(), error);
    }
}

/// The numbers of RSAPrivateKey behind its version, as INTEGERs.
fn numbers(pkcs8: &[u8]) -> Vec<Vec<u8>> {
    let info = rsa::pkcs8::PrivateKeyInfoRef::try_from(pkcs8).unwrap();
    let key = rsa::pkcs1::RsaPrivateKeyRef::try_from(info.private_key.as_bytes()).unwrap();
    let numbers = [
        key.modulus,
        key.public_exponent,
        key.private_exponent,
        key.prime1,
        key.prime2,
        key.exponent1,
        key.exponent2,
        key.coefficient,
    ];
    numbers.map(|number| integer(number.as_bytes())).into()
}

fn integer(digits: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if digits[0] & 0x80 != 0 { &[0] } else { &[] };
    tlv(INTEGER, &[sign, digits].concat())
}

/// PKCS #8 of these INTEGERs, and what else is to stand behind the privateKey.
fn pkcs8(numbers: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
    let version = tlv(INTEGER, &[0]);
    let key = tlv(SEQUENCE, &[&version[..], &numbers.concat()].concat());
    tlv(SEQUENCE, &[&version, ALGORITHM, &tlv(0x04, &key), behind].concat())
}

#[test]
fn numbers_that_do_not_belong_together_are_refused() {
    let good = numbers(&der(KEY_1024));
    let other = numbers(&der(include_str!("../../testdata/test-key-1024-other.pem")));
    let read = |numbers: &[Vec<u8>]| PrivateKey::from_pkcs8_der(&pkcs8(numbers, &[]), KeySizes::default());
    assert!(read(&good).is_ok());
    for index in [0, 2, 3, 4, 5, 6, 7] {
        let mut numbers = good.clone();
        numbers[index].clone_from(&other[index]);
        assert_eq!(read(&numbers).unwrap_err(), KeyError::Inconsistent, "number {index}");
        numbers[index] = tlv(INTEGER, &[1]);
        assert!(read(&numbers).is_err(), "number {index}");
        numbers[index] = tlv(INTEGER, &[0]);
        assert!(read(&numbers).is_err(), "number {index}");
        numbers[index] = tlv(INTEGER, &[0x7f; 1000]);
        assert!(read(&numbers).is_err(), "number {index}");
    }
    let mut swapped = good.clone();
    swapped.swap(3, 4);
    assert_eq!(read(&swapped).unwrap_err(), KeyError::Inconsistent);
    let mut exponent = good.clone();
    exponent[1] = tlv(INTEGER, &[3]);
    assert_eq!(read(&exponent).unwrap_err(), KeyError::Inconsistent);
}

#[test]
fn two_equal_primes_are_refused() {
    // The square of a prime, with exponents that fit each other modulo the prime less 1.
    let equal = include_str!("../../testdata/test-equal-primes.pem");
    assert_eq!(read(equal).unwrap_err(), KeyError::Inconsistent);
}

#[test]
fn attributes_are_ignored_and_other_octets_refused() {
    let good = numbers(&der(KEY_1024));
    let read = |behind: &[u8]| PrivateKey::from_pkcs8_der(&pkcs8(&good, behind), KeySizes::default());
    assert!(read(&hex!("a000")).is_ok());
    let field = KeyField::Attributes;
    let error = DerError::Tag {
        expected: 0xa0,
        found: 0x05,
    };
    assert_eq!(read(&hex!("0500")).unwrap_err(), KeyError::Der { field, error });
    let field = KeyField::PrivateKeyInfo;
    assert_eq!(
        read(&hex!("a000 0500")).unwrap_err(),
        KeyError::Trailing { field, octets: 2 }
    );
    let octets = [&pkcs8(&good, &[])[..], &[0]].concat();
    let trailing = PrivateKey::from_pkcs8_der(&octets, KeySizes::default());
    assert_eq!(trailing.unwrap_err(), KeyError::Trailing { field, octets: 1 });
}

#[test]
fn nothing_secret_is_shown() {
    let key = read(KEY_1024).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey { bits: 1024, .. }");
    assert_eq!(format!("{:?}", key.public_key()), "PublicKey { bits: 1024 }");
}

/// A key and a place in it.
fn place() -> impl Strategy<Value = (Vec<u8>, prop::sample::Index, u8)> {
    (
        Just(read(KEY_1024).unwrap().public_key().spki().to_vec()),
        any::<prop::sample::Index>(),
        1..=255_u8,
    )
}

proptest! {
    /// Ours is the stricter reader, and the two never read different numbers.
    #[test]
    fn what_is_accepted_is_accepted_by_another_reader((mut octets, place, change) in place()) {
        let place = place.index(octets.len());
        octets[place] ^= change;
        if let Ok(key) = public(&octets) {
            prop_assert_eq!(key.spki(), &octets[..]);
            prop_assert_eq!(&key.rsa, &RsaPublicKey::from_public_key_der(&octets).unwrap());
        }
    }

    #[test]
    fn key_cut_short_is_refused((octets, place, _) in place()) {
        prop_assert!(public(&octets[..place.index(octets.len())]).is_err());
    }

    #[test]
    fn octets_never_panic(octets: Vec<u8>) {
        let _ = public(&octets);
        let _ = PrivateKey::from_pkcs8_der(&octets, KeySizes::default());
    }
}
