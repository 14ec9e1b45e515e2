//! Whole IPv6 packets that come in on one interface, for the conformance tester.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Socket, Type};

use super::{socket_option, while_doing, while_opening};

/// A socket that gets a copy of each IPv6 packet that comes in on an interface, from its IPv6 header on. The kernel
/// goes on with the packet as it would without it.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens it on the interface with this index. It does not block.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`, otherwise what the kernel refused.
    pub fn open(interface: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)
            .map_err(|error| while_opening("opening a packet socket", error))?;
        socket.set_nonblocking(true)?;
        socket_option::grow_receive_buffer(&socket, BUFFER)?;
        socket_option::bind_packet_socket(&socket, libc::ETH_P_IPV6 as u16, interface).map_err(|error| {
            while_doing(
                format_args!("binding the packet socket to interface index {interface}"),
                error,
            )
        })?;
        Ok(Self { socket })
    }

    /// Reads the next packet; its length is returned. What is longer than `buffer` is cut.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none, or what the kernel says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }
}

/// What waits to be read: hundreds of packets.
const BUFFER: usize = 1024 * 1024;

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
