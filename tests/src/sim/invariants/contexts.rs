//! The contexts of one host.

use std::collections::BTreeMap;

use shim6_core::ContextState;

use super::{Invariant, Violation};
use crate::sim::host::{ContextView, Host};

/// Checks tags and bounds.
///
/// # Errors
/// What does not hold.
pub fn check_contexts(host: &Host) -> Result<(), Violation> {
    let contexts = host.contexts();
    check_local_tags(&contexts)?;
    check_peer_tags(&contexts)?;
    check_bounds(host, &contexts)
}

fn check_local_tags(contexts: &[ContextView]) -> Result<(), Violation> {
    let mut seen = BTreeMap::new();
    for context in contexts {
        let tag = context.local_tag;
        if let Some(other) = seen.insert(tag, context.id) {
            let what = format!("contexts {other} and {} both have CT(local) {tag}", context.id);
            return Err(Violation::new(Invariant::UniqueTags, what));
        }
    }
    Ok(())
}

fn check_peer_tags(contexts: &[ContextView]) -> Result<(), Violation> {
    let settled = contexts.iter().filter(|context| is_settled(context.state));
    let mut with_tag: BTreeMap<_, Vec<&ContextView>> = BTreeMap::new();
    for context in settled.filter(|context| context.peer_tag.is_some()) {
        let others = with_tag.entry(context.peer_tag).or_default();
        let overlaps = |other: &&&ContextView| {
            let mut locators = other.peer_locators.iter();
            locators.any(|locator| context.peer_locators.contains(locator))
        };
        if let Some(other) = others.iter().find(overlaps) {
            let what = format!("{other:?} and {context:?} have the same CT(peer) and overlapping Ls(peer)");
            return Err(Violation::new(Invariant::NoConfusion, what));
        }
        others.push(context);
    }
    Ok(())
}

/// Whether packets with CT(peer) may be sent in this state.
fn is_settled(state: ContextState) -> bool {
    matches!(state, ContextState::Established | ContextState::I2bisSent)
}

fn check_bounds(host: &Host, contexts: &[ContextView]) -> Result<(), Violation> {
    let limits = &host.plan().config.limits;
    let mut with_peer = BTreeMap::new();
    for context in contexts {
        *with_peer.entry(context.ulids.peer).or_insert(0_usize) += 1;
    }
    let most = with_peer.values().copied().max().unwrap_or(0);
    let locators = contexts
        .iter()
        .map(|context| context.peer_locators.len())
        .max()
        .unwrap_or(0);
    let flows = host.dataplane().map_or(0, |dataplane| dataplane.len());
    let failures = host.endpoint().map_or(0, |endpoint| endpoint.failures().count());
    let broken = [
        ("contexts", contexts.len(), limits.contexts),
        ("contexts with one peer", most, limits.contexts_per_peer),
        ("locators of a peer", locators, limits.peer_locators),
        ("peers that are left alone", failures, limits.holddowns),
        ("flows of so many contexts", flows, contexts.len()),
    ];
    match broken.into_iter().find(|(_, found, bound)| found > bound) {
        None => Ok(()),
        Some((what, found, bound)) => {
            let what = format!("{found} {what}, and {bound} are allowed");
            Err(Violation::new(Invariant::Bounds, what))
        }
    }
}
