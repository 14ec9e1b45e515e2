//! The embedded path: whole packets through two hosts' [`Shim`]s in memory, before and after a failure.

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::measure;
use rand_chacha::rand_core::Rng as _;
use shim6_core::shim::{HEADROOM, Shim, ShimConfig, Trigger};
use shim6_core::{Identity, Instant, LocatorPair, ReapState};

mod common;

use common::paired::{self, Effort};

const IPV6_HEADER: usize = 40;
const UDP: u8 = 17;
/// Packets in one run of what is compared.
const BATCH: usize = 1024;
/// Between two packets: some 100,000 in a second.
const PACE: Duration = Duration::from_micros(10);
/// What the headers of a packet and its Shim6 header take, at most.
const CHANGED: usize = HEADROOM + IPV6_HEADER;

fn main() {
    let effort = Effort::from_args();
    if !effort.measures() {
        println!("Not a measurement: each way runs once, to see that it does. `cargo bench` measures.");
    }
    for payload in [1400, 64] {
        paired::title(
            &format!("A packet of {payload} octets through both hosts' shims, beside two copies of its headers"),
            ["", "shims", "copies", "ratio"],
        );
        let mut net = Net::new(payload);
        net.compare(effort, "before a failure");
        net.fail();
        net.compare(effort, "after it");
    }
}

/// Two hosts that send to each other in turns.
struct Net {
    now: Instant,
    hosts: [Shim; 2],
    ulids: LocatorPair,
    /// A packet of each host behind the headroom.
    packets: [Vec<u8>; 2],
}

impl Net {
    /// With an established context.
    fn new(payload: usize) -> Self {
        let mut rng = common::rng(payload as u64);
        let mut host = || {
            let config = ShimConfig {
                trigger: Trigger {
                    packets: 0,
                    ..Trigger::default()
                },
                ..ShimConfig::default()
            };
            let identity = Identity::from_hba_set(&common::set(&mut rng), &mut rng);
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            Shim::new(config, identity, seed)
        };
        let hosts = [host(), host()];
        let ulids = common::ulids(hosts[0].endpoint(), hosts[1].endpoint());
        let packets = [ulids, ulids.seen_by_peer()].map(|ulids| packet(ulids, payload));
        let mut net = Self {
            now: Instant::from_micros(1_000_000),
            hosts,
            ulids,
            packets,
        };
        let now = net.now;
        net.hosts[0]
            .command(now, |endpoint| endpoint.establish(now, ulids))
            .expect("a context");
        net.exchange(|_| true);
        assert!(net.hosts.iter().all(|host| host.dataplane().len() == 1), "established");
        net
    }

    /// Has the path of the ULIDs die, and both hosts move to another one.
    fn fail(&mut self) {
        let dead = self.ulids;
        let is_alive = |on: LocatorPair| on != dead && on != dead.seen_by_peer();
        let is_moved = |host: &Shim| {
            let context = host.endpoint().contexts().next().expect("a context");
            context.locators != context.ulids && context.reap == ReapState::Operational
        };
        let mut buffer = Vec::new();
        while !self.hosts.iter().all(is_moved) {
            self.now += Duration::from_millis(10);
            let now = self.now;
            for side in 0..2 {
                buffer.clone_from(&self.packets[side]);
                let start = self.hosts[side].send(now, &mut buffer, HEADROOM).expect("a packet");
                if is_alive(addresses(&buffer[start..])) {
                    self.hosts[1 - side].receive(now, &mut buffer, start);
                }
                self.hosts[side].handle_timeout(now);
            }
            self.exchange(is_alive);
        }
        self.exchange(|_| true);
    }

    /// Hands over what the hosts have to say themselves, where the path is alive.
    fn exchange(&mut self, is_alive: impl Fn(LocatorPair) -> bool) {
        let mut buffer = vec![0; 2_000];
        let mut is_idle = false;
        while !is_idle {
            is_idle = true;
            for side in 0..2 {
                while let Some(length) = self.hosts[side].poll_transmit(&mut buffer) {
                    is_idle = false;
                    if is_alive(addresses(&buffer[..length])) {
                        self.hosts[1 - side].receive(self.now, &mut buffer[..length], 0);
                    }
                }
                while self.hosts[side].poll_event().is_some() {}
            }
        }
    }

    fn compare(&mut self, effort: Effort, what: &str) {
        let originals = self.packets.clone();
        let mut buffers = originals.clone();
        let mut through = || {
            for number in 0..BATCH {
                // As often as not from the other end: nobody has reason to send keepalives.
                let side = number % 2;
                self.now += PACE;
                let buffer = &mut buffers[side];
                buffer[..CHANGED].copy_from_slice(black_box(&originals[side][..CHANGED]));
                let start = self.hosts[side].send(self.now, buffer, HEADROOM).expect("it leaves");
                let start = self.hosts[1 - side]
                    .receive(self.now, buffer, start)
                    .expect("it arrives");
                assert_eq!(start, HEADROOM);
                for host in &mut self.hosts {
                    if host.poll_timeout().is_some_and(|at| at <= self.now) {
                        host.handle_timeout(self.now);
                    }
                }
            }
        };
        let allocations = measure(&mut through).count_total;
        let mut copied = originals.clone();
        let copy = || {
            for number in 0..BATCH * 2 {
                let side = number % 2;
                black_box(&mut copied[side])[..CHANGED].copy_from_slice(black_box(&originals[side][..CHANGED]));
            }
        };
        let comparison = effort.compare(through, copy).of_each(BATCH);
        paired::row_of_times(what, &comparison);
        println!("    allocations of {BATCH} packets: {allocations}");
        self.exchange(|_| true);
    }
}

fn packet(ulids: LocatorPair, payload: usize) -> Vec<u8> {
    let mut packet = vec![0; HEADROOM];
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&(payload as u16).to_be_bytes());
    packet.extend_from_slice(&[UDP, 64]);
    packet.extend_from_slice(&ulids.local.octets());
    packet.extend_from_slice(&ulids.peer.octets());
    packet.resize(packet.len() + payload, 0);
    packet
}

/// Source and destination.
fn addresses(packet: &[u8]) -> LocatorPair {
    let (local, peer) = shim6_core::dataplane::addresses(packet).expect("an IPv6 packet");
    LocatorPair { local, peer }
}
