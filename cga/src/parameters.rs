//! The CGA Parameters data structure (RFC 3972 section 3).
//!
//! ```text
//! offset  0        modifier, 16 octets
//!        16        subnet prefix, 8 octets
//!        24        collision count, 1 octet
//!        25        public key: a DER-encoded SubjectPublicKeyInfo, whose length field says where it ends
//!        then      extension fields (RFC 4581) up to the end, any number
//! ```

use alloc::{boxed::Box, vec::Vec};

use crate::{
    der,
    error::{Field, ParseError},
    extension::{Extensions, MultiPrefix},
    format::{COLLISION_COUNT_AT, Modifier, PARAMETERS_HEAD_LEN, PREFIX_AT},
    prefix::SubnetPrefix,
};

/// A checked view of received octets as CGA Parameters; verification through it allocates nothing.
///
/// The collision count is not checked on parsing, because that is the verification's first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgaParametersRef<'a> {
    /// At least as many as the head and the public key take.
    octets: &'a [u8],
    /// Where the extension fields start.
    key_end: usize,
}

impl<'a> CgaParametersRef<'a> {
    /// Takes all of `octets`: what follows the public key has to be extension fields.
    pub fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let (_, tail) = octets
            .split_at_checked(PARAMETERS_HEAD_LEN)
            .ok_or_else(|| truncated_head(octets.len()))?;
        let key_len = der::sequence_len(tail)?;
        Extensions::parse(&tail[key_len..])?;
        let key_end = PARAMETERS_HEAD_LEN + key_len;
        Ok(Self { octets, key_end })
    }

    /// The whole structure in its wire form.
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The modifier.
    pub fn modifier(&self) -> Modifier {
        let mut modifier = Modifier::default();
        modifier.copy_from_slice(&self.octets[..PREFIX_AT]);
        modifier
    }

    /// The subnet prefix of the one address that these parameters are those of.
    pub fn subnet_prefix(&self) -> SubnetPrefix {
        let mut octets = [0; SubnetPrefix::LEN];
        octets.copy_from_slice(&self.octets[PREFIX_AT..COLLISION_COUNT_AT]);
        SubnetPrefix::new(octets)
    }

    /// The collision count, as found: only 0 to 2 verify.
    pub const fn collision_count(&self) -> u8 {
        self.octets[COLLISION_COUNT_AT]
    }

    /// The octets of the public key field, whose inside was not looked at.
    pub fn public_key(&self) -> &'a [u8] {
        &self.octets[PARAMETERS_HEAD_LEN..self.key_end]
    }

    /// The extension fields, unknown ones included.
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions::from_checked(self.extension_octets())
    }

    /// The octets of all extension fields.
    pub fn extension_octets(&self) -> &'a [u8] {
        &self.octets[self.key_end..]
    }

    /// The Multi-Prefix extension, when there is one.
    pub fn multi_prefix(&self) -> Option<MultiPrefix<'a>> {
        self.extensions().multi_prefix()
    }

    /// Length of the whole structure in octets.
    pub const fn buffer_len(&self) -> usize {
        self.octets.len()
    }

    /// Writes the structure to the start of `buffer`, and gives its length; `None`, and nothing is written, where `buffer` is
    /// shorter than [`buffer_len`](Self::buffer_len).
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        buffer.get_mut(..self.octets.len())?.copy_from_slice(self.octets);
        Some(self.octets.len())
    }

    /// An owned copy.
    pub fn to_owned(&self) -> CgaParameters {
        CgaParameters {
            octets: self.octets.into(),
            key_end: self.key_end,
        }
    }
}

/// The CGA Parameters data structure (RFC 3972 section 3), owned.
///
/// The public key and the extension fields are kept octet for octet, because they are hashed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CgaParameters {
    octets: Box<[u8]>,
    key_end: usize,
}

impl CgaParameters {
    /// Puts parameters together. `public_key` is a DER-encoded SubjectPublicKeyInfo and `extensions` a row of
    /// extension fields; both are checked as on parsing.
    pub fn new(
        modifier: Modifier,
        subnet_prefix: SubnetPrefix,
        collision_count: u8,
        public_key: &[u8],
        extensions: &[u8],
    ) -> Result<Self, ParseError> {
        der::check_public_key(public_key)?;
        Extensions::parse(extensions)?;
        Ok(Self::from_checked(modifier, public_key, extensions)
            .with_subnet_prefix(subnet_prefix)
            .with_collision_count(collision_count))
    }

    /// Copies what [`CgaParametersRef::parse`] accepts.
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        Ok(CgaParametersRef::parse(octets)?.to_owned())
    }

    /// The borrowed view.
    pub const fn view(&self) -> CgaParametersRef<'_> {
        CgaParametersRef {
            octets: &self.octets,
            key_end: self.key_end,
        }
    }

    /// For a public key and extension fields that are well-formed; subnet prefix and collision count are zero.
    pub(crate) fn from_checked(modifier: Modifier, public_key: &[u8], extensions: &[u8]) -> Self {
        let head = [0; PARAMETERS_HEAD_LEN];
        let octets = [&head, public_key, extensions].concat().into();
        let key_end = PARAMETERS_HEAD_LEN + public_key.len();
        Self { octets, key_end }.with_modifier(modifier)
    }

    /// The same parameters with another modifier; they give another address.
    pub fn with_modifier(mut self, modifier: Modifier) -> Self {
        self.octets[..PREFIX_AT].copy_from_slice(&modifier);
        self
    }

    /// The same parameters for another subnet prefix; they give another address.
    pub fn with_subnet_prefix(mut self, prefix: SubnetPrefix) -> Self {
        self.octets[PREFIX_AT..COLLISION_COUNT_AT].copy_from_slice(prefix.octets());
        self
    }

    /// The same parameters with another collision count; they give another address.
    pub fn with_collision_count(mut self, collision_count: u8) -> Self {
        self.octets[COLLISION_COUNT_AT] = collision_count;
        self
    }

    /// The modifier.
    pub fn modifier(&self) -> Modifier {
        self.view().modifier()
    }

    /// The subnet prefix of the one address that these parameters are those of.
    pub fn subnet_prefix(&self) -> SubnetPrefix {
        self.view().subnet_prefix()
    }

    /// The collision count, as found: only 0 to 2 verify.
    pub const fn collision_count(&self) -> u8 {
        self.view().collision_count()
    }

    /// The octets of the public key field, whose inside was not looked at.
    pub fn public_key(&self) -> &[u8] {
        self.view().public_key()
    }

    /// The extension fields, unknown ones included.
    pub fn extensions(&self) -> Extensions<'_> {
        self.view().extensions()
    }

    /// The octets of all extension fields.
    pub fn extension_octets(&self) -> &[u8] {
        self.view().extension_octets()
    }

    /// The Multi-Prefix extension, when there is one.
    pub fn multi_prefix(&self) -> Option<MultiPrefix<'_>> {
        self.view().multi_prefix()
    }

    /// Length of the whole structure in octets.
    pub const fn buffer_len(&self) -> usize {
        self.view().buffer_len()
    }

    /// Writes the structure to the start of `buffer`, and gives its length; `None`, and nothing is written, where `buffer` is
    /// shorter than [`buffer_len`](Self::buffer_len).
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        self.view().emit(buffer)
    }

    /// The whole structure in its wire form.
    pub const fn octets(&self) -> &[u8] {
        self.view().octets()
    }

    /// The whole structure in its wire form, owned.
    pub fn to_vec(&self) -> Vec<u8> {
        self.octets.to_vec()
    }
}

/// The error for a structure of fewer than [`PARAMETERS_HEAD_LEN`] octets.
fn truncated_head(len: usize) -> ParseError {
    let (field, start, end) = if len < PREFIX_AT {
        (Field::Modifier, 0, PREFIX_AT)
    } else if len < COLLISION_COUNT_AT {
        (Field::SubnetPrefix, PREFIX_AT, COLLISION_COUNT_AT)
    } else {
        (Field::CollisionCount, COLLISION_COUNT_AT, PARAMETERS_HEAD_LEN)
    };
    ParseError::Truncated {
        field,
        needed: end - start,
        available: len.saturating_sub(start),
    }
}

#[cfg(test)]
mod tests;
