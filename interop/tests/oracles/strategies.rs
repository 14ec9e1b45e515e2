//! Messages of every type, with values of any kind.

use std::net::Ipv6Addr;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use shim6_core::wire::{
    ContextTag, Error, ErrorCode, I1, I2, Keepalive, LocatorList, MAX_MESSAGE, Message, Probe, R1, R2, UlidPair,
    VerificationMethod,
};
use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

/// One message of each type.
pub(crate) fn one_of_each() -> impl Strategy<Value = [Message; 7]> {
    (i1(), r1(), i2(), r2(), keepalive(), probe(), error()).prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g])
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
    let locators = (of(locator_list()), of(octets()), of(octets()));
    let timeouts = any::<(Option<u16>, Option<u32>)>();
    (fixed, context, locators, timeouts).prop_map(|(fixed, context, locators, timeouts)| {
        Message::I2(I2 {
            initiator_context_tag: fixed.0,
            initiator_nonce: fixed.1,
            responder_nonce: fixed.2,
            validator: fixed.3,
            ulid_pair: context.0,
            forked_instance: context.1,
            locators: locators.0,
            cga_parameters: locators.1,
            cga_signature: locators.2,
            keepalive_timeout: timeouts.0,
            keepalive_timeout_ms: timeouts.1,
        })
    })
}

fn r2() -> impl Strategy<Value = Message> {
    let locators = (of(locator_list()), of(octets()), of(octets()));
    let timeouts = any::<(Option<u16>, Option<u32>)>();
    (tag(), any::<u32>(), locators, timeouts).prop_map(|(tag, initiator_nonce, locators, timeouts)| {
        Message::R2(R2 {
            responder_context_tag: tag,
            initiator_nonce,
            locators: locators.0,
            cga_parameters: locators.1,
            cga_signature: locators.2,
            keepalive_timeout: timeouts.0,
            keepalive_timeout_ms: timeouts.1,
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
