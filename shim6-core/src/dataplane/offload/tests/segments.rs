//! One packet that stands for several.

use alloc::sync::Arc;

use proptest::prelude::any;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::Instant;
use crate::dataplane::tests::{receiver_flow, sender_flow, table, ulids};
use crate::dataplane::{DataplaneUpdate, Inbound, Outbound, PAYLOAD_HEADER_LEN};

fn offload(draft: &Draft, size: u16) -> Offload {
    let transport = Transport::of(draft.next_header).unwrap();
    Offload {
        checksum: Some(draft.checksum()),
        segmentation: Some(Segmentation { transport, size }),
    }
}

#[test]
fn a_stream_is_cut_into_segments_as_tcp_makes_them() {
    let octets = payload(3_500);
    let draft = Draft::tcp(u32::MAX - 1_500, ACK | PSH | FIN | CWR, &octets);
    let packets = cut(&draft.begun(), offload(&draft, 1_000)).unwrap();
    let flags = [ACK | CWR, ACK, ACK, ACK | PSH | FIN];
    let expected = octets.chunks(1_000).zip(flags).enumerate().map(|(i, (octets, flags))| {
        let sequence = (u32::MAX - 1_500).wrapping_add(i as u32 * 1_000);
        Draft::tcp(sequence, flags, octets).packet()
    });
    assert_eq!(packets, expected.collect::<Vec<_>>());
}

#[test]
fn datagrams_stay_what_they_were() {
    let octets = payload(2_401);
    let draft = Draft::udp(&octets);
    let packets = cut(&draft.begun(), offload(&draft, 800)).unwrap();
    let expected = octets.chunks(800).map(|octets| Draft::udp(octets).packet());
    assert_eq!(packets, expected.collect::<Vec<_>>());
}

#[test]
fn what_is_not_longer_than_a_segment_is_one() {
    for octets in [0, 1, 100] {
        let draft = Draft::tcp(1, ACK, &payload(octets));
        let packets = cut(&draft.begun(), offload(&draft, 100)).unwrap();
        assert_eq!(packets, [draft.packet()]);
    }
}

#[test]
fn extension_headers_are_in_each_segment() {
    let mut draft = Draft::tcp(1, ACK, &payload(200));
    draft.extension = Vec::from([TCP, 0, 1, 4, 0, 0, 0, 0]);
    let packets = cut(&draft.begun(), offload(&draft, 100)).unwrap();
    let mut second = Draft::tcp(101, ACK, &payload(200)[100..]);
    second.extension = draft.extension.clone();
    assert_eq!((packets.len(), &packets[1]), (2, &second.packet()));
}

#[test]
fn what_does_not_say_how_to_cut_is_refused() {
    let draft = Draft::tcp(1, ACK, &payload(3_000));
    let right = offload(&draft, 1_000);
    let with = |start, offset| Offload {
        checksum: Some(PartialChecksum { start, offset }),
        ..right
    };
    let sized = |size| Offload {
        segmentation: right
            .segmentation
            .map(|segmentation| Segmentation { size, ..segmentation }),
        ..right
    };
    let unchecked = Offload {
        checksum: None,
        ..right
    };
    let datagrams = Offload {
        segmentation: Some(Segmentation {
            transport: Transport::Udp,
            size: 1_000,
        }),
        ..right
    };
    let packet = draft.begun();
    for offload in [
        with(40, 6),
        with(39, 16),
        with(3_060, 16),
        with(u16::MAX, 16),
        sized(0),
        unchecked,
        datagrams,
    ] {
        assert!(cut(&packet, offload).is_err(), "{offload:?}");
    }
    assert_eq!(cut(&packet[..packet.len() - 1], right), Err(Malformed::Truncated));
    for data_offset in [0, 4] {
        let mut packet = packet.clone();
        packet[40 + TCP_DATA_OFFSET] = data_offset << 4;
        assert_eq!(cut(&packet, right), Err(Malformed::Truncated));
    }
    assert_eq!(cut(&packet, right).unwrap().len(), 3);
}

/// The other order would be to cut first and to rewrite each segment.
#[test]
fn cutting_a_rewritten_packet_gives_rewritten_segments() {
    let draft = Draft::tcp(1, ACK, &payload(2_500));
    let mut packet = draft.begun();
    packet[8..24].copy_from_slice(&ulids().local.octets());
    packet[24..40].copy_from_slice(&ulids().peer.octets());
    let plain = cut(&packet, offload(&draft, 1_000)).unwrap();
    let now = Instant::from_micros(1);
    let mut dataplane = table(sender_flow());
    let mut buffer = [&[0; PAYLOAD_HEADER_LEN], &packet[..]].concat();
    let Outbound::Rewritten { start, .. } = dataplane.outbound(&mut buffer, PAYLOAD_HEADER_LEN, now) else {
        panic!("not rewritten");
    };
    let offload = offload(&draft, 1_000).behind(PAYLOAD_HEADER_LEN);
    let rewritten = cut(&buffer[start..], offload).unwrap();
    dataplane.apply(DataplaneUpdate::Insert(Arc::new(receiver_flow())));
    let restored = rewritten.into_iter().map(|mut packet| {
        let Inbound::Restored { start, .. } = dataplane.inbound(&mut packet, 0, now) else {
            panic!("not restored");
        };
        packet[start..].to_vec()
    });
    assert_eq!(restored.collect::<Vec<_>>(), plain);
}

proptest! {
    #[test]
    fn no_input_is_too_strange(
        packet in proptest::collection::vec(any::<u8>(), 0..200),
        fields in any::<(u16, u16, u16, bool)>(),
        small in any::<bool>(),
    ) {
        let (mut start, offset, size, is_tcp) = fields;
        if small {
            start %= 200;
        }
        let transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
        let offset = if small { transport.checksum() as u16 } else { offset };
        let mut packet = packet;
        if let Some(length) = packet.len().checked_sub(IPV6_HEADER_LEN) {
            packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        let checksum = PartialChecksum { start, offset };
        let offload = Offload { checksum: Some(checksum), segmentation: Some(Segmentation { transport, size }) };
        if let Ok(packets) = cut(&packet, offload) {
            let head = Segments::new(&packet, offload).unwrap().header_len();
            let octets: usize = packets.iter().map(|packet| packet.len() - head).sum();
            prop_assert_eq!(octets, packet.len() - head);
            prop_assert!(packets.iter().all(|packet| packet.len() - head <= usize::from(size)));
        }
        let _ = complete_checksum(&mut packet, checksum);
    }
}
