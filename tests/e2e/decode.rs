//! `shim6 decode` as people run it: on captures, on standard input, on what they have mistyped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use shim6_core::Instant;
use shim6_core::reap::{Probe as Report, ProbeRecord, ProbeState};
use shim6_core::wire::{
    Announcement, ContextTag, Error, ErrorCode, I1, I2, I2bis, Keepalive, LocatorList, LocatorPreferences, MAX_MESSAGE,
    Message, MessageType, PROTOCOL, Preference, PreferenceFlags, Probe, R1, R1bis, R2, UlidPair, UpdateAcknowledgement,
    UpdateRequest, VerificationMethod, checksum, payload,
};
use shim6_interop::capture::{Interface, Writer};
use shim6_interop::packet::{Extensions, Packet, Upper};
use shim6_interop::reader;
use shim6_tests::binary;

const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa);
const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 0xbb);
/// An I1 as in RFC 5533 section 5.4.
const I1_DIGITS: &str = "3b010100 22f81234 56789abc deadbeef";

fn tag(bits: u64) -> ContextTag {
    ContextTag::from_random_bits(bits)
}

fn announcement() -> Announcement {
    let preference = Preference {
        flags: PreferenceFlags::TRANSIENT,
        priority: 1,
        weight: 0,
    };
    Announcement {
        locators: Some(LocatorList {
            generation: 0x8000_0001,
            locators: vec![(VerificationMethod::HBA, A), (VerificationMethod::CGA, B)],
        }),
        preferences: Some(LocatorPreferences::new(0x8000_0001, vec![preference; 2])),
        cga_parameters: Some(vec![0xa5; 45]),
        cga_signature: Some(vec![0x5a; 128]),
        keepalive_timeout: Some(15),
        keepalive_timeout_ms: Some(300),
    }
}

/// A message of each type.
fn messages() -> Vec<Message> {
    let (initiator_context_tag, receiver_context_tag) = (tag(0x7fff_ffff_fffe), tag(1));
    let (initiator_nonce, responder_nonce, request_nonce) = (0xdead_beef, 0xc0ff_ee11, 7);
    let validator = vec![0xaa; 20];
    let ulid_pair = Some(UlidPair { sender: A, receiver: B });
    let forked_instance = Some(u32::MAX);
    let record = ProbeRecord {
        source: A,
        destination: B,
        nonce: 1,
        data: 2,
    };
    vec![
        Message::I1(I1 {
            initiator_context_tag,
            initiator_nonce,
            ulid_pair,
            forked_instance,
        }),
        Message::R1(R1 {
            initiator_nonce,
            responder_nonce,
            validator: validator.clone(),
        }),
        Message::I2(I2 {
            initiator_context_tag,
            initiator_nonce,
            responder_nonce,
            validator: validator.clone(),
            ulid_pair,
            forked_instance,
            announcement: announcement(),
        }),
        Message::R2(R2 {
            responder_context_tag: receiver_context_tag,
            initiator_nonce,
            announcement: announcement(),
        }),
        Message::R1bis(R1bis {
            packet_context_tag: receiver_context_tag,
            responder_nonce,
            validator: validator.clone(),
        }),
        Message::I2bis(I2bis {
            initiator_context_tag,
            initiator_nonce,
            responder_nonce,
            packet_context_tag: receiver_context_tag,
            validator,
            ulid_pair,
            forked_instance,
            announcement: announcement(),
        }),
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag,
            request_nonce,
            announcement: announcement(),
        }),
        Message::UpdateAcknowledgement(UpdateAcknowledgement {
            receiver_context_tag,
            request_nonce,
        }),
        Message::Keepalive(Keepalive { receiver_context_tag }),
        Message::Probe(Probe {
            receiver_context_tag,
            report: Report {
                state: ProbeState::InboundOk,
                sent: vec![record; 3],
                received: vec![record; 2],
            },
        }),
        Message::Error(Error {
            code: ErrorCode::UNKNOWN_MESSAGE_TYPE,
            pointer: 42,
            packet_in_error: vec![0x60; 56],
        }),
    ]
}

fn emitted(message: &Message) -> Vec<u8> {
    let mut octets = vec![0; MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("a message that fits");
    octets.truncate(length);
    octets
}

/// A packet from A to B.
fn packet(next_header: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a short packet");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(A.octets());
    packet.extend(B.octets());
    packet.extend(rest);
    packet
}

/// A capture of these packets, a second apart.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    let interface: Interface = writer.add_interface("eth0").expect("memory");
    for (second, packet) in (1..).zip(packets) {
        let at = Instant::from_micros(second * 1_000_000);
        writer.write(interface, at, packet).expect("memory");
    }
    writer.finish().expect("memory")
}

fn file(octets: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(octets).expect("it is written");
    file
}

fn decode(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary::shim6());
    command.arg("decode").args(arguments).stdin(Stdio::null());
    command.output().expect("shim6 runs")
}

/// With these octets on standard input.
fn decode_input(arguments: &[&str], octets: &[u8]) -> Output {
    let mut child = Command::new(binary::shim6())
        .arg("decode")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("shim6 runs");
    // What it does not want to read to its end it closes.
    drop(child.stdin.take().expect("a pipe").write_all(octets));
    child.wait_with_output().expect("it ends")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).expect("UTF-8")
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn every_message_of_a_capture_is_read_as_the_second_reader_reads_it() {
    let messages = messages();
    let packets: Vec<_> = messages
        .iter()
        .map(|message| packet(PROTOCOL, &emitted(message)))
        .collect();
    let file = file(&capture(&packets));
    let path = file.path().to_str().expect("UTF-8");
    let decoded = lines(&decode(&["--json", path]));
    assert_eq!(decoded.len(), messages.len());
    for (number, (message, line)) in (1..).zip(messages.iter().zip(&decoded)) {
        assert_eq!(line["packet"], number);
        assert_eq!(line["time"], format!("1970-01-01T00:00:{number:02}.000000Z"));
        assert_eq!((&line["source"], &line["destination"]), (&json!(A), &json!(B)));
        assert_eq!(line["type"], message.message_type().name().expect("a name"));
        let verdict = ["verdict", "reason", "error_code", "pointer"].map(|key| &line[key]);
        assert_eq!(json!(verdict), json!(["accept", null, null, null]));

        let octets = emitted(message);
        let reading = reader::read(&octets).expect("a reading");
        let fixed = reading.fields.iter().take_while(|(name, _)| !name.contains('.'));
        for (name, value) in fixed {
            let name = match (*name, message.message_type()) {
                ("type_specific", MessageType::ERROR) => "error_code",
                ("type_specific", _) => "reserved1",
                (name, _) => name,
            };
            let printed = &line["fields"][name];
            match value {
                reader::Value::Number(value) => assert_eq!(printed, value, "{name} of {line}"),
                reader::Value::Address(value) => assert_eq!(*printed, json!(value), "{name} of {line}"),
                reader::Value::Octets(value) => {
                    let digits = printed.as_str().expect("digits");
                    let octets: Vec<_> = (0..digits.len())
                        .step_by(2)
                        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits"))
                        .collect();
                    assert_eq!(octets, *value, "{name} of {line}");
                }
            }
        }
        let types = |name: &str| -> Vec<_> {
            let fields = reading.fields.iter().filter(|(field, _)| *field == name);
            fields.map(|(_, value)| value.clone()).collect()
        };
        let options = line["options"].as_array().expect("an array");
        let printed = |key: &str| -> Vec<_> {
            let number = |option: &Value| reader::Value::Number(option[key].as_u64().expect("a number"));
            options.iter().map(number).collect()
        };
        assert_eq!(printed("type"), types("option.type"), "{line}");
        assert_eq!(printed("length"), types("option.length"), "{line}");
    }
}

#[test]
fn packets_without_a_shim6_header_are_passed_over_and_extension_headers_followed() {
    let udp = Packet {
        source: A,
        destination: B,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: 64,
        extensions: Extensions::default(),
        upper: Upper::Udp { ports: (1, 2) },
        payload: vec![1; 100],
    };
    let plain = udp.build().expect("a packet");
    let mut header = [0; payload::LEN];
    payload::emit(tag(5), 17, &mut header);
    let tagged = packet(PROTOCOL, &[&header, &plain[40..]].concat());
    // A message of a type that nobody knows, behind a Hop-by-Hop Options header of 16 octets.
    let mut unknown = vec![59, 0, 99, 0, 0, 0, 0, 0];
    let sum = checksum(&unknown);
    unknown[4..6].copy_from_slice(&sum.to_be_bytes());
    let optioned = packet(0, &[&[PROTOCOL, 1, 1, 12][..], &[0; 12], &unknown].concat());
    let fragment = packet(44, &[PROTOCOL, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let capture = capture(&[plain, tagged, optioned, fragment]);
    let output = decode_input(&["-", "--json"], &capture);
    let decoded = lines(&output);
    assert_eq!(decoded.len(), 2);
    assert_eq!(
        (&decoded[0]["packet"], &decoded[0]["type"]),
        (&json!(2), &json!("Payload"))
    );
    assert_eq!(decoded[0]["fields"]["octets_after"], 108);
    assert_eq!((&decoded[1]["packet"], &decoded[1]["type"]), (&json!(3), &json!(99)));
    let verdict = ["verdict", "reason", "error_code", "pointer"].map(|key| &decoded[1][key]);
    assert_eq!(json!(verdict), json!(["error", "unknown_message_type", 0, 40 + 16 + 2]));
    assert!(
        text(&output.stderr).contains("note: packet 4 is not decoded: a fragment"),
        "{output:?}"
    );

    let said = text(&decode_input(&["-"], &capture).stdout);
    assert!(said.contains(&format!(
        "packet 3  1970-01-01T00:00:03.000000Z  {A} -> {B}\nMessage of unknown type 99"
    )));
    assert!(said.ends_with("packets: 4; with a Shim6 header: 2\n"), "{said}");
}

#[test]
fn packets_are_decoded_while_the_capture_is_still_written() {
    let capture = capture(&[packet(PROTOCOL, &emitted(&messages()[8]))]);
    let mut child = Command::new(binary::shim6())
        .args(["decode", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("shim6 runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&capture).expect("it reads");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("a line");
    assert!(line.contains("\"type\":\"Keepalive\""), "{line}");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn message_is_taken_from_arguments_standard_input_or_a_file() {
    let file = file(I1_DIGITS.as_bytes());
    let path = file.path().to_str().expect("UTF-8");
    let addresses = ["--src", "2001:db8:a1::aa", "--dst", "2001:db8:b1::bb", "--json"];
    let split: Vec<_> = I1_DIGITS.split(' ').collect();
    let ways = [
        decode(&[&[I1_DIGITS], &addresses[..]].concat()),
        decode(&[&split[..], &addresses].concat()),
        decode(&[&["--file", path], &addresses[..]].concat()),
        decode(&[&[path], &addresses[..]].concat()),
        decode_input(
            &[&["-"], &addresses[..]].concat(),
            format!("0x{}\n", split.join("\n")).as_bytes(),
        ),
    ];
    for output in ways {
        let decoded = lines(&output);
        assert_eq!((decoded.len(), &decoded[0]["type"]), (1, &json!("I1")));
        assert_eq!(decoded[0]["verdict"], "accept");
        assert_eq!(decoded[0].as_object().map(|object| object.len()), Some(7));
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn addresses_are_checked_when_they_are_given_and_the_output_says_when_not() {
    let output = decode(&[I1_DIGITS, "--src", "2001:db8::1", "--dst", "ff02::1", "--json"]);
    assert_eq!(lines(&output)[0]["reason"], "multicast");
    let output = decode(&[I1_DIGITS, "--json"]);
    assert_eq!(lines(&output)[0]["verdict"], "accept");
    assert!(
        text(&output.stderr).contains("note: the addresses are not checked"),
        "{output:?}"
    );
    let said = text(&decode(&[I1_DIGITS]).stdout);
    assert!(
        said.ends_with("note: the addresses are not checked: give them with --src and --dst\n"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_decoded_is_refused_with_what_to_do() {
    let garbage = file(b"\x7fELF\x02\x01\x01");
    let garbage = garbage.path().to_str().expect("UTF-8");
    let whole = capture(&[packet(PROTOCOL, &emitted(&messages()[8]))]);
    let captured = file(&whole);
    let captured = captured.path().to_str().expect("UTF-8");
    let zipped = file(&[0x1f, 0x8b, 8, 0]);
    let zipped = zipped.path().to_str().expect("UTF-8");
    let directory = tempfile::tempdir().expect("a directory");
    let absent: PathBuf = directory.path().join("absent.pcap");
    let absent = absent.to_str().expect("UTF-8");
    for (arguments, code, said) in [
        (vec![], 2, "required arguments were not provided"),
        (vec!["3b01", "--file", captured], 2, "cannot be used with"),
        (vec!["3b01", "--src", "here"], 2, "invalid value 'here'"),
        (vec![captured, "--src", "2001:db8::1"], 2, "leave them out"),
        (
            vec!["3b0"],
            2,
            "give the octets of one message from its Next Header octet on",
        ),
        (vec!["3b", "xy"], 2, "'x' after 0 digits is no hexadecimal digit"),
        (vec![absent], 2, "nor a file"),
        (vec!["--file", absent], 1, "check its name and its permissions"),
        (
            vec![directory.path().to_str().expect("UTF-8")],
            1,
            "check that it is a file",
        ),
        (vec![garbage], 1, "capture with: tcpdump -w FILE ip6 proto 140"),
        (vec![zipped], 1, "gzip -dc"),
    ] {
        let output = decode(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {output:?}");
    }
    // What there is comes first.
    let two = capture(&vec![packet(PROTOCOL, &emitted(&messages()[8])); 2]);
    let cut = decode_input(&["-", "--json"], &two[..two.len() - 3]);
    assert_eq!(cut.status.code(), Some(1));
    assert_eq!(text(&cut.stdout).lines().count(), 1);
    assert!(text(&cut.stderr).contains("behind packet 1"), "{cut:?}");
}

#[test]
fn message_with_a_fault_is_no_failure() {
    let output = decode(&["3b", "--json"]);
    assert_eq!(lines(&output)[0]["reason"], "truncated");
    assert_eq!(lines(&output)[0]["type"], Value::Null);
    let wrong = I1_DIGITS.replace("22f8", "22f9");
    assert_eq!(lines(&decode(&[&wrong, "--json"]))[0]["reason"], "bad_checksum");
    assert!(text(&decode(&[&wrong]).stdout).contains("wrong, should be 0x22f8\n"));
}
