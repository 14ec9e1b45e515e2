//! Pointers of a C program, turned into what Rust can work with. Nothing behind a pointer is trusted but that there is memory.

use std::mem::{self, MaybeUninit};
use std::ptr;
use std::slice;

use crate::status::Status;

/// What is only made of integers: any octets are a value.
///
/// # Safety
///
/// `repr(C)`, and all fields are integers, arrays of them, or such structures.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for usize {}

/// A structure that is passed with its size, and may grow.
pub(crate) trait Growing: Copy {
    /// Its size in the first version of this library.
    const FIRST_SIZE: usize;
}

/// Reads a structure.
///
/// # Safety
///
/// `from` is null, or there are the octets of a `T` to be read.
pub(crate) unsafe fn read<T: Plain>(from: *const T) -> Result<T, Status> {
    if from.is_null() {
        return Err(Status::BadPointer);
    }
    // SAFETY: as the caller promises, and any octets are a `T`.
    Ok(unsafe { from.read_unaligned() })
}

/// Reads a structure of some version: what it has beyond `fallback` must be zero, what it lacks is taken from there.
///
/// # Safety
///
/// `from` is null, or there are `size` octets to be read.
pub(crate) unsafe fn read_growing<T: Plain + Growing>(from: *const T, size: usize, fallback: T) -> Result<T, Status> {
    if from.is_null() {
        return Err(Status::BadPointer);
    }
    if size < T::FIRST_SIZE || isize::try_from(size).is_err() {
        return Err(Status::BadSize);
    }
    let known = size.min(mem::size_of::<T>());
    // SAFETY: as the caller promises; `known` is not above `size`.
    let beyond = unsafe { slice::from_raw_parts(from.cast::<u8>().add(known), size - known) };
    if beyond.iter().any(|&octet| octet != 0) {
        return Err(Status::BadSize);
    }
    let mut value = fallback;
    // SAFETY: `value` has `known` octets as well, any octets are a `T`, and a local variable overlaps with nothing.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    Ok(value)
}

/// Whether something can be written there, before it is known what.
pub(crate) fn check<T>(to: *mut T) -> Result<(), Status> {
    if to.is_null() { Err(Status::BadPointer) } else { Ok(()) }
}

/// Whether a structure of some version can be written there.
pub(crate) fn check_growing<T: Growing>(to: *mut T, size: usize) -> Result<(), Status> {
    check(to)?;
    if size < T::FIRST_SIZE || isize::try_from(size).is_err() {
        return Err(Status::BadSize);
    }
    Ok(())
}

/// Writes a value.
///
/// # Safety
///
/// `to` is null, or there is room for a `T`.
pub(crate) unsafe fn write<T: Copy>(to: *mut T, value: T) -> Result<(), Status> {
    check(to)?;
    // SAFETY: as the caller promises.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Writes a value, unless the caller does not want it.
///
/// # Safety
///
/// `to` is null, or there is room for a `T`.
pub(crate) unsafe fn write_wanted<T: Copy>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: as the caller promises.
        unsafe { to.write_unaligned(value) };
    }
}

/// Writes a structure of some version: of an older one what there is room for, of a newer one zeros for what is not known.
///
/// # Safety
///
/// `to` is null, or there is room for `size` octets.
pub(crate) unsafe fn write_growing<T: Growing>(to: *mut T, size: usize, value: T) -> Result<(), Status> {
    check_growing(to, size)?;
    let known = size.min(mem::size_of::<T>());
    let octets = to.cast::<MaybeUninit<u8>>();
    // SAFETY: there is room, as the caller promises; `value` has as many octets, and as a local variable overlaps with nothing.
    unsafe {
        ptr::copy_nonoverlapping((&raw const value).cast::<MaybeUninit<u8>>(), octets, known);
        ptr::write_bytes(octets.add(known), 0, size - known);
    }
    Ok(())
}

/// Octets or structures to be read.
///
/// # Safety
///
/// `from` is null, or there are `length` of `T` to be read, which nobody writes to while `'a` lasts.
pub(crate) unsafe fn slice<'a, T: Plain>(from: *const T, length: usize) -> Result<&'a [T], Status> {
    const { assert!(mem::align_of::<T>() == 1) };
    if from.is_null() {
        return Err(Status::BadPointer);
    }
    check_length::<T>(length)?;
    // SAFETY: as the caller promises; aligned, since everything is.
    Ok(unsafe { slice::from_raw_parts(from, length) })
}

/// Octets to be written.
///
/// # Safety
///
/// `to` is null, or there are `length` octets that nobody else reads or writes while `'a` lasts.
pub(crate) unsafe fn slice_mut<'a>(to: *mut u8, length: usize) -> Result<&'a mut [u8], Status> {
    check(to)?;
    check_length::<u8>(length)?;
    // SAFETY: as the caller promises. A buffer that was not filled yet is only written to, or holds any octets.
    Ok(unsafe { slice::from_raw_parts_mut(to, length) })
}

fn check_length<T>(length: usize) -> Result<(), Status> {
    let octets = length.checked_mul(mem::size_of::<T>()).map(isize::try_from);
    match octets {
        Some(Ok(_)) => Ok(()),
        _ => Err(Status::BadArgument),
    }
}

// SAFETY: an octet.
unsafe impl Plain for u8 {}

/// A place in a caller's buffer where a packet is.
pub(crate) struct Place {
    buffer: *mut u8,
    offset: *mut usize,
    length: *mut usize,
    /// What they are on the way in.
    start: usize,
    end: usize,
}

impl Place {
    /// # Safety
    ///
    /// Each is null or points to what its type says, and `buffer` to `*offset + *length` octets.
    pub(crate) unsafe fn read(buffer: *mut u8, offset: *mut usize, length: *mut usize) -> Result<Self, Status> {
        // SAFETY: as the caller promises.
        let (start, octets) = unsafe { (read(offset)?, read(length)?) };
        let end = start.checked_add(octets).ok_or(Status::BadArgument)?;
        check(buffer)?;
        check_length::<u8>(end)?;
        Ok(Self {
            buffer,
            offset,
            length,
            start,
            end,
        })
    }

    /// Where the packet starts.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Lets `act` change the packet; what it gives is where the packet starts then.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes the buffer meanwhile.
    pub(crate) unsafe fn with(self, act: impl FnOnce(&mut [u8], usize) -> Option<usize>) -> Result<Status, Status> {
        // SAFETY: there are as many octets, as the caller of `read` promised, and they are nobody else's, as this caller does.
        let buffer = unsafe { slice_mut(self.buffer, self.end)? };
        let Some(start) = act(buffer, self.start) else {
            return Ok(Status::None);
        };
        // SAFETY: they were read from there.
        unsafe {
            write(self.offset, start)?;
            write(self.length, self.end.saturating_sub(start))?;
        }
        Ok(Status::Ok)
    }
}
