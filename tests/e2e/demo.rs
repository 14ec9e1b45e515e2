//! `shim6 demo` as a user runs it.

use std::process::Command;

use shim6_tests::binary;
use shim6_tun::demo::summary::Summary;
use shim6_tun::lab;

#[test]
fn demo_prints_one_object_and_writes_its_report() {
    let name = "demo::demo_prints_one_object_and_writes_its_report";
    if let Err(why) = lab::support() {
        return lab::skip(name, why);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = directory.path().join("report.html");
    let output = Command::new(binary::shim6())
        .args(["demo", "--json", "--seconds", "4", "--failure", "link-down", "--report"])
        .arg(&report)
        .output()
        .expect("shim6 runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert_eq!(said, "", "no progress without a terminal");
    // Fails on anything before, behind or beside what is promised.
    let summary: Summary = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(summary.failure, "link-down");
    assert!(summary.with_shim6.completed && summary.with_shim6.sha256_match);
    assert!(summary.with_shim6.stall_ms > 0.0, "{summary:?}");
    assert_ne!(summary.with_shim6.locators_before, summary.with_shim6.locators_after);
    assert!(!summary.without_shim6.completed);
    let page = std::fs::read_to_string(&report).expect("the report");
    assert!(page.contains("<svg ") && page.ends_with("</html>\n"));
}

#[test]
fn demo_refuses_a_length_out_of_bounds() {
    let output = Command::new(binary::shim6())
        .args(["demo", "--seconds", "0"])
        .output()
        .expect("shim6 runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("4..=600"));
}
