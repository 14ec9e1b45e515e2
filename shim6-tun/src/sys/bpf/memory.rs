//! Maps that are mapped into our memory: arrays, and the ring of events.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};

use super::syscall::{self, MapKind};
use crate::sys::while_doing;

/// Memory shared with the kernel.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    octets: usize,
}

// SAFETY: the mapping belongs to this value; nothing about it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference gives access to atomics only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, octets: usize, protection: ProtFlags, offset: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(octets).unwrap_or(NonZeroUsize::MIN);
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, offset) }
            .map_err(|error| while_doing("mapping a BPF map", error.into()))?;
        Ok(Self {
            base: base.cast(),
            octets,
        })
    }

    /// The 64-bit number at an offset.
    fn number(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.octets,
            "outside of a BPF map"
        );
        // SAFETY: inside of the mapping and aligned, as was checked; it lives as long as `self`. Everybody else, the kernel
        // included, changes it in one piece.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// The 32-bit number at an offset.
    fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.octets,
            "outside of a BPF map"
        );
        // SAFETY: as for `number`.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, of that length; no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.base.cast(), self.octets) };
        debug_assert!(unmapped.is_ok(), "unmapping our own mapping cannot fail");
    }
}

/// An array that programs and we read and write at the same time.
#[derive(Debug)]
pub(super) struct Array {
    memory: Mapping,
    map: OwnedFd,
    element_octets: usize,
    elements: usize,
}

impl Array {
    /// `element_octets` is a multiple of 8.
    pub(super) fn new(element_octets: usize, elements: usize) -> io::Result<Self> {
        let map = syscall::create_map(MapKind::Array, 4, element_octets, elements, syscall::MAPPABLE)?;
        let octets = (element_octets * elements).next_multiple_of(page_octets());
        let memory = Mapping::new(map.as_fd(), octets, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, 0)?;
        Ok(Self {
            memory,
            map,
            element_octets,
            elements,
        })
    }

    /// How many elements there are.
    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// The number at an offset of an element.
    pub(super) fn number(&self, element: u32, offset: i16) -> &AtomicU64 {
        let offset = offset.unsigned_abs() as usize;
        self.memory.number(element as usize * self.element_octets + offset)
    }
}

impl AsFd for Array {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// A ring of records from the programs. Its descriptor polls as readable when one comes.
#[derive(Debug)]
pub(super) struct Ring {
    /// Our position, on a page of its own.
    consumer: Mapping,
    /// The kernel's position on a page, and the data twice, so that no record is cut at the end.
    producer: Mapping,
    map: OwnedFd,
    octets: usize,
}

/// In a record's length: it is not written yet.
const BUSY: u32 = 1 << 31;
/// In a record's length: it was given up.
const DISCARDED: u32 = 1 << 30;
/// In front of each record.
const RECORD_HEADER: usize = 8;

impl Ring {
    /// `octets` is a power of two and a multiple of the page size.
    pub(super) fn new(octets: usize) -> io::Result<Self> {
        let map = syscall::create_map(MapKind::Ring, 0, 0, octets, 0)?;
        let page = page_octets();
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let consumer = Mapping::new(map.as_fd(), page, both, 0)?;
        let producer = Mapping::new(map.as_fd(), page + 2 * octets, ProtFlags::PROT_READ, page)?;
        Ok(Self {
            consumer,
            producer,
            map,
            octets,
        })
    }

    /// The next record, as 64-bit numbers of which the last may be padded; `None` if there is none.
    pub(super) fn next(&mut self, record: &mut Vec<u64>) -> Option<()> {
        loop {
            let position = self.consumer.number(0).load(Ordering::Relaxed);
            // What is told is ordered against what we said to have read: else neither side might see the other.
            fence(Ordering::SeqCst);
            if position >= self.producer.number(0).load(Ordering::Acquire) {
                return None;
            }
            let start = page_octets() + (position as usize & (self.octets - 1));
            let header = self.producer.half(start).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let length = (header & !DISCARDED) as usize;
            record.clear();
            let words = (start + RECORD_HEADER..start + RECORD_HEADER + length).step_by(8);
            record.extend(words.map(|offset| self.producer.number(offset).load(Ordering::Relaxed)));
            let next = position + (length + RECORD_HEADER).next_multiple_of(8) as u64;
            self.consumer.number(0).store(next, Ordering::Release);
            if header & DISCARDED == 0 {
                return Some(());
            }
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

fn page_octets() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|octets| usize::try_from(octets).ok()).unwrap_or(4096)
}
