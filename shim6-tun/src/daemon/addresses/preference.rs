//! Which of an uplink's addresses new sessions start from.
//!
//! The kernel chooses among the addresses of the outgoing interface by RFC 6724. Where all else is equal it takes the one that was
//! added last, hence one of a router advertisement or a temporary one sooner or later, and such a session cannot be moved. What
//! comes before that in its rules, and can be said without touching what is not ours, is the policy table: an address whose
//! label is that of the destination is preferred (section 5, rule 6). So the prefix of an uplink gets a label of its own, which no
//! destination beyond the link has, and our address in it the one that all destinations have.
//!
//! A preferred source of a route of our own would have to be in front of the host's default routes, hence decide on the uplink
//! too; and deprecating the other addresses would change what is not ours.

use core::net::Ipv6Addr;

use super::{AddressError, Addresses};
use crate::daemon::ledger::LABEL;
use crate::netlink::{LabelSpec, NetlinkError};

/// The label of all destinations that have no other (RFC 6724 section 2.1).
const COMMON: u32 = 1;

impl Addresses {
    /// Has new sessions take this address, if they are to. That it cannot be said is no reason not to use it.
    pub(super) async fn prefer(&mut self, number: usize) {
        if let Err(error) = self.try_prefer(number).await {
            let address = self.assigned[number].address;
            tracing::warn!(%address, %error, "new sessions may start from another address");
        }
    }

    async fn try_prefer(&mut self, number: usize) -> Result<(), NetlinkError> {
        let [prefix, single] = self.labels_of(number).await?;
        if self.assigned[number].deprecated {
            self.ledger.remove_label(&single).await?;
        } else {
            // First what tells after a crash whose the other one is.
            self.ledger.add_label(&prefix).await?;
            self.ledger.add_label(&single).await?;
        }
        Ok(())
    }

    /// Takes back what was said of this address.
    pub(super) async fn forget_preference(&mut self, number: usize) -> Result<(), AddressError> {
        let [prefix, single] = self.labels_of(number).await?;
        self.ledger.remove_label(&single).await?;
        let ours = &self.assigned[number];
        let shares = |(other, assigned): (usize, &super::Assigned)| {
            other != number && assigned.uplink.prefix == ours.uplink.prefix && !assigned.deprecated
        };
        if !self.assigned.iter().enumerate().any(shares) {
            self.ledger.remove_label(&prefix).await?;
        }
        Ok(())
    }

    /// That of the prefix and that of the address.
    async fn labels_of(&self, number: usize) -> Result<[LabelSpec; 2], NetlinkError> {
        let ours = &self.assigned[number];
        let all = (Ipv6Addr::UNSPECIFIED, 0);
        let labels = self.ledger.netlink().labels().await?;
        let common = labels.iter().find(|label| label.prefix == all);
        let prefix = LabelSpec {
            prefix: (ours.uplink.prefix, 64),
            label: LABEL,
        };
        let single = LabelSpec {
            prefix: (ours.address, 128),
            label: common.map_or(COMMON, |common| common.label),
        };
        Ok([prefix, single])
    }
}
