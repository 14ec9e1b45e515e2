//! A lab in one of the states that are compared.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{Locators, Shutdown, Stage};
use shim6_tun::lab::{Failure, Topology};
use shim6_tun::netlink::AddressSpec;
use shim6_tun::status::ContextStatus;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::cpu::CpuMeter;
use super::load::Load;
use super::wireguard::Tunnel;
use super::{Kind, Sample, State};

/// How long a context may take to be established, a failure to be noticed, and a context to come back to its own path.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long daemons have been there, or gone, before something is measured.
const SETTLE: Duration = Duration::from_millis(100);
/// How long traffic runs between two looks at a context.
const MOMENT: Duration = Duration::from_millis(50);
/// The longest mean of a frame without segments beyond the MTU: 1500 octets and an Ethernet header.
const LONGEST_FRAME: f64 = 1514.0;

/// A lab in a state: in one and the same always, or in one after the other of those that take turns.
#[derive(Debug)]
pub struct Scene {
    state: State,
    place: Place,
    addresses: Locators,
    cpu: CpuMeter,
}

#[derive(Debug)]
enum Place {
    Kernel(Box<Topology>),
    Daemons(Box<Stage>),
    Tunnel {
        topology: Box<Topology>,
        /// Ends when it is dropped.
        _running: Tunnel,
    },
}

impl Scene {
    /// Builds the lab for `state`, with daemons from the program `shim6`. It is in that state, unless that takes turns with others.
    ///
    /// # Errors
    /// The lab could not be built, or it does not get there.
    pub async fn build(state: State, shim6: &Path) -> anyhow::Result<Self> {
        match state {
            State::Plain | State::Again | State::Daemon => Self::taking_turns(shim6).await,
            State::PerPacket => Self::per_packet().await,
            State::Steered => Self::steered(shim6).await,
            State::Wireguard => Self::tunnel().await,
        }
    }

    /// The addresses in use are those that the daemons take for themselves, but the hosts have them already, as from somebody else.
    /// So they are there and the same whether daemons run or not.
    async fn taking_turns(shim6: &Path) -> anyhow::Result<Self> {
        let mut stage = Stage::build(shim6, Arc::new(Live::default())).await?;
        stage.start().await?;
        let addresses = stage.ulids().await?;
        ended(stage.stop().await?)?;
        let topology = stage.topology();
        for (host, address) in [&topology.a, &topology.b].into_iter().zip(addresses) {
            let netlink = host.namespace.netlink()?;
            let address = AddressSpec {
                index: netlink.link(&host.uplinks[0].interface).await?.index,
                address,
                prefix_len: 64,
                no_dad: true,
                deprecated: false,
                no_prefix_route: false,
            };
            netlink.add_address(&address).await?;
        }
        Ok(Self {
            state: State::Plain,
            addresses,
            place: Place::Daemons(Box::new(stage)),
            cpu: CpuMeter::new(&[])?,
        })
    }

    async fn per_packet() -> anyhow::Result<Self> {
        let topology = Topology::two_by_two().await.context("cannot build the lab")?;
        topology.disable_offloads()?;
        Ok(Self {
            state: State::PerPacket,
            addresses: [&topology.a, &topology.b].map(|host| host.uplinks[0].address),
            place: Place::Kernel(Box::new(topology)),
            cpu: CpuMeter::new(&[])?,
        })
    }

    async fn steered(shim6: &Path) -> anyhow::Result<Self> {
        let mut stage = Stage::build(shim6, Arc::new(Live::default())).await?;
        stage.start().await?;
        let scene = Self {
            state: State::Steered,
            addresses: stage.ulids().await?,
            cpu: meter(&stage)?,
            place: Place::Daemons(Box::new(stage)),
        };
        scene.establish().await?;
        let topology = scene.topology();
        topology.cut(Failure::Blackhole, &topology.a, 0).await?;
        let moved = |contexts: &[Option<ContextStatus>; 2]| contexts.iter().all(is_moved);
        scene
            .traffic_until("steering on both hosts after a failure", moved)
            .await?;
        Ok(scene)
    }

    async fn tunnel() -> anyhow::Result<Self> {
        let topology = Topology::two_by_two().await.context("cannot build the lab")?;
        let tunnel = Tunnel::start(&topology).await?;
        Ok(Self {
            state: State::Wireguard,
            addresses: tunnel.addresses(),
            cpu: CpuMeter::new(&tunnel.pids())?,
            place: Place::Tunnel {
                topology: Box::new(topology),
                _running: tunnel,
            },
        })
    }

    /// The state it is in.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether this is the lab for `state`.
    #[must_use]
    pub fn has(&self, state: State) -> bool {
        self.state == state || (self.state.takes_turns() && state.takes_turns())
    }

    /// Brings it into a state that it [has](Self::has). Where states take turns, daemons come and go before each, also before one
    /// without daemons and before the same state again: for a while after that everything is slower, and so it is for all of them.
    ///
    /// # Errors
    /// It does not get there, or is for other states.
    pub async fn enter(&mut self, state: State) -> anyhow::Result<()> {
        if !self.has(state) {
            bail!("the lab for the state `{}` cannot enter `{state}`", self.state);
        }
        if !state.takes_turns() {
            return Ok(());
        }
        if self.state == State::Daemon {
            self.stop().await?;
        }
        self.start().await?;
        if state != State::Daemon {
            self.stop().await?;
        }
        self.state = state;
        sleep(SETTLE).await;
        Ok(())
    }

    /// Takes a measurement: the traffic runs for the first of `times` before it is measured for the second.
    ///
    /// # Errors
    /// The traffic broke, or the lab was not in its state before or after.
    pub async fn measure(&self, kind: Kind, times: [Duration; 2]) -> anyhow::Result<Sample> {
        self.ready().await?;
        // Blocks a thread of the runtime, as the traffic has threads of its own and the lab is not to be moved.
        let taken =
            tokio::task::block_in_place(|| Sample::take(kind, self.topology(), self.addresses, &self.cpu, times));
        let sample = taken.with_context(|| self.logs())?;
        let frame_octets = sample.core.frame_octets();
        if self.state == State::PerPacket && frame_octets.is_some_and(|octets| octets > LONGEST_FRAME) {
            bail!("frames larger than the MTU where there should be none: {sample:?}");
        }
        Ok(sample)
    }

    /// How often the contexts on both hosts have moved to other locators so far.
    ///
    /// # Errors
    /// A daemon does not answer.
    pub async fn failovers(&self) -> anyhow::Result<u64> {
        let contexts = self.contexts().await?;
        Ok(contexts.iter().flatten().map(|context| context.failovers).sum())
    }

    /// Takes it down.
    ///
    /// # Errors
    /// The daemons did not end as they should.
    pub async fn end(mut self) -> anyhow::Result<()> {
        match &self.place {
            Place::Daemons(_) => self.stop().await,
            Place::Kernel(_) | Place::Tunnel { .. } => Ok(()),
        }
    }

    fn stage(&mut self) -> anyhow::Result<&mut Stage> {
        match &mut self.place {
            Place::Daemons(stage) => Ok(stage),
            Place::Kernel(_) | Place::Tunnel { .. } => bail!("there are no daemons in this lab"),
        }
    }

    /// Starts the daemons and waits for their context.
    async fn start(&mut self) -> anyhow::Result<()> {
        let stage = self.stage()?;
        stage.start().await?;
        self.cpu = meter(stage)?;
        self.establish().await
    }

    /// Ends the daemons, if they run.
    async fn stop(&mut self) -> anyhow::Result<()> {
        ended(self.stage()?.stop().await?)?;
        self.cpu = CpuMeter::new(&[])?;
        Ok(())
    }

    fn topology(&self) -> &Topology {
        match &self.place {
            Place::Kernel(topology) | Place::Tunnel { topology, .. } => topology,
            Place::Daemons(stage) => stage.topology(),
        }
    }

    fn logs(&self) -> String {
        match &self.place {
            Place::Kernel(_) | Place::Tunnel { .. } => String::new(),
            Place::Daemons(stage) => stage.logs(),
        }
    }

    /// The contexts of the addresses in use on both hosts, as far as there are such.
    async fn contexts(&self) -> anyhow::Result<[Option<ContextStatus>; 2]> {
        Ok(match &self.place {
            Place::Daemons(stage) if stage.is_running() => [
                stage.context_a(self.addresses).await?,
                stage.context_b(self.addresses).await?,
            ],
            Place::Daemons(_) | Place::Kernel(_) | Place::Tunnel { .. } => [None, None],
        })
    }

    /// Traffic until both daemons have a context.
    async fn establish(&self) -> anyhow::Result<()> {
        self.traffic_until("a context on both hosts", |contexts| {
            contexts
                .iter()
                .all(|context| context.as_ref().is_some_and(|context| context.state == "established"))
        })
        .await
    }

    /// Makes sure that it is in its state. A context that a busy machine has moved gets time to come back.
    async fn ready(&self) -> anyhow::Result<()> {
        match self.state {
            State::Plain | State::Again | State::PerPacket | State::Wireguard => Ok(()),
            State::Steered => match self.contexts().await? {
                contexts if contexts.iter().all(is_moved) => Ok(()),
                contexts => bail!("the contexts are not steered any more: {contexts:#?}\n{}", self.logs()),
            },
            State::Daemon => {
                let deadline = Instant::now() + PATIENCE;
                loop {
                    let contexts = self.contexts().await?;
                    let at_home = |context: &Option<ContextStatus>| {
                        context
                            .as_ref()
                            .is_some_and(|context| !context.steered && context.state == "established")
                    };
                    if contexts.iter().all(at_home) {
                        return Ok(());
                    }
                    if Instant::now() >= deadline {
                        bail!(
                            "the contexts do not come back to their own path: {contexts:#?}\n{}",
                            self.logs()
                        );
                    }
                    sleep(MOMENT).await;
                }
            }
        }
    }

    /// Sends datagrams until the contexts are as they should.
    async fn traffic_until(
        &self,
        what: &str,
        reached: impl Fn(&[Option<ContextStatus>; 2]) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let contexts = self.contexts().await?;
            if reached(&contexts) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "there is not {what} within {PATIENCE:?}: {contexts:#?}\n{}",
                    self.logs()
                );
            }
            // A connection that cannot be made is traffic, too.
            let kind = Kind::Latency { near: false };
            let load = tokio::task::block_in_place(|| Load::start(kind, self.topology(), self.addresses));
            sleep(MOMENT).await;
            let ended = spawn_blocking(move || load.map(Load::finish));
            let _ = ended.await?;
        }
    }
}

/// A meter of a stage whose daemons run.
fn meter(stage: &Stage) -> anyhow::Result<CpuMeter> {
    let pids = [stage.daemon_a()?.pid(), stage.daemon_b()?.pid()];
    let pids: Vec<u32> = pids.into_iter().flatten().collect();
    Ok(CpuMeter::new(&pids)?)
}

fn ended(shutdown: Shutdown) -> anyhow::Result<()> {
    if !shutdown.is_clean() {
        bail!("the daemons did not end cleanly: {shutdown:#?}");
    }
    Ok(())
}

fn is_moved(context: &Option<ContextStatus>) -> bool {
    context
        .as_ref()
        .is_some_and(|context| context.steered && context.locators != context.ulids)
}
