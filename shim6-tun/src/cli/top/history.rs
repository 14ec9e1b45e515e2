//! What a context did lately: rates and round-trip times, sample by sample.

use std::collections::VecDeque;

use crate::status::ContextStatus;

/// Samples that are kept: as many as a wide terminal has columns.
const KEPT: usize = 240;

/// Traffic per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub(super) struct Rate {
    /// Packets per second.
    pub(super) packets: f64,
    /// Octets per second.
    pub(super) octets: f64,
}

/// A context's last samples.
#[derive(Debug, Default)]
pub(super) struct History {
    /// When the last sample was taken, by the daemon's clock, and what had passed until then.
    last: Option<(u64, ContextStatus)>,
    out: Rate,
    r#in: Rate,
    rtts: VecDeque<Option<u64>>,
}

impl History {
    /// Takes in how the context is at a time of the daemon's clock.
    pub(super) fn add(&mut self, at_ms: u64, context: &ContextStatus) {
        if let Some((before, earlier)) = &self.last {
            let passed = at_ms.saturating_sub(*before);
            // Two looks at the same moment say nothing of a rate.
            if passed > 0 {
                (self.out, self.r#in) = rates(passed, earlier, context);
            }
        }
        self.last = Some((at_ms, context.clone()));
        self.rtts.push_back(context.rtt_us);
        while self.rtts.len() > KEPT {
            self.rtts.pop_front();
        }
    }

    /// What we sent lately.
    pub(super) fn out(&self) -> Rate {
        self.out
    }

    /// What we received lately.
    pub(super) fn r#in(&self) -> Rate {
        self.r#in
    }

    /// The last round-trip times in microseconds, the latest last; nothing where none was known.
    pub(super) fn rtts(&self) -> impl DoubleEndedIterator<Item = Option<u64>> + ExactSizeIterator {
        self.rtts.iter().copied()
    }
}

/// What was sent and received per second between two looks at a context.
pub(super) fn rates(passed_ms: u64, earlier: &ContextStatus, later: &ContextStatus) -> (Rate, Rate) {
    let per_second = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64 * 1000.0 / passed_ms.max(1) as f64;
    let rate = |later: crate::status::Volume, earlier: crate::status::Volume| Rate {
        packets: per_second(later.packets, earlier.packets),
        octets: per_second(later.octets, earlier.octets),
    };
    (rate(later.sent, earlier.sent), rate(later.received, earlier.received))
}
