//! `netbench throughput` measures what it says, with real packets.

use std::process::{Command, Output};

use serde_json::Value;
use shim6_tests::binary;
use shim6_tun::lab::{skip, support};

/// An Ethernet header and 1500 octets.
const LONGEST_FRAME: f64 = 1514.0;

fn netbench(arguments: &[&str]) -> Output {
    // Here, as its output is taken.
    binary::shim6();
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbench"));
    command.arg("throughput").args(arguments);
    command.output().expect("it runs")
}

/// The records by their cases' names.
fn measure(cases: &[&str]) -> Vec<(String, Value)> {
    let mut arguments = vec!["--json", "--runs", "1", "--seconds", "0.2"];
    arguments.extend(cases.iter().flat_map(|&case| ["--case", case]));
    let output = netbench(&arguments);
    assert!(output.status.success(), "{output:?}");
    let records: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a JSON array");
    let named = |record: Value| (record["case"].as_str().expect("a name").to_owned(), record);
    records.into_iter().map(named).collect()
}

fn number(record: &Value, field: &str) -> f64 {
    let number = record[field].as_f64();
    number.unwrap_or_else(|| panic!("no {field}: {record}"))
}

#[test]
fn each_kind_of_traffic_is_measured_beside_its_references() {
    let name = "throughput::each_kind_of_traffic_is_measured_beside_its_references";
    if let Err(why) = support() {
        skip(name, why);
        return;
    }
    let records = measure(&[
        "steered/tcp-1/b-a",
        "daemon/tcp-8/a-b",
        "steered/udp-1400",
        "latency",
        "again/latency-near",
    ]);
    // Whether it is there depends on what is installed.
    let ours = records.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = ours.filter(|name| !name.starts_with("wireguard/")).collect();
    let expected = [
        "plain/tcp-1/b-a",
        "per-packet/tcp-1/b-a",
        "steered/tcp-1/b-a",
        "plain/tcp-8/a-b",
        "per-packet/tcp-8/a-b",
        "daemon/tcp-8/a-b",
        "plain/udp-1400",
        "per-packet/udp-1400",
        "steered/udp-1400",
        "plain/latency",
        "per-packet/latency",
        "daemon/latency",
        "steered/latency",
        "plain/latency-near",
        "again/latency-near",
        "per-packet/latency-near",
        "daemon/latency-near",
        "steered/latency-near",
    ];
    assert_eq!(names, expected);
    for (name, record) in &records {
        let (state, kind) = name.split_once('/').expect("two parts");
        let figure = match kind.split('/').next() {
            Some("latency" | "latency-near") => "us",
            Some("udp-1400") => "pps",
            _ => "gbit_s",
        };
        for field in [figure, "ratio_to_plain", "ratio_to_per_packet_kernel"] {
            assert!(number(record, field) > 0.0, "{field}: {record}");
        }
        match figure {
            "us" => assert!(record["us_p99"].as_f64() >= record["us"].as_f64(), "{record}"),
            _ => assert!(number(record, "cpu_s_per_gb") > 0.0, "{record}"),
        }
        assert_eq!(record["checksum_errors"], 0, "{record}");
        if figure == "gbit_s" && state != "steered" {
            let is_large = number(record, "frame_octets") > LONGEST_FRAME;
            assert_eq!(is_large, state != "per-packet", "{record}");
        }
        if state == "steered" && figure == "pps" {
            assert_eq!(record["reordered"], 0, "{record}");
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused_at_once() {
    let refused = |arguments: &[&str], expected: &str| {
        let output = netbench(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    };
    refused(&["--case", "sctp"], "steered/tcp-8/b-a");
    refused(&["--seconds", "0"], "0.05 to 60");
    refused(&["--seconds", "nan"], "0.05 to 60");
    refused(&["--runs", "0"], "1..=100");
    refused(&["--alone"], "--case");
}
