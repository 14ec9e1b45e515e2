//! Files that are read with a bound and replaced at once.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access, geteuid};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::error::IdentityError;

/// Mode of what everybody may read.
pub(super) const PUBLIC: u32 = 0o644;
/// Mode of what only the owner may read.
pub(super) const PRIVATE: u32 = 0o600;

/// Held by whoever writes to the directory. A file of its own that only the owner can open: anybody who can read the
/// directory could hold a lock on that.
const LOCK: &str = ".lock";

/// End of the name of a file that is not written to its end.
const UNFINISHED: &str = ".new";

/// The octets of a regular file of at most `limit`; `None` if there is no file.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, IdentityError> {
    match open(path) {
        Ok(file) => Ok(Some(all(&file, path, limit)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IdentityError::io("read", path)(error)),
    }
}

/// The SHA-256 of a file of any size.
pub(super) fn digest(path: &Path) -> Result<[u8; 32], IdentityError> {
    let digest = || {
        let (mut file, mut digest, mut octets) = (open(path)?, Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut octets)? {
                0 => return Ok(digest.finalize().into()),
                read => digest.update(&octets[..read]),
            }
        }
    };
    digest().map_err(IdentityError::io("read", path))
}

/// The same for a file that has to be there and that nobody but its owner may have access to.
pub(super) fn read_private(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let file = open(path).map_err(IdentityError::io("read", path))?;
    let metadata = file.metadata().map_err(IdentityError::io("look at", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(IdentityError::KeyMode {
            path: path.to_owned(),
            mode,
        });
    }
    all(&file, path, limit).map(Zeroizing::new)
}

/// Makes `directory` where it is not there yet.
pub(super) fn make(directory: &Path) -> Result<(), IdentityError> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(IdentityError::io("create the directory", directory))?;
    directory.parent().map_or(Ok(()), sync)
}

/// Locks `directory` for writing, until the lock is dropped.
pub(super) fn lock(directory: &Path) -> Result<Flock<File>, IdentityError> {
    // A lock that is there already could be taken in a directory that nothing can be written to.
    access(directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| IdentityError::io("write to the directory", directory)(errno.into()))?;
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(IdentityError::io("write", &path))?;
    belong_to_directory(&file, &path).map_err(IdentityError::io("write", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => IdentityError::Busy {
            path: directory.to_owned(),
        },
        other => IdentityError::io("lock", &path)(other.into()),
    })
}

/// Puts a file with these octets and this mode at `path`, in place of one that may be there. After a crash there is
/// either the old one or the new one. Only for the holder of the [`lock`].
pub(super) fn replace(path: &Path, octets: &[u8], mode: u32) -> Result<(), IdentityError> {
    let unfinished = unfinished(path);
    let written = write_new(&unfinished, octets, mode)
        .map_err(IdentityError::io("write", &unfinished))
        .and_then(|()| fs::rename(&unfinished, path).map_err(IdentityError::io("write", path)));
    if let Err(error) = written {
        // The first error tells more than a second would.
        drop(fs::remove_file(&unfinished));
        return Err(error);
    }
    path.parent().map_or(Ok(()), sync)
}

/// Gives a file another name in its directory.
pub(super) fn rename(path: &Path, to: &Path) -> Result<(), IdentityError> {
    fs::rename(path, to).map_err(IdentityError::io("rename", path))?;
    path.parent().map_or(Ok(()), sync)
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(IdentityError::io("remove", path)(error)),
        Ok(()) => path.parent().map_or(Ok(()), sync),
    }
}

/// Removes what a crash has left of files in `directory` that are `ours`. Only for the holder of the [`lock`].
pub(super) fn remove_unfinished(directory: &Path, ours: impl Fn(&str) -> bool) -> Result<(), IdentityError> {
    let entries = fs::read_dir(directory).map_err(IdentityError::io("read the directory", directory))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name
            .to_str()
            .and_then(|name| name.strip_prefix('.')?.strip_suffix(UNFINISHED));
        if name.is_some_and(&ours) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Where [`replace`] writes first.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// Without waiting for the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn all(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, IdentityError> {
    let metadata = file.metadata().map_err(IdentityError::io("look at", path))?;
    if !metadata.is_file() {
        return Err(IdentityError::NotAFile { path: path.to_owned() });
    }
    let too_large = || IdentityError::TooLarge {
        path: path.to_owned(),
        limit,
    };
    if metadata.len() > limit {
        return Err(too_large());
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut octets = Vec::with_capacity(metadata.len() as usize + 1);
    let mut rest = file.take(limit + 1);
    rest.read_to_end(&mut octets).map_err(IdentityError::io("read", path))?;
    if rest.limit() == 0 {
        return Err(too_large());
    }
    Ok(octets)
}

fn write_new(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    belong_to_directory(&file, path)?;
    // The umask may have taken away what others need.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(octets)?;
    file.sync_all()
}

/// What root writes into the directory of the daemon's user is that user's, who could not read it otherwise.
fn belong_to_directory(file: &File, path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new(".")).metadata()?;
    let is = file.metadata()?;
    if (is.uid(), is.gid()) == (directory.uid(), directory.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(directory.uid()), Some(directory.gid()))
}

/// Makes sure that what was renamed in `directory` stays so.
fn sync(directory: &Path) -> Result<(), IdentityError> {
    let here = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    File::open(here)
        .and_then(|directory| directory.sync_all())
        .map_err(IdentityError::io("write", here))
}
