//! Keepalive Timeout option (RFC 5534 section 5.3).
//!
//! ```text
//! |           Type = 10         |0|        Length  = 4            |
//! +           Reserved            |      Keepalive Timeout        |
//! ```
//!
//! The sender's Send Timeout in seconds, which the receiver is to use as its Keepalive Timeout.

use super::{OptionWriter, RawOption, padded_len};
use crate::wire::{OptionType, ParseError};

const LENGTH: usize = 4;

/// Octets of the option.
pub const BUFFER_LEN: usize = padded_len(LENGTH);

pub(super) fn parse(option: &RawOption<'_>) -> Result<u16, ParseError> {
    let [_, _, high, low] = *option.exact::<LENGTH>()?;
    Ok(u16::from_be_bytes([high, low]))
}

pub(in crate::wire) fn emit(seconds: u16, writer: &mut OptionWriter<'_>) {
    let [high, low] = seconds.to_be_bytes();
    writer.put(OptionType::KEEPALIVE_TIMEOUT, &[0, 0, high, low]);
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const GOLDEN: [u8; 8] = hex!("0014 0004 0000 012c");

    fn parsed(octets: &[u8]) -> Result<Option<u16>, ParseError> {
        let set = OptionSet::collect(octets, 0, &[OptionType::KEEPALIVE_TIMEOUT])?;
        Ok(set.keepalive_timeout)
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
    fn reserved_octets_are_ignored() {
        assert_eq!(parsed(&hex!("0014 0004 ffff 012c")), Ok(Some(300)));
    }

    #[test]
    fn other_lengths_are_malformed() {
        for octets in [hex!("0014 0002 012c 0000"), hex!("0014 0000 0000 0000")] {
            let error = ParseError::MalformedOption(OptionType::KEEPALIVE_TIMEOUT);
            assert_eq!(parsed(&octets), Err(error));
        }
    }
}
