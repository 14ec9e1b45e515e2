//! Messages that cannot be processed: which get an Error message, what it says, and that Errors themselves are harmless
//! (RFC 5533 sections 5.14, 12.3).

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::stranger::Stranger;
use super::world::{A, B, World, emit, identity, seal};
use crate::EndpointConfig;
use crate::wire::{ContextTag, Discard, Error, ErrorCode, Keepalive, Message, MessageType};

/// The message with an empty option behind it whose type nobody knows.
fn with_unknown_option(message: &Message, critical: bool) -> Vec<u8> {
    let mut octets = emit(message);
    octets.extend_from_slice(&(0x3333_u16 << 1 | u16::from(critical)).to_be_bytes());
    octets.extend_from_slice(&[0, 4, 1, 2, 3, 4]);
    seal(&mut octets);
    octets
}

fn error(world: &World) -> (ErrorCode, usize, Vec<u8>) {
    let errors = world.sent(MessageType::ERROR);
    assert_eq!(errors.len(), 1, "{:?}", world.log);
    let Message::Error(Error {
        code,
        pointer,
        packet_in_error,
    }) = errors[0].message()
    else {
        panic!("not an Error")
    };
    (code, usize::from(pointer), packet_in_error)
}

fn messages(stranger: &Stranger, world: &mut World) -> Vec<Message> {
    let i2 = stranger.i2(world, A);
    let r2 = stranger.r2(world, A);
    let keepalive = Keepalive {
        receiver_context_tag: ContextTag::from_random_bits(1),
    };
    Vec::from([
        Message::I1(stranger.i1()),
        Message::I2(i2),
        Message::R2(r2),
        Message::Keepalive(keepalive),
    ])
}

#[test]
fn unknown_critical_option_gets_an_error_that_points_at_its_type() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    for message in messages(&stranger, &mut world) {
        let octets = with_unknown_option(&message, true);
        world.log.clear();
        let before = world.hosts[A].discarded(Discard::UnknownCriticalOption);
        stranger.send_octets(&mut world, A, &octets);
        let (code, pointer, packet) = error(&world);
        assert_eq!(code, ErrorCode::CRITICAL_OPTION);
        assert_eq!(pointer, 40 + octets.len() - 8, "{message:?}");
        assert_eq!(packet[pointer..pointer + 2], [0x66, 0x67]);
        assert_eq!(
            packet,
            [&ipv6_header(&stranger, &world, octets.len())[..], &octets].concat()
        );
        assert_eq!(world.log.len(), 1);
        assert_eq!(
            (world.log[0].source, world.log[0].destination),
            (world.locator(A, 0), stranger.ulid())
        );
        assert_eq!(world.hosts[A].discarded(Discard::UnknownCriticalOption), before + 1);
    }
    let established = world.hosts[A]
        .endpoint
        .contexts()
        .any(|context| context.activity.is_some());
    assert!(!established);
}

fn ipv6_header(stranger: &Stranger, world: &World, length: usize) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, 140, 0];
    header.extend_from_slice(&stranger.ulid().octets());
    header.extend_from_slice(&world.locator(A, 0).octets());
    header
}

#[test]
fn unknown_option_that_is_not_critical_is_ignored() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i2 = Message::I2(stranger.i2(&mut world, A));
    stranger.send_octets(&mut world, A, &with_unknown_option(&i2, false));
    assert!(world.hosts[A].context().activity.is_some());
    assert_eq!(world.hosts[A].discards(), []);
}

#[test]
fn unknown_message_type_gets_an_error_that_points_at_the_type() {
    for message_type in [0, 7, 63, 69, 127] {
        let mut world = World::new(&EndpointConfig::default());
        let stranger = Stranger::new();
        let mut octets = vec![59, 0, message_type, 0, 0, 0, 0, 0];
        seal(&mut octets);
        stranger.send_octets(&mut world, A, &octets);
        let (code, pointer, packet) = error(&world);
        assert_eq!((code, pointer), (ErrorCode::UNKNOWN_MESSAGE_TYPE, 42));
        assert_eq!(packet[pointer], message_type);
        assert_eq!(world.hosts[A].discards(), [(Discard::UnknownMessageType, 1)]);
    }
}

#[test]
fn error_about_a_large_packet_fits_the_smallest_mtu() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let mut octets = vec![0x11; 2_048];
    octets[..4].copy_from_slice(&[59, 0, 99, 0]);
    seal(&mut octets);
    stranger.send_octets(&mut world, A, &octets);
    let sent = world.last(MessageType::ERROR);
    assert!(sent.packet.len() <= 1_280, "{}", sent.packet.len());
}

#[test]
fn broken_message_gets_no_answer() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let octets = emit(&Message::I1(stranger.i1()));
    let mut bad_sum = octets.clone();
    bad_sum[5] ^= 1;
    let mut s_bit = octets.clone();
    s_bit[3] |= 1;
    seal(&mut s_bit);
    let mut past_end = octets.clone();
    past_end[1] = 9;
    let mut payload = octets.clone();
    payload[1] = 0;
    payload[2] |= 0x80;
    let mut short = octets[..8].to_vec();
    seal(&mut short);
    for (message, reason) in [
        (bad_sum, Discard::BadChecksum),
        (s_bit, Discard::SBitSet),
        (past_end, Discard::LengthPastEnd),
        (payload, Discard::NotControl),
        (short, Discard::BelowMinimumLength),
        (octets[..7].to_vec(), Discard::Truncated),
        (Vec::new(), Discard::Truncated),
    ] {
        stranger.send_octets(&mut world, A, &message);
        assert_eq!(
            world.hosts[A].discarded(reason),
            1 + u64::from(message.is_empty()),
            "{reason}"
        );
    }
    assert_eq!(world.log, []);
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
}

#[test]
fn errors_are_counted_and_change_nothing() {
    let mut world = World::established(&EndpointConfig::default());
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    let state = |world: &World| alloc::format!("{:?} {:?}", world.hosts[A].context(), world.hosts[A].endpoint.contexts);
    let before = state(&world);
    let elsewhere = identity(60).locators()[0];
    let mut sent = 0;
    for code in 0..128 {
        for source in [b, elsewhere] {
            let error = Error {
                code: ErrorCode(code),
                pointer: 0xffff,
                packet_in_error: vec![code; 100],
            };
            world.inject(source, a, &emit(&Message::Error(error)));
            sent += 1;
        }
    }
    assert_eq!(state(&world), before);
    assert_eq!(world.log, []);
    let received: Vec<_> = world.hosts[A].endpoint.counters().received().collect();
    assert!(received.contains(&(MessageType::ERROR, sent)));
}

/// An Error has no options; whatever is wrong with one, answering could go on for ever.
#[test]
fn faulty_error_is_never_answered() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    // An Error about a message with an unknown critical option, about an unknown type, and about an Error.
    let faulty = [
        with_unknown_option(&Message::I1(stranger.i1()), true),
        vec![59, 0, 99, 0, 0, 0, 0, 0],
        emit(&Message::Error(Error {
            code: ErrorCode(1),
            pointer: 42,
            packet_in_error: vec![0; 16],
        })),
    ];
    for packet_in_error in faulty {
        let error = Message::Error(Error {
            code: ErrorCode(0),
            pointer: 42,
            packet_in_error,
        });
        stranger.send(&mut world, A, &error);
        stranger.send_octets(&mut world, A, &with_unknown_option(&error, true));
    }
    let mut too_short = vec![59, 0, 68, 0, 0, 0, 0, 0];
    seal(&mut too_short);
    stranger.send_octets(&mut world, A, &too_short);
    assert_eq!(world.log, []);
}

#[test]
fn addresses_that_nobody_can_have_are_refused() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let (a, own) = (world.locator(A, 0), world.locator(A, 1));
    let multicast = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1);
    let i1 = emit(&Message::I1(stranger.i1()));
    for (source, destination, reason) in [
        (multicast, a, Discard::Multicast),
        (stranger.ulid(), multicast, Discard::Multicast),
        (Ipv6Addr::UNSPECIFIED, a, Discard::UnspecifiedAddress),
        (stranger.ulid(), Ipv6Addr::UNSPECIFIED, Discard::UnspecifiedAddress),
        (own, a, Discard::OwnPacket),
        (a, a, Discard::OwnPacket),
        (Ipv6Addr::LOCALHOST, a, Discard::LocatorNotInSet),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), a, Discard::LocatorNotInSet),
        (stranger.ulid(), world.locator(B, 0), Discard::LocatorNotInSet),
    ] {
        let before = world.hosts[A].discarded(reason);
        world.inject_at(A, source, destination, &i1);
        assert_eq!(
            world.hosts[A].discarded(reason),
            before + 1,
            "{source} to {destination}"
        );
    }
    // Not even an Error goes to such an address.
    let mut unknown = vec![59, 0, 99, 0, 0, 0, 0, 0];
    seal(&mut unknown);
    world.inject_at(A, multicast, a, &unknown);
    world.inject_at(A, Ipv6Addr::UNSPECIFIED, a, &unknown);
    world.inject_at(A, Ipv6Addr::LOCALHOST, a, &unknown);
    assert_eq!(world.log, []);
}

/// The pointer counts from the IPv6 header, over whatever lies between that and the message.
#[test]
fn pointer_counts_the_headers_in_front_of_the_message() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let message = with_unknown_option(&Message::I1(stranger.i1()), true);
    // A Destination Options header that a Routing header follows, and those two.
    let options = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [140, 0, 0, 0, 0, 0, 0, 0];
    let payload = [&options[..], &routing, &message].concat();
    let pair = crate::LocatorPair::new(stranger.ulid(), world.locator(A, 0));
    let packet = super::packets::ipv6(pair, 60, &payload);
    world.inject_packet(A, &packet);
    let Message::Error(error) = world.last(MessageType::ERROR).message() else {
        panic!("not an Error")
    };
    assert_eq!(
        (error.code, error.pointer),
        (ErrorCode::CRITICAL_OPTION, 40 + 8 + 8 + 16)
    );
    assert_eq!(error.packet_in_error[..packet.len()], packet);
    assert_eq!(packet[usize::from(error.pointer)..][..2], [0x66, 0x67]);
}
