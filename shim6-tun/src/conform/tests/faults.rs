//! Faults that the target gets on purpose, on its way from and to the network, and the checks that have to find them.

use std::time::Duration;

use shim6_core::LocatorPair;
use shim6_core::reap::{Probe as Report, ProbeRecord, ProbeState};
use shim6_core::wire::{
    Announcement, ContextTag, Error, ErrorCode, I2, Keepalive, Message, MessageType, OptionType, PROTOCOL, Probe, R1,
    R1bis, R2, UpdateAcknowledgement, checksum,
};

use crate::conform::packet::{
    ICMPV6, IPV6_HEADER, RawOption, add_option, control, icmp, ipv6, octets_of, options, pair, reseal, seal, shim6,
};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Error messages are not sent.
    NoErrors,
    /// Errors point at the start of the Shim6 header.
    ErrorsPointAtTheHeader,
    /// Errors have the code after theirs.
    OtherErrorCodes,
    /// Each R1 goes out twice.
    R1Twice,
    /// An R2 goes out twice.
    R2Twice,
    /// An I1 is sent again after a second.
    HastyI1,
    /// An I2bis is sent again after a second.
    HastyI2bis,
    /// Each Probe is sent again after a tenth of a second.
    HastyProbes,
    /// An R1bis is not sent.
    NoR1bis,
    /// An R1bis goes out twice.
    R1bisTwice,
    /// Wrong checksums are not noticed.
    ChecksumsUnchecked,
    /// The bit S is not noticed.
    SBitUnchecked,
    /// Unknown options with C = 1 are passed over.
    CriticalIgnored,
    /// Unknown options are all taken for critical.
    EverythingCritical,
    /// Messages with reserved bits are dropped.
    ReservedRefused,
    /// Messages with something behind them are dropped.
    TrailingRefused,
    /// An I1 names other ULIDs.
    I1OtherUlids,
    /// An R1 has another Initiator Nonce.
    R1OtherNonce,
    /// An R1 has no validator.
    R1WithoutValidator,
    /// Reserved bits are sent.
    ReservedSent,
    /// Updates are not acknowledged when they have preferences.
    PreferencesRefused,
    /// An acknowledgement has another tag.
    AcknowledgementOtherTag,
    /// Keepalives are not sent.
    NoKeepalives,
    /// Keepalives go on for a while.
    LateKeepalives,
    /// Payload with the header is lost.
    NoPayloadHeaders,
    /// Payload is sent with another tag.
    PayloadOtherTag,
    /// A Probe in InboundOk says Exploring.
    ProbesSayExploring,
    /// A Probe reports nothing.
    ProbesReportNothing,
    /// The first record of a Probe has the addresses the wrong way round.
    ProbesTurned,
    /// What fills up options is not zero.
    PaddingSent,
    /// The Next Header of messages is 0.
    OtherNextHeader,
    /// Messages from second locators are lost.
    SecondLocatorDeaf,
    /// ICMPv6 errors are lost.
    NoIcmpErrors,
    /// An I2 has another Responder Nonce.
    I2OtherNonce,
    /// Locator Lists and what proves them are passed over.
    ListsIgnored,
    /// Beside what is right, each message of this type gets that answer a moment later, whatever is wrong with it.
    Answers(MessageType, MessageType),
    /// Beside what is right, each message gets an R1bis.
    R1bisForAll,
    /// Beside what is right, each payload header is taken for payload of a context, and answered.
    PayloadForAll,
    /// Messages of this type are not sent.
    Mute(MessageType),
}

impl Fault {
    /// What of a packet reaches the target.
    pub(super) fn inbound(self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let message = control(&packet);
        let kind = message.map(|message| MessageType(message[2]));
        // What is wrong already stays so, but for this one.
        if self != Self::ChecksumsUnchecked && message.is_some_and(|message| checksum(message) != 0) {
            return Some(packet);
        }
        match self {
            Self::ChecksumsUnchecked if kind.is_some() => edit(&mut packet, |_| {}),
            Self::SBitUnchecked if kind.is_some() => edit(&mut packet, |message| message[3] &= 0xfe),
            Self::CriticalIgnored if kind.is_some() => edit(&mut packet, |message| mark_unknown(message, false)),
            Self::EverythingCritical if kind.is_some() => edit(&mut packet, |message| mark_unknown(message, true)),
            Self::ReservedRefused if has_reserved(&packet) => return None,
            Self::TrailingRefused if message.is_some_and(|message| message.len() + IPV6_HEADER < packet.len()) => {
                return None;
            }
            Self::PreferencesRefused if kind == Some(MessageType::UPDATE_REQUEST) => {
                let found = options(control(&packet)?, 16)?;
                let refused = found
                    .iter()
                    .any(|option| option.kind == OptionType::LOCATOR_PREFERENCES.0);
                return (!refused).then_some(packet);
            }
            Self::NoPayloadHeaders if is_payload(&packet) => return None,
            Self::SecondLocatorDeaf if kind.is_some() && packet[8..16] == [0x20, 1, 0x0d, 0xb8, 0, 0xa2, 0, 0] => {
                return None;
            }
            Self::NoIcmpErrors if packet[6] == 58 && packet[IPV6_HEADER] < 128 => return None,
            Self::ListsIgnored if kind == Some(MessageType::I2) => without(&mut packet, 24, &[2, 4]),
            Self::ListsIgnored if kind == Some(MessageType::UPDATE_REQUEST) => without(&mut packet, 16, &[2, 4]),
            _ => {}
        }
        Some(packet)
    }

    /// What the target sends a moment after this packet, whatever is right.
    pub(super) fn forge(self, packet: &[u8]) -> Option<Vec<u8>> {
        let on = pair(packet)?;
        let octets = shim6(packet)?;
        let kind = MessageType(*octets.get(2)?);
        let nonce = octets
            .get(12..16)
            .map_or(0, |nonce| u32::from_be_bytes([nonce[0], nonce[1], nonce[2], nonce[3]]));
        let tag = octets
            .get(6..12)
            .map_or(0, |tag| tag.iter().fold(0, |tag, octet| tag << 8 | u64::from(*octet)));
        let tag = ContextTag::from_random_bits(tag);
        let answer = match self {
            Self::R1bisForAll if kind.0 < 0x80 => MessageType::R1BIS,
            Self::Answers(of, answer) if kind == of => answer,
            Self::PayloadForAll if kind.0 >= 0x80 => {
                let request = octets.iter().skip(8).position(|octet| *octet == 128)? + 8;
                let reply = icmp(on, 129, 0, octets.get(request + 4..)?);
                return Some(ipv6(on, ICMPV6, &reply));
            }
            _ => return None,
        };
        let announcement = Announcement::default();
        let message = match answer {
            MessageType::R1 => Message::R1(R1 {
                initiator_nonce: nonce,
                responder_nonce: 1,
                validator: vec![1; 16],
            }),
            MessageType::R2 => Message::R2(R2 {
                responder_context_tag: tag,
                initiator_nonce: nonce,
                announcement,
            }),
            MessageType::I2 => Message::I2(I2 {
                initiator_context_tag: tag,
                initiator_nonce: 1,
                responder_nonce: nonce,
                validator: vec![1; 16],
                ulid_pair: None,
                forked_instance: None,
                announcement,
            }),
            MessageType::R1BIS => Message::R1bis(R1bis {
                packet_context_tag: tag,
                responder_nonce: 1,
                validator: vec![1; 16],
            }),
            MessageType::UPDATE_ACKNOWLEDGEMENT => Message::UpdateAcknowledgement(UpdateAcknowledgement {
                receiver_context_tag: tag,
                request_nonce: nonce,
            }),
            MessageType::KEEPALIVE => Message::Keepalive(Keepalive {
                receiver_context_tag: tag,
            }),
            MessageType::PROBE => Message::Probe(probe(on, tag)),
            _ => Message::Error(Error {
                code: ErrorCode(0),
                pointer: 0,
                packet_in_error: packet.to_vec(),
            }),
        };
        Some(ipv6(on, PROTOCOL, &octets_of(&message)))
    }

    /// What becomes of a packet of the target, and how much later.
    pub(super) fn outbound(self, mut packet: Vec<u8>) -> Vec<(Duration, Vec<u8>)> {
        let kind = control(&packet).map_or(MessageType(0), |message| MessageType(message[2]));
        let mut copies = vec![0];
        match (self, kind) {
            (Self::NoErrors, MessageType::ERROR)
            | (Self::NoR1bis, MessageType::R1BIS)
            | (Self::NoKeepalives, MessageType::KEEPALIVE) => copies.clear(),
            (Self::Mute(mute), kind) if kind == mute => copies.clear(),
            (Self::ErrorsPointAtTheHeader, MessageType::ERROR) => edit(&mut packet, |message| message[7] = 40),
            (Self::OtherErrorCodes, MessageType::ERROR) => edit(&mut packet, |message| message[3] += 2),
            (Self::R1Twice, MessageType::R1) | (Self::R1bisTwice, MessageType::R1BIS) => copies.push(1),
            (Self::I1OtherUlids, MessageType::I1) => edit(&mut packet, |message| {
                add_option(message, OptionType::ULID_PAIR.0, false, &[0x20; 36], 0);
            }),
            (Self::R1OtherNonce, MessageType::R1) => edit(&mut packet, |message| message[11] ^= 1),
            (Self::R1WithoutValidator, MessageType::R1) => edit(&mut packet, |message| message.truncate(16)),
            (Self::R2Twice, MessageType::R2) => copies.push(1),
            (Self::HastyI1, MessageType::I1) | (Self::HastyI2bis, MessageType::I2BIS) => copies.push(1000),
            (Self::HastyProbes, MessageType::PROBE) => copies.push(100),
            (Self::I2OtherNonce, MessageType::I2) => edit(&mut packet, |message| message[19] ^= 1),
            (Self::ReservedSent, kind) if kind.0 != 0 && kind != MessageType::ERROR => {
                edit(&mut packet, |message| message[3] |= 0x80);
            }
            (Self::AcknowledgementOtherTag, MessageType::UPDATE_ACKNOWLEDGEMENT) => {
                edit(&mut packet, |message| message[11] ^= 1);
            }
            (Self::LateKeepalives, MessageType::KEEPALIVE) => copies.push(3000),
            (Self::PayloadOtherTag, _) if is_payload(&packet) => packet[IPV6_HEADER + 7] ^= 1,
            (Self::ProbesSayExploring, MessageType::PROBE) => edit(&mut packet, |message| {
                if message[13] == 0x80 {
                    message[13] = 0x40;
                }
            }),
            (Self::ProbesReportNothing, MessageType::PROBE) => edit(&mut packet, |message| {
                let sent = usize::from(message[12] & 0x0f);
                message[12] &= 0x0f;
                message.truncate(16 + 40 * sent);
            }),
            (Self::ProbesTurned, MessageType::PROBE) => edit(&mut packet, |message| message[16..48].rotate_left(16)),
            (Self::PaddingSent, MessageType::R2) => edit(&mut packet, |message| {
                let ends: Vec<_> = options(message, 16)
                    .into_iter()
                    .flatten()
                    .map(|option| (option.at + 4 + option.contents.len(), option.padding.len()))
                    .collect();
                for (end, padding) in ends {
                    message[end..end + padding].fill(0xaa);
                }
            }),
            (Self::OtherNextHeader, kind) if kind.0 != 0 => edit(&mut packet, |message| message[0] = 0),
            _ => {}
        }
        copies
            .into_iter()
            .map(|after| (Duration::from_millis(after), packet.clone()))
            .collect()
    }
}

fn probe(on: LocatorPair, tag: ContextTag) -> Probe {
    Probe {
        receiver_context_tag: tag,
        report: Report {
            state: ProbeState::Exploring,
            sent: vec![ProbeRecord {
                source: on.local,
                destination: on.peer,
                nonce: 1,
                data: 0,
            }],
            received: Vec::new(),
        },
    }
}

fn is_payload(packet: &[u8]) -> bool {
    packet[6] == PROTOCOL && packet.get(IPV6_HEADER + 2).is_some_and(|octet| octet & 0x80 != 0)
}

/// Changes the message in a packet, and makes lengths and checksum right.
fn edit(packet: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
    let mut message = packet.split_off(IPV6_HEADER);
    let claimed = message[1];
    let before = message.len();
    change(&mut message);
    if message.len() == before {
        message[1] = claimed;
        reseal_claimed(&mut message);
    } else {
        seal(&mut message);
    }
    packet.extend(message);
    let length = (packet.len() - IPV6_HEADER) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
}

/// Over the octets that Hdr Ext Len says.
fn reseal_claimed(message: &mut [u8]) {
    let end = (8 * (usize::from(message[1]) + 1)).min(message.len());
    reseal(&mut message[..end]);
}

/// Whether a message has reserved bits, in its head or its ULID Pair option. Errors have a code in their head.
fn has_reserved(packet: &[u8]) -> bool {
    let Some(message) = control(packet).filter(|message| message[2] != MessageType::ERROR.0) else {
        return false;
    };
    let found = options(message, 16).filter(|_| message[2] == MessageType::I1.0);
    let of_pair = |option: &RawOption<'_>| {
        option.kind == OptionType::ULID_PAIR.0 && option.contents.get(..4).is_some_and(|reserved| reserved != [0; 4])
    };
    message[3] & 0xfe != 0 || found.is_some_and(|found| found.iter().any(of_pair))
}

/// Sets or clears C of the options from the range for experiments.
fn mark_unknown(message: &mut [u8], critical: bool) {
    let at = match MessageType(message[2]) {
        MessageType::I2 => 24,
        MessageType::I2BIS => 32,
        MessageType::I1 | MessageType::KEEPALIVE | MessageType::UPDATE_REQUEST => 16,
        _ => return,
    };
    let unknown: Vec<usize> = options(message, at)
        .into_iter()
        .flatten()
        // A Keepalive Timeout has no place in an I1.
        .filter(|option| option.kind >= 0x7000 || (option.kind == 10 && message[2] == 1))
        .map(|option| option.at)
        .collect();
    for at in unknown {
        message[at + 1] = message[at + 1] & 0xfe | u8::from(critical);
    }
}

/// Takes options of these types out.
fn without(packet: &mut Vec<u8>, from: usize, kinds: &[u16]) {
    edit(packet, |message| {
        let mut left = message[..from.min(message.len())].to_vec();
        for option in options(message, from).into_iter().flatten() {
            if !kinds.contains(&option.kind) {
                left.extend(&message[option.at..option.at + 4 + option.contents.len() + option.padding.len()]);
            }
        }
        *message = left;
    });
}
