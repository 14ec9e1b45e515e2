//! Options, as far as the octets go (RFC 5533 section 5.15, RFC 5534 section 5.3).

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use serde::Serialize;
use shim6_cga::CgaParametersRef;
use shim6_core::wire::option::padded_len;
use shim6_core::wire::{MessageType, OptionType, PreferenceFlags, VerificationMethod};

use super::value::{Fields, Value};

/// Octets of Type and Length.
const HEADER: usize = 4;

/// An option.
#[derive(Debug, Serialize)]
pub(super) struct DecodedOption {
    /// Type without the critical bit.
    #[serde(rename = "type")]
    option_type: u16,
    name: Option<&'static str>,
    critical: bool,
    /// Octets of the contents, as the option says.
    length: u16,
    /// Where it starts, from the Next Header octet on.
    offset: usize,
    contents: Contents,
    /// Octets that fill it up, if they are not all zero as they should be. A receiver does not look.
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<Value>,
    #[serde(skip)]
    remarks: Vec<&'static str>,
}

/// What an option carries.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Contents {
    Fields(Fields),
    /// Of a type that is not known, or not what its type asks for.
    Octets(Value),
}

/// The options from `start` on, and the octets left that are too few for an option's header.
pub(super) fn read(message_type: MessageType, message: &[u8], start: usize) -> (Vec<DecodedOption>, &[u8]) {
    let mut options = Vec::new();
    let mut offset = start;
    while let Some(rest @ [t0, t1, l0, l1, ..]) = message.get(offset..) {
        let type_and_critical = u16::from_be_bytes([*t0, *t1]);
        let option_type = OptionType(type_and_critical >> 1);
        let length = u16::from_be_bytes([*l0, *l1]);
        let whole = padded_len(length.into());
        let contents = rest.get(HEADER..HEADER + usize::from(length));
        let mut remarks = Vec::new();
        let decoded = contents.and_then(|contents| fitting(option_type, contents));
        if rest.len() < whole {
            remarks.push("reaches past the message");
        } else if decoded.is_none() && option_type.name().is_some() {
            remarks.push("malformed");
        }
        if option_type.name().is_none() {
            remarks.push("unknown");
        } else if !message_type.options().contains(&option_type) {
            remarks.push("not defined for this message");
        }
        options.push(DecodedOption {
            option_type: option_type.0,
            name: option_type.name(),
            critical: type_and_critical & 1 != 0,
            length,
            offset,
            contents: match decoded {
                Some(fields) => Contents::Fields(fields),
                None => Contents::Octets(Value::Octets(contents.unwrap_or(&rest[HEADER..]).to_vec())),
            },
            padding: padding(rest, HEADER + usize::from(length), whole),
            remarks,
        });
        offset = (offset + whole).min(message.len());
    }
    (options, message.get(offset..).unwrap_or_default())
}

fn padding(option: &[u8], start: usize, end: usize) -> Option<Value> {
    let padding = option.get(start..end)?;
    let is_noteworthy = padding.iter().any(|octet| *octet != 0);
    is_noteworthy.then(|| Value::Octets(padding.to_vec()))
}

impl DecodedOption {
    pub(super) fn write(&self, text: &mut String) {
        let name = match self.name {
            Some(name) => format!("{name} ({})", self.option_type),
            None => format!("type {}", self.option_type),
        };
        let _ = write!(
            text,
            "  option at octet {}: {name}, C={}, Length {}",
            self.offset,
            u8::from(self.critical),
            self.length
        );
        if !self.remarks.is_empty() {
            let _ = write!(text, ": {}", self.remarks.join(", "));
        }
        text.push('\n');
        let mut more = Fields::default();
        match &self.contents {
            Contents::Fields(fields) => fields.write(4, text),
            Contents::Octets(octets) => more.add("contents", octets.clone()),
        }
        if let Some(padding) = &self.padding {
            more.add_noted("padding", padding.clone(), "ignored");
        }
        more.write(4, text);
    }
}

/// The fields of contents that are what their type asks for.
fn fitting(option_type: OptionType, contents: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    match option_type {
        OptionType::RESPONDER_VALIDATOR => fields.add("validator", Value::Octets(contents.to_vec())),
        OptionType::LOCATOR_LIST => return locator_list(contents),
        OptionType::LOCATOR_PREFERENCES => return locator_preferences(contents),
        OptionType::CGA_PARAMETERS => cga_parameters(contents, &mut fields),
        OptionType::CGA_SIGNATURE => fields.add("signature", Value::Octets(contents.to_vec())),
        OptionType::ULID_PAIR => {
            let (reserved, ulids) = contents.split_first_chunk()?;
            let (ulids, []) = ulids.as_chunks::<16>() else {
                return None;
            };
            let [sender, receiver] = ulids else { return None };
            fields.add("reserved2", Value::Number(u32::from_be_bytes(*reserved).into()));
            fields.add("sender_ulid", Value::Address(Ipv6Addr::from(*sender)));
            fields.add("receiver_ulid", Value::Address(Ipv6Addr::from(*receiver)));
        }
        OptionType::FORKED_INSTANCE => {
            let instance = u32::from_be_bytes(contents.try_into().ok()?);
            fields.add("forked_instance", Value::Number(instance.into()));
        }
        OptionType::KEEPALIVE_TIMEOUT => {
            let [a, b, c, d] = contents.try_into().ok()?;
            fields.add("reserved", Value::Number(u16::from_be_bytes([a, b]).into()));
            let seconds = Value::Number(u16::from_be_bytes([c, d]).into());
            fields.add_noted("keepalive_timeout", seconds, "s");
        }
        OptionType::KEEPALIVE_TIMEOUT_MS => {
            let milliseconds = u32::from_be_bytes(contents.try_into().ok()?);
            fields.add_noted("keepalive_timeout_ms", Value::Number(milliseconds.into()), "ms");
        }
        _ => return None,
    }
    Some(fields)
}

fn locator_list(contents: &[u8]) -> Option<Fields> {
    let ([generation @ .., count], rest) = contents.split_first_chunk::<5>()?;
    let (methods, rest) = rest.split_at_checked(usize::from(*count))?;
    // Up to a multiple of 8 from the start of the option.
    let before = HEADER + 5 + methods.len();
    let (padding, locators) = rest.split_at_checked(before.next_multiple_of(8) - before)?;
    let (locators, []) = locators.as_chunks::<16>() else {
        return None;
    };
    if locators.len() != methods.len() {
        return None;
    }
    let mut fields = Fields::default();
    fields.add("generation", Value::Hex(u32::from_be_bytes(*generation).into(), 8));
    fields.add("num_locators", Value::Number((*count).into()));
    let locator = |(method, locator): (&u8, &[u8; 16])| {
        let mut fields = Fields::default();
        let name = VerificationMethod(*method).name().unwrap_or("unknown");
        fields.add_noted("verification_method", Value::Number((*method).into()), name);
        fields.add("locator", Value::Address(Ipv6Addr::from(*locator)));
        fields
    };
    let items = methods.iter().zip(locators).map(locator).collect();
    fields.add("locators", Value::List(items));
    if padding.iter().any(|octet| *octet != 0) {
        fields.add_some("padding", padding);
    }
    Some(fields)
}

fn locator_preferences(contents: &[u8]) -> Option<Fields> {
    let ([generation @ .., element_len], elements) = contents.split_first_chunk::<5>()?;
    let size = usize::from(*element_len);
    if size == 0 || !elements.len().is_multiple_of(size) {
        return None;
    }
    let mut fields = Fields::default();
    fields.add("generation", Value::Hex(u32::from_be_bytes(*generation).into(), 8));
    fields.add("element_len", Value::Number((*element_len).into()));
    let items = elements.chunks_exact(size).map(|element| {
        let mut fields = Fields::default();
        let names = ["flags", "priority", "weight"];
        for (name, octet) in names.into_iter().zip(element) {
            let octet = u64::from(*octet);
            fields.add(
                name,
                if name == "flags" {
                    Value::Hex(octet, 2)
                } else {
                    Value::Number(octet)
                },
            );
        }
        fields.note("flags", flags(PreferenceFlags(element[0])));
        fields.add_some("rest", element.get(names.len()..).unwrap_or_default());
        fields
    });
    fields.add("elements", Value::List(items.collect()));
    Some(fields)
}

fn flags(flags: PreferenceFlags) -> String {
    let known = [(flags.is_broken(), "BROKEN"), (flags.is_transient(), "TRANSIENT")];
    let set: Vec<_> = known
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| name)
        .collect();
    set.join(", ")
}

/// Parameters that are malformed are octets: whether they are right is for the verification to see.
fn cga_parameters(contents: &[u8], fields: &mut Fields) {
    let Ok(parameters) = CgaParametersRef::parse(contents) else {
        return fields.add("parameters", Value::Octets(contents.to_vec()));
    };
    let prefix = parameters.subnet_prefix().to_address(0);
    fields.add("modifier", Value::Octets(contents[..16].to_vec()));
    fields.add_noted("subnet_prefix", Value::Address(prefix), "/64");
    fields.add("collision_count", Value::Number(parameters.collision_count().into()));
    fields.add("public_key", Value::Octets(parameters.public_key().to_vec()));
    fields.add("extensions", Value::Octets(parameters.extension_octets().to_vec()));
    if let Some(multi_prefix) = parameters.multi_prefix() {
        let prefix = |prefix: shim6_cga::SubnetPrefix| {
            let mut fields = Fields::default();
            fields.add_noted("subnet_prefix", Value::Address(prefix.to_address(0)), "/64");
            fields
        };
        fields.add(
            "multi_prefix",
            Value::List(multi_prefix.prefixes().map(prefix).collect()),
        );
    }
}
