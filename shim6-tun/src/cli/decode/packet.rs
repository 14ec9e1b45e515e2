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
        // A header that is not whole leads nowhere.
        let Some(octets) = packet.get(at..) else {
            return Found::Nothing;
        };
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa);
    const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 0xbb);
    const KEEPALIVE: [u8; 16] = [59, 1, 66, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0];

    /// A packet whose first header behind IPv6's is of type `next_header`.
    fn packet(next_header: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((rest.len() as u16).to_be_bytes());
        packet.extend([next_header, 64]);
        packet.extend(A.octets());
        packet.extend(B.octets());
        packet.extend(rest);
        packet
    }

    fn header(before: usize, octets: &[u8], may_go_on: bool) -> Found<'_> {
        Found::Header {
            source: A,
            destination: B,
            before,
            octets,
            may_go_on,
        }
    }

    #[test]
    fn header_is_found_behind_each_type_of_link_layer() {
        let packet = packet(PROTOCOL, &KEEPALIVE);
        let macs = [0x11; 12];
        let cooked = [0; 14];
        let tag = [0x81, 0x00, 0, 5];
        let outer = [0x88, 0xa8, 0, 9];
        let ip = [0x86, 0xdd];
        let frames: [(u16, Vec<&[u8]>); 13] = [
            (1, vec![&macs, &ip]),
            (1, vec![&macs, &tag, &ip]),
            (1, vec![&macs, &outer, &tag, &ip]),
            (12, vec![]),
            (14, vec![]),
            (101, vec![]),
            (229, vec![]),
            (113, vec![&cooked, &ip]),
            (113, vec![&cooked, &tag, &ip]),
            (276, vec![&ip, &[0; 18]]),
            (276, vec![&tag[..2], &[0; 18], &tag[2..], &ip]),
            (0, vec![&[30, 0, 0, 0]]),
            (108, vec![&[0, 0, 0, 24]]),
        ];
        for (link, before) in frames {
            let frame = [before.concat(), packet.clone()].concat();
            assert_eq!(
                find(link, &frame, false),
                header(40, &KEEPALIVE, false),
                "link type {link}"
            );
        }
        assert_eq!(find(127, &packet, false), Found::UnknownLink);
    }

    #[test]
    fn other_packets_have_nothing() {
        let ipv4 = [&[0x11; 12][..], &[0x08, 0x00, 0x45]].concat();
        assert_eq!(find(1, &ipv4, false), Found::Nothing);
        assert_eq!(find(101, &[0x45; 60], false), Found::Nothing);
        assert_eq!(find(229, &packet(6, &[0; 20]), false), Found::Nothing);
        assert_eq!(find(229, &packet(PROTOCOL, &[])[..39], false), Found::Nothing);
        assert_eq!(find(1, &[], false), Found::Nothing);
        assert_eq!(find(276, &[0x86, 0xdd], false), Found::Nothing);
    }

    #[test]
    fn header_is_found_behind_extension_headers() {
        let options = |next: u8| [vec![next, 1], vec![0; 14]].concat();
        let routing = |next: u8| vec![next, 0, 253, 0, 0, 0, 0, 0];
        let authentication = |next: u8| [vec![next, 4], vec![0; 22]].concat();
        let chain = [
            options(DESTINATION_OPTIONS),
            options(ROUTING),
            routing(AUTHENTICATION),
            authentication(PROTOCOL),
            KEEPALIVE.to_vec(),
        ]
        .concat();
        let packet = packet(HOP_BY_HOP, &chain);
        assert_eq!(
            find(229, &packet, false),
            header(40 + 16 + 16 + 8 + 24, &KEEPALIVE, false)
        );
        for length in 0..40 + 64 {
            assert_eq!(find(229, &packet[..length], true), Found::Nothing, "{length} octets");
        }
    }

    #[test]
    fn first_fragment_is_read_and_others_are_told() {
        let fragment = |next: u8, offset_and_more: u16| {
            let [high, low] = offset_and_more.to_be_bytes();
            [&[next, 0, high, low, 0, 0, 0, 1][..], &KEEPALIVE].concat()
        };
        for (next, field, found) in [
            (PROTOCOL, 0, header(48, &KEEPALIVE, false)),
            (PROTOCOL, 1, header(48, &KEEPALIVE, true)),
            (PROTOCOL, 8, Found::LaterFragment),
            (PROTOCOL, 9, Found::LaterFragment),
            (6, 0, Found::Nothing),
            (6, 8, Found::Nothing),
        ] {
            assert_eq!(find(229, &packet(FRAGMENT, &fragment(next, field)), false), found);
        }
    }

    #[test]
    fn packet_ends_where_it_says_or_where_the_capture_does() {
        let mut frame = packet(PROTOCOL, &KEEPALIVE);
        frame.extend([0; 4]);
        assert_eq!(find(229, &frame, false), header(40, &KEEPALIVE, false));
        assert_eq!(find(229, &frame[..50], true), header(40, &KEEPALIVE[..10], true));
        assert_eq!(find(229, &frame[..50], false), header(40, &KEEPALIVE[..10], true));
        // A segment that is still to be cut says 0.
        frame.truncate(56);
        frame[4..6].fill(0);
        assert_eq!(find(229, &frame, false), header(40, &KEEPALIVE, false));
    }

    #[test]
    fn header_is_whole_with_the_octets_that_it_claims() {
        assert!(is_whole(&KEEPALIVE) && !is_whole(&KEEPALIVE[..15]));
        assert!(is_whole(&[6, 9, 0x80, 0, 0, 0, 0, 0]) && !is_whole(&[6, 9, 0x80, 0, 0, 0, 0]));
        assert!(!is_whole(&[59, 0]) && !is_whole(&[]));
    }

    proptest! {
        #[test]
        fn any_frame_is_looked_at_without_panic(
            link in prop::sample::select(vec![0_u16, 1, 12, 14, 101, 108, 113, 229, 276, 999]),
            octets in proptest::collection::vec(any::<u8>(), 0..200),
            is_cut: bool,
        ) {
            let _ = find(link, &octets, is_cut);
        }

        /// Chains of headers that each have a type that is followed.
        #[test]
        fn any_chain_of_headers_comes_to_an_end(
            headers in proptest::collection::vec((prop::sample::select(vec![0_u8, 43, 44, 51, 60, 140]), any::<[u8; 7]>()), 0..30),
        ) {
            let rest: Vec<u8> = headers.iter().flat_map(|(next, rest)| [&[*next][..], rest].concat()).collect();
            if let Found::Header { before, octets, .. } = find(229, &packet(HOP_BY_HOP, &rest), false) {
                prop_assert!(before >= 40 && octets.len() <= rest.len());
            }
        }
    }
}
