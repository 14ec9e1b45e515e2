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

/// With elements of every length, which say no more than that length has room for.
fn locator_preferences() -> impl Strategy<Value = LocatorPreferences> {
    let elements = vec_of(any::<[u8; 3]>(), 0..20);
    (any::<u32>(), 1..=6u8, elements).prop_map(|(generation, element_len, elements)| {
        let room = |at: u8, value: u8| if at < element_len { value } else { 0 };
        let element = |[flags, priority, weight]: [u8; 3]| Preference {
            flags: PreferenceFlags(flags),
            priority: room(1, priority),
            weight: room(2, weight),
        };
        LocatorPreferences {
            generation,
            element_len,
            elements: elements.into_iter().map(element).collect(),
        }
    })
}

/// Short enough for any message.
fn announcement() -> impl Strategy<Value = Announcement> {
    let proof = (of(vec_of(any::<u8>(), 0..150)), of(vec_of(any::<u8>(), 0..150)));
    let timeouts = any::<(Option<u16>, Option<u32>)>();
    (of(locator_list()), of(locator_preferences()), proof, timeouts).prop_map(
        |(locators, preferences, proof, timeouts)| Announcement {
            locators,
            preferences,
            cga_parameters: proof.0,
            cga_signature: proof.1,
            keepalive_timeout: timeouts.0,
            keepalive_timeout_ms: timeouts.1,
        },
    )
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
    let context = (of(ulid_pair()), any::<Option<u32>>());
    (fixed, context, announcement()).prop_map(|(fixed, context, announcement)| {
        Message::I2(I2 {
            initiator_context_tag: fixed.0,
            initiator_nonce: fixed.1,
            responder_nonce: fixed.2,
            validator: fixed.3,
            ulid_pair: context.0,
            forked_instance: context.1,
            announcement,
        })
    })
}

fn r2() -> impl Strategy<Value = Message> {
    (tag(), any::<u32>(), announcement()).prop_map(|(responder_context_tag, initiator_nonce, announcement)| {
        Message::R2(R2 {
            responder_context_tag,
            initiator_nonce,
            announcement,
        })
    })
}

fn r1bis() -> impl Strategy<Value = Message> {
    (tag(), any::<u32>(), blob()).prop_map(|(packet_context_tag, responder_nonce, validator)| {
        Message::R1bis(R1bis {
            packet_context_tag,
            responder_nonce,
            validator,
        })
    })
}

fn i2bis() -> impl Strategy<Value = Message> {
    let fixed = (tag(), any::<u32>(), any::<u32>(), tag(), blob());
    let context = (of(ulid_pair()), any::<Option<u32>>());
    (fixed, context, announcement()).prop_map(|(fixed, context, announcement)| {
        Message::I2bis(I2bis {
            initiator_context_tag: fixed.0,
            initiator_nonce: fixed.1,
            responder_nonce: fixed.2,
            packet_context_tag: fixed.3,
            validator: fixed.4,
            ulid_pair: context.0,
            forked_instance: context.1,
            announcement,
        })
    })
}

fn update_request() -> impl Strategy<Value = Message> {
    (tag(), any::<u32>(), announcement()).prop_map(|(receiver_context_tag, request_nonce, announcement)| {
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag,
            request_nonce,
            announcement,
        })
    })
}

fn update_acknowledgement() -> impl Strategy<Value = Message> {
    (tag(), any::<u32>()).prop_map(|(receiver_context_tag, request_nonce)| {
        Message::UpdateAcknowledgement(UpdateAcknowledgement {
            receiver_context_tag,
            request_nonce,
        })
    })
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

/// One message of each type.
fn one_of_each() -> impl Strategy<Value = [Message; 11]> {
    let exchange = (i1(), r1(), i2(), r2(), r1bis(), i2bis());
    let others = (
        update_request(),
        update_acknowledgement(),
        keepalive(),
        probe(),
        error(),
    );
    (exchange, others).prop_map(|((a, b, c, d, e, f), (g, h, i, j, k))| [a, b, c, d, e, f, g, h, i, j, k])
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        i1(),
        r1(),
        i2(),
        r2(),
        r1bis(),
        i2bis(),
        update_request(),
        update_acknowledgement(),
        keepalive(),
        probe(),
        error()
    ]
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
        messages in one_of_each()
    ) {
        for message in messages {
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
                if let Message::I2bis(_) = message {
                    noisy[20..26].fill(noise[0]);
                    noisy[26] |= noise[1] << 1 & 0x80;
                }
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
        message_type in prop_oneof![1..=6u8, 64..=68u8],
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
