//! Sending rewritten packets: below the kernel's IP layer where that is possible, through it where it is not, and now and then
//! in any case.
//!
//! For each packet that the IP layer takes from a raw socket, it looks up a route, a neighbour and what packet filters say, which
//! takes as long as all else together. None of that changes from packet to packet. So a task asks the kernel where the
//! packets of a locator pair go first, and they are given to that neighbour.
//!
//! At least once every [`THROUGH_IP`] the first packet of a burst takes the IP layer's way. So the kernel goes on making sure that the
//! neighbour is there, its connection tracking knows of the flow, and what a packet filter forbids is not sent: the rest of the
//! burst goes the same way if that packet did not pass.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant as StdInstant};

use arc_swap::ArcSwap;
use shim6_core::{Instant, LocatorPair};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::netlink::{Ethernet, Netlink};
use crate::sys::wire_socket::{LinkSender, NextHop, SendOutcome, WirePacket, WireSender, XdpSender};

/// How long packets may go on being sent without one that takes the way through the IP layer.
const THROUGH_IP: Duration = Duration::from_millis(200);
/// How often the next hops in use are looked up again, in case something has changed of which the kernel gives no notice.
const LOOK_UP: Duration = Duration::from_millis(500);
/// How long a socket for frames is kept that no path uses: the kernel takes its time until an interface can have another.
const KEPT: Duration = Duration::from_secs(600);
/// Locator pairs that may wait for their next hop; another packet asks again.
const WANTED: usize = 64;

/// The sockets, and where packets go first.
#[derive(Debug)]
pub(crate) struct Wire {
    /// By local locator.
    senders: ArcSwap<HashMap<Ipv6Addr, Arc<WireSender>>>,
    /// None: everything goes through the IP layer.
    link: Option<LinkSender>,
    next_hops: ArcSwap<HashMap<LocatorPair, Arc<Path>>>,
    wanted: mpsc::Sender<LocatorPair>,
    /// Routes, links or neighbours have changed.
    changed: Notify,
}

/// Where the packets of a locator pair go first.
#[derive(Debug)]
struct Path {
    next_hop: NextHop,
    /// Where there is no queueing discipline that would be passed by: a socket that is faster still.
    frames: Option<Arc<Mutex<XdpSender>>>,
    /// When a packet went through the IP layer last, in microseconds.
    through_ip: AtomicU64,
    /// Packets were sent since the last look-up.
    used: AtomicBool,
    /// Something failed: to be looked up again before it is used again.
    failed: AtomicBool,
}

impl Wire {
    /// `link`: the socket for sending below the IP layer, if that is wanted. The other end of what is returned is for
    /// [`follow`](Self::follow).
    pub(crate) fn new(
        senders: HashMap<Ipv6Addr, WireSender>,
        link: Option<LinkSender>,
    ) -> (Self, mpsc::Receiver<LocatorPair>) {
        let (wanted, to_look_up) = mpsc::channel(WANTED);
        let senders = senders.into_iter().map(|(address, sender)| (address, Arc::new(sender)));
        let wire = Self {
            senders: ArcSwap::from_pointee(senders.collect()),
            link,
            next_hops: ArcSwap::default(),
            wanted,
            changed: Notify::new(),
        };
        (wire, to_look_up)
    }

    /// The addresses that packets can be sent from.
    pub(crate) fn addresses(&self) -> Vec<Ipv6Addr> {
        self.senders.load().keys().copied().collect()
    }

    /// Lets packets be sent from these addresses and no others; `open` makes what is missing.
    ///
    /// # Errors
    /// The first that could not be opened. The others are there all the same.
    pub(crate) fn set_addresses(
        &self,
        wanted: &BTreeSet<Ipv6Addr>,
        open: impl Fn(Ipv6Addr) -> io::Result<WireSender>,
    ) -> io::Result<()> {
        let present = self.senders.load();
        let mut first_error = None;
        let mut senders = HashMap::new();
        for &address in wanted {
            let sender = match present.get(&address) {
                Some(sender) => Ok(sender.clone()),
                None => open(address).map(Arc::new),
            };
            match sender {
                Ok(sender) => drop(senders.insert(address, sender)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        self.senders.store(Arc::new(senders));
        first_error.map_or(Ok(()), Err)
    }

    /// Whether `address` is one of this host's locators.
    pub(crate) fn has(&self, address: Ipv6Addr) -> bool {
        self.senders.load().contains_key(&address)
    }

    /// Sends whole IPv6 packets from one of our locators through the IP layer. None if it is not one of ours.
    pub(crate) fn send(&self, source: Ipv6Addr, packets: &[WirePacket<'_>]) -> Option<SendOutcome> {
        let senders = self.senders.load();
        let sender = senders.get(&source)?;
        Some(sender.send_parts(packets).unwrap_or_else(|_| all_failed(packets)))
    }

    /// Sends whole IPv6 packets between the locators of a pair, the shortest way. None if that is none of ours.
    pub(crate) fn send_on(&self, pair: LocatorPair, packets: &[WirePacket<'_>], now: Instant) -> Option<SendOutcome> {
        let Some((link, path)) = self.link.as_ref().and_then(|link| Some((link, self.path(pair)?))) else {
            return self.send(pair.local, packets);
        };
        let (mut outcome, mut rest) = (SendOutcome::default(), packets);
        if now - Instant::from_micros(path.through_ip.load(Relaxed)) >= THROUGH_IP {
            let (first, others) = packets.split_at(packets.len().min(1));
            outcome = self.send(pair.local, first)?;
            if outcome.sent == 0 {
                path.failed.store(true, Relaxed);
                return Some(outcome + self.send(pair.local, others)?);
            }
            path.through_ip.store(now.as_micros(), Relaxed);
            rest = others;
        }
        let below = path.send(link, rest);
        if below.unreachable + below.forbidden + below.other > 0 {
            path.failed.store(true, Relaxed);
        }
        Some(outcome + below)
    }

    /// Where the packets go first, if that is known. If it is not, it will be soon.
    fn path(&self, pair: LocatorPair) -> Option<Arc<Path>> {
        let next_hops = self.next_hops.load();
        let Some(path) = next_hops.get(&pair) else {
            // There is no harm in its being lost: the next packet asks again.
            let _ = self.wanted.try_send(pair);
            return None;
        };
        path.used.store(true, Relaxed);
        (!path.failed.load(Relaxed)).then(|| path.clone())
    }

    /// Something has changed that may change next hops.
    pub(crate) fn look_up_again(&self) {
        self.changed.notify_one();
    }

    /// Keeps the next hops up to date, for packets with the mark `fwmark`. Runs for ever.
    pub(crate) async fn follow(&self, netlink: &Netlink, fwmark: u32, mut wanted: mpsc::Receiver<LocatorPair>) {
        let mut look_up = interval(LOOK_UP);
        let mut frames = Frames::default();
        look_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut pairs = Vec::new();
            let is_empty = self.next_hops.load().is_empty();
            tokio::select! {
                count = wanted.recv_many(&mut pairs, WANTED) => {
                    if count == 0 {
                        return;
                    }
                }
                () = self.changed.notified() => pairs.extend(self.next_hops.load().keys()),
                _ = look_up.tick(), if !is_empty => {
                    self.forget_unused();
                    frames.close_unused();
                    pairs.extend(self.next_hops.load().keys());
                }
            }
            pairs.sort_unstable();
            pairs.dedup();
            for pair in pairs {
                self.look_up(netlink, fwmark, pair, &mut frames).await;
            }
        }
    }

    fn forget_unused(&self) {
        let mut next_hops = (**self.next_hops.load()).clone();
        next_hops.retain(|_, path| path.used.swap(false, Relaxed));
        self.next_hops.store(Arc::new(next_hops));
    }

    async fn look_up(&self, netlink: &Netlink, fwmark: u32, pair: LocatorPair, frames: &mut Frames) {
        let found = netlink.next_hop(pair.local, pair.peer, fwmark).await;
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "looking for a next hop");
            None
        });
        let socket = match found {
            Some(next_hop) => frames.on(netlink, next_hop.interface).await,
            None => None,
        };
        let known = self.next_hops.load().get(&pair).cloned();
        let path = match (known, found) {
            (Some(path), Some(next_hop)) if path.next_hop == next_hop && path.sends_with(socket.as_ref()) => {
                path.failed.store(false, Relaxed);
                return;
            }
            (None, None) => return,
            (_, None) => None,
            (_, Some(next_hop)) => Some(Arc::new(Path {
                next_hop,
                frames: socket,
                through_ip: AtomicU64::new(0),
                used: AtomicBool::new(true),
                failed: AtomicBool::new(false),
            })),
        };
        let mut next_hops = (**self.next_hops.load()).clone();
        match path {
            Some(path) => next_hops.insert(pair, path),
            None => next_hops.remove(&pair),
        };
        self.next_hops.store(Arc::new(next_hops));
    }
}

/// The sockets for frames, by interface, which all paths over it share.
#[derive(Default)]
struct Frames(HashMap<u32, Opened>);

/// What came of opening one.
struct Opened {
    /// What the interface was when it was looked at last.
    ethernet: Ethernet,
    /// None if the kernel refused.
    sender: Option<Arc<Mutex<XdpSender>>>,
    asked: StdInstant,
}

impl Frames {
    /// That of an interface as it is now, if it can have one.
    async fn on(&mut self, netlink: &Netlink, interface: u32) -> Option<Arc<Mutex<XdpSender>>> {
        let ethernet = netlink.ethernet(interface).await.ok().flatten();
        // A queueing discipline may come later, and is not to be passed by from then on.
        let ethernet = ethernet.filter(|ethernet| !ethernet.has_queue)?;
        let opened = self.0.entry(interface).or_insert_with(|| Opened {
            ethernet,
            sender: open_frames(interface, ethernet),
            asked: StdInstant::now(),
        });
        opened.asked = StdInstant::now();
        if std::mem::replace(&mut opened.ethernet, ethernet) != ethernet
            && let Some(sender) = &opened.sender
        {
            let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
            sender.set_link(ethernet.address, ethernet.mtu);
        }
        opened.sender.clone()
    }

    fn close_unused(&mut self) {
        self.0.retain(|_, opened| opened.asked.elapsed() < KEPT);
    }
}

fn open_frames(interface: u32, ethernet: Ethernet) -> Option<Arc<Mutex<XdpSender>>> {
    match XdpSender::open(interface, ethernet.address, ethernet.mtu) {
        Ok(sender) => Some(Arc::new(Mutex::new(sender))),
        Err(error) => {
            tracing::debug!(%error, interface, "sending by a packet socket instead");
            None
        }
    }
}

impl Path {
    fn sends_with(&self, frames: Option<&Arc<Mutex<XdpSender>>>) -> bool {
        match (&self.frames, frames) {
            (Some(ours), Some(other)) => Arc::ptr_eq(ours, other),
            (ours, other) => ours.is_none() && other.is_none(),
        }
    }

    /// Sends below the IP layer.
    fn send(&self, link: &LinkSender, packets: &[WirePacket<'_>]) -> SendOutcome {
        let (mut outcome, mut rest) = (SendOutcome::default(), packets);
        if let Some(frames) = &self.frames {
            // While another thread sends with it, this one does not wait, but takes the other way. What one thread sends leaves
            // in its order whichever way it takes.
            let frames = match frames.try_lock() {
                Err(TryLockError::WouldBlock) => None,
                Err(TryLockError::Poisoned(frames)) => Some(frames.into_inner()),
                Ok(frames) => Some(frames),
            };
            // Sizes that it does not take come alone or in a row.
            if let Some(mut frames) = frames.filter(|frames| packets.iter().all(|packet| frames.takes(packet))) {
                outcome = frames.send_parts(self.next_hop, packets);
                rest = &packets[outcome.sent + outcome.unreachable..];
            }
        }
        if rest.is_empty() {
            return outcome;
        }
        outcome
            + link
                .send_parts(self.next_hop, rest)
                .unwrap_or_else(|_| all_failed(rest))
    }
}

fn all_failed(packets: &[WirePacket<'_>]) -> SendOutcome {
    SendOutcome {
        other: packets.len(),
        ..SendOutcome::default()
    }
}

#[cfg(test)]
mod tests;
