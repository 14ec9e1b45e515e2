//! What is counted from an outcome for people: by class of sessions, and by kind of fault.

use std::collections::BTreeMap;

use super::super::run::{Outcome, SessionRecord};
use super::super::schedule::FaultKind;
use super::super::session::{Class, Stall};
use super::super::trend::median;

/// Bounds of the bins of stalls, in seconds.
const BINS: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0];

/// All sessions of a class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClassFigures {
    pub(super) class: Class,
    pub(super) sessions: usize,
    pub(super) lost: usize,
    pub(super) octets: u64,
    /// The part of what was sent that arrived, or was answered.
    pub(super) delivered: f64,
    pub(super) stalls: usize,
    /// In seconds.
    pub(super) longest: f64,
    /// The part of the time in which the sessions were not stalled.
    pub(super) available: f64,
}

pub(super) fn by_class(outcome: &Outcome) -> Vec<ClassFigures> {
    let figures = |class| {
        let of_class = |session: &&SessionRecord| session.kind.class == class;
        let sessions: Vec<_> = outcome.sessions.iter().filter(of_class).collect();
        let sum = |part: fn(&SessionRecord) -> u64| sessions.iter().map(|session| part(session)).sum::<u64>();
        let stalls: Vec<&Stall> = sessions.iter().flat_map(|session| &session.stalls).collect();
        let stalled: f64 = stalls.iter().map(|stall| stall.seconds).sum();
        ClassFigures {
            class,
            sessions: sessions.len(),
            lost: sessions.iter().filter(|session| session.lost.is_some()).count(),
            octets: sum(|session| session.octets),
            delivered: sum(|session| session.arrived) as f64 / sum(|session| session.sent).max(1) as f64,
            stalls: stalls.len(),
            longest: stalls.iter().map(|stall| stall.seconds).fold(0.0, f64::max),
            available: 1.0 - stalled / (outcome.seconds * sessions.len() as f64).max(1.0),
        }
    };
    Class::ALL.map(figures).to_vec()
}

/// All faults of a kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KindFigures {
    pub(super) kind: FaultKind,
    pub(super) times: usize,
    /// Of the longest stalls after each of them, in seconds.
    pub(super) median: f64,
    pub(super) longest: f64,
}

pub(super) fn by_kind(outcome: &Outcome) -> Vec<KindFigures> {
    let mut stalls: BTreeMap<FaultKind, Vec<f64>> = BTreeMap::new();
    for fault in &outcome.faults {
        stalls.entry(fault.kind).or_default().push(fault.longest_stall_s);
    }
    let figures = |(kind, mut stalls): (FaultKind, Vec<f64>)| KindFigures {
        kind,
        times: stalls.len(),
        median: median(&mut stalls).unwrap_or(0.0),
        longest: stalls.iter().copied().fold(0.0, f64::max),
    };
    stalls.into_iter().map(figures).collect()
}

/// How many stalls had which length.
pub(super) fn histogram(outcome: &Outcome) -> Vec<(String, usize)> {
    let mut counts = [0; BINS.len()];
    for stall in outcome.sessions.iter().flat_map(|session| &session.stalls) {
        let bin = BINS.iter().rposition(|bound| stall.seconds >= *bound);
        counts[bin.unwrap_or(0)] += 1;
    }
    let name = |index: usize| match BINS.get(index + 1) {
        Some(end) => format!("{} to {end} s", BINS[index]),
        None => format!("{} s and more", BINS[index]),
    };
    counts
        .into_iter()
        .enumerate()
        .map(|(index, count)| (name(index), count))
        .collect()
}

/// The longest stall of all, in seconds.
pub(super) fn longest(outcome: &Outcome) -> f64 {
    by_class(outcome)
        .iter()
        .map(|figures| figures.longest)
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::judge::tests::made_up;

    #[test]
    fn figures_are_those_of_the_class_and_the_kind() {
        let mut outcome = made_up();
        let stall = |seconds| Stall { until_s: 20.0, seconds };
        outcome.sessions[0].stalls = vec![stall(0.3), stall(6.0)];
        outcome.sessions[4].lost = Some("broken".to_owned());
        outcome.faults[1].longest_stall_s = 3.0;
        let bulk = &by_class(&outcome)[0];
        assert_eq!((bulk.sessions, bulk.lost, bulk.octets, bulk.stalls), (2, 1, 2000, 2));
        assert!((bulk.delivered - 0.9).abs() < 1e-9 && bulk.longest == 6.0, "{bulk:?}");
        assert!((bulk.available - (1.0 - 6.3 / 4800.0)).abs() < 1e-9, "{bulk:?}");
        let kinds = by_kind(&outcome);
        assert_eq!(kinds[1].kind, FaultKind::DaemonKilled);
        assert_eq!((kinds[1].times, kinds[1].median), (1, 3.0));
        let histogram = histogram(&outcome);
        assert_eq!(histogram[0], ("0.25 to 0.5 s".to_owned(), 1));
        assert_eq!(histogram[5], ("5 to 10 s".to_owned(), 1));
        assert_eq!(longest(&outcome), 6.0);
    }
}
