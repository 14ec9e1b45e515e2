//! The network configuration of a namespace, to see what a daemon left behind.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::lab::Namespace;
use crate::netlink::{MAIN_TABLE, Netlink};

/// The kernel's table of the host's own addresses.
const LOCAL_TABLE: u32 = 255;

/// Links, IPv6 addresses, routes and rules of a namespace, each as a line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Takes a snapshot. Of routing tables those that a rule leads to are read, and `tables`.
    ///
    /// Carrier is left out, since cutting a link changes it.
    pub async fn take(namespace: &Namespace, tables: &[u32]) -> anyhow::Result<Self> {
        let netlink = namespace.netlink()?;
        Self::read(&netlink, tables)
            .await
            .with_context(|| format!("cannot read the configuration of {}", namespace.name()))
    }

    async fn read(netlink: &Netlink, tables: &[u32]) -> anyhow::Result<Self> {
        let mut lines = BTreeSet::new();
        for link in netlink.links().await? {
            lines.insert(format!("link {} up={} mtu={}", link.name, link.up, link.mtu));
        }
        for address in netlink.addresses().await? {
            lines.insert(format!("address {address:?}"));
        }
        let mut read = BTreeSet::from([MAIN_TABLE, LOCAL_TABLE]);
        read.extend(tables);
        for rule in netlink.rules().await? {
            lines.insert(format!("rule {rule:?}"));
            read.insert(rule.table);
        }
        for table in read {
            for route in netlink.routes(table).await? {
                lines.insert(format!("route {route:?}"));
            }
        }
        Ok(Self(lines))
    }

    /// What is in `later` and not here (`+`), and the other way round (`-`).
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let added = later.0.difference(&self.0).map(|line| format!("+ {line}"));
        let removed = self.0.difference(&later.0).map(|line| format!("- {line}"));
        added.chain(removed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_names_what_came_and_what_went() {
        let of = |lines: &[&str]| Snapshot(lines.iter().map(|line| line.to_string()).collect());
        let before = of(&["link lo", "rule 0"]);
        let after = of(&["link lo", "route x"]);
        assert_eq!(before.difference(&after), ["+ route x", "- rule 0"]);
        assert!(before.difference(&before.clone()).is_empty());
    }
}
