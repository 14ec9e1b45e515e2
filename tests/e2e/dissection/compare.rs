//! The script's fields and those of `shim6 decode --json`, which must be the same.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shim6_tests::binary;

use super::tshark::{Row, Tshark};

/// The values of fields by their names without the script's prefix. A field without a value is not there.
type Values = BTreeMap<String, Vec<String>>;

/// Fields of octets; all others are numbers, addresses or words.
const OCTETS: [&str; 12] = [
    "packet_in_error",
    "rest",
    "option.contents",
    "option.padding",
    "validator",
    "locator_list.padding",
    "locator_preferences.rest",
    "cga.parameters",
    "cga.modifier",
    "cga.public_key",
    "cga.extensions",
    "signature",
];
const OTHERS: [&str; 53] = [
    "next_header",
    "hdr_ext_len",
    "p",
    "type",
    "reserved1",
    "type_specific",
    "error_code",
    "s",
    "checksum",
    "checksum.status",
    "checksum.expected",
    "r",
    "initiator_context_tag",
    "responder_context_tag",
    "receiver_context_tag",
    "packet_context_tag",
    "initiator_nonce",
    "responder_nonce",
    "request_nonce",
    "reserved2",
    "pointer",
    "octets_after",
    "precvd",
    "psent",
    "sta",
    "sent.source",
    "sent.destination",
    "sent.nonce",
    "sent.data",
    "received.source",
    "received.destination",
    "received.nonce",
    "received.data",
    "option.type",
    "option.critical",
    "option.length",
    "locator_list.generation",
    "locator_list.num_locators",
    "locator_list.verification_method",
    "locator_list.locator",
    "locator_preferences.generation",
    "locator_preferences.element_len",
    "locator_preferences.flags",
    "locator_preferences.priority",
    "locator_preferences.weight",
    "cga.subnet_prefix",
    "cga.collision_count",
    "cga.multi_prefix.subnet_prefix",
    "ulid_pair.reserved2",
    "ulid_pair.sender",
    "ulid_pair.receiver",
    "forked_instance",
    "keepalive_timeout.reserved",
];
const TIMEOUTS: [&str; 3] = ["keepalive_timeout", "keepalive_timeout_ms", "fault"];

/// Compares all Shim6 headers of a capture, and says how many there are.
pub(super) fn compare(tshark: &Tshark, capture: &Path) -> usize {
    let names: Vec<_> = OCTETS.into_iter().chain(OTHERS).chain(TIMEOUTS).collect();
    let full: Vec<_> = names.iter().map(|name| format!("shim6lua.{name}")).collect();
    let fields: Vec<_> = std::iter::once("frame.number")
        .chain(full.iter().map(String::as_str))
        .collect();
    let rows = tshark.script(capture, &fields, &["-Y", "shim6lua", "-o", "shim6lua.quoted:FALSE"]);
    let decoded = decode(capture);
    let packets = |values: &[(u64, Values)]| values.iter().map(|(packet, _)| *packet).collect::<Vec<_>>();
    let scripted: Vec<_> = rows.iter().map(|row| scripted(row, &names)).collect();
    assert_eq!(packets(&scripted), packets(&decoded), "{}", capture.display());
    for ((packet, scripted), (_, decoded)) in scripted.iter().zip(&decoded) {
        for name in decoded.keys() {
            assert!(names.contains(&name.as_str()), "no field for {name}");
        }
        assert_eq!(scripted, decoded, "{}, packet {packet}", capture.display());
    }
    rows.len()
}

/// The number of the packet, and its values in the notation of [`decoded`].
fn scripted(row: &Row, names: &[&str]) -> (u64, Values) {
    let packet = row[0][0].parse().expect("a number");
    let mut values = Values::new();
    for (name, found) in names.iter().zip(&row[1..]) {
        let mut found: Vec<_> = found.iter().map(|value| normal(name, value)).collect();
        // Decoding shows padding only if it is not as it should be.
        if name.ends_with("padding") {
            found.retain(|octets| octets.bytes().any(|digit| digit != b'0'));
        }
        if !found.is_empty() {
            values.insert((*name).to_owned(), found);
        }
    }
    (packet, values)
}

fn normal(name: &str, value: &str) -> String {
    if OCTETS.contains(&name) {
        return value.to_lowercase();
    }
    if let Ok(address) = value.parse::<Ipv6Addr>() {
        return address.to_string();
    }
    let number = value.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    number
        .and_then(Result::ok)
        .map_or(value.to_owned(), |number| number.to_string())
}

fn decode(capture: &Path) -> Vec<(u64, Values)> {
    let output = Command::new(binary::shim6())
        .args(["decode", "--json", "--file"])
        .arg(capture)
        .output()
        .expect("shim6 runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let objects = text.lines().map(|line| serde_json::from_str(line).expect("an object"));
    objects.map(|object: Value| decoded(&object)).collect()
}

fn decoded(object: &Value) -> (u64, Values) {
    let mut values = Values::new();
    for (name, value) in object["fields"].as_object().expect("fields") {
        match (name.as_str(), value) {
            ("checksum_right", Value::Bool(right)) => add(&mut values, "checksum.status", &u8::from(*right).into()),
            ("checksum_right", _) => add(&mut values, "checksum.status", &2.into()),
            ("checksum_expected", Value::Null) => {}
            ("checksum_expected", value) => add(&mut values, "checksum.expected", value),
            (kind, Value::Array(records)) => add_items(&mut values, kind, records),
            (name, value) => add(&mut values, name, value),
        }
    }
    for option in object["options"].as_array().expect("options") {
        add(&mut values, "option.type", &option["type"]);
        add(
            &mut values,
            "option.critical",
            &u8::from(option["critical"] == true).into(),
        );
        add(&mut values, "option.length", &option["length"]);
        match &option["contents"] {
            Value::Object(contents) => contents
                .iter()
                .for_each(|(name, value)| add_content(&mut values, &option["type"], name, value)),
            octets => add(&mut values, "option.contents", octets),
        }
        if let Some(padding) = option.get("padding") {
            add(&mut values, "option.padding", padding);
        }
    }
    if let Some(reason) = object["reason"].as_str() {
        values.insert("fault".to_owned(), vec![reason.to_owned()]);
    }
    (object["packet"].as_u64().expect("a number"), values)
}

fn add_content(values: &mut Values, option_type: &Value, name: &str, value: &Value) {
    let group = match option_type.as_u64() {
        Some(2) => "locator_list.",
        Some(3) => "locator_preferences.",
        Some(4) => "cga.",
        Some(6) => "ulid_pair.",
        Some(10) if name == "reserved" => "keepalive_timeout.",
        _ => "",
    };
    let name = name.strip_suffix("_ulid").unwrap_or(name);
    match value {
        Value::Array(items) if name == "multi_prefix" => add_items(values, "cga.multi_prefix", items),
        Value::Array(items) => add_items(values, group.trim_end_matches('.'), items),
        value => add(values, &format!("{group}{name}"), value),
    }
}

fn add_items(values: &mut Values, group: &str, items: &[Value]) {
    for item in items {
        for (name, value) in item.as_object().expect("an object") {
            add(values, &format!("{group}.{name}"), value);
        }
    }
}

/// Octets of which there are none are no field of Wireshark's.
fn add(values: &mut Values, name: &str, value: &Value) {
    let text = match value {
        Value::String(text) if text.is_empty() => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    values.entry(name.to_owned()).or_default().push(text);
}
