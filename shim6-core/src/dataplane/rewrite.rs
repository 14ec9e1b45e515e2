//! Adding and removing the Shim6 Payload Extension header (RFC 5533 sections 5.2, 11.1, 12.2).
//!
//! Both work in place: the header in front of the insertion point moves by 8 octets, the payload never does. Upper-layer
//! checksums are left alone, since they cover the ULIDs.

use core::net::Ipv6Addr;

use crate::wire::{ContextTag, PROTOCOL, payload};

/// Octets of the IPv6 header.
pub const IPV6_HEADER_LEN: usize = 40;
/// Octets of the Shim6 Payload Extension header, and so the headroom that [`Dataplane::outbound`](super::Dataplane::outbound) needs.
pub const PAYLOAD_HEADER_LEN: usize = 8;

pub(super) const PAYLOAD_LENGTH: usize = 4;
pub(super) const NEXT_HEADER: usize = 6;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const DESTINATION_OPTIONS: u8 = 60;
pub(super) const ICMPV6: u8 = 58;
/// Router Solicitation to Redirect (RFC 4861 section 4).
const NEIGHBOR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;

/// Why a packet cannot be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// Not an IPv6 packet, or one shorter than its headers or its Payload Length say.
    Truncated,
    /// With the Shim6 header the packet would not fit the Payload Length field.
    TooLong,
    /// Less than 8 octets in front of the packet.
    NoHeadroom,
    /// A payload header whose Hdr Ext Len is not 0 (RFC 5533 section 5.2).
    HeaderLength,
    /// A payload header directly behind a payload header, which no sender makes: restored, the packet would bring another
    /// Shim6 message in under the peer's ULID.
    Nested,
}

/// The addresses of the IPv6 packet that starts at `packet[0]`: source, destination.
pub fn addresses(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk()?;
    (header[0] >> 4 == 6).then(|| (address(header, SOURCE), address(header, DESTINATION)))
}

/// Where the Shim6 header is, or would be: the packet as far as its Payload Length says, the offsets of the Next Header
/// field that leads there and of the place itself.
///
/// That is behind a Hop-by-Hop header, a Routing header, and a Destination Options header that a Routing header follows
/// (RFC 5533 section 11.1).
pub(crate) fn position(packet: &[u8]) -> Option<(&[u8], usize, usize)> {
    let length = IPV6_HEADER_LEN + usize::from(u16_at(packet, PAYLOAD_LENGTH)?);
    let packet = packet.get(..length)?;
    let (field, offset) = find(packet)?;
    Some((packet, field, offset))
}

/// The offsets that [`position`] gives, in a packet that ends where `packet` does, or is cut off there.
pub(super) fn find(packet: &[u8]) -> Option<(usize, usize)> {
    let mut field = NEXT_HEADER;
    let mut offset = IPV6_HEADER_LEN;
    loop {
        let next = *packet.get(field)?;
        let skip = match next {
            HOP_BY_HOP | ROUTING => true,
            DESTINATION_OPTIONS => leads_to_routing(packet, offset)?,
            _ => false,
        };
        if !skip {
            return Some((field, offset));
        }
        field = offset;
        offset = end_of_extension(packet, offset)?;
    }
}

/// Whether the packet whose headers were found by [`position`] is the upper layers' own: not a Shim6 message, and not
/// Neighbor Discovery, which is between neighbours on a link.
pub(crate) fn is_payload((packet, field, offset): (&[u8], usize, usize)) -> bool {
    match packet.get(field) {
        Some(&PROTOCOL) => false,
        Some(&ICMPV6) => !packet.get(offset).is_some_and(|kind| NEIGHBOR_DISCOVERY.contains(kind)),
        _ => true,
    }
}

/// Inserts the payload header for `tag` into the packet at `buffer[start..]` and puts the locators in its addresses.
/// Returns where the packet starts now, which is 8 octets earlier.
pub(crate) fn insert(
    buffer: &mut [u8],
    start: usize,
    tag: ContextTag,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Result<usize, Malformed> {
    let packet = buffer.get(start..).ok_or(Malformed::Truncated)?;
    addresses(packet).ok_or(Malformed::Truncated)?;
    let (_, field, offset) = position(packet).ok_or(Malformed::Truncated)?;
    let length = u16_at(packet, PAYLOAD_LENGTH).ok_or(Malformed::Truncated)?;
    let length = length
        .checked_add(PAYLOAD_HEADER_LEN as u16)
        .ok_or(Malformed::TooLong)?;
    let new_start = start.checked_sub(PAYLOAD_HEADER_LEN).ok_or(Malformed::NoHeadroom)?;
    buffer.copy_within(start..start + offset, new_start);
    let packet = &mut buffer[new_start..];
    let next_header = packet[field];
    packet[field] = PROTOCOL;
    packet[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
    set_addresses(packet, source, destination);
    if let Some(header) = packet[offset..].first_chunk_mut() {
        payload::emit(tag, next_header, header);
    }
    Ok(new_start)
}

/// Removes the payload header that [`position`] found in the packet at `buffer[start..]` and puts the ULIDs in its
/// addresses. Returns where the packet starts now, which is 8 octets later.
pub(crate) fn remove(
    buffer: &mut [u8],
    start: usize,
    (field, offset): (usize, usize),
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Result<usize, Malformed> {
    let packet = buffer.get_mut(start..).ok_or(Malformed::Truncated)?;
    let length = u16_at(packet, PAYLOAD_LENGTH).ok_or(Malformed::Truncated)?;
    let length = length
        .checked_sub(PAYLOAD_HEADER_LEN as u16)
        .ok_or(Malformed::Truncated)?;
    let next_header = *packet.get(offset).ok_or(Malformed::Truncated)?;
    packet[field] = next_header;
    packet[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
    set_addresses(packet, source, destination);
    buffer.copy_within(start..start + offset, start + PAYLOAD_HEADER_LEN);
    Ok(start + PAYLOAD_HEADER_LEN)
}

fn leads_to_routing(packet: &[u8], offset: usize) -> Option<bool> {
    Some(*packet.get(offset)? == ROUTING)
}

/// The offset behind the extension header at `offset`, if it lies within the packet.
pub(super) fn end_of_extension(packet: &[u8], offset: usize) -> Option<usize> {
    let length = 8 + 8 * usize::from(*packet.get(offset + 1)?);
    (offset + length <= packet.len()).then_some(offset + length)
}

pub(super) fn u16_at(packet: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*packet.get(offset..)?.first_chunk()?))
}

fn address(header: &[u8; IPV6_HEADER_LEN], offset: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[offset..offset + 16]);
    Ipv6Addr::from(octets)
}

/// `packet` has a whole IPv6 header: the callers have seen to that.
pub(super) fn set_addresses(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    packet[SOURCE..SOURCE + 16].copy_from_slice(&source.octets());
    packet[DESTINATION..DESTINATION + 16].copy_from_slice(&destination.octets());
}
