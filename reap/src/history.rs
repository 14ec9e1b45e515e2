//! The probes sent and received, for the records that probes carry and for judging what the peer reports.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::micros;
use crate::{Instant, LocatorPair, Probe, ProbeRecord, ProbeState, Rtt};

/// How many probes of ours can still be recognised in a report.
const REMEMBERED: usize = 32;

/// How many of them are tests: there may be tests for as long as a context lives.
const TESTS_REMEMBERED: usize = 8;

/// How many records of each kind a probe of ours carries.
///
/// Fifteen of each kind would fit: 40 octets of IPv6 header, 16 of message header and 30 times 40 are 1256 of the 1280
/// octets that every path carries. Eight make 696, which leaves room for options and bounds by how much an answer can
/// be longer than what asked for it; one report is enough to end an exploration.
const CARRIED: usize = 8;

/// What a probe of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To find a pair: the peer answers at once.
    Search,
    /// To say that all is well, which nobody answers (RFC 5534 6.9).
    Conclusion,
    /// To test a pair while all is well: the peer answers at once.
    Test,
}

impl Purpose {
    /// What a probe of the state machine with this state is for.
    pub(crate) fn of(state: ProbeState) -> Self {
        match state {
            ProbeState::Operational => Self::Conclusion,
            ProbeState::Exploring | ProbeState::InboundOk => Self::Search,
        }
    }
}

#[derive(Clone, Debug)]
struct Sent {
    record: ProbeRecord,
    at: Instant,
    purpose: Purpose,
    /// The peer said that it got it.
    reported: bool,
    /// A pair was taken since without an exploration, and for better reasons than this one gives for its own.
    is_past: bool,
    /// How long that took, where it says something about the path.
    rtt: Option<Rtt>,
}

impl Sent {
    /// Whether the peer's report of it says which pair to use.
    fn counts(&self) -> bool {
        self.purpose != Purpose::Test && !self.is_past
    }
}

/// What a message of the peer says about probes of ours. A record counts only if every field is as we sent it: a host
/// that never got the probe cannot know the nonce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    /// The pairs of the reported probes that were not tests, the latest sent first.
    pub(crate) pairs: Vec<LocatorPair>,
    /// The pairs of the probes that were reported for the first time, tests among them, the first sent first.
    pub(crate) confirmed: Vec<LocatorPair>,
    /// A round-trip time, and the pair that it was measured on.
    pub(crate) sample: Option<(LocatorPair, Duration)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The latest last.
    sent: VecDeque<Sent>,
    /// The latest last.
    received: VecDeque<ProbeRecord>,
    /// When the latest one came.
    received_at: Instant,
}

impl History {
    /// An exploration begins: what earlier probes showed no longer counts. Only tests that may still be answered are
    /// remembered, so that the answer is known for what it is. Gives whether there is anything left.
    pub(crate) fn begin_exploration(&mut self) -> bool {
        self.received.clear();
        self.sent.retain(|sent| sent.purpose == Purpose::Test && !sent.reported);
        !self.sent.is_empty()
    }

    /// A pair is taken without an exploration: that the peer got one of the probes sent so far is no reason to leave it.
    pub(crate) fn note_switch(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.is_past = true);
    }

    /// Exploring again: received records are those since the last transition to Exploring (RFC 5534 5.2).
    pub(crate) fn forget_received(&mut self) {
        self.received.clear();
    }

    pub(crate) fn note_sent(&mut self, record: ProbeRecord, purpose: Purpose, at: Instant) {
        let is_test = |sent: &Sent| sent.purpose == Purpose::Test;
        if purpose == Purpose::Test && self.sent.iter().filter(|sent| is_test(sent)).count() == TESTS_REMEMBERED {
            let oldest = self.sent.iter().position(is_test);
            oldest.and_then(|oldest| self.sent.remove(oldest));
        } else if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            record,
            at,
            purpose,
            reported: false,
            is_past: false,
            rtt: None,
        });
    }

    /// The latest probe, which is this one, has left only now: it says so of what it reports.
    pub(crate) fn note_left(&mut self, now: Instant, probe: &mut Probe) {
        let (Some(sent), Some(record)) = (self.sent.back_mut(), probe.sent.first_mut()) else {
            return;
        };
        if sent.record == *record && sent.purpose != Purpose::Test {
            // What it reports has waited, too.
            let waited = u32::try_from(micros(now.saturating_duration_since(sent.at))).unwrap_or(u32::MAX);
            record.data = record.data.saturating_add(waited).min(u32::MAX - 1);
            sent.record = *record;
        }
        sent.at = sent.at.max(now);
    }

    pub(crate) fn note_received(&mut self, record: ProbeRecord, at: Instant) {
        self.received_at = at;
        // A duplicate moves to the front of the list rather than pushing out another one.
        self.received.retain(|known| *known != record);
        if self.received.len() == CARRIED {
            self.received.pop_front();
        }
        self.received.push_back(record);
    }

    /// How long the latest probe that was received has been waiting to be reported.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        let since = self.received.back().map(|_| self.received_at);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Marks what the peer reports at `now`. `waited`: how long the first of the reports had waited at the peer, if it
    /// says so.
    ///
    /// Only one of them gives a round-trip time, and only if this is the first that we hear of it: that for which we
    /// know how long it waited, else the latest, if the peer had to answer it at once. Any other may have waited for the
    /// occasion, or have been reported in an answer that was lost.
    pub(crate) fn acknowledge(&mut self, reports: &[ProbeRecord], now: Instant, waited: Option<Duration>) -> Reported {
        let mut reported = Reported::default();
        let mut is_latest = true;
        for sent in self.sent.iter_mut().rev() {
            if !reports.contains(&sent.record) {
                continue;
            }
            let pair = sent.record.sender_pair();
            if sent.counts() {
                reported.pairs.push(pair);
            }
            if !sent.reported {
                reported.confirmed.push(pair);
                let waited = match waited {
                    Some(waited) => (reports.first() == Some(&sent.record)).then_some(waited),
                    None => (is_latest && sent.purpose != Purpose::Conclusion).then_some(Duration::ZERO),
                };
                let elapsed = now.saturating_duration_since(sent.at);
                if let Some(sample) = waited.and_then(|waited| elapsed.checked_sub(waited)) {
                    sent.rtt = Some(Rtt::first(sample));
                    reported.sample = Some((pair, sample));
                }
            }
            sent.reported = true;
            is_latest = false;
        }
        reported.confirmed.reverse();
        reported
    }

    /// Whether the peer has reported a probe on `pair` that counts for the choice of one.
    pub(crate) fn is_confirmed(&self, pair: LocatorPair) -> bool {
        let mut sent = self.sent.iter();
        sent.any(|sent| sent.reported && sent.counts() && sent.record.sender_pair() == pair)
    }

    /// The round-trip time, by the latest sample on `pair`.
    pub(crate) fn rtt(&self, pair: LocatorPair) -> Option<Rtt> {
        let latest = self.sent.iter().rev();
        let mut measured = latest.filter(|sent| sent.record.sender_pair() == pair);
        measured.find_map(|sent| sent.rtt)
    }

    /// When the latest test was sent.
    pub(crate) fn last_test(&self) -> Option<Instant> {
        let mut latest = self.sent.iter().rev();
        latest.find(|sent| sent.purpose == Purpose::Test).map(|sent| sent.at)
    }

    /// The very last probe sent and, the latest first, those that had searched for a pair and are not reported yet.
    pub(crate) fn sent_records(&self) -> Vec<ProbeRecord> {
        let mut latest = self.sent.iter().rev();
        let last = latest.next();
        let earlier = latest.filter(|sent| !sent.reported && sent.purpose == Purpose::Search);
        let listed = last.into_iter().chain(earlier).take(CARRIED);
        listed.map(|sent| sent.record).collect()
    }

    /// The latest probes received, the latest first.
    pub(crate) fn received_records(&self) -> Vec<ProbeRecord> {
        self.received.iter().rev().copied().collect()
    }
}
