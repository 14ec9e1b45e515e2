//! The control socket: [Varlink](https://varlink.org) over a Unix stream socket.
//!
//! Each message is a JSON object followed by a zero octet. The interface is described in `org.shim6.varlink`, which the
//! daemon also serves, so that any Varlink client can use it. What clients do never holds up the daemon: connections,
//! request sizes and waiting times are bounded, and a reader that does not keep up loses its stream.

mod bind;
mod client;
mod error;
mod reload;
mod server;
mod wire;

use tokio::sync::oneshot;

pub use client::{Client, EventStream};
pub use error::ControlError;
pub use reload::{Changed, Refusal, Reloaded};
pub use server::Server;

use crate::status::Status;

/// What a client wants from the daemon.
#[derive(Debug)]
pub enum Request {
    /// The status now. Sending the answer never blocks; it fails if the client has gone, which is no error.
    Status(oneshot::Sender<Status>),
    /// To read the configuration again. The answer is as above.
    Reload(oneshot::Sender<Result<Reloaded, Refusal>>),
}

#[cfg(test)]
mod tests;
