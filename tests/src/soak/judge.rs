//! What is to be thought of a run.

use std::time::Duration;

use serde::Serialize;

use super::run::Outcome;
use super::sample::{KernelSample, ProcessSample, Sample};
use super::trend::{self, Series};

/// Growth of a daemon's anonymous memory that is taken for none, in kilobytes of 1024 octets an hour.
pub const MEMORY_KB_PER_HOUR: f64 = 1024.0;
/// How long a daemon runs before its memory is looked at: each kind of failure has to have been there some times before all that is kept
/// for the next one has the size that it needs, and each page of all buffers has been used once. Most of that took twenty minutes.
pub const WARM_UP: Duration = Duration::from_secs(1200);
/// The shortest run in which growth is judged.
pub const SHORTEST: Duration = Duration::from_secs(1800);
/// For how long memory has to have been looked at.
const SPAN: Duration = Duration::from_secs(300);
/// How many descriptors and threads a daemon may have more in the end than in the beginning: sockets that are kept for
/// paths that were used.
pub const MORE_DESCRIPTORS: u64 = 8;
/// How many the median of the last quarter may be above that of the first half.
const MORE_IN_THE_MEDIAN: u64 = 2;
/// Samples at the beginning and the end that are looked at.
const CALM_SAMPLES: usize = 3;
const NAMES: [&str; 2] = ["a", "b"];

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// As it has to be
    Passed,
    /// Not as it has to be
    Failed,
    /// The run is too short to tell
    NotJudged,
}

/// One thing that has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What.
    pub what: String,
    /// Whether it holds.
    pub finding: Finding,
    /// What was found.
    pub found: String,
    /// What is demanded.
    pub bound: String,
}

impl Verdict {
    fn new(what: impl Into<String>, holds: bool, found: impl Into<String>, bound: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            finding: if holds { Finding::Passed } else { Finding::Failed },
            found: found.into(),
            bound: bound.into(),
        }
    }

    /// Whether it does not hold.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.finding == Finding::Failed
    }
}

/// All that has to hold.
pub(super) fn judge(outcome: &Outcome) -> Vec<Verdict> {
    let mut verdicts = vec![
        lost(outcome),
        inflicted(outcome),
        died(outcome),
        home(outcome),
        contexts(outcome),
        left_behind(outcome),
    ];
    verdicts.extend((0..2).map(|side| kernel(outcome, side)));
    verdicts.extend((0..2).map(|side| descriptors(outcome, side)));
    verdicts.extend((0..2).map(|side| memory(outcome, side)));
    verdicts
}

fn lost(outcome: &Outcome) -> Verdict {
    let lost = outcome.lost().count();
    let found = format!("{lost} of {}", outcome.sessions.len());
    let bound = format!("none broken, wrong, or silent for {} s", outcome.patience_s);
    Verdict::new("sessions lost", lost == 0 && !outcome.sessions.is_empty(), found, bound)
}

fn inflicted(outcome: &Outcome) -> Verdict {
    let found = match &outcome.broken_off {
        Some(why) => format!("{} faults, then: {why}", outcome.faults.len()),
        None => format!("{} faults in {:.1} min", outcome.faults.len(), outcome.seconds / 60.0),
    };
    let holds = outcome.broken_off.is_none() && !outcome.faults.is_empty();
    Verdict::new("the run itself", holds, found, "faults, until the time is over")
}

fn died(outcome: &Outcome) -> Verdict {
    let died = (0..2).filter(|&side| outcome.samples.iter().any(|sample| sample.hosts[side].died));
    let died: Vec<_> = died.map(|side| NAMES[side]).collect();
    let holds = died.is_empty() && outcome.remains.bad_exits.is_empty();
    let found = match holds {
        true => "none".to_owned(),
        false => format!("on {}; {}", died.join(" and "), outcome.remains.bad_exits.join("; ")),
    };
    Verdict::new(
        "daemons that ended by themselves",
        holds,
        found,
        "none; exit code 0 at the end",
    )
}

fn home(outcome: &Outcome) -> Verdict {
    let remains = &outcome.remains;
    let found = match remains.home_after_s {
        Some(seconds) => format!("after {seconds:.1} s"),
        None => format!("not all; {}", remains.problems.join("; ")),
    };
    let holds = remains.home_after_s.is_some() && remains.problems.is_empty();
    Verdict::new(
        "back on their own paths",
        holds,
        found,
        "all contexts, no problems reported",
    )
}

fn contexts(outcome: &Outcome) -> Verdict {
    let (during, after) = (outcome.remains.contexts, outcome.remains.contexts_after);
    let found = format!("{} and {}, then {} and {}", during[0], during[1], after[0], after[1]);
    let holds = during == [outcome.pairs; 2] && after == [0; 2];
    let bound = format!("{} on each host, one for each pair; then none", outcome.pairs);
    Verdict::new("contexts", holds, found, bound)
}

fn left_behind(outcome: &Outcome) -> Verdict {
    let left = &outcome.remains.leftovers;
    let found = match left.as_slice() {
        [] => "nothing".to_owned(),
        some => format!("{}: {}", some.len(), some.join("; ")),
    };
    Verdict::new(
        "left behind by the daemons",
        left.is_empty(),
        found,
        "no link, address, route or rule",
    )
}

/// The first or last samples of something.
fn ends<T: Copy>(samples: &[Sample], pick: impl Fn(&Sample) -> Option<T>) -> Option<[T; 2]> {
    let few = samples.len().min(CALM_SAMPLES);
    let first = samples[..few].iter().find_map(&pick)?;
    let last = samples[samples.len() - few..].iter().rev().find_map(&pick)?;
    Some([first, last])
}

fn kernel(outcome: &Outcome, side: usize) -> Verdict {
    let what = format!("routes, rules, addresses of {}", NAMES[side]);
    let bound = "the same in the end as in the beginning, none steered";
    let Some([first, last]) = ends(&outcome.samples, |sample| sample.hosts[side].kernel) else {
        return Verdict::new(what, false, "unknown", bound);
    };
    let text = |one: KernelSample| {
        format!(
            "{}+{}, {}, {}",
            one.routes, one.steering_routes, one.rules, one.addresses
        )
    };
    let found = match first == last {
        true => text(last),
        false => format!("{} -> {}", text(first), text(last)),
    };
    Verdict::new(what, first == last && last.steering_routes == 0, found, bound)
}

fn descriptors(outcome: &Outcome, side: usize) -> Verdict {
    let what = format!("descriptors and threads of {}", NAMES[side]);
    let bound = format!(
        "at most {MORE_DESCRIPTORS} more in the end, and the median of the last quarter at most {MORE_IN_THE_MEDIAN} above that of the first half"
    );
    let Some([first, last]) = ends(&outcome.samples, |sample| sample.hosts[side].process) else {
        return Verdict::new(what, false, "unknown", bound);
    };
    let held = |process: ProcessSample| process.descriptors + process.threads;
    // The most would be chance: sockets come and go with paths.
    let median = |part: &[Sample]| {
        let mut all: Vec<_> = part.iter().filter_map(|s| s.hosts[side].process.map(held)).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    let count = outcome.samples.len();
    let [early, late] = [
        median(&outcome.samples[..count / 2]),
        median(&outcome.samples[count - count / 4..]),
    ];
    let few = held(last) <= held(first) + MORE_DESCRIPTORS;
    // What is kept for paths is not complete before each has been used.
    let flat = outcome.seconds < SHORTEST.as_secs_f64() || late <= early + MORE_IN_THE_MEDIAN;
    let found = format!(
        "{} and {} -> {} and {}, median {early} and then {late} together",
        first.descriptors, first.threads, last.descriptors, last.threads
    );
    Verdict::new(what, few && flat, found, bound)
}

fn memory(outcome: &Outcome, side: usize) -> Verdict {
    let what = format!("memory of {}", NAMES[side]);
    let bound = format!("grows by less than {MEMORY_KB_PER_HOUR} kB an hour in the second half");
    let lives = lives(&outcome.samples, side, outcome.seconds / 2.0);
    let span: f64 = lives
        .iter()
        .filter_map(|life| Some(life.last()?.0 - life.first()?.0))
        .sum();
    let growth = trend::slope(&lives).map(|per_second| per_second * 3600.0);
    let last = ends(&outcome.samples, |sample| sample.hosts[side].process).map_or(0, |[_, last]| last.anonymous_kb);
    match growth {
        Some(growth) if outcome.seconds >= SHORTEST.as_secs_f64() && span >= SPAN.as_secs_f64() => {
            let found = format!("{growth:+.0} kB/h, {:.1} MB at the end", last as f64 / 1024.0);
            Verdict::new(what, growth < MEMORY_KB_PER_HOUR, found, bound)
        }
        _ => Verdict {
            finding: Finding::NotJudged,
            ..Verdict::new(
                what,
                true,
                format!("{:.1} MB at the end, too short to tell", last as f64 / 1024.0),
                bound,
            )
        },
    }
}

/// The memory of each life of a daemon from a time on, without its beginning.
fn lives(samples: &[Sample], side: usize, from_s: f64) -> Vec<Series> {
    let mut lives: Vec<Series> = Vec::new();
    // Who lives, and since when.
    let mut life = (0, 0.0);
    for sample in samples {
        let Some(process) = sample.hosts[side].process else {
            continue;
        };
        if process.pid != life.0 {
            life = (process.pid, sample.at_s);
            lives.push(Series::new());
        }
        if sample.at_s >= from_s && sample.at_s >= life.1 + WARM_UP.as_secs_f64() {
            lives
                .last_mut()
                .into_iter()
                .for_each(|series| series.push((sample.at_s, process.anonymous_kb as f64)));
        }
    }
    lives.retain(|life| !life.is_empty());
    lives
}

#[cfg(test)]
pub(super) mod tests;
