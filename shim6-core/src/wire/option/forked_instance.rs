//! Forked Instance Identifier option (RFC 5533 section 5.15.7).
//!
//! ```text
//! |           Type = 7          |0|         Length = 4            |
//! |                  Forked Instance Identifier                   |
//! ```
//!
//! Tells contexts of the same ULID pair apart. A message without it means instance 0.

use super::{OptionWriter, RawOption, padded_len};
use crate::wire::{OptionType, ParseError};

const LENGTH: usize = 4;

/// Octets of the option.
pub const BUFFER_LEN: usize = padded_len(LENGTH);

pub(super) fn parse(option: &RawOption<'_>) -> Result<u32, ParseError> {
    option.exact::<LENGTH>().map(|contents| u32::from_be_bytes(*contents))
}

pub(in crate::wire) fn emit(instance: u32, writer: &mut OptionWriter<'_>) {
    writer.put(OptionType::FORKED_INSTANCE, &instance.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const GOLDEN: [u8; 8] = hex!("000e 0004 0badcafe");

    fn parsed(octets: &[u8]) -> Result<Option<u32>, ParseError> {
        let set = OptionSet::collect(octets, 0, &[OptionType::FORKED_INSTANCE])?;
        Ok(set.forked_instance)
    }

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = [0; BUFFER_LEN];
        emit(0x0bad_cafe, &mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed() {
        assert_eq!(parsed(&GOLDEN), Ok(Some(0x0bad_cafe)));
    }

    #[test]
    fn other_lengths_are_malformed() {
        for octets in [
            &hex!("000e 0003 0badca 00")[..],
            &hex!("000e 0005 0badcafe 00 00000000000000"),
        ] {
            let error = ParseError::MalformedOption(OptionType::FORKED_INSTANCE);
            assert_eq!(parsed(octets), Err(error));
        }
    }
}
