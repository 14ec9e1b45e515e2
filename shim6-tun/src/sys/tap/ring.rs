//! A `TPACKET_V3` receive ring: memory shared with the kernel, in blocks which belong to one side
//! at a time.
#![allow(unsafe_code)]

use std::io;
use std::mem::{offset_of, size_of};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::{tpacket_block_desc, tpacket_hdr_v1, tpacket3_hdr};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use socket2::Socket;

use crate::sys::{socket_option, while_doing};

/// Octets per block: a multiple of the page size on every architecture.
const BLOCK_OCTETS: usize = 64 * 1024;

/// The kernel wants a frame size although frames of this version have the size that they need.
const FRAME_OCTETS: usize = 512;

/// The largest ring, 1 GiB; beyond it the kernel's own arithmetic is near its limits.
const MAX_BLOCKS: usize = 16 * 1024;

/// Where the block's status is, in octets from its start.
const STATUS: usize = offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, block_status);
const PACKET_COUNT: usize = offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, num_pkts);
const FIRST_PACKET: usize = offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);

/// The mapped ring of one packet socket.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    blocks: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone on our side; nothing about it is bound to a
// thread.
unsafe impl Send for Ring {}
// SAFETY: a shared reference gives no access to the mapped memory.
unsafe impl Sync for Ring {}

impl Ring {
    /// Sets up the ring of a socket that has none yet, and maps it.
    pub(super) fn map(socket: &Socket, octets: usize, block_timeout: Duration) -> io::Result<Self> {
        let refused = |step: &str, error| {
            while_doing(
                format_args!("{step} (a TPACKET_V3 ring needs Linux 3.2 and memory for its size)"),
                error,
            )
        };
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        socket_option::set(socket, libc::SOL_PACKET, libc::PACKET_VERSION, version)
            .map_err(|error| refused("choosing TPACKET_V3 for the packet socket", error))?;
        let blocks = octets.div_ceil(BLOCK_OCTETS).clamp(2, MAX_BLOCKS);
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_OCTETS as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: FRAME_OCTETS as u32,
            tp_frame_nr: (blocks * (BLOCK_OCTETS / FRAME_OCTETS)) as u32,
            tp_retire_blk_tov: u32::try_from(block_timeout.as_millis())
                .unwrap_or(u32::MAX)
                .clamp(1, 60_000),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        socket_option::set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, request)
            .map_err(|error| refused("setting up the packet socket's receive ring", error))?;
        let length = NonZeroUsize::new(blocks * BLOCK_OCTETS).unwrap_or(NonZeroUsize::MIN);
        // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is
        // touched.
        let base = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                socket,
                0,
            )
        }
        .map_err(|error| refused("mapping the packet socket's receive ring", error.into()))?;
        Ok(Self {
            base: base.cast(),
            blocks,
            next: 0,
        })
    }

    /// How many blocks the ring has.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The next block, if the kernel has handed it over. It goes back to the kernel when it is
    /// dropped.
    pub(super) fn ready_block(&mut self) -> Option<Block<'_>> {
        let ready = self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0;
        // Not `then_some`: a block that is made is also given back, and this one may not be ours.
        ready.then(|| Block { ring: self })
    }

    /// The status word of the next block.
    fn status(&self) -> &AtomicU32 {
        // SAFETY: `next < blocks`, so the word is inside the mapping, which lives as long as
        // `self`; block size and offset keep it aligned to 4. We write it only in `Block::drop`,
        // when no slice of the block is left.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(self.next * BLOCK_OCTETS + STATUS).cast()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, of that length; no reference into it outlives
        // `self`.
        let unmapped = unsafe { munmap(self.base.cast(), self.blocks * BLOCK_OCTETS) };
        debug_assert!(unmapped.is_ok(), "unmapping our own mapping cannot fail");
    }
}

/// A block that belongs to us for now.
pub(super) struct Block<'a> {
    ring: &'a mut Ring,
}

/// One packet in a block.
pub(super) struct Frame<'a> {
    /// `PACKET_HOST`, `PACKET_OUTGOING` …
    pub(super) packet_type: u8,
    /// The packet's length before it was cut, in octets from its network header on.
    pub(super) length: u32,
    /// Time of the capture since the Unix epoch.
    pub(super) seen_at: Duration,
    /// The octets that were kept, from the network header on.
    pub(super) octets: &'a [u8],
}

impl Block<'_> {
    /// The packets in the block, in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let block = self.octets();
        let count = read_u32(block, PACKET_COUNT).unwrap_or(0);
        let mut position = read_u32(block, FIRST_PACKET).map(|offset| offset as usize);
        (0..count).map_while(move |_| {
            let start = position?;
            let (frame, next) = frame(block, start)?;
            position = start.checked_add(next);
            Some(frame)
        })
    }

    /// The block's octets.
    fn octets(&self) -> &[u8] {
        // SAFETY: `next < blocks`, so the block is inside the mapping, which `self` borrows. Its
        // status says that it is ours, read with acquire ordering, so the kernel writes nothing
        // here until `drop`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.ring.base.as_ptr().add(self.ring.next * BLOCK_OCTETS), BLOCK_OCTETS) }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.ring.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.ring.next = (self.ring.next + 1) % self.ring.blocks;
    }
}

/// The frame at `start` and the distance to the next one; `None` if it is not inside the block.
fn frame(block: &[u8], start: usize) -> Option<(Frame<'_>, usize)> {
    /// Where the link-layer address is, in octets from the frame's start.
    const ADDRESS: usize = size_of::<tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
    let frame = block.get(start..)?;
    let field = |offset| read_u32(frame, offset);
    let network = frame.get(offset_of!(tpacket3_hdr, tp_net)..)?.first_chunk::<2>()?;
    let network = usize::from(u16::from_ne_bytes(*network));
    let kept = field(offset_of!(tpacket3_hdr, tp_snaplen))? as usize;
    let seconds = field(offset_of!(tpacket3_hdr, tp_sec))?;
    let nanoseconds = field(offset_of!(tpacket3_hdr, tp_nsec))?;
    let packet = Frame {
        packet_type: *frame.get(ADDRESS + offset_of!(libc::sockaddr_ll, sll_pkttype))?,
        length: field(offset_of!(tpacket3_hdr, tp_len))?,
        seen_at: Duration::new(seconds.into(), nanoseconds),
        octets: frame.get(network..network.checked_add(kept)?)?,
    };
    Some((packet, field(offset_of!(tpacket3_hdr, tp_next_offset))? as usize))
}

fn read_u32(octets: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*octets.get(offset..)?.first_chunk()?))
}
