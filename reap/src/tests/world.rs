//! Two machines over a virtual network that drops directed pairs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;
use std::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::{locator, rng, secs};
use crate::timers::Running;
use crate::{Config, Event, Instant, LocatorPair, Probe, Reap, State, Transmit};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Payload,
    Keepalive,
    Probe(Probe),
}

/// A packet that a host sent, whether or not it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Packet {
    pub(super) at: Instant,
    /// 0 or 1.
    pub(super) sender: usize,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) body: Body,
    pub(super) lost: bool,
}

struct Host {
    reap: Reap,
    rng: ChaCha8Rng,
    /// How often payload is sent, and when next.
    flow: Option<(Duration, Instant)>,
    /// When payload is sent besides.
    agenda: VecDeque<Instant>,
}

impl Host {
    fn next_payload(&self) -> Option<Instant> {
        let flow = self.flow.map(|(_, next)| next);
        flow.into_iter().chain(self.agenda.front().copied()).min()
    }

    /// The next payload packet is on its way.
    fn sent_payload(&mut self, now: Instant) {
        if self.agenda.front().is_some_and(|&next| next <= now) {
            self.agenda.pop_front();
        } else if let Some((period, next)) = &mut self.flow {
            *next += *period;
        }
    }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) log: Vec<Packet>,
    pub(super) events: Vec<(Instant, usize, Event)>,
    /// How long packets take, where it is not said otherwise.
    pub(super) delay: Duration,
    /// By how much that varies to either side, in thousandths.
    pub(super) jitter_per_mille: u32,
    /// Out of a thousand packets, how many get lost on pairs that work.
    pub(super) loss_per_mille: u32,
    hosts: [Host; 2],
    network_rng: ChaCha8Rng,
    dead: BTreeSet<(Ipv6Addr, Ipv6Addr)>,
    delays: BTreeMap<(Ipv6Addr, Ipv6Addr), Duration>,
    in_flight: BTreeMap<(Instant, u64), Packet>,
    packets: u64,
}

impl World {
    /// Hosts with `locators[0]` and `locators[1]` locators, each preferring its own first ones and using the first pair.
    pub(super) fn new(config: Config, locators: [usize; 2], seed: u64) -> Self {
        let host = |index: usize| {
            let other = 1 - index;
            let pairs: Vec<LocatorPair> = (0..locators[index])
                .flat_map(|i| (0..locators[other]).map(move |j| (i, j)))
                .map(|(i, j)| LocatorPair::new(locator(index, i), locator(other, j)))
                .collect();
            let current = pairs[0];
            Host {
                reap: Reap::new(config, pairs, current),
                rng: rng(seed ^ index as u64),
                flow: None,
                agenda: VecDeque::new(),
            }
        };
        Self {
            now: Instant::EPOCH,
            log: Vec::new(),
            events: Vec::new(),
            delay: secs(0.01),
            jitter_per_mille: 0,
            loss_per_mille: 0,
            hosts: [host(0), host(1)],
            network_rng: rng(!seed),
            dead: BTreeSet::new(),
            delays: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            packets: 0,
        }
    }

    pub(super) fn reap(&self, host: usize) -> &Reap {
        &self.hosts[host].reap
    }

    /// From now on, `host` sends payload every `period`, the first packet `offset` from now.
    pub(super) fn flow(&mut self, host: usize, period: f64, offset: f64) {
        self.hosts[host].flow = Some((secs(period), self.now + secs(offset)));
    }

    /// `host` sends one payload packet at each of these times, which are in order.
    pub(super) fn agenda(&mut self, host: usize, times: impl IntoIterator<Item = Instant>) {
        self.hosts[host].agenda.extend(times);
    }

    /// Both hosts know the round-trip time, as from a handshake.
    pub(super) fn know_rtt(&mut self, rtt: Duration) {
        for host in 0..2 {
            self.with_reap(host, |reap, _, _| reap.note_rtt(rtt));
        }
    }

    /// Packets from `host`'s locator `from` to the other's locator `to` take that long.
    pub(super) fn delay(&mut self, host: usize, from: usize, to: usize, delay: Duration) {
        self.delays.insert((locator(host, from), locator(1 - host, to)), delay);
    }

    /// Packets from `host`'s locator `from` to the other's locator `to` are lost, from now on.
    pub(super) fn cut(&mut self, host: usize, from: usize, to: usize) {
        self.dead.insert((locator(host, from), locator(1 - host, to)));
    }

    pub(super) fn mend(&mut self, host: usize, from: usize, to: usize) {
        self.dead.remove(&(locator(host, from), locator(1 - host, to)));
    }

    /// Exactly these directed pairs fail from now on: per host, by its own locator, then by the other's.
    pub(super) fn fail(&mut self, locators: [usize; 2], dead: &[Vec<bool>; 2]) {
        self.dead.clear();
        for (host, dead) in dead.iter().enumerate() {
            let width = locators[1 - host];
            for (index, _) in dead.iter().enumerate().filter(|(_, dead)| **dead) {
                self.cut(host, index / width, index % width);
            }
        }
    }

    /// Whether what `host` sends on `pair` arrives.
    pub(super) fn works(&self, pair: LocatorPair) -> bool {
        !self.dead.contains(&(pair.local, pair.peer))
    }

    /// Whether both are Operational on pairs that work.
    pub(super) fn is_well(&self) -> bool {
        self.hosts
            .iter()
            .all(|host| host.reap.state() == State::Operational && self.works(host.reap.current_pair()))
    }

    pub(super) fn with_reap(&mut self, host: usize, action: impl FnOnce(&mut Reap, Instant, &mut dyn Rng)) {
        let Host { reap, rng, .. } = &mut self.hosts[host];
        action(reap, self.now, rng);
        self.drain(host);
    }

    /// Runs until `end` or until `done`, whichever is first; gives whether `done`.
    pub(super) fn run_until(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let Some(next) = self.next_time().filter(|&next| next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            self.act();
        }
    }

    pub(super) fn run_for(&mut self, seconds: f64) {
        self.run_until(self.now + secs(seconds), |_| false);
    }

    /// What REAP itself sent, in order.
    pub(super) fn reap_packets(&self) -> impl Iterator<Item = &Packet> {
        self.log.iter().filter(|packet| packet.body != Body::Payload)
    }

    fn next_time(&self) -> Option<Instant> {
        let arrival = self.in_flight.keys().next().map(|key| key.0);
        let hosts = self.hosts.iter();
        hosts
            .flat_map(|host| [host.reap.poll_timeout(), host.next_payload()])
            .chain([arrival])
            .flatten()
            .min()
    }

    fn act(&mut self) {
        let now = self.now;
        if let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= now
        {
            let packet = entry.remove();
            self.deliver(packet);
            return;
        }
        for index in 0..2 {
            let host = &mut self.hosts[index];
            if host.next_payload().is_some_and(|next| next <= now) {
                host.sent_payload(now);
                host.reap.handle_payload_sent(now);
                let pair = host.reap.current_pair();
                self.transmit(index, pair, Body::Payload);
                self.drain(index);
                return;
            }
            if host.reap.poll_timeout().is_some_and(|due| due <= now) {
                host.reap.handle_timeout(now, &mut host.rng);
                let next = host.reap.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "busy loop at {now}");
                self.drain(index);
                return;
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let index = 1 - packet.sender;
        let Host { reap, rng, .. } = &mut self.hosts[index];
        let on = LocatorPair::new(packet.destination, packet.source);
        match &packet.body {
            Body::Payload => reap.handle_payload_received(self.now, self.now, rng),
            Body::Keepalive => reap.handle_keepalive(self.now, rng),
            Body::Probe(probe) => reap.handle_probe(self.now, on, probe, rng),
        }
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        while let Some(transmit) = self.hosts[index].reap.poll_transmit() {
            let pair = transmit.pair();
            self.transmit(
                index,
                pair,
                match transmit {
                    Transmit::Keepalive { .. } => Body::Keepalive,
                    Transmit::Probe { probe, .. } => Body::Probe(probe),
                },
            );
        }
        while let Some(event) = self.hosts[index].reap.poll_event() {
            self.events.push((self.now, index, event));
        }
        let reap = &self.hosts[index].reap;
        match reap.state() {
            State::Operational => {}
            State::Exploring => assert_eq!(reap.running(), Running::Neither),
            State::InboundOk => assert!(!matches!(reap.running(), Running::Keepalive { .. })),
        }
    }

    fn transmit(&mut self, sender: usize, pair: LocatorPair, body: Body) {
        let unlucky = self.loss_per_mille > 0 && self.network_rng.next_u32() % 1000 < self.loss_per_mille;
        let lost = unlucky || !self.works(pair);
        let packet = Packet {
            at: self.now,
            sender,
            source: pair.local,
            destination: pair.peer,
            body,
            lost,
        };
        self.log.push(packet.clone());
        if !lost {
            let delay = self.delays.get(&(pair.local, pair.peer)).copied();
            let delay = self.jittered(delay.unwrap_or(self.delay));
            self.in_flight.insert((self.now + delay, self.packets), packet);
            self.packets += 1;
        }
    }

    fn jittered(&mut self, delay: Duration) -> Duration {
        match self.jitter_per_mille {
            0 => delay,
            jitter => delay * (1000 - jitter + self.network_rng.next_u32() % (2 * jitter + 1)) / 1000,
        }
    }
}
