//! The Shim6 protocol (RFC 5533) without I/O.
//!
//! A host with two uplinks has an address from each. Shim6 keeps the address pair that an application connected with,
//! its *ULIDs*, while the addresses in the packets, the *locators*, move to whichever path works. This crate holds the
//! protocol: it opens no socket, reads no clock and starts no thread, so it runs inside a daemon, a simulator, a userspace
//! network stack or a kernel.
//!
//! # One value for a host
//!
//! A [`Shim`] is all of it: it sits below the IP layer of a stack and above its interfaces. Whole IPv6 packets go through
//! [`Shim::send`] on their way out and through [`Shim::receive`] on their way in, and between them the shim has packets of its
//! own. [`shim`] has an example, and the repository a guide for embedders, `docs/embedding.md`, with a program of 170 lines.
//!
//! | a stack has | and calls |
//! | --- | --- |
//! | a packet to send | [`Shim::send`]; what comes out leaves on the interface that has its source address |
//! | a packet received | [`Shim::receive`]; what comes out is for the upper layers |
//! | done one of those, or anything below | [`Shim::poll_transmit`], [`Shim::poll_deliver`] and [`Shim::poll_event`], each until `None` |
//! | a timer | [`Shim::poll_timeout`] for when, [`Shim::handle_timeout`] then |
//! | an interface that went down, or came back | [`Shim::handle_locator`] |
//! | other addresses than before | [`Endpoint::set_identity`], by [`Shim::command`] |
//! | a transport that knows better | [`Endpoint::handle_hint`], [`Endpoint::prefer`], [`Endpoint::move_to`], [`Shim::fork`] |
//!
//! # Addresses
//!
//! A host's addresses prove that they belong together. [`cga::HbaSet`] makes them, one for each prefix, and an [`Identity`] is
//! what the protocol needs of them. The parameters of the set are to be kept: whoever has others tomorrow is another host to its
//! peers. With the feature `rsa` a prefix that comes later can be added by a signature (`Identity::with_signed_locators`).
//!
//! # Time and randomness
//!
//! Time is an argument, an [`Instant`] of microseconds since whatever the caller likes, and may stand still. Randomness comes
//! from the seed of 32 octets at the start, which must be unpredictable and never be used twice: tags, nonces and the validator follow
//! from it. The same configuration, identity, seed and inputs give the same outputs, octet for octet, so that what
//! happened can be repeated. No number that a peer can choose, and no time, makes anything panic.
//!
//! # What others can make grow
//!
//! Everything has a bound in the configuration: contexts, locators, rates of answers and of hashes in [`LimitsConfig`], held packets in
//! [`HoldConfig`](dataplane::HoldConfig). What is refused is counted, each reason apart ([`Counters`], [`wire::Discard`]). Outputs are
//! to be taken after each input: they wait in queues that grow no faster than inputs come. [`ShimConfig::small`] is for devices
//! with some tens of kilobytes to spare.
//!
//! # The parts
//!
//! Who has several threads, or a data path of his own, takes the parts of a `Shim` instead, as the daemon for Linux does:
//!
//! - [`Endpoint`] is the host's control side: it sets up contexts with peers, verifies their locators and runs REAP
//!   (RFC 5534) for each. Its documentation states the calling order.
//! - [`Dataplane`] is the packet side: it rewrites packets between ULIDs and locators, and records what passes, which is
//!   all that REAP needs to see of them. Many threads read it without a lock.
//! - [`HoldBuffer`](dataplane::HoldBuffer) keeps packets while a path is looked for.
//! - [`wire`] is the message format: for tools that read or write messages.
//! - [`cga`] and [`reap`] are crates of their own, for those who need only addresses that prove themselves, or only failure detection.
//!
//! # Features
//!
//! `rsa`, on by default: locators that are signed, one's own and those of peers. Without it a list with such locators is refused
//! with the Error message that the RFC has for it, and counted; hash-based addresses need no key. `inspect` is for checkers of this
//! crate. There is no feature `std`: nothing here would use it.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;

/// What the README says is run as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(any(test, fuzzing))]
extern crate std;

mod config;
mod context;
mod counters;
pub mod dataplane;
mod endpoint;
mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod id;
mod identity;
mod rate;
pub mod shim;
mod tag;
mod validator;
pub mod wire;

pub use config::{
    AnswerRule, EndpointConfig, EstablishmentConfig, FailbackConfig, LAST_RESORT, LimitsConfig, PeerConfig, Prefix,
    Profile, Rate, UpdateConfig,
};
pub use context::{ContextInfo, ContextState, Failover};
pub use counters::Counters;
pub use dataplane::{Activity, Dataplane, DataplaneUpdate, Flow};
pub use endpoint::{Census, Endpoint, EstablishError, Hint, Moved, PathError, PathInfo, Protection, Transmit};
pub use event::{CloseReason, Event};
pub use id::ContextId;
pub use identity::Identity;
#[cfg(feature = "rsa")]
pub use identity::IdentityError;
pub use rand_core;
pub use shim::{Shim, ShimConfig};
pub use shim6_cga as cga;
pub use shim6_reap as reap;
pub use shim6_reap::{Cause, Config as ReapConfig, Instant, LocatorPair, State as ReapState};
