//! The state of one ULID-pair context (RFC 5533 section 6).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

use shim6_reap::{Cause, Instant, LocatorPair, Reap, State as ReapState};

use crate::dataplane::{Activity, Flow, Snapshot};
use crate::id::ContextId;
use crate::wire::ContextTag;

/// The states of RFC 5533 section 6.2 that a context can be seen in. IDLE is a context that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextState {
    /// An I1 was sent.
    I1Sent,
    /// An R1 was received and an I2 sent.
    I2Sent,
    /// Both ends have the context.
    Established,
}

impl ContextState {
    /// The name of the RFC, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::I1Sent => "i1-sent",
            Self::I2Sent => "i2-sent",
            Self::Established => "established",
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
pub struct ContextInfo {
    /// Its name.
    pub id: ContextId,
    /// Its ULID pair.
    pub ulids: LocatorPair,
    /// Its state.
    pub state: ContextState,
    /// REAP's state; Operational before the context is established.
    pub reap: ReapState,
    /// The locator pair that packets to the peer use.
    pub locators: LocatorPair,
    /// The peer's verified locators, Ls(peer); empty before the context is established.
    pub peer_locators: Vec<Ipv6Addr>,
    /// When the context was made.
    pub created: Instant,
    /// What has passed; none before the context is established.
    pub activity: Option<Arc<Activity>>,
    /// How often the path changed.
    pub failovers: u64,
    /// The last change of path.
    pub last_failover: Option<Failover>,
}

/// A change of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// When.
    pub at: Instant,
    /// Why.
    pub cause: Cause,
    /// The locator pair before.
    pub from: LocatorPair,
    /// The locator pair after.
    pub to: LocatorPair,
}

/// One context.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) id: ContextId,
    pub(crate) ulids: LocatorPair,
    pub(crate) forked_instance: u32,
    /// CT(local).
    pub(crate) local_tag: ContextTag,
    pub(crate) created: Instant,
    pub(crate) phase: Phase,
    /// Where this context stands in the endpoint's timer queue.
    pub(crate) timer: Option<Instant>,
}

/// The state of the exchange and what it needs.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    I1Sent(Initiation),
    I2Sent {
        initiation: Initiation,
        responder_nonce: u32,
        validator: Vec<u8>,
    },
    Established(Box<Established>),
}

/// What an initiator remembers until it has its R2.
#[derive(Debug, Clone)]
pub(crate) struct Initiation {
    pub(crate) nonce: u32,
    /// I1 messages sent again so far.
    pub(crate) i1_retries: u32,
    /// I2 messages sent again so far.
    pub(crate) i2_retries: u32,
    pub(crate) deadline: Instant,
}

/// What an established context holds.
#[derive(Debug)]
pub(crate) struct Established {
    /// CT(peer).
    pub(crate) peer_tag: ContextTag,
    /// Ls(peer), verified.
    pub(crate) peer_locators: Vec<Ipv6Addr>,
    pub(crate) reap: Reap,
    pub(crate) activity: Arc<Activity>,
    /// What REAP has been told of `activity`.
    pub(crate) reported: Snapshot,
    /// When to look at `activity` again, apart from REAP's own timers.
    pub(crate) next_look: Option<Instant>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) failovers: u64,
    pub(crate) last_failover: Option<Failover>,
}

/// Nothing that passes on the original's flow is seen by the clone.
impl Clone for Established {
    fn clone(&self) -> Self {
        let activity = Arc::new(self.activity.duplicate());
        let flow = Arc::new(Flow {
            activity: activity.clone(),
            ..*self.flow
        });
        Self {
            peer_tag: self.peer_tag,
            peer_locators: self.peer_locators.clone(),
            reap: self.reap.clone(),
            activity,
            reported: self.reported,
            next_look: self.next_look,
            flow,
            failovers: self.failovers,
            last_failover: self.last_failover,
        }
    }
}

impl Context {
    pub(crate) fn state(&self) -> ContextState {
        match self.phase {
            Phase::I1Sent(_) => ContextState::I1Sent,
            Phase::I2Sent { .. } => ContextState::I2Sent,
            Phase::Established(_) => ContextState::Established,
        }
    }

    pub(crate) fn established(&self) -> Option<&Established> {
        match &self.phase {
            Phase::Established(established) => Some(established),
            _ => None,
        }
    }

    pub(crate) fn established_mut(&mut self) -> Option<&mut Established> {
        match &mut self.phase {
            Phase::Established(established) => Some(established),
            _ => None,
        }
    }

    /// The nonce by which R1 and R2 find this context.
    pub(crate) fn initiation(&self) -> Option<&Initiation> {
        match &self.phase {
            Phase::I1Sent(initiation) | Phase::I2Sent { initiation, .. } => Some(initiation),
            Phase::Established(_) => None,
        }
    }

    /// When something has to happen if nothing arrives.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::I1Sent(initiation) | Phase::I2Sent { initiation, .. } => Some(initiation.deadline),
            Phase::Established(established) => {
                let reap = established.reap.poll_timeout();
                [reap, established.next_look].into_iter().flatten().min()
            }
        }
    }

    pub(crate) fn info(&self) -> ContextInfo {
        let established = self.established();
        ContextInfo {
            id: self.id,
            ulids: self.ulids,
            state: self.state(),
            reap: established.map_or(ReapState::Operational, |e| e.reap.state()),
            locators: established.map_or(self.ulids, |e| e.flow.locators),
            peer_locators: established.map_or_else(Vec::new, |e| e.peer_locators.clone()),
            created: self.created,
            activity: established.map(|e| e.activity.clone()),
            failovers: established.map_or(0, |e| e.failovers),
            last_failover: established.and_then(|e| e.last_failover),
        }
    }
}
