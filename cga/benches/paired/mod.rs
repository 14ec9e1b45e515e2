//! A comparison of two ways, A and B, run alternately in many short rounds.
//!
//! What else the machine does hits both alike, and a round that it hits alone is one of many: the median of the ratios
//! of the rounds says more than the ratio of two long runs.

// Each bench uses its part.
#![allow(dead_code)]

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

/// How long to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    rounds: usize,
    /// How long A and B each run in a round, at least.
    share: Duration,
}

impl Effort {
    /// In full when run by `cargo bench`; otherwise, with `--test` or by `cargo test`, no more than to see that it runs.
    pub(crate) fn from_args() -> Self {
        let is_given = |name: &str| std::env::args().any(|argument| argument == name);
        if is_given("--bench") && !is_given("--test") {
            Self {
                rounds: 301,
                share: Duration::from_millis(1),
            }
        } else {
            Self {
                rounds: 1,
                share: Duration::ZERO,
            }
        }
    }

    /// Whether what is found says anything.
    pub(crate) fn measures(self) -> bool {
        self.rounds > 1
    }

    /// Runs A and B in turns, the first of them changing from round to round.
    pub(crate) fn compare(self, mut a: impl FnMut(), mut b: impl FnMut()) -> Comparison {
        let (runs_a, runs_b) = (self.runs(&mut a), self.runs(&mut b));
        let mut rounds = Vec::with_capacity(self.rounds);
        for round in 0..self.rounds {
            let (time_a, time_b);
            if round % 2 == 0 {
                time_a = time(runs_a, &mut a);
                time_b = time(runs_b, &mut b);
            } else {
                time_b = time(runs_b, &mut b);
                time_a = time(runs_a, &mut a);
            }
            rounds.push((time_a, time_b));
        }
        Comparison {
            a: Spread::of(rounds.iter().map(|round| round.0)),
            b: Spread::of(rounds.iter().map(|round| round.1)),
            ratio: Spread::of(rounds.iter().map(|round| round.0 / round.1)),
        }
    }

    /// How many runs fill the share.
    fn runs(self, run: &mut impl FnMut()) -> u32 {
        let mut runs = 1;
        loop {
            // The first time warms up, too.
            let taken = time(runs, run) * f64::from(runs);
            if taken >= self.share.as_secs_f64() {
                return runs;
            }
            runs *= 2;
        }
    }
}

/// Seconds of one run, on average.
fn time(runs: u32, run: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..runs {
        run();
    }
    start.elapsed().as_secs_f64() / f64::from(runs)
}

/// What [`Effort::compare`] found; times in seconds of one run.
pub(crate) struct Comparison {
    pub(crate) a: Spread,
    pub(crate) b: Spread,
    /// A's time over B's.
    pub(crate) ratio: Spread,
}

impl Comparison {
    /// The same for one of the `count` things that each run did.
    pub(crate) fn of_each(self, count: usize) -> Self {
        let each = |Spread { median, low, high }: Spread| {
            let [median, low, high] = [median, low, high].map(|seconds| seconds / count as f64);
            Spread { median, low, high }
        };
        Self {
            a: each(self.a),
            b: each(self.b),
            ratio: self.ratio,
        }
    }
}

/// The median of all rounds, and between what eight in ten of them are.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        Self {
            median: sorted[last / 2],
            low: sorted[last / 10],
            high: sorted[last - last / 10],
        }
    }

    /// Of the inverse values, times `factor`.
    pub(crate) fn inverse(self, factor: f64) -> Self {
        Self {
            median: factor / self.median,
            low: factor / self.high,
            high: factor / self.low,
        }
    }
}

/// `1.02 (0.99 to 1.07)`
impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.low, self.high)
    }
}

/// Prints the title of a table and of its columns.
pub(crate) fn title(title: &str, columns: [&str; 4]) {
    println!("\n{title}");
    row(columns);
}

/// Prints a row of a table.
pub(crate) fn row(columns: [impl Display; 4]) {
    let [what, a, b, ratio] = columns.map(|column| column.to_string());
    println!("  {what:<34}{a:>14}{b:>14}    {ratio}");
}

/// Prints a comparison of times.
pub(crate) fn row_of_times(what: &str, comparison: &Comparison) {
    let time = |spread: Spread| match spread.median {
        seconds if seconds < 1e-6 => format!("{:.1} ns", seconds * 1e9),
        seconds if seconds < 1e-3 => format!("{:.2} us", seconds * 1e6),
        seconds => format!("{:.2} ms", seconds * 1e3),
    };
    row([
        what.to_string(),
        time(comparison.a),
        time(comparison.b),
        comparison.ratio.to_string(),
    ]);
}

/// Whether the CPU has instructions for SHA-1, which the hashing uses then.
pub(crate) fn sha_instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    let found = Some(std::arch::is_x86_feature_detected!("sha"));
    #[cfg(target_arch = "aarch64")]
    let found = Some(std::arch::is_aarch64_feature_detected!("sha2"));
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = None::<bool>;
    match found {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}
