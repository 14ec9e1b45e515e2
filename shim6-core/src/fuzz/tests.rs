//! Runs the bodies over the corpus of the fuzz targets.

use std::{
    fs,
    path::{Path, PathBuf},
    println,
};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str, body: fn(&[u8])) {
    let directory = corpus(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut replayed = 0;
    for entry in entries {
        let path = entry.expect("an entry").path();
        let octets = fs::read(&path).expect("a file");
        // A test that fails shows what was printed last.
        println!("{}", path.display());
        body(&octets);
        replayed += 1;
    }
    assert!(replayed > 0, "{}: no files", directory.display());
}

#[test]
fn corpus_of_messages_holds() {
    replay("message", super::message);
}

#[test]
fn corpus_of_options_holds() {
    replay("options", super::options);
}

#[test]
fn corpus_of_payload_headers_holds() {
    replay("payload", super::payload);
}

#[test]
fn corpus_of_packets_holds() {
    replay("dataplane", super::dataplane);
}
