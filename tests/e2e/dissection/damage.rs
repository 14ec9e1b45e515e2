//! Packets with damage of any kind.

use std::fs::{self, File};
use std::io::BufWriter;
use std::process::Command;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use shim6_core::Instant;
use shim6_core::wire::checksum;
use shim6_interop::capture::{self, Writer};
use shim6_tests::tools;

use super::tshark::Tshark;
use super::{FAULTS, SOUND, compare, kept};

/// Packets in the capture.
const COUNT: u64 = 800;
/// Octets of an IPv6 header.
const IPV6: usize = 40;

/// Damages a packet behind its IPv6 header, and repairs what would hide the damage half of the time.
fn damage(packet: &mut Vec<u8>, rng: &mut ChaCha12Rng) {
    let mut below = |bound: usize| rng.next_u32() as usize % bound.max(1);
    for _ in 0..1 + below(3) {
        let length = packet.len() - IPV6;
        // Near the front there is more to break.
        let reach = if below(2) == 0 { length.min(48) } else { length };
        let at = IPV6 + below(reach);
        match below(5) {
            0 => packet.truncate(at + 1),
            1 if at < packet.len() => packet[at] = below(256) as u8,
            2 if at < packet.len() => packet[at] ^= 1 << below(8),
            3 => packet.extend((0..below(24)).map(|octet| octet as u8)),
            4 if packet.len() > IPV6 + 1 => packet[IPV6 + 1] = (length / 8).saturating_sub(1) as u8,
            _ => {}
        }
    }
    let length = packet.len() - IPV6;
    // A packet that is shorter than it says has lost its end, of which nothing can be told.
    let said = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    if below(4) > 0 || said > length {
        packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    }
    let claimed = packet.get(IPV6 + 1).map_or(0, |units| 8 * (usize::from(*units) + 1));
    if below(4) > 0 && length >= 8 && claimed <= length {
        packet[IPV6 + 4..IPV6 + 6].fill(0);
        let sum = checksum(&packet[IPV6..IPV6 + claimed]);
        packet[IPV6 + 4..IPV6 + 6].copy_from_slice(&sum.to_be_bytes());
    }
}

#[test]
fn damaged_packets_are_read_as_decode_reads_them_and_break_nothing() {
    let Some(tshark) = Tshark::new() else { return };
    let mut packets = Vec::new();
    for name in SOUND.into_iter().chain([FAULTS]) {
        let all = capture::read(&fs::read(kept(name)).expect("the capture")).expect("a capture");
        packets.extend(all.into_iter().map(|captured| captured.packet));
    }
    packets.retain(|packet| packet[6] == 140);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("damaged.pcapng");
    let mut writer = Writer::new(BufWriter::new(File::create(&path).expect("a file"))).expect("a capture");
    let interface = writer.add_interface("eth0").expect("an interface");
    let mut rng = ChaCha12Rng::from_seed([7; 32]);
    for number in 0..COUNT {
        let mut packet = packets[rng.next_u32() as usize % packets.len()].clone();
        damage(&mut packet, &mut rng);
        let at = Instant::from_micros((1 << 50) + 1000 * number);
        writer.write(interface, at, &packet).expect("a packet");
    }
    drop(writer.finish().expect("a whole capture"));
    for options in [&[][..], &["-2"]] {
        let said = tshark.all(&path, options);
        assert!(said.contains("Shim6 Probe"), "nothing was read");
        let lines: Vec<_> = said.lines().filter(|line| line.contains("Lua Error")).collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
    compare::compare(&tshark, &path);
}

/// As `tcpdump -s` leaves them.
#[test]
fn packets_that_were_not_captured_whole_are_read_as_far_as_they_go() {
    let Some(tshark) = Tshark::new().filter(|_| tools::require(&["editcap"])) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cut.pcapng");
    for length in [41, 44, 47, 53, 60, 75, 100, 150] {
        let status = Command::new("editcap")
            .args(["-s", &length.to_string()])
            .arg(kept(SOUND[0]))
            .arg(&path)
            .status()
            .expect("editcap runs");
        assert!(status.success());
        compare::compare(&tshark, &path);
        let said = tshark.all(&path, &[]);
        assert!(!said.contains("Lua Error"), "{length} octets");
        assert!(said.contains("Not all of it was captured"), "{length} octets");
    }
}
