//! Sending frames through an AF_XDP socket: memory shared with the kernel, and one system call for a batch.
//!
//! Of AF_XDP only the sending half, in copy mode: that needs no eBPF program, no support by the driver and no privilege beyond
//! that for packet sockets. Frames are put into memory that the kernel knows ("UMEM"), their places are written into a ring, and
//! the kernel gives the places back through another ring once it needs them no more.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use socket2::{Domain, Socket, Type};

use super::{NextHop, SendOutcome, WirePacket};
use crate::sys::{socket_option, while_doing};

/// Frames that may be under way. With their size that is 2 MiB, which has to fit the limit for locked memory.
const FRAMES: u32 = 1_024;
/// Octets of a frame's place: a size that the kernel takes.
const FRAME_OCTETS: usize = 2_048;
/// Octets of the Ethernet header.
const ETHERNET_OCTETS: usize = 14;
/// The longest packet that has room in a frame.
const MAX_PACKET_OCTETS: usize = FRAME_OCTETS - ETHERNET_OCTETS;
/// A socket family that `socket2` has no name for.
const FAMILY: i32 = libc::AF_XDP;

/// A socket that sends whole IPv6 packets on one interface, past its queueing discipline.
#[derive(Debug)]
pub struct XdpSender {
    socket: Socket,
    frames: Mapping,
    transmit: Ring,
    completion: Ring,
    /// Offsets in `frames` of places that are ours.
    free: Vec<u64>,
    /// The interface's own link-layer address.
    source: [u8; 6],
    /// The longest packet that may be sent.
    limit: usize,
}

impl XdpSender {
    /// Opens a sender for the interface with this index, link-layer address and MTU.
    ///
    /// # Errors
    ///
    /// The kernel's, and what it refused: without `CAP_NET_RAW`, without AF_XDP in the kernel, over the limit for locked memory, or
    /// where another AF_XDP socket has the interface's first queue.
    pub fn open(interface: u32, source: [u8; 6], mtu: u32) -> io::Result<Self> {
        let refused = |step: &str, error| while_doing(format_args!("{step} of the AF_XDP socket"), error);
        let socket = Socket::new(Domain::from(FAMILY), Type::RAW, None).map_err(|error| refused("opening", error))?;
        let frames = Mapping::anonymous(FRAMES as usize * FRAME_OCTETS)?;
        let registration = libc::xdp_umem_reg {
            addr: frames.base.as_ptr().expose_provenance() as u64,
            len: frames.octets.get() as u64,
            chunk_size: FRAME_OCTETS as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        socket_option::set(&socket, libc::SOL_XDP, libc::XDP_UMEM_REG, registration)
            .map_err(|error| refused("registering the memory", error))?;
        // The fill ring is for receiving, but a socket with memory of its own has to have one.
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_TX_RING,
        ] {
            socket_option::set(&socket, libc::SOL_XDP, ring, FRAMES as libc::c_int)
                .map_err(|error| refused("making a ring", error))?;
        }
        let offsets: libc::xdp_mmap_offsets = socket_option::get(&socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)
            .map_err(|error| refused("asking for the rings", error))?;
        let descriptor = size_of::<libc::xdp_desc>();
        let transmit = Ring::map(&socket, libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, descriptor)?;
        let place = libc::XDP_UMEM_PGOFF_COMPLETION_RING;
        #[allow(clippy::unnecessary_cast, reason = "another type than u64 on 32-bit systems")]
        let completion = Ring::map(&socket, place as u64, &offsets.cr, size_of::<u64>())?;
        bind(&socket, interface).map_err(|error| refused("binding", error))?;
        Ok(Self {
            socket,
            frames,
            transmit,
            completion,
            free: (0..u64::from(FRAMES))
                .map(|index| index * FRAME_OCTETS as u64)
                .collect(),
            source,
            limit: MAX_PACKET_OCTETS.min(mtu as usize),
        })
    }

    /// The interface has another link-layer address or MTU.
    pub fn set_link(&mut self, source: [u8; 6], mtu: u32) {
        self.source = source;
        self.limit = MAX_PACKET_OCTETS.min(mtu as usize);
    }

    /// Whether the packet can be sent here: the others have to take another way.
    #[must_use]
    pub fn takes(&self, packet: &WirePacket<'_>) -> bool {
        packet.len() <= self.limit
    }

    /// Sends packets to a neighbour, in order, up to the first one that it does not [`take`](Self::takes) or for which no place is
    /// free. What was done with those before is counted; where the interface is down they are sent when it is up again.
    pub fn send_parts(&mut self, next_hop: NextHop, packets: &[WirePacket<'_>]) -> SendOutcome {
        if self.free.len() < packets.len() {
            self.reclaim();
        }
        let mut count = 0;
        for packet in packets {
            if !self.takes(packet) {
                break;
            }
            let Some(place) = self.free.pop() else { break };
            let octets = self.fill(place, next_hop.link_address, packet);
            let descriptor = libc::xdp_desc {
                addr: place,
                len: octets as u32,
                options: 0,
            };
            self.transmit.write_descriptor(count, descriptor);
            count += 1;
        }
        self.transmit.produce(count);
        let count = count as usize;
        match self.kick() {
            Ok(()) => SendOutcome {
                sent: count,
                ..SendOutcome::default()
            },
            Err(error) => SendOutcome {
                unreachable: count,
                last_error: error.raw_os_error(),
                ..SendOutcome::default()
            },
        }
    }

    /// Writes a frame to its place; returns its length.
    fn fill(&mut self, place: u64, destination: [u8; 6], packet: &WirePacket<'_>) -> usize {
        let frame = self.frames.slice_mut(place as usize, FRAME_OCTETS);
        let (head, body) = (packet.head, packet.body);
        frame[..6].copy_from_slice(&destination);
        frame[6..12].copy_from_slice(&self.source);
        frame[12..ETHERNET_OCTETS].copy_from_slice(&(libc::ETH_P_IPV6 as u16).to_be_bytes());
        let frame = &mut frame[ETHERNET_OCTETS..];
        frame[..head.len()].copy_from_slice(head);
        frame[head.len()..head.len() + body.len()].copy_from_slice(body);
        ETHERNET_OCTETS + packet.len()
    }

    /// Has the kernel send all that is in the ring. It does some dozen frames a call.
    fn kick(&mut self) -> io::Result<()> {
        let mut left = self.transmit.pending();
        while left > 0 {
            // SAFETY: no memory is passed.
            let result = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            let error = (result < 0).then(io::Error::last_os_error);
            let before = std::mem::replace(&mut left, self.transmit.pending());
            match error.as_ref().and_then(io::Error::raw_os_error) {
                None | Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) if left < before => {}
                // The driver has no room now: what is in the ring goes with the next batch.
                None | Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => return Ok(()),
                Some(number) => return Err(io::Error::from_raw_os_error(number)),
            }
        }
        Ok(())
    }

    /// Takes back the places of frames that the kernel needs no more.
    fn reclaim(&mut self) {
        let ready = self.completion.pending();
        for index in 0..ready {
            let place = self.completion.read_place(index);
            // A place that was never given to it would make us write elsewhere; the kernel does not do that.
            if place < u64::from(FRAMES) * FRAME_OCTETS as u64 {
                self.free.push(place - place % FRAME_OCTETS as u64);
            }
        }
        self.completion.consume(ready);
    }
}

fn bind(socket: &Socket, interface: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: FAMILY as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: interface,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: pointer and length describe `address`, which the kernel only reads.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Mapped memory.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    octets: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone on our side; nothing about it is bound to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn anonymous(octets: usize) -> io::Result<Self> {
        let octets = NonZeroUsize::new(octets).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
        let base = unsafe {
            mmap_anonymous(
                None,
                octets,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
        };
        let base = base.map_err(|error| while_doing("mapping memory for frames", error.into()))?;
        Ok(Self {
            base: base.cast(),
            octets,
        })
    }

    fn of_socket(socket: &Socket, place: u64, octets: usize) -> io::Result<Self> {
        let octets = NonZeroUsize::new(octets).ok_or(io::ErrorKind::InvalidInput)?;
        let place = place.try_into().map_err(|_| io::ErrorKind::Unsupported)?;
        // SAFETY: as for `anonymous`.
        let base = unsafe {
            mmap(
                None,
                octets,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                socket,
                place,
            )
        };
        let base = base.map_err(|error| while_doing("mapping a ring of the AF_XDP socket", error.into()))?;
        Ok(Self {
            base: base.cast(),
            octets,
        })
    }

    fn slice_mut(&mut self, start: usize, octets: usize) -> &mut [u8] {
        assert!(start.checked_add(octets).is_some_and(|end| end <= self.octets.get()));
        // SAFETY: inside of the mapping, which `self` borrows. Only places in `free` are written to, and those the kernel has
        // given back.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(start), octets) }
    }

    /// The 32-bit word at an offset, which the kernel has aligned.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.octets.get());
        // SAFETY: inside of the mapping, which lives as long as `self`, and aligned.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of that length; no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.base.cast(), self.octets.get()) };
        debug_assert!(unmapped.is_ok(), "unmapping our own mapping cannot fail");
    }
}

/// A ring with as many slots as there are frames. One side produces, the other consumes.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    slots: usize,
}

impl Ring {
    fn map(socket: &Socket, place: u64, offsets: &libc::xdp_ring_offset, slot: usize) -> io::Result<Self> {
        let at = |offset: u64| usize::try_from(offset).map_err(|_| io::ErrorKind::Unsupported);
        let slots = at(offsets.desc)?;
        Ok(Self {
            mapping: Mapping::of_socket(socket, place, slots + FRAMES as usize * slot)?,
            producer: at(offsets.producer)?,
            consumer: at(offsets.consumer)?,
            slots,
        })
    }

    /// How many slots have been produced and not consumed.
    fn pending(&self) -> u32 {
        let produced = self.mapping.word(self.producer).load(Ordering::Acquire);
        produced.wrapping_sub(self.mapping.word(self.consumer).load(Ordering::Acquire))
    }

    /// Writes the descriptor `index` slots behind what has been produced.
    fn write_descriptor(&mut self, index: u32, descriptor: libc::xdp_desc) {
        let slot = self
            .mapping
            .word(self.producer)
            .load(Ordering::Relaxed)
            .wrapping_add(index);
        let slot = self.slot(slot, size_of::<libc::xdp_desc>());
        slot[..8].copy_from_slice(&descriptor.addr.to_ne_bytes());
        slot[8..12].copy_from_slice(&descriptor.len.to_ne_bytes());
        slot[12..16].copy_from_slice(&descriptor.options.to_ne_bytes());
    }

    /// Hands the next `count` slots over.
    fn produce(&self, count: u32) {
        self.mapping.word(self.producer).fetch_add(count, Ordering::Release);
    }

    /// The place `index` slots behind what has been consumed.
    fn read_place(&mut self, index: u32) -> u64 {
        let slot = self
            .mapping
            .word(self.consumer)
            .load(Ordering::Relaxed)
            .wrapping_add(index);
        let slot = self.slot(slot, size_of::<u64>());
        slot.first_chunk().map_or(u64::MAX, |place| u64::from_ne_bytes(*place))
    }

    /// Gives the next `count` slots back.
    fn consume(&self, count: u32) {
        self.mapping.word(self.consumer).fetch_add(count, Ordering::Release);
    }

    /// The octets of a slot on this side of the ring, which the other side does not touch meanwhile.
    fn slot(&mut self, number: u32, octets: usize) -> &mut [u8] {
        let index = (number % FRAMES) as usize;
        self.mapping.slice_mut(self.slots + index * octets, octets)
    }
}
