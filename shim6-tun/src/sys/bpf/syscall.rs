//! The system call `bpf(2)`.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::assembler::Instruction;

/// What the kernel offers in `union bpf_attr` for one command, of which we fill the start.
///
/// # Safety
///
/// It has to be laid out as the command's part of the union, without padding, and pointers in it have to stay valid during
/// the call.
unsafe trait Attributes {}

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const SCHEDULER_CLASSIFIER: u32 = 3;

/// The kinds of maps that are used.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum MapKind {
    Hash = 1,
    Array = 2,
    /// An array of which each processor has its own.
    ArrayByProcessor = 6,
    /// A hash table that forgets what was not used for the longest time.
    RecentHash = 9,
    Ring = 27,
}

/// Where a program is attached to an interface (TCX, Linux 6.6).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Hook {
    Ingress = 46,
    Egress = 47,
}

/// Memory is taken as elements come.
pub(super) const NOT_PREALLOCATED: u32 = 1;
/// The values can be mapped into our memory.
pub(super) const MAPPABLE: u32 = 1 << 10;

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_octets: u32,
    value_octets: u32,
    max_entries: u32,
    flags: u32,
}
// SAFETY: five 32-bit integers, the first five fields of the union's part for this command.
unsafe impl Attributes for MapCreate {}

#[repr(C)]
struct MapElement {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}
// SAFETY: as the union's part for this command, which aligns the key to 8 octets; callers keep key and value.
unsafe impl Attributes for MapElement {}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_octets: u32,
    log: u64,
}
// SAFETY: the first fields of the union's part for this command, aligned as there; the caller keeps what is pointed to.
unsafe impl Attributes for ProgramLoad {}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    hook: u32,
    flags: u32,
    relative: u32,
    zero: u32,
    revision: u64,
}
// SAFETY: as the union's part for this command for TCX.
unsafe impl Attributes for LinkCreate {}

/// Makes a map.
pub(super) fn create_map(kind: MapKind, key: usize, value: usize, entries: usize, flags: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        kind: kind as u32,
        key_octets: key as u32,
        value_octets: value as u32,
        max_entries: u32::try_from(entries).unwrap_or(u32::MAX),
        flags,
    };
    descriptor(MAP_CREATE, &attributes)
}

/// Sets an element of a map whose key and value have the size of these.
pub(super) fn update<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    key: &[u8; K],
    value: &[u8; V],
) -> io::Result<()> {
    call(MAP_UPDATE, &element(map, key, value.as_ptr())).map(drop)
}

/// Deletes an element of a map whose key has the size of this.
pub(super) fn delete<const K: usize>(map: BorrowedFd<'_>, key: &[u8; K]) -> io::Result<()> {
    call(MAP_DELETE, &element(map, key, std::ptr::null())).map(drop)
}

/// An element of an array that each processor has, whose size is a multiple of 8: as numbers, one processor after the other.
pub(super) fn element_by_processor(
    map: BorrowedFd<'_>,
    index: u32,
    octets: usize,
    processors: usize,
) -> io::Result<Vec<u64>> {
    let mut numbers = vec![0_u64; octets / 8 * processors];
    let mut attributes = element(map, &index.to_ne_bytes(), std::ptr::null());
    // The kernel writes there as much as the map's element has for all processors that there can be.
    attributes.value = numbers.as_mut_ptr().expose_provenance() as u64;
    call(MAP_LOOKUP, &attributes)?;
    Ok(numbers)
}

/// How many processors the machine can have, whether they are there or not.
pub(super) fn possible_processors() -> io::Result<usize> {
    processors("possible")
}

/// How many processors there are, whether they are in use or not.
pub(super) fn present_processors() -> io::Result<usize> {
    processors("present")
}

/// One more than the last number in one of the kernel's lists of processors.
fn processors(which: &str) -> io::Result<usize> {
    let file = format!("/sys/devices/system/cpu/{which}");
    let list = std::fs::read_to_string(&file)?;
    // Such as "0-3", or "0".
    let last = list.trim().rsplit(['-', ',']).next();
    let last: Option<usize> = last.and_then(|last| last.parse().ok());
    last.map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("{file} is not a list of processors: {list:?}")))
}

/// Has the kernel check a program, and loads it.
pub(super) fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    // None of the functions that are called asks for the GPL.
    let license = c"MIT or Apache-2.0";
    let mut attributes = ProgramLoad {
        kind: SCHEDULER_CLASSIFIER,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: 0,
        log_octets: 0,
        log: 0,
    };
    let refused = match descriptor(PROGRAM_LOAD, &attributes) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => error,
        loaded => return loaded,
    };
    // Once more, to hear why.
    let mut log = vec![0_u8; 256 * 1024];
    attributes.log_level = 1;
    attributes.log_octets = log.len() as u32;
    attributes.log = log.as_mut_ptr().expose_provenance() as u64;
    let again = descriptor(PROGRAM_LOAD, &attributes);
    let text = String::from_utf8_lossy(&log);
    let text = text.trim_end_matches(['\0', '\n']);
    tracing::debug!("the kernel's opinion of the program:\n{text}");
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    again.map_err(|_| io::Error::new(refused.kind(), format!("{refused}: {}", last.join(" < "))))
}

/// Attaches a program to an interface for as long as the link is open, behind those that are there.
pub(super) fn attach(program: BorrowedFd<'_>, interface: u32, hook: Hook) -> io::Result<OwnedFd> {
    attach_with(program, interface, hook, 0)
}

/// The same in front of those that are there.
pub(super) fn attach_first(program: BorrowedFd<'_>, interface: u32, hook: Hook) -> io::Result<OwnedFd> {
    const BEFORE: u32 = 1 << 3;
    attach_with(program, interface, hook, BEFORE)
}

fn attach_with(program: BorrowedFd<'_>, interface: u32, hook: Hook, flags: u32) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        interface,
        hook: hook as u32,
        flags,
        relative: 0,
        zero: 0,
        revision: 0,
    };
    descriptor(LINK_CREATE, &attributes)
}

fn element(map: BorrowedFd<'_>, key: &[u8], value: *const u8) -> MapElement {
    MapElement {
        map: map.as_raw_fd().cast_unsigned(),
        zero: 0,
        key: key.as_ptr().expose_provenance() as u64,
        value: value.expose_provenance() as u64,
        flags: 0,
    }
}

fn descriptor<T: Attributes>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T: Attributes>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `Attributes` says that the kernel may read this as the command's part of the union; what lies behind it
    // counts as zero. What it points to lives as long as the call, by the same promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
