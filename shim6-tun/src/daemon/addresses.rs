//! Our addresses on the uplinks, through link failures.
//!
//! When an interface goes down the kernel takes its addresses and routes away, and does not bring
//! them back. We do, for those that are ours. So we do with a source route that somebody deletes; as
//! long as that does not succeed, its address is no locator to be used.
//!
//! An uplink's other addresses get what RFC 8028 asks for as well: a route that leads what is sent from its prefix out by its
//! router. And new sessions are to start from our address, which can be moved, and not from one beside it: that is said in the
//! kernel's policy table of address labels (`preference.rs`), which touches no address or route of anybody.

use core::net::Ipv6Addr;
use core::time::Duration;

use super::ledger::Ledger;
use super::steering::{add_source_route, source_route};
use super::uplink::Uplink;
use crate::netlink::{Address, AddressSpec, Change, Link, MAIN_TABLE, Monitor, Netlink, NetlinkError, RouteSpec};

mod preference;
mod routers;

/// Duplicate address detection takes up to 2 s with the kernel's defaults (RFC 4862 5.4); this
/// allows for a few more probes.
const DAD_LIMIT: Duration = Duration::from_secs(15);

/// A source route that is deleted sooner than this after it was brought back is not brought back at
/// once, lest we and somebody else keep each other busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Why an address could not be given to its uplink.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Duplicate address detection found another owner.
    #[error(
        "{address} is in use by another host on {interface}: take another one (a new modifier or \
         collision count)"
    )]
    Duplicate {
        /// The address.
        address: Ipv6Addr,
        /// The uplink's interface.
        interface: String,
    },
    /// Duplicate address detection did not end.
    #[error("duplicate address detection for {address} on {interface} does not end")]
    Unfinished {
        /// The address.
        address: Ipv6Addr,
        /// The uplink's interface.
        interface: String,
    },
    /// A source route was brought back and deleted again at once.
    #[error(
        "something deletes the route of {address} on {interface} again and again; until it is left \
         alone, the address is not used"
    )]
    Unrouted {
        /// The address.
        address: Ipv6Addr,
        /// The uplink's interface.
        interface: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// What became of one of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressEvent {
    /// Can be used as a locator from now on.
    Usable(Ipv6Addr),
    /// Cannot be used: its link is down or without carrier, or it or its source route was removed.
    Lost(Ipv6Addr),
    /// Cannot be used: duplicate address detection found another owner.
    Duplicate(Ipv6Addr),
}

/// How far an address has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not on the interface.
    Absent,
    /// On the interface, not to be used yet.
    Tentative,
    Usable,
    Duplicate,
}

#[derive(Debug)]
struct Assigned {
    uplink: Uplink,
    address: Ipv6Addr,
    state: State,
    /// Whether it has its source route.
    routed: bool,
    /// When that was brought back last.
    restored: Option<tokio::time::Instant>,
    /// Not to be chosen for new sessions.
    deprecated: bool,
    /// Whether it could be used at some time, hence is nobody else's.
    proven: bool,
}

/// Our addresses, one or more per uplink, each with its source route.
#[derive(Debug)]
pub struct Addresses {
    ledger: Ledger,
    dad: bool,
    assigned: Vec<Assigned>,
}

impl Addresses {
    /// No addresses yet. `dad`: whether to look for other owners before using an address.
    pub fn new(netlink: &Netlink, dad: bool) -> Self {
        Self {
            ledger: Ledger::new(netlink),
            dad,
            assigned: Vec::new(),
        }
    }

    /// Gives `address` to its uplink, with a default route of its own; where the uplink is down,
    /// as soon as it comes up. Does not wait for duplicate address detection.
    pub async fn assign(&mut self, uplink: &Uplink, address: Ipv6Addr) -> Result<(), AddressError> {
        self.assign_as(uplink, address, false).await
    }

    /// As [`assign`](Self::assign); one that is `deprecated` is not chosen for new sessions where there is another.
    pub async fn assign_as(
        &mut self,
        uplink: &Uplink,
        address: Ipv6Addr,
        deprecated: bool,
    ) -> Result<(), AddressError> {
        self.assigned.push(Assigned {
            uplink: uplink.clone(),
            address,
            state: State::Absent,
            routed: false,
            restored: None,
            deprecated,
            proven: false,
        });
        let number = self.assigned.len() - 1;
        self.prefer(number).await;
        let links = self.ledger.netlink().links().await?;
        let link = links.iter().find(|link| link.index == uplink.index);
        self.assigned[number].uplink.up = link.is_some_and(|l| l.up && l.running);
        if link.is_some_and(|link| link.up) {
            self.add(number).await?;
        }
        self.forget_failed_routers().await
    }

    /// Waits until duplicate address detection is over for every address whose link is up.
    /// `monitor` must have been subscribed before the addresses were assigned, and be the one
    /// whose changes go to [`handle_change`](Self::handle_change) later.
    ///
    /// # Errors
    /// [`AddressError::Duplicate`] for the first address that has another owner; it is removed,
    /// so that another one can be assigned.
    pub async fn settle(&mut self, monitor: &mut Monitor) -> Result<(), AddressError> {
        let limit = tokio::time::Instant::now() + DAD_LIMIT;
        loop {
            let found = |a: &&Assigned| a.state == State::Duplicate;
            if let Some(duplicate) = self.assigned.iter().find(found) {
                let (address, interface) = (duplicate.address, duplicate.uplink.interface.clone());
                self.remove(address).await?;
                return Err(AddressError::Duplicate { address, interface });
            }
            let Some(waiting) = self.waiting() else {
                return Ok(());
            };
            let unfinished = AddressError::Unfinished {
                address: waiting.address,
                interface: waiting.uplink.interface.clone(),
            };
            let next = tokio::time::timeout_at(limit, next_change(monitor)).await;
            let change = next.map_err(|_| unfinished)??;
            self.handle_change(&change).await?;
        }
    }

    /// Takes `address` and its routes away.
    pub async fn remove(&mut self, address: Ipv6Addr) -> Result<(), AddressError> {
        while let Some(number) = self.assigned.iter().position(|a| a.address == address) {
            self.forget_preference(number).await?;
            let ours = &self.assigned[number];
            let (uplink, spec) = (ours.uplink.clone(), ours.spec(self.dad));
            self.ledger.remove_route(&source_route(&uplink, address)).await?;
            let shares = |other: &Assigned| other.address != address && other.uplink.prefix == uplink.prefix;
            if !self.assigned.iter().any(shares) {
                self.ledger.remove_route(&prefix_route(&uplink)).await?;
            }
            self.ledger.remove_address(&spec).await?;
            self.assigned.remove(number);
        }
        Ok(())
    }

    /// Says whether `address` may be chosen for new sessions.
    pub async fn set_deprecated(&mut self, address: Ipv6Addr, deprecated: bool) -> Result<(), AddressError> {
        for number in 0..self.assigned.len() {
            let ours = &mut self.assigned[number];
            if ours.address != address || ours.deprecated == deprecated {
                continue;
            }
            ours.deprecated = deprecated;
            let (is_present, spec) = (ours.state != State::Absent, ours.spec(self.dad));
            if is_present {
                self.ledger.set_address(&spec).await?;
            }
            self.prefer(number).await;
        }
        Ok(())
    }

    /// Leads what is sent from the prefix of `uplink` to another router from now on.
    pub async fn set_gateway(&mut self, uplink: &Uplink) -> Result<(), AddressError> {
        for number in 0..self.assigned.len() {
            let ours = &mut self.assigned[number];
            let is_this = ours.uplink.index == uplink.index && ours.uplink.prefix == uplink.prefix;
            if !is_this || ours.uplink.gateway == uplink.gateway {
                continue;
            }
            let former = std::mem::replace(&mut ours.uplink.gateway, uplink.gateway);
            let former = Uplink {
                gateway: former,
                ..ours.uplink.clone()
            };
            let address = ours.address;
            self.ledger.remove_route(&prefix_route(&former)).await?;
            self.ledger.remove_route(&source_route(&former, address)).await?;
            if self.assigned[number].uplink.up {
                self.restore_route(number).await?;
            }
        }
        Ok(())
    }

    /// Brings back what somebody has taken away: addresses, and routes of prefixes. False if something is left for later, as it was
    /// brought back a moment ago.
    pub async fn restore(&mut self) -> Result<bool, AddressError> {
        let mut all_done = true;
        for number in 0..self.assigned.len() {
            let ours = &mut self.assigned[number];
            if !ours.uplink.up {
                continue;
            }
            if ours.state != State::Absent {
                self.add_prefix_route(number).await?;
                continue;
            }
            let now = tokio::time::Instant::now();
            if ours.restored.is_some_and(|at| now - at < PATIENCE) {
                all_done = false;
                continue;
            }
            ours.restored = Some(now);
            tracing::warn!(address = %ours.address, interface = ours.uplink.interface, "was taken away; bringing it back");
            self.add(number).await?;
        }
        Ok(all_done)
    }

    /// Whether an uplink has another name now.
    pub fn is_renamed(&self, link: &Link) -> bool {
        let mut all = self.assigned.iter().map(|ours| &ours.uplink);
        all.any(|uplink| uplink.index == link.index && uplink.interface != link.name)
    }

    /// The connection, for other changes than of addresses.
    pub fn netlink(&self) -> &Netlink {
        self.ledger.netlink()
    }

    /// Whether an address of the host is one of ours.
    pub fn owns(&self, address: &Address) -> bool {
        self.assigned.iter().any(|ours| ours.address == address.address)
    }

    /// Whether a route of the main table is one of ours.
    pub fn owns_route(&self, route: &RouteSpec) -> bool {
        let is_ours = |ours: &Assigned| ours.is_routed_by(route) || prefix_route(&ours.uplink).describes(route);
        self.assigned.iter().any(is_ours)
    }

    /// Those that could be used at some time, whether they can now or not: they are nobody else's.
    pub fn proven(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.assigned.iter().filter(|a| a.proven).map(|a| a.address)
    }

    /// Takes in a change of the host's configuration: brings addresses and source routes back
    /// when their link returns. Returns what became of our addresses; never waits for
    /// duplicate address detection.
    pub async fn handle_change(&mut self, change: &Change) -> Result<Vec<AddressEvent>, AddressError> {
        let mut events = Vec::new();
        match change {
            Change::Link(link) => events = self.handle_link(link).await?,
            Change::LinkRemoved(index) => {
                for ours in self.on(*index) {
                    let was_usable = ours.is_usable();
                    ours.uplink.up = false;
                    ours.state = State::Absent;
                    ours.routed = false;
                    events.extend(ours.event_since(was_usable));
                }
            }
            Change::AddressAdded(address) => {
                for ours in self.on(address.index).filter(|a| a.address == address.address) {
                    events.extend(ours.enter(state_of(address)));
                }
            }
            Change::AddressRemoved(address) => {
                for ours in self.on(address.index).filter(|a| a.address == address.address) {
                    events.extend(ours.enter(State::Absent));
                }
            }
            Change::RouteAdded(route) => {
                for ours in self.assigned.iter_mut().filter(|a| a.is_routed_by(route)) {
                    let was_usable = ours.is_usable();
                    ours.routed = true;
                    events.extend(ours.event_since(was_usable));
                }
            }
            Change::RouteRemoved(route) => events = self.handle_route_loss(route).await?,
            Change::NeighbourFailed { index, address } => self.forget_failed(*index, *address).await?,
            Change::Rules => {}
            Change::Overrun => {
                events = self.resynchronize().await?;
                self.forget_failed_routers().await?;
            }
        }
        Ok(events)
    }

    /// The addresses that can be used as locators now.
    pub fn usable(&self) -> impl Iterator<Item = Ipv6Addr> {
        let usable = |a: &&Assigned| a.is_usable();
        self.assigned.iter().filter(usable).map(|a| a.address)
    }

    /// The uplinks in the order of assignment, with their present state, and our address there.
    pub fn uplinks(&self) -> impl Iterator<Item = (&Uplink, Ipv6Addr)> {
        self.assigned.iter().map(|a| (&a.uplink, a.address))
    }

    /// Takes all our addresses and source routes away.
    pub async fn undo(&mut self) -> Vec<NetlinkError> {
        self.assigned.clear();
        self.ledger.undo_all().await
    }

    async fn handle_link(&mut self, link: &Link) -> Result<Vec<AddressEvent>, AddressError> {
        let mut events = Vec::new();
        for number in 0..self.assigned.len() {
            let ours = &mut self.assigned[number];
            let was_usable = ours.is_usable();
            if ours.uplink.index == link.index {
                if ours.uplink.interface != link.name {
                    tracing::info!(from = ours.uplink.interface, to = link.name, "an uplink was renamed");
                    ours.uplink.interface.clone_from(&link.name);
                }
            } else if ours.uplink.interface == link.name {
                // Unplugged and plugged in again.
                ours.uplink.index = link.index;
                ours.state = State::Absent;
                ours.routed = false;
            } else {
                continue;
            }
            ours.uplink.up = link.up && link.running;
            ours.uplink.mtu = link.mtu;
            if link.up && ours.state == State::Absent {
                self.add(number).await?;
            } else if link.up && !ours.routed {
                self.restore_route(number).await?;
            }
            let ours = &self.assigned[number];
            events.extend(ours.event_since(was_usable));
        }
        Ok(events)
    }

    /// Somebody deleted a route, or the kernel did because its interface goes down.
    async fn handle_route_loss(&mut self, route: &RouteSpec) -> Result<Vec<AddressEvent>, AddressError> {
        let mut events = Vec::new();
        for number in 0..self.assigned.len() {
            let ours = &mut self.assigned[number];
            if !ours.is_routed_by(route) {
                continue;
            }
            let was_usable = ours.is_usable();
            ours.routed = false;
            let (address, interface) = (ours.address, &ours.uplink.interface);
            if was_usable {
                let now = tokio::time::Instant::now();
                if ours.restored.is_some_and(|at| now - at < PATIENCE) {
                    let interface = interface.clone();
                    return Err(AddressError::Unrouted { address, interface });
                }
                ours.restored = Some(now);
                tracing::warn!(%address, interface, "its source route was deleted; bringing it back");
                self.restore_route(number).await?;
            }
            events.extend(self.assigned[number].event_since(was_usable));
        }
        Ok(events)
    }

    async fn restore_route(&mut self, number: usize) -> Result<(), AddressError> {
        let ours = &mut self.assigned[number];
        match add_source_route(&mut self.ledger, &ours.uplink, ours.address).await {
            Ok(_) => ours.routed = true,
            // Its next event says how it goes on.
            Err(error) if went_down(&error) => {}
            Err(error) => return Err(error.into()),
        }
        self.add_prefix_route(number).await
    }

    async fn add_prefix_route(&mut self, number: usize) -> Result<(), AddressError> {
        let route = prefix_route(&self.assigned[number].uplink);
        match self.ledger.add_route(&route).await {
            Err(error) if !went_down(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Reads the state of everything again.
    async fn resynchronize(&mut self) -> Result<Vec<AddressEvent>, AddressError> {
        let links = self.ledger.netlink().links().await?;
        let addresses = self.ledger.netlink().addresses().await?;
        let routes = self.ledger.netlink().routes(MAIN_TABLE).await?;
        let mut events = Vec::new();
        for ours in &mut self.assigned {
            let was_usable = ours.is_usable();
            ours.routed = routes.iter().any(|route| ours.is_routed_by(route));
            events.extend(ours.event_since(was_usable));
            let state = ours.found_in(&addresses);
            events.extend(ours.enter(state));
            let exists = links
                .iter()
                .any(|l| l.index == ours.uplink.index || l.name == ours.uplink.interface);
            ours.uplink.up &= exists;
        }
        let mut first_error = None;
        for link in &links {
            match self.handle_link(link).await {
                Ok(more) => events.extend(more),
                // One uplink that fails must not keep the others from being looked at.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(events), Err)
    }

    /// Puts an address on its interface, which is up, and adds its source route.
    async fn add(&mut self, number: usize) -> Result<(), AddressError> {
        let ours = &mut self.assigned[number];
        let spec = ours.spec(self.dad);
        let source_route = async {
            let added = self.ledger.add_address(&spec).await?;
            add_source_route(&mut self.ledger, &ours.uplink, ours.address).await?;
            Ok(added)
        };
        let added = match source_route.await {
            Ok(added) => added,
            // Gone again: its next event says how it goes on.
            Err(error) if went_down(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ours.routed = true;
        ours.state = match (added, self.dad) {
            (true, false) => State::Usable,
            (true, true) => State::Tentative,
            // Somebody else's doing, which will not be announced again.
            (false, _) => {
                let addresses = self.ledger.netlink().addresses().await?;
                ours.found_in(&addresses)
            }
        };
        ours.proven |= ours.state == State::Usable;
        self.add_prefix_route(number).await
    }

    /// An address that duplicate address detection is busy with.
    fn waiting(&self) -> Option<&Assigned> {
        let busy = |a: &&Assigned| a.uplink.up && a.state == State::Tentative;
        self.assigned.iter().find(busy)
    }

    fn on(&mut self, index: u32) -> impl Iterator<Item = &mut Assigned> {
        let here = move |a: &&mut Assigned| a.uplink.index == index;
        self.assigned.iter_mut().filter(here)
    }
}

impl Assigned {
    fn is_usable(&self) -> bool {
        self.uplink.up && self.routed && self.state == State::Usable
    }

    /// Whether a route, as the kernel lists it, is our source route of this address.
    fn is_routed_by(&self, route: &RouteSpec) -> bool {
        source_route(&self.uplink, self.address).describes(route)
    }

    fn spec(&self, dad: bool) -> AddressSpec {
        let uplink = &self.uplink;
        // The provider says what is on-link; only a router with a global address needs a route.
        let no_prefix_route = uplink.gateway.is_none_or(|g| g.is_unicast_link_local());
        AddressSpec {
            index: uplink.index,
            address: self.address,
            // An address with the prefix would keep the kernel from taking the route of the prefix away with the last other address.
            prefix_len: if no_prefix_route { 128 } else { 64 },
            no_dad: !dad,
            deprecated: self.deprecated,
            no_prefix_route,
        }
    }

    fn found_in(&self, addresses: &[Address]) -> State {
        let same = |a: &&Address| a.index == self.uplink.index && a.address == self.address;
        addresses.iter().find(same).map_or(State::Absent, state_of)
    }

    fn enter(&mut self, state: State) -> Option<AddressEvent> {
        let was_usable = self.is_usable();
        let was_duplicate = self.state == State::Duplicate;
        self.state = state;
        self.proven |= state == State::Usable;
        if state == State::Duplicate && !was_duplicate {
            return Some(AddressEvent::Duplicate(self.address));
        }
        self.event_since(was_usable)
    }

    fn event_since(&self, was_usable: bool) -> Option<AddressEvent> {
        match (was_usable, self.is_usable()) {
            (false, true) => Some(AddressEvent::Usable(self.address)),
            (true, false) => Some(AddressEvent::Lost(self.address)),
            _ => None,
        }
    }
}

async fn next_change(monitor: &mut Monitor) -> Result<Change, NetlinkError> {
    let closed = || NetlinkError::Closed {
        operation: "wait for duplicate address detection".to_owned(),
    };
    monitor.next().await.ok_or_else(closed)
}

/// What is sent from any address under the uplink's prefix leaves by its router (RFC 8028 section 3.1).
fn prefix_route(uplink: &Uplink) -> RouteSpec {
    RouteSpec {
        source: Some((uplink.prefix, 64)),
        ..source_route(uplink, uplink.prefix)
    }
}

fn state_of(address: &Address) -> State {
    if address.dad_failed {
        State::Duplicate
    } else if address.tentative {
        State::Tentative
    } else {
        State::Usable
    }
}

/// Whether the kernel refused because the interface went down or away meanwhile.
fn went_down(error: &NetlinkError) -> bool {
    use nix::errno::Errno;
    let down = matches!(
        error,
        NetlinkError::Kernel {
            errno: Errno::ENETDOWN,
            ..
        }
    );
    down || error.is_not_found()
}

#[cfg(test)]
mod tests;
