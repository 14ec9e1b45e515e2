//! Programs that the tests use and that are not ours: `tshark`, `nginx`, `curl`, ...
//!
//! ```no_run
//! # use shim6_tests::tools;
//! if !tools::require(&["tshark"]) {
//!     return;
//! }
//! ```

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Set to 1 where all programs must be there.
const REQUIRE: &str = "SHIM6_REQUIRE_TOOLS";
/// Where daemons are, which `PATH` often lacks for ordinary users.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Whether all of these programs are installed. If not, says `skipped: TOOL is not installed` on standard error, and the test
/// has to return.
///
/// # Panics
/// When one is missing and `SHIM6_REQUIRE_TOOLS=1`.
#[must_use]
pub fn require(tools: &[&str]) -> bool {
    let Some(missing) = tools.iter().find(|tool| path(tool).is_none()) else {
        return true;
    };
    assert!(
        env::var_os(REQUIRE).is_none_or(|value| value != "1"),
        "{missing} is required ({REQUIRE}=1) and not installed"
    );
    // Not `eprintln!`, which the test runner would hide.
    let _ = writeln!(std::io::stderr(), "skipped: {missing} is not installed");
    false
}

/// Where a program is: in `PATH`, or where daemons are.
#[must_use]
pub fn path(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    find(tool, directories)
}

fn find(tool: &str, directories: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    directories
        .into_iter()
        .map(|directory| directory.join(tool))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_can_be_executed_are_found() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("notes"), "").expect("a file");
        let directories = || [directory.path().to_owned(), PathBuf::from("/bin")];
        assert_eq!(find("notes", directories()), None);
        assert_eq!(find("sh", directories()), Some(PathBuf::from("/bin/sh")));
    }

    #[test]
    fn what_every_system_has_is_there() {
        assert!(require(&[]) && require(&["sh"]));
    }
}
