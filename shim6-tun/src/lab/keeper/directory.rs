//! Where the sockets of a user's labs are.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::lab::LabError;

/// Says where, instead of the usual place.
const VARIABLE: &str = "SHIM6_LAB_DIRECTORY";
const SUFFIX: &str = ".sock";
/// The longest path of a socket is 107 octets.
const MAX_NAME: usize = 31;

/// The directory of a user's labs: `$SHIM6_LAB_DIRECTORY`, else `shim6-lab` in `$XDG_RUNTIME_DIR`, else `/tmp/shim6-lab-` and the
/// user's number. Nobody else may have access to it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// That of the user of this process, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or is another user's.
    pub fn of_user() -> Result<Self, LabError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = match (set(VARIABLE), set("XDG_RUNTIME_DIR")) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(runtime)) if Path::new(&runtime).is_dir() => Path::new(&runtime).join("shim6-lab"),
            _ => PathBuf::from(format!("/tmp/shim6-lab-{}", geteuid())),
        };
        Self::at(path)
    }

    /// This one, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or is another user's.
    pub fn at(path: PathBuf) -> Result<Self, LabError> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(LabError::keeper(format_args!("cannot make {}", path.display()), error));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(&path);
        let found =
            found.map_err(|error| LabError::keeper(format_args!("cannot look at {}", path.display()), error))?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let reason =
                format!("it has to be a directory of yours with mode 0700; remove it, or set {VARIABLE} to another");
            return Err(LabError::keeper(
                format_args!("{} cannot be used", path.display()),
                reason,
            ));
        }
        Ok(Self { path })
    }

    /// The socket of the lab of this name.
    ///
    /// # Errors
    /// The name is none.
    pub fn socket(&self, name: &str) -> Result<PathBuf, LabError> {
        let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed) && !name.starts_with('.');
        if !is_name {
            let expected = format!("expected 1 to {MAX_NAME} letters, digits, -, _ and .");
            return Err(LabError::Keeper(format!("{name:?} is no name for a lab; {expected}")));
        }
        Ok(self.path.join(format!("{name}{SUFFIX}")))
    }

    /// The names of the labs that are up. What killed ones have left is removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, LabError> {
        let failed = |error| LabError::keeper(format_args!("cannot read {}", self.path.display()), error);
        let _lock = self.lock()?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name: OsString = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) {
                let socket = self.path.join(format!("{name}{SUFFIX}"));
                if is_alive(&socket) {
                    names.push(name.to_owned());
                } else {
                    drop(fs::remove_file(socket));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Held while sockets are made and removed.
    pub(super) fn lock(&self) -> Result<Flock<File>, LabError> {
        let failed = |error: io::Error| LabError::keeper(format_args!("cannot lock {}", self.path.display()), error);
        let directory = File::open(&self.path).map_err(failed)?;
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether somebody answers there.
pub(super) fn is_alive(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_directory_that_others_can_use_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("labs");
        Directory::at(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(Directory::at(path.clone()).is_err());
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(temporary.path(), &link).unwrap();
        assert!(Directory::at(link).is_err());
    }

    #[test]
    fn labs_that_answer_are_listed_and_the_others_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::at(temporary.path().join("labs")).unwrap();
        let (one, two) = (directory.socket("one").unwrap(), directory.socket("two").unwrap());
        let _one = UnixListener::bind(&one).unwrap();
        drop(UnixListener::bind(&two).unwrap());
        assert_eq!(directory.names().unwrap(), ["one"]);
        assert!(one.exists() && !two.exists());
    }

    #[test]
    fn names_stay_in_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::at(temporary.path().join("labs")).unwrap();
        for name in ["", "../x", ".x", "a/b", "a b", &"x".repeat(32)] {
            assert!(directory.socket(name).is_err(), "{name}");
        }
        assert!(directory.socket("lab-1_b.c").is_ok());
    }
}
