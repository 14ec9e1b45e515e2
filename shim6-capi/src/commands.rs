//! What a transport or a person asks for.

use shim6_core::{ContextId, Moved};

use crate::handle::{Shim, on_shim};
use crate::raw;
use crate::status::Status;
use crate::types::{Flow, Pair, Preference, at};

/// What an upper layer knows of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hint {
    /// The peer has acknowledged something: the pair in use works both ways.
    Progress = 0,
    /// The peer has not acknowledged what it should have.
    Stalled = 1,
}

/// Whether a pair of ULIDs may have contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Protection {
    /// As the configuration has it.
    ByPolicy = 0,
    /// Never: none is set up, the peer's attempts get no answer, and what there is is closed.
    Never = 1,
}

/// More locators than any identity has.
const MOST_PREFERENCES: usize = 256;

/// Command: sets up a context for a pair of ULIDs now. An event tells how it ends. `context` gets its name, and may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_establish(shim: *mut Shim, now: u64, ulids: *const Pair, context: *mut u64) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let ulids = raw::read(ulids)?.into();
            let made = shim.command(now, |endpoint, now| endpoint.establish(now, ulids))?;
            raw::write_wanted(context, made.value());
            Ok(Status::Ok)
        })
    }
}

/// Command: forgets a context. Its packets take the path of their ULIDs again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_close(shim: *mut Shim, now: u64, context: u64) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            shim.command(now, |endpoint, _| endpoint.close(id));
            Ok(Status::Ok)
        })
    }
}

/// Command: the pair of locators that a context uses whenever it works, without interrupting anything for it; NULL takes the
/// wish back. What the peer sends on is for the peer to choose.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_prefer(shim: *mut Shim, now: u64, context: u64, pair: *const Pair) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            let pair = match pair.is_null() {
                true => None,
                false => Some(raw::read(pair)?.into()),
            };
            shim.command(now, |endpoint, now| endpoint.prefer(now, id, pair))?;
            Ok(Status::Ok)
        })
    }
}

/// Command: has a context send on a pair of locators at once, and stay there until it fails or shim6_release is called.
/// SHIM6_STATUS_OK: it does. SHIM6_STATUS_PENDING: the pair is probed, and the context moves if the peer answers until the time
/// `until`; else nothing changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_move_to(
    shim: *mut Shim,
    now: u64,
    context: u64,
    pair: *const Pair,
    until: u64,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            let pair = raw::read(pair)?.into();
            let moved = shim.command(now, |endpoint, now| endpoint.move_to(now, id, pair, at(until)))?;
            match moved {
                Moved::Now => Ok(Status::Ok),
                Moved::OnAnswer => Ok(Status::Pending),
            }
        })
    }
}

/// Command: a context may go back by itself to a pair that it prefers, after shim6_move_to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_release(shim: *mut Shim, now: u64, context: u64) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            shim.command(now, |endpoint, now| endpoint.release(now, id))?;
            Ok(Status::Ok)
        })
    }
}

/// Command: probes a pair of locators of a context, without any change to what it uses. An event tells if the peer answers until
/// the time `until`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_probe(shim: *mut Shim, now: u64, context: u64, pair: *const Pair, until: u64) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            let pair = raw::read(pair)?.into();
            shim.command(now, |endpoint, now| endpoint.probe(now, id, pair, at(until)))?;
            Ok(Status::Pending)
        })
    }
}

/// Input: what an upper layer knows of the path of a context, a shim6_hint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_handle_hint(shim: *mut Shim, now: u64, context: u64, hint: u32) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            let hint = match hint {
                hint if hint == Hint::Progress as u32 => shim6_core::Hint::Progress,
                hint if hint == Hint::Stalled as u32 => shim6_core::Hint::Stalled,
                _ => return Err(Status::BadArgument),
            };
            shim.command(now, |endpoint, now| endpoint.handle_hint(now, id, hint));
            Ok(Status::Ok)
        })
    }
}

/// Command: says whether an upper layer may still use a context, however quiet it is (1 or 0): then it is not torn down.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_set_in_use(shim: *mut Shim, now: u64, context: u64, in_use: u32) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_context(shim, context, |shim, id| {
            shim.command(now, |endpoint, _| endpoint.set_in_use(id, in_use != 0));
            Ok(Status::Ok)
        })
    }
}

/// Command: has one flow take a path of its own: sets up another context for its pair of ULIDs, and sends the flow on it once it is
/// established. Another flow between the same hosts can use another path so: shim6_move_to the new context. `context` gets its
/// name, and may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_fork(shim: *mut Shim, now: u64, flow: *const Flow, context: *mut u64) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let flow = raw::read(flow)?.into();
            let made = shim.inner.fork(at(now), flow)?;
            raw::write_wanted(context, made.value());
            Ok(Status::Ok)
        })
    }
}

/// Command: has a flow take the path of its pair of ULIDs again. The forked context goes when nothing has passed on it for long,
/// or by shim6_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_join(shim: *mut Shim, flow: *const Flow) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let flow = raw::read(flow)?.into();
            shim.inner.join(&flow);
            Ok(Status::Ok)
        })
    }
}

/// Command: whether there may be contexts for a pair of ULIDs, a shim6_protection. Pairs that are set to SHIM6_PROTECTION_NEVER
/// are kept until they are set back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_set_protection(
    shim: *mut Shim,
    now: u64,
    ulids: *const Pair,
    protection: u32,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let ulids = raw::read(ulids)?.into();
            let protection = match protection {
                protection if protection == Protection::ByPolicy as u32 => shim6_core::Protection::ByPolicy,
                protection if protection == Protection::Never as u32 => shim6_core::Protection::Never,
                _ => return Err(Status::BadArgument),
            };
            shim.command(now, |endpoint, _| endpoint.set_protection(ulids, protection));
            Ok(Status::Ok)
        })
    }
}

/// Command: this host prefers its locators in another way; those that are not among the `count` ones are of priority and weight
/// 0. The peers are told.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_set_preferences(
    shim: *mut Shim,
    now: u64,
    preferences: *const Preference,
    count: usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            if count > MOST_PREFERENCES {
                return Err(Status::BadArgument);
            }
            let preferences = match count {
                0 => &[],
                _ => raw::slice(preferences, count)?,
            };
            let preferences: Vec<_> = preferences
                .iter()
                .map(|given| {
                    let preference = shim6_core::wire::Preference {
                        flags: shim6_core::wire::PreferenceFlags(given.flags),
                        priority: given.priority,
                        weight: given.weight,
                    };
                    (given.locator.into(), preference)
                })
                .collect();
            shim.command(now, |endpoint, now| endpoint.set_preferences(now, &preferences));
            Ok(Status::Ok)
        })
    }
}

/// # Safety
///
/// As for [`on_shim`].
unsafe fn on_context(
    shim: *mut Shim,
    context: u64,
    act: impl FnOnce(&mut Shim, ContextId) -> Result<Status, Status>,
) -> Status {
    // SAFETY: as the caller promises.
    unsafe {
        on_shim(shim, |shim| {
            let id = shim.inner.endpoint().find(context).ok_or(Status::NoContext)?;
            act(shim, id)
        })
    }
}
