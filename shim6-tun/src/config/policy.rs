//! `[[policy]]`: which traffic gets contexts, and after how much of it.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use super::network::{self, Network};
use super::read::Section;
use super::sections::interface_name;

/// Most rules: each packet that is looked at may be held against all of them.
const MAX_POLICIES: usize = 256;
/// Most entries of one list.
const MAX_ENTRIES: usize = 64;

const PORTS_EXPECTED: &str = "expected ports from 1 to 65535, such as 443, \"5000-5999\" or [22, 443]";
const PROTOCOLS_EXPECTED: &str =
    "expected \"tcp\", \"udp\", \"sctp\", \"icmpv6\", a number from 0 to 255, or several of them";
const UPLINK_EXPECTED: &str = "expected the interface of an uplink such as \"eth0\", or several of them";

/// One `[[policy]]`: the first whose conditions all hold decides. Where none does, `[trigger]` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// `peer`: networks of the other end. Default: any.
    pub peers: Vec<Network>,
    /// `uplink`: interfaces that this host's address belongs to. Default: any.
    pub uplinks: Vec<String>,
    /// `protocols`: upper-layer protocols. Default: any.
    pub protocols: Vec<Protocol>,
    /// `ports`: ports of either end. Default: any, and none at all.
    pub ports: Vec<RangeInclusive<u16>>,
    /// `protect`: whether this host sets up contexts for what matches. Default true.
    pub protect: bool,
    /// `answer`: whether peers that match may set up contexts with this host; not together with `protocols` and `ports`,
    /// which a peer does not tell. Default: the value of `protect`.
    pub answer: Option<bool>,
    /// `packets`: packets that match between two addresses, both directions together; 0 means not used. Default: that of
    /// `[trigger]`, or 0 where `octets` is given.
    pub packets: Option<u64>,
    /// `octets`: octets likewise. Default: that of `[trigger]`, or 0 where `packets` is given.
    pub octets: Option<u64>,
}

impl PolicyConfig {
    /// Whether it is about addresses alone, and not about what is in the packets.
    #[must_use]
    pub fn is_about_addresses(&self) -> bool {
        self.protocols.is_empty() && self.ports.is_empty()
    }

    /// Whether the other end is one that this rule is about.
    #[must_use]
    pub fn is_for(&self, peer: Ipv6Addr) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|network| network.contains(peer))
    }

    /// Packets and octets that are enough, given those of `[trigger]`.
    #[must_use]
    pub fn threshold(&self, trigger: &super::TriggerConfig) -> (u64, u64) {
        match (self.packets, self.octets) {
            (None, None) => (trigger.packets, trigger.octets),
            (packets, octets) => (packets.unwrap_or(0), octets.unwrap_or(0)),
        }
    }
}

/// An upper-layer protocol, by its number (Next Header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol(pub u8);

const NAMES: [(&str, u8); 4] = [("tcp", 6), ("udp", 17), ("icmpv6", 58), ("sctp", 132)];

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Reads the array.
pub(super) fn policies(root: &Section<'_>) -> Vec<PolicyConfig> {
    let sections = root.sections("policy", None);
    if let Some(first_too_many) = sections.get(MAX_POLICIES) {
        let wrong = format!("there are {} rules", sections.len());
        first_too_many.problem(&wrong, &format!("expected at most {MAX_POLICIES}"));
    }
    sections.iter().map(policy).collect()
}

fn policy(section: &Section<'_>) -> PolicyConfig {
    let list = |key| {
        section.list(key, (network::EXPECTED, MAX_ENTRIES), |text| {
            text.parse::<Network>().map_err(|e| e.to_string())
        })
    };
    let policy = PolicyConfig {
        peers: list("peer").unwrap_or_default(),
        uplinks: section
            .list("uplink", (UPLINK_EXPECTED, MAX_ENTRIES), interface_name)
            .unwrap_or_default(),
        protocols: section
            .list("protocols", (PROTOCOLS_EXPECTED, MAX_ENTRIES), protocol)
            .unwrap_or_default(),
        ports: section
            .list("ports", (PORTS_EXPECTED, MAX_ENTRIES), ports)
            .unwrap_or_default(),
        protect: section.boolean("protect").unwrap_or(true),
        answer: section.boolean("answer"),
        packets: section.integer("packets"),
        octets: section.integer("octets"),
    };
    let is_never = |count: Option<u64>| count.is_none_or(|count| count == 0);
    let has_count = section.has("packets") || section.has("octets");
    if policy.protect && has_count && is_never(policy.packets) && is_never(policy.octets) {
        let key = if section.has("packets") { "packets" } else { "octets" };
        let wrong = "is 0, so that no context would ever be set up by this rule";
        section.problem_at(key, wrong, "expected a count above 0, or protect = false");
    }
    if policy.answer.is_some() && !policy.is_about_addresses() {
        section.problem_at(
            "answer",
            "is set beside ports or protocols, which a peer that asks for a context does not tell",
            "expected it in a rule with peer and uplink only",
        );
    }
    section.finish();
    policy
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|&(_, number)| number);
    let number = named.or_else(|| text.parse().ok());
    number.map(Protocol).ok_or_else(|| format!("{text:?} is no protocol"))
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(_), Some(_)) => Err(format!("{text:?} ends before it starts")),
        _ => Err(format!("{text:?} is no port")),
    }
}
