//! Captures, and what Wireshark makes of them.

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::Ipv6Addr;
use std::path::Path;
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use shim6_core::Instant;
use shim6_interop::capture::{self, Captured, Writer};
use shim6_interop::{packet, reader};

use crate::strategies::{emitted, one_of_each};
use crate::tools;
use crate::world::World;

/// How often each message type is in the capture, with other values each time.
const ROUNDS: usize = 20;

fn address(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, last)
}

/// Messages of all types with all options, and a whole conversation with its failover.
fn packets() -> Vec<Captured> {
    let mut runner = TestRunner::deterministic();
    let mut packets = Vec::new();
    let mut add = |interface: &str, at, packet| {
        packets.push(Captured {
            interface: interface.to_owned(),
            at,
            packet,
        })
    };
    for round in 0..ROUNDS {
        let messages = one_of_each().new_tree(&mut runner).expect("messages").current();
        for message in &messages {
            let at = Instant::from_micros((1 << 40) + round as u64);
            let packet = packet::control(address(1), address(2), &emitted(message)).expect("a small packet");
            add("messages", at, packet);
        }
    }
    let mut world = World::failed_over();
    world.monologue(20);
    for (at, packet) in world.wire {
        add("conversation", at, packet);
    }
    packets
}

fn write(path: &Path, packets: &[Captured]) {
    let file = File::create(path).expect("a file");
    let mut writer = Writer::new(BufWriter::new(file)).expect("a capture");
    let names = ["messages", "conversation"];
    let interfaces = names.map(|name| writer.add_interface(name).expect("an interface"));
    for captured in packets {
        let index = usize::from(captured.interface != names[0]);
        writer
            .write(interfaces[index], captured.at, &captured.packet)
            .expect("a packet");
    }
    writer.finish().expect("a whole capture");
}

/// Whether a packet is a control message.
fn is_control(packet: &[u8]) -> bool {
    let dissected = packet::dissect(packet).expect("an IPv6 packet");
    dissected.next_header == 140 && reader::read(dissected.rest).expect("a Shim6 header").number("p") == Some(0)
}

#[test]
fn capture_is_read_back_as_it_was_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("messages.pcapng");
    let packets = packets();
    write(&path, &packets);
    assert_eq!(capture::read(&fs::read(&path).expect("the file")), Ok(packets));
}

#[test]
fn what_is_no_capture_is_refused() {
    let mut octets = Vec::new();
    let mut writer = Writer::new(&mut octets).expect("a capture");
    let interface = writer.add_interface("eth0").expect("an interface");
    writer
        .write(interface, Instant::from_micros(7), &[0x60; 41])
        .expect("a packet");
    writer.finish().expect("a whole capture");
    assert!(matches!(capture::read(b""), Err(capture::ReadError::Format(_))));
    assert!(matches!(
        capture::read(&octets[..octets.len() - 1]),
        Err(capture::ReadError::Format(_))
    ));
    assert_eq!(capture::read(&octets).map(|packets| packets.len()), Ok(1));
}

#[test]
fn all_checksums_of_a_conversation_are_right_to_the_independent_reader() {
    let packets = packets();
    let mut types = std::collections::BTreeSet::new();
    for captured in packets.iter().filter(|captured| is_control(&captured.packet)) {
        let reading = reader::read(&captured.packet[40..]).expect("a reading");
        assert!(reading.checksum_is_right(), "{reading:?}");
        if captured.interface == "conversation" {
            types.extend(reading.number("type"));
        }
    }
    assert!(types.iter().eq(&[1, 2, 3, 4, 66, 67]), "types {types:?}");
}

#[test]
fn wireshark_finds_every_checksum_good() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("messages.pcapng");
    let packets = packets();
    write(&path, &packets);
    let Some(lines) = tshark(&path, &["ipv6.nxt", "ipv6.plen", "shim6.checksum.status"]) else {
        return;
    };
    assert_eq!(lines.len(), packets.len());
    for (line, captured) in lines.iter().zip(&packets) {
        let fields: Vec<_> = line.split('\t').collect();
        let [next_header, length, status] = fields[..] else {
            panic!("three fields are expected, not {line:?}")
        };
        assert_eq!(next_header, captured.packet[6].to_string());
        assert_eq!(length, (captured.packet.len() - 40).to_string());
        // Wireshark's words are 1 for good and 0 for bad; only control messages have a checksum.
        assert_eq!(
            status,
            if is_control(&captured.packet) { "1" } else { "" },
            "{:02x?}",
            captured.packet
        );
    }
}

#[test]
fn wireshark_finds_a_damaged_checksum_bad() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("damaged.pcapng");
    let mut packets = packets();
    packets.truncate(7);
    for captured in &mut packets {
        captured.packet[45] ^= 1;
    }
    write(&path, &packets);
    let Some(lines) = tshark(&path, &["shim6.checksum.status"]) else {
        return;
    };
    assert_eq!(lines, ["0"; 7]);
}

/// The values of these fields, a line for each packet; `None` where there is no tshark.
fn tshark(path: &Path, fields: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new("tshark");
    // Nothing of the user's own configuration, and only the outermost of what an Error message quotes.
    command
        .env("HOME", path.parent().expect("a directory"))
        .args(["-n", "-T", "fields", "-E", "occurrence=f", "-r"]);
    command.arg(path);
    for field in fields {
        command.args(["-e", field]);
    }
    if !tools::require(&["tshark"]) {
        return None;
    }
    let output = command.output().expect("tshark runs");
    assert!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    Some(text.lines().map(str::to_owned).collect())
}
