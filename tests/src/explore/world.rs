//! Two hosts, the packets between them, and what may still happen to them.

use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::dataplane::{Inbound, Observed, addresses};
use shim6_core::wire::{MAX_MESSAGE, Message, MessageType, PROTOCOL, R1, R1bis, payload};
use shim6_core::{
    ContextId, ContextState, Dataplane, DataplaneUpdate, Endpoint, EndpointConfig, EstablishmentConfig, FailbackConfig,
    Flow, Identity, Instant, LimitsConfig, LocatorPair, Profile, Rate, ReapConfig,
};

use super::canonical::{Description, fingerprint, name_of};
use super::setup::{Action, Budget, Setup};

const IPV6_HEADER: usize = 40;
const UDP: u8 = 17;

/// A timeout that is as far away as this is not waited for: it is that of a context in which nothing passes any more, whose
/// teardown there is a budget for.
pub(super) const HORIZON: Duration = Duration::from_secs(10_000);

/// More outputs than any event has: a fault.
const OUTPUTS: usize = 50;

#[derive(Clone)]
struct Packet {
    to: usize,
    octets: Rc<[u8]>,
    description: Rc<Description>,
    what: Rc<str>,
}

/// The state.
#[derive(Clone)]
pub(super) struct World {
    /// Shared between states until one of them changes it.
    pub(super) hosts: [Rc<Host>; 2],
    /// The oldest first.
    network: Vec<Packet>,
    budget: Budget,
    setup: Rc<Setup>,
}

/// A host with its clock.
pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    dataplane: Dataplane,
    flows: Vec<Arc<Flow>>,
    pub(super) clock: Instant,
    incarnation: u8,
    /// What fingerprints call the validators issued by this incarnation, and by those before.
    issued: Vec<u64>,
    stale: Vec<u64>,
    description: Rc<Description>,
}

impl Clone for Host {
    fn clone(&self) -> Self {
        let endpoint = self.endpoint.clone();
        let mut dataplane = Dataplane::default();
        let mut flows: Vec<_> = endpoint.flows().cloned().collect();
        flows.sort_unstable_by_key(|flow| flow.context);
        for flow in &flows {
            dataplane.apply(DataplaneUpdate::Insert(flow.clone()));
        }
        Self {
            endpoint,
            dataplane,
            flows,
            clock: self.clock,
            incarnation: self.incarnation,
            issued: self.issued.clone(),
            stale: self.stale.clone(),
            description: self.description.clone(),
        }
    }
}

/// Of each host: with two locators, and with three.
static IDENTITIES: LazyLock<[[Identity; 2]; 2]> = LazyLock::new(|| {
    [0, 1].map(|host| {
        let prefix = |uplink| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, host, uplink, 0, 0, 0, 0));
        let mut rng = StdRng::seed_from_u64(host.into());
        let prefixes = [prefix(0xa), prefix(0xb), prefix(0xc)];
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("three prefixes make a set");
        let third = set.addresses()[2];
        let two = Identity::from_hba_subset(&set, |address| address != third, &mut rng);
        [two, Identity::from_hba_set(&set, &mut rng)]
    })
});

fn config() -> EndpointConfig {
    EndpointConfig {
        // The state machine of the RFC, and nothing beside it.
        profile: Profile::Rfc,
        reap: ReapConfig::rfc(),
        failback: FailbackConfig {
            enabled: false,
            ..FailbackConfig::default()
        },
        hold: false,
        establishment: EstablishmentConfig {
            // Each kind of retransmission, and the end of them, but not all again and again.
            i1_retries_max: 1,
            i2_retries_max: 1,
            i2bis_retries_max: 1,
            // Validators do not age here.
            validator_lifetime: HORIZON * 1_000,
            ..EstablishmentConfig::default()
        },
        // See `close` in the budget.
        quiescence: HORIZON * 10,
        limits: LimitsConfig {
            counted_prefixes: 1,
            probes: u32::MAX,
            r1: Rate::UNLIMITED,
            r2: Rate::UNLIMITED,
            r1bis: Rate::UNLIMITED,
            errors: Rate::UNLIMITED,
            verifications: Rate::UNLIMITED,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    }
}

impl Host {
    fn new(number: usize, incarnation: u8, clock: Instant) -> Self {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&[number as u8, incarnation]);
        let mut host = Self {
            endpoint: Endpoint::new(config(), IDENTITIES[number][0].clone(), seed),
            dataplane: Dataplane::default(),
            flows: Vec::new(),
            clock,
            incarnation,
            issued: Vec::new(),
            stale: Vec::new(),
            description: Rc::default(),
        };
        host.describe();
        host
    }

    fn describe(&mut self) {
        let mut text = String::with_capacity(4_096);
        self.endpoint.write_state(&mut text).expect("a string takes everything");
        self.description = Rc::new(Description::of(&text));
    }

    /// The flows of the established contexts, the oldest first.
    pub(super) fn flows(&self) -> &[Arc<Flow>] {
        &self.flows
    }

    /// When the next timeout comes, from now on.
    pub(super) fn timeout_in(&self) -> Option<Duration> {
        let wait = self.endpoint.poll_timeout()? - self.clock;
        (wait < HORIZON).then_some(wait)
    }

    fn is_exchanging(&self) -> bool {
        let mut contexts = self.endpoint.contexts();
        contexts.any(|context| context.state != ContextState::Established)
    }

    fn contexts(&self) -> Vec<ContextId> {
        let mut ids: Vec<_> = self.endpoint.contexts().map(|context| context.id).collect();
        ids.sort_unstable();
        ids
    }
}

impl World {
    pub(super) fn new(setup: &Rc<Setup>) -> Self {
        // Not at the epoch, where mistakes about "never" hide.
        let start = Instant::from_micros(1_000_000_000);
        Self {
            hosts: [0, 1].map(|number| Rc::new(Host::new(number, 0, start))),
            network: Vec::new(),
            budget: setup.budget.clone(),
            setup: setup.clone(),
        }
    }

    pub(super) fn fingerprint(&self, with_budget: bool) -> u64 {
        let hosts = self.hosts.each_ref().map(|host| &*host.description);
        let packets: Vec<_> = self.network.iter().map(|packet| &*packet.description).collect();
        let stale: Vec<_> = self.hosts.iter().flat_map(|host| &host.stale).copied().collect();
        fingerprint(&hosts, &packets, &stale, with_budget.then_some(&self.budget))
    }

    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let budget = &self.budget;
        for (index, packet) in self.network.iter().enumerate() {
            if self.network[..index].iter().any(|other| other.octets == packet.octets) {
                continue;
            }
            actions.push(Action::Deliver(index, packet.what.clone()));
            if budget.lose > 0 {
                actions.push(Action::Lose(index, packet.what.clone()));
            }
            if budget.duplicate > 0 {
                actions.push(Action::Duplicate(index, packet.what.clone()));
            }
        }
        for (number, host) in self.hosts.iter().enumerate() {
            if host.timeout_in().is_some() && (host.is_exchanging() || budget.timeouts > 0) {
                actions.push(Action::Timeout(number));
            }
            if budget.establish[number] > 0 {
                let wanted = |pair: &usize| self.is_free(number, *pair);
                actions.extend(
                    (0..self.setup.ulids.len())
                        .filter(wanted)
                        .map(|pair| Action::Establish(number, pair)),
                );
            }
            // A host without anything has nothing to lose.
            if budget.crash[number] > 0 && !host.contexts().is_empty() {
                actions.push(Action::Crash(number));
            }
            if budget.close[number] > 0 {
                actions.extend((0..host.contexts().len()).map(|context| Action::Close(number, context)));
            }
            let others = [
                (budget.update, Action::Update as fn(usize) -> Action),
                (budget.fork, Action::Fork),
                (budget.locator, Action::Locator),
            ];
            let allowed = others.iter().filter(|(budget, _)| budget[number] > 0);
            actions.extend(allowed.map(|(_, action)| action(number)));
            if budget.payload[number] > 0 {
                actions.extend((0..host.flows.len()).map(|context| Action::Payload(number, context)));
            }
        }
        actions
    }

    fn is_free(&self, host: usize, pair: usize) -> bool {
        let ulids = self.ulids(host, pair);
        self.hosts[host]
            .endpoint
            .contexts()
            .all(|context| context.ulids != ulids)
    }

    pub(super) fn act(&mut self, action: &Action) {
        match *action {
            Action::Establish(host, pair) => {
                self.budget.establish[host] -= 1;
                let ulids = self.ulids(host, pair);
                let host_state = self.change(host);
                // It may be held down.
                let _ = host_state.endpoint.establish(host_state.clock, ulids);
                self.drain(host);
            }
            Action::Deliver(index, _) => self.deliver(index),
            Action::Lose(index, _) => {
                self.budget.lose -= 1;
                self.network.remove(index);
            }
            Action::Duplicate(index, _) => {
                self.budget.duplicate -= 1;
                self.network.push(self.network[index].clone());
            }
            Action::Timeout(host) => {
                self.budget.timeouts -= u8::from(!self.hosts[host].is_exchanging());
                let wait = self.hosts[host].timeout_in().expect("there is a timeout");
                self.change(host).clock += wait;
                self.time_out(host);
            }
            Action::Crash(number) => {
                self.budget.crash[number] -= 1;
                let old = &self.hosts[number];
                let stale = old.stale.iter().chain(&old.issued).copied().collect();
                let incarnation = if self.setup.same_tags { 0 } else { old.incarnation + 1 };
                self.hosts[number] = Rc::new(Host {
                    stale,
                    ..Host::new(number, incarnation, old.clock)
                });
            }
            Action::Close(host, context) => {
                self.budget.close[host] -= 1;
                let id = self.hosts[host].contexts()[context];
                self.change(host).endpoint.close(id);
                self.drain(host);
            }
            Action::Update(number) => {
                self.budget.update[number] -= 1;
                let host = self.change(number);
                let is_short = host.endpoint.identity().locators().len() == 2;
                let other = IDENTITIES[number][usize::from(is_short)].clone();
                host.endpoint.set_identity(host.clock, other);
                self.drain(number);
            }
            Action::Fork(number) => {
                self.budget.fork[number] -= 1;
                let ulids = self.ulids(number, 0);
                let host = self.change(number);
                // It may be held down, or be there already.
                let _ = host.endpoint.fork(host.clock, ulids, NonZeroU32::MIN);
                self.drain(number);
            }
            Action::Locator(number) => {
                self.budget.locator[number] -= 1;
                let host = self.change(number);
                let first = host.endpoint.identity().locators()[0];
                host.endpoint.handle_locator(host.clock, first, false);
                self.drain(number);
            }
            Action::Payload(host, context) => {
                self.budget.payload[host] -= 1;
                self.send_payload(host, context);
            }
        }
    }

    /// The host, for this state alone.
    fn change(&mut self, host: usize) -> &mut Host {
        Rc::make_mut(&mut self.hosts[host])
    }

    /// Time passes at both ends.
    pub(super) fn pass(&mut self, time: Duration) {
        [0, 1].into_iter().for_each(|host| self.change(host).clock += time);
    }

    pub(super) fn is_within(&self) -> bool {
        self.network.len() <= self.setup.in_flight
    }

    /// What the oldest packet in flight is.
    pub(super) fn next_packet(&self) -> Option<String> {
        self.network.first().map(|packet| packet.what.to_string())
    }

    /// The packet at this place arrives.
    pub(super) fn deliver(&mut self, index: usize) {
        let packet = self.network.remove(index);
        let to = packet.to;
        let now = self.hosts[to].clock;
        let mut octets = packet.octets.to_vec();
        let (source, destination) = addresses(&octets).expect("hosts send IPv6");
        let same_tags = self.setup.same_tags;
        let ignored = self.setup.ignored;
        let host = self.change(to);
        match host.dataplane.inbound(&mut octets, 0, now) {
            Inbound::Restored { start, flow, wake } => {
                let wake = wake.then_some(flow.context);
                assert_restored(&octets[start..], same_tags);
                wake.into_iter().for_each(|id| host.endpoint.handle_activity(now, id));
            }
            Inbound::Control { start } => {
                let message = &octets[start..];
                if ignored != Some(MessageType(message[2])) {
                    host.endpoint.handle_message(now, source, destination, message);
                }
            }
            Inbound::NotShim6 => {
                if let Observed::Wake(id) = host.dataplane.observe(source, destination, false, octets.len(), now) {
                    host.endpoint.handle_activity(now, id);
                }
            }
            Inbound::NoContext => host.endpoint.handle_packet(now, &packet.octets),
            Inbound::Malformed(reason) => panic!("a host sent a malformed packet: {reason:?}"),
        }
        self.drain(to);
    }

    /// What is due at this host's time is done.
    pub(super) fn time_out(&mut self, host: usize) {
        let state = self.change(host);
        state.endpoint.handle_timeout(state.clock);
        self.drain(host);
    }

    /// Sends payload that bears the context's tag: on other locators than its ULIDs.
    pub(super) fn send_payload(&mut self, from: usize, context: usize) {
        let flow = self.hosts[from].flows[context].clone();
        let other = |host: usize, ulid: Ipv6Addr| {
            let locators = IDENTITIES[host][0].locators().iter();
            locators
                .copied()
                .find(|&locator| locator != ulid)
                .expect("two locators")
        };
        let on = LocatorPair::new(other(from, flow.ulids.local), other(1 - from, flow.ulids.peer));
        let mut header = [0; payload::LEN];
        payload::emit(flow.peer_tag, UDP, &mut header);
        // What is inside says between whom it is.
        let inside = [flow.ulids.local.octets(), flow.ulids.peer.octets()].concat();
        let text = format!("payload {:?} {} {}", flow.peer_tag, flow.ulids, on);
        self.launch(from, on, &[&header[..], &inside].concat(), "payload", &text);
    }

    fn ulids(&self, host: usize, pair: usize) -> LocatorPair {
        let [first, second] = self.setup.ulids[pair];
        let locator = |host: usize, index: usize| self.hosts[host].endpoint.identity().locators()[index];
        let ulids = LocatorPair::new(locator(0, first), locator(1, second));
        if host == 0 { ulids } else { ulids.seen_by_peer() }
    }

    fn launch(&mut self, from: usize, on: LocatorPair, octets: &[u8], what: &str, text: &str) {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        packet.extend_from_slice(&[PROTOCOL, 64]);
        packet.extend_from_slice(&on.local.octets());
        packet.extend_from_slice(&on.peer.octets());
        packet.extend_from_slice(octets);
        let to = 1 - from;
        assert!(IDENTITIES[to][1].contains(on.peer), "sent to a stranger");
        // A timer can run out again and again before anything arrives. What comes a third time makes no difference.
        let copies = self.network.iter().filter(|other| *other.octets == packet[..]);
        if copies.count() == 2 {
            return;
        }
        self.network.push(Packet {
            to,
            octets: packet.into(),
            description: Rc::new(Description::of(&format!("{to} {on:?} {text}"))),
            what: format!("{what} to host {to}").into(),
        });
    }

    fn drain(&mut self, number: usize) {
        let host = self.change(number);
        while let Some(update) = host.endpoint.poll_dataplane() {
            let (DataplaneUpdate::Insert(flow) | DataplaneUpdate::Remove(flow)) = &update;
            host.flows.retain(|other| other.context != flow.context);
            if let DataplaneUpdate::Insert(flow) = &update {
                host.flows.push(flow.clone());
                host.flows.sort_unstable_by_key(|flow| flow.context);
            }
            host.dataplane.apply(update);
        }
        let mut sent = Vec::new();
        let mut buffer = [0; MAX_MESSAGE];
        while let Some(transmit) = host.endpoint.poll_transmit(&mut buffer) {
            let on = LocatorPair::new(transmit.source, transmit.destination);
            sent.push((on, buffer[..transmit.len].to_vec()));
        }
        assert!(sent.len() < OUTPUTS, "{} messages at once", sent.len());
        while host.endpoint.poll_event().is_some() {}
        host.describe();
        for (on, octets) in sent {
            let mut message = Message::parse(&octets).expect("what a host sends is well-formed");
            forget_proofs(&mut message);
            match &message {
                Message::R1(R1 { validator, .. }) | Message::R1bis(R1bis { validator, .. }) => {
                    self.change(number).issued.push(name_of(validator));
                }
                _ => {}
            }
            let text = format!("{message:?}");
            self.launch(number, on, &octets, &message.message_type().to_string(), &text);
        }
    }

    /// What is wrong with this state by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        for host in &self.hosts {
            check_host(host)?;
        }
        let [one, other] = &self.hosts;
        for own in &one.flows {
            for peers in other.flows.iter().filter(|peers| peers.local_tag == own.peer_tag) {
                let same = peers.ulids == own.ulids.seen_by_peer() && peers.forked_instance == own.forked_instance;
                if peers.peer_tag == own.local_tag && !same {
                    return Err(format!("two ends of one context differ: {own:?} and {peers:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Parameters are long, and follow from the ULID.
fn forget_proofs(message: &mut Message) {
    let announcement = match message {
        Message::I2(message) => &mut message.announcement,
        Message::R2(message) => &mut message.announcement,
        Message::I2bis(message) => &mut message.announcement,
        Message::UpdateRequest(message) => &mut message.announcement,
        _ => return,
    };
    announcement.cga_parameters = None;
}

fn check_host(host: &Host) -> Result<(), String> {
    let established = |flow: &Flow| {
        let context = host.endpoint.context(flow.context)?;
        (context.state == ContextState::Established).then_some(context)
    };
    for (index, flow) in host.flows.iter().enumerate() {
        for earlier in &host.flows[..index] {
            if earlier.local_tag == flow.local_tag {
                return Err(format!("one tag for two contexts: {earlier:?} and {flow:?}"));
            }
            if earlier.peer_tag != flow.peer_tag {
                continue;
            }
            if let (Some(one), Some(other)) = (established(earlier), established(flow))
                && one
                    .peer_locators
                    .iter()
                    .any(|locator| other.peer_locators.contains(locator))
            {
                return Err(format!(
                    "one peer gave one tag to two contexts: {earlier:?} and {flow:?}"
                ));
            }
        }
    }
    if host.endpoint.contexts().count() > 4 {
        return Err("more contexts than ULID pairs and forks".to_owned());
    }
    Ok(())
}

/// Payload comes out between those between whom it was sent. Where tags are used twice nothing can be promised.
fn assert_restored(packet: &[u8], same_tags: bool) {
    let inside = &packet[IPV6_HEADER..];
    assert!(
        same_tags || packet[8..40] == *inside,
        "payload came out with other ULIDs than it was sent with"
    );
}
