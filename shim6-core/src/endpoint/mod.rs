//! The host's control side: all contexts, and what goes in and out of them.

#[cfg(any(test, fuzzing))]
mod consistency;
mod establish;
#[cfg(feature = "inspect")]
mod inspect;
mod monitor;
mod output;
#[cfg(test)]
mod tests;
mod verify;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

use hashbrown::HashMap;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use shim6_reap::{Instant, LocatorPair};

use crate::config::EndpointConfig;
use crate::context::{Context, ContextInfo, Phase};
use crate::counters::Counters;
use crate::dataplane::DataplaneUpdate;
use crate::event::{CloseReason, Event};
use crate::id::ContextId;
use crate::identity::Identity;
use crate::rate::RateLimit;
use crate::validator::Validator;
use crate::wire::{ContextTag, Discard, Message};

pub use output::Transmit;

/// All Shim6 contexts of a host.
///
/// It is driven from outside: the methods are getters, inputs (`handle_*`), commands ([`establish`](Self::establish),
/// [`close`](Self::close)) and outputs (`poll_*`). After each input or command, drain [`poll_dataplane`], then
/// [`poll_transmit`], then [`poll_event`], each until it gives `None`, and ask [`poll_timeout`] when to call
/// [`handle_timeout`] at the latest. Time may stand still between calls; when it goes back it is taken as standing still.
///
/// The same configuration, identity, seed and inputs give the same outputs, octet for octet.
///
/// A clone goes on by itself: its contexts have [`Activity`](crate::Activity) of their own. Drain the outputs first, or the clone
/// gives them, too, with flows that are the original's.
///
/// [`poll_dataplane`]: Self::poll_dataplane
/// [`poll_transmit`]: Self::poll_transmit
/// [`poll_event`]: Self::poll_event
/// [`poll_timeout`]: Self::poll_timeout
/// [`handle_timeout`]: Self::handle_timeout
#[derive(Clone)]
pub struct Endpoint {
    config: EndpointConfig,
    identity: Identity,
    rng: ChaCha12Rng,
    /// The latest time seen.
    clock: Instant,
    validator: Validator,
    contexts: HashMap<ContextId, Context>,
    next_id: u64,
    by_ulids: HashMap<(LocatorPair, u32), ContextId>,
    by_local_tag: HashMap<ContextTag, ContextId>,
    /// Several peers may have picked the same tag.
    by_peer_tag: HashMap<ContextTag, Vec<ContextId>>,
    by_nonce: HashMap<u32, ContextId>,
    per_peer: HashMap<Ipv6Addr, usize>,
    timers: BTreeSet<(Instant, ContextId)>,
    /// Peers that did not answer, and until when they are left alone.
    holddowns: HashMap<Ipv6Addr, Instant>,
    /// Local locators that are known not to work.
    unusable: Vec<Ipv6Addr>,
    limits: RateLimits,
    transmits: VecDeque<output::Outgoing>,
    updates: VecDeque<DataplaneUpdate>,
    events: VecDeque<Event>,
    counters: Counters,
}

#[derive(Debug, Clone)]
struct RateLimits {
    r1: RateLimit,
    r2: RateLimit,
    errors: RateLimit,
    verifications: RateLimit,
    signatures: RateLimit,
}

/// A control message that is being handled.
#[derive(Debug, Clone, Copy)]
struct Arrival<'a> {
    now: Instant,
    /// The addresses of its packet, as this host sees them: `local` is the destination.
    on: LocatorPair,
    /// The message from its Next Header octet on.
    octets: &'a [u8],
}

/// Why [`Endpoint::establish`] did not start an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EstablishError {
    /// The local ULID is not one of the identity's locators, or the peer's is.
    #[error("{0} is not a pair of one of this host's locators and a peer's address")]
    NotOurs(LocatorPair),
    /// There is a context for the pair already.
    #[error("context {0} exists for this ULID pair")]
    Exists(ContextId),
    /// The peer did not answer lately; it is left alone until the given time.
    #[error("the peer did not answer; it is left alone until its hold-down ends")]
    HoldDown(Instant),
    /// The limit on contexts, in total or with this peer, is reached.
    #[error("the limit on contexts is reached")]
    Limit,
}

impl Endpoint {
    /// Makes an endpoint without contexts. All its randomness comes from `seed`, which must be secret and never be used
    /// twice outside tests.
    pub fn new(config: EndpointConfig, identity: Identity, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let validator = Validator::new(config.establishment.validator_lifetime, &mut rng);
        let limits = RateLimits {
            r1: RateLimit::new(config.limits.r1_per_second),
            r2: RateLimit::new(config.limits.r2_per_second),
            errors: RateLimit::new(config.limits.errors_per_second),
            verifications: RateLimit::new(config.limits.verifications_per_second),
            signatures: RateLimit::new(config.limits.signatures_per_second),
        };
        Self {
            config,
            identity,
            rng,
            clock: Instant::EPOCH,
            validator,
            contexts: HashMap::new(),
            next_id: 1,
            by_ulids: HashMap::new(),
            by_local_tag: HashMap::new(),
            by_peer_tag: HashMap::new(),
            by_nonce: HashMap::new(),
            per_peer: HashMap::new(),
            timers: BTreeSet::new(),
            holddowns: HashMap::new(),
            unusable: Vec::new(),
            limits,
            transmits: VecDeque::new(),
            updates: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// This host's locators.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All contexts, in no particular order.
    pub fn contexts(&self) -> impl Iterator<Item = ContextInfo> + '_ {
        self.contexts.values().map(Context::info)
    }

    /// One context.
    pub fn context(&self, id: ContextId) -> Option<ContextInfo> {
        self.contexts.get(&id).map(Context::info)
    }

    /// Command: sets up a context for a ULID pair by sending an I1 (RFC 5533 section 7.7).
    pub fn establish(&mut self, now: Instant, ulids: LocatorPair) -> Result<ContextId, EstablishError> {
        if !self.identity.is_ulid(ulids.local) || self.identity.contains(ulids.peer) || !verify::is_locator(ulids.peer)
        {
            return Err(EstablishError::NotOurs(ulids));
        }
        let now = self.advance(now);
        if let Some(&id) = self.by_ulids.get(&(ulids, 0)) {
            return Err(EstablishError::Exists(id));
        }
        match self.holddowns.get(&ulids.peer) {
            Some(&until) if until > now => return Err(EstablishError::HoldDown(until)),
            Some(_) => drop(self.holddowns.remove(&ulids.peer)),
            None => {}
        }
        if !self.has_room_for(ulids.peer) {
            return Err(EstablishError::Limit);
        }
        Ok(self.initiate(now, ulids))
    }

    /// Command: forgets a context. Its packets take the path of their ULIDs again.
    pub fn close(&mut self, id: ContextId) {
        self.remove(id, Some(CloseReason::Requested));
    }

    /// Input: a control message from the network, from its Next Header octet on, and the addresses of the IPv6 packet that
    /// carried it. Whatever it holds, at worst it is counted and dropped.
    pub fn handle_message(&mut self, now: Instant, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) {
        let now = self.advance(now);
        let result = self.check_addresses(source, destination).and_then(|on| {
            let arrival = Arrival {
                now,
                on,
                octets: message,
            };
            let message = self.parse(arrival)?;
            self.counters.count_received(message.message_type());
            self.dispatch(arrival, message)
        });
        if let Err(reason) = result {
            self.counters.count_discard(reason);
        }
    }

    /// Input: a packet of this context passed for which its [`Activity`](crate::Activity) asked for this call.
    pub fn handle_activity(&mut self, now: Instant, id: ContextId) {
        let now = self.advance(now);
        self.look(now, id);
    }

    /// Input: something local is known of one of this host's locators: its address or link went away, or it is back
    /// (RFC 5534 section 3.2). Contexts that send from a lost one look for another pair at once.
    pub fn handle_locator(&mut self, now: Instant, locator: Ipv6Addr, usable: bool) {
        let now = self.advance(now);
        if usable {
            self.unusable.retain(|&unusable| unusable != locator);
        } else if self.identity.contains(locator) && !self.unusable.contains(&locator) {
            self.unusable.push(locator);
        }
        self.report_locator(now, locator, usable);
    }

    /// Input: [`poll_timeout`](Self::poll_timeout)'s time has come. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        // What a timeout sets anew lies in the future or is due again in the next call: this loop ends.
        let due: Vec<_> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|&(_, id)| id)
            .collect();
        for id in due {
            match self.contexts.get(&id).map(|context| &context.phase) {
                Some(Phase::Established(_)) => self.look(now, id),
                Some(_) => self.retransmit(now, id),
                None => {}
            }
        }
    }

    /// Output: the next change for the [`Dataplane`](crate::Dataplane).
    pub fn poll_dataplane(&mut self) -> Option<DataplaneUpdate> {
        self.updates.pop_front()
    }

    /// Output: writes the next control message into `buffer`, from its Next Header octet on, and says where it goes.
    /// `buffer` should hold [`MAX_MESSAGE`](crate::wire::MAX_MESSAGE) octets; what does not fit is dropped.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        self.next_transmit(buffer)
    }

    /// Output: the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Output: when [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Time, which stands still where the caller's goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// RFC 5533 section 12.3, and that the message is not our own. The pair is this host's view.
    fn check_addresses(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<LocatorPair, Discard> {
        if source.is_multicast() || destination.is_multicast() {
            Err(Discard::Multicast)
        } else if source.is_unspecified() || destination.is_unspecified() {
            Err(Discard::UnspecifiedAddress)
        } else if self.identity.contains(source) {
            Err(Discard::OwnPacket)
        } else if !self.identity.contains(destination) || !verify::is_locator(source) {
            // An answer to a loopback or link-local address would go to this host or to some neighbour.
            Err(Discard::LocatorNotInSet)
        } else {
            Ok(LocatorPair {
                local: destination,
                peer: source,
            })
        }
    }

    fn parse(&mut self, arrival: Arrival<'_>) -> Result<Message, Discard> {
        Message::parse(arrival.octets).map_err(|error| {
            if let Some((code, offset)) = error.error_report() {
                self.report_error(arrival, code, offset);
            }
            error.reason()
        })
    }

    fn dispatch(&mut self, arrival: Arrival<'_>, message: Message) -> Result<(), Discard> {
        match message {
            Message::I1(i1) => self.handle_i1(arrival, &i1),
            Message::R1(r1) => self.handle_r1(arrival, &r1),
            Message::I2(i2) => self.handle_i2(arrival, &i2),
            Message::R2(r2) => self.handle_r2(arrival, &r2),
            Message::Keepalive(keepalive) => self.handle_keepalive(arrival, &keepalive),
            Message::Probe(probe) => self.handle_probe(arrival, &probe),
            // Counted by type; an Error never changes anything by itself, since its sender proves nothing.
            Message::Error(_) => Ok(()),
            Message::R1bis(_) | Message::I2bis(_) | Message::UpdateRequest(_) | Message::UpdateAcknowledgement(_) => {
                Err(Discard::WrongState)
            }
        }
    }

    fn has_room_for(&self, peer: Ipv6Addr) -> bool {
        let with_peer = self.per_peer.get(&peer).copied().unwrap_or(0);
        self.contexts.len() < self.config.limits.contexts && with_peer < self.config.limits.contexts_per_peer
    }

    /// Adds a context and its indices; `phase` decides which of them.
    fn insert(&mut self, context: Context) {
        let id = context.id;
        self.by_ulids.insert((context.ulids, context.forked_instance), id);
        self.by_local_tag.insert(context.local_tag, id);
        if let Some(initiation) = context.initiation() {
            self.by_nonce.insert(initiation.nonce, id);
        }
        *self.per_peer.entry(context.ulids.peer).or_default() += 1;
        self.contexts.insert(id, context);
    }

    /// Removes a context from everywhere. With a reason, its owner is told.
    fn remove(&mut self, id: ContextId, reason: Option<CloseReason>) {
        let Some(context) = self.contexts.remove(&id) else {
            return;
        };
        self.by_ulids.remove(&(context.ulids, context.forked_instance));
        self.by_local_tag.remove(&context.local_tag);
        if let Some(initiation) = context.initiation() {
            self.by_nonce.remove(&initiation.nonce);
        }
        if let Some(timer) = context.timer {
            self.timers.remove(&(timer, id));
        }
        if let Some(count) = self.per_peer.get_mut(&context.ulids.peer) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&context.ulids.peer);
            }
        }
        if let Some(established) = context.established() {
            self.forget_peer_tag(established.peer_tag, id);
            self.updates
                .push_back(DataplaneUpdate::Remove(established.flow.clone()));
        }
        if let Some(reason) = reason {
            self.events.push_back(Event::Closed {
                context: id,
                ulids: context.ulids,
                reason,
            });
        }
    }

    fn forget_peer_tag(&mut self, tag: ContextTag, id: ContextId) {
        if let Some(ids) = self.by_peer_tag.get_mut(&tag) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_peer_tag.remove(&tag);
            }
        }
    }

    /// Moves a context to its place in the timer queue. To be called after each change to it.
    fn reschedule(&mut self, id: ContextId) {
        let Some(context) = self.contexts.get_mut(&id) else {
            return;
        };
        let deadline = context.deadline();
        if deadline != context.timer {
            if let Some(timer) = context.timer.take() {
                self.timers.remove(&(timer, id));
            }
            if let Some(deadline) = deadline {
                self.timers.insert((deadline, id));
            }
            context.timer = deadline;
        }
    }

    fn allocate_id(&mut self) -> ContextId {
        let id = ContextId(self.next_id);
        self.next_id += 1;
        id
    }

    /// A Context Tag that no context of this host has (RFC 5533 section 7.1).
    fn allocate_tag(&mut self) -> ContextTag {
        loop {
            let tag = ContextTag::from_random_bits(self.rng.next_u64());
            if !self.by_local_tag.contains_key(&tag) {
                return tag;
            }
        }
    }

    /// An Initiator Nonce by which exactly one context is found.
    fn allocate_nonce(&mut self) -> u32 {
        loop {
            let nonce = self.rng.next_u32();
            if !self.by_nonce.contains_key(&nonce) {
                return nonce;
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No tags, nonces or generator state: they are what keeps off-path attackers out.
        f.debug_struct("Endpoint")
            .field("locators", &self.identity.locators())
            .field("contexts", &self.contexts.len())
            .field("poll_timeout", &self.poll_timeout())
            .finish_non_exhaustive()
    }
}
