//! Steering: leading the packets of chosen ULID pairs into the TUN device, and nothing else.
//!
//! Until its path fails, a pair's packets go the kernel's own way. A steered pair has a route into
//! the TUN in a routing table of our own. A rule sends every packet there first, but for those
//! with the daemon's own mark: the packets that it already rewrote.
//!
//! A socket keeps the route that it found first until something invalidates it, and neither the
//! new route nor the rule does. Deleting any local address does, for all sockets of the network
//! namespace at once: so each batch of changes ends with a dummy address that comes and goes.

mod precedence;

use core::net::Ipv6Addr;
use std::collections::btree_map::{BTreeMap, Entry};

use shim6_core::LocatorPair;

use super::ledger::Ledger;
use super::uplink::Uplink;
use crate::netlink::{AddressSpec, MAIN_TABLE, Netlink, NetlinkError, RouteKind, RouteSpec, RuleSpec, unless_missing};

/// From the discard-only block 100::/64 (RFC 6666): no host has an address from it.
const DUMMY: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0x7368, 0x696d);

/// Tables that belong to the kernel: unspecified, default, main and local.
const RESERVED_TABLES: [u32; 4] = [0, 253, 254, 255];

/// Why steering failed.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The table in the configuration is one of the kernel's own.
    #[error(
        "routing table {0} belongs to the kernel and would be flushed; set `table` in [steering] \
         to a number that nothing else uses, such as 21302"
    )]
    ReservedTable(u32),
    /// A mark of zero is that of all packets.
    #[error("`fwmark` in [steering] is 0, which all packets have; set another, such as 0x5336")]
    ZeroMark,
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The routing table, its rule, the steered pairs and the pinned ULIDs.
#[derive(Debug)]
pub struct Steering {
    ledger: Ledger,
    tun_index: u32,
    table: u32,
    /// Where it stands now: in front of others' rules that would lead steered packets elsewhere.
    rule: RuleSpec,
    /// How often each ULID was pinned.
    pins: BTreeMap<Ipv6Addr, usize>,
    /// Routes have changed, and sockets may not know.
    stale: bool,
}

impl Steering {
    /// Prepares `table`, empties it of what an earlier run left, and adds the rule that sends all
    /// packets but those marked `fwmark` through it.
    ///
    /// # Errors
    /// A table or mark that cannot be used, or the kernel's refusal; then nothing is left behind.
    pub async fn install(
        netlink: &Netlink,
        tun_index: u32,
        table: u32,
        rule_priority: u32,
        fwmark: u32,
    ) -> Result<Self, SteeringError> {
        if RESERVED_TABLES.contains(&table) {
            return Err(SteeringError::ReservedTable(table));
        }
        if fwmark == 0 {
            return Err(SteeringError::ZeroMark);
        }
        let rule = RuleSpec {
            priority: rule_priority,
            table,
            fwmark: Some(fwmark),
            invert: true,
        };
        netlink.flush_table(table).await?;
        let stale = netlink.rules().await?;
        for _ in stale.iter().filter(|listed| **listed == rule) {
            unless_missing(netlink.delete_rule(&rule).await)?;
        }
        let mut ledger = Ledger::new(netlink);
        ledger.add_rule(&rule).await?;
        Ok(Self {
            ledger,
            tun_index,
            table,
            rule,
            pins: BTreeMap::new(),
            stale: false,
        })
    }

    /// Stops steering the ULID pairs `unsteer`, steers the pairs `steer`, each with the MTU that its packets may have, and
    /// makes all sockets look up their routes again, once. Pairs that are as wanted already are fine.
    ///
    /// # Errors
    /// The first refusal of the kernel. The other pairs of the batch are done all the same.
    pub async fn apply(
        &mut self,
        steer: &[(LocatorPair, Option<u32>)],
        unsteer: &[LocatorPair],
    ) -> Result<(), SteeringError> {
        let unsteer: Vec<_> = unsteer.iter().map(|pair| self.route(pair)).collect();
        let steer: Vec<_> = steer.iter().map(|(pair, mtu)| (self.route(pair), *mtu)).collect();
        let mut answers = self.ledger.remove_routes(&unsteer).await;
        answers.append(&mut self.ledger.set_routes(&steer).await);
        let mut first_error = None;
        for answer in answers {
            match answer {
                Ok(changed) => self.stale |= changed,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if self.stale {
            self.invalidate().await?;
            self.stale = false;
        }
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Keeps `ulid` a local address whatever happens to its uplink: puts it on the TUN too, not to
    /// be chosen for new connections. As often as it is pinned it has to be unpinned.
    pub async fn pin(&mut self, ulid: Ipv6Addr) -> Result<(), SteeringError> {
        let spec = on_tun(self.tun_index, ulid);
        match self.pins.entry(ulid) {
            Entry::Occupied(mut pinned) => *pinned.get_mut() += 1,
            Entry::Vacant(vacant) => {
                self.ledger.add_address(&spec).await?;
                vacant.insert(1);
            }
        }
        Ok(())
    }

    /// Whether the last [`apply`](Self::apply) failed to make the sockets look up their routes again. The next one, even
    /// an empty one, tries again.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Puts all pinned ULIDs back on the TUN, which was down: the kernel removed them then.
    pub async fn repin(&mut self) -> Result<(), SteeringError> {
        for &ulid in self.pins.keys() {
            let spec = on_tun(self.tun_index, ulid);
            self.ledger.add_address(&spec).await?;
        }
        Ok(())
    }

    /// Takes back one [`pin`](Self::pin); with the last one the address leaves the TUN.
    pub async fn unpin(&mut self, ulid: Ipv6Addr) -> Result<(), SteeringError> {
        let spec = on_tun(self.tun_index, ulid);
        let Entry::Occupied(mut pinned) = self.pins.entry(ulid) else {
            return Ok(());
        };
        if *pinned.get() > 1 {
            *pinned.get_mut() -= 1;
        } else {
            self.ledger.remove_address(&spec).await?;
            pinned.remove();
        }
        Ok(())
    }

    /// Takes away the routes, pins and the rule. To be called while the TUN exists, so that no
    /// packet meets a route into nowhere.
    pub async fn undo(&mut self) -> Vec<NetlinkError> {
        self.pins.clear();
        let mut errors = self.ledger.undo_all().await;
        if let Err(error) = self.invalidate().await
            && !error.is_not_found()
        {
            errors.push(error);
        }
        errors
    }

    async fn invalidate(&self) -> Result<(), NetlinkError> {
        let (netlink, dummy) = (self.ledger.netlink(), on_tun(self.tun_index, DUMMY));
        match netlink.add_address(&dummy).await {
            // Left by a run that was killed at this very point; deleting it is what counts.
            Err(error) if error.is_exists() => {}
            other => other?,
        }
        netlink.delete_address(dummy.index, DUMMY, 128).await
    }

    fn route(&self, ulids: &LocatorPair) -> RouteSpec {
        RouteSpec {
            destination: (ulids.peer, 128),
            source: Some((ulids.local, 128)),
            gateway: None,
            output: Some(self.tun_index),
            table: self.table,
            metric: None,
            kind: RouteKind::Unicast,
        }
    }
}

fn on_tun(index: u32, address: Ipv6Addr) -> AddressSpec {
    AddressSpec {
        index,
        address,
        prefix_len: 128,
        no_dad: true,
        deprecated: true,
        no_prefix_route: true,
    }
}

/// Adds `default from ADDRESS via GATEWAY dev IF` to the main table, so that packets from our
/// locator leave by the uplink that owns it. `false` if there was such a route.
pub async fn add_source_route(ledger: &mut Ledger, uplink: &Uplink, address: Ipv6Addr) -> Result<bool, NetlinkError> {
    ledger.add_route(&source_route(uplink, address)).await
}

/// The route that [`add_source_route`] adds.
pub(super) fn source_route(uplink: &Uplink, address: Ipv6Addr) -> RouteSpec {
    RouteSpec {
        destination: (Ipv6Addr::UNSPECIFIED, 0),
        source: Some((address, 128)),
        gateway: uplink.gateway,
        output: Some(uplink.index),
        table: MAIN_TABLE,
        metric: None,
        kind: RouteKind::Unicast,
    }
}

#[cfg(test)]
mod tests;
