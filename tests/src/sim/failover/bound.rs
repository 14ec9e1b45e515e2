//! How long it may take until a session is on pairs that work.
//!
//! Let *M* be the moment from which at least one directed pair works each way, *d* the longest that a packet is on its way, *gap*
//! the longest time between two packets of a sender, *n* the number of locator pairs. Everything is counted from *M*.
//!
//! 1. **It is noticed** at the latest after `2 d + K + gap + T`. Who gets nothing any more still answers what it got before: its
//!    keepalives go on for the Keepalive Timeout *K* that the other end asked for, after the last packet, which took *d* and whose
//!    keepalives take *d*. After the last of these the other end sends within *gap*, and that packet goes unanswered for a Send
//!    Timeout *T* (RFC 5534 section 6.3).
//!    Whoever is away from a pair that it prefers tests that quietly, and the test is a sign of life, too, followed by keepalives for
//!    *K*. One may come just before the Send Timeout is over: so it is `2 d + 2 (K + gap + T)`. The next test comes after 4 *T* at
//!    the earliest, which is late enough if *gap* is no more than 2 *T*, as it is in these worlds.
//! 2. **The one who noticed is heard** after one pass over the *n* pairs: in a pass each is tried once (RFC 5534 section 4.3),
//!    among them the one that works, and the probe takes *d*.
//! 3. **Its peer is heard**: that one says InboundOk on the pairs in turn. It stays in that state for a Send Timeout after the last
//!    it heard, which is enough for `m = 1 + T / spacing` probes. If that is less than *n*, it explores again and has to be heard
//!    again, which takes another pass of the first; it goes on with its own pass where it was. So after `n / m` (rounded up) such
//!    passes it has tried all its pairs. The probe that gets through takes *d*.
//! 4. **The peer learns it** from the answer, after another *d*.
//!
//! The spacing of probes is the initial one for the first few, then it doubles up to a limit (section 4.3), with a jitter of 15 %.
//! Where hosts could begin to explore some time before *M*, because the events of a round are spread or nothing worked for a
//! while, their spacing has grown by then: passes are counted from there. Of a session that has paused, that may be since rounds
//! before: nobody waits until its ends have found each other again.

use std::time::Duration;

use shim6_core::ReapConfig;

/// The jitter of REAP's spacing, in percent of the interval, either way.
const JITTER: u32 = 15;
/// However long a round trip takes, the first probes are not further apart (unless they are anyway).
const LONGEST_SPACING: Duration = Duration::from_millis(500);
/// Lookups, rounding and the like.
const SLACK: Duration = Duration::from_millis(20);

/// REAP's values between two hosts: for each the larger of both ends'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// The Send Timeout in force.
    pub send_timeout: Duration,
    /// The Keepalive Timeout.
    pub keepalive_timeout: Duration,
    /// The spacing of the first probes.
    pub spacing: Duration,
    /// How many of them there are.
    pub initial_probes: u32,
    /// The longest spacing.
    pub longest_spacing: Duration,
}

impl Timers {
    /// What two configurations come to where a round trip takes at most `rtt`.
    pub fn between(one: &ReapConfig, other: &ReapConfig, rtt: Duration) -> Self {
        let send_timeout = |config: &ReapConfig| match config.follow_rtt {
            // After the first sample, which has half of itself as its variance; nothing makes it longer than that.
            true => config.send_timeout.max(rtt * 3 + config.send_timeout / 2),
            false => config.send_timeout,
        };
        let spacing = |config: &ReapConfig| match config.follow_rtt {
            true => config.initial_probe_timeout.max(rtt.min(LONGEST_SPACING)),
            false => config.initial_probe_timeout,
        };
        Self {
            send_timeout: send_timeout(one).max(send_timeout(other)),
            keepalive_timeout: one.send_timeout.max(other.send_timeout),
            spacing: spacing(one).max(spacing(other)),
            initial_probes: one.initial_probes.min(other.initial_probes),
            longest_spacing: one.max_probe_timeout.max(other.max_probe_timeout),
        }
    }

    /// The bound for a session with so many pairs whose senders pause for at most `gap`, over paths that take at most
    /// `delay`, if exploration may have begun `before` the moment that it is counted from.
    pub fn recovery(&self, pairs: u32, gap: Duration, delay: Duration, before: Duration) -> Duration {
        let in_one_visit = 1 + (self.send_timeout.as_micros() / self.longest(1).as_micros()) as u32;
        let visits = pairs.div_ceil(in_one_visit.min(pairs));
        let tried = self.probes_within(before);
        self.noticed(gap, delay) + self.passes(tried, pairs * (visits + 1)) + delay * 3 + SLACK
    }

    /// How long it takes at most until a failure is noticed.
    pub fn noticed(&self, gap: Duration, delay: Duration) -> Duration {
        delay * 2 + (self.keepalive_timeout + gap + self.send_timeout) * 2
    }

    /// The spacing after the `count`th probe, counted from 1.
    fn interval(&self, count: u32) -> Duration {
        let factor = 1_u32
            .checked_shl(count.saturating_sub(self.initial_probes))
            .unwrap_or(u32::MAX);
        self.spacing.saturating_mul(factor).min(self.longest_spacing)
    }

    fn longest(&self, count: u32) -> Duration {
        self.interval(count) * (100 + JITTER) / 100
    }

    /// The time that `probes` take at most after the first `tried`.
    fn passes(&self, tried: u32, probes: u32) -> Duration {
        (tried + 1..=tried + probes).map(|count| self.longest(count)).sum()
    }

    /// How many probes may have been sent in this time.
    fn probes_within(&self, time: Duration) -> u32 {
        let (mut count, mut left) = (0, time);
        while !left.is_zero() {
            count += 1;
            left = left.saturating_sub(self.interval(count) * (100 - JITTER) / 100);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const FAST: Timers = Timers {
        send_timeout: Duration::from_millis(120),
        keepalive_timeout: Duration::from_millis(120),
        spacing: Duration::from_millis(50),
        initial_probes: 4,
        longest_spacing: Duration::from_secs(5),
    };

    #[test]
    fn bound_for_two_pairs_is_a_second_and_for_four_what_backoff_makes_of_it() {
        let bound = |pairs| FAST.recovery(pairs, ms(30), ms(10), Duration::ZERO);
        assert!(bound(2) < secs(1), "{:?}", bound(2));
        assert!(bound(4) < secs(20), "{:?}", bound(4));
    }

    #[test]
    fn spacing_that_has_grown_counts() {
        let bound = |before| FAST.recovery(4, ms(30), ms(10), before);
        assert!(bound(secs(60)) > bound(secs(1)) && bound(secs(1)) > bound(Duration::ZERO));
        assert!(bound(secs(60)) < secs(75), "{:?}", bound(secs(60)));
        assert_eq!(bound(secs(60)), bound(secs(600)));
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
