//! Locator Preferences option (RFC 5533 section 5.15.3).
//!
//! ```text
//! |           Type = 3          |0|            Length             |
//! |                     Locator List Generation                   |
//! |  Element Len  |   elements of Element Len octets, padding     |
//! ```
//!
//! An element is flags, priority and weight of one octet each, as many of them as Element Len has room for; what is left
//! out is zero. The first three octets of longer elements are the same, and the rest is for others to define: ignored
//! here, and written as zeros. There is no count of elements: they fill Length, and whether there are as many as locators
//! (Error 4) is for who has the list of that generation to see.

use alloc::vec::Vec;

use super::{HEADER, OptionWriter, RawOption, padded_len};
use crate::wire::{EmitError, OptionType, ParseError};

// Offsets in the contents.
const GENERATION: usize = 0;
const ELEMENT_LEN: usize = 4;
const ELEMENTS: usize = 5;

/// Where the Length field is in an option.
const LENGTH_FIELD: usize = 2;

/// Locator Preferences in the octets of a message; its elements are whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocatorPreferencesView<'a> {
    generation: u32,
    /// Never 0.
    element_len: u8,
    elements: &'a [u8],
    offset: usize,
}

impl<'a> LocatorPreferencesView<'a> {
    pub(super) fn parse(option: &RawOption<'a>) -> Result<Self, ParseError> {
        let malformed = ParseError::MalformedOption(OptionType::LOCATOR_PREFERENCES);
        let ([generation @ .., element_len], elements) =
            option.contents.split_first_chunk::<ELEMENTS>().ok_or(malformed)?;
        if *element_len == 0 {
            return Err(ParseError::ZeroElementLen);
        }
        if !elements.len().is_multiple_of(usize::from(*element_len)) {
            return Err(malformed);
        }
        Ok(LocatorPreferencesView {
            generation: u32::from_be_bytes(*generation),
            element_len: *element_len,
            elements,
            offset: option.offset,
        })
    }

    /// Generation of the Locator List that the elements are about.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Octets of an element, at least 1.
    pub fn element_len(&self) -> u8 {
        self.element_len
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.elements().len()
    }

    /// The elements in the order of the Locator List.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = Preference> + use<'a> {
        self.elements
            .chunks_exact(self.element_len.into())
            .map(Preference::read)
    }

    /// Where the generation is, from the first octet of the message: what the pointer of an Error message with code 3
    /// refers to.
    pub fn generation_offset(&self) -> usize {
        self.offset + HEADER + GENERATION
    }

    /// Where the option's Length is, from the first octet of the message: what the pointer of an Error message with
    /// code 4 refers to, since nothing but Length tells the number of elements.
    pub fn length_offset(&self) -> usize {
        self.offset + LENGTH_FIELD
    }

    /// Copies the preferences.
    pub fn to_preferences(&self) -> LocatorPreferences {
        LocatorPreferences {
            generation: self.generation,
            element_len: self.element_len,
            elements: self.elements().collect(),
        }
    }
}

/// What a host says of each of its locators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocatorPreferences {
    /// Generation of the Locator List that the elements are about.
    pub generation: u32,
    /// Octets of an element: 1 for the flags, 2 with the priority, 3 with the weight; more are zeros. Not 0, and not
    /// less than the elements need.
    pub element_len: u8,
    /// One element for each locator of the list, in its order.
    pub elements: Vec<Preference>,
}

impl LocatorPreferences {
    /// Preferences with the shortest elements that say it all.
    pub fn new(generation: u32, elements: Vec<Preference>) -> Self {
        LocatorPreferences {
            generation,
            element_len: needed(&elements),
            elements,
        }
    }

    /// Octets of the option.
    pub fn buffer_len(&self) -> usize {
        padded_len(self.length())
    }

    fn length(&self) -> usize {
        ELEMENTS + usize::from(self.element_len) * self.elements.len()
    }

    pub(in crate::wire) fn check(&self) -> Result<(), EmitError> {
        let needed = needed(&self.elements);
        if self.element_len < needed {
            return Err(EmitError::ElementLen {
                element_len: self.element_len,
                needed,
            });
        }
        Ok(())
    }

    /// Element Len has been checked, and the message's size, which bounds the number of elements.
    pub(in crate::wire) fn emit(&self, writer: &mut OptionWriter<'_>) {
        let contents = writer.begin(OptionType::LOCATOR_PREFERENCES, self.length());
        contents[..ELEMENT_LEN].copy_from_slice(&self.generation.to_be_bytes());
        contents[ELEMENT_LEN] = self.element_len;
        let places = contents[ELEMENTS..].chunks_exact_mut(self.element_len.into());
        for (element, place) in self.elements.iter().zip(places) {
            for (octet, value) in place.iter_mut().zip(element.octets()) {
                *octet = value;
            }
        }
    }
}

/// The shortest Element Len for these elements.
fn needed(elements: &[Preference]) -> u8 {
    elements.iter().map(Preference::needed).max().unwrap_or(1)
}

/// What a host says of one of its locators. Priority and weight mean what they mean in DNS SRV records (RFC 2782): the
/// lowest priority first, and shares by weight among equals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Preference {
    /// Whether it works, and how long it may last.
    pub flags: PreferenceFlags,
    /// Locators of a lower priority come first.
    pub priority: u8,
    /// Share of the traffic among locators of the same priority.
    pub weight: u8,
}

impl Preference {
    /// Element Len that has room for it.
    fn needed(&self) -> u8 {
        match self {
            Preference { weight: 1.., .. } => 3,
            Preference { priority: 1.., .. } => 2,
            _ => 1,
        }
    }

    fn octets(&self) -> [u8; 3] {
        [self.flags.0, self.priority, self.weight]
    }

    fn read(element: &[u8]) -> Self {
        let octet = |at: usize| element.get(at).copied().unwrap_or(0);
        Preference {
            flags: PreferenceFlags(octet(0)),
            priority: octet(1),
            weight: octet(2),
        }
    }
}

/// Flags of a locator; bits that nobody has defined survive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PreferenceFlags(
    /// The octet on the wire.
    pub u8,
);

impl PreferenceFlags {
    /// The locator is known not to work.
    pub const BROKEN: PreferenceFlags = PreferenceFlags(1);
    /// The locator is less stable than others, such as a care-of address.
    pub const TRANSIENT: PreferenceFlags = PreferenceFlags(2);

    /// Whether the BROKEN flag is set.
    pub const fn is_broken(self) -> bool {
        self.0 & Self::BROKEN.0 != 0
    }

    /// Whether the TRANSIENT flag is set.
    pub const fn is_transient(self) -> bool {
        self.0 & Self::TRANSIENT.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const BROKEN: Preference = preference(1, 0, 0);

    const fn preference(flags: u8, priority: u8, weight: u8) -> Preference {
        Preference {
            flags: PreferenceFlags(flags),
            priority,
            weight,
        }
    }

    /// The same two elements, as much of them as each Element Len has room for.
    const GOLDEN: [(&[u8], [Preference; 2]); 4] = [
        (
            &hex!("0006 0007 89abcdef 01 01 82 0000000000"),
            [preference(1, 0, 0), preference(0x82, 0, 0)],
        ),
        (
            &hex!("0006 0009 89abcdef 02 0105 82fe 000000"),
            [preference(1, 5, 0), preference(0x82, 0xfe, 0)],
        ),
        (
            &hex!("0006 000b 89abcdef 03 010507 82fe03 00"),
            [preference(1, 5, 7), preference(0x82, 0xfe, 3)],
        ),
        (
            &hex!("0006 000d 89abcdef 04 01050700 82fe0300 00000000000000"),
            [preference(1, 5, 7), preference(0x82, 0xfe, 3)],
        ),
    ];

    fn parsed(octets: &[u8]) -> Result<Option<LocatorPreferencesView<'_>>, ParseError> {
        Ok(OptionSet::collect(octets, 24, &[OptionType::LOCATOR_PREFERENCES])?.preferences)
    }

    fn view(octets: &[u8]) -> LocatorPreferencesView<'_> {
        parsed(octets).ok().flatten().expect("preferences")
    }

    #[test]
    fn golden_options_are_emitted_and_parsed() {
        for (octets, elements) in GOLDEN {
            let preferences = LocatorPreferences {
                generation: 0x89ab_cdef,
                element_len: octets[8],
                elements: elements.to_vec(),
            };
            let mut buffer = vec![0; preferences.buffer_len()];
            assert_eq!(preferences.check(), Ok(()));
            preferences.emit(&mut OptionWriter::new(&mut buffer));
            assert_eq!(buffer, octets);
            assert_eq!(view(octets).to_preferences(), preferences);
        }
    }

    #[test]
    fn octets_after_the_third_of_an_element_are_ignored() {
        let octets = hex!("0006 000f 89abcdef 05 0105070000 82fe03ffff 0000000000");
        let [_, _, _, (_, elements)] = GOLDEN;
        assert!(view(&octets).elements().eq(elements));
        assert_eq!((view(&octets).count(), view(&octets).element_len()), (2, 5));
    }

    #[test]
    fn offsets_are_those_of_the_fields() {
        let (octets, _) = GOLDEN[2];
        let view = view(octets);
        assert_eq!(octets[view.generation_offset() - 24..][..4], hex!("89abcdef"));
        assert_eq!(octets[view.length_offset() - 24..][..2], hex!("000b"));
    }

    #[test]
    fn no_elements_at_all_are_well_formed() {
        for octets in [
            hex!("0006 0005 89abcdef 01 00000000000000"),
            hex!("0006 0005 89abcdef ff 00000000000000"),
        ] {
            assert_eq!(view(&octets).count(), 0);
        }
    }

    #[test]
    fn element_len_0_has_its_own_fault() {
        for octets in [
            hex!("0006 0005 89abcdef 00 00000000000000"),
            hex!("0006 0007 89abcdef 00 0101 0000000000"),
        ] {
            assert_eq!(parsed(&octets), Err(ParseError::ZeroElementLen));
        }
    }

    #[test]
    fn elements_must_be_whole() {
        let malformed = Err(ParseError::MalformedOption(OptionType::LOCATOR_PREFERENCES));
        for octets in [
            hex!("0006 0006 89abcdef 02 01 000000000000"),
            hex!("0006 0009 89abcdef 03 01020304 000000"),
            hex!("0006 0006 89abcdef ff 01 000000000000"),
        ] {
            assert_eq!(parsed(&octets), malformed);
        }
        assert_eq!(parsed(&hex!("0006 0004 89abcdef")), malformed);
        assert_eq!(parsed(&hex!("0006 0000 00000000")), malformed);
    }

    #[test]
    fn new_takes_the_shortest_elements_that_say_it_all() {
        for (elements, element_len) in [
            (vec![], 1),
            (vec![BROKEN, Preference::default()], 1),
            (vec![BROKEN, preference(0, 1, 0)], 2),
            (vec![preference(0, 0, 1), BROKEN], 3),
        ] {
            let preferences = LocatorPreferences::new(7, elements);
            assert_eq!(preferences.element_len, element_len);
            assert_eq!(preferences.check(), Ok(()));
        }
    }

    #[test]
    fn elements_that_would_lose_something_are_not_emitted() {
        for (element, element_len, needed) in [
            (BROKEN, 0, 1),
            (preference(0, 1, 0), 1, 2),
            (preference(0, 0, 1), 2, 3),
            (preference(0, 255, 255), 1, 3),
        ] {
            let preferences = LocatorPreferences {
                generation: 7,
                element_len,
                elements: vec![Preference::default(), element],
            };
            let error = EmitError::ElementLen { element_len, needed };
            assert_eq!(preferences.check(), Err(error));
        }
    }

    #[test]
    fn undefined_flags_are_told_apart_from_defined_ones() {
        let flags = PreferenceFlags(0x82);
        assert!(flags.is_transient() && !flags.is_broken());
        assert!(PreferenceFlags::BROKEN.is_broken() && !PreferenceFlags::BROKEN.is_transient());
        assert!(!PreferenceFlags(0xfc).is_broken() && !PreferenceFlags(0xfc).is_transient());
    }
}
