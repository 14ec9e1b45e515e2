//! A network laboratory in one process tree: hosts and routers as network namespaces, links as
//! virtual Ethernet, built by an ordinary user without any installed tool.
//!
//! A [`Description`], read from a TOML file or put together, says what there is to be, and [`Lab::up`] builds it on a tokio runtime, in a
//! process that has called [`enter_user_namespace`] first of all in `main`. Programs run on a host with [`Namespace::command`],
//! sockets are opened there with [`Namespace::run`]; [`LabLink::set`] and [`LabLink::cut`] change links. With the last
//! process and file descriptor, everything is gone. Tests use [`isolated`]:
//!
//! ```no_run
//! use std::net::UdpSocket;
//! use std::time::Duration;
//!
//! use shim6_tun::lab::{Break, Description, Direction, Impairment, Lab, LinkSpec, isolated};
//!
//! #[test]
//! fn datagrams_pass_until_the_link_breaks() {
//!     isolated("datagrams_pass_until_the_link_breaks", || async {
//!         let slow = Impairment::delay(Duration::from_millis(10));
//!         let description = Description::new()
//!             .host("client")
//!             .isp("isp")
//!             .host("server")
//!             .link(LinkSpec::between("client", "isp").named("access").impaired(slow))
//!             .link(LinkSpec::between("server", "isp"));
//!         let lab = Lab::up(&description).await.unwrap();
//!
//!         // A socket belongs to the host on which it is opened.
//!         let open = |name| {
//!             let host = lab.host(name).unwrap();
//!             let address = host.uplinks[0].address;
//!             let socket = host.namespace.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
//!             socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
//!             socket
//!         };
//!         let (client, server) = (open("client"), open("server"));
//!         client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
//!         assert_eq!(server.recv(&mut [0; 10]).unwrap(), 5);
//!
//!         let access = lab.link("access").unwrap();
//!         access.cut(Break::Blackhole, &Direction::ALL).await.unwrap();
//!         client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
//!         assert!(server.recv(&mut [0; 10]).is_err());
//!     });
//! }
//! ```
//!
//! [`Topology::two_by_two`] is a ready-made one of two hosts with two uplinks each, with failures of its own ([`Topology::cut`]), and
//! [`Topology::with_rtt`] the same with links that take time. [`keeper`] keeps a lab up between commands: that is `shim6 lab`.

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
