//! What happened in a world, for failure reports and for tests that look at the messages.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use shim6_core::{Event, Instant};

use super::packet::describe;

/// Who put a packet on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This host.
    Host(usize),
    /// A router, about somebody's packet.
    Router,
    /// The adversary made it up.
    Forged,
    /// The adversary sends again what it saw.
    Replayed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "h{host}"),
            Self::Router => f.write_str("router"),
            Self::Forged => f.write_str("forged"),
            Self::Replayed => f.write_str("replayed"),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A packet was put on the network.
    Sent(Origin, Arc<[u8]>),
    /// The packet just sent will not arrive.
    Lost,
    /// The packet just sent will arrive twice.
    Duplicated,
    /// A packet reached this host, maybe damaged.
    Arrived(usize, Arc<[u8]>),
    /// A host's application got the datagram of this number.
    Delivered(usize, u64),
    /// A host's endpoint said something.
    Said(usize, Event),
    /// The script or the world did something.
    Note(String),
}

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14} ", self.at.to_string())?;
        match &self.what {
            What::Sent(origin, packet) => write!(f, "{origin} sends {}", describe(packet)),
            What::Lost => f.write_str("   ... lost"),
            What::Duplicated => f.write_str("   ... duplicated"),
            What::Arrived(host, packet) => write!(f, "h{host} gets {}", describe(packet)),
            What::Delivered(host, number) => write!(f, "h{host} delivers datagram {number}"),
            What::Said(host, event) => write!(f, "h{host} says {event:?}"),
            What::Note(text) => write!(f, "-- {text}"),
        }
    }
}

/// The entries, oldest first: all of them, or the last ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    entries: VecDeque<Entry>,
    limit: usize,
}

impl Trace {
    /// A trace of everything.
    pub fn whole() -> Self {
        Self::last(usize::MAX)
    }

    /// A trace of the last `limit` entries.
    pub fn last(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            limit,
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, at: Instant, what: What) {
        if self.entries.len() >= self.limit {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at, what });
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The packets that were put on the network, lost or not.
    pub fn sent(&self) -> impl DoubleEndedIterator<Item = (Instant, Origin, &Arc<[u8]>)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Sent(origin, packet) => Some((entry.at, *origin, packet)),
            _ => None,
        })
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
