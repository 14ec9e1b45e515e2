//! Receiving Shim6 packets, and ICMPv6 errors about packets that were sent, with `recvmmsg`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::{MAX_BATCH, SOCKET_BUFFER_OCTETS};
use crate::sys::{IPV6_HEADER_OCTETS, SHIM6_NEXT_HEADER, socket_option, while_doing, while_opening};

/// Octets of the extension headers that a packet may have in front of its message. More pass hardly any
/// router (RFC 8504 section 5.3), and room for all that is possible would cost every packet.
const MAX_EXTENSION_OCTETS: usize = 1_024;

/// Free octets in front of each received message: room for an IPv6 header with extension headers, and
/// for what a rewriter may add.
pub const HEADROOM_OCTETS: usize = 64 + MAX_EXTENSION_OCTETS;

/// Octets for ancillary data per message: packet information, hop limit and flow information, and the
/// extension headers, with space left.
const CONTROL_OCTETS: usize = 192 + MAX_EXTENSION_OCTETS;

/// The longest message: what an IPv6 packet without a jumbo payload can carry.
const MAX_MESSAGE_OCTETS: usize = 65_535;

/// Next Header values of the extension headers that routers on the way look at, in front of which the
/// shim has no place (RFC 5533 section 11.1).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;

/// Next Header value of ICMPv6.
const ICMPV6: u8 = 58;

/// The ICMPv6 errors of RFC 4443: Destination Unreachable, Packet Too Big, Time Exceeded, Parameter
/// Problem.
const ICMP_ERRORS: std::ops::RangeInclusive<u32> = 1..=4;

/// The option of a raw ICMPv6 socket that says which types it does not want (RFC 3542 section 3.2).
const ICMP6_FILTER: libc::c_int = 1;

/// A raw IPv6 socket that receives packets of one protocol for this host, on any interface.
#[derive(Debug)]
pub struct WireReceiver {
    socket: Socket,
    next_header: u8,
}

impl WireReceiver {
    /// Opens the socket for every packet of protocol 140 in the network namespace of the calling
    /// thread.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`; otherwise the kernel's error and the option it
    /// refused.
    pub fn open() -> io::Result<Self> {
        let receiver = Self::open_for(SHIM6_NEXT_HEADER)?;
        // The upper layers may want to see them: RFC 3542 section 6.
        receiver.ask_for(&[
            (libc::IPV6_RECVHOPOPTS, "IPV6_RECVHOPOPTS"),
            (libc::IPV6_RECVRTHDR, "IPV6_RECVRTHDR"),
            (libc::IPV6_RECVDSTOPTS, "IPV6_RECVDSTOPTS"),
        ])?;
        Ok(receiver)
    }

    /// Opens one for the ICMPv6 errors that reach this host, with right checksums. The kernel acts
    /// on them as well.
    ///
    /// # Errors
    ///
    /// As [`WireReceiver::open`].
    pub fn open_icmp_errors() -> io::Result<Self> {
        let receiver = Self::open_for(ICMPV6)?;
        // Its bits are set for what is kept out.
        let mut filter = [u32::MAX; 8];
        for kind in ICMP_ERRORS {
            filter[0] &= !(1 << kind);
        }
        socket_option::set(&receiver.socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, filter)
            .map_err(|error| while_doing("setting ICMP6_FILTER on the raw IPv6 socket", error))?;
        Ok(receiver)
    }

    fn open_for(next_header: u8) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(next_header));
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(protocol)).map_err(|error| {
            while_opening(
                format_args!("opening the raw IPv6 socket for protocol {next_header}"),
                error,
            )
        })?;
        socket.set_nonblocking(true)?;
        let receiver = Self { socket, next_header };
        receiver.ask_for(&[
            (libc::IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"),
            (libc::IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"),
            // Traffic class and flow label at once: one item less to parse than with
            // IPV6_RECVTCLASS beside it.
            (libc::IPV6_FLOWINFO, "IPV6_FLOWINFO"),
        ])?;
        socket_option::grow_receive_buffer(&receiver.socket, SOCKET_BUFFER_OCTETS)?;
        Ok(receiver)
    }

    /// Asks for ancillary data.
    fn ask_for(&self, options: &[(libc::c_int, &str)]) -> io::Result<()> {
        for &(option, name) in options {
            socket_option::set(&self.socket, libc::IPPROTO_IPV6, option, 1)
                .map_err(|error| while_doing(format_args!("setting {name} on the raw IPv6 socket"), error))?;
        }
        Ok(())
    }

    /// Receives up to the capacity of `batch`, replacing what it held; returns how many packets it
    /// now holds.
    ///
    /// Packets that did not arrive whole are left out and counted in [`RecvBatch::errors`], so 0 is
    /// possible although something was received.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is waiting; then, as after any error, the batch is empty.
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.next_header = self.next_header;
        batch.receive(self.socket.as_raw_fd())
    }

    /// How many packets the kernel has discarded because the receive buffer was full, since the
    /// socket was opened. The count wraps at 2^32.
    ///
    /// # Errors
    ///
    /// The kernel's, if it is too old to tell (Linux 4.12).
    pub fn overflows(&self) -> io::Result<u32> {
        const COUNTERS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
        let counters: [u32; COUNTERS] = socket_option::get(&self.socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
        Ok(counters[COUNTERS - 1])
    }
}

impl AsFd for WireReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for WireReceiver {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// How many packets were received but could not be used, since the [`RecvBatch`] was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvErrors {
    /// Messages longer than the batch's buffers (`MSG_TRUNC`).
    pub truncated: u64,
    /// Packets whose addresses, hop limit or flow information did not arrive whole (`MSG_CTRUNC`,
    /// or missing).
    pub control_lost: u64,
}

/// Reusable buffers for received packets.
#[derive(Debug)]
pub struct RecvBatch {
    slots: Vec<Slot>,
    buffers: Vec<u8>,
    stride: usize,
    received: usize,
    next_header: u8,
    errors: RecvErrors,
}

#[derive(Clone, Debug)]
struct Slot {
    source: libc::sockaddr_in6,
    control: Control,
    extensions: Extensions,
    packet: Option<Packet>,
}

/// The extension headers in front of a message, as they were in the packet.
#[derive(Clone, Debug, Default)]
struct Extensions {
    octets: Vec<u8>,
    /// The kind of each, and where it starts.
    headers: Vec<(u8, usize)>,
}

impl Extensions {
    fn clear(&mut self) {
        self.octets.clear();
        self.headers.clear();
    }

    /// `None` if there is no room for it, or it is none.
    fn push(&mut self, kind: u8, header: &[u8]) -> Option<()> {
        let fits = self.octets.len() + header.len() <= MAX_EXTENSION_OCTETS;
        if header.is_empty() || !fits {
            return None;
        }
        self.headers.push((kind, self.octets.len()));
        self.octets.extend_from_slice(header);
        Some(())
    }

    /// Makes the headers a chain that ends with `next_header`. Destination options that no routing header follows are the
    /// destination's, which has dealt with them.
    fn complete(&mut self, next_header: u8) {
        while let Some(&(DESTINATION_OPTIONS, start)) = self.headers.last() {
            self.headers.pop();
            self.octets.truncate(start);
        }
        let mut next = next_header;
        for &(kind, start) in self.headers.iter().rev() {
            self.octets[start] = next;
            next = kind;
        }
    }

    /// The value of the Next Header field in front of them.
    fn first(&self, next_header: u8) -> u8 {
        self.headers.first().map_or(next_header, |(kind, _)| *kind)
    }
}

/// Ancillary data, aligned for the `cmsghdr` at its start.
#[derive(Clone, Debug)]
#[repr(align(8))]
struct Control([u8; CONTROL_OCTETS]);

#[derive(Clone, Copy, Debug)]
struct Packet {
    length: usize,
    source: Ipv6Addr,
    info: PacketInfo,
}

/// What the ancillary data says about a packet.
#[derive(Clone, Copy, Debug)]
struct PacketInfo {
    destination: Ipv6Addr,
    interface: u32,
    hop_limit: u8,
    traffic_class: u8,
    flow_label: u32,
}

impl RecvBatch {
    /// Buffers for up to `packets` messages at once (at least 1, at most [`MAX_BATCH`]) of any
    /// length that IPv6 allows. About 64 KiB of address space per packet; memory is used only for
    /// what is received.
    #[must_use]
    pub fn new(packets: usize) -> Self {
        Self::with_message_octets(packets, MAX_MESSAGE_OCTETS)
    }

    /// As [`RecvBatch::new`], for messages of up to `octets` each; longer ones are counted as
    /// truncated.
    #[must_use]
    pub fn with_message_octets(packets: usize, octets: usize) -> Self {
        let packets = packets.clamp(1, MAX_BATCH);
        let octets = octets.clamp(1, MAX_MESSAGE_OCTETS);
        let stride = (HEADROOM_OCTETS + octets).next_multiple_of(64);
        // SAFETY: an all-zero `sockaddr_in6` is valid: integers only.
        let source = unsafe { zeroed() };
        let slot = Slot {
            source,
            control: Control([0; CONTROL_OCTETS]),
            extensions: Extensions::default(),
            packet: None,
        };
        Self {
            slots: vec![slot; packets],
            buffers: vec![0; packets * stride],
            stride,
            received: 0,
            next_header: SHIM6_NEXT_HEADER,
            errors: RecvErrors::default(),
        }
    }

    /// The packets of the last [`WireReceiver::recv_batch`], in the order in which they arrived.
    pub fn packets_mut(&mut self) -> impl Iterator<Item = ReceivedPacket<'_>> {
        let places = (0..).step_by(self.stride);
        let buffers = places.zip(self.buffers.chunks_exact_mut(self.stride));
        self.slots[..self.received]
            .iter()
            .zip(buffers)
            .filter_map(|(slot, (place, buffer))| {
                let packet = slot.packet?;
                Some(ReceivedPacket {
                    source: packet.source,
                    destination: packet.info.destination,
                    interface: packet.info.interface,
                    hop_limit: packet.info.hop_limit,
                    traffic_class: packet.info.traffic_class,
                    flow_label: packet.info.flow_label,
                    next_header: self.next_header,
                    extensions: &slot.extensions,
                    place,
                    buffer: &mut buffer[..HEADROOM_OCTETS + packet.length],
                })
            })
    }

    /// The memory in which the packets are, see [`ReceivedPacket::place`].
    pub fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.buffers
    }

    /// Packets that were received but could not be used, since this batch was made.
    #[must_use]
    pub fn errors(&self) -> RecvErrors {
        self.errors
    }

    fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        self.received = 0;
        // SAFETY: all-zero `iovec`s and `mmsghdr`s are valid: null pointers with length zero.
        let (mut vectors, mut headers): ([libc::iovec; MAX_BATCH], [libc::mmsghdr; MAX_BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let buffers = self.buffers.chunks_exact_mut(self.stride);
        for (((slot, buffer), vector), header) in self.slots.iter_mut().zip(buffers).zip(&mut vectors).zip(&mut headers)
        {
            let space = &mut buffer[HEADROOM_OCTETS..];
            vector.iov_base = space.as_mut_ptr().cast();
            vector.iov_len = space.len();
            header.msg_hdr.msg_name = (&raw mut slot.source).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_OCTETS as _;
        }
        let count = self.slots.len() as libc::c_uint;
        let received = loop {
            // SAFETY: the first `count` headers (`count <= MAX_BATCH`, as `new` sees to) point to
            // buffers, names and control buffers of the stated lengths, all distinct, owned by
            // `self` or this frame, and otherwise unused until the call returns.
            let result = unsafe {
                libc::recvmmsg(
                    socket,
                    headers.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(result) {
                Ok(received) => break received,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        self.received = received;
        let mut usable = 0;
        for (slot, header) in self.slots.iter_mut().zip(&headers[..received]) {
            slot.packet = parse(slot, header, &mut self.errors);
            slot.extensions.complete(self.next_header);
            usable += usize::from(slot.packet.is_some());
        }
        Ok(usable)
    }
}

/// One received packet: what its IPv6 header said, and its message in a buffer with headroom.
#[derive(Debug)]
pub struct ReceivedPacket<'a> {
    /// The source address: the peer's locator.
    pub source: Ipv6Addr,
    /// The destination address: our locator.
    pub destination: Ipv6Addr,
    /// Index of the interface on which the packet arrived.
    pub interface: u32,
    /// The hop limit on arrival.
    pub hop_limit: u8,
    /// The traffic class, ECN bits included.
    pub traffic_class: u8,
    /// The flow label, 20 bits.
    pub flow_label: u32,
    /// The protocol that the socket is for.
    pub next_header: u8,
    extensions: &'a Extensions,
    /// Where in [`RecvBatch::memory_mut`] its buffer begins.
    pub place: usize,
    buffer: &'a mut [u8],
}

impl<'a> ReceivedPacket<'a> {
    /// The message, from the first octet of its protocol's header on.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.buffer[HEADROOM_OCTETS..]
    }

    /// The buffer that ends with the message, and where in it the message starts
    /// ([`HEADROOM_OCTETS`]). The octets before that are free and hold nothing of meaning.
    pub fn with_headroom(&mut self) -> (&mut [u8], usize) {
        (self.buffer, HEADROOM_OCTETS)
    }

    /// Puts the IPv6 header and the extension headers that routers look at back in front of the
    /// message; returns the buffer and where in it the IPv6 packet starts.
    ///
    /// The header has the fields of this structure, and a Payload Length that is right.
    pub fn into_packet(self) -> (&'a mut [u8], usize) {
        let extensions = &self.extensions.octets;
        let payload = HEADROOM_OCTETS - extensions.len();
        let start = payload - IPV6_HEADER_OCTETS;
        let payload_length = u16::try_from(self.buffer.len() - payload).unwrap_or(0);
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        self.buffer[payload..HEADROOM_OCTETS].copy_from_slice(extensions);
        let header = &mut self.buffer[start..payload];
        header[..4].copy_from_slice(&first.to_be_bytes());
        header[4..6].copy_from_slice(&payload_length.to_be_bytes());
        header[6] = self.extensions.first(self.next_header);
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..].copy_from_slice(&self.destination.octets());
        (self.buffer, start)
    }
}

/// Reads one filled header; `None` if the packet did not arrive whole, which is counted.
fn parse(slot: &mut Slot, header: &libc::mmsghdr, errors: &mut RecvErrors) -> Option<Packet> {
    slot.extensions.clear();
    let flags = header.msg_hdr.msg_flags;
    if flags & libc::MSG_TRUNC != 0 {
        errors.truncated += 1;
        return None;
    }
    let has_source = header.msg_hdr.msg_namelen as usize >= size_of::<libc::sockaddr_in6>();
    #[allow(clippy::unnecessary_cast, reason = "another type than usize with musl")]
    let control_octets = header.msg_hdr.msg_controllen as usize;
    let info = (flags & libc::MSG_CTRUNC == 0 && has_source)
        .then(|| parse_control(slot.control.0.get(..control_octets)?, &mut slot.extensions))
        .flatten();
    let Some(info) = info else {
        errors.control_lost += 1;
        return None;
    };
    let source = Ipv6Addr::from(slot.source.sin6_addr.s6_addr);
    Some(Packet {
        length: header.msg_len as usize,
        source,
        info,
    })
}

/// Reads the ancillary data of one message: a sequence of `cmsghdr`, each followed by its value and
/// padded.
fn parse_control(mut control: &[u8], extensions: &mut Extensions) -> Option<PacketInfo> {
    /// Where the value starts: the header is a multiple of the alignment already.
    const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(size_of::<usize>());
    let (mut target, mut hop_limit, mut flow) = (None, None, 0);
    while let Some(header) = control.get(..HEADER) {
        let length = read_usize(header, std::mem::offset_of!(libc::cmsghdr, cmsg_len))?;
        let level = read_int(header, std::mem::offset_of!(libc::cmsghdr, cmsg_level))?;
        let kind = read_int(header, std::mem::offset_of!(libc::cmsghdr, cmsg_type))?;
        let value = control.get(HEADER..length)?;
        match (level, kind) {
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address: [u8; 16] = value.get(..16)?.try_into().ok()?;
                target = Some((Ipv6Addr::from(address), read_int(value, 16)?.cast_unsigned()));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => hop_limit = u8::try_from(read_int(value, 0)?).ok(),
            // In the order in which they are in the packet.
            (libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS) => extensions.push(HOP_BY_HOP, value)?,
            (libc::IPPROTO_IPV6, libc::IPV6_RTHDR) => extensions.push(ROUTING, value)?,
            (libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS) => extensions.push(DESTINATION_OPTIONS, value)?,
            // Left out by the kernel when all of it is zero.
            (libc::IPPROTO_IPV6, libc::IPV6_FLOWINFO) => flow = u32::from_be_bytes(value.get(..4)?.try_into().ok()?),
            _ => {}
        }
        control = control
            .get(length.next_multiple_of(size_of::<usize>())..)
            .unwrap_or_default();
    }
    let (destination, interface) = target?;
    Some(PacketInfo {
        destination,
        interface,
        hop_limit: hop_limit?,
        traffic_class: (flow >> 20) as u8,
        flow_label: flow & 0x000f_ffff,
    })
}

fn read_int(octets: &[u8], offset: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(
        octets.get(offset..offset.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn read_usize(octets: &[u8], offset: usize) -> Option<usize> {
    const OCTETS: usize = size_of::<usize>();
    Some(usize::from_ne_bytes(
        octets.get(offset..offset.checked_add(OCTETS)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests;
