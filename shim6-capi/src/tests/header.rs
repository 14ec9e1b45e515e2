//! The header: up to date, and taken by compilers of C99 and C++.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::*;

/// Writes the header instead of comparing it.
const WRITE: &str = "SHIM6_WRITE_HEADER";

/// In this order in the header.
const SOURCES: [&str; 8] = [
    "status", "types", "identity", "config", "handle", "packets", "event", "commands",
];
const LAST: &str = "queries";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn committed() -> PathBuf {
    root().join("include/shim6.h")
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("well-formed");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES.into_iter().chain([LAST]) {
        builder = builder.with_src(root().join("src").join(source).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().expect("parsed").write(&mut header);
    String::from_utf8(header).expect("text")
}

#[test]
fn the_header_is_that_of_the_source() {
    let generated = generated();
    if env::var_os(WRITE).is_some_and(|value| value == "1") {
        fs::write(committed(), &generated).expect("a file");
    }
    let committed = fs::read_to_string(committed()).expect("the header");
    assert!(
        committed == generated,
        "include/shim6.h is not that of the source: {WRITE}=1 cargo test -p shim6-capi header writes it anew"
    );
}

#[test]
fn all_functions_are_in_the_header() {
    let header = generated();
    let mut count = 0;
    for source in SOURCES.into_iter().chain([LAST]) {
        let source = fs::read_to_string(root().join("src").join(source).with_extension("rs")).expect("source");
        for line in source.lines().filter(|line| line.contains("extern \"C\" fn ")) {
            let name = line
                .split("fn ")
                .nth(1)
                .and_then(|rest| rest.split('(').next())
                .expect("a name");
            assert!(header.contains(&format!("{name}(")), "{name}");
            count += 1;
        }
    }
    assert!(count > 35, "{count}");
}

#[test]
fn all_names_in_the_header_are_defined_there() {
    let header = generated();
    let is_name = |word: &&str| word.to_ascii_lowercase().starts_with("shim6_");
    let words = header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let own = ["SHIM6_H", "SHIM6_WRITE_HEADER"];
    for name in words.filter(is_name).filter(|name| !own.contains(name)) {
        let definitions = [
            format!("#define {name} "),
            format!("    {name} = "),
            format!("{name}("),
            format!("typedef struct {name} "),
            format!("enum {name}\n"),
        ];
        assert!(
            definitions.iter().any(|definition| header.contains(definition)),
            "{name}"
        );
    }
}

/// Compiles a program that includes the header and compares sizes.
fn compile(compiler: &str, options: &[&str], file: &str) {
    let sizes = [
        ("shim6_address", size_of::<Address>()),
        ("shim6_pair", size_of::<Pair>()),
        ("shim6_flow", size_of::<Flow>()),
        ("shim6_preference", size_of::<Preference>()),
        ("shim6_config", size_of::<Config>()),
        ("shim6_event", size_of::<Event>()),
        ("shim6_context_info", size_of::<ContextInfo>()),
        ("shim6_path_info", size_of::<PathInfo>()),
        ("shim6_counters", size_of::<Counters>()),
        ("shim6_status", size_of::<Status>()),
    ];
    let mut text = String::from("#include \"shim6.h\"\n#include \"shim6.h\"\n");
    for (name, size) in sizes {
        text += &format!("extern char size_of_{name}[sizeof({name}) == {size} ? 1 : -1];\n");
    }
    text += "int main(void) { return shim6_poll_timeout(NULL) == SHIM6_NEVER ? 0 : SHIM6_STATUS_INTERNAL; }\n";
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join(file);
    fs::write(&source, text).expect("a file");
    fs::write(directory.path().join("shim6.h"), generated()).expect("a file");
    let output = Command::new(compiler)
        .args(options)
        .args([
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Wconversion",
            "-Werror",
            "-fsyntax-only",
        ])
        .arg(&source)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {options:?}: {said}");
}

#[test]
fn c99_takes_the_header_without_a_warning_and_sizes_are_the_same() {
    compile("cc", &["-std=c99"], "header.c");
}

#[test]
fn cplusplus_takes_the_header_where_there_is_a_compiler() {
    if Command::new("c++").arg("--version").output().is_err() {
        eprintln!("skipped: no c++ here");
        return;
    }
    compile("c++", &["-std=c++11"], "header.cc");
}
