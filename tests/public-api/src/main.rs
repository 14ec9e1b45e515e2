//! Holds what the published crates offer to others against `public-api.txt` of each, so that nobody changes it without knowing.
//!
//! ```sh
//! cargo run --manifest-path tests/public-api/Cargo.toml               # compares
//! cargo run --manifest-path tests/public-api/Cargo.toml -- --write    # writes what there is now
//! ```
//!
//! What they offer is read from what rustdoc writes as JSON, with the default features. That is for nightly toolchains; the
//! variable `RUSTC_BOOTSTRAP` has any do it.
//!
//! Exit code 0: nothing has changed, or it is written; 1: something has; 2: wrong arguments, or it could not be read; 77: this toolchain
//! writes a JSON that cannot be read here.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// The crates, and their directories.
const CRATES: [(&str, &str); 4] = [
    ("shim6-cga", "cga"),
    ("shim6-reap", "reap"),
    ("shim6-core", "shim6-core"),
    ("shim6-smoltcp", "shim6-smoltcp"),
];

/// What tests say that have to be skipped.
const SKIPPED: u8 = 77;

enum Fault {
    /// Nobody's toolchain is to blame.
    Error(String),
    /// The toolchain is too old or too new.
    Unreadable(String),
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let writes = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--write"] => true,
        _ => {
            eprintln!("public-api: no arguments, or --write");
            return ExitCode::from(2);
        }
    };
    let mut same = true;
    for (package, directory) in CRATES {
        match visit(package, directory, writes) {
            Ok(is_same) => same &= is_same,
            Err(Fault::Error(text)) => {
                eprintln!("public-api: {package}: {text}");
                return ExitCode::from(2);
            }
            Err(Fault::Unreadable(text)) => {
                eprintln!(
                    "public-api: skipped, this toolchain's rustdoc is not one that the crate `public-api` can read (from {} on; \
                     another version of the crate may): {text}",
                    public_api::MINIMUM_NIGHTLY_RUST_VERSION
                );
                return ExitCode::from(SKIPPED);
            }
        }
    }
    if same {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "public-api: if that is meant, write it and say in CHANGELOG.md what users have to change:\n  \
         cargo run --manifest-path tests/public-api/Cargo.toml -- --write"
    );
    ExitCode::FAILURE
}

/// Compares or writes one crate's, and says whether there is no difference left.
fn visit(package: &str, directory: &str, writes: bool) -> Result<bool, Fault> {
    let known = root().join(directory).join("public-api.txt");
    let now = describe(&document(package)?)?;
    if writes {
        fs::write(&known, now).map_err(|error| Fault::Error(format!("cannot write {}: {error}", known.display())))?;
        return Ok(true);
    }
    let before = fs::read_to_string(&known)
        .map_err(|error| Fault::Error(format!("cannot read {}: {error}; --write makes it", known.display())))?;
    let (old, new): (HashSet<_>, HashSet<_>) = (before.lines().collect(), now.lines().collect());
    for line in before.lines().filter(|line| !new.contains(line)) {
        println!("-{line}");
    }
    for line in now.lines().filter(|line| !old.contains(line)) {
        println!("+{line}");
    }
    Ok(old == new)
}

/// Has rustdoc write the JSON of a crate, and says where it is.
fn document(package: &str) -> Result<PathBuf, Fault> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    // One of its own: with the variable set, much would be built anew in the usual one each time.
    let target = target.join("public-api");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["rustdoc", "--quiet", "--locked", "--lib", "--package", package, "--"])
        .args([
            "-Z",
            "unstable-options",
            "--output-format",
            "json",
            "--cap-lints",
            "allow",
        ])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTC_BOOTSTRAP", "1")
        // That of the caller may be for other output.
        .env_remove("RUSTDOCFLAGS")
        .status()
        .map_err(|error| Fault::Error(format!("cannot run cargo: {error}")))?;
    if !status.success() {
        return Err(Fault::Error(format!("cargo rustdoc: {status}")));
    }
    Ok(target
        .join("doc")
        .join(package.replace('-', "_"))
        .with_extension("json"))
}

/// One line for each item that others can name. Of what is derived the trait is enough, its methods are known; one that only
/// the compiler knows says nothing.
fn describe(json: &Path) -> Result<String, Fault> {
    let written = items(json, false)?;
    let shown: HashSet<_> = written.iter().collect();
    let lines = items(json, true)?;
    let lines = lines
        .iter()
        .filter(|line| shown.contains(line) || line.starts_with("impl"))
        .filter(|line| !line.contains("StructuralPartialEq"));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// The items of a crate, without what the compiler adds by itself.
fn items(json: &Path, with_derived: bool) -> Result<Vec<String>, Fault> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(!with_derived)
        .build()
        .map_err(|error| Fault::Unreadable(error.to_string()))?;
    Ok(api.items().map(ToString::to_string).collect())
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
