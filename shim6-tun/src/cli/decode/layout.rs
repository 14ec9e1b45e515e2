//! Where the fixed fields of each message are, bit by bit (RFC 5533 section 5, RFC 5534 section 5).
//!
//! The stack's own views refuse a message with a fault. Here every field is shown that the octets reach to, because a
//! message with a fault is what one looks at.

use shim6_core::wire::MessageType;

use super::value::{Fields, Value};

/// A field of fixed place.
pub(super) struct Part {
    name: &'static str,
    /// First bit, from the Next Header octet on.
    start: usize,
    /// The bit behind the last one.
    end: usize,
    shown: Shown,
}

enum Shown {
    Decimal,
    Hex,
}

const fn decimal(name: &'static str, start: usize, end: usize) -> Part {
    let shown = Shown::Decimal;
    Part {
        name,
        start,
        end,
        shown,
    }
}

const fn hexadecimal(name: &'static str, start: usize, end: usize) -> Part {
    let shown = Shown::Hex;
    Part {
        name,
        start,
        end,
        shown,
    }
}

/// What both kinds of header start with (section 5.1).
pub(super) const COMMON: [Part; 3] = [
    decimal("next_header", 0, 8),
    decimal("hdr_ext_len", 8, 16),
    decimal("p", 16, 17),
];

/// The rest of a payload header (section 5.2).
pub(super) const PAYLOAD: [Part; 1] = [hexadecimal("receiver_context_tag", 17, 64)];

pub(super) const TYPE: Part = decimal("type", 17, 24);

/// S bit and checksum (section 5.3).
pub(super) const CONTROL: [Part; 2] = [decimal("s", 31, 32), hexadecimal("checksum", 32, 48)];

const RESERVED1: Part = decimal("reserved1", 24, 31);
const R: Part = decimal("r", 48, 49);

const I1: &[Part] = &[
    R,
    hexadecimal("initiator_context_tag", 49, 96),
    hexadecimal("initiator_nonce", 96, 128),
];
const R1: &[Part] = &[
    decimal("reserved2", 48, 64),
    hexadecimal("initiator_nonce", 64, 96),
    hexadecimal("responder_nonce", 96, 128),
];
const I2: &[Part] = &[
    R,
    hexadecimal("initiator_context_tag", 49, 96),
    hexadecimal("initiator_nonce", 96, 128),
    hexadecimal("responder_nonce", 128, 160),
    decimal("reserved2", 160, 192),
];
const R2: &[Part] = &[
    R,
    hexadecimal("responder_context_tag", 49, 96),
    hexadecimal("initiator_nonce", 96, 128),
];
const R1BIS: &[Part] = &[
    R,
    hexadecimal("packet_context_tag", 49, 96),
    hexadecimal("responder_nonce", 96, 128),
];
const I2BIS: &[Part] = &[
    R,
    hexadecimal("initiator_context_tag", 49, 96),
    hexadecimal("initiator_nonce", 96, 128),
    hexadecimal("responder_nonce", 128, 160),
    decimal("reserved2", 160, 209),
    hexadecimal("packet_context_tag", 209, 256),
];
/// Update Request and Update Acknowledgement have the same fields.
const UPDATE: &[Part] = &[
    R,
    hexadecimal("receiver_context_tag", 49, 96),
    hexadecimal("request_nonce", 96, 128),
];
const KEEPALIVE: &[Part] = &[
    R,
    hexadecimal("receiver_context_tag", 49, 96),
    decimal("reserved2", 96, 128),
];
const PROBE: &[Part] = &[
    R,
    hexadecimal("receiver_context_tag", 49, 96),
    decimal("precvd", 96, 100),
    decimal("psent", 100, 104),
    decimal("sta", 104, 106),
    decimal("reserved2", 106, 128),
];
const ERROR: &[Part] = &[decimal("pointer", 48, 64)];

/// The seven bits between the type and the S bit.
pub(super) const fn type_specific(message_type: MessageType) -> Part {
    match message_type {
        MessageType::ERROR => decimal("error_code", 24, 31),
        _ if message_type.name().is_some() => RESERVED1,
        _ => decimal("type_specific", 24, 31),
    }
}

/// What follows the checksum, up to options, records or packet in error.
pub(super) const fn parts(message_type: MessageType) -> &'static [Part] {
    match message_type {
        MessageType::I1 => I1,
        MessageType::R1 => R1,
        MessageType::I2 => I2,
        MessageType::R2 => R2,
        MessageType::R1BIS => R1BIS,
        MessageType::I2BIS => I2BIS,
        MessageType::UPDATE_REQUEST | MessageType::UPDATE_ACKNOWLEDGEMENT => UPDATE,
        MessageType::KEEPALIVE => KEEPALIVE,
        MessageType::PROBE => PROBE,
        MessageType::ERROR => ERROR,
        _ => &[],
    }
}

/// Octets up to the end of the fixed fields: where options, records or the packet in error start.
pub(super) fn fixed_len(message_type: MessageType) -> usize {
    parts(message_type)
        .last()
        .map_or(CONTROL[1].end, |part| part.end)
        .div_ceil(8)
}

/// Reads fields as far as the octets go. `false` if they end before the last field does.
pub(super) fn read(parts: &[Part], octets: &[u8], fields: &mut Fields) -> bool {
    parts.iter().all(|part| {
        let Some(number) = bits(octets, part.start, part.end) else {
            return false;
        };
        let value = match part.shown {
            Shown::Decimal => Value::Number(number),
            Shown::Hex => Value::Hex(number, (part.end - part.start).div_ceil(4)),
        };
        fields.add(part.name, value);
        true
    })
}

/// At most 64 bits as a big-endian number.
fn bits(octets: &[u8], start: usize, end: usize) -> Option<u64> {
    (start..end).try_fold(0, |number, bit| {
        let octet = octets.get(bit / 8)?;
        Some(number << 1 | u64::from(octet >> (7 - bit % 8) & 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_each_message_follow_each_other_without_a_gap() {
        for message_type in [1, 2, 3, 4, 5, 6, 64, 65, 66, 67, 68, 99].map(MessageType) {
            let specific = type_specific(message_type);
            let header = COMMON.iter().chain([&TYPE, &specific]).chain(&CONTROL);
            let mut next = 0;
            for part in header.chain(parts(message_type)) {
                assert_eq!(part.start, next, "{message_type}: {}", part.name);
                next = part.end;
            }
            assert_eq!(next, 8 * fixed_len(message_type), "{message_type}");
            assert!(fixed_len(message_type).is_multiple_of(8) || message_type == MessageType(99));
        }
    }

    #[test]
    fn bits_are_read_across_octets() {
        let octets = [0b1010_0101, 0xff, 0x00];
        assert_eq!(bits(&octets, 0, 1), Some(1));
        assert_eq!(bits(&octets, 4, 12), Some(0x5f));
        assert_eq!(bits(&octets, 15, 24), Some(0x100));
        assert_eq!(bits(&octets, 23, 25), None);
    }

    #[test]
    fn fields_are_read_as_far_as_the_octets_go() {
        let mut fields = Fields::default();
        assert!(!read(parts(MessageType::I1), &[0xff; 12], &mut fields));
        assert_eq!(fields.number("initiator_context_tag"), Some((1 << 47) - 1));
        assert_eq!(fields.number("initiator_nonce"), None);
    }
}
