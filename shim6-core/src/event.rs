//! What an [`Endpoint`](crate::Endpoint) tells its owner.

use core::net::Ipv6Addr;
use core::time::Duration;

use shim6_reap::{Cause, LocatorPair, State as ReapState};

use crate::id::ContextId;
use crate::wire::ErrorCode;

/// A change that a person or an upper layer may want to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A context is established: from now on the session survives a failure.
    Established {
        /// The context.
        context: ContextId,
        /// Its ULID pair.
        ulids: LocatorPair,
        /// Whether this host sent the I1.
        initiator: bool,
    },
    /// No context could be set up: the peer did not answer, so it is left alone for the hold-down time.
    NoAnswer {
        /// The ULID pair that was to be protected.
        ulids: LocatorPair,
    },
    /// The peer does not know the protocol, so it is left alone for a longer time.
    NoSupport {
        /// The ULID pair that was to be protected.
        ulids: LocatorPair,
    },
    /// The peer has lost the context, most likely in a restart. It is set up again with it.
    Recovering {
        /// The context.
        context: ContextId,
    },
    /// The peer has other locators, or prefers them in another way.
    PeerUpdated {
        /// The context.
        context: ContextId,
    },
    /// The peer cannot take what this host told it of its locators or preferences.
    UpdateRefused {
        /// The context.
        context: ContextId,
        /// Why not.
        code: ErrorCode,
    },
    /// REAP noticed a failure, hears the peer again, or is content again.
    Reachability {
        /// The context.
        context: ContextId,
        /// The state it left.
        from: ReapState,
        /// The state it is in.
        to: ReapState,
        /// Why.
        cause: Cause,
    },
    /// The context's packets take another path.
    PathChanged {
        /// The context.
        context: ContextId,
        /// The locator pair it used.
        from: LocatorPair,
        /// The locator pair it uses now.
        to: LocatorPair,
        /// Why.
        cause: Cause,
        /// How long nothing had worked, see [`Failover::took`](crate::Failover::took).
        took: Option<Duration>,
    },
    /// The peer got a probe that was asked for by [`Endpoint::probe`](crate::Endpoint::probe) or
    /// [`Endpoint::move_to`](crate::Endpoint::move_to). A move that follows from it comes next.
    ProbeAnswered {
        /// The context.
        context: ContextId,
        /// The locator pair that was probed.
        pair: LocatorPair,
        /// The round-trip time there, if it could be measured.
        rtt: Option<Duration>,
    },
    /// The context is gone.
    Closed {
        /// The context.
        context: ContextId,
        /// Its ULID pair.
        ulids: LocatorPair,
        /// Why.
        reason: CloseReason,
    },
    /// A peer claimed a locator that it could not prove; nothing was set up.
    LocatorRefused {
        /// The ULID of the peer.
        peer: Ipv6Addr,
        /// The locator that failed verification.
        locator: Ipv6Addr,
    },
}

/// Why a context is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The owner asked for it.
    Requested,
    /// The peer uses the context's tag for another ULID pair, so it has lost the context (RFC 5533 section 7.15).
    Confusion,
    /// Nothing has passed for long (RFC 5533 section 9).
    Quiescent,
    /// It made room for another one, since nothing had passed lately.
    Evicted,
    /// The peer had lost it, and did not answer when it was to be set up again.
    NoAnswer,
}
