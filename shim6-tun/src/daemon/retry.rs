//! When to try again what failed.

use std::time::Duration;

use shim6_core::Instant;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// Something that failed and is to be tried again, ever more rarely.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    pending: Option<(Instant, Duration)>,
}

impl Retry {
    /// When to try again.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.pending.map(|(at, _)| at)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.at().is_some_and(|at| at <= now)
    }

    /// Returns how long to wait.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        let wait = self.pending.map_or(FIRST, |(_, wait)| (wait * 2).min(LONGEST));
        self.pending = Some((now + wait, wait));
        wait
    }

    pub(crate) fn succeeded(&mut self) {
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_again_after_a_success() {
        let mut retry = Retry::default();
        let now = Instant::from_micros(0);
        assert!(!retry.is_due(now));
        let waits: Vec<_> = (0..10).map(|_| retry.failed(now)).collect();
        assert_eq!(waits[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(waits[9], LONGEST);
        assert!(!retry.is_due(now + LONGEST / 2) && retry.is_due(now + LONGEST));
        retry.succeeded();
        assert_eq!(retry.at(), None);
        assert_eq!(retry.failed(now), FIRST);
    }
}
