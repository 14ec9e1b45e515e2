//! REAP, the failure detection and locator pair exploration protocol of RFC 5534, without I/O.
//!
//! One [`Reap`] belongs to one context. It watches, through what it is told of the payload, whether the locator pair in
//! use still works in both directions; when it does not, it probes the other pairs, each direction on its own, until one
//! is confirmed by the peer. It knows locator pairs and the contents of Keepalive and Probe messages, but no octets of
//! the wire, no sockets and no clock.
//!
//! # The contract
//!
//! Every method of [`Reap`] is a getter, an input (`handle_*`), a command, or an output (`poll_*`). After each call that
//! takes `&mut self` and is not a `poll_*`:
//!
//! 1. call [`Reap::poll_transmit`] until it gives `None` and send what it gave;
//! 2. call [`Reap::poll_event`] until it gives `None`;
//! 3. call [`Reap::poll_timeout`], and [`Reap::handle_timeout`] once that instant has come. It may lie in the past, since
//!    payload may be reported late: then call it at once.
//!
//! Time comes in as an [`Instant`], randomness as a generator: the same inputs and the same generator give the same
//! outputs.
//!
//! # Profiles and round-trip times
//!
//! [`Config::rfc`] has the RFC's constants, [`Config::fast`] values for two hosts that have agreed on them, which notice
//! and leave a failed pair in a fraction of a second. With [`Config::follow_rtt`] the Send Timeout and the spacing of probes
//! are floors: above them they follow the round-trip time of the current pair, [`Reap::rtt`]. It is measured by
//! probes; [`Reap::note_rtt`] takes what the caller has measured. Without a sample the floors hold, and a Send Timeout tries
//! the current pair first, so that a path which is merely long is measured and kept.
//!
//! # Beyond the state machine
//!
//! - [`Reap::explore`] takes hints. Those that may be wrong probe the current pair first: if it works, it stays.
//! - [`Reap::advise`] takes what is known of pairs from elsewhere. It decides in which order they are tried, and nothing
//!   else.
//! - [`Reap::probe_quietly`] tests a pair without an exploration: [`Event::PairConfirmed`] says that the peer got the probe,
//!   and neither end changes state or pair. [`Reap::switch_to`] takes a pair into use. Together they bring a context back
//!   to a pair that it prefers; when, is for the caller.
//!
//! # Reporting payload late
//!
//! The fast path need not call in for each packet. It is enough to report, before [`Reap::handle_timeout`], the last
//! change of direction: the latest packet received and the first one sent after it (if the last packet was a sent one),
//! or the latest packet sent and the first one received after it (if the last one was received), each with its own
//! time. The two may be reported in either order, and again: a report that is older than what is known already neither
//! starts nor restarts a timer.
//!
//! # Example
//!
//! ```
//! use core::{net::Ipv6Addr, time::Duration};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//! use shim6_reap::{Config, Instant, LocatorPair, Reap, State, Transmit};
//!
//! let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
//! let first = LocatorPair::new(address(1), address(2));
//! let second = LocatorPair::new(address(3), address(4));
//! let mut rng = ChaCha8Rng::seed_from_u64(1);
//! let mut reap = Reap::new(Config::default(), vec![first, second], first);
//!
//! // A packet goes out and nothing comes back for a whole Send Timeout.
//! let start = Instant::from_micros(0);
//! reap.handle_payload_sent(start);
//! let deadline = reap.poll_timeout().expect("the Send Timer runs");
//! assert_eq!(deadline - start, Duration::from_secs(15));
//! reap.handle_timeout(deadline, &mut rng);
//!
//! assert_eq!(reap.state(), State::Exploring);
//! assert!(matches!(reap.poll_transmit(), Some(Transmit::Probe { pair, .. }) if pair == second));
//! ```
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;

/// What the README says is run as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
extern crate std;

mod advice;
mod config;
mod explore;
mod history;
mod machine;
mod output;
mod pace;
mod pair;
mod probe;
mod rtt;
mod table;
mod time;
mod timers;

#[cfg(test)]
mod tests;

pub use advice::Advice;
pub use config::Config;
pub use machine::Reap;
pub use output::{Cause, Event, Transmit};
pub use pair::LocatorPair;
pub use probe::{MAX_RECORDS, Probe, ProbeRecord, ProbeState};
pub use rand_core;
pub use rtt::Rtt;
pub use table::State;
pub use time::Instant;
