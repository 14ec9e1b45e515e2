//! Properties over generated messages and over octets of any kind.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use proptest::collection::vec as vec_of;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, prop_assume, proptest};
use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use super::tests::{parse_error, sealed};
use super::*;

fn tag() -> impl Strategy<Value = ContextTag> {
    any::<u64>().prop_map(ContextTag::from_random_bits)
}

fn ulid_pair() -> impl Strategy<Value = UlidPair> {
    any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(sender, receiver)| UlidPair { sender, receiver })
}

fn locator_list() -> impl Strategy<Value = LocatorList> {
    let locator = any::<(u8, Ipv6Addr)>().prop_map(|(method, address)| (VerificationMethod(method), address));
    (any::<u32>(), vec_of(locator, 1..20)).prop_map(|(generation, locators)| LocatorList { generation, locators })
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec_of(any::<u8>(), 0..300)
}

fn record() -> impl Strategy<Value = ProbeRecord> {
    any::<(Ipv6Addr, Ipv6Addr, u32, u32)>().prop_map(|(source, destination, nonce, data)| ProbeRecord {
        source,
        destination,
        nonce,
        data,
    })
}

fn i1() -> impl Strategy<Value = Message> {
    (tag(), any::<u32>(), of(ulid_pair()), any::<Option<u32>>()).prop_map(
        |(initiator_context_tag, initiator_nonce, ulid_pair, forked_instance)| {
            Message::I1(I1 {
                initiator_context_tag,
                initiator_nonce,
                ulid_pair,
                forked_instance,
            })
        },
    )
}

fn r1() -> impl Strategy<Value = Message> {
    (any::<u32>(), any::<u32>(), blob()).prop_map(|(initiator_nonce, responder_nonce, validator)| {
        Message::R1(R1 {
            initiator_nonce,
            responder_nonce,
            validator,
        })
    })
}

fn i2() -> impl Strategy<Value = Message> {
    let fixed = (tag(), any::<u32>(), any::<u32>(), blob());
    let ulids = (of(ulid_pair()), any::<Option<u32>>());
    let locators = (of(locator_list()), of(blob()), of(blob()));
    (fixed, ulids, locators, any::<Option<u16>>(), any::<Option<u32>>()).prop_map(
        |(fixed, ulids, locators, keepalive_timeout, keepalive_timeout_ms)| {
            let (initiator_context_tag, initiator_nonce, responder_nonce, validator) = fixed;
            Message::I2(I2 {
                initiator_context_tag,
                initiator_nonce,
                responder_nonce,
                validator,
                ulid_pair: ulids.0,
                forked_instance: ulids.1,
                locators: locators.0,
                cga_parameters: locators.1,
                cga_signature: locators.2,
                keepalive_timeout,
                keepalive_timeout_ms,
            })
        },
    )
}

fn r2() -> impl Strategy<Value = Message> {
    let fixed = (tag(), any::<u32>());
    let locators = (of(locator_list()), of(blob()), of(blob()));
    (fixed, locators, any::<Option<u16>>(), any::<Option<u32>>()).prop_map(
        |(fixed, locators, keepalive_timeout, keepalive_timeout_ms)| {
            Message::R2(R2 {
                responder_context_tag: fixed.0,
                initiator_nonce: fixed.1,
                locators: locators.0,
                cga_parameters: locators.1,
                cga_signature: locators.2,
                keepalive_timeout,
                keepalive_timeout_ms,
            })
        },
    )
}

fn keepalive() -> impl Strategy<Value = Message> {
    tag().prop_map(|receiver_context_tag| Message::Keepalive(Keepalive { receiver_context_tag }))
}

fn probe() -> impl Strategy<Value = Message> {
    let state = prop_oneof![
        Just(ProbeState::Operational),
        Just(ProbeState::Exploring),
        Just(ProbeState::InboundOk),
    ];
    (tag(), state, vec_of(record(), 1..=15), vec_of(record(), 0..=15)).prop_map(
        |(receiver_context_tag, state, sent, received)| {
            Message::Probe(Probe {
                receiver_context_tag,
                report: Report { state, sent, received },
            })
        },
    )
}

/// With a packet in error that needs no padding, which would come back as part of it.
fn error() -> impl Strategy<Value = Message> {
    let packet = vec_of(any::<[u8; 8]>(), 1..=154).prop_map(|octets| octets.concat());
    (0..=127u8, any::<u16>(), packet).prop_map(|(code, pointer, packet_in_error)| {
        Message::Error(Error {
            code: ErrorCode(code),
            pointer,
            packet_in_error,
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![i1(), r1(), i2(), r2(), keepalive(), probe(), error()]
}

fn emitted(message: &Message) -> Vec<u8> {
    let mut octets = vec![0xff; MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("generated messages can be emitted");
    octets.truncate(length);
    octets
}

proptest! {
    #[test]
    fn emitted_messages_parse_to_themselves(
        messages in (i1(), r1(), i2(), r2(), keepalive(), probe(), error())
    ) {
        let (a, b, c, d, e, f, g) = messages;
        for message in [a, b, c, d, e, f, g] {
            let octets = emitted(&message);
            prop_assert_eq!(octets.len(), message.buffer_len());
            prop_assert_eq!(Message::parse(&octets), Ok(message));
        }
    }

    #[test]
    fn reserved_bits_are_ignored_and_not_sent_on(message in message(), noise: [u8; 2]) {
        let octets = emitted(&message);
        let mut noisy = octets.clone();
        match message {
            Message::Error(_) => {}
            Message::R1(_) => noisy[6..8].copy_from_slice(&noise),
            _ => {
                noisy[3] = noise[0] & 0xfe;
                noisy[6] |= noise[1] & 0x80;
            }
        }
        let parsed = Message::parse(&sealed(&noisy)).expect("reserved bits are ignored");
        prop_assert_eq!(emitted(&parsed), octets);
    }

    #[test]
    fn any_flipped_bit_is_refused(message in message(), position: Index) {
        let mut octets = emitted(&message);
        let bit = position.index(8 * octets.len());
        // A smaller Hdr Ext Len leaves octets out of the sum, so that it can be right by chance.
        prop_assume!(bit / 8 != 1);
        octets[bit / 8] ^= 1 << (bit % 8);
        let error = parse_error(&octets);
        // With the P bit the message passes for a payload header that is too long.
        let hdr_ext_len = octets[1];
        prop_assert_eq!(error, match bit {
            23 => ParseError::PayloadHeaderLength { hdr_ext_len },
            _ => ParseError::BadChecksum,
        });
    }

    #[test]
    fn any_truncation_is_refused(message in message(), position: Index) {
        let octets = emitted(&message);
        let length = position.index(octets.len());
        let error = parse_error(&octets[..length]);
        let lengths = matches!(error, ParseError::Truncated { .. } | ParseError::LengthPastEnd { .. });
        prop_assert!(lengths, "{:?}", error);
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in vec_of(any::<u8>(), 0..200)) {
        let _ = classify(&octets);
        let _ = payload::parse(&octets);
        let _ = Message::parse(&octets);
    }

    /// Past the checksum, where the fields and options are read.
    #[test]
    fn arbitrary_octets_with_a_right_checksum_never_panic(
        message_type in prop_oneof![1..=4u8, 66..=68u8],
        words in vec_of(any::<[u8; 8]>(), 1..60),
    ) {
        let mut octets = words.concat();
        octets[2] = message_type;
        octets[3] &= 0xfe;
        if let Ok(message) = Message::parse(&sealed(&octets)) {
            prop_assert!(message.buffer_len() <= octets.len());
        }
    }

    /// Damage that the checksum does not show reaches every check of the options.
    #[test]
    fn damaged_messages_with_a_right_checksum_never_panic(
        message in message(),
        damage in vec_of(any::<(Index, u8)>(), 1..6),
        length: Index,
    ) {
        let mut octets = emitted(&message);
        for (position, value) in damage {
            let at = position.index(octets.len());
            octets[at] = value;
        }
        octets[2] &= 0x7f;
        octets.truncate(8 * (1 + length.index(octets.len() / 8)));
        let octets = sealed(&octets);
        if let Ok(message) = Message::parse(&octets) {
            prop_assert!(message.buffer_len() <= octets.len());
        }
    }
}
