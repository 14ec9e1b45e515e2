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
//! A pass goes on when the state changes between Exploring and InboundOk; else two hosts that fall back to Exploring
//! again and again might never get to the end of their lists.
//!
//! The time between probes has a jitter of 15 % either way, so that contexts that failed together do not stay together.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use rand_core::Rng;

use crate::time::micros;
use crate::{Cause, Config, Instant, LocatorPair};

/// The jitter's half width, in thousandths of the interval.
const JITTER: u32 = 150;

#[derive(Clone, Debug)]
struct Candidate {
    pair: LocatorPair,
    /// Probed in this pass.
    tried: bool,
    /// Put first in this pass because a probe had arrived on it.
    preferred: bool,
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
    candidates: Vec<Candidate>,
    /// Local addresses that are not operational.
    unusable: Vec<Ipv6Addr>,
    /// The pair that comes last in a pass.
    last_choice: Option<LocatorPair>,
    /// Why the present (or else the last) exploration began.
    cause: Cause,
    /// Probes in the present sequence of growing intervals.
    count: u32,
    /// When the last probe was sent, or would have been had there been a usable pair.
    probed: Instant,
    /// When the next is due; `None` while not exploring.
    next: Option<Instant>,
}

impl Explorer {
    pub(crate) fn new(pairs: Vec<LocatorPair>) -> Self {
        let mut explorer = Self {
            candidates: Vec::new(),
            unusable: Vec::new(),
            last_choice: None,
            cause: Cause::Requested,
            count: 0,
            probed: Instant::EPOCH,
            next: None,
        };
        explorer.set_pairs(pairs);
        explorer
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = LocatorPair> {
        self.candidates.iter().map(|candidate| candidate.pair)
    }

    /// Whether `pair` is one of the pairs and its local address operational.
    pub(crate) fn is_usable(&self, pair: LocatorPair) -> bool {
        self.pairs().any(|known| known == pair) && !self.unusable.contains(&pair.local)
    }

    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Replaces the pairs; those that stay keep their place in the pass. Gives whether there is a new one.
    pub(crate) fn set_pairs(&mut self, pairs: Vec<LocatorPair>) -> bool {
        let before = core::mem::take(&mut self.candidates);
        let mut is_new = false;
        for pair in pairs {
            if self.pairs().any(|known| known == pair) {
                continue;
            }
            let known = before.iter().find(|candidate| candidate.pair == pair).cloned();
            is_new |= known.is_none();
            self.candidates.push(known.unwrap_or(Candidate {
                pair,
                tried: false,
                preferred: false,
            }));
        }
        is_new
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
        self.last_choice = last_choice;
        self.new_pass();
        self.restart_backoff();
    }

    /// Starts again with the shortest interval: there is news, so that a probe may now do better than before.
    pub(crate) fn restart_backoff(&mut self) {
        self.count = 0;
    }

    /// Exploration is over.
    pub(crate) fn end(&mut self) {
        self.next = None;
    }

    /// If exploring, starts again with the shortest interval, counted from the last probe, so that however often this
    /// is called, no probes come faster than at the initial spacing.
    pub(crate) fn hasten(&mut self, config: &Config) {
        if let Some(next) = &mut self.next {
            *next = (*next).min(self.probed + config.probe_interval(1));
            self.restart_backoff();
        }
    }

    /// The pair for the next probe, or `None` if none is usable, and when the one after it is due.
    ///
    /// A reply starts the present interval again but does not lengthen it: it is as much a probe as any other, but how
    /// many of them there are is for the peer's backoff to limit.
    pub(crate) fn probe(
        &mut self,
        turn: Turn,
        now: Instant,
        config: &Config,
        rng: &mut dyn Rng,
    ) -> Option<LocatorPair> {
        if turn == Turn::Timer || self.count == 0 {
            self.count = self.count.saturating_add(1);
        }
        self.probed = now;
        self.next = Some(now + jittered(config.probe_interval(self.count), config.max_probe_timeout(), rng));
        self.pick(match turn {
            Turn::Timer => None,
            Turn::Reply(arrived_on) => arrived_on,
        })
    }

    fn pick(&mut self, arrived_on: Option<LocatorPair>) -> Option<LocatorPair> {
        if let Some(pair) = arrived_on
            && self.is_usable(pair)
            && let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.pair == pair)
            && !candidate.preferred
        {
            candidate.preferred = true;
            candidate.tried = true;
            return Some(pair);
        }
        let index = self.first_untried().or_else(|| {
            self.new_pass();
            self.first_untried()
        })?;
        let candidate = self.candidates.get_mut(index)?;
        candidate.tried = true;
        Some(candidate.pair)
    }

    fn first_untried(&self) -> Option<usize> {
        let open = |candidate: &Candidate| !candidate.tried && !self.unusable.contains(&candidate.pair.local);
        let is_last = |candidate: &Candidate| Some(candidate.pair) == self.last_choice;
        self.candidates
            .iter()
            .position(|candidate| open(candidate) && !is_last(candidate))
            .or_else(|| self.candidates.iter().position(open))
    }

    fn new_pass(&mut self) {
        for candidate in &mut self.candidates {
            candidate.tried = false;
            candidate.preferred = false;
        }
    }
}

/// `interval` within [`JITTER`], but not above `limit`.
fn jittered(interval: Duration, limit: Duration, rng: &mut dyn Rng) -> Duration {
    let factor = u128::from(1000 - JITTER + rng.next_u32() % (2 * JITTER + 1));
    let micros = u128::from(micros(interval)) * factor / 1000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(limit)
}
