//! ICMPv6 errors about packets that the shim has changed (RFC 5533 section 8).
//!
//! Such an error quotes the *packet in error* with locators and a Shim6 header, which its sender's upper layers have never
//! seen. [`parse`] reads it, [`IcmpError::is_for_shim`] tells who has to act, and [`IcmpError::restore`] makes of it the
//! error that the upper layers would have got if the shim did not exist. Whose context it is, its caller finds out by the
//! tag and the addresses of the packet in error, which hold CT(peer), Lp(local) and Lp(peer).

use core::net::Ipv6Addr;

use shim6_reap::LocatorPair;

use super::rewrite::{
    DESTINATION_OPTIONS, HOP_BY_HOP, ICMPV6, IPV6_HEADER_LEN, NEXT_HEADER, PAYLOAD_HEADER_LEN, PAYLOAD_LENGTH, ROUTING,
    addresses, end_of_extension, find, set_addresses, u16_at,
};
use crate::wire::{ContextTag, PROTOCOL, checksum, payload};

/// Type of Destination Unreachable (RFC 4443 section 3.1).
pub const DESTINATION_UNREACHABLE: u8 = 1;
/// Type of Packet Too Big (RFC 4443 section 3.2).
pub const PACKET_TOO_BIG: u8 = 2;
/// Type of Time Exceeded (RFC 4443 section 3.3).
pub const TIME_EXCEEDED: u8 = 3;
/// Type of Parameter Problem (RFC 4443 section 3.4).
pub const PARAMETER_PROBLEM: u8 = 4;
/// Code of a Parameter Problem whose pointer is at an unrecognized Next Header value.
pub const UNRECOGNIZED_NEXT_HEADER: u8 = 1;

/// Types from here on are informational messages.
const INFORMATIONAL: u8 = 128;
const ICMP_HEADER_LEN: usize = 8;
const CHECKSUM: usize = 2;
const WORD: usize = 4;
/// The smallest MTU of a link (RFC 8200 section 5).
const MIN_MTU: usize = 1280;
/// Of a message that this host sends to itself.
const HOP_LIMIT: u8 = 64;
/// With extensions, the packet in error takes at least so many octets (RFC 4884 section 4).
const MIN_QUOTE: usize = 128;

/// An ICMPv6 error whose packet in error has a Shim6 header.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct IcmpError<'a> {
    /// The ICMPv6 type, below 128.
    pub icmp_type: u8,
    /// The code, whose meaning is the type's.
    pub code: u8,
    /// Who sent the error: any router, or a host. Nothing proves it.
    pub reporter: Ipv6Addr,
    /// Whom it was sent to: one of this host's locators.
    pub destination: Ipv6Addr,
    /// The source of the packet in error.
    pub inner_source: Ipv6Addr,
    /// The destination of the packet in error.
    pub inner_destination: Ipv6Addr,
    /// What the Shim6 header of the packet in error is.
    pub inner: Inner<'a>,
    /// The outer IPv6 header.
    header: &'a [u8; IPV6_HEADER_LEN],
    /// The 32 bits behind the ICMPv6 checksum.
    word: u32,
    /// The packet in error, as much of it as there is, and padding that its reporter added.
    quote: &'a [u8],
    /// What follows it (RFC 4884).
    extensions: Option<&'a [u8]>,
    /// Offsets in `quote` of the Next Header field that leads to the Shim6 header, and of the header.
    field: usize,
    offset: usize,
}

/// The Shim6 header of a packet in error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner<'a> {
    /// Of an upper layer's packet that was rewritten.
    Payload {
        /// The peer's tag, CT(peer).
        tag: ContextTag,
        /// The type of what follows.
        next_header: u8,
    },
    /// A control message, from its Next Header octet on; at least 8 octets, and maybe not all of them.
    Control(&'a [u8]),
}

/// Why a packet is not an [`IcmpError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IcmpFault {
    /// Not an ICMPv6 error.
    NotError,
    /// Shorter than its own headers say, or the packet in error ends before or within its Shim6 header.
    Truncated,
    /// The ICMPv6 checksum is wrong.
    Checksum,
    /// The packet in error has no Shim6 header that this host would have sent.
    NoShim6Header,
}

/// Reads the whole IPv6 packet that starts at `packet[0]`; extension headers may precede ICMPv6, octets behind the packet
/// are ignored.
///
/// # Errors
///
/// See [`IcmpFault`].
pub fn parse(packet: &[u8]) -> Result<IcmpError<'_>, IcmpFault> {
    let (reporter, destination) = addresses(packet).ok_or(IcmpFault::Truncated)?;
    let header = packet.first_chunk().ok_or(IcmpFault::Truncated)?;
    let message = icmp_message(packet)?;
    let (fixed, body) = message
        .split_first_chunk::<ICMP_HEADER_LEN>()
        .ok_or(IcmpFault::Truncated)?;
    let [icmp_type, code, _, _, word @ ..] = *fixed;
    if icmp_type >= INFORMATIONAL {
        return Err(IcmpFault::NotError);
    }
    if icmp_checksum(reporter, destination, message) != 0 {
        return Err(IcmpFault::Checksum);
    }
    let (quote, extensions) = split_extensions(icmp_type, word[0], body);
    let (inner_source, inner_destination) = addresses(quote).ok_or(match quote.first() {
        Some(version) if version >> 4 != 6 => IcmpFault::NoShim6Header,
        _ => IcmpFault::Truncated,
    })?;
    let (inner, field, offset) = shim6_header(quote)?;
    Ok(IcmpError {
        icmp_type,
        code,
        reporter,
        destination,
        inner_source,
        inner_destination,
        inner,
        header,
        word: u32::from_be_bytes(word),
        quote,
        extensions,
        field,
        offset,
    })
}

/// What a Packet Too Big says that [`IcmpError::restore`] has written: the ULIDs, this host's first, and the MTU, which is
/// without the header of the shim. `None` for all else.
pub fn restored_mtu(packet: &[u8]) -> Option<(LocatorPair, u32)> {
    let message = icmp_message(packet).ok()?;
    let (fixed, quote) = message.split_first_chunk::<ICMP_HEADER_LEN>()?;
    let [PACKET_TOO_BIG, _, _, _, word @ ..] = *fixed else {
        return None;
    };
    let (local, peer) = addresses(quote)?;
    Some((LocatorPair { local, peer }, u32::from_be_bytes(word)))
}

/// Writes a Packet Too Big about `packet`, which has no more than `mtu` octets of room on this host's own link, as a router
/// would send it to the source of the packet. Returns its length; `out` needs 1280 octets.
pub fn packet_too_big(packet: &[u8], mtu: u32, out: &mut [u8]) -> Option<usize> {
    let (source, _) = addresses(packet)?;
    // As much of the packet as fits the smallest MTU (RFC 4443 section 3.2).
    let quoted = packet.len().min(MIN_MTU - IPV6_HEADER_LEN - ICMP_HEADER_LEN);
    let length = ICMP_HEADER_LEN + quoted;
    let out = out.get_mut(..IPV6_HEADER_LEN + length)?;
    let (header, message) = out.split_at_mut(IPV6_HEADER_LEN);
    header.fill(0);
    header[0] = 0x60;
    header[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    header[NEXT_HEADER..NEXT_HEADER + 2].copy_from_slice(&[ICMPV6, HOP_LIMIT]);
    set_addresses(header, source, source);
    message[..WORD].copy_from_slice(&[PACKET_TOO_BIG, 0, 0, 0]);
    message[WORD..ICMP_HEADER_LEN].copy_from_slice(&mtu.to_be_bytes());
    message[ICMP_HEADER_LEN..].copy_from_slice(&packet[..quoted]);
    let sum = icmp_checksum(source, source, message);
    message[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    Some(out.len())
}

impl IcmpError<'_> {
    /// The MTU that a Packet Too Big reports: that of the link, for the packet with its Shim6 header.
    pub fn mtu(&self) -> Option<u32> {
        (self.icmp_type == PACKET_TOO_BIG).then_some(self.word)
    }

    /// The octet of the packet in error at which a Parameter Problem points.
    pub fn pointer(&self) -> Option<u32> {
        (self.icmp_type == PARAMETER_PROBLEM).then_some(self.word)
    }

    /// Whether this says that the sender's host has no Shim6: an unrecognized next header, which is that of Shim6.
    pub fn is_no_support(&self) -> bool {
        self.code == UNRECOGNIZED_NEXT_HEADER && self.pointer() == u32::try_from(self.field).ok()
    }

    /// Whether the error is for the shim to act on rather than for the upper layers, by the list in RFC 5533 section 8:
    /// Destination Unreachable where another path may help (codes 0 to 3, 5 and 6), Time Exceeded, and Parameter Problem
    /// about a Shim6 parameter. Always for an error about a control message, which no upper layer has sent.
    ///
    /// A Shim6 parameter is what the shim wrote: the Next Header value that announces the Shim6 header, and the header but
    /// for its own Next Header octet, whose value is the upper layer's.
    pub fn is_for_shim(&self) -> bool {
        match (self.inner, self.icmp_type) {
            (Inner::Control(_), _) | (_, TIME_EXCEEDED) => true,
            (_, DESTINATION_UNREACHABLE) => matches!(self.code, 0..=3 | 5 | 6),
            (_, PARAMETER_PROBLEM) => usize::try_from(self.word).is_ok_and(|pointer| {
                pointer == self.field || (self.offset + 1..self.offset + PAYLOAD_HEADER_LEN).contains(&pointer)
            }),
            _ => false,
        }
    }

    /// Writes the IPv6 packet that brings this error to the upper layers into `out` and returns its length: it goes to
    /// the local ULID, and quotes the packet in error as they sent it. `None` for an error about a control message, and
    /// where `out` is too short; as many octets as the packet read has are enough.
    ///
    /// Extension headers in front of ICMPv6 have done their work on the way to this host, and are left out.
    pub fn restore(&self, ulids: LocatorPair, out: &mut [u8]) -> Option<usize> {
        let Inner::Payload { next_header, .. } = self.inner else {
            return None;
        };
        let (before, after) = (
            &self.quote[..self.offset],
            &self.quote[self.offset + PAYLOAD_HEADER_LEN..],
        );
        let quoted = before.len() + after.len();
        let (extensions, padded) = match self.extensions {
            Some(extensions) => (extensions, quoted.max(MIN_QUOTE)),
            None => (&[][..], quoted),
        };
        let length = ICMP_HEADER_LEN + padded + extensions.len();
        let out = out.get_mut(..IPV6_HEADER_LEN + length)?;

        let (outer, message) = out.split_at_mut(IPV6_HEADER_LEN);
        outer.copy_from_slice(self.header);
        outer[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        outer[NEXT_HEADER] = ICMPV6;
        set_addresses(outer, self.reporter, ulids.local);

        let (fixed, body) = message.split_at_mut(ICMP_HEADER_LEN);
        fixed.fill(0);
        (fixed[0], fixed[1]) = (self.icmp_type, self.code);
        fixed[WORD..].copy_from_slice(&self.restored_word(padded).to_be_bytes());

        let (quote, rest) = body.split_at_mut(quoted);
        let (padding, tail) = rest.split_at_mut(padded - quoted);
        quote[..before.len()].copy_from_slice(before);
        quote[before.len()..].copy_from_slice(after);
        quote[self.field] = next_header;
        let inner_length = u16_at(quote, PAYLOAD_LENGTH)?.checked_sub(PAYLOAD_HEADER_LEN as u16)?;
        quote[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&inner_length.to_be_bytes());
        set_addresses(quote, ulids.local, ulids.peer);
        padding.fill(0);
        tail.copy_from_slice(extensions);

        let sum = icmp_checksum(self.reporter, ulids.local, message);
        message[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        Some(out.len())
    }

    /// The 32 bits behind the checksum, for a packet in error that takes `padded` octets.
    fn restored_word(&self, padded: usize) -> u32 {
        match self.icmp_type {
            // Below the 1280 octets that each link carries, too: whoever sends more than this has it dropped, and a
            // larger figure would hide that. Upper layers judge by themselves what is too small to be believed.
            PACKET_TOO_BIG => self.word.saturating_sub(PAYLOAD_HEADER_LEN as u32),
            PARAMETER_PROBLEM => match usize::try_from(self.word) {
                Ok(pointer) if pointer < self.offset => self.word,
                // The Next Header value is where it would have been without the shim. What else is in the header has no
                // place, and this is the nearest.
                Ok(pointer) if pointer < self.offset + PAYLOAD_HEADER_LEN => self.field as u32,
                _ => self.word - PAYLOAD_HEADER_LEN as u32,
            },
            DESTINATION_UNREACHABLE | TIME_EXCEEDED => {
                // Without extensions the length says nothing, and one that is wrong is not given on.
                let words = if self.extensions.is_some() { padded / 8 } else { 0 };
                (self.word & 0x00ff_ffff) | ((words as u32) << 24)
            }
            _ => self.word,
        }
    }
}

/// The ICMPv6 message of a packet, as far as the packet's Payload Length says.
fn icmp_message(packet: &[u8]) -> Result<&[u8], IcmpFault> {
    let length = IPV6_HEADER_LEN + usize::from(u16_at(packet, PAYLOAD_LENGTH).ok_or(IcmpFault::Truncated)?);
    let packet = packet.get(..length).ok_or(IcmpFault::Truncated)?;
    let (mut field, mut offset) = (NEXT_HEADER, IPV6_HEADER_LEN);
    loop {
        match packet.get(field) {
            Some(&ICMPV6) => return Ok(&packet[offset..]),
            Some(&(HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS)) => {
                field = offset;
                offset = end_of_extension(packet, offset).ok_or(IcmpFault::Truncated)?;
            }
            Some(_) => return Err(IcmpFault::NotError),
            None => return Err(IcmpFault::Truncated),
        }
    }
}

/// The packet in error, and the extensions behind it if there are any. Their place is given in words of 8 octets, in the
/// first octet behind the checksum; a value that cannot be right is taken as none (RFC 4884 sections 4.4 to 4.6).
fn split_extensions(icmp_type: u8, words: u8, body: &[u8]) -> (&[u8], Option<&[u8]>) {
    let length = 8 * usize::from(words);
    let has_length = matches!(icmp_type, DESTINATION_UNREACHABLE | TIME_EXCEEDED) && length >= MIN_QUOTE;
    match body.split_at_checked(length) {
        Some((quote, extensions)) if has_length => (quote, Some(extensions)),
        _ => (body, None),
    }
}

/// The Shim6 header of a packet in error, the offset of the Next Header field that leads to it, and its own.
pub(crate) fn shim6_header(quote: &[u8]) -> Result<(Inner<'_>, usize, usize), IcmpFault> {
    // The reporter cut the packet off where its own got too long, and may have padded it.
    let length = IPV6_HEADER_LEN + usize::from(u16_at(quote, PAYLOAD_LENGTH).ok_or(IcmpFault::Truncated)?);
    let quote = quote.get(..length).unwrap_or(quote);
    let (field, offset) = find(quote).ok_or(IcmpFault::Truncated)?;
    if quote[field] != PROTOCOL {
        return Err(IcmpFault::NoShim6Header);
    }
    let octets = quote
        .get(offset..)
        .filter(|octets| octets.len() >= PAYLOAD_HEADER_LEN)
        .ok_or(IcmpFault::Truncated)?;
    let inner = if octets[2] & 0x80 == 0 {
        Inner::Control(octets)
    } else {
        let (tag, next_header) = payload::parse(octets).map_err(|_| IcmpFault::NoShim6Header)?;
        Inner::Payload { tag, next_header }
    };
    Ok((inner, field, offset))
}

/// The checksum of RFC 4443 section 2.3 over a message, with its field as it is: 0 over a right one.
fn icmp_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut pseudo_header = [0; 40];
    pseudo_header[..16].copy_from_slice(&source.octets());
    pseudo_header[16..32].copy_from_slice(&destination.octets());
    pseudo_header[32..36].copy_from_slice(&(message.len() as u32).to_be_bytes());
    pseudo_header[39] = ICMPV6;
    let (sum, carry) = (!checksum(&pseudo_header)).overflowing_add(!checksum(message));
    !(sum + u16::from(carry))
}
