//! `shim6 address show`: the host's addresses and what they were made from.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::super::output::print;
use super::args::IdentityArgs;
use super::description::Description;
use super::identity;
use crate::identity::{IdentityError, load_key};

pub(super) const EXAMPLES: &str = "\
Example:
  shim6 address show --json | jq -r .parameters

Needs no permission but to read identity.toml.";

/// Arguments of `shim6 address show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    set: Description,
    identity: &'a Path,
    key_state: Option<&'static str>,
}

/// Prints the identity.
///
/// # Errors
///
/// When there is none, or when it cannot be read.
pub fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let store = args.identity.store()?;
    let identity = identity(&store)?;
    let key = identity.key.as_deref();
    let state = key.map(|path| state(path, identity.set.parameters().public_key()));
    let set = Description::new(&identity);
    let path = store.identity_path();
    let text = if args.json {
        let printed = Printed {
            set,
            identity: &path,
            key_state: state.as_ref().map(|(state, _)| *state),
        };
        serde_json::to_string(&printed)? + "\n"
    } else {
        let mut text = set.text() + &format!("\nidentity:        {}\n", path.display());
        if let (Some(key), Some((_, note))) = (key, state) {
            text += &format!("private key:     {} ({note})\n", key.display());
        }
        text
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// In a word and in a note, whether the private key can be used by whoever asks.
fn state(path: &Path, public_key: &[u8]) -> (&'static str, String) {
    match load_key(path) {
        Ok(key) if key.public_key().spki() == public_key => ("usable", "readable".to_owned()),
        Ok(_) => ("other", "it is that of other addresses".to_owned()),
        Err(IdentityError::Io { source, .. }) => match source.kind() {
            std::io::ErrorKind::NotFound => ("missing", "it is not there".to_owned()),
            _ => ("unreadable", "only its owner can read it".to_owned()),
        },
        Err(IdentityError::KeyMode { mode, .. }) => (
            "open",
            format!("mode {mode:04o} opens it to others, so that it is not used; if nobody has read it, chmod 600"),
        ),
        Err(error) => ("unusable", error.to_string()),
    }
}
