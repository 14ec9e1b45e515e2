//! What the arrivals of a paced flow say about a failure.
//!
//! The sender writes message number `i` at `i * INTERVAL` on the flow's clock, and `arrivals[i]` is when
//! the receiver's `read` returned it. All systems are judged by the same rules:
//!
//! - The *transit time* of the undisturbed path is the median, over the second before the cut, of a
//!   message's arrival minus its time to be sent.
//! - A message is *late* if it arrives more than [`LATE`] after its time to be sent plus the transit
//!   time. What TCP delivers together arrives together, so after a stall only the newest messages of
//!   a burst are on time.
//! - A *stall* is a gap of more than [`STALL`] between two consecutive arrivals, the second of them
//!   after the cut.
//! - The flow is *smooth* from a moment on if during the [`WINDOW`] after it no message becomes late.
//!   That moment is the cut itself or the arrival of a late message.

use std::time::Duration;

/// Time between two messages: 200 per second.
pub const INTERVAL: Duration = Duration::from_millis(5);
/// A longer gap between arrivals is a stall: three messages missing, and as long again for what a busy
/// machine does to the wake-ups of sender, links and receiver.
pub const STALL: Duration = Duration::from_millis(30);
/// A message that is later than this is late.
pub const LATE: Duration = Duration::from_millis(20);
/// How long there must be no late message: longer than the pauses between stalls of a sender that
/// still tries the dead path.
pub const WINDOW: Duration = Duration::from_millis(1500);
/// The time before the cut from which the transit time is taken.
const BASE: Duration = Duration::from_secs(1);

/// What a cut did to a flow, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Length of the first stall, from the arrival before it to the one after it; up to now if it
    /// goes on; zero if there was none.
    pub first_stall: Duration,
    /// From the cut until the flow was smooth; `None` if that is not certain yet.
    pub until_smooth: Option<Duration>,
}

/// Judges a flow that was cut at `cut` and watched until `now`.
#[must_use]
pub fn judge(arrivals: &[Duration], cut: Duration, now: Duration) -> Verdict {
    Verdict {
        first_stall: first_stall(arrivals, cut, now),
        until_smooth: smooth_from(arrivals, cut, now).map(|from| from - cut),
    }
}

/// The stalls after the cut that are over: the arrival before and the arrival after each.
pub fn stalls(arrivals: &[Duration], cut: Duration) -> impl Iterator<Item = (Duration, Duration)> {
    let gaps = arrivals.windows(2).map(|pair| (pair[0], pair[1]));
    gaps.filter(move |&(before, after)| after > cut && after.saturating_sub(before) > STALL)
}

/// When message number `number` is to be sent.
#[must_use]
pub fn scheduled(number: usize) -> Duration {
    INTERVAL * u32::try_from(number).unwrap_or(u32::MAX)
}

fn first_stall(arrivals: &[Duration], cut: Duration, now: Duration) -> Duration {
    let first = stalls(arrivals, cut).next().map(|(before, after)| after - before);
    let going_on = || {
        let last = arrivals.last().copied().unwrap_or_default();
        Some(now.saturating_sub(last)).filter(|&gap| gap > STALL)
    };
    first.or_else(going_on).unwrap_or_default()
}

/// The first moment, not before the cut, from which on the flow was smooth.
fn smooth_from(arrivals: &[Duration], cut: Duration, now: Duration) -> Option<Duration> {
    let transit = transit(arrivals, cut);
    let late_at = |number| scheduled(number) + transit + LATE;
    // Up to here it is known of every message whether it is late.
    let known = late_at(arrivals.len()).min(now);
    let after_cut = arrivals.partition_point(|&at| at <= cut);
    let late = (after_cut..arrivals.len()).filter(|&number| arrivals[number] > late_at(number));
    let mut candidate = cut;
    for number in late {
        if late_at(number) > candidate + WINDOW {
            break;
        }
        candidate = arrivals[number];
    }
    (known >= candidate + WINDOW).then_some(candidate)
}

/// How long a message takes over the undisturbed path.
fn transit(arrivals: &[Duration], cut: Duration) -> Duration {
    let from = arrivals.partition_point(|&at| at + BASE < cut);
    let until = arrivals.partition_point(|&at| at <= cut);
    let mut times: Vec<Duration> = (from..until)
        .map(|number| arrivals[number].saturating_sub(scheduled(number)))
        .collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSIT: Duration = Duration::from_millis(10);
    const CUT: Duration = Duration::from_millis(2002);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Arrivals up to `until` over a path that delivers nothing during the given stalls, and what
    /// has been held up at their ends.
    fn arrivals(stalls: &[(u64, u64)], until: u64) -> Vec<Duration> {
        let through = |at: Duration| {
            let stall = stalls.iter().find(|stall| (ms(stall.0)..ms(stall.1)).contains(&at));
            stall.map_or(at, |stall| ms(stall.1))
        };
        (0..)
            .map(|number| through(scheduled(number) + TRANSIT))
            .take_while(|&at| at <= ms(until))
            .collect()
    }

    fn judged(stalls: &[(u64, u64)], now: u64) -> Verdict {
        judge(&arrivals(stalls, now), CUT, ms(now))
    }

    #[test]
    fn a_flow_that_is_not_disturbed_is_smooth_at_once() {
        let verdict = judged(&[], 6000);
        assert_eq!(verdict.first_stall, Duration::ZERO);
        assert_eq!(verdict.until_smooth, Some(Duration::ZERO));
    }

    #[test]
    fn smoothness_is_not_certain_before_a_window_is_over() {
        let just_before = u64::try_from((CUT + WINDOW).as_millis()).expect("small") - 1;
        assert_eq!(judged(&[], just_before).until_smooth, None);
        assert_eq!(judged(&[], just_before + 1).until_smooth, Some(Duration::ZERO));
    }

    #[test]
    fn one_stall_lasts_until_what_was_held_up_arrives() {
        // The last arrival before it is at 2000, the cut at 2002.
        let verdict = judged(&[(2003, 2300)], 6000);
        assert_eq!(verdict.first_stall, ms(300));
        assert_eq!(verdict.until_smooth, Some(ms(298)));
    }

    #[test]
    fn stuttering_counts_until_its_last_late_message() {
        let verdict = judged(&[(2003, 2200), (2250, 2450), (2900, 3000), (4000, 4100)], 8000);
        assert_eq!(verdict.first_stall, ms(200));
        assert_eq!(verdict.until_smooth, Some(ms(4100 - 2002)));
    }

    #[test]
    fn a_stall_after_a_smooth_window_is_another_story() {
        let verdict = judged(&[(2003, 2200), (3800, 4000)], 8000);
        assert_eq!(verdict.until_smooth, Some(ms(198)));
    }

    #[test]
    fn a_stall_that_begins_inside_the_window_is_not() {
        let verdict = judged(&[(2003, 2200), (3600, 4500)], 8000);
        assert_eq!(verdict.until_smooth, Some(ms(4500 - 2002)));
    }

    #[test]
    fn short_delays_are_neither_stalls_nor_late() {
        let verdict = judged(&[(2003, 2019), (2040, 2058)], 6000);
        assert_eq!(verdict.first_stall, Duration::ZERO);
        assert_eq!(verdict.until_smooth, Some(Duration::ZERO));
        // Both sides of the thresholds: one message is 20 ms late, or a little more.
        assert_eq!(judged(&[(2010, 2030)], 6000).until_smooth, Some(Duration::ZERO));
        assert_eq!(judged(&[(2010, 2031)], 6000).until_smooth, Some(ms(29)));
        assert_eq!(judged(&[(2010, 2035)], 6000).first_stall, Duration::ZERO);
        assert_eq!(judged(&[(2010, 2036)], 6000).first_stall, ms(31));
    }

    #[test]
    fn a_path_that_stays_slower_never_gets_smooth() {
        let mut slower = arrivals(&[], 9000);
        for at in slower.iter_mut().filter(|at| **at > CUT) {
            *at += ms(21);
        }
        assert_eq!(judge(&slower, CUT, ms(9000)).until_smooth, None);
    }

    #[test]
    fn a_dead_flow_stalls_until_now() {
        let verdict = judge(&arrivals(&[], 2002), CUT, ms(9000));
        assert_eq!(verdict.first_stall, ms(7000));
        assert_eq!(verdict.until_smooth, None);
        let nothing = judge(&[], CUT, ms(9000));
        assert_eq!(nothing.first_stall, ms(9000));
        assert_eq!(nothing.until_smooth, None);
    }

    #[test]
    fn what_is_in_flight_at_the_cut_still_counts_as_on_time() {
        let slow_path: Vec<Duration> = (0..400).map(|number| scheduled(number) + ms(50)).collect();
        let verdict = judge(&slow_path, ms(1980), ms(2200));
        assert_eq!(verdict.first_stall, ms(2200 - 2045));
    }
}
