//! CGAs and HBA sets against another SHA-1 and another DER reader.

use std::net::Ipv6Addr;

use pkcs1::RsaPublicKeyRef;
use pkcs1::der::asn1::AnyRef;
use pkcs1::der::{Decode, Encode, Tag};
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert, prop_assert_eq, proptest};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use sha1_smol::Sha1;
use shim6_cga::{Cga, HbaSearch, HbaSet, Sec, SubnetPrefix};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Octets of the CGA Parameters in front of the public key: modifier, subnet prefix, collision count (RFC 3972 section 3).
const MODIFIER: usize = 16;
const HEAD: usize = 16 + 8 + 1;

fn prefixes() -> impl Strategy<Value = Vec<SubnetPrefix>> {
    // Not those of multicast and loopback, which generation refuses.
    let prefix = any::<[u8; 8]>()
        .prop_map(SubnetPrefix::new)
        .prop_filter("a host's prefix", |prefix| {
            prefix.octets()[0] != 0xff && *prefix.octets() != [0; 8]
        });
    proptest::collection::btree_set(prefix, 1..8).prop_map(|prefixes| prefixes.into_iter().collect())
}

/// RFC 3972 section 5, over parameters taken apart by hand.
fn assert_verifies(address: Ipv6Addr, parameters: &[u8], sec: u8) -> Result<(), String> {
    let octets = address.octets();
    let same_prefix = parameters[MODIFIER..MODIFIER + 8] == octets[..8];
    let hash1 = Sha1::from(parameters).digest().bytes();
    // All bits but the three of Sec, u and g.
    let mask = [0x1c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let same_hash = (0..8).all(|octet| (octets[8 + octet] ^ hash1[octet]) & mask[octet] == 0);
    let mut without_prefix = parameters.to_vec();
    without_prefix[MODIFIER..HEAD].fill(0);
    let hash2 = Sha1::from(&without_prefix).digest().bytes();
    let zeros = hash2[..2 * usize::from(sec)].iter().all(|octet| *octet == 0);
    if same_prefix && same_hash && zeros && octets[8] >> 5 == sec && octets[8] & 3 == 0 {
        return Ok(());
    }
    Err(format!(
        "{address}: prefix {same_prefix}, Hash1 {same_hash}, Hash2 {zeros}"
    ))
}

/// The first modifier from `start` on whose Hash2 has 16 times `sec` zero bits (RFC 3972 section 4, steps 2 and 3).
fn first_modifier(start: u128, parameters: &[u8], sec: usize) -> u128 {
    let mut input = parameters.to_vec();
    input[MODIFIER..HEAD].fill(0);
    let mut modifier = start;
    loop {
        input[..MODIFIER].copy_from_slice(&modifier.to_be_bytes());
        if Sha1::from(&input).digest().bytes()[..2 * sec]
            .iter()
            .all(|octet| *octet == 0)
        {
            return modifier;
        }
        modifier = modifier.wrapping_add(1);
    }
}

/// RFC 5535 section 5: Ext Type 0x0012, Ext Len in octets, P and 31 reserved bits, then 8 octets a prefix.
fn multi_prefix_extension(prefixes: &[SubnetPrefix], p_flag: bool) -> Vec<u8> {
    let length = 4 + 8 * prefixes.len();
    let flags = if p_flag { 0x80 } else { 0 };
    let mut extension = vec![0, 0x12, (length >> 8) as u8, length as u8, flags, 0, 0, 0];
    prefixes
        .iter()
        .for_each(|prefix| extension.extend_from_slice(prefix.octets()));
    extension
}

/// A public key of up to 300 octets, into which neither generation nor verification looks.
fn public_key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(|content| {
        let any = AnyRef::new(Tag::Sequence, &content).expect("a short one");
        any.to_der().expect("a SEQUENCE")
    })
}

/// The public key and the octets behind it.
fn split_key(parameters: &[u8]) -> (&[u8], &[u8]) {
    let rest = &parameters[HEAD..];
    assert_eq!(rest[0], 0x30, "a SEQUENCE");
    assert!(rest[1] < 0x80, "a length of one octet");
    rest.split_at(2 + usize::from(rest[1]))
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn each_address_of_a_set_is_what_another_sha1_makes_it(prefixes in prefixes(), seed: u64, collisions in 0..=2u8) {
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut ChaCha12Rng::seed_from_u64(seed)).expect("a set");
        let set = set.with_collision_count(collisions).expect("a count up to 2");
        prop_assert_eq!(set.addresses().len(), prefixes.len());
        for (index, address) in set.addresses().iter().enumerate() {
            let parameters = set.parameters_for(index).expect("parameters for each address").to_vec();
            prop_assert_eq!(parameters[HEAD - 1], collisions);
            let verdict = assert_verifies(*address, &parameters, 0);
            prop_assert!(verdict.is_ok(), "{:?}", verdict);
        }
    }

    #[test]
    fn nonce_is_an_rsa_key_to_another_der_reader(seed: u64) {
        let prefix = [SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0])];
        let set = HbaSet::generate(&prefix, Sec::ZERO, &mut ChaCha12Rng::seed_from_u64(seed)).expect("a set");
        let parameters = set.parameters().to_vec();
        let (key, _) = split_key(&parameters);
        let key = SubjectPublicKeyInfoRef::from_der(key).expect("a SubjectPublicKeyInfo");
        prop_assert_eq!(key.algorithm.oid, RSA_ENCRYPTION);
        prop_assert!(key.algorithm.parameters.is_some_and(|any| any.is_null()));
        let octets = key.subject_public_key.as_bytes().expect("whole octets");
        let key = RsaPublicKeyRef::from_der(octets).expect("an RSAPublicKey");
        prop_assert_eq!(key.public_exponent.as_bytes(), [1, 0, 1]);
        // 384 random bits: fewer octets only by leading zeros, which DER does not allow.
        let modulus = key.modulus.as_bytes();
        prop_assert!(modulus.len() <= 48 && modulus.len() > 40, "{} octets", modulus.len());
    }

    #[test]
    fn multi_prefix_extension_lists_the_prefixes_in_order(prefixes in prefixes(), seed: u64) {
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut ChaCha12Rng::seed_from_u64(seed)).expect("a set");
        let parameters = set.parameters().to_vec();
        let (_, extension) = split_key(&parameters);
        prop_assert_eq!(extension, multi_prefix_extension(&prefixes, false));
    }

    #[test]
    fn each_address_of_a_set_with_a_key_is_what_another_sha1_makes_it(
        prefixes in prefixes(),
        key in public_key(),
        seed: u64,
        collisions in 0..=2u8,
    ) {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut search = HbaSearch::with_public_key(&prefixes, &key, Sec::ZERO, &mut rng).expect("a search");
        let set = search.step(1).expect("a set").with_collision_count(collisions).expect("a count up to 2");
        let modifier = set.parameters().modifier();
        let extension = multi_prefix_extension(&prefixes, true);
        for (index, (address, prefix)) in set.addresses().iter().zip(&prefixes).enumerate() {
            let parameters = set.parameters_for(index).expect("parameters for each address").to_vec();
            let expected = [&modifier[..], prefix.octets(), &[collisions], &key, &extension].concat();
            prop_assert_eq!(&parameters, &expected);
            let verdict = assert_verifies(*address, &parameters, 0);
            prop_assert!(verdict.is_ok(), "{:?}", verdict);
        }
    }

    #[test]
    fn cga_is_what_another_sha1_makes_it(
        prefixes in prefixes(),
        key in public_key(),
        seed: u64,
        collisions in 0..=2u8,
    ) {
        let extension = [0xff, 0xfd, 0, 1, seed as u8];
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let cga = Cga::generate(prefixes[0], &key, &extension, Sec::ZERO, &mut rng).expect("an address");
        let cga = cga.with_collision_count(collisions).expect("a count up to 2");
        let parameters = cga.parameters().to_vec();
        let modifier = cga.parameters().modifier();
        let expected = [&modifier[..], prefixes[0].octets(), &[collisions], &key, &extension].concat();
        prop_assert_eq!(&parameters, &expected);
        let verdict = assert_verifies(cga.address(), &parameters, 0);
        prop_assert!(verdict.is_ok(), "{:?}", verdict);
    }
}

#[test]
fn a_set_of_sec_1_has_16_zero_bits_of_hash2_by_another_sha1() {
    let prefixes = [1, 2].map(|last| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, last]));
    let set = HbaSet::generate(&prefixes, Sec::ONE, &mut ChaCha12Rng::seed_from_u64(1)).expect("a set");
    for (index, address) in set.addresses().iter().enumerate() {
        let parameters = set.parameters_for(index).expect("parameters for each address").to_vec();
        assert_eq!(assert_verifies(*address, &parameters, 1), Ok(()));
    }
}

#[test]
fn another_sha1_refuses_what_was_changed() {
    let prefix = [SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0])];
    let set = HbaSet::generate(&prefix, Sec::ZERO, &mut ChaCha12Rng::seed_from_u64(1)).expect("a set");
    let parameters = set.parameters().to_vec();
    for octet in 0..parameters.len() {
        let mut changed = parameters.clone();
        changed[octet] ^= 1;
        assert!(
            assert_verifies(set.addresses()[0], &changed, 0).is_err(),
            "octet {octet}"
        );
    }
}

/// The vectors that shim6-cga is tested with.
#[test]
fn known_addresses_are_what_another_sha1_makes_them() {
    let lines = include_str!("../../../cga/tests/addresses/vectors.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<_> = line.split(' ').collect();
        let [sec, start, parameters, addresses @ ..] = &fields[..] else {
            panic!("Sec, start, parameters, addresses: {line}");
        };
        let sec: u8 = sec.parse().expect("Sec");
        let start = u128::from_str_radix(start, 16).expect("a modifier");
        let octet = |at: usize| u8::from_str_radix(&parameters[at..at + 2], 16).expect("hexadecimal digits");
        let mut parameters: Vec<_> = (0..parameters.len()).step_by(2).map(octet).collect();
        let modifier = first_modifier(start, &parameters, usize::from(sec));
        assert_eq!(parameters[..MODIFIER], modifier.to_be_bytes(), "{line}");
        for address in addresses {
            let address: Ipv6Addr = address.parse().expect("an address");
            parameters[MODIFIER..HEAD - 1].copy_from_slice(&address.octets()[..8]);
            assert_eq!(assert_verifies(address, &parameters, sec), Ok(()), "{line}");
        }
    }
}
