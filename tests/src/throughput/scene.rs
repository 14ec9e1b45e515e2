//! A lab in one of the states that are compared, which it keeps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{Locators, Stage};
use shim6_tun::lab::{Failure, Topology};
use shim6_tun::status::ContextStatus;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::cpu::CpuMeter;
use super::load::Load;
use super::{Kind, Sample, State};

/// How long a context may take to be established, a failure to be noticed, and a context to come back to its own path.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long traffic runs between two looks at a context.
const MOMENT: Duration = Duration::from_millis(100);
/// The longest mean of a frame without segments beyond the MTU: 1500 octets and an Ethernet header.
const LONGEST_FRAME: f64 = 1514.0;

/// A lab in a state.
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
}

impl Scene {
    /// Builds a lab and brings it into `state`, with daemons from the program `shim6`.
    ///
    /// # Errors
    /// The lab could not be built, or it does not get there.
    pub async fn build(state: State, shim6: &Path) -> anyhow::Result<Self> {
        match state {
            State::Plain | State::PerPacket => Self::kernel(state).await,
            State::Daemon | State::Steered => Self::daemons(state, shim6).await,
        }
    }

    async fn kernel(state: State) -> anyhow::Result<Self> {
        let topology = Topology::two_by_two().await.context("cannot build the lab")?;
        if state == State::PerPacket {
            topology.disable_segmentation()?;
        }
        Ok(Self {
            state,
            addresses: [&topology.a, &topology.b].map(|host| host.uplinks[0].address),
            place: Place::Kernel(Box::new(topology)),
            cpu: CpuMeter::new(&[])?,
        })
    }

    async fn daemons(state: State, shim6: &Path) -> anyhow::Result<Self> {
        let mut stage = Stage::build(shim6, Arc::new(Live::default())).await?;
        stage.start().await?;
        let addresses = stage.ulids().await?;
        let pids = [stage.daemon_a()?.pid(), stage.daemon_b()?.pid()];
        let pids: Vec<u32> = pids.into_iter().flatten().collect();
        let scene = Self {
            state,
            addresses,
            place: Place::Daemons(Box::new(stage)),
            cpu: CpuMeter::new(&pids)?,
        };
        scene.establish().await?;
        Ok(scene)
    }

    /// The state it is in.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
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
        if self.state == State::PerPacket && sample.frame_octets.is_some_and(|octets| octets > LONGEST_FRAME) {
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
    pub async fn end(self) -> anyhow::Result<()> {
        if let Place::Daemons(mut stage) = self.place {
            let shutdown = stage.stop().await?;
            if !shutdown.is_clean() {
                bail!("the daemons did not end cleanly: {shutdown:#?}");
            }
        }
        Ok(())
    }

    fn topology(&self) -> &Topology {
        match &self.place {
            Place::Kernel(topology) => topology,
            Place::Daemons(stage) => stage.topology(),
        }
    }

    fn logs(&self) -> String {
        match &self.place {
            Place::Kernel(_) => String::new(),
            Place::Daemons(stage) => stage.logs(),
        }
    }

    /// The contexts of the addresses in use on both hosts, as far as there are such.
    async fn contexts(&self) -> anyhow::Result<[Option<ContextStatus>; 2]> {
        Ok(match &self.place {
            Place::Kernel(_) => [None, None],
            Place::Daemons(stage) => [
                stage.context_a(self.addresses).await?,
                stage.context_b(self.addresses).await?,
            ],
        })
    }

    /// Brings daemons into their state: traffic until both have a context, and then until a failure has moved it.
    async fn establish(&self) -> anyhow::Result<()> {
        self.traffic_until("a context on both hosts", |contexts| {
            contexts
                .iter()
                .all(|context| context.as_ref().is_some_and(|context| context.state == "established"))
        })
        .await?;
        if self.state == State::Steered {
            let topology = self.topology();
            topology.cut(Failure::Blackhole, &topology.a, 0).await?;
            self.traffic_until("steering on both hosts after a failure", |contexts| {
                contexts.iter().all(is_moved)
            })
            .await?;
        }
        Ok(())
    }

    /// Makes sure that it is in its state. A context that a busy machine has moved gets time to come back.
    async fn ready(&self) -> anyhow::Result<()> {
        match self.state {
            State::Plain | State::PerPacket => Ok(()),
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
            let load = tokio::task::block_in_place(|| Load::start(Kind::Latency, self.topology(), self.addresses));
            sleep(MOMENT).await;
            let ended = spawn_blocking(move || load.map(Load::finish));
            let _ = ended.await?;
        }
    }
}

fn is_moved(context: &Option<ContextStatus>) -> bool {
    context
        .as_ref()
        .is_some_and(|context| context.steered && context.locators != context.ulids)
}
