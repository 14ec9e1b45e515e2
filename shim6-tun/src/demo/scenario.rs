//! The play itself: transfers between two hosts, an uplink that is cut in the middle, and the end.
//!
//! [`run_downloads`] is the demo. [`run_requests`] is the same with a UDP flow, and
//! [`run_unprotected`] a download on hosts without any daemon; both are for the tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::live::Live;
use super::stage::{self, Locators, Shutdown, Stage};
use super::summary::{Outcome, Side};
use super::traffic::sockets::PACED_BUFFER;
use super::traffic::{Dialogue, Download, Exchange, Series, Transfer, converse, download, echo, serve};
use crate::lab::{Failure, Host, Topology};
use crate::status::ContextStatus;

/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long the way back to a repaired uplink may take.
const WAY_BACK: Duration = Duration::from_secs(10);
/// How long the unprotected download may go on after the protected one is complete.
const GRACE: Duration = Duration::from_secs(2);
/// Seed of the data of the protected flow; the other one has the next.
const SEED: u64 = 0x5386;

/// What to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What happens to the uplink.
    pub failure: Failure,
    /// How long a transfer takes when nothing fails.
    pub duration: Duration,
    /// Pace of each transfer, in octets per second.
    pub rate: u64,
    /// Which part of the data has arrived when the uplink is cut, in percent.
    pub cut_percent: u64,
    /// How much longer than [`Plan::duration`] a transfer may take.
    pub patience: Duration,
}

impl Plan {
    /// Octets of each transfer.
    pub fn octets(&self) -> u64 {
        (u128::from(self.rate) * self.duration.as_millis() / 1000) as u64
    }

    fn transfer(&self, seed: u64) -> Transfer {
        Transfer {
            seed,
            octets: self.octets(),
            rate: self.rate,
        }
    }
}

/// What came of [`run_requests`].
#[derive(Debug, Clone)]
pub struct RequestOutcome {
    /// What the client got.
    pub exchange: Exchange,
    /// The longest time without a first answer around the cut.
    pub stall: Duration,
    /// The context's locators just before the cut.
    pub locators_before: Locators,
    /// The context's locators after the failure.
    pub locators_after: Locators,
    /// How the daemons went away.
    pub shutdown: Shutdown,
    /// The ends of the daemons' logs.
    pub logs: String,
}

/// Which of the two series of a record a flow is counted in.
#[derive(Debug, Clone, Copy)]
enum Counted {
    With,
    Without,
}

/// Two downloads at once, one that Shim6 protects and one between plain addresses, and a cut.
///
/// `binary` is the `shim6` program. An error means that the play could not be given; a download
/// that failed is an [`Outcome`].
pub async fn run_downloads(binary: &Path, plan: &Plan, live: &Arc<Live>) -> anyhow::Result<Outcome> {
    live.note("building two hosts with two uplinks each, out of network namespaces");
    let mut stage = Stage::build(binary, Arc::clone(live)).await?;
    live.note("starting a Shim6 daemon on each host");
    stage.start().await?;
    let outcome = downloads(&stage, plan).await;
    let logs = stage.logs();
    let shutdown = stage.stop().await?;
    let mut outcome = outcome.map_err(|error| anyhow!("{error:#}\n{logs}"))?;
    outcome.shutdown = shutdown;
    outcome.logs = logs;
    outcome.notes = live.notes(0);
    Ok(outcome)
}

async fn downloads(stage: &Stage, plan: &Plan) -> anyhow::Result<Outcome> {
    let live = stage.live();
    let ulids = stage.ulids().await?;
    live.begin();
    live.note("two downloads begin, from host b to host a");
    let deadline = Instant::now() + plan.duration + plan.patience;
    let with = Flow::start(stage, ulids, plan.transfer(SEED), deadline, Counted::With)?;
    let plain = plan.transfer(SEED + 1);
    let without = Flow::start(stage, stage.plain(), plain, deadline, Counted::Without)?;

    let wanted = plan.octets() * plan.cut_percent / 100;
    wait_for_cut(stage, ulids, wanted, deadline, || with.client.is_finished()).await?;
    let locators_before = stage.locators(ulids).await?;
    stage.cut(plan.failure).await?;
    let locators_after = moved(stage, ulids, locators_before, || with.client.is_finished()).await?;

    let got_with = with.finish(None).await?;
    live.note(match got_with.completed {
        true => "the download with Shim6 is complete",
        false => "the download with Shim6 failed",
    });
    let got_without = without.finish(Some(GRACE)).await?;
    let ended = live.now();
    let back = way_back(stage, ulids).await?;
    let side = |download: Download, series: &Series| Side {
        download,
        series: series.clone(),
    };
    Ok(Outcome {
        failure: plan.failure,
        octets: plan.octets(),
        rate: plan.rate,
        with: side(got_with, &live.with()),
        without: side(got_without, &live.without()),
        cut: live.cut().unwrap_or_default(),
        ended,
        back,
        locators_before,
        locators_after,
        notes: Vec::new(),
        shutdown: Shutdown::default(),
        logs: String::new(),
    })
}

/// The locators of the context once they are others than before, or at the end of its transfer. Later they may be the former
/// ones again: where one direction works, its sender goes back.
async fn moved(
    stage: &Stage,
    ulids: Locators,
    before: Locators,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<Locators> {
    loop {
        let now = stage.locators(ulids).await?;
        if now != before || is_over() {
            return Ok(now);
        }
        sleep(POLL).await;
    }
}

/// Repairs the uplink; how long it takes then until both hosts use the addresses of their ULIDs again, if they do.
async fn way_back(stage: &Stage, ulids: Locators) -> anyhow::Result<Option<Duration>> {
    stage.heal().await?;
    stage.live().note("the first uplink of host a is repaired");
    let repaired = Instant::now();
    while repaired.elapsed() < WAY_BACK {
        let contexts = [stage.context_a(ulids).await?, stage.context_b(ulids).await?];
        let is_home = |context: &ContextStatus| context.locators == context.ulids;
        if contexts.iter().all(|context| context.as_ref().is_some_and(is_home)) {
            return Ok(Some(repaired.elapsed()));
        }
        sleep(POLL).await;
    }
    Ok(None)
}

/// A UDP request/response flow that Shim6 protects, and a cut.
///
/// [`Plan::rate`] counts octets of answers. An error means that the play could not be given.
pub async fn run_requests(binary: &Path, plan: &Plan, live: &Arc<Live>) -> anyhow::Result<RequestOutcome> {
    run_requests_on(Stage::build(binary, Arc::clone(live)).await?, plan).await
}

/// [`run_requests`] on a stage whose daemons do not run yet.
pub async fn run_requests_on(mut stage: Stage, plan: &Plan) -> anyhow::Result<RequestOutcome> {
    stage.start().await?;
    let outcome = requests(&stage, plan).await;
    let logs = stage.logs();
    let shutdown = stage.stop().await?;
    let outcome = outcome.map_err(|error| anyhow!("{error:#}\n{logs}"))?;
    Ok(RequestOutcome {
        shutdown,
        logs,
        ..outcome
    })
}

async fn requests(stage: &Stage, plan: &Plan) -> anyhow::Result<RequestOutcome> {
    let live = stage.live();
    let ulids = stage.ulids().await?;
    let (server, bound) = stage::udp(&stage.topology().b, ulids[1])?;
    let (client, _) = stage::udp(&stage.topology().a, ulids[0])?;
    let dialogue = Dialogue::paced(SEED, plan.octets(), plan.rate);
    live.begin();
    let deadline = Instant::now() + plan.duration + plan.patience;
    let _server = Background(tokio::spawn(echo(server)).abort_handle());
    let counter = Arc::clone(live);
    let mut asking = tokio::spawn(async move {
        let answered = |octets| counter.with().record(counter.now(), octets);
        let exchange = converse(client, bound, dialogue, deadline, answered).await;
        if exchange.as_ref().is_ok_and(|exchange| exchange.completed) {
            counter.with().end();
        }
        exchange
    });
    let _asking = Background(asking.abort_handle());

    let wanted = dialogue.octets() * plan.cut_percent / 100;
    wait_for_cut(stage, ulids, wanted, deadline, || asking.is_finished()).await?;
    let locators_before = stage.locators(ulids).await?;
    stage.cut(plan.failure).await?;
    let locators_after = moved(stage, ulids, locators_before, || asking.is_finished()).await?;
    let exchange = (&mut asking).await??;
    let stall = live.with().longest_silence(live.cut().unwrap_or_default(), live.now());
    Ok(RequestOutcome {
        exchange,
        stall,
        locators_before,
        locators_after,
        shutdown: Shutdown::default(),
        logs: String::new(),
    })
}

/// One download on hosts without any daemon, and a cut. It may take as long as the plan allows.
pub async fn run_unprotected(plan: &Plan, live: &Arc<Live>) -> anyhow::Result<Download> {
    let topology = Topology::two_by_two().await?;
    let plain = [&topology.a, &topology.b].map(|host| host.uplinks[0].address);
    live.begin();
    let deadline = Instant::now() + plan.duration + plan.patience;
    let transfer = plan.transfer(SEED);
    let hosts = [&topology.a, &topology.b];
    let flow = Flow::between(hosts, plain, transfer, deadline, (live, Counted::Without))?;
    let wanted = plan.octets() * plan.cut_percent / 100;
    wait_for_octets(
        || live.without().total(),
        wanted,
        deadline,
        || flow.client.is_finished(),
    )
    .await?;
    live.mark_cut();
    topology.cut(plan.failure, &topology.a, 0).await?;
    flow.finish(None).await
}

/// Waits until the protected flow has a context on both hosts and `wanted` octets have arrived.
async fn wait_for_cut(
    stage: &Stage,
    ulids: Locators,
    wanted: u64,
    deadline: Instant,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<()> {
    stage.wait_established(ulids, deadline).await?;
    let arrived = || stage.live().with().total();
    wait_for_octets(arrived, wanted, deadline, is_over).await
}

async fn wait_for_octets(
    arrived: impl Fn() -> u64,
    wanted: u64,
    deadline: Instant,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<()> {
    loop {
        if is_over() {
            bail!("the transfer was over before its path could be cut");
        }
        if arrived() >= wanted {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("only {} of {wanted} octets arrived before the cut", arrived());
        }
        sleep(POLL).await;
    }
}

/// A task that ends with this value.
struct Background(AbortHandle);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A download under way, from host b to host a.
struct Flow {
    client: JoinHandle<Download>,
    stop: watch::Sender<bool>,
    _tasks: [Background; 2],
}

impl Flow {
    fn start(
        stage: &Stage,
        addresses: Locators,
        transfer: Transfer,
        deadline: Instant,
        counted: Counted,
    ) -> anyhow::Result<Self> {
        let hosts = [&stage.topology().a, &stage.topology().b];
        Self::between(hosts, addresses, transfer, deadline, (stage.live(), counted))
    }

    fn between(
        [a, b]: [&Host; 2],
        addresses: Locators,
        transfer: Transfer,
        deadline: Instant,
        (live, counted): (&Arc<Live>, Counted),
    ) -> anyhow::Result<Self> {
        let (listener, server) = stage::listen(b, addresses[1], Some(PACED_BUFFER))?;
        let socket = stage::tcp_client(a, addresses[0])?;
        let serving = tokio::spawn(serve(listener, transfer, deadline));
        let (stop, mut stopped) = watch::channel(false);
        let live = Arc::clone(live);
        let client = tokio::spawn(async move {
            let series = || match counted {
                Counted::With => live.with(),
                Counted::Without => live.without(),
            };
            let stop = async {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = sleep_until(deadline) => {}
                }
            };
            let arrived = |octets| series().record(live.now(), octets);
            let download = download(socket, server, transfer, stop, arrived).await;
            if download.completed {
                series().end();
            }
            download
        });
        let _tasks = [serving.abort_handle(), client.abort_handle()].map(Background);
        Ok(Self { client, stop, _tasks })
    }

    /// Waits for the download to end, and stops it after `grace`.
    async fn finish(mut self, grace: Option<Duration>) -> anyhow::Result<Download> {
        if let Some(grace) = grace
            && let Ok(ended) = timeout(grace, &mut self.client).await
        {
            return Ok(ended?);
        }
        if grace.is_some() {
            let _ = self.stop.send(true);
        }
        Ok((&mut self.client).await?)
    }
}
