//! ULID Pair option (RFC 5533 section 5.15.6).
//!
//! ```text
//! |           Type = 6          |0|        Length = 36            |
//! |                       Reserved2                               |
//! |                     Sender ULID, 16 octets                    |
//! |                    Receiver ULID, 16 octets                   |
//! ```
//!
//! Sent when the addresses of the packet are not the ULIDs of the context.

use core::net::Ipv6Addr;

use super::{OptionWriter, RawOption, padded_len};
use crate::wire::{OptionType, ParseError};

const SENDER: usize = 4;
const RECEIVER: usize = 20;
const LENGTH: usize = 36;

/// Octets of the option.
pub const BUFFER_LEN: usize = padded_len(LENGTH);

/// The ULIDs of a context, as the sender of the message sees them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UlidPair {
    /// ULID of the sender of the message.
    pub sender: Ipv6Addr,
    /// ULID of its receiver.
    pub receiver: Ipv6Addr,
}

impl UlidPair {
    pub(super) fn parse(option: &RawOption<'_>) -> Result<Self, ParseError> {
        let contents = option.exact::<LENGTH>()?;
        let ulid = |at: usize| Ipv6Addr::from(core::array::from_fn(|octet| contents[at + octet]));
        Ok(UlidPair {
            sender: ulid(SENDER),
            receiver: ulid(RECEIVER),
        })
    }

    pub(in crate::wire) fn emit(&self, writer: &mut OptionWriter<'_>) {
        let contents = writer.begin(OptionType::ULID_PAIR, LENGTH);
        contents[SENDER..RECEIVER].copy_from_slice(&self.sender.octets());
        contents[RECEIVER..].copy_from_slice(&self.receiver.octets());
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const GOLDEN: [u8; 40] = hex!(
        "000c 0024 00000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
    );

    fn pair() -> UlidPair {
        UlidPair {
            sender: Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa),
            receiver: Ipv6Addr::new(0x2001, 0xdb8, 0xb2, 0, 0, 0, 0, 0xbb),
        }
    }

    fn parsed(octets: &[u8]) -> Result<Option<UlidPair>, ParseError> {
        Ok(OptionSet::collect(octets, 0, &[OptionType::ULID_PAIR])?.ulid_pair)
    }

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = [0; BUFFER_LEN];
        pair().emit(&mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed_whatever_is_reserved() {
        let mut octets = GOLDEN;
        assert_eq!(parsed(&octets), Ok(Some(pair())));
        octets[4..8].fill(0xff);
        assert_eq!(parsed(&octets), Ok(Some(pair())));
    }

    #[test]
    fn other_lengths_are_malformed() {
        for length in [0, 32, 35] {
            let mut octets = GOLDEN;
            octets[3] = length;
            let total = padded_len(length.into());
            let error = ParseError::MalformedOption(OptionType::ULID_PAIR);
            assert_eq!(parsed(&octets[..total]), Err(error), "Length {length}");
        }
    }
}
