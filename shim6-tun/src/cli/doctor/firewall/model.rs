//! What a packet filter does to a Shim6 packet, as far as its rules tell.

use std::collections::HashMap;
use std::net::Ipv6Addr;

/// Where in the host a packet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Input,
    Output,
}

/// A Shim6 packet between this host and some host of the Internet, the first one of its kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) hook: Hook,
    /// Where it comes in or goes out.
    pub(super) interface: &'a str,
    /// Our address.
    pub(super) local: Ipv6Addr,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Passes,
    /// By what, as people name it.
    Dropped(Place),
    /// The rules ask for what is not known here.
    Unsure(Place),
}

/// A chain, and where in it something happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Family, table and name, as `nft` has them; only the name for ip6tables.
    pub(super) chain: String,
    /// The rule, or the policy.
    pub(super) what: String,
}

/// All chains of one packet filter.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) chains: HashMap<String, Chain>,
}

#[derive(Debug)]
pub(super) struct Chain {
    /// Where it is called by the kernel; `None` for one that is only jumped to.
    pub(super) base: Option<Hook>,
    /// The one interface that it is for.
    pub(super) device: Option<String>,
    pub(super) drops_by_policy: bool,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
    /// As people find it again.
    pub(super) text: String,
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) test: Test,
    pub(super) negated: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Test {
    /// Upper-layer protocols, by name or number.
    Protocol(Vec<String>),
    /// Names of interfaces, maybe with a `*` at the end.
    In(Vec<String>),
    Out(Vec<String>),
    /// States of connection tracking.
    State(Vec<String>),
    /// Prefixes.
    Source(Vec<(Ipv6Addr, u8)>),
    Destination(Vec<(Ipv6Addr, u8)>),
    Never,
    Always,
    /// What cannot be told from here.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    /// Counts, logs, marks.
    Nothing,
    /// May be anything.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
}

/// How a walk through a chain ends.
enum End {
    Accepted,
    Dropped(Place),
    /// Back to the caller.
    Over,
}

/// What may have happened on the way.
#[derive(Default)]
struct Doubts {
    accepted: bool,
    dropped: Option<Place>,
}

/// Chains that call each other are followed so deep, as the kernel does.
const DEPTH: usize = 16;

impl Ruleset {
    /// What becomes of the packet; every chain of its hook has a say.
    pub(super) fn verdict(&self, packet: Packet<'_>) -> Verdict {
        let mut unsure = None;
        let mut bases: Vec<_> = self.chains.iter().collect();
        bases.sort_by_key(|(name, _)| *name);
        for (name, chain) in bases {
            let concerns = chain.base == Some(packet.hook)
                && chain.device.as_deref().is_none_or(|device| device == packet.interface);
            if !concerns {
                continue;
            }
            let mut doubts = Doubts::default();
            let mut end = self.walk(name, packet, &mut doubts, DEPTH);
            if matches!(end, End::Over) && chain.drops_by_policy {
                end = End::Dropped(Place {
                    chain: name.clone(),
                    what: "its policy, as no rule accepts them".to_owned(),
                });
            }
            match (end, doubts) {
                (End::Dropped(place), Doubts { accepted: false, .. }) => return Verdict::Dropped(place),
                (End::Dropped(place), _) => unsure = unsure.or(Some(place)),
                (_, Doubts { dropped, .. }) => unsure = unsure.or(dropped),
            }
        }
        unsure.map_or(Verdict::Passes, Verdict::Unsure)
    }

    fn walk(&self, name: &str, packet: Packet<'_>, doubts: &mut Doubts, depth: usize) -> End {
        let Some(chain) = self.chains.get(name).filter(|_| depth > 0) else {
            return End::Over;
        };
        for rule in &chain.rules {
            let truth = rule.applies_to(packet);
            if truth == Truth::No {
                continue;
            }
            let place = || Place {
                chain: name.to_owned(),
                what: rule.text.clone(),
            };
            let end = match &rule.action {
                Action::Nothing => continue,
                Action::Return if truth == Truth::Yes => return End::Over,
                // Whatever follows may not be reached; it is looked at nevertheless.
                Action::Return => continue,
                Action::Accept => End::Accepted,
                Action::Drop => End::Dropped(place()),
                Action::Unknown => {
                    doubts.dropped.get_or_insert_with(place);
                    continue;
                }
                Action::Jump(to) => self.walk(to, packet, doubts, depth - 1),
                Action::Goto(to) => match self.walk(to, packet, doubts, depth - 1) {
                    End::Over if truth == Truth::Yes => return End::Over,
                    end => end,
                },
            };
            match (end, truth) {
                (End::Over, _) => {}
                (end, Truth::Yes) => return end,
                (End::Accepted, _) => doubts.accepted = true,
                (End::Dropped(place), _) => {
                    doubts.dropped.get_or_insert(place);
                }
            }
        }
        End::Over
    }
}

impl Rule {
    fn applies_to(&self, packet: Packet<'_>) -> Truth {
        let truths: Vec<_> = self
            .conditions
            .iter()
            .map(|condition| condition.holds(packet))
            .collect();
        if truths.contains(&Truth::No) {
            Truth::No
        } else if truths.contains(&Truth::Unknown) {
            Truth::Unknown
        } else {
            Truth::Yes
        }
    }
}

impl Condition {
    fn holds(&self, packet: Packet<'_>) -> Truth {
        let is_input = packet.hook == Hook::Input;
        let truth = match &self.test {
            Test::Protocol(names) => any(names, |name| truth(is_shim6(name))),
            // A chain for packets that come in knows no interface by which they leave, and the other way round.
            Test::In(names) if is_input => any(names, |name| truth(is_named(name, packet.interface))),
            Test::Out(names) if !is_input => any(names, |name| truth(is_named(name, packet.interface))),
            Test::In(_) | Test::Out(_) => Truth::No,
            Test::State(states) => any(states, |state| truth(matches!(state.as_str(), "new" | "NEW"))),
            Test::Source(prefixes) => any(prefixes, |prefix| address(*prefix, (!is_input).then_some(packet.local))),
            Test::Destination(prefixes) => any(prefixes, |prefix| address(*prefix, is_input.then_some(packet.local))),
            Test::Never => Truth::No,
            Test::Always => Truth::Yes,
            Test::Unknown => Truth::Unknown,
        };
        match truth {
            Truth::Yes if self.negated => Truth::No,
            Truth::No if self.negated => Truth::Yes,
            truth => truth,
        }
    }
}

fn truth(is: bool) -> Truth {
    if is { Truth::Yes } else { Truth::No }
}

fn any<T>(all: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
    let truths: Vec<_> = all.iter().map(holds).collect();
    if truths.contains(&Truth::Yes) {
        Truth::Yes
    } else if truths.contains(&Truth::Unknown) {
        Truth::Unknown
    } else {
        Truth::No
    }
}

/// Zero stands for all protocols.
fn is_shim6(protocol: &str) -> bool {
    matches!(protocol, "140" | "shim6" | "0" | "all")
}

fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix(['*', '+']) {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Whether an address is in a prefix; that of a peer (`None`) is any global one.
fn address((prefix, length): (Ipv6Addr, u8), address: Option<Ipv6Addr>) -> Truth {
    let mask = |bits: u8| u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    let cut = |address: Ipv6Addr, bits| address.to_bits() & mask(bits);
    let (global, global_length) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    match address {
        Some(address) => truth(cut(address, length) == cut(prefix, length)),
        None if length <= global_length => truth(cut(global, length) == cut(prefix, length)),
        None if cut(prefix, global_length) == global.to_bits() => Truth::Unknown,
        None => Truth::No,
    }
}
