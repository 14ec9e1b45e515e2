//! What there is to look at.

use std::ffi::c_char;

use crate::event::{Cause, Reachability};
use crate::handle::{Shim, look_at};
use crate::raw::{self, Growing};
use crate::status::Status;
use crate::types::{Flow, Pair, SHIM6_NEVER, micros, micros_or_never, moment_or_never};

/// The state of a context (RFC 5533 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ContextState {
    /// Something that this version has no name for.
    Other = 0,
    /// The first message of the exchange was sent.
    I1Sent = 1,
    /// The third message was sent.
    I2Sent = 2,
    /// The peer lost the context, which is set up again.
    I2bisSent = 3,
    /// Both hosts have it.
    Established = 4,
}

/// What there is to know of a context. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ContextInfo {
    /// Its name.
    pub context: u64,
    /// When it was made.
    pub created: u64,
    /// The round-trip time, SHIM6_NEVER if not measured.
    pub rtt: u64,
    /// How long a packet may stay unanswered before another path is looked for.
    pub send_timeout: u64,
    /// How often the path changed.
    pub failovers: u64,
    /// When it last did, SHIM6_NEVER if not yet.
    pub last_failover: u64,
    /// How long nothing had worked then, SHIM6_NEVER if nothing had failed.
    pub last_failover_took: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Octets sent.
    pub sent_octets: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Octets received.
    pub received_octets: u64,
    /// The addresses that transports know.
    pub ulids: Pair,
    /// The locators that packets to the peer use.
    pub locators: Pair,
    /// The locators that both hosts prefer.
    pub preferred: Pair,
    /// What shim6_prefer asked for; zero if nothing.
    pub wished: Pair,
    /// 0 for the context of all flows of its ULIDs, else one that was forked.
    pub forked_instance: u32,
    /// The state of the context.
    pub state: ContextState,
    /// Whether the locators work.
    pub reachability: Reachability,
    /// Why the path last changed.
    pub last_cause: Cause,
    /// 1 if shim6_move_to chose the locators.
    pub pinned: u32,
    /// How many locators of the peer are verified.
    pub peer_locators: u32,
}

impl Growing for ContextInfo {
    const FIRST_SIZE: usize = 240;
}

/// What is known of a pair of locators, by all contexts together. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PathInfo {
    /// The pair.
    pub pair: Pair,
    /// The round-trip time, SHIM6_NEVER if not measured.
    pub rtt: u64,
    /// Probes sent on it that want an answer.
    pub probes_sent: u64,
    /// How many of them were answered.
    pub probes_answered: u64,
    /// When the peer last answered on it, SHIM6_NEVER if not yet.
    pub confirmed: u64,
    /// When it was last left because it had failed, SHIM6_NEVER if not yet.
    pub failed: u64,
    /// How many contexts send on it.
    pub users: u32,
    /// How many of them doubt that it works.
    pub doubts: u32,
    /// Of the last 32 probes, how many were lost.
    pub recent_lost: u32,
    /// And of how many.
    pub recent_probes: u32,
    /// 1 if its local locator can be used now.
    pub usable: u32,
    /// 1 if the context that was asked for sends on it.
    pub current: u32,
}

impl Growing for PathInfo {
    const FIRST_SIZE: usize = 96;
}

/// What went through a shim. Packets that were dropped are in one counter each.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Packets of the upper layers, given back to leave.
    pub sent: u64,
    /// Those of them that bear other addresses than ULIDs, and a Shim6 header.
    pub rewritten: u64,
    /// Packets of the network, given back for the upper layers.
    pub received: u64,
    /// Those of them that had a Shim6 header.
    pub restored: u64,
    /// Packets held while a path was looked for, and sent again on it.
    pub replayed: u64,
    /// Dropped packets of the upper layers: no IPv6 packet, or cut short.
    pub malformed_out: u64,
    /// Dropped packets of the network: cut short, or with a faulty Shim6 header.
    pub malformed_in: u64,
    /// Packets that did not fit the buffer of shim6_poll_transmit.
    pub too_long: u64,
    /// Events that nobody took before there were too many.
    pub events_lost: u64,
    /// Control messages sent.
    pub control_sent: u64,
    /// Well-formed control messages received.
    pub control_received: u64,
    /// Control messages dropped, by any reason of shim6_discard.
    pub discarded: u64,
    /// Contexts now.
    pub contexts: u64,
    /// Those of them that are established.
    pub established: u64,
    /// Those of them that use other locators than their ULIDs.
    pub moved: u64,
    /// Flows with contexts of their own now.
    pub forked_flows: u64,
    /// Octets held now.
    pub held_octets: u64,
}

impl Growing for Counters {
    const FIRST_SIZE: usize = 136;
}

/// The context that carries a flow, in a structure of `size` octets, sizeof(shim6_context_info). SHIM6_STATUS_NONE: none does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_session(
    shim: *const Shim,
    flow: *const Flow,
    info: *mut ContextInfo,
    size: usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            raw::check_growing(info, size)?;
            let flow = raw::read(flow)?.into();
            let found = shim.inner.session(&flow).ok_or(Status::None)?;
            raw::write_growing(info, size, ContextInfo::from(&found))?;
            Ok(Status::Ok)
        })
    }
}

/// A context by its name, in a structure of `size` octets, sizeof(shim6_context_info). SHIM6_STATUS_NO_CONTEXT: there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_context(shim: *const Shim, context: u64, info: *mut ContextInfo, size: usize) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            raw::check_growing(info, size)?;
            let endpoint = shim.inner.endpoint();
            let found = endpoint.find(context).and_then(|id| endpoint.context(id));
            let found = found.ok_or(Status::NoContext)?;
            raw::write_growing(info, size, ContextInfo::from(&found))?;
            Ok(Status::Ok)
        })
    }
}

/// The names of all contexts, the oldest first: as many as there is room for are written, and `count` says how many there are.
/// With a `capacity` of 0 `contexts` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_contexts(
    shim: *const Shim,
    contexts: *mut u64,
    capacity: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            raw::check(count)?;
            if capacity > 0 {
                raw::check(contexts)?;
            }
            let mut names: Vec<_> = shim.inner.endpoint().contexts().map(|info| info.id.value()).collect();
            names.sort_unstable();
            for (index, &name) in names.iter().take(capacity).enumerate() {
                raw::write(contexts.wrapping_add(index), name)?;
            }
            raw::write(count, names.len())?;
            Ok(Status::Ok)
        })
    }
}

/// One of the pairs of locators that a context may use, the most preferred first, in a structure of `size` octets,
/// sizeof(shim6_path_info). SHIM6_STATUS_NONE past the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_path(
    shim: *const Shim,
    context: u64,
    index: usize,
    info: *mut PathInfo,
    size: usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            raw::check_growing(info, size)?;
            let endpoint = shim.inner.endpoint();
            let id = endpoint.find(context).ok_or(Status::NoContext)?;
            let current = endpoint.context(id).ok_or(Status::NoContext)?.locators;
            let paths = endpoint.paths_of(id).ok_or(Status::NoContext)?;
            let found = paths.get(index).ok_or(Status::None)?;
            let found = PathInfo {
                current: (found.pair == current).into(),
                ..PathInfo::from(found)
            };
            raw::write_growing(info, size, found)?;
            Ok(Status::Ok)
        })
    }
}

/// What went through, in a structure of `size` octets, sizeof(shim6_counters).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_get_counters(shim: *const Shim, counters: *mut Counters, size: usize) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            raw::write_growing(counters, size, count(shim))?;
            Ok(Status::Ok)
        })
    }
}

/// How many control messages were dropped for the reason with this index, from 0 on, and its name, which ends with a zero octet
/// and takes at most 40. SHIM6_STATUS_NONE past the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_discard(
    shim: *const Shim,
    index: usize,
    name: *mut c_char,
    capacity: usize,
    count: *mut u64,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            raw::check(count)?;
            let mut discards = shim.inner.endpoint().counters().discards();
            let (reason, times) = discards.nth(index).ok_or(Status::None)?;
            let text = reason.as_str().as_bytes();
            if capacity <= text.len() {
                return Err(Status::BufferTooShort);
            }
            let out = raw::slice_mut(name.cast(), text.len() + 1)?;
            out[..text.len()].copy_from_slice(text);
            out[text.len()] = 0;
            raw::write(count, times)?;
            Ok(Status::Ok)
        })
    }
}

fn count(shim: &Shim) -> Counters {
    let shim = &shim.inner;
    let endpoint = shim.endpoint();
    let (packets, control, census) = (shim.counters(), endpoint.counters(), endpoint.census());
    let established = |&&(state, _): &&(shim6_core::ContextState, u64)| state == shim6_core::ContextState::Established;
    Counters {
        sent: packets.sent,
        rewritten: packets.rewritten,
        received: packets.received,
        restored: packets.restored,
        replayed: packets.replayed,
        malformed_out: packets.malformed_out,
        malformed_in: packets.malformed_in,
        too_long: packets.too_long,
        events_lost: packets.events_lost,
        control_sent: control.sent().map(|(_, count)| count).sum(),
        control_received: control.received().map(|(_, count)| count).sum(),
        discarded: control.discards().map(|(_, count)| count).sum(),
        contexts: census.states.iter().map(|&(_, count)| count).sum(),
        established: census.states.iter().find(established).map_or(0, |&(_, count)| count),
        moved: census.moved,
        forked_flows: wide(shim.forked_flows()),
        held_octets: wide(shim.hold().octets()),
    }
}

impl From<&shim6_core::ContextInfo> for ContextInfo {
    fn from(info: &shim6_core::ContextInfo) -> Self {
        let ((sent_packets, sent_octets), (received_packets, received_octets)) = match &info.activity {
            Some(activity) => (activity.sent(), activity.received()),
            None => ((0, 0), (0, 0)),
        };
        let last = info.last_failover.as_ref();
        Self {
            context: info.id.value(),
            created: info.created.as_micros(),
            rtt: micros_or_never(info.rtt),
            send_timeout: micros(info.send_timeout),
            failovers: info.failovers,
            last_failover: moment_or_never(last.map(|last| last.at)),
            last_failover_took: last.map_or(SHIM6_NEVER, |last| micros_or_never(last.took)),
            sent_packets,
            sent_octets,
            received_packets,
            received_octets,
            ulids: info.ulids.into(),
            locators: info.locators.into(),
            preferred: info.preferred.into(),
            wished: info.wished.map(Pair::from).unwrap_or_default(),
            forked_instance: info.forked_instance,
            state: info.state.into(),
            reachability: info.reap.into(),
            last_cause: last.map_or(Cause::Unknown, |last| last.cause.into()),
            pinned: info.pinned.into(),
            peer_locators: narrow(info.peer_locators.len()),
        }
    }
}

impl From<&shim6_core::PathInfo> for PathInfo {
    fn from(info: &shim6_core::PathInfo) -> Self {
        Self {
            pair: info.pair.into(),
            rtt: micros_or_never(info.rtt),
            probes_sent: info.probes_sent,
            probes_answered: info.probes_answered,
            confirmed: moment_or_never(info.confirmed),
            failed: moment_or_never(info.failed),
            users: narrow(info.users),
            doubts: narrow(info.doubts),
            recent_lost: info.recent_losses.0,
            recent_probes: info.recent_losses.1,
            usable: info.usable.into(),
            current: 0,
        }
    }
}

impl From<shim6_core::ContextState> for ContextState {
    fn from(state: shim6_core::ContextState) -> Self {
        use shim6_core::ContextState as S;
        match state {
            S::I1Sent => Self::I1Sent,
            S::I2Sent => Self::I2Sent,
            S::I2bisSent => Self::I2bisSent,
            S::Established => Self::Established,
            _ => Self::Other,
        }
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
