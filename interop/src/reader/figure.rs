//! The figures of fixed layout, field by field.

// What the macro makes of a figure has no documentation of its own, and not all of it is used.
#![allow(missing_docs, dead_code, unreachable_pub, unused_imports, clippy::all)]

use std::net::Ipv6Addr;

use pnet_macros::packet;
use pnet_macros_support::packet::Packet;
use pnet_macros_support::types::*;

use super::{Field, ReadError};

/// RFC 5533 section 5.3; its first 17 bits are those of section 5.1.
#[packet]
pub struct Common {
    pub next_header: u8,
    pub hdr_ext_len: u8,
    pub p: u1,
    pub message_type: u7,
    pub type_specific: u7,
    pub s: u1,
    pub checksum: u16be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.2.
#[packet]
pub struct PayloadHeader {
    pub next_header: u8,
    pub hdr_ext_len: u8,
    pub p: u1,
    pub receiver_context_tag: u47be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.4, from the R bit on.
#[packet]
pub struct I1 {
    pub r: u1,
    pub initiator_context_tag: u47be,
    pub initiator_nonce: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.5, from Reserved2 on.
#[packet]
pub struct R1 {
    pub reserved2: u16be,
    pub initiator_nonce: u32be,
    pub responder_nonce: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.6, from the R bit on.
#[packet]
pub struct I2 {
    pub r: u1,
    pub initiator_context_tag: u47be,
    pub initiator_nonce: u32be,
    pub responder_nonce: u32be,
    pub reserved2: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.7, from the R bit on.
#[packet]
pub struct R2 {
    pub r: u1,
    pub responder_context_tag: u47be,
    pub initiator_nonce: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.8, from the R bit on.
#[packet]
pub struct R1bis {
    pub r: u1,
    pub packet_context_tag: u47be,
    pub responder_nonce: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.9, from the R bit on.
#[packet]
pub struct I2bis {
    pub r: u1,
    pub initiator_context_tag: u47be,
    pub initiator_nonce: u32be,
    pub responder_nonce: u32be,
    pub reserved2: u49be,
    pub packet_context_tag: u47be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.10 and, with the same fields, 5.11, from the R bit on.
#[packet]
pub struct Update {
    pub r: u1,
    pub receiver_context_tag: u47be,
    pub request_nonce: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5534 section 5.1, from the R bit on.
#[packet]
pub struct Keepalive {
    pub r: u1,
    pub receiver_context_tag: u47be,
    pub reserved2: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5534 section 5.2, from the R bit to Reserved2.
#[packet]
pub struct Probe {
    pub r: u1,
    pub receiver_context_tag: u47be,
    pub precvd: u4,
    pub psent: u4,
    pub sta: u2,
    pub reserved2: u22be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5534 section 5.2, one probe that was sent or received.
#[packet]
pub struct Record {
    #[construct_with(u16, u16, u16, u16, u16, u16, u16, u16)]
    pub source: Ipv6Addr,
    #[construct_with(u16, u16, u16, u16, u16, u16, u16, u16)]
    pub destination: Ipv6Addr,
    pub nonce: u32be,
    pub data: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.14, from the Pointer on.
#[packet]
pub struct Error {
    pub pointer: u16be,
    #[payload]
    pub packet_in_error: Vec<u8>,
}

/// RFC 5533 section 5.15: the header of an option.
#[packet]
pub struct OptionHeader {
    pub option_type: u15be,
    pub critical: u1,
    pub length: u16be,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.15.2: the fixed part of a Locator List.
#[packet]
pub struct LocatorList {
    pub generation: u32be,
    pub num_locators: u8,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.15.3: the fixed part of Locator Preferences.
#[packet]
pub struct LocatorPreferences {
    pub generation: u32be,
    pub element_len: u8,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5533 section 5.15.6.
#[packet]
pub struct UlidPair {
    pub reserved2: u32be,
    #[construct_with(u16, u16, u16, u16, u16, u16, u16, u16)]
    pub sender: Ipv6Addr,
    #[construct_with(u16, u16, u16, u16, u16, u16, u16, u16)]
    pub receiver: Ipv6Addr,
    #[payload]
    pub rest: Vec<u8>,
}

/// RFC 5534 section 5.3.
#[packet]
pub struct KeepaliveTimeout {
    pub reserved: u16be,
    pub keepalive_timeout: u16be,
    #[payload]
    pub rest: Vec<u8>,
}

/// The contents of an option that is one number: RFC 5533 section 5.15.7, and Keepalive Timeout in milliseconds.
#[packet]
pub struct Number {
    pub number: u32be,
    #[payload]
    pub rest: Vec<u8>,
}

/// Appends fields of a figure under their names.
macro_rules! append {
    ($fields:ident, $packet:ident: $($name:literal = $getter:ident),* $(,)?) => {
        $fields.extend([$(($name, $packet.$getter().into())),*])
    };
}
pub(super) use append;

/// A figure laid over octets, or the error that names it.
macro_rules! lay {
    ($packet:ident over $octets:expr, $what:literal) => {
        $packet::new($octets).ok_or(ReadError::Short($what))?
    };
}

/// The fields of a payload header.
pub(super) fn payload(header: &[u8]) -> Result<Vec<Field>, ReadError> {
    let packet = lay!(PayloadHeaderPacket over header, "a payload header");
    let mut fields = Vec::new();
    append!(fields, packet: "next_header" = get_next_header, "hdr_ext_len" = get_hdr_ext_len, "p" = get_p,
        "receiver_context_tag" = get_receiver_context_tag);
    Ok(fields)
}

/// Appends the fields of a control message up to its options, and gives the options.
pub(super) fn message<'a>(message_type: u8, header: &'a [u8], fields: &mut Vec<Field>) -> Result<&'a [u8], ReadError> {
    let common = lay!(CommonPacket over header, "the common header");
    append!(fields, common: "next_header" = get_next_header, "hdr_ext_len" = get_hdr_ext_len, "p" = get_p,
        "type" = get_message_type, "type_specific" = get_type_specific, "s" = get_s, "checksum" = get_checksum);
    let rest = &header[CommonPacket::minimum_packet_size()..];
    let fixed = match message_type {
        1 => {
            let packet = lay!(I1Packet over rest, "I1");
            append!(fields, packet: "r" = get_r, "initiator_context_tag" = get_initiator_context_tag,
                "initiator_nonce" = get_initiator_nonce);
            I1Packet::minimum_packet_size()
        }
        2 => {
            let packet = lay!(R1Packet over rest, "R1");
            append!(fields, packet: "reserved2" = get_reserved2, "initiator_nonce" = get_initiator_nonce,
                "responder_nonce" = get_responder_nonce);
            R1Packet::minimum_packet_size()
        }
        3 => {
            let packet = lay!(I2Packet over rest, "I2");
            append!(fields, packet: "r" = get_r, "initiator_context_tag" = get_initiator_context_tag,
                "initiator_nonce" = get_initiator_nonce, "responder_nonce" = get_responder_nonce,
                "reserved2" = get_reserved2);
            I2Packet::minimum_packet_size()
        }
        4 => {
            let packet = lay!(R2Packet over rest, "R2");
            append!(fields, packet: "r" = get_r, "responder_context_tag" = get_responder_context_tag,
                "initiator_nonce" = get_initiator_nonce);
            R2Packet::minimum_packet_size()
        }
        5 => {
            let packet = lay!(R1bisPacket over rest, "R1bis");
            append!(fields, packet: "r" = get_r, "packet_context_tag" = get_packet_context_tag,
                "responder_nonce" = get_responder_nonce);
            R1bisPacket::minimum_packet_size()
        }
        6 => {
            let packet = lay!(I2bisPacket over rest, "I2bis");
            append!(fields, packet: "r" = get_r, "initiator_context_tag" = get_initiator_context_tag,
                "initiator_nonce" = get_initiator_nonce, "responder_nonce" = get_responder_nonce,
                "reserved2" = get_reserved2, "packet_context_tag" = get_packet_context_tag);
            I2bisPacket::minimum_packet_size()
        }
        64 | 65 => {
            let packet = lay!(UpdatePacket over rest, "an Update message");
            append!(fields, packet: "r" = get_r, "receiver_context_tag" = get_receiver_context_tag,
                "request_nonce" = get_request_nonce);
            UpdatePacket::minimum_packet_size()
        }
        66 => {
            let packet = lay!(KeepalivePacket over rest, "Keepalive");
            append!(fields, packet: "r" = get_r, "receiver_context_tag" = get_receiver_context_tag,
                "reserved2" = get_reserved2);
            KeepalivePacket::minimum_packet_size()
        }
        67 => return probe(rest, fields),
        68 => {
            let packet = lay!(ErrorPacket over rest, "Error");
            append!(fields, packet: "pointer" = get_pointer, "packet_in_error" = payload);
            rest.len()
        }
        unknown => return Err(ReadError::MessageType(unknown)),
    };
    Ok(&rest[fixed..])
}

fn probe<'a>(octets: &'a [u8], fields: &mut Vec<Field>) -> Result<&'a [u8], ReadError> {
    let packet = lay!(ProbePacket over octets, "Probe");
    append!(fields, packet: "r" = get_r, "receiver_context_tag" = get_receiver_context_tag,
        "precvd" = get_precvd, "psent" = get_psent, "sta" = get_sta, "reserved2" = get_reserved2);
    let mut rest = &octets[ProbePacket::minimum_packet_size()..];
    for _ in 0..packet.get_psent() {
        let record = lay!(RecordPacket over rest, "a probe sent");
        append!(fields, record: "sent.source" = get_source, "sent.destination" = get_destination,
            "sent.nonce" = get_nonce, "sent.data" = get_data);
        rest = &rest[RecordPacket::minimum_packet_size()..];
    }
    for _ in 0..packet.get_precvd() {
        let record = lay!(RecordPacket over rest, "a probe received");
        append!(fields, record: "received.source" = get_source, "received.destination" = get_destination,
            "received.nonce" = get_nonce, "received.data" = get_data);
        rest = &rest[RecordPacket::minimum_packet_size()..];
    }
    Ok(rest)
}
