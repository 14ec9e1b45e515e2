//! When a ULID pair is worth a context: after a configurable amount of traffic (RFC 5533 section 4.2's deferred
//! establishment).

use std::collections::HashMap;
use std::time::Duration;

use shim6_core::{Instant, LocatorPair};

use crate::config::TriggerConfig;

/// A pair without traffic for this long makes room for another when the table is full.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// Counts the traffic of ULID pairs that have no context yet.
#[derive(Debug)]
pub(crate) struct Trigger {
    config: TriggerConfig,
    /// Bound on `candidates`.
    limit: usize,
    candidates: HashMap<LocatorPair, Candidate>,
    /// When the table was last searched for pairs to forget.
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Candidate {
    sent: u64,
    received: u64,
    octets: u64,
    last: Option<Instant>,
}

impl Trigger {
    pub(crate) fn new(config: TriggerConfig, limit: usize) -> Self {
        Self {
            config,
            limit,
            candidates: HashMap::new(),
            swept: None,
        }
    }

    /// Counts a packet. True: the pair has had enough traffic for a context; it starts again from nothing, so that a pair
    /// whose context could not be set up is tried again after as much traffic.
    ///
    /// Traffic in one direction alone never suffices: a flood of packets with forged sources must not make this host
    /// send to those it names.
    pub(crate) fn count(&mut self, ulids: LocatorPair, outgoing: bool, octets: u64, now: Instant) -> bool {
        if !self.config.initiate || (self.candidates.len() >= self.limit && !self.make_room_for(ulids, now)) {
            return false;
        }
        let candidate = self.candidates.entry(ulids).or_default();
        *(if outgoing {
            &mut candidate.sent
        } else {
            &mut candidate.received
        }) += 1;
        candidate.octets += octets;
        candidate.last = Some(now);
        let packets = candidate.sent + candidate.received;
        let enough = (self.config.packets > 0 && packets >= self.config.packets)
            || (self.config.octets > 0 && candidate.octets >= self.config.octets);
        let enough = enough && candidate.sent > 0 && candidate.received > 0;
        if enough {
            self.candidates.remove(&ulids);
        }
        enough
    }

    /// Whether `ulids` may be counted although the table is full.
    fn make_room_for(&mut self, ulids: LocatorPair, now: Instant) -> bool {
        if self.candidates.contains_key(&ulids) {
            return true;
        }
        // At most once a second: with a table full of busy pairs the search would cost more than it gives.
        if self.swept.is_none_or(|swept| now - swept >= Duration::from_secs(1)) {
            self.swept = Some(now);
            self.candidates
                .retain(|_, candidate| candidate.last.is_some_and(|last| now - last < FORGET_AFTER));
        }
        self.candidates.len() < self.limit
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn pair(peer: u16) -> LocatorPair {
        LocatorPair {
            local: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
            peer: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, peer),
        }
    }

    fn trigger(packets: u64, octets: u64, limit: usize) -> Trigger {
        Trigger::new(
            TriggerConfig {
                packets,
                octets,
                initiate: true,
            },
            limit,
        )
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn fires_at_the_packet_that_reaches_the_threshold_and_starts_again() {
        let mut trigger = trigger(4, 0, 10);
        let fired: Vec<_> = (0..8).map(|n| trigger.count(pair(1), n % 2 == 0, 100, at(0))).collect();
        assert_eq!(fired, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn fires_on_octets_where_those_are_configured() {
        let mut trigger = trigger(0, 1_000, 10);
        assert!(!trigger.count(pair(1), true, 500, at(0)));
        assert!(trigger.count(pair(1), false, 500, at(0)));
    }

    #[test]
    fn one_direction_alone_never_fires() {
        let mut trigger = trigger(2, 0, 10);
        assert!((0..100).all(|_| !trigger.count(pair(1), false, 100, at(0))));
        assert!((0..100).all(|_| !trigger.count(pair(2), true, 100, at(0))));
        assert!(trigger.count(pair(1), true, 100, at(0)));
    }

    #[test]
    fn a_full_table_forgets_quiet_pairs_but_not_busy_ones() {
        let mut trigger = trigger(3, 0, 2);
        assert!(!trigger.count(pair(1), true, 1, at(0)));
        assert!(!trigger.count(pair(2), true, 1, at(0)));
        assert!(!trigger.count(pair(3), true, 1, at(1)), "no room yet");
        assert_eq!(trigger.candidates.len(), 2);
        assert!(!trigger.count(pair(2), false, 1, at(25)));
        assert!(!trigger.count(pair(3), true, 1, at(31)), "takes the place of pair 1");
        assert!(trigger.candidates.contains_key(&pair(2)) && trigger.candidates.contains_key(&pair(3)));
    }

    #[test]
    fn nothing_fires_when_this_host_is_not_to_initiate() {
        let config = TriggerConfig {
            packets: 1,
            octets: 0,
            initiate: false,
        };
        let mut trigger = Trigger::new(config, 10);
        assert!(!trigger.count(pair(1), true, 1, at(0)) && !trigger.count(pair(1), false, 1, at(0)));
    }
}
