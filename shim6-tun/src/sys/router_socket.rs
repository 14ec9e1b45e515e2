//! Hearing what routers advertise, and asking them to (RFC 4861 sections 4.1 and 4.2). For the lab, the routers' side, too.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{SockaddrIn6, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use super::{socket_option, while_doing, while_opening};

/// The socket option that says which ICMPv6 messages are kept out (RFC 3542 section 3.2).
const ICMP6_FILTER: libc::c_int = 1;
const ROUTER_SOLICITATION: u8 = 133;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The ICMPv6 type of what is received.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What Neighbor Discovery is sent with, so that it is known to come from the link.
const HOP_LIMIT: u32 = 255;

/// A raw ICMPv6 socket that receives router advertisements on all interfaces. Non-blocking.
#[derive(Debug)]
pub struct RouterSocket {
    socket: Socket,
}

impl RouterSocket {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`; otherwise the kernel's error and what it refused.
    pub fn open() -> io::Result<Self> {
        let socket = open(ROUTER_ADVERTISEMENT)?;
        Ok(Self { socket })
    }

    /// Receives a message into `buffer`, from its ICMPv6 type on. Gives its length, the interface that it came in on, and its
    /// sender; none for a sender that is not on the link.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, u32, Ipv6Addr)>> {
        let (length, from) = recvfrom::<SockaddrIn6>(self.socket.as_raw_fd(), buffer)?;
        // No router forwards packets from link-local addresses (RFC 4291 section 2.5.6).
        let on_link = from.filter(|from| from.ip().is_unicast_link_local() && from.scope_id() != 0);
        Ok(on_link.map(|from| (length, from.scope_id(), from.ip())))
    }

    /// Asks the routers on an interface to advertise what they have.
    ///
    /// # Errors
    ///
    /// The kernel's, for example if the interface is down.
    pub fn solicit(&self, interface: u32) -> io::Result<()> {
        // The kernel fills the checksum in.
        let message = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        let to = SocketAddrV6::new(ALL_ROUTERS, 0, 0, interface);
        self.socket.send_to(&message, &to.into()).map(drop)
    }
}

/// A raw ICMPv6 socket of a router that hears on one link that hosts ask, and advertises there. Non-blocking.
#[derive(Debug)]
pub struct SolicitationSocket {
    socket: Socket,
    interface: u32,
}

impl SolicitationSocket {
    /// Opens it for an interface, in the network namespace of the calling thread. `from` is the interface's link-local address by which
    /// hosts are to know the router.
    ///
    /// # Errors
    ///
    /// As for [`RouterSocket::open`], and if the interface has no such address.
    pub fn open(interface: u32, from: Ipv6Addr) -> io::Result<Self> {
        let socket = open(ROUTER_SOLICITATION)?;
        let bound = socket.bind(&SocketAddrV6::new(from, 0, 0, interface).into());
        bound.map_err(|error| while_doing(format_args!("binding the ICMPv6 socket to {from}"), error))?;
        // Bound to an address, it hears groups only if it joins them itself.
        let joined = socket.join_multicast_v6(&ALL_ROUTERS, interface);
        joined.map_err(|error| while_doing("joining the group of all routers", error))?;
        Ok(Self { socket, interface })
    }

    /// Takes a solicitation.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none.
    pub fn receive(&self) -> io::Result<()> {
        recvfrom::<SockaddrIn6>(self.socket.as_raw_fd(), &mut [0; 8])?;
        Ok(())
    }

    /// Sends an advertisement, from its ICMPv6 type on, to all nodes on the link.
    ///
    /// # Errors
    ///
    /// The kernel's, for example if the interface is down.
    pub fn advertise(&self, message: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.interface);
        self.socket.send_to(message, &to.into()).map(drop)
    }
}

impl AsFd for SolicitationSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A raw ICMPv6 socket that is given messages of one type only.
fn open(kind: u8) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))
        .map_err(|error| while_opening("opening the ICMPv6 socket for router advertisements", error))?;
    socket.set_nonblocking(true)?;
    // Its bits are set for what is kept out.
    let mut filter = [u32::MAX; 8];
    filter[usize::from(kind / 32)] &= !(1 << (kind % 32));
    let set = |name, result: io::Result<()>| {
        result.map_err(|error| while_doing(format_args!("setting {name} on the ICMPv6 socket"), error))
    };
    let filtered = socket_option::set(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, filter);
    set("ICMP6_FILTER", filtered)?;
    set("IPV6_MULTICAST_HOPS", socket.set_multicast_hops_v6(HOP_LIMIT))?;
    Ok(socket)
}

impl AsFd for RouterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
