//! What happened, counted.

use alloc::collections::BTreeMap;

use crate::wire::{Discard, MessageType};

/// Counters of an [`Endpoint`](crate::Endpoint) since it was made.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    received: BTreeMap<MessageType, u64>,
    sent: BTreeMap<MessageType, u64>,
    discards: BTreeMap<Discard, u64>,
}

impl Counters {
    /// Well-formed control messages received, by type.
    pub fn received(&self) -> impl Iterator<Item = (MessageType, u64)> + '_ {
        self.received.iter().map(|(&kind, &count)| (kind, count))
    }

    /// Control messages handed out for sending, by type.
    pub fn sent(&self) -> impl Iterator<Item = (MessageType, u64)> + '_ {
        self.sent.iter().map(|(&kind, &count)| (kind, count))
    }

    /// Discarded messages, by reason. Reasons that never occurred are there with 0.
    pub fn discards(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().map(|&reason| (reason, self.discarded(reason)))
    }

    /// Messages discarded for one reason.
    pub fn discarded(&self, reason: Discard) -> u64 {
        self.discards.get(&reason).copied().unwrap_or(0)
    }

    pub(crate) fn count_received(&mut self, kind: MessageType) {
        *self.received.entry(kind).or_default() += 1;
    }

    pub(crate) fn count_sent(&mut self, kind: MessageType) {
        *self.sent.entry(kind).or_default() += 1;
    }

    pub(crate) fn count_discard(&mut self, reason: Discard) {
        *self.discards.entry(reason).or_default() += 1;
    }
}
