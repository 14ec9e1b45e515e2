//! Update Acknowledgement (RFC 5533 section 5.11).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 65  |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                   Receiver Context Tag                        |
//! |                      Request Nonce                            |
//! ~                         Options                               ~
//! ```
//!
//! No option is defined for it.

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::OptionSet;
use crate::wire::{ContextTag, ParseError};

const REQUEST_NONCE: usize = 12;
const LEN: usize = 16;

/// An Update Acknowledgement in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateAcknowledgementView<'a> {
    fixed: &'a [u8; LEN],
}

impl<'a> UpdateAcknowledgementView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        OptionSet::collect(options, LEN, &[])?;
        Ok(UpdateAcknowledgementView { fixed })
    }

    /// The tag that the receiver has allocated.
    pub fn receiver_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// Copied from the Update Request.
    pub fn request_nonce(&self) -> u32 {
        u32_at(self.fixed, REQUEST_NONCE)
    }

    /// Copies the message.
    pub fn to_message(&self) -> UpdateAcknowledgement {
        UpdateAcknowledgement {
            receiver_context_tag: self.receiver_context_tag(),
            request_nonce: self.request_nonce(),
        }
    }
}

/// Update Acknowledgement: the sender has taken an Update Request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateAcknowledgement {
    /// The tag that the receiver has allocated.
    pub receiver_context_tag: ContextTag,
    /// Copied from the Update Request.
    pub request_nonce: u32,
}

impl UpdateAcknowledgement {
    pub(super) fn buffer_len(&self) -> usize {
        LEN
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.receiver_context_tag);
        put_u32(out, REQUEST_NONCE, self.request_nonce);
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::Message;
    use crate::wire::tests::{assert_golden, sealed};

    /// Section 5.11.
    const GOLDEN: [u8; 16] = hex!("3b 01 41 00 3697 7edcba987654 deadbeef");

    fn message() -> Message {
        Message::UpdateAcknowledgement(UpdateAcknowledgement {
            receiver_context_tag: ContextTag::from_random_bits(0x7edc_ba98_7654),
            request_nonce: 0xdead_beef,
        })
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, message());
    }

    #[test]
    fn reserved_bits_and_any_option_are_ignored() {
        let mut octets = [&GOLDEN[..], &hex!("0006 0001 ff000000")].concat();
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        assert_eq!(Message::parse(&sealed(&octets)), Ok(message()));
    }
}
