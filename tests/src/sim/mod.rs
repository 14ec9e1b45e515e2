//! A deterministic simulator: hosts with real endpoints and packet paths, a network that misbehaves, and virtual time.
//!
//! A [`Scenario`] says what a world consists of and what happens to it; a [`World`] runs it. Everything on the network is a
//! whole IPv6 packet in octets. All randomness comes from the scenario's seed, events at the same time happen in the order
//! in which they were asked for, and so the same scenario gives the same trace, octet for octet.
//!
//! At every step the [`invariants`] are checked, from outside: over packets and over what endpoints show of themselves. When
//! one does not hold, the [`Failure`] says how to see it again.
//!
//! ```
//! use shim6_tests::sim::{Scenario, World};
//!
//! let mut world = World::new(Scenario::random(1));
//! world.run().expect("all invariants hold");
//! ```

pub mod adversary;
pub mod dice;
mod exam;
pub mod failover;
mod failure;
pub mod host;
pub mod invariants;
pub mod link;
mod network;
pub mod packet;
pub mod pool;
mod random;
mod runner;
pub mod scenario;
mod settle;
mod trace;
mod traffic;
mod world;

pub use failure::Failure;
pub use invariants::{Invariant, SentDatagram, Violation};
pub use link::{Link, Refusal};
pub use network::Verdict;
pub use pool::Locator;
pub use runner::{run_seed, run_seed_traced};
pub use scenario::{Action, AdversaryPlan, Forgery, HostPlan, Kind, Protect, Sabotage, Scenario, Session};
pub use settle::Agreement;
pub use trace::{Entry, Origin, Trace, What};
pub use world::{Summary, World};
