//! One `shim6 run` process inside a host of the lab.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::live::Live;
use crate::control::Client;
use crate::lab::Host;
use crate::status::Status;

/// How long a daemon may take to be ready.
const START: Duration = Duration::from_secs(10);
/// How long a daemon may take to go away.
const STOP: Duration = Duration::from_secs(10);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);
/// Lines of a daemon's log to show when something fails.
const TAIL: usize = 25;

/// A running daemon. Dropping it kills it; [`Daemon::stop`] asks it to clean up.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    events: JoinHandle<()>,
}

impl Daemon {
    /// Starts `binary` in `host`, with its files in a directory of its own below `directory`, and waits until it answers and
    /// has an address on each uplink. Its events go to `live`. `more` is added to its configuration.
    pub async fn start(
        binary: &Path,
        host: &Host,
        directory: &Path,
        more: &str,
        live: &Arc<Live>,
    ) -> anyhow::Result<Self> {
        let name = host.name.clone();
        // A daemon that starts locks the directory of its socket: two in one would get in each other's way.
        let own = own_directory(directory, host);
        std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let [socket, config, log] = ["shim6.sock", "shim6.toml", "shim6.log"].map(|file| own.join(file));
        std::fs::write(&config, configuration(&socket, host) + more)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = host.namespace.command(binary);
        command
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot duplicate the log's descriptor")?)
            .stderr(file);
        let mut command = Command::from(command);
        // A Ctrl-C of the terminal is for us: we decide in which order things end.
        command.process_group(0).kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let events = tokio::spawn(follow(socket.clone(), name.clone(), Arc::clone(live)));
        let mut daemon = Self {
            name,
            child,
            socket,
            log,
            events,
        };
        daemon.ready(host.uplinks.len()).await?;
        Ok(daemon)
    }

    /// Where the daemon of `host` keeps its identity, if its files are below `directory`.
    pub fn identity_directory(directory: &Path, host: &Host) -> PathBuf {
        own_directory(directory, host).join("identity")
    }

    /// Has the daemon of `host` read this as well when it starts, in a drop-in file.
    pub fn overrule(directory: &Path, host: &Host, tables: &str) -> anyhow::Result<()> {
        let drop_ins = own_directory(directory, host).join("shim6.toml.d");
        std::fs::create_dir_all(&drop_ins).with_context(|| format!("cannot make {}", drop_ins.display()))?;
        let file = drop_ins.join("overruled.toml");
        std::fs::write(&file, tables).with_context(|| format!("cannot write {}", file.display()))
    }

    /// What the daemon says about itself.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let mut client = Client::connect(&self.socket).await?;
        Ok(client.status().await?)
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks the daemon to end with SIGTERM and waits for it; kills it when it takes too long.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let pid = self.child.id().context("the daemon is gone already")?;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)
            .with_context(|| format!("cannot signal the daemon on host {}", self.name))?;
        match timeout(STOP, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!(
                    "the daemon on host {} did not end within {STOP:?} of SIGTERM\n{}",
                    self.name,
                    self.tail()
                )
            }
        }
    }

    /// Ends the daemon with SIGKILL.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// The last lines of the daemon's log, with a heading.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL);
        format!(
            "--- end of the log of host {}:\n{}\n---",
            self.name,
            lines[from..].join("\n")
        )
    }

    async fn ready(&mut self, uplinks: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the daemon on host {} ended at once: {status}\n{}",
                    self.name,
                    self.tail()
                );
            }
            let looked = self.status().await;
            if looked.as_ref().is_ok_and(|s| s.uplinks.len() == uplinks) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let saw = match looked {
                    Ok(status) => format!("it has {} of {uplinks} uplinks", status.uplinks.len()),
                    Err(error) => format!("{error:#}"),
                };
                bail!(
                    "the daemon on host {} was not ready within {START:?}: {saw}\n{}",
                    self.name,
                    self.tail()
                );
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.events.abort();
    }
}

fn own_directory(directory: &Path, host: &Host) -> PathBuf {
    directory.join(&host.name)
}

/// The configuration of the daemon on `host`: what it has to be told in a laboratory, a way back that nobody has to wait
/// for, and the defaults.
pub fn configuration(socket: &Path, host: &Host) -> String {
    let uplinks: String = host
        .uplinks
        .iter()
        .map(|uplink| format!("[[uplink]]\ninterface = {:?}\n\n", uplink.interface))
        .collect();
    format!(
        "control_socket = {socket:?}\n\
         user = \"none\"\n\n\
         {uplinks}\
         [addresses]\ndad = false\nidentity = {identity:?}\n\n\
         [trigger]\npackets = 10\n\n\
         [failback]\ninterval = \"500ms\"\nstable = \"2s\"\n",
        socket = socket.display().to_string(),
        identity = socket.with_file_name("identity").display().to_string()
    )
}

/// Copies the events of the daemon behind `socket` into `live`, once it is there.
async fn follow(socket: PathBuf, name: String, live: Arc<Live>) {
    let mut events = loop {
        let connected = match Client::connect(&socket).await {
            Ok(client) => client.events().await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(events) => break events,
            Err(_) => sleep(POLL).await,
        }
    };
    while let Ok(Some(event)) = events.next().await {
        live.event(&name, &event.kind, event.message);
    }
}
