//! `shim6 demo`: a download survives a cut uplink, before your eyes.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::INTERRUPTED;
use crate::demo::live::Live;
use crate::demo::report;
use crate::demo::scenario::{Plan, run_downloads};
use crate::demo::summary::Outcome;
use crate::demo::view::{Scope, Style, View};
use crate::lab::{self, Failure};

/// Pace of each of the two downloads, in octets per second.
const RATE: u64 = 20_000_000;
/// How much of the data has arrived when the uplink is cut, in percent.
const CUT_PERCENT: u64 = 30;
/// How much longer a download may take than without a failure.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time between two pictures of the view.
const FRAME: Duration = Duration::from_millis(100);

/// Arguments of `shim6 demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How the uplink fails
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Failure::Blackhole)]
    failure: Failure,
    /// How long each download takes when nothing fails, in seconds
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(4..=600))]
    seconds: u64,
    /// Also write a self-contained page with a plot of the throughput
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print one JSON object on standard output and nothing else
    #[arg(long)]
    json: bool,
}

/// Runs the demo. Has to be called while the process has one thread.
///
/// The exit code is 0 only if the download with Shim6 completed with the right data.
///
/// # Errors
/// The demo cannot be given here: no user namespaces, a daemon that does not start, a report that
/// cannot be written.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.report {
        // Before anything else, so that nobody waits for a report that cannot be written.
        let mut open = OpenOptions::new();
        open.create(true)
            .append(true)
            .open(path)
            .with_context(|| cannot_write(path))?;
    }
    lab::enter_user_namespace().context("the demo builds its network in user and network namespaces of its own")?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(play(&args))
}

async fn play(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let binary = std::env::current_exe().context("cannot find the running program")?;
    let plan = Plan {
        failure: args.failure,
        duration: Duration::from_secs(args.seconds),
        rate: RATE,
        cut_percent: CUT_PERCENT,
        patience: PATIENCE,
    };
    let live = Arc::new(Live::default());
    let mut view = view(args.json, &plan);
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);

    let mut running = Box::pin(run_downloads(&binary, &plan, &live));
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            // A view that cannot be shown is no reason to stop.
            _ = frames.tick() => drop(view.draw(&live)),
            _ = interrupt.recv() => return Ok(ExitCode::from(INTERRUPTED)),
            _ = terminate.recv() => return Ok(ExitCode::from(INTERRUPTED)),
        }
    };
    drop(view.draw(&live));
    conclude(args, &outcome?)
}

/// Where the progress is shown: with `--json` on standard error, and only for a terminal.
fn view(json: bool, plan: &Plan) -> View<Box<dyn Write>> {
    let (out, is_terminal): (Box<dyn Write>, bool) = if json {
        (Box::new(io::stderr()), io::stderr().is_terminal())
    } else {
        (Box::new(io::stdout()), io::stdout().is_terminal())
    };
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let style = match (is_terminal, json) {
        (true, _) if !is_dumb => Style::Bars,
        (false, true) => Style::Silent,
        _ => Style::Lines,
    };
    let scope = Scope {
        // The end waits for the download that will not come back.
        expected: plan.duration + Duration::from_secs(4),
        rate: plan.rate,
        octets: plan.octets(),
    };
    View::new(out, style, scope)
}

fn conclude(args: &DemoArgs, outcome: &Outcome) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.report {
        std::fs::write(path, report::html(outcome)).with_context(|| cannot_write(path))?;
    }
    let text = if args.json {
        let mut line = serde_json::to_string(&outcome.summary())?;
        line.push('\n');
        line
    } else {
        in_words(outcome, args.report.as_deref())
    };
    let mut out = io::stdout();
    // Not an error with a cause: a closed pipe must not look like success.
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok();
    let mut errors = io::stderr();
    if !outcome.is_success() {
        drop(writeln!(errors, "{}", outcome.logs));
    }
    for line in outcome.shutdown.bad_exits.iter().chain(&outcome.shutdown.leftovers) {
        drop(writeln!(errors, "shim6: after the daemons' end: {line}"));
    }
    Ok(match outcome.is_success() && printed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn in_words(outcome: &Outcome, report: Option<&Path>) -> String {
    let mut text = format!("\n{:15}{:<28}without Shim6\n", "", "with Shim6");
    for [name, with, without] in outcome.rows() {
        text += &format!("{name:15}{with:<28}{without}\n");
    }
    let pair = |[a, b]: [std::net::Ipv6Addr; 2]| format!("{a} <-> {b}");
    text += &format!(
        "\nAddresses in the packets (host a <-> host b) with Shim6:\n  before  {}\n  after   {}\n\n{}",
        pair(outcome.locators_before),
        pair(outcome.locators_after),
        outcome.meaning()
    );
    if let Some(path) = report {
        text += &format!("The plot is in {}.\n", path.display());
    }
    text
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the report {}", path.display())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::demo::summary::tests::made_up;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: DemoArgs,
    }

    #[test]
    fn defaults_are_a_blackhole_and_ten_seconds() {
        let args = Line::try_parse_from(["demo"]).expect("needs no arguments").args;
        assert_eq!((args.failure, args.seconds, args.json), (Failure::Blackhole, 10, false));
    }

    #[test]
    fn every_failure_has_its_word() {
        for failure in Failure::ALL {
            let line = ["demo", "--failure", failure.as_str()];
            assert_eq!(Line::try_parse_from(line).expect("a failure").args.failure, failure);
        }
        assert!(Line::try_parse_from(["demo", "--failure", "rain"]).is_err());
    }

    #[test]
    fn length_has_bounds() {
        for (seconds, good) in [("3", false), ("4", true), ("600", true), ("601", false), ("-1", false)] {
            assert_eq!(
                Line::try_parse_from(["demo", "--seconds", seconds]).is_ok(),
                good,
                "{seconds}"
            );
        }
    }

    #[test]
    fn words_name_numbers_addresses_and_report() {
        let text = in_words(&made_up(), Some(Path::new("page.html")));
        for wanted in [
            "completed      yes                         no\n",
            "longest stall  0.41 s ",
            "before  2001:db8:a1::a <-> 2001:db8:b1::b\n",
            "after   2001:db8:a2::a <-> 2001:db8:b1::b\n",
            "The plot is in page.html.\n",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
    }
}
