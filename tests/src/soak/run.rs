//! The whole run.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;
use shim6_tun::control::Client;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{Shutdown, Stage};
use shim6_tun::lab::{Failure, Topology};
use shim6_tun::netlink::{MAIN_TABLE, Netlink, RouteKind, RouteSpec};
use shim6_tun::status::ContextStatus;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::inflict::{DELAY, Ground, host};
use super::judge::{self, Verdict, judge};
use super::sample::{self, Sample, Watched};
use super::schedule::{FaultKind, Pace, Schedule};
use super::session::{Kind, Load, Meter, Stall};

/// How long contexts may take to be there, to come home, and to go.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long nothing is disturbed at the beginning and in the end.
const CALM: Duration = Duration::from_secs(3);
/// How long contexts may take to end when they are told to.
const CLOSING: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
const PROGRESS_PERIOD: Duration = Duration::from_secs(60);
/// A session is under way if something has arrived since.
const LIVELY: Duration = Duration::from_secs(1);
/// Packets on a path that is taken back fail sooner here than in a network whose failures are rarer. This goes on in the table
/// `failback`, with which a stage's configuration ends.
const CONFIGURATION: &str = "max_stable = \"4s\"\n";

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The `shim6` program.
    pub shim6: &'a Path,
    /// How long failures are inflicted.
    pub length: Duration,
    /// Which failures, and when.
    pub seed: u64,
    /// How many sessions there are.
    pub sessions: usize,
    /// A session for which nothing arrives for so long is lost.
    pub patience: Duration,
    /// What is done that no daemon can make up for.
    pub sabotage: Option<Sabotage>,
    /// A directory for the daemons' logs, which else are gone in the end.
    pub logs: Option<&'a Path>,
}

/// What must make a run fail, to see that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// Both uplinks of host a are dead for longer than sessions bear
    AllPaths,
    /// A route that was not there before is there in the end
    LeakedRoute,
    /// The daemon of host a is killed and nobody starts it again
    DeadDaemon,
}

/// A fault that was inflicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultRecord {
    /// What it was.
    pub kind: FaultKind,
    /// Where, and how much.
    pub what: String,
    /// Seconds since the start of the load.
    pub from_s: f64,
    /// When it was undone.
    pub until_s: f64,
    /// The longest that a session got nothing from then on until the next fault, in seconds.
    pub longest_stall_s: f64,
    /// In how many sessions nothing arrived for a quarter of a second or more.
    pub stalled: usize,
}

/// What became of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionRecord {
    /// Its name.
    pub name: String,
    /// What it did.
    pub kind: Kind,
    /// Octets of payload that arrived.
    pub octets: u64,
    /// Bulk: octets sent; else requests or datagrams.
    pub sent: u64,
    /// How much of that arrived, or was answered.
    pub arrived: u64,
    /// The times in which nothing arrived.
    pub stalls: Vec<Stall>,
    /// Why it is lost, if it is.
    pub lost: Option<String>,
}

/// What is there when all is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Remains {
    /// Seconds from the last failure until all contexts were on their own paths; nothing if they did not get there.
    pub home_after_s: Option<f64>,
    /// Contexts of both hosts before sessions ended.
    pub contexts: [usize; 2],
    /// Contexts of both hosts after they were told to end.
    pub contexts_after: [usize; 2],
    /// What keeps daemons from their work.
    pub problems: Vec<String>,
    /// Daemons that did not exit with 0.
    pub bad_exits: Vec<String>,
    /// Links, addresses, routes and rules that were not there before, or are not there any more.
    pub leftovers: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// The daemons' version.
    pub version: String,
    /// How the daemons watched packets: `ebpf` or `tap`.
    pub observation: String,
    /// The kernel's release.
    pub kernel: String,
    /// Processors.
    pub cores: usize,
    /// The seed of the faults.
    pub seed: u64,
    /// How long the load was there, in seconds.
    pub seconds: f64,
    /// Silence that sessions bear, in seconds.
    pub patience_s: f64,
    /// Pairs of ULIDs between which there are sessions.
    pub pairs: usize,
    /// Why it ended too early, if it did.
    pub broken_off: Option<String>,
    /// What was inflicted.
    pub faults: Vec<FaultRecord>,
    /// What became of the sessions.
    pub sessions: Vec<SessionRecord>,
    /// A look at everything each second.
    pub samples: Vec<Sample>,
    /// What is there in the end.
    pub remains: Remains,
    /// What is to be thought of it.
    pub verdicts: Vec<Verdict>,
}

impl Outcome {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| !verdict.is_failed())
    }

    /// The sessions that are lost.
    pub fn lost(&self) -> impl Iterator<Item = (&str, &str)> {
        let lost = |session: &'_ SessionRecord| session.lost.is_some();
        let lost = self.sessions.iter().filter(move |session| lost(session));
        lost.map(|session| (session.name.as_str(), session.lost.as_deref().unwrap_or_default()))
    }
}

/// Runs. Progress goes to standard error.
///
/// # Errors
/// It could not be begun. What goes wrong later is in the outcome.
pub async fn run(plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let topology = Topology::with_rtt(4 * DELAY).await.context("cannot build the lab")?;
    let mut stage = Stage::on(topology, plan.shim6, Arc::new(Live::default()))?;
    stage.configure(CONFIGURATION);
    stage.start().await?;
    let daemons = [stage.daemon_a()?, stage.daemon_b()?];
    let status = daemons[0].status().await?;
    let watched = Arc::new(Watched::new(
        daemons.map(|daemon| daemon.socket().to_owned()),
        daemons.map(shim6_tun::demo::daemon::Daemon::pid),
    ));
    let ulids = [
        addresses(&stage, &watched, 0).await?,
        addresses(&stage, &watched, 1).await?,
    ];

    let origin = Instant::now();
    if plan.logs.is_some() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 86_400;
        eprintln!(
            "times count from {:02}:{:02}:{:02} UTC",
            now / 3600,
            now / 60 % 60,
            now % 60
        );
    }
    let load = Load::start(plan.sessions, [host(&stage, 0), host(&stage, 1)], ulids, origin).await?;
    let kinds = load.meters().iter().map(|meter| meter.kind().uplinks);
    let pairs = kinds.collect::<BTreeSet<_>>().len();
    established(&watched, pairs).await.with_context(|| stage.logs())?;
    let sampler = Sampler::start(&stage, &watched, load.meters(), origin, plan.patience)?;
    let mut outcome = Outcome {
        command: std::env::args()
            .skip(1)
            .fold("netbench".to_owned(), |line, word| line + " " + &word),
        version: status.version,
        observation: status.observation,
        kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        seed: plan.seed,
        seconds: 0.0,
        patience_s: plan.patience.as_secs_f64(),
        pairs,
        broken_off: None,
        faults: Vec::new(),
        sessions: Vec::new(),
        samples: Vec::new(),
        remains: Remains::default(),
        verdicts: Vec::new(),
    };
    let mut ground = Ground {
        stage: &mut stage,
        watched: Arc::clone(&watched),
        ulids,
    };
    sleep(CALM).await;
    let disturbed = tokio::select! {
        disturbed = disturb(&mut ground, plan, origin, &mut outcome.faults) => disturbed,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = disturbed {
        outcome.broken_off = Some(format!("{error:#}"));
        eprintln!("{error:#}\n{}", stage.logs());
    }
    outcome.remains = settle(&watched, load.meters(), pairs).await;
    outcome.seconds = origin.elapsed().as_secs_f64();
    outcome.samples = sampler.end().await;
    let meters = load.meters().to_vec();
    load.end(plan.patience).await;
    outcome.sessions = meters.iter().map(|meter| record(meter)).collect();
    if outcome.lost().next().is_some() {
        eprintln!("{}", stage.logs());
    }
    outcome.remains.contexts_after = close(&watched).await;
    if plan.sabotage == Some(Sabotage::LeakedRoute) {
        leak(&host(&stage, 0).namespace.netlink()?).await?;
    }
    let Shutdown { bad_exits, leftovers } = stage.stop().await?;
    if let Some(directory) = plan.logs {
        for (side, name) in ["a.log", "b.log"].iter().enumerate() {
            let log = stage.identity_directory(host(&stage, side)).with_file_name("shim6.log");
            std::fs::copy(log, directory.join(name)).with_context(|| format!("cannot keep {name}"))?;
        }
    }
    outcome.remains.bad_exits = bad_exits;
    outcome.remains.leftovers = leftovers;
    attribute(&mut outcome);
    outcome.verdicts = judge(&outcome);
    Ok(outcome)
}

/// The addresses of a host's uplinks, in the order of the uplinks.
async fn addresses(stage: &Stage, watched: &Watched, side: usize) -> anyhow::Result<[Ipv6Addr; 2]> {
    let status = sample::status(watched, side)
        .await
        .context("a daemon does not answer")?;
    let address = |number: usize| {
        let interface = &host(stage, side).uplinks[number].interface;
        let found = status.uplinks.iter().find(|uplink| uplink.interface == *interface);
        found
            .map(|uplink| uplink.address)
            .with_context(|| format!("no address on {interface}"))
    };
    Ok([address(0)?, address(1)?])
}

/// Waits until both hosts have a context for each pair.
async fn established(watched: &Watched, pairs: usize) -> anyhow::Result<()> {
    let are = async {
        for side in [0, 1] {
            let ready = async || {
                let status = sample::status(watched, side).await;
                let contexts = status.map(|status| status.contexts).unwrap_or_default();
                contexts.iter().filter(|context| context.state == "established").count() >= pairs
            };
            while !ready().await {
                sleep(POLL).await;
            }
        }
    };
    let done = timeout(PATIENCE, are).await;
    done.with_context(|| format!("not {pairs} contexts on both hosts after {PATIENCE:?}"))
}

/// Inflicts one fault after another. Daemons are killed in the first quarter of a long run only, so that in the second half both are old
/// enough to tell whether they grow.
async fn disturb(
    ground: &mut Ground<'_>,
    plan: &Plan<'_>,
    origin: Instant,
    faults: &mut Vec<FaultRecord>,
) -> anyhow::Result<()> {
    match plan.sabotage {
        Some(Sabotage::AllPaths) => {
            let long = plan.patience + Duration::from_secs(2);
            ground.cut(&[(0, 0), (0, 1)], Failure::Blackhole, long).await?;
        }
        Some(Sabotage::DeadDaemon) => {
            let pid = ground.watched.pid(0).context("it does not run")?;
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
        }
        Some(Sabotage::LeakedRoute) | None => {}
    }
    let until = Instant::now() + plan.length;
    for fault in Schedule::new(plan.seed, Pace::of(plan.length)) {
        if Instant::now() + fault.pause + fault.lasts > until {
            break;
        }
        if fault.kind.kills() && plan.length >= judge::SHORTEST && Instant::now() + plan.length * 3 / 4 > until {
            continue;
        }
        sleep(fault.pause).await;
        let from_s = origin.elapsed().as_secs_f64();
        ground.inflict(&fault).await?;
        faults.push(FaultRecord {
            kind: fault.kind,
            what: fault.to_string(),
            from_s,
            until_s: origin.elapsed().as_secs_f64(),
            longest_stall_s: 0.0,
            stalled: 0,
        });
    }
    sleep(until.saturating_duration_since(Instant::now())).await;
    Ok(())
}

/// Waits until everything is as it was before the first failure, and stays so for a while: on a busy machine a path may seem to
/// have failed at any time.
async fn settle(watched: &Watched, meters: &[Arc<Meter>], pairs: usize) -> Remains {
    let start = Instant::now();
    let mut remains = Remains::default();
    let mut since = None;
    while start.elapsed() < PATIENCE {
        match is_home(watched, meters, pairs, &mut remains).await {
            true => {
                let since = *since.get_or_insert_with(Instant::now);
                if since.elapsed() >= CALM {
                    remains.home_after_s = Some((since - start).as_secs_f64());
                    break;
                }
            }
            false => since = None,
        }
        if (0..2).any(|side| watched.pid(side).is_some_and(|pid| !sample::is_alive(pid))) {
            // It will not come home.
            break;
        }
        sleep(POLL).await;
    }
    remains
}

/// Whether all sessions are under way, and all contexts on their own paths.
async fn is_home(watched: &Watched, meters: &[Arc<Meter>], pairs: usize, remains: &mut Remains) -> bool {
    let mut home = meters
        .iter()
        .all(|meter| meter.lost().is_some() || meter.silence() < LIVELY);
    remains.problems.clear();
    for side in [0, 1] {
        let Some(status) = sample::status(watched, side).await else {
            home = false;
            remains.problems.push("a daemon does not answer".to_owned());
            continue;
        };
        let at_home = |context: &ContextStatus| !context.steered && context.state == "established";
        home &= status.contexts.len() >= pairs && status.contexts.iter().all(at_home) && status.problems.is_empty();
        remains.contexts[side] = status.contexts.len();
        remains.problems.extend(status.problems);
    }
    home
}

/// Tells both daemons to end all contexts, and says how many there are then. One that has ended on one host comes back there when
/// the other host sends a message of it (RFC 5533 section 7.5), so it may have to be told again.
async fn close(watched: &Watched) -> [usize; 2] {
    let start = Instant::now();
    loop {
        let mut left = [0; 2];
        for (side, left) in left.iter_mut().enumerate() {
            let Some(status) = sample::status(watched, side).await else {
                continue;
            };
            *left = status.contexts.len();
            for context in status.contexts {
                if let Ok(mut client) = Client::connect(&watched.sockets[side]).await {
                    // It may have ended by itself.
                    let _ = client.close(context.id).await;
                }
            }
        }
        if left == [0; 2] || start.elapsed() > CLOSING {
            return left;
        }
        sleep(POLL).await;
    }
}

async fn leak(netlink: &Netlink) -> anyhow::Result<()> {
    let route = RouteSpec {
        destination: (Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0), 64),
        source: None,
        gateway: None,
        output: None,
        table: MAIN_TABLE,
        metric: None,
        kind: RouteKind::Blackhole,
    };
    Ok(netlink.add_route(&route).await?)
}

fn record(meter: &Meter) -> SessionRecord {
    let [sent, arrived] = meter.counts();
    SessionRecord {
        name: meter.name().to_owned(),
        kind: meter.kind(),
        octets: meter.octets(),
        sent,
        arrived,
        stalls: meter.stalls(),
        lost: meter.lost(),
    }
}

/// Gives each stall to the last fault before it.
fn attribute(outcome: &mut Outcome) {
    for session in &outcome.sessions {
        let mut last = None;
        for stall in &session.stalls {
            // The last packet may have arrived a little before a path was cut.
            let began = stall.until_s - stall.seconds + 0.3;
            let before = outcome.faults.iter().rposition(|fault| fault.from_s <= began);
            if let Some(fault) = before.map(|index| &mut outcome.faults[index]) {
                fault.longest_stall_s = fault.longest_stall_s.max(stall.seconds);
                fault.stalled += usize::from(last != before);
            }
            last = before;
        }
    }
}

/// Looks at everything once a second, and tells of it once a minute.
struct Sampler {
    task: JoinHandle<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Sampler {
    fn start(
        stage: &Stage,
        watched: &Arc<Watched>,
        meters: &[Arc<Meter>],
        origin: Instant,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let netlinks = [host(stage, 0).namespace.netlink()?, host(stage, 1).namespace.netlink()?];
        let (watched, meters) = (Arc::clone(watched), meters.to_vec());
        let samples = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            let mut ticks = interval(SAMPLE_PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut told = vec![false; meters.len()];
            let mut next = PROGRESS_PERIOD;
            loop {
                ticks.tick().await;
                // Before anything that may take its time.
                let at_s = origin.elapsed().as_secs_f64();
                let mut octets = [0; 4];
                let mut lost = 0;
                for (meter, told) in meters.iter().zip(&mut told) {
                    octets[meter.kind().class.index()] += meter.octets();
                    if let Some(why) = meter.check(patience) {
                        lost += 1;
                        if !std::mem::replace(told, true) {
                            eprintln!("session {} is lost: {why}", meter.name());
                        }
                    }
                }
                let hosts = tokio::join!(
                    sample::host(&watched, 0, &netlinks[0]),
                    sample::host(&watched, 1, &netlinks[1])
                );
                let sample = Sample {
                    at_s,
                    hosts: hosts.into(),
                    octets,
                    lost,
                    load: sample::load_average(),
                };
                if origin.elapsed() >= next {
                    next += PROGRESS_PERIOD;
                    eprintln!("{}", progress(&sample, &meters));
                }
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Ok(Self { task, samples })
    }

    async fn end(self) -> Vec<Sample> {
        self.task.abort();
        let _ = self.task.await;
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A line of progress.
fn progress(sample: &Sample, meters: &[Arc<Meter>]) -> String {
    let stalls = meters.iter().flat_map(|meter| meter.stalls());
    let longest = stalls.map(|stall| stall.seconds).fold(0.0, f64::max);
    let hosts = sample.hosts.iter().zip(["a", "b"]).map(|(host, name)| {
        let process = host.process.map_or("away".to_owned(), |process| {
            format!(
                "{:.1} MB, {} descriptors",
                process.anonymous_kb as f64 / 1024.0,
                process.descriptors
            )
        });
        let status = host.status.unwrap_or_default();
        format!(
            "{name}: {process}, {} contexts ({} moved)",
            status.contexts, status.steered
        )
    });
    format!(
        "{:4.0} min  {} of {} sessions lost, longest stall {longest:.1} s, {:.0} MB; {}",
        sample.at_s / 60.0,
        sample.lost,
        meters.len(),
        sample.octets.iter().sum::<u64>() as f64 / 1e6,
        hosts.collect::<Vec<_>>().join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::judge::tests::made_up;

    #[test]
    fn stall_belongs_to_the_fault_before_it() {
        let mut outcome = made_up();
        let stall = |until_s, seconds| Stall { until_s, seconds };
        outcome.sessions[0].stalls = vec![stall(12.0, 2.1), stall(12.9, 0.4), stall(31.0, 1.0)];
        outcome.sessions[1].stalls = vec![stall(3.0, 1.0), stall(11.0, 1.0)];
        attribute(&mut outcome);
        let seen: Vec<_> = outcome
            .faults
            .iter()
            .map(|fault| (fault.longest_stall_s, fault.stalled))
            .collect();
        assert_eq!(seen, [(2.1, 2), (1.0, 1)]);
    }
}
