//! Packets on their way through the table, in both directions.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::prelude::any;
use proptest::{prop_assert, proptest};

use super::*;

mod chains;
mod forks;
mod hold;
mod icmp;

const NOW: Instant = Instant::from_micros(7_000_000);
const HOP_BY_HOP: u8 = 0;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const ECHO_REQUEST: u8 = 128;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

fn address(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
}

fn tag(value: u64) -> ContextTag {
    ContextTag::from_random_bits(value)
}

/// The ULIDs as the sender sees them.
pub(super) fn ulids() -> LocatorPair {
    LocatorPair {
        local: address(1, 1),
        peer: address(11, 11),
    }
}

fn locators() -> LocatorPair {
    LocatorPair {
        local: address(2, 1),
        peer: address(12, 11),
    }
}

pub(super) fn sender_flow() -> Flow {
    Flow {
        context: ContextId(1),
        ulids: ulids(),
        forked_instance: 0,
        locators: locators(),
        local_tag: tag(0x1111),
        peer_tag: tag(0x7fff_2222_3333),
        activity: Arc::default(),
        holding: false,
    }
}

pub(super) fn receiver_flow() -> Flow {
    Flow {
        context: ContextId(2),
        ulids: ulids().seen_by_peer(),
        locators: ulids().seen_by_peer(),
        local_tag: tag(0x7fff_2222_3333),
        peer_tag: tag(0x1111),
        ..sender_flow()
    }
}

pub(super) fn table(flow: Flow) -> Dataplane {
    let mut table = Dataplane::default();
    table.apply(DataplaneUpdate::Insert(Arc::new(flow)));
    table
}

fn packet(addresses: LocatorPair, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6a, 0xbc, 0xde, 0xf0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next_header, 61]);
    packet.extend_from_slice(&addresses.local.octets());
    packet.extend_from_slice(&addresses.peer.octets());
    packet.extend_from_slice(payload);
    packet
}

/// The packet behind `headroom` octets.
fn behind(headroom: usize, packet: &[u8]) -> Vec<u8> {
    [&vec![0xee; headroom], packet].concat()
}

/// What the sender's table makes of a packet.
fn rewritten(packet: &[u8]) -> Vec<u8> {
    let table = table(sender_flow());
    let mut buffer = behind(8, packet);
    match table.outbound(&mut buffer, 8, NOW) {
        Outbound::Rewritten { start: 0, .. } => buffer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_packet_gets_locators_and_the_payload_header() {
    let sent = rewritten(&packet(ulids(), UDP, &[1, 2, 3]));
    let header = [UDP, 0, 0xff, 0xff, 0x22, 0x22, 0x33, 0x33];
    let expected = packet(locators(), PROTOCOL, &[&header[..], &[1, 2, 3]].concat());
    assert_eq!(sent, expected);
}

#[test]
fn packet_of_a_flow_on_its_ulids_is_left_alone() {
    let table = table(Flow {
        locators: ulids(),
        ..sender_flow()
    });
    let original = packet(ulids(), UDP, &[1, 2, 3]);
    let mut buffer = behind(8, &original);
    assert!(matches!(
        table.outbound(&mut buffer, 8, NOW),
        Outbound::Unchanged { wake: false, .. }
    ));
    assert_eq!(buffer[8..], original);
    assert_eq!(table.flow(ulids()).map(|flow| flow.activity.sent()), Some((1, 43)));
}

#[test]
fn packet_of_no_flow_is_left_alone() {
    let table = table(sender_flow());
    for addresses in [ulids().seen_by_peer(), locators()] {
        let original = packet(addresses, UDP, &[1, 2, 3]);
        let mut buffer = behind(8, &original);
        assert!(matches!(table.outbound(&mut buffer, 8, NOW), Outbound::NoContext));
        assert_eq!(buffer[8..], original);
    }
}

#[test]
fn packet_that_cannot_be_rewritten_is_left_alone_and_not_counted() {
    let table = table(sender_flow());
    let longest = packet(ulids(), UDP, &vec![0; 65_528]);
    let mut no_version = packet(ulids(), UDP, &[0; 8]);
    no_version[0] = 0x45;
    let mut past_end = packet(ulids(), UDP, &[0; 8]);
    past_end[5] = 9;
    for (original, headroom, reason) in [
        (longest, 8, Malformed::TooLong),
        (packet(ulids(), UDP, &[0; 8]), 7, Malformed::NoHeadroom),
        (packet(ulids(), UDP, &[0; 8]), 0, Malformed::NoHeadroom),
        (no_version, 8, Malformed::Truncated),
        (past_end, 8, Malformed::Truncated),
        (
            packet(ulids(), HOP_BY_HOP, &[UDP, 1, 0, 0, 0, 0, 0, 0]),
            8,
            Malformed::Truncated,
        ),
        (Vec::new(), 8, Malformed::Truncated),
    ] {
        let mut buffer = behind(headroom, &original);
        match table.outbound(&mut buffer, headroom, NOW) {
            Outbound::Malformed(given) => assert_eq!(given, reason),
            other => panic!("{other:?} instead of {reason:?}"),
        }
        assert_eq!(buffer, behind(headroom, &original));
    }
    assert!(matches!(
        table.outbound(&mut [0; 4], 9, NOW),
        Outbound::Malformed(Malformed::Truncated)
    ));
    assert_eq!(table.flow(ulids()).map(|flow| flow.activity.sent()), Some((0, 0)));
    // One octet less fits.
    assert_eq!(rewritten(&packet(ulids(), UDP, &vec![0; 65_527])).len(), 40 + 65_535);
}

#[test]
fn payload_header_with_a_length_or_an_unknown_tag_is_refused() {
    let table = table(receiver_flow());
    let sent = rewritten(&packet(ulids(), UDP, &[0; 16]));
    let mut long = sent.clone();
    long[41] = 1;
    assert!(matches!(table.inbound(&mut long, 0, NOW), Inbound::Malformed(_)));
    let mut other = sent.clone();
    other[47] ^= 1;
    assert!(matches!(table.inbound(&mut other, 0, NOW), Inbound::NoContext));
    let mut own = sent.clone();
    own[42..48].copy_from_slice(&[0x80, 0, 0, 0, 0x11, 0x11]);
    assert!(matches!(table.inbound(&mut own, 0, NOW), Inbound::NoContext));
    assert_eq!(
        table.flow(ulids().seen_by_peer()).map(|flow| flow.activity.received()),
        Some((0, 0))
    );
}

#[test]
fn control_message_is_given_on() {
    let table = table(receiver_flow());
    let mut control = behind(5, &packet(locators(), PROTOCOL, &[59, 0, 66, 0, 0, 0, 0, 0]));
    let before = control.clone();
    assert!(matches!(
        table.inbound(&mut control, 5, NOW),
        Inbound::Control { start: 45 }
    ));
    let options = [PROTOCOL, 0, 1, 4, 0, 0, 0, 0, 59, 0, 66, 0, 0, 0, 0, 0];
    let mut behind_options = packet(locators(), HOP_BY_HOP, &options);
    assert!(matches!(
        table.inbound(&mut behind_options, 0, NOW),
        Inbound::Control { start: 48 }
    ));
    assert_eq!(control, before);
}

#[test]
fn ordinary_packet_is_none_of_ours() {
    let table = table(receiver_flow());
    let original = packet(ulids(), UDP, &[1, 2, 3]);
    let mut buffer = original.clone();
    assert!(matches!(table.inbound(&mut buffer, 0, NOW), Inbound::NotShim6));
    assert_eq!(buffer, original);
}

#[test]
fn shim6_header_beyond_the_payload_length_is_not_the_packets() {
    let table = table(receiver_flow());
    // An empty packet with a Hop-by-Hop header that promises Shim6; the frame goes on behind the packet.
    let mut padded = packet(locators(), HOP_BY_HOP, &[PROTOCOL, 0, 1, 4, 0, 0, 0, 0]);
    padded.extend_from_slice(&[UDP, 0, 0xff, 0xff, 0x22, 0x22, 0x33, 0x33]);
    assert!(matches!(
        table.inbound(&mut padded, 0, NOW),
        Inbound::Malformed(Malformed::Truncated)
    ));
}

#[test]
fn padding_behind_the_packet_is_not_counted() {
    let table = table(receiver_flow());
    let mut sent = rewritten(&packet(ulids(), UDP, &[0; 16]));
    sent.extend_from_slice(&[0; 12]);
    assert!(matches!(
        table.inbound(&mut sent, 0, NOW),
        Inbound::Restored { start: 8, .. }
    ));
    assert_eq!(
        table.flow(ulids().seen_by_peer()).map(|flow| flow.activity.received()),
        Some((1, 56))
    );
}

#[test]
fn truncation_at_any_length_is_noticed() {
    let (sender, receiver) = (table(sender_flow()), table(receiver_flow()));
    let options = [ROUTING, 0, 1, 4, 0, 0, 0, 0];
    let routing = [UDP, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let original = packet(
        ulids(),
        DESTINATION_OPTIONS,
        &[&options[..], &routing, &[9; 12]].concat(),
    );
    for length in 0..original.len() {
        let mut buffer = behind(8, &original[..length]);
        assert!(matches!(
            sender.outbound(&mut buffer, 8, NOW),
            Outbound::Malformed(Malformed::Truncated)
        ));
    }
    let sent = rewritten(&original);
    for length in 0..sent.len() {
        let mut buffer = sent[..length].to_vec();
        assert!(matches!(
            receiver.inbound(&mut buffer, 0, NOW),
            Inbound::Malformed(Malformed::Truncated)
        ));
    }
    // The same with a Payload Length that goes along.
    for length in 40..sent.len() {
        let mut buffer = sent[..length].to_vec();
        buffer[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
        let is_whole = length >= 40 + 8 + 16 + 8;
        match receiver.inbound(&mut buffer, 0, NOW) {
            Inbound::Restored { .. } => assert!(is_whole, "{length}"),
            Inbound::Malformed(Malformed::Truncated) => assert!(!is_whole, "{length}"),
            other => panic!("{other:?} at {length}"),
        }
    }
}

#[test]
fn passing_packets_are_recorded_and_wake_once() {
    let table = table(sender_flow());
    let flow = table.flow(ulids()).expect("there is a flow");
    flow.activity.request_wake(WAKE_ON_SENT | WAKE_ON_RECEIVED);
    let original = packet(ulids(), UDP, &[0; 60]);
    let wakes = |_| {
        let mut buffer = behind(8, &original);
        match table.outbound(&mut buffer, 8, NOW) {
            Outbound::Rewritten { wake, flow, .. } => (flow.context, wake),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([0, 1].map(wakes), [(ContextId(1), true), (ContextId(1), false)]);
    assert_eq!(flow.activity.sent(), (2, 200));

    let LocatorPair { local, peer } = ulids();
    flow.activity.request_wake(WAKE_ON_RECEIVED);
    assert_eq!(table.observe(local, peer, true, 10, NOW), Observed::Recorded);
    assert_eq!(table.observe(peer, local, false, 20, NOW), Observed::Wake(ContextId(1)));
    assert_eq!(table.observe(peer, local, false, 20, NOW), Observed::Recorded);
    assert_eq!((flow.activity.sent(), flow.activity.received()), ((3, 210), (2, 40)));
    // The direction decides which address is ours.
    assert_eq!(
        table.observe(peer, local, true, 1, NOW),
        Observed::NoContext(ulids().seen_by_peer())
    );
    assert_eq!(
        table.observe(local, peer, false, 1, NOW),
        Observed::NoContext(ulids().seen_by_peer())
    );
}

#[test]
fn warming_changes_nothing() {
    let (sender, receiver) = (table(sender_flow()), table(receiver_flow()));
    let original = packet(ulids(), UDP, &[1, 2, 3]);
    let sent = rewritten(&original);
    let cut = &original[..20];
    // More than it takes at a time, and some that belong to no flow.
    for count in [0, 1, 63, 64, 65, 200] {
        sender.warm_outbound([&original[..], cut, &sent].into_iter().cycle().take(count));
        let tags = [receiver_flow().local_tag, tag(9)];
        receiver.warm_inbound(tags.into_iter().cycle().take(count));
    }
    let activity = |table: &Dataplane, ulids| {
        table
            .flow(ulids)
            .map(|flow| (flow.activity.sent(), flow.activity.received()))
    };
    assert_eq!(activity(&sender, ulids()), Some(((0, 0), (0, 0))));
    assert_eq!(activity(&receiver, ulids().seen_by_peer()), Some(((0, 0), (0, 0))));
}

#[test]
fn path_change_keeps_what_was_recorded() {
    let mut table = table(sender_flow());
    let activity = table.flow(ulids()).expect("there is a flow").activity.clone();
    let moved = Flow {
        locators: ulids(),
        activity: activity.clone(),
        ..sender_flow()
    };
    table.apply(DataplaneUpdate::Insert(Arc::new(moved)));
    assert_eq!(table.len(), 1);
    let _ = table.observe(ulids().local, ulids().peer, true, 10, NOW);
    assert_eq!(activity.sent(), (1, 10));
}

#[test]
fn removal_takes_only_its_own_flow() {
    let mut table = table(sender_flow());
    let old = table.flow(ulids()).expect("there is a flow").clone();
    let successor = Flow {
        context: ContextId(9),
        local_tag: tag(0x9999),
        ..sender_flow()
    };
    table.apply(DataplaneUpdate::Insert(Arc::new(successor)));
    table.apply(DataplaneUpdate::Remove(old));
    assert_eq!(table.flow(ulids()).map(|flow| flow.context), Some(ContextId(9)));
    assert_eq!(table.len(), 1);

    // The same with a tag that was drawn again.
    let other = LocatorPair {
        local: address(3, 3),
        peer: address(4, 4),
    };
    let again = Flow {
        context: ContextId(10),
        ulids: other,
        local_tag: tag(0x9999),
        ..sender_flow()
    };
    let successor = table.flow(ulids()).expect("there is a flow").clone();
    table.apply(DataplaneUpdate::Insert(Arc::new(again)));
    table.apply(DataplaneUpdate::Remove(successor));
    let mut arrives = packet(locators(), PROTOCOL, &[UDP, 0, 0x80, 0, 0, 0, 0x99, 0x99, 1, 2]);
    assert!(matches!(table.inbound(&mut arrives, 0, NOW), Inbound::Restored { .. }));
    assert!(table.flow(ulids()).is_none());
    let last = table.flow(other).expect("there is a flow").clone();
    table.apply(DataplaneUpdate::Remove(last));
    assert!(table.is_empty());
}

proptest! {
    #[test]
    fn octets_of_any_kind_do_not_panic(
        octets in vec_of(any::<u8>(), 0..120),
        chosen in vec_of(proptest::sample::select(vec![HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, PROTOCOL]), 20),
        start in 0..60_usize,
        is_ipv6 in any::<bool>(),
    ) {
        let (sender, receiver) = (table(sender_flow()), table(receiver_flow()));
        let mut octets = octets;
        if is_ipv6 && octets.len() > 40 {
            let length = octets.len() as u16 - 40;
            octets.iter_mut().skip(40).step_by(4).zip(&chosen).for_each(|(octet, choice)| *octet = *choice);
            octets = [&packet(ulids(), chosen[0], &[])[..], &octets[40..]].concat();
            octets[4..6].copy_from_slice(&length.to_be_bytes());
            octets = behind(start, &octets);
        }
        let before = octets.clone();
        sender.warm_outbound(octets.get(start..));
        let is_rewritten = matches!(sender.outbound(&mut octets, start, NOW), Outbound::Rewritten { .. });
        prop_assert!(is_rewritten || octets == before);
        let mut octets = before.clone();
        let is_restored = matches!(receiver.inbound(&mut octets, start, NOW), Inbound::Restored { .. });
        prop_assert!(is_restored || octets == before);
    }
}

#[test]
fn shim6_messages_and_neighbor_discovery_between_the_ulids_leave_as_they_are() {
    let table = table(sender_flow());
    for (next_header, payload) in [
        (PROTOCOL, [59, 0, 66, 0]),
        (ICMPV6, [135, 0, 0, 0]),
        (ICMPV6, [136, 0, 0, 0]),
    ] {
        let original = behind(8, &packet(ulids(), next_header, &payload));
        let mut buffer = original.clone();
        assert!(matches!(table.outbound(&mut buffer, 8, NOW), Outbound::NotPayload));
        assert_eq!(buffer, original);
    }
    let mut echo = behind(8, &packet(ulids(), ICMPV6, &[ECHO_REQUEST, 0, 0, 0]));
    assert!(matches!(table.outbound(&mut echo, 8, NOW), Outbound::Rewritten { .. }));
    assert_eq!(table.flow(ulids()).map(|flow| flow.activity.sent().0), Some(1));
}

#[test]
fn payload_header_with_a_length_or_in_a_payload_header_is_malformed() {
    let table = table(receiver_flow());
    let sent = rewritten(&packet(ulids(), UDP, &[0; 16]));
    let mut long = sent.clone();
    long[41] = 1;
    assert!(matches!(
        table.inbound(&mut long, 0, NOW),
        Inbound::Malformed(Malformed::HeaderLength)
    ));
    let mut nested = sent;
    nested[40] = PROTOCOL;
    assert!(matches!(
        table.inbound(&mut nested, 0, NOW),
        Inbound::Malformed(Malformed::Nested)
    ));
    assert_eq!(
        table
            .flow(ulids().seen_by_peer())
            .map(|flow| flow.activity.received().0),
        Some(0)
    );
}
