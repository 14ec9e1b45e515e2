//! The way to a peer and back, for each pair of addresses.
//!
//! An I1 asks the peer for an R1, for which it keeps no state: whoever answers speaks Shim6, and the pair works both ways. Next
//! to it goes what every host answers, so that a way that is down is told from one on which only Shim6 is lost.

mod probe;
mod verdict;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use self::probe::{Pair, Prober};
use super::finding::Finding;
use super::{Host, names, unusable};

const CHECK: &str = "peer";
/// More pairs than this only repeat what the others have told.
const MOST_PAIRS: usize = 64;

/// Tests all pairs of our addresses and the peer's.
pub(super) async fn check(host: &Host, peer: &str) -> anyhow::Result<Vec<Finding>> {
    let asked = match peer.parse::<Ipv6Addr>() {
        Ok(address) => BTreeSet::from([address]),
        Err(_) => names::addresses(peer)
            .await
            .map_err(|why| unusable(peer, format!("{why}; expected a name or an IPv6 address")))?,
    };
    if asked.is_empty() {
        return Err(unusable(peer, "it has no IPv6 address"));
    }
    let odd = |address: &&Ipv6Addr| {
        let is_local = host.locals.iter().any(|local| local.address == **address);
        is_local
            || address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || address.is_unicast_link_local()
    };
    if let Some(address) = asked.iter().find(odd) {
        return Err(unusable(
            peer,
            if address.to_string() == peer {
                "it is no global address of another host".to_owned()
            } else {
                format!("{address} is no global address of another host")
            },
        ));
    }
    if host.locals.is_empty() {
        let why = host.no_uplinks.first();
        let why = why.map_or_else(|| "this host has no global address".to_owned(), ToString::to_string);
        return Ok(vec![
            Finding::wrong(CHECK, why, "There is nothing to test from.").mend("shim6 doctor"),
        ]);
    }
    let pairs = pairs(host, &asked);
    let fwmark = host.config.steering.fwmark;
    let probed = tokio::task::spawn_blocking(move || Prober::open(pairs, fwmark).and_then(Prober::run)).await?;
    let results = match probed {
        Ok(results) => results,
        Err(error) => {
            let found = format!("the way to {peer} cannot be tested: {error}");
            return Ok(vec![
                Finding::unchecked(CHECK, found).mend(format!("sudo shim6 doctor {peer}")),
            ]);
        }
    };
    let mut findings = contexts(host, &asked);
    findings.extend(verdict::judge(peer, &results));
    Ok(findings)
}

/// All pairs: what was asked for, and what the daemon knows beside it.
fn pairs(host: &Host, asked: &BTreeSet<Ipv6Addr>) -> Vec<Pair> {
    let mut remotes: Vec<(Ipv6Addr, Ipv6Addr)> = asked.iter().map(|&address| (address, address)).collect();
    for context in host.status.iter().flat_map(|status| &status.contexts) {
        let ulid = context.ulids.peer;
        if asked.contains(&ulid) || context.peer_locators.iter().any(|locator| asked.contains(locator)) {
            remotes.retain(|(locator, _)| !context.peer_locators.contains(locator));
            remotes.extend(context.peer_locators.iter().map(|&locator| (locator, ulid)));
        }
    }
    remotes.sort_unstable();
    remotes.dedup_by_key(|(locator, _)| *locator);
    let ulid_of = |local: Ipv6Addr| {
        let known = host.status.iter().flat_map(|status| &status.uplinks);
        let mut ulids = known.filter(|uplink| uplink.ulid).map(|uplink| uplink.address);
        let first = ulids.clone().next();
        if ulids.any(|ulid| ulid == local) {
            local
        } else {
            first.unwrap_or(local)
        }
    };
    let of = |&(remote, remote_ulid): &(Ipv6Addr, Ipv6Addr)| {
        host.locals.iter().map(move |local| Pair {
            local: local.address,
            remote,
            ulids: (ulid_of(local.address), remote_ulid),
        })
    };
    remotes.iter().flat_map(of).take(MOST_PAIRS).collect()
}

/// What the daemon has with the peer.
fn contexts(host: &Host, asked: &BTreeSet<Ipv6Addr>) -> Vec<Finding> {
    let contexts = host.status.iter().flat_map(|status| &status.contexts);
    // Those that are still to be set up say nothing of the way.
    let ours = contexts.filter(|context| asked.contains(&context.ulids.peer) && context.state == "established");
    let of = |context: &crate::status::ContextStatus| {
        let (id, state, reap) = (context.id, &context.state, &context.reap);
        let (from, to) = (context.locators.local, context.locators.peer);
        let found = format!("context {id} is {state} and {reap}, on {from} -> {to}");
        match reap.as_str() {
            "operational" => Finding::good(CHECK, found),
            _ => Finding::wrong(CHECK, found, "It looks for a pair of addresses that works."),
        }
    };
    ours.map(of).collect()
}
