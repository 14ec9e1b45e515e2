//! Octets as hexadecimal digits.

use std::fmt::Write as _;

/// Why a text is not octets in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HexError {
    /// Something that is no digit.
    #[error("{found:?} after {digits} digits is no hexadecimal digit")]
    NotADigit {
        /// What was found.
        found: char,
        /// Digits before it.
        digits: usize,
    },
    /// Half an octet at the end.
    #[error("it has {digits} hexadecimal digits, an odd number")]
    Odd {
        /// How many there are.
        digits: usize,
    },
}

/// Two lower-case digits per octet.
pub(crate) fn encode(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// The octets that a text of digits in either case stands for; nothing may be between them.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    let mut octets = Vec::with_capacity(text.len() / 2);
    let mut upper = None;
    for (digits, found) in text.chars().enumerate() {
        let Some(digit) = found.to_digit(16) else {
            return Err(HexError::NotADigit { found, digits });
        };
        // A digit is below 16, so both fit.
        let digit = digit as u8;
        match upper.take() {
            None => upper = Some(digit << 4),
            Some(upper) => octets.push(upper | digit),
        }
    }
    match upper {
        None => Ok(octets),
        Some(_) => Err(HexError::Odd {
            digits: 2 * octets.len() + 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn octets_survive_both_cases(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            let text = encode(&octets);
            prop_assert_eq!(decode(&text), Ok(octets.clone()));
            prop_assert_eq!(decode(&text.to_uppercase()), Ok(octets));
        }
    }

    #[test]
    fn what_is_no_hexadecimal_is_refused_with_its_place() {
        assert_eq!(decode(""), Ok(Vec::new()));
        assert_eq!(decode("0aF"), Err(HexError::Odd { digits: 3 }));
        for (text, found, digits) in [
            ("0g", 'g', 1),
            (" 00", ' ', 0),
            ("00:", ':', 2),
            ("00\u{e9}", '\u{e9}', 2),
        ] {
            assert_eq!(decode(text), Err(HexError::NotADigit { found, digits }), "{text}");
        }
    }
}
