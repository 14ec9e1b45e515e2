//! When a ULID pair is worth a context: after a configurable amount of traffic (RFC 5533 section 4.2's deferred
//! establishment).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shim6_core::{Instant, LocatorPair};
use tokio::sync::watch;

use super::policy::{Policy, RuleNumber, Verdict};

/// A pair without traffic for this long makes room for another when the table is full, and is not looked at closely any more.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// The trigger, shared by those who see packets.
#[derive(Debug)]
pub(crate) struct SharedTrigger {
    trigger: Mutex<Trigger>,
    /// Whether there are pairs to be looked at closely.
    wanted: watch::Sender<bool>,
}

/// Counts the traffic of ULID pairs that have no context yet, for each rule of the policy apart.
#[derive(Debug)]
pub(crate) struct Trigger {
    policy: Policy,
    /// Bound on `candidates` and on `close`.
    limit: usize,
    candidates: HashMap<(LocatorPair, RuleNumber), Candidate>,
    /// When the table was last searched for pairs to forget.
    swept: Option<Instant>,
    /// Pairs of which programs in the kernel have counted enough for a closer look, and when there last was traffic.
    close: HashMap<LocatorPair, Instant>,
}

#[derive(Debug, Default)]
struct Candidate {
    sent: u64,
    received: u64,
    octets: u64,
    last: Option<Instant>,
}

/// A packet that was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting<'a> {
    pub(crate) ulids: LocatorPair,
    pub(crate) outgoing: bool,
    /// Its length.
    pub(crate) length: u64,
    /// It from its IPv6 header on, or the first of its octets.
    pub(crate) octets: &'a [u8],
}

impl SharedTrigger {
    pub(crate) fn new(trigger: Trigger) -> Arc<Self> {
        Arc::new(Self {
            trigger: Mutex::new(trigger),
            wanted: watch::Sender::new(false),
        })
    }

    /// One observer per uplink, each at its own pace: the lock is hardly ever waited for.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Trigger> {
        // It is whole after each of its methods.
        self.trigger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether there are pairs to be looked at closely.
    pub(crate) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// A pair has had as much traffic as the lowest threshold. True: it gets a context now.
    pub(crate) fn propose(&self, ulids: LocatorPair, now: Instant) -> bool {
        let mut trigger = self.lock();
        match trigger.policy.judge(ulids) {
            Verdict::Enough => true,
            Verdict::Never => false,
            Verdict::LookCloser => {
                trigger.look_closer(ulids, now);
                self.tell(&trigger);
                false
            }
        }
    }

    /// Another policy holds from now on. What was counted is forgotten.
    pub(crate) fn set_policy(&self, policy: Policy) {
        let mut trigger = self.lock();
        if trigger.policy != policy {
            trigger.policy = policy;
            trigger.candidates.clear();
            trigger.close.clear();
            self.tell(&trigger);
        }
    }

    /// Forgets pairs that have been looked at closely and have no traffic any more.
    pub(crate) fn forget_quiet(&self, now: Instant) {
        let mut trigger = self.lock();
        trigger.close.retain(|_, last| now - *last < FORGET_AFTER);
        self.tell(&trigger);
    }

    fn tell(&self, trigger: &Trigger) {
        let is_wanted = !trigger.close.is_empty();
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(wanted, is_wanted) != is_wanted);
    }
}

impl Trigger {
    pub(crate) fn new(policy: Policy, limit: usize) -> Self {
        Self {
            policy,
            limit,
            candidates: HashMap::new(),
            swept: None,
            close: HashMap::new(),
        }
    }

    /// Counts a packet. True: the pair has had enough traffic for a context; it starts again from nothing, so that a pair
    /// whose context could not be set up is tried again after as much traffic.
    ///
    /// Traffic in one direction alone never suffices: a flood of packets with forged sources must not make this host
    /// send to those it names.
    pub(crate) fn count(&mut self, seen: &Sighting<'_>, now: Instant) -> bool {
        let Some((rule, threshold)) = self.policy.rule(seen.ulids, seen.octets) else {
            return false;
        };
        let key = (seen.ulids, rule);
        if self.candidates.len() >= self.limit && !self.make_room_for(key, now) {
            return false;
        }
        let candidate = self.candidates.entry(key).or_default();
        *(if seen.outgoing {
            &mut candidate.sent
        } else {
            &mut candidate.received
        }) += 1;
        candidate.octets += seen.length;
        candidate.last = Some(now);
        let packets = candidate.sent + candidate.received;
        let enough = (threshold.packets > 0 && packets >= threshold.packets)
            || (threshold.octets > 0 && candidate.octets >= threshold.octets);
        let enough = enough && candidate.sent > 0 && candidate.received > 0;
        if enough {
            self.candidates.remove(&key);
        }
        enough
    }

    /// Counts a packet if its pair is to be looked at closely. True: it gets a context now.
    pub(crate) fn count_closely(&mut self, seen: &Sighting<'_>, now: Instant) -> bool {
        let Some(last) = self.close.get_mut(&seen.ulids) else {
            return false;
        };
        *last = now;
        let enough = self.count(seen, now);
        if enough {
            // Whoever looks finds out soon that there may be nothing left to be looked at.
            self.close.remove(&seen.ulids);
        }
        enough
    }

    fn look_closer(&mut self, ulids: LocatorPair, now: Instant) {
        if self.close.len() < self.limit || self.close.contains_key(&ulids) {
            self.close.insert(ulids, now);
        }
    }

    /// Whether `key` may be counted although the table is full.
    fn make_room_for(&mut self, key: (LocatorPair, RuleNumber), now: Instant) -> bool {
        if self.candidates.contains_key(&key) {
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
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn pair(peer: u16) -> LocatorPair {
        LocatorPair {
            local: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
            peer: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, peer),
        }
    }

    fn configured(text: &str, limit: usize) -> Trigger {
        let config = Config::parse(text, Path::new("shim6.toml")).expect("a configuration");
        Trigger::new(Policy::new(&config, |_| Vec::new()), limit)
    }

    fn trigger(packets: u64, octets: u64, limit: usize) -> Trigger {
        configured(
            &format!("trigger = {{ packets = {packets}, octets = {octets} }}"),
            limit,
        )
    }

    /// A TCP packet to or from a port of the peer.
    fn seen(
        trigger: &mut Trigger,
        (ulids, port): (LocatorPair, u16),
        outgoing: bool,
        length: u64,
        now: Instant,
    ) -> bool {
        let packet = packet(port);
        let sighting = Sighting {
            ulids,
            outgoing,
            length,
            octets: &packet,
        };
        trigger.count(&sighting, now)
    }

    fn packet(port: u16) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[6] = 6;
        packet.extend([0x80, 0]);
        packet.extend(port.to_be_bytes());
        packet
    }

    fn count(trigger: &mut Trigger, ulids: LocatorPair, outgoing: bool, length: u64, now: Instant) -> bool {
        seen(trigger, (ulids, 80), outgoing, length, now)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn fires_at_the_packet_that_reaches_the_threshold_and_starts_again() {
        let mut trigger = trigger(4, 0, 10);
        let fired: Vec<_> = (0..8)
            .map(|n| count(&mut trigger, pair(1), n % 2 == 0, 100, at(0)))
            .collect();
        assert_eq!(fired, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn fires_on_octets_where_those_are_configured() {
        let mut trigger = trigger(0, 1_000, 10);
        assert!(!count(&mut trigger, pair(1), true, 500, at(0)));
        assert!(count(&mut trigger, pair(1), false, 500, at(0)));
    }

    #[test]
    fn one_direction_alone_never_fires() {
        let mut trigger = trigger(2, 0, 10);
        assert!((0..100).all(|_| !count(&mut trigger, pair(1), false, 100, at(0))));
        assert!((0..100).all(|_| !count(&mut trigger, pair(2), true, 100, at(0))));
        assert!(count(&mut trigger, pair(1), true, 100, at(0)));
    }

    #[test]
    fn a_full_table_forgets_quiet_pairs_but_not_busy_ones() {
        let mut trigger = trigger(3, 0, 2);
        assert!(!count(&mut trigger, pair(1), true, 1, at(0)));
        assert!(!count(&mut trigger, pair(2), true, 1, at(0)));
        assert!(!count(&mut trigger, pair(3), true, 1, at(1)), "no room yet");
        assert_eq!(trigger.candidates.len(), 2);
        assert!(!count(&mut trigger, pair(2), false, 1, at(25)));
        assert!(
            !count(&mut trigger, pair(3), true, 1, at(31)),
            "takes the place of pair 1"
        );
        let has = |ulids| trigger.candidates.keys().any(|(candidate, _)| *candidate == ulids);
        assert!(has(pair(2)) && has(pair(3)));
    }

    #[test]
    fn nothing_fires_when_this_host_is_not_to_initiate() {
        let mut trigger = configured("trigger = { packets = 1, initiate = false }", 10);
        assert!(!count(&mut trigger, pair(1), true, 1, at(0)) && !count(&mut trigger, pair(1), false, 1, at(0)));
        assert!(trigger.candidates.is_empty());
    }

    #[test]
    fn each_rule_counts_what_matches_it() {
        let rules = "[[policy]]\nports = 22\npackets = 4\n[[policy]]\nports = 873\nprotect = false\n";
        let mut trigger = configured(rules, 10);
        for n in 0..40 {
            assert!(
                !seen(&mut trigger, (pair(1), 80), n % 2 == 0, 1, at(0)),
                "not by [trigger]"
            );
            assert!(!seen(&mut trigger, (pair(1), 873), n % 2 == 0, 1, at(0)), "never");
        }
        let fired: Vec<_> = (0..4)
            .map(|n| seen(&mut trigger, (pair(1), 22), n % 2 == 0, 1, at(0)))
            .collect();
        assert_eq!(fired, [false, false, false, true]);
        let fired = (0..10).position(|n| seen(&mut trigger, (pair(1), 80), n % 2 == 0, 1, at(0)));
        assert_eq!(fired, Some(9), "what [trigger] has counted is its own");
    }

    #[test]
    fn a_pair_is_looked_at_closely_until_it_is_decided_or_quiet_for_long() {
        let rules = "[[policy]]\nports = 22\npackets = 2\n[[policy]]\npeer = \"2001:db8:2::9\"\nprotect = false\n";
        let shared = SharedTrigger::new(configured(rules, 2));
        let wanted = shared.wanted();
        let look = |ulids, outgoing, now| {
            let octets = packet(22);
            let sighting = Sighting {
                ulids,
                outgoing,
                length: 1,
                octets: &octets,
            };
            shared.lock().count_closely(&sighting, now)
        };
        assert!(!look(pair(1), true, at(0)), "not asked for");
        assert!(!shared.propose(pair(1), at(0)) && *wanted.borrow());
        assert!(!look(pair(1), true, at(1)));
        assert!(look(pair(1), false, at(1)));
        shared.forget_quiet(at(1));
        assert!(!*wanted.borrow(), "it is decided");
        // No more than there is room for.
        assert!((1..5).all(|peer| !shared.propose(pair(peer), at(2))));
        assert_eq!(shared.lock().close.len(), 2);
        shared.forget_quiet(at(31));
        assert!(*wanted.borrow());
        shared.forget_quiet(at(32));
        assert!(!*wanted.borrow());
        // Another policy begins anew.
        assert!(!shared.propose(pair(1), at(40)) && *wanted.borrow());
        shared.set_policy(Policy::new(&Config::default(), |_| Vec::new()));
        assert!(!*wanted.borrow() && shared.propose(pair(1), at(40)));
    }
}
