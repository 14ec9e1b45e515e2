//! A reader of the elements in an encoded key.

use super::{KeyError, KeyField};
use crate::der::{self, INTEGER, SEQUENCE};

const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What is left to read of the content of `field`.
pub(super) struct Reader<'a> {
    field: KeyField,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the SEQUENCE that `octets` are, all of them.
    pub(super) fn whole_sequence(field: KeyField, octets: &'a [u8]) -> Result<Self, KeyError> {
        let mut outer = Self { field, rest: octets };
        let reader = outer.sequence(field)?;
        outer.end()?;
        Ok(reader)
    }

    /// The content of the next element.
    pub(super) fn element(&mut self, field: KeyField, tag: u8) -> Result<&'a [u8], KeyError> {
        let content;
        (content, self.rest) = der::split(self.rest, tag).map_err(|error| KeyError::Der { field, error })?;
        Ok(content)
    }

    pub(super) fn sequence(&mut self, field: KeyField) -> Result<Self, KeyError> {
        let rest = self.element(field, SEQUENCE)?;
        Ok(Self { field, rest })
    }

    /// The octets of an INTEGER that is not negative, without leading zeros: none for 0.
    pub(super) fn unsigned(&mut self, field: KeyField) -> Result<&'a [u8], KeyError> {
        match self.element(field, INTEGER)? {
            [] => Err(KeyError::IntegerNotMinimal { field }),
            [0] => Ok(&[]),
            [0, next, ..] if *next < 0x80 => Err(KeyError::IntegerNotMinimal { field }),
            [0, digits @ ..] => Ok(digits),
            [first, ..] if *first >= 0x80 => Err(KeyError::Negative { field }),
            digits => Ok(digits),
        }
    }

    /// The AlgorithmIdentifier that RFC 3972 section 3 asks for: rsaEncryption, with NULL (RFC 3279 section 2.3.1).
    pub(super) fn rsa_encryption(&mut self) -> Result<(), KeyError> {
        let mut identifier = self.sequence(KeyField::AlgorithmIdentifier)?;
        let algorithm = identifier.element(KeyField::Algorithm, OBJECT_IDENTIFIER)?;
        if algorithm != RSA_ENCRYPTION {
            return Err(KeyError::Algorithm {
                found: super::dotted(algorithm),
            });
        }
        let parameters = identifier.element(KeyField::AlgorithmParameters, NULL)?;
        if !parameters.is_empty() {
            return Err(KeyError::Trailing {
                field: KeyField::AlgorithmParameters,
                octets: parameters.len(),
            });
        }
        identifier.end()
    }

    /// Whether everything is read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error unless everything is read.
    pub(super) fn end(self) -> Result<(), KeyError> {
        match self.rest.len() {
            0 => Ok(()),
            octets => Err(KeyError::Trailing {
                field: self.field,
                octets,
            }),
        }
    }
}
