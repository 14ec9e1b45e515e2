//! The round-trip time, estimated as RFC 6298 does.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::time::micros;

/// An estimate of the round-trip time: a smoothed value and how far samples stray from it (RFC 6298 2).
///
/// Samples count in whole microseconds, from one microsecond to about 71 minutes; others as the nearest of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    // Never zero, so that "no estimate" takes no room of its own.
    smoothed: NonZeroU32,
    variance: u32,
}

impl Rtt {
    /// The estimate after the first sample (RFC 6298 2.2).
    pub(crate) fn first(sample: Duration) -> Self {
        let smoothed = saturated(sample);
        Self {
            smoothed,
            variance: smoothed.get() / 2,
        }
    }

    /// The estimate after one more sample (RFC 6298 2.3).
    pub(crate) fn with_sample(self, sample: Duration) -> Self {
        let sample = u64::from(saturated(sample).get());
        let (smoothed, variance) = (u64::from(self.smoothed.get()), u64::from(self.variance));
        let variance = (3 * variance + smoothed.abs_diff(sample)) / 4;
        let smoothed = (7 * smoothed + sample) / 8;
        // Means of values that fit; the smoothed one is at least 1, since neither of its parts is less.
        let fit = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            smoothed: NonZeroU32::new(fit(smoothed)).unwrap_or(NonZeroU32::MIN),
            variance: fit(variance),
        }
    }

    /// The smoothed round-trip time, SRTT.
    pub fn smoothed(&self) -> Duration {
        Duration::from_micros(self.smoothed.get().into())
    }

    /// The smoothed deviation from it, RTTVAR.
    pub fn variance(&self) -> Duration {
        Duration::from_micros(self.variance.into())
    }
}

fn saturated(sample: Duration) -> NonZeroU32 {
    let micros = u32::try_from(micros(sample)).unwrap_or(u32::MAX);
    NonZeroU32::new(micros).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_sample_is_taken_as_it_is_and_half_of_it_as_its_variance() {
        let rtt = Rtt::first(ms(100));
        assert_eq!((rtt.smoothed(), rtt.variance()), (ms(100), ms(50)));
    }

    #[test]
    fn further_samples_weigh_an_eighth_and_their_distance_a_quarter() {
        let rtt = Rtt::first(ms(100)).with_sample(ms(180));
        assert_eq!(
            (rtt.smoothed(), rtt.variance()),
            (ms(110), Duration::from_micros(57_500))
        );
        let rtt = rtt.with_sample(ms(30));
        assert_eq!(
            (rtt.smoothed(), rtt.variance()),
            (ms(100), Duration::from_micros(63_125))
        );
    }

    #[test]
    fn samples_that_stay_the_same_leave_no_variance() {
        let rtt = (0..100).fold(Rtt::first(ms(100)), |rtt, _| rtt.with_sample(ms(100)));
        assert_eq!(rtt.smoothed(), ms(100));
        assert!(rtt.variance() < Duration::from_micros(5), "{rtt:?}");
    }

    #[test]
    fn any_sample_is_survived() {
        let samples = [
            Duration::ZERO,
            Duration::MAX,
            Duration::from_micros(1),
            Duration::MAX,
            Duration::MAX,
        ];
        for first in samples {
            let rtt = samples.into_iter().fold(Rtt::first(first), Rtt::with_sample);
            assert!(rtt.smoothed() > Duration::ZERO);
        }
        let longest = (0..1000).fold(Rtt::first(Duration::MAX), |rtt, _| rtt.with_sample(Duration::MAX));
        assert_eq!(longest.smoothed(), Duration::from_micros(u32::MAX.into()));
        assert_eq!(size_of::<Option<Rtt>>(), 8);
    }
}
