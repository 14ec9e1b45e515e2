//! The octets that all Shim6 headers have in the same place (RFC 5533 section 5.1).

/// Octets in the unit of Hdr Ext Len, which is also the shortest header.
pub(super) const UNIT: usize = 8;
pub(super) const NEXT_HEADER: usize = 0;
pub(super) const HDR_EXT_LEN: usize = 1;
/// P bit and type.
pub(super) const TYPE: usize = 2;
/// Seven bits for the message type to use, and the S bit.
pub(super) const TYPE_SPECIFIC: usize = 3;

/// Set in a payload header, clear in a control message. Section 12 has it the wrong way round.
pub(super) const P_BIT: u8 = 0x80;

pub(super) const fn is_payload(fixed: &[u8; UNIT]) -> bool {
    fixed[TYPE] & P_BIT != 0
}
