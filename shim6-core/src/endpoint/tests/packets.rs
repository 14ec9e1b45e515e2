//! Packets.

use alloc::vec;
use alloc::vec::Vec;

use crate::LocatorPair;

const UDP: u8 = 17;
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
