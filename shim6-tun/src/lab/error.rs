//! What can go wrong in the lab, with what to do about it.

use std::fs;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::netlink::NetlinkError;
use crate::sys::netns::{Refused, SpawnError, Step};

/// Why the lab could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A user namespace can only be entered by a process with one thread.
    #[error(
        "this process has {threads} threads: namespaces must be entered first of all in main, \
         before a runtime or any thread is started"
    )]
    Threads {
        /// How many threads the process has.
        threads: usize,
    },
    /// This machine does not allow a lab.
    #[error("no lab can be built here: {action}: {source}; {advice}")]
    Unsupported {
        /// What was refused.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// What to enable.
        advice: String,
    },
    /// An operation on a namespace failed.
    #[error("namespace `{namespace}`: cannot {action}: {source}")]
    Namespace {
        /// The namespace's name.
        namespace: String,
        /// What was being done.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a change of a namespace's network configuration.
    #[error("namespace `{namespace}`: {source}")]
    Netlink {
        /// The namespace's name.
        namespace: String,
        /// What was asked and the kernel's answer.
        source: NetlinkError,
    },
    /// An interface did not become usable in time.
    #[error("namespace `{namespace}`: {interface} is not usable after {} s", .waited.as_secs())]
    NotReady {
        /// The namespace's name.
        namespace: String,
        /// The interface.
        interface: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The topology has no such host or uplink.
    #[error("host `{host}` has no uplink {uplink} in this topology (they count from 0)")]
    NoSuchUplink {
        /// The host's name.
        host: String,
        /// The uplink asked for.
        uplink: usize,
    },
    /// The topology has no emulated links.
    #[error("the links of this topology are plain: build it with `Topology::emulated`")]
    NotEmulated,
    /// The topology makes no sense.
    #[error("{0}")]
    Description(String),
    /// There is no node or link of this name.
    #[error("there is no {what} {name:?} in this lab; {instead}")]
    NoSuch {
        /// `node`, `host` or `link`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// What there is.
        instead: String,
    },
    /// The link has no emulator.
    #[error(
        "the link {link:?} is plain: nothing can be done to it but take the carrier from a host; leave `plain` out of its description"
    )]
    Plain {
        /// The link.
        link: String,
    },
    /// A lab of the command line could not be reached, kept or left.
    #[error("{0}")]
    Keeper(String),
    /// A program could not be started or waited for.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program, as given.
        program: String,
        /// Why.
        source: io::Error,
    },
}

impl LabError {
    pub(super) fn namespace(name: &str, action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Namespace {
            namespace: name.to_owned(),
            action: action.into(),
            source: source.into(),
        }
    }

    /// Something with a lab of the command line.
    pub(super) fn keeper(action: impl std::fmt::Display, source: impl std::fmt::Display) -> Self {
        Self::Keeper(format!("{action}: {source}"))
    }

    pub(super) fn netlink(name: &str, source: NetlinkError) -> Self {
        Self::Netlink {
            namespace: name.to_owned(),
            source,
        }
    }

    pub(super) fn spawn(program: String, error: SpawnError) -> Self {
        match error {
            SpawnError::Refused(refused) => refused.into(),
            SpawnError::Io(source) => Self::Run { program, source },
        }
    }
}

impl From<Refused> for LabError {
    fn from(Refused { step, errno }: Refused) -> Self {
        Self::Unsupported {
            action: describe(step),
            source: errno.into(),
            advice: advise(step, errno),
        }
    }
}

fn describe(step: Step) -> &'static str {
    match step {
        Step::UserNamespace => "creating a user namespace",
        Step::IdMaps => "becoming root in a user namespace",
        Step::NetworkNamespace => "creating a network namespace",
        Step::DeathSignal => "tying the child's life to the parent's",
        Step::Loopback => "setting the loopback interface up",
        Step::Sysctl => "opening /proc/sys/net/ipv6/conf/all/forwarding for writing",
        Step::Veth => "creating a pair of virtual Ethernet interfaces",
        Step::Tun => "creating a TUN device through /dev/net/tun",
    }
}

fn advise(step: Step, errno: Errno) -> String {
    match (step, errno) {
        (Step::UserNamespace | Step::IdMaps | Step::NetworkNamespace, _) => advise_on_namespaces(errno),
        (Step::DeathSignal, _) => "the parent may have ended already".to_owned(),
        (Step::Loopback, Errno::EAFNOSUPPORT) | (Step::Sysctl, Errno::ENOENT) => {
            "IPv6 is off: load the module `ipv6`, remove `ipv6.disable=1` from the kernel's \
             command line"
                .to_owned()
        }
        (Step::Loopback, _) => advise_on_namespaces(errno),
        (Step::Sysctl, _) => "/proc/sys has to be writable: in a container, run it with \
             `--security-opt systempaths=unconfined` or `--privileged`"
            .to_owned(),
        (Step::Veth, _) => "load the module `veth` (as root: modprobe veth)".to_owned(),
        (Step::Tun, Errno::EACCES | Errno::EPERM) => {
            "your user may not open it: as root, chmod 0666 /dev/net/tun (the usual mode)".to_owned()
        }
        (Step::Tun, _) => "as root: modprobe tun; in a container, pass the device in \
             (--device /dev/net/tun)"
            .to_owned(),
    }
}

/// Names the setting that stands in the way where it can be told, else all that may.
fn advise_on_namespaces(errno: Errno) -> String {
    let setting = |path: &str| fs::read_to_string(format!("/proc/sys/{path}")).map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).is_ok_and(|found| found == value);
    if is("kernel/unprivileged_userns_clone", "0") {
        "as root: sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
    } else if is("user/max_user_namespaces", "0") {
        "as root: sysctl -w user.max_user_namespaces=10000".to_owned()
    } else if is("user/max_net_namespaces", "0") {
        "as root: sysctl -w user.max_net_namespaces=10000".to_owned()
    } else if errno == Errno::ENOSPC {
        "a limit on namespaces is reached: raise user.max_user_namespaces and \
         user.max_net_namespaces (sysctl, as root)"
            .to_owned()
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (or allow it for this \
         program in an AppArmor profile)"
            .to_owned()
    } else if errno == Errno::EINVAL {
        "the kernel needs CONFIG_USER_NS and CONFIG_NET_NS".to_owned()
    } else {
        "a container's seccomp profile or a security module may refuse it: allow unshare(2) with \
         CLONE_NEWUSER and CLONE_NEWNET, or run as root outside of the container"
            .to_owned()
    }
}
