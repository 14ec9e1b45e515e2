//! What can be wrong with octets that are read, and with messages that are written.

use thiserror::Error;

use super::MAX_MESSAGE;
use super::codepoint::{ErrorCode, MessageType, OptionType};
use super::discard::Discard;
use super::layout::TYPE;

/// Why octets are not a Shim6 header that we can process. The packet is dropped, and in two cases
/// the sender is told ([`ParseError::error_report`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer than the 8 octets that every Shim6 header has.
    #[error("{octets} octets are too few for a Shim6 header")]
    Truncated {
        /// Octets there.
        octets: usize,
    },
    /// The P bit is set where a control message was expected.
    #[error("a payload header, not a control message")]
    NotControl,
    /// The P bit is clear where a payload header was expected.
    #[error("a control message, not a payload header")]
    NotPayload,
    /// A payload header is 8 octets long, so its Hdr Ext Len must be 0.
    #[error("payload header with Hdr Ext Len {hdr_ext_len}")]
    PayloadHeaderLength {
        /// The field, in units of 8 octets.
        hdr_ext_len: u8,
    },
    /// Hdr Ext Len reaches past the octets there.
    #[error("message of {length} octets in {octets} octets")]
    LengthPastEnd {
        /// Octets that the message claims.
        length: usize,
        /// Octets there.
        octets: usize,
    },
    /// The checksum is wrong.
    #[error("wrong checksum")]
    BadChecksum,
    /// The S bit is set, which marks a HIP message.
    #[error("S bit set")]
    SBitSet,
    /// A message type that we do not know.
    #[error("unknown message type {0}")]
    UnknownMessageType(MessageType),
    /// Shorter than the fixed part of its message type.
    #[error("{message_type} with Hdr Ext Len {hdr_ext_len}")]
    BelowMinimumLength {
        /// Type of the message.
        message_type: MessageType,
        /// The field, in units of 8 octets.
        hdr_ext_len: u8,
    },
    /// An option reaches past the end of its message.
    #[error("option at octet {offset} reaches past the message")]
    OptionPastEnd {
        /// Where the option starts in the message.
        offset: usize,
    },
    /// An option that may occur once occurs twice.
    #[error("{0} option occurs twice")]
    DuplicateOption(OptionType),
    /// The contents of an option do not fit its definition.
    #[error("malformed {0} option")]
    MalformedOption(OptionType),
    /// An option that the message must have is missing.
    #[error("{0} option is missing")]
    MissingOption(OptionType),
    /// An option that we do not know, or that is not valid in this message, has its critical bit
    /// set.
    #[error("unknown critical option {option_type} at octet {offset}")]
    UnknownCriticalOption {
        /// Type of the option.
        option_type: OptionType,
        /// Where the option starts in the message.
        offset: usize,
    },
    /// The state in a Probe is 3, which is not defined.
    #[error("undefined state in a Probe")]
    ProbeState,
    /// The probe counts do not fit the length, or no sent probe is there.
    #[error("{sent} sent and {received} received probes do not fit the Probe")]
    ProbeCount {
        /// Psent.
        sent: u8,
        /// Precvd.
        received: u8,
    },
    /// The number of locators does not fit the option's Length.
    #[error("{locators} locators do not fit the Locator List's length {length}")]
    LocatorCount {
        /// Num Locators.
        locators: u8,
        /// Length of the option.
        length: usize,
    },
    /// A Locator List without locators.
    #[error("Locator List without locators")]
    ZeroLocators,
    /// A Locator Preferences option with Element Len 0.
    #[error("Locator Preferences with Element Len 0")]
    ZeroElementLen,
}

impl ParseError {
    /// The counter under which the packet is dropped.
    pub const fn reason(&self) -> Discard {
        match self {
            ParseError::Truncated { .. } => Discard::Truncated,
            ParseError::NotControl => Discard::NotControl,
            ParseError::NotPayload => Discard::NotPayload,
            ParseError::PayloadHeaderLength { .. } => Discard::PayloadHeaderLength,
            ParseError::LengthPastEnd { .. } => Discard::LengthPastEnd,
            ParseError::BadChecksum => Discard::BadChecksum,
            ParseError::SBitSet => Discard::SBitSet,
            ParseError::UnknownMessageType(_) => Discard::UnknownMessageType,
            ParseError::BelowMinimumLength { .. } => Discard::BelowMinimumLength,
            ParseError::OptionPastEnd { .. } => Discard::OptionPastEnd,
            ParseError::DuplicateOption(_) => Discard::DuplicateOption,
            ParseError::MalformedOption(_) => Discard::MalformedOption,
            ParseError::MissingOption(_) => Discard::MissingOption,
            ParseError::UnknownCriticalOption { .. } => Discard::UnknownCriticalOption,
            ParseError::ProbeState => Discard::ProbeState,
            ParseError::ProbeCount { .. } => Discard::ProbeCount,
            ParseError::LocatorCount { .. } => Discard::LocatorCount,
            ParseError::ZeroLocators => Discard::ZeroLocators,
            ParseError::ZeroElementLen => Discard::ZeroElementLen,
        }
    }

    /// What the sender is to be told in an Error message: the code, and the offset of the fault from
    /// the first octet of the Shim6 header. `None` for everything that is dropped silently (RFC 5533
    /// section 12.3).
    ///
    /// The Pointer field counts from the start of the packet in error, so the caller adds the length
    /// of what precedes the Shim6 header there.
    pub const fn error_report(&self) -> Option<(ErrorCode, usize)> {
        match self {
            ParseError::UnknownMessageType(_) => Some((ErrorCode::UNKNOWN_MESSAGE_TYPE, TYPE)),
            ParseError::UnknownCriticalOption { offset, .. } => Some((ErrorCode::CRITICAL_OPTION, *offset)),
            _ => None,
        }
    }
}

/// Why a message cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("message of {octets} octets, the limit is {MAX_MESSAGE}")]
    TooLarge {
        /// Octets of the message.
        octets: usize,
    },
    /// The buffer is shorter than the message.
    #[error("message of {needed} octets for a buffer of {octets}")]
    BufferTooSmall {
        /// Octets of the message.
        needed: usize,
        /// Octets of the buffer.
        octets: usize,
    },
    /// A Locator List has no locators.
    #[error("Locator List without locators")]
    ZeroLocators,
    /// A Locator List has more locators than 8 bits can count.
    #[error("Locator List with {locators} locators")]
    LocatorCount {
        /// Locators in the list.
        locators: usize,
    },
    /// The elements of a Locator Preferences option say more than Element Len has room for.
    #[error("Locator Preferences with Element Len {element_len} for what takes {needed}")]
    ElementLen {
        /// Element Len, in octets.
        element_len: u8,
        /// The shortest Element Len that loses nothing.
        needed: u8,
    },
    /// A Probe has no sent record, or more than 15 of one kind.
    #[error("{sent} sent and {received} received probes cannot be in one Probe")]
    ProbeCount {
        /// Records of sent probes.
        sent: usize,
        /// Records of received probes.
        received: usize,
    },
    /// An Error Code needs more than 7 bits.
    #[error("error code {0} does not fit 7 bits")]
    ErrorCode(u8),
}
