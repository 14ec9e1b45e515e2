//! CGA signatures (RFC 3972 section 6) and the one over a Shim6 locator list (RFC 5533 section 5.15.5).

use alloc::vec::Vec;
use core::{fmt, net::Ipv6Addr};

use rand_core::CryptoRng;
use rsa::Pkcs1v15Sign;
use sha1::{Digest, Sha1};

use crate::{
    error::VerifyError,
    key::{KeyError, KeySizes, PrivateKey, PublicKey},
    parameters::CgaParametersRef,
    sec::Sec,
};

/// A CGA Message Type tag (RFC 3972 section 8): 128 bits, in network order, that keep the signed messages of different
/// protocols apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageTypeTag(pub [u8; 16]);

impl MessageTypeTag {
    /// The tag of Shim6 (RFC 5533 section 5.15.5).
    pub const SHIM6: Self = Self(0x4a30_5662_4858_574b_3655_416f_506a_6d48_u128.to_be_bytes());
}

impl fmt::Debug for MessageTypeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageTypeTag({:#034x})", u128::from_be_bytes(self.0))
    }
}

/// Why a signature is not made or does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The list of locators is empty.
    #[error("no locators: expected at least one that is verified by CGA")]
    NoLocators,
    /// The signature is not as long as the key's modulus.
    #[error("signature: expected {expected} octets, found {found}")]
    Length {
        /// Octets of the modulus.
        expected: usize,
        /// Octets of the signature.
        found: usize,
    },
    /// The signature is not this key's over this message.
    #[error("the signature does not belong to this key and this message")]
    Mismatch,
    /// The signature that was made does not verify: the key is no key, or the computation went wrong.
    #[error("the signature just made does not verify; the private key is unfit")]
    NotMade,
}

/// Why a signed list of locators does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedLocatorsError {
    /// The ULID was not made from the parameters.
    #[error("ULID: {0}")]
    Ulid(#[from] VerifyError),
    /// The parameters are those of an HBA-only set, so they have a nonce in the place of a public key.
    #[error("no public key in the parameters, the Multi-Prefix extension's P flag is 0")]
    NoPublicKey,
    /// What is in the public key field is no key that is accepted.
    #[error("public key: {0}")]
    Key(#[from] KeyError),
    /// The signature does not verify.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl PrivateKey {
    /// Signs the type tag and the message behind it (RFC 3972 section 6): RSASSA-PKCS1-v1_5 with SHA-1. The message is
    /// given in pieces.
    ///
    /// The signature is as long as the modulus. It depends on key and message only: `rng` blinds the computation, so that
    /// its time tells nothing of the key. Before a signature is given out it is verified, because one that went wrong
    /// would give the primes away.
    pub fn sign(
        &self,
        tag: MessageTypeTag,
        message: &[&[u8]],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, SignatureError> {
        self.sign_hash(Hash::of(tag, message), rng)
    }

    /// Signs a locator list: its generation and, in the list's order, those of its locators whose verification method is
    /// CGA (RFC 5533 section 5.15.5).
    ///
    /// At least one: with no such locator there is no signature in the message.
    pub fn sign_locators(
        &self,
        generation: u32,
        locators: &[Ipv6Addr],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, SignatureError> {
        self.sign_hash(Hash::of_locators(generation, locators)?, rng)
    }

    fn sign_hash(&self, hash: Hash, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, SignatureError> {
        // Given a generator `rsa` blinds, and in any case it verifies.
        self.rsa
            .sign_with_rng(rng, scheme(), &hash.0)
            .map_err(|_| SignatureError::NotMade)
    }
}

impl PublicKey {
    /// Verifies what [`PrivateKey::sign`] gives.
    ///
    /// That the key is the address owner's is another check (RFC 3972 section 5).
    pub fn verify(&self, tag: MessageTypeTag, message: &[&[u8]], signature: &[u8]) -> Result<(), SignatureError> {
        self.verify_hash(Hash::of(tag, message), signature)
    }

    /// Verifies what [`PrivateKey::sign_locators`] gives.
    ///
    /// That the key is the ULID owner's is another check: [`CgaParametersRef::verify_signed_locators`] makes both.
    pub fn verify_locators(
        &self,
        generation: u32,
        locators: &[Ipv6Addr],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        self.verify_hash(Hash::of_locators(generation, locators)?, signature)
    }

    fn verify_hash(&self, hash: Hash, signature: &[u8]) -> Result<(), SignatureError> {
        let (expected, found) = (self.signature_len(), signature.len());
        if found != expected {
            return Err(SignatureError::Length { expected, found });
        }
        self.rsa
            .verify(scheme(), &hash.0, signature)
            .map_err(|_| SignatureError::Mismatch)
    }
}

impl CgaParametersRef<'_> {
    /// Verifies that the owner of `ulid` signed the list of `locators` that are to be verified by CGA: the ULID against
    /// these parameters, and the signature against the public key in them (RFC 3972 section 6, RFC 5533 section 7.2).
    /// Gives the ULID's Sec.
    ///
    /// Parameters with a Multi-Prefix extension are those of a set (RFC 5535): the ULID may be any of its members, and
    /// the P flag has to say that there is a public key. Without the extension the ULID is a CGA of its own. `sizes`
    /// bounds what a peer can make us compute, as it chooses the key.
    ///
    /// The signature binds the locators to the key and to nothing else: who has seen it can show it again. So the
    /// generation has to be compared with the last one, and a locator is not known to be reachable.
    pub fn verify_signed_locators(
        &self,
        ulid: &Ipv6Addr,
        generation: u32,
        locators: &[Ipv6Addr],
        signature: &[u8],
        sizes: KeySizes,
    ) -> Result<Sec, SignedLocatorsError> {
        // What costs least comes first.
        let sec = match self.multi_prefix() {
            Some(set) if !set.has_public_key() => return Err(SignedLocatorsError::NoPublicKey),
            Some(_) => self.verify_hba(ulid)?,
            None => self.verify_cga(ulid)?,
        };
        let key = PublicKey::from_spki(self.public_key(), sizes)?;
        key.verify_locators(generation, locators, signature)?;
        Ok(sec)
    }
}

/// What is signed: the SHA-1 hash of a type tag and a message.
struct Hash([u8; 20]);

impl Hash {
    fn of(tag: MessageTypeTag, message: &[&[u8]]) -> Self {
        let mut hash = Sha1::new_with_prefix(tag.0);
        for piece in message {
            hash.update(piece);
        }
        Self(hash.finalize().into())
    }

    fn of_locators(generation: u32, locators: &[Ipv6Addr]) -> Result<Self, SignatureError> {
        if locators.is_empty() {
            return Err(SignatureError::NoLocators);
        }
        let mut hash = Sha1::new_with_prefix(MessageTypeTag::SHIM6.0);
        hash.update(generation.to_be_bytes());
        for locator in locators {
            hash.update(locator.octets());
        }
        Ok(Self(hash.finalize().into()))
    }
}

fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign::new::<Sha1>()
}

#[cfg(test)]
mod tests;
