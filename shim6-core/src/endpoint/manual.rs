//! What a person asks for by hand: to probe a pair, to move to one, and to have the choice made here again.

use core::net::Ipv6Addr;

use shim6_reap::{Cause, Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use crate::context::Association;
use crate::event::Event;
use crate::id::ContextId;

/// Probes asked for that may be under way at once.
const MOST_ASKED: usize = 64;

/// A probe that somebody asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    id: ContextId,
    pair: LocatorPair,
    /// An answer after that is no answer any more.
    until: Instant,
    /// Whether the pair is to be used once it is known to work.
    moves: bool,
}

/// What [`Endpoint::move_to`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The context sends on the pair: it did before, or the pair was found to work a moment ago.
    Now,
    /// The pair is being probed. [`Event::ProbeAnswered`] comes if it works, and the move with it.
    OnAnswer,
}

/// Why a pair was not probed or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// There is no such context.
    #[error("there is no such context")]
    NoContext,
    /// The peer has not proved its locators yet.
    #[error("the context is not established yet")]
    NotEstablished,
    /// The pair is none of an address of this host that the peer knows and a verified one of the peer's.
    #[error("{0} is no pair of locators of this context that both hosts have verified")]
    NotAPair(LocatorPair),
    /// The local address cannot be used now.
    #[error("this host's address {0} cannot be used now: its link, address or route is gone")]
    Unusable(Ipv6Addr),
    /// The context looks for a working pair by itself.
    #[error("the context is looking for a working pair by itself")]
    Searching,
    /// A test was made a moment ago. Tests without a pause would hide that the pair in use has failed.
    #[error("this context sent a test a moment ago")]
    TooSoon {
        /// When the next one can be sent.
        at: Instant,
    },
    /// Too many such probes are under way.
    #[error("{MOST_ASKED} probes that were asked for are under way")]
    Busy,
}

impl Endpoint {
    /// Command: sends a probe of a pair now, without any change to what the context does. If the peer answers until `until`,
    /// [`Event::ProbeAnswered`] says so.
    ///
    /// # Errors
    ///
    /// The pair cannot be probed, or not now.
    pub fn probe(&mut self, now: Instant, id: ContextId, pair: LocatorPair, until: Instant) -> Result<(), PathError> {
        let now = self.advance(now);
        self.check_pair(id, pair)?;
        self.ask(now, id, pair, (until, false))
    }

    /// Command: has a context send on another pair, and stay there until that fails or [`release`](Self::release) is called,
    /// whatever is preferred. What the peer sends on is for the peer to choose.
    ///
    /// A pair that was not found to work within the last seconds is probed first; the context moves if the peer answers until
    /// `until`, else nothing changes.
    ///
    /// # Errors
    ///
    /// The context cannot send on the pair, or not now.
    pub fn move_to(
        &mut self,
        now: Instant,
        id: ContextId,
        pair: LocatorPair,
        until: Instant,
    ) -> Result<Moved, PathError> {
        let now = self.advance(now);
        if self.check_pair(id, pair)?.reap.current_pair() == pair {
            self.pin(id, true);
            self.plan_failback(now, id);
            return Ok(Moved::Now);
        }
        if self.experience.works(now, pair) {
            self.take_by_hand(now, id, pair);
            return Ok(Moved::Now);
        }
        self.ask(now, id, pair, (until, true))?;
        Ok(Moved::OnAnswer)
    }

    /// Command: a context may go back by itself to a pair that it prefers, after [`move_to`](Self::move_to).
    ///
    /// # Errors
    ///
    /// There is no such context.
    pub fn release(&mut self, now: Instant, id: ContextId) -> Result<(), PathError> {
        let now = self.advance(now);
        self.contexts.get(id).ok_or(PathError::NoContext)?;
        self.pin(id, false);
        self.plan_failback(now, id);
        Ok(())
    }

    /// The peer got a probe on `pair`: perhaps somebody waits for that.
    pub(super) fn answer_asked(&mut self, now: Instant, id: ContextId, pair: LocatorPair) {
        let is_meant = |asked: &Asked| asked.id == id && asked.pair == pair;
        let mut answered = self.asked.extract_if(.., |asked| is_meant(asked)).peekable();
        if answered.peek().is_none() {
            return;
        }
        let (mut is_heard, mut moves) = (false, false);
        for asked in answered.filter(|asked| now <= asked.until) {
            is_heard = true;
            moves |= asked.moves;
        }
        if is_heard {
            let rtt = self.pair_rtt(id, pair);
            self.events.push_back(Event::ProbeAnswered { context: id, pair, rtt });
        }
        if moves {
            self.take_by_hand(now, id, pair);
        }
    }

    /// Whether the context can send on the pair at all.
    fn check_pair(&self, id: ContextId, pair: LocatorPair) -> Result<&Association, PathError> {
        let context = self.contexts.get(id).ok_or(PathError::NoContext)?;
        let association = context.association.as_deref().ok_or(PathError::NotEstablished)?;
        let reap = &association.reap;
        if !reap.pairs().contains(&pair) {
            return Err(PathError::NotAPair(pair));
        }
        if !reap.is_usable(pair) {
            return Err(PathError::Unusable(pair.local));
        }
        if reap.state() != ReapState::Operational {
            return Err(PathError::Searching);
        }
        Ok(association)
    }

    fn ask(
        &mut self,
        now: Instant,
        id: ContextId,
        pair: LocatorPair,
        (until, moves): (Instant, bool),
    ) -> Result<(), PathError> {
        self.asked.retain(|asked| now <= asked.until);
        if self.asked.len() >= MOST_ASKED {
            return Err(PathError::Busy);
        }
        let mut next = None;
        let mut is_sent = false;
        self.with_reap(now, id, |reap, rng| {
            next = reap.next_test();
            is_sent = reap.probe_quietly(now, pair, rng);
        });
        if !is_sent {
            // What passed may just have told REAP that nothing works.
            return Err(next
                .filter(|&at| now < at)
                .map_or(PathError::Searching, |at| PathError::TooSoon { at }));
        }
        self.experience.note_probed(now, pair);
        self.asked.push(Asked { id, pair, until, moves });
        Ok(())
    }

    /// Nothing where the context has begun to look for a pair by itself.
    fn take_by_hand(&mut self, now: Instant, id: ContextId, pair: LocatorPair) {
        let mut is_taken = false;
        self.pin(id, true);
        self.with_reap(now, id, |reap, _| {
            is_taken = reap.switch_to(now, pair, Cause::Requested)
        });
        if !is_taken {
            self.pin(id, false);
        }
    }

    fn pin(&mut self, id: ContextId, pinned: bool) {
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.pinned = pinned;
            }
        });
    }
}
