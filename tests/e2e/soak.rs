//! `netbench soak` inflicts failures, judges what becomes of it, and writes it down.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use shim6_tests::binary;
use shim6_tun::lab::{skip, support};

fn netbench(arguments: &[&str]) -> Output {
    // Here, as its output is taken.
    binary::shim6();
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbench"));
    command.arg("soak").args(arguments);
    command.output().expect("it runs")
}

/// What a run printed, and whether it passed.
fn soak(more: &[&str]) -> (Value, bool) {
    let output = netbench(&[&["--json", "--sessions", "8"], more].concat());
    let outcome = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (outcome, output.status.success())
}

/// The names of the verdicts that are not as they have to be.
fn failed(outcome: &Value) -> Vec<&str> {
    let verdicts = outcome["verdicts"].as_array().expect("verdicts");
    let failed = verdicts.iter().filter(|verdict| verdict["finding"] == "failed");
    failed
        .map(|verdict| verdict["what"].as_str().expect("a name"))
        .collect()
}

#[test]
fn short_soak_loses_and_leaves_nothing_and_its_page_says_so() {
    if let Err(why) = support() {
        skip("soak::short_soak_loses_and_leaves_nothing_and_its_page_says_so", why);
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.html");
    let path = path.to_str().expect("UTF-8");
    let (outcome, passed) = soak(&["--minutes", "0.3", "--report", path]);
    assert!(passed && failed(&outcome).is_empty(), "{:#}", outcome["verdicts"]);
    let faults = outcome["faults"].as_array().expect("faults");
    assert!(faults.len() >= 3, "{faults:?}");
    for session in outcome["sessions"].as_array().expect("sessions") {
        assert!(session["octets"].as_u64() > Some(10_000), "{session}");
    }
    let page = std::fs::read_to_string(Path::new(path)).expect("a page");
    for wanted in [
        "badge passed",
        "--minutes 0.3",
        "memory of the daemons",
        "class=\"band\"",
        "0 of 8",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(page.contains(faults[0]["what"].as_str().expect("a place")));
}

#[test]
fn soak_fails_when_sessions_or_daemons_die_or_something_stays() {
    if let Err(why) = support() {
        skip("soak::soak_fails_when_sessions_or_daemons_die_or_something_stays", why);
        return;
    }
    // At the same time, as each of them mostly waits.
    let sabotaged =
        |more: &'static [&str]| std::thread::spawn(move || soak(&[&["--minutes", "0.1", "--sabotage"], more].concat()));
    let expected = [
        (sabotaged(&["leaked-route"]), "left behind by the daemons"),
        (sabotaged(&["all-paths", "--patience", "3"]), "sessions lost"),
        (sabotaged(&["dead-daemon"]), "daemons that ended by themselves"),
    ];
    for (run, verdict) in expected {
        let (outcome, passed) = run.join().expect("it runs");
        assert!(
            !passed && failed(&outcome).contains(&verdict),
            "{verdict}: {:#}",
            outcome["verdicts"]
        );
        if verdict.starts_with("left behind") {
            let left = outcome["remains"]["leftovers"].to_string();
            assert!(left.contains("2001:db8:bad::"), "{left}");
        }
    }
}

#[test]
fn soak_that_makes_no_sense_is_refused_at_once() {
    let refused = |arguments: &[&str], expected: &str| {
        let output = netbench(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{output:?}");
    };
    refused(&["--minutes", "0"], "0.1 to 10000");
    refused(&["--hours", "nan"], "0.1 to 100");
    refused(&["--minutes", "1", "--hours", "1"], "cannot be used with");
    refused(&["--sessions", "7"], "8..=512");
    refused(
        &["--report", "/nowhere/report.html"],
        "cannot write /nowhere/report.html",
    );
}
