//! Messages of every type, with values of any kind.

use std::net::Ipv6Addr;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use shim6_core::wire::{
    Announcement, ContextTag, Error, ErrorCode, I1, I2, I2bis, Keepalive, LocatorList, LocatorPreferences, MAX_MESSAGE,
    Message, Preference, PreferenceFlags, Probe, R1, R1bis, R2, UlidPair, UpdateAcknowledgement, UpdateRequest,
    VerificationMethod,
};
use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

/// One message of each type.
pub(crate) fn one_of_each() -> impl Strategy<Value = [Message; 11]> {
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

/// The octets that the stack makes of a message.
pub(crate) fn emitted(message: &Message) -> Vec<u8> {
    let mut octets = vec![0xff; MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("generated messages can be emitted");
    octets.truncate(length);
    octets
}

fn tag() -> impl Strategy<Value = ContextTag> {
    any::<u64>().prop_map(ContextTag::from_random_bits)
}

fn ulid_pair() -> impl Strategy<Value = UlidPair> {
    any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(sender, receiver)| UlidPair { sender, receiver })
}

fn locator_list() -> impl Strategy<Value = LocatorList> {
    let locator = any::<(u8, Ipv6Addr)>().prop_map(|(method, locator)| (VerificationMethod(method), locator));
    (any::<u32>(), vec(locator, 1..=20)).prop_map(|(generation, locators)| LocatorList { generation, locators })
}

/// With elements of every length, which say no more than that length has room for.
fn locator_preferences() -> impl Strategy<Value = LocatorPreferences> {
    (any::<u32>(), 1..=5u8, vec(any::<[u8; 3]>(), 0..=20)).prop_map(|(generation, element_len, elements)| {
        let elements = elements.into_iter().map(|[flags, priority, weight]| Preference {
            flags: PreferenceFlags(flags),
            priority: if element_len >= 2 { priority } else { 0 },
            weight: if element_len >= 3 { weight } else { 0 },
        });
        LocatorPreferences {
            generation,
            element_len,
            elements: elements.collect(),
        }
    })
}

fn announcement() -> impl Strategy<Value = Announcement> {
    // Short enough that all of it fits any message.
    let short = || of(vec(any::<u8>(), 0..150));
    let proof = (short(), short());
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

fn octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..250)
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
    (any::<u32>(), any::<u32>(), octets()).prop_map(|(initiator_nonce, responder_nonce, validator)| {
        Message::R1(R1 {
            initiator_nonce,
            responder_nonce,
            validator,
        })
    })
}

fn i2() -> impl Strategy<Value = Message> {
    let fixed = (tag(), any::<u32>(), any::<u32>(), octets());
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
    (tag(), any::<u32>(), octets()).prop_map(|(packet_context_tag, responder_nonce, validator)| {
        Message::R1bis(R1bis {
            packet_context_tag,
            responder_nonce,
            validator,
        })
    })
}

fn i2bis() -> impl Strategy<Value = Message> {
    let fixed = (tag(), any::<u32>(), any::<u32>(), tag(), octets());
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
    let state = [ProbeState::Operational, ProbeState::Exploring, ProbeState::InboundOk].map(Just);
    let [a, b, c] = state;
    let record = || {
        any::<(Ipv6Addr, Ipv6Addr, u32, u32)>().prop_map(|(source, destination, nonce, data)| ProbeRecord {
            source,
            destination,
            nonce,
            data,
        })
    };
    (
        tag(),
        prop_oneof![a, b, c],
        vec(record(), 1..=15),
        vec(record(), 0..=15),
    )
        .prop_map(|(receiver_context_tag, state, sent, received)| {
            Message::Probe(Probe {
                receiver_context_tag,
                report: Report { state, sent, received },
            })
        })
}

fn error() -> impl Strategy<Value = Message> {
    (0..=127u8, any::<u16>(), vec(any::<u8>(), 0..1400)).prop_map(|(code, pointer, packet_in_error)| {
        Message::Error(Error {
            code: ErrorCode(code),
            pointer,
            packet_in_error,
        })
    })
}
