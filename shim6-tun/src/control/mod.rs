//! The control socket: [Varlink](https://varlink.org) over a Unix stream socket.
//!
//! Each message is a JSON object followed by a zero octet. The interface is described in `org.shim6.varlink`, which the
//! daemon also serves, so that any Varlink client can use it. What clients do never holds up the daemon: connections,
//! request sizes and waiting times are bounded, and a reader that does not keep up loses its stream.

mod bind;
mod client;
mod error;
mod methods;
mod objection;
mod reload;
mod server;
mod session;
mod wire;

use std::net::Ipv6Addr;

use tokio::sync::oneshot;

pub use bind::Access;
pub use client::{Client, EventStream};
pub use error::ControlError;
pub use objection::Objection;
pub use reload::{Changed, Refusal, Reloaded};
pub use server::Server;
pub use session::{Advice, Protect, SessionRequest, SessionWish};

use crate::metrics::Figures;
use crate::status::{ContextDetail, ContextStatus, MoveStatus, PairStatus, PathStatus, ProbeStatus, Status};

/// Where an answer goes. Sending one never blocks; it fails if the client has gone, which is no error.
pub type Answer<T> = oneshot::Sender<T>;

/// What a client wants from the daemon. Contexts are named by their numbers.
#[derive(Debug)]
pub enum Request {
    /// The status now.
    Status(Answer<Status>),
    /// All contexts in the order of their ids, or those with one peer: its ULID or one of its locators.
    Contexts(Option<Ipv6Addr>, Answer<Vec<ContextStatus>>),
    /// One context and its pairs.
    Context(u64, Answer<Result<ContextDetail, Objection>>),
    /// All pairs, or those of one context.
    Paths(Option<u64>, Answer<Result<Vec<PathStatus>, Objection>>),
    /// To probe a pair of a context, the one in use if none is given.
    Probe(u64, Option<PairStatus>, Answer<Result<ProbeStatus, Objection>>),
    /// To have a context send on a pair, or choose by itself again if none is given.
    Move(u64, Option<PairStatus>, Answer<Result<MoveStatus, Objection>>),
    /// To forget a context.
    Close(u64, Answer<Result<(), Objection>>),
    /// To read the configuration again.
    Reload(Answer<Result<Reloaded, Refusal>>),
    /// Something for the session of a program.
    Session(SessionRequest),
    /// The figures for Prometheus, which are served elsewhere.
    Figures(Answer<Figures>),
}

#[cfg(test)]
mod tests;
