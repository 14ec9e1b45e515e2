//! Peers with whom no exchange is tried for a while: E-FAILED and NO-SUPPORT (RFC 5533 sections 6.2 and 7.8).

use core::net::Ipv6Addr;

use hashbrown::HashMap;
use shim6_reap::Instant;

use super::Endpoint;
use crate::context::ContextState;

/// The negative cache, by the peer's ULID.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    by_peer: HashMap<Ipv6Addr, (ContextState, Instant)>,
}

impl Failures {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, ContextState, Instant)> + '_ {
        self.by_peer.iter().map(|(&peer, &(state, until))| (peer, state, until))
    }

    /// Why and until when a peer is left alone.
    pub(super) fn get(&self, peer: Ipv6Addr, now: Instant) -> Option<(ContextState, Instant)> {
        self.by_peer.get(&peer).copied().filter(|&(_, until)| until > now)
    }

    /// The peer was heard, or its time is over.
    pub(super) fn forget(&mut self, peer: Ipv6Addr) {
        self.by_peer.remove(&peer);
    }

    /// Remembers a failure. Of `limit` others, the one that ends first makes room.
    fn insert(&mut self, now: Instant, peer: Ipv6Addr, failure: (ContextState, Instant), limit: usize) {
        if self.by_peer.len() >= limit {
            self.by_peer.retain(|_, &mut (_, until)| until > now);
        }
        if self.by_peer.len() >= limit && !self.by_peer.contains_key(&peer) {
            let first = self.by_peer.iter().min_by_key(|&(peer, &(_, until))| (until, *peer));
            let Some(first) = first.map(|(&peer, _)| peer).filter(|_| limit > 0) else {
                return;
            };
            self.by_peer.remove(&first);
        }
        self.by_peer.insert(peer, failure);
    }
}

impl Endpoint {
    /// Leaves a peer alone: for a minute if it did not answer, for longer if it said that it cannot.
    pub(super) fn hold_down(&mut self, now: Instant, peer: Ipv6Addr, state: ContextState) {
        let time = match state {
            ContextState::NoSupport => self.config.establishment.icmp_holddown,
            _ => self.config.establishment.no_r1_holddown,
        };
        self.failures
            .insert(now, peer, (state, now + time), self.config.limits.holddowns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn of_too_many_the_one_that_ends_first_makes_room() {
        let mut failures = Failures::default();
        for (number, until) in [(1, 50), (2, 40), (3, 60)] {
            failures.insert(at(0), peer(number), (ContextState::EFailed, at(until)), 3);
        }
        failures.insert(at(1), peer(4), (ContextState::NoSupport, at(600)), 3);
        assert_eq!(failures.get(peer(2), at(1)), None);
        assert_eq!(failures.get(peer(4), at(1)), Some((ContextState::NoSupport, at(600))));
        assert_eq!(failures.iter().count(), 3);
        // One that is remembered already needs no room, one that is over makes it.
        failures.insert(at(2), peer(4), (ContextState::EFailed, at(62)), 3);
        failures.insert(at(55), peer(5), (ContextState::EFailed, at(115)), 3);
        assert!(failures.get(peer(3), at(55)).is_some() && failures.get(peer(1), at(55)).is_none());
    }

    #[test]
    fn no_room_at_all_remembers_nothing() {
        let mut failures = Failures::default();
        failures.insert(at(0), peer(1), (ContextState::EFailed, at(60)), 0);
        assert_eq!(failures.iter().count(), 0);
    }
}
