//! `netbench scale` measures what it says, with real packets.

use std::process::Command;

use serde_json::Value;
use shim6_tests::binary;
use shim6_tun::lab::{skip, support};

fn netbench(arguments: &[&str]) -> std::process::Output {
    // Here, as its output is taken.
    binary::shim6();
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbench"));
    command.arg("scale").args(arguments);
    command.output().expect("it runs")
}

#[test]
fn contexts_with_many_peers_survive_the_failure_of_some_paths() {
    let name = "scale::contexts_with_many_peers_survive_the_failure_of_some_paths";
    if let Err(why) = support() {
        skip(name, why);
        return;
    }
    let counts = [
        "--contexts",
        "60",
        "--steered",
        "20",
        "--rate",
        "600",
        "--seconds",
        "0.2",
    ];
    let output = netbench(&[&["--json"], &counts[..]].concat());
    assert!(output.status.success(), "{output:?}");
    let record: Value = serde_json::from_slice(&output.stdout).expect("a JSON object");
    assert_eq!(
        (&record["contexts"], &record["steered"]),
        (&60.into(), &20.into()),
        "{record}"
    );
    assert_eq!(record["steering"]["lost"], 0, "{record}");
    for cost in ["observed", "steered_only", "steered_among_all"] {
        assert!(record[cost]["packets_per_second"].as_f64() > Some(100.0), "{record}");
        assert!(record[cost]["cpu_us_per_packet"].as_f64() > Some(0.0), "{record}");
    }
    assert!(record["memory"]["at_start"].as_u64() > Some(1 << 20), "{record}");
}

#[test]
fn one_context_has_to_stay_on_its_path() {
    if let Err(why) = support() {
        skip("scale::one_context_has_to_stay_on_its_path", why);
        return;
    }
    let output = netbench(&["--contexts", "5", "--steered", "5"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("one more is needed"),
        "{output:?}"
    );
}
