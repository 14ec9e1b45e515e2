//! One run: a fresh lab, a flow, a cut, and what became of the flow.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use shim6_tun::demo::live::{Live, Note};
use shim6_tun::demo::stage::{Locators, Stage};
use shim6_tun::lab::{Host, Topology};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::analysis::{WINDOW, judge, stalls};
use super::flow::{Ends, Finished, Flow};
use super::{FailureKind, System, mptcp};

/// A flow that is not smooth this long after the cut is lost.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long daemons or subflows may take to be ready for a failure.
const READY: Duration = Duration::from_secs(15);
/// How long the flow is undisturbed before the cut, once everything is ready.
const CALM: Duration = Duration::from_millis(1200);
/// How often the flow is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long what is under way at the end may take to arrive.
const DRAIN: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The `shim6` program.
    pub shim6: &'a Path,
    /// What carries the flow.
    pub system: System,
    /// What happens to its path.
    pub failure: FailureKind,
    /// Round-trip time of every path, emulated.
    pub rtt: Duration,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// See [`Verdict`](super::analysis::Verdict); at most [`PATIENCE`].
    pub first_stall: Duration,
    /// From the cut until the flow was smooth, or why the session is lost.
    pub until_smooth: Result<Duration, String>,
    /// When the cut began, on the flow's clock.
    pub cut: Duration,
    /// What the daemons told after the cut, and when, counted from it.
    pub notes: Vec<Note>,
    /// Everything that was sent and received.
    pub flow: Finished,
}

impl Outcome {
    /// What happened after the cut, in order: the daemons' events and the stalls, each with its time since
    /// the cut.
    #[must_use]
    pub fn story(&self) -> Vec<(Duration, String)> {
        let told = self.notes.iter().map(|note| {
            let host = note.host.as_deref().unwrap_or("-");
            (note.at, format!("host {host}: {}", note.text))
        });
        let stalls = stalls(&self.flow.arrivals, self.cut);
        let stalls = stalls.map(|(from, until)| {
            let length = (until - from).as_millis();
            let at = until.saturating_sub(self.cut);
            (at, format!("messages arrive again, after {length} ms without"))
        });
        let mut story: Vec<_> = told.chain(stalls).collect();
        story.sort_by_key(|&(at, _)| at);
        story
    }
}

/// Where the flow runs.
enum Scene {
    /// A daemon on each host.
    Shim6(Box<Stage>),
    /// Kernel MPTCP on each host.
    Mptcp(Box<Topology>),
    /// Nothing but the kernel's TCP.
    Tcp(Box<Topology>),
}

impl Scene {
    async fn build(plan: &Plan<'_>) -> anyhow::Result<Self> {
        let topology = Topology::with_rtt(plan.rtt).await.context("cannot build the lab")?;
        match plan.system {
            System::Shim6 => {
                let mut stage = Stage::on(topology, plan.shim6, Arc::new(Live::default()))?;
                stage.start().await?;
                Ok(Self::Shim6(Box::new(stage)))
            }
            System::Tcp => Ok(Self::Tcp(Box::new(topology))),
            System::Mptcp | System::MptcpBackup => {
                mptcp::configure(&topology, plan.system == System::MptcpBackup).await?;
                Ok(Self::Mptcp(Box::new(topology)))
            }
        }
    }

    fn topology(&self) -> &Topology {
        match self {
            Self::Shim6(stage) => stage.topology(),
            Self::Mptcp(topology) | Self::Tcp(topology) => topology,
        }
    }

    /// The addresses to talk between: on the first uplinks.
    async fn addresses(&self) -> anyhow::Result<Locators> {
        match self {
            Self::Shim6(stage) => stage.ulids().await,
            Self::Mptcp(topology) | Self::Tcp(topology) => {
                Ok([&topology.a, &topology.b].map(|host| host.uplinks[0].address))
            }
        }
    }

    /// Waits until the system could survive a failure.
    async fn ready(&self, addresses: Locators) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        match self {
            Self::Shim6(stage) => stage.wait_established(addresses, deadline).await,
            Self::Mptcp(topology) => mptcp::wait_for_subflows(&topology.b, deadline).await,
            Self::Tcp(_) => Ok(()),
        }
    }

    /// Counts the time of notes from now on.
    fn begin(&self) {
        if let Self::Shim6(stage) = self {
            stage.live().begin();
        }
    }

    /// What the daemons have told since then.
    fn notes(&self) -> Vec<Note> {
        let mut notes = match self {
            Self::Shim6(stage) => stage.live().notes(0),
            Self::Mptcp(_) | Self::Tcp(_) => Vec::new(),
        };
        // Earlier ones have no time.
        notes.retain(|note| !note.at.is_zero());
        notes
    }

    /// Takes everything down, and says what is wrong with it.
    async fn end(self) -> anyhow::Result<()> {
        if let Self::Shim6(mut stage) = self {
            let shutdown = stage.stop().await?;
            if !shutdown.is_clean() {
                bail!("the daemons did not end cleanly: {shutdown:#?}");
            }
        }
        Ok(())
    }
}

/// Runs a flow over a path that fails. Takes at most a minute.
///
/// # Errors
/// The run could not be made. A session that is lost is an [`Outcome`].
pub async fn run(plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let scene = Scene::build(plan).await?;
    let outcome = observe(&scene, plan).await;
    // Before it ends, so that the host is compared with what it was.
    plan.failure.heal(scene.topology()).await?;
    let outcome = outcome?;
    scene.end().await?;
    Ok(outcome)
}

async fn observe(scene: &Scene, plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let addresses = scene.addresses().await?;
    let ends = ends(scene.topology(), addresses, plan.system)?;
    let flow = spawn_blocking(|| Flow::start(ends)).await?.context("cannot connect")?;
    scene.ready(addresses).await?;
    sleep(CALM).await;
    if let Some(error) = flow.error() {
        bail!("the flow broke before the failure: {error}");
    }
    let cut = flow.now();
    scene.begin();
    plan.failure.cut(scene.topology()).await?;
    let (first_stall, until_smooth) = watch(&flow, cut).await;
    let drain = if until_smooth.is_ok() { DRAIN } else { Duration::ZERO };
    let flow = spawn_blocking(move || flow.finish(drain)).await?;
    Ok(Outcome {
        first_stall,
        until_smooth,
        cut,
        notes: scene.notes(),
        flow,
    })
}

/// Looks at the flow until it is smooth, broken or lost.
async fn watch(flow: &Flow, cut: Duration) -> (Duration, Result<Duration, String>) {
    loop {
        sleep(POLL).await;
        let now = flow.now();
        let verdict = judge(&flow.arrivals(), cut, now);
        let first_stall = verdict.first_stall.min(PATIENCE);
        match verdict.until_smooth {
            Some(time) if time <= PATIENCE => return (first_stall, Ok(time)),
            _ if now > cut + PATIENCE + WINDOW => {
                let lost = format!("not smooth {} s after the cut", PATIENCE.as_secs());
                return (first_stall, Err(lost));
            }
            _ => {}
        }
        if let Some(error) = flow.error() {
            return (PATIENCE, Err(error));
        }
    }
}

/// The sockets of a flow from host a to host b.
fn ends(Topology { a, b, .. }: &Topology, [from, to]: Locators, system: System) -> anyhow::Result<Ends> {
    let (protocol, listened) = match system.is_mptcp() {
        // Subflows arrive at the receiver's other addresses, too.
        true => (Protocol::MPTCP, Ipv6Addr::UNSPECIFIED),
        false => (Protocol::TCP, to),
    };
    let listener = bound(b, listened, protocol)?;
    listener.listen(1).context("cannot listen")?;
    let local = listener.local_addr()?.as_socket_ipv6();
    let port = local.context("an IPv6 socket has another address")?.port();
    Ok(Ends {
        sender: bound(a, from, protocol)?,
        listener,
        destination: SocketAddrV6::new(to, port, 0, 0),
    })
}

fn bound(host: &Host, address: Ipv6Addr, protocol: Protocol) -> anyhow::Result<Socket> {
    let bind = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(protocol))?;
        socket.bind(&SocketAddrV6::new(address, 0, 0, 0).into())?;
        std::io::Result::Ok(socket)
    };
    let bound = host.namespace.run(bind)?;
    bound.with_context(|| format!("cannot bind to {address} on host {}", host.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn story_tells_events_and_stalls_after_the_cut_in_order() {
        let ms = Duration::from_millis;
        let note = |at, text: &str| Note {
            kind: None,
            at,
            host: Some("a".to_owned()),
            text: text.to_owned(),
        };
        let outcome = Outcome {
            first_stall: Duration::ZERO,
            until_smooth: Ok(Duration::ZERO),
            cut: ms(100),
            notes: vec![note(ms(50), "noticed"), note(ms(90), "moved")],
            flow: Finished {
                sent: 4,
                arrivals: [10, 95, 180, 185].map(ms).to_vec(),
                error: None,
            },
        };
        let expected = [
            (50, "host a: noticed"),
            (80, "messages arrive again, after 85 ms without"),
            (90, "host a: moved"),
        ];
        assert_eq!(outcome.story(), expected.map(|(at, what)| (ms(at), what.to_owned())));
    }
}
