//! The security parameter.

use core::fmt;

use crate::hash::{HashFunction, REGISTERED};

/// The security parameter Sec (RFC 3972 section 2): 0, 1 or 2.
///
/// Each step costs owner and attacker alike a factor of 2^16 in hashes. The values 3 to 7 have no registered meaning
/// (RFC 4982 lets each value name a hash function, and only 0 to 2 are taken, all three by SHA-1), so they cannot be
/// made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sec(u8);

impl Sec {
    /// No search: the first modifier will do.
    pub const ZERO: Self = Self(0);
    /// About 2^16 hashes to generate: well under a second.
    pub const ONE: Self = Self(1);
    /// About 2^32 hashes to generate: minutes to hours.
    pub const TWO: Self = Self(2);

    /// The value, 0 to 2.
    pub const fn value(self) -> u8 {
        self.0
    }

    /// How many of Hash2's leftmost bits have to be zero (RFC 3972 section 4, step 3): 16 times Sec.
    pub const fn hash2_zero_bits(self) -> u32 {
        REGISTERED[self.0 as usize].hash2_zero_bits
    }

    /// How many hashes the search for a modifier takes on average: 2^(16 * Sec), and 0 for Sec 0, which needs no search.
    ///
    /// The number varies as that of throws of a die until the first six: one search in 20 takes three times as many.
    pub const fn expected_hashes(self) -> u64 {
        match self.hash2_zero_bits() {
            0 => 0,
            bits => 1 << bits,
        }
    }

    /// Reads Sec from the three leftmost bits of an interface identifier (RFC 3972 section 5, step 5).
    pub fn from_interface_identifier(interface_identifier: u64) -> Result<Self, UnsupportedSec> {
        Self::try_from((interface_identifier >> Self::SHIFT) as u8)
    }

    /// Sec in its place in an interface identifier.
    pub(crate) const fn to_interface_identifier(self) -> u64 {
        (self.0 as u64) << Self::SHIFT
    }

    /// Whether a Hash2 with these leftmost bits starts with the zero bits that this Sec asks for.
    pub(crate) const fn accepts_hash2(self, leftmost_bits: u64) -> bool {
        leftmost_bits.leading_zeros() >= self.hash2_zero_bits()
    }

    /// The hash function of Hash1 and Hash2.
    pub(crate) const fn hash_function(self) -> HashFunction {
        REGISTERED[self.0 as usize].function
    }

    const SHIFT: u32 = 61;
}

impl TryFrom<u8> for Sec {
    type Error = UnsupportedSec;

    fn try_from(value: u8) -> Result<Self, UnsupportedSec> {
        if usize::from(value) < REGISTERED.len() {
            Ok(Self(value))
        } else {
            Err(UnsupportedSec { value })
        }
    }
}

impl From<Sec> for u8 {
    fn from(sec: Sec) -> Self {
        sec.0
    }
}

impl fmt::Display for Sec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Sec value that has no registered meaning (RFC 4982 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported Sec {value}: expected 0, 1 or 2, no other value has a registered meaning")]
pub struct UnsupportedSec {
    /// The value found.
    pub value: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_values_are_accepted() {
        for value in 0..=2 {
            let sec = Sec::try_from(value).unwrap();
            assert_eq!((sec.value(), u8::from(sec)), (value, value));
        }
        for value in 3..=255 {
            assert_eq!(Sec::try_from(value), Err(UnsupportedSec { value }));
        }
    }

    #[test]
    fn expected_hashes_are_those_of_the_zero_bits() {
        let expected = [Sec::ZERO, Sec::ONE, Sec::TWO].map(Sec::expected_hashes);
        assert_eq!(expected, [0, 65_536, 4_294_967_296]);
    }

    #[test]
    fn sec_is_the_three_leftmost_bits_of_the_interface_identifier() {
        let identifier = 0x1fff_ffff_ffff_ffff;
        for sec in [Sec::ZERO, Sec::ONE, Sec::TWO] {
            let written = identifier | sec.to_interface_identifier();
            assert_eq!(Sec::from_interface_identifier(written), Ok(sec));
        }
        assert_eq!(
            Sec::from_interface_identifier(0x6000_0000_0000_0000),
            Err(UnsupportedSec { value: 3 })
        );
    }
}
