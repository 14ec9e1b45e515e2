//! The probes sent and received, for the records that probes carry and for judging what the peer reports.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{LocatorPair, ProbeRecord};

/// How many probes of ours can still be recognised in a report.
const REMEMBERED: usize = 32;

/// How many records of each kind a probe of ours carries.
///
/// Fifteen of each kind would fit: 40 octets of IPv6 header, 16 of message header and 30 times 40 are 1256 of the 1280
/// octets that every path carries. Eight make 696, which leaves room for options and bounds by how much an answer can
/// be longer than what asked for it; one report is enough to end an exploration.
const CARRIED: usize = 8;

#[derive(Clone, Debug)]
struct Sent {
    record: ProbeRecord,
    /// The peer said that it got it.
    reported: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The latest last.
    sent: VecDeque<Sent>,
    /// The latest last.
    received: VecDeque<ProbeRecord>,
}

impl History {
    /// Exploring again: received records are those since the last transition to Exploring (RFC 5534 5.2).
    pub(crate) fn forget_received(&mut self) {
        self.received.clear();
    }

    pub(crate) fn note_sent(&mut self, record: ProbeRecord) {
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            record,
            reported: false,
        });
    }

    pub(crate) fn note_received(&mut self, record: ProbeRecord) {
        // A duplicate moves to the front of the list rather than pushing out another one.
        self.received.retain(|known| *known != record);
        if self.received.len() == CARRIED {
            self.received.pop_front();
        }
        self.received.push_back(record);
    }

    /// Marks what the peer reports, and gives the pairs of the probes that we really sent, the latest sent first.
    ///
    /// A record counts only if every field is as we sent it: a host that never got the probe cannot know the nonce.
    pub(crate) fn acknowledge(&mut self, reports: &[ProbeRecord]) -> Vec<LocatorPair> {
        let mut pairs = Vec::new();
        for sent in self.sent.iter_mut().rev() {
            if reports.contains(&sent.record) {
                sent.reported = true;
                pairs.push(sent.record.sender_pair());
            }
        }
        pairs
    }

    /// The latest probes sent that the peer has not reported, the latest first; the very last one is always there.
    pub(crate) fn sent_records(&self) -> Vec<ProbeRecord> {
        let latest = self.sent.iter().rev();
        latest
            .filter(|sent| !sent.reported)
            .map(|sent| sent.record)
            .take(CARRIED)
            .collect()
    }

    /// The latest probes received, the latest first.
    pub(crate) fn received_records(&self) -> Vec<ProbeRecord> {
        self.received.iter().rev().copied().collect()
    }
}
