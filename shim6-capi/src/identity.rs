//! The addresses of a host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use shim6_core::cga::{CgaParameters, GenerateError, HbaSet, Sec, SubnetPrefix, max_prefixes};

use crate::raw;
use crate::status::{Outcome, Status};
use crate::types::{Address, SHIM6_SEED_LEN};

/// The addresses of a host, one under each of its prefixes, made so that peers can verify that they belong together (RFC 5535).
#[derive(Debug)]
pub struct Identity {
    set: HbaSet,
}

/// In front of what is saved: a mark, the version of the format, and Sec. Then come CGA Parameters (RFC 3972 section 3).
const MARK: [u8; 4] = *b"S6ID";
const VERSION: u8 = 1;
const HEAD: usize = MARK.len() + 2;

/// More than any message has room for.
const MOST_PREFIXES: usize = 256;

impl Identity {
    pub(crate) fn set(&self) -> &HbaSet {
        &self.set
    }
}

/// Makes new addresses: one under each of `count` prefixes, the upper 64 bits of `prefixes`, which have to be different.
///
/// `seed` has SHIM6_SEED_LEN octets that nobody can guess, and that are used for nothing else. `sec` makes it harder to forge
/// the addresses, and to make them: 0 (at once), 1 (some milliseconds) or 2 (2^32 hashes on average, minutes to hours, in
/// which this function does not return). Peers have to learn the addresses, so make them once and save them:
/// shim6_identity_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_generate(
    prefixes: *const Address,
    count: usize,
    sec: u32,
    seed: *const u8,
    identity: *mut *mut Identity,
) -> Status {
    guarded(|| {
        raw::check(identity)?;
        let sec = u8::try_from(sec).map_err(|_| Status::BadArgument)?;
        let sec = Sec::try_from(sec).map_err(|_| Status::BadArgument)?;
        if count == 0 || count > MOST_PREFIXES {
            return Err(Status::BadPrefixes);
        }
        // SAFETY: the rules for all functions.
        let (prefixes, seed) = unsafe { (raw::slice(prefixes, count)?, read_seed(seed)?) };
        let prefixes: Vec<_> = prefixes
            .iter()
            .map(|&prefix| SubnetPrefix::from(std::net::Ipv6Addr::from(prefix)))
            .collect();
        let set = HbaSet::generate(&prefixes, sec, &mut ChaCha20Rng::from_seed(seed)).map_err(|error| match error {
            GenerateError::CollisionCount { .. } | GenerateError::TooManyCollisions { .. } => Status::TooManyCollisions,
            _ => Status::BadPrefixes,
        })?;
        // SAFETY: the rules for all functions.
        unsafe { give(identity, set) }
    })
}

/// Makes an identity of what shim6_identity_save wrote.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_load(saved: *const u8, length: usize, identity: *mut *mut Identity) -> Status {
    guarded(|| {
        raw::check(identity)?;
        // SAFETY: the rules for all functions.
        let saved = unsafe { raw::slice(saved, length)? };
        let set = decode(saved).ok_or(Status::BadIdentity)?;
        // SAFETY: the rules for all functions.
        unsafe { give(identity, set) }
    })
}

/// Writes what shim6_identity_load makes the same addresses of. It is no secret, but whoever changes it changes this host's
/// addresses. `length` is what is written, or with SHIM6_STATUS_BUFFER_TOO_SHORT what would be: with a `capacity` of 0 and NULL
/// this tells how much room is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_save(
    identity: *const Identity,
    buffer: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> Status {
    guarded(|| {
        // SAFETY: the rules for all functions.
        let set = unsafe { look_at(identity)?.set() };
        let parameters = set.parameters().octets();
        let needed = HEAD + parameters.len();
        // SAFETY: the rules for all functions.
        unsafe { raw::write(length, needed)? };
        if capacity < needed {
            return Err(Status::BufferTooShort);
        }
        // SAFETY: the rules for all functions.
        let out = unsafe { raw::slice_mut(buffer, needed)? };
        let (head, tail) = out.split_at_mut(HEAD);
        head[..MARK.len()].copy_from_slice(&MARK);
        head[MARK.len()] = VERSION;
        head[MARK.len() + 1] = set.sec().value();
        tail.copy_from_slice(parameters);
        Ok(Status::Ok)
    })
}

/// Another identity under the same prefixes, for when one of the addresses is in use by somebody else (duplicate address
/// detection, RFC 5535 section 6). It can be done twice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_after_collision(
    identity: *const Identity,
    other: *mut *mut Identity,
) -> Status {
    guarded(|| {
        raw::check(other)?;
        // SAFETY: the rules for all functions.
        let set = unsafe { look_at(identity)?.set() };
        let next = set.with_collision_count(set.collision_count().saturating_add(1));
        let next = next.map_err(|_| Status::TooManyCollisions)?;
        // SAFETY: the rules for all functions.
        unsafe { give(other, next) }
    })
}

/// How many addresses there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_count(identity: *const Identity) -> usize {
    // SAFETY: the rules for all functions.
    unsafe { look_at(identity) }.map_or(0, |identity| identity.set.addresses().len())
}

/// The address under the prefix with this index, in the order in which the prefixes were given; SHIM6_STATUS_NONE past the
/// last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_address(
    identity: *const Identity,
    index: usize,
    address: *mut Address,
) -> Status {
    guarded(|| {
        raw::check(address)?;
        // SAFETY: the rules for all functions.
        let set = unsafe { look_at(identity)?.set() };
        let found = *set.addresses().get(index).ok_or(Status::None)?;
        // SAFETY: the rules for all functions.
        unsafe { raw::write(address, found.into())? };
        Ok(Status::Ok)
    })
}

/// Frees an identity; NULL is allowed. Shims that were made with it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_identity_free(identity: *mut Identity) {
    if !identity.is_null() && identity.is_aligned() {
        // SAFETY: it is from `give`, and the caller gives it back.
        drop(unsafe { Box::from_raw(identity) });
    }
}

/// # Safety
///
/// `identity` is null or one that was given out and not freed.
pub(crate) unsafe fn look_at<'a>(identity: *const Identity) -> Result<&'a Identity, Status> {
    if !identity.is_aligned() {
        return Err(Status::BadPointer);
    }
    // SAFETY: as the caller promises; nobody changes it.
    unsafe { identity.as_ref() }.ok_or(Status::BadPointer)
}

/// # Safety
///
/// `seed` is null, or there are 32 octets.
pub(crate) unsafe fn read_seed(seed: *const u8) -> Result<[u8; SHIM6_SEED_LEN], Status> {
    // SAFETY: as the caller promises.
    let seed = unsafe { raw::slice(seed, SHIM6_SEED_LEN)? };
    seed.try_into().map_err(|_| Status::BadArgument)
}

/// # Safety
///
/// `to` is null or has room for a pointer.
unsafe fn give(to: *mut *mut Identity, set: HbaSet) -> Outcome {
    let identity = Box::into_raw(Box::new(Identity { set }));
    // SAFETY: as the caller promises.
    unsafe { raw::write(to, identity)? };
    Ok(Status::Ok)
}

fn decode(saved: &[u8]) -> Option<HbaSet> {
    let (head, octets) = saved.split_first_chunk::<HEAD>()?;
    let [mark @ .., version, sec] = head;
    if *mark != MARK || *version != VERSION {
        return None;
    }
    let parameters = CgaParameters::parse(octets).ok()?;
    let set = HbaSet::from_parameters(&parameters, Sec::try_from(*sec).ok()?).ok()?;
    let prefixes = set.prefixes();
    let is_sound =
        |(index, prefix): (usize, &SubnetPrefix)| prefix.is_assignable() && !prefixes[..index].contains(prefix);
    let has_room = prefixes.len() <= max_prefixes(parameters.public_key().len());
    (has_room && prefixes.iter().enumerate().all(is_sound)).then_some(set)
}

/// Gives a status instead of a panic, which there should never be.
fn guarded(act: impl FnOnce() -> Outcome) -> Status {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(status) | Err(status)) => status,
        Err(_) => Status::Internal,
    }
}
