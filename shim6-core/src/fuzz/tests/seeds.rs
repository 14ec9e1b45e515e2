//! The part of the corpus that is made by hand, so that a target gets to the interesting places at once.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use crate::wire::option::{Announcement, LocatorPreferences, Preference, PreferenceFlags};
use crate::wire::{
    ContextTag, Error, ErrorCode, I1, I2, I2bis, Keepalive, LocatorList, MAX_MESSAGE, Message, Probe, R1, R1bis, R2,
    UlidPair, UpdateAcknowledgement, UpdateRequest, VerificationMethod,
};

/// Target, name and octets of each seed.
pub(super) fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (index, message) in messages().iter().enumerate() {
        let octets = emitted(message);
        let name = message.message_type().to_string().to_lowercase().replace(' ', "-");
        let fixed = super::super::wire::FIXED_PARTS[index];
        assert_eq!(message.message_type(), fixed.0, "the same order");
        let options = octets.get(fixed.1..).unwrap_or(&[]);
        seeds.push(("options", format!("of-{name}"), [&[index as u8], options].concat()));
        seeds.push(("message", name, octets));
    }
    let longer = Message::UpdateRequest(UpdateRequest {
        receiver_context_tag: tag(1),
        request_nonce: 1,
        announcement: Announcement {
            preferences: Some(LocatorPreferences {
                element_len: 7,
                ..preferences()
            }),
            ..Announcement::default()
        },
    });
    seeds.push(("message", "update-request-long-elements".into(), emitted(&longer)));
    seeds.push(("payload", "udp".into(), vec![17, 0, 0x80, 0, 0, 0, 0x10, 1, 1, 2, 3]));
    seeds.push(("payload", "length-1".into(), vec![17, 1, 0x80, 0, 0, 0, 0x10, 1]));
    seeds.push(("payload", "control".into(), vec![59, 0, 66, 0, 0, 0, 0x10, 1]));
    seeds.push(("payload", "cut-short".into(), vec![17, 0, 0x80, 0, 0, 0, 0x10]));
    seeds.extend(packets().map(|(name, octets)| ("dataplane", name.into(), octets)));
    seeds.extend(operations().map(|(name, octets)| ("endpoint", name.into(), octets)));
    seeds
}

fn emitted(message: &Message) -> Vec<u8> {
    let mut octets = vec![0; MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("the message can be written");
    octets.truncate(length);
    octets
}

fn tag(number: u64) -> ContextTag {
    ContextTag::from_random_bits(0x1234_5678_0000 + number)
}

fn address(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, last, 0, 0, 0, 0, 1)
}

fn preferences() -> LocatorPreferences {
    let element = |flags, priority, weight| Preference {
        flags: PreferenceFlags(flags),
        priority,
        weight,
    };
    LocatorPreferences::new(7, vec![element(0, 1, 2), element(1, 3, 0)])
}

/// Every option that a host tells of itself in.
fn announcement() -> Announcement {
    Announcement {
        locators: Some(LocatorList {
            generation: 7,
            locators: vec![
                (VerificationMethod::HBA, address(1)),
                (VerificationMethod::CGA, address(2)),
            ],
        }),
        preferences: Some(preferences()),
        cga_parameters: Some(vec![1; 25]),
        cga_signature: Some(vec![2; 9]),
        keepalive_timeout: Some(10),
        keepalive_timeout_ms: Some(500),
    }
}

/// One message of each type with all that it can have, in the order of the target's table.
fn messages() -> [Message; 11] {
    let ulid_pair = Some(UlidPair {
        sender: address(1),
        receiver: address(11),
    });
    let record = |nonce| ProbeRecord {
        source: address(1),
        destination: address(11),
        nonce,
        data: 0,
    };
    [
        Message::I1(I1 {
            initiator_context_tag: tag(1),
            initiator_nonce: 2,
            ulid_pair,
            forked_instance: Some(3),
        }),
        Message::R1(R1 {
            initiator_nonce: 2,
            responder_nonce: 4,
            validator: vec![5; 20],
        }),
        Message::I2(I2 {
            initiator_context_tag: tag(1),
            initiator_nonce: 2,
            responder_nonce: 4,
            validator: vec![5; 20],
            ulid_pair,
            forked_instance: Some(3),
            announcement: announcement(),
        }),
        Message::R2(R2 {
            responder_context_tag: tag(2),
            initiator_nonce: 2,
            announcement: announcement(),
        }),
        Message::R1bis(R1bis {
            packet_context_tag: tag(3),
            responder_nonce: 4,
            validator: vec![5; 20],
        }),
        Message::I2bis(I2bis {
            initiator_context_tag: tag(1),
            initiator_nonce: 2,
            responder_nonce: 4,
            packet_context_tag: tag(3),
            validator: vec![5; 20],
            ulid_pair,
            forked_instance: Some(3),
            announcement: announcement(),
        }),
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag: tag(2),
            request_nonce: 6,
            announcement: announcement(),
        }),
        Message::UpdateAcknowledgement(UpdateAcknowledgement {
            receiver_context_tag: tag(1),
            request_nonce: 6,
        }),
        Message::Keepalive(Keepalive {
            receiver_context_tag: tag(2),
        }),
        Message::Probe(Probe {
            receiver_context_tag: tag(2),
            report: Report {
                state: ProbeState::InboundOk,
                sent: vec![record(1), record(2)],
                received: vec![record(3)],
            },
        }),
        Message::Error(Error {
            code: ErrorCode::CRITICAL_OPTION,
            pointer: 64,
            packet_in_error: vec![0x60; 64],
        }),
    ]
}

/// What is put over a packet's own addresses and header (see the target), and the packet.
fn packets() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let packet = |over, flow, next_header, payload: &[u8]| {
        let mut packet = vec![over, flow, 0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 64];
        packet.extend_from_slice(&[0; 32]);
        packet.extend_from_slice(payload);
        packet
    };
    let extension = |next_header| [next_header, 0, 1, 4, 0, 0, 0, 0];
    let udp = [1, 2, 3, 4, 0, 8, 0, 0];
    let behind = |headers: &[[u8; 8]]| [headers.concat(), udp.to_vec()].concat();
    [
        ("udp-steered", packet(5, 0, 17, &udp)),
        ("udp-on-its-ulids", packet(5, 1, 17, &udp)),
        ("udp-of-a-fork", packet(7, 2, 17, &udp)),
        ("hop-by-hop", packet(5, 0, 0, &behind(&[extension(17)]))),
        ("routing", packet(5, 0, 43, &behind(&[extension(17)]))),
        (
            "options-and-routing",
            packet(5, 0, 60, &behind(&[extension(43), extension(17)])),
        ),
        ("options", packet(5, 0, 60, &behind(&[extension(17)]))),
        ("fragment", packet(5, 0, 44, &behind(&[extension(17)]))),
        ("neighbor-advertisement", packet(5, 0, 58, &[136, 0, 0, 0, 0, 0, 0, 0])),
        ("payload-header", packet(9, 0, 140, &behind(&[extension(17)]))),
        (
            "payload-header-behind-options",
            packet(25, 0, 0, &behind(&[extension(140), extension(17)])),
        ),
        (
            "payload-header-twice",
            packet(9, 0, 140, &behind(&[extension(140), extension(17)])),
        ),
        ("control", packet(1, 0, 140, &[59, 0, 66, 0, 0, 0, 0, 0])),
        ("no-headers", packet(1, 0, 17, &[])),
    ]
    .into_iter()
}

/// Operations on a pair of hosts with a context.
fn operations() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    // The operations' numbers.
    const DELIVER: u8 = 0;
    const LOSE: u8 = 4;
    const DELIVER_ALL: u8 = 6;
    const WAIT: u8 = 7;
    const TIMEOUT: u8 = 8;
    const INJECT: u8 = 9;
    const COMMAND: u8 = 12;
    const PAYLOAD: u8 = 13;
    const PACKET: u8 = 14;
    let establish = |host, local, peer| [COMMAND, 0, host, local, peer, 0];
    [
        ("payload-and-keepalives", {
            let payload = [PAYLOAD, 0, 0, 0, DELIVER_ALL, WAIT, 8];
            payload.repeat(4)
        }),
        (
            "unanswered-payload",
            vec![PAYLOAD, 0, 0, 0, LOSE, 0, WAIT, 10, DELIVER, TIMEOUT, DELIVER_ALL],
        ),
        ("second-context", [&establish(1, 1, 1)[..], &[DELIVER_ALL]].concat()),
        (
            "both-at-once",
            [
                &establish(0, 1, 1)[..],
                &establish(1, 1, 1),
                &[DELIVER, DELIVER, DELIVER_ALL],
            ]
            .concat(),
        ),
        (
            "closed-and-established-again",
            [
                &[COMMAND, 1, 1, 0, 0, 0][..],
                &establish(1, 0, 0),
                &[DELIVER_ALL, TIMEOUT, DELIVER_ALL],
            ]
            .concat(),
        ),
        (
            "closed-at-one-end",
            vec![
                COMMAND,
                1,
                1,
                0,
                0,
                0,
                PAYLOAD,
                0,
                0,
                0,
                DELIVER_ALL,
                WAIT,
                10,
                DELIVER_ALL,
            ],
        ),
        (
            "lost-state-shown-by-a-probe",
            vec![
                COMMAND,
                1,
                1,
                0,
                0,
                0,
                COMMAND,
                132,
                0,
                0,
                0,
                0,
                DELIVER_ALL,
                TIMEOUT,
                DELIVER_ALL,
            ],
        ),
        (
            "other-locators",
            vec![
                COMMAND,
                7,
                0,
                0,
                0,
                0,
                2,
                DELIVER_ALL,
                COMMAND,
                7,
                1,
                0,
                0,
                0,
                1,
                LOSE,
                0,
                TIMEOUT,
                DELIVER_ALL,
            ],
        ),
        (
            "preferences",
            vec![
                COMMAND,
                9,
                0,
                1,
                0,
                0,
                1,
                2,
                3,
                DELIVER_ALL,
                COMMAND,
                9,
                0,
                0,
                0,
                0,
                2,
                1,
                1,
                DELIVER_ALL,
            ],
        ),
        (
            "fork",
            vec![COMMAND, 5, 0, 0, 0, 0, DELIVER_ALL, PAYLOAD, 0, 0, 0, DELIVER_ALL],
        ),
        (
            "next-header-unknown",
            [
                &establish(1, 1, 1)[..],
                &[PACKET, 0, 0, 3, 0, 6, 0, 0, 0b1111_0001],
                &[TIMEOUT, DELIVER_ALL],
            ]
            .concat(),
        ),
        (
            "locator-lost",
            vec![COMMAND, 132, 0, 0, 0, 0, DELIVER_ALL, PAYLOAD, 0, 0, 0, DELIVER_ALL],
        ),
        (
            "everything-replayed",
            (0..12).flat_map(|which| [INJECT, 0x80, which, 0, 1]).collect(),
        ),
        (
            "no-answer",
            [&establish(0, 1, 0)[..], &[LOSE, 0, TIMEOUT].repeat(8)].concat(),
        ),
    ]
    .into_iter()
}
