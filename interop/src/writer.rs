//! The other direction of [`reader`](crate::reader): octets from fields, over the same figures and without `shim6-core`.
//!
//! It writes whatever the figures have room for: reserved bits and padding that are not zero, options in any order and of any
//! type. So it says more than the stack ever sends, and what receivers have to live with.

use std::iter::Peekable;
use std::net::Ipv6Addr;
use std::slice::Iter;

use pnet_macros_support::packet::MutablePacket as _;

use crate::reader::figure::*;
use crate::reader::{Field, Value};

const NO_NEXT_HEADER: u8 = 59;
/// Octets of Type and Length.
const OPTION_HEADER: usize = 4;

/// Why fields cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The figure has this field next, and it is not there or holds something else.
    #[error("{0} is expected")]
    Expected(&'static str),
    /// Fields are left that no figure has room for.
    #[error("no place for {0}")]
    NoPlace(&'static str),
    /// The figure of this message type is not known.
    #[error("no figure for message type {0}")]
    MessageType(u8),
    /// The message is no multiple of 8 octets, or longer than Hdr Ext Len can say.
    #[error("a message of {0} octets")]
    Length(usize),
}

/// The control message of this type, with these seven bits behind the type, that has the fields behind its checksum in the order
/// and under the names that [`read`](crate::reader::read) gives them. Hdr Ext Len, the Length of options and the checksum follow
/// from the rest; `option.length` is passed over, `option.padding` is written where it stands.
///
/// # Errors
///
/// See [`WriteError`].
pub fn write(message_type: u8, type_specific: u8, fields: &[Field]) -> Result<Vec<u8>, WriteError> {
    let mut fields = Fields {
        rest: fields.iter().peekable(),
    };
    let mut octets = vec![0; CommonPacket::minimum_packet_size()];
    fixed(message_type, &mut fields, &mut octets)?;
    while fields.next_is("option.type") {
        option(&mut fields, &mut octets)?;
    }
    if let Some((name, _)) = fields.rest.next() {
        return Err(WriteError::NoPlace(name));
    }
    let length = octets.len();
    let units = u8::try_from(length / 8).ok().filter(|_| length.is_multiple_of(8));
    let units = units.ok_or(WriteError::Length(length))?;
    {
        let mut common = MutableCommonPacket::new(&mut octets).ok_or(WriteError::Length(length))?;
        common.set_next_header(NO_NEXT_HEADER);
        common.set_hdr_ext_len(units - 1);
        common.set_message_type(message_type);
        common.set_type_specific(type_specific);
        let checksum = pnet_packet::util::checksum(common.packet_mut(), 2);
        common.set_checksum(checksum);
    }
    Ok(octets)
}

/// Fields that are still to be written.
struct Fields<'a> {
    rest: Peekable<Iter<'a, Field>>,
}

impl<'a> Fields<'a> {
    fn next_is(&mut self, name: &str) -> bool {
        self.rest.peek().is_some_and(|(next, _)| *next == name)
    }

    fn take(&mut self, name: &'static str) -> Result<&'a Value, WriteError> {
        let next = self.rest.next_if(|(next, _)| *next == name);
        next.map(|(_, value)| value).ok_or(WriteError::Expected(name))
    }

    fn number(&mut self, name: &'static str) -> Result<u64, WriteError> {
        match self.take(name)? {
            Value::Number(number) => Ok(*number),
            Value::Address(_) | Value::Octets(_) => Err(WriteError::Expected(name)),
        }
    }

    fn address(&mut self, name: &'static str) -> Result<Ipv6Addr, WriteError> {
        match self.take(name)? {
            Value::Address(address) => Ok(*address),
            Value::Number(_) | Value::Octets(_) => Err(WriteError::Expected(name)),
        }
    }

    fn octets(&mut self, name: &'static str) -> Result<&'a [u8], WriteError> {
        match self.take(name)? {
            Value::Octets(octets) => Ok(octets),
            Value::Number(_) | Value::Address(_) => Err(WriteError::Expected(name)),
        }
    }
}

/// Appends a figure with the numbers and the addresses that the fields have for it, in this order.
macro_rules! append {
    ($octets:ident, $fields:ident: $packet:ident { $($name:literal = $setter:ident $kind:ident),* $(,)? }) => {{
        let mut figure = vec![0; $packet::minimum_packet_size()];
        {
            let mut packet = $packet::new(&mut figure).ok_or(WriteError::Length(0))?;
            // What a figure has no room for is cut off.
            $( packet.$setter(append!(@ $fields $kind $name)); )*
        }
        $octets.extend_from_slice(&figure);
    }};
    (@ $fields:ident number $name:literal) => { $fields.number($name)? as _ };
    (@ $fields:ident address $name:literal) => { $fields.address($name)? };
}

/// Up to the options.
fn fixed(message_type: u8, fields: &mut Fields<'_>, octets: &mut Vec<u8>) -> Result<(), WriteError> {
    match message_type {
        1 => append!(octets, fields: MutableI1Packet {
            "r" = set_r number,
            "initiator_context_tag" = set_initiator_context_tag number,
            "initiator_nonce" = set_initiator_nonce number,
        }),
        2 => append!(octets, fields: MutableR1Packet {
            "reserved2" = set_reserved2 number,
            "initiator_nonce" = set_initiator_nonce number,
            "responder_nonce" = set_responder_nonce number,
        }),
        3 => append!(octets, fields: MutableI2Packet {
            "r" = set_r number,
            "initiator_context_tag" = set_initiator_context_tag number,
            "initiator_nonce" = set_initiator_nonce number,
            "responder_nonce" = set_responder_nonce number,
            "reserved2" = set_reserved2 number,
        }),
        4 => append!(octets, fields: MutableR2Packet {
            "r" = set_r number,
            "responder_context_tag" = set_responder_context_tag number,
            "initiator_nonce" = set_initiator_nonce number,
        }),
        5 => append!(octets, fields: MutableR1bisPacket {
            "r" = set_r number,
            "packet_context_tag" = set_packet_context_tag number,
            "responder_nonce" = set_responder_nonce number,
        }),
        6 => append!(octets, fields: MutableI2bisPacket {
            "r" = set_r number,
            "initiator_context_tag" = set_initiator_context_tag number,
            "initiator_nonce" = set_initiator_nonce number,
            "responder_nonce" = set_responder_nonce number,
            "reserved2" = set_reserved2 number,
            "packet_context_tag" = set_packet_context_tag number,
        }),
        64 | 65 => append!(octets, fields: MutableUpdatePacket {
            "r" = set_r number,
            "receiver_context_tag" = set_receiver_context_tag number,
            "request_nonce" = set_request_nonce number,
        }),
        66 => append!(octets, fields: MutableKeepalivePacket {
            "r" = set_r number,
            "receiver_context_tag" = set_receiver_context_tag number,
            "reserved2" = set_reserved2 number,
        }),
        67 => probe(fields, octets)?,
        68 => {
            append!(octets, fields: MutableErrorPacket { "pointer" = set_pointer number });
            octets.extend_from_slice(fields.octets("packet_in_error")?);
        }
        unknown => return Err(WriteError::MessageType(unknown)),
    }
    Ok(())
}

fn probe(fields: &mut Fields<'_>, octets: &mut Vec<u8>) -> Result<(), WriteError> {
    append!(octets, fields: MutableProbePacket {
        "r" = set_r number,
        "receiver_context_tag" = set_receiver_context_tag number,
        "precvd" = set_precvd number,
        "psent" = set_psent number,
        "sta" = set_sta number,
        "reserved2" = set_reserved2 number,
    });
    while fields.next_is("sent.source") {
        append!(octets, fields: MutableRecordPacket {
            "sent.source" = set_source address,
            "sent.destination" = set_destination address,
            "sent.nonce" = set_nonce number,
            "sent.data" = set_data number,
        });
    }
    while fields.next_is("received.source") {
        append!(octets, fields: MutableRecordPacket {
            "received.source" = set_source address,
            "received.destination" = set_destination address,
            "received.nonce" = set_nonce number,
            "received.data" = set_data number,
        });
    }
    Ok(())
}

fn option(fields: &mut Fields<'_>, octets: &mut Vec<u8>) -> Result<(), WriteError> {
    let option_type = fields.number("option.type")?;
    let critical = fields.number("option.critical")?;
    if fields.next_is("option.length") {
        fields.take("option.length")?;
    }
    let mut contents = Vec::new();
    fill(option_type, fields, &mut contents)?;
    let length = u16::try_from(contents.len()).map_err(|_| WriteError::Length(contents.len()))?;
    let mut header = [0; OPTION_HEADER];
    {
        let mut packet = MutableOptionHeaderPacket::new(&mut header).ok_or(WriteError::Length(0))?;
        packet.set_option_type(option_type as u16);
        packet.set_critical(critical as u8);
        packet.set_length(length);
    }
    octets.extend_from_slice(&header);
    octets.extend_from_slice(&contents);
    if fields.next_is("option.padding") {
        octets.extend_from_slice(fields.octets("option.padding")?);
    }
    Ok(())
}

/// The contents of an option.
fn fill(option_type: u64, fields: &mut Fields<'_>, contents: &mut Vec<u8>) -> Result<(), WriteError> {
    match option_type {
        1 => contents.extend_from_slice(fields.octets("responder_validator")?),
        2 => locator_list(fields, contents)?,
        3 => locator_preferences(fields, contents)?,
        4 => contents.extend_from_slice(fields.octets("cga_parameters")?),
        5 => contents.extend_from_slice(fields.octets("cga_signature")?),
        6 => append!(contents, fields: MutableUlidPairPacket {
            "ulid_pair.reserved2" = set_reserved2 number,
            "ulid_pair.sender" = set_sender address,
            "ulid_pair.receiver" = set_receiver address,
        }),
        7 => append!(contents, fields: MutableNumberPacket { "forked_instance" = set_number number }),
        10 => append!(contents, fields: MutableKeepaliveTimeoutPacket {
            "keepalive_timeout.reserved" = set_reserved number,
            "keepalive_timeout" = set_keepalive_timeout number,
        }),
        21302 => append!(contents, fields: MutableNumberPacket { "keepalive_timeout_ms" = set_number number }),
        _ => contents.extend_from_slice(fields.octets("option.contents")?),
    }
    Ok(())
}

fn locator_list(fields: &mut Fields<'_>, contents: &mut Vec<u8>) -> Result<(), WriteError> {
    append!(contents, fields: MutableLocatorListPacket {
        "locator_list.generation" = set_generation number,
        "locator_list.num_locators" = set_num_locators number,
    });
    while fields.next_is("locator_list.verification_method") {
        contents.push(fields.number("locator_list.verification_method")? as u8);
    }
    if fields.next_is("locator_list.padding") {
        contents.extend_from_slice(fields.octets("locator_list.padding")?);
    }
    while fields.next_is("locator_list.locator") {
        contents.extend_from_slice(&fields.address("locator_list.locator")?.octets());
    }
    Ok(())
}

fn locator_preferences(fields: &mut Fields<'_>, contents: &mut Vec<u8>) -> Result<(), WriteError> {
    append!(contents, fields: MutableLocatorPreferencesPacket {
        "locator_preferences.generation" = set_generation number,
        "locator_preferences.element_len" = set_element_len number,
    });
    while fields.next_is("locator_preferences.flags") {
        for name in [
            "locator_preferences.flags",
            "locator_preferences.priority",
            "locator_preferences.weight",
        ] {
            if fields.next_is(name) {
                contents.push(fields.number(name)? as u8);
            }
        }
        if fields.next_is("locator_preferences.rest") {
            contents.extend_from_slice(fields.octets("locator_preferences.rest")?);
        }
    }
    Ok(())
}
