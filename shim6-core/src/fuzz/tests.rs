//! Runs the bodies over the corpus of the fuzz targets.

mod seeds;

use std::{
    env, fs,
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

/// With `SHIM6_WRITE_SEEDS=1` they are written; to be done when a message or a target changes.
#[test]
fn corpus_has_the_seeds_that_are_made_by_hand() {
    let write = env::var_os("SHIM6_WRITE_SEEDS").is_some();
    for (target, name, octets) in seeds::seeds() {
        let path = corpus(target).join(&name);
        if write {
            fs::create_dir_all(corpus(target)).expect("a directory");
            fs::write(&path, &octets).expect("a file");
        }
        let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found == octets, "{} is not what it is made from now", path.display());
    }
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

#[test]
fn corpus_of_operations_holds() {
    replay("endpoint", super::endpoint);
}
