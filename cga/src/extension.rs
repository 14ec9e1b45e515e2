//! Extension fields (RFC 4581) and the Multi-Prefix extension (RFC 5535 section 5).

use alloc::vec::Vec;

use crate::{
    error::{Field, ParseError},
    format::ExtensionType,
    prefix::SubnetPrefix,
};

/// Octets of an extension field before its data: type and length.
const HEADER_LEN: usize = 4;
/// Octets of the Multi-Prefix extension's data before the prefixes: P flag and reserved bits.
const FLAGS_LEN: usize = 4;
/// The P flag in the first octet of the Multi-Prefix extension's data.
const P_FLAG: u8 = 0x80;

/// One extension field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    kind: ExtensionType,
    data: &'a [u8],
}

impl<'a> Extension<'a> {
    /// The type.
    pub const fn kind(&self) -> ExtensionType {
        self.kind
    }

    /// The data, without type and length.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
}

/// The extension fields of a CGA Parameters data structure, in their order.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Checks that `octets` are a row of extension fields, with one well-formed Multi-Prefix extension at most.
    pub(crate) fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let mut rest = octets;
        let mut has_multi_prefix = false;
        while !rest.is_empty() {
            let extension;
            (extension, rest) = split(rest)?;
            if extension.kind == ExtensionType::MULTI_PREFIX {
                MultiPrefix::parse(extension.data)?;
                if has_multi_prefix {
                    return Err(ParseError::DuplicateExtension { kind: extension.kind });
                }
                has_multi_prefix = true;
            }
        }
        Ok(Self { rest: octets })
    }

    /// For octets that [`Extensions::parse`] has accepted before.
    pub(crate) const fn from_checked(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// The Multi-Prefix extension, when there is one.
    pub(crate) fn multi_prefix(mut self) -> Option<MultiPrefix<'a>> {
        let extension = self.find(|extension| extension.kind == ExtensionType::MULTI_PREFIX)?;
        MultiPrefix::parse(extension.data).ok()
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (extension, rest) = split(self.rest).ok()?;
        self.rest = rest;
        Some(extension)
    }
}

/// The Multi-Prefix extension (RFC 5535 section 5): the prefixes of an HBA set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiPrefix<'a> {
    has_public_key: bool,
    prefixes: &'a [[u8; SubnetPrefix::LEN]],
}

impl<'a> MultiPrefix<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, ParseError> {
        let malformed = ParseError::MultiPrefixLength { found: data.len() };
        // The reserved bits beside the P flag are ignored on receipt.
        let (flags, list) = data.split_first_chunk::<FLAGS_LEN>().ok_or(malformed)?;
        let (prefixes, odd) = list.as_chunks();
        if prefixes.is_empty() || !odd.is_empty() {
            return Err(malformed);
        }
        Ok(Self {
            has_public_key: flags[0] & P_FLAG != 0,
            prefixes,
        })
    }

    /// The P flag: the public key field holds a key (a CGA/HBA set), not a nonce (an HBA-only set).
    pub const fn has_public_key(&self) -> bool {
        self.has_public_key
    }

    /// The prefixes in the order of the extension, at least one.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = SubnetPrefix> + Clone + use<'a> {
        self.prefixes.iter().copied().map(SubnetPrefix::new)
    }

    /// Whether the prefix is in the list.
    pub fn contains(&self, prefix: &SubnetPrefix) -> bool {
        self.prefixes.contains(prefix.octets())
    }
}

/// Encodes a Multi-Prefix extension, header included (RFC 5535 section 6, step 1).
///
/// The caller has bounded the number of prefixes, so that the length fits its field.
pub(crate) fn encode_multi_prefix(prefixes: &[SubnetPrefix], has_public_key: bool) -> Vec<u8> {
    let data_len = FLAGS_LEN + SubnetPrefix::LEN * prefixes.len();
    debug_assert!(data_len <= usize::from(u16::MAX));
    let mut out = Vec::with_capacity(HEADER_LEN + data_len);
    out.extend_from_slice(&ExtensionType::MULTI_PREFIX.0.to_be_bytes());
    out.extend_from_slice(&(data_len as u16).to_be_bytes());
    out.extend_from_slice(&[if has_public_key { P_FLAG } else { 0 }, 0, 0, 0]);
    for prefix in prefixes {
        out.extend_from_slice(prefix.octets());
    }
    out
}

/// Length in octets of what [`encode_multi_prefix`] gives.
pub(crate) const fn multi_prefix_len(prefixes: usize) -> usize {
    HEADER_LEN + FLAGS_LEN + SubnetPrefix::LEN * prefixes
}

/// Cuts the first extension field off.
fn split(octets: &[u8]) -> Result<(Extension<'_>, &[u8]), ParseError> {
    let truncated = |needed| ParseError::Truncated {
        field: Field::Extension,
        needed,
        available: octets.len(),
    };
    let (&[t0, t1, l0, l1], rest) = octets.split_first_chunk::<HEADER_LEN>().ok_or(truncated(HEADER_LEN))?;
    let data_len = usize::from(u16::from_be_bytes([l0, l1]));
    let (data, rest) = rest
        .split_at_checked(data_len)
        .ok_or(truncated(HEADER_LEN + data_len))?;
    let kind = ExtensionType(u16::from_be_bytes([t0, t1]));
    Ok((Extension { kind, data }, rest))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    fn error(octets: &[u8]) -> ParseError {
        Extensions::parse(octets).unwrap_err()
    }

    #[test]
    fn unknown_extensions_are_kept_in_order() {
        let octets = hex!("fffd 0002 aabb  fffe 0000  ffff 0001 cc");
        let all: Vec<_> = Extensions::parse(&octets).unwrap().collect();
        assert_eq!(
            all.iter().map(|e| (e.kind().0, e.data())).collect::<Vec<_>>(),
            [(0xfffd, &[0xaa, 0xbb][..]), (0xfffe, &[]), (0xffff, &[0xcc])]
        );
        assert_eq!(Extensions::parse(&octets).unwrap().multi_prefix(), None);
    }

    #[test]
    fn octets_that_are_no_tlv_are_refused() {
        for (octets, needed) in [
            (&hex!("00")[..], 4),
            (&hex!("fffd00"), 4),
            (&hex!("fffd 0001"), 5),
            (&hex!("fffd ffff 00"), 4 + 0xffff),
        ] {
            let expected = ParseError::Truncated {
                field: Field::Extension,
                needed,
                available: octets.len(),
            };
            assert_eq!(error(octets), expected, "{octets:02x?}");
        }
    }

    #[test]
    fn multi_prefix_extension_round_trips() {
        let prefixes = [[0x20, 1, 0xd, 0xb8, 0, 0xa1, 0, 0], [0xfd; 8]].map(SubnetPrefix::new);
        let octets = encode_multi_prefix(&prefixes, false);
        assert_eq!(octets, hex!("0012 0014 00000000 20010db800a10000 fdfdfdfdfdfdfdfd"));
        assert_eq!(octets.len(), multi_prefix_len(2));
        let parsed = Extensions::parse(&octets).unwrap().multi_prefix().unwrap();
        assert!(!parsed.has_public_key());
        assert_eq!(parsed.prefixes().collect::<Vec<_>>(), prefixes);
        assert!(parsed.contains(&prefixes[1]));
        assert!(!parsed.contains(&SubnetPrefix::new([0; 8])));
    }

    #[test]
    fn p_flag_is_the_top_bit_and_reserved_bits_are_ignored() {
        let with_key = encode_multi_prefix(&[SubnetPrefix::new([1; 8])], true);
        assert_eq!(with_key[4..8], hex!("80000000"));
        let parsed = Extensions::parse(&with_key).unwrap().multi_prefix();
        assert!(parsed.unwrap().has_public_key());

        let reserved = hex!("0012 000c 7fffffff 0101010101010101");
        let parsed = Extensions::parse(&reserved).unwrap().multi_prefix();
        assert!(!parsed.unwrap().has_public_key());
    }

    #[test]
    fn multi_prefix_of_a_wrong_length_is_refused() {
        for found in [0_u8, 3, 4, 11, 13, 19, 21] {
            let mut octets = vec![0x00, 0x12, 0x00, found];
            octets.resize(4 + usize::from(found), 0);
            let found = usize::from(found);
            assert_eq!(error(&octets), ParseError::MultiPrefixLength { found });
        }
    }

    #[test]
    fn second_multi_prefix_is_refused() {
        let one = encode_multi_prefix(&[SubnetPrefix::new([1; 8])], false);
        let expected = ParseError::DuplicateExtension {
            kind: ExtensionType::MULTI_PREFIX,
        };
        assert_eq!(error(&[one.clone(), one].concat()), expected);
    }
}
