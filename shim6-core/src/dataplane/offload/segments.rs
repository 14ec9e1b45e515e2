//! One packet that stands for several, cut into them.

use core::ops::Range;

use super::{
    CWR, FIN, Offload, PSH, PartialChecksum, Segmentation, TCP_FLAGS, TCP_SEQUENCE, Transport, UDP_LENGTH, non_zero,
};
use crate::dataplane::Malformed;
use crate::dataplane::rewrite::{IPV6_HEADER_LEN, PAYLOAD_LENGTH, u16_at};
use crate::wire::{fold, sum};

/// The packets that one packet stands for, each a header of its own and a part of the common payload.
///
/// They have the addresses, options and extension headers of the whole, among them the Shim6 header if it has one by now.
#[derive(Debug, Clone)]
pub struct Segments<'p> {
    packet: &'p [u8],
    segmentation: Segmentation,
    /// Where the transport header is, and where the payload begins.
    transport: usize,
    payload: usize,
    /// The sum over the pseudo-header, without the length in it.
    pseudo_header: u64,
    /// Where the next segment's payload begins.
    next: usize,
}

impl<'p> Segments<'p> {
    /// Of an IPv6 packet that starts at `packet[0]`.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] if the packet has not all that `offload` speaks of, or `offload` does not say how to cut it.
    pub fn new(packet: &'p [u8], offload: Offload) -> Result<Self, Malformed> {
        Self::checked(packet, offload).ok_or(Malformed::Truncated)
    }

    fn checked(packet: &'p [u8], offload: Offload) -> Option<Self> {
        let (segmentation, PartialChecksum { start, offset }) = (offload.segmentation?, offload.checksum?);
        let length = IPV6_HEADER_LEN + usize::from(u16_at(packet, PAYLOAD_LENGTH)?);
        let packet = packet.get(..length)?;
        let transport = usize::from(start);
        let checksum = segmentation.transport.checksum();
        if segmentation.size == 0 || usize::from(offset) != checksum || transport < IPV6_HEADER_LEN {
            return None;
        }
        let payload = transport + segmentation.transport.header_len(packet, transport)?;
        // It contains the length of the whole, which is taken out again. The sum knows no minus but the complement.
        let begun = u16_at(packet, transport + checksum)?;
        let length = !fold((packet.len() - transport) as u64);
        Some(Self {
            packet,
            segmentation,
            transport,
            payload,
            pseudo_header: u64::from(begun) + u64::from(length),
            next: payload,
        })
    }

    /// Octets of the headers of each segment.
    pub fn header_len(&self) -> usize {
        self.payload
    }

    /// Writes the headers of the next segment to `header`, which has to have [`header_len`](Self::header_len) octets, and
    /// gives the place of its payload in the packet. None after the last one.
    pub fn next_into(&mut self, header: &mut [u8]) -> Option<Range<usize>> {
        let header = header.get_mut(..self.payload)?;
        // A packet without payload is one segment.
        let is_first = self.next == self.payload;
        if self.next >= self.packet.len() && !is_first {
            return None;
        }
        let size = usize::from(self.segmentation.size);
        let payload = self.next..self.packet.len().min(self.next + size);
        self.next = payload.end.max(self.payload + 1);
        let is_last = payload.end == self.packet.len();
        header.copy_from_slice(self.packet.get(..self.payload)?);
        let length = (header.len() - IPV6_HEADER_LEN + payload.len()) as u16;
        header[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
        let transport = &mut header[self.transport..];
        let length = transport.len() + payload.len();
        match self.segmentation.transport {
            Transport::Tcp => adapt_tcp(transport, payload.start - self.payload, is_first, is_last),
            Transport::Udp => transport[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&(length as u16).to_be_bytes()),
        }
        let field = self.segmentation.transport.checksum();
        transport[field..field + 2].fill(0);
        let sum = self.pseudo_header + length as u64 + sum(transport) + sum(&self.packet[payload.clone()]);
        transport[field..field + 2].copy_from_slice(&non_zero(!fold(sum), field).to_be_bytes());
        Some(payload)
    }
}

/// What differs in the header of a segment whose payload is `position` octets behind that of the first.
fn adapt_tcp(header: &mut [u8], position: usize, is_first: bool, is_last: bool) {
    if let Some(sequence) = header[TCP_SEQUENCE..].first_chunk_mut::<4>() {
        *sequence = u32::from_be_bytes(*sequence)
            .wrapping_add(position as u32)
            .to_be_bytes();
    }
    // The end belongs to the last one; that the window was reduced is said once (RFC 3168 section 6.1.2).
    let not_here = if is_last { 0 } else { FIN | PSH } | if is_first { 0 } else { CWR };
    header[TCP_FLAGS] &= !not_here;
}
