//! Measures over real packets, in a lab of network namespaces.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use shim6_tests::binary;
use shim6_tests::compare::Samples;
use shim6_tests::failover::report::{self, Record};
use shim6_tests::failover::{self, FailureKind, Outcome, Plan, System};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Locators, Stage};
use shim6_tun::demo::traffic::bulk;
use shim6_tun::lab::{self, Failure};
use tokio::time::Instant;

/// Time at the start of each stream that is not measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a context may take to be established, and a failure to be noticed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Measures the Shim6 stack over real packets; needs no root where user namespaces are allowed
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One TCP stream as fast as it goes: without a daemon, with one, after a failure
    Throughput(ThroughputArgs),
    /// How long a TCP flow stalls when its path fails: over our daemons and over kernel MPTCP
    ///
    /// Host a sends 200 messages a second to host b over one TCP connection; then the path between their
    /// first uplinks fails. Measured at the receiver: the length of the first stall, and the time from
    /// the failure until for a second and a half no message is late any more. A session that is lost,
    /// because its connection breaks or is not smooth within 15 s, counts as 15 s. The systems take turns,
    /// each run in a network of its own. All of it takes a quarter of an hour.
    Failover(FailoverArgs),
}

#[derive(Debug, Clone, Args)]
struct FailoverArgs {
    /// Print a JSON array with an object for each failure, round-trip time and system
    #[arg(long)]
    json: bool,
    /// Tell on standard error what happened after each failure: stalls, and events of the daemons
    #[arg(long)]
    story: bool,
    /// A failure to try; may be repeated [default: all]
    #[arg(long, value_name = "F", value_enum)]
    failure: Vec<FailureKind>,
    /// An emulated round-trip time, in milliseconds; may be repeated [default: 1, 20 and 100]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rtt: Vec<u64>,
    /// A system to try; may be repeated [default: shim6, mptcp and mptcp-backup]
    #[arg(long, value_name = "S", value_enum)]
    system: Vec<System>,
    /// How often each is tried
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,
}

#[derive(Debug, Clone, Copy, Args)]
struct ThroughputArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// How often each is measured, in turns
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Length of each measurement, in seconds
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

/// What was measured, in bits per second.
#[derive(Debug, Default, Serialize)]
struct Throughput {
    /// No daemon runs.
    plain: Samples,
    /// A daemon runs on each host and has a context for the stream's addresses; no failure.
    daemon: Samples,
    /// After a failure: the stream goes through the daemons.
    steered: Samples,
    /// Median of `daemon` over that of `plain`.
    daemon_ratio: Option<f64>,
    /// Median of `steered` over that of `plain`.
    steered_ratio: Option<f64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let Cli { command } = Cli::parse();
    // Outside of the namespaces, where Cargo may need the network.
    let shim6 = binary::build()?;
    lab::enter_user_namespace()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match command {
        Command::Throughput(args) => {
            let result = runtime.block_on(throughput(&shim6, args))?;
            show(args.json, &result, |result| table(result, args))?;
        }
        Command::Failover(args) => {
            let records = runtime.block_on(compare(&shim6, &args))?;
            show(args.json, &records, |records| report::table(records))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show<T: Serialize>(json: bool, result: &T, table: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(result)?);
    } else {
        print!("{}", table(result));
    }
    Ok(())
}

/// What was asked for, each once, or else the default.
fn chosen<T: Copy + PartialEq>(asked: &[T], default: &[T]) -> Vec<T> {
    let mut chosen = Vec::new();
    for &item in if asked.is_empty() { default } else { asked } {
        if !chosen.contains(&item) {
            chosen.push(item);
        }
    }
    chosen
}

async fn compare(shim6: &Path, args: &FailoverArgs) -> anyhow::Result<Vec<Record>> {
    let mut systems = chosen(&args.system, &System::COMPARED);
    if let Err(why) = failover::mptcp::support() {
        systems.retain(|system| !system.is_mptcp());
        eprintln!("kernel MPTCP is left out: {why}");
    }
    if let Ok(control) = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control") {
        // It decides how much a sender puts into a dead path, and how it goes on afterwards.
        eprintln!("congestion control of all systems: {}", control.trim());
    }
    let mut records = Vec::new();
    for failure in chosen(&args.failure, &FailureKind::ALL) {
        for rtt in chosen(&args.rtt, &[1, 20, 100]).into_iter().map(Duration::from_millis) {
            let mut outcomes = vec![Vec::new(); systems.len()];
            for run in 0..args.runs {
                for turn in 0..systems.len() {
                    // Who goes first changes, so that a machine that slows down is unfair to nobody.
                    let which = (turn + run as usize) % systems.len();
                    let system = systems[which];
                    let plan = Plan {
                        shim6,
                        system,
                        failure,
                        rtt,
                    };
                    let place = format!("{failure}, RTT {} ms, run {}, {system}", rtt.as_millis(), run + 1);
                    let outcome = failover::run(&plan).await.with_context(|| place.clone())?;
                    eprintln!("{place}: {}", in_words(&outcome));
                    if args.story {
                        for (at, what) in outcome.story() {
                            eprintln!("  {:+8.1} ms  {what}", at.as_secs_f64() * 1e3);
                        }
                    }
                    outcomes[which].push(outcome);
                }
            }
            let each = systems.iter().zip(&outcomes);
            records.extend(each.filter_map(|(&system, outcomes)| Record::of(system, failure, rtt, outcomes)));
        }
    }
    Ok(records)
}

fn in_words(outcome: &Outcome) -> String {
    let stall = outcome.first_stall.as_millis();
    match &outcome.until_smooth {
        Ok(time) => format!("first stall {stall} ms, smooth after {} ms", time.as_millis()),
        Err(why) => format!("first stall {stall} ms, session lost: {why}"),
    }
}

async fn throughput(shim6: &Path, args: ThroughputArgs) -> anyhow::Result<Throughput> {
    let mut result = Throughput::default();
    let mut stage = Stage::build(shim6, Arc::new(Live::default())).await?;
    let window = Duration::from_secs(args.seconds);
    for run in 1..=args.runs {
        eprintln!("run {run} of {}", args.runs);
        // Who goes first changes, so that a machine that slows down is unfair to nobody.
        if run % 2 == 1 {
            result.plain.push(stream(&stage, stage.plain(), WARM_UP, window).await?);
        }
        stage.start().await?;
        let ulids = established(&stage).await?;
        result.daemon.push(stream(&stage, ulids, WARM_UP, window).await?);
        stop(&mut stage).await?;
        if run % 2 == 0 {
            result.plain.push(stream(&stage, stage.plain(), WARM_UP, window).await?);
        }
    }
    eprintln!("after a failure");
    stage.start().await?;
    let ulids = established(&stage).await?;
    fail_over(&stage, ulids).await?;
    for _ in 0..args.runs {
        result.steered.push(stream(&stage, ulids, WARM_UP, window).await?);
    }
    stop(&mut stage).await?;
    result.daemon_ratio = result.daemon.ratio_to(&result.plain);
    result.steered_ratio = result.steered.ratio_to(&result.plain);
    Ok(result)
}

async fn stop(stage: &mut Stage) -> anyhow::Result<()> {
    let shutdown = stage.stop().await?;
    if !shutdown.is_clean() {
        bail!("the daemons did not end cleanly: {shutdown:?}");
    }
    Ok(())
}

/// One stream from host b to host a, in bits per second.
async fn stream(stage: &Stage, [a, b]: Locators, warm_up: Duration, window: Duration) -> anyhow::Result<f64> {
    let topology = stage.topology();
    let (listener, server) = stage::listen(&topology.b, b, None)?;
    let client = stage::tcp_client(&topology.a, a)?;
    let measured = tokio::task::spawn_blocking(move || bulk::measure(&listener, client, server, warm_up, window));
    let measured = measured
        .await?
        .with_context(|| format!("the stream from {b} to {a} failed"))?;
    Ok(measured.bits_per_second())
}

/// Traffic until both hosts have a context; the addresses it is for.
async fn established(stage: &Stage) -> anyhow::Result<Locators> {
    let ulids = stage.ulids().await?;
    let traffic = stream(stage, ulids, Duration::ZERO, WARM_UP);
    let deadline = Instant::now() + PATIENCE;
    let (_, contexts) = tokio::join!(traffic, stage.wait_established(ulids, deadline));
    contexts?;
    Ok(ulids)
}

/// Cuts the path under a stream and waits until a stream flows again.
async fn fail_over(stage: &Stage, ulids: Locators) -> anyhow::Result<()> {
    let topology = stage.topology();
    let deadline = Instant::now() + PATIENCE;
    let before = stage.locators(ulids).await?;
    topology.cut(Failure::Blackhole, &topology.a, 0).await?;
    while stage.locators(ulids).await? == before {
        if Instant::now() >= deadline {
            bail!("the failure was not noticed\n{}", stage.logs());
        }
        // Something has to be under way for a failure to be noticed.
        let _ = stream(stage, ulids, Duration::ZERO, WARM_UP).await;
    }
    Ok(())
}

fn table(result: &Throughput, args: ThroughputArgs) -> String {
    let row = |name: &str, samples: &Samples, ratio: Option<f64>| {
        let gigabits = |value: f64| format!("{:.2}", value / 1e9);
        let range = samples.range().map_or_else(String::new, |(smallest, largest)| {
            format!("{}..{}", gigabits(smallest), gigabits(largest))
        });
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.0} %", ratio * 100.0));
        let median = samples.median().map_or_else(String::new, gigabits);
        format!("{name:36} {median:>7} {range:>14} {ratio:>9}\n")
    };
    format!(
        "One TCP stream from host b to host a through three routers, {} runs of {} s each, in turns\n\
         {:36} {:>7} {:>14} {:>9}\n{}{}{}",
        args.runs,
        args.seconds,
        "Gbit/s",
        "median",
        "range",
        "of plain",
        row("no daemon", &result.plain, Some(1.0)),
        row("daemon, context established", &result.daemon, result.daemon_ratio),
        row(
            "daemon, after a blackhole (steered)",
            &result.steered,
            result.steered_ratio
        ),
    )
}
