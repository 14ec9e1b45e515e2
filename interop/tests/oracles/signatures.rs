//! RSA keys and CGA signatures against OpenSSL's command line and another DER reader.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::Command;

use pkcs1::RsaPublicKeyRef;
use pkcs1::der::{Decode, Encode};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_cga::{KeyError, KeySizes, PrivateKey};
use spki::SubjectPublicKeyInfoRef;
use tempfile::TempDir;

const GENERATION: u32 = 0x0102_0304;
const LOCATORS: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 1, 2, 3, 4),
    Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 5, 6, 7, 8),
    Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7),
];

/// RFC 5533 section 5.15.5, written down a second time.
fn signed_octets() -> Vec<u8> {
    let mut octets = b"\x4A\x30\x56\x62\x48\x58\x57\x4B\x36\x55\x41\x6F\x50\x6A\x6D\x48".to_vec();
    octets.extend([1, 2, 3, 4]);
    octets.extend(LOCATORS.iter().flat_map(Ipv6Addr::octets));
    octets
}

fn key(bits: usize) -> PrivateKey {
    let mut rng = ChaCha20Rng::seed_from_u64(bits as u64);
    PrivateKey::generate(bits, KeySizes::default(), &mut rng).expect("a key")
}

fn read(pem: &str) -> Result<PrivateKey, KeyError> {
    PrivateKey::from_pkcs8_pem(pem, KeySizes::default())
}

/// A directory of its own and what OpenSSL makes in it.
struct OpenSsl {
    directory: TempDir,
}

impl OpenSsl {
    /// `None` where OpenSSL's command line is not installed.
    fn new() -> Option<Self> {
        match Command::new("openssl").arg("version").output() {
            Ok(_) => Some(Self {
                directory: tempfile::tempdir().expect("a directory"),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let required = std::env::var_os("SHIM6_REQUIRE_OPENSSL").is_some_and(|value| value == "1");
                assert!(!required, "openssl is required and not installed");
                println!("skipped: openssl is not installed");
                None
            }
            Err(error) => panic!("openssl: {error}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file")
    }

    fn read_text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("text")
    }

    /// Runs it with arguments out of these words; gives whether it succeeded, and all it said.
    fn try_run(&self, words: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .expect("openssl runs");
        let said = [&output.stdout[..], &output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn run(&self, words: &str) -> String {
        let (succeeded, said) = self.try_run(words);
        assert!(succeeded, "openssl {words}: {said}");
        said
    }
}

#[test]
fn openssl_verifies_our_signatures() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.write("message", signed_octets());
    // The last is of no whole number of octets.
    for bits in [1024, 2048, 1029] {
        let key = key(bits);
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut signature = key.sign_locators(GENERATION, &LOCATORS, &mut rng).expect("a signature");
        openssl.write("public", key.public_key().spki());
        openssl.write("signature", &signature);
        let verify = "dgst -sha1 -keyform DER -verify public -signature signature message";
        openssl.run(verify);

        signature[bits / 16] ^= 1;
        openssl.write("signature", &signature);
        let (succeeded, said) = openssl.try_run(verify);
        assert!(!succeeded, "a changed signature: {said}");
    }
}

#[test]
fn we_verify_the_signatures_of_openssl() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.write("message", signed_octets());
    for bits in [1024, 2048, 3072] {
        openssl.run(&format!(
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out private"
        ));
        openssl.run("dgst -sha1 -sign private -out signature message");
        let key = read(&openssl.read_text("private")).expect("a key of openssl");
        let signature = openssl.read("signature");
        let public = key.public_key();
        assert_eq!(public.bits(), bits);
        assert_eq!(public.verify_locators(GENERATION, &LOCATORS, &signature), Ok(()));
        assert!(public.verify_locators(GENERATION, &LOCATORS[1..], &signature).is_err());

        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let ours = key.sign_locators(GENERATION, &LOCATORS, &mut rng);
        assert_eq!(ours, Ok(signature), "there is one signature only");
        openssl.run("pkey -in private -pubout -outform DER -out public");
        assert_eq!(public.spki(), openssl.read("public"));
    }
}

#[test]
fn openssl_reads_the_keys_that_we_write() {
    let Some(openssl) = OpenSsl::new() else { return };
    for bits in [1024, 2048, 1029] {
        let key = key(bits);
        openssl.write("private", key.to_pkcs8_pem().as_bytes());
        // Tests the primes, too.
        openssl.run("pkey -in private -check -noout");
        openssl.run("pkey -in private -pubout -outform DER -out public");
        assert_eq!(openssl.read("public"), key.public_key().spki());
        openssl.run("pkcs8 -topk8 -nocrypt -in private -out again");
        assert_eq!(openssl.read_text("again"), *key.to_pkcs8_pem());
    }
}

#[test]
fn keys_in_other_forms_are_read_once_openssl_has_converted_them() {
    let Some(openssl) = OpenSsl::new() else { return };
    let key = key(1024);
    openssl.write("private", key.to_pkcs8_pem().as_bytes());
    openssl.run("rsa -in private -traditional -out pkcs1");
    openssl.run("pkcs8 -topk8 -in private -passout pass:test -out encrypted");
    for (file, error, password) in [
        ("pkcs1", KeyError::Pkcs1Pem, ""),
        ("encrypted", KeyError::EncryptedPem, "-passin pass:test"),
    ] {
        assert_eq!(read(&openssl.read_text(file)).unwrap_err(), error);
        openssl.run(&format!("pkcs8 -topk8 -nocrypt {password} -in {file} -out converted"));
        assert_eq!(openssl.read_text("converted"), *key.to_pkcs8_pem());
    }
}

#[test]
fn another_der_reader_reads_and_writes_our_public_keys() {
    for bits in [1024, 1029] {
        let key = key(bits);
        let octets = key.public_key().spki();
        let info = SubjectPublicKeyInfoRef::from_der(octets).expect("a SubjectPublicKeyInfo");
        assert_eq!(info.to_der().expect("DER"), octets);
        let inner = info.subject_public_key.as_bytes().expect("whole octets");
        let numbers = RsaPublicKeyRef::from_der(inner).expect("an RSAPublicKey");
        assert_eq!(numbers.modulus.as_bytes().len(), bits.div_ceil(8));
        assert_eq!(numbers.public_exponent.as_bytes(), [1, 0, 1]);
    }
}
