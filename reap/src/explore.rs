//! Which pair to probe next, and when (RFC 5534 4.3).
//!
//! Pairs are tried one after the other, in *passes*: in a pass every usable pair is tried once, in order of preference.
//! Three things change that order:
//!
//! - The pair that was in use when exploration began comes last in each pass if it has just been silent for a whole Send
//!   Timeout, is locally gone, or is what the peer complains about; probing it first would cost a full spacing in the
//!   one moment where it matters. It comes first if there is no more than a hint that it may have failed, or if there
//!   was no round-trip time yet for the Send Timeout to allow for: should it work after all, it is confirmed before
//!   another one is.
//! - Advice: pairs that are said to work come before the others, those that are said to fail after them.
//! - When a probe arrives, the answer goes back the way it came: that pair is known to work in one direction. A pair
//!   is put first so only once per pass, even if it had its turn already, so that a peer whose probes keep coming in
//!   over one pair does not keep us from trying the others.
//!
//! Exploring and InboundOk have a pass each, and going back to a state goes on with its pass. What ends an exploration
//! is an InboundOk probe that gets through, and where pairs are many, the time in InboundOk (a Send Timeout, unless the
//! peer is heard again) may be too short for all of them: two hosts that fall back to Exploring again and again still
//! get to the end of their lists. The first time in InboundOk takes over where Exploring is, since a peer that still
//! explores has not heard the probes before.
//!
//! The time between probes has a jitter of 15 % either way, so that contexts that failed together do not stay together.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use rand_core::Rng;

use crate::pace::Pace;
use crate::time::micros;
use crate::{Advice, Cause, Instant, LocatorPair, ProbeState};

/// The jitter's half width, in thousandths of the interval.
const JITTER: u32 = 150;

/// One way through the pairs.
#[derive(Clone, Debug, Default)]
struct Pass {
    /// Probed in this pass.
    tried: Vec<LocatorPair>,
    /// Put first in this pass because a probe had arrived on it.
    preferred: Vec<LocatorPair>,
}

/// Why a probe is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is time for the next one.
    Timer,
    /// Something was received; the pair is the one that a probe arrived on.
    Reply(Option<LocatorPair>),
}

#[derive(Clone, Debug)]
pub(crate) struct Explorer {
    pairs: Box<[LocatorPair]>,
    /// Local addresses that are not operational.
    unusable: Vec<Ipv6Addr>,
    /// Why the present (or else the last) exploration began.
    cause: Cause,
    /// What is known from elsewhere, and since when.
    advice: Option<Box<(Instant, Advice)>>,
    /// The present exploration. Most contexts have none most of the time, and take no room for it.
    search: Option<Box<Search>>,
}

/// Where the pair that was in use comes in each pass of an exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    First(LocatorPair),
    Last(LocatorPair),
}

/// How far an exploration is.
#[derive(Clone, Debug, Default)]
struct Search {
    /// The pair that was in use, unless there is news of it since.
    current: Option<Place>,
    exploring: Pass,
    /// The pass of InboundOk; none before its first probe.
    answering: Option<Pass>,
    /// Probes in the present sequence of growing intervals.
    count: u32,
    /// When the last probe was sent, or would have been had there been a usable pair.
    probed: Instant,
    /// When the next is due; `None` before the first.
    next: Option<Instant>,
}

impl Explorer {
    pub(crate) fn new(pairs: Vec<LocatorPair>) -> Self {
        let mut explorer = Self {
            pairs: Box::default(),
            unusable: Vec::new(),
            cause: Cause::Requested,
            advice: None,
            search: None,
        };
        explorer.set_pairs(pairs);
        explorer
    }

    pub(crate) fn pairs(&self) -> &[LocatorPair] {
        &self.pairs
    }

    /// Whether `pair` is one of the pairs and its local address operational.
    pub(crate) fn is_usable(&self, pair: LocatorPair) -> bool {
        self.pairs.contains(&pair) && !self.unusable.contains(&pair.local)
    }

    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.search.as_ref()?.next
    }

    /// Replaces the pairs; those that stay keep their place in the pass. Gives whether there is a new one.
    pub(crate) fn set_pairs(&mut self, pairs: Vec<LocatorPair>) -> bool {
        let mut distinct = Vec::with_capacity(pairs.len());
        for pair in pairs {
            if !distinct.contains(&pair) {
                distinct.push(pair);
            }
        }
        let before = core::mem::replace(&mut self.pairs, distinct.into_boxed_slice());
        let pairs = &self.pairs;
        if let Some(search) = &mut self.search {
            for pass in search.answering.iter_mut().chain([&mut search.exploring]) {
                pass.tried.retain(|pair| pairs.contains(pair));
                pass.preferred.retain(|pair| pairs.contains(pair));
            }
        }
        pairs.iter().any(|pair| !before.contains(pair))
    }

    /// Marks a local address; gives whether that made it usable.
    pub(crate) fn set_usable(&mut self, local: Ipv6Addr, usable: bool) -> bool {
        let known = self.unusable.iter().position(|&address| address == local);
        match (known, usable) {
            (Some(index), true) => {
                self.unusable.swap_remove(index);
                true
            }
            (None, false) => {
                self.unusable.push(local);
                false
            }
            (Some(_), false) | (None, true) => false,
        }
    }

    /// Starts a new exploration. Advice from before counts unless it is older than the longest time between probes.
    pub(crate) fn begin(&mut self, cause: Cause, current: Place, now: Instant, pace: Pace<'_>) {
        self.cause = cause;
        let is_old = |since: Instant| now.saturating_duration_since(since) > pace.max_probe_timeout();
        if self.advice.as_ref().is_some_and(|advice| is_old(advice.0)) {
            self.advice = None;
        }
        self.search = Some(Box::new(Search {
            current: Some(current),
            ..Search::default()
        }));
    }

    /// Takes what is known from elsewhere, in place of earlier advice. While exploring, it is newer than what the
    /// exploration began with; a pair said to work that the pass of `state` has not tried makes the next probe due.
    pub(crate) fn advise(&mut self, advice: Advice, state: ProbeState, now: Instant) {
        if let Some(search) = &mut self.search {
            search.current = search.current.filter(|current| match current {
                Place::First(pair) => !advice.fails.contains(pair),
                Place::Last(pair) => !advice.works.contains(pair),
            });
        }
        let tried = match (&self.search, state) {
            (Some(search), ProbeState::InboundOk) => &search.answering.as_ref().unwrap_or(&search.exploring).tried,
            (Some(search), _) => &search.exploring.tried,
            (None, _) => &Vec::new(),
        };
        let has_news = (advice.works.iter()).any(|pair| self.is_usable(*pair) && !tried.contains(pair));
        if has_news
            && let Some(search) = &mut self.search
            && let Some(next) = &mut search.next
        {
            *next = (*next).min(now);
        }
        let is_empty = advice.works.is_empty() && advice.fails.is_empty();
        self.advice = (!is_empty).then(|| Box::new((now, advice)));
    }

    /// Starts again with the shortest interval: there is news, so that a probe may now do better than before.
    pub(crate) fn restart_backoff(&mut self) {
        if let Some(search) = &mut self.search {
            search.count = 0;
        }
    }

    /// The latest probe has left only now: the interval after it begins.
    pub(crate) fn note_left(&mut self, now: Instant) {
        if let Some(search) = &mut self.search
            && let Some(next) = &mut search.next
        {
            *next = now + next.saturating_duration_since(search.probed);
            search.probed = now;
        }
    }

    /// Exploration is over.
    pub(crate) fn end(&mut self) {
        self.search = None;
        self.advice = None;
    }

    /// If exploring, starts again with the shortest interval, counted from the last probe, so that however often this
    /// is called, no probes come faster than at the initial spacing.
    pub(crate) fn hasten(&mut self, pace: Pace<'_>) {
        if let Some(search) = &mut self.search
            && let Some(next) = &mut search.next
        {
            *next = (*next).min(search.probed + pace.probe_interval(1));
            search.count = 0;
        }
    }

    /// The pair for the next probe, which says `state`, or `None` if none is usable, and when the one after it is due.
    ///
    /// A reply starts the present interval again but does not lengthen it: it is as much a probe as any other, but how
    /// many of them there are is for the peer's backoff to limit.
    pub(crate) fn probe(
        &mut self,
        state: ProbeState,
        turn: Turn,
        now: Instant,
        pace: Pace<'_>,
        rng: &mut dyn Rng,
    ) -> Option<LocatorPair> {
        let search = self.search.get_or_insert_default();
        if turn == Turn::Timer || search.count == 0 {
            search.count = search.count.saturating_add(1);
        }
        search.probed = now;
        let interval = jittered(pace.probe_interval(search.count), pace.max_probe_timeout(), rng);
        search.next = Some(now + interval);
        let arrived_on = match turn {
            Turn::Timer => None,
            Turn::Reply(arrived_on) => arrived_on.filter(|&pair| self.is_usable(pair)),
        };
        self.pick(state, arrived_on)
    }

    fn pick(&mut self, state: ProbeState, preferred: Option<LocatorPair>) -> Option<LocatorPair> {
        let search = self.search.get_or_insert_default();
        let current = search.current;
        let pass = match state {
            ProbeState::InboundOk => search
                .answering
                .get_or_insert_with(|| search.exploring.taken_over(current)),
            ProbeState::Exploring | ProbeState::Operational => &mut search.exploring,
        };
        if let Some(pair) = preferred.filter(|pair| !pass.preferred.contains(pair)) {
            pass.preferred.push(pair);
            pass.tried.push(pair);
            return Some(pair);
        }
        let advice = self.advice.as_deref().map(|(_, advice)| advice);
        let usable = || self.pairs.iter().filter(|pair| !self.unusable.contains(&pair.local));
        let first_untried = |tried: &[LocatorPair]| {
            let open = usable().filter(|pair| !tried.contains(pair));
            open.min_by_key(|pair| rank(**pair, current, advice)).copied()
        };
        let pair = first_untried(&pass.tried).or_else(|| {
            *pass = Pass::default();
            first_untried(&[])
        })?;
        pass.tried.push(pair);
        Some(pair)
    }
}

impl Pass {
    /// The pass of InboundOk that follows this one of Exploring: it goes on with it. Only the pair that may be well
    /// after all, if no other one was tried yet, keeps its place: the peer has to hear it from there first.
    fn taken_over(&self, current: Option<Place>) -> Self {
        match (current, self.tried.as_slice()) {
            (Some(Place::First(pair)), [only]) if *only == pair => Self::default(),
            _ => self.clone(),
        }
    }
}

/// The lower, the earlier in a pass; among equals the order of preference decides.
fn rank(pair: LocatorPair, current: Option<Place>, advice: Option<&Advice>) -> u8 {
    if current == Some(Place::Last(pair)) {
        return 4;
    }
    match advice {
        Some(advice) if advice.fails.contains(&pair) => 3,
        _ if current == Some(Place::First(pair)) => 0,
        Some(advice) if advice.works.contains(&pair) => 1,
        _ => 2,
    }
}

/// `interval` within [`JITTER`], but not above `limit`.
fn jittered(interval: Duration, limit: Duration, rng: &mut dyn Rng) -> Duration {
    let factor = u128::from(1000 - JITTER + rng.next_u32() % (2 * JITTER + 1));
    let micros = u128::from(micros(interval)) * factor / 1000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(limit)
}
