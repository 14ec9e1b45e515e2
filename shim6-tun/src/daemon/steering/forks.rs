//! What leads the packets of single flows into the TUN device: a rule for each, and a route for the ULIDs in a table that only these
//! rules lead to.
//!
//! The rules have the priority of that for steering and come behind it, and behind the one for the daemon's own packets.

use std::collections::{BTreeMap, BTreeSet};

use shim6_core::LocatorPair;

use super::{RESERVED_TABLES, Steering, SteeringError};
use crate::netlink::{RouteHints, RouteSpec, RuleFlow, RuleSpec};

/// The rules and routes that there are.
#[derive(Debug, Default)]
pub(super) struct ForkRules {
    rules: BTreeMap<RuleFlow, RuleSpec>,
    /// Each with the MTU that its route has.
    routes: BTreeMap<LocatorPair, Option<u32>>,
}

impl Steering {
    /// Sees to it that the packets of these flows are led into the TUN device, by routes with these MTUs, and those of no other
    /// flow by a rule of its own. [`apply`](Self::apply) has to be called then, so that sockets look up their routes again.
    ///
    /// # Errors
    /// The first refusal of the kernel; what is done then stays done.
    pub async fn settle_forks(
        &mut self,
        flows: &BTreeSet<RuleFlow>,
        routes: &BTreeMap<LocatorPair, Option<u32>>,
    ) -> Result<(), SteeringError> {
        // A route comes before the rules that lead to it, and goes behind them.
        for (&ulids, &mtu) in routes {
            if self.forks.routes.get(&ulids) == Some(&mtu) {
                continue;
            }
            let hints = RouteHints {
                mtu,
                preferred_source: None,
            };
            let set = [(self.fork_route(ulids), hints)];
            self.ledger
                .set_routes(&set)
                .await
                .into_iter()
                .try_for_each(|set| set.map(drop))?;
            self.forks.routes.insert(ulids, mtu);
            self.stale = true;
        }
        let gone: Vec<_> = self
            .forks
            .rules
            .keys()
            .filter(|flow| !flows.contains(flow))
            .copied()
            .collect();
        for flow in gone {
            if let Some(rule) = self.forks.rules.get(&flow) {
                self.ledger.remove_rule(rule).await?;
            }
            self.forks.rules.remove(&flow);
            self.stale = true;
        }
        for &flow in flows {
            if !self.forks.rules.contains_key(&flow) {
                let rule = self.fork_rule(flow);
                self.ledger.add_rule(&rule).await?;
                self.forks.rules.insert(flow, rule);
                self.stale = true;
            }
        }
        let gone: Vec<_> = self
            .forks
            .routes
            .keys()
            .filter(|ulids| !routes.contains_key(ulids))
            .copied()
            .collect();
        for ulids in gone {
            self.ledger.remove_route(&self.fork_route(ulids)).await?;
            self.forks.routes.remove(&ulids);
        }
        Ok(())
    }

    /// Whether the packets of a flow are led into the TUN device.
    pub fn has_fork(&self, flow: &RuleFlow) -> bool {
        self.forks.rules.contains_key(flow)
    }

    /// The rule for steering has moved, and these follow it.
    pub(super) async fn move_fork_rules(&mut self, priority: u32) -> Result<(), SteeringError> {
        let before: Vec<_> = self.forks.rules.iter().map(|(&flow, &rule)| (flow, rule)).collect();
        for (flow, rule) in before {
            let moved = RuleSpec { priority, ..rule };
            self.ledger.add_rule(&moved).await?;
            self.forks.rules.insert(flow, moved);
            self.ledger.remove_rule(&rule).await?;
        }
        Ok(())
    }

    fn fork_rule(&self, flow: RuleFlow) -> RuleSpec {
        RuleSpec {
            priority: self.rule.priority,
            table: fork_table(self.table),
            fwmark: None,
            invert: false,
            flow: Some(flow),
        }
    }

    fn fork_route(&self, ulids: LocatorPair) -> RouteSpec {
        RouteSpec {
            table: fork_table(self.table),
            ..self.route(ulids.local, ulids.peer)
        }
    }
}

impl ForkRules {
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleSpec> + '_ {
        self.rules.values().copied()
    }

    pub(super) fn forget_routes(&mut self) {
        self.routes.clear();
    }
}

/// The routing table for forks: the one behind `table`, that for steering, or the next one that the kernel has not for itself.
#[must_use]
pub fn fork_table(table: u32) -> u32 {
    let mut next = table;
    loop {
        next = next.wrapping_add(1);
        if !RESERVED_TABLES.contains(&next) {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_table_is_the_next_one_that_is_free_for_use() {
        assert_eq!(fork_table(21_302), 21_303);
        assert_eq!(fork_table(252), 256);
        assert_eq!(fork_table(u32::MAX), 1);
    }
}
