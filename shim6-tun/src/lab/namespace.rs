//! Network namespaces held by file descriptors.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::Handle;

use super::LabError;
use crate::netlink::{Monitor, Netlink, NetlinkError};
use crate::sys::netns::{enter_on_exec, loopback_up};

/// A network namespace, alive as long as a clone of this value, a process or a socket is in it.
///
/// Nothing is mounted and nothing has to be cleaned up: with its last user the kernel removes the
/// namespace and every interface in it, and with an interface the other end of its veth pair.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: Arc<str>,
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Creates a namespace with nothing in it but `lo`, which is up. The name is for messages
    /// only and need not be unique.
    ///
    /// # Errors
    /// The kernel refused a network namespace: see [`support`](super::support), or enter a user
    /// namespace first ([`enter_user_namespace`](super::enter_user_namespace)).
    pub fn new(name: &str) -> Result<Self, LabError> {
        let create = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            loopback_up()?;
            // Of the thread: /proc/self would be the process's first thread, which stays outside.
            File::open("/proc/thread-self/ns/net")
        };
        let fd = on_a_thread(name, create)?.map_err(|source| LabError::namespace(name, "create it", source))?;
        Ok(Self {
            name: name.into(),
            fd: Arc::new(fd.into()),
        })
    }

    /// The name given at creation.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` inside the namespace, on a thread of its own, and waits for it.
    ///
    /// Sockets made by `f` stay in the namespace for ever, and `/proc/sys/net` is the namespace's
    /// own for `f`. Keep it short when calling from a task: the calling thread is blocked.
    /// A panic of `f` goes on in the caller.
    ///
    /// # Errors
    /// No thread could be made, or it could not enter.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R, LabError> {
        on_a_thread(&self.name, || {
            setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        })?
        .map_err(|source: std::io::Error| LabError::namespace(&self.name, "enter it", source))
    }

    /// A command whose child runs inside the namespace.
    ///
    /// The child gets `SIGTERM` when the *thread* that starts it ends, so that it does not outlive
    /// a crashed parent. Start it from a thread that lives longer than the child has to: main or
    /// a worker of a runtime, not from within [`Namespace::run`] or `spawn_blocking`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        enter_on_exec(&mut command, Arc::clone(&self.fd));
        command
    }

    /// A netlink connection inside the namespace, on the current tokio runtime.
    ///
    /// # Errors
    /// No socket could be opened, or there is no runtime.
    pub fn netlink(&self) -> Result<Netlink, LabError> {
        self.run_on_runtime(Netlink::connect)
    }

    /// A subscription to the namespace's changes, on the current tokio runtime.
    ///
    /// # Errors
    /// As for [`Namespace::netlink`].
    pub fn monitor(&self) -> Result<Monitor, LabError> {
        self.run_on_runtime(Netlink::monitor)
    }

    /// Whether both are the same namespace.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.fd, &other.fd)
    }

    /// Writes a setting below `/proc/sys/net/ipv6/conf`.
    pub(super) fn set(&self, setting: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/net/ipv6/conf/{setting}");
        self.run(|| std::fs::write(&path, value))?
            .map_err(|source| LabError::namespace(&self.name, format!("write {value} to {path}"), source))
    }

    /// A socket belongs to the namespace of the thread that opens it, whichever polls it later.
    fn run_on_runtime<R: Send>(&self, open: impl FnOnce() -> Result<R, NetlinkError> + Send) -> Result<R, LabError> {
        let runtime = Handle::try_current().ok();
        self.run(|| {
            let _entered = runtime.as_ref().map(Handle::enter);
            open()
        })?
        .map_err(|source| LabError::netlink(&self.name, source))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `f` on a fresh thread, because what is done to a thread's namespace must not leak into
/// the caller's.
fn on_a_thread<R: Send>(name: &str, f: impl FnOnce() -> R + Send) -> Result<R, LabError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(format!("netns {name}"))
            .spawn_scoped(scope, f)
            .map_err(|source| LabError::namespace(name, "start a thread", source))?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
