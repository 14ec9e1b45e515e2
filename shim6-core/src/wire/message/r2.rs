//! R2, the last message of the context exchange (RFC 5533 section 5.7).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 4   |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                  Responder Context Tag                        |
//! |                    Initiator Nonce                            |
//! ~                         Options                               ~
//! ```

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::{ANNOUNCEMENT, Announcement, OptionSet, OptionWriter};
use crate::wire::{ContextTag, EmitError, ParseError};

const INITIATOR_NONCE: usize = 12;
const LEN: usize = 16;

/// An R2 in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2View<'a> {
    fixed: &'a [u8; LEN],
    options: OptionSet<'a>,
}

impl<'a> R2View<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, &ANNOUNCEMENT)?;
        Ok(R2View { fixed, options })
    }

    /// The tag that the responder has allocated.
    pub fn responder_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// Copied from I2.
    pub fn initiator_nonce(&self) -> u32 {
        u32_at(self.fixed, INITIATOR_NONCE)
    }

    /// All options.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> R2 {
        R2 {
            responder_context_tag: self.responder_context_tag(),
            initiator_nonce: self.initiator_nonce(),
            announcement: Announcement::of(&self.options),
        }
    }
}

/// R2: the responder has the context and tells its locators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct R2 {
    /// The tag that the responder has allocated.
    pub responder_context_tag: ContextTag,
    /// Copied from I2.
    pub initiator_nonce: u32,
    /// The responder's locators and timeouts.
    pub announcement: Announcement,
}

impl R2 {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + self.announcement.buffer_len()
    }

    pub(super) fn check(&self) -> Result<(), EmitError> {
        self.announcement.check()
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.responder_context_tag);
        put_u32(out, INITIATOR_NONCE, self.initiator_nonce);
        let mut writer = OptionWriter::new(&mut out[LEN..]);
        self.announcement.emit(&mut writer);
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::tests::{announcement, assert_golden, sealed};
    use crate::wire::{Message, OptionType};

    /// Section 5.7 with every option that we know for it.
    const GOLDEN: [u8; 136] = hex!(
        "3b 10 04 00 00b0 7edcba987654 deadbeef"
        "0004 002c 89abcdef 02 01 02 0000000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "0006 000b 89abcdef 03 010507 820003 00"
        "0008 000d 01020304 05060708 090a0b0c 0d 00000000000000"
        "000a 0006 51525354 5556 000000000000"
        "0014 0004 0000 012c"
        "a66c 0004 0000012c"
    );

    fn message() -> R2 {
        R2 {
            responder_context_tag: ContextTag::from_random_bits(0x7edc_ba98_7654),
            initiator_nonce: 0xdead_beef,
            announcement: announcement(),
        }
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::R2(message()));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut octets = GOLDEN;
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::R2(message())));
    }

    #[test]
    fn forked_instance_is_not_valid_here() {
        let octets = [&GOLDEN[..], &hex!("000e 0004 00000001")].concat();
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::R2(message())));
        let octets = [&GOLDEN[..16], &hex!("000f 0004 00000001")].concat();
        let option_type = OptionType::FORKED_INSTANCE;
        let unknown = ParseError::UnknownCriticalOption {
            option_type,
            offset: 16,
        };
        assert_eq!(Message::parse(&sealed(&octets)), Err(unknown));
    }
}
