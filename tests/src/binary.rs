//! The real `shim6` program, for tests that run it as a process.
//!
//! Cargo builds the binaries of the package under test only, and `shim6` belongs to another one:
//! `cargo test -p shim6-tests` alone would find none, or an old one. So it is built here, once per
//! process, with the profile and into the target directory of the running program. When it is up
//! to date this takes a fraction of a second.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

/// The path of the `shim6` program, up to date.
///
/// # Panics
/// When it cannot be built.
pub fn shim6() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build().unwrap_or_else(|error| panic!("no shim6 to test: {error:#}")))
}

/// Builds the `shim6` program, for programs that are no tests.
///
/// # Errors
/// What Cargo said.
pub fn build() -> anyhow::Result<PathBuf> {
    let running = env::current_exe().context("cannot find the running program")?;
    let place =
        Place::of(&running).with_context(|| format!("{} is in no target directory of Cargo", running.display()))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "shim6-tun", "--bin", "shim6"])
        .args(["--profile", place.profile])
        .arg("--target-dir")
        .arg(place.target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo build: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(place.directory.join("shim6"))
}

/// Where a program that Cargo built is.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    /// The target directory.
    target: &'a Path,
    /// The directory of the profile, in which the programs are.
    directory: &'a Path,
    /// The name of the profile.
    profile: &'a str,
}

impl<'a> Place<'a> {
    /// Tests are in `<target>/<profile>/deps`, programs in `<target>/<profile>`.
    fn of(program: &'a Path) -> Option<Self> {
        let parent = program.parent()?;
        let directory = match parent.file_name()?.to_str()? {
            "deps" => parent.parent()?,
            _ => parent,
        };
        let profile = match directory.file_name()?.to_str()? {
            "debug" => "dev",
            other => other,
        };
        Some(Self {
            target: directory.parent()?,
            directory,
            profile,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_read_from_the_path_of_a_test_or_a_program() {
        let test = Place::of(Path::new("/x/target/debug/deps/e2e-0123")).expect("a place");
        assert_eq!(test.target, Path::new("/x/target"));
        assert_eq!(test.directory, Path::new("/x/target/debug"));
        assert_eq!(test.profile, "dev");
        let program = Place::of(Path::new("/y/release/netbench")).expect("a place");
        assert_eq!(program.target, Path::new("/y"));
        assert_eq!(program.profile, "release");
    }

    #[test]
    fn program_is_built_and_runs() {
        let output = Command::new(shim6()).arg("--version").output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.starts_with(b"shim6 "), "{output:?}");
    }
}
