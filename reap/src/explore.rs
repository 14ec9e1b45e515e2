//! Which pair to probe next, and when (RFC 5534 4.3).
//!
//! Pairs are tried one after the other, in *passes*: in a pass every usable pair is tried once, in order of preference.
//! Two things change that order:
//!
//! - The pair that was in use when exploration began comes last in each pass. It has just been silent for a whole Send
//!   Timeout, is locally gone, or is what the peer complains about; probing it first would cost a full spacing in the
//!   one moment where it matters.
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

use crate::time::micros;
use crate::{Cause, Config, Instant, LocatorPair, ProbeState};

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
    /// The present exploration. Most contexts have none most of the time, and take no room for it.
    search: Option<Box<Search>>,
}

/// How far an exploration is.
#[derive(Clone, Debug, Default)]
struct Search {
    /// The pair that comes last in a pass.
    last_choice: Option<LocatorPair>,
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

    /// Starts a new exploration, which leaves `last_choice` for the end of each pass.
    pub(crate) fn begin(&mut self, cause: Cause, last_choice: Option<LocatorPair>) {
        self.cause = cause;
        self.search = Some(Box::new(Search {
            last_choice,
            ..Search::default()
        }));
    }

    /// Starts again with the shortest interval: there is news, so that a probe may now do better than before.
    pub(crate) fn restart_backoff(&mut self) {
        if let Some(search) = &mut self.search {
            search.count = 0;
        }
    }

    /// Exploration is over.
    pub(crate) fn end(&mut self) {
        self.search = None;
    }

    /// If exploring, starts again with the shortest interval, counted from the last probe, so that however often this
    /// is called, no probes come faster than at the initial spacing.
    pub(crate) fn hasten(&mut self, config: &Config) {
        if let Some(search) = &mut self.search
            && let Some(next) = &mut search.next
        {
            *next = (*next).min(search.probed + config.probe_interval(1));
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
        config: &Config,
        rng: &mut dyn Rng,
    ) -> Option<LocatorPair> {
        let search = self.search.get_or_insert_default();
        if turn == Turn::Timer || search.count == 0 {
            search.count = search.count.saturating_add(1);
        }
        search.probed = now;
        let interval = jittered(config.probe_interval(search.count), config.max_probe_timeout(), rng);
        search.next = Some(now + interval);
        let arrived_on = match turn {
            Turn::Timer => None,
            Turn::Reply(arrived_on) => arrived_on.filter(|&pair| self.is_usable(pair)),
        };
        self.pick(state, arrived_on)
    }

    fn pick(&mut self, state: ProbeState, preferred: Option<LocatorPair>) -> Option<LocatorPair> {
        let search = self.search.get_or_insert_default();
        let pass = match state {
            ProbeState::InboundOk => search.answering.get_or_insert_with(|| search.exploring.clone()),
            ProbeState::Exploring | ProbeState::Operational => &mut search.exploring,
        };
        if let Some(pair) = preferred.filter(|pair| !pass.preferred.contains(pair)) {
            pass.preferred.push(pair);
            pass.tried.push(pair);
            return Some(pair);
        }
        let is_last = |pair: &LocatorPair| Some(*pair) == search.last_choice;
        let usable = || self.pairs.iter().filter(|pair| !self.unusable.contains(&pair.local));
        let first_untried = |tried: &[LocatorPair]| {
            let open = || usable().filter(|pair| !tried.contains(pair));
            open().find(|pair| !is_last(pair)).or_else(|| open().next()).copied()
        };
        let pair = first_untried(&pass.tried).or_else(|| {
            *pass = Pass::default();
            first_untried(&[])
        })?;
        pass.tried.push(pair);
        Some(pair)
    }
}

/// `interval` within [`JITTER`], but not above `limit`.
fn jittered(interval: Duration, limit: Duration, rng: &mut dyn Rng) -> Duration {
    let factor = u128::from(1000 - JITTER + rng.next_u32() % (2 * JITTER + 1));
    let micros = u128::from(micros(interval)) * factor / 1000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(limit)
}
