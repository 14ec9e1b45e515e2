//! Private keys in files.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use shim6_cga::{KeySizes, PrivateKey};

use super::error::IdentityError;
use super::{disk, hex};

/// Largest key file read, in octets; one of 16384 bits would fit.
const MAX_FILE: u64 = 1 << 16;

/// Reads a private key (PKCS#8 in PEM) of an accepted size.
///
/// # Errors
///
/// When the file cannot be read, is open to others than its owner, or holds no such key.
pub fn load_key(path: &Path) -> Result<PrivateKey, IdentityError> {
    let octets = disk::read_private(path, MAX_FILE)?;
    // What is no text is no PEM either, and the error for that says what is expected.
    let text = std::str::from_utf8(&octets).unwrap_or_default();
    PrivateKey::from_pkcs8_pem(text, KeySizes::default()).map_err(|source| IdentityError::Key {
        path: path.to_owned(),
        source,
    })
}

/// The name of the file with the private key of this public key, a SubjectPublicKeyInfo in DER.
pub(super) fn file_name(public_key: &[u8]) -> String {
    format!("key-{}.pem", hex::encode(&Sha256::digest(public_key)[..8]))
}
