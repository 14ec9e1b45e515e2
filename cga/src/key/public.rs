//! RSA public keys as the CGA Parameters hold them.

use alloc::boxed::Box;
use core::fmt;

use rsa::{BoxedUint, RsaPublicKey, traits::PublicKeyParts};

use super::{KeyError, KeyField, KeySizes, reader::Reader};
use crate::der::BIT_STRING;

/// An RSA public key out of the public key field of CGA Parameters (RFC 3972 section 3).
///
/// The field's octets are kept as they are, because they are hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Box<[u8]>,
    pub(crate) rsa: RsaPublicKey,
}

impl PublicKey {
    /// The longest public exponent, in bits: what OpenSSL and others make (65537) has 17. A longer one would only make
    /// verification slow.
    const MAX_EXPONENT_BITS: usize = 33;

    /// Reads the octets of the public key field, a DER-encoded SubjectPublicKeyInfo of rsaEncryption (RFC 3279 section
    /// 2.3.1).
    ///
    /// Strict, so that one key has one encoding: whatever DER forbids, octets left over at any level, another algorithm
    /// or other parameters than NULL are errors. The modulus has to be odd and of a size that `sizes` allow, the public
    /// exponent odd and of 2 to 33 bits. That the modulus is the product of two primes cannot be seen from outside.
    pub fn from_spki(octets: &[u8], sizes: KeySizes) -> Result<Self, KeyError> {
        let mut spki = Reader::whole_sequence(KeyField::SubjectPublicKeyInfo, octets)?;
        spki.rsa_encryption()?;
        let bit_string = spki.element(KeyField::SubjectPublicKey, BIT_STRING)?;
        spki.end()?;
        let key = match bit_string {
            [0, key @ ..] => key,
            [found, ..] => return Err(KeyError::UnusedBits { found: *found }),
            // Not even the octet that counts the unused bits.
            [] => {
                return Err(KeyError::Der {
                    field: KeyField::SubjectPublicKey,
                    error: crate::DerError::Truncated {
                        needed: 1,
                        available: 0,
                    },
                });
            }
        };
        let mut key = Reader::whole_sequence(KeyField::RsaPublicKey, key)?;
        let modulus = key.unsigned(KeyField::Modulus)?;
        let exponent = key.unsigned(KeyField::PublicExponent)?;
        key.end()?;

        check_modulus(modulus, sizes)?;
        let exponent = read_exponent(exponent)?;
        let range = sizes.min()..=sizes.max();
        let modulus = BoxedUint::from_be_slice_vartime(modulus);
        // What remains to refuse was checked above.
        let rsa = RsaPublicKey::new_with_size_limits(modulus, exponent, range).map_err(|_| KeyError::Inconsistent)?;
        Ok(Self {
            spki: octets.into(),
            rsa,
        })
    }

    /// The octets of the public key field, as read.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The size of the key: bits of its modulus.
    pub fn bits(&self) -> usize {
        self.rsa.n().bits_vartime() as usize
    }

    /// The length in octets of a signature by this key, that of the modulus.
    pub fn signature_len(&self) -> usize {
        self.bits().div_ceil(8)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("bits", &self.bits()).finish()
    }
}

/// Checks the size and that the modulus, without leading zeros, is odd.
pub(super) fn check_modulus(modulus: &[u8], sizes: KeySizes) -> Result<(), KeyError> {
    let found = bits(modulus);
    if !sizes.contains(found) {
        return Err(KeyError::Size { found, sizes });
    }
    match modulus.last() {
        Some(last) if last & 1 == 1 => Ok(()),
        _ => Err(KeyError::EvenModulus),
    }
}

/// Reads a public exponent without leading zeros.
pub(super) fn read_exponent(exponent: &[u8]) -> Result<BoxedUint, KeyError> {
    let found = bits(exponent);
    if !(2..=PublicKey::MAX_EXPONENT_BITS).contains(&found) {
        return Err(KeyError::ExponentSize { found });
    }
    let value = exponent.iter().fold(0, |value, octet| value << 8 | u64::from(*octet));
    if value & 1 == 0 {
        return Err(KeyError::EvenExponent);
    }
    Ok(BoxedUint::from(value))
}

/// How many bits a number without leading zeros has.
fn bits(number: &[u8]) -> usize {
    match number.first() {
        Some(first) => 8 * number.len() - first.leading_zeros() as usize,
        None => 0,
    }
}
