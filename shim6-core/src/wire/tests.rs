//! What holds for every message: the order of the checks, the lengths, what is reported.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use hex_literal::hex;

use super::*;

/// Checks hand-written octets against the message that they are, both ways, with every truncation
/// and every flipped bit.
pub(super) fn assert_golden(octets: &[u8], message: Message) {
    assert_eq!(Message::parse(octets), Ok(message.clone()));
    assert_eq!(message.buffer_len(), octets.len());
    let mut buffer = vec![0xff; octets.len() + 8];
    assert_eq!(message.emit(&mut buffer), Ok(octets.len()));
    assert_eq!(&buffer[..octets.len()], octets);
    assert_eq!(
        &buffer[octets.len()..],
        [0xff; 8],
        "octets after the message are left alone"
    );

    for length in 0..octets.len() {
        let truncated = &octets[..length];
        let expected = match length {
            0..8 => ParseError::Truncated { octets: length },
            _ => ParseError::LengthPastEnd {
                length: octets.len(),
                octets: length,
            },
        };
        assert_eq!(Message::parse(truncated), Err(expected));
        let error = EmitError::BufferTooSmall {
            needed: octets.len(),
            octets: length,
        };
        assert_eq!(message.emit(&mut buffer[..length]), Err(error));
    }
    for bit in 0..8 * octets.len() {
        let mut flipped = octets.to_vec();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        assert!(Message::parse(&flipped).is_err(), "bit {bit} flipped");
    }
}

/// The same octets with the right Hdr Ext Len and checksum.
pub(super) fn sealed(octets: &[u8]) -> Vec<u8> {
    assert!(octets.len() >= 8 && octets.len().is_multiple_of(8));
    let mut sealed = octets.to_vec();
    sealed[1] = (octets.len() / 8 - 1) as u8;
    sealed[4..6].fill(0);
    let sum = checksum(&sealed);
    sealed[4..6].copy_from_slice(&sum.to_be_bytes());
    sealed
}

/// The announcement in the golden messages: each of its options.
pub(super) fn announcement() -> Announcement {
    let locator = |net, host| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host);
    let preference = |flags, priority, weight| Preference {
        flags,
        priority,
        weight,
    };
    Announcement {
        locators: Some(LocatorList {
            generation: 0x89ab_cdef,
            locators: vec![
                (VerificationMethod::HBA, locator(0xa1, 0xaa)),
                (VerificationMethod::CGA, locator(0xb2, 0xbb)),
            ],
        }),
        preferences: Some(LocatorPreferences {
            generation: 0x89ab_cdef,
            element_len: 3,
            elements: vec![
                preference(PreferenceFlags::BROKEN, 5, 7),
                preference(PreferenceFlags(0x82), 0, 3),
            ],
        }),
        cga_parameters: Some((1..=13).collect()),
        cga_signature: Some(hex!("515253545556").to_vec()),
        keepalive_timeout: Some(300),
        keepalive_timeout_ms: Some(300),
    }
}

const I1_OCTETS: [u8; 16] = hex!("3b 01 01 00 22f8 123456789abc deadbeef");

pub(super) fn parse_error(octets: &[u8]) -> ParseError {
    Message::parse(octets).expect_err("the octets are faulty")
}

fn message_with_type(message_type: u8, octets: usize) -> Vec<u8> {
    let mut message = vec![0; octets];
    message[2] = message_type;
    sealed(&message)
}

#[test]
fn octets_after_the_message_are_ignored() {
    let octets = [&I1_OCTETS[..], &[0xff; 33]].concat();
    assert_eq!(Message::parse(&octets), Message::parse(&I1_OCTETS));
    assert_eq!(classify(&octets), Ok(PacketKind::Control(&I1_OCTETS)));
}

#[test]
fn classify_looks_at_lengths_only() {
    let mut octets = I1_OCTETS;
    octets[4] ^= 1;
    assert_eq!(classify(&octets), Ok(PacketKind::Control(&octets)));
    let past = ParseError::LengthPastEnd { length: 16, octets: 15 };
    assert_eq!(classify(&octets[..15]), Err(past));
    assert_eq!(classify(&[]), Err(ParseError::Truncated { octets: 0 }));
}

#[test]
fn payload_header_is_not_a_control_message() {
    let octets = hex!("06 00 92 34 56 78 9a bc");
    assert_eq!(parse_error(&octets), ParseError::NotControl);
}

#[test]
fn faults_are_found_in_a_fixed_order() {
    // Everything is wrong with this one; each step mends what was found.
    let mut octets = vec![0x3b, 1, 0x7f, 0xff, 0, 0, 0, 0];
    let past = ParseError::LengthPastEnd { length: 16, octets: 8 };
    assert_eq!(parse_error(&octets), past);
    octets[1] = 0;
    assert_eq!(parse_error(&octets), ParseError::BadChecksum);
    octets = sealed(&octets);
    assert_eq!(parse_error(&octets), ParseError::SBitSet);
    octets[3] = 0xfe;
    octets = sealed(&octets);
    assert_eq!(parse_error(&octets), ParseError::UnknownMessageType(MessageType(0x7f)));
    octets[2] = 1;
    octets = sealed(&octets);
    let message_type = MessageType::I1;
    let below = ParseError::BelowMinimumLength {
        message_type,
        hdr_ext_len: 0,
    };
    assert_eq!(parse_error(&octets), below);
    octets.extend([0; 8]);
    octets.extend(hex!("0010 0005 01020304"));
    octets = sealed(&octets);
    assert_eq!(parse_error(&octets), ParseError::OptionPastEnd { offset: 16 });
}

/// Each type with the octets of its fixed part: RFC 5533 sections 5.4 to 5.11 and 5.14, RFC 5534 sections 5.1 and 5.2
/// with the one record that must be there.
const MINIMUM: [(u8, usize); 11] = [
    (1, 16),
    (2, 16),
    (3, 24),
    (4, 16),
    (5, 16),
    (6, 32),
    (64, 16),
    (65, 16),
    (66, 16),
    (67, 56),
    (68, 16),
];

#[test]
fn each_type_has_its_minimum_length() {
    for (message_type, minimum) in MINIMUM {
        for octets in (8..minimum).step_by(8) {
            let error = ParseError::BelowMinimumLength {
                message_type: MessageType(message_type),
                hdr_ext_len: (octets / 8 - 1) as u8,
            };
            assert_eq!(parse_error(&message_with_type(message_type, octets)), error);
        }
        let at_minimum = Message::parse(&message_with_type(message_type, minimum));
        let too_short = matches!(at_minimum, Err(ParseError::BelowMinimumLength { .. }));
        assert!(!too_short, "type {message_type}");
    }
}

#[test]
fn types_that_we_cannot_read_are_unknown() {
    for message_type in (0..=127).filter(|message_type| MINIMUM.iter().all(|(known, _)| known != message_type)) {
        let error = ParseError::UnknownMessageType(MessageType(message_type));
        assert_eq!(parse_error(&message_with_type(message_type, 64)), error);
    }
}

/// The types of the options that RFC 5533 sections 5.4 to 5.11 and RFC 5534 section 5.3 list for a message, and ours.
fn listed(message_type: u8) -> &'static [u16] {
    match message_type {
        1 => &[6, 7],
        2 | 5 => &[1],
        3 | 6 => &[1, 2, 3, 4, 5, 6, 7, 10, 21302],
        4 | 64 => &[2, 3, 4, 5, 10, 21302],
        _ => &[],
    }
}

/// Well-formed contents for each type of option.
fn contents(option_type: u16) -> Vec<u8> {
    match option_type {
        2 => [&hex!("00000001 01 01 00000000000000")[..12], &[0; 16]].concat(),
        3 => hex!("00000001 01 00").to_vec(),
        6 => vec![0; 36],
        7 | 10 | 21302 => vec![0; 4],
        _ => vec![1, 2, 3],
    }
}

/// The shortest message of a type, with the option of this type and C bit at its end, and where that option starts.
fn message_with_option(message_type: u8, minimum: usize, option_type: u16, critical: bool) -> (Vec<u8>, usize) {
    let mut octets = vec![0; minimum];
    octets[2] = message_type;
    // A Probe has one sent record; R1, I2, R1bis and I2bis a validator.
    octets[12] = u8::from(message_type == 67);
    if listed(message_type).contains(&1) && option_type != 1 {
        octets.extend(hex!("0002 0001 aa000000"));
    }
    let offset = octets.len();
    let contents = contents(option_type);
    octets.extend((option_type << 1 | u16::from(critical)).to_be_bytes());
    octets.extend((contents.len() as u16).to_be_bytes());
    octets.extend(contents);
    octets.resize(octets.len().next_multiple_of(8), 0);
    (sealed(&octets), offset)
}

#[test]
fn critical_bit_decides_about_each_option_that_is_not_listed_for_its_message() {
    for (message_type, minimum) in MINIMUM.into_iter().filter(|(message_type, _)| *message_type != 68) {
        for option_type in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 21302, 0x7fff] {
            let what = (message_type, option_type);
            let (ignorable, _) = message_with_option(message_type, minimum, option_type, false);
            let (critical, offset) = message_with_option(message_type, minimum, option_type, true);
            assert!(View::parse(&ignorable).is_ok(), "{what:?} with C=0");
            let refused = ParseError::UnknownCriticalOption {
                option_type: OptionType(option_type),
                offset,
            };
            match View::parse(&critical) {
                Ok(_) => assert!(listed(message_type).contains(&option_type), "{what:?} with C=1"),
                Err(error) => {
                    assert!(
                        !listed(message_type).contains(&option_type),
                        "{what:?} with C=1: {error}"
                    );
                    assert_eq!(error, refused, "{what:?}");
                    assert_eq!(error.error_report(), Some((ErrorCode::CRITICAL_OPTION, offset)));
                }
            }
        }
    }
}

#[test]
fn listed_options_are_given_and_others_are_not() {
    for (message_type, minimum) in MINIMUM.into_iter().filter(|(message_type, _)| *message_type != 68) {
        for option_type in [1, 2, 3, 4, 5, 6, 7, 10, 21302] {
            let (octets, _) = message_with_option(message_type, minimum, option_type, false);
            let view = View::parse(&octets).expect("a message");
            assert_eq!(view.options().is_some(), !listed(message_type).is_empty());
            let Some(options) = view.options() else { continue };
            let given = match option_type {
                1 => options.responder_validator.is_some(),
                2 => options.locators.is_some(),
                3 => options.preferences.is_some(),
                4 => options.cga_parameters.is_some(),
                5 => options.cga_signature.is_some(),
                6 => options.ulid_pair.is_some(),
                7 => options.forked_instance.is_some(),
                10 => options.keepalive_timeout.is_some(),
                _ => options.keepalive_timeout_ms.is_some(),
            };
            let listed = listed(message_type).contains(&option_type);
            assert_eq!(given, listed, "type {message_type}, option {option_type}");
            let defined = MessageType(message_type).options().contains(&OptionType(option_type));
            assert_eq!(defined, listed, "type {message_type}, option {option_type}");
        }
    }
}

#[test]
fn only_unknown_types_and_critical_options_are_reported() {
    let unknown = parse_error(&message_with_type(9, 16));
    assert_eq!(unknown.error_report(), Some((ErrorCode::UNKNOWN_MESSAGE_TYPE, 2)));

    let octets = [&I1_OCTETS[..], &hex!("0010 0000 00000000 0013 0000 00000000")].concat();
    let critical = parse_error(&sealed(&octets));
    assert_eq!(critical.error_report(), Some((ErrorCode::CRITICAL_OPTION, 24)));
    assert_eq!(octets[24..26], hex!("0013"));

    for silent in [
        ParseError::BadChecksum,
        ParseError::SBitSet,
        ParseError::DuplicateOption(OptionType::ULID_PAIR),
        ParseError::LengthPastEnd { length: 16, octets: 8 },
    ] {
        assert_eq!(silent.error_report(), None);
    }
}

#[test]
fn each_fault_of_the_octets_has_its_own_counter() {
    let option_type = OptionType(1);
    let message_type = MessageType(1);
    let errors = [
        ParseError::Truncated { octets: 0 },
        ParseError::NotControl,
        ParseError::NotPayload,
        ParseError::PayloadHeaderLength { hdr_ext_len: 1 },
        ParseError::LengthPastEnd { length: 16, octets: 8 },
        ParseError::BadChecksum,
        ParseError::SBitSet,
        ParseError::UnknownMessageType(message_type),
        ParseError::BelowMinimumLength {
            message_type,
            hdr_ext_len: 0,
        },
        ParseError::OptionPastEnd { offset: 16 },
        ParseError::DuplicateOption(option_type),
        ParseError::MalformedOption(option_type),
        ParseError::MissingOption(option_type),
        ParseError::UnknownCriticalOption {
            option_type,
            offset: 16,
        },
        ParseError::ProbeState,
        ParseError::ProbeCount { sent: 0, received: 0 },
        ParseError::LocatorCount { locators: 1, length: 0 },
        ParseError::ZeroLocators,
        ParseError::ZeroElementLen,
    ];
    let reasons: Vec<_> = errors.iter().map(|error| error.reason()).collect();
    assert_eq!(reasons, Discard::ALL[..errors.len()]);
    assert_eq!(Discard::ALL[errors.len()], Discard::Multicast);
}
