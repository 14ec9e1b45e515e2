//! What can be wrong with an identity on disk.

use std::io;
use std::path::{Path, PathBuf};

use shim6_cga::KeyError;

use crate::config::Problem;

/// The file that says what everybody may know.
pub(super) const IDENTITY: &str = "identity.toml";

/// Why an identity is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system refused something.
    #[error("cannot {doing} {}; {}", path.display(), hint(source))]
    Io {
        /// What was being done, such as `write`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is that of a directory, a device or the like.
    #[error("{} is not a regular file; move it away, or name another file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is too large to be what it should be.
    #[error("{} is larger than {limit} octets; check that it is the right file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in octets.
        limit: u64,
    },
    /// Others than its owner can get at the private key.
    #[error(
        "the private key {} is open to others than its owner (mode {mode:04o}); if nobody has read it: chmod 600 {0}",
        path.display()
    )]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file of ours says something that is not understood.
    #[error("{problem}; {advice}")]
    Invalid {
        /// What is wrong, and where.
        problem: Problem,
        /// What to do about it.
        advice: &'static str,
        /// Whether it says to be of a version that is not known.
        is_other_version: bool,
    },
    /// A key file holds no key that can be used.
    #[error("the key file {} cannot be used; expected an RSA key in PKCS#8 PEM", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key file holds another key than the one that the addresses were made from.
    #[error(
        "{} holds another key than the one in the parameters of {}; put the right key there",
        path.display(), origin.display()
    )]
    OtherKey {
        /// The key file.
        path: PathBuf,
        /// The file with the parameters.
        origin: PathBuf,
    },
    /// The addresses were made from a public key, and its private key is not given.
    #[error("the addresses of this identity were made from a public key, and the private key is missing")]
    NoKey,
    /// Somebody else is writing.
    #[error("another process is writing to {}; wait until it is done, or stop it", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}

impl IdentityError {
    /// Whether `identity.toml` is there and holds no identity. One of another version is none of these: whoever wrote it can
    /// read it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Invalid { is_other_version, .. } => !is_other_version,
            Self::TooLarge { path, .. } => path.ends_with(IDENTITY),
            _ => false,
        }
    }

    /// Whether the identity is there, but its private key is lost or is no key.
    #[must_use]
    pub fn is_lost_key(&self) -> bool {
        match self {
            Self::Io { path, source, .. } => source.kind() == io::ErrorKind::NotFound && !path.ends_with(IDENTITY),
            Self::TooLarge { path, .. } => !path.ends_with(IDENTITY),
            Self::Key { .. } | Self::OtherKey { .. } => true,
            _ => false,
        }
    }

    /// For [`Result::map_err`]: the error of `doing` something to `path`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or as the owner",
        io::ErrorKind::NotFound => "check its name",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "choose a directory that can be written to",
        _ => "check the path and its permissions",
    }
}
