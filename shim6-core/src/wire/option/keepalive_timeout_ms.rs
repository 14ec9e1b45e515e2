//! Keepalive Timeout in milliseconds: ours, of no RFC, with a type from the experimental range.
//!
//! ```text
//! |         Type = 21302        |0|           Length = 4          |
//! |               Keepalive Timeout in milliseconds               |
//! ```
//!
//! The sender's Send Timeout in milliseconds. A peer that knows the option uses it as its Keepalive
//! Timeout instead of the one in whole seconds ([`keepalive_timeout`](super::keepalive_timeout)),
//! so that failures are noticed within a fraction of a second. It is never critical: other
//! implementations ignore it.

use super::{OptionWriter, RawOption, padded_len};
use crate::wire::{OptionType, ParseError};

const LENGTH: usize = 4;

/// Octets of the option.
pub const BUFFER_LEN: usize = padded_len(LENGTH);

pub(super) fn parse(option: &RawOption<'_>) -> Result<u32, ParseError> {
    option.exact::<LENGTH>().map(|contents| u32::from_be_bytes(*contents))
}

pub(in crate::wire) fn emit(milliseconds: u32, writer: &mut OptionWriter<'_>) {
    writer.put(OptionType::KEEPALIVE_TIMEOUT_MS, &milliseconds.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    /// 0x5336 shifted by the critical bit, 300 ms.
    const GOLDEN: [u8; 8] = hex!("a66c 0004 0000012c");

    fn parsed(octets: &[u8]) -> Result<Option<u32>, ParseError> {
        let set = OptionSet::collect(octets, 0, &[OptionType::KEEPALIVE_TIMEOUT_MS])?;
        Ok(set.keepalive_timeout_ms)
    }

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = [0; BUFFER_LEN];
        emit(300, &mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed() {
        assert_eq!(parsed(&GOLDEN), Ok(Some(300)));
    }

    #[test]
    fn other_lengths_are_malformed() {
        let error = ParseError::MalformedOption(OptionType::KEEPALIVE_TIMEOUT_MS);
        assert_eq!(parsed(&hex!("a66c 0002 012c 0000")), Err(error));
    }
}
