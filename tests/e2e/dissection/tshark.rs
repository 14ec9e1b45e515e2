//! Running tshark.

use std::path::Path;
use std::process::Command;

use shim6_tests::tools;
use tempfile::TempDir;

/// tshark, without anybody's settings.
pub(super) struct Tshark {
    home: TempDir,
}

/// The values of each field that was asked for, in their order in the packet.
pub(super) type Row = Vec<Vec<String>>;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/wireshark/shim6.lua");
/// Between the values of one field. No value has it.
const BETWEEN: char = ';';

impl Tshark {
    /// `None` where it is not installed.
    pub(super) fn new() -> Option<Self> {
        tools::require(&["tshark"]).then(|| Self {
            home: tempfile::tempdir().expect("a directory"),
        })
    }

    /// A row for each packet that passes, with our script.
    pub(super) fn script(&self, capture: &Path, fields: &[&str], options: &[&str]) -> Vec<Row> {
        self.rows(
            capture,
            fields,
            &[&["-X", &format!("lua_script:{SCRIPT}")], options].concat(),
        )
    }

    /// A row for each packet that passes, without any script.
    pub(super) fn alone(&self, capture: &Path, fields: &[&str], options: &[&str]) -> Vec<Row> {
        self.rows(capture, fields, options)
    }

    /// All that there is to say about each packet, with our script.
    pub(super) fn all(&self, capture: &Path, options: &[&str]) -> String {
        let script = format!("lua_script:{SCRIPT}");
        self.run(capture, &[&["-X", &script, "-V"], options].concat())
    }

    fn rows(&self, capture: &Path, fields: &[&str], options: &[&str]) -> Vec<Row> {
        let aggregator = format!("aggregator={BETWEEN}");
        let mut all = vec!["-T", "fields", "-E", &aggregator];
        for field in fields {
            all.extend(["-e", field]);
        }
        all.extend(options);
        let said = self.run(capture, &all);
        let values = |cell: &str| cell.split_terminator(BETWEEN).map(str::to_owned).collect();
        said.lines()
            .map(|line| line.split('\t').map(values).collect())
            .collect()
    }

    /// What it says on standard output. Standard error must not tell of a script that failed.
    fn run(&self, capture: &Path, options: &[&str]) -> String {
        let output = Command::new("tshark")
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .args(["-n", "-r"])
            .arg(capture)
            .args(options)
            .output()
            .expect("tshark runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("Lua"), "tshark: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }
}
