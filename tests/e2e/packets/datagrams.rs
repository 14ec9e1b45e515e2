//! Datagrams of all sizes and kinds: UDP, ICMPv6 echo, and protocols that nobody knows.

use std::io;
use std::net::{Shutdown, SocketAddrV6};

use shim6_tests::isolated;
use shim6_tun::lab::Topology;
use shim6_tun::sys::ancillary::{option, receive};
use socket2::{Socket, Type};

use super::lab::{Lab, Pair, address_of, octets, set};

/// From `linux/udp.h`.
const UDP_NO_CHECK6_TX: i32 = 101;
const UDP_NO_CHECK6_RX: i32 = 102;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// For experiments (RFC 3692): no kernel knows it.
const UNKNOWN_PROTOCOL: i32 = 253;
/// The most that a UDP datagram over IPv6 carries.
const MAX_UDP: usize = 65_527;
/// Octets of the headers of a UDP datagram.
const UDP_HEADERS: usize = 48;
/// The MTU of all links.
const MTU: usize = 1_500;
const SHIM_HEADER: usize = 8;

/// Lengths around all that may be a boundary, odd ones too.
fn lengths() -> Vec<usize> {
    let edges = [
        0,
        1_232,
        MTU - UDP_HEADERS - SHIM_HEADER,
        MTU - UDP_HEADERS,
        2_896,
        8_192,
        32_768,
    ];
    let around = edges.iter().flat_map(|edge| (edge.saturating_sub(2))..edge + 4);
    around
        .chain([7, 64, 511, 1_000, 20_001, 60_000])
        .chain(MAX_UDP - 9..=MAX_UDP)
        .collect()
}

/// Receives on a socket with room for what is sent at once.
fn receiver(pair: &Pair) -> Socket {
    let socket = pair.to.udp();
    socket.set_recv_buffer_size(4 << 20).expect("a buffer");
    socket
}

fn next(socket: &Socket, pair: &Pair, what: usize) -> Vec<u8> {
    match receive(socket, 0) {
        Ok(received) => received.data,
        Err(error) => panic!("{what} did not arrive {}: {error}", pair.name),
    }
}

#[test]
fn datagrams_of_every_size_arrive_whole() {
    isolated("packets::datagrams::datagrams_of_every_size_arrive_whole", || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        lab.compare("datagrams of unconnected sockets", |pair| {
            let (sender, receiver) = (pair.from.udp(), receiver(pair));
            for length in lengths() {
                let data = octets(length, length);
                sender.send_to(&data, &address_of(&receiver).into()).expect("it leaves");
                let arrived =
                    receive(&receiver, 0).unwrap_or_else(|error| panic!("{length} octets {}: {error}", pair.name));
                assert!(arrived.data == data, "{length} octets {}", pair.name);
                assert_eq!(arrived.source, Some(address_of(&sender)));
            }
        })
        .await;
        lab.compare("datagrams of connected sockets", |pair| {
            let (sender, receiver) = (pair.from.udp(), receiver(pair));
            sender.connect(&address_of(&receiver).into()).expect("a peer");
            receiver.connect(&address_of(&sender).into()).expect("a peer");
            for length in lengths() {
                let data = octets(length, length);
                sender.send(&data).expect("it leaves");
                assert!(next(&receiver, pair, length) == data, "{length} octets {}", pair.name);
                // And back.
                receiver.send(&data).expect("it leaves");
                assert!(
                    next(&sender, pair, length) == data,
                    "{length} octets back, {}",
                    pair.name
                );
            }
        })
        .await;
        lab.end().await;
    });
}

#[test]
fn datagrams_that_must_not_be_fragmented_are_refused_by_their_size() {
    let name = "packets::datagrams::datagrams_that_must_not_be_fragmented_are_refused_by_their_size";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        for (pair, mtu) in [
            (lab.plain(), MTU),
            (lab.pair(), MTU - SHIM_HEADER),
            (lab.pair().reversed("between the ULIDs, from b to a"), MTU - SHIM_HEADER),
        ] {
            lab.blocking(move || {
                let (sender, receiver) = (pair.from.udp(), receiver(&pair));
                sender.connect(&address_of(&receiver).into()).expect("a peer");
                set(&sender, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1);
                let known = option(&sender, libc::IPPROTO_IPV6, libc::IPV6_MTU, 4).expect("an MTU");
                assert_eq!(known, (mtu as i32).to_ne_bytes(), "{}", pair.name);
                let fits = octets(1, mtu - UDP_HEADERS);
                sender.send(&fits).expect("it fits");
                assert!(next(&receiver, &pair, fits.len()) == fits);
                let refused = sender
                    .send(&octets(1, mtu - UDP_HEADERS + 1))
                    .expect_err("it is too long");
                assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{}", pair.name);
            })
            .await;
        }
        lab.end().await;
    });
}

#[test]
fn datagrams_of_a_flow_arrive_once_and_in_order() {
    let name = "packets::datagrams::datagrams_of_a_flow_arrive_once_and_in_order";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        lab.compare("order", |pair| {
            const BURST: usize = 40;
            let (sender, receiver) = (pair.from.udp(), receiver(pair));
            let to = address_of(&receiver).into();
            for burst in 0..100 {
                for number in 0..BURST {
                    // Small and large ones, some of them in fragments.
                    let length = 8 + (burst * 131 + number * 977) % 3_000;
                    let mut data = octets(number, length);
                    data[..8].copy_from_slice(&((burst * BURST + number) as u64).to_be_bytes());
                    sender.send_to(&data, &to).expect("it leaves");
                }
                for number in 0..BURST {
                    let data = next(&receiver, pair, number);
                    let expected = ((burst * BURST + number) as u64).to_be_bytes();
                    assert_eq!(data[..8], expected, "{}", pair.name);
                    assert!(data[8..] == octets(number, data.len())[8..], "{}", pair.name);
                }
            }
        })
        .await;
        lab.end().await;
    });
}

/// Datagrams that leave the socket as one, each of `segment` octets and a shorter one at the end.
fn segmented(pair: &Pair, segment: usize, total: usize, is_coalescing: bool) {
    let (sender, receiver) = (pair.from.udp(), receiver(pair));
    set(&sender, libc::SOL_UDP, UDP_SEGMENT, segment as i32);
    if is_coalescing {
        set(&receiver, libc::SOL_UDP, UDP_GRO, 1);
    }
    let data = octets(segment, total);
    let sent = sender.send_to(&data, &address_of(&receiver).into());
    sent.unwrap_or_else(|error| panic!("{total} octets by {segment} {}: {error}", pair.name));
    let mut arrived = Vec::new();
    while arrived.len() < total {
        let received = receive(&receiver, 0)
            .unwrap_or_else(|error| panic!("{} of {total} octets {}: {error}", arrived.len(), pair.name));
        // With coalescing the kernel says how large the datagrams were, if there are several.
        let size = received
            .integer(libc::SOL_UDP, UDP_GRO)
            .map_or(received.data.len(), |size| size as usize);
        assert!(is_coalescing || received.data.len() <= segment);
        for datagram in received.data.chunks(size.max(1)) {
            assert_eq!(datagram.len(), segment.min(total - arrived.len()), "{}", pair.name);
            arrived.extend_from_slice(datagram);
        }
    }
    assert!(arrived == data, "{total} octets by {segment} {}", pair.name);
}

#[test]
fn datagrams_that_are_segmented_by_the_kernel_arrive_one_by_one() {
    let name = "packets::datagrams::datagrams_that_are_segmented_by_the_kernel_arrive_one_by_one";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        lab.compare("segmented datagrams", |pair| {
            let largest = MTU - SHIM_HEADER - UDP_HEADERS;
            for segment in [1, 33, 500, 1_000, 1_201, largest] {
                for segments in [1, 2, 17, 40] {
                    for rest in [0, 1, segment / 2] {
                        for is_coalescing in [false, true] {
                            let total = segment * segments + rest;
                            segmented(pair, segment, total, is_coalescing);
                        }
                    }
                }
            }
        })
        .await;
        lab.end().await;
    });
}

#[test]
fn datagram_without_a_checksum_is_taken_only_by_who_wants_it() {
    let name = "packets::datagrams::datagram_without_a_checksum_is_taken_only_by_who_wants_it";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        lab.compare("no checksum", |pair| {
            let (sender, strict, lax) = (pair.from.udp(), receiver(pair), receiver(pair));
            set(&lax, libc::SOL_UDP, UDP_NO_CHECK6_RX, 1);
            for is_without in [1, 0] {
                set(&sender, libc::SOL_UDP, UDP_NO_CHECK6_TX, is_without);
                for receiver in [&strict, &lax] {
                    sender
                        .send_to(&[is_without as u8], &address_of(receiver).into())
                        .expect("it leaves");
                }
            }
            assert_eq!(next(&lax, pair, 0), [1]);
            assert_eq!(next(&lax, pair, 1), [0]);
            // The one before it is gone: it would have arrived first.
            assert_eq!(next(&strict, pair, 0), [0]);
        })
        .await;
        // One of each kind of pair, for each direction.
        lab.end_with_wrong_checksums([2, 2]).await;
    });
}

#[test]
fn echo_requests_of_every_size_are_answered() {
    isolated(
        "packets::datagrams::echo_requests_of_every_size_are_answered",
        || async {
            let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
            lab.compare("echo", |pair| {
                let socket = pair.from.socket(Type::RAW, libc::IPPROTO_ICMPV6);
                for (number, length) in lengths().into_iter().enumerate() {
                    let mut request = vec![ECHO_REQUEST, 0, 0, 0];
                    request.extend([0x53, 0x36]);
                    request.extend((number as u16).to_be_bytes());
                    request.extend(octets(length, length));
                    let to = SocketAddrV6::new(pair.to.address, 0, 0, 0);
                    socket.send_to(&request, &to.into()).expect("it leaves");
                    let reply = loop {
                        // Others may be there as well, such as the neighbours' messages.
                        let reply = next(&socket, pair, length);
                        if reply[0] == ECHO_REPLY && reply[4..8] == request[4..8] {
                            break reply;
                        }
                    };
                    assert!(reply[8..] == request[8..], "{length} octets {}", pair.name);
                }
            })
            .await;
            lab.end().await;
        },
    );
}

#[test]
fn packets_of_unknown_protocols_arrive_whole() {
    isolated(
        "packets::datagrams::packets_of_unknown_protocols_arrive_whole",
        || async {
            let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
            lab.compare("protocol 253", |pair| {
                let sender = pair.from.socket(Type::RAW, UNKNOWN_PROTOCOL);
                let receiver = pair.to.socket(Type::RAW, UNKNOWN_PROTOCOL);
                let to = SocketAddrV6::new(pair.to.address, 0, 0, 0);
                for length in lengths().into_iter().chain([MAX_UDP + 8]) {
                    let data = octets(length, length);
                    sender.send_to(&data, &to.into()).expect("it leaves");
                    assert!(next(&receiver, pair, length) == data, "{length} octets {}", pair.name);
                }
            })
            .await;
            lab.end().await;
        },
    );
}

#[test]
fn refused_datagram_is_reported_to_its_socket() {
    isolated(
        "packets::datagrams::refused_datagram_is_reported_to_its_socket",
        || async {
            let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
            lab.compare("port unreachable", |pair| {
                let sender = pair.from.udp();
                let to = {
                    let gone = pair.to.udp();
                    let address = address_of(&gone);
                    let _ = gone.shutdown(Shutdown::Both);
                    address
                };
                sender.connect(&to.into()).expect("a peer");
                sender.send(b"nobody is there").expect("it leaves");
                let refused = receive(&sender, 0).expect_err("nobody answers");
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{}", pair.name);
            })
            .await;
            lab.end().await;
        },
    );
}
