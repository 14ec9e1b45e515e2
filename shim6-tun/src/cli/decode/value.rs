//! Fields: a name, a value, and a word on it for people.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use serde::{Serialize, Serializer};

use crate::identity::hex;

/// Columns of a field's name and the blanks behind it.
const NAME_WIDTH: usize = 24;

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A number that people read in decimal.
    Number(u64),
    /// A number that people read in hexadecimal, with this many digits. A number like others in JSON.
    Hex(u64, usize),
    Flag(bool),
    Address(Ipv6Addr),
    /// Octets without further meaning here: hexadecimal digits.
    Octets(Vec<u8>),
    /// A row of things of one kind.
    List(Vec<Fields>),
    /// What cannot be told.
    Unknown,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) | Self::Hex(number, _) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Address(address) => address.serialize(serializer),
            Self::Octets(octets) => serializer.serialize_str(&hex::encode(octets)),
            Self::List(items) => items.serialize(serializer),
            Self::Unknown => serializer.serialize_none(),
        }
    }
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// The name in the RFC's figure, in lower case with underscores.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) value: Value,
    /// What it means; not in JSON.
    pub(super) note: String,
    /// A field that only JSON has: for people it is in the note of another.
    hidden: bool,
}

/// Fields in the order of the octets; an object in JSON.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fields(Vec<Field>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|field| (field.name, &field.value)))
    }
}

impl Fields {
    pub(super) fn add(&mut self, name: &'static str, value: Value) {
        self.add_noted(name, value, String::new());
    }

    pub(super) fn add_noted(&mut self, name: &'static str, value: Value, note: impl Into<String>) {
        self.0.push(Field {
            name,
            value,
            note: note.into(),
            hidden: false,
        });
    }

    /// Adds what the note of another field tells people.
    pub(super) fn add_hidden(&mut self, name: &'static str, value: Value) {
        self.0.push(Field {
            name,
            value,
            note: String::new(),
            hidden: true,
        });
    }

    /// Adds octets if there are any.
    pub(super) fn add_some(&mut self, name: &'static str, octets: &[u8]) {
        if !octets.is_empty() {
            self.add(name, Value::Octets(octets.to_vec()));
        }
    }

    /// The number in the field of this name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.0.iter().find(|field| field.name == name)?.value {
            Value::Number(number) | Value::Hex(number, _) => Some(number),
            _ => None,
        }
    }

    /// The field of this name, to put a note on it.
    pub(super) fn note(&mut self, name: &str, note: impl Into<String>) {
        if let Some(field) = self.0.iter_mut().find(|field| field.name == name) {
            field.note = note.into();
        }
    }

    /// A line for each field.
    pub(super) fn write(&self, indent: usize, text: &mut String) {
        for field in self.0.iter().filter(|field| !field.hidden) {
            if let Value::List(items) = &field.value {
                for (number, item) in (1..).zip(items) {
                    // One of the locators is a locator.
                    let name = words(field.name.strip_suffix('s').unwrap_or(field.name));
                    let _ = writeln!(text, "{:indent$}{name} {number}", "");
                    item.write(indent + 2, text);
                }
                continue;
            }
            let width = NAME_WIDTH.saturating_sub(indent);
            let name = words(field.name);
            let note = match field.note.as_str() {
                "" => String::new(),
                note => format!("  {note}"),
            };
            let _ = writeln!(text, "{:indent$}{name:width$}  {}{note}", "", shown(&field.value));
        }
    }
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Hex(number, digits) => format!("{number:#0width$x}", width = digits + 2),
        Value::Flag(flag) => flag.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Octets(octets) if octets.is_empty() => "none".to_owned(),
        Value::Octets(octets) => hex::encode(octets),
        // Lists have lines of their own.
        Value::List(items) => items.len().to_string(),
        Value::Unknown => "?".to_owned(),
    }
}
