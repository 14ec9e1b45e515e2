//! A host: a real endpoint and a real packet path, or none, and what goes in and out of them.

use std::net::Ipv6Addr;
use std::sync::Arc;

use shim6_core::dataplane::{
    HoldBuffer, HoldCounters, Inbound, Observed, Outbound, PAYLOAD_HEADER_LEN, addresses, icmp,
};
use shim6_core::wire::{ContextTag, MAX_MESSAGE, MessageType, PROTOCOL};
use shim6_core::{
    ContextId, ContextInfo, ContextState, Dataplane, DataplaneUpdate, Endpoint, EndpointConfig, Event, Flow, Identity,
    Instant, LimitsConfig, LocatorPair, ReapState,
};

use super::packet::{control_type, ipv6, shim6_offset, unrecognized_next_header};
use super::pool::Owner;
use super::scenario::{HostPlan, Sabotage};

/// What came of one input.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Control messages, and whatever else the host itself sends.
    pub packets: Vec<Vec<u8>>,
    /// A packet of an application on its way out, under its locators.
    pub payload: Option<Vec<u8>>,
    /// Applications' packets that were held until there was a path, under their locators, each with its ULIDs. They are sent
    /// before anything else.
    pub replayed: Vec<(LocatorPair, Vec<u8>)>,
    /// Packets for the host's upper layers.
    pub delivered: Vec<Vec<u8>>,
    /// What the endpoint said.
    pub events: Vec<Event>,
    /// Packets that were of no use: malformed, or with a tag that nobody knows.
    pub dropped: usize,
}

/// A context as the invariants see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextView {
    /// Its name.
    pub id: ContextId,
    /// Its ULID pair.
    pub ulids: LocatorPair,
    /// Its state.
    pub state: ContextState,
    /// REAP's state.
    pub reap: ReapState,
    /// The pair that its payload uses.
    pub locators: LocatorPair,
    /// CT(local).
    pub local_tag: ContextTag,
    /// CT(peer), where it is known.
    pub peer_tag: Option<ContextTag>,
    /// The Forked Instance Identifier.
    pub forked_instance: u32,
    /// Ls(peer).
    pub peer_locators: Vec<Ipv6Addr>,
    /// Whether the peer has not acknowledged the newest locators of this host.
    pub updating: bool,
}

/// One host of a world.
#[derive(Debug)]
pub struct Host {
    number: usize,
    plan: HostPlan,
    owner: &'static Owner,
    locators: Vec<Ipv6Addr>,
    /// Whether each locator's uplink works.
    up: Vec<bool>,
    /// Whether the host has each of its locators.
    present: Vec<bool>,
    /// How often that changed.
    identities: u32,
    /// Whether the endpoint was told that it does not.
    told_down: Vec<bool>,
    stack: Option<Stack>,
    running: bool,
    boots: u32,
    first_seed: Option<[u8; 32]>,
    /// Where the last control message came from and went to, for a host that is to use it wrongly.
    last_control: Option<LocatorPair>,
}

#[derive(Debug)]
struct Stack {
    endpoint: Endpoint,
    dataplane: Dataplane,
    hold: HoldBuffer,
    icmp_delivered: usize,
}

impl Host {
    /// A host that is switched off.
    pub fn new(number: usize, plan: &HostPlan) -> Self {
        let owner = Owner::of(number, plan.members, plan.signed);
        let locators = owner.locators();
        Self {
            number,
            plan: plan.clone(),
            owner,
            up: vec![true; locators.len()],
            present: vec![true; locators.len()],
            identities: 0,
            told_down: vec![false; locators.len()],
            locators,
            stack: None,
            running: false,
            boots: 0,
            first_seed: None,
            last_control: None,
        }
    }

    /// Its plan.
    pub fn plan(&self) -> &HostPlan {
        &self.plan
    }

    /// Its locators.
    pub fn locators(&self) -> &[Ipv6Addr] {
        &self.locators
    }

    /// Whether it is not crashed.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// How often it was started.
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// Whether the uplink of this address works.
    pub fn is_up(&self, address: Ipv6Addr) -> bool {
        let index = self.locators.iter().position(|&locator| locator == address);
        self.running && index.is_some_and(|index| self.up[index] && self.present[index])
    }

    /// Its endpoint; none while it is crashed, and without Shim6.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        Some(&self.stack.as_ref()?.endpoint)
    }

    /// Its packet path; none while it is crashed, and without Shim6.
    pub fn dataplane(&self) -> Option<&Dataplane> {
        Some(&self.stack.as_ref()?.dataplane)
    }

    /// What became of the packets that it held; none while it is crashed, and without Shim6.
    pub fn hold_counters(&self) -> Option<HoldCounters> {
        Some(self.stack.as_ref()?.hold.counters())
    }

    /// How many ICMPv6 errors its endpoint has delivered to its upper layers since it was started.
    pub fn icmp_delivered(&self) -> usize {
        self.stack.as_ref().map_or(0, |stack| stack.icmp_delivered)
    }

    /// All contexts, by their names.
    pub fn contexts(&self) -> Vec<ContextView> {
        let Some(stack) = &self.stack else { return Vec::new() };
        let mut contexts: Vec<_> = stack.endpoint.contexts().map(ContextView::from).collect();
        contexts.sort_by_key(|context| context.id);
        match self.plan.sabotage {
            Some(Sabotage::ReuseLocalTag) => {
                let tag = contexts.first().map(|context| context.local_tag);
                contexts
                    .iter_mut()
                    .for_each(|context| context.local_tag = tag.unwrap_or(context.local_tag));
            }
            Some(Sabotage::ConfusePeers) => {
                let tag = contexts.first().and_then(|context| context.peer_tag);
                let all: Vec<_> = contexts
                    .iter()
                    .flat_map(|context| context.peer_locators.clone())
                    .collect();
                for context in &mut contexts {
                    (context.peer_tag, context.peer_locators) = (tag, all.clone());
                }
            }
            _ => {}
        }
        contexts
    }

    /// The context of a ULID pair and an instance.
    pub fn context(&self, ulids: LocatorPair, instance: u32) -> Option<ContextView> {
        (self.contexts().into_iter()).find(|context| context.ulids == ulids && context.forked_instance == instance)
    }

    /// When its endpoint wants to be called.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let stack = self.stack.as_ref()?;
        match self.plan.sabotage {
            Some(Sabotage::Restless) => Some(now),
            _ => stack.endpoint.poll_timeout(),
        }
    }

    /// Switches it on. The seed is not used where it shall be the first one again.
    pub fn start(&mut self, now: Instant, seed: [u8; 32], same_seed: bool) -> Outputs {
        let first = *self.first_seed.get_or_insert(seed);
        let seed = if same_seed { first } else { seed };
        self.running = true;
        self.boots += 1;
        self.stack = self.plan.shim6.then(|| {
            // The generation of the locator list differs from that of the previous life.
            let identity = self
                .owner
                .identity(|_| true, u64::from(self.boots) << 8 | self.number as u64);
            Stack {
                endpoint: Endpoint::new(self.effective_config(), identity, seed),
                dataplane: Dataplane::default(),
                hold: HoldBuffer::new(self.plan.hold),
                icmp_delivered: 0,
            }
        });
        let down: Vec<_> = (0..self.locators.len())
            .filter(|&index| self.told_down[index])
            .collect();
        self.command(now, |endpoint, locators| {
            down.iter()
                .for_each(|&index| endpoint.handle_locator(now, locators[index], false));
        })
    }

    /// Gives it those of its locators that are there from now on, by index. The others' uplinks do not work.
    ///
    /// # Panics
    /// When no member of its HBA set is among them.
    pub fn set_identity(&mut self, now: Instant, present: &[bool]) -> Outputs {
        assert!(present[..self.plan.members].contains(&true), "a host without a ULID");
        self.present.copy_from_slice(present);
        self.identities += 1;
        let identity = self.identity();
        self.command(now, |endpoint, _| endpoint.set_identity(now, identity))
    }

    /// Whether it has each of its locators at present.
    pub fn present(&self) -> &[bool] {
        &self.present
    }

    /// What it is at present. The generation of the locator list is another one each time and in each life.
    fn identity(&self) -> Identity {
        let seed = u64::from(self.boots) << 32 | u64::from(self.identities) << 8 | self.number as u64;
        self.owner.identity(|index| self.present[index], seed)
    }

    /// Gives it another configuration, which it keeps when it is started again. Its limits and the time without payload are what
    /// they were: the invariants count on them.
    pub fn set_config(&mut self, now: Instant, config: EndpointConfig) -> Outputs {
        let former = &self.plan.config;
        self.plan.config = EndpointConfig {
            limits: former.limits.clone(),
            quiescence: former.quiescence,
            ..config
        };
        let config = self.effective_config();
        self.command(now, |endpoint, _| endpoint.set_config(now, config))
    }

    /// Switches it off: all is forgotten.
    pub fn crash(&mut self) {
        self.stack = None;
        self.running = false;
    }

    /// Sets whether an uplink works, and whether the endpoint knows.
    pub fn set_locator(&mut self, now: Instant, index: usize, up: bool, told: bool) -> Outputs {
        self.up[index] = up;
        let news = told && self.told_down[index] == up;
        if news {
            self.told_down[index] = !up;
        }
        self.command(now, |endpoint, locators| {
            if news {
                endpoint.handle_locator(now, locators[index], up);
            }
        })
    }

    /// Does something with the endpoint, if there is one, and with the host's locators.
    pub fn command(&mut self, now: Instant, act: impl FnOnce(&mut Endpoint, &[Ipv6Addr])) -> Outputs {
        let mut outputs = Outputs::default();
        if let Some(stack) = &mut self.stack {
            act(&mut stack.endpoint, &self.locators);
            stack.drain(now, &mut outputs);
        }
        outputs
    }

    /// The time that the endpoint asked for has come.
    pub fn timeout(&mut self, now: Instant) -> Outputs {
        let mut outputs = self.command(now, |endpoint, _| endpoint.handle_timeout(now));
        if let (Some(Sabotage::Remember), Some(pair)) = (self.plan.sabotage, self.last_control) {
            outputs.packets.push(ipv6(pair.local, pair.peer, PROTOCOL, &[]));
        }
        outputs
    }

    /// An application's packet for an instance of its ULID pair, as in a daemon: what is steered, or belongs to a forked
    /// instance, passes through the packet path, other packets are only observed. It is sent in any case, and held as well
    /// while its context looks for a path.
    pub fn send(&mut self, now: Instant, instance: u32, packet: &[u8]) -> Outputs {
        let mut outputs = Outputs::default();
        let pair = addresses(packet).map(|(local, peer)| LocatorPair { local, peer });
        let (Some(stack), Some(ulids)) = (&mut self.stack, pair) else {
            outputs.payload = Some(packet.to_vec());
            return outputs;
        };
        let flow = stack.dataplane.flow_on(instance, ulids);
        if let Some(flow) = flow.filter(|flow| flow.holding) {
            stack.hold.hold(flow, packet, now);
        }
        let steered = instance != 0 || flow.is_some_and(|flow| flow.is_steered());
        let mut buffer = [&[0; PAYLOAD_HEADER_LEN], packet].concat();
        let outbound = steered.then(|| {
            stack
                .dataplane
                .outbound_on(instance, &mut buffer, PAYLOAD_HEADER_LEN, now)
        });
        let (start, wake) = match outbound {
            Some(Outbound::Rewritten { start, flow, wake }) => (start, wake.then_some(flow.context)),
            Some(Outbound::Unchanged { flow, wake }) => (PAYLOAD_HEADER_LEN, wake.then_some(flow.context)),
            // As long as there is no such instance.
            None | Some(Outbound::NoContext) => {
                let observed = stack
                    .dataplane
                    .observe(ulids.local, ulids.peer, true, packet.len(), now);
                (PAYLOAD_HEADER_LEN, woken(observed))
            }
            Some(Outbound::NotPayload | Outbound::Malformed(_)) => {
                outputs.dropped += 1;
                return outputs;
            }
        };
        let steered = start < PAYLOAD_HEADER_LEN;
        let mut packet = buffer.split_off(start);
        if let (true, Some(Sabotage::Divert(elsewhere))) = (steered, self.plan.sabotage) {
            packet[24..40].copy_from_slice(&elsewhere.octets());
        }
        outputs.payload = Some(packet);
        stack.wake(now, wake);
        stack.drain(now, &mut outputs);
        outputs
    }

    /// A packet from the network for one of its locators.
    pub fn receive(&mut self, now: Instant, mut packet: Vec<u8>) -> Outputs {
        let mut outputs = Outputs::default();
        let Some(stack) = &mut self.stack else {
            match shim6_offset(&packet) {
                Some(_) => outputs.packets.extend(unrecognized_next_header(&packet)),
                None => outputs.delivered.push(packet),
            }
            return outputs;
        };
        let Some((source, destination)) = addresses(&packet) else {
            outputs.dropped += 1;
            return outputs;
        };
        if self.plan.sabotage == Some(Sabotage::Deaf) && is_an_end(&packet) {
            return outputs;
        }
        match stack.dataplane.inbound(&mut packet, 0, now) {
            Inbound::Restored { start, flow, wake } => {
                let wake = wake.then_some(flow.context);
                let mut packet = packet.split_off(start);
                match self.plan.sabotage {
                    Some(Sabotage::Misdeliver) => packet[23] ^= 1,
                    Some(Sabotage::Garble) => *packet.last_mut().expect("an IPv6 header at least") ^= 1,
                    _ => {}
                }
                outputs.delivered.push(packet);
                stack.wake(now, wake);
            }
            // Its tag is one that the packet path does not know, or it is a control message.
            Inbound::NoContext | Inbound::Control { .. } => {
                self.last_control = Some(LocatorPair::new(destination, source));
                let before = outputs.packets.len();
                stack.endpoint.handle_packet(now, &packet);
                stack.drain(now, &mut outputs);
                if self.plan.sabotage == Some(Sabotage::Amplify) {
                    let replies = outputs.packets[before..].to_vec();
                    (0..9).for_each(|_| outputs.packets.extend(replies.clone()));
                }
            }
            // An error about a packet that the endpoint has changed or made.
            Inbound::NotShim6 if icmp::parse(&packet).is_ok() => stack.endpoint.handle_packet(now, &packet),
            Inbound::NotShim6 => {
                let observed = stack.dataplane.observe(source, destination, false, packet.len(), now);
                stack.wake(now, woken(observed));
                outputs.delivered.push(packet);
            }
            Inbound::Malformed(_) => outputs.dropped += 1,
        }
        stack.drain(now, &mut outputs);
        outputs
    }

    fn effective_config(&self) -> EndpointConfig {
        match self.plan.sabotage {
            Some(Sabotage::Unbounded) => EndpointConfig {
                limits: LimitsConfig::default(),
                ..self.plan.config.clone()
            },
            Some(Sabotage::Hasty) => EndpointConfig {
                quiescence: self.plan.config.quiescence / 100,
                ..self.plan.config.clone()
            },
            Some(Sabotage::Sluggish) => {
                let mut config = self.plan.config.clone();
                config.reap.send_timeout *= 10;
                config
            }
            Some(Sabotage::Undamped | Sabotage::Stubborn) => {
                let mut config = self.plan.config.clone();
                let failback = &mut config.failback;
                failback.enabled = self.plan.sabotage != Some(Sabotage::Stubborn);
                failback.stable /= 50;
                failback.max_stable = failback.stable;
                config
            }
            _ => self.plan.config.clone(),
        }
    }
}

impl Stack {
    /// In the order that `Endpoint` asks for.
    fn drain(&mut self, now: Instant, outputs: &mut Outputs) {
        let updates: Vec<_> = std::iter::from_fn(|| self.endpoint.poll_dataplane()).collect();
        for update in &updates {
            self.dataplane.apply(update.clone());
        }
        // Only when the table is as it shall be: a flow may have been replaced at once.
        for update in updates {
            match update {
                DataplaneUpdate::Insert(flow) => self.replay(now, &flow, outputs),
                DataplaneUpdate::Remove(flow) => self.hold.discard(flow.context),
            }
        }
        let mut buffer = [0; MAX_MESSAGE];
        while let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) {
            let message = &buffer[..transmit.len];
            outputs
                .packets
                .push(ipv6(transmit.source, transmit.destination, PROTOCOL, message));
        }
        let mut buffer = [0; 1280];
        while let Some(length) = self.endpoint.poll_deliver(&mut buffer) {
            self.icmp_delivered += 1;
            outputs.delivered.push(buffer[..length].to_vec());
        }
        while let Some(event) = self.endpoint.poll_event() {
            outputs.events.push(event);
        }
    }

    /// Sends what was held for a flow's context, unless that holds on.
    fn replay(&mut self, now: Instant, flow: &Arc<Flow>, outputs: &mut Outputs) {
        let current = self.dataplane.flow_by_tag(flow.local_tag);
        if flow.holding || !current.is_some_and(|current| Arc::ptr_eq(current, flow)) {
            return;
        }
        for packet in self.hold.release(flow, now) {
            let mut buffer = [&[0; PAYLOAD_HEADER_LEN], &packet[..]].concat();
            let outbound = (self.dataplane).outbound_on(flow.forked_instance, &mut buffer, PAYLOAD_HEADER_LEN, now);
            let (start, wake) = match outbound {
                Outbound::Rewritten { start, flow, wake } => (start, wake.then_some(flow.context)),
                Outbound::Unchanged { flow, wake } => (PAYLOAD_HEADER_LEN, wake.then_some(flow.context)),
                _ => {
                    outputs.dropped += 1;
                    continue;
                }
            };
            outputs.replayed.push((flow.ulids, buffer.split_off(start)));
            self.wake(now, wake);
        }
    }

    fn wake(&mut self, now: Instant, context: Option<ContextId>) {
        if let Some(context) = context {
            self.endpoint.handle_activity(now, context);
        }
    }
}

impl From<ContextInfo> for ContextView {
    fn from(info: ContextInfo) -> Self {
        Self {
            id: info.id,
            ulids: info.ulids,
            state: info.state,
            reap: info.reap,
            locators: info.locators,
            local_tag: info.local_tag,
            peer_tag: info.peer_tag,
            forked_instance: info.forked_instance,
            peer_locators: info.peer_locators,
            updating: info.updating,
        }
    }
}

/// Whether a packet is a message without which no exchange and no exploration ends.
fn is_an_end(packet: &[u8]) -> bool {
    matches!(
        control_type(packet),
        Some(MessageType::R2 | MessageType::I2 | MessageType::I2BIS | MessageType::PROBE)
    )
}

fn woken(observed: Observed) -> Option<ContextId> {
    match observed {
        Observed::Wake(context) => Some(context),
        Observed::Recorded | Observed::NoContext(_) => None,
    }
}
