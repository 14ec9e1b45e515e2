//! What the daemon may do on the host: three capabilities and no more, and if root starts it, as another user.
//!
//! This happens before there are threads, since capabilities belong to threads. What takes more than those capabilities is
//! done first: the directories are made and handed over. One capability more stays with the first thread alone, until it has
//! loaded the programs that count packets.

mod handover;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setresgid, setresuid};

use self::handover::Owner;
use crate::config::{Config, RunAs};

/// The user of the package.
const USER: &str = "shim6";
/// Interfaces, addresses, routes, marks on packets; raw and packet sockets.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];
/// Programs and maps in the kernel.
const USEFUL: [Capability; 1] = [Capability::CAP_BPF];
/// Programs that are loaded with it have no barriers against speculation in them, which cost a tenth to a fifth of their time.
const FOR_LOADING: Capability = Capability::CAP_PERFMON;
/// What the TUN device is made with.
const TUN_NODE: &str = "/dev/net/tun";

/// What the daemon runs with from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Whose rights it has by now, if it has changed.
    pub(crate) user: Option<String>,
    /// The capabilities, by name, in alphabetic order.
    pub(crate) capabilities: Vec<String>,
}

/// Whether [`FOR_LOADING`] was kept.
static LOADS: AtomicBool = AtomicBool::new(false);

/// Why the daemon has not the rights that it needs, or has too many.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    /// Started by a user without rights.
    #[error(
        "the daemon needs {missing}, which this process does not have: start it by `systemctl start shim6`, as root, or with \
         these as ambient capabilities"
    )]
    Missing {
        /// Names of capabilities.
        missing: String,
    },
    /// There is no such user.
    #[error(
        "user {name}: there is no such user; make one (`adduser --system --group --no-create-home {name}`), or write \
         `user = \"none\"` to stay root with few capabilities"
    )]
    NoUser {
        /// The name asked for.
        name: String,
    },
    /// The namespace does not have the user.
    #[error("user {name}: this user namespace has no such user (see user_namespaces(7)); write `user = \"none\"`")]
    NotMapped {
        /// The name asked for.
        name: String,
    },
    /// Only root can become another user.
    #[error("user {name}: only root can start the daemon as another user; start it as root or as {name}")]
    NotRoot {
        /// The name asked for.
        name: String,
    },
    /// The device node is closed to the user.
    #[error(
        "user {name}: it cannot open {TUN_NODE} (mode {mode:04o}); udev makes it 0666, as it gives nothing to anybody without \
         CAP_NET_ADMIN: `chmod 0666 {TUN_NODE}`, or write `user = \"none\"`"
    )]
    TunNode {
        /// The name asked for.
        name: String,
        /// Of the device node.
        mode: u32,
    },
    /// A directory could not be prepared.
    #[error("cannot give {path} to the user {name}")]
    Handover {
        /// The directory or file.
        path: String,
        /// The name asked for.
        name: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused to take rights away.
    #[error("cannot {what}")]
    Kernel {
        /// What was to be done.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Gives up what the daemon does not need. To be called before there are threads.
///
/// # Errors
///
/// When something needed is missing, or when anything that is not needed would be kept.
pub(crate) fn drop_surplus(config: &Config) -> Result<Privileges, PrivilegeError> {
    let user = user(&config.user)?;
    let held = read(CapSet::Permitted)?;
    let missing: Vec<_> = NEEDED.iter().filter(|needed| !held.contains(needed)).collect();
    if !missing.is_empty() {
        let missing = names(missing.into_iter());
        return Err(PrivilegeError::Missing {
            missing: missing.join(" and "),
        });
    }
    let kept: CapsHashSet = NEEDED
        .into_iter()
        .chain(USEFUL)
        .filter(|capability| held.contains(capability))
        .collect();
    if let Some(user) = &user {
        prepare(config, user)?;
    }
    bound(&held, &kept)?;
    if let Some(user) = &user {
        become_user(user)?;
    }
    let mut now = kept.clone();
    if held.contains(&FOR_LOADING) && kept.contains(&Capability::CAP_BPF) {
        now.insert(FOR_LOADING);
        LOADS.store(true, Ordering::Relaxed);
    }
    keep_only(&now)?;
    prctl::set_no_new_privs().map_err(|errno| kernel("give up gaining rights by starting programs", errno))?;
    Ok(Privileges {
        user: user.map(|user| user.name),
        capabilities: names(kept.iter()),
    })
}

/// Whether this process could become the user that the configuration asks for, as [`drop_surplus`] does.
///
/// # Errors
///
/// Why not.
pub(crate) fn check_user(config: &Config) -> Result<(), PrivilegeError> {
    user(&config.user)?.map_or(Ok(()), |user| tun_node(&user))
}

/// Gives up what the calling thread has only for loading programs. Each thread but the one that loads them calls this when it
/// starts, that one when it has. Does nothing in a process that has not called [`drop_surplus`].
pub(crate) fn settle() {
    if !LOADS.load(Ordering::Relaxed) {
        return;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        if let Err(error) = caps::drop(None, set, FOR_LOADING) {
            tracing::error!(%error, "cannot give up {FOR_LOADING}");
        }
    }
}

/// Whom to become; `None` to stay.
fn user(wanted: &RunAs) -> Result<Option<User>, PrivilegeError> {
    let (name, is_asked_for) = match wanted {
        RunAs::Unchanged => return Ok(None),
        RunAs::Auto => (USER, false),
        RunAs::User(name) => (name.as_str(), true),
    };
    let found = User::from_name(name).map_err(|errno| kernel("look up the user", errno))?;
    let found = match (found, name.parse()) {
        (None, Ok(number)) => {
            User::from_uid(Uid::from_raw(number)).map_err(|errno| kernel("look up the user", errno))?
        }
        (found, _) => found,
    };
    let name = name.to_owned();
    match found {
        None if is_asked_for => Err(PrivilegeError::NoUser { name }),
        None => Ok(None),
        Some(user) if user.uid == geteuid() => Ok(None),
        Some(_) if !geteuid().is_root() => match is_asked_for {
            true => Err(PrivilegeError::NotRoot { name }),
            false => Ok(None),
        },
        Some(user) if is_mapped("uid", user.uid.as_raw()) && is_mapped("gid", user.gid.as_raw()) => Ok(Some(user)),
        Some(_) if is_asked_for => Err(PrivilegeError::NotMapped { name }),
        // A laboratory, where nobody but root exists.
        Some(_) => Ok(None),
    }
}

/// Whether this user namespace has the number.
fn is_mapped(kind: &str, id: u32) -> bool {
    let map = fs::read_to_string(format!("/proc/self/{kind}_map"));
    // Without /proc the kernel says so a moment later.
    map.map_or(true, |map| contains(&map, id))
}

fn contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(_), Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

/// Whether a user can open the device node.
fn tun_node(user: &User) -> Result<(), PrivilegeError> {
    let mode = fs::metadata(TUN_NODE).map_or(0o666, |node| node.mode() & 0o7777);
    // A node of a group that the user is in would do as well; nobody makes those.
    if mode & 0o006 == 0o006 {
        return Ok(());
    }
    let name = user.name.clone();
    Err(PrivilegeError::TunNode { name, mode })
}

/// All that takes root: directories that the user can write to.
fn prepare(config: &Config, user: &User) -> Result<(), PrivilegeError> {
    tun_node(user)?;
    let owner = Owner {
        user: user.uid,
        group: user.gid,
    };
    let failed = |(path, source): (String, io::Error)| PrivilegeError::Handover {
        path,
        name: user.name.clone(),
        source,
    };
    let runtime = config.control_socket.parent().unwrap_or(Path::new("/"));
    handover::directory(runtime, owner).map_err(failed)?;
    if let Some(identity) = &config.addresses.identity {
        handover::identity(identity, owner).map_err(failed)?;
    }
    Ok(())
}

/// Nothing that is ever started from here can have more.
fn bound(held: &CapsHashSet, kept: &CapsHashSet) -> Result<(), PrivilegeError> {
    // Whoever started us without this has set the bounds, as systemd does.
    if !held.contains(&Capability::CAP_SETPCAP) {
        return Ok(());
    }
    for capability in read(CapSet::Bounding)?.difference(kept) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(|error| failed("bound the capabilities", &error))?;
    }
    Ok(())
}

fn become_user(user: &User) -> Result<(), PrivilegeError> {
    let (uid, gid): (Uid, Gid) = (user.uid, user.gid);
    let name = CString::new(user.name.clone()).unwrap_or_default();
    caps::securebits::set_keepcaps(true).map_err(|error| failed("keep the capabilities as another user", &error))?;
    initgroups(&name, gid).map_err(|errno| kernel("take the user's groups", errno))?;
    setresgid(gid, gid, gid).map_err(|errno| kernel("take the user's group", errno))?;
    setresuid(uid, uid, uid).map_err(|errno| kernel("become the user", errno))?;
    caps::securebits::set_keepcaps(false).map_err(|error| failed("keep the capabilities no longer", &error))
}

fn keep_only(kept: &CapsHashSet) -> Result<(), PrivilegeError> {
    let set =
        |set, value: &CapsHashSet| caps::set(None, set, value).map_err(|error| failed("give up capabilities", &error));
    caps::clear(None, CapSet::Ambient).map_err(|error| failed("give up ambient capabilities", &error))?;
    set(CapSet::Inheritable, &CapsHashSet::new())?;
    set(CapSet::Effective, kept)?;
    set(CapSet::Permitted, kept)
}

fn read(set: CapSet) -> Result<CapsHashSet, PrivilegeError> {
    caps::read(None, set).map_err(|error| failed("read the capabilities", &error))
}

fn names<'a>(capabilities: impl Iterator<Item = &'a Capability>) -> Vec<String> {
    let mut names: Vec<_> = capabilities.map(ToString::to_string).collect();
    names.sort();
    names
}

fn failed(what: &'static str, error: &CapsError) -> PrivilegeError {
    PrivilegeError::Kernel {
        what,
        source: io::Error::other(error.to_string()),
    }
}

fn kernel(what: &'static str, errno: Errno) -> PrivilegeError {
    PrivilegeError::Kernel {
        what,
        source: errno.into(),
    }
}
