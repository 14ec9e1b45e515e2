//! Against the real kernel, between namespaces.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::lab::{Namespace, isolated};
use crate::sys::testing::{A, B, DEADLINE, Header, Joined, address_spec, until_done, wait_until_delivered};
use crate::sys::wire_socket::WireSender;

/// What the tests remember of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    outgoing: bool,
    length: u32,
    next_header: u8,
    flow_label: u32,
    ports: (u16, u16),
    /// If it is TCP: its sequence number.
    sequence: u32,
    /// If it is TCP: octets of payload.
    payload: u32,
}

impl Seen {
    fn new(packet: &TapPacket<'_>) -> Self {
        let octets = packet.octets;
        let port = |offset| {
            octets
                .get(offset..offset + 2)
                .map_or(0, |p| u16::from_be_bytes([p[0], p[1]]))
        };
        let tcp_header = octets.get(52).map_or(0, |octet| u32::from(octet >> 4) * 4);
        Self {
            outgoing: packet.outgoing,
            length: packet.length,
            next_header: octets[6],
            flow_label: u32::from_be_bytes([0, octets[1] & 0x0f, octets[2], octets[3]]),
            ports: (port(40), port(42)),
            sequence: octets
                .get(44..48)
                .map_or(0, |s| u32::from_be_bytes([s[0], s[1], s[2], s[3]])),
            payload: packet.length.saturating_sub(40 + tcp_header),
        }
    }
}

fn tap(namespace: &Namespace, interface: u32, options: TapOptions) -> PacketTap {
    namespace.run(|| PacketTap::open(interface, options)).unwrap().unwrap()
}

/// Reads until `enough` is satisfied with all that was seen.
async fn see(tap: &mut PacketTap, mut enough: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    until_done("packets on the tap", tap, |tap| {
        tap.read(&mut |packet| seen.push(Seen::new(&packet)))?;
        Ok(enough(&seen))
    })
    .await;
    seen
}

fn udp(namespace: &Namespace, address: Ipv6Addr, port: u16) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind((address, port))).unwrap().unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

#[test]
fn udp_is_seen_with_direction_and_length_and_without_neighbor_discovery() {
    isolated(
        "sys::tap::tests::udp_is_seen_with_direction_and_length_and_without_neighbor_discovery",
        || async {
            let joined = Joined::new().await;
            let mut tap = tap(&joined.a, joined.index_a, TapOptions::default());
            // An address that nobody has asked for yet, so that Neighbor Discovery goes first; IPv4
            // and multicast too.
            let new = "2001:db8:1::bb".parse().unwrap();
            let spec = address_spec(joined.index_b, new, 64);
            joined.netlink_b.add_address(&spec).await.unwrap();
            let (a, b) = (udp(&joined.a, A, 1111), udp(&joined.b, new, 2222));
            let itself = udp(&joined.b, new, 0);
            wait_until_delivered(&itself, &itself);
            let four = joined.a.run(|| UdpSocket::bind("0.0.0.0:3333")).unwrap().unwrap();
            four.set_broadcast(true).unwrap();
            socket2::SockRef::from(&four).bind_device(Some(b"eth0")).unwrap();
            four.send_to(&[0; 100], "255.255.255.255:3333").unwrap();
            let all_nodes: SocketAddr = format!("[ff02::1%{}]:3333", joined.index_a).parse().unwrap();
            a.send_to(&[0; 50], all_nodes).unwrap();
            a.send_to(&[0; 1000], (new, 2222)).unwrap();
            let mut buffer = [0; 2000];
            assert_eq!(b.recv(&mut buffer).unwrap(), 1000);
            b.send_to(&[0; 3], (A, 1111)).unwrap();
            assert_eq!(a.recv(&mut buffer).unwrap(), 3);
            a.send_to(&[0; 1], (new, 2222)).unwrap();

            let seen = see(&mut tap, |seen| seen.iter().any(|packet| packet.length == 49)).await;
            let seen: Vec<_> = seen
                .iter()
                .map(|p| (p.outgoing, p.next_header, p.length, p.ports))
                .collect();
            let expected = [
                (true, 17, 1048, (1111, 2222)),
                (false, 17, 51, (2222, 1111)),
                (true, 17, 49, (1111, 2222)),
            ];
            assert_eq!(seen, expected);
            let statistics = tap.statistics().unwrap();
            assert_eq!(
                statistics,
                TapStatistics {
                    packets: 3,
                    ..TapStatistics::default()
                }
            );
        },
    );
}

/// How much of a TCP stream the packets in one direction show without a gap, in octets. Some may
/// show it twice.
fn stream_octets(seen: &[Seen], outgoing: bool) -> usize {
    let stream = || seen.iter().filter(|packet| packet.outgoing == outgoing);
    // The first packet is the SYN, which takes one sequence number.
    let Some(start) = stream().next().map(|syn| syn.sequence.wrapping_add(1)) else {
        return 0;
    };
    let mut parts: Vec<_> = stream()
        .skip(1)
        .map(|packet| (packet.sequence.wrapping_sub(start), packet.payload))
        .collect();
    parts.sort_unstable();
    let mut end = 0;
    for (offset, payload) in parts {
        if offset <= end {
            end = end.max(offset + payload);
        }
    }
    end as usize
}

#[test]
fn tcp_super_packets_count_whole() {
    isolated("sys::tap::tests::tcp_super_packets_count_whole", || async {
        const OCTETS: usize = 1 << 20;
        let joined = Joined::new().await;
        let mut tap_a = tap(&joined.a, joined.index_a, TapOptions::default());
        let mut tap_b = tap(&joined.b, joined.index_b, TapOptions::default());
        let listen = || {
            std::net::TcpListener::bind((B, 80)).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
        };
        let listener = TcpListener::from_std(joined.b.run(listen).unwrap().unwrap()).unwrap();
        let client = joined.a.run(TcpSocket::new_v6).unwrap().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            received.len()
        };
        let send = async {
            let mut stream = client.connect((B, 80).into()).await.unwrap();
            stream.write_all(&vec![7; OCTETS]).await.unwrap();
        };
        let ((), received) = tokio::join!(send, serve);
        assert_eq!(received, OCTETS);

        for (tap, outgoing) in [(&mut tap_a, true), (&mut tap_b, false)] {
            let seen = see(tap, |seen| stream_octets(seen, outgoing) >= OCTETS).await;
            assert_eq!(stream_octets(&seen, outgoing), OCTETS);
            assert!(
                seen.iter().any(|packet| packet.length > 1500),
                "no segmentation offload on a veth pair?"
            );
            assert!(
                seen.iter().any(|packet| packet.outgoing != outgoing),
                "no acknowledgement"
            );
            assert_eq!(tap.statistics().unwrap().drops, 0);
        }
    });
}

/// Packets by what follows the IPv6 header, and whether a tap shows them.
fn filter_cases() -> Vec<(u8, Vec<u8>, bool)> {
    let upper = |octet: u8| vec![octet, 0, 0, 0, 0, 0, 0, 0];
    // An extension header of `units` + 1 times 8 octets, in front of `rest`.
    let extension = |next_header: u8, units: u8, rest: &[u8]| {
        let mut octets = vec![1; 8 * (usize::from(units) + 1)];
        octets[..2].copy_from_slice(&[next_header, units]);
        octets.extend(rest);
        octets
    };
    let mut cases = vec![
        (17, upper(0), true),
        (6, upper(0), true),
        (59, vec![], true),
        (253, upper(0), true),
        (140, upper(59), false),
        (140, vec![], false),
        (58, upper(128), true),
        (58, upper(132), true),
        (58, upper(138), true),
    ];
    cases.extend((133..=137).map(|kind| (58, upper(kind), false)));
    for header in [0, 43, 60] {
        cases.push((header, extension(17, 0, &upper(0)), true));
        cases.push((header, extension(17, 2, &upper(140)), true));
        cases.push((header, extension(140, 2, &upper(59)), false));
        cases.push((header, extension(58, 1, &upper(128)), true));
        cases.push((header, extension(58, 1, &upper(135)), false));
    }
    cases.push((
        0,
        extension(60, 1, &extension(43, 3, &extension(140, 0, &upper(59)))),
        false,
    ));
    cases.push((
        0,
        extension(60, 1, &extension(43, 3, &extension(17, 0, &upper(59)))),
        true,
    ));
    // Fragments, also one whose payload begins like a Neighbor Solicitation.
    cases.push((44, extension(140, 0, &upper(59)), false));
    cases.push((44, extension(58, 0, &upper(135)), true));
    cases.push((60, extension(44, 0, &extension(140, 0, &upper(0))), false));
    // Extension headers that go on past the end: by how far matters only if there is more to look
    // at.
    cases.push((60, vec![17, 200, 0, 0, 0, 0, 0, 0], true));
    cases.push((60, vec![43, 200, 0, 0, 0, 0, 0, 0], false));
    cases.push((58, vec![], false));
    cases
}

#[test]
fn shim6_and_neighbor_discovery_are_left_out_also_behind_extension_headers() {
    isolated(
        "sys::tap::tests::shim6_and_neighbor_discovery_are_left_out_also_behind_extension_headers",
        || async {
            let joined = Joined::new().await;
            let taps = [(&joined.a, joined.index_a), (&joined.b, joined.index_b)];
            let taps = taps.map(|(namespace, index)| tap(namespace, index, TapOptions::default()));
            let cases = filter_cases();
            // The flow label says which case a packet is; the last packet, that all have arrived.
            let last = cases.len() as u32;
            let packets: Vec<Vec<u8>> = (0..)
                .zip(
                    cases
                        .iter()
                        .map(|(next_header, payload, _)| (*next_header, payload.as_slice())),
                )
                .map(|(flow_label, (next_header, payload))| {
                    Header {
                        next_header,
                        flow_label,
                        ..Header::A_TO_B
                    }
                    .packet(payload)
                })
                .chain([Header {
                    next_header: 17,
                    flow_label: last,
                    ..Header::A_TO_B
                }
                .packet(&[0; 8])])
                .collect();
            let batch: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let sender = joined.a.run(|| WireSender::open(A, 0)).unwrap().unwrap();
            assert_eq!(sender.send_batch(&batch).unwrap().sent, batch.len());

            let expected: BTreeSet<u32> = (0..)
                .zip(&cases)
                .filter(|(_, (_, _, shown))| *shown)
                .map(|(case, _)| case)
                .collect();
            for (mut tap, outgoing) in taps.into_iter().zip([true, false]) {
                let seen = see(&mut tap, |seen| seen.iter().any(|packet| packet.flow_label == last)).await;
                // What the other side answers, such as ICMPv6 errors, goes the other way.
                let seen = seen
                    .iter()
                    .filter(|packet| packet.outgoing == outgoing && packet.flow_label != last);
                let seen: BTreeSet<u32> = seen.map(|packet| packet.flow_label).collect();
                let wrong: Vec<_> = seen
                    .symmetric_difference(&expected)
                    .map(|&case| &cases[case as usize])
                    .collect();
                assert!(wrong.is_empty(), "outgoing {outgoing}: {wrong:?}");
            }
        },
    );
}

#[test]
fn small_packets_are_shown_whole_where_that_is_wanted() {
    isolated(
        "sys::tap::tests::small_packets_are_shown_whole_where_that_is_wanted",
        || async {
            let joined = Joined::new().await;
            let sender = joined.a.run(|| WireSender::open(A, 0)).unwrap().unwrap();
            // "No Next Header", which nobody answers.
            let header = Header {
                next_header: 59,
                ..Header::A_TO_B
            };
            let packets = [10, 160, 161].map(|length| header.packet(&vec![0xab; length]));
            for (whole_octets, shown) in [(0, [50, 64, 64]), (200, [50, 200, 64]), (50, [50, 64, 64])] {
                let options = TapOptions {
                    whole_octets,
                    ..TapOptions::default()
                };
                let mut tap = tap(&joined.a, joined.index_a, options);
                let batch: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
                assert_eq!(sender.send_batch(&batch).unwrap().sent, batch.len());
                let mut seen: Vec<(u32, Vec<u8>)> = Vec::new();
                until_done("packets on the tap", &mut tap, |tap| {
                    tap.read(&mut |packet| seen.push((packet.length, packet.octets.to_vec())))?;
                    Ok(seen.len() >= packets.len())
                })
                .await;
                for ((packet, shown), (length, octets)) in packets.iter().zip(shown).zip(&seen) {
                    assert_eq!(*length as usize, packet.len());
                    assert_eq!(octets[..], packet[..shown]);
                }
            }
        },
    );
}

#[test]
fn a_ring_that_ran_full_counts_the_drops_and_recovers() {
    isolated(
        "sys::tap::tests::a_ring_that_ran_full_counts_the_drops_and_recovers",
        || async {
            const PACKETS: usize = 6400;
            let joined = Joined::new().await;
            let options = TapOptions {
                ring_octets: 1,
                // Long enough for blocks to be filled before they are closed.
                block_timeout: Duration::from_secs(1),
                ..TapOptions::default()
            };
            let mut tap = tap(&joined.a, joined.index_a, options);
            let sender = joined.a.run(|| WireSender::open(A, 0)).unwrap().unwrap();
            let packet = Header {
                // "No Next Header", which nobody answers.
                next_header: 59,
                ..Header::A_TO_B
            }
            .packet(&[0; 100]);
            let batch = [packet.as_slice(); 64];
            for _ in 0..PACKETS / batch.len() {
                assert_eq!(sender.send_batch(&batch).unwrap().sent, batch.len());
            }
            let statistics = tap.statistics().unwrap();
            assert!(statistics.drops > 0 && statistics.freezes > 0, "{statistics:?}");
            assert_eq!(statistics.packets, PACKETS as u64);
            let kept = PACKETS - usize::try_from(statistics.drops).unwrap();
            assert!(kept > 500, "the ring held only {kept} packets");
            let seen = see(&mut tap, |seen| seen.len() >= kept).await;
            assert_eq!(seen.len(), kept);
            assert!(seen.iter().all(|p| p.outgoing && p.length == 140));

            let after = Header {
                flow_label: 77,
                next_header: 59,
                ..Header::A_TO_B
            }
            .packet(&[0; 7]);
            assert_eq!(sender.send_batch(&[&after]).unwrap().sent, 1);
            see(&mut tap, |seen| {
                seen.iter().any(|packet| packet.flow_label == 77 && packet.length == 47)
            })
            .await;
        },
    );
}

#[test]
fn a_tap_goes_on_after_its_interface_was_down() {
    isolated(
        "sys::tap::tests::a_tap_goes_on_after_its_interface_was_down",
        || async {
            let joined = Joined::new().await;
            let mut tap = tap(&joined.a, joined.index_a, TapOptions::default());
            joined.netlink_a.set_down(joined.index_a).await.unwrap();
            let error = tap.read(&mut |_| {}).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
            let error = tap.read(&mut |_| {}).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "it is reported once");

            joined.netlink_a.set_up(joined.index_a).await.unwrap();
            let address = address_spec(joined.index_a, A, 64);
            joined.netlink_a.add_address(&address).await.unwrap();
            udp(&joined.a, A, 1111).send_to(&[0; 10], (B, 2222)).unwrap();
            see(&mut tap, |seen| seen.iter().any(|packet| packet.ports == (1111, 2222))).await;
        },
    );
}

#[test]
fn options_out_of_range_and_missing_interfaces_are_refused() {
    isolated(
        "sys::tap::tests::options_out_of_range_and_missing_interfaces_are_refused",
        || async {
            let open = |interface, snap_octets| {
                PacketTap::open(
                    interface,
                    TapOptions {
                        snap_octets,
                        ..TapOptions::default()
                    },
                )
                .map(drop)
            };
            assert!(open(1, 64).is_ok());
            let whole = TapOptions {
                whole_octets: 257,
                ..TapOptions::default()
            };
            let whole = PacketTap::open(1, whole).map(drop);
            for refused in [open(0, 64), open(1, 39), open(1, 257), whole] {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            let missing = open(4711, 64).unwrap_err();
            assert!(missing.to_string().contains("4711"), "{missing}");
        },
    );
}

fn frame(octets: &[u8], length: u32) -> Frame<'_> {
    Frame {
        packet_type: libc::PACKET_HOST,
        length,
        seen_at: Duration::ZERO,
        octets,
    }
}

#[test]
fn link_layer_padding_does_not_count_and_a_super_packet_counts_whole() {
    let short = Header::A_TO_B.packet(&[1]);
    let mut jumbo = short.clone();
    jumbo[4..6].copy_from_slice(&[0, 0]);
    for (octets, length, expected) in [
        (&short, 46, 41),
        (&short, 41, 41),
        (&short, 40, 40),
        (&jumbo, 90_000, 90_000),
    ] {
        let frame = frame(octets, length);
        let packet = packet(&frame).unwrap();
        assert_eq!(packet.length, expected);
        assert_eq!((packet.source(), packet.destination()), (A, B));
        assert!(!packet.outgoing);
    }
}

#[test]
fn what_is_not_a_whole_ipv6_header_is_no_packet() {
    let whole = Header::A_TO_B.packet(&[]);
    assert!(packet(&frame(&whole, 40)).is_some());
    assert!(packet(&frame(&whole[..39], 39)).is_none());
    assert!(packet(&frame(&[], 0)).is_none());
    let mut four = whole.clone();
    four[0] = 0x45;
    assert!(packet(&frame(&four, 40)).is_none());
}
