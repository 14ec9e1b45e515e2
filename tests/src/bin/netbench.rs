//! Measures over real packets, in a lab of network namespaces.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use shim6_tests::failover::report::{self, Record};
use shim6_tests::failover::{self, FailureKind, Outcome, Plan, System};
use shim6_tests::soak::cli::SoakArgs;
use shim6_tests::throughput::{self, Selection, State, wireguard};
use shim6_tests::{binary, scale};
use shim6_tun::lab;

/// Measures the Shim6 stack over real packets; needs no root where user namespaces are allowed
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How fast traffic is before and after a failure, and over kernels without us
    ///
    /// TCP with one stream and eight in both directions, UDP with datagrams of three sizes, requests and responses; each
    /// over the plain kernel, over a kernel without segmentation offload and coalescing, which is one that carries packet by packet, over hosts
    /// with our daemons, over these after a failure, when all packets go through the daemons, and over userspace WireGuard if
    /// `wireguard-go` is installed. The plain kernel and the daemons before a failure take short turns in one network and on the same addresses;
    /// each other state has a network of its own, in which the same hosts and routers share this machine. All of it takes ten minutes.
    Throughput(ThroughputArgs),
    /// What many contexts cost a daemon, and how long it takes when many paths fail at once
    ///
    /// The daemon runs on one host; its peers are played behind one router, each with hash-based addresses of its own. One socket
    /// sends datagrams to all of them in turns, and they answer. Measured: how long it takes from the failure of paths until each peer's
    /// answers arrive again; the daemon's processor time for each packet, with one context and with all; its memory.
    Scale(ScaleArgs),
    /// How long a TCP flow stalls when its path fails: over our daemons and over kernel MPTCP
    ///
    /// Host a sends 200 messages a second to host b over one TCP connection; then the path between their
    /// first uplinks fails. Measured at the receiver: the length of the first stall, and the time from
    /// the failure until for a second and a half no message is late any more. A session that is lost,
    /// because its connection breaks or is not smooth within 15 s, counts as 15 s. The systems take turns,
    /// each run in a network of its own. All of it takes a quarter of an hour.
    Failover(FailoverArgs),
    /// Random failures under load, for an hour: no session may be lost, nothing may grow or be left behind
    ///
    /// Two hosts with two uplinks each, the daemon on both, and TCP and UDP sessions between all their addresses. From a seed, one
    /// failure after another: silent and loud ones, in one direction and both, flapping, loss, delay, addresses and prefixes that go and
    /// come, a daemon that is killed. One pair of addresses works at any time. Memory, descriptors, routes and contexts are looked
    /// at each second. Exit code 0: all is well; 1: something is not. docs/soak.md says what is judged, and by which bounds.
    Soak(SoakArgs),
}

#[derive(Debug, Clone, Args)]
struct ScaleArgs {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// How many contexts, each with a peer of its own
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(2..=100_000))]
    contexts: u32,
    /// How many of them lose their paths at the same time; fewer than there are
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..100_000))]
    steered: u32,
    /// Datagrams to the peers per second, all together; each is answered
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    rate: u64,
    /// How long each cost is measured, in seconds: 0.05 to 60
    #[arg(long, value_name = "N", default_value = "3", value_parser = seconds)]
    seconds: Duration,
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

#[derive(Debug, Clone, Args)]
struct ThroughputArgs {
    /// Print a JSON array with an object for each case
    #[arg(long)]
    json: bool,
    /// Measure the cases whose name contains this, such as `steered/tcp-1` or `udp`; may be repeated [default: all]
    ///
    /// The same traffic over the plain kernel and over the one that carries packet by packet is measured, too, because all else is
    /// to be compared with these. A name that does not exist gives a list of all. `again`, which is left out unless named, measures the plain
    /// kernel a second time as if it were something else: what it then differs from itself by is what the method is wrong by.
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Measure only what --case names, not what that is compared with: its ratios are then unknown
    #[arg(long, requires = "case")]
    alone: bool,
    /// How often each is measured, in turns; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Length of each measurement, in seconds: 0.05 to 60
    #[arg(long, value_name = "N", default_value = "1", value_parser = seconds)]
    seconds: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected 0.05 to 60".to_owned()),
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let Cli { command } = Cli::parse();
    // Before anything takes time.
    let selection = match &command {
        Command::Throughput(args) => Some(select(args)?),
        Command::Soak(args) => {
            args.check()?;
            None
        }
        Command::Failover(_) | Command::Scale(_) => None,
    };
    // Outside of the namespaces, where Cargo may need the network.
    let shim6 = binary::build()?;
    // Root measures the daemons with the privileges that they have in service, with eBPF among them.
    if lab::enter_network_namespace().is_err() {
        eprintln!("without privileges: the daemons watch packets by taps, which cost more than eBPF");
        lab::enter_user_namespace()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match command {
        Command::Throughput(args) => {
            let plan = throughput::Plan {
                shim6: &shim6,
                selection: &selection.context("nothing is selected")?,
                runs: args.runs,
                window: args.seconds,
            };
            let measured = runtime.block_on(throughput::run(&plan))?;
            let records = throughput::report::records(&measured);
            show(args.json, &records, |records| throughput::report::table(records))?;
        }
        Command::Scale(args) => {
            let plan = scale::Plan {
                shim6: &shim6,
                contexts: args.contexts as usize,
                steered: args.steered as usize,
                rate: args.rate,
                window: args.seconds,
            };
            let record = runtime.block_on(scale::run(&plan))?;
            show(args.json, &record, scale::report::table)?;
        }
        Command::Failover(args) => {
            let records = runtime.block_on(compare(&shim6, &args))?;
            show(args.json, &records, |records| report::table(records))?;
        }
        Command::Soak(args) => return runtime.block_on(args.run(&shim6)),
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

fn select(args: &ThroughputArgs) -> anyhow::Result<Selection> {
    let mut states = State::ALL.to_vec();
    if let Err(why) = wireguard::support() {
        states.retain(|&state| state != State::Wireguard);
        eprintln!("userspace WireGuard is left out: {why}");
    }
    Ok(Selection::of(&states, &args.case, !args.alone)?)
}
