//! The whole shim layer in one value, for a host that is not Linux.
//!
//! A [`Shim`] sits between the IP layer of a stack and its interfaces: each IPv6 packet on its way out goes through
//! [`send`](Shim::send), each that arrives through [`receive`](Shim::receive). It holds an [`Endpoint`], a [`Dataplane`] and
//! a [`HoldBuffer`] and calls them in the right order. It is for one thread; who has several uses those three as the daemon does.
//!
//! ```
//! use shim6_core::shim::{HEADROOM, Shim, ShimConfig};
//! use shim6_core::cga::{HbaSet, Sec};
//! use shim6_core::{Identity, Instant};
//! use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
//!
//! // A random generator of cryptographic quality, here from a seed that a device draws once and keeps.
//! let mut rng = ChaCha12Rng::from_seed([7; 32]);
//! // This host's addresses: one for each uplink, made so that peers can verify that they belong together.
//! let prefixes = ["2001:db8:a1::", "2001:db8:a2::"].map(|prefix| prefix.parse::<core::net::Ipv6Addr>().unwrap().into());
//! let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng)?;
//! let mut shim = Shim::new(ShimConfig::default(), Identity::from_hba_set(&set, &mut rng), [42; 32]);
//!
//! // A packet of the stack, with room in front of it.
//! let mut buffer = vec![0; HEADROOM + 40];
//! buffer[HEADROOM] = 6 << 4;
//! buffer[HEADROOM + 8..][..16].copy_from_slice(&set.addresses()[0].octets());
//! buffer[HEADROOM + 24..][..16].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
//! let now = Instant::from_micros(0);
//! let start = shim.send(now, &mut buffer, HEADROOM).expect("a packet");
//! // buffer[start..] leaves on the interface that has its source address. Then:
//! let mut packet = [0; 1280];
//! while let Some(length) = shim.poll_transmit(&mut packet) {
//!     // packet[..length] leaves as well.
//! }
//! assert_eq!(shim.poll_timeout(), None, "nothing to be done later");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counters;
mod flows;
#[cfg(test)]
mod tests;
mod trigger;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_reap::{Instant, LocatorPair};

pub use counters::ShimCounters;
pub use flows::{FlowKey, ForkError};
pub use trigger::Trigger;

use crate::config::EndpointConfig;
use crate::context::ContextInfo;
use crate::dataplane::{
    self, Dataplane, DataplaneUpdate, Flow, HoldBuffer, HoldConfig, IPV6_HEADER_LEN, Inbound, Observed, Outbound,
    PAYLOAD_HEADER_LEN, icmp,
};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::id::ContextId;
use crate::identity::Identity;
use crate::wire::PROTOCOL;
use flows::Flows;
use trigger::Candidates;

/// Octets that have to be free in front of a packet that is sent: it grows by as many when it is rewritten. So the MTU of
/// what is above the shim is the interface's less this.
pub const HEADROOM: usize = PAYLOAD_HEADER_LEN;

/// Events that wait for the caller at most; then the oldest go. Peers can make them happen.
const MOST_EVENTS: usize = 1_024;

/// Of the control messages' packets.
const HOP_LIMIT: u8 = 64;

/// Configuration of a [`Shim`].
#[derive(Debug, Clone)]
pub struct ShimConfig {
    /// Of the protocol.
    pub endpoint: EndpointConfig,
    /// How much is held while a path is looked for.
    pub hold: HoldConfig,
    /// When a context is set up by itself.
    pub trigger: Trigger,
    /// How many flows may be on forked contexts. 1,024.
    pub flows: usize,
    /// Whether a flow is answered on the forked context that its packets arrive on. True. RFC 5533 section 4.2 leaves it to the
    /// upper layers of both hosts to say where each sends; so does this host with false.
    pub follow_forks: bool,
}

impl ShimConfig {
    /// For small devices: [`EndpointConfig::small`], [`HoldConfig::small`], 16 pairs that are counted towards a context and 8
    /// flows on forked contexts.
    pub fn small() -> Self {
        Self {
            endpoint: EndpointConfig::small(),
            hold: HoldConfig::small(),
            trigger: Trigger {
                pairs: 16,
                ..Trigger::default()
            },
            flows: 8,
            ..Self::default()
        }
    }
}

impl Default for ShimConfig {
    fn default() -> Self {
        Self {
            endpoint: EndpointConfig::default(),
            hold: HoldConfig::default(),
            trigger: Trigger::default(),
            flows: 1_024,
            follow_forks: true,
        }
    }
}

/// The shim layer of a host: all contexts, and the packets that go through it.
///
/// Its methods are inputs ([`send`](Self::send), [`receive`](Self::receive), `handle_*`), commands
/// ([`command`](Self::command), [`fork`](Self::fork), [`join`](Self::join)), getters and outputs (`poll_*`). After each input or
/// command, drain [`poll_transmit`](Self::poll_transmit), [`poll_deliver`](Self::poll_deliver) and
/// [`poll_event`](Self::poll_event), in any order, each until it gives `None`, and ask [`poll_timeout`](Self::poll_timeout) when
/// to call [`handle_timeout`](Self::handle_timeout) at the latest.
///
/// Whatever arrives, at worst it is counted and dropped. The same configuration, identity, seed and inputs give the same outputs.
#[derive(Debug)]
pub struct Shim {
    endpoint: Endpoint,
    dataplane: Dataplane,
    hold: HoldBuffer,
    flows: Flows,
    follow_forks: bool,
    candidates: Candidates,
    /// Held packets, on their way again.
    replayed: VecDeque<Box<[u8]>>,
    events: VecDeque<Event>,
    counters: ShimCounters,
}

impl Shim {
    /// Makes a shim without contexts. All its randomness comes from `seed`, which must be secret and never be used twice
    /// outside tests.
    pub fn new(config: ShimConfig, identity: Identity, seed: [u8; 32]) -> Self {
        Self {
            endpoint: Endpoint::new(config.endpoint, identity, seed),
            dataplane: Dataplane::default(),
            hold: HoldBuffer::new(config.hold),
            flows: Flows::new(config.flows),
            follow_forks: config.follow_forks,
            candidates: Candidates::new(config.trigger),
            replayed: VecDeque::new(),
            events: VecDeque::new(),
            counters: ShimCounters::default(),
        }
    }

    /// Input: an IPv6 packet of the upper layers on its way out, at `buffer[start..]`, with at least [`HEADROOM`] octets in
    /// front of it. Gives where the packet starts that is to leave, on the interface that has its source address; `None`: it is
    /// dropped and counted.
    ///
    /// A packet between addresses that are no context's leaves as it is; between addresses that are, it may count towards a
    /// context to be set up ([`Trigger`]).
    pub fn send(&mut self, now: Instant, buffer: &mut [u8], start: usize) -> Option<usize> {
        let packet = buffer.get(start..).unwrap_or_default();
        let Some((local, peer)) = dataplane::addresses(packet) else {
            self.counters.malformed_out += 1;
            return None;
        };
        let ulids = LocatorPair { local, peer };
        let instance = self.flows.instance(ulids, packet);
        let forked = (instance != 0)
            .then(|| self.dataplane.flow_on(instance, ulids))
            .flatten();
        let instance = forked.map_or(0, |flow| flow.forked_instance);
        if let Some(flow) = forked.or_else(|| self.dataplane.flow(ulids)) {
            if flow.holding {
                self.hold.hold(flow, packet, now);
            } else if HoldBuffer::is_memorable(packet) {
                self.hold.remember(flow, packet, now);
            }
        }
        let (start, wake) = match self.dataplane.outbound_on(instance, buffer, start, now) {
            Outbound::Rewritten { start, flow, wake } => {
                self.counters.rewritten += 1;
                (start, wake.then_some(flow.context))
            }
            Outbound::Unchanged { flow, wake } => (start, wake.then_some(flow.context)),
            Outbound::NoContext => {
                self.consider(now, ulids, true);
                (start, None)
            }
            Outbound::NotPayload => (start, None),
            Outbound::Malformed(_) => {
                self.counters.malformed_out += 1;
                return None;
            }
        };
        self.counters.sent += 1;
        self.wake(now, wake);
        Some(start)
    }

    /// Input: an IPv6 packet from the network, at `buffer[start..]`. Gives where the packet for the upper layers starts; `None`:
    /// it was the shim's own, or it is dropped and counted.
    pub fn receive(&mut self, now: Instant, buffer: &mut [u8], start: usize) -> Option<usize> {
        let (start, wake) = match self.dataplane.inbound(buffer, start, now) {
            Inbound::Restored { start, flow, wake } => {
                self.counters.restored += 1;
                if self.follow_forks && flow.forked_instance != 0 {
                    self.flows.learn(flow, &buffer[start..]);
                }
                (start, wake.then_some(flow.context))
            }
            Inbound::Control { .. } | Inbound::NoContext => {
                self.endpoint.handle_packet(now, &buffer[start..]);
                self.settle(now);
                return None;
            }
            Inbound::Malformed(_) => {
                self.counters.malformed_in += 1;
                return None;
            }
            // An ICMPv6 error about a packet that this layer has changed or made.
            Inbound::NotShim6 if icmp::parse(&buffer[start..]).is_ok() => {
                self.endpoint.handle_packet(now, &buffer[start..]);
                self.settle(now);
                return None;
            }
            Inbound::NotShim6 => (start, self.observe_received(now, &buffer[start..])),
        };
        self.counters.received += 1;
        self.wake(now, wake);
        Some(start)
    }

    /// Input: something local is known of one of this host's locators: its interface went down, or it is back up. Contexts
    /// that send from a lost one look for another pair at once.
    pub fn handle_locator(&mut self, now: Instant, locator: Ipv6Addr, usable: bool) {
        self.command(now, |endpoint| endpoint.handle_locator(now, locator, usable));
    }

    /// Input: [`poll_timeout`](Self::poll_timeout)'s time has come. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.hold.poll_timeout().is_some_and(|at| at <= now) {
            self.hold.handle_timeout(now);
        }
        self.command(now, |endpoint| endpoint.handle_timeout(now));
    }

    /// Command: any of the [`Endpoint`]'s, such as [`establish`](Endpoint::establish), [`prefer`](Endpoint::prefer),
    /// [`move_to`](Endpoint::move_to), [`set_identity`](Endpoint::set_identity) or [`handle_hint`](Endpoint::handle_hint). Of
    /// the endpoint's outputs nothing is to be taken here: this layer needs them.
    pub fn command<T>(&mut self, now: Instant, act: impl FnOnce(&mut Endpoint) -> T) -> T {
        let result = act(&mut self.endpoint);
        self.settle(now);
        result
    }

    /// Command: has one flow take a path of its own: sets up another context for its ULID pair, and sends the flow on it once it
    /// is established. The peer's shim answers on it as well, if it is one of these that follows
    /// ([`ShimConfig::follow_forks`]). Two flows between the same hosts can use two
    /// paths so: `command(now, |endpoint| endpoint.move_to(…))` moves the new context.
    ///
    /// # Errors
    ///
    /// The context cannot be had now, or there are as many such flows as there may be.
    pub fn fork(&mut self, now: Instant, flow: FlowKey) -> Result<ContextId, ForkError> {
        self.flows.check_room(&flow)?;
        let instance = self.endpoint.unused_instance(flow.ulids);
        let id = self.command(now, |endpoint| endpoint.fork(now, flow.ulids, instance))?;
        self.flows.assign(flow, instance.get());
        Ok(id)
    }

    /// Command: has a flow take the path of its ULID pair's own context again. A forked context without a flow is closed once
    /// nothing has passed on it for long, or by [`Endpoint::close`].
    pub fn join(&mut self, flow: &FlowKey) {
        self.flows.remove(flow);
    }

    /// The context that carries a flow.
    pub fn session(&self, flow: &FlowKey) -> Option<ContextInfo> {
        let forked = match self.flows.instance_of(flow) {
            0 => None,
            instance => self.dataplane.flow_on(instance, flow.ulids),
        };
        let carrying = forked.or_else(|| self.dataplane.flow(flow.ulids))?;
        self.endpoint.context(carrying.context)
    }

    /// The protocol's side, to look at.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The packets' side, to look at.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// What is held, to look at.
    pub fn hold(&self) -> &HoldBuffer {
        &self.hold
    }

    /// How many flows are on forked contexts, because of [`fork`](Self::fork) or because the peer's packets of the flow are.
    pub fn forked_flows(&self) -> usize {
        self.flows.len()
    }

    /// What went through.
    pub fn counters(&self) -> ShimCounters {
        self.counters
    }

    /// Output: writes the next packet that this layer has to send into `buffer`, and gives its length. It leaves on the
    /// interface that has its source address. What does not fit is dropped and counted: `buffer` should have the octets of the
    /// interface's MTU, and 1280 at least.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<usize> {
        while let Some(packet) = self.replayed.pop_front() {
            if let Some(out) = buffer.get_mut(..packet.len()) {
                out.copy_from_slice(&packet);
                return Some(packet.len());
            }
            self.counters.too_long += 1;
        }
        let (header, message) = buffer.split_first_chunk_mut::<IPV6_HEADER_LEN>()?;
        let transmit = self.endpoint.poll_transmit(message)?;
        *header = ipv6_header(transmit.source, transmit.destination, transmit.len);
        Some(IPV6_HEADER_LEN + transmit.len)
    }

    /// Output: writes the next IPv6 packet for this host's own upper layers into `buffer`, and gives its length: an ICMPv6
    /// error about a packet of theirs, as they sent it. 1280 octets are enough.
    pub fn poll_deliver(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.endpoint.poll_deliver(buffer)
    }

    /// Output: the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Output: when [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [self.endpoint.poll_timeout(), self.hold.poll_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// An ordinary packet has arrived.
    fn observe_received(&mut self, now: Instant, packet: &[u8]) -> Option<ContextId> {
        let (source, destination) = dataplane::addresses(packet)?;
        match self.dataplane.observe(source, destination, false, packet.len(), now) {
            Observed::Wake(context) => Some(context),
            Observed::Recorded => None,
            Observed::NoContext(ulids) => {
                self.consider(now, ulids, false);
                None
            }
        }
    }

    /// Sets up a context for a pair that has had enough traffic.
    fn consider(&mut self, now: Instant, ulids: LocatorPair, outgoing: bool) {
        let is_ours = self.endpoint.identity().is_ulid(ulids.local);
        if is_ours && self.candidates.count(now, ulids, outgoing) {
            // Where it cannot be had now, the pair counts anew.
            let _ = self.command(now, |endpoint| endpoint.establish(now, ulids));
        }
    }

    fn wake(&mut self, now: Instant, context: Option<ContextId>) {
        if let Some(context) = context {
            self.endpoint.handle_activity(now, context);
        }
        // Also for what a command of the caller's has left.
        self.settle(now);
    }

    /// Carries out what the endpoint asks for.
    fn settle(&mut self, now: Instant) {
        // Replayed packets may wake the endpoint, which may ask for more: each flow is replayed once, so this ends.
        loop {
            let mut updates = Vec::new();
            while let Some(update) = self.endpoint.poll_dataplane() {
                self.dataplane.apply(update.clone());
                updates.push(update);
            }
            if updates.is_empty() {
                break;
            }
            // Only when the table is as it shall be: a flow may have been replaced at once.
            for update in updates {
                match update {
                    DataplaneUpdate::Insert(flow) if flow.holding => self.hold.doubt(&flow),
                    DataplaneUpdate::Insert(flow) => self.replay(now, &flow),
                    DataplaneUpdate::Remove(flow) => self.hold.discard(flow.context),
                }
            }
        }
        let mut is_gone = false;
        while let Some(event) = self.endpoint.poll_event() {
            is_gone |= matches!(
                event,
                Event::Closed { .. } | Event::NoAnswer { .. } | Event::NoSupport { .. }
            );
            if self.events.len() >= MOST_EVENTS {
                self.events.pop_front();
                self.counters.events_lost += 1;
            }
            self.events.push_back(event);
        }
        if is_gone {
            let endpoint = &self.endpoint;
            self.flows
                .retain(|ulids, instance| endpoint.has_instance(ulids, instance));
        }
    }

    /// Sends what was held for a flow's context on the path that was found.
    fn replay(&mut self, now: Instant, flow: &Arc<Flow>) {
        let current = self.dataplane.flow_by_tag(flow.local_tag);
        if !current.is_some_and(|current| Arc::ptr_eq(current, flow)) {
            return;
        }
        for packet in self.hold.release(flow, now) {
            let mut buffer = vec![0; HEADROOM + packet.len()];
            buffer[HEADROOM..].copy_from_slice(&packet);
            let outbound = self
                .dataplane
                .outbound_on(flow.forked_instance, &mut buffer, HEADROOM, now);
            let (start, wake) = match outbound {
                Outbound::Rewritten { start, wake, .. } => (start, wake),
                Outbound::Unchanged { wake, .. } => (HEADROOM, wake),
                _ => continue,
            };
            self.counters.replayed += 1;
            buffer.drain(..start);
            self.replayed.push_back(buffer.into());
            if wake {
                self.endpoint.handle_activity(now, flow.context);
            }
        }
    }
}

fn ipv6_header(source: Ipv6Addr, destination: Ipv6Addr, length: usize) -> [u8; IPV6_HEADER_LEN] {
    let mut header = [0; IPV6_HEADER_LEN];
    header[0] = 6 << 4;
    // A control message has 1240 octets at most.
    header[4..6].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    header[6] = PROTOCOL;
    header[7] = HOP_LIMIT;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}
