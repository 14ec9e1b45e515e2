//! How long to wait for what: the configured values, with the round-trip time in it where they are to follow it.

use core::time::Duration;

use crate::{Config, Rtt};

/// No interval is ever shorter than this, whatever the configuration or the peer asks for.
const SHORTEST: Duration = Duration::from_millis(1);

/// No measured round-trip time makes a Send Timeout longer than this: the RFC's default (RFC 5534 7).
const LONGEST_SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// No measured round-trip time makes the first probes be further apart than this: the RFC's value (RFC 5534 7).
const LONGEST_SPACING: Duration = Duration::from_millis(500);

/// The intervals in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace<'a> {
    config: &'a Config,
    /// Only where the intervals are to follow it.
    rtt: Option<Rtt>,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(config: &'a Config, rtt: Option<Rtt>) -> Self {
        let rtt = rtt.filter(|_| config.follow_rtt);
        Self { config, rtt }
    }

    /// How long a packet of ours may go unanswered.
    pub(crate) fn send_timeout(&self) -> Duration {
        self.allowing_for_rtt(self.config.send_timeout)
    }

    /// How long the peer lets a packet go unanswered, as far as we can tell: it measures the same path.
    pub(crate) fn peers_send_timeout(&self) -> Duration {
        self.allowing_for_rtt(self.config.keepalive_timeout)
    }

    pub(crate) fn keepalive_timeout(&self) -> Duration {
        self.config.keepalive_timeout.max(SHORTEST)
    }

    pub(crate) fn keepalive_interval(&self) -> Duration {
        self.config
            .keepalive_interval
            .unwrap_or(self.config.keepalive_timeout / 3)
            .max(SHORTEST)
    }

    pub(crate) fn max_probe_timeout(&self) -> Duration {
        self.config.max_probe_timeout.max(SHORTEST)
    }

    /// The time to wait after the `count`th probe of a sequence (from 1), before jitter (RFC 5534 4.3).
    ///
    /// The RFC's arithmetic ("within 2 seconds") counts the wait after the last initial probe as an initial one.
    pub(crate) fn probe_interval(&self, count: u32) -> Duration {
        let floor = self.config.initial_probe_timeout.max(SHORTEST);
        let first = self.rtt.map_or(floor, |rtt| {
            // A probe whose answer may still be on its way is no reason to try another pair.
            rtt.smoothed().clamp(floor, LONGEST_SPACING.max(floor))
        });
        let doublings = count.saturating_sub(self.config.initial_probes);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        first.saturating_mul(factor).min(self.max_probe_timeout())
    }

    /// A Send Timeout that is `floor` and allows for the time that an answer takes: a round trip, and before it a
    /// Keepalive Interval of the peer (a third of the floor, and some more for what delays the peer).
    ///
    /// The variance counts as an eighth of the round-trip time at least: few samples are taken, and some that happen
    /// to be alike do not mean that the next packet is not late. With that, jitter of 20 % is never taken for a failure.
    fn allowing_for_rtt(&self, floor: Duration) -> Duration {
        let floor = floor.max(SHORTEST);
        self.rtt.map_or(floor, |rtt| {
            let variance = rtt.variance().max(rtt.smoothed() / 8);
            let allowed = rtt.smoothed() + variance.saturating_mul(4) + floor / 2;
            allowed.clamp(floor, LONGEST_SEND_TIMEOUT.max(floor))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at_rtt(config: &Config, millis: u64) -> Pace<'_> {
        // Samples that are all alike: what remains of the variance is the least that counts.
        let rtt = (0..100).fold(Rtt::first(ms(millis)), |rtt, _| rtt.with_sample(ms(millis)));
        Pace::new(config, Some(rtt))
    }

    #[test]
    fn probes_back_off_after_the_initial_ones_up_to_the_limit() {
        let config = Config::rfc();
        let pace = Pace::new(&config, None);
        let intervals: [f64; 14] = core::array::from_fn(|i| pace.probe_interval(i as u32 + 1).as_secs_f64());
        assert_eq!(
            intervals,
            [
                0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0
            ]
        );
        assert_eq!(pace.probe_interval(u32::MAX), Duration::from_secs(60));

        let config = Config::fast();
        let pace = Pace::new(&config, None);
        let intervals: [u128; 13] = core::array::from_fn(|i| pace.probe_interval(i as u32 + 1).as_millis());
        assert_eq!(
            intervals,
            [50, 50, 50, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]
        );
    }

    #[test]
    fn keepalives_come_three_times_in_their_timeout_unless_told_otherwise() {
        let mut config = Config {
            keepalive_timeout: Duration::from_secs(30),
            ..Config::default()
        };
        let interval = |config: &Config| Pace::new(config, None).keepalive_interval();
        assert_eq!(interval(&config), Duration::from_secs(10));
        config.keepalive_interval = Some(Duration::from_secs(15));
        assert_eq!(interval(&config), Duration::from_secs(15));
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
            follow_rtt: true,
        };
        for rtt in [None, Some(Rtt::first(Duration::ZERO))] {
            let pace = Pace::new(&zero, rtt);
            assert!(pace.send_timeout() >= SHORTEST);
            assert_eq!(pace.keepalive_timeout(), SHORTEST);
            assert_eq!(pace.keepalive_interval(), SHORTEST);
            assert_eq!(pace.probe_interval(1), SHORTEST);
        }
    }

    #[test]
    fn the_send_timeout_allows_for_the_round_trip_above_its_floor() {
        let config = Config::fast();
        assert_eq!(Pace::new(&config, None).send_timeout(), ms(120), "nothing known");
        assert_eq!(at_rtt(&config, 1).send_timeout(), ms(120));
        assert_eq!(
            at_rtt(&config, 40).send_timeout(),
            ms(120),
            "40 + 20 + 60: not above the floor"
        );
        assert_eq!(at_rtt(&config, 52).send_timeout(), ms(138), "52 + 26 + 60");
        assert_eq!(at_rtt(&config, 300).send_timeout(), ms(510), "300 + 150 + 60");
        let first = Pace::new(&config, Some(Rtt::first(ms(300))));
        assert_eq!(first.send_timeout(), ms(960), "300 + 4 * 150 + 60");
    }

    #[test]
    fn the_send_timeout_follows_no_further_than_the_rfcs_default_or_its_own_floor() {
        let config = Config::fast();
        assert_eq!(
            at_rtt(&config, 9_960).send_timeout(),
            ms(15_000),
            "9.96 s + 4.98 s + 60 ms"
        );
        assert_eq!(at_rtt(&config, 9_950).send_timeout(), ms(14_985));
        assert_eq!(at_rtt(&config, 60_000).send_timeout(), ms(15_000));
        let slow = Config {
            send_timeout: Duration::from_secs(40),
            ..config
        };
        assert_eq!(at_rtt(&slow, 60_000).send_timeout(), Duration::from_secs(40));
    }

    #[test]
    fn the_spacing_follows_the_round_trip_between_its_floor_and_the_rfcs_value() {
        let config = Config::fast();
        let spacing = |millis| at_rtt(&config, millis).probe_interval(1);
        assert_eq!((spacing(49), spacing(50), spacing(51)), (ms(50), ms(50), ms(51)));
        assert_eq!((spacing(499), spacing(501)), (ms(499), ms(500)));
        assert_eq!(at_rtt(&config, 200).probe_interval(6), ms(800));
        assert_eq!(at_rtt(&config, 400).probe_interval(20), ms(5000));
        let slow = Config {
            initial_probe_timeout: ms(700),
            ..config
        };
        assert_eq!(at_rtt(&slow, 900).probe_interval(1), ms(700));
    }

    #[test]
    fn the_rfcs_profile_and_keepalives_follow_nothing() {
        let config = Config::rfc();
        let pace = at_rtt(&config, 14_000);
        assert_eq!(pace.send_timeout(), Duration::from_secs(15));
        assert_eq!(pace.probe_interval(1), ms(500));
        let config = Config::fast();
        let pace = at_rtt(&config, 2_000);
        assert_eq!((pace.keepalive_timeout(), pace.keepalive_interval()), (ms(120), ms(40)));
    }
}
