//! What a kernel leaves to its network device, and has to be done here: checksums that are only begun, and packets that are
//! several.
//!
//! A kernel that knows that a device can do so gives it TCP segments and UDP datagrams by the dozen, as one packet whose
//! checksum is not complete. No device knows the Shim6 header, so they are cut ([`Segments`]) and completed
//! ([`complete_checksum`]) before they leave. The other way round, what has been restored is put together again
//! ([`Coalescer`]), because the upper layers take far less time for one large packet than for many.
//!
//! In each direction the payload stays where it is: all of this makes headers, and says which octets follow them.

mod coalesce;
mod segments;
#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, Group, MAX_PACKETS};
pub use segments::Segments;

use super::Malformed;
use super::rewrite::{IPV6_HEADER_LEN, u16_at};
use crate::wire::{fold, sum};

/// Octets of a TCP header without options, and the places of its fields (RFC 9293 section 3.1).
const TCP_HEADER_LEN: usize = 20;
const TCP_SEQUENCE: usize = 4;
const TCP_DATA_OFFSET: usize = 12;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
/// Octets of a UDP header, and the places of its fields (RFC 768).
const UDP_HEADER_LEN: usize = 8;
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;

/// What is still to be done to a packet. The fields mean what those of the header that virtio devices put in front of a
/// packet mean; a packet that needs nothing has the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// Its checksum is to be completed.
    pub checksum: Option<PartialChecksum>,
    /// It stands for several packets.
    pub segmentation: Option<Segmentation>,
}

/// A checksum of which only the sum over the pseudo-header is there yet (RFC 8200 section 8.1), in the checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the summed octets begin, which is the transport header, in octets from the start of the packet.
    pub start: u16,
    /// Where the checksum is, in octets from there.
    pub offset: u16,
}

/// How a packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// What it consists of.
    pub transport: Transport,
    /// Octets of payload in each segment but the last, which may be shorter. Not 0.
    pub size: u16,
}

/// Transport protocols whose packets can be cut and put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The bytes of a stream.
    Tcp,
    /// Datagrams, which stay what they were.
    Udp,
}

impl Transport {
    const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The one that a Next Header value stands for.
    fn of(next_header: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|transport| transport.protocol() == next_header)
    }

    /// Its number as a Next Header value.
    const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where its checksum is, in octets from the start of its header.
    const fn checksum(self) -> usize {
        match self {
            Self::Tcp => TCP_CHECKSUM,
            Self::Udp => UDP_CHECKSUM,
        }
    }

    /// Octets of the header at `packet[start..]`, if it is all there.
    fn header_len(self, packet: &[u8], start: usize) -> Option<usize> {
        let (length, shortest) = match self {
            Self::Tcp => (
                usize::from(packet.get(start + TCP_DATA_OFFSET)? >> 4) * 4,
                TCP_HEADER_LEN,
            ),
            Self::Udp => (UDP_HEADER_LEN, UDP_HEADER_LEN),
        };
        (length >= shortest && start + length <= packet.len()).then_some(length)
    }
}

impl Offload {
    /// The same for a packet that has `octets` more in front of its transport header.
    #[must_use]
    pub fn behind(mut self, octets: usize) -> Self {
        if let Some(checksum) = &mut self.checksum {
            checksum.start = u16::try_from(octets).map_or(u16::MAX, |octets| checksum.start.saturating_add(octets));
        }
        self
    }
}

/// Completes the checksum of an IPv6 packet that starts at `packet[0]`.
///
/// # Errors
///
/// [`Malformed::Truncated`] if the field is not in the packet.
pub fn complete_checksum(packet: &mut [u8], checksum: PartialChecksum) -> Result<(), Malformed> {
    let length = u16_at(packet, super::rewrite::PAYLOAD_LENGTH).ok_or(Malformed::Truncated)?;
    let end = IPV6_HEADER_LEN + usize::from(length);
    let covered = packet
        .get_mut(usize::from(checksum.start)..end)
        .ok_or(Malformed::Truncated)?;
    // The sum that is in the field already is taken along.
    let completed = !fold(sum(covered));
    let field = covered
        .get_mut(usize::from(checksum.offset)..)
        .and_then(|rest| rest.first_chunk_mut());
    *field.ok_or(Malformed::Truncated)? = non_zero(completed, usize::from(checksum.offset)).to_be_bytes();
    Ok(())
}

/// Zero stands for "no checksum" in UDP, and for the same number as all ones in any protocol's sum.
fn non_zero(checksum: u16, offset: usize) -> u16 {
    match (checksum, offset) {
        (0, UDP_CHECKSUM) => u16::MAX,
        (checksum, _) => checksum,
    }
}
