//! R1, the answer to I1 (RFC 5533 section 5.5).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 2   |   Reserved1 |0|
//! |            Checksum           |           Reserved2           |
//! |                    Initiator Nonce                            |
//! |                    Responder Nonce                            |
//! ~                         Options                               ~
//! ```

use alloc::vec::Vec;

use crate::wire::header::{Control, put_u32, u32_at};
use crate::wire::option::{OptionSet, OptionWriter, responder_validator};
use crate::wire::{OptionType, ParseError};

const INITIATOR_NONCE: usize = 8;
const RESPONDER_NONCE: usize = 12;
const LEN: usize = 16;

pub(super) const OPTIONS: &[OptionType] = &[OptionType::RESPONDER_VALIDATOR];

/// An R1 in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R1View<'a> {
    fixed: &'a [u8; LEN],
    validator: &'a [u8],
    options: OptionSet<'a>,
}

impl<'a> R1View<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, OPTIONS)?;
        Ok(R1View {
            fixed,
            validator: options.required_validator()?,
            options,
        })
    }

    /// Copied from I1.
    pub fn initiator_nonce(&self) -> u32 {
        u32_at(self.fixed, INITIATOR_NONCE)
    }

    /// A number that the initiator returns in I2.
    pub fn responder_nonce(&self) -> u32 {
        u32_at(self.fixed, RESPONDER_NONCE)
    }

    /// What the initiator returns in I2; only the responder interprets it.
    pub fn validator(&self) -> &'a [u8] {
        self.validator
    }

    /// The validator.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> R1 {
        R1 {
            initiator_nonce: self.initiator_nonce(),
            responder_nonce: self.responder_nonce(),
            validator: self.validator.to_vec(),
        }
    }
}

/// R1: the responder asks the initiator to show that it receives at its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct R1 {
    /// Copied from I1.
    pub initiator_nonce: u32,
    /// A number that the initiator returns in I2.
    pub responder_nonce: u32,
    /// What the initiator returns in I2; only the responder interprets it.
    pub validator: Vec<u8>,
}

impl R1 {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + responder_validator::buffer_len(&self.validator)
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_u32(out, INITIATOR_NONCE, self.initiator_nonce);
        put_u32(out, RESPONDER_NONCE, self.responder_nonce);
        responder_validator::emit(&self.validator, &mut OptionWriter::new(&mut out[LEN..]));
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::Message;
    use crate::wire::tests::{assert_golden, sealed};

    /// Section 5.5.
    const GOLDEN: [u8; 32] = hex!(
        "3b 03 02 00 8b57 0000 deadbeef c0ffee11"
        "0002 0006 a1a2a3a4 a5a6 000000000000"
    );

    fn message() -> R1 {
        R1 {
            initiator_nonce: 0xdead_beef,
            responder_nonce: 0xc0ff_ee11,
            validator: hex!("a1a2a3a4a5a6").to_vec(),
        }
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::R1(message()));
    }

    #[test]
    fn reserved_octets_are_ignored() {
        let mut octets = GOLDEN;
        octets[6..8].fill(0xff);
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::R1(message())));
    }

    #[test]
    fn validator_is_required() {
        let missing = ParseError::MissingOption(OptionType::RESPONDER_VALIDATOR);
        assert_eq!(Message::parse(&sealed(&GOLDEN[..LEN])), Err(missing));
    }

    #[test]
    fn ulid_pair_is_not_valid_here() {
        let octets = [&GOLDEN[..], &hex!("000d 0000 00000000")].concat();
        let unknown = ParseError::UnknownCriticalOption {
            option_type: OptionType::ULID_PAIR,
            offset: 32,
        };
        assert_eq!(Message::parse(&sealed(&octets)), Err(unknown));
    }
}
