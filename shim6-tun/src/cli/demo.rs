//! `shim6 demo`.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `shim6 demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Runs the demo. Must be called while the process has one thread.
///
/// # Errors
///
/// When the demo cannot run here.
pub fn run(_args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo is not in this build")
}
