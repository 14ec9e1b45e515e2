//! I2, the third message of the context exchange (RFC 5533 section 5.6).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 3   |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                  Initiator Context Tag                        |
//! |                    Initiator Nonce                            |
//! |                    Responder Nonce                            |
//! |                       Reserved2                               |
//! ~                         Options                               ~
//! ```

use alloc::vec::Vec;

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::{
    Announcement, OptionSet, OptionWriter, UlidPair, forked_instance, responder_validator, ulid_pair,
};
use crate::wire::{ContextTag, EmitError, OptionType, ParseError};

const INITIATOR_NONCE: usize = 12;
const RESPONDER_NONCE: usize = 16;
const LEN: usize = 24;

/// Those of I2bis, too.
pub(super) const OPTIONS: &[OptionType] = &[
    OptionType::RESPONDER_VALIDATOR,
    OptionType::LOCATOR_LIST,
    OptionType::LOCATOR_PREFERENCES,
    OptionType::CGA_PARAMETERS,
    OptionType::CGA_SIGNATURE,
    OptionType::ULID_PAIR,
    OptionType::FORKED_INSTANCE,
    OptionType::KEEPALIVE_TIMEOUT,
    OptionType::KEEPALIVE_TIMEOUT_MS,
];

/// An I2 in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct I2View<'a> {
    fixed: &'a [u8; LEN],
    validator: &'a [u8],
    options: OptionSet<'a>,
}

impl<'a> I2View<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, OPTIONS)?;
        Ok(I2View {
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

    /// Copied from R1.
    pub fn responder_nonce(&self) -> u32 {
        u32_at(self.fixed, RESPONDER_NONCE)
    }

    /// Copied from R1.
    pub fn validator(&self) -> &'a [u8] {
        self.validator
    }

    /// All options, the validator among them.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> I2 {
        I2 {
            initiator_context_tag: self.initiator_context_tag(),
            initiator_nonce: self.initiator_nonce(),
            responder_nonce: self.responder_nonce(),
            validator: self.validator.to_vec(),
            ulid_pair: self.options.ulid_pair,
            forked_instance: self.options.forked_instance,
            announcement: Announcement::of(&self.options),
        }
    }
}

/// I2: the initiator has the validator and tells its locators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct I2 {
    /// The tag that the initiator has allocated.
    pub initiator_context_tag: ContextTag,
    /// A random number that the responder returns in R2.
    pub initiator_nonce: u32,
    /// Copied from R1.
    pub responder_nonce: u32,
    /// Copied from R1.
    pub validator: Vec<u8>,
    /// The ULIDs, when they are not the addresses of the packet.
    pub ulid_pair: Option<UlidPair>,
    /// Number of the forked instance; `None` is instance 0.
    pub forked_instance: Option<u32>,
    /// The initiator's locators and timeouts.
    pub announcement: Announcement,
}

impl I2 {
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
    use alloc::vec;
    use core::net::Ipv6Addr;

    use hex_literal::hex;

    use super::*;
    use crate::wire::tests::{announcement, assert_golden, sealed};
    use crate::wire::{EmitError, LocatorList, Message, VerificationMethod, View};

    /// Section 5.6 with every option that we know for it.
    const GOLDEN: [u8; 208] = hex!(
        "3b 19 03 00 dee7 123456789abc deadbeef c0ffee11 00000000"
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

    fn message() -> I2 {
        let a = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa);
        let b = Ipv6Addr::new(0x2001, 0xdb8, 0xb2, 0, 0, 0, 0, 0xbb);
        I2 {
            initiator_context_tag: ContextTag::from_random_bits(0x1234_5678_9abc),
            initiator_nonce: 0xdead_beef,
            responder_nonce: 0xc0ff_ee11,
            validator: hex!("a1a2a3a4a5a6").to_vec(),
            ulid_pair: Some(UlidPair { sender: a, receiver: b }),
            forked_instance: Some(0x0bad_cafe),
            announcement: announcement(),
        }
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::I2(message()));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut octets = GOLDEN;
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        octets[20..24].fill(0xff);
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::I2(message())));
    }

    #[test]
    fn validator_is_required() {
        let missing = ParseError::MissingOption(OptionType::RESPONDER_VALIDATOR);
        assert_eq!(Message::parse(&sealed(&GOLDEN[..LEN])), Err(missing));
    }

    #[test]
    fn view_tells_where_a_verification_method_is() {
        let Ok(View::I2(view)) = View::parse(&GOLDEN) else {
            panic!("the golden message is an I2");
        };
        let list = view.options().locators.expect("it has a Locator List");
        let offset = list.method_offset(1).expect("it has two locators");
        assert_eq!(offset, 88 + 10);
        assert_eq!(GOLDEN[offset], VerificationMethod::CGA.0);
    }

    #[test]
    fn too_many_locators_do_not_fit_a_packet() {
        let mut message = message();
        let list = message.announcement.locators.as_mut().expect("it has a Locator List");
        list.locators.resize(100, list.locators[0]);
        let octets = 208 - 48 + 112 + 1600;
        let error = EmitError::TooLarge { octets };
        assert_eq!(Message::I2(message).emit(&mut [0; 4096]), Err(error));
    }

    #[test]
    fn locators_that_8_bits_cannot_count_are_not_emitted() {
        let mut message = message();
        let list = message.announcement.locators.as_mut().expect("it has a Locator List");
        list.locators.resize(256, list.locators[0]);
        let error = EmitError::LocatorCount { locators: 256 };
        assert_eq!(Message::I2(message).emit(&mut [0; 8192]), Err(error));
    }

    #[test]
    fn empty_locator_list_is_not_emitted() {
        let mut message = message();
        message.announcement.locators = Some(LocatorList {
            generation: 1,
            locators: vec![],
        });
        let error = EmitError::ZeroLocators;
        assert_eq!(Message::I2(message).emit(&mut [0; 1280]), Err(error));
    }
}
