//! Leads the packets of steered contexts through the kernel, past the packet tasks, where the kernel permits it and the packets'
//! way is known.
//!
//! Its programs know as much as is needed for ordinary packets of contexts that are at peace; all else goes the way through the
//! daemon. So a context that looks for a path leaves the shortcut at once, since its packets are to be held, and comes back when it
//! has one and what was held is sent.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use shim6_core::{Dataplane, DataplaneUpdate, Flow, Instant, LocatorPair};

use super::observer::Observers;
use super::uplink::Uplink;
use crate::config::Config;
use crate::netlink::{Netlink, NetlinkError, Route, VirtualLink};
use crate::sys::bpf::{self, Incoming, Outgoing, ShortcutAttachment, ShortcutCounts, ShortcutDevices};
use crate::sys::ethtool;
use crate::sys::tun::Tun;

/// How often the ways in use are looked up again, in case something has changed of which the kernel gives no notice.
const LOOK_UP: Duration = Duration::from_millis(500);
/// Ways that are looked up at once, so that thousands of them hold up nobody.
const LOOK_UPS: usize = 64;
/// Octets of the longest name of an interface.
const LONGEST_NAME: usize = 15;

/// The programs, and what they were told.
#[derive(Debug)]
pub(crate) struct Shortcut {
    programs: bpf::Shortcut,
    link: VirtualLink,
    netlink: Netlink,
    fwmark: u32,
    /// By interface name, with its index.
    uplinks: HashMap<String, (u32, ShortcutAttachment)>,
    /// How the packets between these ULIDs leave.
    sent: HashMap<LocatorPair, Outgoing>,
    /// What the tags of ours are restored to.
    received: HashMap<u64, Incoming>,
    /// ULIDs whose packets may be able to leave by it.
    wanted: HashSet<LocatorPair>,
    /// ULIDs with forks, whose packets the programs cannot tell from the others.
    forked: HashSet<LocatorPair>,
    /// Those that could not, and are tried again.
    waiting: HashSet<LocatorPair>,
    /// Those in `sent` whose ways are looked up next.
    round: VecDeque<LocatorPair>,
    looked_up: Instant,
    /// Something has changed since the round began.
    stale: bool,
}

/// The way of a locator pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    interface: u32,
    next_hop: Ipv6Addr,
    mtu: u32,
}

impl Shortcut {
    /// Makes the virtual link and loads the programs, unless the configuration or the kernel does not want that.
    pub(crate) async fn open(
        config: &Config,
        netlink: &Netlink,
        tun: &Tun,
        observers: &mut Observers,
        uplinks: &[Uplink],
    ) -> Option<Self> {
        if !config.wire.below_ip || !config.wire.in_kernel || !observers.counts_in_kernel() {
            return None;
        }
        let (inside, outside) = (name(tun.name(), "-in"), name(tun.name(), "-out"));
        let queues = bpf::Shortcut::queues().map_err(anyhow::Error::new);
        let made = async { Ok(netlink.add_virtual_link(&inside, &outside, queues?).await?) };
        let link = match made.await {
            Ok(link) => link,
            Err::<_, anyhow::Error>(error) => {
                tracing::warn!("steered packets pass through the daemon: {error:#}");
                return None;
            }
        };
        let opened = Self::open_on(link, [&inside, &outside], (config, netlink), tun, observers, uplinks).await;
        match opened {
            Ok(shortcut) => Some(shortcut),
            Err(error) => {
                tracing::info!("steered packets pass through the daemon, which costs more: {error:#}");
                remove(netlink, link).await;
                None
            }
        }
    }

    async fn open_on(
        link: VirtualLink,
        [inside, outside]: [&str; 2],
        (config, netlink): (&Config, &Netlink),
        tun: &Tun,
        observers: &mut Observers,
        uplinks: &[Uplink],
    ) -> anyhow::Result<Self> {
        ethtool::cut_and_join(inside, outside)?;
        let tun_mtu = netlink.link(tun.name()).await?.mtu;
        for index in [link.inside, link.outside] {
            netlink.set_up(index).await?;
        }
        observers.watch_inside(link.inside)?;
        let devices = ShortcutDevices {
            tun: tun.index(),
            tun_mtu,
            inside: link.inside,
            inside_address: link.inside_address,
            outside: link.outside,
        };
        let mut shortcut = Self {
            programs: bpf::Shortcut::new(&devices, config.limits.contexts)?,
            link,
            netlink: netlink.clone(),
            fwmark: config.steering.fwmark,
            uplinks: HashMap::new(),
            sent: HashMap::new(),
            received: HashMap::new(),
            wanted: HashSet::new(),
            forked: HashSet::new(),
            waiting: HashSet::new(),
            round: VecDeque::new(),
            looked_up: Instant::EPOCH,
            stale: false,
        };
        for uplink in uplinks {
            let watched = shortcut.watch(uplink).await;
            watched.with_context(|| format!("on {}", uplink.interface))?;
        }
        Ok(shortcut)
    }

    /// The virtual link, which is to be removed at the end.
    pub(crate) fn link(&self) -> VirtualLink {
        self.link
    }

    /// What the programs have done.
    pub(crate) fn counts(&self) -> ShortcutCounts {
        self.programs.counts()
    }

    /// Takes packets that come in on this uplink, unless it does already, or the uplink is no Ethernet: the program would take
    /// something else for the link-layer header.
    pub(crate) async fn watch(&mut self, uplink: &Uplink) -> io::Result<()> {
        let is_watched = |&(index, _): &(u32, _)| index == uplink.index;
        if self.uplinks.get(&uplink.interface).is_some_and(is_watched) {
            return Ok(());
        }
        if known(self.netlink.ethernet(uplink.index).await).is_some() {
            let attachment = self.programs.watch(uplink.index)?;
            self.uplinks
                .insert(uplink.interface.clone(), (uplink.index, attachment));
        }
        Ok(())
    }

    /// Forgets an interface that was removed.
    pub(crate) fn forget(&mut self, index: u32) {
        self.uplinks.retain(|_, (watched, _)| *watched != index);
    }

    /// Forgets all interfaces, when it is not known which were removed.
    pub(crate) fn forget_all(&mut self) {
        self.uplinks.clear();
    }

    /// Takes what must not go by the shortcut any more out of it, before the table says so. What may go by it waits for
    /// [`settle`](Self::settle).
    pub(crate) fn announce(&mut self, update: &DataplaneUpdate) {
        match update {
            DataplaneUpdate::Insert(flow) if flow.forked_instance == 0 => {
                if self.sent.get(&flow.ulids).is_some_and(|sent| !leaves_so(flow, sent)) {
                    self.stop_sending(flow.ulids);
                }
                if is_quiet(flow) && !self.forked.contains(&flow.ulids) && !self.sent.contains_key(&flow.ulids) {
                    self.wanted.insert(flow.ulids);
                }
                self.receive(flow);
            }
            DataplaneUpdate::Remove(flow) if flow.forked_instance == 0 => {
                // Another context may have taken over the ULIDs meanwhile.
                let is_its = |sent: &Outgoing| sent.tag == flow.peer_tag.value();
                if self.sent.get(&flow.ulids).is_some_and(is_its) {
                    self.stop_sending(flow.ulids);
                }
                if self.received.remove(&flow.local_tag.value()).is_some() {
                    self.programs.stop_receiving(flow.local_tag.value());
                }
            }
            // What a packet of a fork is, its addresses do not say.
            DataplaneUpdate::Insert(_) | DataplaneUpdate::Remove(_) => {}
        }
    }

    /// Takes into the shortcut what may go by it, as the table says, of those flows whose `turn` it is: the others wait. To be called
    /// before packets of a flow are steered, so that none overtakes those before it.
    pub(crate) async fn settle(&mut self, table: &Dataplane, turn: impl Fn(&LocatorPair) -> bool) {
        let forked = &self.forked;
        let may_pass = |flow: &&Arc<Flow>| is_quiet(flow) && !forked.contains(&flow.ulids);
        let flows = |wanted: LocatorPair| table.flow(wanted).filter(may_pass).cloned();
        let flows: Vec<_> = self
            .wanted
            .extract_if(|wanted| turn(wanted))
            .filter_map(flows)
            .collect();
        if flows.is_empty() {
            return;
        }
        let pairs: BTreeSet<_> = flows.iter().map(|flow| flow.locators).collect();
        let ways: HashMap<_, _> = self.look_up(pairs).await.into_iter().collect();
        for flow in flows {
            match ways.get(&flow.locators).copied().flatten() {
                Some(way) => self.send(&flow, way),
                None => drop(self.waiting.insert(flow.ulids)),
            }
        }
    }

    /// Between these ULIDs there are forks, and no others. What is between them passes through the daemon.
    pub(crate) fn set_forked(&mut self, forked: HashSet<LocatorPair>) {
        let joined: Vec<_> = self.forked.difference(&forked).copied().collect();
        self.wanted.extend(joined);
        for &ulids in &forked {
            self.stop_sending(ulids);
        }
        self.forked = forked;
    }

    /// Routes, rules, links or neighbours have changed.
    pub(crate) fn look_again(&mut self) {
        self.stale = true;
    }

    /// When ways are to be looked up again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let is_used = !self.sent.is_empty() || !self.waiting.is_empty();
        let wait = if self.round.is_empty() && !self.stale {
            LOOK_UP
        } else {
            LOOK_UP / 10
        };
        is_used.then(|| self.looked_up + wait)
    }

    /// Looks up some of the ways in use, if it is time, and follows what has changed.
    pub(crate) async fn handle_timeout(&mut self, now: Instant, table: &Dataplane) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.looked_up = now;
        let mut again = HashSet::new();
        if self.round.is_empty() {
            self.stale = false;
            self.round.extend(self.sent.keys());
            again = std::mem::take(&mut self.waiting);
            self.wanted.extend(&again);
        }
        let next = self.round.drain(..self.round.len().min(LOOK_UPS));
        let flows = next.filter_map(|ulids| table.flow(ulids).filter(|flow| is_quiet(flow)).cloned());
        let flows: Vec<_> = flows.collect();
        let pairs: BTreeSet<_> = flows.iter().map(|flow| flow.locators).collect();
        let ways: HashMap<_, _> = self.look_up(pairs).await.into_iter().collect();
        for flow in flows {
            // It may have left the shortcut since the round began.
            match ways.get(&flow.locators).copied().flatten() {
                _ if !self.sent.contains_key(&flow.ulids) => {}
                Some(way) => self.send(&flow, way),
                None => {
                    self.stop_sending(flow.ulids);
                    self.waiting.insert(flow.ulids);
                }
            }
        }
        self.settle(table, |ulids| again.contains(ulids)).await;
    }

    fn receive(&mut self, flow: &Flow) {
        let incoming = Incoming {
            ulids: (flow.ulids.local, flow.ulids.peer),
            locator: flow.locators.local,
        };
        let tag = flow.local_tag.value();
        if self.received.get(&tag) == Some(&incoming) {
            return;
        }
        match self.programs.receive(tag, &incoming) {
            Ok(()) => drop(self.received.insert(tag, incoming)),
            Err(error) => tracing::debug!(%error, "packets of this context pass through the daemon"),
        }
    }

    fn send(&mut self, flow: &Arc<Flow>, way: Way) {
        let outgoing = Outgoing {
            locators: (flow.locators.local, flow.locators.peer),
            tag: flow.peer_tag.value(),
            interface: way.interface,
            next_hop: way.next_hop,
            mtu: way.mtu,
        };
        if self.sent.get(&flow.ulids) == Some(&outgoing) {
            return;
        }
        match self.programs.send((flow.ulids.local, flow.ulids.peer), &outgoing) {
            Ok(()) => drop(self.sent.insert(flow.ulids, outgoing)),
            Err(error) => tracing::debug!(%error, "packets of this context pass through the daemon"),
        }
    }

    fn stop_sending(&mut self, ulids: LocatorPair) {
        self.wanted.remove(&ulids);
        self.waiting.remove(&ulids);
        if self.sent.remove(&ulids).is_some() {
            self.programs.stop_sending((ulids.local, ulids.peer));
        }
    }

    async fn look_up(&self, pairs: BTreeSet<LocatorPair>) -> Vec<(LocatorPair, Option<Way>)> {
        let route = |pair: LocatorPair| async move {
            let route = self.netlink.route(pair.local, pair.peer, self.fwmark).await;
            (pair, known(route))
        };
        let routes = join_all(pairs.into_iter().map(route)).await;
        // There are few interfaces, however many pairs.
        let interfaces: BTreeSet<_> = routes
            .iter()
            .filter_map(|(_, route)| Some(route.as_ref()?.interface))
            .collect();
        let mut mtus = HashMap::new();
        for interface in interfaces {
            let ethernet = known(self.netlink.ethernet(interface).await);
            mtus.extend(ethernet.map(|ethernet| (interface, ethernet.mtu)));
        }
        let way = |Route { interface, neighbour }: Route| {
            // None if it is no Ethernet.
            let mtu = *mtus.get(&interface)?;
            Some(Way {
                interface,
                next_hop: neighbour,
                mtu,
            })
        };
        routes
            .into_iter()
            .map(|(pair, route)| (pair, route.and_then(way)))
            .collect()
    }
}

/// What the kernel says, if it says anything.
fn known<T>(answer: Result<Option<T>, NetlinkError>) -> Option<T> {
    answer.unwrap_or_else(|error| {
        tracing::debug!(%error, "looking for a way");
        None
    })
}

/// Removes the virtual link, and what hangs on it.
pub(crate) async fn remove(netlink: &Netlink, link: VirtualLink) {
    if let Err(error) = netlink.delete_link(link.inside).await
        && !error.is_not_found()
    {
        tracing::error!(%error, "removing the virtual link");
    }
}

/// Whether its packets bear other locators than the ULIDs, and need not be held.
fn is_quiet(flow: &Flow) -> bool {
    !flow.holding && flow.locators != flow.ulids
}

fn leaves_so(flow: &Flow, sent: &Outgoing) -> bool {
    is_quiet(flow) && sent.locators == (flow.locators.local, flow.locators.peer) && sent.tag == flow.peer_tag.value()
}

/// The name of an end of the virtual link.
fn name(tun: &str, end: &str) -> String {
    let mut length = tun.len().min(LONGEST_NAME - end.len());
    while !tun.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{end}", &tun[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_named_after_the_device_as_far_as_there_is_room() {
        assert_eq!(name("shim0", "-in"), "shim0-in");
        assert_eq!(name("fifteen-octets0", "-out"), "fifteen-oct-out");
        assert_eq!(name("eleven-octé0", "-out"), "eleven-oct-out");
    }
}
