//! Packets.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use crate::LocatorPair;
use crate::dataplane::addresses;
use crate::wire::checksum;

const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
/// Octets of a UDP header, behind which payload has its number.
pub(super) const UDP_HEADER_LEN: usize = 8;

pub(super) fn ipv6(pair: LocatorPair, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("the payload fits a packet");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[next_header, 64]);
    packet.extend_from_slice(&pair.local.octets());
    packet.extend_from_slice(&pair.peer.octets());
    packet.extend_from_slice(payload);
    packet
}

/// What `reporter` says about a packet to the host that sent it (RFC 4443 section 2.1).
pub(super) fn icmp_error(reporter: Ipv6Addr, kind: (u8, u8), word: u32, packet_in_error: &[u8]) -> Vec<u8> {
    let (host, _) = addresses(packet_in_error).expect("hosts send IPv6");
    let mut message = vec![kind.0, kind.1, 0, 0];
    message.extend_from_slice(&word.to_be_bytes());
    message.extend_from_slice(&packet_in_error[..packet_in_error.len().min(1_280 - 48)]);
    let mut summed = [reporter.octets(), host.octets()].concat();
    summed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    summed.extend_from_slice(&[0, 0, 0, ICMPV6]);
    summed.extend_from_slice(&message);
    let sum = checksum(&summed);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(LocatorPair::new(reporter, host), ICMPV6, &message)
}

/// A UDP datagram that says its number, of a length that follows from it.
pub(super) fn datagram(ulids: LocatorPair, port: u16, number: u32) -> Vec<u8> {
    let length = UDP_HEADER_LEN + 4 + (number as usize * 37) % 1_200;
    let mut udp = Vec::with_capacity(length);
    udp.extend_from_slice(&4_000_u16.to_be_bytes());
    udp.extend_from_slice(&port.to_be_bytes());
    udp.extend_from_slice(&(length as u16).to_be_bytes());
    udp.extend_from_slice(&(number as u16).to_be_bytes());
    udp.extend_from_slice(&number.to_be_bytes());
    udp.extend((udp.len()..length).map(|index| (index as u8).wrapping_mul(31) ^ number as u8));
    ipv6(ulids, UDP, &udp)
}
