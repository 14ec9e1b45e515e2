//! The lab with a daemon on each host: what the demo, the end-to-end tests and the benchmark play on.

use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::daemon::Daemon;
use super::live::Live;
use super::snapshot::Snapshot;
use super::traffic::sockets;
use crate::config::SteeringConfig;
use crate::daemon::steering::fork_table;
use crate::lab::{Failure, Host, Topology};
use crate::status::ContextStatus;

/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(25);

/// The locators of a context: that of host a, then that of host b.
pub type Locators = [Ipv6Addr; 2];

/// A lab, and the daemons in it while they run.
#[derive(Debug)]
pub struct Stage {
    topology: Topology,
    binary: PathBuf,
    directory: TempDir,
    /// What is added to the daemons' configuration.
    more: String,
    live: Arc<Live>,
    daemons: Option<Daemons>,
    /// What the hosts looked like before the first start since the last clean end.
    before: Option<[Snapshot; 2]>,
}

#[derive(Debug)]
struct Daemons {
    a: Daemon,
    b: Daemon,
}

/// How the daemons went away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// A line for each daemon that did not exit with 0.
    pub bad_exits: Vec<String>,
    /// A line for each link, address, route or rule that is there and was not before the start
    /// (`+`), or the other way round (`-`).
    pub leftovers: Vec<String>,
}

impl Shutdown {
    /// Whether the daemons exited with 0 and left nothing behind.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl Stage {
    /// Builds the lab. Events of daemons started later go to `live`.
    pub async fn build(binary: &Path, live: Arc<Live>) -> anyhow::Result<Self> {
        let topology = Topology::two_by_two().await.context("cannot build the lab")?;
        Self::on(topology, binary, live)
    }

    /// As [`Stage::build`], on a lab that is there already.
    pub fn on(topology: Topology, binary: &Path, live: Arc<Live>) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("shim6-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        Ok(Self {
            topology,
            binary: binary.to_owned(),
            directory,
            more: String::new(),
            live,
            daemons: None,
            before: None,
        })
    }

    /// The hosts and their links.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The record that everything is written into.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Adds tables to the configuration of daemons that are started later.
    pub fn configure(&mut self, tables: &str) {
        self.more.push_str(tables);
    }

    /// Has daemons that are started later read this as well, in a file of its own whose keys take the place of others.
    pub fn overrule(&self, tables: &str) -> anyhow::Result<()> {
        for host in [&self.topology.a, &self.topology.b] {
            Daemon::overrule(self.directory.path(), host, tables)?;
        }
        Ok(())
    }

    /// Starts a daemon on each host and waits until both are ready.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        if self.before.is_none() {
            self.before = Some(self.snapshots().await?);
        }
        let start = |host| Daemon::start(&self.binary, host, self.directory.path(), &self.more, &self.live);
        let (a, b) = tokio::try_join!(start(&self.topology.a), start(&self.topology.b))?;
        self.daemons = Some(Daemons { a, b });
        Ok(())
    }

    /// Ends the daemons with SIGKILL, which gives them no time to clean up.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        if let Some(Daemons { a, b }) = self.daemons.take() {
            a.kill().await?;
            b.kill().await?;
        }
        Ok(())
    }

    /// Ends the daemon of host b with SIGKILL, which makes it forget its contexts, and starts it again.
    pub async fn restart_b(&mut self) -> anyhow::Result<()> {
        let Daemons { a, b } = self.daemons.take().context("the daemons do not run")?;
        b.kill().await?;
        let b = Daemon::start(
            &self.binary,
            &self.topology.b,
            self.directory.path(),
            &self.more,
            &self.live,
        )
        .await?;
        self.daemons = Some(Daemons { a, b });
        Ok(())
    }

    /// Ends the daemons with SIGTERM and compares the hosts with what they were before.
    pub async fn stop(&mut self) -> anyhow::Result<Shutdown> {
        let (Some(Daemons { a, b }), Some(before)) = (self.daemons.take(), self.before.take()) else {
            return Ok(Shutdown::default());
        };
        let mut shutdown = Shutdown::default();
        let (tail_a, tail_b) = (a.tail(), b.tail());
        let (ended_a, ended_b) = tokio::join!(a.stop(), b.stop());
        for (name, ended, tail) in [("a", ended_a, tail_a), ("b", ended_b, tail_b)] {
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => shutdown.bad_exits.push(format!("host {name}: {status}\n{tail}")),
                Err(error) => shutdown.bad_exits.push(format!("host {name}: {error:#}")),
            }
        }
        let after = self.snapshots().await?;
        for (name, (before, after)) in ["a", "b"].iter().zip(before.iter().zip(&after)) {
            for line in before.difference(after) {
                shutdown.leftovers.push(format!("host {name}: {line}"));
            }
        }
        Ok(shutdown)
    }

    /// Whether there are daemons.
    pub fn is_running(&self) -> bool {
        self.daemons.is_some()
    }

    /// The daemon on host a.
    pub fn daemon_a(&self) -> anyhow::Result<&Daemon> {
        Ok(&self.daemons()?.a)
    }

    /// The daemon on host b.
    pub fn daemon_b(&self) -> anyhow::Result<&Daemon> {
        Ok(&self.daemons()?.b)
    }

    /// Where the daemon on this host keeps its identity: what is put there before the start is what it takes.
    pub fn identity_directory(&self, host: &Host) -> PathBuf {
        Daemon::identity_directory(self.directory.path(), host)
    }

    /// The addresses to talk between: on uplink 0 of both hosts those that the daemons made.
    pub async fn ulids(&self) -> anyhow::Result<Locators> {
        let daemons = self.daemons()?;
        let mut ulids = [Ipv6Addr::UNSPECIFIED; 2];
        let sides = [(&daemons.a, &self.topology.a), (&daemons.b, &self.topology.b)];
        for ((daemon, host), ulid) in sides.into_iter().zip(&mut ulids) {
            let interface = &host.uplinks[0].interface;
            let status = daemon.status().await?;
            let uplink = status.uplinks.iter().find(|u| u.interface == *interface);
            *ulid = uplink
                .with_context(|| format!("host {} has no uplink {interface}", host.name))?
                .address;
        }
        Ok(ulids)
    }

    /// The plain addresses on uplink 0 of both hosts, which no daemon cares for.
    pub fn plain(&self) -> Locators {
        [&self.topology.a, &self.topology.b].map(|host| host.uplinks[0].address)
    }

    /// The context of the pair `ulids` on host a, if there is one.
    pub async fn context_a(&self, ulids: Locators) -> anyhow::Result<Option<ContextStatus>> {
        let status = self.daemons()?.a.status().await?;
        Ok(find(status.contexts, ulids))
    }

    /// The context of the pair `ulids` on host b, if there is one.
    pub async fn context_b(&self, [a, b]: Locators) -> anyhow::Result<Option<ContextStatus>> {
        let status = self.daemons()?.b.status().await?;
        Ok(find(status.contexts, [b, a]))
    }

    /// The locators of the context of `ulids` as host a sees them: its own, the peer's.
    pub async fn locators(&self, ulids: Locators) -> anyhow::Result<Locators> {
        let context = self.context_a(ulids).await?;
        let context = context.context("host a has no context any more")?;
        Ok([context.locators.local, context.locators.peer])
    }

    /// Waits until both hosts have an established context for `ulids`.
    pub async fn wait_established(&self, ulids: Locators, deadline: Instant) -> anyhow::Result<()> {
        loop {
            let contexts = [self.context_a(ulids).await?, self.context_b(ulids).await?];
            let states = contexts.map(|context| context.map_or("none".to_owned(), |c| c.state));
            if states.iter().all(|state| state == "established") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let [a, b] = states;
                bail!(
                    "no context was established: host a has {a}, host b has {b}\n{}",
                    self.logs()
                );
            }
            sleep(POLL).await;
        }
    }

    /// Cuts uplink 0 of host a and marks the moment.
    pub async fn cut(&self, failure: Failure) -> anyhow::Result<()> {
        self.live.mark_cut();
        self.topology.cut(failure, &self.topology.a, 0).await?;
        self.live.note(format!("the first uplink of host a is cut ({failure})"));
        Ok(())
    }

    /// Undoes [`Stage::cut`].
    pub async fn heal(&self) -> anyhow::Result<()> {
        Ok(self.topology.heal(&self.topology.a, 0).await?)
    }

    /// The ends of both daemons' logs, for a message about something that failed.
    pub fn logs(&self) -> String {
        self.daemons.as_ref().map_or_else(String::new, |daemons| {
            format!("{}\n{}", daemons.a.tail(), daemons.b.tail())
        })
    }

    fn daemons(&self) -> anyhow::Result<&Daemons> {
        self.daemons.as_ref().context("the daemons do not run")
    }

    async fn snapshots(&self) -> anyhow::Result<[Snapshot; 2]> {
        let table = SteeringConfig::default().table;
        let tables = [table, fork_table(table)];
        let Topology { a, b, .. } = &self.topology;
        Ok([
            Snapshot::take(&a.namespace, &tables).await?,
            Snapshot::take(&b.namespace, &tables).await?,
        ])
    }
}

fn find(contexts: Vec<ContextStatus>, [local, peer]: Locators) -> Option<ContextStatus> {
    contexts
        .into_iter()
        .find(|context| context.ulids.local == local && context.ulids.peer == peer)
}

/// A listener for a download, on `address` inside `host`.
pub fn listen(
    host: &Host,
    address: Ipv6Addr,
    send_buffer: Option<usize>,
) -> anyhow::Result<(TcpListener, SocketAddrV6)> {
    let listener = host
        .namespace
        .run(|| sockets::listen(address, send_buffer))?
        .with_context(|| format!("cannot listen on {address} of host {}", host.name))?;
    let bound = sockets::local(listener.local_addr())?;
    Ok((listener, bound))
}

/// A TCP socket of a client bound to `source` inside `host`.
pub fn tcp_client(host: &Host, source: Ipv6Addr) -> anyhow::Result<TcpStream> {
    host.namespace
        .run(|| sockets::unconnected(source))?
        .with_context(|| format!("cannot bind to {source} on host {}", host.name))
}

/// A UDP socket bound to `address` inside `host`.
pub fn udp(host: &Host, address: Ipv6Addr) -> anyhow::Result<(UdpSocket, SocketAddrV6)> {
    let socket = host
        .namespace
        .run(|| sockets::datagram(address))?
        .with_context(|| format!("cannot bind to {address} on host {}", host.name))?;
    let bound = sockets::local(socket.local_addr())?;
    Ok((socket, bound))
}
