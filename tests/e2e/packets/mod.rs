//! Every kind of packet that a socket can make comes through a steered path as it comes through an ordinary one.
//!
//! Nothing here knows how the packets get there: all is seen from sockets in two hosts. Each check runs in both directions,
//! between the ULIDs of a context whose first path has failed, and for comparison between plain addresses on the uplinks that
//! still work, where the kernel alone moves the packets.

mod datagrams;
mod headers;
pub(crate) mod lab;
mod mtu;
mod others;
pub(crate) mod streams;
