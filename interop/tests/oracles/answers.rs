//! What the stack answers to messages that it never emits itself, made by hand and read by the independent reader.

use shim6_interop::packet;
use shim6_interop::reader::{self, Value};

use crate::world::World;

/// Octets of the IPv6 header, from which Error messages count.
const IPV6: usize = 40;

/// A message of this type whose fixed part is `fixed` octets behind the checksum, and the options, with its checksum.
fn message(message_type: u8, fixed: &[u8], options: &[u8]) -> Vec<u8> {
    let mut octets = [&[59, 0, message_type, 0, 0, 0], fixed, options].concat();
    assert!(octets.len().is_multiple_of(8));
    octets[1] = (octets.len() / 8 - 1) as u8;
    let sum = pnet_packet::util::checksum(&octets, 2);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    octets
}

/// The fixed part of an I1: tag 1, nonce 2.
const I1: [u8; 10] = [0, 0, 0, 0, 0, 1, 0, 0, 0, 2];

/// The one answer, which must be an Error about `sent`: its code and pointer.
fn error_about(sent: &[u8]) -> (u64, u64) {
    let mut world = World::new();
    let answers = world.answers(0, sent);
    let [answer] = &answers[..] else {
        panic!("one answer is expected, not {answers:02x?}")
    };
    let dissected = packet::dissect(answer).expect("an IPv6 packet");
    let ulids = world.ulids(0);
    assert_eq!(
        (dissected.source, dissected.destination),
        (ulids.local, ulids.peer),
        "back to where it came from"
    );
    assert!(answer.len() <= 1280);
    let error = reader::read(dissected.rest).expect("a reading");
    assert!(error.checksum_is_right());
    assert_eq!(error.number("type"), Some(68));
    let Some(Value::Octets(quoted)) = error.get("packet_in_error") else {
        panic!("no packet in {error:?}")
    };
    let kept = sent.len().min(1280 - IPV6 - 8 - IPV6);
    assert_eq!(&quoted[8..24], ulids.peer.octets(), "the source of the packet in error");
    assert_eq!(&quoted[24..IPV6], ulids.local.octets(), "its destination");
    assert_eq!(quoted[IPV6..IPV6 + kept], sent[..kept]);
    // The code is the upper seven bits of its octet; the reader shows these without the S bit.
    (
        error.number("type_specific").unwrap_or(u64::MAX),
        error.number("pointer").unwrap_or(u64::MAX),
    )
}

#[test]
fn unknown_message_type_is_answered_with_a_pointer_to_the_type() {
    assert_eq!(error_about(&message(100, &I1, &[])), (0, IPV6 as u64 + 2));
}

#[test]
fn unknown_critical_option_is_answered_with_a_pointer_to_its_type() {
    let known = [0, 14, 0, 4, 0, 0, 0, 7];
    let critical = [0x12, 0x35, 0, 1, 0xaa, 0, 0, 0];
    let sent = message(1, &I1, &[known, critical].concat());
    assert_eq!(error_about(&sent), (1, IPV6 as u64 + 16 + 8));
}

#[test]
fn packet_in_error_is_cut_to_the_minimum_mtu() {
    let mut option = vec![0x12, 0x35, 4, 148];
    option.resize(4 + 1172, 0xaa);
    assert_eq!(error_about(&message(1, &I1, &option)), (1, IPV6 as u64 + 16));
}

#[test]
fn option_that_is_not_critical_does_not_stop_an_i1() {
    let sent = message(1, &I1, &[0x12, 0x34, 0, 1, 0xaa, 0, 0, 0]);
    let answers = World::new().answers(0, &sent);
    let [answer] = &answers[..] else {
        panic!("one answer is expected, not {answers:02x?}")
    };
    let answer = reader::read(&answer[IPV6..]).expect("a reading");
    assert!(answer.checksum_is_right());
    assert_eq!(
        (answer.number("type"), answer.number("initiator_nonce")),
        (Some(2), Some(2))
    );
}

#[test]
fn wrong_checksums_hip_messages_and_errors_are_never_answered() {
    let mut wrong = message(1, &I1, &[]);
    wrong[15] ^= 1;
    let mut hip = message(100, &I1, &[]);
    hip[3] |= 1;
    let sum = pnet_packet::util::checksum(&hip, 2);
    hip[4..6].copy_from_slice(&sum.to_be_bytes());
    let error = message(68, &[0, 42, 0x60, 0, 0, 0, 0, 0, 140, 64], &[]);
    for silent in [wrong, hip, error] {
        assert!(World::new().answers(0, &silent).is_empty(), "{silent:02x?}");
    }
}
