//! Which pairs of locators a context may use, and in which order they are tried (RFC 5533 sections 5.15.3 and 7.2).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;
use shim6_reap::{Cause, Instant, LocatorPair, State as ReapState};

use super::Endpoint;
use crate::context::{Association, PeerLocators};
use crate::id::ContextId;
use crate::identity::Identity;
use crate::wire::Preference;

/// The locators of both ends of a context.
pub(super) struct Ends<'a> {
    /// What this host has.
    pub(super) ours: &'a Identity,
    /// What the peer knows of it, if it knows more than the ULID: it accepts no packets from others (section 7.2).
    pub(super) known: Option<&'a Identity>,
    pub(super) peer: &'a PeerLocators,
}

/// How often a pair that is not wanted, but works, is tried to be left. An exploration may end on it because payload on it
/// was heard at the same time.
const ATTEMPTS: u8 = 3;

impl Endpoint {
    /// Gives REAP the pairs that follow from the locators and preferences of both ends, and leaves the current pair if it is
    /// none of them any more, or if one end says that it does not work.
    pub(super) fn refresh_pairs(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(association) = context.association.as_deref() else {
            return;
        };
        let ends = Ends {
            ours: &context.identity,
            known: association.announced.as_deref(),
            peer: &association.peer,
        };
        let pairs = exploration_order(context.ulids, &ends, &mut self.rng);
        let is_broken = |pair: &LocatorPair| rank(&ends, pair).is_broken;
        let current = association.reap.current_pair();
        let is_lost = !pairs.contains(&current) || (is_broken(&current) && !pairs.iter().all(is_broken));
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.unwanted = if is_lost { ATTEMPTS } else { 0 };
            }
        });
        self.with_reap(now, id, |reap, _| reap.set_pairs(pairs));
    }
}

impl Association {
    /// Looks for another pair while the present one is not wanted.
    pub(super) fn leave_if_unwanted(&mut self, now: Instant, rng: &mut dyn Rng) {
        if self.unwanted > 0 && self.reap.state() == ReapState::Operational {
            self.unwanted -= 1;
            self.reap.explore(now, Cause::LocalHint, rng);
        }
    }
}

/// How much a pair is wanted; less is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_broken: bool,
    /// Of both ends together: as in DNS SRV records, the lowest number first.
    priority: u16,
    transient: u8,
}

fn rank(ends: &Ends<'_>, pair: &LocatorPair) -> Rank {
    let preferences = [ends.ours.preference(pair.local), ends.peer.preference(pair.peer)];
    Rank {
        is_broken: preferences.iter().any(|p| p.flags.is_broken()),
        priority: preferences.iter().map(|p| u16::from(p.priority)).sum(),
        transient: preferences.iter().map(|p| u8::from(p.flags.is_transient())).sum(),
    }
}

/// All pairs in the order in which exploration tries them.
///
/// First what the ends say of their locators counts: one that is broken comes last, then the priorities, then whether it
/// is a passing address. Where that says nothing, it is the ULIDs first, then the pairs that share neither address with the ULIDs,
/// since they avoid a failure at either end, then the rest; each in both ends' order, which is by lot where they give
/// weights.
pub(super) fn exploration_order(ulids: LocatorPair, ends: &Ends<'_>, rng: &mut dyn Rng) -> Vec<LocatorPair> {
    let is_known = |locator| {
        ends.known
            .map_or(locator == ulids.local, |known| known.contains(locator))
    };
    let usable = ends.ours.locators().iter().filter(|&&locator| is_known(locator));
    let local = by_weight(usable.map(|&locator| (locator, ends.ours.preference(locator))), rng);
    let peer = ends.peer.locators.iter();
    let peer = by_weight(peer.map(|&locator| (locator, ends.peer.preference(locator))), rng);
    let mut pairs: Vec<_> = local
        .iter()
        .flat_map(|&local| peer.iter().map(move |&peer| LocatorPair { local, peer }))
        .collect();
    pairs.sort_by_key(|pair| {
        let apart = match (pair.local == ulids.local, pair.peer == ulids.peer) {
            (true, true) => 0,
            (false, false) => 1,
            _ => 2,
        };
        (rank(ends, pair), apart)
    });
    pairs
}

/// Locators in an order by lot, as RFC 2782 orders the records of one priority: the chance to be next is in proportion to the
/// weight. The order is kept where there are no weights.
fn by_weight(locators: impl Iterator<Item = (Ipv6Addr, Preference)>, rng: &mut dyn Rng) -> Vec<Ipv6Addr> {
    let mut left: Vec<_> = locators.collect();
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let sum: u64 = left.iter().map(|(_, preference)| u64::from(preference.weight)).sum();
        let mut lot = match sum {
            0 => 0,
            sum => (u64::from(rng.next_u32()) * sum) >> 32,
        };
        let next = left.iter().position(|(_, preference)| {
            let weight = u64::from(preference.weight);
            let is_next = lot < weight || sum == 0;
            lot = lot.saturating_sub(weight);
            is_next
        });
        ordered.push(left.remove(next.unwrap_or(0)).0);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use shim6_cga::{HbaSet, Sec, SubnetPrefix};

    use super::*;
    use crate::wire::PreferenceFlags;

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(1)
    }

    fn address(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1)
    }

    fn preference(flags: PreferenceFlags, priority: u8, weight: u8) -> Preference {
        Preference {
            flags,
            priority,
            weight,
        }
    }

    /// A host with two locators, and a peer with two and these preferences for them.
    fn order(ours: [Preference; 2], theirs: [Preference; 2]) -> [&'static str; 4] {
        let prefixes = [1, 2].map(|last| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, last]));
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng()).expect("a set");
        let identity = Identity::from_hba_set(&set, &mut rng());
        let (a, b) = (identity.locators()[0], identity.locators()[1]);
        let identity = identity.with_preferences(&[(a, ours[0]), (b, ours[1])]);
        let peer = PeerLocators {
            locators: vec![address(11), address(12)].into(),
            listed: 2,
            generation: Some(1),
            preferences: theirs.to_vec().into(),
            parameters: None,
        };
        let ends = Ends {
            ours: &identity,
            known: Some(&identity),
            peer: &peer,
        };
        let ulids = LocatorPair::new(a, address(11));
        let pairs = exploration_order(ulids, &ends, &mut rng());
        let names = |pair: LocatorPair| match (pair.local == a, pair.peer == address(11)) {
            (true, true) => "a1",
            (true, false) => "a2",
            (false, true) => "b1",
            (false, false) => "b2",
        };
        core::array::from_fn(|index| names(pairs[index]))
    }

    const NONE: PreferenceFlags = PreferenceFlags(0);

    #[test]
    fn disjoint_pairs_come_right_after_the_ulids() {
        assert_eq!(order(Default::default(), Default::default()), ["a1", "b2", "a2", "b1"]);
    }

    #[test]
    fn broken_locators_of_either_end_come_last() {
        let broken = preference(PreferenceFlags::BROKEN, 0, 0);
        let fine = Preference::default();
        assert_eq!(order([fine, fine], [broken, fine]), ["b2", "a2", "a1", "b1"]);
        assert_eq!(order([fine, broken], [fine, fine]), ["a1", "a2", "b2", "b1"]);
        assert_eq!(order([broken, broken], [fine, fine]), ["a1", "b2", "a2", "b1"]);
    }

    #[test]
    fn lower_priority_numbers_come_first_and_passing_addresses_after_lasting_ones() {
        let [first, second] = [1, 2].map(|priority| preference(NONE, priority, 0));
        let fine = Preference::default();
        assert_eq!(order([fine, fine], [second, first]), ["b2", "a2", "a1", "b1"]);
        let passing = preference(PreferenceFlags::TRANSIENT, 1, 0);
        assert_eq!(order([fine, fine], [passing, first]), ["b2", "a2", "a1", "b1"]);
    }

    #[test]
    fn weight_decides_by_lot_how_often_a_locator_comes_first() {
        let weighted = [
            (address(1), preference(NONE, 0, 30)),
            (address(2), preference(NONE, 0, 10)),
        ];
        let mut rng = rng();
        let first = (0..4_000).filter(|_| by_weight(weighted.into_iter(), &mut rng)[0] == address(1));
        // Three quarters, and five standard deviations of 27.
        let count = first.count();
        assert!((2_863..=3_137).contains(&count), "{count}");
    }

    #[test]
    fn without_weights_nothing_is_drawn_and_the_order_stays() {
        let (mut drawn, mut fresh) = (rng(), rng());
        let plain = [3, 1, 2].map(|number| (address(number), Preference::default()));
        assert_eq!(by_weight(plain.into_iter(), &mut drawn), [3, 1, 2].map(address));
        assert_eq!(drawn.next_u64(), fresh.next_u64());
    }
}
