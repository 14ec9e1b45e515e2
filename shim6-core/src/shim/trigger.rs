//! When a ULID pair is worth a context: RFC 5533 section 4.2's deferred establishment.

use core::time::Duration;

use hashbrown::HashMap;
use shim6_reap::{Instant, LocatorPair};

/// When a context is set up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// After so many packets between two ULIDs, of which both hosts have sent some. 10; with 0 never: only
    /// [`Endpoint::establish`](crate::Endpoint::establish) does it, or the peer.
    pub packets: u32,
    /// ULID pairs that are counted at once; those that have been quiet for long make room for others. 1,024.
    pub pairs: usize,
}

impl Default for Trigger {
    fn default() -> Self {
        Self {
            packets: 10,
            pairs: 1_024,
        }
    }
}

/// A pair without traffic for this long makes room for another when the table is full.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// At most this often is a full table searched: with busy pairs that would cost more than it gives.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Counts the traffic of ULID pairs that have no context yet.
#[derive(Debug)]
pub(super) struct Candidates {
    trigger: Trigger,
    counts: HashMap<LocatorPair, Count>,
    next_sweep: Instant,
}

#[derive(Debug)]
struct Count {
    sent: u32,
    received: u32,
    last: Instant,
}

impl Candidates {
    pub(super) fn new(trigger: Trigger) -> Self {
        Self {
            trigger,
            counts: HashMap::new(),
            next_sweep: Instant::EPOCH,
        }
    }

    /// Counts a packet. True: the pair has had enough for a context; it starts again from nothing, so that one whose context
    /// cannot be had now is tried again after as much traffic.
    ///
    /// Traffic in one direction alone never suffices: a flood of packets with forged sources must not make this host send to
    /// those it names.
    pub(super) fn count(&mut self, now: Instant, ulids: LocatorPair, outgoing: bool) -> bool {
        if self.trigger.packets == 0 || !self.has_room_for(now, ulids) {
            return false;
        }
        let count = self.counts.entry(ulids).or_insert(Count {
            sent: 0,
            received: 0,
            last: now,
        });
        let direction = if outgoing { &mut count.sent } else { &mut count.received };
        *direction = direction.saturating_add(1);
        count.last = now;
        let packets = count.sent.saturating_add(count.received);
        let is_enough = packets >= self.trigger.packets && count.sent > 0 && count.received > 0;
        if is_enough {
            self.counts.remove(&ulids);
        }
        is_enough
    }

    fn has_room_for(&mut self, now: Instant, ulids: LocatorPair) -> bool {
        if self.counts.len() < self.trigger.pairs || self.counts.contains_key(&ulids) {
            return true;
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP_INTERVAL;
            self.counts.retain(|_, count| now - count.last < FORGET_AFTER);
        }
        self.counts.len() < self.trigger.pairs
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use super::*;

    fn pair(peer: u16) -> LocatorPair {
        let address = |site, host| Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, host);
        LocatorPair::new(address(1, 1), address(2, peer))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn candidates(packets: u32, pairs: usize) -> Candidates {
        Candidates::new(Trigger { packets, pairs })
    }

    #[test]
    fn fires_at_the_packet_that_is_enough_and_starts_again() {
        let mut candidates = candidates(4, 10);
        let fired = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| candidates.count(at(0), pair(1), n % 2 == 0));
        assert_eq!(fired, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn one_direction_alone_never_fires() {
        let mut candidates = candidates(2, 10);
        assert!((0..100).all(|_| !candidates.count(at(0), pair(1), false)));
        assert!((0..100).all(|_| !candidates.count(at(0), pair(2), true)));
        assert!(candidates.count(at(0), pair(1), true));
    }

    #[test]
    fn without_a_number_nothing_fires_and_nothing_is_kept() {
        let mut candidates = candidates(0, 10);
        assert!((0..100).all(|n| !candidates.count(at(0), pair(1), n % 2 == 0)));
        assert!(candidates.counts.is_empty());
    }

    #[test]
    fn a_full_table_forgets_quiet_pairs_but_not_busy_ones() {
        let mut candidates = candidates(3, 2);
        let mut count = |peer, seconds| {
            candidates.count(at(seconds), pair(peer), true);
            [1, 2, 3].map(|peer| candidates.counts.contains_key(&pair(peer)))
        };
        count(1, 0);
        assert_eq!(count(2, 0), [true, true, false]);
        assert_eq!(count(3, 1), [true, true, false], "no room yet");
        count(2, 25);
        assert_eq!(count(3, 31), [false, true, true]);
    }
}
