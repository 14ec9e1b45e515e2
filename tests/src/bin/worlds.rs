//! Runs random worlds of the simulator for as long as one likes, and says which of them fail.
//!
//! ```sh
//! cargo run --release -p shim6-tests --bin worlds -- --seeds 0..100000
//! cargo run --release -p shim6-tests --bin worlds -- --seeds 0.. --minutes 60 --jobs 2
//! cargo run --release -p shim6-tests --bin worlds -- --seed 4711 --trace
//! cargo run --release -p shim6-tests --bin worlds -- --failovers --seeds 0..10000
//! ```
//!
//! With `--failovers` they are worlds in which paths fail again and again while one always works: how often a session lost its path,
//! how long it took to find another, and how many sessions did not.
//!
//! Exit code 0: no world failed; 1: some did; 2: wrong arguments.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use shim6_tests::sim::failover::{Tally, run_failovers, run_failovers_traced};
use shim6_tests::sim::{Failure, Invariant, Summary, run_seed, run_seed_traced};

/// Time between two lines about how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs random worlds of the Shim6 simulator.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seeds to run, the end not included: `0..1000`; without an end, until the time is over.
    #[arg(long, value_parser = parse_seeds, default_value = "0..10000", conflicts_with = "seed")]
    seeds: Range<u64>,
    /// Stop after so many minutes.
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Worlds at a time.
    #[arg(long, default_value_t = default_jobs(), conflicts_with = "seed")]
    jobs: usize,
    /// Print the whole report of at most so many failures; of others, the seed and what did not hold.
    #[arg(long, default_value_t = 3)]
    reports: usize,
    /// Worlds of failovers instead of worlds of anything.
    #[arg(long)]
    failovers: bool,
    /// Run this one world.
    #[arg(long)]
    seed: Option<u64>,
    /// Print all that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic becomes a failure, with its seed; what the hook would print has none.
    std::panic::set_hook(Box::new(|_| {}));
    let failed = match arguments.seed {
        Some(seed) => run_one(seed, &arguments),
        None => run_many(&arguments),
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_one(seed: u64, arguments: &Arguments) -> bool {
    let (result, trace) = if arguments.failovers {
        let (result, trace) = run_failovers_traced(seed);
        (result.map(|tally| format!("{tally:?}")), trace)
    } else {
        let (result, trace) = run_seed_traced(seed);
        (result.map(|summary| format!("{summary:?}")), trace)
    };
    if arguments.trace {
        trace.entries().for_each(|entry| println!("{entry}"));
    }
    match result {
        Ok(summary) => {
            println!("world {seed}: {summary}");
            false
        }
        Err(failure) if arguments.trace => {
            let violation = failure.violation;
            println!(
                "world {seed} failed at {}: {}: {}",
                failure.at, violation.invariant, violation.what
            );
            true
        }
        Err(failure) => {
            println!("{failure}");
            true
        }
    }
}

fn run_many(arguments: &Arguments) -> bool {
    let start = Instant::now();
    let deadline = arguments
        .minutes
        .map(|minutes| start + Duration::from_secs(60 * minutes));
    let (next, done) = (AtomicU64::new(arguments.seeds.start), AtomicU64::new(0));
    let total = Mutex::new(Tally::default());
    let failures: Mutex<Vec<Failure>> = Mutex::new(Vec::new());
    let printed = Mutex::new(start);
    let work = || {
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= arguments.seeds.end {
                return;
            }
            match run(seed, arguments.failovers) {
                Ok(tally) => total.lock().expect("adding does not panic").add(tally),
                Err(failure) => report(failure, &failures, arguments.reports),
            }
            let count = done.fetch_add(1, Relaxed) + 1;
            let mut printed = printed.lock().expect("printing does not panic");
            if printed.elapsed() >= PROGRESS {
                *printed = Instant::now();
                progress(count, start, failures.lock().expect("reporting does not panic").len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().expect("reporting does not panic");
    progress(done.into_inner(), start, failures.len());
    let total = total.into_inner().expect("adding does not panic");
    println!("{} inputs to hosts", total.steps);
    if arguments.failovers {
        figures(total, &failures);
    }
    if !failures.is_empty() {
        let mut seeds: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
        seeds.sort_unstable();
        println!("failing seeds: {seeds:?}");
    }
    !failures.is_empty()
}

fn run(seed: u64, failovers: bool) -> Result<Tally, Box<Failure>> {
    match failovers {
        true => run_failovers(seed),
        false => run_seed(seed).map(|Summary { steps, .. }| Tally {
            steps,
            ..Tally::default()
        }),
    }
}

/// A world ends with the first session that is lost in it.
fn figures(total: Tally, failures: &[Failure]) {
    let lost = failures
        .iter()
        .filter(|failure| failure.violation.invariant == Invariant::Liveness);
    println!(
        "{} failovers, {} sessions lost, {} changes of pairs",
        total.failovers,
        lost.count(),
        total.changes
    );
    for (timers, mut took) in [("milliseconds", total.fast), ("RFC 5534", total.rfc)] {
        took.sort_unstable();
        let at = |percent: usize| took.get(took.len() * percent / 100).or(took.last());
        if let (Some(median), Some(most), Some(longest)) = (at(50), at(99), took.last()) {
            println!("timers of {timers}: median {median:?}, 99 % {most:?}, longest {longest:?}");
        }
    }
}

fn report(failure: Box<Failure>, failures: &Mutex<Vec<Failure>>, reports: usize) {
    let mut failures = failures.lock().expect("reporting does not panic");
    if failures.len() < reports {
        println!("{failure}");
    } else {
        let violation = &failure.violation;
        println!(
            "seed {} failed: {}: {}",
            failure.seed, violation.invariant, violation.what
        );
    }
    failures.push(*failure);
}

fn progress(done: u64, start: Instant, failed: usize) {
    let rate = done as f64 / start.elapsed().as_secs_f64().max(0.001);
    println!("{done} worlds, {rate:.0}/s, {failed} failed");
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("a range looks like 0..1000")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(start)?..if end.is_empty() { u64::MAX } else { number(end)? };
    if range.is_empty() {
        Err("the range is empty".into())
    } else {
        Ok(range)
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_with_or_without_an_end() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        assert_eq!(parse_seeds("3.."), Ok(3..u64::MAX));
        assert!(parse_seeds("7..3").is_err());
        assert!(parse_seeds("x").is_err());
    }
}
