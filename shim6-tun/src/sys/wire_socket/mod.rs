//! Shim6 packets from and to the network: IPv6 packets with Next Header 140, many per system call.
//!
//! [`WireReceiver`] takes everything that carries protocol 140 to this host, control messages and
//! payload alike. While one is open the kernel does not answer such packets with ICMPv6
//! "unrecognized Next Header" (RFC 4443 section 3.4), which would tell peers that Shim6 is not
//! spoken here.
//!
//! [`WireSender`] sends whole IPv6 packets with one source locator. It is a second socket because
//! of the firewall mark, the source address and because it must not receive anything.
//!
//! [`LinkSender`] and [`XdpSender`] send the same packets to a neighbour whose link-layer address is known, past the kernel's IP
//! layer: in half and in a third of the time.

mod link_sender;
mod receiver;
mod sender;
mod xdp_sender;

#[cfg(test)]
mod tests;

pub use link_sender::{LinkSender, NextHop};
pub use receiver::{HEADROOM_OCTETS, ReceivedPacket, RecvBatch, RecvErrors, WireReceiver};
pub use sender::{SendOutcome, WirePacket, WireSender};
pub use xdp_sender::XdpSender;

/// Most packets that one system call moves; a longer batch takes several calls.
pub const MAX_BATCH: usize = 128;

/// Octets asked for as socket buffer in either direction: about 10 ms at 3 Gbit/s.
const SOCKET_BUFFER_OCTETS: usize = 4 * 1024 * 1024;
