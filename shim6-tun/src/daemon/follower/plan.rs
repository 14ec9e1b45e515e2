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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::uplink::PrefixState;
    use crate::netlink::Link;

    const ONE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0);
    const TWO: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa2, 0, 0, 0, 0, 0);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OTHER_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    fn uplink(index: u32, prefix: Ipv6Addr) -> Uplink {
        Uplink {
            interface: format!("eth{index}"),
            index,
            prefix,
            gateway: Some(ROUTER),
            up: true,
            mtu: 1500,
        }
    }

    /// What is seen where these uplinks are up.
    fn survey(uplinks: &[Uplink]) -> Survey {
        let link = |uplink: &Uplink| Link {
            index: uplink.index,
            name: uplink.interface.clone(),
            up: uplink.up,
            running: uplink.up,
            loopback: false,
            mtu: 1500,
        };
        let state = |uplink: &Uplink| PrefixState {
            index: uplink.index,
            prefix: uplink.prefix,
            deprecated: false,
        };
        Survey {
            links: uplinks.iter().map(link).collect(),
            prefixes: uplinks.iter().map(state).collect(),
            uplinks: uplinks.to_vec(),
            problems: Vec::new(),
        }
    }

    /// An interface that is up and has no prefix.
    fn bare(uplink: &Uplink) -> Survey {
        Survey {
            uplinks: Vec::new(),
            prefixes: Vec::new(),
            ..survey(std::slice::from_ref(uplink))
        }
    }

    fn withdrawn(present: &[Uplink], survey: &Survey, seen: &Seen) -> Vec<Uplink> {
        plan(present, survey, seen).withdrawn
    }

    #[test]
    fn a_prefix_is_withdrawn_only_if_it_was_there_since_the_interface_came_up() {
        let present = [uplink(2, ONE)];
        let mut seen = Seen::default();
        assert_eq!(withdrawn(&present, &bare(&present[0]), &seen), []);
        seen.note(&survey(&present));
        assert_eq!(withdrawn(&present, &bare(&present[0]), &seen), present);
        seen.forget(2);
        assert_eq!(withdrawn(&present, &bare(&present[0]), &seen), []);
    }

    #[test]
    fn an_interface_that_is_down_or_gone_keeps_its_prefixes() {
        let present = [uplink(2, ONE)];
        let mut seen = Seen::default();
        seen.note(&survey(&present));
        let down = Uplink {
            up: false,
            ..uplink(2, ONE)
        };
        assert_eq!(withdrawn(&present, &bare(&down), &seen), []);
        assert_eq!(withdrawn(&present, &Survey::default(), &seen), []);
        // And when it is up again, its prefix is waited for.
        seen.note(&bare(&down));
        assert_eq!(withdrawn(&present, &bare(&present[0]), &seen), []);
    }

    #[test]
    fn another_prefix_in_the_place_of_one_withdraws_that() {
        let present = [uplink(2, ONE)];
        let plan = plan(&present, &survey(&[uplink(2, TWO)]), &Seen::default());
        assert_eq!(plan.withdrawn, present);
        assert_eq!(plan.uplinks, [(uplink(2, TWO), false)]);
    }

    #[test]
    fn one_more_prefix_withdraws_none() {
        let present = [uplink(2, ONE)];
        let both = [uplink(2, ONE), uplink(2, TWO)];
        let plan = plan(&present, &survey(&both), &Seen::default());
        assert_eq!(plan.withdrawn, []);
        assert_eq!(plan.uplinks, both.map(|uplink| (uplink, false)));
    }

    #[test]
    fn a_prefix_that_is_on_another_interface_now_goes_there() {
        let present = [uplink(2, ONE)];
        let plan = plan(&present, &survey(&[uplink(3, ONE)]), &Seen::default());
        assert_eq!(plan.withdrawn, present);
        assert_eq!(plan.uplinks, [(uplink(3, ONE), false)]);
    }

    #[test]
    fn router_is_followed_and_kept_when_there_is_none() {
        let present = [uplink(2, ONE)];
        let other = Uplink {
            gateway: Some(OTHER_ROUTER),
            ..uplink(2, ONE)
        };
        let found = plan(&present, &survey(std::slice::from_ref(&other)), &Seen::default());
        assert_eq!(found.uplinks, [(other, false)]);
        let without = Survey {
            uplinks: Vec::new(),
            ..survey(&present)
        };
        assert_eq!(
            plan(&present, &without, &Seen::default()).uplinks,
            [(uplink(2, ONE), false)]
        );
    }

    #[test]
    fn deprecated_prefix_stays_and_is_said_to_be() {
        let present = [uplink(2, ONE)];
        let mut survey = survey(&present);
        survey.uplinks.clear();
        survey.prefixes[0].deprecated = true;
        assert_eq!(
            plan(&present, &survey, &Seen::default()).uplinks,
            [(uplink(2, ONE), true)]
        );
    }
}
