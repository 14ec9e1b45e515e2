//! Packets and time.

use crate::handle::{Shim, look_at, on_shim};
use crate::raw::{self, Place};
use crate::status::{Outcome, Status};
use crate::types::{Address, SHIM6_HEADROOM, SHIM6_LEAST_BUFFER, SHIM6_NEVER, at, moment_or_never};

/// Input: an IPv6 packet of the upper layers on its way out, of `*length` octets at `buffer + *offset`, with SHIM6_HEADROOM octets
/// in front of it that are the shim's.
///
/// SHIM6_STATUS_OK: the packet that is now of `*length` octets at `buffer + *offset` is to leave, on the interface that has its
/// source address. SHIM6_STATUS_NONE: it is dropped and counted; the octets may have changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_send(
    shim: *mut Shim,
    now: u64,
    buffer: *mut u8,
    offset: *mut usize,
    length: *mut usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let place = Place::read(buffer, offset, length)?;
            if place.start() < SHIM6_HEADROOM {
                return Err(Status::NoHeadroom);
            }
            place.with(|buffer, start| shim.inner.send(at(now), buffer, start))
        })
    }
}

/// Input: an IPv6 packet from the network, of `*length` octets at `buffer + *offset`.
///
/// SHIM6_STATUS_OK: the packet that is now of `*length` octets at `buffer + *offset` is for the upper layers. SHIM6_STATUS_NONE:
/// it was the shim's own, or it is dropped and counted; the octets may have changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_receive(
    shim: *mut Shim,
    now: u64,
    buffer: *mut u8,
    offset: *mut usize,
    length: *mut usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            Place::read(buffer, offset, length)?.with(|buffer, start| shim.inner.receive(at(now), buffer, start))
        })
    }
}

/// Input: the time of shim6_poll_timeout has come. Early and late calls do no harm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_handle_timeout(shim: *mut Shim, now: u64) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            shim.inner.handle_timeout(at(now));
            Ok(Status::Ok)
        })
    }
}

/// Input: one of this host's locators is lost, since its interface went down (`usable` is 0), or is back. Sessions on a lost one
/// look for another path at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_handle_locator(
    shim: *mut Shim,
    now: u64,
    locator: *const Address,
    usable: u32,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let locator = raw::read(locator)?;
            shim.inner.handle_locator(at(now), locator.into(), usable != 0);
            Ok(Status::Ok)
        })
    }
}

/// Output: the next packet that the shim has to send; it leaves on the interface that has its source address. SHIM6_STATUS_NONE:
/// there is none.
///
/// `capacity` is SHIM6_LEAST_BUFFER at least, and the MTU of the interfaces: packets that were held and do not fit are dropped
/// and counted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_poll_transmit(
    shim: *mut Shim,
    buffer: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe { poll(shim, (buffer, capacity, length), shim6_core::Shim::poll_transmit) }
}

/// Output: the next IPv6 packet for this host's own upper layers: an ICMPv6 error about a packet of theirs. SHIM6_STATUS_NONE:
/// there is none. `capacity` is SHIM6_LEAST_BUFFER at least.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_poll_deliver(
    shim: *mut Shim,
    buffer: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> Status {
    // SAFETY: the rules for all functions.
    unsafe { poll(shim, (buffer, capacity, length), shim6_core::Shim::poll_deliver) }
}

/// Output: when shim6_handle_timeout is to be called at the latest; SHIM6_NEVER if not at all, and for NULL. It changes with every
/// input and command.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_poll_timeout(shim: *const Shim) -> u64 {
    let mut timeout = SHIM6_NEVER;
    // SAFETY: the rules for all functions.
    unsafe {
        look_at(shim, |shim| {
            timeout = moment_or_never(shim.inner.poll_timeout());
            Ok(Status::Ok)
        });
    }
    timeout
}

/// # Safety
///
/// As for the two functions that use it.
unsafe fn poll(
    shim: *mut Shim,
    (buffer, capacity, length): (*mut u8, usize, *mut usize),
    next: impl FnOnce(&mut shim6_core::Shim, &mut [u8]) -> Option<usize>,
) -> Status {
    let act = |shim: &mut Shim| -> Outcome {
        raw::check(length)?;
        if capacity < SHIM6_LEAST_BUFFER {
            return Err(Status::BufferTooShort);
        }
        // SAFETY: as the caller promises.
        let buffer = unsafe { raw::slice_mut(buffer, capacity)? };
        let octets = next(&mut shim.inner, buffer).ok_or(Status::None)?;
        // SAFETY: as the caller promises.
        unsafe { raw::write(length, octets)? };
        Ok(Status::Ok)
    };
    // SAFETY: as the caller promises.
    unsafe { on_shim(shim, act) }
}
