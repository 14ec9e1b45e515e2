//! Against the real kernel, between namespaces.

use std::io::{self, Read};
use std::net::{Ipv6Addr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::*;
use crate::lab::{Namespace, isolated};
use crate::netlink::{MAIN_TABLE, RouteKind, RouteSpec, RuleSpec};
use crate::sys::SHIM6_NEXT_HEADER;
use crate::sys::testing::{A, B, Header, Joined, address_spec, until_done, wait_until_delivered};

mod below_ip;

const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

fn receiver(namespace: &Namespace) -> WireReceiver {
    namespace.run(WireReceiver::open).unwrap().unwrap()
}

fn sender(namespace: &Namespace, local: Ipv6Addr, fwmark: u32) -> WireSender {
    namespace.run(|| WireSender::open(local, fwmark)).unwrap().unwrap()
}

fn sent(count: usize) -> SendOutcome {
    SendOutcome {
        sent: count,
        ..SendOutcome::default()
    }
}

/// Receives exactly `count` messages.
async fn messages(receiver: &mut WireReceiver, count: usize) -> Vec<Vec<u8>> {
    let mut batch = RecvBatch::new(MAX_BATCH);
    let mut found = Vec::new();
    until_done("messages", receiver, |receiver| {
        receiver.recv_batch(&mut batch)?;
        found.extend(batch.packets_mut().map(|packet| packet.message().to_vec()));
        Ok(found.len() >= count)
    })
    .await;
    assert_eq!(found.len(), count);
    found
}

#[test]
fn a_message_arrives_with_all_fields_as_sent() {
    isolated(
        "sys::wire_socket::tests::a_message_arrives_with_all_fields_as_sent",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let sender = sender(&joined.a, A, 0);
            assert_eq!(sender.local(), A);
            let plain = Header::A_TO_B;
            // The second packet's traffic class and flow label are zero: the kernel leaves them
            // out.
            for header in [
                Header {
                    hop_limit: 37,
                    traffic_class: 0xb9,
                    flow_label: 0xa_bcde,
                    ..plain
                },
                plain,
            ] {
                let message: Vec<u8> = (0..=255).collect();
                let sent_packet = header.packet(&message);
                assert_eq!(sender.send_batch(&[&sent_packet]).unwrap(), sent(1));

                let mut batch = RecvBatch::new(8);
                until_done("the message", &mut receiver, |receiver| {
                    Ok(receiver.recv_batch(&mut batch)? == 1)
                })
                .await;
                let mut packet = batch.packets_mut().next().unwrap();
                assert_eq!((packet.source, packet.destination), (A, B));
                assert_eq!(packet.interface, joined.index_b);
                assert_eq!(packet.hop_limit, header.hop_limit);
                assert_eq!(packet.traffic_class, header.traffic_class);
                assert_eq!(packet.flow_label, header.flow_label);
                assert_eq!(packet.message(), message);
                let (buffer, offset) = packet.with_headroom();
                assert!(offset >= 64 && buffer[offset..] == message);
                let (buffer, start) = packet.into_packet();
                assert_eq!(buffer[start..], sent_packet);
                assert_eq!(batch.errors(), RecvErrors::default());
            }
        },
    );
}

#[test]
fn extension_headers_that_routers_look_at_are_in_the_packet_again() {
    isolated(
        "sys::wire_socket::tests::extension_headers_that_routers_look_at_are_in_the_packet_again",
        || async {
            let joined = Joined::new().await;
            let mut receiver = joined.b.run(WireReceiver::open).unwrap().unwrap();
            let sender = sender(&joined.a, A, 0);
            // Hop-by-hop options of 8 and of 1024 octets with padding, an experimental option (RFC 4727) among it.
            for words in [0_u8, 127] {
                let mut options = vec![SHIM6_NEXT_HEADER, words, 0x1e, 4, 1, 2, 3, 4];
                while options.len() < 8 * (usize::from(words) + 1) {
                    let rest = (8 * (usize::from(words) + 1) - options.len()).min(208);
                    options.extend([&[0x1e, rest as u8 - 2][..], &vec![7; rest - 2]].concat());
                }
                let message = [59, 0, 0, 0, 0, 0, 0, 0];
                let header = Header {
                    next_header: 0,
                    ..Header::A_TO_B
                };
                let packet = header.packet(&[&options[..], &message].concat());
                let mut batch = RecvBatch::new(8);
                assert_eq!(sender.send_batch(&[&packet]).unwrap(), sent(1));
                until_done("the message", &mut receiver, |receiver| {
                    Ok(receiver.recv_batch(&mut batch)? == 1)
                })
                .await;
                let received = batch.packets_mut().next().unwrap();
                assert_eq!(received.message(), message);
                let (buffer, start) = received.into_packet();
                assert_eq!(buffer[start..], packet);
                // And nothing of it in the next one.
                let packet = Header::A_TO_B.packet(&message);
                assert_eq!(sender.send_batch(&[&packet]).unwrap(), sent(1));
                until_done("the message", &mut receiver, |receiver| {
                    Ok(receiver.recv_batch(&mut batch)? == 1)
                })
                .await;
                let (buffer, start) = batch.packets_mut().next().unwrap().into_packet();
                assert_eq!(buffer[start..], packet);
            }
        },
    );
}

#[test]
fn the_kernel_does_not_answer_while_a_receiver_is_open() {
    isolated(
        "sys::wire_socket::tests::the_kernel_does_not_answer_while_a_receiver_is_open",
        || async {
            let joined = Joined::new().await;
            let sender = sender(&joined.a, A, 0);
            let send = |next_header| {
                let packet = Header {
                    next_header,
                    ..Header::A_TO_B
                }
                .packet(&[59, 0, 0, 0, 0, 0, 0, 0]);
                assert_eq!(sender.send_batch(&[&packet]).unwrap(), sent(1));
            };
            let open = || {
                let icmp = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
                icmp.set_nonblocking(true)?;
                io::Result::Ok(icmp)
            };
            let mut icmp = joined.a.run(open).unwrap().unwrap();

            send(140);
            assert_eq!(next_rejected(&mut icmp).await, 140);
            let mut receiver = receiver(&joined.b);
            // 141 is nobody's: when it is rejected, what came before it has been dealt with.
            send(140);
            send(141);
            assert_eq!(next_rejected(&mut icmp).await, 141);
            assert_eq!(messages(&mut receiver, 1).await.len(), 1);
        },
    );
}

#[test]
fn icmp_errors_arrive_as_whole_packets_and_nothing_else_does() {
    isolated(
        "sys::wire_socket::tests::icmp_errors_arrive_as_whole_packets_and_nothing_else_does",
        || async {
            let joined = Joined::new().await;
            let open = || WireReceiver::open_icmp_errors();
            let mut receiver = joined.b.run(open).unwrap().unwrap();
            let sender = sender(&joined.a, A, 0);
            let header = Header {
                next_header: 58,
                hop_limit: 61,
                flow_label: 0x1_2345,
                ..Header::A_TO_B
            };
            // What B would have sent.
            let quoted = Header {
                source: B,
                destination: A,
                ..Header::A_TO_B
            };
            let packet = |icmp_type: u8| {
                let mut message = vec![icmp_type, 0, 0, 0, 0, 0, 5, 0];
                message.extend(quoted.packet(&[6, 0, 0x80, 0, 0, 0, 0, 1]));
                let pseudo_header = [
                    &A.octets()[..],
                    &B.octets(),
                    &[0, 0, 0, message.len() as u8, 0, 0, 0, 58],
                ];
                let sum = shim6_core::wire::checksum(&[&pseudo_header.concat(), &message[..]].concat());
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                header.packet(&message)
            };
            // Of the types before the last one, all the errors of RFC 4443; echo request and reply, Neighbor Discovery and
            // what has no meaning are no errors.
            let types = [0, 1, 128, 2, 129, 5, 3, 135, 100, 4];
            let packets = types.map(packet);
            let mut damaged = packet(1);
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(sender.send_batch(&[&damaged]).unwrap(), sent(1));
            for packet in &packets {
                assert_eq!(sender.send_batch(&[packet]).unwrap(), sent(1));
            }
            let mut batch = RecvBatch::new(8);
            let mut found = Vec::new();
            until_done("the errors", &mut receiver, |receiver| {
                receiver.recv_batch(&mut batch)?;
                for packet in batch.packets_mut() {
                    let (buffer, start) = packet.into_packet();
                    found.push(buffer[start..].to_vec());
                }
                Ok(found.len() >= 4)
            })
            .await;
            assert_eq!(found, [1, 2, 3, 4].map(packet));
        },
    );
}

/// Waits for an ICMPv6 "unrecognized Next Header" and returns the value that it is about.
async fn next_rejected(icmp: &mut Socket) -> u8 {
    let mut rejected = None;
    until_done("an ICMPv6 error", icmp, |icmp| {
        let mut message = [0; 1500];
        let length = icmp.read(&mut message)?;
        // Parameter Problem, code 1; the packet in error follows the 8 octets of its header.
        rejected = (length > 8 + 40 && message[..2] == [4, 1]).then(|| message[8 + 6]);
        Ok(rejected.is_some())
    })
    .await;
    rejected.unwrap()
}

#[test]
fn packets_that_cannot_be_sent_do_not_stop_the_others() {
    isolated(
        "sys::wire_socket::tests::packets_that_cannot_be_sent_do_not_stop_the_others",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let sender = sender(&joined.a, A, 0);
            let to_b = Header::A_TO_B;
            let first = to_b.packet(b"first message");
            let unroutable = Header {
                destination: ELSEWHERE,
                ..to_b
            }
            .packet(b"no route");
            let second = to_b.packet(b"second message");
            let too_big = to_b.packet(&[0; 3000]);
            let multicast = Header {
                destination: "ff02::1".parse().unwrap(),
                ..to_b
            }
            .packet(b"multicast");
            let foreign = Header {
                source: ELSEWHERE,
                ..to_b
            }
            .packet(b"another source");
            let mut wrong_version = first.clone();
            wrong_version[0] = 0x45;
            let truncated = &first[..first.len() - 1];
            let third = to_b.packet(b"third message");

            let batch: [&[u8]; 10] = [
                &first,
                &unroutable,
                &second,
                &too_big,
                &multicast,
                &foreign,
                &wrong_version,
                truncated,
                &[],
                &third,
            ];
            let expected = SendOutcome {
                unreachable: 1,
                too_big: 1,
                invalid: 5,
                ..sent(3)
            };
            assert_eq!(sender.send_batch(&batch).unwrap(), expected);
            let expected: [&[u8]; 3] = [b"first message", b"second message", b"third message"];
            assert_eq!(messages(&mut receiver, 3).await, expected);

            // The last one of a batch, and none at all.
            let expected = SendOutcome {
                unreachable: 1,
                ..sent(1)
            };
            assert_eq!(sender.send_batch(&[&first, &unroutable]).unwrap(), expected);
            assert_eq!(sender.send_batch(&[]).unwrap(), sent(0));
        },
    );
}

#[test]
fn long_batches_arrive_whole_and_in_order() {
    isolated(
        "sys::wire_socket::tests::long_batches_arrive_whole_and_in_order",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let packets: Vec<Vec<u8>> = (0_u32..150).map(|n| Header::A_TO_B.packet(&n.to_be_bytes())).collect();
            let batch: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            assert_eq!(sender(&joined.a, A, 0).send_batch(&batch).unwrap(), sent(150));
            let found = messages(&mut receiver, 150).await;
            assert!(
                found
                    .iter()
                    .zip(0_u32..)
                    .all(|(message, n)| *message == n.to_be_bytes())
            );
        },
    );
}

#[test]
fn truncated_messages_are_counted_and_left_out() {
    isolated(
        "sys::wire_socket::tests::truncated_messages_are_counted_and_left_out",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let to_b = Header::A_TO_B;
            let (fits, too_long) = (to_b.packet(&[1; 32]), to_b.packet(&[2; 400]));
            let outcome = sender(&joined.a, A, 0)
                .send_batch(&[&too_long, &fits, &too_long])
                .unwrap();
            assert_eq!(outcome, sent(3));

            let mut batch = RecvBatch::with_message_octets(4, 32);
            let mut found = Vec::new();
            until_done("the short message", &mut receiver, |receiver| {
                receiver.recv_batch(&mut batch)?;
                found.extend(batch.packets_mut().map(|packet| packet.message().to_vec()));
                Ok(!found.is_empty() && batch.errors().truncated == 2)
            })
            .await;
            assert_eq!(found, [[1; 32]]);
            assert_eq!(
                batch.errors(),
                RecvErrors {
                    truncated: 2,
                    control_lost: 0
                }
            );
        },
    );
}

#[test]
fn overflow_of_the_receive_buffer_is_counted() {
    isolated(
        "sys::wire_socket::tests::overflow_of_the_receive_buffer_is_counted",
        || async {
            let joined = Joined::new().await;
            let receiver = joined.b.run(WireReceiver::open).unwrap().unwrap();
            let sender = sender(&joined.a, A, 0);
            assert_eq!(receiver.overflows().unwrap(), 0);
            let packet = Header::A_TO_B.packet(&[0; 1400]);
            let batch = [packet.as_slice(); MAX_BATCH];
            let batches = (0..1000).take_while(|_| {
                assert_eq!(sender.send_batch(&batch).unwrap(), sent(MAX_BATCH));
                receiver.overflows().unwrap() == 0
            });
            assert!(batches.count() < 1000, "64,000 packets fit into the receive buffer");
        },
    );
}

#[test]
fn a_source_specific_route_and_a_mark_choose_the_way_out() {
    isolated(
        "sys::wire_socket::tests::a_source_specific_route_and_a_mark_choose_the_way_out",
        || async {
            let joined = Joined::new().await;
            let (netlink_a, netlink_b) = (&joined.netlink_a, &joined.netlink_b);
            netlink_b
                .add_address(&address_spec(joined.index_b, ELSEWHERE, 128))
                .await
                .unwrap();
            let bind = || UdpSocket::bind((ELSEWHERE, 0));
            let itself = joined.b.run(bind).unwrap().unwrap();
            wait_until_delivered(&itself, &itself);
            let (unassigned, marked): (Ipv6Addr, Ipv6Addr) =
                ("2001:db8:1::c".parse().unwrap(), "2001:db8:2::1".parse().unwrap());
            let route = |source, table| RouteSpec {
                destination: (ELSEWHERE, 128),
                source,
                gateway: Some(B),
                output: Some(joined.index_a),
                table,
                metric: None,
                kind: RouteKind::Unicast,
            };
            netlink_a.add_route(&route(Some((A, 64)), MAIN_TABLE)).await.unwrap();
            netlink_a.add_route(&route(None, 100)).await.unwrap();
            let rule = RuleSpec {
                priority: 100,
                table: 100,
                fwmark: Some(7),
                invert: false,
                flow: None,
            };
            netlink_a.add_rule(&rule).await.unwrap();

            let mut receiver = receiver(&joined.b);
            let unreachable = SendOutcome {
                unreachable: 1,
                ..SendOutcome::default()
            };
            for (source, fwmark, expected) in [
                (A, 0, sent(1)),
                (unassigned, 0, sent(1)),
                (marked, 0, unreachable),
                (marked, 8, unreachable),
                (marked, 7, sent(1)),
            ] {
                let packet = Header {
                    source,
                    destination: ELSEWHERE,
                    ..Header::A_TO_B
                }
                .packet(&source.octets());
                let outcome = sender(&joined.a, source, fwmark).send_batch(&[&packet]).unwrap();
                assert_eq!(outcome, expected, "from {source} with mark {fwmark}");
            }
            let expected = [A, unassigned, marked].map(|address| address.octets());
            assert_eq!(messages(&mut receiver, 3).await, expected);
        },
    );
}

#[test]
fn an_interface_that_is_down_is_unreachable() {
    isolated(
        "sys::wire_socket::tests::an_interface_that_is_down_is_unreachable",
        || async {
            let joined = Joined::new().await;
            joined.netlink_a.set_down(joined.index_a).await.unwrap();
            let packet = Header::A_TO_B.packet(b"message");
            let outcome = sender(&joined.a, A, 0).send_batch(&[packet.as_slice(); 2]).unwrap();
            assert_eq!(
                outcome,
                SendOutcome {
                    unreachable: 2,
                    ..SendOutcome::default()
                }
            );
        },
    );
}

#[test]
fn a_sender_refuses_a_source_that_is_not_unicast() {
    for address in ["::", "ff02::1"] {
        let error = WireSender::open(address.parse().unwrap(), 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(address), "{error}");
    }
}
