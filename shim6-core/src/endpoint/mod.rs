//! The host's control side: all contexts, and what goes in and out of them.

mod announce;
mod associate;
#[cfg(any(test, fuzzing))]
mod consistency;
mod evict;
mod experience;
mod failback;
mod failures;
mod icmp;
mod initiate;
#[cfg(feature = "inspect")]
mod inspect;
mod manual;
mod monitor;
mod output;
mod pace;
mod packet;
mod paths;
mod recover;
mod report;
mod respond;
mod survey;
mod table;
#[cfg(test)]
mod tests;
mod update;
mod verify;
mod wish;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;
use core::num::NonZeroU32;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng};
use shim6_reap::{Instant, LocatorPair};

use crate::config::EndpointConfig;
use crate::context::{Context, ContextInfo, ContextState};
use crate::counters::Counters;
use crate::dataplane::{DataplaneUpdate, Flow};
use crate::event::{CloseReason, Event};
use crate::id::ContextId;
use crate::identity::Identity;
use crate::rate::RateLimit;
use crate::tag::TagSequence;
use crate::validator::Validator;
use crate::wire::{ContextTag, Discard, Message, Preference, check_addresses};

use experience::Experience;
use failures::Failures;
pub use manual::{Moved, PathError};
pub use output::Transmit;
pub(crate) use pace::Waiting;
pub use survey::{Census, PathInfo};
use table::Contexts;
pub use wish::Protection;

/// Pairs of which something is remembered, for each context that there may be.
const PAIRS_REMEMBERED: usize = 4;

/// How often in a second all contexts are gone through because of one's discovery: peers can make discoveries happen.
const SPREADS: u32 = 200;

/// All Shim6 contexts of a host.
///
/// It is driven from outside: the methods are getters, inputs (`handle_*`), commands ([`establish`](Self::establish),
/// [`fork`](Self::fork), [`close`](Self::close), [`probe`](Self::probe), [`move_to`](Self::move_to),
/// [`release`](Self::release), `set_*`) and outputs (`poll_*`). After each input or command, drain
/// [`poll_dataplane`], then [`poll_transmit`], then [`poll_deliver`], then [`poll_event`], each until it gives `None`, and
/// ask [`poll_timeout`] when to call [`handle_timeout`] at the latest. Time may stand still between calls; when it goes back
/// it is taken as standing still.
///
/// The same configuration, identity, seed and inputs give the same outputs, octet for octet. A clone goes on as the
/// original would; its contexts have flows of their own, see [`flows`](Self::flows).
///
/// [`poll_dataplane`]: Self::poll_dataplane
/// [`poll_transmit`]: Self::poll_transmit
/// [`poll_deliver`]: Self::poll_deliver
/// [`poll_event`]: Self::poll_event
/// [`poll_timeout`]: Self::poll_timeout
/// [`handle_timeout`]: Self::handle_timeout
#[derive(Clone)]
pub struct Endpoint {
    config: EndpointConfig,
    identity: Arc<Identity>,
    /// Former identities that contexts still live with.
    former: Vec<Arc<Identity>>,
    rng: ChaCha12Rng,
    /// The latest time seen.
    clock: Instant,
    validator: Validator,
    tags: TagSequence,
    contexts: Contexts,
    failures: Failures,
    /// Local locators that are known not to work.
    unusable: Vec<Ipv6Addr>,
    /// ULID pairs that shall have no contexts.
    never: BTreeSet<LocatorPair>,
    limits: RateLimits,
    reap_configs: monitor::ReapConfigs,
    experience: Experience,
    /// The probes that wait for their turn.
    probes: pace::Queue,
    /// The probes that somebody asked for by hand.
    asked: Vec<manual::Asked>,
    /// How fast preferred pairs are tried.
    trials: pace::Pace,
    /// How often all contexts are told of one's discovery.
    spreads: pace::Pace,
    transmits: VecDeque<output::Outgoing>,
    deliveries: VecDeque<Vec<u8>>,
    updates: VecDeque<DataplaneUpdate>,
    events: VecDeque<Event>,
    counters: Counters,
    /// What contexts carried that are gone.
    past: survey::Past,
}

#[derive(Debug, Clone)]
struct RateLimits {
    r1: RateLimit,
    r2: RateLimit,
    r1bis: RateLimit,
    errors: RateLimit,
    verifications: RateLimit,
    #[cfg(feature = "rsa")]
    signatures: RateLimit,
}

/// A control message that is being handled.
#[derive(Debug, Clone, Copy)]
struct Arrival<'a> {
    now: Instant,
    /// The addresses of its packet, as this host sees them: `local` is the destination.
    on: LocatorPair,
    /// The headers in front of the message, from the IPv6 header on; empty where the caller has none.
    headers: &'a [u8],
    /// The message from its Next Header octet on.
    octets: &'a [u8],
}

/// What an upper layer knows of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The peer has acknowledged something: the pair in use works both ways.
    Progress,
    /// The peer has not acknowledged what it should have. The pair in use is probed, and others if it does not answer.
    Stalled,
}

/// Why [`Endpoint::establish`] or [`Endpoint::fork`] did not start an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// The local ULID is not one of the identity's locators, or the peer's is.
    #[error("{0} is not a pair of one of this host's locators and a peer's address")]
    NotOurs(LocatorPair),
    /// The pair shall have no contexts: [`Endpoint::set_protection`].
    #[error("{0} shall have no contexts, as somebody asked for")]
    Never(LocatorPair),
    /// There is a context for the pair already.
    #[error("context {0} exists for this ULID pair")]
    Exists(ContextId),
    /// An exchange with the peer failed lately; it is left alone until the given time.
    #[error("the peer is left alone until its hold-down ends: {state}")]
    HoldDown {
        /// [`ContextState::EFailed`] or [`ContextState::NoSupport`].
        state: ContextState,
        /// When it ends.
        until: Instant,
    },
    /// The limit on contexts, in total or with this peer, is reached, and none can make room.
    #[error("the limit on contexts is reached")]
    Limit,
}

impl Endpoint {
    /// Makes an endpoint without contexts. All its randomness comes from `seed`, which must be secret and never be used
    /// twice outside tests.
    pub fn new(config: EndpointConfig, identity: Identity, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let validator = Validator::new(config.establishment.validator_lifetime, &mut rng);
        let tags = TagSequence::new(&mut rng);
        let limits = &config.limits;
        let mut limit = |rate| RateLimit::new(rate, limits.counted_prefixes, &mut rng);
        let limits = RateLimits {
            r1: limit(limits.r1),
            r2: limit(limits.r2),
            r1bis: limit(limits.r1bis),
            errors: limit(limits.errors),
            verifications: limit(limits.verifications),
            #[cfg(feature = "rsa")]
            signatures: limit(limits.signatures),
        };
        let experience = Experience::new(config.limits.contexts.saturating_mul(PAIRS_REMEMBERED));
        let (probes, trials) = (
            pace::Queue::new(config.limits.probes),
            pace::Pace::new(config.failback.rate),
        );
        let spreads = pace::Pace::new(SPREADS);
        Self {
            config,
            identity: Arc::new(identity),
            former: Vec::new(),
            rng,
            clock: Instant::EPOCH,
            validator,
            tags,
            contexts: Contexts::default(),
            failures: Failures::default(),
            unusable: Vec::new(),
            never: BTreeSet::new(),
            limits,
            reap_configs: monitor::ReapConfigs::default(),
            experience,
            probes,
            asked: Vec::new(),
            trials,
            spreads,
            transmits: VecDeque::new(),
            deliveries: VecDeque::new(),
            updates: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            past: survey::Past::default(),
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
        self.contexts.iter().map(Context::info)
    }

    /// One context.
    pub fn context(&self, id: ContextId) -> Option<ContextInfo> {
        self.contexts.get(id).map(Context::info)
    }

    /// The flows of all contexts, in no particular order: what a [`Dataplane`](crate::Dataplane) holds that has been given all
    /// that [`poll_dataplane`](Self::poll_dataplane) gave.
    pub fn flows(&self) -> impl Iterator<Item = &Arc<Flow>> + '_ {
        let associations = self.contexts.iter().filter_map(|context| context.association.as_ref());
        associations.map(|association| &association.flow)
    }

    /// The peers that are left alone for a while, by their ULIDs: with each an exchange failed ([`ContextState::EFailed`])
    /// or it does not know the protocol ([`ContextState::NoSupport`]). Until when comes last.
    pub fn failures(&self) -> impl Iterator<Item = (Ipv6Addr, ContextState, Instant)> + '_ {
        self.failures.iter().filter(|&(_, _, until)| until > self.clock)
    }

    /// Command: sets up a context for a ULID pair by sending an I1 (RFC 5533 section 7.7).
    ///
    /// # Errors
    ///
    /// The pair is none for a context, has one, or cannot have one now.
    pub fn establish(&mut self, now: Instant, ulids: LocatorPair) -> Result<ContextId, EstablishError> {
        self.initiate(now, ulids, 0)
    }

    /// Command: sets up another context for a ULID pair, told apart by its Forked Instance Identifier (RFC 5533 section 4.2).
    /// Only packets that the caller assigns to it take its path.
    ///
    /// # Errors
    ///
    /// As [`establish`](Self::establish).
    pub fn fork(
        &mut self,
        now: Instant,
        ulids: LocatorPair,
        forked_instance: NonZeroU32,
    ) -> Result<ContextId, EstablishError> {
        self.initiate(now, ulids, forked_instance.get())
    }

    /// A Forked Instance Identifier that no context of this ULID pair has here, by lot, so that the peer hardly ever draws the same one.
    pub fn unused_instance(&mut self, ulids: LocatorPair) -> NonZeroU32 {
        loop {
            let drawn = NonZeroU32::new(self.rng.next_u32());
            if let Some(instance) = drawn.filter(|drawn| self.contexts.by_ulids(ulids, drawn.get()).is_none()) {
                return instance;
            }
        }
    }

    /// Whether there is a context of this ULID pair and Forked Instance Identifier.
    pub(crate) fn has_instance(&self, ulids: LocatorPair, forked_instance: u32) -> bool {
        self.contexts.by_ulids(ulids, forked_instance).is_some()
    }

    /// Command: forgets a context. Its packets take the path of their ULIDs again.
    pub fn close(&mut self, id: ContextId) {
        self.remove(id, CloseReason::Requested);
    }

    /// Command: says whether an upper layer may still use the context, however quiet it is: then it is not torn down, nor
    /// does it make room for another (RFC 5533 section 9).
    pub fn set_in_use(&mut self, id: ContextId, in_use: bool) {
        self.contexts.modify(id, |context| context.in_use = in_use);
    }

    /// Command: this host has other locators from now on. The peers are told in Update Requests (RFC 5533 section 10).
    ///
    /// Contexts whose ULID the new identity cannot prove keep the locators that they have.
    pub fn set_identity(&mut self, now: Instant, identity: Identity) {
        let now = self.advance(now);
        self.change_identity(now, identity);
    }

    /// Command: this host prefers its locators in another way; those that are not named are taken for working, and of
    /// priority and weight 0. The peers are told in Update Requests (RFC 5533 section 10).
    pub fn set_preferences(&mut self, now: Instant, preferences: &[(Ipv6Addr, Preference)]) {
        let now = self.advance(now);
        let identity = self.identity.with_preferences(preferences);
        self.change_identity(now, identity);
    }

    /// Command: another configuration holds from now on.
    ///
    /// Contexts that exist keep the timers that were agreed upon with their peers, and none is removed because a limit is lower
    /// now. What was set aside by `limits` when the endpoint was made stays as it is: the rates of messages and probes, and how
    /// many prefixes and pairs are remembered.
    pub fn set_config(&mut self, now: Instant, config: EndpointConfig) {
        let now = self.advance(now);
        if self.config.failback.rate != config.failback.rate {
            self.trials = pace::Pace::new(config.failback.rate);
        }
        let is_quiet_earlier = config.quiescence < self.config.quiescence;
        self.config = config;
        for id in self.contexts.ids() {
            self.plan_failback(now, id);
            if is_quiet_earlier {
                self.contexts.modify(id, |context| {
                    if let Some(association) = context.association.as_deref_mut() {
                        association.quiescence_check = now;
                    }
                });
            }
        }
    }

    /// Input: a control message from the network, from its Next Header octet on, and the addresses of the IPv6 packet that
    /// carried it. Whatever it holds, at worst it is counted and dropped.
    ///
    /// Where the caller has the whole packet, [`handle_packet`](Self::handle_packet) says more in Error messages.
    pub fn handle_message(&mut self, now: Instant, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) {
        self.handle_control(now, (source, destination), &[], message);
    }

    /// Input: an IPv6 packet from the network, from its IPv6 header on, that holds a Shim6 control message, a payload header
    /// that the [`Dataplane`](crate::Dataplane) could not take, or an ICMPv6 error. Whatever it holds, at worst it is
    /// counted and dropped.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if let Err(reason) = self.sort_packet(now, packet) {
            self.counters.count_discard(reason);
        }
    }

    /// Input: a payload header arrived with a Context Tag that no flow has. Its sender is told by an R1bis that this host
    /// lost the context (RFC 5533 section 7.17).
    pub fn handle_unknown_tag(&mut self, now: Instant, source: Ipv6Addr, destination: Ipv6Addr, tag: ContextTag) {
        let now = self.advance(now);
        let result = self
            .check_addresses(source, destination)
            .and_then(|on| self.handle_payload_tag(now, on, tag));
        if let Err(reason) = result {
            self.counters.count_discard(reason);
        }
    }

    /// Input: a packet of this context passed for which its [`Activity`](crate::Activity) asked for this call.
    pub fn handle_activity(&mut self, now: Instant, id: ContextId) {
        let now = self.advance(now);
        self.look(now, id);
        self.repeat_exchange(now, id);
    }

    /// Input: an upper layer's opinion of the path of a context (RFC 5534 section 4.1).
    pub fn handle_hint(&mut self, now: Instant, id: ContextId, hint: Hint) {
        let now = self.advance(now);
        self.heed_hint(now, id, hint);
    }

    /// Input: something local is known of one of this host's locators: its address or link went away, or it is back
    /// (RFC 5534 section 3.2). Contexts that send from a lost one look for another pair at once.
    pub fn handle_locator(&mut self, now: Instant, locator: Ipv6Addr, usable: bool) {
        let now = self.advance(now);
        if usable {
            self.unusable.retain(|&unusable| unusable != locator);
        } else if self.is_local(locator) && !self.unusable.contains(&locator) {
            self.unusable.push(locator);
        }
        self.report_locator(now, locator, usable);
    }

    /// Input: [`poll_timeout`](Self::poll_timeout)'s time has come. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        // What a timeout sets anew lies in the future or is due again in the next call: this loop ends.
        for id in self.contexts.due(now) {
            self.retransmit(now, id);
            self.retransmit_update(now, id);
            self.look(now, id);
            self.tear_down_if_quiescent(now, id);
        }
        self.release_probes(now);
    }

    /// Output: the next change for the [`Dataplane`](crate::Dataplane).
    #[must_use]
    pub fn poll_dataplane(&mut self) -> Option<DataplaneUpdate> {
        self.updates.pop_front()
    }

    /// Output: writes the next control message into `buffer`, from its Next Header octet on, and says where it goes.
    /// `buffer` should hold [`MAX_MESSAGE`](crate::wire::MAX_MESSAGE) octets; what does not fit is dropped.
    #[must_use]
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        self.next_transmit(buffer)
    }

    /// Output: writes the next IPv6 packet for this host's own upper layers into `buffer`, and gives its length. It is an
    /// ICMPv6 error about a packet of theirs, which this host had sent with other addresses (RFC 5533 section 8). What
    /// does not fit is dropped; 1280 octets are enough for what a router may send.
    #[must_use]
    pub fn poll_deliver(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.next_delivery(buffer)
    }

    /// Output: the next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Output: when [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.contexts.deadline(), self.probes.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Time, which stands still where the caller's goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// Whether an address is this host's, by its present identity or one that a context lives with.
    fn is_local(&self, address: Ipv6Addr) -> bool {
        self.identity.contains(address) || self.former.iter().any(|former| former.contains(address))
    }

    fn handle_control(&mut self, now: Instant, addresses: (Ipv6Addr, Ipv6Addr), headers: &[u8], message: &[u8]) {
        let now = self.advance(now);
        let result = self.check_addresses(addresses.0, addresses.1).and_then(|on| {
            let arrival = Arrival {
                now,
                on,
                headers,
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

    /// RFC 5533 section 12.3, and that the message is not our own. The pair is this host's view.
    fn check_addresses(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<LocatorPair, Discard> {
        check_addresses(source, destination)?;
        if self.is_local(source) {
            Err(Discard::OwnPacket)
        } else if !self.is_local(destination) || !verify::is_locator(source) {
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
            Message::R1bis(r1bis) => self.handle_r1bis(arrival, &r1bis),
            Message::I2bis(i2bis) => self.handle_i2bis(arrival, &i2bis),
            Message::UpdateRequest(request) => self.handle_update_request(arrival, &request),
            Message::UpdateAcknowledgement(acknowledgement) => {
                self.handle_update_acknowledgement(arrival, &acknowledgement)
            }
            Message::Keepalive(keepalive) => self.handle_keepalive(arrival, &keepalive),
            Message::Probe(probe) => self.handle_probe(arrival, &probe),
            Message::Error(error) => self.handle_error(arrival, &error),
        }
    }

    /// Removes a context from everywhere, and tells its owner if that knows of it.
    fn remove(&mut self, id: ContextId, reason: CloseReason) {
        let Some(context) = self.contexts.remove(id) else {
            return;
        };
        if let Some(association) = &context.association {
            self.past.add(association);
            self.updates
                .push_back(DataplaneUpdate::Remove(association.flow.clone()));
        }
        if context.was_established || reason == CloseReason::Requested {
            self.events.push_back(Event::Closed {
                context: id,
                ulids: context.ulids,
                reason,
            });
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
