//! The options (RFC 5533 section 5.15, RFC 5534 section 5.3).

use std::net::Ipv6Addr;

use pnet_macros_support::packet::Packet as _;

use super::figure::{
    KeepaliveTimeoutPacket, LocatorListPacket, LocatorPreferencesPacket, NumberPacket, OptionHeaderPacket,
    UlidPairPacket, append,
};
use super::{Field, ReadError};

/// Octets of Type and Length.
const HEADER: usize = 4;

/// Appends the fields of the options that fill `octets`.
pub(super) fn read(octets: &[u8], fields: &mut Vec<Field>) -> Result<(), ReadError> {
    let mut rest = octets;
    while !rest.is_empty() {
        let header = OptionHeaderPacket::new(rest).ok_or(ReadError::Short("the header of an option"))?;
        append!(fields, header: "option.type" = get_option_type, "option.critical" = get_critical,
            "option.length" = get_length);
        // The RFC's own formula for the total length.
        let length = usize::from(header.get_length());
        let total = 11 + length - (length + 3) % 8;
        let option = rest.get(..total).ok_or(ReadError::Short("an option"))?;
        contents(header.get_option_type(), &option[HEADER..HEADER + length], fields);
        let padding = &option[HEADER + length..];
        if !padding.is_empty() {
            fields.push(("option.padding", padding.into()));
        }
        rest = &rest[total..];
    }
    Ok(())
}

/// Contents that do not fit the figure of their type are shown as octets, as are those of a type without a figure.
fn contents(option_type: u16, contents: &[u8], fields: &mut Vec<Field>) {
    match fitting(option_type, contents) {
        Some(fitting) => fields.extend(fitting),
        None => fields.push(("option.contents", contents.into())),
    }
}

fn fitting(option_type: u16, contents: &[u8]) -> Option<Vec<Field>> {
    let expect = |length: usize| (contents.len() == length).then_some(());
    let mut fields = Vec::new();
    match option_type {
        1 => fields.push(("responder_validator", contents.into())),
        2 => return locator_list(contents),
        3 => return locator_preferences(contents),
        4 => fields.push(("cga_parameters", contents.into())),
        5 => fields.push(("cga_signature", contents.into())),
        6 => {
            expect(36)?;
            let pair = UlidPairPacket::new(contents)?;
            append!(fields, pair: "ulid_pair.reserved2" = get_reserved2, "ulid_pair.sender" = get_sender,
                "ulid_pair.receiver" = get_receiver);
        }
        7 => {
            expect(4)?;
            let instance = NumberPacket::new(contents)?;
            append!(fields, instance: "forked_instance" = get_number);
        }
        10 => {
            expect(4)?;
            let timeout = KeepaliveTimeoutPacket::new(contents)?;
            append!(fields, timeout: "keepalive_timeout.reserved" = get_reserved,
                "keepalive_timeout" = get_keepalive_timeout);
        }
        21302 => {
            expect(4)?;
            let timeout = NumberPacket::new(contents)?;
            append!(fields, timeout: "keepalive_timeout_ms" = get_number);
        }
        _ => return None,
    }
    Some(fields)
}

/// The list's locators are its last octets; what lies between the methods and them is padding.
fn locator_list(contents: &[u8]) -> Option<Vec<Field>> {
    let list = LocatorListPacket::new(contents)?;
    let mut fields = Vec::new();
    append!(fields, list: "locator_list.generation" = get_generation,
        "locator_list.num_locators" = get_num_locators);
    let count = usize::from(list.get_num_locators());
    let (methods, rest) = list.payload().split_at_checked(count)?;
    let (padding, locators) = rest.split_at_checked(rest.len().checked_sub(16 * count)?)?;
    // The padding is there only to bring the locators to a multiple of 8 octets from the option's start.
    let before = HEADER + LocatorListPacket::minimum_packet_size() + count;
    if padding.len() > 7 || !(before + padding.len()).is_multiple_of(8) {
        return None;
    }
    fields.extend(
        methods
            .iter()
            .map(|&method| ("locator_list.verification_method", method.into())),
    );
    if !padding.is_empty() {
        fields.push(("locator_list.padding", padding.into()));
    }
    for locator in locators.chunks_exact(16) {
        let octets: [u8; 16] = locator.try_into().ok()?;
        fields.push(("locator_list.locator", Ipv6Addr::from(octets).into()));
    }
    Some(fields)
}

/// Elements of 1, 2, 3 and more octets start alike: flags, priority, weight. What follows in longer ones has no name.
fn locator_preferences(contents: &[u8]) -> Option<Vec<Field>> {
    let preferences = LocatorPreferencesPacket::new(contents)?;
    let mut fields = Vec::new();
    append!(fields, preferences: "locator_preferences.generation" = get_generation,
        "locator_preferences.element_len" = get_element_len);
    let element_len = usize::from(preferences.get_element_len());
    if element_len == 0 || !preferences.payload().len().is_multiple_of(element_len) {
        return None;
    }
    for element in preferences.payload().chunks_exact(element_len) {
        let names = [
            "locator_preferences.flags",
            "locator_preferences.priority",
            "locator_preferences.weight",
        ];
        fields.extend(
            names
                .into_iter()
                .zip(element)
                .map(|(name, &octet)| (name, octet.into())),
        );
        if let Some(rest @ [_, ..]) = element.get(names.len()..) {
            fields.push(("locator_preferences.rest", rest.into()));
        }
    }
    Some(fields)
}
