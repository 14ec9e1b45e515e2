//! What contexts find out about locator pairs, kept for the others between the same hosts.
//!
//! A pair is directed: it is about packets from the first address to the second. Whoever acts on what is kept here has
//! verified that the peer owns the second one, and so has the context that found it out.

use core::time::Duration;

use hashbrown::HashMap;
use shim6_reap::{Advice, Instant, LocatorPair};

use super::survey::Tally;
use crate::config::FailbackConfig;

/// How long it is news that a pair works or fails.
const FRESH: Duration = Duration::from_secs(10);
/// A pair that stays good for this many times the trial that it had to pass is trusted again.
const TRUSTED: u32 = 10;
/// The least time between two sweeps of a table that is full.
const SWEEP: Duration = Duration::from_secs(1);

/// What is known of each pair, or nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Experience {
    records: HashMap<LocatorPair, Record>,
    most: usize,
    swept: Instant,
}

#[derive(Debug, Clone, Default)]
struct Record {
    /// When the peer last said that it got a probe on it.
    confirmed: Option<Instant>,
    /// When a context last left it because of a failure.
    failed: Option<Instant>,
    trial: Trial,
    /// What probes say of it, for people.
    tally: Tally,
}

/// What was found out about a pair.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finding {
    /// When the peer last said that it got a probe on it.
    pub(super) confirmed: Option<Instant>,
    /// When a context last left it because of a failure.
    pub(super) failed: Option<Instant>,
    pub(super) tally: Tally,
}

/// Whether a pair that was left can be taken back.
#[derive(Debug, Clone, Default)]
struct Trial {
    /// The last quiet probe.
    probed: Option<Instant>,
    /// How many were sent since the last that was answered.
    unanswered: u32,
    /// Since when probes have been answered without a gap.
    since: Option<Instant>,
    /// When it was taken back.
    taken: Option<Instant>,
    /// How often it failed soon after it was taken back.
    relapses: u32,
}

impl Experience {
    /// Remembers no more than `most` pairs.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// A probe that wants an answer left on `pair`.
    pub(super) fn note_asked(&mut self, now: Instant, pair: LocatorPair) {
        if let Some(record) = self.record(now, pair) {
            record.tally.note_asked(now);
        }
    }

    /// The peer answered a probe on `pair`, after this round-trip time if it could be measured.
    pub(super) fn note_answered(&mut self, pair: LocatorPair, rtt: Option<Duration>) {
        if let Some(record) = self.records.get_mut(&pair) {
            record.tally.note_answered(rtt);
        }
    }

    /// What was found out about `pair`.
    pub(super) fn finding(&self, pair: LocatorPair) -> Finding {
        let record = self.records.get(&pair);
        record.map_or_else(Finding::default, |record| Finding {
            confirmed: record.confirmed,
            failed: record.failed,
            tally: record.tally,
        })
    }

    /// Whether `pair` was found to work a moment ago.
    pub(super) fn works(&self, now: Instant, pair: LocatorPair) -> bool {
        self.records.get(&pair).is_some_and(|record| record.works(now))
    }

    /// The peer got a probe on `pair`. True: that is news.
    pub(super) fn note_confirmed(&mut self, now: Instant, pair: LocatorPair) -> bool {
        let Some(record) = self.record(now, pair) else {
            return false;
        };
        let is_news = !record.works(now);
        record.confirmed = Some(now);
        record.trial.unanswered = 0;
        if record.trial.probed.is_some() {
            record.trial.since.get_or_insert(now);
        }
        is_news
    }

    /// A context has left `pair` because it had failed.
    pub(super) fn note_failed(&mut self, now: Instant, pair: LocatorPair, config: &FailbackConfig) {
        let Some(record) = self.record(now, pair) else { return };
        record.failed = Some(now);
        let trial = &mut record.trial;
        // Only the first of several contexts that leave it says how long it was good.
        if let Some(taken) = trial.taken.take() {
            let is_relapse = now - taken < required(config, trial.relapses).saturating_mul(TRUSTED);
            trial.relapses = if is_relapse {
                trial.relapses.saturating_add(1)
            } else {
                0
            };
        }
        (trial.probed, trial.since, trial.unanswered) = (None, None, 0);
    }

    /// `pair` was taken back.
    pub(super) fn note_taken(&mut self, now: Instant, pair: LocatorPair) {
        if let Some(record) = self.record(now, pair) {
            record.trial.taken.get_or_insert(now);
        }
    }

    /// A quiet probe of `pair` was sent. When neither of the last two was answered, its trial begins anew: one probe may get
    /// lost.
    pub(super) fn note_probed(&mut self, now: Instant, pair: LocatorPair) {
        let Some(record) = self.record(now, pair) else { return };
        let trial = &mut record.trial;
        if trial.unanswered >= 2 {
            trial.since = None;
        }
        trial.probed = Some(now);
        trial.unanswered = trial.unanswered.saturating_add(1);
    }

    /// Nobody has used `pair` for a while: if it was not probed within `gap`, its trial begins anew.
    pub(super) fn note_pause(&mut self, now: Instant, pair: LocatorPair, gap: Duration) {
        if let Some(record) = self.records.get_mut(&pair)
            && record.trial.probed.is_none_or(|probed| now - probed > gap)
        {
            record.trial.since = None;
        }
    }

    /// When `pair` was last probed quietly.
    pub(super) fn last_probed(&self, pair: LocatorPair) -> Option<Instant> {
        self.records.get(&pair)?.trial.probed
    }

    /// Whether `pair` can be taken back: it has just been heard to work, and has been stable until now. `interval` is the time
    /// between two probes of the context that asks.
    pub(super) fn is_stable(
        &self,
        now: Instant,
        pair: LocatorPair,
        (config, interval): (&FailbackConfig, Duration),
    ) -> bool {
        self.records.get(&pair).is_some_and(|record| {
            // Three answers at least.
            let needed = required(config, record.trial.relapses).max(interval.saturating_mul(2));
            let is_stable = record.trial.since.is_some_and(|since| now - since >= needed);
            record.confirmed == Some(now) && is_stable
        })
    }

    /// Which of `pairs` are known to work or to fail of late.
    pub(super) fn advice(&self, now: Instant, pairs: &[LocatorPair]) -> Advice {
        let mut advice = Advice::default();
        if self.records.is_empty() {
            return advice;
        }
        for &pair in pairs {
            match self.records.get(&pair) {
                Some(record) if record.works(now) => advice.works.push(pair),
                Some(record) if record.fails(now) => advice.fails.push(pair),
                _ => {}
            }
        }
        advice
    }

    /// For each pair in order, whether it was found to work last, and whether it is on trial.
    #[cfg(feature = "inspect")]
    pub(super) fn findings(&self) -> alloc::vec::Vec<(LocatorPair, bool, bool)> {
        let of = |(&pair, record): (&LocatorPair, &Record)| {
            let is_good = record.confirmed > record.failed;
            (pair, is_good, record.trial.since.is_some())
        };
        let mut findings: alloc::vec::Vec<_> = self.records.iter().map(of).collect();
        findings.sort_unstable();
        findings
    }

    /// The record of a pair; `None` if there is no room for another.
    fn record(&mut self, now: Instant, pair: LocatorPair) -> Option<&mut Record> {
        if self.records.len() >= self.most && !self.records.contains_key(&pair) {
            if now - self.swept < SWEEP {
                return None;
            }
            self.swept = now;
            self.records.retain(|_, record| record.matters(now));
            if self.records.len() >= self.most {
                return None;
            }
        }
        Some(self.records.entry(pair).or_default())
    }
}

impl Record {
    fn works(&self, now: Instant) -> bool {
        is_fresh(now, self.confirmed) && self.confirmed > self.failed
    }

    fn fails(&self, now: Instant) -> bool {
        is_fresh(now, self.failed) && self.failed >= self.confirmed
    }

    /// Whether it is news, or part of a trial.
    fn matters(&self, now: Instant) -> bool {
        let trial = &self.trial;
        is_fresh(now, self.confirmed) || is_fresh(now, self.failed) || trial.taken.is_some() || trial.relapses > 0
    }
}

fn is_fresh(now: Instant, at: Option<Instant>) -> bool {
    at.is_some_and(|at| now - at < FRESH)
}

/// How long a pair has to be stable that has relapsed so often.
fn required(config: &FailbackConfig, relapses: u32) -> Duration {
    let factor = 1_u32.checked_shl(relapses).unwrap_or(u32::MAX);
    let most = config.max_stable.max(config.stable);
    config.stable.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use super::*;

    const CONFIG: FailbackConfig = FailbackConfig {
        enabled: true,
        interval: Duration::from_secs(1),
        stable: Duration::from_secs(10),
        max_stable: Duration::from_secs(60),
        rate: 100,
    };

    fn at(seconds: f64) -> Instant {
        Instant::EPOCH + Duration::from_secs_f64(1_000.0 + seconds)
    }

    fn pair(number: u16) -> LocatorPair {
        let address = |last| Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, last);
        LocatorPair::new(address(1), address(2))
    }

    /// Probes in each interval, and has probes answered at once; when the pair may be taken back.
    fn trial(experience: &mut Experience, start: f64, answered: impl Fn(f64) -> bool) -> Option<f64> {
        for step in 0..200 {
            let seconds = start + f64::from(step);
            experience.note_probed(at(seconds), pair(1));
            if answered(seconds) {
                experience.note_confirmed(at(seconds), pair(1));
            }
            if experience.is_stable(at(seconds), pair(1), (&CONFIG, CONFIG.interval)) {
                return Some(seconds - start);
            }
        }
        None
    }

    fn takes_about(time: Option<f64>, expected: f64) {
        assert!(
            time.is_some_and(|time| (time - expected).abs() < 0.3),
            "{time:?}, not {expected}"
        );
    }

    #[test]
    fn a_pair_is_taken_back_when_it_was_stable_for_long_enough() {
        let mut experience = Experience::new(100);
        experience.note_failed(at(0.0), pair(1), &CONFIG);
        takes_about(trial(&mut experience, 0.0, |_| true), 10.0);
    }

    #[test]
    fn one_lost_probe_is_forgiven_and_two_are_not() {
        let mut experience = Experience::new(100);
        experience.note_failed(at(0.0), pair(1), &CONFIG);
        let lost = |from: f64, to: f64| move |now: f64| !(from..to).contains(&now);
        takes_about(trial(&mut experience, 0.0, lost(4.5, 5.5)), 10.0);
        experience.note_failed(at(20.0), pair(1), &CONFIG);
        takes_about(trial(&mut experience, 20.0, lost(24.5, 26.5)), 17.0);
    }

    #[test]
    fn a_pair_that_relapses_needs_twice_as_long_up_to_the_limit() {
        let mut experience = Experience::new(100);
        let mut now = 0.0;
        for expected in [10.0, 20.0, 40.0, 60.0, 60.0] {
            experience.note_failed(at(now), pair(1), &CONFIG);
            // Other contexts leave it, too.
            experience.note_failed(at(now), pair(1), &CONFIG);
            let took = trial(&mut experience, now, |_| true);
            takes_about(took, expected);
            now += took.unwrap();
            experience.note_taken(at(now), pair(1));
            now += 5.0;
        }
        now += 60.0 * f64::from(TRUSTED);
        experience.note_failed(at(now), pair(1), &CONFIG);
        takes_about(trial(&mut experience, now, |_| true), 10.0);
    }

    #[test]
    fn what_is_found_out_is_advice_until_it_is_old_or_contradicted() {
        let mut experience = Experience::new(100);
        let pairs = [pair(1), pair(2), pair(3)];
        assert!(experience.note_confirmed(at(0.0), pair(1)));
        assert!(!experience.note_confirmed(at(1.0), pair(1)), "no news any more");
        experience.note_failed(at(1.0), pair(2), &CONFIG);
        let advice = experience.advice(at(2.0), &pairs);
        assert_eq!((advice.works, advice.fails), ([pair(1)].into(), [pair(2)].into()));
        experience.note_failed(at(3.0), pair(1), &CONFIG);
        assert!(experience.note_confirmed(at(4.0), pair(2)));
        let advice = experience.advice(at(4.0), &pairs);
        assert_eq!((advice.works, advice.fails), ([pair(2)].into(), [pair(1)].into()));
        let advice = experience.advice(at(14.0), &pairs);
        assert_eq!((advice.works.len(), advice.fails.len()), (0, 0));
    }

    #[test]
    fn no_more_pairs_are_remembered_than_there_is_room_for_and_the_old_make_room() {
        let mut experience = Experience::new(3);
        for number in 0..10 {
            experience.note_confirmed(at(0.0), pair(number));
        }
        assert_eq!(experience.records.len(), 3);
        experience.note_confirmed(at(20.0), pair(20));
        assert_eq!(experience.records.len(), 1);
    }
}
