//! The Send Timer and the Keepalive Timer (RFC 5534 6), of which at most one runs.
//!
//! What is stored is when a timer was started, not when it expires: deadlines follow a changed configuration and
//! round-trip time, and packets may be reported after their time.

use crate::Instant;
use crate::pace::Pace;
use crate::table::{Rule, TimerOp};

/// Which timer runs. Being one value, it cannot hold two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    Neither,
    /// Since the first packet that has no answer yet.
    Send {
        since: Instant,
    },
    /// Since the first packet that we have not replied to yet; `last` is when the last keepalive was due, or `since`.
    Keepalive {
        since: Instant,
        last: Instant,
    },
}

/// What came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// One more keepalive; the timer runs on.
    Keepalive,
    /// The Keepalive Timer expired.
    KeepaliveTimeout,
    /// The Send Timer expired.
    SendTimeout,
}

#[derive(Clone, Debug)]
pub(crate) struct Timers {
    running: Running,
    /// The latest payload that we know to have been received.
    received: Instant,
    /// The latest payload that we know to have been sent.
    sent: Instant,
    /// Up to here, everything that we sent counts as answered.
    answered: Instant,
    /// Up to here, everything that we received counts as replied to.
    replied: Instant,
}

impl Timers {
    pub(crate) fn new() -> Self {
        let start = Instant::EPOCH;
        Self {
            running: Running::Neither,
            received: start,
            sent: start,
            answered: start,
            replied: start,
        }
    }

    #[cfg(test)]
    pub(crate) fn running(&self) -> Running {
        self.running
    }

    pub(crate) fn note_received(&mut self, at: Instant) {
        self.received = self.received.max(at);
    }

    pub(crate) fn note_sent(&mut self, at: Instant) {
        self.sent = self.sent.max(at);
    }

    /// Does what `rule` says about the timers for something that happened at `at`.
    pub(crate) fn apply(&mut self, rule: &Rule, at: Instant) {
        // Stops come first, since a start is without effect while the other timer runs.
        if rule.send_timer == TimerOp::Stop {
            self.stop_send(at);
        }
        if rule.keepalive_timer == TimerOp::Stop {
            self.stop_keepalive(at);
        }
        match rule.send_timer {
            TimerOp::Start => self.start_send(at),
            TimerOp::Restart => {
                self.answered = self.answered.max(at);
                self.running = Running::Send { since: at };
            }
            TimerOp::Leave | TimerOp::Stop => {}
        }
        match rule.keepalive_timer {
            TimerOp::Start | TimerOp::Restart => self.start_keepalive(at),
            TimerOp::Leave | TimerOp::Stop => {}
        }
    }

    /// The peer waits for a packet of ours from `at` on, although none of its own came: as if one had, unless we wait
    /// for an answer anyway.
    pub(crate) fn expect_reply(&mut self, at: Instant) {
        self.start_keepalive(at);
    }

    /// What we wait for an answer to has left only now.
    pub(crate) fn note_left(&mut self, now: Instant) {
        if let Running::Send { since } = &mut self.running {
            *since = now.max(*since);
        }
    }

    /// Takes the one thing that is due at `now`, if any.
    pub(crate) fn expire(&mut self, now: Instant, pace: Pace<'_>) -> Option<Due> {
        match self.running {
            Running::Send { since } if since + pace.send_timeout() <= now => {
                self.running = Running::Neither;
                Some(Due::SendTimeout)
            }
            Running::Keepalive { since, .. } if since + pace.keepalive_timeout() <= now => {
                self.running = Running::Neither;
                // The last keepalive answers for all that came before it.
                self.replied = self.replied.max(now);
                Some(Due::KeepaliveTimeout)
            }
            Running::Keepalive { since, last } if last + pace.keepalive_interval() <= now => {
                let interval = pace.keepalive_interval();
                let due = last + interval;
                // One that was missed altogether is not made up for.
                let last = if due + interval > now { due } else { now };
                self.running = Running::Keepalive { since, last };
                Some(Due::Keepalive)
            }
            _ => None,
        }
    }

    /// When [`Timers::expire`] has something to give.
    pub(crate) fn deadline(&self, pace: Pace<'_>) -> Option<Instant> {
        match self.running {
            Running::Neither => None,
            Running::Send { since } => Some(since + pace.send_timeout()),
            Running::Keepalive { since, last } => {
                Some((last + pace.keepalive_interval()).min(since + pace.keepalive_timeout()))
            }
        }
    }

    /// Stops whichever runs: entering Exploring, where no timer runs.
    pub(crate) fn clear(&mut self, now: Instant) {
        self.running = Running::Neither;
        self.answered = self.answered.max(now);
        self.replied = self.replied.max(now);
    }

    fn start_send(&mut self, at: Instant) {
        if self.running == Running::Neither && at >= self.answered {
            self.running = Running::Send { since: at };
        }
    }

    fn start_keepalive(&mut self, at: Instant) {
        if self.running == Running::Neither && at >= self.replied {
            self.running = Running::Keepalive { since: at, last: at };
        }
    }

    fn stop_send(&mut self, at: Instant) {
        self.answered = self.answered.max(at);
        if let Running::Send { since } = self.running
            && since <= at
        {
            // A packet already reported as sent after this answer still waits for one of its own.
            self.running = if self.sent > at {
                Running::Send { since: self.sent }
            } else {
                Running::Neither
            };
        }
    }

    fn stop_keepalive(&mut self, at: Instant) {
        self.replied = self.replied.max(at);
        if let Running::Keepalive { since, .. } = self.running
            && since <= at
        {
            self.running = if self.received > at {
                Running::Keepalive {
                    since: self.received,
                    last: self.received,
                }
            } else {
                Running::Neither
            };
        }
    }
}
