//! The common header and the one of control messages (RFC 5533 sections 5.1 and 5.3).
//!
//! ```text
//! |  Next Header  |  Hdr Ext Len  |P|     Type    |Type-specific|S|
//! |            Checksum           |   type-specific ...
//! ```

use super::codepoint::MessageType;
use super::layout::{HDR_EXT_LEN, NEXT_HEADER, TYPE, TYPE_SPECIFIC, UNIT, is_payload};
use super::{ContextTag, NO_NEXT_HEADER, ParseError, checksum, payload};

/// The context tag of most control messages, after a reserved bit.
const TAG: usize = 6;
const CHECKSUM: core::ops::Range<usize> = 4..6;

const S_BIT: u8 = 0x01;

/// What kind of Shim6 header a packet starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketKind<'a> {
    /// A payload header (P bit set); the payload follows its 8 octets.
    Payload {
        /// The receiver's tag of the context.
        tag: ContextTag,
        /// Type of the header that follows.
        next_header: u8,
    },
    /// A control message (P bit clear): exactly the octets that Hdr Ext Len bounds. Only their number
    /// has been checked.
    Control(&'a [u8]),
}

/// Tells payload headers from control messages, by the P bit and the lengths only.
///
/// `octets` start with the Shim6 header and may go on after it.
///
/// # Errors
///
/// [`ParseError::Truncated`], [`ParseError::PayloadHeaderLength`] or [`ParseError::LengthPastEnd`].
pub fn classify(octets: &[u8]) -> Result<PacketKind<'_>, ParseError> {
    let Some(fixed) = octets.first_chunk::<UNIT>() else {
        return Err(ParseError::Truncated { octets: octets.len() });
    };
    if is_payload(fixed) {
        let (tag, next_header) = payload::parse(octets)?;
        return Ok(PacketKind::Payload { tag, next_header });
    }
    let length = UNIT * (usize::from(fixed[HDR_EXT_LEN]) + 1);
    match octets.get(..length) {
        Some(message) => Ok(PacketKind::Control(message)),
        None => Err(ParseError::LengthPastEnd {
            length,
            octets: octets.len(),
        }),
    }
}

/// A control message with a right length, checksum and S bit; of no particular type yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control<'a> {
    message: &'a [u8],
    fixed: &'a [u8; UNIT],
}

impl<'a> Control<'a> {
    /// Checks the header of the control message that `octets` start with.
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let message = match classify(octets)? {
            PacketKind::Control(message) => message,
            PacketKind::Payload { .. } => return Err(ParseError::NotControl),
        };
        if checksum(message) != 0 {
            return Err(ParseError::BadChecksum);
        }
        let Some(fixed) = message.first_chunk() else {
            return Err(ParseError::Truncated { octets: message.len() });
        };
        if fixed[TYPE_SPECIFIC] & S_BIT != 0 {
            return Err(ParseError::SBitSet);
        }
        Ok(Control { message, fixed })
    }

    pub(super) fn message_type(&self) -> MessageType {
        // The P bit is clear, so this is the 7-bit type alone.
        MessageType(self.fixed[TYPE])
    }

    /// The fixed part of a message type, and the octets after it.
    pub(super) fn split<const N: usize>(&self) -> Result<(&'a [u8; N], &'a [u8]), ParseError> {
        self.message
            .split_first_chunk::<N>()
            .ok_or(ParseError::BelowMinimumLength {
                message_type: self.message_type(),
                hdr_ext_len: self.fixed[HDR_EXT_LEN],
            })
    }
}

/// Writes the header into a message whose other octets are complete, checksum last.
///
/// `message` has a length that is a multiple of 8, at least 8 and at most 2048 octets.
pub(super) fn finish(message: &mut [u8], message_type: MessageType) {
    message[NEXT_HEADER] = NO_NEXT_HEADER;
    message[HDR_EXT_LEN] = (message.len() / UNIT - 1) as u8;
    message[TYPE] = message_type.0;
    message[CHECKSUM].fill(0);
    let sum = checksum(message);
    message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

/// The big-endian number at `offset` of the fixed part; the offsets are constants inside of it.
pub(super) fn u32_at<const N: usize>(fixed: &[u8; N], offset: usize) -> u32 {
    u32::from_be_bytes(core::array::from_fn(|octet| fixed[offset + octet]))
}

/// The context tag in octets 6 to 11, where most control messages have one.
pub(super) fn tag_of<const N: usize>(fixed: &[u8; N]) -> ContextTag {
    tag_at(fixed, TAG)
}

/// The context tag in the six octets at `offset` of the fixed part; the offsets are constants inside of it.
pub(super) fn tag_at<const N: usize>(fixed: &[u8; N], offset: usize) -> ContextTag {
    ContextTag::read(core::array::from_fn(|octet| fixed[offset + octet]))
}

/// Writes the context tag where [`tag_of`] reads it.
pub(super) fn put_tag(message: &mut [u8], tag: ContextTag) {
    put_tag_at(message, TAG, tag);
}

/// Writes a context tag to the six octets at `offset`, and a zero bit before it.
pub(super) fn put_tag_at(message: &mut [u8], offset: usize, tag: ContextTag) {
    message[offset..offset + 6].copy_from_slice(&tag.octets());
}

/// Writes a big-endian number at `offset`.
pub(super) fn put_u32(message: &mut [u8], offset: usize, value: u32) {
    message[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}
