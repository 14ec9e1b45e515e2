//! A topology from TOML.

use std::net::Ipv6Addr;
use std::path::Path;

use super::check::{self, Object};
use super::{Description, LinkSpec, NodeKind, NodeSpec};
use crate::config::ConfigError;
use crate::config::read::{Document, Section, instead};
use crate::lab::Prefix;
use crate::lab::link::{Element, Impairment, Setting};

const PREFIX: &str = "expected an IPv6 prefix such as \"2001:db8:a1::/64\"";
const FIREWALLS: [&str; 4] = ["drop-shim6", "drop-shim6-payload", "drop-extension-headers", "stateful"];
/// What stands for the prefix of the link itself.
const OWN: &str = "own";

pub(super) fn parse(path: &Path, text: &str) -> Result<Description, ConfigError> {
    let document = Document::parse([(path, text)]);
    let description = {
        let root = document.root();
        let nodes: Vec<_> = [
            ("host", NodeKind::Host),
            ("isp", NodeKind::Isp),
            ("router", NodeKind::Router),
        ]
        .into_iter()
        .flat_map(|(key, kind)| root.sections(key, None).into_iter().map(move |section| (section, kind)))
        .collect();
        let links = root.sections("link", None);
        let description = Description {
            seed: root.count("seed", (0, i64::MAX.unsigned_abs())).unwrap_or(0),
            nodes: nodes.iter().map(|(section, kind)| node(section, *kind)).collect(),
            links: links.iter().map(link).collect(),
        };
        root.finish();
        let is_understood = !document.has_problems();
        // What is not understood would make no sense in other ways, too.
        for fault in check::faults(&description).into_iter().filter(|_| is_understood) {
            let section = match fault.object {
                Object::Whole => &root,
                Object::Node(index) => &nodes[index].0,
                Object::Link(index) => &links[index],
            };
            section.problem_at(fault.key, &fault.wrong, &fault.expected);
        }
        description
    };
    document.into_result(description).map(|(description, _)| description)
}

fn node(section: &Section<'_>, kind: NodeKind) -> NodeSpec {
    section.required("name", "expected the node's name, such as \"a\"");
    let node = NodeSpec {
        name: section.parsed("name", "expected a name", word).unwrap_or_default(),
        kind,
        address: section.parsed("address", "expected an IPv6 address", address),
    };
    section.finish();
    node
}

fn link(section: &Section<'_>) -> LinkSpec {
    let two = "expected two nodes, such as [\"a\", \"isp\"]";
    section.required("ends", two);
    let ends = section
        .list("ends", (two, 2), word)
        .and_then(|ends| <[String; 2]>::try_from(ends).ok());
    if ends.is_none() && section.has("ends") {
        section.problem_at("ends", "these are not two nodes", two);
    }
    let [first, second] = ends.unwrap_or_default();
    let both = "expected the interfaces at both ends, such as [\"eth0\", \"access\"]";
    let interfaces = section.list("interfaces", (both, 2), word);
    if interfaces.as_ref().is_some_and(|interfaces| interfaces.len() != 2) {
        section.problem_at("interfaces", "these are not two interfaces", both);
    }
    let mut interfaces = interfaces.unwrap_or_default().into_iter();
    let prefix = section.parsed("prefix", PREFIX, |text| text.parse::<Prefix>());
    let link = LinkSpec {
        name: section.parsed("name", "expected a name", word).unwrap_or_default(),
        interfaces: [interfaces.next(), interfaces.next()],
        prefix,
        address: section.parsed("address", "expected an IPv6 address", address),
        advertise: section.boolean("advertise").unwrap_or(false),
        plain: section.boolean("plain").unwrap_or(false),
        impairments: impairments(section),
        elements: elements(section, prefix),
        ..LinkSpec::between(&first, &second)
    };
    section.finish();
    link
}

/// What the link says holds for both directions, and what one of them says for that one.
fn impairments(section: &Section<'_>) -> [Impairment; 2] {
    let both = impairment(section, Impairment::default());
    ["up", "down"].map(|key| {
        let own = section.section(key);
        let impairment = impairment(&own, both);
        own.finish();
        impairment
    })
}

fn impairment(section: &Section<'_>, base: Impairment) -> Impairment {
    Setting::NAMES.into_iter().fold(base, |impairment, name| {
        let read = section.list(name, (Setting::expected(name), 1), |text| Setting::parse(name, text));
        match read.as_deref() {
            Some([setting]) => impairment.with(*setting),
            _ => impairment,
        }
    })
}

/// From the inside outwards.
fn elements(section: &Section<'_>, own: Option<Prefix>) -> Vec<Element> {
    let expected = "expected \"drop-shim6\", \"drop-shim6-payload\", \"drop-extension-headers\" or \"stateful\", or several of them";
    let firewalls = section.list("firewall", (expected, FIREWALLS.len()), |text| match text {
        "drop-shim6" => Ok(Element::DropShim6),
        "drop-shim6-payload" => Ok(Element::DropShim6Payload),
        "drop-extension-headers" => Ok(Element::DropExtensionHeaders),
        "stateful" => Ok(Element::Stateful),
        other => Err(format!("{other:?} is no firewall, {}", instead(other, &FIREWALLS))),
    });
    let mut elements = firewalls.unwrap_or_default();
    if section.has("nptv6") {
        let nptv6 = section.section("nptv6");
        nptv6.required("inside", PREFIX);
        nptv6.required("outside", PREFIX);
        let read = |key| nptv6.parsed(key, PREFIX, |text| text.parse::<Prefix>());
        if let (Some(inside), Some(outside)) = (read("inside"), read("outside")) {
            elements.push(Element::Nptv6 { inside, outside });
        }
        nptv6.finish();
    }
    let expected = "expected \"own\" for the prefix of this link, or prefixes such as \"2001:db8:a1::/48\"";
    let allowed = section.list("ingress_filter", (expected, 16), |text| match (text, own) {
        (OWN, Some(own)) => Ok(own),
        (OWN, None) => Err("this link has no prefix of its own; give it one".to_owned()),
        _ => text.parse(),
    });
    elements.extend(allowed.map(Element::IngressFilter));
    elements
}

fn word(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv6 address"))
}
