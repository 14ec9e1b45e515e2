//! A TUN device for a thread that waits by itself, with a precision that no runtime gives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tun_rs::SyncDevice;

use super::{Kind, complete, explain, open};

/// A TUN device as [`Tun`](super::Tun), but bound to no runtime: `poll` its descriptor.
pub struct PolledTun {
    device: SyncDevice,
    index: u32,
}

impl PolledTun {
    /// Creates the device in the network namespace of the calling thread and sets it up.
    ///
    /// # Errors
    ///
    /// Those of [`Tun::create`](super::Tun::create).
    pub fn create(name: &str, mtu: u32) -> io::Result<Self> {
        let (device, index) = open(name, mtu, Kind::Plain)?;
        device.set_nonblocking(true).map_err(|error| explain(name, error))?;
        Ok(Self { device, index })
    }

    /// The device's interface index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Reads a packet that the kernel routed into the device and returns its length. What does not fit
    /// is lost.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, otherwise the kernel's error.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer)
    }

    /// Gives a packet to the kernel as if it had come in on the device.
    ///
    /// # Errors
    ///
    /// The kernel's, for example while the device is down.
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        complete(self.device.send(packet)?, packet.len())
    }
}

impl AsFd for PolledTun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl std::fmt::Debug for PolledTun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolledTun")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
