//! Packets of one context refer to each other.

use super::kept;
use super::tshark::{Row, Tshark};

const CONVERSATION: &str = "conversation.pcapng";

fn shown(rows: &[Row]) -> Vec<String> {
    let cell = |values: &Vec<String>| values.join(";");
    rows.iter()
        .map(|row| row.iter().map(cell).collect::<Vec<_>>().join(" ").trim_end().to_owned())
        .collect()
}

#[test]
fn messages_and_payload_name_their_context_and_what_they_answer() {
    let Some(tshark) = Tshark::new() else { return };
    let fields = [
        "frame.number",
        "context",
        "context.established_in",
        "response_to",
        "retransmission_of",
    ];
    let fields = fields.map(|field| match field {
        "frame.number" => field.to_owned(),
        field => format!("shim6lua.{field}"),
    });
    let fields = fields.each_ref().map(String::as_str);
    let options = ["-Y", "shim6lua", "-E", "occurrence=f"];
    let found = shown(&tshark.script(&kept(CONVERSATION), &fields, &options));
    let expected = [
        // The second I1 repeats the first; R1 answers it; I2; R2 makes the context.
        "3 0",
        "4 0   3",
        "5 0  4",
        "6 0  5",
        "7 0 7 6",
        // Probes, steered payload, a probe again.
        "9 0 7",
        "10 0 7",
        "11 0 7",
        "12 0 7",
        "13 0 7",
        "14 0 7",
        "15 0 7",
        // An update, its acknowledgement, a keepalive.
        "16 0 7",
        "17 0 7 16",
        "18 0 7",
        // Payload that the peer knows nothing of; R1bis, I2bis, R2.
        "19 0 7",
        "20 0 7 19",
        "21 0 7 20",
        "22 0 22 21",
        "23 0 22",
        // A message of unknown type, and an Error about it.
        "24",
        "25 0 22",
        // Both begin another instance at once; each I1 is answered with R2.
        "26 1",
        "27 1",
        "28 1 28 27",
        "29 1 28 26",
        "30 1 28",
    ];
    assert_eq!(found, expected);
}

#[test]
fn second_pass_tells_requests_of_their_responses() {
    let Some(tshark) = Tshark::new() else { return };
    let fields = [
        "frame.number",
        "shim6lua.response_in",
        "shim6lua.context.established_in",
    ];
    let options = ["-2", "-Y", "shim6lua.response_in", "-E", "occurrence=f"];
    let found = shown(&tshark.script(&kept(CONVERSATION), &fields, &options));
    let expected = [
        "4 5 7", "5 6 7", "6 7 7", "16 17 7", "19 20 7", "20 21 7", "21 22 7", "26 29 28", "27 28 28",
    ];
    assert_eq!(found, expected);
}

#[test]
fn records_of_probes_tell_in_which_packet_they_were_sent() {
    let Some(tshark) = Tshark::new() else { return };
    let fields = ["frame.number", "shim6lua.sent.frame", "shim6lua.received.frame"];
    let options = ["-Y", "shim6lua.sent.frame || shim6lua.received.frame"];
    let found = shown(&tshark.script(&kept(CONVERSATION), &fields, &options));
    assert_eq!(found, ["10 9", "11  10", "12 10 11", "15  11"]);
}

#[test]
fn both_tags_and_ulids_of_a_context_are_known_in_each_direction() {
    let Some(tshark) = Tshark::new() else { return };
    let tags = "shim6lua.context.sender_tag == 0x0b0b0b0b0b0b && shim6lua.context.receiver_tag == 0x0a0a0a0a0a0a";
    let rows = tshark.script(&kept(CONVERSATION), &["frame.number"], &["-Y", tags]);
    // What B sent on the first context until it had forgotten it; R1, too, once the tag is known, which one pass cannot.
    assert_eq!(shown(&rows), ["7", "11", "14", "17", "18", "20"]);
    let ulids = "shim6lua.context.ulid == 2001:db8:a1:0:189c:2dee:81b0:c988 && ipv6.src == 2001:db8:a2::/64 && tcp";
    let rows = tshark.script(&kept(CONVERSATION), &["frame.number"], &["-Y", ulids]);
    assert_eq!(shown(&rows), ["13", "19", "23"]);
}

#[test]
fn tcp_stream_stays_one_across_a_failure_with_right_checksums() {
    let Some(tshark) = Tshark::new() else { return };
    let fields = [
        "frame.number",
        "tcp.stream",
        "tcp.checksum.status",
        "tcp.analysis.flags",
    ];
    let check = ["-o", "tcp.check_checksum:TRUE", "-Y", "tcp"];
    let found = shown(&tshark.script(&kept(CONVERSATION), &fields, &check));
    assert_eq!(
        found,
        ["1 0 1", "2 0 1", "8 0 1", "13 0 1", "14 0 1", "19 0 1", "23 0 1"]
    );
    // Without it there are two, and wrong checksums.
    let locators = [&check[..], &["-o", "shim6lua.ulids:FALSE"]].concat();
    let found = shown(&tshark.script(&kept(CONVERSATION), &fields[..3], &locators));
    assert_eq!(
        found,
        ["1 0 1", "2 0 1", "8 0 1", "13 1 0", "14 1 0", "19 1 0", "23 1 0"]
    );
}

#[test]
fn list_of_packets_tells_what_each_is() {
    let Some(tshark) = Tshark::new() else { return };
    let options = ["-Y", "frame.number == 11 || frame.number == 13 || frame.number == 25"];
    let found = shown(&tshark.script(&kept(CONVERSATION), &["_ws.col.Protocol", "_ws.col.Info"], &options));
    assert_eq!(
        found[0],
        "Shim6 [0] Probe, InboundOk, 1 sent, 1 received, to tag 0x0a0a0a0a0a0a"
    );
    assert!(found[1].starts_with("TCP [via 2001:db8:a2:"), "{}", found[1]);
    assert_eq!(found[2], "Shim6 [0] Error, unknown Shim6 message type, pointer 42");
}
