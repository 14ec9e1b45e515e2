//! Payload Extension header (RFC 5533 section 5.2).
//!
//! ```text
//! |  Next Header  |       0       |1|                             |
//! |                      Receiver Context Tag                     |
//! ```

use super::layout::{HDR_EXT_LEN, NEXT_HEADER, P_BIT, UNIT, is_payload};
use super::{ContextTag, ParseError};

/// Octets of the header.
pub const LEN: usize = UNIT;

/// The P bit is the first bit of the tag's field.
const TAG: usize = 2;

/// Writes the header for a payload of type `next_header` to the context that the receiver knows by
/// `tag`.
pub fn emit(tag: ContextTag, next_header: u8, buffer: &mut [u8; LEN]) {
    let [a, b, c, d, e, f] = tag.octets();
    *buffer = [next_header, 0, a | P_BIT, b, c, d, e, f];
}

/// Reads the header that `octets` start with: the receiver's context tag and the type of what
/// follows.
///
/// # Errors
///
/// [`ParseError::Truncated`], [`ParseError::NotPayload`] or [`ParseError::PayloadHeaderLength`].
pub fn parse(octets: &[u8]) -> Result<(ContextTag, u8), ParseError> {
    let Some(fixed) = octets.first_chunk::<LEN>() else {
        return Err(ParseError::Truncated { octets: octets.len() });
    };
    if !is_payload(fixed) {
        return Err(ParseError::NotPayload);
    }
    if fixed[HDR_EXT_LEN] != 0 {
        return Err(ParseError::PayloadHeaderLength {
            hdr_ext_len: fixed[HDR_EXT_LEN],
        });
    }
    let [_, _, tag @ ..] = *fixed;
    const { assert!(TAG + 6 == LEN) };
    Ok((ContextTag::read(tag), fixed[NEXT_HEADER]))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::{PacketKind, classify};

    /// Section 5.2: TCP, Hdr Ext Len 0, P bit, tag 0x123456789abc.
    const GOLDEN: [u8; 8] = hex!("06 00 92 34 56 78 9a bc");

    fn tag() -> ContextTag {
        ContextTag::from_random_bits(0x1234_5678_9abc)
    }

    #[test]
    fn golden_header_is_emitted() {
        let mut buffer = [0; LEN];
        emit(tag(), 6, &mut buffer);
        assert_eq!(buffer, GOLDEN);
    }

    #[test]
    fn golden_header_is_parsed() {
        assert_eq!(parse(&GOLDEN), Ok((tag(), 6)));
        let kind = PacketKind::Payload {
            tag: tag(),
            next_header: 6,
        };
        assert_eq!(classify(&GOLDEN), Ok(kind));
    }

    #[test]
    fn largest_tag_survives() {
        let mut buffer = [0; LEN];
        emit(ContextTag::MAX, 17, &mut buffer);
        assert_eq!(buffer, hex!("11 00 ff ff ff ff ff ff"));
        assert_eq!(parse(&buffer), Ok((ContextTag::MAX, 17)));
    }

    #[test]
    fn each_truncation_is_an_error() {
        for octets in 0..LEN {
            let expected = Err(ParseError::Truncated { octets });
            assert_eq!(parse(&GOLDEN[..octets]), expected);
        }
    }

    #[test]
    fn longer_header_is_refused() {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&GOLDEN);
        octets[1] = 1;
        let error = ParseError::PayloadHeaderLength { hdr_ext_len: 1 };
        assert_eq!(parse(&octets), Err(error));
        assert_eq!(classify(&octets), Err(error));
    }

    #[test]
    fn control_message_is_not_a_payload_header() {
        let mut octets = GOLDEN;
        octets[2] &= 0x7f;
        assert_eq!(parse(&octets), Err(ParseError::NotPayload));
    }
}
