//! The header that a TUN device with offloads has in front of each packet: `virtio_net_hdr` (virtio 1.3 section 5.1.6), of the
//! length and byte order that the kernel takes unless it is told otherwise.

use shim6_core::dataplane::offload::{Offload, PartialChecksum, Segmentation, Transport};

/// Octets of the header.
pub(super) const OCTETS: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`, `_TCPV6` and `_UDP_L4`.
const NO_SEGMENTATION: u8 = 0;
const TCP_IPV6: u8 = 4;
const UDP: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`: may be set beside the others.
const ECN: u8 = 0x80;

/// What the header says. A kind of packet that was not asked for gives a segment size of 0, by which nothing can be cut.
pub(super) fn parse(header: &[u8; OCTETS]) -> Offload {
    let field = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let checksum = (header[0] & NEEDS_CHECKSUM != 0).then(|| PartialChecksum {
        start: field(6),
        offset: field(8),
    });
    let (transport, size) = match header[1] & !ECN {
        NO_SEGMENTATION => {
            return Offload {
                checksum,
                segmentation: None,
            };
        }
        TCP_IPV6 => (Transport::Tcp, field(4)),
        UDP => (Transport::Udp, field(4)),
        _ => (Transport::Tcp, 0),
    };
    Offload {
        checksum,
        segmentation: Some(Segmentation { transport, size }),
    }
}

/// The header for a packet.
pub(super) fn emit(offload: Offload) -> [u8; OCTETS] {
    let mut header = [0; OCTETS];
    let mut set = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    if let Some(PartialChecksum { start, offset }) = offload.checksum {
        set(6, start);
        set(8, offset);
    }
    if let Some(Segmentation { transport, size }) = offload.segmentation {
        // Where the headers end: a hint, which must not lead beyond the packet. TCP's options are looked for in any case.
        set(
            2,
            offload
                .checksum
                .map_or(0, |checksum| checksum.start.saturating_add(shortest_header(transport))),
        );
        set(4, size);
        header[1] = match transport {
            Transport::Tcp => TCP_IPV6,
            Transport::Udp => UDP,
        };
    }
    header[0] = if offload.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
    header
}

fn shortest_header(transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => 20,
        Transport::Udp => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_was_put_into_it() {
        let checksum = Some(PartialChecksum { start: 40, offset: 16 });
        let segmentation = |transport| Some(Segmentation { transport, size: 1_432 });
        for offload in [
            Offload::default(),
            Offload {
                checksum,
                segmentation: None,
            },
            Offload {
                checksum,
                segmentation: segmentation(Transport::Tcp),
            },
            Offload {
                checksum,
                segmentation: segmentation(Transport::Udp),
            },
        ] {
            assert_eq!(parse(&emit(offload)), offload);
        }
    }

    #[test]
    fn an_unknown_kind_of_packet_cannot_be_cut() {
        let mut header = emit(Offload::default());
        header[1] = 1; // TCP over IPv4
        let size = parse(&header).segmentation.map(|segmentation| segmentation.size);
        assert_eq!(size, Some(0));
        header[1] = TCP_IPV6 | ECN;
        let transport = parse(&header).segmentation.map(|segmentation| segmentation.transport);
        assert_eq!(transport, Some(Transport::Tcp));
    }
}
