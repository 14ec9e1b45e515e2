//! Which rule is asked first.
//!
//! The kernel asks policy routing rules in the order of their priorities, and a rule of somebody else's that comes before
//! ours may lead steered packets elsewhere. That is no exotic case: `ip rule add` without a priority puts its rule in front of
//! all others. So what the kernel would do with steered packets is looked up, and if it is not what it should be, our rule is
//! moved to the front. It matters to nothing but steered pairs.

use core::net::Ipv6Addr;
use std::collections::BTreeSet;

use shim6_core::LocatorPair;

use super::{Steering, SteeringError};
use crate::netlink::{RuleOrder, RuleSpec};

/// The kernel's table of the host's own addresses, which no rule should come before.
const LOCAL_TABLE: u32 = 255;

impl Steering {
    /// Looks whether the packets between these ULIDs, which are steered, come into the TUN device. Where they do not, moves our
    /// rule in front of the others; brings it back if somebody has deleted it. Returns what is still in the way.
    ///
    /// # Errors
    /// The kernel's refusal to tell or to change.
    pub async fn assert_precedence(
        &mut self,
        steered: impl Iterator<Item = LocatorPair>,
    ) -> Result<Option<String>, SteeringError> {
        // One of each source is enough: nobody writes rules for single destinations.
        let mut sources = BTreeSet::new();
        let pairs: Vec<_> = steered.filter(|pair| sources.insert(pair.local)).collect();
        let netlink = self.ledger.netlink().clone();
        let present = netlink.rules().await?;
        let rules: Vec<_> = [self.rule, self.own_rule]
            .into_iter()
            .chain(self.forks.rules())
            .collect();
        for rule in rules {
            if !present.contains(&rule) {
                tracing::warn!(%rule, "a rule for steering was deleted; bringing it back");
                self.ledger.add_rule(&rule).await?;
                self.invalidate().await?;
            }
        }
        let mut rules = netlink.rule_order().await?;
        let Some(strayed) = self.strayed(&pairs, &rules).await? else {
            return Ok(None);
        };
        let first = self.before_us(&rules).map(|rule| rule.priority).min();
        if let Some(priority) = first.and_then(|priority| priority.checked_sub(1)).filter(|&p| p > 0) {
            self.move_rule(priority).await?;
            rules = netlink.rule_order().await?;
            if self.strayed(&pairs, &rules).await?.is_none() {
                return Ok(None);
            }
        }
        let priorities: Vec<_> = self.before_us(&rules).map(|rule| rule.priority.to_string()).collect();
        if priorities.is_empty() {
            return Ok(Some(format!(
                "{strayed}: something has deleted their routes in table {}; nothing else may use that table",
                self.table
            )));
        }
        Ok(Some(format!(
            "{strayed}: a policy rule in front of that for steering, at priority {}, leads them elsewhere (see `ip -6 rule`; rules \
             with a priority of 2 or more do no harm)",
            priorities.join(" or ")
        )))
    }

    /// Packets that should come into the TUN device and do not, in words.
    async fn strayed(&self, pairs: &[LocatorPair], rules: &[RuleOrder]) -> Result<Option<String>, SteeringError> {
        // Applications may have marks of their own, which such rules look for.
        let mut marks: BTreeSet<u32> = self.before_us(rules).filter_map(|rule| rule.fwmark).collect();
        marks.insert(0);
        for LocatorPair { local, peer } in pairs {
            for &mark in marks.iter().filter(|mark| Some(**mark) != self.rule.fwmark) {
                let output = self.ledger.netlink().output_for(*local, *peer, mark).await?;
                if output.is_none_or(|(index, _)| index != self.tun_index) {
                    return Ok(Some(describe(*local, mark)));
                }
            }
        }
        Ok(None)
    }

    /// The rules of others that are asked first.
    fn before_us<'r>(&self, rules: &'r [RuleOrder]) -> impl Iterator<Item = &'r RuleOrder> {
        let at = |rule: &RuleSpec| (rule.priority, rule.table);
        let (ours, companion) = (at(&self.rule), at(&self.own_rule));
        let before = rules.iter().take_while(move |rule| (rule.priority, rule.table) != ours);
        before.filter(move |rule| rule.table != LOCAL_TABLE && (rule.priority, rule.table) != companion)
    }

    async fn move_rule(&mut self, priority: u32) -> Result<(), SteeringError> {
        let moved = [self.rule, self.own_rule].map(|rule| RuleSpec { priority, ..rule });
        tracing::warn!(
            from = self.rule.priority,
            to = priority,
            "another rule led steered packets elsewhere; moved that for steering in front of it"
        );
        for rule in &moved {
            self.ledger.add_rule(rule).await?;
        }
        let before = [self.rule, self.own_rule];
        [self.rule, self.own_rule] = moved;
        for rule in &before {
            self.ledger.remove_rule(rule).await?;
        }
        self.move_fork_rules(priority).await?;
        self.invalidate().await?;
        Ok(())
    }
}

fn describe(source: Ipv6Addr, mark: u32) -> String {
    match mark {
        0 => format!("packets from {source} are not steered"),
        mark => format!("packets from {source} with the mark {mark:#x} are not steered"),
    }
}
