//! What the endpoint knows, for people and programs that look at it: locator pairs and totals.

use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;
use shim6_reap::{Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use crate::context::{Association, Context, ContextState};
use crate::id::ContextId;

/// Contexts that a pair names of those which use it.
const USERS_NAMED: usize = 16;
/// How long a probe may be on its way before it counts as lost.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// What is known of a locator pair, by all contexts together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathInfo {
    /// The pair.
    pub pair: LocatorPair,
    /// Whether its local address can be used now.
    pub usable: bool,
    /// How many contexts send on it.
    pub users: usize,
    /// The first 16 of them, by name.
    pub named_users: Vec<ContextId>,
    /// How many of them doubt that it works: they look for another one.
    pub doubts: usize,
    /// The smoothed round-trip time, if it was measured.
    pub rtt: Option<Duration>,
    /// Probes that were sent on it and want an answer.
    pub probes_sent: u64,
    /// How many of them were answered.
    pub probes_answered: u64,
    /// Of the last 32 of them, without one that may still be on its way: how many were lost, and of how many.
    pub recent_losses: (u32, u32),
    /// When the peer last answered a probe on it.
    pub confirmed: Option<Instant>,
    /// When a context last left it because it had failed.
    pub failed: Option<Instant>,
    /// When the contexts that send on it last received a packet of their peer, whichever pair the peer used.
    pub heard: Option<Instant>,
}

/// All contexts in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// How many there are in each state, with 0 too.
    pub states: Vec<(ContextState, u64)>,
    /// How many look for another pair and do not hear their peer.
    pub exploring: u64,
    /// How many look for another pair and hear their peer.
    pub inbound_ok: u64,
    /// How many use another pair than their ULIDs.
    pub moved: u64,
    /// Packets and octets sent, those of former contexts included.
    pub sent: (u64, u64),
    /// Packets and octets received, those of former contexts included.
    pub received: (u64, u64),
}

/// What probes of late say of a pair.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    sent: u64,
    answered: u64,
    /// The last ones, the latest in the lowest bit: 1 was answered.
    recent: u32,
    last: Option<Instant>,
    /// Smoothed, in microseconds.
    rtt: Option<u32>,
}

/// Traffic of contexts that are gone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past {
    sent: (u64, u64),
    received: (u64, u64),
}

impl Endpoint {
    /// The name of the context with this number, if there is one.
    pub fn find(&self, number: u64) -> Option<ContextId> {
        self.contexts.get(ContextId(number)).map(|context| context.id)
    }

    /// All pairs that contexts may use, each once, in order.
    pub fn paths(&self) -> Vec<PathInfo> {
        let mut paths = HashMap::new();
        for context in self.contexts.iter() {
            self.survey(context, &mut paths);
        }
        let mut paths: Vec<PathInfo> = paths.into_values().collect();
        for path in &mut paths {
            path.named_users.sort_unstable();
        }
        paths.sort_unstable_by_key(|path| path.pair);
        paths
    }

    /// The pairs that a context may use, the most preferred first, as they are known by all contexts; `None` if there is no
    /// such context. Those that use them are counted in all of them.
    pub fn paths_of(&self, id: ContextId) -> Option<Vec<PathInfo>> {
        let context = self.contexts.get(id)?;
        let Some(association) = context.association.as_deref() else {
            return Some(Vec::new());
        };
        let mut paths = HashMap::new();
        for other in self.contexts.iter() {
            let shares = |other: &Association| association.reap.pairs().contains(&other.reap.current_pair());
            if other.id == id || other.association.as_deref().is_some_and(shares) {
                self.survey(other, &mut paths);
            }
        }
        let ordered = association.reap.pairs().iter();
        Some(ordered.filter_map(|pair| paths.remove(pair)).collect())
    }

    /// How many contexts there are, and what passed.
    pub fn census(&self) -> Census {
        use ContextState::{Established, I1Sent, I2Sent, I2bisSent};
        let mut census = Census {
            states: [I1Sent, I2Sent, I2bisSent, Established].map(|state| (state, 0)).into(),
            sent: self.past.sent,
            received: self.past.received,
            ..Census::default()
        };
        for context in self.contexts.iter() {
            let state = context.state();
            if let Some((_, count)) = census.states.iter_mut().find(|(known, _)| *known == state) {
                *count += 1;
            }
            let Some(association) = context.association.as_deref() else {
                continue;
            };
            match association.reap.state() {
                ReapState::Operational => {}
                ReapState::Exploring => census.exploring += 1,
                ReapState::InboundOk => census.inbound_ok += 1,
            }
            census.moved += u64::from(association.flow.locators != context.ulids);
            add(&mut census.sent, association.activity.sent());
            add(&mut census.received, association.activity.received());
        }
        census
    }

    /// The round-trip time of a context on a pair.
    pub(super) fn pair_rtt(&self, id: ContextId, pair: LocatorPair) -> Option<Duration> {
        let association = self.contexts.get(id)?.association.as_deref()?;
        association.reap.pair_rtt(pair).map(|rtt| rtt.smoothed())
    }

    /// Adds what there is to say of a context's pairs.
    fn survey(&self, context: &Context, paths: &mut HashMap<LocatorPair, PathInfo>) {
        let Some(association) = context.association.as_deref() else {
            return;
        };
        let current = association.reap.current_pair();
        // The current one may be none of those that are to be used, until another is found.
        let pairs = association.reap.pairs().iter().copied().chain([current]);
        for pair in pairs {
            let path = paths.entry(pair).or_insert_with(|| self.path(pair));
            path.rtt = path
                .rtt
                .or_else(|| association.reap.pair_rtt(pair).map(|rtt| rtt.smoothed()));
        }
        let Some(path) = paths.get_mut(&current) else { return };
        path.users += 1;
        path.doubts += usize::from(association.reap.state() != ReapState::Operational);
        path.heard = path.heard.max(association.activity.snapshot().last_received);
        if path.named_users.len() < USERS_NAMED {
            path.named_users.push(context.id);
        }
    }

    fn path(&self, pair: LocatorPair) -> PathInfo {
        let finding = self.experience.finding(pair);
        let tally = finding.tally;
        PathInfo {
            pair,
            usable: !self.unusable.contains(&pair.local),
            users: 0,
            named_users: Vec::new(),
            doubts: 0,
            rtt: tally.rtt.map(|micros| Duration::from_micros(micros.into())),
            probes_sent: tally.sent,
            probes_answered: tally.answered,
            recent_losses: tally.losses(self.clock),
            confirmed: finding.confirmed,
            failed: finding.failed,
            heard: None,
        }
    }
}

impl Tally {
    pub(super) fn note_asked(&mut self, now: Instant) {
        self.sent = self.sent.saturating_add(1);
        self.recent <<= 1;
        self.last = Some(now);
    }

    /// Which of several was answered makes no difference to how many were.
    pub(super) fn note_answered(&mut self, rtt: Option<Duration>) {
        let open = self.recent.trailing_ones();
        if self.answered < self.sent {
            self.answered += 1;
            if open < self.counted() {
                self.recent |= 1 << open;
            }
        }
        if let Some(rtt) = rtt {
            let sample = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
            // As RFC 6298 smooths it; the mean of two values that fit.
            let smoothed = |old: u32| ((7 * u64::from(old) + u64::from(sample)) / 8) as u32;
            self.rtt = Some(self.rtt.map_or(sample, smoothed));
        }
    }

    /// How many of the last probes were lost, and of how many.
    fn losses(&self, now: Instant) -> (u32, u32) {
        let counted = self.counted();
        let is_open = self.recent & 1 == 0 && self.last.is_some_and(|last| now - last < ON_ITS_WAY);
        let open = u32::from(is_open && counted > 0);
        (counted - self.recent.count_ones() - open, counted - open)
    }

    fn counted(&self) -> u32 {
        self.sent.min(32) as u32
    }
}

impl Past {
    /// A context is gone.
    pub(super) fn add(&mut self, association: &Association) {
        add(&mut self.sent, association.activity.sent());
        add(&mut self.received, association.activity.received());
    }
}

fn add(sum: &mut (u64, u64), more: (u64, u64)) {
    sum.0 = sum.0.saturating_add(more.0);
    sum.1 = sum.1.saturating_add(more.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + millis * 1_000)
    }

    #[test]
    fn a_probe_counts_as_lost_once_its_answer_is_overdue() {
        let mut tally = Tally::default();
        assert_eq!(tally.losses(at(0)), (0, 0));
        tally.note_asked(at(0));
        assert_eq!(tally.losses(at(900)), (0, 0), "it may be on its way");
        assert_eq!(tally.losses(at(1_000)), (1, 1));
        tally.note_answered(None);
        assert_eq!(tally.losses(at(1_000)), (0, 1), "it was only late");
    }

    #[test]
    fn losses_are_those_of_the_last_32_probes() {
        let mut tally = Tally::default();
        for number in 0..100 {
            tally.note_asked(at(number));
            if !(60..84).contains(&number) {
                tally.note_answered(None);
            }
        }
        assert_eq!(tally.losses(at(5_000)), (16, 32));
        assert_eq!((tally.sent, tally.answered), (100, 76));
    }

    #[test]
    fn there_are_never_more_answers_than_probes() {
        let mut tally = Tally::default();
        tally.note_asked(at(0));
        (0..3).for_each(|_| tally.note_answered(Some(Duration::from_millis(20))));
        assert_eq!((tally.sent, tally.answered, tally.rtt), (1, 1, Some(20_000)));
        assert_eq!(tally.losses(at(5_000)), (0, 1));
    }
}
