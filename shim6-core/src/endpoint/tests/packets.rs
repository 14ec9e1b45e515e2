//! Packets, and what always holds of an endpoint.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Endpoint, LocatorPair};

const UDP: u8 = 17;
/// Octets of a UDP header, behind which payload has its number.
pub(super) const UDP_HEADER_LEN: usize = 8;

/// Each context is in all the endpoint's tables that its state asks for, and nothing else is.
pub(super) fn assert_indices_agree(endpoint: &Endpoint) {
    let contexts = || endpoint.contexts.values();
    assert_eq!(endpoint.by_ulids.len(), endpoint.contexts.len());
    assert_eq!(endpoint.by_local_tag.len(), endpoint.contexts.len());
    assert_eq!(endpoint.per_peer.values().sum::<usize>(), endpoint.contexts.len());
    assert_eq!(
        endpoint.by_nonce.len(),
        contexts().filter(|context| context.initiation().is_some()).count()
    );
    assert_eq!(
        endpoint.timers.len(),
        contexts().filter(|context| context.timer.is_some()).count()
    );
    let by_peer_tag = endpoint.by_peer_tag.values().map(Vec::len).sum::<usize>();
    assert_eq!(
        by_peer_tag,
        contexts().filter(|context| context.established().is_some()).count()
    );
    for context in contexts() {
        let id = context.id;
        assert_eq!(
            endpoint.by_ulids.get(&(context.ulids, context.forked_instance)),
            Some(&id)
        );
        assert_eq!(endpoint.by_local_tag.get(&context.local_tag), Some(&id));
        assert_eq!(context.timer, context.deadline());
        assert!(context.timer.is_none_or(|timer| endpoint.timers.contains(&(timer, id))));
        if let Some(initiation) = context.initiation() {
            assert_eq!(endpoint.by_nonce.get(&initiation.nonce), Some(&id));
        }
        if let Some(established) = context.established() {
            assert!(
                endpoint
                    .by_peer_tag
                    .get(&established.peer_tag)
                    .is_some_and(|ids| ids.contains(&id))
            );
        }
    }
}

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
