//! Octets written out by hand from the figures. What the stack emits is read in the integration tests.

use super::*;

/// With its checksum filled in, by arithmetic of this test's own.
fn sealed(octets: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets[4..6].fill(0);
    let sum: u32 = octets
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    octets
}

const KEEPALIVE: [u8; 16] = [
    59,
    1,
    66,
    0b1010_1010,
    0,
    0,
    0x92,
    0x34,
    0x56,
    0x78,
    0x9a,
    0xbc,
    0xde,
    0xad,
    0xbe,
    0xef,
];

#[test]
fn reserved_bits_and_the_bits_beside_them_are_told_apart() {
    let reading = read(&sealed(&KEEPALIVE)).expect("a reading");
    for (name, value) in [
        ("next_header", 59),
        ("hdr_ext_len", 1),
        ("p", 0),
        ("type", 66),
        ("type_specific", 0b101_0101),
        ("s", 0),
        ("r", 1),
        ("receiver_context_tag", 0x1234_5678_9abc),
        ("reserved2", 0xdead_beef),
    ] {
        assert_eq!(reading.number(name), Some(value), "{name}");
    }
    assert_eq!(reading.len, 16);
    assert!(reading.checksum_is_right());
}

#[test]
fn wrong_checksum_is_told_and_no_error() {
    let mut octets = sealed(&KEEPALIVE);
    octets[15] ^= 1;
    assert!(!read(&octets).expect("a reading").checksum_is_right());
}

#[test]
fn what_follows_a_header_is_not_part_of_it() {
    let mut octets = sealed(&KEEPALIVE);
    let alone = read(&octets);
    octets.extend_from_slice(&[0xff; 24]);
    assert_eq!(read(&octets), alone);
}

#[test]
fn payload_header_has_no_checksum() {
    let reading = read(&[6, 0, 0x92, 0x34, 0x56, 0x78, 0x9a, 0xbc, 1, 2, 3]).expect("a reading");
    assert_eq!(
        reading.fields,
        [
            ("next_header", 6u8.into()),
            ("hdr_ext_len", 0u8.into()),
            ("p", 1u8.into()),
            ("receiver_context_tag", 0x1234_5678_9abcu64.into()),
        ]
    );
    assert!(reading.checksum_is_right());
}

#[test]
fn unknown_option_is_shown_as_octets_with_its_padding() {
    let mut octets = KEEPALIVE.to_vec();
    octets[1] = 2;
    octets.extend_from_slice(&[0x00, 0x11, 0x00, 0x01, 0xaa, 1, 2, 3]);
    let reading = read(&octets).expect("a reading");
    assert_eq!(reading.number("option.type"), Some(8));
    assert_eq!(reading.number("option.critical"), Some(1));
    assert_eq!(reading.get("option.contents"), Some(&Value::Octets(vec![0xaa])));
    assert_eq!(reading.get("option.padding"), Some(&Value::Octets(vec![1, 2, 3])));
}

#[test]
fn second_tag_of_i2bis_is_told_apart_from_the_49_reserved_bits_before_it() {
    let mut octets = vec![59, 3, 6, 0, 0, 0, 0x00, 0x34, 0x56, 0x78, 0x9a, 0xbc];
    octets.extend_from_slice(&[1; 4]);
    octets.extend_from_slice(&[2; 4]);
    octets.extend_from_slice(&[0x80, 0, 0, 0, 0, 1, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54]);
    let reading = read(&sealed(&octets)).expect("a reading");
    assert_eq!(reading.number("reserved2"), Some(0x1_0000_0000_0003));
    assert_eq!(reading.number("packet_context_tag"), Some(0x7edc_ba98_7654));
    assert!(reading.checksum_is_right());
}

#[test]
fn elements_of_preferences_are_split_by_their_length() {
    let mut octets = vec![59, 3, 64, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    octets.extend_from_slice(&[0, 6, 0, 9, 0, 0, 0, 7, 4, 1, 2, 3, 0xff, 0, 0, 0]);
    let value = |element_len: u8, name: &str| {
        let mut octets = octets.clone();
        octets[24] = element_len;
        read(&octets).ok().and_then(|reading| reading.get(name).cloned())
    };
    assert_eq!(value(4, "locator_preferences.generation"), Some(7u8.into()));
    assert_eq!(value(4, "locator_preferences.weight"), Some(3u8.into()));
    assert_eq!(value(4, "locator_preferences.rest"), Some(Value::Octets(vec![0xff])));
    assert_eq!(value(2, "locator_preferences.priority"), Some(2u8.into()));
    assert_eq!(value(2, "locator_preferences.weight"), None);
    let contents = |element_len| Some(Value::Octets(vec![0, 0, 0, 7, element_len, 1, 2, 3, 0xff]));
    assert_eq!(value(0, "option.contents"), contents(0));
    assert_eq!(value(3, "option.contents"), contents(3));
}

#[test]
fn truncations_and_unknown_types_are_errors() {
    for octets in 0..KEEPALIVE.len() {
        assert!(
            matches!(read(&KEEPALIVE[..octets]), Err(ReadError::Short(_))),
            "{octets} octets"
        );
    }
    let mut unknown = KEEPALIVE;
    unknown[2] = 9;
    assert_eq!(read(&unknown), Err(ReadError::MessageType(9)));
    let mut option = KEEPALIVE.to_vec();
    option[1] = 2;
    option.extend_from_slice(&[0, 14, 0, 5, 1, 2, 3, 4]);
    assert_eq!(read(&option), Err(ReadError::Short("an option")));
}

#[test]
fn option_that_does_not_fit_its_figure_is_shown_as_octets() {
    let mut option = KEEPALIVE.to_vec();
    option[1] = 2;
    option.extend_from_slice(&[0, 14, 0, 3, 1, 2, 3, 0]);
    let contents = |octets: &[u8]| {
        read(octets)
            .ok()
            .and_then(|reading| reading.get("option.contents").cloned())
    };
    assert_eq!(contents(&option), Some(Value::Octets(vec![1, 2, 3])));
    // A Locator List whose locators would start at octet 12 of the option.
    let mut list = KEEPALIVE.to_vec();
    list[1] = 5;
    list.extend_from_slice(&[0, 4, 0, 24, 0, 0, 0, 1, 1, 1, 0, 0]);
    list.resize(48, 0);
    assert_eq!(contents(&list), Some(Value::Octets(list[20..44].to_vec())));
}
