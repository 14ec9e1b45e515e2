//! Sending below the IP layer.

use super::*;
use crate::netlink::Netlink;

/// `eth0` of host b as host a's next hop, found as the daemon finds it.
async fn next_hop(joined: &Joined) -> NextHop {
    let found = joined.netlink_a.next_hop(A, B, 0).await.unwrap();
    let next_hop = found.expect("the neighbour is known: packets have passed");
    assert_eq!(next_hop.interface, joined.index_a);
    next_hop
}

fn numbered(count: u32, octets: usize) -> Vec<Vec<u8>> {
    let message = |number: u32| [&number.to_be_bytes()[..], &vec![number as u8; octets]].concat();
    (0..count)
        .map(|number| Header::A_TO_B.packet(&message(number)))
        .collect()
}

/// Each cut in two somewhere behind the IPv6 header.
fn parts(packets: &[Vec<u8>]) -> Vec<WirePacket<'_>> {
    let packets = packets.iter().enumerate().map(|(number, packet)| {
        let (head, body) = packet.split_at(40 + number % (packet.len() - 39));
        WirePacket { head, body }
    });
    packets.collect()
}

fn messages_of(packets: &[Vec<u8>]) -> Vec<&[u8]> {
    packets.iter().map(|packet| &packet[40..]).collect()
}

async fn frames(joined: &Joined, netlink: &Netlink) -> XdpSender {
    let ethernet = netlink.ethernet(joined.index_a).await.unwrap().unwrap();
    assert_eq!((ethernet.mtu, ethernet.has_queue), (1_500, false));
    let open = || XdpSender::open(joined.index_a, ethernet.address, ethernet.mtu);
    joined.a.run(open).unwrap().unwrap()
}

#[test]
fn a_packet_socket_reaches_the_next_hop() {
    isolated(
        "sys::wire_socket::tests::below_ip::a_packet_socket_reaches_the_next_hop",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let sender = joined.a.run(|| LinkSender::open(7)).unwrap().unwrap();
            let packets = numbered(300, 100);
            let next_hop = next_hop(&joined).await;
            assert_eq!(sender.send_parts(next_hop, &parts(&packets)).unwrap(), sent(300));
            assert_eq!(messages(&mut receiver, 300).await, messages_of(&packets));

            let long = numbered(1, 1_500);
            let outcome = sender.send_parts(next_hop, &parts(&long)).unwrap();
            assert_eq!((outcome.sent, outcome.too_big), (0, 1));
            joined.netlink_a.set_down(joined.index_a).await.unwrap();
            let outcome = sender.send_parts(next_hop, &parts(&packets[..3])).unwrap();
            assert_eq!((outcome.sent, outcome.unreachable), (0, 3));
        },
    );
}

#[test]
fn a_frame_socket_reaches_the_next_hop_and_gets_its_places_back() {
    isolated(
        "sys::wire_socket::tests::below_ip::a_frame_socket_reaches_the_next_hop_and_gets_its_places_back",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let mut sender = frames(&joined, &joined.netlink_a).await;
            let next_hop = next_hop(&joined).await;
            // Three times as many as there are places.
            for round in 0..30 {
                let packets = numbered(100, 10 + 40 * round);
                assert_eq!(
                    sender.send_parts(next_hop, &parts(&packets)),
                    sent(100),
                    "round {round}"
                );
                assert_eq!(messages(&mut receiver, 100).await, messages_of(&packets));
            }
        },
    );
}

#[test]
fn a_frame_socket_takes_what_fits_the_link() {
    isolated(
        "sys::wire_socket::tests::below_ip::a_frame_socket_takes_what_fits_the_link",
        || async {
            let joined = Joined::new().await;
            let mut receiver = receiver(&joined.b);
            let mut sender = frames(&joined, &joined.netlink_a).await;
            let next_hop = next_hop(&joined).await;
            // Header and number are 44 octets.
            let packets = [numbered(2, 1_456), numbered(1, 1_457), numbered(1, 10)].concat();
            let parts = parts(&packets);
            let taken: Vec<_> = parts.iter().map(|packet| sender.takes(packet)).collect();
            assert_eq!(taken, [true, true, false, true]);
            assert_eq!(
                sender.send_parts(next_hop, &parts),
                sent(2),
                "up to the one that it does not take"
            );
            assert_eq!(messages(&mut receiver, 2).await, messages_of(&packets[..2]));

            joined.netlink_a.set_down(joined.index_a).await.unwrap();
            let outcome = sender.send_parts(next_hop, &parts[..2]);
            assert_eq!((outcome.sent, outcome.unreachable), (0, 2));
        },
    );
}

#[test]
fn there_is_one_frame_socket_for_an_interface() {
    isolated(
        "sys::wire_socket::tests::below_ip::there_is_one_frame_socket_for_an_interface",
        || async {
            let joined = Joined::new().await;
            let first = frames(&joined, &joined.netlink_a).await;
            let open = || XdpSender::open(joined.index_a, [0; 6], 1_500);
            let error = joined.a.run(open).unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
            assert!(error.to_string().contains("AF_XDP"), "{error}");
            // The kernel lets go of the interface a little later.
            drop(first);
            let started = std::time::Instant::now();
            while let Err(error) = joined.a.run(open).unwrap() {
                assert!(started.elapsed().as_secs() < 10, "{error}");
                tokio::task::yield_now().await;
            }
        },
    );
}

#[test]
fn what_leads_nowhere_or_to_nobody_known_has_no_next_hop() {
    isolated(
        "sys::wire_socket::tests::below_ip::what_leads_nowhere_or_to_nobody_known_has_no_next_hop",
        || async {
            let joined = Joined::new().await;
            let netlink = &joined.netlink_a;
            assert!(netlink.next_hop(A, B, 0).await.unwrap().is_some());
            assert_eq!(netlink.next_hop(A, ELSEWHERE, 0).await.unwrap(), None, "no route");
            let unknown = Ipv6Addr::from_bits(B.to_bits() + 1);
            assert_eq!(netlink.next_hop(A, unknown, 0).await.unwrap(), None, "no neighbour");
            assert_eq!(netlink.next_hop(A, A, 0).await.unwrap(), None, "the host itself");
            netlink.delete_neighbour(joined.index_a, B).await.unwrap();
            assert_eq!(netlink.next_hop(A, B, 0).await.unwrap(), None, "forgotten");
        },
    );
}
