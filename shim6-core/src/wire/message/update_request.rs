//! Update Request (RFC 5533 section 5.10).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 64  |   Reserved1 |0|
//! |            Checksum           |R|                             |
//! |                   Receiver Context Tag                        |
//! |                    Request Nonce                              |
//! ~                         Options                               ~
//! ```
//!
//! A Locator List or Locator Preferences in it replace the former ones as a whole.

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::{ANNOUNCEMENT, Announcement, OptionSet, OptionWriter};
use crate::wire::{ContextTag, EmitError, ParseError};

const REQUEST_NONCE: usize = 12;
const LEN: usize = 16;

/// An Update Request in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpdateRequestView<'a> {
    fixed: &'a [u8; LEN],
    options: OptionSet<'a>,
}

impl<'a> UpdateRequestView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, options) = control.split::<LEN>()?;
        let options = OptionSet::collect(options, LEN, &ANNOUNCEMENT)?;
        Ok(UpdateRequestView { fixed, options })
    }

    /// The tag that the receiver has allocated.
    pub fn receiver_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// A random number that the receiver returns in its Update Acknowledgement.
    pub fn request_nonce(&self) -> u32 {
        u32_at(self.fixed, REQUEST_NONCE)
    }

    /// All options.
    pub fn options(&self) -> &OptionSet<'a> {
        &self.options
    }

    /// Copies the message.
    pub fn to_message(&self) -> UpdateRequest {
        UpdateRequest {
            receiver_context_tag: self.receiver_context_tag(),
            request_nonce: self.request_nonce(),
            announcement: Announcement::of(&self.options),
        }
    }
}

/// Update Request: the sender's locators or preferences are others than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateRequest {
    /// The tag that the receiver has allocated.
    pub receiver_context_tag: ContextTag,
    /// A random number that the receiver returns in its Update Acknowledgement.
    pub request_nonce: u32,
    /// What is new; what is left out stays as it was.
    pub announcement: Announcement,
}

impl UpdateRequest {
    pub(super) fn buffer_len(&self) -> usize {
        LEN + self.announcement.buffer_len()
    }

    pub(super) fn check(&self) -> Result<(), EmitError> {
        self.announcement.check()
    }

    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.receiver_context_tag);
        put_u32(out, REQUEST_NONCE, self.request_nonce);
        self.announcement.emit(&mut OptionWriter::new(&mut out[LEN..]));
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::tests::{announcement, assert_golden, sealed};
    use crate::wire::{Message, View};

    /// Section 5.10 with every option that we know for it.
    const GOLDEN: [u8; 136] = hex!(
        "3b 10 40 00 c4af 7edcba987654 deadbeef"
        "0004 002c 89abcdef 02 01 02 0000000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "0006 000b 89abcdef 03 010507 820003 00"
        "0008 000d 01020304 05060708 090a0b0c 0d 00000000000000"
        "000a 0006 51525354 5556 000000000000"
        "0014 0004 0000 012c"
        "a66c 0004 0000012c"
    );

    fn message() -> UpdateRequest {
        UpdateRequest {
            receiver_context_tag: ContextTag::from_random_bits(0x7edc_ba98_7654),
            request_nonce: 0xdead_beef,
            announcement: announcement(),
        }
    }

    #[test]
    fn golden_messages_are_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::UpdateRequest(message()));
        let short = UpdateRequest {
            announcement: Announcement::default(),
            ..message()
        };
        assert_golden(&sealed(&GOLDEN[..LEN]), Message::UpdateRequest(short));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut octets = GOLDEN;
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::UpdateRequest(message())));
    }

    #[test]
    fn view_tells_where_the_fields_of_the_preferences_are() {
        let Ok(View::UpdateRequest(view)) = View::parse(&GOLDEN) else {
            panic!("the golden message is an Update Request");
        };
        let preferences = view.options().preferences.expect("it has Locator Preferences");
        assert_eq!((preferences.length_offset(), preferences.generation_offset()), (66, 68));
        assert_eq!(GOLDEN[66..72], hex!("000b 89abcdef"));
    }

    #[test]
    fn elements_that_would_lose_something_are_not_emitted() {
        let mut message = message();
        let preferences = message.announcement.preferences.as_mut().expect("it has them");
        preferences.element_len = 2;
        let error = EmitError::ElementLen {
            element_len: 2,
            needed: 3,
        };
        assert_eq!(Message::UpdateRequest(message).emit(&mut [0; 1280]), Err(error));
    }
}
