//! Context tags (RFC 5533 sections 5.2 and 6.1).

use core::fmt;

/// A 47-bit context tag: the number under which its allocator finds a context.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextTag(u64);

impl ContextTag {
    /// Number of bits in a tag.
    pub const BITS: u32 = 47;

    /// Largest value of a tag.
    pub const MAX: ContextTag = ContextTag((1 << Self::BITS) - 1);

    /// A tag of the given value, or `None` when it needs more than 47 bits.
    pub const fn new(value: u64) -> Option<ContextTag> {
        if value <= Self::MAX.0 {
            Some(ContextTag(value))
        } else {
            None
        }
    }

    /// The tag made of the lower 47 bits of `bits`.
    pub const fn from_random_bits(bits: u64) -> ContextTag {
        ContextTag(bits & Self::MAX.0)
    }

    /// The tag as a number below 2^47.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Reads the 48 bits that hold a tag. The first bit is not the tag's (P bit or reserved) and is
    /// ignored.
    pub(super) fn read(octets: [u8; 6]) -> ContextTag {
        let [a, b, c, d, e, f] = octets;
        Self::from_random_bits(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The 48 bits that hold the tag, the first of them zero.
    pub(super) fn octets(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }
}

impl fmt::Debug for ContextTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextTag({self})")
    }
}

/// Twelve hexadecimal digits after `0x`.
impl fmt::Display for ContextTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#014x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_tag_has_47_bits() {
        assert_eq!(ContextTag::new((1 << 47) - 1), Some(ContextTag::MAX));
        assert_eq!(ContextTag::new(1 << 47), None);
        assert_eq!(ContextTag::from_random_bits(u64::MAX), ContextTag::MAX);
    }

    #[test]
    fn first_bit_of_the_field_is_not_part_of_the_tag() {
        let tag = ContextTag::read([0x80, 0, 0, 0, 0, 1]);
        assert_eq!(tag.value(), 1);
        assert_eq!(tag.octets(), [0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn debug_shows_hexadecimal() {
        let tag = ContextTag::from_random_bits(0x1a2b);
        assert_eq!(format!("{tag:?}"), "ContextTag(0x000000001a2b)");
    }
}
