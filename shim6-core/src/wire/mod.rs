//! Wire format of Shim6: the payload header, the control messages and their options.
//!
//! RFC 5533 section 5 has the common header, all messages but two, and the options; RFC 5534 section 5 has Keepalive,
//! Probe and the Keepalive Timeout option. All of them are read and written.
//!
//! Each message and each option has its own file. A message comes in two forms: a *view*
//! ([`View`]) that borrows the octets and is checked once, without allocating, and an owned form
//! ([`Message`]) that is built from a view and can be emitted. Reading goes in a fixed order, and
//! the first fault is the one reported: enough octets, P bit, Hdr Ext Len against the octets,
//! checksum, S bit, message type, minimum length of that type, fixed fields, options.
//!
//! All integers are big-endian. Offsets count from the Next Header octet of the Shim6 header.

mod addresses;
mod checksum;
mod codepoint;
mod context_tag;
mod discard;
mod error;
mod header;
mod layout;
pub mod message;
pub mod option;
pub mod payload;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use addresses::check_addresses;
pub use checksum::checksum;
pub(crate) use checksum::{fold, sum};
pub use codepoint::{ErrorCode, MessageType, OptionType, VerificationMethod};
pub use context_tag::ContextTag;
pub use discard::Discard;
pub use error::{EmitError, ParseError};
pub use header::{PacketKind, classify};
pub use message::{
    Error, I1, I2, I2bis, Keepalive, Message, Probe, R1, R1bis, R2, UpdateAcknowledgement, UpdateRequest, View,
};
pub use option::{Announcement, LocatorList, LocatorPreferences, Preference, PreferenceFlags, UlidPair};

/// IP protocol number of Shim6 (RFC 5533 section 5).
pub const PROTOCOL: u8 = 140;

/// Next Header value of a control message: nothing follows it (RFC 5533 section 5.3).
pub const NO_NEXT_HEADER: u8 = 59;

/// Largest control message in octets: a packet of 1280 octets less the 40 of its IPv6 header
/// (RFC 5533 section 5.1). A sender that adds other headers before Shim6 has less.
pub const MAX_MESSAGE: usize = 1280 - 40;
