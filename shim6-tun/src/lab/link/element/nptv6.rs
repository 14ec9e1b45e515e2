//! IPv6-to-IPv6 network prefix translation (RFC 6296), without state.

use std::net::Ipv6Addr;

use super::headers::{self, Headers, ICMPV6};
use crate::lab::Prefix;
use crate::lab::link::Direction;

const SOURCE: usize = 8;
const DESTINATION: usize = 24;
/// ICMPv6 errors have types up to this.
const LAST_ERROR: u8 = 4;
/// Octets of an ICMPv6 error before the packet that it quotes.
const ERROR_OCTETS: usize = 8;

/// A translator between two prefixes.
#[derive(Debug)]
pub(super) struct Translator {
    inside: Prefix,
    outside: Prefix,
}

impl Translator {
    pub(super) fn new(inside: Prefix, outside: Prefix) -> Self {
        Self { inside, outside }
    }

    /// Translates what is to be translated of a packet; `false` if it has an address that cannot be.
    pub(super) fn translate(&self, direction: Direction, packet: &mut [u8]) -> bool {
        // An error quotes a packet that went the other way.
        let (field, quoted, from, to) = match direction {
            Direction::Up => (SOURCE, DESTINATION, self.inside, self.outside),
            Direction::Down => (DESTINATION, SOURCE, self.outside, self.inside),
        };
        let headers = Headers::of(packet);
        if !change(packet, field, from, to) {
            return false;
        }
        let is_error =
            headers.upper == Some(ICMPV6) && packet.get(headers.offset).is_some_and(|&kind| kind <= LAST_ERROR);
        match packet.get_mut(headers.offset.saturating_add(ERROR_OCTETS)..) {
            // The checksum of the message covers what it quotes; that stays right, too.
            Some(inner) if is_error && inner.len() >= headers::IPV6_OCTETS => change(inner, quoted, from, to),
            _ => true,
        }
    }
}

/// Translates the address at `field` if it is in `from`; `false` if it has none in `to`.
fn change(packet: &mut [u8], field: usize, from: Prefix, to: Prefix) -> bool {
    let Some(octets) = packet.get_mut(field..).and_then(|rest| rest.first_chunk_mut::<16>()) else {
        return false;
    };
    let address = Ipv6Addr::from(*octets);
    if !from.contains(address) {
        return true;
    }
    match translated(address, from, to) {
        Some(translated) => {
            *octets = translated.octets();
            true
        }
        None => false,
    }
}

/// RFC 6296 sections 3.1 to 3.5.
fn translated(address: Ipv6Addr, from: Prefix, to: Prefix) -> Option<Ipv6Addr> {
    let rest = address.to_bits() ^ from.address().to_bits();
    let mut words = Ipv6Addr::from_bits(to.address().to_bits() | rest).segments();
    let candidates = if from.length() <= 48 { 3..4 } else { 4..8 };
    let adjusted = candidates.into_iter().find(|&word| words[word] != u16::MAX)?;
    let difference = add(sum(from.address()), !sum(to.address()));
    words[adjusted] = match add(words[adjusted], difference) {
        u16::MAX => 0,
        word => word,
    };
    Some(words.into())
}

/// The sum of an address's words in ones' complement.
fn sum(address: Ipv6Addr) -> u16 {
    address.segments().into_iter().fold(0, add)
}

/// Ones' complement addition (RFC 1071).
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(inside: &str, outside: &str) -> (Prefix, Prefix) {
        (inside.parse().unwrap(), outside.parse().unwrap())
    }

    #[test]
    fn the_example_of_the_rfc_is_translated_both_ways() {
        let (inside, outside) = prefixes("fd01:203:405::/48", "2001:db8:1::/48");
        let within: Ipv6Addr = "fd01:203:405:1::1234".parse().unwrap();
        let without: Ipv6Addr = "2001:db8:1:d550::1234".parse().unwrap();
        assert_eq!(translated(within, inside, outside), Some(without));
        assert_eq!(translated(without, outside, inside), Some(within));
    }

    #[test]
    fn translation_keeps_every_checksum() {
        for (inside, outside) in [
            ("fd00:a::/48", "2001:db8:a1::/48"),
            ("fd00:a:b:c::/64", "2001:db8:a1:7::/64"),
        ] {
            let (inside, outside) = prefixes(inside, outside);
            for last in [1, 0xffff_0000_0000_0001, 0x1234_5678_9abc_def0] {
                let address = inside.with(last);
                let there = translated(address, inside, outside).unwrap();
                assert!(outside.contains(there));
                assert_eq!(sum(there) % u16::MAX, sum(address) % u16::MAX, "{address} {there}");
                assert_eq!(translated(there, outside, inside), Some(address));
            }
        }
    }

    #[test]
    fn what_has_no_translation_is_refused() {
        let (inside, outside) = prefixes("fd01:203:405::/48", "2001:db8:1::/48");
        let address = "fd01:203:405:ffff::1".parse().unwrap();
        assert_eq!(translated(address, inside, outside), None);
    }
}
