//! From a frame to the Shim6 header in it.

use std::net::Ipv6Addr;

use shim6_core::wire::PROTOCOL;

/// Octets of an IPv6 header.
pub(super) const IPV6_HEADER: usize = 40;

const IPV6_ETHERTYPE: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad, and what was used before the latter.
const VLAN_ETHERTYPES: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// What a frame has of Shim6.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// No Shim6 header.
    Nothing,
    /// A fragment of a packet with a Shim6 header that is in another fragment.
    LaterFragment,
    /// A Shim6 header.
    Header {
        source: Ipv6Addr,
        destination: Ipv6Addr,
        /// Octets from the start of the IPv6 header to it.
        before: usize,
        /// From its Next Header octet to the end of the packet.
        octets: &'a [u8],
        /// Whether there may be more of the packet than these octets.
        may_go_on: bool,
    },
    /// The link layer's header is of a type that is not known.
    UnknownLink,
}

/// Looks for a Shim6 header in a frame with this type of link layer.
pub(super) fn find(link: u16, frame: &[u8], is_cut: bool) -> Found<'_> {
    let packet = match link {
        // Null and loopback: 4 octets that differ by system; the packet's own version tells.
        0 | 108 => frame.get(4..),
        1 => frame.get(12..).and_then(ethertype),
        // Raw IP, under the numbers of several systems.
        12 | 14 | 101 | 229 => Some(frame),
        // Linux cooked, version 1 and 2.
        113 => frame.get(14..).and_then(ethertype),
        276 => frame
            .first_chunk()
            .and_then(|protocol| behind(*protocol, frame.get(20..)?)),
        _ => return Found::UnknownLink,
    };
    packet.map_or(Found::Nothing, |packet| in_packet(packet, is_cut))
}

/// The packet behind an EtherType.
fn ethertype(octets: &[u8]) -> Option<&[u8]> {
    let (ethertype, rest) = octets.split_first_chunk()?;
    behind(*ethertype, rest)
}

/// The IPv6 packet behind VLAN tags, the EtherType of the first of which has been read.
fn behind(ethertype: [u8; 2], mut rest: &[u8]) -> Option<&[u8]> {
    let mut ethertype = u16::from_be_bytes(ethertype);
    while VLAN_ETHERTYPES.contains(&ethertype) {
        let ([_, _, next @ ..], behind) = rest.split_first_chunk::<4>()?;
        ethertype = u16::from_be_bytes(*next);
        rest = behind;
    }
    (ethertype == IPV6_ETHERTYPE).then_some(rest)
}

fn in_packet(packet: &[u8], is_cut: bool) -> Found<'_> {
    let Some(header) = packet.first_chunk::<IPV6_HEADER>().filter(|header| header[0] >> 4 == 6) else {
        return Found::Nothing;
    };
    // A length of 0 is that of a packet that will be cut into segments, or of a jumbogram.
    let length = match u16::from_be_bytes([header[4], header[5]]) {
        0 => packet.len(),
        length => IPV6_HEADER + usize::from(length),
    };
    let mut may_go_on = is_cut || length > packet.len();
    // A short frame is filled up behind the packet.
    let packet = &packet[..length.min(packet.len())];
    let (mut next_header, mut at) = (header[6], IPV6_HEADER);
    loop {
        let octets = packet.get(at..).unwrap_or_default();
        let length = match (next_header, octets) {
            (PROTOCOL, octets) => {
                return Found::Header {
                    source: address(header, 8),
                    destination: address(header, 24),
                    before: at,
                    octets,
                    may_go_on,
                };
            }
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS, [_, length, ..]) => 8 * (usize::from(*length) + 1),
            (AUTHENTICATION, [_, length, ..]) => 4 * (usize::from(*length) + 2),
            (FRAGMENT, [behind, _, high, low, ..]) => {
                let offset_and_more = u16::from_be_bytes([*high, *low]);
                if offset_and_more >> 3 != 0 {
                    return match *behind {
                        PROTOCOL => Found::LaterFragment,
                        _ => Found::Nothing,
                    };
                }
                may_go_on |= offset_and_more & 1 != 0;
                8
            }
            _ => return Found::Nothing,
        };
        next_header = octets[0];
        at += length;
    }
}

fn address(header: &[u8; IPV6_HEADER], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(std::array::from_fn(|octet| header[at + octet]))
}

/// Whether these octets of a Shim6 header, of which there may be more, are all that it claims.
pub(super) fn is_whole(octets: &[u8]) -> bool {
    match octets {
        [_, _, p, ..] if p & 0x80 != 0 => octets.len() >= 8,
        [_, length, _, ..] => octets.len() > 8 * usize::from(*length) + 7,
        _ => false,
    }
}
