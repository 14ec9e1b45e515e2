//! What makes a node look like a machine of its own to programs: its name, its interfaces in `/sys`, the names of the other nodes in
//! `/etc/hosts`, and directories of its own for daemons.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;

use crate::lab::Namespace;

/// Each node has these for itself. The daemon of this project keeps its socket and its addresses there.
const PRIVATE: [&str; 2] = ["/run/shim6", "/var/lib/shim6"];
/// Each node has an empty one, if the system has one: the system's daemon is none of the lab's business.
const EMPTY: &str = "/etc/shim6";
const HOSTS: &str = "/etc/hosts";
const NONE: Option<&str> = None;

/// Namespaces beside that of the network.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) mount: File,
    pub(super) names: File,
}

impl Surroundings {
    /// Makes those of a node. `hosts` is the text of its `/etc/hosts`. What of it the system does not permit is left as it is outside.
    pub(super) fn new(node: &Namespace, hosts: &str) -> io::Result<Self> {
        let made = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("mounts {}", node.name()));
            let make = || {
                // Its /sys is that of the network namespace in which it is mounted.
                setns(node, CloneFlags::CLONE_NEWNET)?;
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
                mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
                sethostname(node.name())?;
                furnish(hosts);
                Ok(Self {
                    mount: File::open("/proc/thread-self/ns/mnt")?,
                    names: File::open("/proc/thread-self/ns/uts")?,
                })
            };
            Ok(thread.spawn_scoped(scope, make)?.join())
        });
        made.and_then(|joined: thread::Result<io::Result<Self>>| {
            joined.unwrap_or_else(|_| Err(io::Error::other("the thread that mounts panicked")))
        })
    }
}

/// Everything here is a convenience: what fails is left out.
fn furnish(hosts: &str) {
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE);
    for path in PRIVATE {
        let _ = own_directory(Path::new(path));
    }
    if Path::new(EMPTY).is_dir() {
        let _ = empty(Path::new(EMPTY));
    }
    let _ = set_hosts(hosts);
}

/// Puts an empty directory in the place of one that may not be there.
fn own_directory(path: &Path) -> io::Result<()> {
    if let (false, Some(parent)) = (path.is_dir(), path.parent()) {
        extend(parent)?;
        fs::create_dir(path)?;
    }
    empty(path)
}

fn empty(path: &Path) -> io::Result<()> {
    let options = Some("mode=0755");
    Ok(mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        options,
    )?)
}

/// Covers a directory, which is not for us to write to, by one that has the same in it, and in which more can be made.
fn extend(path: &Path) -> io::Result<()> {
    let covered = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
        .open(path)?;
    let entries: Vec<_> = fs::read_dir(path)?.filter_map(Result::ok).collect();
    empty(path)?;
    for entry in entries {
        let kind = entry.file_type()?;
        let target = path.join(entry.file_name());
        let source = Path::new("/proc/thread-self/fd")
            .join(covered.as_raw_fd().to_string())
            .join(entry.file_name());
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target)?;
        } else {
            drop(File::create(&target)?);
        }
        // What cannot be had is then an empty directory or file.
        let _ = mount(Some(&source), &target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE);
    }
    Ok(())
}

/// Replaces `/etc/hosts` for this node by a file that nothing else refers to.
fn set_hosts(text: &str) -> io::Result<()> {
    let file = Path::new(PRIVATE[0]).join("hosts");
    fs::write(&file, text)?;
    let mounted = mount(Some(&file), HOSTS, NONE, MsFlags::MS_BIND, NONE);
    fs::remove_file(&file)?;
    Ok(mounted?)
}
