//! Errors: malformed octets, failed verification, refused generation.

use core::{fmt, net::Ipv6Addr};

use crate::{
    format::{ExtensionType, MAX_COLLISION_COUNT},
    prefix::SubnetPrefix,
    sec::{Sec, UnsupportedSec},
};

/// A field of the CGA Parameters data structure (RFC 3972 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The 16-octet modifier.
    Modifier,
    /// The 8-octet subnet prefix.
    SubnetPrefix,
    /// The one-octet collision count.
    CollisionCount,
    /// The public key, a DER-encoded SubjectPublicKeyInfo.
    PublicKey,
    /// An extension field.
    Extension,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modifier => "modifier",
            Self::SubnetPrefix => "subnet prefix",
            Self::CollisionCount => "collision count",
            Self::PublicKey => "public key",
            Self::Extension => "extension field",
        })
    }
}

/// Why octets are not a CGA Parameters data structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The octets end inside a field.
    #[error("{field}: expected {needed} octets, found {available}")]
    Truncated {
        /// The field that is cut short.
        field: Field,
        /// Octets that the field, or as much of it as is known, takes.
        needed: usize,
        /// Octets that are left for it.
        available: usize,
    },
    /// The public key does not start with the tag of a SEQUENCE.
    #[error("public key: expected the DER tag 0x30 (SEQUENCE), found {found:#04x}")]
    PublicKeyTag {
        /// The tag found.
        found: u8,
    },
    /// The public key has a length in the indefinite form, which DER forbids.
    #[error("public key: expected a definite DER length, found the indefinite form")]
    PublicKeyIndefiniteLength,
    /// The public key's length takes more octets than it needs, which DER forbids.
    #[error("public key: expected the shortest form of the DER length, found a longer one")]
    PublicKeyLengthNotMinimal,
    /// The public key's length takes more than two octets.
    #[error("public key: expected a DER length of at most 2 octets, found one of {length_octets} octets")]
    PublicKeyTooLong {
        /// Octets that the length says it takes.
        length_octets: u8,
    },
    /// A public key given on its own is followed by something else.
    #[error("public key: expected nothing after the SEQUENCE, found {octets} octets")]
    PublicKeyTrailing {
        /// How many octets follow.
        octets: usize,
    },
    /// The Multi-Prefix extension's length does not fit a prefix list (RFC 5535 section 5).
    #[error("Multi-Prefix extension: expected a length of 4 + 8n octets with n of at least 1, found {found}")]
    MultiPrefixLength {
        /// The length found, in octets.
        found: usize,
    },
    /// A second Multi-Prefix extension, which would leave open whose prefixes count.
    #[error("extension field of type {kind}: expected at most one, found another")]
    DuplicateExtension {
        /// The type found twice.
        kind: ExtensionType,
    },
}

/// Which step of the verification failed (RFC 3972 section 5, RFC 5535 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// HBA only: the parameters have no Multi-Prefix extension.
    #[error("no Multi-Prefix extension in the parameters, so they define no HBA set")]
    NoMultiPrefix,
    /// HBA only: the address's prefix is not in the Multi-Prefix extension.
    #[error("the prefix {prefix} of the address is not in the Multi-Prefix extension")]
    PrefixNotInSet {
        /// The address's prefix.
        prefix: SubnetPrefix,
    },
    /// The collision count is out of range.
    #[error("collision count: expected at most {MAX_COLLISION_COUNT}, found {found}")]
    CollisionCount {
        /// The count found.
        found: u8,
    },
    /// CGA only: the parameters are those of an address under another prefix.
    #[error("the address has the prefix {address}, the parameters have {parameters}")]
    PrefixMismatch {
        /// The address's prefix.
        address: SubnetPrefix,
        /// The prefix in the parameters.
        parameters: SubnetPrefix,
    },
    /// The address's Sec has no registered meaning.
    #[error(transparent)]
    UnsupportedSec(#[from] UnsupportedSec),
    /// The interface identifier is not the hash of the parameters.
    #[error("the interface identifier is not the Hash1 of the parameters")]
    Hash1Mismatch,
    /// Hash2 does not start with the zero bits that Sec asks for.
    #[error("Hash2 does not start with the {} zero bits that Sec {sec} asks for", sec.hash2_zero_bits())]
    Hash2NotZero {
        /// The address's Sec.
        sec: Sec,
    },
}

impl VerifyError {
    /// The step of the RFC's procedure that failed: in RFC 3972 section 5, or for what only HBAs have in RFC 5535 section 7.2.
    pub const fn step(&self) -> &'static str {
        match self {
            Self::NoMultiPrefix | Self::PrefixNotInSet { .. } => "RFC 5535 section 7.2 step 1",
            Self::CollisionCount { .. } => "RFC 3972 section 5 step 1",
            Self::PrefixMismatch { .. } => "RFC 3972 section 5 step 2",
            Self::Hash1Mismatch => "RFC 3972 section 5 step 4",
            Self::UnsupportedSec(_) => "RFC 3972 section 5 step 5",
            Self::Hash2NotZero { .. } => "RFC 3972 section 5 step 7",
        }
    }
}

/// Why an address or a set of addresses is not generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The public key or the extension fields given are not well-formed.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// The list of prefixes is empty.
    #[error("no prefixes: expected at least one")]
    NoPrefixes,
    /// More prefixes than fit a message, see [`max_prefixes`](crate::max_prefixes).
    #[error(
        "{given} prefixes: expected at most {most} beside a public key field of {public_key_len} octets, \
         more do not fit a message of 1280 octets"
    )]
    TooManyPrefixes {
        /// How many were given.
        given: usize,
        /// How many fit.
        most: usize,
        /// Length of the public key field in octets.
        public_key_len: usize,
    },
    /// A prefix is listed twice.
    #[error("prefix {prefix} is given more than once")]
    DuplicatePrefix {
        /// The prefix.
        prefix: SubnetPrefix,
    },
    /// A prefix under which no host has an address, see [`SubnetPrefix::is_assignable`].
    #[error("prefix {prefix}: expected one that a host can have an address under, not multicast and not ::/64")]
    UnassignablePrefix {
        /// The prefix.
        prefix: SubnetPrefix,
    },
    /// The collision count asked for does not verify.
    #[error("collision count: expected at most {MAX_COLLISION_COUNT}, found {given}")]
    CollisionCount {
        /// The count asked for.
        given: u8,
    },
    /// Addresses were in use at each collision count (RFC 3972 section 4, step 8; RFC 5535 section 6, step 6.4).
    #[error(
        "{address} is in use, as were those before it: expected no duplicate at some collision count up to \
         {MAX_COLLISION_COUNT}; look for another host with the same parameters, or generate anew"
    )]
    TooManyCollisions {
        /// The last address found in use.
        address: Ipv6Addr,
    },
}
