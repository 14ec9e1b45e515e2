//! Against the real kernel, where it permits: as root in the initial user namespace. What is made is made in network namespaces of
//! its own, which vanish with the test.

use std::net::UdpSocket;

use tokio::runtime::Runtime;

use super::*;
use crate::sys::testing::{A, B, DEADLINE, Joined, skip_without_bpf, until_done};

fn options(locals: &[Ipv6Addr]) -> CounterOptions<'_> {
    CounterOptions {
        flows: 16,
        locals,
        candidates: 16,
        packets: 4,
        octets: 0,
        small: true,
    }
}

/// Runs the body with two hosts and counters on host a, if the kernel permits that.
fn permitted<F: Future<Output = ()>>(test: &str, body: impl FnOnce(Joined, Counters) -> F) {
    let counters = match Counters::new(options(&[A])) {
        Ok(counters) => counters,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return skip_without_bpf(test, &error);
        }
        Err(error) => panic!("{error}"),
    };
    Runtime::new().unwrap().block_on(async {
        let joined = Joined::new().await;
        let _attachment = joined.a.run(|| counters.attach(joined.index_a)).unwrap().unwrap();
        body(joined, counters).await;
    });
}

fn sockets(joined: &Joined) -> [UdpSocket; 2] {
    [(&joined.a, A, 1111), (&joined.b, B, 2222)].map(|(namespace, address, port)| {
        let socket = namespace.run(|| UdpSocket::bind((address, port))).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    })
}

fn deliver(from: &UdpSocket, to: &UdpSocket, payload: &[u8]) {
    from.send_to(payload, to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 2048];
    assert_eq!(to.recv(&mut buffer).unwrap(), payload.len());
}

async fn event(counters: &mut Counters) -> Event {
    let mut events = Vec::new();
    until_done("an event", counters, |counters| {
        counters.read(&mut |event| events.push(event)).map(|_| true)
    })
    .await;
    assert_eq!(events.len(), 1);
    events[0]
}

#[test]
fn packets_of_a_pair_are_counted_with_their_times_and_who_was_first() {
    permitted("packets_of_a_pair_are_counted", |joined, mut counters| async move {
        let [a, b] = sockets(&joined);
        counters.follow((A, B)).unwrap();
        let slot = counters.followed[&(A, B)];
        assert_eq!(counters.pair(slot), Some((A, B)));
        let before = now();
        deliver(&a, &b, &[0; 1000]);
        assert_eq!(event(&mut counters).await, Event::Active(slot));
        let counts = counters.counts(slot);
        assert_eq!((counts.sent.packets, counts.sent.octets), (1, 1048));
        assert_eq!(counts.received, Count::default());
        assert!(counts.first >= before && counts.first <= now() && counts.first_was_sent);
        assert_eq!(counts.first, counts.sent.last);

        deliver(&a, &b, &[0; 1]);
        let second = counters.counts(slot);
        assert_eq!(second.first, counts.first, "the first one that nothing followed");
        assert!(second.sent.last > counts.sent.last);
        deliver(&b, &a, &[0; 2]);
        let third = counters.counts(slot);
        assert_eq!((third.received.packets, third.received.octets), (1, 50));
        assert!(!third.first_was_sent && third.first > second.sent.last);
        assert_eq!(third.sent, second.sent);
    });
}

#[test]
fn an_event_comes_once_for_each_time_a_pair_is_armed() {
    permitted("an_event_comes_once", |joined, mut counters| async move {
        let [a, b] = sockets(&joined);
        counters.follow((A, B)).unwrap();
        let slot = counters.followed[&(A, B)];
        deliver(&a, &b, b"1");
        deliver(&a, &b, b"2");
        assert_eq!(event(&mut counters).await, Event::Active(slot));
        let known = counters.counts(slot);
        deliver(&a, &b, b"3");
        assert!(counters.arm(slot, &known), "one passed before it was armed");
        assert!(!counters.arm(slot, &counters.counts(slot)));
        deliver(&b, &a, b"4");
        assert_eq!(event(&mut counters).await, Event::Active(slot));
        let counts = counters.counts(slot);
        assert!(!counts.first_was_sent && counts.first == counts.received.last);
    });
}

#[test]
fn a_pair_that_nobody_follows_is_a_candidate_after_traffic_in_both_directions() {
    permitted("a_pair_that_nobody_follows", |joined, mut counters| async move {
        let [a, b] = sockets(&joined);
        for _ in 0..10 {
            deliver(&a, &b, b"one direction");
        }
        assert!(counters.read(&mut |_| {}).is_err());
        deliver(&b, &a, b"the other");
        assert_eq!(event(&mut counters).await, Event::Candidate((A, B)));
        counters.follow((A, B)).unwrap();
        let slot = counters.followed[&(A, B)];
        deliver(&b, &a, b"now it is followed");
        assert_eq!(event(&mut counters).await, Event::Active(slot));
        counters.unfollow((A, B));
        assert_eq!(counters.pair(slot), None);
        counters.follow((A, B)).unwrap();
        assert_ne!(counters.followed[&(A, B)], slot, "a slot rests before it is used again");
    });
}

#[test]
fn shim6_and_neighbor_discovery_are_not_counted() {
    permitted("shim6_is_not_counted", |joined, mut counters| async move {
        use crate::sys::testing::Header;
        use crate::sys::wire_socket::WireSender;

        let [a, b] = sockets(&joined);
        counters.follow((A, B)).unwrap();
        let slot = counters.followed[&(A, B)];
        let sender = joined.a.run(|| WireSender::open(A, 0)).unwrap().unwrap();
        let plain = Header::A_TO_B.packet(&[59, 0, 0x80, 0, 0, 0, 0, 1]);
        let behind = Header {
            next_header: 60,
            ..Header::A_TO_B
        };
        // A destination options header with nothing but padding.
        let behind = behind.packet(&[140, 0, 1, 4, 0, 0, 0, 0, 59, 0, 0x80, 0, 0, 0, 0, 1]);
        let other = Header {
            next_header: 60,
            ..Header::A_TO_B
        };
        let other = other.packet(&[59, 0, 1, 4, 0, 0, 0, 0]);
        let _ = sender.send_batch(&[&plain, &behind]).unwrap();
        // The other host answers that it does not know that protocol.
        assert_eq!(counters.counts(slot).sent, Count::default());
        let _ = sender.send_batch(&[&other]).unwrap();
        deliver(&a, &b, b"1");
        assert_eq!(counters.counts(slot).sent.packets, 2);
    });
}

#[test]
fn the_last_small_tcp_packet_with_data_is_kept_whole() {
    permitted("the_last_small_tcp_packet", |joined, mut counters| async move {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};

        counters.follow((A, B)).unwrap();
        let slot = counters.followed[&(A, B)];
        let listener = joined.b.run(|| TcpListener::bind((B, 80))).unwrap().unwrap();
        let mut client = joined.a.run(|| TcpStream::connect((B, 80))).unwrap().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut packet = Vec::new();
        assert_eq!(counters.last_small(slot, 0, &mut packet), None, "no data yet");
        let mut buffer = [0; 4096];
        let mut send = |payload: &[u8]| {
            client.write_all(payload).unwrap();
            server.read_exact(&mut buffer[..payload.len()]).unwrap();
        };
        send(b"first");
        send(b"the second");
        let (sequence, sent_at) = counters.last_small(slot, 0, &mut packet).unwrap();
        assert!(packet.ends_with(b"the second") && shim6_core::dataplane::HoldBuffer::is_memorable(&packet));
        assert_eq!(packet.len(), 40 + 32 + 10);
        assert!(sent_at <= now());
        assert_eq!(counters.last_small(slot, sequence, &mut packet), None);
        send(&[1; 1000]);
        assert_eq!(counters.last_small(slot, sequence, &mut packet), None, "it is large");
        send(&[2; 184]);
        assert!(counters.last_small(slot, sequence, &mut packet).is_some());
        assert_eq!(packet.len(), 256);
        drop(client);
        assert_eq!(server.read(&mut buffer).unwrap(), 0);
        assert!(counters.last_small(slot, 0, &mut packet).is_some());
        assert_eq!(packet.len(), 72, "the end of the stream");
    });
}

#[test]
fn no_more_pairs_are_followed_than_there_is_room_for() {
    permitted("no_more_pairs", |_joined, mut counters| async move {
        for number in 0..16 {
            let peer = Ipv6Addr::from_bits(B.to_bits() + number);
            counters.follow((A, peer)).unwrap();
        }
        let error = counters.follow((B, A)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    });
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    permitted("an_interface_that_is_not_there", |joined, counters| async move {
        assert!(joined.a.run(|| counters.attach(9_999)).unwrap().is_err());
    });
}
