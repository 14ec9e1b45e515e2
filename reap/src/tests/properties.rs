//! What holds for any inputs whatever.

use std::time::Duration;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::{events, pair, pairs, rng, transmits};
use crate::timers::Running;
use crate::{
    Advice, Cause, Config, Event, Instant, LocatorPair, Probe, ProbeRecord, ProbeState, Reap, State, Transmit,
};

#[derive(Clone, Debug)]
enum Step {
    Sent {
        ago: u64,
    },
    Received {
        ago: u64,
    },
    Keepalive,
    Probe {
        state: ProbeState,
        on: usize,
        records: usize,
        reports: Vec<Report>,
    },
    Timeout,
    Explore(Cause),
    Usable(usize, bool),
    Pairs(usize, usize),
    KeepaliveTimeout(u64),
    Rtt(u64),
    Advise([Vec<usize>; 2]),
    Test(usize),
    Switch(usize),
}

/// What a probe claims to have received.
#[derive(Clone, Debug)]
enum Report {
    /// One of ours, counted from the last.
    Ours(usize),
    Forged(u32),
}

fn probe_state() -> impl Strategy<Value = ProbeState> {
    prop::sample::select(Vec::from([
        ProbeState::Operational,
        ProbeState::Exploring,
        ProbeState::InboundOk,
    ]))
}

fn cause() -> impl Strategy<Value = Cause> {
    prop::sample::select(Vec::from([
        Cause::LocalHint,
        Cause::Requested,
        Cause::IcmpError,
        Cause::TransportHint,
    ]))
}

fn step() -> impl Strategy<Value = Step> {
    let ago = || prop_oneof![3 => Just(0), 1 => 0u64..40_000_000];
    let report = || prop_oneof![3 => (0usize..6).prop_map(Report::Ours), 1 => any::<u32>().prop_map(Report::Forged)];
    prop_oneof![
        3 => ago().prop_map(|ago| Step::Sent { ago }),
        3 => ago().prop_map(|ago| Step::Received { ago }),
        2 => Just(Step::Keepalive),
        4 => (probe_state(), 0usize..9, 0usize..=15, prop::collection::vec(report(), 0..=15))
            .prop_map(|(state, on, records, reports)| Step::Probe { state, on, records, reports }),
        6 => Just(Step::Timeout),
        1 => cause().prop_map(Step::Explore),
        1 => (0usize..3, any::<bool>()).prop_map(|(local, usable)| Step::Usable(local, usable)),
        1 => (0usize..=3, 0usize..=3).prop_map(|(locals, peers)| Step::Pairs(locals, peers)),
        1 => (0u64..20_000_000).prop_map(Step::KeepaliveTimeout),
        1 => prop_oneof![0u64..100_000, 0u64..20_000_000].prop_map(Step::Rtt),
        1 => [prop::collection::vec(0usize..10, 0..4), prop::collection::vec(0usize..10, 0..4)].prop_map(Step::Advise),
        2 => (0usize..10).prop_map(Step::Test),
        1 => (0usize..10).prop_map(Step::Switch),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let time = || prop_oneof![Just(0), 0u64..100_000, 0u64..60_000_000].prop_map(Duration::from_micros);
    let times = (time(), time(), prop::option::of(time()), time(), 0u32..6, time());
    (times, any::<bool>()).prop_map(
        |(
            (send_timeout, keepalive_timeout, keepalive_interval, initial_probe_timeout, initial_probes, max),
            follow_rtt,
        )| Config {
            send_timeout,
            keepalive_timeout,
            keepalive_interval,
            initial_probe_timeout,
            initial_probes,
            max_probe_timeout: max,
            follow_rtt,
        },
    )
}

/// One of the nine pairs, or another one.
fn nth_pair(index: usize) -> LocatorPair {
    pair(index / 3, index % 3)
}

/// Gives one step to the machine.
fn feed(reap: &mut Reap, step: &Step, now: Instant, ours: &[ProbeRecord]) {
    let rng = &mut rng(now.as_micros());
    match step {
        Step::Sent { ago } => reap.handle_payload_sent(now - Duration::from_micros(*ago)),
        Step::Received { ago } => reap.handle_payload_received(now - Duration::from_micros(*ago), now, rng),
        Step::Keepalive => reap.handle_keepalive(now, rng),
        Step::Probe {
            state,
            on,
            records,
            reports,
        } => {
            let on = pair(on / 3, on % 3);
            let record = ProbeRecord {
                source: on.peer,
                destination: on.local,
                nonce: 3,
                data: 4,
            };
            let received = reports.iter().filter_map(|report| match report {
                Report::Ours(back) => ours.iter().rev().nth(*back).copied(),
                Report::Forged(nonce) => Some(ProbeRecord {
                    nonce: *nonce,
                    ..record
                }),
            });
            let sent = (0..*records)
                .map(|index| ProbeRecord {
                    data: index as u32,
                    ..record
                })
                .collect();
            let probe = Probe {
                state: *state,
                sent,
                received: received.collect(),
            };
            reap.handle_probe(now, on, &probe, rng);
        }
        Step::Timeout => reap.handle_timeout(now, rng),
        Step::Explore(cause) => reap.explore(now, *cause, rng),
        Step::Usable(local, usable) => reap.set_usable(pair(*local, 0).local, *usable),
        Step::Pairs(locals, peers) => reap.set_pairs(pairs(*locals, *peers)),
        Step::Rtt(micros) => reap.note_rtt(Duration::from_micros(*micros)),
        Step::Advise(lists) => {
            let [works, fails] = lists
                .each_ref()
                .map(|list| list.iter().map(|&index| nth_pair(index)).collect());
            reap.advise(now, Advice { works, fails });
        }
        Step::Test(index) => {
            reap.probe_quietly(now, nth_pair(*index), rng);
        }
        Step::Switch(index) => {
            reap.switch_to(now, nth_pair(*index), Cause::Preferred);
        }
        Step::KeepaliveTimeout(micros) => reap.set_keepalive_timeout(Duration::from_micros(*micros)),
    }
}

proptest! {
    #[test]
    fn any_inputs_keep_the_rules(
        config in config(),
        steps in prop::collection::vec((step(), prop_oneof![Just(0), 0u64..1_000_000, 0u64..30_000_000]), 1..80),
    ) {
        let mut reap = Reap::new(config, pairs(3, 3), pair(0, 0));
        let mut now = Instant::from_micros(100_000_000);
        let mut ours: Vec<ProbeRecord> = Vec::new();
        let mut probed: Vec<LocatorPair> = Vec::from([pair(0, 0)]);
        for (step, gap) in steps {
            now += Duration::from_micros(gap);
            let before = (reap.state(), reap.current_pair());
            feed(&mut reap, &step, now, &ours);

            if matches!(step, Step::Timeout) {
                let next = reap.poll_timeout();
                prop_assert!(next.is_none_or(|next| next > now), "{next:?} at {now:?}");
            }
            let mut sent = 0;
            while let Some(transmit) = reap.poll_transmit() {
                sent += 1;
                if let Transmit::Probe { pair, probe } = transmit {
                    prop_assert!((1..=15).contains(&probe.sent.len()) && probe.received.len() <= 15);
                    prop_assert_eq!(probe.sent[0].sender_pair(), pair);
                    let is_test = matches!(step, Step::Test(_));
                    let state = if is_test { ProbeState::InboundOk } else { reap.state().into() };
                    prop_assert_eq!(probe.state, state);
                    prop_assert!(!is_test || before.0 == State::Operational);
                    ours.push(probe.sent[0]);
                    probed.push(pair);
                }
            }
            // However late the caller is, what is due is never made up for in a burst.
            prop_assert!(sent <= 1, "{sent} packets from {step:?}");
            if matches!(step, Step::Switch(_)) {
                probed.push(reap.current_pair());
            }
            prop_assert!(probed.contains(&reap.current_pair()), "a pair that was never probed");
            prop_assert!(reap.send_timeout() >= reap.config().send_timeout);
            match reap.state() {
                State::Operational => {}
                State::Exploring => prop_assert_eq!(reap.running(), Running::Neither),
                State::InboundOk => prop_assert!(!is_keepalive(reap.running()), "a keepalive timer in InboundOk"),
            }
            let after = (reap.state(), reap.current_pair());
            let changes = usize::from(before.0 != after.0) + usize::from(before.1 != after.1);
            let (confirmed, news): (Vec<Event>, Vec<Event>) =
                events(&mut reap).into_iter().partition(|event| matches!(event, Event::PairConfirmed { .. }));
            prop_assert_eq!(news.len(), changes);
            let is_probed = |event: &Event| matches!(event, Event::PairConfirmed { pair } if probed.contains(pair));
            prop_assert!(confirmed.iter().all(is_probed), "{confirmed:?}");
        }
    }

    /// Left alone in whatever state, a machine never sends more than its timers allow.
    #[test]
    fn time_alone_sends_no_more_than_the_timers_allow(
        steps in prop::collection::vec((step(), 0u64..5_000_000), 1..30),
        fast in any::<bool>(),
    ) {
        let config = if fast { Config::fast() } else { Config::rfc() };
        let mut reap = Reap::new(config, pairs(3, 3), pair(0, 0));
        let mut now = Instant::from_micros(100_000_000);
        for (step, gap) in steps {
            now += Duration::from_micros(gap);
            if !matches!(step, Step::KeepaliveTimeout(_)) {
                feed(&mut reap, &step, now, &[]);
            }
            while reap.poll_transmit().is_some() {}
        }
        let rng = &mut rng(1);
        let mut times = Vec::new();
        let end = now + Duration::from_secs(1000);
        while now < end {
            reap.handle_timeout(now, rng);
            times.extend(transmits(&mut reap).iter().map(|_| now));
            now = reap.poll_timeout().unwrap_or(end);
        }
        // Two sequences of growing intervals at most: 11 probes in the first 155 s, then one in 51 s; or 11 in the first
        // 8 s, then one in 4.25 s.
        let most = if fast { 270 } else { 40 };
        prop_assert!(times.len() <= most, "{} packets in 1000 s", times.len());
        // The one probe of a Send Timeout may come at any time between the others.
        let least = if fast { Duration::from_millis(80) } else { Duration::from_millis(800) };
        for window in times.windows(4) {
            prop_assert!(window[3] - window[0] >= least, "{window:?}");
        }
    }
}

fn is_keepalive(running: Running) -> bool {
    matches!(running, Running::Keepalive { .. })
}
