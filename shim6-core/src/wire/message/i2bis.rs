//! I2bis, the answer to R1bis (RFC 5533 section 5.9).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 6   |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                  Initiator Context Tag                        |
//! |                    Initiator Nonce                            |
//! |                    Responder Nonce                            |
//! |                       Reserved2                               |
//! |                                 |                             |
//! |                     Packet Context Tag                        |
//! ~                         Options                               ~
//! ```
//!
//! Reserved2 is 49 bits long, so that the tag ends at octet 32.

use alloc::vec::Vec;

use super::i2::OPTIONS;
use crate::wire::header::{Control, put_tag, put_tag_at, put_u32, tag_at, tag_of, u32_at};
use crate::wire::option::{
    Announcement, OptionSet, OptionWriter, UlidPair, forked_instance, responder_validator, ulid_pair,
};
use crate::wire::{ContextTag, EmitError, ParseError};

const INITIATOR_NONCE: usize = 12;
const RESPONDER_NONCE: usize = 16;
/// With the last of the reserved bits.
const PACKET_TAG: usize = 26;
const LEN: usize = 32;

/// An I2bis in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct I2bisView<'a> {
    fixed: &'a [u8; LEN],
    validator: &'a [u8],
    options: OptionSet<'a>,
}

impl<'a> I2bisView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, OPTIONS)?;
        Ok(I2bisView {
            fixed,
            validator: options.required_validator()?,
            options,
        })
    }

    /// The tag that the initiator has allocated.
    pub fn initiator_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// A random number that the responder returns in R2.
    pub fn initiator_nonce(&self) -> u32 {
        u32_at(self.fixed, INITIATOR_NONCE)
    }

    /// Copied from R1bis.
    pub fn responder_nonce(&self) -> u32 {
        u32_at(self.fixed, RESPONDER_NONCE)
    }

    /// Copied from R1bis: the tag by which the responder does not know the context.
    pub fn packet_context_tag(&self) -> ContextTag {
        tag_at(self.fixed, PACKET_TAG)
    }

    /// Copied from R1bis.
    pub fn validator(&self) -> &'a [u8] {
        self.validator
    }

    /// All options, the validator among them.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> I2bis {
        I2bis {
            initiator_context_tag: self.initiator_context_tag(),
            initiator_nonce: self.initiator_nonce(),
            responder_nonce: self.responder_nonce(),
            packet_context_tag: self.packet_context_tag(),
            validator: self.validator.to_vec(),
            ulid_pair: self.options.ulid_pair,
            forked_instance: self.options.forked_instance,
            announcement: Announcement::of(&self.options),
        }
    }
}

/// I2bis: the initiator still has the context, and gives the responder what it takes to make it anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct I2bis {
    /// The tag that the initiator has allocated.
    pub initiator_context_tag: ContextTag,
    /// A random number that the responder returns in R2.
    pub initiator_nonce: u32,
    /// Copied from R1bis.
    pub responder_nonce: u32,
    /// Copied from R1bis: the tag by which the responder does not know the context.
    pub packet_context_tag: ContextTag,
    /// Copied from R1bis.
    pub validator: Vec<u8>,
    /// The ULIDs, when they are not the addresses of the packet.
    pub ulid_pair: Option<UlidPair>,
    /// Number of the forked instance; `None` is instance 0.
    pub forked_instance: Option<u32>,
    /// The initiator's locators and timeouts.
    pub announcement: Announcement,
}

impl I2bis {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + responder_validator::buffer_len(&self.validator)
            + self.ulid_pair.map_or(0, |_| ulid_pair::BUFFER_LEN)
            + self.forked_instance.map_or(0, |_| forked_instance::BUFFER_LEN)
            + self.announcement.buffer_len()
    }

    pub(super) fn check(&self) -> Result<(), EmitError> {
        self.announcement.check()
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.initiator_context_tag);
        put_u32(out, INITIATOR_NONCE, self.initiator_nonce);
        put_u32(out, RESPONDER_NONCE, self.responder_nonce);
        put_tag_at(out, PACKET_TAG, self.packet_context_tag);
        let mut writer = OptionWriter::new(&mut out[LEN..]);
        responder_validator::emit(&self.validator, &mut writer);
        if let Some(pair) = &self.ulid_pair {
            pair.emit(&mut writer);
        }
        if let Some(instance) = self.forked_instance {
            forked_instance::emit(instance, &mut writer);
        }
        self.announcement.emit(&mut writer);
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use hex_literal::hex;

    use super::*;
    use crate::wire::tests::{announcement, assert_golden, sealed};
    use crate::wire::{Message, OptionType};

    /// Section 5.9 with every option that we know for it.
    const GOLDEN: [u8; 216] = hex!(
        "3b 1a 06 00 2c1d 123456789abc deadbeef c0ffee11 00000000 0000 7edcba987654"
        "0002 0006 a1a2a3a4 a5a6 000000000000"
        "000c 0024 00000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "000e 0004 0badcafe"
        "0004 002c 89abcdef 02 01 02 0000000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "0006 000b 89abcdef 03 010507 820003 00"
        "0008 000d 01020304 05060708 090a0b0c 0d 00000000000000"
        "000a 0006 51525354 5556 000000000000"
        "0014 0004 0000 012c"
        "a66c 0004 0000012c"
    );

    fn message() -> I2bis {
        I2bis {
            initiator_context_tag: ContextTag::from_random_bits(0x1234_5678_9abc),
            initiator_nonce: 0xdead_beef,
            responder_nonce: 0xc0ff_ee11,
            packet_context_tag: ContextTag::from_random_bits(0x7edc_ba98_7654),
            validator: hex!("a1a2a3a4a5a6").to_vec(),
            ulid_pair: Some(UlidPair {
                sender: Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa),
                receiver: Ipv6Addr::new(0x2001, 0xdb8, 0xb2, 0, 0, 0, 0, 0xbb),
            }),
            forked_instance: Some(0x0bad_cafe),
            announcement: announcement(),
        }
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::I2bis(message()));
    }

    #[test]
    fn reserved_bits_are_ignored_all_49_of_them() {
        let mut octets = GOLDEN;
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        octets[20..26].fill(0xff);
        octets[26] |= 0x80;
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::I2bis(message())));
    }

    #[test]
    fn all_47_bits_of_both_tags_survive() {
        let largest = I2bis {
            initiator_context_tag: ContextTag::MAX,
            packet_context_tag: ContextTag::MAX,
            ..message()
        };
        let mut octets = [0; GOLDEN.len()];
        assert_eq!(Message::I2bis(largest.clone()).emit(&mut octets), Ok(octets.len()));
        assert_eq!(octets[26..32], hex!("7fffffffffff"));
        assert_eq!(Message::parse(&octets), Ok(Message::I2bis(largest)));
    }

    #[test]
    fn validator_is_required() {
        let missing = ParseError::MissingOption(OptionType::RESPONDER_VALIDATOR);
        assert_eq!(Message::parse(&sealed(&GOLDEN[..LEN])), Err(missing));
    }
}
