//! Options: type, length, contents, padded to 8 octets (RFC 5533 section 5.15).
//!
//! ```text
//! |             Type            |C|             Length            |
//! ~                    Contents, then Padding                     ~
//! ```
//!
//! Length counts the contents only. Padding is written as zero and not looked at when read.

mod announcement;
pub mod cga_parameters;
pub mod cga_signature;
pub mod forked_instance;
pub mod keepalive_timeout;
pub mod keepalive_timeout_ms;
pub mod locator_list;
pub mod locator_preferences;
pub mod responder_validator;
mod set;
pub mod ulid_pair;

pub use announcement::Announcement;
pub(in crate::wire) use announcement::OPTIONS as ANNOUNCEMENT;
pub use locator_list::{LocatorList, LocatorListView};
pub use locator_preferences::{LocatorPreferences, LocatorPreferencesView, Preference, PreferenceFlags};
pub use set::OptionSet;
pub use ulid_pair::UlidPair;

use core::mem;

use super::{OptionType, ParseError};

/// Octets of Type and Length.
const HEADER: usize = 4;

/// Octets of an option whose contents are `length` octets, with its header and padding (RFC 5533
/// section 5.15).
pub const fn padded_len(length: usize) -> usize {
    11 + length - (length + 3) % 8
}

/// One option, whatever its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawOption<'a> {
    /// Type without the critical bit.
    pub option_type: OptionType,
    /// Whether a receiver that does not know the option must refuse the message.
    pub critical: bool,
    /// Where the option starts, from the first octet of the message.
    pub offset: usize,
    /// The contents without padding.
    pub contents: &'a [u8],
}

impl<'a> RawOption<'a> {
    /// The contents of an option that has only one right Length.
    fn exact<const N: usize>(&self) -> Result<&'a [u8; N], ParseError> {
        self.contents
            .try_into()
            .map_err(|_| ParseError::MalformedOption(self.option_type))
    }
}

/// Walks over the options of a message. After an error it is at its end.
#[derive(Clone, Debug)]
pub(crate) struct RawOptions<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> RawOptions<'a> {
    /// The options in `octets`, which start `offset` octets into the message and fill it to its end.
    pub(crate) fn new(octets: &'a [u8], offset: usize) -> Self {
        RawOptions { rest: octets, offset }
    }

    fn take(&mut self) -> Option<RawOption<'a>> {
        let ([t0, t1, l0, l1], _) = self.rest.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (option, rest) = self.rest.split_at_checked(padded_len(length))?;
        let contents = option.get(HEADER..HEADER + length)?;
        let type_and_critical = u16::from_be_bytes([*t0, *t1]);
        let raw = RawOption {
            option_type: OptionType(type_and_critical >> 1),
            critical: type_and_critical & 1 != 0,
            offset: self.offset,
            contents,
        };
        self.offset += option.len();
        self.rest = rest;
        Some(raw)
    }
}

impl<'a> Iterator for RawOptions<'a> {
    type Item = Result<RawOption<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take().ok_or(ParseError::OptionPastEnd { offset: self.offset });
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken)
    }
}

/// Writes options one after the other into zeroed octets, which are as many as the options'
/// `buffer_len` add up to.
#[derive(Debug)]
pub(super) struct OptionWriter<'a> {
    rest: &'a mut [u8],
}

impl<'a> OptionWriter<'a> {
    pub(super) fn new(zeroed: &'a mut [u8]) -> Self {
        OptionWriter { rest: zeroed }
    }

    /// Writes the header of the next option, not critical, and gives its contents of `length` octets.
    fn begin(&mut self, option_type: OptionType, length: usize) -> &'a mut [u8] {
        let (option, rest) = mem::take(&mut self.rest).split_at_mut(padded_len(length));
        self.rest = rest;
        option[..2].copy_from_slice(&(option_type.0 << 1).to_be_bytes());
        option[2..HEADER].copy_from_slice(&(length as u16).to_be_bytes());
        &mut option[HEADER..HEADER + length]
    }

    /// Writes an option that is nothing but its contents.
    fn put(&mut self, option_type: OptionType, contents: &[u8]) {
        self.begin(option_type, contents.len()).copy_from_slice(contents);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use hex_literal::hex;

    use super::*;

    #[test]
    fn options_are_padded_to_eight_octets() {
        // Length, Total Length: by hand from "smallest multiple of 8 that holds header and contents".
        let table = [
            (0, 8),
            (1, 8),
            (2, 8),
            (3, 8),
            (4, 8),
            (5, 16),
            (6, 16),
            (7, 16),
            (8, 16),
            (11, 16),
            (12, 16),
            (13, 24),
            (20, 24),
            (21, 32),
            (36, 40),
            (37, 48),
            (65535, 65544),
        ];
        for (length, total) in table {
            assert_eq!(padded_len(length), total, "Length {length}");
        }
    }

    #[test]
    fn options_are_walked_with_their_offsets() {
        let octets = hex!(
            "0010 0001 aa ffffff" // type 8, one octet, padding that is not zero
            "a66d 0004 01020304" // type 21302, critical
            "ffff 0000 00000000" // the largest type, critical, empty
        );
        let walked: Vec<_> = RawOptions::new(&octets, 16).collect();
        let option = |option_type, critical, offset, contents| {
            Ok(RawOption {
                option_type: OptionType(option_type),
                critical,
                offset,
                contents,
            })
        };
        assert_eq!(
            walked,
            [
                option(8, false, 16, &[0xaa][..]),
                option(21302, true, 24, &[1, 2, 3, 4]),
                option(0x7fff, true, 32, &[]),
            ]
        );
    }

    #[test]
    fn option_past_its_message_is_an_error_and_the_end() {
        for octets in [
            &hex!("0010 0000 00000000 0010 0005 01020304")[..], // contents past the end
            &hex!("0010 0000 00000000 0010 ffff 01020304"),     // far past the end
            &hex!("0010 0000 00000000 0010 00"),                // header past the end
            &hex!("0010 0000 00000000 0010 0002 0102"),         // padding past the end
        ] {
            let mut options = RawOptions::new(octets, 16);
            assert!(options.next().is_some_and(|first| first.is_ok()));
            assert_eq!(options.next(), Some(Err(ParseError::OptionPastEnd { offset: 24 })));
            assert_eq!(options.next(), None);
        }
    }

    #[test]
    fn options_are_written_one_after_the_other() {
        let mut octets = [0; 24];
        let mut writer = OptionWriter::new(&mut octets);
        writer.put(OptionType::RESPONDER_VALIDATOR, &[1, 2, 3, 4, 5]);
        writer.put(OptionType::KEEPALIVE_TIMEOUT_MS, &[6]);
        assert_eq!(
            octets,
            hex!("0002 0005 0102030405 00000000000000" "a66c 0001 06 000000")
        );
    }
}
