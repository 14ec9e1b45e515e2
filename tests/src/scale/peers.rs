//! Thousands of hosts behind one TUN device, on one thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time;

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shim6_core::Instant;
use shim6_core::dataplane::addresses;
use shim6_tun::lab::Topology;
use shim6_tun::netlink::{MAIN_TABLE, RouteKind, RouteSpec};
use shim6_tun::sys::tun::PolledTun;

use super::peer::Peer;

const DEVICE: &str = "peers";
const MTU: u32 = 1500;
/// Peers that share the first 48 bits of their addresses, as hosts of a site do. Rates are limited per site.
const PER_SITE: usize = 64;
/// The sites' first and second uplinks are below these.
const UPLINKS: [(Ipv6Addr, u8); 2] = [
    (Ipv6Addr::new(0x2001, 0xdb8, 0x1000, 0, 0, 0, 0, 0), 36),
    (Ipv6Addr::new(0x2001, 0xdb8, 0x2000, 0, 0, 0, 0, 0), 36),
];
/// The most that there can be: twelve bits are left for the site.
pub const MOST: usize = PER_SITE << 12;
/// Packets between two looks at the timers.
const BATCH: usize = 64;
/// How long the thread sleeps at most.
const LOOK: u16 = 20;

/// The peers while they are played. Dropping it ends that.
#[derive(Debug)]
pub struct Peers {
    ulids: Vec<Ipv6Addr>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    established: AtomicUsize,
    /// The first uplinks of the peers from 0 to this one, not included, have failed.
    failed: AtomicUsize,
    over: AtomicBool,
}

impl Peers {
    /// Plays so many peers behind the router in which the lab's ISPs meet.
    ///
    /// # Errors
    /// More than [`MOST`], or something could not be set up.
    pub async fn start(count: usize, topology: &Topology) -> anyhow::Result<Self> {
        anyhow::ensure!(count <= MOST, "there can be {MOST} peers at most");
        let core = topology.core();
        let device = core.run(|| PolledTun::create(DEVICE, MTU))?.context("no TUN device")?;
        let netlink = core.netlink()?;
        for destination in UPLINKS {
            let route = RouteSpec {
                destination,
                source: None,
                gateway: None,
                output: Some(device.index()),
                table: MAIN_TABLE,
                metric: None,
                kind: RouteKind::Unicast,
            };
            netlink.add_route(&route).await?;
        }
        let peers = (0..count).map(|number| Peer::new(number, prefixes(number)));
        let peers: Vec<Peer> = peers.collect::<anyhow::Result<_>>()?;
        let ulids = peers.iter().map(|peer| peer.locators()[0]).collect();
        let shared = Arc::new(Shared::default());
        let mut player = Player::new(device, peers, Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("peers".to_owned())
            .spawn(move || player.run())?;
        Ok(Self {
            ulids,
            shared,
            thread: Some(thread),
        })
    }

    /// Their ULIDs, which are on their first uplinks.
    #[must_use]
    pub fn ulids(&self) -> &[Ipv6Addr] {
        &self.ulids
    }

    /// How many have a context.
    #[must_use]
    pub fn established(&self) -> usize {
        self.shared.established.load(Ordering::Relaxed)
    }

    /// Lets packets from and to the first uplinks of the first `count` peers vanish from now on; 0 heals all.
    pub fn fail(&self, count: usize) {
        self.shared.failed.store(count, Ordering::Relaxed);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn prefixes(number: usize) -> [Ipv6Addr; 2] {
    let site = (number / PER_SITE) as u128;
    UPLINKS.map(|(uplink, _)| Ipv6Addr::from_bits(uplink.to_bits() | site << 80))
}

/// What the thread has.
struct Player {
    device: PolledTun,
    peers: Vec<Peer>,
    /// Which peer has a locator, and whether it is its first.
    owners: HashMap<Ipv6Addr, (usize, bool)>,
    /// The times that peers asked for, those included that they no longer want.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The time that each peer wants.
    wanted: Vec<Option<Instant>>,
    is_established: Vec<bool>,
    shared: Arc<Shared>,
    epoch: time::Instant,
}

impl Player {
    fn new(device: PolledTun, peers: Vec<Peer>, shared: Arc<Shared>) -> Self {
        let mut owners = HashMap::new();
        for (number, peer) in peers.iter().enumerate() {
            let [first, second] = peer.locators();
            owners.extend([(first, (number, true)), (second, (number, false))]);
        }
        Self {
            device,
            owners,
            timers: BinaryHeap::new(),
            wanted: vec![None; peers.len()],
            is_established: vec![false; peers.len()],
            peers,
            shared,
            epoch: time::Instant::now(),
        }
    }

    fn run(&mut self) {
        let mut buffer = vec![0; 65_536];
        while !self.shared.over.load(Ordering::Relaxed) {
            self.wait();
            for _ in 0..BATCH {
                match self.device.try_recv(&mut buffer) {
                    Ok(length) => self.receive(&mut buffer[..length]),
                    // Nothing is there, or the lab is being taken down.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            self.run_timers();
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Until there is a packet, or a timer may be due.
    fn wait(&self) {
        let until = self.timers.peek().map(|Reverse((at, _))| *at);
        let left = until.map_or(u64::MAX, |at| at.as_micros().saturating_sub(self.now().as_micros()));
        let timeout = u16::try_from(left.div_ceil(1000)).unwrap_or(LOOK).min(LOOK);
        let mut wait = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        // An interruption is as good as a timeout.
        let _ = poll(&mut wait, PollTimeout::from(timeout));
    }

    fn receive(&mut self, packet: &mut [u8]) {
        let Some((_, destination)) = addresses(packet) else {
            return;
        };
        let Some(&(number, is_first)) = self.owners.get(&destination) else {
            return;
        };
        if !(is_first && self.has_failed(number)) {
            self.play(number, |peer, now, send| peer.receive(now, packet, send));
        }
    }

    fn has_failed(&self, number: usize) -> bool {
        number < self.shared.failed.load(Ordering::Relaxed)
    }

    fn run_timers(&mut self) {
        let now = self.now();
        while let Some(&Reverse((at, number))) = self.timers.peek().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            if self.wanted[number] == Some(at) {
                self.wanted[number] = None;
                self.play(number, Peer::timeout);
            }
        }
    }

    /// Has a peer do something, and puts what it sends onto the network.
    fn play(&mut self, number: usize, act: impl FnOnce(&mut Peer, Instant, &mut dyn FnMut(&[u8]))) {
        let (now, failed) = (self.now(), self.has_failed(number));
        let peer = &mut self.peers[number];
        let [first, _] = peer.locators();
        let device = &self.device;
        act(peer, now, &mut |packet| {
            let from_first = addresses(packet).is_some_and(|(source, _)| source == first);
            if !(failed && from_first) {
                // What the device has no room for is lost.
                let _ = device.try_send(packet);
            }
        });
        if !self.is_established[number] && peer.is_established() {
            self.is_established[number] = true;
            self.shared.established.fetch_add(1, Ordering::Relaxed);
        }
        let wanted = peer.poll_timeout();
        if wanted != self.wanted[number] {
            self.wanted[number] = wanted;
            self.timers.extend(wanted.map(|at| Reverse((at, number))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_prefixes_below_the_routed_ones() {
        for number in [0, PER_SITE, MOST - 1] {
            for (prefix, (uplink, length)) in prefixes(number).into_iter().zip(UPLINKS) {
                assert_eq!(prefix.to_bits() >> (128 - length), uplink.to_bits() >> (128 - length));
                assert_eq!(prefix.to_bits() << 48, 0, "a site has 48 bits");
            }
        }
        assert_ne!(prefixes(0), prefixes(PER_SITE));
    }
}
