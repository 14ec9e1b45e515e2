//! What can go wrong on either end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use thiserror::Error;

/// Why the control socket could not be used. Each message says what to do next.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Nothing listens there.
    #[error("no daemon runs at {}; start one with: shim6 run", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket's permissions exclude this user.
    #[error(
        "permission denied at {}, which belongs to user {user} and group {group}; \
         run this as that user or as a member of that group",
        path.display()
    )]
    Denied {
        /// The socket, or the directory in front of it that cannot be entered.
        path: PathBuf,
        /// Its owner, by name if there is one.
        user: String,
        /// Its group, by name if there is one.
        group: String,
    },
    /// Another daemon answers there.
    #[error(
        "a daemon{} already runs at {}; stop it first, or set another control_socket",
        pid.map_or(String::new(), |pid| format!(" (pid {pid})")),
        path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The daemon's process id, unless it is in another process namespace.
        pid: Option<i32>,
    },
    /// Another process is taking the same socket at this moment.
    #[error("another daemon is starting at {} right now; start only one", path.display())]
    Contended {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("{} exists and is not a socket; use another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} {}; check the path and its permissions", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon answers with an error.
    #[error("the daemon at {} refuses: {error} {parameters}; try again later, or see its log", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The Varlink name of the error.
        error: String,
        /// Its parameters, as JSON.
        parameters: String,
    },
    /// The configuration was not applied.
    #[error("{}\nnothing was changed; mend this and reload again", problems.join("\n"))]
    ReloadRefused {
        /// Each in a line.
        problems: Vec<String>,
    },
    /// What answers does not speak the protocol.
    #[error("what answers at {} is not a shim6 daemon of this version ({what}); check the path", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        what: String,
    },
    /// The daemon does not answer in time.
    #[error("the daemon at {} does not answer; look at its log, restart it if it hangs", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
    },
    /// The connection ended instead of an answer.
    #[error("the daemon at {} closed the connection; see whether it still runs: shim6 status", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
}

impl ControlError {
    /// The error for what the system said while `doing` something with `path`.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::denied(path),
            _ => Self::Io { doing, path, source },
        }
    }

    /// Names the owner of what is in the way: the path itself, or the nearest directory above that can be looked at.
    fn denied(path: PathBuf) -> Self {
        use std::os::unix::fs::MetadataExt;
        let found = path
            .ancestors()
            .find_map(|at| Some((at.to_owned(), at.symlink_metadata().ok()?)));
        let Some((path, metadata)) = found else {
            return Self::Denied {
                path,
                user: "?".to_owned(),
                group: "?".to_owned(),
            };
        };
        let user = User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
        Self::Denied {
            path,
            user: user.map_or_else(|| metadata.uid().to_string(), |user| user.name),
            group: group.map_or_else(|| metadata.gid().to_string(), |group| group.name),
        }
    }
}
