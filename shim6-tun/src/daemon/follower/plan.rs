//! Which uplinks a host has after a change.

use core::net::Ipv6Addr;
use std::collections::HashSet;

use crate::daemon::uplink::{Survey, Uplink};

/// The prefixes of interfaces that some address other than ours was seen under since the interface came up.
///
/// An interface that goes down loses its addresses, and they take a while to come back. So that a prefix is not there means that
/// it was withdrawn only if it was there before, and the interface was up all the time.
#[derive(Debug, Default)]
pub(super) struct Seen(HashSet<(u32, Ipv6Addr)>);

impl Seen {
    /// The interface is down, without carrier or gone.
    pub(super) fn forget(&mut self, index: u32) {
        self.0.retain(|(seen, _)| *seen != index);
    }

    /// Takes in what there is now.
    pub(super) fn note(&mut self, survey: &Survey) {
        for link in &survey.links {
            if !(link.up && link.running) {
                self.forget(link.index);
            }
        }
        let is_up = |index| {
            let mut links = survey.links.iter();
            links.any(|link| link.index == index && link.up && link.running)
        };
        let there = survey.prefixes.iter().filter(|state| is_up(state.index));
        self.0.extend(there.map(|state| (state.index, state.prefix)));
    }

    fn has(&self, uplink: &Uplink) -> bool {
        self.0.contains(&(uplink.index, uplink.prefix))
    }
}

/// The uplinks that a host has from now on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Those that stay or come, and whether no session is to start from them any more.
    pub(crate) uplinks: Vec<(Uplink, bool)>,
    /// Those whose prefix was withdrawn.
    pub(crate) withdrawn: Vec<Uplink>,
}

/// What becomes of the uplinks `present`, and what comes to them. To be called before `seen` takes `survey` in.
pub(super) fn plan(present: &[Uplink], survey: &Survey, seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    for uplink in present {
        let found = survey.uplinks.iter().find(|found| is_same(found, uplink));
        let state = survey.prefix(uplink.index, uplink.prefix);
        let is_up = survey
            .links
            .iter()
            .any(|link| link.index == uplink.index && link.up && link.running);
        let has_moved = survey.uplinks.iter().any(|found| found.prefix == uplink.prefix) && found.is_none();
        // It came back with another prefix in the place of this one.
        let is_new = |found: &Uplink| !present.iter().any(|present| is_same(present, found));
        let is_renumbered = survey
            .uplinks
            .iter()
            .any(|found| found.index == uplink.index && is_new(found));
        if has_moved || is_up && state.is_none() && (seen.has(uplink) || is_renumbered) {
            plan.withdrawn.push(uplink.clone());
            continue;
        }
        let gateway = found.map_or(uplink.gateway, |found| found.gateway);
        let kept = Uplink {
            gateway,
            ..uplink.clone()
        };
        plan.uplinks.push((kept, state.is_some_and(|state| state.deprecated)));
    }
    for found in &survey.uplinks {
        if !plan.uplinks.iter().any(|(kept, _)| is_same(kept, found)) {
            plan.uplinks.push((found.clone(), false));
        }
    }
    plan
}

fn is_same(one: &Uplink, other: &Uplink) -> bool {
    let is_there = one.index == other.index || one.interface == other.interface;
    is_there && one.prefix == other.prefix
}
