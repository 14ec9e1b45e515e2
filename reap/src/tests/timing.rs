//! The two timers, with packets reported in time and late.

use std::vec::Vec;

use proptest::prelude::*;

use super::{at, events, pair, pairs, rng, secs, transmits};
use crate::timers::Running;
use crate::{Cause, Config, Event, Instant, Reap, State, Transmit};

fn reap() -> Reap {
    Reap::new(Config::default(), pairs(2, 2), pair(0, 0))
}

fn received(reap: &mut Reap, when: f64, now: f64) {
    reap.handle_payload_received(at(when), at(now), &mut rng(1));
}

fn keepalives_until(reap: &mut Reap, end: f64) -> Vec<Instant> {
    let mut times = Vec::new();
    while let Some(now) = reap.poll_timeout().filter(|&due| due <= at(end)) {
        reap.handle_timeout(now, &mut rng(1));
        for transmit in transmits(reap) {
            assert_eq!(transmit, Transmit::Keepalive { pair: pair(0, 0) });
            times.push(now);
        }
    }
    times
}

#[test]
fn an_unanswered_packet_ends_in_exploring_after_the_send_timeout() {
    let mut reap = reap();
    reap.handle_payload_sent(at(1.0));
    reap.handle_payload_sent(at(9.0));
    assert_eq!(reap.poll_timeout(), Some(at(16.0)), "counted from the first");
    reap.handle_timeout(at(15.999999), &mut rng(1));
    assert_eq!(reap.state(), State::Operational);
    reap.handle_timeout(at(16.0), &mut rng(1));
    let (from, to, cause) = (State::Operational, State::Exploring, Cause::SendTimeout);
    assert_eq!(events(&mut reap), [Event::StateChanged { from, to, cause }]);
}

#[test]
fn a_received_packet_is_answered_by_three_keepalives_and_then_silence() {
    let mut reap = reap();
    received(&mut reap, 1.0, 1.0);
    assert_eq!(keepalives_until(&mut reap, 1000.0), [at(6.0), at(11.0), at(16.0)]);
    assert_eq!(reap.poll_timeout(), None);
}

#[test]
fn an_interval_of_half_the_timeout_gives_two_keepalives() {
    let mut reap = reap();
    reap.set_config(Config {
        keepalive_interval: Some(secs(7.5)),
        ..Config::default()
    });
    received(&mut reap, 1.0, 1.0);
    assert_eq!(keepalives_until(&mut reap, 1000.0), [at(8.5), at(16.0)]);
}

#[test]
fn the_last_keepalive_comes_at_the_timeout_even_between_two_intervals() {
    let mut reap = reap();
    reap.set_config(Config {
        keepalive_interval: Some(secs(6.0)),
        ..Config::default()
    });
    received(&mut reap, 1.0, 1.0);
    assert_eq!(keepalives_until(&mut reap, 1000.0), [at(7.0), at(13.0), at(16.0)]);
}

#[test]
fn sending_payload_stops_keepalives() {
    let mut reap = reap();
    received(&mut reap, 1.0, 1.0);
    assert_eq!(keepalives_until(&mut reap, 7.0), [at(6.0)]);
    reap.handle_payload_sent(at(7.0));
    assert_eq!(reap.running(), Running::Send { since: at(7.0) });
}

#[test]
fn the_peers_keepalive_timeout_is_honoured_while_the_timer_runs() {
    let mut reap = reap();
    received(&mut reap, 1.0, 1.0);
    reap.set_keepalive_timeout(secs(3.0));
    assert_eq!(keepalives_until(&mut reap, 1000.0), [at(2.0), at(3.0), at(4.0)]);
}

#[test]
fn keepalives_that_were_slept_through_are_not_made_up_for() {
    let mut reap = reap();
    reap.set_keepalive_timeout(secs(30.0));
    received(&mut reap, 0.0, 0.0);
    reap.handle_timeout(at(25.0), &mut rng(1));
    assert_eq!(transmits(&mut reap).len(), 1);
    assert_eq!(reap.poll_timeout(), Some(at(30.0)));
}

#[test]
fn a_deadline_that_has_passed_when_the_packet_is_reported_is_acted_on() {
    let mut reap = reap();
    reap.handle_timeout(at(99.0), &mut rng(1));
    reap.handle_payload_sent(at(50.0));
    assert_eq!(reap.poll_timeout(), Some(at(65.0)));
    reap.handle_timeout(at(100.0), &mut rng(1));
    assert_eq!(reap.state(), State::Exploring);
}

#[test]
fn an_older_report_starts_and_restarts_nothing() {
    let mut reap = reap();
    received(&mut reap, 10.0, 12.0);
    let before = reap.running();
    assert_eq!(
        before,
        Running::Keepalive {
            since: at(10.0),
            last: at(10.0)
        }
    );
    reap.handle_payload_sent(at(5.0));
    assert_eq!(reap.running(), before, "sent before the packet that waits for a reply");

    reap.handle_payload_sent(at(13.0));
    received(&mut reap, 11.0, 14.0);
    received(&mut reap, 10.0, 14.0);
    assert_eq!(
        reap.running(),
        Running::Send { since: at(13.0) },
        "received before the packet that waits for an answer"
    );

    reap.handle_keepalive(at(15.0), &mut rng(1));
    reap.handle_payload_sent(at(13.0));
    assert_eq!(reap.running(), Running::Neither, "answered by the keepalive");
}

#[test]
fn a_received_packet_is_replied_to_once_however_often_it_is_reported() {
    let mut reap = reap();
    received(&mut reap, 1.0, 1.0);
    assert_eq!(keepalives_until(&mut reap, 20.0).len(), 3);
    received(&mut reap, 1.0, 21.0);
    assert_eq!(reap.running(), Running::Neither);
    received(&mut reap, 21.0, 21.0);
    assert_eq!(
        reap.running(),
        Running::Keepalive {
            since: at(21.0),
            last: at(21.0)
        }
    );
}

#[test]
fn a_packet_from_before_exploring_does_not_end_it() {
    let mut reap = reap();
    reap.handle_payload_sent(at(1.0));
    reap.handle_timeout(at(16.0), &mut rng(1));
    received(&mut reap, 0.9, 17.0);
    assert_eq!(reap.state(), State::Exploring);
    received(&mut reap, 16.5, 17.0);
    assert_eq!(reap.state(), State::InboundOk);
}

#[test]
fn a_packet_sent_while_exploring_does_not_start_the_timer_of_a_later_state() {
    let rng = &mut rng(1);
    let mut reap = reap();
    reap.explore(at(1.0), Cause::LocalHint, rng);
    reap.handle_keepalive(at(2.0), rng);
    reap.handle_keepalive(at(3.0), rng);
    assert_eq!(reap.running(), Running::Neither);
    reap.handle_payload_sent(at(1.5));
    assert_eq!(reap.running(), Running::Neither);
    reap.handle_payload_sent(at(3.5));
    assert_eq!(reap.running(), Running::Send { since: at(3.5) });
}

#[test]
fn time_that_goes_back_changes_nothing() {
    let rng = &mut rng(1);
    let mut reap = reap();
    reap.handle_payload_sent(at(100.0));
    reap.handle_timeout(at(1.0), rng);
    reap.handle_keepalive(at(1.0), rng);
    assert_eq!(reap.running(), Running::Neither);
    reap.explore(at(0.0), Cause::LocalHint, rng);
    assert!(reap.poll_timeout().is_some_and(|next| next > at(100.0)));
}

#[test]
fn a_changed_send_timeout_holds_for_the_timer_that_runs() {
    let mut reap = reap();
    reap.handle_payload_sent(at(1.0));
    reap.set_config(Config {
        send_timeout: secs(0.3),
        ..Config::default()
    });
    assert_eq!(reap.poll_timeout(), Some(at(1.3)));
    assert_eq!(reap.config().send_timeout, secs(0.3));
}

/// Whether a packet was sent (else received), and when.
type Report = (bool, Instant);

proptest! {
    /// The contract of late reports: the last change of direction is enough, in either order.
    #[test]
    fn late_reports_end_where_prompt_ones_do(
        packets in prop::collection::vec((any::<bool>(), 1u64..1000), 1..60),
        drains in prop::collection::vec(any::<bool>(), 60),
        swaps in prop::collection::vec(any::<bool>(), 60),
    ) {
        let rng = &mut rng(1);
        let (mut prompt, mut late) = (reap(), reap());
        let mut now = 0;
        // Since the last drain: the latest of the other direction, and the first of the present one after it.
        let (mut other, mut first): (Option<Report>, Option<Report>) = (None, None);
        let mut latest = [None; 2];
        for (index, (is_sent, gap)) in packets.into_iter().enumerate() {
            now += gap;
            let when = Instant::from_micros(now);
            let mut tell = |reap: &mut Reap, (is_sent, when): Report, now: Instant| {
                if is_sent {
                    reap.handle_payload_sent(when);
                } else {
                    reap.handle_payload_received(when, now, rng);
                }
            };
            tell(&mut prompt, (is_sent, when), when);
            if first.is_none_or(|(was_sent, _)| was_sent != is_sent) {
                first = Some((is_sent, when));
                other = latest[usize::from(!is_sent)].map(|when| (!is_sent, when));
            }
            latest[usize::from(is_sent)] = Some(when);
            if drains[index] {
                let mut reports = [other.take(), first.take()];
                if swaps[index] {
                    reports.reverse();
                }
                latest = [None; 2];
                for report in reports.into_iter().flatten() {
                    tell(&mut late, report, when);
                }
                prop_assert_eq!(prompt.running(), late.running());
            }
        }
    }
}
