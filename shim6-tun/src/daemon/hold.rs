//! Packets that are held while their context looks for a path, between the packet task, which holds them, and the engine,
//! which sends them again.
//!
//! While no context does, a batch of packets costs one look at a flag. Otherwise whoever sends holds the lock, so that what is
//! sent again and what is newer keep their order: the engine publishes the found path and sends on it under one lock.
//!
//! Small TCP packets with data are remembered before anything fails, where they pass: by the observers on the uplinks, and
//! by the packet task those that go through the TUN device.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shim6_core::Instant;
use shim6_core::dataplane::{HoldBuffer, HoldCounters};

use crate::config::HoldConfig;

/// What is held.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Whether the last small packet of each flow is remembered.
    remembers: bool,
    /// Whether any context looks for a path. Set before the flow that says so is published.
    active: AtomicBool,
    buffer: Mutex<HoldBuffer>,
}

impl Hold {
    pub(crate) fn new(config: &HoldConfig) -> Self {
        Self {
            remembers: config.enabled && config.last_packet,
            active: AtomicBool::new(false),
            buffer: Mutex::new(HoldBuffer::new(config.core())),
        }
    }

    /// Whether the last small packets are to be remembered.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers
    }

    /// For the packet task: the buffer, if packets may have to be held. The table of flows has to be looked at afterwards, and
    /// packets sent before the lock is given back.
    pub(crate) fn enter(&self) -> Option<MutexGuard<'_, HoldBuffer>> {
        self.active.load(SeqCst).then(|| self.lock())
    }

    /// For the engine: whether any context looks for a path from now on.
    pub(crate) fn set_active(&self, active: bool) {
        self.active.store(active, SeqCst);
    }

    /// The buffer.
    pub(crate) fn lock(&self) -> MutexGuard<'_, HoldBuffer> {
        // It is whole after each of its methods.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.enter()?.poll_timeout()
    }

    /// Drops what is too old.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        if let Some(mut buffer) = self.enter()
            && buffer.poll_timeout().is_some_and(|at| at <= now)
        {
            buffer.handle_timeout(now);
        }
    }

    /// Drops all that is held. Returns how many packets that were.
    pub(crate) fn end(&self) -> u64 {
        self.set_active(false);
        let mut buffer = self.lock();
        let before = buffer.counters().discarded;
        buffer.discard_all();
        buffer.counters().discarded - before
    }

    /// What became of the packets, by the names of `shim6 status`.
    pub(crate) fn report(&self) -> BTreeMap<String, u64> {
        let HoldCounters {
            refused,
            held,
            released,
            pushed_out,
            expired,
            sent_before,
            discarded,
            repeated,
            ..
        } = self.lock().counters();
        let counters = [
            ("hold_refused", refused),
            ("hold_held", held),
            ("hold_replayed", released),
            ("hold_pushed_out", pushed_out),
            ("hold_expired", expired),
            ("hold_sent_before", sent_before),
            ("hold_discarded", discarded),
            ("hold_repeated", repeated),
        ];
        counters.map(|(name, count)| (name.to_owned(), count)).into()
    }
}
