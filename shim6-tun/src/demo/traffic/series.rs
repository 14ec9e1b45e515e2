//! When how many octets arrived: throughput over time and the longest silence.

use std::time::Duration;

/// Arrivals closer together than this are stored as one, which bounds the size of a series.
const MERGE: Duration = Duration::from_micros(500);

/// Arrivals without a silence between them that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Burst {
    first: Duration,
    last: Duration,
    octets: u64,
}

/// The arrivals of one flow at its receiver. Times count from an origin of the caller's choice.
#[derive(Debug, Clone, Default)]
pub struct Series {
    bursts: Vec<Burst>,
    total: u64,
    ended: Option<Duration>,
}

impl Series {
    /// Records that `octets` new octets arrived at `at`. Times must not decrease.
    pub fn record(&mut self, at: Duration, octets: u64) {
        self.total += octets;
        match self.bursts.last_mut() {
            Some(burst) if at.saturating_sub(burst.first) < MERGE => {
                burst.last = burst.last.max(at);
                burst.octets += octets;
            }
            _ => self.bursts.push(Burst {
                first: at,
                last: at,
                octets,
            }),
        }
    }

    /// Marks the flow as complete: no silence is counted after its last arrival.
    pub fn end(&mut self) {
        self.ended = self.bursts.last().map(|burst| burst.last);
    }

    /// When the flow was complete.
    pub fn ended(&self) -> Option<Duration> {
        self.ended
    }

    /// All octets so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Octets per second in consecutive bins of `width` that cover `0..until`.
    pub fn throughput(&self, width: Duration, until: Duration) -> Vec<f64> {
        if width.is_zero() {
            return Vec::new();
        }
        let count = until.as_nanos().div_ceil(width.as_nanos()) as usize;
        let mut bins = vec![0.0; count];
        for burst in &self.bursts {
            let bin = (burst.last.as_nanos() / width.as_nanos()) as usize;
            if let Some(bin) = bins.get_mut(bin) {
                *bin += burst.octets as f64;
            }
        }
        let seconds = width.as_secs_f64();
        bins.iter_mut().for_each(|bin| *bin /= seconds);
        bins
    }

    /// Octets per second over the `window` before `now`.
    pub fn rate(&self, window: Duration, now: Duration) -> f64 {
        let from = now.saturating_sub(window);
        let octets: u64 = self
            .bursts
            .iter()
            .rev()
            .skip_while(|burst| burst.last > now)
            .take_while(|burst| burst.last > from)
            .map(|burst| burst.octets)
            .sum();
        octets as f64 / window.as_secs_f64().max(f64::EPSILON)
    }

    /// The longest time without a new octet of all silences that lasted beyond `moment`.
    ///
    /// A silence that began before `moment` counts from its beginning. A flow that is not complete
    /// is silent from its last arrival until `until`, one that never began from zero on.
    pub fn longest_silence(&self, moment: Duration, until: Duration) -> Duration {
        let last = self.bursts.last().map_or(Duration::ZERO, |b| b.last);
        let end = self.ended.unwrap_or(until).max(last);
        let starts = std::iter::once(Duration::ZERO).chain(self.bursts.iter().map(|b| b.last));
        let ends = self.bursts.iter().map(|b| b.first).chain([end]);
        starts
            .zip(ends)
            .filter(|(_, end)| *end > moment)
            .map(|(start, end)| end.saturating_sub(start))
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn every_ten_ms(spans: &[(u64, u64)]) -> Series {
        let mut series = Series::default();
        for at in spans.iter().flat_map(|&(from, to)| (from..to).step_by(10)) {
            series.record(ms(at), 100);
        }
        series
    }

    #[test]
    fn silence_across_the_cut_is_found() {
        let mut series = every_ten_ms(&[(0, 1000), (1700, 3000)]);
        series.end();
        assert_eq!(series.longest_silence(ms(1000), ms(9000)), ms(710));
        assert_eq!(series.longest_silence(ms(1500), ms(9000)), ms(710));
        assert_eq!(series.longest_silence(ms(2000), ms(9000)), ms(10));
    }

    #[test]
    fn silence_before_the_cut_does_not_count() {
        let mut series = every_ten_ms(&[(0, 100), (900, 2000), (2050, 3000)]);
        series.end();
        assert_eq!(series.longest_silence(ms(1000), ms(3000)), ms(60));
    }

    #[test]
    fn a_flow_that_never_comes_back_is_silent_to_the_end() {
        let series = every_ten_ms(&[(0, 1000)]);
        assert_eq!(series.longest_silence(ms(1000), ms(8990)), ms(8000));
        assert_eq!(Series::default().longest_silence(ms(5), ms(70)), ms(70));
    }

    #[test]
    fn throughput_adds_up_to_the_total() {
        let series = every_ten_ms(&[(0, 1000), (1500, 2000)]);
        let bins = series.throughput(ms(250), ms(2000));
        assert_eq!(bins, [10_000., 10_000., 10_000., 10_000., 0., 0., 10_000., 10_000.]);
        assert_eq!(series.total(), 15_000);
        assert_eq!(series.rate(ms(500), ms(1995)), 10_000.);
        assert_eq!(series.rate(ms(400), ms(1450)), 0.);
        assert!(series.throughput(Duration::ZERO, ms(10)).is_empty());
    }

    #[test]
    fn arrivals_in_quick_succession_are_stored_once() {
        let mut series = Series::default();
        for at in 0..100_000 {
            series.record(Duration::from_micros(at), 1);
        }
        assert_eq!(series.total(), 100_000);
        assert!(series.bursts.len() <= 201, "{}", series.bursts.len());
        assert!(series.longest_silence(ms(0), ms(100)) < MERGE);
    }
}
