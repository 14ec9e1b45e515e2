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

fn config(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary::shim6());
    command.arg("config").args(arguments).output().expect("shim6 runs")
}

#[test]
fn each_example_passes_the_check_without_a_warning() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/examples");
    let mut checked = 0;
    for entry in std::fs::read_dir(directory).expect("the examples") {
        let path = entry.expect("an example").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let output = config(&["check", "--config", path.to_str().expect("a plain name")]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {output:?}", path.display());
        assert_eq!(said, format!("ok: {}\n", path.display()));
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn a_check_says_each_error_and_has_the_exit_code_of_a_bad_configuration() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("main.toml");
    std::fs::write(&file, "tun.mtu = 1\n").expect("a file");
    let drop_ins = directory.path().join("main.toml.d");
    std::fs::create_dir(&drop_ins).expect("a directory");
    std::fs::write(drop_ins.join("10.toml"), "\ntun.nmae = \"x\"\n").expect("a file");
    let file = file.to_str().expect("a plain name");
    let output = config(&["check", "--config", file]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        said.contains("main.toml:1: tun.mtu: 1 is out of range") && said.contains("10.toml:2: tun.nmae: "),
        "{said}"
    );
    let output = config(&["check", "--json", "--config", file]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (json["valid"].as_bool(), json["errors"].as_array().map(Vec::len)),
        (Some(false), Some(2))
    );
    assert_eq!(config(&["show", "--config", file]).status.code(), Some(2));
    assert_eq!(
        config(&["check", "--config", "/nonexistent.toml"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_default_file_is_a_configuration_that_changes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("shim6.toml");
    let text = config(&["default"]).stdout;
    std::fs::write(&file, &text).expect("a file");
    let file = file.to_str().expect("a plain name");
    let output = config(&["check", "--config", file]);
    assert!(output.status.success(), "{output:?}");
    let shown = config(&["show", "--config", file]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let origins = shown.lines().skip(1).filter(|line| line.contains(file)).count();
    assert_eq!(origins, 0, "{shown}");
}
