//! The whole measurement.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use shim6_tun::demo::daemon::Daemon;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage;
use shim6_tun::lab::Topology;
use shim6_tun::status::Status;
use tokio::time::{Instant, sleep, timeout};

use super::peers::Peers;
use super::report::{Cost, Memory, Record, Steering};
use super::traffic::Traffic;
use crate::throughput::cpu::CpuMeter;

/// How long contexts may take to be established, and failures to be overcome.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long traffic runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);
/// How long the daemon may take to describe all contexts.
const ANSWER: Duration = Duration::from_secs(10);
const NOBODY: Range<usize> = 0..0;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The `shim6` program.
    pub shim6: &'a Path,
    /// Contexts, each with a peer of its own.
    pub contexts: usize,
    /// How many of them lose their paths at once; fewer than there are.
    pub steered: usize,
    /// Datagrams to the peers per second, all together. Each is answered.
    pub rate: u64,
    /// How long each cost is measured.
    pub window: Duration,
}

/// Everything that takes part.
struct World {
    daemon: Daemon,
    cpu: CpuMeter,
    pid: u32,
    peers: Peers,
    traffic: Traffic,
}

/// Measures. Progress goes to standard error.
///
/// # Errors
/// Something could not be built, or contexts are not set up.
pub async fn run(plan: &Plan<'_>) -> anyhow::Result<Record> {
    if plan.steered >= plan.contexts {
        bail!(
            "of {} contexts {} cannot be steered: one more is needed",
            plan.contexts,
            plan.steered
        );
    }
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let topology = Topology::two_by_two().await.context("cannot build the lab")?;
    let room = plan.contexts + 1;
    let limits = format!("\n[limits]\ncontexts = {room}\ncontexts_per_prefix = {room}\ncandidates = {room}\n");
    let live = Arc::new(Live::default());
    let daemon = Daemon::start(plan.shim6, &topology.a, directory.path(), &limits, &live).await?;
    let result = World::measure(daemon, plan, &topology).await;
    let (daemon, record) = result?;
    let status = daemon.stop().await?;
    if !status.success() {
        eprintln!("the daemon ended with {status}");
    }
    Ok(record)
}

impl World {
    async fn measure(daemon: Daemon, plan: &Plan<'_>, topology: &Topology) -> anyhow::Result<(Daemon, Record)> {
        let pid = daemon.pid().context("the daemon has ended")?;
        let at_start = resident(pid)?;
        let status = daemon.status().await?;
        let ulid = status.uplinks.first().context("the daemon has no uplink")?.address;
        let peers = Peers::start(plan.contexts, topology).await?;
        let (socket, _) = stage::udp(&topology.a, ulid)?;
        let traffic = Traffic::start(socket, peers.ulids())?;
        let world = Self {
            cpu: CpuMeter::of_process(pid)?,
            daemon,
            pid,
            peers,
            traffic,
        };
        let record = world.steps(plan, at_start).await;
        let record = record.with_context(|| world.daemon.tail())?;
        Ok((world.daemon, record))
    }

    async fn steps(&self, plan: &Plan<'_>, at_start: u64) -> anyhow::Result<Record> {
        let (rate, all) = (plan.rate, plan.contexts);
        // The first peer is for what is measured alone.
        let (alone, lost) = (0..1, 1..plan.steered + 1);

        eprintln!("one context");
        self.traffic.set(rate, [alone.clone(), NOBODY]);
        self.establish(1).await?;
        let observed_alone = self.cost(plan).await?;
        let steering_alone = self.fail(1, alone).await?;
        let steered_alone = self.cost(plan).await?;

        eprintln!("{all} contexts");
        let start = Instant::now();
        self.traffic.set(rate, [1..all, NOBODY]);
        self.establish(all).await?;
        let establishment = start.elapsed();
        let observed = self.cost(plan).await?;
        let established = resident(self.pid)?;

        eprintln!("{} of them fail", plan.steered);
        self.traffic.set(rate, [lost.clone(), lost.end..all]);
        sleep(WARM_UP).await;
        let steering = self.fail(lost.end, lost.clone()).await?;
        let mixed = self.cost(plan).await?;
        self.traffic.set(rate, [lost, NOBODY]);
        let steered = self.cost(plan).await?;
        let while_steered = resident(self.pid)?;
        self.traffic.set(rate, [NOBODY, NOBODY]);

        let status = self.status().await?;
        let failed: HashSet<_> = self.peers.ulids()[..=plan.steered].iter().collect();
        let steered_contexts = status.contexts.iter().filter(|context| context.steered);
        let (meant, not_meant): (Vec<_>, Vec<_>) =
            steered_contexts.partition(|context| failed.contains(&context.ulids.peer));
        Ok(Record {
            contexts: status.contexts.len(),
            // Without the first peer's.
            steered: meant.len().saturating_sub(1),
            steered_without_failure: not_meant.len(),
            datagrams_per_second: rate,
            establishment_s: establishment.as_secs_f64(),
            steering_alone,
            steering,
            observed_alone,
            observed,
            steered_alone,
            steered_only: steered,
            steered_among_all: mixed,
            moves: status.contexts.iter().map(|context| context.failovers).sum(),
            memory: Memory::new(all, [at_start, established, while_steered]),
        })
    }

    /// Waits until so many peers have a context.
    async fn establish(&self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.peers.established() < count {
            if Instant::now() >= deadline {
                let are = self.peers.established();
                bail!("{are} of {count} contexts are established after {PATIENCE:?}");
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Lets the own paths of the first `count` peers fail, and waits until those of `watched` answer again.
    async fn fail(&self, count: usize, watched: Range<usize>) -> anyhow::Result<Steering> {
        let deadline = Instant::now() + PATIENCE;
        self.peers.fail(count);
        self.traffic.mark();
        loop {
            sleep(POLL).await;
            let answered = self.traffic.answered(watched.clone());
            if answered.iter().all(Option::is_some) || Instant::now() >= deadline {
                return Steering::of(&answered).context("nobody answers after the failure");
            }
        }
    }

    /// What a packet of the present traffic costs the daemon.
    async fn cost(&self, plan: &Plan<'_>) -> anyhow::Result<Cost> {
        sleep(WARM_UP).await;
        // A description of all contexts takes its time, which is none of the packets'.
        let before = (self.messages().await?, self.packets());
        let start = Instant::now();
        let ([sent, received], cpu) = (self.traffic.counts(), self.cpu.read()?);
        sleep(plan.window).await;
        let ([sent_now, received_now], cpu_now) = (self.traffic.counts(), self.cpu.read()?);
        let window = start.elapsed();
        let after = (self.messages().await?, self.packets());
        let messages = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        let counts = [sent_now - sent, received_now - received];
        Ok(Cost::of(counts, cpu_now.saturating_sub(cpu), window, messages))
    }

    /// Datagrams sent and received so far.
    fn packets(&self) -> u64 {
        self.traffic.counts().iter().sum()
    }

    /// Control messages that the daemon has sent and received so far.
    async fn messages(&self) -> anyhow::Result<u64> {
        let counters = self.status().await?.counters;
        Ok(counters.sent.values().chain(counters.received.values()).sum())
    }

    async fn status(&self) -> anyhow::Result<Status> {
        let status = timeout(ANSWER, self.daemon.status()).await;
        status.context("the daemon does not answer")?
    }
}

/// A process's memory, in octets.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.context("the kernel does not tell a process's memory")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_some_megabytes() {
        let octets = resident(std::process::id()).expect("it runs");
        assert!((1 << 20..1 << 40).contains(&octets), "{octets}");
    }
}
