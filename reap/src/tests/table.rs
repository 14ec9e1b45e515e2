//! Every cell of the tables in RFC 5534 6.1 to 6.9, written as there, against the table and against the machine.

use std::string::String;
use std::time::Duration;
use std::vec::Vec;

use super::{at, pair, pairs, probe_from_peer, rng, transmits};
use crate::table::{Input, Message, Rule, TimerOp, rule};
use crate::timers::Running;
use crate::{Config, Instant, ProbeState, Reap, State, Transmit};

const STATES: [State; 3] = [State::Operational, State::Exploring, State::InboundOk];

/// The RFC's tables: the input, then the columns Operational, Exploring, InboundOk. "RESTART" of a timer that cannot
/// run in the state is kept as the RFC has it.
const TABLES: [(&str, Input, [&str; 3]); 9] = [
    (
        "6.1",
        Input::PayloadReceived,
        [
            "STOP Send, START Keepalive",
            "SEND Probe InboundOk, START Send, GOTO InboundOk",
            "STOP Send",
        ],
    ),
    (
        "6.2",
        Input::PayloadSent,
        ["START Send, STOP Keepalive", "-", "START Send"],
    ),
    ("6.3", Input::KeepaliveTimeout, ["SEND Keepalive", "-", "-"]),
    (
        "6.4",
        Input::SendTimeout,
        [
            "SEND Probe Exploring, GOTO Exploring",
            "-",
            "SEND Probe Exploring, GOTO Exploring",
        ],
    ),
    (
        "6.5",
        Input::Retransmission,
        ["-", "SEND Probe Exploring", "SEND Probe InboundOk, START Send"],
    ),
    (
        "6.6",
        Input::Keepalive,
        [
            "STOP Send",
            "SEND Probe InboundOk, START Send, GOTO InboundOk",
            "STOP Send",
        ],
    ),
    (
        "6.7",
        Input::Probe(ProbeState::Exploring),
        [
            "SEND Probe InboundOk, STOP Keepalive, RESTART Send, GOTO InboundOk",
            "SEND Probe InboundOk, START Send, GOTO InboundOk",
            "SEND Probe InboundOk, RESTART Send",
        ],
    ),
    (
        "6.8",
        Input::Probe(ProbeState::InboundOk),
        [
            "SEND Probe Operational, RESTART Send, STOP Keepalive",
            "SEND Probe Operational, RESTART Send, GOTO Operational",
            "SEND Probe Operational, RESTART Send, GOTO Operational",
        ],
    ),
    (
        "6.9",
        Input::Probe(ProbeState::Operational),
        [
            "STOP Send, START Keepalive",
            "STOP Send, START Keepalive, GOTO Operational",
            "STOP Send, START Keepalive, GOTO Operational",
        ],
    ),
];

fn parse(cell: &str) -> Rule {
    let mut rule = Rule {
        message: None,
        send_timer: TimerOp::Leave,
        keepalive_timer: TimerOp::Leave,
        goto: None,
    };
    for action in cell.split(", ").filter(|&action| action != "-") {
        let op = |verb| match verb {
            "START" => TimerOp::Start,
            "RESTART" => TimerOp::Restart,
            "STOP" => TimerOp::Stop,
            _ => panic!("{verb} in {cell}"),
        };
        match action.split(' ').collect::<Vec<_>>().as_slice() {
            ["SEND", "Keepalive"] => rule.message = Some(Message::Keepalive),
            ["SEND", "Probe", "Operational"] => rule.message = Some(Message::Probe(ProbeState::Operational)),
            ["SEND", "Probe", "Exploring"] => rule.message = Some(Message::Probe(ProbeState::Exploring)),
            ["SEND", "Probe", "InboundOk"] => rule.message = Some(Message::Probe(ProbeState::InboundOk)),
            ["GOTO", "Operational"] => rule.goto = Some(State::Operational),
            ["GOTO", "Exploring"] => rule.goto = Some(State::Exploring),
            ["GOTO", "InboundOk"] => rule.goto = Some(State::InboundOk),
            [verb, "Send"] => rule.send_timer = op(verb),
            [verb, "Keepalive"] => rule.keepalive_timer = op(verb),
            _ => panic!("{action} in {cell}"),
        }
    }
    rule
}

#[test]
fn the_table_is_the_rfcs() {
    for (section, input, cells) in TABLES {
        for (state, cell) in STATES.into_iter().zip(cells) {
            assert_eq!(rule(state, input), parse(cell), "{section}, {state:?}: {cell}");
        }
    }
}

/// With which timer running a machine is put into a state.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Timer {
    Neither,
    Send,
    Keepalive,
}

/// Every combination of state and running timer that can occur (RFC 5534 6).
const SITUATIONS: [(State, Timer); 6] = [
    (State::Operational, Timer::Neither),
    (State::Operational, Timer::Send),
    (State::Operational, Timer::Keepalive),
    (State::Exploring, Timer::Neither),
    (State::InboundOk, Timer::Neither),
    (State::InboundOk, Timer::Send),
];

/// A machine in this situation, brought there by packets alone, and the time it was reached.
fn machine(state: State, timer: Timer, config: Config) -> (Reap, Instant) {
    let rng = &mut rng(1);
    let mut reap = Reap::new(config, pairs(2, 2), pair(0, 0));
    let start = at(100.0);
    if state == State::Operational {
        match timer {
            Timer::Neither => {}
            Timer::Send => reap.handle_payload_sent(start),
            Timer::Keepalive => reap.handle_payload_received(start, start, rng),
        }
        return (reap, start);
    }
    reap.handle_payload_sent(start);
    let now = start + config.send_timeout;
    reap.handle_timeout(now, rng);
    if state == State::InboundOk {
        reap.handle_keepalive(now, rng);
        if timer == Timer::Neither {
            reap.handle_keepalive(now, rng);
        }
    }
    transmits(&mut reap);
    (reap, now)
}

/// Gives `input` to the machine and returns when; `None` if it cannot occur there.
fn feed(reap: &mut Reap, reached: Instant, input: Input) -> Option<Instant> {
    let rng = &mut rng(2);
    let soon = reached + Duration::from_millis(1);
    let config = *reap.config();
    match (input, reap.running()) {
        (Input::PayloadReceived, _) => reap.handle_payload_received(soon, soon, rng),
        (Input::PayloadSent, _) => reap.handle_payload_sent(soon),
        (Input::Keepalive, _) => reap.handle_keepalive(soon, rng),
        (Input::Probe(state), _) => {
            let probe = probe_from_peer(state, pair(1, 1), 5, Vec::new());
            reap.handle_probe(soon, pair(1, 1), &probe, rng);
        }
        (Input::KeepaliveTimeout, Running::Keepalive { since, .. }) => {
            let due = since + config.keepalive_timeout;
            reap.handle_timeout(due, rng);
            return Some(due);
        }
        (Input::SendTimeout, Running::Send { since }) => {
            let due = since + config.send_timeout;
            reap.handle_timeout(due, rng);
            return Some(due);
        }
        (Input::Retransmission, _) if reap.state() != State::Operational => {
            let due = reap.poll_timeout()?;
            reap.handle_timeout(due, rng);
            return Some(due);
        }
        _ => return None,
    }
    Some(soon)
}

fn expected_timer(rule: &Rule, before: Running, expired: bool, now: Instant) -> Running {
    let mut running = if expired { Running::Neither } else { before };
    if rule.send_timer == TimerOp::Stop && matches!(running, Running::Send { .. }) {
        running = Running::Neither;
    }
    if rule.keepalive_timer == TimerOp::Stop && matches!(running, Running::Keepalive { .. }) {
        running = Running::Neither;
    }
    match (rule.send_timer, rule.keepalive_timer) {
        (TimerOp::Start, _) if running == Running::Neither => Running::Send { since: now },
        (TimerOp::Restart, _) => Running::Send { since: now },
        (_, TimerOp::Start) if running == Running::Neither => Running::Keepalive { since: now, last: now },
        _ => running,
    }
}

#[test]
fn the_machine_does_what_each_cell_says() {
    let mut walked = Vec::new();
    for (section, input, cells) in TABLES {
        let is_timer = matches!(input, Input::SendTimeout | Input::KeepaliveTimeout);
        // One thing at a time: probes far apart where a timer is to expire.
        let config = Config {
            initial_probe_timeout: if is_timer {
                Duration::from_secs(40)
            } else {
                Duration::from_millis(500)
            },
            ..Config::default()
        };
        for (state, timer) in SITUATIONS {
            let (mut reap, reached) = machine(state, timer, config);
            let before = reap.running();
            assert_eq!((reap.state(), kind(before)), (state, timer), "setting up");
            let Some(now) = feed(&mut reap, reached, input) else {
                continue;
            };

            let column = STATES.iter().position(|&column| column == state).unwrap();
            let expected = parse(cells[column]);
            let label = std::format!("{section}, {state:?} with {timer:?}: {}", cells[column]);
            assert_eq!(reap.state(), expected.goto.unwrap_or(state), "{label}");
            assert_eq!(
                sent(&mut reap),
                expected.message.into_iter().collect::<Vec<_>>(),
                "{label}"
            );
            assert_eq!(
                reap.running(),
                expected_timer(&expected, before, is_timer, now),
                "{label}"
            );
            walked.push((section, column));
        }
    }
    walked.dedup();
    // All 27 cells but those that need a timer which the state rules out: 6.3 twice, 6.4 and 6.5 once each.
    assert_eq!(walked.len(), 23);
}

#[test]
fn other_control_messages_count_as_payload() {
    for (state, timer) in SITUATIONS {
        let (mut payload, reached) = machine(state, timer, Config::default());
        let mut control = payload.clone();
        let soon = reached + Duration::from_millis(1);
        payload.handle_payload_received(soon, soon, &mut rng(3));
        control.handle_control_received(soon, soon, &mut rng(3));
        payload.handle_payload_sent(soon + Duration::from_millis(1));
        control.handle_control_sent(soon + Duration::from_millis(1));
        assert_eq!(
            (payload.state(), payload.running()),
            (control.state(), control.running())
        );
        assert_eq!(transmits(&mut payload), transmits(&mut control));
    }
}

fn kind(running: Running) -> Timer {
    match running {
        Running::Neither => Timer::Neither,
        Running::Send { .. } => Timer::Send,
        Running::Keepalive { .. } => Timer::Keepalive,
    }
}

fn sent(reap: &mut Reap) -> Vec<Message> {
    let message = |transmit| match transmit {
        Transmit::Keepalive { .. } => Message::Keepalive,
        Transmit::Probe { probe, .. } => Message::Probe(probe.state),
    };
    transmits(reap).into_iter().map(message).collect()
}

#[test]
fn states_read_as_words() {
    let words: Vec<String> = STATES.iter().map(|state| std::format!("{state}")).collect();
    assert_eq!(words, ["operational", "exploring", "inbound-ok"]);
}
