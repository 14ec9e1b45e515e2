//! Whole Ethernet frames from and to one interface: how the lab's link emulator reaches the ends of its virtual Ethernets.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, send};
use socket2::{Domain, Socket, Type};

use super::{socket_option, while_doing, while_opening};

/// Octets of the frames that may wait in either direction, as far as the system's limits allow.
const BUFFER_OCTETS: usize = 8 << 20;
/// From <linux/if_packet.h> (Linux 4.20): not to be shown what goes out.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// A packet socket that is given every frame that comes in on one interface and sends frames out of it. Non-blocking.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
}

impl FrameSocket {
    /// Opens it for the interface with index `interface`, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`, otherwise the kernel's error and the step that it refused.
    pub fn open(interface: u32) -> io::Result<Self> {
        // Protocol 0: deaf until it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)
            .map_err(|error| while_opening("opening a packet socket for frames", error))?;
        socket.set_nonblocking(true)?;
        socket_option::grow_receive_buffer(&socket, BUFFER_OCTETS)?;
        socket_option::grow_send_buffer(&socket, BUFFER_OCTETS)?;
        socket_option::set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            .map_err(|error| while_doing("setting PACKET_IGNORE_OUTGOING on the packet socket", error))?;
        socket_option::bind_packet_socket(&socket, libc::ETH_P_ALL as u16, interface).map_err(|error| {
            while_doing(
                format_args!("binding the packet socket to interface index {interface}"),
                error,
            )
        })?;
        Ok(Self { socket })
    }

    /// Receives a frame, from its link-layer header on, and gives its length. What does not fit is lost.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; `NetworkDown` once after the interface went down.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The kernel's, for example while the interface is down.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
