#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
//! IPv6 addresses that prove themselves: cryptographically generated addresses (CGA, RFC 3972, with the
//! extension fields of RFC 4581) and hash-based addresses (HBA, RFC 5535).
//!
//! The interface identifier of such an address is a hash of a *CGA Parameters data structure*. Whoever shows the
//! parameters proves that the address was made from them. With the Multi-Prefix extension the parameters list all
//! prefixes of a multihomed host, so its addresses under all of them are bound to each other: that is an HBA set,
//! and it needs no public key.
//!
//! No I/O, clock or randomness of its own: `no_std` with `alloc`, and the same seed gives the same set.
//! Verification of an address allocates nothing.
//!
//! ```
//! use shim6_cga::{CgaParametersRef, HbaSet, Sec, SubnetPrefix};
//! # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! # let mut rng = ChaCha20Rng::seed_from_u64(1);
//! # use core::net::Ipv6Addr;
//! // The owner: one address under each prefix. `rng` is any `rand_core::Rng`.
//! let prefixes: [Ipv6Addr; 2] = ["2001:db8:a1::".parse()?, "2001:db8:b1::".parse()?];
//! let set = HbaSet::generate(&prefixes.map(SubnetPrefix::from), Sec::ONE, &mut rng)?;
//! let sent = set.parameters().to_vec();
//!
//! // The peer: the parameters of one address verify them all, and no other address.
//! let received = CgaParametersRef::parse(&sent)?;
//! for address in set.addresses() {
//!     assert_eq!(received.verify_hba(address)?, Sec::ONE);
//! }
//! assert!(received.verify_hba(&"2001:db8:b1::1".parse()?).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`CgaParametersRef`] is a checked view of received octets, [`CgaParameters`] owns them.
//! - [`HbaSet`] generates a set at once, [`HbaSearch`] in steps for `Sec` 1 and 2, where the search for a modifier
//!   takes about 2^16 and 2^32 hashes.
//! - [`ModifierSearch`] is the bare search, for parameters with any public key and extensions.
#![cfg_attr(
    feature = "signatures",
    doc = "- [`PrivateKey`] signs locators that belong to no set, [`CgaParametersRef::verify_signed_locators`] verifies them with \
           the [`PublicKey`] in the parameters (feature `signatures`, on by default)."
)]

extern crate alloc;

mod cga;
mod der;
mod error;
mod extension;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod hba;
#[cfg(feature = "signatures")]
mod key;
mod parameters;
mod prefix;
mod search;
mod sec;
#[cfg(feature = "signatures")]
mod signature;
mod verify;

pub use cga::{Cga, CgaSearch};
pub use der::DerError;
pub use error::{Field, GenerateError, ParseError, UnsupportedSec, VerifyError};
pub use extension::{Extension, ExtensionType, Extensions, MultiPrefix};
pub use hba::{HbaSearch, HbaSet, MAX_PREFIXES, max_prefixes};
#[cfg(feature = "signatures")]
pub use key::{KeyError, KeyField, KeySizes, PrivateKey, PublicKey};
pub use parameters::{CgaParameters, CgaParametersRef, MAX_COLLISION_COUNT, Modifier, PARAMETERS_HEAD_LEN};
pub use prefix::SubnetPrefix;
pub use search::ModifierSearch;
pub use sec::Sec;
#[cfg(feature = "signatures")]
pub use signature::{MessageTypeTag, SignatureError, SignedLocatorsError};
pub use verify::HbaVerifier;
