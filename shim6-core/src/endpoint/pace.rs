//! How fast probes leave, those of all contexts together (RFC 5534 section 4.3: no "signaling storm").
//!
//! When an uplink with ten thousand contexts dies, all of them want to probe at once. What exceeds the rate waits here, one
//! probe for each context; those that have traffic go first. A context whose probe waits is not asked for another.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use shim6_reap::{Instant, LocatorPair, Probe as ProbeReport, ProbeState};

use super::Endpoint;
use crate::id::ContextId;
use crate::wire::{Message, Probe};

/// A bucket holds what its rate allows in this part of a second.
const BURST: u32 = 50;

/// A rate that is kept to evenly, but for small bursts (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug, Clone)]
pub(super) struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the last event would have been, had all of them been evenly spaced.
    paid: Instant,
}

impl Pace {
    /// `rate` events in a second; 0 counts as 1.
    pub(super) fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        // Rounded up: never faster than asked for.
        let interval = Duration::from_micros(1_000_000_u64.div_ceil(rate.into()));
        Self {
            interval,
            burst: interval * (rate / BURST).max(1),
            paid: Instant::EPOCH,
        }
    }

    /// When the next event may be.
    pub(super) fn next(&self) -> Instant {
        self.paid + self.interval - self.burst
    }

    /// Takes one event, or says that it would be too early.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let is_allowed = self.next() <= now;
        if is_allowed {
            self.paid = self.paid.max(now) + self.interval;
        }
        is_allowed
    }
}

/// Which contexts have a probe that waits to be sent.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pace: Pace,
    busy: VecDeque<ContextId>,
    idle: VecDeque<ContextId>,
}

/// A probe that waits, and the addresses to send it with.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pair: LocatorPair,
    report: ProbeReport,
}

impl Queue {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            pace: Pace::new(rate),
            busy: VecDeque::new(),
            idle: VecDeque::new(),
        }
    }

    /// When the next probe that waits may go.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.is_empty()).then(|| self.pace.next())
    }

    fn is_empty(&self) -> bool {
        self.busy.is_empty() && self.idle.is_empty()
    }

    fn pop(&mut self) -> Option<ContextId> {
        self.busy.pop_front().or_else(|| self.idle.pop_front())
    }
}

impl Endpoint {
    /// Sends a probe of a context, now or when it is its turn. One that waits already is replaced: the newer knows more.
    pub(super) fn send_probe(&mut self, now: Instant, id: ContextId, pair: LocatorPair, report: ProbeReport) {
        let Some(association) = self.contexts.get(id).and_then(|context| context.association.as_deref()) else {
            return;
        };
        let waits = association.waiting.is_some();
        if !waits && self.probes.is_empty() && self.probes.pace.allow(now) {
            let receiver_context_tag = association.peer_tag;
            self.note_asked(now, pair, &report);
            return self.send(
                pair,
                Message::Probe(Probe {
                    receiver_context_tag,
                    report,
                }),
            );
        }
        if !waits {
            match association.is_busy(now) {
                true => self.probes.busy.push_back(id),
                false => self.probes.idle.push_back(id),
            }
        }
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.waiting = Some(Box::new(Waiting { pair, report }));
            }
        });
    }

    /// Counts a probe that leaves, unless it is one that nobody answers (RFC 5534 section 6.9).
    fn note_asked(&mut self, now: Instant, pair: LocatorPair, report: &ProbeReport) {
        if report.state != ProbeState::Operational {
            self.experience.note_asked(now, pair);
        }
    }

    /// Sends the probes whose turn it is.
    pub(super) fn release_probes(&mut self, now: Instant) {
        while !self.probes.is_empty() && self.probes.pace.next() <= now {
            let Some(id) = self.probes.pop() else { return };
            let released = self.contexts.modify(id, |context| {
                let association = context.association.as_deref_mut()?;
                let mut waiting = association.waiting.take()?;
                association.reap.note_probe_left(now, &mut waiting.report);
                Some((association.peer_tag, waiting))
            });
            // The context may be gone, or made anew.
            if let Some((receiver_context_tag, waiting)) = released.flatten() {
                let Waiting { pair, report } = *waiting;
                self.probes.pace.allow(now);
                self.note_asked(now, pair, &report);
                self.send(
                    pair,
                    Message::Probe(Probe {
                        receiver_context_tag,
                        report,
                    }),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn a_burst_is_a_fiftieth_of_the_rate_and_the_rest_is_evenly_spaced() {
        let mut pace = Pace::new(1_000);
        let start = 1_000_000;
        assert_eq!((0..100).filter(|_| pace.allow(at(start))).count(), 20);
        assert_eq!(pace.next(), at(start + 1_000));
        assert!(!pace.allow(at(start + 999)));
        assert!(pace.allow(at(start + 1_000)));
        assert!(!pace.allow(at(start + 1_000)));
        // After a pause there is no more than a burst again.
        assert_eq!((0..100).filter(|_| pace.allow(at(start * 9))).count(), 20);
    }

    #[test]
    fn no_window_has_more_than_the_rate_and_a_burst() {
        for rate in [1, 7, 100, 5_000] {
            let mut pace = Pace::new(rate);
            let events: Vec<u64> = (0..3_000_000).step_by(50).filter(|&now| pace.allow(at(now))).collect();
            for (index, &first) in events.iter().enumerate() {
                let within = events[index..].iter().take_while(|&&event| event < first + 1_000_000);
                let most = rate as usize + (rate / BURST).max(1) as usize;
                assert!(within.count() <= most, "{rate}");
            }
        }
    }
}
