//! Every message with every option that can be sent, alone and together.

use std::net::Ipv6Addr;

use shim6_core::wire::{
    Announcement, Error, ErrorCode, I1, I2, I2bis, Keepalive, LocatorList, LocatorPreferences, Message, Preference,
    PreferenceFlags, Probe, R1, R1bis, R2, UlidPair, UpdateAcknowledgement, UpdateRequest, VerificationMethod,
};
use shim6_interop::packet::Upper;
use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use super::{Host, Timed, UDP, control, datagram, steered, tag};

const GENERATION: u32 = 0x8000_0001;
const INITIATOR_NONCE: u32 = 0xdead_beef;
const RESPONDER_NONCE: u32 = 0xc0ff_ee11;

/// All of them from A's first locator to B's.
pub(super) fn packets() -> Vec<Timed> {
    let (a, b) = (Host::a(), Host::b());
    let (from, to) = (a.locator(0), b.locator(0));
    let mut packets: Vec<Vec<u8>> = exchange(&a, &b)
        .into_iter()
        .chain(updates(&a))
        .chain(reachability(&a, &b))
        .map(|message| control(from, to, &message))
        .collect();
    packets.extend(errors(&a, &b).map(|message| control(from, to, &message)));
    packets.extend(payloads(&a, &b));
    (0..).step_by(10).zip(packets).collect()
}

/// What each option of an announcement looks like alone, and all together.
fn announcements(host: &Host) -> Vec<Announcement> {
    let all = Announcement {
        cga_signature: Some((0..128).collect()),
        ..host.announcement(GENERATION)
    };
    let none = Announcement::default;
    vec![
        none(),
        Announcement {
            locators: all.locators.clone(),
            cga_parameters: all.cga_parameters.clone(),
            ..none()
        },
        Announcement {
            cga_signature: all.cga_signature.clone(),
            ..none()
        },
        Announcement {
            keepalive_timeout: Some(u16::MAX),
            ..none()
        },
        Announcement {
            keepalive_timeout_ms: Some(300),
            ..none()
        },
        all,
    ]
}

/// I1 to I2bis.
fn exchange(a: &Host, b: &Host) -> Vec<Message> {
    let (initiator_context_tag, responder_context_tag) = (tag(0x7fff_ffff_fffe), tag(0x0123_4567_89ab));
    let ulid_pair = Some(UlidPair {
        sender: a.locator(0),
        receiver: b.locator(0),
    });
    let contexts = [
        (None, None),
        (ulid_pair, None),
        (None, Some(7)),
        (ulid_pair, Some(u32::MAX)),
    ];
    let mut messages = Vec::new();
    for (ulid_pair, forked_instance) in contexts {
        messages.push(Message::I1(I1 {
            initiator_context_tag,
            initiator_nonce: INITIATOR_NONCE,
            ulid_pair,
            forked_instance,
        }));
    }
    // Validators that take each number of octets of padding.
    for length in 20..28 {
        messages.push(Message::R1(R1 {
            initiator_nonce: INITIATOR_NONCE,
            responder_nonce: RESPONDER_NONCE,
            validator: (0..length).collect(),
        }));
    }
    messages.push(Message::R1bis(R1bis {
        packet_context_tag: responder_context_tag,
        responder_nonce: RESPONDER_NONCE,
        validator: vec![0xaa; 20],
    }));
    for (announcement, (ulid_pair, forked_instance)) in announcements(a).into_iter().zip(contexts.into_iter().cycle()) {
        messages.push(Message::I2(I2 {
            initiator_context_tag,
            initiator_nonce: INITIATOR_NONCE,
            responder_nonce: RESPONDER_NONCE,
            validator: vec![0xaa; 20],
            ulid_pair,
            forked_instance,
            announcement: announcement.clone(),
        }));
        messages.push(Message::I2bis(I2bis {
            initiator_context_tag,
            initiator_nonce: INITIATOR_NONCE,
            responder_nonce: RESPONDER_NONCE,
            packet_context_tag: responder_context_tag,
            validator: vec![0xaa; 20],
            ulid_pair,
            forked_instance,
            announcement: announcement.clone(),
        }));
        messages.push(Message::R2(R2 {
            responder_context_tag,
            initiator_nonce: INITIATOR_NONCE,
            announcement,
        }));
    }
    messages
}

/// Locator Lists of each number of octets of padding, preferences of each size of elements.
fn updates(a: &Host) -> Vec<Message> {
    let request = |announcement| {
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag: tag(1),
            request_nonce: 7,
            announcement,
        })
    };
    let methods = [
        VerificationMethod::HBA,
        VerificationMethod::CGA,
        VerificationMethod(201),
    ];
    let mut messages: Vec<_> = announcements(a).into_iter().map(request).collect();
    for count in 1..=9u16 {
        let locators = (0..count).map(|index| {
            let locator = Ipv6Addr::new(0x2001, 0xdb8, 0xa1 + index, 0, 0, 0, 0, 1);
            (methods[usize::from(index) % methods.len()], locator)
        });
        messages.push(request(Announcement {
            locators: Some(LocatorList {
                generation: GENERATION,
                locators: locators.collect(),
            }),
            ..Announcement::default()
        }));
    }
    for element_len in 1..=5 {
        let element = |flags| Preference {
            flags,
            priority: if element_len >= 2 { 3 } else { 0 },
            weight: if element_len >= 3 { 200 } else { 0 },
        };
        let flags = [
            PreferenceFlags::default(),
            PreferenceFlags::BROKEN,
            PreferenceFlags::TRANSIENT,
            PreferenceFlags(0x83),
        ];
        messages.push(request(Announcement {
            preferences: Some(LocatorPreferences {
                generation: GENERATION,
                element_len,
                elements: flags.map(element).to_vec(),
            }),
            ..Announcement::default()
        }));
    }
    messages.push(Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: tag(1),
        request_nonce: 7,
    }));
    messages
}

/// Keepalive, and probes with each state and few, some and the most records.
fn reachability(a: &Host, b: &Host) -> Vec<Message> {
    let receiver_context_tag = tag(0x5555_5555_5555);
    let mut messages = vec![Message::Keepalive(Keepalive { receiver_context_tag })];
    let record = |index: usize| ProbeRecord {
        source: a.locator(index % 2),
        destination: b.locator(index / 2 % 2),
        nonce: 0x0101_0101 * index as u32,
        data: u32::MAX - index as u32,
    };
    let states = [ProbeState::Operational, ProbeState::Exploring, ProbeState::InboundOk];
    for (state, (sent, received)) in states
        .into_iter()
        .cycle()
        .zip([(1, 0), (1, 0), (1, 1), (3, 2), (15, 15)])
    {
        messages.push(Message::Probe(Probe {
            receiver_context_tag,
            report: Report {
                state,
                sent: (0..sent).map(record).collect(),
                received: (sent..sent + received).map(record).collect(),
            },
        }));
    }
    messages
}

/// Each code, with what it might be about.
fn errors(a: &Host, b: &Host) -> impl Iterator<Item = Message> {
    let keepalive = Message::Keepalive(Keepalive {
        receiver_context_tag: tag(0x0123_4567_89ab),
    });
    let quoted = control(b.locator(0), a.locator(0), &keepalive);
    let ports = (4000, 4001);
    let large = datagram(b.locator(0), a.locator(0), Upper::Udp { ports }, &[0x55; 1400]);
    let all = [
        (0, 42, quoted.clone()),
        (1, 64, quoted.clone()),
        (2, 77, quoted.clone()),
        (3, 68, quoted),
        (4, 72, Vec::new()),
        (120, u16::MAX, large),
        (127, 0, vec![0x60]),
    ];
    all.into_iter().map(|(code, pointer, packet_in_error)| {
        Message::Error(Error {
            code: ErrorCode(code),
            pointer,
            packet_in_error,
        })
    })
}

/// Steered packets of each kind of upper layer, and two fragments of one.
fn payloads(a: &Host, b: &Host) -> Vec<Vec<u8>> {
    let (ulids, locators) = ((a.locator(0), b.locator(0)), (a.locator(1), b.locator(1)));
    let uppers = [
        Upper::Udp { ports: (4000, 4001) },
        Upper::Tcp {
            ports: (4000, 4001),
            sequence: 1,
            acknowledgement: 1,
            options: Vec::new(),
        },
        Upper::EchoRequest {
            identifier: 1,
            sequence: 2,
        },
    ];
    let mut packets = Vec::new();
    for upper in uppers {
        let packet = datagram(ulids.0, ulids.1, upper, b"twelve octets");
        packets.push(steered(&packet, locators.0, locators.1, tag(0x0123_4567_89ab)));
    }
    // A shim header goes below fragmentation.
    let upper = datagram(ulids.0, ulids.1, Upper::Udp { ports: (4000, 4001) }, &[0x55; 40]);
    let (first, last) = upper[40..].split_at(24);
    for (piece, field) in [(first, 1u16), (last, 24)] {
        let fragment = [&[UDP, 0], &field.to_be_bytes()[..], &[0, 0, 0, 9], piece].concat();
        let mut packet = upper[..40].to_vec();
        packet[6] = 44;
        packet.extend_from_slice(&fragment);
        packets.push(steered(&packet, locators.0, locators.1, tag(0x0123_4567_89ab)));
    }
    packets
}
