//! Gives directories to the daemon's user while this is still root.
//!
//! What is given away is looked at through an open descriptor, so that nobody can put something else in its place meanwhile.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::unistd::{Gid, Uid, fchown};

use crate::config::DEFAULT_SOCKET;
use crate::identity::is_own_file;

/// Who gets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) user: Uid,
    pub(super) group: Gid,
}

/// What could not be given, and why.
pub(super) type Failed = (String, io::Error);

/// Makes a directory that the owner can write to. One that is there already stays as it is, unless it is the default one of
/// the control socket, which nobody else uses.
pub(super) fn directory(path: &Path, owner: Owner) -> Result<(), Failed> {
    let is_new = make(path)?;
    if is_new || Some(path) == Path::new(DEFAULT_SOCKET).parent() {
        give(path, libc::O_DIRECTORY, owner)?;
    }
    Ok(())
}

/// The same for the directory of an identity: one that root has used before is given as well, with what is in it. One with
/// anything else in it is somebody else's.
pub(super) fn identity(path: &Path, owner: Owner) -> Result<(), Failed> {
    let failed = |error| (path.display().to_string(), error);
    make(path)?;
    let mut ours = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_str().is_some_and(is_own_file) {
            return Ok(());
        }
        ours.push(entry.path());
    }
    give(path, libc::O_DIRECTORY, owner)?;
    ours.iter().try_for_each(|file| give(file, 0, owner))
}

/// Whether it was not there.
fn make(path: &Path) -> Result<bool, Failed> {
    if path.is_dir() {
        return Ok(false);
    }
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map(|()| true).map_err(|error| (path.display().to_string(), error))
}

/// Gives what is root's and has no other name.
fn give(path: &Path, flags: libc::c_int, owner: Owner) -> Result<(), Failed> {
    let failed = |error| (path.display().to_string(), error);
    let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        // A symbolic link: whoever put it there knows whose it is.
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let found = file.metadata().map_err(failed)?;
    let is_plain = found.is_dir() || (found.is_file() && found.nlink() == 1);
    if found.uid() != 0 || !is_plain {
        return Ok(());
    }
    fchown(file.as_fd(), Some(owner.user), Some(owner.group)).map_err(|errno| failed(errno.into()))
}
