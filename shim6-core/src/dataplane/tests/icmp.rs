//! ICMPv6 errors about rewritten packets, held against the errors about the packets that the upper layers sent.

use proptest::prelude::{Just, Strategy};
use proptest::sample::Index;
use proptest::{prop_assert_eq, prop_oneof};

use super::chains::{chain, original};
use super::*;
use crate::dataplane::icmp::*;

/// Octets in front of the Shim6 header of a packet without extension headers.
const OFFSET: u32 = 40;
/// The Next Header field of the IPv6 header.
const FIELD: u32 = 6;

fn router() -> Ipv6Addr {
    address(77, 1)
}

/// The one's complement sum of RFC 4443 section 2.3, the plain way.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let mut octets = [
        &source.octets(),
        &destination.octets(),
        &length[..],
        &[0, 0, 0, ICMPV6],
        message,
    ]
    .concat();
    octets.resize(octets.len().next_multiple_of(2), 0);
    // The numbers from 1 to 0xffff are what sums with end-around carry of anything but zeros can be.
    let words = octets
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]));
    !(((words.sum::<u64>() - 1) % 0xffff + 1) as u16)
}

/// The IPv6 packet with an ICMPv6 message, checksum included.
fn icmp(destination: Ipv6Addr, icmp_type: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[icmp_type, code, 0, 0], rest].concat();
    let sum = sum(router(), destination, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let addresses = LocatorPair {
        local: router(),
        peer: destination,
    };
    packet(addresses, ICMPV6, &message)
}

/// What a router says about `quote` to the host that sent it.
fn error(icmp_type: u8, code: u8, word: u32, quote: &[u8]) -> Vec<u8> {
    let (source, _) = addresses(quote).expect("an IPv6 packet");
    icmp(source, icmp_type, code, &[&word.to_be_bytes(), quote].concat())
}

/// The same with extensions (RFC 4884 section 4).
fn extended_error(icmp_type: u8, code: u8, word: u32, quote: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut padded = quote.to_vec();
    padded.resize(quote.len().next_multiple_of(8).max(128), 0);
    let (source, _) = addresses(quote).expect("an IPv6 packet");
    let mut word = word.to_be_bytes();
    word[0] = (padded.len() / 8) as u8;
    icmp(source, icmp_type, code, &[&word, &padded[..], extensions].concat())
}

/// The packet for the upper layers.
fn restored(packet: &[u8]) -> Option<Vec<u8>> {
    let error = parse(packet).expect("an error about a packet of the shim");
    let mut out = vec![0xdd; packet.len()];
    let length = error.restore(ulids(), &mut out)?;
    out.truncate(length);
    Some(out)
}

fn udp_packet() -> Vec<u8> {
    packet(ulids(), UDP, &[7; 100])
}

/// An extension structure: version 2, checksum, one object.
const EXTENSIONS: [u8; 12] = [0x20, 0, 0x9a, 0x4c, 0, 8, 1, 1, 0x11, 0x22, 0x33, 0x44];

#[test]
fn error_shows_where_it_belongs() {
    let packet = error(1, 3, 0, &rewritten(&udp_packet()));
    let error = parse(&packet).expect("an error");
    assert_eq!((error.icmp_type, error.code), (DESTINATION_UNREACHABLE, 3));
    assert_eq!((error.reporter, error.destination), (router(), locators().local));
    assert_eq!(
        (error.inner_source, error.inner_destination),
        (locators().local, locators().peer)
    );
    let inner = Inner::Payload {
        tag: sender_flow().peer_tag,
        next_header: UDP,
    };
    assert_eq!(error.inner, inner);
    assert_eq!((error.mtu(), error.pointer()), (None, None));
}

#[test]
fn packet_too_big_is_lowered_by_the_header_of_the_shim() {
    for (reported, told) in [(1500, 1492), (1280, 1272), (8, 0), (3, 0), (u32::MAX, u32::MAX - 8)] {
        let arrived = error(2, 0, reported, &rewritten(&udp_packet()));
        assert_eq!(parse(&arrived).expect("an error").mtu(), Some(reported));
        assert_eq!(restored(&arrived), Some(error(2, 0, told, &udp_packet())));
    }
}

#[test]
fn host_tells_itself_of_a_packet_that_is_too_big_as_a_router_would() {
    let large = packet(ulids(), UDP, &[7; 2_000]);
    let (mut out, mut short) = ([0; 1_280], [0; 1_279]);
    let length = packet_too_big(&rewritten(&large), 1_400, &mut out).expect("an error");
    assert_eq!(length, 1_280, "as much of the packet as the smallest MTU takes");
    assert_eq!(packet_too_big(&rewritten(&large), 1_400, &mut short), None);
    let error = parse(&out).expect("an error with a right checksum");
    assert_eq!((error.mtu(), error.destination), (Some(1_400), locators().local));
    let restored = restored(&out).expect("an error for the upper layers");
    assert_eq!(restored_mtu(&restored), Some((ulids(), 1_392)));

    let small = packet_too_big(&rewritten(&udp_packet()), 100, &mut out).expect("an error");
    assert_eq!(small, 40 + 8 + rewritten(&udp_packet()).len());
    assert_eq!(parse(&out[..small]).expect("an error").mtu(), Some(100));
    assert_eq!(packet_too_big(&large[..39], 1_400, &mut out), None);
}

#[test]
fn only_a_packet_too_big_says_an_mtu() {
    let other = error(3, 0, 1_280, &udp_packet());
    assert_eq!(restored_mtu(&other), None);
    let whole = error(2, 0, 1_280, &udp_packet());
    assert_eq!(restored_mtu(&whole), Some((ulids(), 1_280)));
    for length in 0..whole.len() {
        assert_eq!(restored_mtu(&whole[..length]), None);
    }
    assert_eq!(restored_mtu(&udp_packet()), None);
}

#[test]
fn pointer_leads_to_the_same_octet_of_the_upper_layers_packet() {
    let last = OFFSET + 99;
    for (pointer, told) in [
        (0, 0),
        (FIELD, FIELD),
        (OFFSET - 1, OFFSET - 1),
        (OFFSET, FIELD),
        (OFFSET + 3, FIELD),
        (OFFSET + 8, OFFSET),
        (last + 8, last),
        (u32::MAX, u32::MAX - 8),
    ] {
        let arrived = error(4, 0, pointer, &rewritten(&udp_packet()));
        assert_eq!(parse(&arrived).expect("an error").pointer(), Some(pointer));
        assert_eq!(restored(&arrived), Some(error(4, 0, told, &udp_packet())), "{pointer}");
    }
}

#[test]
fn shim_takes_the_errors_that_another_path_may_cure_and_those_about_its_own_parameters() {
    let for_shim = |icmp_type, code, word| {
        let packet = error(icmp_type, code, word, &rewritten(&udp_packet()));
        parse(&packet).expect("an error").is_for_shim()
    };
    let unreachable: Vec<_> = (0..=8).filter(|&code| for_shim(1, code, 0)).collect();
    assert_eq!(unreachable, [0, 1, 2, 3, 5, 6]);
    assert!(!for_shim(2, 0, 1280));
    assert!(for_shim(3, 0, 0) && for_shim(3, 1, 0));
    let pointers: Vec<_> = (0..80).filter(|&pointer| for_shim(4, 1, pointer)).collect();
    assert_eq!(pointers, [6, 41, 42, 43, 44, 45, 46, 47]);
    assert!(!for_shim(4, 0, u32::MAX));
    // RFC 4443 section 2.4: errors of unknown type go to the upper layers.
    assert!(!for_shim(0, 0, 0) && !for_shim(100, 0, 0) && !for_shim(127, 0, 0));
}

#[test]
fn unrecognized_next_header_that_is_the_shims_says_that_there_is_no_support() {
    let says_so = |code, pointer| {
        let packet = error(4, code, pointer, &rewritten(&udp_packet()));
        parse(&packet).expect("an error").is_no_support()
    };
    assert!(says_so(1, FIELD));
    assert!(!says_so(0, FIELD) && !says_so(2, FIELD) && !says_so(1, OFFSET) && !says_so(1, 0));
    let unreachable = error(1, 1, FIELD, &rewritten(&udp_packet()));
    assert!(!parse(&unreachable).expect("an error").is_no_support());
}

#[test]
fn error_about_a_control_message_is_always_for_the_shim_and_cut_short_where_its_quote_is() {
    let i1 = [
        59, 2, 1, 0, 0xab, 0xcd, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6,
    ];
    let sent = packet(locators(), PROTOCOL, &i1);
    for cut in 48..=sent.len() {
        let arrived = error(2, 0, 1280, &sent[..cut]);
        let error = parse(&arrived).expect("an error");
        assert_eq!(error.inner, Inner::Control(&i1[..cut - 40]));
        assert!(error.is_for_shim());
        assert_eq!(restored(&arrived), None);
    }
    // What is behind the packet is not the message's.
    let padded = [&sent[..], &[0; 5]].concat();
    let arrived = error(1, 4, 0, &padded);
    assert_eq!(parse(&arrived).expect("an error").inner, Inner::Control(&i1));
}

#[test]
fn extensions_stay_behind_a_quote_of_at_least_128_octets() {
    for payload in [0, 1, 70, 79, 80, 81, 87, 88, 200] {
        let original = packet(ulids(), UDP, &vec![9; payload]);
        for icmp_type in [1, 3] {
            let arrived = extended_error(icmp_type, 0, 0, &rewritten(&original), &EXTENSIONS);
            let expected = extended_error(icmp_type, 0, 0, &original, &EXTENSIONS);
            assert_eq!(restored(&arrived), Some(expected), "{payload}");
        }
    }
}

#[test]
fn length_that_cannot_be_right_is_not_given_on() {
    let quote = rewritten(&udp_packet());
    // Less than 128 octets, and more than there are.
    for words in [1, 15, 19, 255] {
        let arrived = error(1, 0, (words << 24) | 0x12_3456, &quote);
        assert_eq!(restored(&arrived), Some(error(1, 0, 0x12_3456, &udp_packet())));
    }
    // These types have no such field.
    for icmp_type in [0, 100] {
        let arrived = error(icmp_type, 0, 0x1012_3456, &quote);
        assert_eq!(
            restored(&arrived),
            Some(error(icmp_type, 0, 0x1012_3456, &udp_packet()))
        );
    }
}

#[test]
fn extension_headers_of_the_error_are_left_out() {
    let plain = error(1, 0, 0, &rewritten(&udp_packet()));
    let (header, message) = plain.split_at(40);
    let extensions = [
        [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0],
        [ROUTING, 0, 1, 4, 0, 0, 0, 0],
        [ICMPV6, 0, 0, 0, 0, 0, 0, 0],
    ];
    let mut long = [header, extensions.as_flattened(), message].concat();
    (long[5], long[6]) = (plain[5] + 24, HOP_BY_HOP);
    assert_eq!(restored(&long), restored(&plain));
    let behind_fragment = {
        let mut fragment = [header, &[ICMPV6, 0, 0, 1, 0, 0, 0, 9], message].concat();
        (fragment[5], fragment[6]) = (plain[5] + 8, FRAGMENT);
        fragment
    };
    assert_eq!(parse(&behind_fragment).err(), Some(IcmpFault::NotError));
}

#[test]
fn packets_that_are_no_error_of_the_shims_are_told_apart() {
    let fault = |packet: &[u8]| parse(packet).err();
    let sent = rewritten(&udp_packet());
    assert_eq!(fault(&udp_packet()), Some(IcmpFault::NotError));
    assert_eq!(fault(&error(128, 0, 0, &sent)), Some(IcmpFault::NotError));
    assert_eq!(fault(&error(1, 0, 0, &udp_packet())), Some(IcmpFault::NoShim6Header));
    let mut wrong = error(1, 0, 0, &sent);
    wrong[42] ^= 1;
    assert_eq!(fault(&wrong), Some(IcmpFault::Checksum));
    let mut ipv4 = sent.clone();
    ipv4[0] = 0x45;
    let of_ipv4 = icmp(locators().local, 1, 0, &[&[0; 4], &ipv4[..]].concat());
    assert_eq!(fault(&of_ipv4), Some(IcmpFault::NoShim6Header));
    let mut long_header = sent.clone();
    long_header[41] = 1;
    assert_eq!(fault(&error(1, 0, 0, &long_header)), Some(IcmpFault::NoShim6Header));
    // The Shim6 header lies behind the end that the packet in error gives itself.
    let mut short = sent.clone();
    short[4..6].copy_from_slice(&7_u16.to_be_bytes());
    assert_eq!(fault(&error(1, 0, 0, &short)), Some(IcmpFault::Truncated));
    for cut in 0..48 {
        let quoted = icmp(locators().local, 1, 0, &[&[0; 4], &sent[..cut]].concat());
        assert_eq!(fault(&quoted), Some(IcmpFault::Truncated), "{cut}");
    }
    let whole = error(1, 0, 0, &sent);
    for cut in 0..whole.len() {
        assert_eq!(fault(&whole[..cut]), Some(IcmpFault::Truncated), "{cut}");
    }
}

#[test]
fn buffer_that_is_too_short_gets_nothing() {
    let arrived = error(1, 0, 0, &rewritten(&udp_packet()));
    let error = parse(&arrived).expect("an error");
    let mut out = vec![0; arrived.len()];
    let length = error.restore(ulids(), &mut out).expect("it fits");
    assert_eq!(length, arrived.len() - 8);
    assert_eq!(error.restore(ulids(), &mut out[..length]), Some(length));
    assert_eq!(error.restore(ulids(), &mut out[..length - 1]), None);
}

proptest! {
    #[test]
    fn error_about_the_rewritten_packet_becomes_the_error_about_the_upper_layers_packet(
        (skipped, kept, upper, payload) in chain(),
        (icmp_type, code) in prop_oneof![(1..=4_u8, 0..8_u8), (any::<u8>().prop_map(|kind| kind & 0x7f), Just(0))],
        word in any::<u32>(),
        pointed in any::<Index>(),
        cut in any::<Index>(),
        is_extended in any::<bool>(),
    ) {
        let original = original(&skipped, &kept, upper, &payload);
        let sent = rewritten(&original);
        let offset = 40 + skipped.iter().map(|&(_, units, _)| 8 + 8 * usize::from(units)).sum::<usize>();
        // Anything from the header of the shim alone to the whole packet.
        let cut = offset + 8 + cut.index(sent.len() - offset - 7);
        let (quote, original) = (&sent[..cut], &original[..cut - 8]);
        let pointer = pointed.index(original.len().max(1));
        let (word, told) = match icmp_type {
            1 | 3 => (word & 0x00ff_ffff, word & 0x00ff_ffff),
            2 => (word, word.saturating_sub(8)),
            4 if pointer < offset => (pointer as u32, pointer as u32),
            4 => (pointer as u32 + 8, pointer as u32),
            _ => (word, word),
        };
        let say = |word, quote: &[u8]| match icmp_type {
            1 | 3 if is_extended => extended_error(icmp_type, code, word, quote, &EXTENSIONS),
            _ => error(icmp_type, code, word, quote),
        };
        prop_assert_eq!(restored(&say(word, quote)), Some(say(told, original)));
    }

    #[test]
    fn no_octets_make_it_panic(
        (at, value) in (any::<Index>(), any::<u8>()),
        cut in any::<Index>(),
        (icmp_type, word) in (0..6_u8, any::<u32>()),
        noise in vec_of(any::<u8>(), 0..160),
    ) {
        let mut quote = rewritten(&udp_packet());
        let at = at.index(quote.len());
        quote[at] = value;
        quote.truncate(cut.index(quote.len() + 1));
        for quote in [&quote[..], &noise] {
            let packet = icmp(locators().local, icmp_type, 0, &[&word.to_be_bytes(), quote].concat());
            if let Ok(error) = parse(&packet) {
                let _ = (error.is_for_shim(), error.is_no_support());
                let mut out = vec![0; packet.len()];
                let length = error.restore(ulids(), &mut out);
                prop_assert!(length.is_none_or(|length| length <= packet.len()));
            }
        }
        let _ = parse(&noise);
    }
}
