//! As much DER as the public key field needs: an element, where it ends, and how to write a nonce in the field's form.

use alloc::vec::Vec;

use crate::error::{Field, ParseError};

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;

/// AlgorithmIdentifier of rsaEncryption (1.2.840.113549.1.1.1) with NULL parameters.
const RSA_ENCRYPTION: [u8; 15] = [
    SEQUENCE, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// The exponent 65537 as INTEGER.
const RSA_EXPONENT: [u8; 5] = [INTEGER, 0x03, 0x01, 0x00, 0x01];

/// Length in octets of the extended modifier, the nonce in place of a public key (RFC 5535 section 6: 384 bits).
pub(crate) const NONCE_LEN: usize = 48;

/// The longest that [`encode_nonce`] gets, in octets.
pub(crate) const MAX_ENCODED_NONCE_LEN: usize =
    2 + RSA_ENCRYPTION.len() + 3 + 2 + (2 + 1 + NONCE_LEN) + RSA_EXPONENT.len();

// All lengths in an encoded nonce are then of the short form.
const _: () = assert!(MAX_ENCODED_NONCE_LEN - 2 < 0x80);

/// Why octets do not start with the element of DER that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DerError {
    /// The octets end inside the element.
    #[error("expected {needed} octets, found {available}")]
    Truncated {
        /// Octets that the element, or as much of it as is known, takes.
        needed: usize,
        /// Octets that are left for it.
        available: usize,
    },
    /// An element of another type.
    #[error("expected the DER tag {expected:#04x}, found {found:#04x}")]
    Tag {
        /// The tag expected.
        expected: u8,
        /// The tag found.
        found: u8,
    },
    /// A length in the indefinite form.
    #[error("expected a definite DER length, found the indefinite form")]
    IndefiniteLength,
    /// A length that takes more octets than it needs.
    #[error("expected the shortest form of the DER length, found a longer one")]
    LengthNotMinimal,
    /// A length that takes more than two octets.
    #[error("expected a DER length of at most 2 octets, found one of {length_octets} octets")]
    TooLong {
        /// Octets that the length says it takes.
        length_octets: u8,
    },
}

/// Cuts the first element off: its content, and what follows it.
pub(crate) fn split(octets: &[u8], expected: u8) -> Result<(&[u8], &[u8]), DerError> {
    let truncated = |needed| DerError::Truncated {
        needed,
        available: octets.len(),
    };
    let (&found, rest) = octets.split_first().ok_or(truncated(2))?;
    if found != expected {
        return Err(DerError::Tag { expected, found });
    }
    let (&first, rest) = rest.split_first().ok_or(truncated(2))?;
    let (header, content) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x80 => return Err(DerError::IndefiniteLength),
        0x81 => {
            let &[length] = rest.first_chunk().ok_or(truncated(3))?;
            if length < 0x80 {
                return Err(DerError::LengthNotMinimal);
            }
            (3, usize::from(length))
        }
        0x82 => {
            let length = u16::from_be_bytes(*rest.first_chunk().ok_or(truncated(4))?);
            if length < 0x100 {
                return Err(DerError::LengthNotMinimal);
            }
            (4, usize::from(length))
        }
        longer => {
            return Err(DerError::TooLong {
                length_octets: longer & 0x7f,
            });
        }
    };
    let total = header + content;
    let (element, rest) = octets.split_at_checked(total).ok_or(truncated(total))?;
    Ok((&element[header..], rest))
}

/// Length in octets, tag and length included, of the SEQUENCE that `octets` start with.
///
/// What is inside is not looked at: a verifier only hashes it.
pub(crate) fn sequence_len(octets: &[u8]) -> Result<usize, ParseError> {
    match split(octets, SEQUENCE) {
        Ok((_, rest)) => Ok(octets.len() - rest.len()),
        Err(DerError::Truncated { needed, available }) => Err(ParseError::Truncated {
            field: Field::PublicKey,
            needed,
            available,
        }),
        Err(DerError::Tag { found, .. }) => Err(ParseError::PublicKeyTag { found }),
        Err(DerError::IndefiniteLength) => Err(ParseError::PublicKeyIndefiniteLength),
        Err(DerError::LengthNotMinimal) => Err(ParseError::PublicKeyLengthNotMinimal),
        Err(DerError::TooLong { length_octets }) => Err(ParseError::PublicKeyTooLong { length_octets }),
    }
}

/// Checks that `octets` are one SEQUENCE and nothing else, so that they are the public key field that is read back.
pub(crate) fn check_public_key(octets: &[u8]) -> Result<(), ParseError> {
    match octets.len() - sequence_len(octets)? {
        0 => Ok(()),
        trailing => Err(ParseError::PublicKeyTrailing { octets: trailing }),
    }
}

/// Encodes the extended modifier of an HBA-only set in the form of a public key: a SubjectPublicKeyInfo of
/// rsaEncryption whose RSAPublicKey has the nonce as modulus and the exponent 65537 (RFC 5535 section 6, step 2).
pub(crate) fn encode_nonce(nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    let mut rsa_public_key = Vec::with_capacity(MAX_ENCODED_NONCE_LEN);
    push_unsigned(&mut rsa_public_key, nonce);
    rsa_public_key.extend_from_slice(&RSA_EXPONENT);

    let mut key = Vec::with_capacity(MAX_ENCODED_NONCE_LEN);
    let bit_string_len = 1 + 2 + rsa_public_key.len();
    push_header(&mut key, SEQUENCE, RSA_ENCRYPTION.len() + 2 + bit_string_len);
    key.extend_from_slice(&RSA_ENCRYPTION);
    push_header(&mut key, BIT_STRING, bit_string_len);
    key.push(0); // no unused bits
    push_header(&mut key, SEQUENCE, rsa_public_key.len());
    key.extend_from_slice(&rsa_public_key);
    key
}

/// Appends tag and length in the short form, see the assertion on [`MAX_ENCODED_NONCE_LEN`].
fn push_header(out: &mut Vec<u8>, tag: u8, content_len: usize) {
    debug_assert!(content_len < 0x80);
    out.extend_from_slice(&[tag, content_len as u8]);
}

/// Appends an INTEGER: no leading zero octets, but one where the sign bit would be set.
fn push_unsigned(out: &mut Vec<u8>, value: &[u8]) {
    let zeros = value.iter().take_while(|octet| **octet == 0).count();
    let digits = &value[zeros..];
    let needs_zero = digits.first().is_none_or(|octet| octet & 0x80 != 0);
    push_header(out, INTEGER, digits.len() + usize::from(needs_zero));
    if needs_zero {
        out.push(0);
    }
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn definite_lengths_find_the_end_of_the_key() {
        assert_eq!(sequence_len(&hex!("3000 ff")), Ok(2));
        assert_eq!(sequence_len(&hex!("3002 0500 ff")), Ok(4));
        let mut long = vec![0x30, 0x81, 0x80];
        long.resize(3 + 0x80 + 5, 0);
        assert_eq!(sequence_len(&long), Ok(3 + 0x80));
        let mut longest = vec![0x30, 0x82, 0xff, 0xff];
        longest.resize(4 + 0xffff, 0);
        assert_eq!(sequence_len(&longest), Ok(4 + 0xffff));
    }

    #[test]
    fn lengths_that_der_forbids_are_refused() {
        use ParseError::*;
        let mut padded = [0; 0x200];
        for (start, error) in [
            (&hex!("3080")[..], PublicKeyIndefiniteLength),
            (&hex!("3081 7f"), PublicKeyLengthNotMinimal),
            (&hex!("3081 00"), PublicKeyLengthNotMinimal),
            (&hex!("3082 00ff"), PublicKeyLengthNotMinimal),
            (&hex!("3082 0000"), PublicKeyLengthNotMinimal),
            (&hex!("3083 000100"), PublicKeyTooLong { length_octets: 3 }),
            // What a signed reading would take for -1.
            (&hex!("3084 ffffffff"), PublicKeyTooLong { length_octets: 4 }),
            (&hex!("3088 ffffffffffffffff"), PublicKeyTooLong { length_octets: 8 }),
            (&hex!("30ff"), PublicKeyTooLong { length_octets: 127 }),
            (&hex!("0203"), PublicKeyTag { found: 0x02 }),
            (&hex!("3100"), PublicKeyTag { found: 0x31 }),
        ] {
            padded.fill(0);
            padded[..start.len()].copy_from_slice(start);
            assert_eq!(sequence_len(&padded), Err(error), "{start:02x?}");
        }
    }

    #[test]
    fn key_cut_short_is_refused_with_what_is_missing() {
        for (octets, needed) in [
            (&hex!("")[..], 2),
            (&hex!("30"), 2),
            (&hex!("3081"), 3),
            (&hex!("3082"), 4),
            (&hex!("3082 01"), 4),
            (&hex!("3003 0500"), 5),
            (&hex!("3082 ffff 00"), 4 + 0xffff),
        ] {
            let error = ParseError::Truncated {
                field: Field::PublicKey,
                needed,
                available: octets.len(),
            };
            assert_eq!(sequence_len(octets), Err(error), "{octets:02x?}");
        }
    }

    #[test]
    fn nonce_is_an_rsa_key_with_the_nonce_as_modulus() {
        let mut nonce = [0x11; NONCE_LEN];
        let start = hex!("304b 300d 0609 2a864886f70d010101 0500 033a 00 3037 0230");
        let key = encode_nonce(&nonce);
        assert_eq!(key[..start.len()], start);
        assert_eq!(key[start.len()..][..NONCE_LEN], nonce);
        assert_eq!(key[start.len() + NONCE_LEN..], hex!("0203 010001"));
        assert_eq!(sequence_len(&key), Ok(key.len()));

        nonce[0] = 0x80;
        let start = hex!("304c 300d 0609 2a864886f70d010101 0500 033b 00 3038 0231 00");
        let key = encode_nonce(&nonce);
        assert_eq!(key[..start.len()], start);
        assert_eq!(key[start.len()..][..NONCE_LEN], nonce);
        assert_eq!(key.len(), MAX_ENCODED_NONCE_LEN);
    }

    #[test]
    fn leading_zeros_of_the_nonce_are_not_encoded() {
        let mut nonce = [0; NONCE_LEN];
        assert!(encode_nonce(&nonce).ends_with(&hex!("3008 020100 0203010001")));
        nonce[NONCE_LEN - 1] = 0x7f;
        assert!(encode_nonce(&nonce).ends_with(&hex!("3008 02017f 0203010001")));
        nonce[NONCE_LEN - 1] = 0x80;
        assert!(encode_nonce(&nonce).ends_with(&hex!("3009 02020080 0203010001")));
    }
}
