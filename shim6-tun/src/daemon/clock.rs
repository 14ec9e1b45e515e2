//! The daemon's time.

use shim6_core::Instant;

/// Monotonic time since the daemon started, as the protocol crates want it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros().try_into().unwrap_or(u64::MAX))
    }

    /// When `at` is, for timers.
    pub(crate) fn std(self, at: Instant) -> std::time::Instant {
        self.start + std::time::Duration::from_micros(at.as_micros())
    }

    /// Milliseconds since the start.
    pub(crate) fn millis(self) -> u64 {
        self.now().as_micros() / 1_000
    }
}
