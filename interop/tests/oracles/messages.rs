//! What the stack emits is read field by field by who knows only the figures.

use std::net::Ipv6Addr;

use proptest::{prop_assert, prop_assert_eq, proptest};
use shim6_core::wire::{Announcement, ContextTag, LocatorList, LocatorPreferences, Message, UlidPair, payload};
use shim6_interop::reader::{self, Field, Value};

use crate::strategies::{emitted, one_of_each};

/// The fields that a message should be read as: the values that it was built from, and zeros.
struct Expected {
    fields: Vec<Field>,
}

impl Expected {
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.fields.push((name, value.into()));
    }

    fn tag(&mut self, name: &'static str, tag: ContextTag) {
        self.add("r", 0u8);
        self.add(name, tag.value());
    }

    /// Type, C and Length of an option.
    fn option(&mut self, option_type: u16, length: usize) {
        self.add("option.type", option_type);
        self.add("option.critical", 0u8);
        self.add("option.length", length as u64);
    }

    /// What fills an option of this Length up to a multiple of 8 octets.
    fn padding(&mut self, length: usize) {
        let padding = (4 + length).next_multiple_of(8) - (4 + length);
        if padding > 0 {
            self.add("option.padding", &vec![0u8; padding][..]);
        }
    }

    fn octets(&mut self, option_type: u16, name: &'static str, octets: &[u8]) {
        self.option(option_type, octets.len());
        self.add(name, octets);
        self.padding(octets.len());
    }

    fn ulid_pair(&mut self, pair: Option<UlidPair>) {
        if let Some(pair) = pair {
            self.option(6, 36);
            self.add("ulid_pair.reserved2", 0u8);
            self.add("ulid_pair.sender", pair.sender);
            self.add("ulid_pair.receiver", pair.receiver);
        }
    }

    fn forked_instance(&mut self, instance: Option<u32>) {
        if let Some(instance) = instance {
            self.option(7, 4);
            self.add("forked_instance", instance);
        }
    }

    fn locators(&mut self, list: &Option<LocatorList>) {
        let Some(list) = list else { return };
        let count = list.locators.len();
        let padding = (9 + count).next_multiple_of(8) - (9 + count);
        self.option(2, 5 + count + padding + 16 * count);
        self.add("locator_list.generation", list.generation);
        self.add("locator_list.num_locators", count as u64);
        for (method, _) in &list.locators {
            self.add("locator_list.verification_method", method.0);
        }
        if padding > 0 {
            self.add("locator_list.padding", &vec![0u8; padding][..]);
        }
        for (_, locator) in &list.locators {
            self.add("locator_list.locator", *locator);
        }
    }

    fn announcement(&mut self, announcement: &Announcement) {
        self.locators(&announcement.locators);
        self.preferences(&announcement.preferences);
        self.proof(&announcement.cga_parameters, &announcement.cga_signature);
        self.timeouts(announcement.keepalive_timeout, announcement.keepalive_timeout_ms);
    }

    fn preferences(&mut self, preferences: &Option<LocatorPreferences>) {
        let Some(preferences) = preferences else { return };
        let element_len = usize::from(preferences.element_len);
        let length = 5 + element_len * preferences.elements.len();
        self.option(3, length);
        self.add("locator_preferences.generation", preferences.generation);
        self.add("locator_preferences.element_len", preferences.element_len);
        for element in &preferences.elements {
            self.add("locator_preferences.flags", element.flags.0);
            if element_len >= 2 {
                self.add("locator_preferences.priority", element.priority);
            }
            if element_len >= 3 {
                self.add("locator_preferences.weight", element.weight);
            }
            if element_len > 3 {
                self.add("locator_preferences.rest", &vec![0u8; element_len - 3][..]);
            }
        }
        self.padding(length);
    }

    fn proof(&mut self, parameters: &Option<Vec<u8>>, signature: &Option<Vec<u8>>) {
        if let Some(parameters) = parameters {
            self.octets(4, "cga_parameters", parameters);
        }
        if let Some(signature) = signature {
            self.octets(5, "cga_signature", signature);
        }
    }

    fn timeouts(&mut self, seconds: Option<u16>, milliseconds: Option<u32>) {
        if let Some(seconds) = seconds {
            self.option(10, 4);
            self.add("keepalive_timeout.reserved", 0u8);
            self.add("keepalive_timeout", seconds);
        }
        if let Some(milliseconds) = milliseconds {
            self.option(21302, 4);
            self.add("keepalive_timeout_ms", milliseconds);
        }
    }

    fn record(&mut self, names: [&'static str; 4], addresses: [Ipv6Addr; 2], numbers: [u32; 2]) {
        let [source, destination, nonce, data] = names;
        self.add(source, addresses[0]);
        self.add(destination, addresses[1]);
        self.add(nonce, numbers[0]);
        self.add(data, numbers[1]);
    }
}

const SENT: [&str; 4] = ["sent.source", "sent.destination", "sent.nonce", "sent.data"];
const RECEIVED: [&str; 4] = [
    "received.source",
    "received.destination",
    "received.nonce",
    "received.data",
];

/// All fields behind the checksum.
pub(crate) fn expected(message: &Message) -> Vec<Field> {
    let mut all = Expected { fields: Vec::new() };
    match message {
        Message::I1(i1) => {
            all.tag("initiator_context_tag", i1.initiator_context_tag);
            all.add("initiator_nonce", i1.initiator_nonce);
            all.ulid_pair(i1.ulid_pair);
            all.forked_instance(i1.forked_instance);
        }
        Message::R1(r1) => {
            all.add("reserved2", 0u8);
            all.add("initiator_nonce", r1.initiator_nonce);
            all.add("responder_nonce", r1.responder_nonce);
            all.octets(1, "responder_validator", &r1.validator);
        }
        Message::I2(i2) => {
            all.tag("initiator_context_tag", i2.initiator_context_tag);
            all.add("initiator_nonce", i2.initiator_nonce);
            all.add("responder_nonce", i2.responder_nonce);
            all.add("reserved2", 0u8);
            all.octets(1, "responder_validator", &i2.validator);
            all.ulid_pair(i2.ulid_pair);
            all.forked_instance(i2.forked_instance);
            all.announcement(&i2.announcement);
        }
        Message::R2(r2) => {
            all.tag("responder_context_tag", r2.responder_context_tag);
            all.add("initiator_nonce", r2.initiator_nonce);
            all.announcement(&r2.announcement);
        }
        Message::R1bis(r1bis) => {
            all.tag("packet_context_tag", r1bis.packet_context_tag);
            all.add("responder_nonce", r1bis.responder_nonce);
            all.octets(1, "responder_validator", &r1bis.validator);
        }
        Message::I2bis(i2bis) => {
            all.tag("initiator_context_tag", i2bis.initiator_context_tag);
            all.add("initiator_nonce", i2bis.initiator_nonce);
            all.add("responder_nonce", i2bis.responder_nonce);
            all.add("reserved2", 0u8);
            all.add("packet_context_tag", i2bis.packet_context_tag.value());
            all.octets(1, "responder_validator", &i2bis.validator);
            all.ulid_pair(i2bis.ulid_pair);
            all.forked_instance(i2bis.forked_instance);
            all.announcement(&i2bis.announcement);
        }
        Message::UpdateRequest(request) => {
            all.tag("receiver_context_tag", request.receiver_context_tag);
            all.add("request_nonce", request.request_nonce);
            all.announcement(&request.announcement);
        }
        Message::UpdateAcknowledgement(acknowledgement) => {
            all.tag("receiver_context_tag", acknowledgement.receiver_context_tag);
            all.add("request_nonce", acknowledgement.request_nonce);
        }
        Message::Keepalive(keepalive) => {
            all.tag("receiver_context_tag", keepalive.receiver_context_tag);
            all.add("reserved2", 0u8);
        }
        Message::Probe(probe) => {
            all.tag("receiver_context_tag", probe.receiver_context_tag);
            all.add("precvd", probe.report.received.len() as u64);
            all.add("psent", probe.report.sent.len() as u64);
            all.add("sta", probe.report.state.bits());
            all.add("reserved2", 0u8);
            for (names, records) in [(SENT, &probe.report.sent), (RECEIVED, &probe.report.received)] {
                for record in records {
                    all.record(names, [record.source, record.destination], [record.nonce, record.data]);
                }
            }
        }
        Message::Error(error) => {
            all.add("pointer", error.pointer);
            // As much as fits 1280 octets with the IPv6 header, at least 8 octets, padded to a multiple of 8.
            let mut packet = error.packet_in_error.clone();
            packet.truncate(1280 - 40 - 8);
            packet.resize(packet.len().next_multiple_of(8).max(8), 0);
            all.add("packet_in_error", &packet[..]);
        }
    }
    all.fields
}

pub(crate) fn type_and_specific(message: &Message) -> (u64, u64) {
    match message {
        Message::I1(_) => (1, 0),
        Message::R1(_) => (2, 0),
        Message::I2(_) => (3, 0),
        Message::R2(_) => (4, 0),
        Message::R1bis(_) => (5, 0),
        Message::I2bis(_) => (6, 0),
        Message::UpdateRequest(_) => (64, 0),
        Message::UpdateAcknowledgement(_) => (65, 0),
        Message::Keepalive(_) => (66, 0),
        Message::Probe(_) => (67, 0),
        Message::Error(error) => (68, error.code.0.into()),
    }
}

proptest! {
    #[test]
    fn messages_are_read_as_what_they_were_built_from(messages in one_of_each()) {
        for message in messages {
            let octets = emitted(&message);
            let reading = reader::read(&octets).map_err(|error| {
                proptest::test_runner::TestCaseError::fail(format!("{error}: {message:?}"))
            })?;
            prop_assert_eq!(reading.len, octets.len());
            prop_assert!(reading.checksum_is_right(), "{:?}", message);
            let (message_type, specific) = type_and_specific(&message);
            let (header, fields) = reading.fields.split_at(7);
            prop_assert_eq!(header, &[
                ("next_header", 59u8.into()),
                ("hdr_ext_len", (octets.len() as u64 / 8 - 1).into()),
                ("p", 0u8.into()),
                ("type", message_type.into()),
                ("type_specific", specific.into()),
                ("s", 0u8.into()),
                ("checksum", reading.checksum.unwrap_or(0).into()),
            ]);
            prop_assert_eq!(fields, expected(&message));
        }
    }

    #[test]
    fn payload_headers_are_read_as_what_they_were_built_from(bits: u64, next_header: u8) {
        let tag = ContextTag::from_random_bits(bits);
        let mut octets = [0xff; payload::LEN];
        payload::emit(tag, next_header, &mut octets);
        let reading = reader::read(&octets).map_err(|error| {
            proptest::test_runner::TestCaseError::fail(error.to_string())
        })?;
        prop_assert_eq!(reading.fields, [
            ("next_header", next_header.into()),
            ("hdr_ext_len", 0u8.into()),
            ("p", 1u8.into()),
            ("receiver_context_tag", tag.value().into()),
        ]);
    }

    /// Whatever the stack takes for a message, the figures have a reading for, with a right checksum.
    #[test]
    fn what_the_stack_accepts_can_be_read(
        messages in one_of_each(),
        damage in proptest::collection::vec(proptest::prelude::any::<(proptest::sample::Index, u8)>(), 1..4),
    ) {
        for message in messages {
            let mut octets = emitted(&message);
            for (position, value) in &damage {
                let at = position.index(octets.len());
                octets[at] = *value;
            }
            octets[4..6].fill(0);
            let length = octets.len().min(8 * (usize::from(octets[1]) + 1));
            let sum = pnet_packet::util::checksum(&octets[..length], 2);
            octets[4..6].copy_from_slice(&sum.to_be_bytes());
            if Message::parse(&octets).is_ok() {
                let reading = reader::read(&octets);
                prop_assert!(reading.is_ok_and(|reading| reading.checksum_is_right()), "{:02x?}", octets);
            }
        }
    }
}
