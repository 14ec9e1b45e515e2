//! Keepalive (RFC 5534 section 5.1).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 66  |  Reserved1  |0|
//! |            Checksum           |R|                             |
//! |                    Receiver Context Tag                       |
//! |                           Reserved2                           |
//! ~                            Options                            ~
//! ```
//!
//! No option is defined for it.

use crate::wire::header::{Control, put_tag, tag_of};
use crate::wire::option::OptionSet;
use crate::wire::{ContextTag, ParseError};

const LEN: usize = 16;

/// A Keepalive in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepaliveView<'a> {
    fixed: &'a [u8; LEN],
}

impl<'a> KeepaliveView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        OptionSet::collect(options, LEN, &[])?;
        Ok(KeepaliveView { fixed })
    }

    /// The tag that the receiver has allocated.
    pub fn receiver_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// Copies the message.
    pub fn to_message(&self) -> Keepalive {
        Keepalive {
            receiver_context_tag: self.receiver_context_tag(),
        }
    }
}

/// Keepalive: shows the peer that its packets arrive, when there is no payload to show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// The tag that the receiver has allocated.
    pub receiver_context_tag: ContextTag,
}

impl Keepalive {
    pub(super) fn buffer_len(&self) -> usize {
        LEN
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.receiver_context_tag);
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::tests::{assert_golden, sealed};
    use crate::wire::{Message, OptionType};

    /// RFC 5534 section 5.1.
    const GOLDEN: [u8; 16] = hex!("3b 01 42 00 d334 7edcba987654 00000000");

    fn message() -> Message {
        let receiver_context_tag = ContextTag::from_random_bits(0x7edc_ba98_7654);
        Message::Keepalive(Keepalive { receiver_context_tag })
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, message());
    }

    #[test]
    fn reserved_bits_and_any_option_are_ignored() {
        let mut octets = [&GOLDEN[..], &hex!("0014 0004 00000001")].concat();
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        octets[12..16].fill(0xff);
        assert_eq!(Message::parse(&sealed(&octets)), Ok(message()));
    }

    #[test]
    fn critical_option_is_refused() {
        let octets = [&GOLDEN[..], &hex!("0015 0004 00000001")].concat();
        let option_type = OptionType::KEEPALIVE_TIMEOUT;
        let unknown = ParseError::UnknownCriticalOption {
            option_type,
            offset: 16,
        };
        assert_eq!(Message::parse(&sealed(&octets)), Err(unknown));
    }
}
