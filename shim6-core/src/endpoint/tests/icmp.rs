//! ICMPv6 errors about packets of the shim (RFC 5533 sections 7.8 and 8).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::packets::{ICMPV6, icmp_error, ipv6};
use super::world::{A, B, Sent, World, fast, identity, ms, secs};
use crate::dataplane::{IPV6_HEADER_LEN, addresses};
use crate::wire::{Discard, MessageType, PROTOCOL};
use crate::{Cause, ContextState, EndpointConfig, EstablishError, Event, Instant, ReapState};

const NO_ROUTE: (u8, u8) = (1, 0);
const PORT_UNREACHABLE: (u8, u8) = (1, 4);
const PACKET_TOO_BIG: (u8, u8) = (2, 0);
const UNRECOGNIZED_NEXT_HEADER: (u8, u8) = (4, 1);
/// Where the Next Header field of the IPv6 header is.
const NEXT_HEADER: u32 = 6;

fn router() -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)
}

/// A world in which A has sent an I1, and the error that a host without Shim6 answers with.
fn unanswered() -> (World, Vec<u8>) {
    let mut world = World::new(&EndpointConfig::default());
    world.cut_both_ways(world.pair(A, B));
    world.establish(A, B);
    let i1 = world.last(MessageType::I1).packet;
    let error = icmp_error(world.locator(B, 0), UNRECOGNIZED_NEXT_HEADER, NEXT_HEADER, &i1);
    (world, error)
}

#[test]
fn peer_that_does_not_know_the_protocol_is_left_alone_for_long() {
    let (mut world, error) = unanswered();
    let (now, ulids) = (world.now, world.pair(A, B));
    world.inject_packet(A, &error);
    let endpoint = &mut world.hosts[A].endpoint;
    let (state, until) = (ContextState::NoSupport, now + secs(600));
    assert!(endpoint.failures().eq([(ulids.peer, state, until)]));
    assert_eq!(endpoint.contexts().count(), 0);
    let held_down = Err(EstablishError::HoldDown { state, until });
    assert_eq!(endpoint.establish(now + secs(599), ulids), held_down);
    assert_eq!(world.hosts[A].events, [(now, Event::NoSupport { ulids })]);
    // Nothing is sent again, and after ten minutes it may have been updated.
    world.run(secs(600));
    assert_eq!(world.log.len(), 1);
    assert!(world.hosts[A].endpoint.establish(world.now, ulids).is_ok());
}

#[test]
fn only_the_i1_that_was_sent_shows_that_there_is_no_support() {
    let (world, _) = unanswered();
    let i1 = world.last(MessageType::I1).packet;
    // Another tag, another nonce, another address: who did not see the I1 does not know them.
    for place in [IPV6_HEADER_LEN + 11, IPV6_HEADER_LEN + 15, 39] {
        let (mut world, _) = unanswered();
        let mut forged = i1.clone();
        forged[place] ^= 1;
        super::world::seal(&mut forged[IPV6_HEADER_LEN..]);
        world.inject_packet(A, &icmp_error(router(), UNRECOGNIZED_NEXT_HEADER, NEXT_HEADER, &forged));
        assert_eq!(world.hosts[A].context().state, ContextState::I1Sent, "octet {place}");
        assert_eq!(world.hosts[A].discards(), [(Discard::NoMatchingInitiator, 1)]);
    }
    // Other errors about it say nothing of the peer.
    for kind in [NO_ROUTE, PORT_UNREACHABLE, (3, 0), (4, 0)] {
        let (mut world, _) = unanswered();
        world.inject_packet(A, &icmp_error(router(), kind, 0, &i1));
        assert_eq!(world.hosts[A].context().state, ContextState::I1Sent, "{kind:?}");
        assert_eq!(world.hosts[A].discards(), [(Discard::IcmpIgnored, 1)]);
    }
    // Nor does one about a message that was answered.
    let mut world = World::established(&EndpointConfig::default());
    world.inject_packet(A, &icmp_error(router(), UNRECOGNIZED_NEXT_HEADER, NEXT_HEADER, &i1));
    assert_eq!(world.hosts[A].context().state, ContextState::Established);
}

/// A world whose context has left its ULIDs, and the last rewritten packet of A.
fn moved(config: &EndpointConfig) -> (World, Sent) {
    let mut world = World::established(config);
    world.stream(A, world.pair(A, B), ms(50), true);
    world.run(secs(1));
    world.cut_both_ways(world.pair(A, B));
    let is_moved = |world: &World| world.hosts[A].context().locators != world.hosts[A].context().ulids;
    assert!(world.run_until(secs(3), is_moved).is_some());
    world.run(secs(1));
    let a = world.hosts[A].context().locators.local;
    let rewritten = |sent: &&Sent| sent.kind.is_none() && sent.packet[6] == PROTOCOL && sent.source == a;
    let sent = world.log.iter().rfind(rewritten).expect("payload is rewritten").clone();
    (world, sent)
}

fn exploring_because(world: &World, cause: Cause) -> bool {
    let is_it = |(_, event): &(Instant, Event)| matches!(event, Event::Reachability { to: ReapState::Exploring, cause: why, .. } if *why == cause);
    world.hosts[A].events.iter().any(is_it)
}

#[test]
fn unreachable_makes_the_shim_look_for_another_path_at_once() {
    let (mut world, sent) = moved(&fast());
    let before = world.hosts[A].context().locators;
    world.cut_both_ways(before);
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &sent.packet));
    assert!(exploring_because(&world, Cause::IcmpError));
    assert!(world.hosts[A].delivered.is_empty(), "the shim acts on it");
    // Sooner than the Send Timeout, although the error is no more than a hint: the pair in use is probed first.
    let is_moved = |world: &World| world.hosts[A].context().locators != before;
    assert!(world.run_until(ms(400), is_moved).is_some());
}

#[test]
fn error_about_a_pair_that_is_left_already_is_done_with() {
    let (mut world, sent) = moved(&fast());
    let before = world.hosts[A].context().locators;
    world.cut_both_ways(before);
    let is_moved = |world: &World| world.hosts[A].context().locators != before;
    assert!(world.run_until(secs(3), is_moved).is_some());
    world.run(secs(1));
    world.hosts[A].events.clear();
    // Even where there is no other pair to try now.
    let context = world.hosts[A].context();
    world.hosts[A].endpoint.contexts.modify(context.id, |kept| {
        let association = kept.association.as_deref_mut().expect("it is established");
        association.reap.set_pairs(Vec::from([context.locators]));
    });
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &sent.packet));
    assert_eq!((world.hosts[A].events.len(), world.hosts[A].delivered.len()), (0, 0));
}

#[test]
fn configuration_delivers_also_what_the_shim_acts_on() {
    let config = EndpointConfig {
        deliver_all_icmp: true,
        ..fast()
    };
    let (mut world, sent) = moved(&config);
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &sent.packet));
    assert!(exploring_because(&world, Cause::IcmpError));
    assert_eq!(world.hosts[A].delivered.len(), 1);
}

#[test]
fn errors_that_the_shim_cannot_act_on_reach_the_upper_layers_about_their_own_packet() {
    for kind in [PORT_UNREACHABLE, PACKET_TOO_BIG] {
        let (mut world, sent) = moved(&fast());
        let ulids = world.pair(A, B);
        world.inject_packet(A, &icmp_error(router(), kind, 1_400, &sent.packet));
        assert!(!exploring_because(&world, Cause::IcmpError));
        let [packet] = &world.hosts[A].delivered[..] else {
            panic!("one error is delivered")
        };
        assert_eq!(addresses(packet), Some((router(), ulids.local)));
        assert_eq!((packet[6], packet[40], packet[41]), (ICMPV6, kind.0, kind.1));
        let inner = &packet[48..];
        assert_eq!(addresses(inner), Some((ulids.local, ulids.peer)));
        // UDP again, and the payload that its application had sent, 8 octets nearer to the header.
        assert_eq!(inner[6], 17);
        let length = inner.len() - IPV6_HEADER_LEN;
        assert_eq!(inner[IPV6_HEADER_LEN..], sent.packet[48..][..length]);
        if kind == PACKET_TOO_BIG {
            assert_eq!(packet[44..48], 1_392_u32.to_be_bytes());
        }
    }
}

#[test]
fn without_another_path_the_upper_layers_get_the_error() {
    // One locator each: nothing to switch to, and nothing is ever rewritten. So B moves to its second one first.
    let (mut world, sent) = moved(&fast());
    let pair = world.hosts[A].context().locators;
    for index in [0, 1] {
        let locator = world.locator(A, index);
        if locator != pair.local {
            world.set_locator(A, index, false);
        }
    }
    let id = world.hosts[A].context().id;
    let peer = pair.peer;
    world.hosts[A].endpoint.contexts.modify(id, |context| {
        let association = context.association.as_deref_mut().expect("it is established");
        association.reap.set_pairs(Vec::from([pair]));
        assert!(association.peer.locators.contains(&peer));
    });
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &sent.packet));
    assert!(!exploring_because(&world, Cause::IcmpError));
    assert_eq!(world.hosts[A].delivered.len(), 1);
}

#[test]
fn forged_error_is_dropped() {
    let (mut world, sent) = moved(&fast());
    let events = world.hosts[A].events.len();
    // Another tag; addresses that are not the context's.
    let tag = IPV6_HEADER_LEN + 7;
    for place in [tag, 39] {
        let mut forged = sent.packet.clone();
        forged[place] ^= 1;
        world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &forged));
    }
    assert_eq!(world.hosts[A].discards(), [(Discard::NoContext, 2)]);
    // To an address that is not this host's, with a wrong checksum, cut short, and about what has no Shim6 header.
    let other = identity(60).locators()[0];
    let mut foreign = sent.packet.clone();
    foreign[8..24].copy_from_slice(&other.octets());
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &foreign));
    let mut wrong = icmp_error(router(), NO_ROUTE, 0, &sent.packet);
    wrong[60] ^= 1;
    world.inject_packet(A, &wrong);
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &sent.packet[..44]));
    let plain = ipv6(world.pair(A, B), 17, &[0; 16]);
    world.inject_packet(A, &icmp_error(router(), NO_ROUTE, 0, &plain));
    world.inject_packet(A, &plain);
    world.inject_packet(A, &[]);
    assert_eq!(
        world.hosts[A].discards(),
        [
            (Discard::Truncated, 2),
            (Discard::BadChecksum, 1),
            (Discard::NoContext, 2),
            (Discard::LocatorNotInSet, 1),
            (Discard::Unrelated, 2),
        ]
    );
    assert_eq!(
        (world.hosts[A].events.len(), world.hosts[A].delivered.len()),
        (events, 0)
    );
}

#[test]
fn errors_for_the_upper_layers_wait_in_a_bounded_queue() {
    let mut config = fast();
    config.limits.transmit_queue = 3;
    let (mut world, sent) = moved(&config);
    let error = icmp_error(router(), PACKET_TOO_BIG, 1_400, &sent.packet);
    for _ in 0..10 {
        world.hosts[A].endpoint.handle_packet(world.now, &error);
    }
    assert_eq!(world.hosts[A].discarded(Discard::QueueFull), 7);
    world.drain(A);
    assert_eq!(world.hosts[A].delivered.len(), 3);
    // A buffer that is too small loses the packet, and says so.
    world.hosts[A].endpoint.handle_packet(world.now, &error);
    assert_eq!(world.hosts[A].endpoint.poll_deliver(&mut [0; 40]), None);
    assert_eq!(world.hosts[A].discarded(Discard::TooLong), 1);
}
