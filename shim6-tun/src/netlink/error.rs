use std::io;

use nix::errno::Errno;

/// Why something about the host's network configuration failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The netlink socket could not be opened or configured.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// There is no Tokio runtime to drive the connection.
    #[error("cannot open a netlink socket outside of a Tokio runtime")]
    NoRuntime,
    /// The kernel refused a request.
    #[error("cannot {operation}: {}{}{}", .errno.desc(), Detail(.detail), hint(*.errno, .detail))]
    Kernel {
        /// What was to be done, with the object's name.
        operation: String,
        /// The kernel's error number.
        errno: Errno,
        /// The kernel's own explanation, where it gives one.
        detail: Option<String>,
    },
    /// No interface has this name.
    #[error("there is no interface {0:?} (the interfaces are listed by `ip link`)")]
    NoSuchLink(String),
    /// An object that was to be deleted does not exist.
    #[error("cannot {operation}: it does not exist")]
    Missing {
        /// What was to be done, with the object's name.
        operation: String,
    },
    /// The configuration changed each time that it was read.
    #[error("cannot {operation}: the configuration changed while it was read, {attempts} times")]
    Unstable {
        /// What was to be done.
        operation: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The connection to the kernel broke before the answer.
    #[error("cannot {operation}: the netlink connection is closed")]
    Closed {
        /// What was to be done.
        operation: String,
    },
}

impl NetlinkError {
    /// Whether the object to be added was there already.
    pub fn is_exists(&self) -> bool {
        matches!(
            self,
            Self::Kernel {
                errno: Errno::EEXIST,
                ..
            }
        )
    }

    /// Whether there is no route, or one that lets nothing pass.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Kernel {
                errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL,
                ..
            }
        )
    }

    /// Whether the object to be found or deleted is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NoSuchLink(_) | Self::Missing { .. } => true,
            Self::Kernel { errno, .. } => matches!(
                errno,
                Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO
            ),
            _ => false,
        }
    }
}

struct Detail<'a>(&'a Option<String>);

impl core::fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

/// What to do about an error, where it is known.
fn hint(errno: Errno, detail: &Option<String>) -> &'static str {
    match errno {
        Errno::EPERM => "; this needs CAP_NET_ADMIN in the user namespace that owns the network namespace: run as root",
        Errno::EACCES => "; is IPv6 disabled there (sysctl net.ipv6.conf.*.disable_ipv6)?",
        Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT if detail.is_none() => {
            "; the kernel needs IPV6, IPV6_MULTIPLE_TABLES and IPV6_SUBTREES"
        }
        _ => "",
    }
}

/// The text that the kernel attached to an error: `answer` is what follows the error number,
/// the header of the request and then attributes.
pub(super) fn explanation(answer: &[u8]) -> Option<String> {
    const REQUEST_HEADER_LEN: usize = 16;
    const ATTRIBUTE_HEADER_LEN: usize = 4;
    const MESSAGE: u16 = 1;
    let mut rest = answer.get(REQUEST_HEADER_LEN..)?;
    loop {
        let &[l0, l1, t0, t1] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(ATTRIBUTE_HEADER_LEN..length)?;
        if u16::from_ne_bytes([t0, t1]) == MESSAGE {
            let text = value.split(|&octet| octet == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}
