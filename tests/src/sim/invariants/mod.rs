//! What has to hold at every step, judged from outside: from packets, and from what endpoints show of themselves.

mod contexts;
mod paths;
mod payload;
mod proofs;
mod replies;

use std::fmt;

pub use contexts::check_contexts;
pub use paths::{Change, Paths};
pub use payload::{Delivery, Ledger, SentDatagram};
pub use proofs::Proofs;
pub use replies::Replies;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No two established contexts of a host have the same CT(peer) and overlapping Ls(peer) (RFC 5533 section 7.15).
    NoConfusion,
    /// CT(local) is unique in a host (section 7.1).
    UniqueTags,
    /// Payload is delivered with the ULIDs and octets that it was sent with, to the right host.
    Payload,
    /// No payload is sent to a locator that is not proven to be the peer's, or was never heard of since it was asked
    /// (section 7.2).
    Locators,
    /// What is sent in reply to a spoofed source is bounded.
    Replies,
    /// Contexts and memories of peers stay within their configured bounds.
    Bounds,
    /// No context is torn down for quiescence while payload flows (section 9).
    Quiescence,
    /// When the network works, both ends come to agree and payload flows.
    Liveness,
    /// No context leaves a pair that works for one that is dead.
    WorkingPath,
    /// A pair that fails again and again is taken back ever later.
    Damping,
    /// When nothing happens any more, each host uses the pair that it likes best of those that work.
    Convergence,
    /// Time goes on.
    Progress,
    /// Nothing panics.
    NoPanic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoConfusion => "no context confusion",
            Self::UniqueTags => "unique context tags",
            Self::Payload => "payload unchanged",
            Self::Locators => "verified and tested locators",
            Self::Replies => "bounded replies",
            Self::Bounds => "bounded state",
            Self::Quiescence => "no teardown under traffic",
            Self::Liveness => "liveness",
            Self::WorkingPath => "no working path left for a dead one",
            Self::Damping => "damping",
            Self::Convergence => "convergence",
            Self::Progress => "progress of time",
            Self::NoPanic => "no panic",
        })
    }
}

/// An invariant that does not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// A violation.
    pub fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self {
            invariant,
            what: what.into(),
        }
    }
}
