//! Why a key is refused.

use alloc::string::String;
use core::fmt;

use super::KeySizes;
use crate::der::DerError;

/// A part of an encoded key: SubjectPublicKeyInfo (RFC 5280 section 4.1), PrivateKeyInfo (RFC 5208 section 5), and the
/// RSAPublicKey and RSAPrivateKey in them (RFC 8017 appendix A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyField {
    /// The whole public key.
    SubjectPublicKeyInfo,
    /// The whole private key.
    PrivateKeyInfo,
    /// The version of PrivateKeyInfo.
    PrivateKeyInfoVersion,
    /// The AlgorithmIdentifier.
    AlgorithmIdentifier,
    /// The algorithm in the AlgorithmIdentifier, an OBJECT IDENTIFIER.
    Algorithm,
    /// The parameters in the AlgorithmIdentifier, NULL.
    AlgorithmParameters,
    /// The subjectPublicKey, a BIT STRING.
    SubjectPublicKey,
    /// The privateKey, an OCTET STRING.
    PrivateKey,
    /// The attributes behind the privateKey.
    Attributes,
    /// The RSAPublicKey.
    RsaPublicKey,
    /// The RSAPrivateKey.
    RsaPrivateKey,
    /// The version of RSAPrivateKey.
    RsaPrivateKeyVersion,
    /// The modulus.
    Modulus,
    /// The public exponent.
    PublicExponent,
    /// The private exponent.
    PrivateExponent,
    /// The first prime factor.
    Prime1,
    /// The second prime factor.
    Prime2,
    /// The private exponent modulo the first prime less 1.
    Exponent1,
    /// The private exponent modulo the second prime less 1.
    Exponent2,
    /// The inverse of the second prime modulo the first.
    Coefficient,
}

impl fmt::Display for KeyField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SubjectPublicKeyInfo => "SubjectPublicKeyInfo",
            Self::PrivateKeyInfo => "PrivateKeyInfo",
            Self::PrivateKeyInfoVersion => "version of PrivateKeyInfo",
            Self::AlgorithmIdentifier => "AlgorithmIdentifier",
            Self::Algorithm => "algorithm",
            Self::AlgorithmParameters => "parameters of the algorithm",
            Self::SubjectPublicKey => "subjectPublicKey",
            Self::PrivateKey => "privateKey",
            Self::Attributes => "attributes",
            Self::RsaPublicKey => "RSAPublicKey",
            Self::RsaPrivateKey => "RSAPrivateKey",
            Self::RsaPrivateKeyVersion => "version of RSAPrivateKey",
            Self::Modulus => "modulus",
            Self::PublicExponent => "publicExponent",
            Self::PrivateExponent => "privateExponent",
            Self::Prime1 => "prime1",
            Self::Prime2 => "prime2",
            Self::Exponent1 => "exponent1",
            Self::Exponent2 => "exponent2",
            Self::Coefficient => "coefficient",
        })
    }
}

/// Why a key is not read or not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Bounds that no key fits, or that go beyond those of [`KeySizes`].
    #[error(
        "key sizes from {min} to {max} bits: expected a range between {} and {} bits",
        KeySizes::FLOOR,
        KeySizes::CEILING
    )]
    Sizes {
        /// The lower bound given, in bits.
        min: usize,
        /// The upper bound given, in bits.
        max: usize,
    },
    /// The modulus is shorter or longer than the [`KeySizes`] allow.
    #[error("RSA modulus: expected {sizes}, found {found} bits")]
    Size {
        /// Bits of the modulus.
        found: usize,
        /// What is allowed.
        sizes: KeySizes,
    },
    /// A part is not in the distinguished encoding rules, or something else is in its place.
    #[error("{field}: {error}")]
    Der {
        /// The part.
        field: KeyField,
        /// What is wrong with it.
        error: DerError,
    },
    /// A part is followed by something else, or holds more than belongs in it.
    #[error("{field}: expected its end, found {octets} more octets")]
    Trailing {
        /// The part.
        field: KeyField,
        /// How many octets follow.
        octets: usize,
    },
    /// The subjectPublicKey does not end on a whole octet.
    #[error("subjectPublicKey: expected no unused bits, found {found}")]
    UnusedBits {
        /// How many bits it says are unused.
        found: u8,
    },
    /// A number is negative.
    #[error("{field}: expected a positive INTEGER, found a negative one")]
    Negative {
        /// The number.
        field: KeyField,
    },
    /// A number takes more octets than it needs.
    #[error("{field}: expected the shortest form of the INTEGER, found a longer one")]
    IntegerNotMinimal {
        /// The number.
        field: KeyField,
    },
    /// A key of another algorithm (RFC 3972 section 3).
    #[error("algorithm: expected rsaEncryption (1.2.840.113549.1.1.1), found {found}")]
    Algorithm {
        /// The algorithm found, as dotted numbers.
        found: String,
    },
    /// A version that is not known.
    #[error("{field}: expected 0, found another")]
    Version {
        /// Which version.
        field: KeyField,
    },
    /// The modulus is even, so it is no product of two large primes.
    #[error("modulus: expected an odd number, found an even one")]
    EvenModulus,
    /// The public exponent is even, so it has no inverse.
    #[error("publicExponent: expected an odd number, found an even one")]
    EvenExponent,
    /// The public exponent is 1, or so large that its only effect is a slow verification.
    #[error("publicExponent: expected 2 to 33 bits, found {found}")]
    ExponentSize {
        /// Bits of the exponent.
        found: usize,
    },
    /// The private key has more than two primes.
    #[error("RSAPrivateKey: expected two primes, found a key of more")]
    MultiPrime,
    /// The numbers of the private key are not those of one key.
    #[error("RSAPrivateKey: expected the numbers of one key, found others")]
    Inconsistent,
    /// Text without any PEM block.
    #[error("expected a PEM block \"PRIVATE KEY\", found no PEM block")]
    NoPem,
    /// A private key under a passphrase.
    #[error("expected a PEM block \"PRIVATE KEY\", found an encrypted private key")]
    EncryptedPem,
    /// A private key in the older form that is for RSA only, PKCS #1.
    #[error("expected a PEM block \"PRIVATE KEY\" (PKCS #8), found \"RSA PRIVATE KEY\" (PKCS #1)")]
    Pkcs1Pem,
    /// A public key.
    #[error("expected a PEM block \"PRIVATE KEY\", found a public key")]
    PublicKeyPem,
    /// Something else.
    #[error("expected a PEM block \"PRIVATE KEY\", found \"{label}\"")]
    OtherPem {
        /// What the block is labelled with.
        label: String,
    },
    /// The block is not well-formed.
    #[error(
        "PEM block \"PRIVATE KEY\": expected lines of 64 base64 characters and nothing after them, found otherwise"
    )]
    PemBody,
}
