//! The host's identity on disk: its set of addresses (RFC 5535), so that they survive a restart, and the private key of
//! a CGA/HBA set.
//!
//! A directory with `identity.toml`, which says everything that others may know, and a key file that only its owner can
//! read. `docs/identity.md` has the format. Files are replaced at once, `identity.toml` last: whatever happens, the
//! identity on disk is the former or the new one.

mod disk;
mod error;
mod fields;
pub(crate) mod hex;
mod key;
mod record;
mod store;

use std::path::PathBuf;
use std::time::SystemTime;

use shim6_cga::{CgaParameters, HbaSet, PrivateKey, Sec, SubnetPrefix};

pub use error::IdentityError;
pub use key::load_key;
pub(crate) use record::timestamp;
pub(crate) use store::is_own_file;
pub use store::{Saved, Store, Writer};

/// The directory of the identity when nothing else is said.
pub const DEFAULT_PATH: &str = crate::config::DEFAULT_IDENTITY;

/// An identity with all that the host needs to use it.
#[derive(Debug)]
pub struct StoredIdentity {
    /// The addresses and their parameters.
    pub set: HbaSet,
    /// The private key, for a CGA/HBA set; `None` for an HBA-only one.
    pub key: Option<PrivateKey>,
    /// When the set was made; kept in whole seconds.
    pub created: SystemTime,
    /// Whether the daemon made it by itself, so that nobody relies on its addresses.
    pub automatic: bool,
}

/// What everybody may know of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The addresses and their parameters.
    pub set: HbaSet,
    /// When the set was made.
    pub created: SystemTime,
    /// Whether the daemon made it by itself, so that nobody relies on its addresses.
    pub automatic: bool,
    /// Where the private key should be, for a CGA/HBA set. Not looked at.
    pub key: Option<PathBuf>,
}

impl PublicIdentity {
    /// The identity of one who has lost the key: its addresses, but nothing can be signed with it.
    #[must_use]
    pub fn without_key(self) -> StoredIdentity {
        StoredIdentity {
            set: self.set,
            key: None,
            created: self.created,
            automatic: self.automatic,
        }
    }
}

/// A search for a set's modifier that was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSearch {
    /// Parameters of the set, with the modifier that is tried next.
    pub parameters: CgaParameters,
    /// The Sec searched for.
    pub sec: Sec,
    /// How many modifiers were tried before.
    pub tried: u64,
    /// Whether modifier and nonce come from a seed that somebody gave.
    pub seeded: bool,
    /// Where the private key is, for a CGA/HBA set.
    pub key: Option<PathBuf>,
    /// Whether that key was made for this search.
    pub new_key: bool,
}

impl StoredSearch {
    /// The prefixes of the set.
    #[must_use]
    pub fn prefixes(&self) -> Vec<SubnetPrefix> {
        let list = self.parameters.multi_prefix();
        list.into_iter().flat_map(|list| list.prefixes()).collect()
    }
}

#[cfg(test)]
mod tests;
