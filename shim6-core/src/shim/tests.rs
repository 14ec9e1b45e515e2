//! Two hosts with two uplinks each, whose packets all go through a shim, on a network in virtual time.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec};

use super::*;
use crate::config::Profile;
use crate::endpoint::{EstablishError, Protection};
use crate::wire::MessageType;
use crate::{ContextState, ReapState};

const A: usize = 0;
const B: usize = 1;
const DELAY: Duration = Duration::from_millis(5);
const UDP: u8 = 17;

struct Host {
    shim: Shim,
    locators: Vec<Ipv6Addr>,
    /// What its upper layers got.
    got: Vec<(Instant, Vec<u8>)>,
    events: Vec<Event>,
}

struct Net {
    now: Instant,
    hosts: [Host; 2],
    /// By arrival time and order.
    packets: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
    cut: Vec<[Ipv6Addr; 2]>,
    /// Addresses of all packets that left a host and are no control messages.
    wire: Vec<[Ipv6Addr; 2]>,
}

impl Net {
    fn new(config: &ShimConfig) -> Self {
        let host = |number: u8| {
            let mut rng = ChaCha12Rng::from_seed([number; 32]);
            let prefix = |uplink| Ipv6Addr::new(0x2001, 0xdb8, u16::from(number) << 4 | uplink, 0, 0, 0, 0, 0).into();
            let set = HbaSet::generate(&[prefix(1), prefix(2)], Sec::ZERO, &mut rng).expect("two prefixes");
            Host {
                shim: Shim::new(config.clone(), Identity::from_hba_set(&set, &mut rng), [number; 32]),
                locators: set.addresses().to_vec(),
                got: Vec::new(),
                events: Vec::new(),
            }
        };
        Self {
            now: Instant::from_micros(1_000_000),
            hosts: [host(1), host(2)],
            packets: BTreeMap::new(),
            count: 0,
            cut: Vec::new(),
            wire: Vec::new(),
        }
    }

    /// The pair of locators with these indices, as `from` sees it.
    fn pair(&self, from: usize, local: usize, peer: usize) -> LocatorPair {
        LocatorPair::new(self.hosts[from].locators[local], self.hosts[1 - from].locators[peer])
    }

    fn flow(&self, from: usize, local_port: u16, peer_port: u16) -> FlowKey {
        FlowKey {
            ulids: self.pair(from, 0, 0),
            protocol: UDP,
            local_port,
            peer_port,
        }
    }

    fn cut(&mut self, pair: LocatorPair) {
        self.cut.extend([[pair.local, pair.peer], [pair.peer, pair.local]]);
    }

    /// An application's packet.
    fn send(&mut self, from: usize, flow: &FlowKey) {
        let packet = datagram(flow);
        let mut buffer = vec![0; HEADROOM];
        buffer.extend(&packet);
        let start = self.hosts[from].shim.send(self.now, &mut buffer, HEADROOM);
        let packet = buffer.split_off(start.expect("well-formed"));
        self.transmit(packet);
        self.drain(from);
    }

    fn transmit(&mut self, packet: Vec<u8>) {
        let (source, destination) = dataplane::addresses(&packet).expect("an IPv6 packet");
        if !is_control(&packet) {
            self.wire.push([source, destination]);
        }
        if !self.cut.contains(&[source, destination]) {
            self.count += 1;
            self.packets.insert((self.now + DELAY, self.count), packet);
        }
    }

    fn drain(&mut self, host: usize) {
        let mut buffer = [0; 1500];
        while let Some(length) = self.hosts[host].shim.poll_transmit(&mut buffer) {
            self.transmit(buffer[..length].to_vec());
        }
        let at = self.now;
        let host = &mut self.hosts[host];
        while let Some(length) = host.shim.poll_deliver(&mut buffer) {
            host.got.push((at, buffer[..length].to_vec()));
        }
        while let Some(event) = host.shim.poll_event() {
            host.events.push(event);
        }
    }

    /// Lets time pass; each flow's packet is sent by its host at each interval, and answered by the other host.
    fn run(&mut self, duration: Duration, flows: &[FlowKey]) {
        let end = self.now + duration;
        let mut next_send = self.now;
        loop {
            let arrival = self.packets.keys().next().map(|&(at, _)| at);
            let timeouts = [A, B].map(|host| self.hosts[host].shim.poll_timeout());
            let next = [arrival, timeouts[A], timeouts[B], Some(next_send)];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let packet = entry.remove();
                self.arrive(packet);
            }
            for host in [A, B] {
                if self.hosts[host].shim.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.hosts[host].shim.handle_timeout(self.now);
                    self.drain(host);
                }
            }
            if next_send <= self.now {
                next_send = self.now + Duration::from_millis(20);
                flows.iter().for_each(|flow| self.send(A, flow));
            }
        }
    }

    fn arrive(&mut self, mut packet: Vec<u8>) {
        let (_, destination) = dataplane::addresses(&packet).expect("an IPv6 packet");
        let host = usize::from(self.hosts[B].locators.contains(&destination));
        let start = self.hosts[host].shim.receive(self.now, &mut packet, 0);
        if let Some(start) = start {
            let packet = packet.split_off(start);
            let flow = FlowKey::of_received(&packet).expect("UDP");
            self.hosts[host].got.push((self.now, packet));
            if host == B {
                self.send(B, &flow);
            }
        }
        self.drain(host);
    }

    fn established(&self, host: usize) -> usize {
        let contexts = self.hosts[host].shim.endpoint().contexts();
        contexts
            .filter(|context| context.state == ContextState::Established)
            .count()
    }

    /// The longest time that a host's upper layers got nothing, from `since` to now.
    fn longest_gap(&self, host: usize, since: Instant) -> Duration {
        let times = self.hosts[host].got.iter().map(|&(at, _)| at).filter(|&at| at > since);
        let ends: Vec<_> = [since].into_iter().chain(times).chain([self.now]).collect();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max().expect("two ends")
    }
}

fn datagram(flow: &FlowKey) -> Vec<u8> {
    let mut packet = ipv6_header(flow.ulids.local, flow.ulids.peer, 16).to_vec();
    packet[6] = flow.protocol;
    packet.extend(flow.local_port.to_be_bytes());
    packet.extend(flow.peer_port.to_be_bytes());
    packet.extend([0, 16, 0, 0]);
    packet.extend([7; 8]);
    packet
}

fn is_control(packet: &[u8]) -> bool {
    packet[6] == PROTOCOL && packet[IPV6_HEADER_LEN + 2] & 0x80 == 0
}

fn config() -> ShimConfig {
    ShimConfig::default()
}

#[test]
fn traffic_sets_up_a_context_and_goes_on_when_its_path_is_cut() {
    let mut net = Net::new(&config());
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(2), &[flow]);
    assert_eq!((net.established(A), net.established(B)), (1, 1));
    let rewritten = |net: &Net| net.hosts[A].shim.counters().rewritten;
    assert_eq!(rewritten(&net), 0, "before a failure the packets are as they were");
    let cut_at = net.now;
    net.cut(net.pair(A, 0, 0));
    net.run(Duration::from_secs(3), &[flow]);
    for host in [A, B] {
        let gap = net.longest_gap(host, cut_at);
        assert!(gap < Duration::from_millis(400), "host {host}: {gap:?}");
    }
    assert!(rewritten(&net) > 100 && net.hosts[B].shim.counters().restored > 100);
    // The upper layers never see anything but ULIDs.
    for (host, other) in [(A, B), (B, A)] {
        let own = net.hosts[host].locators[0];
        let peer = net.hosts[other].locators[0];
        let is_between = |packet: &Vec<u8>| dataplane::addresses(packet) == Some((peer, own));
        assert!(net.hosts[host].got.iter().all(|(_, packet)| is_between(packet)));
    }
    let moved = |event: &Event| matches!(event, Event::PathChanged { .. });
    assert!([A, B].iter().all(|&host| net.hosts[host].events.iter().any(moved)));
}

#[test]
fn without_contexts_a_cut_path_is_the_end() {
    let trigger = Trigger {
        packets: 0,
        ..Trigger::default()
    };
    let mut net = Net::new(&ShimConfig { trigger, ..config() });
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(2), &[flow]);
    let cut_at = net.now;
    net.cut(net.pair(A, 0, 0));
    net.run(Duration::from_secs(3), &[flow]);
    assert_eq!(net.established(A), 0);
    assert!(net.longest_gap(B, cut_at) > Duration::from_millis(2_900));
}

#[test]
fn what_was_sent_into_a_failure_is_sent_again() {
    let mut net = Net::new(&config());
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(2), &[flow]);
    let cut_at = net.now;
    // Also the pair that is tried next, so that the search takes some time.
    net.cut(net.pair(A, 0, 0));
    net.cut(net.pair(A, 1, 1));
    net.run(Duration::from_secs(3), &[flow]);
    let sent_after = 3_000 / 20;
    let replayed = net.hosts[A].shim.counters().replayed;
    assert!(replayed > 0);
    let got = net.hosts[B].got.iter().filter(|&&(at, _)| at > cut_at).count();
    // All but those that were sent before the failure was noticed.
    assert!(got + 10 > sent_after, "{got} of {sent_after}, {replayed} sent again");
    assert!(net.hosts[A].shim.hold().is_empty(), "nothing is kept");
}

/// The pairs of addresses on which packets of a flow were last on the wire, each way.
fn last_on_the_wire(net: &mut Net, flow: &FlowKey) -> [[Ipv6Addr; 2]; 2] {
    net.wire.clear();
    net.send(A, flow);
    let sent = *net.wire.last().expect("it left");
    net.run(DELAY * 2, &[]);
    [sent, *net.wire.last().expect("the answer left")]
}

#[test]
fn two_flows_between_the_same_hosts_take_two_paths() {
    let mut net = Net::new(&config());
    let (one, other) = (net.flow(A, 1000, 53), net.flow(A, 2000, 53));
    net.run(Duration::from_secs(1), &[one, other]);
    let fork = net.hosts[A].shim.fork(net.now, other).expect("there is room");
    net.drain(A);
    assert_eq!(net.hosts[A].shim.fork(net.now, other), Err(ForkError::Forked));
    net.run(Duration::from_secs(1), &[one, other]);
    assert_eq!(net.established(B), 2);
    assert_eq!(net.hosts[B].shim.forked_flows(), 1, "the peer follows");
    let second = net.pair(A, 1, 1);
    let until = net.now + Duration::from_secs(1);
    let at = net.now;
    net.hosts[A]
        .shim
        .command(at, |endpoint| endpoint.move_to(at, fork, second, until))
        .expect("an idle pair");
    let of_peer = net.hosts[B]
        .shim
        .session(&FlowKey::of_received(&datagram(&other)).expect("UDP"));
    let at_peer = of_peer.expect("the fork");
    assert_ne!(at_peer.forked_instance, 0);
    net.hosts[B]
        .shim
        .command(at, |endpoint| {
            endpoint.move_to(at, at_peer.id, second.seen_by_peer(), until)
        })
        .expect("an idle pair");
    [A, B].iter().for_each(|&host| net.drain(host));
    net.run(Duration::from_secs(1), &[one, other]);
    let first = net.pair(A, 0, 0);
    assert_eq!(
        last_on_the_wire(&mut net, &one),
        [[first.local, first.peer], [first.peer, first.local]]
    );
    assert_eq!(
        last_on_the_wire(&mut net, &other),
        [[second.local, second.peer], [second.peer, second.local]]
    );
    let session = net.hosts[A].shim.session(&other).expect("the fork");
    assert_eq!((session.id, session.locators), (fork, second));
    // Together again: the peer goes by what it hears.
    net.hosts[A].shim.join(&other);
    assert_eq!(
        net.hosts[A].shim.session(&other).map(|session| session.forked_instance),
        Some(0)
    );
    assert_eq!(last_on_the_wire(&mut net, &other)[0], [first.local, first.peer]);
}

#[test]
fn a_host_that_does_not_follow_answers_on_its_own_context() {
    let follow_forks = false;
    let mut net = Net::new(&ShimConfig {
        follow_forks,
        ..config()
    });
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(1), &[flow]);
    net.hosts[A].shim.fork(net.now, flow).expect("there is room");
    net.drain(A);
    net.run(Duration::from_secs(1), &[flow]);
    assert_eq!(net.established(B), 2);
    assert!(net.hosts[B].shim.counters().restored > 40, "packets arrive on the fork");
    assert_eq!(
        (net.hosts[B].shim.forked_flows(), net.hosts[B].shim.counters().rewritten),
        (0, 0)
    );
}

#[test]
fn flows_of_a_fork_that_is_gone_take_the_default_context_and_can_be_forked_again() {
    let mut net = Net::new(&config());
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(1), &[flow]);
    let fork = net.hosts[A].shim.fork(net.now, flow).expect("there is room");
    net.drain(A);
    net.run(Duration::from_secs(1), &[flow]);
    let at = net.now;
    net.hosts[A].shim.command(at, |endpoint| endpoint.close(fork));
    assert_eq!(net.hosts[A].shim.forked_flows(), 0);
    let got = net.hosts[B].got.len();
    net.run(Duration::from_secs(1), &[flow]);
    assert!(net.hosts[B].got.len() >= got + 40, "nothing is lost");
    net.hosts[A].shim.fork(net.now, flow).expect("again");
}

#[test]
fn flows_with_contexts_of_their_own_are_bounded_at_both_ends() {
    let mut net = Net::new(&ShimConfig { flows: 2, ..config() });
    net.hosts[A].shim = Net::new(&config()).hosts.into_iter().next().expect("a host").shim;
    let flows: Vec<_> = (0..4).map(|port| net.flow(A, 1000 + port, 53)).collect();
    net.run(Duration::from_secs(1), &flows);
    for flow in &flows {
        net.hosts[A].shim.fork(net.now, *flow).expect("the first host has room");
        net.drain(A);
    }
    net.run(Duration::from_secs(2), &flows);
    assert_eq!(
        (net.hosts[A].shim.forked_flows(), net.hosts[B].shim.forked_flows()),
        (4, 2)
    );
    let own = net.flow(B, 53, 9999);
    assert_eq!(net.hosts[B].shim.fork(net.now, own), Err(ForkError::Limit { limit: 2 }));
}

#[test]
fn a_pair_that_shall_have_no_context_goes_on_without_one() {
    let mut net = Net::new(&config());
    let flow = net.flow(A, 1000, 53);
    let at = net.now;
    net.hosts[A]
        .shim
        .command(at, |endpoint| endpoint.set_protection(flow.ulids, Protection::Never));
    net.run(Duration::from_secs(3), &[flow]);
    assert_eq!((net.established(A), net.established(B)), (0, 0));
    assert!(net.hosts[A].got.len() > 100, "its packets pass");
    let refused = net.hosts[A].shim.fork(net.now, flow);
    assert_eq!(refused, Err(ForkError::Establish(EstablishError::Never(flow.ulids))));
}

#[test]
fn an_interface_that_goes_down_is_left_at_once() {
    let mut net = Net::new(&config());
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(2), &[flow]);
    net.cut(net.pair(A, 0, 0));
    net.cut(net.pair(A, 0, 1));
    let (at, lost) = (net.now, net.hosts[A].locators[0]);
    net.hosts[A].shim.handle_locator(at, lost, false);
    net.drain(A);
    net.run(Duration::from_secs(1), &[flow]);
    assert!(
        net.longest_gap(A, at) < Duration::from_millis(100),
        "{:?}",
        net.longest_gap(A, at)
    );
}

#[test]
fn packets_that_do_not_fit_the_callers_buffer_are_dropped_and_counted() {
    let mut net = Net::new(&config());
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(1), &[flow]);
    let (at, other) = (net.now, net.pair(A, 1, 0));
    let shim = &mut net.hosts[A].shim;
    shim.command(at, |endpoint| endpoint.establish(at, other))
        .expect("another pair");
    assert_eq!(shim.poll_transmit(&mut [0; 39]), None);
    assert_eq!(shim.poll_transmit(&mut [0; 55]), None, "an I1 has 16 octets");
    let sent = |shim: &Shim| {
        let sent = shim.endpoint().counters().sent();
        sent.filter(|(kind, _)| *kind == MessageType::I1)
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    assert_eq!(sent(&net.hosts[A].shim), 1, "of the first context");
}

#[test]
fn events_that_nobody_takes_are_bounded() {
    let mut net = Net::new(&config());
    let (at, ulids) = (net.now, net.pair(A, 0, 0));
    let shim = &mut net.hosts[A].shim;
    for _ in 0..MOST_EVENTS + 7 {
        let id = shim
            .command(at, |endpoint| endpoint.establish(at, ulids))
            .expect("a context");
        shim.command(at, |endpoint| endpoint.close(id));
        while shim.poll_transmit(&mut [0; 1280]).is_some() {}
    }
    assert_eq!(shim.counters().events_lost, 7);
    assert_eq!(core::iter::from_fn(|| shim.poll_event()).count(), MOST_EVENTS);
}

#[test]
fn an_idle_shim_wants_nothing_and_a_profile_of_the_rfc_works_as_well() {
    let mut config = config();
    assert_eq!(Net::new(&config).hosts[A].shim.poll_timeout(), None);
    config.endpoint.profile = Profile::Rfc;
    let mut net = Net::new(&config);
    let flow = net.flow(A, 1000, 53);
    net.run(Duration::from_secs(2), &[flow]);
    net.cut(net.pair(A, 0, 0));
    net.run(Duration::from_secs(30), &[flow]);
    let session = net.hosts[A].shim.session(&flow).expect("a context");
    assert_eq!(session.reap, ReapState::Operational);
    assert_ne!(session.locators, session.ulids);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_that_arrives_or_is_sent_does_harm(
        inputs in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>(), any::<u8>(), 0usize..80), 1..40),
    ) {
        let mut net = Net::new(&config());
        let flow = net.flow(A, 1000, 53);
        net.run(Duration::from_secs(1), &[flow]);
        let fork = net.flow(A, 2000, 53);
        net.hosts[A].shim.fork(net.now, fork).expect("there is room");
        net.drain(A);
        // What is on its way is changed, cut short, and sent by the wrong host.
        let templates: Vec<_> = net.packets.values().cloned().chain([datagram(&flow), datagram(&fork)]).collect();
        for (n, (outgoing, index, octet, cut)) in inputs.into_iter().enumerate() {
            let mut packet = templates[n % templates.len()].clone();
            let place = index.index(packet.len());
            packet[place] ^= octet;
            packet.truncate(packet.len().saturating_sub(cut.saturating_sub(40)));
            let at = net.now;
            let shim = &mut net.hosts[A].shim;
            if outgoing {
                let mut buffer = vec![0; HEADROOM];
                buffer.extend(&packet);
                let length = buffer.len();
                prop_assert!(shim.send(at, &mut buffer, HEADROOM).is_none_or(|start| start <= length));
            } else {
                let length = packet.len();
                prop_assert!(shim.receive(at, &mut packet, 0).is_none_or(|start| start <= length));
            }
            net.drain(A);
        }
        prop_assert!(net.hosts[A].shim.send(net.now, &mut [], 7).is_none());
        prop_assert!(net.hosts[A].shim.receive(net.now, &mut [], 7).is_none());
    }
}
