//! Waiting on a tokio runtime until a descriptor is ready.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets a task wait for one of this module's non-blocking sockets.
///
/// It watches a duplicate of the descriptor and is therefore independent of the value that it was
/// made from; but the socket stays open until both are gone.
#[derive(Debug)]
pub struct Readiness {
    descriptor: AsyncFd<OwnedFd>,
}

impl Readiness {
    /// Watches `io`. Must be called on a tokio runtime with I/O enabled.
    ///
    /// # Errors
    ///
    /// The process or the runtime has no room for another descriptor.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn of(io: &impl AsFd) -> io::Result<Self> {
        let descriptor = io.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` keeps its descriptor open for as long as it lives, and nothing gives
        // access to this one, so that it cannot be exchanged while it is registered.
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Self { descriptor })
    }

    /// Calls `attempt` when the descriptor is readable, again whenever it has said `WouldBlock`;
    /// returns its first other result. Cancel safe: dropped while waiting, it has done nothing.
    ///
    /// # Errors
    ///
    /// Those of `attempt`, and those of the runtime when it shuts down.
    pub async fn read<R>(&self, mut attempt: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.descriptor.async_io(Interest::READABLE, |_| attempt()).await
    }

    /// As [`Readiness::read`], when the descriptor is writable.
    ///
    /// # Errors
    ///
    /// As for [`Readiness::read`].
    pub async fn write<R>(&self, mut attempt: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.descriptor.async_io(Interest::WRITABLE, |_| attempt()).await
    }
}
