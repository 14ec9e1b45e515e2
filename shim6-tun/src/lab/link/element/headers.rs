//! What an IPv6 packet consists of, as far as elements look.

use std::net::Ipv6Addr;

pub(super) const IPV6_OCTETS: usize = 40;
pub(super) const TCP: u8 = 6;
pub(super) const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = crate::sys::SHIM6_NEXT_HEADER;
/// The P bit of its third octet.
const SHIM6_PAYLOAD: u8 = 0x80;
/// RFC 3692's numbers for experiments.
const EXPERIMENTS: [u8; 2] = [253, 254];

/// The chain of a packet's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// Whether protocol 140 is among them.
    pub(super) has_shim6: bool,
    /// Whether it is there with payload behind it: with the P bit (RFC 5533 section 5.1).
    pub(super) has_shim6_payload: bool,
    /// Whether an extension header is, other than that of a fragment.
    pub(super) has_extension: bool,
    /// The first protocol that is no extension, or 140; `None` where the packet is cut off before.
    pub(super) upper: Option<u8>,
    /// Where that begins. Behind the end of the packet in fragments after the first.
    pub(super) offset: usize,
    /// Whether it is a fragment, and the first one.
    pub(super) fragment: Option<bool>,
}

impl Headers {
    /// Of a packet from its IPv6 header on.
    pub(super) fn of(packet: &[u8]) -> Self {
        let mut headers = Self {
            offset: IPV6_OCTETS,
            ..Self::default()
        };
        let mut next = packet.get(6).copied();
        while let Some(protocol) = next {
            let field = |at: usize| packet.get(headers.offset.checked_add(at)?).copied();
            let eights = || Some((usize::from(field(1)?) + 1) * 8);
            let length = match protocol {
                FRAGMENT => {
                    let is_first = matches!((field(2), field(3)), (Some(0), Some(low)) if low >> 3 == 0);
                    headers.fragment = Some(is_first);
                    if !is_first {
                        headers.upper = field(0);
                        headers.offset = packet.len();
                        return headers;
                    }
                    Some(8)
                }
                AUTHENTICATION => field(1).map(|units| (usize::from(units) + 2) * 4),
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP => eights(),
                // Shim6 too: as far as a middlebox can tell, it is the last.
                _ => None,
            };
            headers.has_shim6 |= protocol == SHIM6;
            headers.has_shim6_payload |= protocol == SHIM6 && field(2).is_some_and(|field| field & SHIM6_PAYLOAD != 0);
            headers.has_extension |= protocol != FRAGMENT && (length.is_some() || is_extension(protocol));
            let Some(length) = length else {
                break;
            };
            next = field(0);
            headers.offset = headers.offset.saturating_add(length);
        }
        headers.upper = next;
        headers
    }
}

/// Those that have no length of the usual form.
fn is_extension(protocol: u8) -> bool {
    protocol == SHIM6 || EXPERIMENTS.contains(&protocol)
}

pub(super) fn source(packet: &[u8]) -> Option<Ipv6Addr> {
    address(packet, 8)
}

pub(super) fn destination(packet: &[u8]) -> Option<Ipv6Addr> {
    address(packet, 24)
}

/// Whether it is none that a router would forward.
pub(super) fn is_local(packet: &[u8]) -> bool {
    let (Some(source), Some(destination)) = (source(packet), destination(packet)) else {
        return true;
    };
    source.is_unicast_link_local()
        || source.is_unspecified()
        || destination.is_unicast_link_local()
        || destination.is_multicast()
}

fn address(packet: &[u8], at: usize) -> Option<Ipv6Addr> {
    packet
        .get(at..)?
        .first_chunk::<16>()
        .map(|octets| Ipv6Addr::from(*octets))
}
