//! Steering: leading the packets of chosen ULID pairs into the TUN device, and nothing else.
//!
//! Until its path fails, a pair's packets go the kernel's own way. A steered pair has a route into
//! the TUN in a routing table of our own. A rule sends every packet there first, but for those
//! with the daemon's own mark: the packets that it already rewrote. Another rule sends those through the main table, whatever rules
//! of others say of them.
//!
//! Who has named no source gets one from the route. So where the kernel's choice for a peer is the ULID of a steered pair, there
//! is a second route for packets without a source: `from ::/128` matches those, and no other packet.
//!
//! The packets of a flow that was forked are led into the TUN whatever becomes of the others between its ULIDs: a rule for them
//! leads to a second table, which has a route for the pair.
//!
//! A socket keeps the route that it found first until something invalidates it, and neither the
//! new route nor the rule does. Deleting any local address does, for all sockets of the network
//! namespace at once: so each batch of changes ends with a dummy address that comes and goes.

mod forks;
mod precedence;

pub use forks::fork_table;

use core::net::Ipv6Addr;
use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};

use futures_util::future::join_all;
use shim6_core::LocatorPair;

use super::ledger::Ledger;
use super::uplink::Uplink;
use crate::netlink::{
    AddressSpec, MAIN_TABLE, Netlink, NetlinkError, RouteHints, RouteKind, RouteSpec, RuleSpec, unless_missing,
};

/// From the discard-only block 100::/64 (RFC 6666): no host has an address from it.
const DUMMY: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0x7368, 0x696d);

/// Tables that belong to the kernel: unspecified, default, main and local.
const RESERVED_TABLES: [u32; 4] = [0, 253, 254, 255];

/// Questions that the kernel is asked before its first answer is read.
const LOOKUPS: usize = 256;

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
    /// The one behind it, for the daemon's own packets.
    own_rule: RuleSpec,
    /// What leads the packets of forked flows into the TUN device.
    forks: forks::ForkRules,
    /// How often each ULID was pinned.
    pins: BTreeMap<Ipv6Addr, usize>,
    /// Which source the kernel chose for a peer when it was asked.
    chosen: HashMap<Ipv6Addr, Ipv6Addr>,
    /// Peers with a route for packets without a source, and the source that it gives them.
    sourceless: HashMap<Ipv6Addr, Ipv6Addr>,
    /// Routes have changed, and sockets may not know.
    stale: bool,
}

impl Steering {
    /// Prepares `table`, empties it of what an earlier run left, and adds the rule that sends all
    /// packets but those marked `fwmark` through it, and those through the main table, in which the source routes are.
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
            flow: None,
        };
        let own_rule = RuleSpec {
            table: MAIN_TABLE,
            invert: false,
            ..rule
        };
        netlink.flush_table(table).await?;
        for listed in netlink.rules().await? {
            if listed == rule || listed == own_rule {
                unless_missing(netlink.delete_rule(&listed).await)?;
            }
        }
        let mut ledger = Ledger::new(netlink);
        let added = async {
            ledger.add_rule(&rule).await?;
            ledger.add_rule(&own_rule).await
        };
        if let Err(error) = added.await {
            ledger.undo_all().await;
            return Err(error.into());
        }
        Ok(Self {
            ledger,
            tun_index,
            table,
            rule,
            own_rule,
            forks: forks::ForkRules::default(),
            pins: BTreeMap::new(),
            chosen: HashMap::new(),
            sourceless: HashMap::new(),
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
        let unsteer: Vec<_> = unsteer.iter().flat_map(|pair| self.routes_to_remove(pair)).collect();
        let steer: Vec<_> = steer
            .iter()
            .flat_map(|(pair, mtu)| self.routes_to_set(pair, *mtu))
            .collect();
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

    /// Finds out for which of these pairs the kernel takes the local ULID as source by itself, when nobody names one. To be
    /// called while their own path works.
    ///
    /// # Errors
    /// The kernel's refusal to tell.
    pub async fn learn_sources(&mut self, pairs: &[LocatorPair]) -> Result<(), SteeringError> {
        // With the mark, hence without regard to what is steered.
        let mark = self.rule.fwmark.unwrap_or_default();
        let netlink = self.ledger.netlink().clone();
        for pairs in pairs.chunks(LOOKUPS) {
            let lookups = pairs
                .iter()
                .map(|pair| netlink.output_for(Ipv6Addr::UNSPECIFIED, pair.peer, mark));
            for (pair, found) in pairs.iter().zip(join_all(lookups).await) {
                if found?.and_then(|(_, source)| source) == Some(pair.local) {
                    self.chosen.insert(pair.peer, pair.local);
                }
            }
        }
        Ok(())
    }

    /// Keeps the local ULID of a pair a local address whatever happens to its uplink: puts it on the TUN too, not to
    /// be chosen for new connections. As often as it is pinned it has to be unpinned.
    pub async fn pin(&mut self, ulids: LocatorPair) -> Result<(), SteeringError> {
        let ulid = ulids.local;
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

    /// Puts all pinned ULIDs back on the TUN, which was down: the kernel removed them then. So it did with the routes of forks,
    /// which the next [`settle_forks`](Self::settle_forks) brings back.
    pub async fn repin(&mut self) -> Result<(), SteeringError> {
        self.forks.forget_routes();
        for &ulid in self.pins.keys() {
            let spec = on_tun(self.tun_index, ulid);
            self.ledger.add_address(&spec).await?;
        }
        Ok(())
    }

    /// Takes back one [`pin`](Self::pin); with the last one the address leaves the TUN.
    pub async fn unpin(&mut self, ulids: LocatorPair) -> Result<(), SteeringError> {
        let ulid = ulids.local;
        if self.chosen.get(&ulids.peer) == Some(&ulid) {
            self.chosen.remove(&ulids.peer);
        }
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

    /// What leads the packets of a pair into the TUN.
    fn routes_to_set(&mut self, ulids: &LocatorPair, mtu: Option<u32>) -> Vec<(RouteSpec, RouteHints)> {
        let hints = RouteHints {
            mtu,
            preferred_source: None,
        };
        let mut routes = vec![(self.route(ulids.local, ulids.peer), hints)];
        if self.chosen.get(&ulids.peer) == Some(&ulids.local) {
            self.sourceless.insert(ulids.peer, ulids.local);
            let hints = RouteHints {
                preferred_source: Some(ulids.local),
                ..hints
            };
            routes.push((self.route(Ipv6Addr::UNSPECIFIED, ulids.peer), hints));
        }
        routes
    }

    fn routes_to_remove(&mut self, ulids: &LocatorPair) -> Vec<RouteSpec> {
        let mut routes = vec![self.route(ulids.local, ulids.peer)];
        if self.sourceless.get(&ulids.peer) == Some(&ulids.local) {
            self.sourceless.remove(&ulids.peer);
            routes.push(self.route(Ipv6Addr::UNSPECIFIED, ulids.peer));
        }
        routes
    }

    fn route(&self, local: Ipv6Addr, peer: Ipv6Addr) -> RouteSpec {
        RouteSpec {
            destination: (peer, 128),
            source: Some((local, 128)),
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
