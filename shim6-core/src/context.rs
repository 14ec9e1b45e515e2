//! The state of one ULID-pair context (RFC 5533 section 6).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;
use core::time::Duration;

use shim6_reap::{Cause, Instant, LocatorPair, Reap, State as ReapState};

use crate::dataplane::{Activity, Flow};
use crate::endpoint::Waiting;
use crate::id::ContextId;
use crate::identity::Identity;
use crate::wire::{ContextTag, Preference};

/// The states of RFC 5533 section 6.2, but for IDLE, which is that of a context that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContextState {
    /// An I1 was sent.
    I1Sent,
    /// An R1 was received and an I2 sent.
    I2Sent,
    /// The peer said that it does not know the context, and an I2bis was sent.
    I2bisSent,
    /// Both ends have the context.
    Established,
    /// The exchange failed: for a while no new one is tried with this peer. No context is kept for that, see
    /// [`Endpoint::failures`](crate::Endpoint::failures).
    EFailed,
    /// The peer does not know the protocol: for a while no exchange is tried with it. No context is kept for that, see
    /// [`Endpoint::failures`](crate::Endpoint::failures).
    NoSupport,
}

impl ContextState {
    /// The name of the RFC, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::I1Sent => "i1-sent",
            Self::I2Sent => "i2-sent",
            Self::I2bisSent => "i2bis-sent",
            Self::Established => "established",
            Self::EFailed => "e-failed",
            Self::NoSupport => "no-support",
        }
    }
}

impl fmt::Display for ContextState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What can be told of a context.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContextInfo {
    /// Its name.
    pub id: ContextId,
    /// Its ULID pair.
    pub ulids: LocatorPair,
    /// Its Forked Instance Identifier; 0 is the default context of the ULID pair.
    pub forked_instance: u32,
    /// Its state.
    pub state: ContextState,
    /// CT(local), which the peer sends. A secret: whoever knows it can disturb the context.
    pub local_tag: ContextTag,
    /// CT(peer), which this host sends; `None` while the peer has said nothing. A secret as well.
    pub peer_tag: Option<ContextTag>,
    /// REAP's state; Operational before the context is established.
    pub reap: ReapState,
    /// The locator pair that packets to the peer use.
    pub locators: LocatorPair,
    /// The pair that both ends prefer, of those that can be used as far as this host knows by itself.
    pub preferred: LocatorPair,
    /// The round-trip time on the pair in use, smoothed, if it was measured.
    pub rtt: Option<Duration>,
    /// How long a packet may stay unanswered before another pair is looked for.
    pub send_timeout: Duration,
    /// The peer's verified locators, Ls(peer); empty before the context is established.
    pub peer_locators: Vec<Ipv6Addr>,
    /// What the peer thinks of each of them.
    pub peer_preferences: Vec<Preference>,
    /// Whether an Update Request has not been acknowledged yet.
    pub updating: bool,
    /// When the context was made.
    pub created: Instant,
    /// What has passed; none before the context is established.
    pub activity: Option<Arc<Activity>>,
    /// How often the path changed.
    pub failovers: u64,
    /// The last change of path.
    pub last_failover: Option<Failover>,
    /// Whether the pair in use was chosen by [`Endpoint::move_to`](crate::Endpoint::move_to), so that it is kept until it
    /// fails, whatever is preferred.
    pub pinned: bool,
    /// The pair that was asked for by [`Endpoint::prefer`](crate::Endpoint::prefer).
    pub wished: Option<LocatorPair>,
}

/// A change of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failover {
    /// When.
    pub at: Instant,
    /// Why.
    pub cause: Cause,
    /// The locator pair before.
    pub from: LocatorPair,
    /// The locator pair after.
    pub to: LocatorPair,
    /// How long the context was without a working pair, as far as this host knows: from the first packet that got no
    /// answer, or the hint that the pair had failed, to this change. `None` where nothing had failed.
    pub took: Option<Duration>,
}

/// One context. It has an exchange, an association, or both.
///
/// RFC 5533's states follow from that: an association alone is ESTABLISHED; an exchange names its state. In I2-SENT there is an
/// association if the peer's I2 or I2bis crossed ours (section 7.13), in I2BIS-SENT there always is one, the old one.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) id: ContextId,
    pub(crate) ulids: LocatorPair,
    pub(crate) forked_instance: u32,
    /// CT(local).
    pub(crate) local_tag: ContextTag,
    pub(crate) created: Instant,
    /// Ls(local) as the peer is to know them; proves the local ULID.
    pub(crate) identity: Arc<Identity>,
    pub(crate) exchange: Option<Box<Exchange>>,
    pub(crate) association: Option<Box<Association>>,
    /// Whether the owner was told that the context is established.
    pub(crate) was_established: bool,
    /// Somebody said that this context is not to be torn down.
    pub(crate) in_use: bool,
    /// Where this context stands in the endpoint's timer queue.
    pub(crate) timer: Option<Instant>,
    /// Where it stands among the contexts that eviction draws from.
    pub(crate) place: u32,
}

/// A context is busy if payload passed this recently.
const BUSY: Duration = Duration::from_secs(10);

/// How much time at least is between an I2 or I2bis and its repetition because of what the peer sends.
const SHORTEST_REPETITION: Duration = Duration::from_millis(500);

/// What an initiator remembers until it has its R2.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// The nonce by which R1 and R2 find this context.
    pub(crate) nonce: u32,
    /// The addresses that our messages of the exchange bear.
    pub(crate) on: LocatorPair,
    pub(crate) step: Step,
    /// When the first I1 was sent.
    pub(crate) started: Instant,
    /// I1 messages sent again so far.
    pub(crate) i1_retries: u32,
    /// When the last message is sent again.
    pub(crate) deadline: Instant,
    /// Whether a message has told the peer of this host's locators.
    pub(crate) has_told: bool,
    /// What those messages told, if all told the same, and all of it: which of them the peer heeded is not known.
    pub(crate) announced: Option<Arc<Identity>>,
}

/// How far an exchange is.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// I1-SENT.
    I1,
    /// I2-SENT.
    I2(Reply),
    /// I2BIS-SENT.
    I2bis {
        reply: Reply,
        /// The tag that the peer does not know.
        packet_context_tag: ContextTag,
    },
}

/// An R1 or R1bis, and how often it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) responder_nonce: u32,
    pub(crate) validator: Box<[u8]>,
    /// I2 or I2bis messages sent again so far because none was answered in time.
    pub(crate) retries: u32,
    /// Whether one was sent again for any other reason.
    pub(crate) repeated: bool,
    /// When the last one was sent.
    pub(crate) sent: Instant,
}

/// What is known of the peer once it has proved its locators, and what follows from it.
#[derive(Debug)]
pub(crate) struct Association {
    /// CT(peer).
    pub(crate) peer_tag: ContextTag,
    pub(crate) peer: PeerLocators,
    pub(crate) reap: Reap,
    pub(crate) activity: Arc<Activity>,
    /// How many packets sent and received REAP has been told of.
    pub(crate) reported: (u64, u64),
    /// When to look at `activity` again, apart from REAP's own timers.
    pub(crate) next_look: Option<Instant>,
    /// When to see whether nothing has passed for long.
    pub(crate) quiescence_check: Instant,
    pub(crate) flow: Arc<Flow>,
    /// Ls(local) as the peer knows them, if it does.
    pub(crate) announced: Option<Arc<Identity>>,
    /// When this host issued the validator of the I2 or I2bis that made this; `None` if it was an R2.
    pub(crate) issued: Option<Instant>,
    pub(crate) update: Option<Box<Update>>,
    /// The Request Nonce that was acknowledged last.
    pub(crate) acknowledged: Option<u32>,
    /// When all was last told again, because the peer acknowledged what is long replaced.
    pub(crate) told_again: Option<Instant>,
    /// How often another pair than the current one is still to be looked for, since the current one is not wanted.
    pub(crate) unwanted: u8,
    /// The current pair was chosen by hand.
    pub(crate) pinned: bool,
    /// The pair that the transport wishes for.
    pub(crate) wished: Option<LocatorPair>,
    /// Since when nothing works, while another pair is looked for.
    pub(crate) disturbed: Option<Instant>,
    /// A probe that waits for its turn.
    pub(crate) waiting: Option<Box<Waiting>>,
    /// Where the context would rather be; `None` if it is there.
    pub(crate) away: Option<Box<Away>>,
    pub(crate) failovers: u64,
    pub(crate) last_failover: Option<Box<Failover>>,
}

/// Of a context that a failure has moved away from where it was.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    /// The pairs that it would rather use, the most preferred first.
    pub(crate) better: Vec<LocatorPair>,
    /// When to see to them again; `None` while nothing passes.
    pub(crate) next: Option<Instant>,
}

/// Ls(peer), verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerLocators {
    /// In the order of the peer's list; the first ones of it, if it is longer than this host's limit.
    pub(crate) locators: Box<[Ipv6Addr]>,
    /// How many the list has.
    pub(crate) listed: u8,
    /// Of the list; `None` without one.
    pub(crate) generation: Option<u32>,
    /// Of the locators, or none.
    pub(crate) preferences: Box<[Preference]>,
    /// The encoded CGA Parameters of the peer's ULID, for lists to come.
    pub(crate) parameters: Option<Box<[u8]>>,
}

/// An Update Request that is not acknowledged yet.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) nonce: u32,
    /// Whether the peer lacks the list.
    pub(crate) list: bool,
    /// Whether the peer lacks the preferences.
    pub(crate) preferences: bool,
    pub(crate) retries: u32,
    pub(crate) deadline: Instant,
}

impl Exchange {
    /// The round-trip time, if an R2 comes now: unknown if it may answer one of several messages (RFC 6298 section 3).
    pub(crate) fn rtt(&self, now: Instant) -> Option<Duration> {
        let (is_only_one, sent) = match &self.step {
            Step::I1 => (self.i1_retries == 0, self.started),
            Step::I2(reply) | Step::I2bis { reply, .. } => (reply.retries == 0 && !reply.repeated, reply.sent),
        };
        is_only_one.then(|| now - sent)
    }

    /// A message has told the peer of this host's locators; `None`: not of all.
    pub(crate) fn tell(&mut self, announced: Option<Arc<Identity>>) {
        let is_same = match (&self.announced, &announced) {
            (Some(before), Some(now)) => before.generation() == now.generation(),
            _ => false,
        };
        self.announced = announced.filter(|_| is_same || !self.has_told);
        self.has_told = true;
    }
}

impl Context {
    pub(crate) fn state(&self) -> ContextState {
        match self.exchange.as_deref().map(|exchange| &exchange.step) {
            None => ContextState::Established,
            Some(Step::I1) => ContextState::I1Sent,
            Some(Step::I2(_)) => ContextState::I2Sent,
            Some(Step::I2bis { .. }) => ContextState::I2bisSent,
        }
    }

    /// From when on the I2 or I2bis may be repeated because the peer still sends on the context; `None` if there is none.
    pub(crate) fn repetition(&self) -> Option<Instant> {
        match &self.exchange.as_deref()?.step {
            Step::I1 => None,
            Step::I2(reply) | Step::I2bis { reply, .. } => Some(reply.sent + SHORTEST_REPETITION),
        }
    }

    /// CT(peer).
    pub(crate) fn peer_tag(&self) -> Option<ContextTag> {
        self.association.as_ref().map(|association| association.peer_tag)
    }

    /// When something has to happen if nothing arrives.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().map(|exchange| exchange.deadline);
        let association = self.association.as_ref().and_then(|association| association.deadline());
        [exchange, association].into_iter().flatten().min()
    }

    /// Whether `address` is one of Ls(local): one that the peer is to know, or that it still may use.
    pub(crate) fn is_local(&self, address: Ipv6Addr) -> bool {
        let announced = self.association.as_ref().and_then(|a| a.announced.as_ref());
        self.identity.contains(address) || announced.is_some_and(|identity| identity.contains(address))
    }

    /// Whether the peer is known to know this locator of ours, or it is none that it could be told of.
    pub(crate) fn is_known_to_peer(&self, local: Ipv6Addr) -> bool {
        let announced = self
            .association
            .as_ref()
            .and_then(|association| association.announced.as_ref());
        let is_known = announced.map_or(local == self.ulids.local, |identity| identity.contains(local));
        is_known || !self.identity.contains(local)
    }

    /// Whether the context is between these two addresses: `peer` is one of Ls(peer) and `local` one of Ls(local).
    pub(crate) fn is_between(&self, on: LocatorPair) -> bool {
        let association = self.association.as_ref();
        let is_peer = association.is_some_and(|association| association.peer.locators.contains(&on.peer));
        (is_peer || self.ulids.peer == on.peer) && self.is_local(on.local)
    }

    pub(crate) fn info(&self) -> ContextInfo {
        let association = self.association.as_deref();
        ContextInfo {
            id: self.id,
            ulids: self.ulids,
            forked_instance: self.forked_instance,
            state: self.state(),
            local_tag: self.local_tag,
            peer_tag: self.peer_tag(),
            reap: association.map_or(ReapState::Operational, |a| a.reap.state()),
            locators: association.map_or(self.ulids, |a| a.flow.locators),
            preferred: association.map_or(self.ulids, Association::preferred),
            rtt: association.and_then(|a| a.reap.rtt()).map(|rtt| rtt.smoothed()),
            send_timeout: association.map_or(Duration::ZERO, |a| a.reap.send_timeout()),
            peer_locators: association.map_or_else(Vec::new, |a| a.peer.distinct()),
            peer_preferences: association.map_or_else(Vec::new, |a| {
                let locators = a.peer.distinct().into_iter();
                locators.map(|locator| a.peer.preference(locator)).collect()
            }),
            updating: association.is_some_and(|a| a.update.is_some()),
            created: self.created,
            activity: association.map(|a| a.activity.clone()),
            failovers: association.map_or(0, |a| a.failovers),
            last_failover: association.and_then(Association::last_failover),
            pinned: association.is_some_and(|a| a.pinned),
            wished: association.and_then(|a| a.wished),
        }
    }
}

impl Association {
    fn preferred(&self) -> LocatorPair {
        let current = self.reap.current_pair();
        let better = self.away.as_ref().map_or(&[][..], |away| &away.better);
        *better
            .iter()
            .find(|&&pair| self.reap.is_usable(pair))
            .unwrap_or(&current)
    }

    fn deadline(&self) -> Option<Instant> {
        let update = self.update.as_ref().map(|update| update.deadline);
        // REAP goes on when the probe that waits has been sent.
        let reap = self.reap.poll_timeout().filter(|_| self.waiting.is_none());
        let deadlines = [
            reap,
            self.next_look,
            self.away.as_ref().and_then(|away| away.next),
            update,
            Some(self.quiescence_check),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The last change of path.
    pub(crate) fn last_failover(&self) -> Option<Failover> {
        self.last_failover.as_deref().copied()
    }

    /// Whether payload has passed lately.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        self.last_payload().is_some_and(|last| now - last < BUSY)
    }

    /// When payload last passed, in either direction.
    pub(crate) fn last_payload(&self) -> Option<Instant> {
        let snapshot = self.activity.snapshot();
        snapshot.last_sent.max(snapshot.last_received)
    }
}

impl PeerLocators {
    /// The locators without those that come again.
    fn distinct(&self) -> Vec<Ipv6Addr> {
        let mut distinct = Vec::with_capacity(self.locators.len());
        for &locator in &self.locators {
            if !distinct.contains(&locator) {
                distinct.push(locator);
            }
        }
        distinct
    }

    /// What the peer said of one of its locators.
    pub(crate) fn preference(&self, locator: Ipv6Addr) -> Preference {
        let index = self.locators.iter().position(|&listed| listed == locator);
        index
            .and_then(|index| self.preferences.get(index).copied())
            .unwrap_or_default()
    }
}

/// A context of a copied endpoint is another one: what passes on the original does not show in it.
impl Clone for Association {
    fn clone(&self) -> Self {
        let activity = Arc::new(self.activity.duplicate());
        let flow = Arc::new(Flow {
            activity: activity.clone(),
            ..*self.flow
        });
        Self {
            peer_tag: self.peer_tag,
            peer: self.peer.clone(),
            reap: self.reap.clone(),
            activity,
            reported: self.reported,
            next_look: self.next_look,
            quiescence_check: self.quiescence_check,
            flow,
            announced: self.announced.clone(),
            issued: self.issued,
            update: self.update.clone(),
            acknowledged: self.acknowledged,
            told_again: self.told_again,
            unwanted: self.unwanted,
            pinned: self.pinned,
            wished: self.wished,
            disturbed: self.disturbed,
            waiting: self.waiting.clone(),
            away: self.away.clone(),
            failovers: self.failovers,
            last_failover: self.last_failover.clone(),
        }
    }
}
