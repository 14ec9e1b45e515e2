//! RSA keys: which sizes are accepted, the public key of CGA Parameters, the private key and the form it is kept in.

use alloc::string::{String, ToString};
use core::fmt;

use rsa::pkcs8::ObjectIdentifier;

mod error;
mod private;
mod public;
mod reader;

pub use error::{KeyError, KeyField};
pub use private::PrivateKey;
pub use public::PublicKey;

/// The sizes of RSA keys that are accepted, in bits of the modulus.
///
/// By default 1024 to 3072. RFC 3972 section 5 says that an implementation for SEND should process 384 to 2048 bits, and
/// may more. Below 1024 bits a key binds nothing: RSA-768 was factored in 2009. 3072 bits are the largest usual size with
/// which an I2bis (RFC 5533 section 5.9) of a set of two prefixes fits 1280 octets with parameters and signature: those
/// take 471 and 384 octets, and with 4096 bits 599 and 512. A peer chooses the size, and the time to verify its signature
/// grows with the square of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySizes {
    min: usize,
    max: usize,
}

impl KeySizes {
    /// No lower bound is below this, in bits.
    pub const FLOOR: usize = 1024;
    /// No upper bound is above this, in bits: beyond it key and signature leave a message of 1280 octets next to no room.
    pub const CEILING: usize = 4096;

    /// From `min` to `max` bits, both included.
    pub const fn new(min: usize, max: usize) -> Result<Self, KeyError> {
        if min < Self::FLOOR || min > max || max > Self::CEILING {
            return Err(KeyError::Sizes { min, max });
        }
        Ok(Self { min, max })
    }

    /// The least number of bits.
    pub const fn min(&self) -> usize {
        self.min
    }

    /// The greatest number of bits.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Whether a key of `bits` bits is accepted.
    pub const fn contains(&self, bits: usize) -> bool {
        self.min <= bits && bits <= self.max
    }
}

impl Default for KeySizes {
    fn default() -> Self {
        Self {
            min: Self::FLOOR,
            max: 3072,
        }
    }
}

impl fmt::Display for KeySizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} bits", self.min, self.max)
    }
}

/// The content of an OBJECT IDENTIFIER as people read it.
fn dotted(content: &[u8]) -> String {
    ObjectIdentifier::from_bytes(content).map_or_else(|_| "an invalid one".to_string(), |oid| oid.to_string())
}

#[cfg(test)]
mod tests;
