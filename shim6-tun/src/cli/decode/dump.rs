//! Every field of a header, whatever is wrong with it.

use std::net::Ipv6Addr;

use shim6_core::wire::{ErrorCode, MessageType, NO_NEXT_HEADER, checksum};

use super::layout;
use super::options::{self, DecodedOption};
use super::value::{Fields, Value};

/// Octets of a record in a Probe (RFC 5534 section 5.2).
const RECORD: usize = 40;

/// What a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// P bit set.
    Payload,
    /// P bit clear.
    Control(MessageType),
    /// The octets end before one can tell.
    Unknown,
}

/// A header with its fields and options.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) kind: Kind,
    pub(super) fields: Fields,
    pub(super) options: Vec<DecodedOption>,
}

/// Reads the header that `octets` start with.
pub(super) fn dump(octets: &[u8]) -> Dump {
    let mut fields = Fields::default();
    let p_is_there = layout::read(&layout::COMMON, octets, &mut fields);
    fields.note("next_header", next_header(octets.first().copied()));
    if !p_is_there {
        return Dump {
            kind: Kind::Unknown,
            fields,
            options: Vec::new(),
        };
    }
    let claimed = octets.get(1).map_or(0, |length| 8 * (usize::from(*length) + 1));
    if fields.number("p") == Some(1) {
        fields.note("p", "payload");
        layout::read(&layout::PAYLOAD, octets, &mut fields);
        if let Some(payload) = octets.len().checked_sub(8) {
            fields.add_noted("octets_after", Value::Number(payload as u64), "the payload");
        }
        return Dump {
            kind: Kind::Payload,
            fields,
            options: Vec::new(),
        };
    }
    fields.note("p", "control message");
    let missing = claimed.saturating_sub(octets.len());
    let length = match missing {
        0 => format!("{claimed} octets"),
        _ => format!("{claimed} octets, of which {missing} are missing"),
    };
    fields.note("hdr_ext_len", length);
    let message = &octets[..octets.len().min(claimed)];
    layout::read(&[layout::TYPE], octets, &mut fields);
    let message_type = MessageType(octets[2] & 0x7f);
    fields.note("type", message_type.name().unwrap_or("unknown"));
    let options = control(message_type, message, missing == 0, &mut fields);
    if octets.len() > claimed {
        let after = (octets.len() - claimed) as u64;
        fields.add_noted("octets_after", Value::Number(after), "ignored");
    }
    Dump {
        kind: Kind::Control(message_type),
        fields,
        options,
    }
}

fn control(message_type: MessageType, message: &[u8], whole: bool, fields: &mut Fields) -> Vec<DecodedOption> {
    let header = [layout::type_specific(message_type)];
    let has_checksum = layout::read(&header, message, fields) && layout::read(&layout::CONTROL, message, fields);
    if has_checksum {
        judge_checksum(message, whole, fields);
    }
    let read = has_checksum && layout::read(layout::parts(message_type), message, fields);
    notes(message_type, fields);
    if !read {
        return Vec::new();
    }
    let rest = &message[layout::fixed_len(message_type)..];
    match message_type {
        MessageType::ERROR => {
            fields.add("packet_in_error", Value::Octets(rest.to_vec()));
            return Vec::new();
        }
        MessageType::PROBE => {
            let Some(records) = records(rest, fields) else {
                return Vec::new();
            };
            return finish(message_type, message, message.len() - rest.len() + records, fields);
        }
        _ if message_type.name().is_none() => {
            fields.add_some("rest", rest);
            return Vec::new();
        }
        _ => {}
    }
    finish(message_type, message, message.len() - rest.len(), fields)
}

fn finish(message_type: MessageType, message: &[u8], start: usize, fields: &mut Fields) -> Vec<DecodedOption> {
    let (options, rest) = options::read(message_type, message, start);
    fields.add_some("rest", rest);
    options
}

/// Adds what the checksum should be. Of a message that is not whole one cannot tell.
fn judge_checksum(message: &[u8], whole: bool, fields: &mut Fields) {
    if !whole {
        fields.note("checksum", "the rest of the message is needed to check it");
        fields.add_hidden("checksum_right", Value::Unknown);
        fields.add_hidden("checksum_expected", Value::Unknown);
        return;
    }
    let right = checksum(message) == 0;
    let mut zeroed = message.to_vec();
    zeroed[4..6].fill(0);
    let expected = checksum(&zeroed);
    let note = match right {
        true => "right".to_owned(),
        false => format!("wrong, should be {expected:#06x}"),
    };
    fields.note("checksum", note);
    fields.add_hidden("checksum_right", Value::Flag(right));
    fields.add_hidden("checksum_expected", Value::Number(expected.into()));
}

/// The records of a Probe, and how many octets they are; `None` when there are fewer than the counts say.
fn records(octets: &[u8], fields: &mut Fields) -> Option<usize> {
    let psent = fields.number("psent").unwrap_or(0) as usize;
    let precvd = fields.number("precvd").unwrap_or(0) as usize;
    let (chunks, _) = octets.as_chunks::<RECORD>();
    let sent = &chunks[..psent.min(chunks.len())];
    let received = &chunks[sent.len()..(psent + precvd).min(chunks.len())];
    let items = |chunks: &[[u8; RECORD]]| Value::List(chunks.iter().map(record).collect());
    fields.add("sent", items(sent));
    fields.add("received", items(received));
    let read = RECORD * (sent.len() + received.len());
    if sent.len() + received.len() < psent + precvd {
        fields.add_some("rest", &octets[read..]);
        return None;
    }
    Some(read)
}

fn record(octets: &[u8; RECORD]) -> Fields {
    let mut fields = Fields::default();
    let address = |at: usize| Value::Address(Ipv6Addr::from(std::array::from_fn(|octet| octets[at + octet])));
    let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|octet| octets[at + octet]));
    fields.add("source", address(0));
    fields.add("destination", address(16));
    fields.add("nonce", Value::Hex(number(32).into(), 8));
    fields.add("data", Value::Hex(number(36).into(), 8));
    fields
}

/// Names of values.
fn notes(message_type: MessageType, fields: &mut Fields) {
    if fields.number("s") == Some(1) {
        fields.note("s", "not a Shim6 message");
    }
    if message_type == MessageType::PROBE {
        let state = match fields.number("sta") {
            Some(0) => "Operational",
            Some(1) => "Exploring",
            Some(2) => "InboundOk",
            _ => "not defined",
        };
        fields.note("sta", state);
    }
    if let Some(code) = fields.number("error_code").and_then(|code| u8::try_from(code).ok()) {
        let name = match code {
            // RFC 5533 section 5.14, table 2.
            120..=127 => "reserved for debugging",
            _ => ErrorCode(code).name().unwrap_or("unknown"),
        };
        fields.note("error_code", name);
    }
}

fn next_header(number: Option<u8>) -> &'static str {
    match number {
        Some(NO_NEXT_HEADER) => "nothing follows",
        Some(6) => "TCP",
        Some(17) => "UDP",
        Some(44) => "Fragment header",
        Some(50) => "ESP",
        Some(51) => "AH",
        Some(58) => "ICMPv6",
        Some(60) => "Destination Options header",
        Some(132) => "SCTP",
        _ => "",
    }
}
