//! Whole IPv6 packets through the table of flows.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::Source;
use crate::dataplane::{
    DataplaneUpdate, Flow, IPV6_HEADER_LEN, Inbound, Malformed, Outbound, PAYLOAD_HEADER_LEN, addresses,
};
use crate::id::ContextId;
use crate::wire::{ContextTag, PROTOCOL};
use crate::{Dataplane, Instant, LocatorPair};

const NOW: Instant = Instant::from_micros(1_000_000);

/// In front of the packet.
const HEADROOM: usize = 16;

/// The host's own side of each flow: steered, on its ULIDs, and forked. The peer's is the mirror image.
fn flows() -> [Flow; 3] {
    let flow = |number: u16, locators: u16, forked_instance| Flow {
        context: ContextId(number.into()),
        ulids: pair(number, number),
        forked_instance,
        locators: pair(locators, locators),
        local_tag: ContextTag::from_random_bits(0x1000 + u64::from(number)),
        peer_tag: ContextTag::from_random_bits(0x7fff_0000_2000 + u64::from(number)),
        activity: Arc::default(),
        holding: false,
    };
    [flow(1, 2, 0), flow(3, 3, 0), flow(1, 4, 7)]
}

fn pair(local: u16, peer: u16) -> LocatorPair {
    let address = |net, host| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host);
    LocatorPair::new(address(local, 1), address(peer, 2))
}

fn mirrored(flow: &Flow) -> Flow {
    Flow {
        ulids: flow.ulids.seen_by_peer(),
        locators: flow.locators.seen_by_peer(),
        local_tag: flow.peer_tag,
        peer_tag: flow.local_tag,
        activity: Arc::default(),
        ..*flow
    }
}

fn table(flows: impl IntoIterator<Item = Flow>) -> Dataplane {
    let mut table = Dataplane::default();
    for flow in flows {
        table.apply(DataplaneUpdate::Insert(Arc::new(flow)));
    }
    table
}

/// A packet out of the host and into it. The first octets choose addresses and a tag to put over the packet's own, or
/// none, since nobody finds them by trying.
pub fn dataplane(octets: &[u8]) {
    let mut source = Source::new(octets);
    let over = source.octet();
    let flow = &flows()[usize::from(source.octet()) % 3];
    let mut packet = source.rest().to_vec();
    if over & 1 != 0 && packet.len() >= IPV6_HEADER_LEN {
        packet[0] = 0x60 | packet[0] & 0x0f;
        let length = u16::try_from(packet.len() - IPV6_HEADER_LEN).unwrap_or(u16::MAX);
        packet[4..6].copy_from_slice(&length.to_be_bytes());
    }
    let pair = if over & 2 != 0 { flow.locators } else { flow.ulids };
    let mut outgoing = packet.clone();
    if over & 4 != 0 && outgoing.len() >= IPV6_HEADER_LEN {
        outgoing[8..24].copy_from_slice(&pair.local.octets());
        outgoing[24..40].copy_from_slice(&pair.peer.octets());
    }
    check_outbound(&outgoing);
    check_inbound(&packet, flow.local_tag, over);
}

fn behind_headroom(packet: &[u8]) -> Vec<u8> {
    [&[0xee; HEADROOM], packet].concat()
}

/// A packet that is rewritten carries what it carried, and the peer gets back the packet that was sent.
fn check_outbound(packet: &[u8]) {
    let (own, peer) = (table(flows()), table(flows().iter().map(mirrored)));
    let mut buffer = behind_headroom(packet);
    match own.outbound(&mut buffer, HEADROOM, NOW) {
        Outbound::Rewritten { start, flow, .. } => {
            assert_eq!(start, HEADROOM - PAYLOAD_HEADER_LEN);
            assert!(flow.is_steered());
            assert_eq!(flow.activity.sent(), (1, packet.len() as u64));
            assert_eq!(
                addresses(&buffer[start..]),
                Some((flow.locators.local, flow.locators.peer))
            );
            check_restored(packet, &mut buffer, start, &peer);
        }
        Outbound::Unchanged { flow, .. } => {
            assert!(!flow.is_steered());
            assert_eq!(buffer, behind_headroom(packet));
        }
        Outbound::NoContext | Outbound::NotPayload | Outbound::Malformed(_) => {
            assert_eq!(buffer, behind_headroom(packet));
        }
    }
}

fn check_restored(packet: &[u8], buffer: &mut [u8], start: usize, peer: &Dataplane) {
    match peer.inbound(buffer, start, NOW) {
        Inbound::Restored { start, .. } => assert_eq!(&buffer[start..], packet),
        other => panic!("{other:?}"),
    }
}

/// A packet is restored to its flow's ULIDs and loses nothing but the payload header, or is left alone.
fn check_inbound(packet: &[u8], tag: ContextTag, over: u8) {
    let own = table(flows());
    let mut buffer = behind_headroom(packet);
    if over & 8 != 0 && packet.len() >= IPV6_HEADER_LEN + PAYLOAD_HEADER_LEN {
        // Behind the IPv6 header, or behind one extension header of 8 octets.
        let behind = IPV6_HEADER_LEN + if over & 16 != 0 { 8 } else { 0 };
        let field = if over & 16 != 0 { IPV6_HEADER_LEN } else { 6 };
        if let Some(header) = buffer
            .get_mut(HEADROOM + behind..)
            .and_then(<[u8]>::first_chunk_mut::<8>)
        {
            crate::wire::payload::emit(tag, header[0], header);
            buffer[HEADROOM + field] = PROTOCOL;
        }
    }
    let before = buffer.clone();
    match own.inbound(&mut buffer, HEADROOM, NOW) {
        Inbound::Restored { start, flow, .. } => {
            assert_eq!(start, HEADROOM + PAYLOAD_HEADER_LEN);
            let restored = &buffer[start..];
            assert_eq!(addresses(restored), Some((flow.ulids.peer, flow.ulids.local)));
            let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([restored[4], restored[5]]));
            assert!(total <= restored.len());
            assert_eq!(flow.activity.received(), (1, total as u64));
            check_removed(&before[HEADROOM..], restored);
        }
        Inbound::Control { start } => {
            assert!(start >= HEADROOM + IPV6_HEADER_LEN && start + PAYLOAD_HEADER_LEN <= before.len());
            assert_eq!(buffer[start + 2] & 0x80, 0);
            assert_eq!(buffer, before);
        }
        Inbound::NotShim6 | Inbound::NoContext => assert_eq!(buffer, before),
        Inbound::Malformed(reason) => {
            assert!(reason != Malformed::TooLong && reason != Malformed::NoHeadroom);
            assert_eq!(buffer, before);
        }
    }
    // No headroom at all is no reason to panic either.
    let _ = own.inbound(&mut [0; 3], 9, NOW);
    let _ = own.outbound(&mut packet.to_vec(), 0, NOW);
}

/// What came with the payload header and what is left without it differ by these 8 octets, the field that leads to them, the
/// Payload Length and the addresses, and by nothing else.
fn check_removed(received: &[u8], restored: &[u8]) {
    let (field, offset) = shim6_header(received).expect("there was a payload header");
    let mut expected = received.to_vec();
    expected[field] = received[offset];
    expected.drain(offset..offset + PAYLOAD_HEADER_LEN);
    for unchecked in [4..6, 8..40] {
        expected[unchecked.clone()].copy_from_slice(&restored[unchecked]);
    }
    assert_eq!(restored, expected);
}

/// The Next Header field that says Shim6, and where it leads, over any extension headers.
fn shim6_header(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut field, mut offset) = (6, IPV6_HEADER_LEN);
    while *packet.get(field)? != PROTOCOL {
        (field, offset) = (offset, offset + 8 + 8 * usize::from(*packet.get(offset + 1)?));
    }
    Some((field, offset))
}
