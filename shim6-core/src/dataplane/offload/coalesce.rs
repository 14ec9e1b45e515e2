//! Many packets of one flow, put together to one.
//!
//! A packet joins the group of those before it only if cutting the result gives exactly these packets again: same headers,
//! consecutive octets or datagrams of one size, right checksums. A packet that does not, ends the group, so packets of one flow
//! never overtake each other.

use alloc::vec::Vec;
use core::ops::Range;

use super::{
    ACK, ECE, Offload, PSH, PartialChecksum, Segmentation, TCP_CHECKSUM, TCP_FLAGS, TCP_SEQUENCE, Transport,
    UDP_CHECKSUM, UDP_LENGTH,
};
use crate::dataplane::rewrite::{IPV6_HEADER_LEN, NEXT_HEADER, PAYLOAD_LENGTH, u16_at};
use crate::wire::{fold, sum};

/// As many octets as a packet that was put together may have, its IPv6 header included.
const MAX_OCTETS: usize = 65_535;
/// As many packets as are put together at most: a kernel cuts one packet into no more datagrams.
pub const MAX_PACKETS: usize = 64;
/// The pseudo-header's addresses within a packet.
const ADDRESSES: Range<usize> = 8..IPV6_HEADER_LEN;

/// Puts the packets of one burst together. To be used again for the next burst, so that it need not allocate.
#[derive(Debug, Clone, Default)]
pub struct Coalescer {
    groups: Vec<Group>,
    /// As many of `groups` belong to this burst; the others are kept for their memory.
    used: usize,
    datagrams: bool,
}

/// Packets that are one now, or a single packet that is as it was.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The first packet, whole, then the payloads of the others.
    parts: Vec<Range<usize>>,
    flow: Flow,
    /// What its packets are; none if nothing may join them, any more or at all.
    open: Option<Segment>,
    /// Octets of payload of all packets.
    payload: usize,
    /// The last packet says that its data are to be passed on (RFC 9293 section 3.9.1.2).
    push: bool,
}

/// Who a packet is from and to. Two flows may seem one here, but not the other way round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flow {
    addresses: u64,
    /// None for a packet that shows no ports: it may belong to any flow between its addresses.
    ports: Option<u32>,
}

/// A packet that others may join, or that may join others.
#[derive(Debug, Clone, Copy)]
struct Segment {
    transport: Transport,
    header_len: usize,
    payload: usize,
    push: bool,
    /// Its checksum is known to be right.
    is_verified: bool,
}

impl Coalescer {
    /// `datagrams`: put UDP datagrams together as well.
    #[must_use]
    pub fn new(datagrams: bool) -> Self {
        Self {
            datagrams,
            ..Self::default()
        }
    }

    /// Begins a new burst.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Takes the IPv6 packet at `memory[packet]`, which came after those before it.
    pub fn push(&mut self, memory: &[u8], packet: Range<usize>) {
        let Some(octets) = memory.get(packet.clone()) else {
            return;
        };
        let flow = Flow::of(octets);
        let segment = segment(octets).filter(|segment| self.datagrams || segment.transport == Transport::Tcp);
        let mut earlier = self.groups[..self.used].iter_mut().rev();
        if let Some(segment) = segment
            && let Some(group) = earlier.find(|group| group.flow.may_be(flow))
            && group.admits(segment, memory, octets)
        {
            group.payload += segment.payload;
            group.push = segment.push;
            group.parts.push(packet.start + segment.header_len..packet.end);
            return;
        }
        if self.used == self.groups.len() {
            self.groups.push(Group::default());
        }
        let group = &mut self.groups[self.used];
        self.used += 1;
        group.parts.clear();
        group.parts.push(packet);
        group.flow = flow;
        group.open = segment.filter(|segment| !segment.push);
        group.payload = segment.map_or(0, |segment| segment.payload);
        group.push = false;
    }

    /// What has become of the burst, in an order in which the packets of each flow are as they came.
    pub fn groups(&self) -> &[Group] {
        &self.groups[..self.used]
    }
}

impl Group {
    /// How many packets it was.
    pub fn packets(&self) -> usize {
        self.parts.len()
    }

    /// The same number for all packets of a flow, and for flows that differ most likely others.
    pub fn flow_hash(&self) -> u32 {
        let mixed = self.flow.addresses ^ u64::from(self.flow.ports.unwrap_or_default()).rotate_left(32);
        // 2^64 over the golden ratio: the upper half of the product depends on all bits.
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// Where the packet is in the memory, in order: one place for a single packet, else one for the headers and the first
    /// payload and one for each of the other payloads.
    pub fn parts(&self) -> &[Range<usize>] {
        &self.parts
    }

    /// Gives the headers at the start of the first part what those of the whole packet need, and says what has to be told
    /// about it to whoever gets it. To be called once.
    pub fn finish(&self, memory: &mut [u8]) -> Offload {
        let first = self.parts.first().cloned().unwrap_or_default();
        let Some(packet) = memory.get_mut(first).filter(|_| self.parts.len() > 1) else {
            return Offload::default();
        };
        let Some(segment) = segment(packet) else {
            return Offload::default();
        };
        let transport = segment.transport;
        let length = segment.header_len - IPV6_HEADER_LEN + self.payload;
        packet[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&(length as u16).to_be_bytes());
        let begun = fold(pseudo_header(packet, transport, length));
        let header = &mut packet[IPV6_HEADER_LEN..];
        match transport {
            Transport::Tcp if self.push => header[TCP_FLAGS] |= PSH,
            Transport::Tcp => {}
            Transport::Udp => header[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&(length as u16).to_be_bytes()),
        }
        let offset = transport.checksum();
        header[offset..offset + 2].copy_from_slice(&begun.to_be_bytes());
        Offload {
            checksum: Some(PartialChecksum {
                start: IPV6_HEADER_LEN as u16,
                offset: offset as u16,
            }),
            segmentation: Some(Segmentation {
                transport,
                size: segment.payload as u16,
            }),
        }
    }

    /// Whether the packet may be the next one of this group.
    fn admits(&mut self, segment: Segment, memory: &[u8], packet: &[u8]) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let first = self.parts.first().and_then(|first| memory.get(first.clone()));
        let Some(first) = first.filter(|first| has_same_headers(first, packet, open, &segment)) else {
            return false;
        };
        let size = open.payload;
        let is_next = match open.transport {
            Transport::Tcp => sequence(packet) == sequence(first).wrapping_add(self.payload as u32),
            Transport::Udp => true,
        };
        if !is_next
            || self.parts.len() >= MAX_PACKETS
            || segment.payload > size
            || open.header_len + self.payload + segment.payload > MAX_OCTETS
        {
            return false;
        }
        // What is put together counts as verified.
        open.is_verified = open.is_verified || is_right(first, open);
        if !open.is_verified || !is_right(packet, &segment) {
            return false;
        }
        if segment.push || segment.payload < size {
            self.open = None;
        }
        true
    }
}

impl Flow {
    fn of(packet: &[u8]) -> Self {
        let addresses = packet.get(ADDRESSES).unwrap_or_default();
        let (words, _) = addresses.as_chunks::<8>();
        let mix = |mixed: u64, word: &[u8; 8]| mixed.rotate_left(17) ^ u64::from_ne_bytes(*word);
        let transport = packet.get(NEXT_HEADER).and_then(|&next| Transport::of(next));
        let ports = packet.get(IPV6_HEADER_LEN..).and_then(|header| header.first_chunk());
        Self {
            addresses: words.iter().fold(0, mix),
            ports: transport.and(ports).map(|ports| u32::from_ne_bytes(*ports)),
        }
    }

    fn may_be(self, other: Self) -> bool {
        let same_ports = || self.ports.is_none() || other.ports.is_none() || self.ports == other.ports;
        self.addresses == other.addresses && same_ports()
    }
}

/// What a packet is, if it is one that others may join or that may join others.
fn segment(packet: &[u8]) -> Option<Segment> {
    let length = usize::from(u16_at(packet, PAYLOAD_LENGTH)?);
    let transport = Transport::of(*packet.get(NEXT_HEADER)?)?;
    let header_len = IPV6_HEADER_LEN + transport.header_len(packet, IPV6_HEADER_LEN)?;
    let payload = packet.len().checked_sub(header_len).filter(|&payload| payload > 0)?;
    let header = &packet[IPV6_HEADER_LEN..];
    let push = match transport {
        Transport::Tcp if header[TCP_FLAGS] & !(PSH | ECE) != ACK => return None,
        Transport::Tcp => header[TCP_FLAGS] & PSH != 0,
        // Without a checksum a datagram is not valid (RFC 8200 section 8.1).
        Transport::Udp if usize::from(u16_at(header, UDP_LENGTH)?) != header.len() => return None,
        Transport::Udp if u16_at(header, UDP_CHECKSUM)? == 0 => return None,
        Transport::Udp => false,
    };
    (packet.len() == IPV6_HEADER_LEN + length).then_some(Segment {
        transport,
        header_len,
        payload,
        push,
        is_verified: false,
    })
}

/// Whether the headers differ in nothing but what follows from the place in the group.
fn has_same_headers(first: &[u8], packet: &[u8], open: &Segment, segment: &Segment) -> bool {
    if open.transport != segment.transport || open.header_len != segment.header_len {
        return false;
    }
    let same = |octets: Range<usize>| first.get(octets.clone()) == packet.get(octets);
    let in_header = |octets: Range<usize>| same(IPV6_HEADER_LEN + octets.start..IPV6_HEADER_LEN + octets.end);
    let flags = |packet: &[u8]| packet.get(IPV6_HEADER_LEN + TCP_FLAGS).map(|flags| flags & !PSH);
    same(0..PAYLOAD_LENGTH)
        && same(NEXT_HEADER..IPV6_HEADER_LEN)
        && match open.transport {
            Transport::Tcp => {
                in_header(0..TCP_SEQUENCE)
                    // Acknowledgment Number and Data Offset; the window; the urgent pointer and the options.
                    && in_header(TCP_SEQUENCE + 4..TCP_FLAGS)
                    && flags(first) == flags(packet)
                    && in_header(TCP_FLAGS + 1..TCP_CHECKSUM)
                    && same(IPV6_HEADER_LEN + TCP_CHECKSUM + 2..open.header_len)
            }
            Transport::Udp => in_header(0..UDP_LENGTH),
        }
}

fn sequence(packet: &[u8]) -> u32 {
    let field = packet
        .get(IPV6_HEADER_LEN + TCP_SEQUENCE..)
        .and_then(|field| field.first_chunk());
    field.map_or(0, |field| u32::from_be_bytes(*field))
}

/// Whether the transport checksum is right.
fn is_right(packet: &[u8], segment: &Segment) -> bool {
    let covered = &packet[IPV6_HEADER_LEN..];
    fold(pseudo_header(packet, segment.transport, covered.len()) + sum(covered)) == u16::MAX
}

/// The sum over the pseudo-header (RFC 8200 section 8.1).
fn pseudo_header(packet: &[u8], transport: Transport, length: usize) -> u64 {
    sum(&packet[ADDRESSES]) + length as u64 + u64::from(transport.protocol())
}
