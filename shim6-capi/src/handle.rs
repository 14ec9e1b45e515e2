//! The shim of a host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};
use shim6_core::Endpoint;

use crate::config::Config;
use crate::identity::{self, Identity};
use crate::raw;
use crate::status::{Outcome, Status};
use crate::types::at;

/// The shim layer of a host: it sits between the IP layer of a stack and its interfaces.
#[derive(Debug)]
pub struct Shim {
    pub(crate) inner: shim6_core::Shim,
    /// Draws what is not drawn inside: another generator than the protocol's.
    rng: ChaCha20Rng,
    /// A function is at work, or one was left by a panic: then what is in here cannot be trusted.
    broken: bool,
}

// One thread at a time may be any thread; an identity may be read by several.
const _: () = {
    const fn can_change_threads<T: Send>() {}
    const fn can_be_shared<T: Sync>() {}
    can_change_threads::<Shim>();
    can_be_shared::<Identity>();
};

/// Makes a shim without contexts. `config` has `size` octets, sizeof(shim6_config); NULL, with any size, stands for the
/// defaults. The identity is only read, and can be freed. `seed` has SHIM6_SEED_LEN octets that nobody can guess, and that are
/// used for nothing else, nor in another run: all randomness comes from it. SHIM6_STATUS_BAD_ARGUMENT:
/// shim6_config_check says which field it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_new(
    config: *const Config,
    size: usize,
    identity: *const Identity,
    seed: *const u8,
    shim: *mut *mut Shim,
) -> Status {
    let made = catch_unwind(AssertUnwindSafe(|| {
        raw::check(shim)?;
        let defaults = Config::default();
        // SAFETY: the rules for all functions.
        let (config, set, seed) = unsafe {
            let config = match config.is_null() {
                true => defaults,
                false => raw::read_growing(config, size, defaults)?,
            };
            (
                config.to_shim().map_err(|_| Status::BadArgument)?,
                identity::look_at(identity)?.set(),
                identity::read_seed(seed)?,
            )
        };
        // The number of the locator list is sent in clear: so that nothing follows from it, the protocol has a seed of its own.
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut inner_seed = [0; 32];
        rng.fill_bytes(&mut inner_seed);
        let locators = shim6_core::Identity::from_hba_set(set, &mut rng);
        let inner = shim6_core::Shim::new(config, locators, inner_seed);
        let made = Box::into_raw(Box::new(Shim {
            inner,
            rng,
            broken: false,
        }));
        // SAFETY: the rules for all functions.
        unsafe { raw::write(shim, made)? };
        Ok(Status::Ok)
    }));
    status_of(made)
}

/// Frees a shim and all of its contexts, without a word to the peers; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_free(shim: *mut Shim) {
    if !shim.is_null() && shim.is_aligned() {
        // SAFETY: it is from `shim6_new`, and the caller gives it back.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(shim) })));
    }
}

/// Command: this host has other addresses from now on, as when a prefix came or went. The peers are told. Contexts whose ULID
/// the new identity cannot prove keep the locators that they have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_set_identity(shim: *mut Shim, now: u64, identity: *const Identity) -> Status {
    // SAFETY: the rules for all functions.
    unsafe {
        on_shim(shim, |shim| {
            let set = identity::look_at(identity)?.set();
            let locators = shim6_core::Identity::from_hba_set(set, &mut shim.rng);
            shim.inner
                .command(at(now), |endpoint| endpoint.set_identity(at(now), locators));
            Ok(Status::Ok)
        })
    }
}

impl Shim {
    /// A command of the endpoint's.
    pub(crate) fn command<T>(&mut self, now: u64, act: impl FnOnce(&mut Endpoint, shim6_core::Instant) -> T) -> T {
        self.inner.command(at(now), |endpoint| act(endpoint, at(now)))
    }
}

/// Lets `act` work on the shim behind a handle.
///
/// # Safety
///
/// `handle` is null, or from [`shim6_new`] and not freed, and no other function works on it meanwhile.
pub(crate) unsafe fn on_shim(handle: *mut Shim, act: impl FnOnce(&mut Shim) -> Outcome) -> Status {
    if handle.is_null() || !handle.is_aligned() {
        return Status::BadPointer;
    }
    // SAFETY: as the caller promises.
    let shim = unsafe { &mut *handle };
    if shim.broken {
        return Status::Internal;
    }
    shim.broken = true;
    let outcome = catch_unwind(AssertUnwindSafe(|| act(shim)));
    if outcome.is_ok() {
        shim.broken = false;
    }
    status_of(outcome)
}

/// Lets `act` look at the shim behind a handle.
///
/// # Safety
///
/// As for [`on_shim`].
pub(crate) unsafe fn look_at(handle: *const Shim, act: impl FnOnce(&Shim) -> Outcome) -> Status {
    if handle.is_null() || !handle.is_aligned() {
        return Status::BadPointer;
    }
    // SAFETY: as the caller promises.
    let shim = unsafe { &*handle };
    if shim.broken {
        return Status::Internal;
    }
    status_of(catch_unwind(AssertUnwindSafe(|| act(shim))))
}

/// A panic, which there should never be, becomes a status.
fn status_of(outcome: std::thread::Result<Outcome>) -> Status {
    match outcome {
        Ok(Ok(status) | Err(status)) => status,
        Err(_) => Status::Internal,
    }
}
