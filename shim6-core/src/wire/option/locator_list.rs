//! Locator List option (RFC 5533 section 5.15.2).
//!
//! ```text
//! |           Type = 2          |0|            Length             |
//! |                     Locator List Generation                   |
//! |  Num Locators |   N octets of Verification Method, padding    |
//! ~               N locators of 16 octets each                    ~
//! ```
//!
//! The padding before the locators makes them start on a multiple of 8 octets from the start of the
//! option, and Length includes it.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::{HEADER, OptionWriter, RawOption, padded_len};
use crate::wire::{EmitError, OptionType, ParseError, VerificationMethod};

// Offsets in the contents.
const NUM_LOCATORS: usize = 4;
const METHODS: usize = 5;
const LOCATOR: usize = 16;

const MAX_LOCATORS: usize = 255;

/// Where the locators start in the contents, for a number of them.
const fn locators_at(count: usize) -> usize {
    (HEADER + METHODS + count).next_multiple_of(8) - HEADER
}

const fn length(count: usize) -> usize {
    locators_at(count) + LOCATOR * count
}

/// A Locator List in the octets of a message; the number of locators has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocatorListView<'a> {
    generation: u32,
    methods: &'a [u8],
    locators: &'a [[u8; LOCATOR]],
    offset: usize,
}

impl<'a> LocatorListView<'a> {
    pub(super) fn parse(option: &RawOption<'a>) -> Result<Self, ParseError> {
        let malformed = ParseError::MalformedOption(OptionType::LOCATOR_LIST);
        let contents = option.contents;
        let ([generation @ .., count], rest) = contents.split_first_chunk::<METHODS>().ok_or(malformed)?;
        if *count == 0 {
            return Err(ParseError::ZeroLocators);
        }
        let mismatch = ParseError::LocatorCount {
            locators: *count,
            length: contents.len(),
        };
        let count = usize::from(*count);
        if contents.len() != length(count) {
            return Err(mismatch);
        }
        let methods = rest.get(..count).ok_or(mismatch)?;
        let locators = contents.get(locators_at(count)..).ok_or(mismatch)?;
        let (locators, _) = locators.as_chunks::<LOCATOR>();
        Ok(LocatorListView {
            generation: u32::from_be_bytes(*generation),
            methods,
            locators,
            offset: option.offset,
        })
    }

    /// Locator List Generation, to be compared for equality only.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Number of locators, at least 1.
    pub fn count(&self) -> usize {
        self.locators.len()
    }

    /// The locators in the order of the list.
    pub fn locators(&self) -> impl Iterator<Item = (VerificationMethod, Ipv6Addr)> + use<'a> {
        let methods = self.methods.iter().map(|method| VerificationMethod(*method));
        methods.zip(self.locators.iter().map(|octets| Ipv6Addr::from(*octets)))
    }

    /// Where the verification method of the locator number `index` is, from the first octet of the
    /// message: what the pointer of an Error message with code 2 refers to.
    pub fn method_offset(&self, index: usize) -> Option<usize> {
        (index < self.count()).then(|| self.offset + HEADER + METHODS + index)
    }

    /// Where the generation is, from the first octet of the message.
    pub fn generation_offset(&self) -> usize {
        self.offset + HEADER
    }

    /// Copies the list.
    pub fn to_list(&self) -> LocatorList {
        LocatorList {
            generation: self.generation,
            locators: self.locators().collect(),
        }
    }
}

/// All locators of a host, with how each can be verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocatorList {
    /// Number of this version of the list, to which preferences refer.
    pub generation: u32,
    /// The locators; their order matters to preferences. At least 1 and at most 255 on the wire.
    pub locators: Vec<(VerificationMethod, Ipv6Addr)>,
}

impl LocatorList {
    /// Octets of the option.
    pub fn buffer_len(&self) -> usize {
        padded_len(length(self.locators.len()))
    }

    pub(in crate::wire) fn check(&self) -> Result<(), EmitError> {
        if self.locators.is_empty() {
            return Err(EmitError::ZeroLocators);
        }
        if self.locators.len() > MAX_LOCATORS {
            return Err(EmitError::LocatorCount {
                locators: self.locators.len(),
            });
        }
        Ok(())
    }

    /// The number of locators has been checked: it fits 8 bits.
    pub(in crate::wire) fn emit(&self, writer: &mut OptionWriter<'_>) {
        let count = self.locators.len();
        let contents = writer.begin(OptionType::LOCATOR_LIST, length(count));
        contents[..NUM_LOCATORS].copy_from_slice(&self.generation.to_be_bytes());
        contents[NUM_LOCATORS] = count as u8;
        let (methods, locators) = contents.split_at_mut(locators_at(count));
        let (locators, _) = locators.as_chunks_mut::<LOCATOR>();
        let places = methods[METHODS..].iter_mut().zip(locators);
        for ((method, locator), place) in self.locators.iter().zip(places) {
            *place.0 = method.0;
            *place.1 = locator.octets();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    /// 4 + 4 + 1 + 2 octets, 5 of padding, 2 locators: 48, of which Length leaves out 4.
    const GOLDEN: [u8; 48] = hex!(
        "0004 002c 89abcdef"
        "02 01 02 0000000000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
    );

    fn list() -> LocatorList {
        let locator = |net, host| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host);
        LocatorList {
            generation: 0x89ab_cdef,
            locators: vec![
                (VerificationMethod::HBA, locator(0xa1, 0xaa)),
                (VerificationMethod::CGA, locator(0xb2, 0xbb)),
            ],
        }
    }

    fn parsed(octets: &[u8]) -> Result<Option<LocatorListView<'_>>, ParseError> {
        Ok(OptionSet::collect(octets, 24, &[OptionType::LOCATOR_LIST])?.locators)
    }

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = vec![0; list().buffer_len()];
        list().emit(&mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed() {
        let view = parsed(&GOLDEN).ok().flatten().expect("a list");
        assert_eq!(view.to_list(), list());
        assert_eq!(view.method_offset(1), Some(24 + 10));
        assert_eq!(view.method_offset(2), None);
    }

    #[test]
    fn internal_padding_follows_the_number_of_locators() {
        // By hand: 9 octets and one per locator, up to the next multiple of 8; then the locators.
        for (count, total) in [(1, 32), (7, 128), (8, 152), (15, 264), (16, 288)] {
            let mut many = list();
            many.locators.resize(count, many.locators[0]);
            let mut octets = vec![0; many.buffer_len()];
            assert_eq!(octets.len(), total, "{count} locators");
            many.emit(&mut OptionWriter::new(&mut octets));
            assert_eq!(usize::from(octets[3]) + 256 * usize::from(octets[2]), total - 4);
            assert_eq!(
                parsed(&octets).map(|view| view.map(|view| view.to_list())),
                Ok(Some(many))
            );
        }
    }

    #[test]
    fn number_of_locators_must_fit_the_length() {
        for locators in [1, 3, 7, 255] {
            let mut octets = GOLDEN;
            octets[8] = locators;
            assert_eq!(parsed(&octets), Err(ParseError::LocatorCount { locators, length: 44 }));
        }
    }

    #[test]
    fn empty_list_is_refused() {
        let octets = hex!("0004 000c 89abcdef 00 00000000000000");
        assert_eq!(parsed(&octets), Err(ParseError::ZeroLocators));
    }

    #[test]
    fn list_without_a_number_of_locators_is_malformed() {
        let error = ParseError::MalformedOption(OptionType::LOCATOR_LIST);
        assert_eq!(parsed(&hex!("0004 0004 89abcdef")), Err(error));
        assert_eq!(parsed(&hex!("0004 0000 00000000")), Err(error));
    }
}
