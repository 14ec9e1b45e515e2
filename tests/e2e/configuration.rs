//! A malformed configuration is refused, and the message says where it is wrong.

use std::process::{Command, Output};

use shim6_tests::binary;

fn run_with(text: &str) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("broken.toml");
    std::fs::write(&file, text).expect("write the configuration");
    Command::new(binary::shim6())
        .args(["run", "--config"])
        .arg(file)
        .output()
        .expect("shim6 runs")
}

fn assert_refused(text: &str, line: usize, wanted: &str) {
    let output = run_with(text);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("broken.toml:{line}:")), "{said}");
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn wrong_type_names_file_line_and_key() {
    assert_refused("[trigger]\n\npackets = \"many\"\n", 3, "packets");
}

#[test]
fn value_out_of_range_names_what_is_expected() {
    assert_refused("[reap]\nsend_timeout = \"1ms\"\n", 2, "50ms");
}

#[test]
fn unknown_key_names_the_nearest_known_one() {
    assert_refused("[addresses]\ndadd = false\n", 2, "dad");
}

#[test]
fn broken_syntax_names_its_line() {
    assert_refused("[reap]\n\n\nsend_timeout =\n", 4, "");
}
