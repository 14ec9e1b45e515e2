//! What a transport wishes for its sessions: a pair of locators to be preferred, or no context at all (after RFC 6316).

use shim6_reap::{Instant, LocatorPair};

use super::{Endpoint, PathError};
use crate::event::CloseReason;
use crate::id::ContextId;

/// Whether a ULID pair may have contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    /// As the configuration has it.
    #[default]
    ByPolicy,
    /// Never: this host sets up none, and the peer's attempts get no answer (SHIM_DONTSHIM of RFC 6316 section 6.2).
    Never,
}

impl Endpoint {
    /// Command: the pair of locators that a context uses whenever it works, instead of the pair of its ULIDs; `None` takes the wish
    /// back. What the peer sends on is for the peer to choose.
    ///
    /// Nothing is interrupted for it: the context goes there as it goes back to its ULIDs after a failure, once the pair has been
    /// stable for [`FailbackConfig::stable`](crate::FailbackConfig::stable), and not at all where there is no fail-back.
    /// [`move_to`](Self::move_to) changes the pair at once. The pair is also the first that is tried after a failure.
    ///
    /// # Errors
    ///
    /// The context is not established, or the pair is none of its.
    pub fn prefer(&mut self, now: Instant, id: ContextId, pair: Option<LocatorPair>) -> Result<(), PathError> {
        let now = self.advance(now);
        let context = self.contexts.get(id).ok_or(PathError::NoContext)?;
        let association = context.association.as_deref().ok_or(PathError::NotEstablished)?;
        if let Some(pair) = pair.filter(|pair| !association.reap.pairs().contains(pair)) {
            return Err(PathError::NotAPair(pair));
        }
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.wished = pair;
            }
        });
        self.refresh_pairs(now, id);
        Ok(())
    }

    /// Command: whether there may be contexts for a ULID pair. Those that there are when it is set to [`Protection::Never`] are
    /// closed. The caller sees to it that not too many pairs are named: they are kept until they are set back.
    pub fn set_protection(&mut self, ulids: LocatorPair, protection: Protection) {
        match protection {
            Protection::ByPolicy => {
                self.never.remove(&ulids);
            }
            Protection::Never => {
                self.never.insert(ulids);
                for id in self.contexts.ids() {
                    if self.contexts.get(id).is_some_and(|context| context.ulids == ulids) {
                        self.remove(id, CloseReason::Requested);
                    }
                }
            }
        }
    }

    /// What was last set for a ULID pair.
    pub fn protection(&self, ulids: LocatorPair) -> Protection {
        match self.never.contains(&ulids) {
            true => Protection::Never,
            false => Protection::ByPolicy,
        }
    }
}
