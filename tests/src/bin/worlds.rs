//! Runs random worlds of the simulator for as long as one likes, and says which of them fail.
//!
//! ```sh
//! cargo run --release -p shim6-tests --bin worlds -- --seeds 0..100000
//! cargo run --release -p shim6-tests --bin worlds -- --seeds 0.. --minutes 60 --jobs 2
//! cargo run --release -p shim6-tests --bin worlds -- --seed 4711 --trace
//! ```
//!
//! Exit code 0: no world failed; 1: some did; 2: wrong arguments.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use shim6_tests::sim::{Failure, run_seed, run_seed_traced};

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
        Some(seed) => run_one(seed, arguments.trace),
        None => run_many(&arguments),
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_one(seed: u64, with_trace: bool) -> bool {
    let (result, trace) = run_seed_traced(seed);
    if with_trace {
        trace.entries().for_each(|entry| println!("{entry}"));
    }
    match result {
        Ok(summary) => {
            println!("world {seed}: {summary:?}");
            false
        }
        Err(failure) if with_trace => {
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
    let (next, done, steps) = (
        AtomicU64::new(arguments.seeds.start),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let failures: Mutex<Vec<Failure>> = Mutex::new(Vec::new());
    let printed = Mutex::new(start);
    let work = || {
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= arguments.seeds.end {
                return;
            }
            match run_seed(seed) {
                Ok(summary) => drop(steps.fetch_add(summary.steps, Relaxed)),
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
    println!("{} inputs to hosts", steps.into_inner());
    if !failures.is_empty() {
        let mut seeds: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
        seeds.sort_unstable();
        println!("failing seeds: {seeds:?}");
    }
    !failures.is_empty()
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
