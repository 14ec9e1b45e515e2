//! Messages of every type and with every fault, as they are printed.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value as Json, json};
use shim6_core::reap::{Probe as Report, ProbeRecord, ProbeState};
use shim6_core::wire::{
    Announcement, ContextTag, Discard, Error, ErrorCode, I1, I2, I2bis, Keepalive, LocatorList, LocatorPreferences,
    MAX_MESSAGE, Message, ParseError, Preference, PreferenceFlags, Probe, R1, R1bis, R2, UlidPair,
    UpdateAcknowledgement, UpdateRequest, VerificationMethod, checksum, payload,
};

use super::*;

const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa);
const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 0xbb);
const TAG: u64 = 0x1234_5678_9abc;
const OTHER_TAG: u64 = 0x7edc_ba98_7654;
const NONCE: u32 = 0xdead_beef;
const OTHER_NONCE: u32 = 0xc0ff_ee11;

fn tag(value: u64) -> ContextTag {
    ContextTag::new(value).expect("47 bits")
}

fn announcement() -> Announcement {
    let flags = PreferenceFlags::BROKEN;
    let preference = |priority, weight| Preference {
        flags,
        priority,
        weight,
    };
    Announcement {
        locators: Some(LocatorList {
            generation: 7,
            locators: vec![(VerificationMethod::HBA, A), (VerificationMethod::CGA, B)],
        }),
        preferences: Some(LocatorPreferences::new(7, vec![preference(1, 2), preference(3, 4)])),
        cga_parameters: Some(vec![1, 2, 3]),
        cga_signature: Some(vec![4, 5, 6]),
        keepalive_timeout: Some(15),
        keepalive_timeout_ms: Some(300),
    }
}

fn announced() -> Vec<Json> {
    vec![
        json!({"generation": 7, "num_locators": 2, "locators": [
            {"verification_method": 1, "locator": A}, {"verification_method": 2, "locator": B},
        ]}),
        json!({"generation": 7, "element_len": 3, "elements": [
            {"flags": 1, "priority": 1, "weight": 2}, {"flags": 1, "priority": 3, "weight": 4},
        ]}),
        json!({"parameters": "010203"}),
        json!({"signature": "040506"}),
        json!({"reserved": 0, "keepalive_timeout": 15}),
        json!({"keepalive_timeout_ms": 300}),
    ]
}

fn context_options() -> Vec<Json> {
    vec![
        json!({"validator": "aabb"}),
        json!({"reserved2": 0, "sender_ulid": A, "receiver_ulid": B}),
        json!({"forked_instance": 9}),
    ]
}

fn probe() -> Message {
    let record = |nonce| ProbeRecord {
        source: A,
        destination: B,
        nonce,
        data: 5,
    };
    Message::Probe(Probe {
        receiver_context_tag: tag(TAG),
        report: Report {
            state: ProbeState::Exploring,
            sent: vec![record(1), record(2)],
            received: vec![record(3)],
        },
    })
}

fn i2() -> I2 {
    I2 {
        initiator_context_tag: tag(TAG),
        initiator_nonce: NONCE,
        responder_nonce: OTHER_NONCE,
        validator: vec![0xaa, 0xbb],
        ulid_pair: Some(UlidPair { sender: A, receiver: B }),
        forked_instance: Some(9),
        announcement: announcement(),
    }
}

/// A message of each type.
fn messages() -> Vec<Message> {
    let (i2, receiver_context_tag) = (i2(), tag(TAG));
    vec![
        Message::I1(I1 {
            initiator_context_tag: tag(TAG),
            initiator_nonce: NONCE,
            ulid_pair: i2.ulid_pair,
            forked_instance: Some(9),
        }),
        Message::R1(R1 {
            initiator_nonce: NONCE,
            responder_nonce: OTHER_NONCE,
            validator: vec![0xaa, 0xbb],
        }),
        Message::I2(i2.clone()),
        Message::R2(R2 {
            responder_context_tag: tag(TAG),
            initiator_nonce: NONCE,
            announcement: announcement(),
        }),
        Message::R1bis(R1bis {
            packet_context_tag: tag(TAG),
            responder_nonce: OTHER_NONCE,
            validator: vec![0xaa, 0xbb],
        }),
        Message::I2bis(I2bis {
            initiator_context_tag: tag(TAG),
            initiator_nonce: NONCE,
            responder_nonce: OTHER_NONCE,
            packet_context_tag: tag(OTHER_TAG),
            validator: vec![0xaa, 0xbb],
            ulid_pair: i2.ulid_pair,
            forked_instance: Some(9),
            announcement: announcement(),
        }),
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag,
            request_nonce: NONCE,
            announcement: announcement(),
        }),
        Message::UpdateAcknowledgement(UpdateAcknowledgement {
            receiver_context_tag,
            request_nonce: NONCE,
        }),
        Message::Keepalive(Keepalive { receiver_context_tag }),
        probe(),
        Message::Error(Error {
            code: ErrorCode::CRITICAL_OPTION,
            pointer: 56,
            packet_in_error: vec![0x60, 0, 0, 0, 0, 0, 140, 64],
        }),
    ]
}

/// What [`messages`] hold: the fields behind the checksum, and the contents of the options.
fn expected() -> Vec<(Json, Vec<Json>)> {
    let record = |nonce| json!({"source": A, "destination": B, "nonce": nonce, "data": 5});
    let validator = vec![json!({"validator": "aabb"})];
    let context = context_options();
    vec![
        (
            json!({"r": 0, "initiator_context_tag": TAG, "initiator_nonce": NONCE}),
            context[1..].to_vec(),
        ),
        (
            json!({"reserved2": 0, "initiator_nonce": NONCE, "responder_nonce": OTHER_NONCE}),
            validator.clone(),
        ),
        (
            json!({"r": 0, "initiator_context_tag": TAG, "initiator_nonce": NONCE, "responder_nonce": OTHER_NONCE,
                "reserved2": 0}),
            [context.clone(), announced()].concat(),
        ),
        (
            json!({"r": 0, "responder_context_tag": TAG, "initiator_nonce": NONCE}),
            announced(),
        ),
        (
            json!({"r": 0, "packet_context_tag": TAG, "responder_nonce": OTHER_NONCE}),
            validator,
        ),
        (
            json!({"r": 0, "initiator_context_tag": TAG, "initiator_nonce": NONCE, "responder_nonce": OTHER_NONCE,
                "reserved2": 0, "packet_context_tag": OTHER_TAG}),
            [context, announced()].concat(),
        ),
        (
            json!({"r": 0, "receiver_context_tag": TAG, "request_nonce": NONCE}),
            announced(),
        ),
        (
            json!({"r": 0, "receiver_context_tag": TAG, "request_nonce": NONCE}),
            vec![],
        ),
        (json!({"r": 0, "receiver_context_tag": TAG, "reserved2": 0}), vec![]),
        (
            json!({"r": 0, "receiver_context_tag": TAG, "precvd": 1, "psent": 2, "sta": 1, "reserved2": 0,
                "sent": [record(1), record(2)], "received": [record(3)]}),
            vec![],
        ),
        (json!({"pointer": 56, "packet_in_error": "6000000000008c40"}), vec![]),
    ]
}

fn emitted(message: &Message) -> Vec<u8> {
    let mut octets = vec![0; MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("a message that fits");
    octets.truncate(length);
    octets
}

/// With the right Hdr Ext Len and checksum.
fn sealed(octets: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets.resize(octets.len().next_multiple_of(8), 0);
    octets[1] = (octets.len() / 8 - 1) as u8;
    octets[4..6].fill(0);
    let sum = checksum(&octets);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    octets
}

fn decoded(octets: &[u8]) -> Decoded {
    Decoded::new(octets, IPV6_HEADER, Addresses::default(), true)
}

fn as_json(decoded: &Decoded) -> Json {
    let line = decoded.json(None).expect("JSON");
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
    serde_json::from_str(&line).expect("JSON")
}

/// Verdict, reason, code and pointer.
fn verdict(octets: &[u8]) -> Json {
    let json = as_json(&decoded(octets));
    json!([json["verdict"], json["reason"], json["error_code"], json["pointer"]])
}

#[test]
fn every_field_and_option_of_each_message_is_printed() {
    for (message, (fields, contents)) in messages().iter().zip(expected()) {
        let octets = emitted(message);
        let decoded = decoded(&octets);
        let json = as_json(&decoded);
        let kind = message.message_type();
        assert_eq!(json["type"], kind.name().expect("a name"));
        let sum = u16::from_be_bytes([octets[4], octets[5]]);
        let mut all = json!({
            "next_header": 59, "hdr_ext_len": octets.len() / 8 - 1, "p": 0, "type": kind.0, "s": 0,
            "checksum": sum, "checksum_right": true, "checksum_expected": sum,
        });
        let specific = if kind.0 == 68 {
            ("error_code", 1)
        } else {
            ("reserved1", 0)
        };
        all[specific.0] = specific.1.into();
        for (name, value) in fields.as_object().expect("an object") {
            all[name] = value.clone();
        }
        assert_eq!(json["fields"], all, "{kind}");
        let options = json["options"].as_array().expect("an array");
        let printed: Vec<_> = options.iter().map(|option| option["contents"].clone()).collect();
        assert_eq!(printed, contents, "{kind}");
        assert_eq!(verdict(&octets), json!(["accept", null, null, null]), "{kind}");
        let text = decoded.text();
        assert!(text.contains("\naccept: a receiver "), "{text}");
        assert!(
            text.starts_with(&format!("{kind}, {} octets\n", octets.len())),
            "{text}"
        );
        assert!(!text.contains("malformed") && !text.contains("unknown"), "{text}");
    }
}

#[test]
fn keys_are_those_of_the_documentation_in_their_order() {
    let line = decoded(&emitted(&messages()[0])).json(None).expect("JSON");
    let keys = [
        "type",
        "fields",
        "options",
        "verdict",
        "reason",
        "error_code",
        "pointer",
    ];
    let object: Json = serde_json::from_str(&line).expect("JSON");
    assert_eq!(object.as_object().map(|object| object.len()), Some(keys.len()));
    let places: Vec<_> = [
        "{\"type\":",
        ",\"fields\":{",
        ",\"options\":[",
        "],\"verdict\":",
        ",\"reason\":",
    ]
    .iter()
    .map(|key| line.find(key).expect("it is there"))
    .collect();
    assert!(places.is_sorted(), "{line}");
    let option = &object["options"][0];
    assert_eq!(
        *option,
        json!({"type": 6, "name": "ULID Pair", "critical": false, "length": 36, "offset": 16,
            "contents": {"reserved2": 0, "sender_ulid": A, "receiver_ulid": B}})
    );
}

#[test]
fn payload_header_is_decoded() {
    let mut octets = vec![0; payload::LEN];
    payload::emit(tag(TAG), 6, octets.first_chunk_mut().expect("8 octets"));
    octets.extend([1; 20]);
    let decoded = decoded(&octets);
    let json = as_json(&decoded);
    assert_eq!(json["type"], "Payload");
    assert_eq!(
        json["fields"],
        json!({"next_header": 6, "hdr_ext_len": 0, "p": 1, "receiver_context_tag": TAG, "octets_after": 20})
    );
    assert_eq!(verdict(&octets), json!(["accept", null, null, null]));
    assert!(decoded.text().contains("next header             6  TCP\n"));
    octets[1] = 1;
    assert_eq!(verdict(&octets), json!(["drop", "payload_header_length", null, null]));
}

#[test]
fn faults_get_the_verdict_of_the_stack() {
    let i1 = emitted(&messages()[0]);
    let with = |at: usize, value: u8| {
        let mut octets = i1.clone();
        octets[at] = value;
        octets
    };
    let short = &i1[..16];
    let critical = sealed(&[short, &[0, 14, 0, 4, 0, 0, 0, 1, 0, 0x11, 0, 0, 0, 0, 0, 0]].concat());
    let unknown_type = sealed(&with(2, 9));
    for (octets, expected) in [
        (critical, json!(["error", "unknown_critical_option", 1, 40 + 24])),
        (unknown_type, json!(["error", "unknown_message_type", 0, 42])),
        (with(15, 0), json!(["drop", "bad_checksum", null, null])),
        (sealed(&with(3, 1)), json!(["drop", "s_bit_set", null, null])),
        (i1[..7].to_vec(), json!(["drop", "truncated", null, null])),
        (i1[..40].to_vec(), json!(["drop", "length_past_end", null, null])),
        (sealed(&i1[..8]), json!(["drop", "below_minimum_length", null, null])),
        (sealed(&with(19, 35)), json!(["drop", "malformed_option", null, null])),
        (sealed(&with(19, 99)), json!(["drop", "option_past_end", null, null])),
        (
            sealed(&[&i1[..], &i1[16..]].concat()),
            json!(["drop", "duplicate_option", null, null]),
        ),
    ] {
        assert_eq!(verdict(&octets), expected);
    }
}

#[test]
fn pointer_counts_from_the_ipv6_header_wherever_the_shim6_header_is() {
    let octets = sealed(&[59, 0, 9, 0, 0, 0, 0, 0]);
    for before in [40, 48, 1000] {
        let decoded = Decoded::new(&octets, before, Addresses::default(), true);
        assert_eq!(as_json(&decoded)["pointer"], before + 2);
        assert!(decoded.text().contains(&format!(
            "Error 0 (unknown Shim6 message type), pointer {}\n",
            before + 2
        )));
    }
}

#[test]
fn bad_addresses_come_before_every_other_fault() {
    let octets = sealed(&[59, 0, 9, 0, 0, 0, 0, 0]);
    let multicast = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    for (source, destination, reason) in [
        (Some(A), Some(B), Discard::UnknownMessageType),
        (Some(multicast), None, Discard::Multicast),
        (None, Some(multicast), Discard::Multicast),
        (Some(A), Some(Ipv6Addr::UNSPECIFIED), Discard::UnspecifiedAddress),
    ] {
        let (verdict, _) = judge(&octets, 40, Addresses { source, destination });
        assert_eq!(verdict.reason(), Some(reason.as_str()));
    }
    // Those of payload are for its context to check.
    let addresses = Addresses {
        source: Some(multicast),
        destination: Some(B),
    };
    assert_eq!(judge(&[59, 0, 0x80, 0, 0, 0, 0, 1], 40, addresses).0, Verdict::Accept);
}

#[test]
fn checksum_is_told_right_from_wrong_and_what_it_should_be() {
    let mut octets = emitted(&messages()[8]);
    let right = u16::from_be_bytes([octets[4], octets[5]]);
    octets[4] ^= 0x10;
    let decoded = decoded(&octets);
    let json = as_json(&decoded);
    assert_eq!(json["fields"]["checksum"], right ^ 0x1000);
    assert_eq!(json["fields"]["checksum_right"], false);
    assert_eq!(json["fields"]["checksum_expected"], right);
    assert!(decoded.text().contains(&format!("wrong, should be {right:#06x}\n")));
    // Without its end nobody can tell.
    let json = as_json(&super::tests::decoded(&octets[..8]));
    assert_eq!(json["fields"]["checksum_right"], Json::Null);
}

#[test]
fn reserved_bits_are_printed() {
    let mut octets = emitted(&messages()[5]);
    octets[3] |= 0xfe;
    octets[6] |= 0x80;
    octets[20..26].fill(0xff);
    octets[26] |= 0x80;
    let json = as_json(&decoded(&sealed(&octets)));
    assert_eq!(json["fields"]["reserved1"], 127);
    assert_eq!(json["fields"]["r"], 1);
    assert_eq!(json["fields"]["reserved2"], (1_u64 << 49) - 1);
    assert_eq!(json["fields"]["packet_context_tag"], OTHER_TAG);
    assert_eq!(json["verdict"], "accept");
}

#[test]
fn options_that_a_receiver_does_not_take_are_printed_and_say_so() {
    let keepalive = emitted(&messages()[8]);
    let octets = sealed(
        &[
            &keepalive[..],
            &[0, 0x10, 0, 2, 0xaa, 0xbb, 1, 0], // unknown, with padding that is not zero
            &[0, 14, 0, 4, 0, 0, 0, 5],         // a Forked Instance Identifier is not for Keepalive
            &[0, 6, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], // nor are Preferences, with Element Len 0 at that
            &[0, 2, 0, 200, 1, 2, 3, 4],        // past the end
        ]
        .concat(),
    );
    let decoded = decoded(&octets);
    let json = as_json(&decoded);
    assert_eq!(
        json["options"],
        json!([
            {"type": 8, "name": null, "critical": false, "length": 2, "offset": 16, "contents": "aabb", "padding": "0100"},
            {"type": 7, "name": "Forked Instance Identifier", "critical": false, "length": 4, "offset": 24,
                "contents": {"forked_instance": 5}},
            {"type": 3, "name": "Locator Preferences", "critical": false, "length": 5, "offset": 32,
                "contents": "0000000100"},
            {"type": 1, "name": "Responder Validator", "critical": false, "length": 200, "offset": 48,
                "contents": "01020304"},
        ])
    );
    let text = decoded.text();
    for said in [
        "option at octet 16: type 8, C=0, Length 2: unknown\n",
        "Forked Instance Identifier (7), C=0, Length 4: not defined for this message\n",
        "Length 5: malformed, not defined for this message\n",
        "Length 200: reaches past the message, not defined for this message\n",
        "padding               0100  ignored\n",
    ] {
        assert!(text.contains(said), "{said}{text}");
    }
    assert_eq!(verdict(&octets), json!(["drop", "option_past_end", null, null]));
}

#[test]
fn codes_and_things_in_a_row_are_named_one_by_one() {
    for (code, name) in [
        (4, "error in the number of"),
        (5, "unknown"),
        (119, "unknown"),
        (120, "reserved"),
        (127, "reserved"),
    ] {
        let error = Message::Error(Error {
            code: ErrorCode(code),
            pointer: 0,
            packet_in_error: Vec::new(),
        });
        let text = decoded(&emitted(&error)).text();
        let line = format!("error code              {code}  {name}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    let text = decoded(&emitted(&messages()[2])).text();
    for said in ["    locator 2\n      verification method", "    element 2\n      flags"] {
        assert!(text.contains(said), "{said}\n{text}");
    }
}

#[test]
fn message_that_is_not_whole_in_a_capture_has_no_verdict() {
    let octets = emitted(&messages()[2]);
    let decoded = Decoded::new(&octets[..64], IPV6_HEADER, Addresses::default(), false);
    let json = as_json(&decoded);
    assert_eq!((&json["type"], &json["verdict"]), (&"I2".into(), &Json::Null));
    assert_eq!(json["fields"]["initiator_nonce"], NONCE);
    assert!(
        decoded
            .text()
            .ends_with("cannot be told: the capture has not all octets of it\n")
    );
}

#[test]
fn whole_packet_is_noticed() {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[5] = 16;
    packet.extend(&emitted(&messages()[8]));
    assert!(is_packet(&packet));
    assert!(!is_packet(&packet[..50]) && !is_packet(&packet[40..]) && !is_packet(&[]));
}

#[test]
fn times_are_those_of_rfc_3339() {
    let at = |nanos| SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
    assert_eq!(rfc3339(at(1_500_000)).as_deref(), Some("1970-01-01T00:00:00.001500Z"));
    assert_eq!(
        rfc3339(at(1_500_001)).as_deref(),
        Some("1970-01-01T00:00:00.001500001Z")
    );
    let late = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 40);
    assert_eq!(rfc3339(late), None);
}

/// What the stack says of these octets: the verdict has to be the same.
fn assert_agrees(octets: &[u8]) -> Result<(), TestCaseError> {
    let decoded = decoded(octets);
    let json = as_json(&decoded);
    prop_assert!(decoded.text().ends_with('\n'));
    let printed = json!([json["verdict"], json["reason"], json["error_code"], json["pointer"]]);
    let expected = match Message::parse(octets) {
        Ok(_) => json!(["accept", null, null, null]),
        Err(ParseError::NotControl) => json!(["accept", null, null, null]),
        Err(error) => match error.error_report() {
            None => json!(["drop", error.reason().as_str(), null, null]),
            Some((code, offset)) => json!(["error", error.reason().as_str(), code.0, 40 + offset]),
        },
    };
    prop_assert_eq!(printed, expected);
    if let Ok(message) = Message::parse(octets) {
        prop_assert_eq!(&json["fields"]["checksum_right"], true);
        prop_assert_eq!(&json["type"], message.message_type().name().expect("a name"));
    }
    Ok(())
}

proptest! {
    #[test]
    fn verdict_about_any_octets_is_that_of_the_stack(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        assert_agrees(&octets)?;
        let seal = octets.len() >= 8 && octets.len() <= 2048;
        if seal {
            assert_agrees(&sealed(&octets))?;
        }
    }

    /// Damage that the checksum does not show reaches every check.
    #[test]
    fn verdict_about_damaged_messages_is_that_of_the_stack(
        damage in proptest::collection::vec(any::<(Index, u8)>(), 0..4),
        length: Index,
    ) {
        for message in messages() {
            let mut octets = emitted(&message);
            for (position, value) in &damage {
                let at = position.index(octets.len());
                octets[at] = *value;
            }
            let length = length.index(octets.len() + 1);
            assert_agrees(&octets[..length])?;
            assert_agrees(&sealed(&octets))?;
            assert_agrees(&sealed(&octets[..length.max(8)]))?;
        }
    }
}
