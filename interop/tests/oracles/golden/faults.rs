//! A packet for each fault for which a receiver drops or refuses a message without looking at its context, in the order that
//! [`FAULTS`] has.

use std::net::Ipv6Addr;

use shim6_core::wire::{Announcement, Discard, I1, Keepalive, Message, Probe, R1, UpdateRequest, payload};
use shim6_core::wire::{View, check_addresses};
use shim6_interop::packet;
use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use super::{Host, IPV6, Timed, tag};
use crate::strategies::emitted;

/// What is wrong with each packet.
const FAULTS: [Discard; 19] = [
    Discard::Multicast,
    Discard::UnspecifiedAddress,
    Discard::Truncated,
    Discard::PayloadHeaderLength,
    Discard::LengthPastEnd,
    Discard::BadChecksum,
    Discard::SBitSet,
    Discard::UnknownMessageType,
    Discard::BelowMinimumLength,
    Discard::ProbeState,
    Discard::ProbeCount,
    Discard::OptionPastEnd,
    Discard::DuplicateOption,
    Discard::MalformedOption,
    Discard::LocatorCount,
    Discard::ZeroLocators,
    Discard::ZeroElementLen,
    Discard::UnknownCriticalOption,
    Discard::MissingOption,
];

fn keepalive() -> Vec<u8> {
    emitted(&Message::Keepalive(Keepalive {
        receiver_context_tag: tag(1),
    }))
}

fn update(a: &Host) -> Vec<u8> {
    emitted(&Message::UpdateRequest(UpdateRequest {
        receiver_context_tag: tag(1),
        request_nonce: 7,
        announcement: Announcement {
            cga_parameters: None,
            ..a.announcement(1)
        },
    }))
}

fn probe(a: &Host, b: &Host) -> Vec<u8> {
    let record = ProbeRecord {
        source: a.locator(0),
        destination: b.locator(0),
        nonce: 1,
        data: 2,
    };
    emitted(&Message::Probe(Probe {
        receiver_context_tag: tag(1),
        report: Report {
            state: ProbeState::Exploring,
            sent: vec![record],
            received: vec![record],
        },
    }))
}

/// Changes octets and makes the length and the checksum right.
fn changed(mut octets: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut octets);
    octets[1] = (octets.len() / 8 - 1) as u8;
    octets[4..6].fill(0);
    let sum = pnet_packet::util::checksum(&octets, 2);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    octets
}

/// A message with this fault.
fn faulty(fault: Discard, a: &Host, b: &Host) -> Vec<u8> {
    // An option of 8 octets whose type is not known.
    let unknown = |critical: u8| [0x02, critical, 0, 4, 1, 2, 3, 4];
    // Where the first option of an update, its Locator List, starts; and the preferences behind it.
    let (list, preferences) = (16, 16 + 16 + 32);
    match fault {
        Discard::Truncated => keepalive()[..7].to_vec(),
        Discard::PayloadHeaderLength => {
            let mut header = [0; payload::LEN];
            payload::emit(tag(1), 59, &mut header);
            header[1] = 1;
            [header, [0; 8]].concat()
        }
        Discard::LengthPastEnd => keepalive()[..8].to_vec(),
        Discard::BadChecksum => {
            let mut octets = keepalive();
            octets[15] = 1;
            octets
        }
        Discard::SBitSet => changed(keepalive(), |octets| octets[3] |= 1),
        Discard::UnknownMessageType => changed(keepalive(), |octets| octets[2] = 100),
        Discard::BelowMinimumLength => changed(keepalive(), |octets| octets.truncate(8)),
        Discard::ProbeState => changed(probe(a, b), |octets| octets[13] |= 0xc0),
        Discard::ProbeCount => changed(probe(a, b), |octets| octets[12] = 0x12),
        Discard::OptionPastEnd => changed(keepalive(), |octets| {
            octets.extend(unknown(0));
            octets[19] = 5;
        }),
        Discard::DuplicateOption => {
            let i1 = I1 {
                initiator_context_tag: tag(1),
                initiator_nonce: 2,
                ulid_pair: None,
                forked_instance: Some(3),
            };
            changed(emitted(&Message::I1(i1)), |octets| octets.extend_from_within(16..24))
        }
        Discard::MalformedOption => changed(update(a), |octets| {
            let length = octets.len();
            // Of the last option, the timeout in milliseconds.
            octets[length - 5] = 3;
        }),
        Discard::LocatorCount => changed(update(a), |octets| octets[list + 8] = 3),
        Discard::ZeroLocators => changed(update(a), |octets| octets[list + 8] = 0),
        Discard::ZeroElementLen => changed(update(a), |octets| octets[preferences + 8] = 0),
        Discard::UnknownCriticalOption => changed(keepalive(), |octets| octets.extend(unknown(1))),
        Discard::MissingOption => {
            let r1 = R1 {
                initiator_nonce: 1,
                responder_nonce: 2,
                validator: vec![1],
            };
            changed(emitted(&Message::R1(r1)), |octets| octets.truncate(16))
        }
        _ => keepalive(),
    }
}

fn addresses(fault: Discard, a: &Host, b: &Host) -> (Ipv6Addr, Ipv6Addr) {
    let to = match fault {
        Discard::Multicast => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        Discard::UnspecifiedAddress => Ipv6Addr::UNSPECIFIED,
        _ => b.locator(0),
    };
    (a.locator(0), to)
}

pub(super) fn packets() -> Vec<Timed> {
    let (a, b) = (Host::a(), Host::b());
    let packet = |fault| {
        let (from, to) = addresses(fault, &a, &b);
        packet::control(from, to, &faulty(fault, &a, &b)).expect("a small packet")
    };
    (0..).step_by(10).zip(FAULTS.map(packet)).collect()
}

#[test]
fn each_packet_has_the_fault_that_it_is_there_for() {
    let (a, b) = (Host::a(), Host::b());
    for (fault, (_, packet)) in FAULTS.into_iter().zip(packets()) {
        let (from, to) = addresses(fault, &a, &b);
        let found = match check_addresses(from, to) {
            Err(reason) => Some(reason),
            Ok(()) if fault == Discard::PayloadHeaderLength => {
                payload::parse(&packet[IPV6..]).err().map(|error| error.reason())
            }
            Ok(()) => View::parse(&packet[IPV6..]).err().map(|error| error.reason()),
        };
        assert_eq!(found, Some(fault));
    }
}
