#![cfg_attr(not(test), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
//! IPv6 addresses that prove themselves: cryptographically generated addresses (CGA, RFC 3972, with the
//! extension fields of RFC 4581) and hash-based addresses (HBA, RFC 5535).
//!
//! The interface identifier of such an address is a hash of a *CGA Parameters data structure*. Whoever shows the
//! parameters proves that the address was made from them. With the Multi-Prefix extension the parameters list all
//! prefixes of a multihomed host, so its addresses under all of them are bound to each other: that is an HBA set,
//! and it needs no public key.
//!
//! No I/O, clock or randomness of its own: `no_std` with `alloc`, and the same seed gives the same addresses.
//! Verification of an address allocates nothing.
//!
//! # HBA sets
//!
//! ```
//! use core::net::Ipv6Addr;
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use shim6_cga::{CgaParametersRef, HbaSet, Sec, SubnetPrefix};
//!
//! // The owner: one address under each prefix. Any `rand_core::Rng` will do, `rand::rng()` in earnest.
//! let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let prefixes: [Ipv6Addr; 2] = ["2001:db8:a1::".parse()?, "2001:db8:b1::".parse()?];
//! let set = HbaSet::generate(&prefixes.map(SubnetPrefix::from), Sec::ONE, &mut rng)?;
//! let sent = set.parameters().to_vec();
//!
//! // The peer: the parameters of one address verify them all, and no other address.
//! let mut verifier = CgaParametersRef::parse(&sent)?.hba_verifier()?;
//! for address in set.addresses() {
//!     assert_eq!(verifier.verify(address)?, Sec::ONE);
//! }
//! assert!(verifier.verify(&"2001:db8:b1::1".parse()?).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Keep the parameters with the addresses: [`HbaSet::from_parameters`] gives the set back.
//!
//! # With a public key
//!
//! A [`Cga`] is one address made from a public key, and proves nothing about others until the key signs for them. A
//! CGA/HBA set is both: its addresses verify each other without a signature, and the key signs for those of a prefix
//! that is added later. `public_key` is a DER-encoded SubjectPublicKeyInfo everywhere.
//!
//! ```
//! # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! # use shim6_cga::{Cga, HbaSet, Sec, SubnetPrefix};
//! # let mut rng = ChaCha20Rng::seed_from_u64(1);
//! # let [first, second] = [1, 2].map(|site| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, site, 0, 0]));
//! # let public_key = [0x30, 0x00];
//! let cga = Cga::generate(first, &public_key, &[], Sec::ONE, &mut rng)?;
//! assert_eq!(cga.parameters().verify_cga(&cga.address())?, Sec::ONE);
//!
//! let set = HbaSet::generate_with_public_key(&[first, second], &public_key, Sec::ONE, &mut rng)?;
//! assert!(set.has_public_key());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Duplicate addresses
//!
//! [`Cga::without_duplicates`] and [`HbaSet::without_duplicates`] take the outcome of duplicate address detection, which
//! is the caller's. An address in use gives way to that of the next collision count, of a set all addresses at once;
//! after three collisions it is an error (RFC 3972 section 4, RFC 5535 section 6). Where detection cannot be done in a
//! function, there is `with_collision_count`.
//!
//! # Sec, and the search for a modifier
//!
//! [`Sec`] makes it harder to find another key for an address, and so to generate one: on average
//! [`Sec::expected_hashes`] hashes, some milliseconds at Sec 1 and some minutes to an hour at Sec 2. It also names the
//! hash function, by the table of RFC 4982 section 6, in which all three values stand for SHA-1; others are
//! [refused](UnsupportedSec).
//!
//! [`HbaSearch`] and [`CgaSearch`] search in steps. What [`HbaSearch::parameters`] gives can be stored at any time and
//! [resumed](HbaSearch::resume) from. Parts of a [`ModifierSearch`] are searches of their own, for one thread each:
//!
//! ```
//! # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! # use shim6_cga::{HbaSearch, Sec, SubnetPrefix};
//! # let mut rng = ChaCha20Rng::seed_from_u64(1);
//! # let prefixes = [1, 2].map(|site| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, site, 0, 0]));
//! let search = HbaSearch::new(&prefixes, Sec::ONE, &mut rng)?;
//! let mut rest = search.modifier_search().clone();
//! let modifier = loop {
//!     let mut parts = [1, 2, 3, 4].map(|_| rest.split_off(10_000));
//!     // The first that is found in the order of the parts, as a single search would: the same seed, the same set.
//!     let found = std::thread::scope(|scope| {
//!         let threads = parts.each_mut().map(|part| scope.spawn(|| part.step(u64::MAX)));
//!         threads.into_iter().find_map(|thread| thread.join().unwrap())
//!     });
//!     if let Some(modifier) = found {
//!         break modifier;
//!     }
//! };
//! let set = search.finish(modifier)?;
//! # assert_eq!(HbaSearch::resume(&search.parameters(), Sec::ONE)?.step(u64::MAX), Some(set));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Octets
//!
//! [`CgaParametersRef`] is a checked view of received octets, [`CgaParameters`] owns them. Unknown extension fields are
//! kept and hashed.
#![cfg_attr(feature = "rsa", doc = "")]
#![cfg_attr(feature = "rsa", doc = include_str!("signatures.md"))]

extern crate alloc;

/// What the README says is run as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod cga;
mod der;
mod error;
mod extension;
mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod hba;
#[cfg(feature = "rsa")]
mod key;
mod parameters;
mod prefix;
mod search;
mod sec;
#[cfg(feature = "rsa")]
mod signature;
mod verify;

pub use cga::{Cga, CgaSearch};
pub use der::DerError;
pub use error::{Field, GenerateError, ParseError, VerifyError};
pub use extension::{Extension, Extensions, MultiPrefix};
pub use format::{ExtensionType, MAX_COLLISION_COUNT, Modifier, PARAMETERS_HEAD_LEN};
pub use hba::{HbaSearch, HbaSet, MAX_PREFIXES, max_prefixes};
#[cfg(feature = "rsa")]
pub use key::{KeyError, KeyField, KeySizes, PrivateKey, PublicKey};
pub use parameters::{CgaParameters, CgaParametersRef};
pub use prefix::SubnetPrefix;
pub use rand_core;
pub use search::ModifierSearch;
pub use sec::{Sec, UnsupportedSec};
#[cfg(feature = "rsa")]
pub use signature::{MessageTypeTag, SignatureError, SignedLocatorsError};
pub use verify::HbaVerifier;
