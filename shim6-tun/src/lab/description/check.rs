//! What makes no sense in a topology although each value is understood.

use std::collections::BTreeMap;

use super::{Description, LinkSpec, MAX_LINKS, MAX_NODES, NodeKind};
use crate::config::nearest;
use crate::lab::Prefix;
use crate::lab::link::Element;

/// The longest name of an interface, in octets, which nodes are called by.
const MAX_NAME: usize = 15;
const MAX_LINK_NAME: usize = 31;

/// What something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Whole,
    Node(usize),
    Link(usize),
}

/// Something that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) object: Object,
    /// The key that says it.
    pub(super) key: &'static str,
    pub(super) wrong: String,
    pub(super) expected: String,
}

impl Fault {
    /// Without a file.
    pub(super) fn describe(&self, description: &Description) -> String {
        let object = match self.object {
            Object::Whole => "the topology".to_owned(),
            Object::Node(index) => format!("node {:?}", description.nodes[index].name),
            Object::Link(index) => format!("link {:?}", description.links[index].name()),
        };
        format!("{object}: {}: {}; {}", self.key, self.wrong, self.expected)
    }
}

/// All faults, those of nodes first.
pub(super) fn faults(description: &Description) -> Vec<Fault> {
    let mut checker = Checker {
        description,
        kinds: BTreeMap::new(),
        faults: Vec::new(),
    };
    checker.whole();
    checker.nodes();
    checker.links();
    checker.lonely();
    checker.prefixes();
    checker.interfaces();
    checker.faults
}

struct Checker<'a> {
    description: &'a Description,
    kinds: BTreeMap<&'a str, NodeKind>,
    faults: Vec<Fault>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, object: Object, key: &'static str, wrong: impl Into<String>, expected: impl Into<String>) {
        self.faults.push(Fault {
            object,
            key,
            wrong: wrong.into(),
            expected: expected.into(),
        });
    }

    fn whole(&mut self) {
        let (nodes, links) = (self.description.nodes.len(), self.description.links.len());
        if nodes == 0 {
            self.fault(
                Object::Whole,
                "host",
                "there is no node",
                "expected [[host]], [[isp]] and [[router]] tables",
            );
        }
        if nodes > MAX_NODES {
            let wrong = format!("there are {nodes} nodes");
            self.fault(Object::Whole, "host", wrong, format!("expected {MAX_NODES} at most"));
        }
        if links > MAX_LINKS {
            let wrong = format!("there are {links} links");
            self.fault(Object::Whole, "link", wrong, format!("expected {MAX_LINKS} at most"));
        }
    }

    fn nodes(&mut self) {
        for (index, node) in self.description.nodes.iter().enumerate() {
            let object = Object::Node(index);
            if !is_name(&node.name, MAX_NAME) || node.name == "lo" {
                let wrong = format!("{:?} is no name for a node", node.name);
                self.fault(
                    object,
                    "name",
                    wrong,
                    "expected 1 to 15 small letters, digits and -, beginning with a letter",
                );
            }
            if self.kinds.insert(&node.name, node.kind).is_some() {
                let wrong = format!("there is another node {:?}", node.name);
                self.fault(object, "name", wrong, "expected a different name for each node");
            }
        }
    }

    fn links(&mut self) {
        let mut names = BTreeMap::new();
        for (index, link) in self.description.links.iter().enumerate() {
            let object = Object::Link(index);
            let name = link.name();
            if !is_name(&name, MAX_LINK_NAME) {
                let wrong = format!("{name:?} is no name for a link");
                self.fault(
                    object,
                    "name",
                    wrong,
                    "expected 1 to 31 small letters, digits and -, beginning with a letter",
                );
            }
            if names.insert(name.clone(), index).is_some() {
                let wrong = format!("there is another link {name:?}");
                self.fault(
                    object,
                    "name",
                    wrong,
                    "expected a different name for each link: give one to this",
                );
            }
            let mut are_known = true;
            for end in &link.ends {
                if !self.kinds.contains_key(end.as_str()) {
                    are_known = false;
                    let expected = match nearest(end, self.kinds.keys().copied()) {
                        Some(meant) => format!("did you mean {meant:?}?"),
                        None => format!("expected one of {}", list(self.kinds.keys())),
                    };
                    self.fault(object, "ends", format!("there is no node {end:?}"), expected);
                }
            }
            if link.ends[0] == link.ends[1] {
                let wrong = format!("both are {:?}", link.ends[0]);
                self.fault(object, "ends", wrong, "expected two different nodes");
            } else if are_known {
                self.link(object, link);
            }
        }
    }

    fn link(&mut self, object: Object, link: &'a LinkSpec) {
        let kind = |end: usize| self.kinds[link.ends[end].as_str()];
        let has_host = !kind(0).forwards() || !kind(1).forwards();
        let is_access = has_host && (kind(0).forwards() || kind(1).forwards());
        let (inside_forwards, outside_forwards) = (kind(0).forwards(), kind(1).forwards());
        if link.prefix.is_some() && !has_host {
            self.fault(
                object,
                "prefix",
                "there is no host on this link",
                "expected none between routers",
            );
        }
        if link.prefix.is_some_and(|prefix| prefix.length() != 64) {
            self.fault(
                object,
                "prefix",
                "it is not a /64",
                "expected one such as \"2001:db8:a1::/64\"",
            );
        }
        if let Some(address) = link.address {
            let router = link.prefix.map(|prefix| prefix.with(0xffff));
            if !link.prefix.is_some_and(|prefix| prefix.contains(address)) || router == Some(address) {
                let wrong = format!("{address} is not for the host of this link");
                self.fault(
                    object,
                    "address",
                    wrong,
                    "expected one in the link's prefix, which has to be given; not ::ffff, the router's",
                );
            }
            if link.advertise {
                self.fault(
                    object,
                    "address",
                    "the host makes its address by itself",
                    "expected no address with advertise",
                );
            }
        }
        if link.advertise && !is_access {
            self.fault(
                object,
                "advertise",
                "this is no link between a router and a host",
                "expected it on such a link only",
            );
        }
        let is_impaired = link
            .impairments
            .iter()
            .any(|impairment| *impairment != Default::default());
        if link.plain && (is_impaired || !link.elements.is_empty()) {
            let wrong = "a plain link does nothing to packets";
            self.fault(
                object,
                "plain",
                wrong,
                "expected neither rate, delay and the like nor elements with it",
            );
        }
        for element in &link.elements {
            self.element(object, element, inside_forwards && outside_forwards);
        }
    }

    fn element(&mut self, object: Object, element: &Element, are_routers: bool) {
        let Element::Nptv6 { inside, outside } = element else {
            return;
        };
        if !are_routers {
            self.fault(
                object,
                "nptv6",
                "one of the ends is a host",
                "expected it between a router and its ISP",
            );
        }
        if inside.length() != outside.length() || inside.length() > 64 {
            let wrong = format!("{inside} cannot be translated to {outside}");
            self.fault(
                object,
                "nptv6",
                wrong,
                "expected prefixes of the same length, 64 at most",
            );
        }
        if inside.overlaps(*outside) {
            let wrong = format!("{inside} and {outside} overlap");
            self.fault(object, "nptv6", wrong, "expected two different prefixes");
        }
    }

    fn lonely(&mut self) {
        for (index, node) in self.description.nodes.iter().enumerate() {
            let is_linked = self.description.links.iter().any(|link| link.ends.contains(&node.name));
            if !is_linked {
                let wrong = format!("{:?} is on no link", node.name);
                let expected = format!("expected a [[link]] with ends = [{:?}, …]", node.name);
                self.fault(Object::Node(index), "name", wrong, expected);
            }
        }
    }

    fn prefixes(&mut self) {
        let mut seen: Vec<(Prefix, String)> = Vec::new();
        for (index, link) in self.description.links.iter().enumerate() {
            let outside = link.elements.iter().filter_map(|element| match element {
                Element::Nptv6 { outside, .. } => Some(("nptv6", *outside)),
                _ => None,
            });
            for (key, prefix) in link.prefix.map(|prefix| ("prefix", prefix)).into_iter().chain(outside) {
                let other = seen.iter().find(|(other, _)| other.overlaps(prefix));
                if let Some((other, name)) = other.cloned() {
                    let wrong = format!("{prefix} overlaps {other} of link {name:?}");
                    self.fault(Object::Link(index), key, wrong, "expected a prefix of its own");
                }
                seen.push((prefix, link.name()));
            }
        }
    }

    fn interfaces(&mut self) {
        let mut seen = BTreeMap::new();
        for (index, link) in self.description.links.iter().enumerate() {
            for (end, interface) in link.ends.iter().zip(&link.interfaces) {
                let Some(interface) = interface else {
                    continue;
                };
                if !is_name(interface, MAX_NAME) || interface == "lo" {
                    let wrong = format!("{interface:?} is no name for an interface");
                    self.fault(
                        Object::Link(index),
                        "interfaces",
                        wrong,
                        "expected 1 to 15 small letters, digits and -",
                    );
                } else if seen.insert((end, interface), index).is_some() {
                    let wrong = format!("{end:?} has another interface {interface:?}");
                    self.fault(Object::Link(index), "interfaces", wrong, "expected different ones");
                }
            }
        }
    }
}

fn is_name(name: &str, most: usize) -> bool {
    let is_allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    (1..=most).contains(&name.len())
        && name.bytes().all(is_allowed)
        && name.bytes().next().is_some_and(|octet| octet.is_ascii_lowercase())
}

fn list<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}
