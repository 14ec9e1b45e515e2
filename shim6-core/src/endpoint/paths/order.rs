//! The order in which pairs are tried, and which of two is wanted more (RFC 5534 section 4.3).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;
use shim6_reap::LocatorPair;

use super::Ends;
use super::selection::Selection;
use crate::config::LAST_RESORT;
use crate::endpoint::verify::is_locator;
use crate::wire::Preference;

/// All pairs that make sense, in the order in which exploration tries them.
///
/// The pair that the transport wishes for comes first. Those with a locator whose owner says that it is BROKEN come last. Among the others it is the rules of RFC 6724 first, then
/// what this host says of its locators, then what the peer says of its own (RFC 5533 section 5.15.3): as in DNS SRV records, a lower
/// number comes before a higher one, and an address that will last before a passing one. This host's wish comes first, and is
/// not added to the peer's, so that where both know what they want each of them finds the other's wish in its own first pair.
///
/// Where none of that says anything it is the ULIDs first, then the pairs that share neither address with them, since they avoid
/// a failure at either end, then the rest; each in both ends' order, which is by lot where they give weights.
pub(in crate::endpoint) fn exploration_order(ends: &Ends<'_>, rng: &mut dyn Rng) -> Vec<LocatorPair> {
    let usable = ends.ours.locators().iter().filter(|&&locator| ends.is_known(locator));
    let local = by_weight(usable.map(|&locator| (locator, ends.ours.preference(locator))), rng);
    let peer = ends.peer.locators.iter();
    let peer = by_weight(peer.map(|&locator| (locator, ends.peer.preference(locator))), rng);
    let mut pairs: Vec<_> = local
        .iter()
        .flat_map(|&local| peer.iter().map(move |&peer| LocatorPair { local, peer }))
        .filter(|&pair| is_appropriate(ends, pair))
        .collect();
    pairs.sort_by_cached_key(|&pair| (ends.wished != Some(pair), rank(ends, pair), distance(ends, pair)));
    pairs
}

/// Whether `pair`, one of that order, is wanted more than `than`, so much that it is worth changing to it while both work: because somebody said so,
/// the transport first of all, or because it is the ULIDs, whose packets need no header. Neither chance nor a better guess where failures are is reason
/// enough.
pub(in crate::endpoint) fn is_better(ends: &Ends<'_>, pair: LocatorPair, than: LocatorPair) -> bool {
    let wish = |pair| (ends.wished != Some(pair), rank(ends, pair), pair != ends.ulids);
    wish(pair) < wish(than)
}

/// Whether an end says that its locator of this pair does not work.
pub(super) fn is_broken(ends: &Ends<'_>, pair: LocatorPair) -> bool {
    rank(ends, pair).is_broken
}

/// Whether an end says that its locator of this pair is only for the time in which no other works.
pub(in crate::endpoint) fn is_last_resort(ends: &Ends<'_>, pair: LocatorPair) -> bool {
    let rank = rank(ends, pair);
    rank.local_priority.max(rank.peer_priority) == LAST_RESORT
}

/// Whether a pair makes sense at all. Addresses that are bound to a link do not: nobody knows which link it would be (RFC 5534
/// section 3.1). The ULIDs do, whatever they are: applications use them.
fn is_appropriate(ends: &Ends<'_>, pair: LocatorPair) -> bool {
    pair == ends.ulids || (is_locator(pair.local) && is_locator(pair.peer))
}

/// How much a pair is wanted; less is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_broken: bool,
    selection: Selection,
    /// As in DNS SRV records: the lowest number first.
    local_priority: u8,
    peer_priority: u8,
    is_local_transient: bool,
    is_peer_transient: bool,
}

fn rank(ends: &Ends<'_>, pair: LocatorPair) -> Rank {
    let (local, peer) = (ends.ours.preference(pair.local), ends.peer.preference(pair.peer));
    Rank {
        is_broken: local.flags.is_broken() || peer.flags.is_broken(),
        // The ULIDs were selected by those rules, or by somebody who knew better. So no pair is better than they are.
        selection: Selection::of(pair).max(Selection::of(ends.ulids)),
        local_priority: local.priority,
        peer_priority: peer.priority,
        is_local_transient: local.flags.is_transient(),
        is_peer_transient: peer.flags.is_transient(),
    }
}

/// How likely a pair is to have failed with the ULIDs; less is better.
fn distance(ends: &Ends<'_>, pair: LocatorPair) -> u8 {
    match (pair.local == ends.ulids.local, pair.peer == ends.ulids.peer) {
        (true, true) => 0,
        (false, false) => 1,
        _ => 2,
    }
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
mod tests;
