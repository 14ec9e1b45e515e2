//! Takes the socket's place in the file system, and gives it back.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group};
use socket2::{Domain, SockAddr, Socket, Type};

use super::ControlError;

/// Who may talk to the daemon: its user and its group.
const MODE: u32 = 0o660;

/// The group whose members may talk to the daemon if no other is configured, and if it exists.
pub(crate) const DEFAULT_GROUP: &str = "shim6";

/// Whose members may talk to the daemon, besides its own user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// The group `shim6`, where there is one, else the group that the daemon runs as.
    #[default]
    DefaultGroup,
    /// This group.
    Group(String),
}

/// A socket file that we made; removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that nothing else is removed that took the place meanwhile.
    identity: (u64, u64),
}

/// Listens at `path`, unless a daemon answers there already. The listener does not block.
pub(super) fn bind(path: &Path, access: &Access) -> Result<(UnixListener, SocketFile), ControlError> {
    let group = access.group()?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|e| ControlError::io("create", directory, e))?;
    // Held while looking and taking, or two daemons starting at once would each remove the other's socket.
    let opened = File::open(directory).map_err(|e| ControlError::io("open", directory, e))?;
    let _lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock)
        .map_err(|_| ControlError::Contended { path: path.to_owned() })?;
    make_room(path)?;
    let failed = |e| ControlError::io("listen at", path, e);
    let (listener, metadata) = listen(path).map_err(failed)?;
    access.give(path, group)?;
    let identity = (metadata.dev(), metadata.ino());
    Ok((
        listener,
        SocketFile {
            path: path.to_owned(),
            identity,
        },
    ))
}

fn listen(path: &Path) -> io::Result<(UnixListener, fs::Metadata)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file is made with the socket's mode less the umask: at no moment is it open to everybody.
    fchmod(&socket, Mode::from_bits_truncate(MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    Ok((std::os::fd::OwnedFd::from(socket).into(), fs::symlink_metadata(path)?))
}

impl Access {
    /// The group that the socket is for; `None`: that of the process.
    fn group(&self) -> Result<Option<Gid>, ControlError> {
        let name = match self {
            Self::DefaultGroup => DEFAULT_GROUP,
            Self::Group(name) => name,
        };
        let gid = Group::from_name(name).ok().flatten().map(|group| group.gid);
        match self {
            Self::Group(_) if gid.is_none() => Err(ControlError::NoSuchGroup { group: name.to_owned() }),
            _ => Ok(gid),
        }
    }

    /// Makes the socket the group's. The daemon can do without the default one: in a user namespace nobody can give it.
    fn give(&self, path: &Path, group: Option<Gid>) -> Result<(), ControlError> {
        let Some(gid) = group else { return Ok(()) };
        match (chown(path, None, Some(gid.as_raw())), self) {
            (Ok(()), _) => Ok(()),
            (Err(error), Self::DefaultGroup) => {
                tracing::info!(%error, "the control socket cannot be given to the group {DEFAULT_GROUP}; it stays with ours");
                Ok(())
            }
            (Err(error), Self::Group(_)) => {
                drop(fs::remove_file(path));
                Err(ControlError::io("give to its group the socket", path, error))
            }
        }
    }
}

/// Removes the socket of a daemon that is gone; refuses if one is alive or if the file is not a socket.
fn make_room(path: &Path) -> Result<(), ControlError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(ControlError::io("look at", path, e)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ControlError::NotASocket { path: path.to_owned() });
    }
    match probe(path) {
        Ok(pid) => Err(ControlError::InUse {
            path: path.to_owned(),
            pid,
        }),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(ControlError::InUse {
            path: path.to_owned(),
            pid: None,
        }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| ControlError::io("remove the stale", path, e))
        }
        Err(e) => Err(ControlError::io("connect to", path, e)),
    }
}

/// Connects to see whether anybody listens, and who. Does not wait when the listener is busy.
fn probe(path: &Path) -> io::Result<Option<i32>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    let pid = getsockopt(&socket, sockopt::PeerCredentials)?.pid();
    // A process of another process namespace shows as 0.
    Ok((pid > 0).then_some(pid))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}
