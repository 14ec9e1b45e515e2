//! Waiting on tokio until a socket can be read.
#![allow(unsafe_code)]

use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::tap::PacketTap;
use super::wire_socket::WireReceiver;

impl WireReceiver {
    /// Registers the socket with the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The system's, when nothing more can be watched.
    pub fn watch(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: a `WireReceiver` owns its socket, never replaces it, and closes it only when dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }
}

impl PacketTap {
    /// Registers the tap with the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The system's, when nothing more can be watched.
    pub fn watch(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: a `PacketTap` owns its socket, never replaces it, and closes it only when dropped.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }
}
