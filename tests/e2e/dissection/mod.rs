//! The script for Wireshark, `packaging/wireshark/shim6.lua`: held against `shim6 decode` field by field, on the captures that are
//! kept and on damaged packets; and Wireshark's own opinion of our checksums.

mod compare;
mod contexts;
mod damage;
mod live;
mod tshark;

use std::path::{Path, PathBuf};

use self::tshark::Tshark;

/// Captures without a fault.
const SOUND: [&str; 2] = ["messages.pcapng", "conversation.pcapng"];
/// A packet for each fault.
const FAULTS: &str = "faults.pcapng";

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../interop/captures")
        .join(name)
}

#[test]
fn script_and_decode_read_the_same_in_all_captures_that_are_kept() {
    let Some(tshark) = Tshark::new() else { return };
    for name in SOUND.into_iter().chain([FAULTS]) {
        let headers = compare::compare(&tshark, &kept(name));
        assert!(headers > 15, "{name}: {headers} headers");
    }
}

#[test]
fn each_fault_is_an_error_of_its_own_for_experts() {
    let Some(tshark) = Tshark::new() else { return };
    let rows = tshark.script(&kept(FAULTS), &["shim6lua.fault", "_ws.expert.severity"], &[]);
    let faults: std::collections::BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(faults.len(), rows.len(), "{rows:?}");
    // 8388608 is what Wireshark has for an error.
    assert!(
        rows.iter().all(|row| row[1].contains(&"8388608".to_owned())),
        "{rows:?}"
    );
}

#[test]
fn sound_packets_are_no_errors_for_experts() {
    let Some(tshark) = Tshark::new() else { return };
    // What is quoted in an Error message is there because of its fault.
    let options = ["-o", "shim6lua.quoted:FALSE", "-Y", "_ws.expert.severity == error"];
    for name in SOUND {
        let rows = tshark.script(&kept(name), &["frame.number", "shim6lua.fault"], &options);
        let faults: Vec<_> = rows.iter().filter(|row| row[1] != ["unknown_message_type"]).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}

#[test]
fn wireshark_itself_finds_the_checksums_good() {
    let Some(tshark) = Tshark::new() else { return };
    for name in SOUND.into_iter().chain([FAULTS]) {
        let fields = ["ipv6.nxt", "frame.number", "shim6.checksum.status"];
        let rows = tshark.alone(
            &kept(name),
            &fields,
            &["-Y", "shim6 && shim6.p == 0", "-E", "occurrence=f"],
        );
        assert!(!rows.is_empty());
        for row in rows {
            // Of the packets with faults one is too short for a checksum, and one has a wrong one.
            let expected: &[&str] = match (name, row[1][0].as_str()) {
                (FAULTS, "3") => continue,
                (FAULTS, "5") => continue,
                (FAULTS, "6") => &["0"],
                _ => &["1"],
            };
            assert_eq!(row[2], expected, "{name}, packet {}", row[1][0]);
        }
    }
}
