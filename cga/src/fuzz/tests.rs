//! Runs the bodies over the corpus of the fuzz targets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{CgaParametersRef, Sec};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str, body: fn(&[u8])) {
    let directory = corpus(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut replayed = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let octets = fs::read(&path).unwrap();
        // A test that fails shows what was printed last.
        println!("{}", path.display());
        body(&octets);
        replayed += 1;
    }
    assert!(replayed > 0, "{}: no files", directory.display());
}

/// Most files are refused early. Some have to get to the end, or the bodies would say little.
#[test]
fn corpus_has_parameters_that_verify() {
    let read = |name: &str| fs::read(corpus("parameters").join(name)).unwrap();
    for name in ["cga-key-1024-sec-1", "hba-nonce-sec-1"] {
        let octets = read(name);
        let view = CgaParametersRef::parse(&octets).unwrap();
        assert_eq!(view.verify_cga(&view.address(Sec::ONE)), Ok(Sec::ONE), "{name}");
    }
    let octets = read("hba-nonce-sec-1");
    assert_eq!(
        CgaParametersRef::parse(&octets)
            .unwrap()
            .multi_prefix()
            .unwrap()
            .prefixes()
            .len(),
        2
    );
}

#[test]
fn corpus_of_parameters_holds() {
    replay("parameters", super::parameters);
}

#[cfg(feature = "rsa")]
#[test]
fn corpus_has_keys_and_signatures_that_are_accepted() {
    use crate::{KeySizes, PrivateKey, PublicKey};

    let sizes = KeySizes::default();
    let read = |target: &str, name: &str| fs::read(corpus(target).join(name)).unwrap();
    assert!(PublicKey::from_spki(&read("public_key", "key-1024"), sizes).is_ok());
    assert!(PrivateKey::from_pkcs8_der(&read("private_key", "der-1024"), sizes).is_ok());
    let pem = String::from_utf8(read("private_key", "pem-1024")).unwrap();
    assert!(PrivateKey::from_pkcs8_pem(&pem, sizes).is_ok());
    for (name, accepted) in [("cga", true), ("hba-p-flag", true), ("of-another-key", false)] {
        assert_eq!(super::signature(&read("signature", name)), accepted, "{name}");
    }
}

#[cfg(feature = "rsa")]
#[test]
fn corpus_of_public_key_holds() {
    replay("public_key", super::public_key);
}

#[cfg(feature = "rsa")]
#[test]
fn corpus_of_private_key_holds() {
    replay("private_key", super::private_key);
}

#[cfg(feature = "rsa")]
#[test]
fn corpus_of_signature_holds() {
    replay("signature", |octets| {
        super::signature(octets);
    });
}
