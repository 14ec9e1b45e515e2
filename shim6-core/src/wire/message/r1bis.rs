//! R1bis, the answer to a reference to a context that does not exist (RFC 5533 section 5.8).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 5   |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                     Packet Context Tag                        |
//! |                    Responder Nonce                            |
//! ~                         Options                               ~
//! ```
//!
//! The validator is required: an I2bis could not copy it otherwise.

use alloc::vec::Vec;

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::{OptionSet, OptionWriter, responder_validator};
use crate::wire::{ContextTag, OptionType, ParseError};

const RESPONDER_NONCE: usize = 12;
const LEN: usize = 16;

pub(super) const OPTIONS: &[OptionType] = &[OptionType::RESPONDER_VALIDATOR];

/// An R1bis in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R1bisView<'a> {
    fixed: &'a [u8; LEN],
    validator: &'a [u8],
    options: OptionSet<'a>,
}

impl<'a> R1bisView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, OPTIONS)?;
        Ok(R1bisView {
            fixed,
            validator: options.required_validator()?,
            options,
        })
    }

    /// The tag in the packet that this answers.
    pub fn packet_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// A number that the initiator returns in I2bis.
    pub fn responder_nonce(&self) -> u32 {
        u32_at(self.fixed, RESPONDER_NONCE)
    }

    /// What the initiator returns in I2bis; only the responder interprets it.
    pub fn validator(&self) -> &'a [u8] {
        self.validator
    }

    /// The validator.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> R1bis {
        R1bis {
            packet_context_tag: self.packet_context_tag(),
            responder_nonce: self.responder_nonce(),
            validator: self.validator.to_vec(),
        }
    }
}

/// R1bis: the responder has no context with this tag, and keeps no state about having been asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct R1bis {
    /// The tag in the packet that this answers.
    pub packet_context_tag: ContextTag,
    /// A number that the initiator returns in I2bis.
    pub responder_nonce: u32,
    /// What the initiator returns in I2bis; only the responder interprets it.
    pub validator: Vec<u8>,
}

impl R1bis {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + responder_validator::buffer_len(&self.validator)
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.packet_context_tag);
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

    /// Section 5.8.
    const GOLDEN: [u8; 32] = hex!(
        "3b 03 05 00 762b 7edcba987654 c0ffee11"
        "0002 0006 a1a2a3a4 a5a6 000000000000"
    );

    fn message() -> R1bis {
        R1bis {
            packet_context_tag: ContextTag::from_random_bits(0x7edc_ba98_7654),
            responder_nonce: 0xc0ff_ee11,
            validator: hex!("a1a2a3a4a5a6").to_vec(),
        }
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::R1bis(message()));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut octets = GOLDEN;
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::R1bis(message())));
    }

    #[test]
    fn validator_is_required() {
        let missing = ParseError::MissingOption(OptionType::RESPONDER_VALIDATOR);
        assert_eq!(Message::parse(&sealed(&GOLDEN[..LEN])), Err(missing));
    }
}
