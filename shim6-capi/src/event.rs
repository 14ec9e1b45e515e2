//! What a shim tells.

use std::ffi::{CStr, c_char};

use shim6_core::reap;

use crate::handle::{Shim, on_shim};
use crate::raw::{self, Growing};
use crate::status::Status;
use crate::types::{Address, Pair, SHIM6_NEVER, micros_or_never};

/// What happened. A later version may have others: ignore what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// Something that this version has no name for.
    Other = 0,
    /// A context is established: from now on the sessions of `pair`, its ULIDs, survive a failure. `initiator` is 1 if this
    /// host began.
    Established = 1,
    /// The peer of `pair` did not answer, so it is left alone for a while. No context.
    NoAnswer = 2,
    /// The peer of `pair` does not know the protocol, so it is left alone for longer. No context.
    NoSupport = 3,
    /// The peer has lost the context, most likely in a restart. It is set up again.
    Recovering = 4,
    /// The peer has other locators, or prefers them in another way.
    PeerUpdated = 5,
    /// The peer cannot take what this host told it of its locators: `code` of its Error message (RFC 5533 section 5.14).
    UpdateRefused = 6,
    /// A failure is noticed, or the peer is heard again, or all is well again: `former_state`, `state` and `cause`.
    Reachability = 7,
    /// The path changed from `former` to `pair` because of `cause`, after `duration` without a working one. A transport
    /// should take its congestion state for unknown.
    PathChanged = 8,
    /// A probe of `pair` that was asked for was answered after `duration`.
    ProbeAnswered = 9,
    /// The context of the ULIDs `pair` is gone, because of `reason`.
    Closed = 10,
    /// The peer with the ULID `pair.peer` claimed a locator, `locator`, that it could not prove. No context.
    LocatorRefused = 11,
}

/// Why something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// Nothing, or something that this version has no name for.
    Unknown = 0,
    /// Nothing came from the peer for the Send Timeout.
    SendTimeout = 1,
    /// The peer was heard.
    PeerReport = 2,
    /// shim6_handle_locator said that the local locator is lost.
    LocalHint = 3,
    /// A router could not send a packet on.
    IcmpError = 4,
    /// shim6_move_to, or another command, asked for it.
    Requested = 5,
    /// shim6_handle_hint said that there is no progress.
    TransportHint = 6,
    /// A pair that is preferred to the one in use works again.
    Preferred = 7,
}

/// Whether the current pair of locators works (RFC 5534 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reachability {
    /// It is assumed to work.
    Operational = 0,
    /// Nothing was heard from the peer for a Send Timeout.
    Exploring = 1,
    /// The peer is heard, but may not hear this host.
    InboundOk = 2,
}

/// Why a context is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseReason {
    /// It is not, or the reason has no name in this version.
    Unknown = 0,
    /// shim6_close or shim6_set_protection asked for it.
    Requested = 1,
    /// The peer has lost it, and uses its tag for another one.
    Confusion = 2,
    /// Nothing has passed for long.
    Quiescent = 3,
    /// It made room for another one.
    Evicted = 4,
    /// The peer had lost it, and did not answer when it was to be set up again.
    NoAnswer = 5,
}

/// One event. What `kind` does not mention is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// The context, 0 if there is none.
    pub context: u64,
    /// In microseconds; SHIM6_NEVER if not known.
    pub duration: u64,
    /// Locators or ULIDs, as `kind` says.
    pub pair: Pair,
    /// The locators before.
    pub former: Pair,
    /// The locator that was refused.
    pub locator: Address,
    /// What happened.
    pub kind: EventKind,
    /// Why.
    pub cause: Cause,
    /// The state now.
    pub state: Reachability,
    /// The state before.
    pub former_state: Reachability,
    /// Why the context is gone.
    pub reason: CloseReason,
    /// Of an Error message.
    pub code: u32,
    /// 1 if this host began.
    pub initiator: u32,
    /// Not used.
    pub reserved: u32,
}

impl Growing for Event {
    const FIRST_SIZE: usize = 128;
}

impl Default for Event {
    fn default() -> Self {
        Self {
            context: 0,
            duration: SHIM6_NEVER,
            pair: Pair::default(),
            former: Pair::default(),
            locator: Address::default(),
            kind: EventKind::Other,
            cause: Cause::Unknown,
            state: Reachability::Operational,
            former_state: Reachability::Operational,
            reason: CloseReason::Unknown,
            code: 0,
            initiator: 0,
            reserved: 0,
        }
    }
}

impl From<shim6_core::Event> for Event {
    fn from(event: shim6_core::Event) -> Self {
        use shim6_core::Event as E;
        let none = Self::default();
        let of = |kind, context: shim6_core::ContextId| Self {
            kind,
            context: context.value(),
            ..none
        };
        let without_context = |kind, ulids: shim6_core::LocatorPair| Self {
            kind,
            pair: ulids.into(),
            ..none
        };
        match event {
            E::Established {
                context,
                ulids,
                initiator,
            } => Self {
                pair: ulids.into(),
                initiator: initiator.into(),
                ..of(EventKind::Established, context)
            },
            E::NoAnswer { ulids } => without_context(EventKind::NoAnswer, ulids),
            E::NoSupport { ulids } => without_context(EventKind::NoSupport, ulids),
            E::Recovering { context } => of(EventKind::Recovering, context),
            E::PeerUpdated { context } => of(EventKind::PeerUpdated, context),
            E::UpdateRefused { context, code } => Self {
                code: code.0.into(),
                ..of(EventKind::UpdateRefused, context)
            },
            E::Reachability {
                context,
                from,
                to,
                cause,
            } => Self {
                former_state: from.into(),
                state: to.into(),
                cause: cause.into(),
                ..of(EventKind::Reachability, context)
            },
            E::PathChanged {
                context,
                from,
                to,
                cause,
                took,
            } => Self {
                former: from.into(),
                pair: to.into(),
                cause: cause.into(),
                duration: micros_or_never(took),
                ..of(EventKind::PathChanged, context)
            },
            E::ProbeAnswered { context, pair, rtt } => Self {
                pair: pair.into(),
                duration: micros_or_never(rtt),
                ..of(EventKind::ProbeAnswered, context)
            },
            E::Closed { context, ulids, reason } => Self {
                pair: ulids.into(),
                reason: reason.into(),
                ..of(EventKind::Closed, context)
            },
            E::LocatorRefused { peer, locator } => Self {
                kind: EventKind::LocatorRefused,
                pair: Pair {
                    peer: peer.into(),
                    ..Pair::default()
                },
                locator: locator.into(),
                ..none
            },
            _ => none,
        }
    }
}

impl From<reap::Cause> for Cause {
    fn from(cause: reap::Cause) -> Self {
        match cause {
            reap::Cause::SendTimeout => Self::SendTimeout,
            reap::Cause::PeerReport => Self::PeerReport,
            reap::Cause::LocalHint => Self::LocalHint,
            reap::Cause::IcmpError => Self::IcmpError,
            reap::Cause::Requested => Self::Requested,
            reap::Cause::TransportHint => Self::TransportHint,
            reap::Cause::Preferred => Self::Preferred,
            _ => Self::Unknown,
        }
    }
}

impl From<reap::State> for Reachability {
    fn from(state: reap::State) -> Self {
        match state {
            reap::State::Operational => Self::Operational,
            reap::State::Exploring => Self::Exploring,
            reap::State::InboundOk => Self::InboundOk,
        }
    }
}

impl From<shim6_core::CloseReason> for CloseReason {
    fn from(reason: shim6_core::CloseReason) -> Self {
        use shim6_core::CloseReason as R;
        match reason {
            R::Requested => Self::Requested,
            R::Confusion => Self::Confusion,
            R::Quiescent => Self::Quiescent,
            R::Evicted => Self::Evicted,
            R::NoAnswer => Self::NoAnswer,
            _ => Self::Unknown,
        }
    }
}

/// Output: the next event, in a structure of `size` octets, sizeof(shim6_event). SHIM6_STATUS_NONE: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_poll_event(shim: *mut Shim, event: *mut Event, size: usize) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            raw::check_growing(event, size)?;
            let next = shim.inner.poll_event().ok_or(Status::None)?;
            raw::write_growing(event, size, next.into())?;
            Ok(Status::Ok)
        })
    }
}

const KINDS: [(EventKind, &CStr); 12] = [
    (EventKind::Other, c"other"),
    (EventKind::Established, c"established"),
    (EventKind::NoAnswer, c"no-answer"),
    (EventKind::NoSupport, c"no-support"),
    (EventKind::Recovering, c"recovering"),
    (EventKind::PeerUpdated, c"peer-updated"),
    (EventKind::UpdateRefused, c"update-refused"),
    (EventKind::Reachability, c"reachability"),
    (EventKind::PathChanged, c"path-changed"),
    (EventKind::ProbeAnswered, c"probe-answered"),
    (EventKind::Closed, c"closed"),
    (EventKind::LocatorRefused, c"locator-refused"),
];

const CAUSES: [(Cause, &CStr); 8] = [
    (Cause::Unknown, c"unknown"),
    (Cause::SendTimeout, c"send-timeout"),
    (Cause::PeerReport, c"peer-report"),
    (Cause::LocalHint, c"local-hint"),
    (Cause::IcmpError, c"icmp-error"),
    (Cause::Requested, c"requested"),
    (Cause::TransportHint, c"transport-hint"),
    (Cause::Preferred, c"preferred"),
];

/// The name of a kind of event, for logs; never NULL, whatever the number. The text is not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_event_name(kind: u32) -> *const c_char {
    let name = KINDS.iter().find(|(known, _)| *known as u32 == kind);
    name.map_or(c"unknown", |&(_, name)| name).as_ptr()
}

/// The name of a cause, for logs; never NULL, whatever the number. The text is not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn shim6_cause_name(cause: u32) -> *const c_char {
    let name = CAUSES.iter().find(|(known, _)| *known as u32 == cause);
    name.map_or(c"unknown", |&(_, name)| name).as_ptr()
}
