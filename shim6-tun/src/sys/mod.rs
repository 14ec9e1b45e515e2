//! System calls: the only module of this crate in which `unsafe` code is allowed.
//!
//! Each file here turns one kernel interface into a type that cannot be misused:
//!
//! - [`wire_socket`]: Shim6 packets (IPv6 Next Header 140) from and to the network, many per call.
//! - [`tap`]: a passive copy of the IPv6 headers that cross one interface, for noticing activity.
//! - [`bpf`]: counts of the same packets, kept in the kernel where that is permitted, and a way through it for steered ones.
//! - [`tun`]: the TUN device through which steered packets reach and leave the daemon.
//! - [`router_socket`]: what routers advertise.
//! - [`packet_socket`]: whole IPv6 packets that come in, for the conformance tester.
//! - [`netns`]: user and network namespaces for the lab.
//! - [`ethtool`]: offloads of interfaces, for the lab and the daemon's own virtual link.
//! - [`frame_socket`]: whole Ethernet frames, for the links of the lab.
//! - [`timekeeping`]: whether a time service keeps the clock right.
//! - [`ancillary`]: any socket option and all that comes beside a datagram, for the lab's tests.
//!
//! The first four hide how packets are moved, so that the means can be replaced without a change in their callers. None of
//! them waits: descriptors are non-blocking; threads `poll` them, and tasks wait with [`Readiness`]. Sockets and devices belong
//! to the network namespace of the thread that opens them and stay in it.
//!
//! What they need: `CAP_NET_RAW` and `CAP_NET_ADMIN` in the user namespace that owns the network
//! namespace.

pub mod ancillary;
pub mod bpf;
pub mod ethtool;
pub mod frame_socket;
pub mod netns;
pub mod packet_socket;
pub mod router_socket;
pub mod tap;
pub mod timekeeping;
pub mod tun;
pub mod wire_socket;

mod readiness;
mod socket_option;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt::Display;
use std::io;

pub use readiness::Readiness;

/// The protocol number of Shim6, as an IPv6 Next Header value (RFC 5533 section 5.1).
pub const SHIM6_NEXT_HEADER: u8 = 140;

/// Octets of the fixed IPv6 header (RFC 8200 section 3).
pub const IPV6_HEADER_OCTETS: usize = 40;

/// Puts in front of a system error what was being done, keeping its kind.
fn while_doing(what: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// [`while_doing`] for opening a raw or packet socket, which says what is missing when it is not
/// permitted.
fn while_opening(what: impl Display, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return io::Error::new(
            error.kind(),
            format!(
                "{what}: {error} (needs CAP_NET_RAW: run as root, or grant the binary \
                 cap_net_raw,cap_net_admin)"
            ),
        );
    }
    while_doing(what, error)
}
