//! A network laboratory in one process tree: hosts and routers as network namespaces, links as
//! virtual Ethernet, built by an ordinary user without any installed tool.
//!
//! [`enter_user_namespace`] first of all in `main`, then [`Topology::two_by_two`] on a tokio
//! runtime; programs run on a host with [`Namespace::command`], sockets are opened there with
//! [`Namespace::run`], and [`Topology::cut`] breaks an uplink. [`Topology::with_rtt`] is the same with
//! links that take time. Tests use [`isolated`]. With the
//! last process and file descriptor, everything is gone.

mod error;
mod failure;
mod isolation;
mod link;
mod namespace;
mod node;
mod testing;
#[cfg(test)]
mod tests;
mod topology;

pub use error::LabError;
pub use failure::{Failure, UnknownFailure};
pub use isolation::{enter_network_namespace, enter_user_namespace, reexec, support};
pub use link::{Direction, Impairment, Link, LinkCounters};
pub use namespace::Namespace;
pub use testing::{is_privileged, isolated, skip};
pub use topology::{Host, Topology, Uplink};
