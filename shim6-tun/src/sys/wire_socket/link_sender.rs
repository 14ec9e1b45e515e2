//! Sending whole IPv6 packets to a neighbour whose link-layer address is known.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::sender::send_all;
use super::{SOCKET_BUFFER_OCTETS, SendOutcome, WirePacket};
use crate::sys::{socket_option, while_doing, while_opening};

/// The neighbour that a packet is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Index of the interface that leads there.
    pub interface: u32,
    /// The neighbour's link-layer address on it.
    pub link_address: [u8; 6],
}

/// A packet socket that sends complete IPv6 packets below the kernel's IP layer: without a route lookup, a look at the
/// neighbour and a packet filter for each of them, which takes half the time.
///
/// The packets pass the interface's queueing discipline as all others.
#[derive(Debug)]
pub struct LinkSender {
    socket: Socket,
}

impl LinkSender {
    /// Opens a sender whose packets carry the firewall mark `fwmark` (0 for none).
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW` and, for the mark, `CAP_NET_ADMIN`; otherwise the kernel's error and the
    /// option it refused.
    pub fn open(fwmark: u32) -> io::Result<Self> {
        // Protocol 0 receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))
            .map_err(|error| while_opening("opening the packet socket for sending", error))?;
        socket.set_nonblocking(true)?;
        if fwmark != 0 {
            socket
                .set_mark(fwmark)
                .map_err(|error| while_doing("setting SO_MARK on the packet socket", error))?;
        }
        socket_option::grow_send_buffer(&socket, SOCKET_BUFFER_OCTETS)?;
        Ok(Self { socket })
    }

    /// Sends whole IPv6 packets to a neighbour, in order, whatever their addresses. What happened to each is counted; a packet
    /// that cannot be sent does not keep the others back.
    ///
    /// # Errors
    ///
    /// Only if the socket itself cannot be used.
    pub fn send_parts(&self, next_hop: NextHop, packets: &[WirePacket<'_>]) -> io::Result<SendOutcome> {
        // SAFETY: an all-zero `sockaddr_ll` is valid: integers only.
        let mut name: libc::sockaddr_ll = unsafe { zeroed() };
        name.sll_family = libc::AF_PACKET as libc::c_ushort;
        name.sll_protocol = (libc::ETH_P_IPV6 as u16).to_be();
        name.sll_ifindex = i32::try_from(next_hop.interface).map_err(|_| io::ErrorKind::InvalidInput)?;
        name.sll_halen = next_hop.link_address.len() as u8;
        name.sll_addr[..next_hop.link_address.len()].copy_from_slice(&next_hop.link_address);
        send_all(self.socket.as_raw_fd(), packets, |_| Some(name))
    }
}
