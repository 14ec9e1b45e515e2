//! The daemon: brings the stack and the system together.

use crate::config::Config;

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// When the system lacks something that the daemon needs.
pub async fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("the daemon for {} is not in this build", config.tun.name)
}
