//! The Shim6 protocol (RFC 5533) without I/O.
//!
//! A host with two uplinks has an address from each. Shim6 keeps the address pair that an application connected with,
//! its *ULIDs*, while the addresses in the packets, the *locators*, move to whichever path works. This crate holds the
//! protocol: it opens no socket, reads no clock and starts no thread, so it runs inside a daemon, a simulator, a userspace
//! network stack or a kernel.
//!
//! - [`Endpoint`] is the host's control side: it sets up contexts with peers, verifies their locators and runs REAP
//!   (RFC 5534) for each. Its documentation states the calling order.
//! - [`Dataplane`] is the packet side: it rewrites packets between ULIDs and locators, and records what passes, which is
//!   all that REAP needs to see of them.
//! - [`wire`] is the message format.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
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
