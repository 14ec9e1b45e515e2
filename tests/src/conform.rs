//! The daemon under the conformance tester, in the lab.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use shim6_tun::demo::daemon::Daemon;
use shim6_tun::demo::live::Live;
use shim6_tun::lab::Topology;
use tokio::process::Command;

/// The lab with a daemon on host b, and the tester's place on host a.
#[derive(Debug)]
pub struct Stage<'a> {
    binary: &'a Path,
    topology: Topology,
    daemon: Daemon,
    target: String,
    _directory: tempfile::TempDir,
}

impl<'a> Stage<'a> {
    /// Builds the lab and starts the daemon.
    ///
    /// # Errors
    /// One of them is not possible.
    pub async fn build(binary: &'a Path) -> anyhow::Result<Self> {
        let topology = Topology::two_by_two().await?;
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let live = Arc::new(Live::default());
        let daemon = Daemon::start(binary, &topology.b, directory.path(), "", &live).await?;
        let status = daemon.status().await?;
        let first = &topology.b.uplinks[0].interface;
        let uplink = status.uplinks.iter().find(|uplink| uplink.interface == *first);
        let target = uplink.context("the daemon has no first uplink")?.address.to_string();
        Ok(Self {
            binary,
            topology,
            daemon,
            target,
            _directory: directory,
        })
    }

    /// The lab.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A ULID of the daemon.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Runs `shim6 conform` on host a.
    ///
    /// # Errors
    /// It does not start.
    pub async fn conform(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.topology.a.namespace.command(self.binary);
        command.arg("conform").args(arguments).stdin(Stdio::null());
        Command::from(command).output().await.context("cannot start the tester")
    }

    /// Ends the daemon.
    ///
    /// # Errors
    /// It does not end by itself.
    pub async fn stop(self) -> anyhow::Result<()> {
        let ended = self.daemon.stop().await?;
        anyhow::ensure!(ended.success(), "the daemon ended with {ended}");
        Ok(())
    }
}
