//! A network laboratory in one process tree: hosts and routers as network namespaces, links as
//! virtual Ethernet, built by an ordinary user without any installed tool.
//!
//! [`enter_user_namespace`] first of all in `main`, then [`Topology::two_by_two`] on a tokio
//! runtime; programs run on a host with [`Namespace::command`], sockets are opened there with
//! [`Namespace::run`], and [`Topology::cut`] breaks an uplink. [`Topology::with_rtt`] is the same with
//! links that take time. Tests use [`isolated`]. With the
//! last process and file descriptor, everything is gone.

mod advertise;
mod description;
mod error;
mod failure;
pub mod graph;
mod isolation;
pub mod keeper;
mod link;
pub mod measure;
mod namespace;
mod network;
mod node;
mod prefix;
mod status;
mod testing;
#[cfg(test)]
mod tests;
mod topology;

pub use description::{Description, LinkSpec, MAX_LINKS, MAX_NODES, NodeKind, NodeSpec};
pub use error::LabError;
pub use failure::{Failure, UnknownFailure};
pub use isolation::{enter_network_namespace, enter_user_namespace, reexec, support};
pub use link::{
    Capture, CaptureWriter, CapturedFrame, DEFAULT_QUEUE, Direction, Element, Impairment, Link, LinkCounters, Rate,
    Setting, Share,
};
pub use namespace::Namespace;
pub use network::{Break, Lab, LabLink, LabNode};
pub use prefix::Prefix;
pub use status::{DirectionStatus, LabStatus, LinkState, LinkStatus, NodeStatus};
pub use testing::{is_privileged, isolated, skip};
pub use topology::{Host, Topology, Uplink};
