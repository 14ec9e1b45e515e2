//! I1, the first message of the context exchange (RFC 5533 section 5.4).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 1   |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                  Initiator Context Tag                        |
//! |                    Initiator Nonce                            |
//! ~                         Options                               ~
//! ```

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::{OptionSet, OptionWriter, UlidPair, forked_instance, ulid_pair};
use crate::wire::{ContextTag, OptionType, ParseError};

const INITIATOR_NONCE: usize = 12;
const LEN: usize = 16;

pub(super) const OPTIONS: &[OptionType] = &[OptionType::ULID_PAIR, OptionType::FORKED_INSTANCE];

/// An I1 in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct I1View<'a> {
    fixed: &'a [u8; LEN],
    options: OptionSet<'a>,
}

impl<'a> I1View<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, OPTIONS)?;
        Ok(I1View { fixed, options })
    }

    /// The tag that the initiator has allocated.
    pub fn initiator_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// A random number that the responder returns in R1.
    pub fn initiator_nonce(&self) -> u32 {
        u32_at(self.fixed, INITIATOR_NONCE)
    }

    /// ULID Pair and Forked Instance Identifier.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> I1 {
        I1 {
            initiator_context_tag: self.initiator_context_tag(),
            initiator_nonce: self.initiator_nonce(),
            ulid_pair: self.options.ulid_pair,
            forked_instance: self.options.forked_instance,
        }
    }
}

/// I1: an initiator wants a context.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct I1 {
    /// The tag that the initiator has allocated.
    pub initiator_context_tag: ContextTag,
    /// A random number that the responder returns in R1.
    pub initiator_nonce: u32,
    /// The ULIDs, when they are not the addresses of the packet.
    pub ulid_pair: Option<UlidPair>,
    /// Number of the forked instance; `None` is instance 0.
    pub forked_instance: Option<u32>,
}

impl I1 {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + self.ulid_pair.map_or(0, |_| ulid_pair::BUFFER_LEN)
            + self.forked_instance.map_or(0, |_| forked_instance::BUFFER_LEN)
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.initiator_context_tag);
        put_u32(out, INITIATOR_NONCE, self.initiator_nonce);
        let mut writer = OptionWriter::new(&mut out[LEN..]);
        if let Some(pair) = &self.ulid_pair {
            pair.emit(&mut writer);
        }
        if let Some(instance) = self.forked_instance {
            forked_instance::emit(instance, &mut writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use hex_literal::hex;

    use super::*;
    use crate::wire::Message;
    use crate::wire::tests::{assert_golden, sealed};

    /// Section 5.4 without options.
    const SHORT: [u8; 16] = hex!("3b 01 01 00 22f8 123456789abc deadbeef");

    /// Section 5.4 with both options.
    const GOLDEN: [u8; 64] = hex!(
        "3b 07 01 00 edd9 123456789abc deadbeef"
        "000c 0024 00000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "000e 0004 0badcafe"
    );

    fn message() -> I1 {
        I1 {
            initiator_context_tag: ContextTag::from_random_bits(0x1234_5678_9abc),
            initiator_nonce: 0xdead_beef,
            ulid_pair: Some(UlidPair {
                sender: Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa),
                receiver: Ipv6Addr::new(0x2001, 0xdb8, 0xb2, 0, 0, 0, 0, 0xbb),
            }),
            forked_instance: Some(0x0bad_cafe),
        }
    }

    #[test]
    fn golden_messages_are_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::I1(message()));
        let short = I1 {
            ulid_pair: None,
            forked_instance: None,
            ..message()
        };
        assert_golden(&SHORT, Message::I1(short));
    }

    #[test]
    fn reserved_bits_and_next_header_are_ignored() {
        let mut octets = GOLDEN;
        octets[0] = 6;
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::I1(message())));
    }

    #[test]
    fn order_of_the_options_does_not_matter() {
        let mut octets = GOLDEN;
        octets[16..].rotate_right(8);
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::I1(message())));
    }
}
