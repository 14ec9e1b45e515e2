//! `shim6 lab keep`: the process in the background, which `shim6 lab up` starts.

use std::process::ExitCode;

use clap::Args;

use crate::lab::keeper::{Directory, keep};

/// Arguments of `shim6 lab keep`.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Name of the lab
    #[arg(long, value_name = "NAME")]
    name: String,
}

pub(super) fn run(args: &KeepArgs) -> anyhow::Result<ExitCode> {
    keep(&Directory::of_user()?, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
