//! Whether a time service keeps the kernel's clock right.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::time::Duration;

use nix::errno::Errno;

use super::while_doing;

/// How far the clock may be wrong at most, as the time service says; `None` if none keeps it. Takes no rights.
///
/// # Errors
/// The kernel or a filter of system calls refuses to tell.
pub fn maximum_error() -> io::Result<Option<Duration>> {
    // SAFETY: a C structure of integers, of which every bit pattern is a value. No mode is set: nothing is changed.
    let mut clock: libc::timex = unsafe { zeroed() };
    // SAFETY: the pointer is to a whole `timex`, which outlives the call.
    let state = Errno::result(unsafe { libc::adjtimex(&raw mut clock) });
    let state = state.map_err(|errno| while_doing("ask for the state of the clock", errno.into()))?;
    if state == libc::TIME_ERROR || clock.status & libc::STA_UNSYNC != 0 {
        return Ok(None);
    }
    let microseconds = u64::try_from(clock.maxerror).unwrap_or(0);
    Ok(Some(Duration::from_micros(microseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_may_ask() {
        // The kernel takes a clock whose error may be 16 s for one that nobody keeps.
        let error = maximum_error().unwrap();
        assert!(error.is_none_or(|error| error <= Duration::from_secs(16)), "{error:?}");
    }
}
