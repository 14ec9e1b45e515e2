//! Which traffic gets contexts, and after how much of it: the rules of the configuration, over this host's addresses.

mod upper_layer;

use std::net::Ipv6Addr;

use shim6_core::{AnswerRule, LocatorPair, Prefix};

pub(crate) use self::upper_layer::UpperLayer;
use crate::config::{Config, Network, PolicyConfig};

/// The rules in their order. The last one matches everything: it is `[trigger]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    /// Whether any rule is about what is in the packets.
    looks_inside: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    config: Option<PolicyConfig>,
    /// The addresses of its uplinks; `None`: all.
    locals: Option<Vec<Ipv6Addr>>,
    protect: bool,
    threshold: Threshold,
}

/// How much traffic is enough; 0 means not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub(crate) packets: u64,
    pub(crate) octets: u64,
}

/// The number of a rule.
pub(crate) type RuleNumber = u16;

/// What follows from a pair's having had as much traffic as the lowest threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It gets a context.
    Enough,
    /// It gets none, whatever passes.
    Never,
    /// Its packets have to be looked at.
    LookCloser,
}

impl Policy {
    /// The configured rules; `addresses_of` tells this host's addresses on an interface.
    pub(crate) fn new(config: &Config, addresses_of: impl Fn(&str) -> Vec<Ipv6Addr>) -> Self {
        let trigger = &config.trigger;
        let rule = |policy: &PolicyConfig| {
            let (packets, octets) = policy.threshold(trigger);
            let uplinks = policy.uplinks.iter();
            Rule {
                locals: (!policy.uplinks.is_empty()).then(|| uplinks.flat_map(|name| addresses_of(name)).collect()),
                // Where [trigger] has no counts because it initiates nothing, neither has this rule.
                protect: policy.protect && (packets, octets) != (0, 0),
                threshold: Threshold { packets, octets },
                config: Some(policy.clone()),
            }
        };
        let otherwise = Rule {
            config: None,
            locals: None,
            protect: trigger.initiate,
            threshold: Threshold {
                packets: trigger.packets,
                octets: trigger.octets,
            },
        };
        let rules: Vec<_> = config.policies.iter().map(rule).chain([otherwise]).collect();
        Self {
            looks_inside: rules.iter().any(|rule| !rule.is_about_addresses()),
            rules,
        }
    }

    /// The rule that decides about a packet of a pair, if that is worth counting, and how much is enough for it. `octets`: the
    /// packet from its IPv6 header on, or the first of them.
    pub(crate) fn rule(&self, ulids: LocatorPair, octets: &[u8]) -> Option<(RuleNumber, Threshold)> {
        let upper = if self.looks_inside {
            UpperLayer::of(octets)
        } else {
            UpperLayer::default()
        };
        let (number, rule) = (0..)
            .zip(&self.rules)
            .find(|(_, rule)| rule.is_for(ulids) && rule.has(&upper))?;
        rule.protect.then_some((number, rule.threshold))
    }

    /// The lowest packets and the lowest octets that are enough by any rule.
    pub(crate) fn lowest(&self) -> Threshold {
        let least = |count: fn(&Threshold) -> u64| {
            let protecting = self.rules.iter().filter(|rule| rule.protect);
            protecting
                .map(|rule| count(&rule.threshold))
                .filter(|&count| count > 0)
                .min()
        };
        Threshold {
            packets: least(|threshold| threshold.packets).unwrap_or(0),
            octets: least(|threshold| threshold.octets).unwrap_or(0),
        }
    }

    /// What becomes of a pair that has reached the lowest threshold.
    pub(crate) fn judge(&self, ulids: LocatorPair) -> Verdict {
        let lowest = self.lowest();
        let mut verdict = None;
        for rule in self.rules.iter().filter(|rule| rule.is_for(ulids)) {
            let this = match rule.protect {
                false => Verdict::Never,
                true if rule.threshold == lowest => Verdict::Enough,
                true => Verdict::LookCloser,
            };
            // Unless all that may decide say the same, it is for the packets to tell.
            let so_far = verdict.get_or_insert(this);
            if *so_far != this {
                return Verdict::LookCloser;
            }
            if rule.is_about_addresses() {
                break;
            }
        }
        verdict.unwrap_or(Verdict::Never)
    }

    /// Who may set up contexts with this host.
    pub(crate) fn answers(&self) -> Vec<AnswerRule> {
        let rules = self.rules.iter().filter(|rule| rule.is_about_addresses());
        let answer = |rule: &Rule| {
            let config = rule.config.as_ref()?;
            let prefix = |network: &Network| Prefix {
                address: network.address(),
                length: network.length(),
            };
            Some(AnswerRule {
                peers: config.peers.iter().map(prefix).collect(),
                locals: rule.locals.clone(),
                answer: config.answer.unwrap_or(config.protect),
            })
        };
        rules.filter_map(answer).collect()
    }
}

impl Rule {
    fn is_about_addresses(&self) -> bool {
        self.config.as_ref().is_none_or(PolicyConfig::is_about_addresses)
    }

    /// Whether its conditions on addresses hold.
    fn is_for(&self, ulids: LocatorPair) -> bool {
        let is_ours = self.locals.as_ref().is_none_or(|locals| locals.contains(&ulids.local));
        is_ours && self.config.as_ref().is_none_or(|config| config.is_for(ulids.peer))
    }

    /// Whether its conditions on what is in the packet hold.
    fn has(&self, upper: &UpperLayer) -> bool {
        let Some(config) = &self.config else { return true };
        let protocols = &config.protocols;
        let is_protocol = protocols.is_empty() || protocols.iter().any(|protocol| Some(protocol.0) == upper.protocol);
        let has_port = |(one, other)| {
            config
                .ports
                .iter()
                .any(|ports| ports.contains(&one) || ports.contains(&other))
        };
        is_protocol && (config.ports.is_empty() || upper.ports.is_some_and(has_port))
    }
}

#[cfg(test)]
mod tests;
