//! The bodies for keys and signatures.

use core::{convert::Infallible, net::Ipv6Addr};

use rand_core::{TryCryptoRng, TryRng};
use rsa::{RsaPublicKey, pkcs8::DecodePublicKey};

use super::without_bit;
use crate::{
    CgaParametersRef, KeySizes, MessageTypeTag, PrivateKey, PublicKey, Sec, SignatureError, SignedLocatorsError,
};

/// The key that the seeds of [`signature`] are signed with.
const TEST_KEY: &str = include_str!("../../testdata/test-key-1024.pem");

/// A SubjectPublicKeyInfo: what is accepted is given back as it was, and another reader reads the same key.
pub fn public_key(octets: &[u8]) {
    let sizes = KeySizes::default();
    let Ok(key) = PublicKey::from_spki(octets, sizes) else {
        return;
    };
    assert_eq!(key.spki(), octets);
    assert_eq!(PublicKey::from_spki(key.spki(), sizes).as_ref(), Ok(&key));
    assert!(sizes.contains(key.bits()));
    let another = RsaPublicKey::from_public_key_der(octets).expect("is the more tolerant reader");
    assert_eq!(key.rsa, another);
    // Wider bounds accept it, too.
    let widest = KeySizes::new(KeySizes::FLOOR, KeySizes::CEILING).expect("the bounds themselves");
    assert_eq!(PublicKey::from_spki(octets, widest), Ok(key));
}

/// A private key in DER, or in PEM: what is accepted is written and read again, and what it signs verifies.
pub fn private_key(octets: &[u8]) {
    let sizes = KeySizes::default();
    let from_der = PrivateKey::from_pkcs8_der(octets, sizes);
    let from_pem = core::str::from_utf8(octets).map(|text| PrivateKey::from_pkcs8_pem(text, sizes));
    for key in [Some(from_der), from_pem.ok()].into_iter().flatten().flatten() {
        let pem = key.to_pkcs8_pem();
        let again = PrivateKey::from_pkcs8_pem(&pem, sizes).expect("what is written is read");
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.to_pkcs8_pem(), pem);
        public_key(key.public_key().spki());

        let tag = MessageTypeTag([7; 16]);
        match key.sign(tag, &[b"message"], &mut Counter(1)) {
            Ok(signature) => assert_eq!(key.public_key().verify(tag, &[b"message"], &signature), Ok(())),
            // Its factors are not prime.
            Err(error) => assert_eq!(error, SignatureError::NotMade),
        }
    }
}

/// What a message brings for a signed locator list:
///
/// ```text
/// generation, 4 octets
/// number of locators, 1 octet, and then each of them, 16 octets
/// length of the signature, 2 octets, and then the signature
/// CGA Parameters, the rest
/// ```
///
/// Nothing verifies but what the test key signed, as no other private key is known. Gives whether it does.
pub fn signature(octets: &[u8]) -> bool {
    let Some((generation, locators, signature, parameters)) = split(octets) else {
        return false;
    };
    let Ok(view) = CgaParametersRef::parse(parameters) else {
        return false;
    };
    let sizes = KeySizes::default();
    let ulid = view.address(Sec::ZERO);
    let verify = |ulid: &Ipv6Addr, locators: &[Ipv6Addr]| {
        view.verify_signed_locators(ulid, generation, locators, signature, sizes)
    };
    let no_owner = verify(&without_bit(ulid), &locators);
    assert!(matches!(
        no_owner,
        Err(SignedLocatorsError::Ulid(_) | SignedLocatorsError::NoPublicKey)
    ));
    if verify(&ulid, &locators).is_err() {
        return false;
    }

    assert!(!locators.is_empty());
    assert!(view.multi_prefix().is_none_or(|set| set.has_public_key()));
    let test_key = PrivateKey::from_pkcs8_pem(TEST_KEY, sizes).expect("a key");
    assert_eq!(view.public_key(), test_key.public_key().spki(), "a forgery");
    let made = test_key.sign_locators(generation, &locators, &mut Counter(1));
    assert_eq!(made.as_deref(), Ok(signature));
    assert!(verify(&ulid, &locators[1..]).is_err());
    true
}

type Parts<'a> = (u32, alloc::vec::Vec<Ipv6Addr>, &'a [u8], &'a [u8]);

fn split(octets: &[u8]) -> Option<Parts<'_>> {
    let (generation, rest) = octets.split_first_chunk()?;
    let (&count, rest) = rest.split_first()?;
    let (locators, rest) = rest.split_at_checked(16 * usize::from(count))?;
    let (length, rest) = rest.split_first_chunk()?;
    let (signature, parameters) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (locators, _) = locators.as_chunks::<16>();
    let locators = locators.iter().copied().map(Ipv6Addr::from).collect();
    Some((u32::from_be_bytes(*generation), locators, signature, parameters))
}

/// Enough of a generator for blinding here, where nothing is secret.
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(1);
        Ok(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Infallible> {
        for octet in octets {
            *octet = (self.try_next_u64()? >> 56) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}
