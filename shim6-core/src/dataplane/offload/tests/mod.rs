//! Cutting packets, and putting them together.

use alloc::vec::Vec;

use super::*;

mod coalesce;
mod segments;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SYN: u8 = 0x02;
const URG: u8 = 0x20;
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7];

/// A packet before its checksum is there.
#[derive(Clone, Debug)]
struct Draft {
    traffic_class: u8,
    extension: Vec<u8>,
    next_header: u8,
    /// Of the last octet of the source.
    host: u8,
    transport: Vec<u8>,
}

impl Draft {
    fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Self {
        let mut header = Vec::from([0x12, 0x34, 0, 80]);
        header.extend(sequence.to_be_bytes());
        header.extend([0, 0, 0, 5, 0x80, flags, 2, 0, 0, 0, 0, 0]);
        header.extend(OPTIONS);
        Self::of(TCP, [&header, payload].concat())
    }

    fn udp(payload: &[u8]) -> Self {
        let length = (UDP_HEADER_LEN + payload.len()) as u16;
        let header = [[0x12, 0x34], [0, 53], length.to_be_bytes(), [0, 0]].concat();
        Self::of(UDP, [&header, payload].concat())
    }

    fn of(next_header: u8, transport: Vec<u8>) -> Self {
        Self {
            traffic_class: 0,
            extension: Vec::new(),
            next_header,
            host: 1,
            transport,
        }
    }

    /// The octets, with zeros for the checksum.
    fn octets(&self) -> Vec<u8> {
        let length = (self.extension.len() + self.transport.len()) as u16;
        let mut packet = Vec::from([0x60 | self.traffic_class >> 4, self.traffic_class << 4 | 3, 4, 5]);
        packet.extend(length.to_be_bytes());
        packet.extend([
            if self.extension.is_empty() {
                self.next_header
            } else {
                60
            },
            61,
        ]);
        let address = |net: u8, host: u8| [0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
        packet.extend(address(1, self.host));
        packet.extend(address(2, 9));
        packet.extend(&self.extension);
        packet.extend(&self.transport);
        packet
    }

    fn checksum(&self) -> PartialChecksum {
        PartialChecksum {
            start: (IPV6_HEADER_LEN + self.extension.len()) as u16,
            offset: Transport::of(self.next_header).unwrap().checksum() as u16,
        }
    }

    /// The octets as a kernel gives them to a device that completes checksums.
    fn begun(&self) -> Vec<u8> {
        let mut packet = self.octets();
        let sum = slow_sum(&self.pseudo_header());
        put(&mut packet, self.checksum(), sum);
        packet
    }

    /// The whole packet.
    fn packet(&self) -> Vec<u8> {
        let mut packet = self.octets();
        let covered = [self.pseudo_header(), self.transport.clone()].concat();
        put(&mut packet, self.checksum(), !slow_sum(&covered));
        packet
    }

    fn pseudo_header(&self) -> Vec<u8> {
        let length = (self.transport.len() as u32).to_be_bytes();
        [&self.octets()[8..40], &length, &[0, 0, 0, self.next_header]].concat()
    }
}

/// RFC 1071, word by word.
fn slow_sum(octets: &[u8]) -> u16 {
    octets.chunks(2).fold(0_u16, |sum, word| {
        let word = u16::from(word[0]) << 8 | u16::from(*word.get(1).unwrap_or(&0));
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

fn put(packet: &mut [u8], PartialChecksum { start, offset }: PartialChecksum, value: u16) {
    let at = usize::from(start + offset);
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn payload(octets: usize) -> Vec<u8> {
    (0..octets).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// All that a packet stands for, each whole.
fn cut(packet: &[u8], offload: Offload) -> Result<Vec<Vec<u8>>, Malformed> {
    if offload.segmentation.is_none() {
        return Ok(Vec::from([packet.to_vec()]));
    }
    let mut segments = Segments::new(packet, offload)?;
    let mut head = alloc::vec![0; segments.header_len()];
    let mut packets = Vec::new();
    while let Some(payload) = segments.next_into(&mut head) {
        packets.push([&head, &packet[payload]].concat());
    }
    Ok(packets)
}

#[test]
fn a_begun_checksum_is_completed() {
    for octets in [0, 1, 2, 3, 1_000, 1_401] {
        for draft in [Draft::tcp(7, ACK, &payload(octets)), Draft::udp(&payload(octets))] {
            let mut packet = draft.begun();
            complete_checksum(&mut packet, draft.checksum()).unwrap();
            assert_eq!(packet, draft.packet());
        }
    }
}

#[test]
fn a_datagrams_checksum_is_never_zero() {
    // What the checksum of the datagram is with a payload of zero makes it zero as payload.
    let mut draft = Draft::udp(&[0, 0]);
    let packet = draft.packet();
    let first = [packet[46], packet[47]];
    draft.transport[8..].copy_from_slice(&first);
    let mut packet = draft.begun();
    complete_checksum(&mut packet, draft.checksum()).unwrap();
    assert_eq!(packet[46..48], [0xff, 0xff]);
}

#[test]
fn a_checksum_outside_of_the_packet_is_refused() {
    let draft = Draft::udp(&payload(4));
    for (start, offset) in [(52, 6), (53, 0), (40, 11), (u16::MAX, 6), (40, u16::MAX)] {
        let mut packet = draft.begun();
        let checksum = PartialChecksum { start, offset };
        assert_eq!(complete_checksum(&mut packet, checksum), Err(Malformed::Truncated));
    }
    let mut cut_short = draft.begun();
    cut_short.truncate(50);
    assert!(complete_checksum(&mut cut_short, draft.checksum()).is_err());
}
