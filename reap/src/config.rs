//! The timers' values (RFC 5534 7).

use core::time::Duration;

/// No interval is ever shorter than this, whatever the configuration or the peer asks for.
const SHORTEST: Duration = Duration::from_millis(1);

/// The protocol's constants and variables (RFC 5534 7).
///
/// Values below one millisecond count as one millisecond. The default is the RFC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a sent packet may stay without any answer before exploration starts. Default 15 s.
    ///
    /// The peer has to be told of any other value, in a Keepalive Timeout option.
    pub send_timeout: Duration,
    /// How long after a received packet the peer wants to hear from us: its own Send Timeout. Default 15 s.
    pub keepalive_timeout: Duration,
    /// The time between keepalives; `None`, the default, is a third of `keepalive_timeout`.
    pub keepalive_interval: Option<Duration>,
    /// The time between the first probes. Default 500 ms.
    pub initial_probe_timeout: Duration,
    /// How many probes go out at that spacing before it doubles each time. Default 4.
    pub initial_probes: u32,
    /// The longest time between probes. Default 60 s.
    pub max_probe_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            send_timeout: Duration::from_secs(15),
            keepalive_timeout: Duration::from_secs(15),
            keepalive_interval: None,
            initial_probe_timeout: Duration::from_millis(500),
            initial_probes: 4,
            max_probe_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    pub(crate) fn send_timeout(&self) -> Duration {
        self.send_timeout.max(SHORTEST)
    }

    pub(crate) fn keepalive_timeout(&self) -> Duration {
        self.keepalive_timeout.max(SHORTEST)
    }

    pub(crate) fn keepalive_interval(&self) -> Duration {
        self.keepalive_interval
            .unwrap_or(self.keepalive_timeout / 3)
            .max(SHORTEST)
    }

    pub(crate) fn max_probe_timeout(&self) -> Duration {
        self.max_probe_timeout.max(SHORTEST)
    }

    /// The time to wait after the `count`th probe of a sequence (from 1), before jitter (RFC 5534 4.3).
    ///
    /// The RFC's arithmetic ("within 2 seconds") counts the wait after the last initial probe as an initial one.
    pub(crate) fn probe_interval(&self, count: u32) -> Duration {
        let doublings = count.saturating_sub(self.initial_probes);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.initial_probe_timeout
            .max(SHORTEST)
            .saturating_mul(factor)
            .min(self.max_probe_timeout())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_back_off_after_the_initial_ones_up_to_the_limit() {
        let config = Config::default();
        let intervals: [f64; 14] = core::array::from_fn(|i| config.probe_interval(i as u32 + 1).as_secs_f64());
        assert_eq!(
            intervals,
            [
                0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0
            ]
        );
        assert_eq!(config.probe_interval(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn keepalives_come_three_times_in_their_timeout_unless_told_otherwise() {
        let mut config = Config {
            keepalive_timeout: Duration::from_secs(30),
            ..Config::default()
        };
        assert_eq!(config.keepalive_interval(), Duration::from_secs(10));
        config.keepalive_interval = Some(Duration::from_secs(15));
        assert_eq!(config.keepalive_interval(), Duration::from_secs(15));
    }

    #[test]
    fn zero_values_cannot_make_a_busy_loop() {
        let zero = Config {
            send_timeout: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
            keepalive_interval: Some(Duration::ZERO),
            initial_probe_timeout: Duration::ZERO,
            initial_probes: 0,
            max_probe_timeout: Duration::ZERO,
        };
        assert_eq!(zero.send_timeout(), SHORTEST);
        assert_eq!(zero.keepalive_timeout(), SHORTEST);
        assert_eq!(zero.keepalive_interval(), SHORTEST);
        assert_eq!(zero.probe_interval(1), SHORTEST);
    }
}
