//! From a description to names, addresses and routes.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv6Addr;

use super::Description;
use crate::lab::Prefix;
use crate::lab::failure::GATEWAY;
use crate::lab::link::Element;

/// The second end of a link between routers.
const OTHER_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xc);

/// Everything that a description leaves open, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Plan {
    pub(in crate::lab) nodes: Vec<PlannedNode>,
    pub(in crate::lab) links: Vec<PlannedLink>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::lab) struct PlannedNode {
    /// An address that is on no link.
    pub(in crate::lab) address: Option<Ipv6Addr>,
    /// The routes of a router.
    pub(in crate::lab) routes: Vec<(Destination, usize)>,
}

/// Where a route leads, by way of the link with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::lab) enum Destination {
    Everywhere,
    Prefix(Prefix),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) struct PlannedLink {
    pub(in crate::lab) name: String,
    /// The numbers of the nodes.
    pub(in crate::lab) nodes: [usize; 2],
    pub(in crate::lab) interfaces: [String; 2],
    /// The /64 of a link that has a host.
    pub(in crate::lab) prefix: Option<Prefix>,
    /// The global address of each end.
    pub(in crate::lab) addresses: [Option<Ipv6Addr>; 2],
    /// The link-local address by which each end is known as a router.
    pub(in crate::lab) gateways: [Option<Ipv6Addr>; 2],
}

impl PlannedLink {
    /// Which end a node is.
    pub(in crate::lab) fn end_of(&self, node: usize) -> Option<usize> {
        self.nodes.iter().position(|&end| end == node)
    }
}

impl Plan {
    /// For a description that makes sense.
    pub(in crate::lab) fn of(description: &Description) -> Self {
        let prefixes = prefixes(description);
        let links: Vec<_> = (0..description.links.len())
            .map(|index| link(description, index, prefixes[index]))
            .collect();
        let mut plan = Self {
            nodes: vec![PlannedNode::default(); description.nodes.len()],
            links,
        };
        plan.name_interfaces(description);
        plan.address_nodes(description);
        plan.route(description);
        plan
    }

    fn name_interfaces(&mut self, description: &Description) {
        for node in 0..description.nodes.len() {
            let mut taken: BTreeSet<String> = BTreeSet::new();
            let ends: Vec<_> = (0..self.links.len())
                .filter_map(|index| Some((index, self.links[index].end_of(node)?)))
                .collect();
            for &(index, end) in &ends {
                taken.extend(description.links[index].interfaces[end].clone());
            }
            for (index, end) in ends {
                let name = description.links[index].interfaces[end].clone().unwrap_or_else(|| {
                    let other = &description.links[index].ends[1 - end];
                    let wanted = (description.nodes[node].kind.forwards()).then(|| other.clone());
                    let numbered = (0..).map(|number| format!("eth{number}"));
                    let free = wanted.into_iter().chain(numbered).find(|name| !taken.contains(name));
                    free.unwrap_or_default()
                });
                taken.insert(name.clone());
                self.links[index].interfaces[end] = name;
            }
        }
    }

    /// Routers that have no global address on a link get one, to send errors from.
    fn address_nodes(&mut self, description: &Description) {
        for (number, spec) in description.nodes.iter().enumerate() {
            let has_one = self.links.iter().any(|link| {
                let end = link.end_of(number);
                end.is_some_and(|end| link.addresses[end].is_some())
            });
            let own = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1 + number as u16);
            let needed = spec.kind.forwards() && !has_one;
            self.nodes[number].address = spec.address.or(needed.then_some(own));
        }
    }

    fn route(&mut self, description: &Description) {
        let forwards = |node: usize| description.nodes[node].kind.forwards();
        let is_backbone = |link: &PlannedLink| link.nodes.iter().all(|&node| forwards(node));
        let backbone: Vec<usize> = (0..self.links.len())
            .filter(|&index| is_backbone(&self.links[index]))
            .collect();
        let mut found: Vec<BTreeSet<(Destination, usize)>> = vec![BTreeSet::new(); self.nodes.len()];
        for target in self.targets(description, &forwards) {
            for (node, by) in self.paths(&target, &backbone, description) {
                found[node].insert((Destination::Prefix(target.prefix), by));
            }
        }
        for (node, routes) in found.into_iter().enumerate() {
            let mut ways = backbone
                .iter()
                .copied()
                .filter(|&index| self.links[index].end_of(node).is_some());
            let only = ways.next().filter(|_| ways.next().is_none());
            self.nodes[node].routes = match only {
                // All its routes lead there.
                Some(only) if forwards(node) => vec![(Destination::Everywhere, only)],
                _ => routes.into_iter().collect(),
            };
        }
    }

    /// What routers need routes to.
    fn targets(&self, description: &Description, forwards: &impl Fn(usize) -> bool) -> Vec<Target> {
        let mut targets = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            if let (Some(prefix), Some(&owner)) = (link.prefix, link.nodes.iter().find(|&&node| forwards(node))) {
                targets.push(Target {
                    prefix,
                    owner,
                    by: None,
                });
            }
            for element in &description.links[index].elements {
                if let Element::Nptv6 { outside, .. } = element {
                    targets.push(Target {
                        prefix: *outside,
                        owner: link.nodes[1],
                        by: Some(index),
                    });
                }
            }
        }
        for (node, planned) in self.nodes.iter().enumerate() {
            if let Some(address) = planned.address.filter(|_| forwards(node)) {
                targets.push(Target {
                    prefix: Prefix::of(address, 128),
                    owner: node,
                    by: None,
                });
            }
        }
        targets
    }

    /// For each router that can reach the target, the link by which it is nearest.
    fn paths(&self, target: &Target, backbone: &[usize], description: &Description) -> Vec<(usize, usize)> {
        let mut paths: Vec<_> = target.by.map(|by| (target.owner, by)).into_iter().collect();
        let mut reached = BTreeSet::from([target.owner]);
        let mut waiting = VecDeque::from([target.owner]);
        while let Some(node) = waiting.pop_front() {
            for &index in backbone {
                let Some(end) = self.links[index].end_of(node) else {
                    continue;
                };
                // What is inside of a translation is not known outside of it.
                let hides = |element: &Element| matches!(element, Element::Nptv6 { inside, .. } if inside.overlaps(target.prefix));
                if target.by == Some(index) || description.links[index].elements.iter().any(hides) {
                    continue;
                }
                let other = self.links[index].nodes[1 - end];
                if reached.insert(other) {
                    paths.push((other, index));
                    waiting.push_back(other);
                }
            }
        }
        paths
    }
}

/// A prefix, the router that has it, and if it is not its own, the link that leads there.
struct Target {
    prefix: Prefix,
    owner: usize,
    by: Option<usize>,
}

/// The prefix of each link that has a host.
fn prefixes(description: &Description) -> Vec<Option<Prefix>> {
    let forwards = |name: &String| {
        description
            .nodes
            .iter()
            .any(|node| node.name == *name && node.kind.forwards())
    };
    let mut taken: Vec<Prefix> = description.links.iter().filter_map(|link| link.prefix).collect();
    let elements = description.links.iter().flat_map(|link| &link.elements);
    taken.extend(elements.flat_map(|element| match element {
        Element::Nptv6 { inside, outside } => vec![*inside, *outside],
        _ => Vec::new(),
    }));
    taken.extend(
        description
            .nodes
            .iter()
            .filter_map(|node| Some(Prefix::of(node.address?, 128))),
    );
    let mut prefixes = Vec::new();
    for link in &description.links {
        let needs_one = !link.ends.iter().all(forwards);
        let free = || {
            let numbered =
                (1..u16::MAX).map(|third| Prefix::of(Ipv6Addr::new(0x2001, 0xdb8, third, 0, 0, 0, 0, 0), 64));
            numbered
                .into_iter()
                .find(|prefix| !taken.iter().any(|other| other.overlaps(*prefix)))
        };
        let prefix = link.prefix.or_else(|| needs_one.then(free).flatten());
        taken.extend(prefix);
        prefixes.push(prefix);
    }
    prefixes
}

fn link(description: &Description, index: usize, prefix: Option<Prefix>) -> PlannedLink {
    let spec = &description.links[index];
    let nodes = [0, 1].map(|end| {
        let found = description.nodes.iter().position(|node| node.name == spec.ends[end]);
        found.unwrap_or_default()
    });
    let forwards = nodes.map(|node| description.nodes[node].kind.forwards());
    let (mut addresses, mut gateways) = ([None; 2], [None; 2]);
    for end in [0, 1] {
        if forwards[end] {
            let is_second_router = end == 1 && forwards[0];
            gateways[end] = Some(if is_second_router { OTHER_GATEWAY } else { GATEWAY });
            addresses[end] = prefix.map(|prefix| prefix.with(0xffff));
        } else if !spec.advertise {
            // Two hosts may share a link.
            let last = if end == 1 && !forwards[0] { 2 } else { 1 };
            addresses[end] = spec
                .address
                .filter(|_| last == 1)
                .or(prefix.map(|prefix| prefix.with(last)));
        }
    }
    PlannedLink {
        name: spec.name(),
        nodes,
        interfaces: [String::new(), String::new()],
        prefix,
        addresses,
        gateways,
    }
}
