//! The state machine of RFC 5534 6.1 to 6.9 as one table: state and input give what to do.

use core::fmt;

use crate::ProbeState;

/// The state of a context's reachability (RFC 5534 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The current pair is assumed to work.
    Operational,
    /// Nothing has been heard from the peer for a Send Timeout.
    Exploring,
    /// The peer is heard, but may not hear us.
    InboundOk,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ProbeState::from(*self).fmt(f)
    }
}

impl From<State> for ProbeState {
    fn from(state: State) -> Self {
        match state {
            State::Operational => Self::Operational,
            State::Exploring => Self::Exploring,
            State::InboundOk => Self::InboundOk,
        }
    }
}

/// What can happen to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// 6.1: a payload packet came, or a control message other than Keepalive and Probe.
    PayloadReceived,
    /// 6.2: a payload packet went, or a control message other than Keepalive and Probe.
    PayloadSent,
    /// 6.3: the Keepalive Timer expired (and is no longer running).
    KeepaliveTimeout,
    /// 6.4: the Send Timer expired (and is no longer running).
    SendTimeout,
    /// 6.5: it is time for the next probe.
    Retransmission,
    /// 6.6: a Keepalive came.
    Keepalive,
    /// 6.7 to 6.9: a Probe came.
    Probe(ProbeState),
    /// Not in the tables: the current pair is known to be gone, which is as good as a Send Timeout (4.1).
    Hint,
}

/// What to do to a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerOp {
    /// "-"
    Leave,
    /// START: unless it runs already.
    Start,
    /// RESTART
    Restart,
    /// STOP: if it runs.
    Stop,
}

/// A message to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Keepalive,
    Probe(ProbeState),
}

/// One cell of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) message: Option<Message>,
    pub(crate) send_timer: TimerOp,
    pub(crate) keepalive_timer: TimerOp,
    pub(crate) goto: Option<State>,
}

impl Rule {
    const NOTHING: Self = Self {
        message: None,
        send_timer: TimerOp::Leave,
        keepalive_timer: TimerOp::Leave,
        goto: None,
    };

    const fn probe(self, state: ProbeState) -> Self {
        Self {
            message: Some(Message::Probe(state)),
            ..self
        }
    }

    const fn keepalive(self) -> Self {
        Self {
            message: Some(Message::Keepalive),
            ..self
        }
    }

    const fn send_timer(self, op: TimerOp) -> Self {
        Self { send_timer: op, ..self }
    }

    const fn keepalive_timer(self, op: TimerOp) -> Self {
        Self {
            keepalive_timer: op,
            ..self
        }
    }

    const fn goto(self, state: State) -> Self {
        Self {
            goto: Some(state),
            ..self
        }
    }
}

/// The cell for `input` in `state`.
pub(crate) fn rule(state: State, input: Input) -> Rule {
    use State::{Exploring, InboundOk, Operational};
    use TimerOp::{Restart, Start, Stop};

    let nothing = Rule::NOTHING;
    match (state, input) {
        // 6.1
        (Operational, Input::PayloadReceived) => nothing.send_timer(Stop).keepalive_timer(Start),
        // 6.1 and 6.6
        (Exploring, Input::PayloadReceived | Input::Keepalive) => {
            nothing.probe(ProbeState::InboundOk).send_timer(Start).goto(InboundOk)
        }
        (InboundOk, Input::PayloadReceived | Input::Keepalive) => nothing.send_timer(Stop),

        // 6.2
        (Operational, Input::PayloadSent) => nothing.send_timer(Start).keepalive_timer(Stop),
        (Exploring, Input::PayloadSent) => nothing,
        (InboundOk, Input::PayloadSent) => nothing.send_timer(Start),

        // 6.3
        (Operational, Input::KeepaliveTimeout) => nothing.keepalive(),
        (Exploring | InboundOk, Input::KeepaliveTimeout) => nothing,

        // 6.4
        (Operational | InboundOk, Input::SendTimeout) => nothing.probe(ProbeState::Exploring).goto(Exploring),
        (Exploring, Input::SendTimeout) => nothing,

        // 6.5
        (Operational, Input::Retransmission) => nothing,
        (Exploring, Input::Retransmission) => nothing.probe(ProbeState::Exploring),
        (InboundOk, Input::Retransmission) => nothing.probe(ProbeState::InboundOk).send_timer(Start),

        // 6.6, where it differs from 6.1
        (Operational, Input::Keepalive) => nothing.send_timer(Stop),

        // 6.7
        (Operational, Input::Probe(ProbeState::Exploring)) => nothing
            .probe(ProbeState::InboundOk)
            .keepalive_timer(Stop)
            .send_timer(Restart)
            .goto(InboundOk),
        (Exploring, Input::Probe(ProbeState::Exploring)) => {
            nothing.probe(ProbeState::InboundOk).send_timer(Start).goto(InboundOk)
        }
        (InboundOk, Input::Probe(ProbeState::Exploring)) => nothing.probe(ProbeState::InboundOk).send_timer(Restart),

        // 6.8
        (Operational, Input::Probe(ProbeState::InboundOk)) => nothing
            .probe(ProbeState::Operational)
            .send_timer(Restart)
            .keepalive_timer(Stop),
        (Exploring | InboundOk, Input::Probe(ProbeState::InboundOk)) => nothing
            .probe(ProbeState::Operational)
            .send_timer(Restart)
            .goto(Operational),

        // 6.9: the prose describes the construction of a probe, the table sends none; if both sides answered this
        // probe with another, they would never stop.
        (Operational, Input::Probe(ProbeState::Operational)) => nothing.send_timer(Stop).keepalive_timer(Start),
        (Exploring | InboundOk, Input::Probe(ProbeState::Operational)) => {
            nothing.send_timer(Stop).keepalive_timer(Start).goto(Operational)
        }

        // Ours: no timer runs in Exploring. While exploring already, a hint only hastens the next probe.
        (Operational, Input::Hint) => nothing
            .probe(ProbeState::Exploring)
            .send_timer(Stop)
            .keepalive_timer(Stop)
            .goto(Exploring),
        (Exploring | InboundOk, Input::Hint) => nothing,
    }
}
