//! One daemon per network namespace.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::Context as _;

/// Its name in the kernel's table of abstract sockets, of which each network namespace has one of its own.
const NAME: &str = "org.shim6.daemon";

/// Held by the daemon of a network namespace, and given back by the kernel however the daemon ends.
///
/// The control socket cannot do this: two daemons may be given different ones, and then the second would take the
/// first one's addresses and routes for leftovers.
#[derive(Debug)]
pub(crate) struct NamespaceLock(#[expect(dead_code, reason = "held, not used")] UnixDatagram);

impl NamespaceLock {
    /// Takes the lock of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Another daemon has it.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let name = SocketAddr::from_abstract_name(NAME).context("naming the daemon's lock")?;
        let socket = match UnixDatagram::bind_addr(&name) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => anyhow::bail!(
                "another shim6 daemon runs in this network namespace; stop it first (`ss -xap | grep {NAME}` names it)"
            ),
            bound => bound.context("cannot take the daemon's lock")?,
        };
        // Nobody has anything to say to it.
        socket
            .shutdown(Shutdown::Both)
            .context("closing the daemon's lock to messages")?;
        Ok(Self(socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Namespace, isolated};

    #[test]
    fn there_is_one_lock_per_network_namespace_and_it_comes_back() {
        isolated(
            "daemon::lock::tests::there_is_one_lock_per_network_namespace_and_it_comes_back",
            || async {
                let held = NamespaceLock::take().unwrap();
                let refused = NamespaceLock::take().unwrap_err().to_string();
                assert!(refused.contains("another shim6 daemon runs"), "{refused}");
                let elsewhere = Namespace::new("elsewhere").unwrap();
                elsewhere.run(|| NamespaceLock::take().map(drop)).unwrap().unwrap();
                drop(held);
                NamespaceLock::take().unwrap();
            },
        );
    }
}
