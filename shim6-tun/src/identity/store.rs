//! The directory of an identity.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use sha2::{Digest as _, Sha256};
use shim6_cga::{PrivateKey, PublicKey};

use super::error::{IDENTITY, IdentityError};
use super::{PublicIdentity, StoredIdentity, StoredSearch, disk, hex, key, record};
use crate::config::Problem;

/// Largest `identity.toml` or `search.toml` read, in octets.
const MAX_FILE: u64 = 1 << 16;

const IDENTITY_ADVICE: &str = "put the right file back, or make a new identity: shim6 address generate --force";
const SEARCH_ADVICE: &str = "remove the file to give that search up";

/// The directory of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    directory: PathBuf,
}

/// The right to write to a [`Store`]; nobody else has it until this is dropped.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a Store,
    _lock: Flock<File>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// `identity.toml`.
    pub identity: PathBuf,
    /// The key file.
    pub key: Option<PathBuf>,
    /// A copy of the former `identity.toml`: in its place again, it brings the former addresses back.
    pub former: Option<PathBuf>,
}

impl Store {
    /// The identity in `directory`, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file that says what everybody may know.
    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.directory.join(IDENTITY)
    }

    /// The file of an interrupted search.
    #[must_use]
    pub fn search_path(&self) -> PathBuf {
        self.directory.join("search.toml")
    }

    /// The file of the private key of this public key.
    #[must_use]
    pub fn key_path(&self, public_key: &PublicKey) -> PathBuf {
        self.directory.join(key::file_name(public_key.spki()))
    }

    /// The identity with its private key; `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, says something that is not understood, or holds another key than the parameters; when
    /// the key file is open to others than its owner.
    pub fn load(&self) -> Result<Option<StoredIdentity>, IdentityError> {
        let Some(public) = self.load_public()? else {
            return Ok(None);
        };
        let public_key = public.set.parameters().public_key();
        let origin = self.identity_path();
        let key = public.key.map(|path| matching_key(&path, public_key, origin));
        Ok(Some(StoredIdentity {
            key: key.transpose()?,
            set: public.set,
            created: public.created,
            automatic: public.automatic,
        }))
    }

    /// The identity without its private key, for which no permission is needed; `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or says something that is not understood.
    pub fn load_public(&self) -> Result<Option<PublicIdentity>, IdentityError> {
        parsed(&self.identity_path(), record::parse_identity, IDENTITY_ADVICE)
    }

    /// The search that was interrupted; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or says something that is not understood.
    pub fn load_search(&self) -> Result<Option<StoredSearch>, IdentityError> {
        parsed(&self.search_path(), record::parse_search, SEARCH_ADVICE)
    }

    /// The private key of a search, `None` for that of an HBA-only set.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_search_key(&self, search: &StoredSearch) -> Result<Option<PrivateKey>, IdentityError> {
        let public_key = search.parameters.public_key();
        let key = search.key.as_deref();
        key.map(|path| matching_key(path, public_key, self.search_path()))
            .transpose()
    }

    /// Takes the right to write; makes the directory where it does not exist.
    ///
    /// # Errors
    ///
    /// When somebody else has it, or when the directory cannot be written to.
    pub fn lock(&self) -> Result<Writer<'_>, IdentityError> {
        disk::make(&self.directory)?;
        let lock = disk::lock(&self.directory)?;
        disk::remove_unfinished(&self.directory, is_own_file)?;
        Ok(Writer {
            store: self,
            _lock: lock,
        })
    }

    /// Writes the identity in place of the former one, see [`Writer::save`].
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock) and [`Writer::save`].
    pub fn save(&self, identity: &StoredIdentity) -> Result<Saved, IdentityError> {
        self.lock()?.save(identity)
    }
}

impl Writer<'_> {
    /// The directory written to.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Writes the identity in place of the former one, of which a copy is kept unless the daemon made both. A former key
    /// file and an interrupted search stay. After a crash there is the former identity or this one.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or when the key does not belong to the set.
    pub fn save(&self, identity: &StoredIdentity) -> Result<Saved, IdentityError> {
        let public_key = identity.set.parameters().public_key();
        let key = match (&identity.key, identity.set.has_public_key()) {
            (Some(key), true) if key.public_key().spki() == public_key => Some(self.save_key(key)?),
            (None, false) => None,
            _ => return Err(IdentityError::NoKey),
        };
        let path = self.store.identity_path();
        let text = record::identity(identity);
        let former = self.keep_former(&path, text.as_bytes(), identity.automatic)?;
        disk::replace(&path, text.as_bytes(), disk::PUBLIC)?;
        Ok(Saved {
            identity: path,
            key,
            former,
        })
    }

    /// Writes a private key into a file of its own that is named after it; gives its path.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save_key(&self, key: &PrivateKey) -> Result<PathBuf, IdentityError> {
        let path = self.store.key_path(key.public_key());
        disk::replace(&path, key.to_pkcs8_pem().as_bytes(), disk::PRIVATE)?;
        Ok(path)
    }

    /// Writes how far a search is, in place of what was written before. Its key has to be there already.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save_search(&self, search: &StoredSearch) -> Result<(), IdentityError> {
        let text = record::search(search);
        disk::replace(&self.store.search_path(), text.as_bytes(), disk::PRIVATE)
    }

    /// Removes the interrupted search, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove_search(&self) -> Result<(), IdentityError> {
        disk::remove(&self.store.search_path())
    }

    /// Moves `identity.toml`, which holds no identity, to a file that is named after its contents; gives that path.
    ///
    /// # Errors
    ///
    /// When it cannot be read or renamed.
    pub fn set_aside(&self) -> Result<PathBuf, IdentityError> {
        let path = self.store.identity_path();
        let aside = self.store.directory.join(named("damaged", &disk::digest(&path)?));
        disk::rename(&path, &aside)?;
        Ok(aside)
    }

    /// Copies the former file, whatever it says, to one that is named after its contents.
    fn keep_former(&self, path: &Path, new: &[u8], automatic: bool) -> Result<Option<PathBuf>, IdentityError> {
        let Some(former) = disk::read(path, MAX_FILE)?.filter(|former| former != new) else {
            return Ok(None);
        };
        // A daemon whose uplinks come and go would fill the directory.
        if automatic
            && self
                .store
                .load_public()
                .is_ok_and(|former| former.is_some_and(|it| it.automatic))
        {
            return Ok(None);
        }
        let kept = self.store.directory.join(named("former", &Sha256::digest(&former)));
        disk::replace(&kept, &former, disk::PUBLIC)?;
        Ok(Some(kept))
    }
}

/// The name of a file whose contents have this digest.
fn named(kind: &str, digest: &[u8]) -> String {
    format!("{kind}-{}.toml", hex::encode(&digest[..8]))
}

/// Whether files of this name in the directory are made here.
pub(crate) fn is_own_file(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    let starts = [IDENTITY, "search.toml", "key-", "former-", "damaged-", "lock"];
    starts.iter().any(|start| name.starts_with(start))
}

fn matching_key(path: &Path, public_key: &[u8], origin: PathBuf) -> Result<PrivateKey, IdentityError> {
    let key = key::load_key(path)?;
    if key.public_key().spki() == public_key {
        Ok(key)
    } else {
        Err(IdentityError::OtherKey {
            path: path.to_owned(),
            origin,
        })
    }
}

fn parsed<T>(
    path: &Path,
    parse: impl FnOnce(&str, &Path) -> Result<T, Problem>,
    advice: &'static str,
) -> Result<Option<T>, IdentityError> {
    let Some(octets) = disk::read(path, MAX_FILE)? else {
        return Ok(None);
    };
    let parsed = match std::str::from_utf8(&octets) {
        Ok(text) => parse(text, path),
        Err(error) => Err(Problem {
            file: path.to_owned(),
            line: 1 + octets[..error.valid_up_to()]
                .iter()
                .filter(|&&octet| octet == b'\n')
                .count(),
            key: String::new(),
            wrong: "this line is not UTF-8".to_owned(),
            expected: "expected a TOML file in UTF-8".to_owned(),
        }),
    };
    let parsed = parsed.map_err(|problem| IdentityError::Invalid {
        problem,
        advice,
        is_other_version: std::str::from_utf8(&octets).is_ok_and(record::is_of_other_version),
    })?;
    Ok(Some(parsed))
}
