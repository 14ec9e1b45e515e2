//! Error (RFC 5533 section 5.14).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 68  |  Error Code |0|
//! |            Checksum           |            Pointer            |
//! ~                         Packet in error                       ~
//! ```
//!
//! There are no options. The packet in error is padded with zeros to a multiple of 8 octets, at least
//! 8; a receiver finds its own length in its IPv6 header.

use alloc::vec::Vec;

use crate::wire::header::Control;
use crate::wire::layout::{TYPE_SPECIFIC, UNIT};
use crate::wire::{EmitError, ErrorCode, MAX_MESSAGE, ParseError};

const POINTER: usize = 6;
const FIXED: usize = 8;
/// The RFC wants at least 8 octets of the packet in error.
const MIN_LEN: usize = 16;

const MAX_CODE: u8 = 0x7f;

/// An Error in the octets that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorView<'a> {
    fixed: &'a [u8; MIN_LEN],
    packet_in_error: &'a [u8],
}

impl<'a> ErrorView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, _) = control.split::<MIN_LEN>()?;
        let (_, packet_in_error) = control.split::<FIXED>()?;
        Ok(ErrorView { fixed, packet_in_error })
    }

    /// What was wrong.
    pub fn code(&self) -> ErrorCode {
        ErrorCode(self.fixed[TYPE_SPECIFIC] >> 1)
    }

    /// Offset of the fault from the first octet of the packet in error.
    pub fn pointer(&self) -> u16 {
        u16::from_be_bytes([self.fixed[POINTER], self.fixed[POINTER + 1]])
    }

    /// Start of the packet in error from its IPv6 header on, and padding.
    pub fn packet_in_error(&self) -> &'a [u8] {
        self.packet_in_error
    }

    /// Copies the message.
    pub fn to_message(&self) -> Error {
        Error {
            code: self.code(),
            pointer: self.pointer(),
            packet_in_error: self.packet_in_error.to_vec(),
        }
    }
}

/// Error: something critical in a message could not be processed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// What was wrong, 7 bits.
    pub code: ErrorCode,
    /// Offset of the fault from the first octet of the packet in error.
    pub pointer: u16,
    /// The packet in error from its IPv6 header on. Emitted as far as [`Error::MAX_PACKET`] octets;
    /// as parsed, with the padding.
    pub packet_in_error: Vec<u8>,
}

impl Error {
    /// How many octets of the packet in error fit.
    pub const MAX_PACKET: usize = MAX_MESSAGE - FIXED;

    /// An Error about `packet`, of which it keeps as much as fits.
    pub fn about(packet: &[u8], code: ErrorCode, pointer: u16) -> Error {
        let (kept, _) = packet.split_at(packet.len().min(Self::MAX_PACKET));
        Error {
            code,
            pointer,
            packet_in_error: kept.to_vec(),
        }
    }

    fn kept(&self) -> &[u8] {
        let packet = &self.packet_in_error;
        &packet[..packet.len().min(Self::MAX_PACKET)]
    }

    pub(super) fn buffer_len(&self) -> usize {
        (FIXED + self.kept().len()).next_multiple_of(UNIT).max(MIN_LEN)
    }

    pub(super) fn check(&self) -> Result<(), EmitError> {
        if self.code.0 > MAX_CODE {
            return Err(EmitError::ErrorCode(self.code.0));
        }
        Ok(())
    }

    /// The code has been checked: it fits 7 bits.
    pub(super) fn write(&self, out: &mut [u8]) {
        let kept = self.kept();
        out[TYPE_SPECIFIC] = self.code.0 << 1;
        out[POINTER..FIXED].copy_from_slice(&self.pointer.to_be_bytes());
        out[FIXED..FIXED + kept.len()].copy_from_slice(kept);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use hex_literal::hex;

    use super::*;
    use crate::wire::Message;
    use crate::wire::tests::assert_golden;

    /// Section 5.14: critical option at octet 56, with 16 octets of the packet.
    const GOLDEN: [u8; 24] = hex!(
        "3b 02 44 02 6618 0038"
        "6000000000108c40 20010db800a10000"
    );

    fn message() -> Error {
        Error {
            code: ErrorCode::CRITICAL_OPTION,
            pointer: 56,
            packet_in_error: hex!("6000000000108c4020010db800a10000").to_vec(),
        }
    }

    /// Emits an Error about a packet of so many octets and gives the message's length.
    fn emitted_len(packet: usize) -> usize {
        let message = Message::Error(Error::about(&vec![0xaa; packet], ErrorCode(0), 42));
        let mut buffer = [0xff; 2048];
        let length = message.emit(&mut buffer).expect("any packet makes an Error");
        let kept = packet.min(Error::MAX_PACKET);
        let (octets, padding) = buffer[FIXED..length].split_at(kept);
        assert!(octets.iter().all(|octet| *octet == 0xaa));
        assert!(padding.iter().all(|octet| *octet == 0));
        assert!(Message::parse(&buffer[..length]).is_ok());
        length
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::Error(message()));
    }

    #[test]
    fn packet_is_padded_and_cut_to_the_minimum_mtu() {
        let table = [
            (0, 16),
            (1, 16),
            (8, 16),
            (9, 24),
            (56, 64),
            (1231, 1240),
            (1232, 1240),
            (1233, 1240),
            (70_000, 1240),
        ];
        for (packet, message) in table {
            assert_eq!(emitted_len(packet), message, "packet of {packet} octets");
        }
    }

    #[test]
    fn packet_given_directly_is_cut_too() {
        let message = Message::Error(Error {
            packet_in_error: vec![1; 5000],
            ..message()
        });
        assert_eq!(message.emit(&mut [0; 2048]), Ok(MAX_MESSAGE));
    }

    #[test]
    fn code_above_seven_bits_is_not_emitted() {
        let message = Message::Error(Error {
            code: ErrorCode(128),
            ..message()
        });
        assert_eq!(message.emit(&mut [0; 64]), Err(EmitError::ErrorCode(128)));
    }

    #[test]
    fn unknown_code_survives() {
        let message = Message::Error(Error {
            code: ErrorCode(127),
            ..message()
        });
        let mut buffer = [0; 24];
        assert_eq!(message.emit(&mut buffer), Ok(24));
        assert_eq!(Message::parse(&buffer), Ok(message));
    }
}
