//! A token bucket: the bound on everything that costs an answer or a hash.

use shim6_reap::Instant;

/// Allows `per_second` events on average and as many in one burst.
#[derive(Debug, Clone)]
pub(crate) struct RateLimit {
    per_second: u64,
    /// In millionths of an event, so that a microsecond adds `per_second` of them.
    tokens: u64,
    updated: Option<Instant>,
}

const SCALE: u64 = 1_000_000;

impl RateLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self {
            per_second,
            tokens: per_second * SCALE,
            updated: None,
        }
    }

    /// Takes one event out of the bucket, or says that there is none left.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        if let Some(updated) = self.updated {
            let elapsed = now.as_micros().saturating_sub(updated.as_micros());
            let earned = elapsed.saturating_mul(self.per_second);
            self.tokens = self.tokens.saturating_add(earned).min(self.per_second * SCALE);
        }
        self.updated = Some(self.updated.map_or(now, |updated| updated.max(now)));
        match self.tokens.checked_sub(SCALE) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_empties_the_bucket_and_time_refills_it() {
        let mut limit = RateLimit::new(10);
        let start = Instant::from_micros(5_000_000);
        assert_eq!((0..20).filter(|_| limit.allow(start)).count(), 10);
        assert!(!limit.allow(Instant::from_micros(5_099_000)));
        assert!(limit.allow(Instant::from_micros(5_100_000)));
        assert!(!limit.allow(Instant::from_micros(5_100_000)));
    }

    #[test]
    fn time_that_goes_back_earns_nothing() {
        let mut limit = RateLimit::new(1);
        assert!(limit.allow(Instant::from_micros(9_000_000)));
        assert!(!limit.allow(Instant::from_micros(1_000_000)));
        assert!(!limit.allow(Instant::from_micros(9_500_000)));
        assert!(limit.allow(Instant::from_micros(10_000_000)));
    }

    #[test]
    fn a_limit_of_zero_allows_nothing() {
        let mut limit = RateLimit::new(0);
        assert!(!limit.allow(Instant::from_micros(0)));
        assert!(!limit.allow(Instant::from_micros(u64::MAX)));
    }
}
