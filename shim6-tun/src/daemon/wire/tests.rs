//! Against the real kernel, between namespaces.

use std::fs;
use std::net::UdpSocket;

use super::*;
use crate::lab::{Namespace, isolated};
use crate::sys::testing::{A, B, Header, Joined, wait_until_delivered};

const PAIR: LocatorPair = LocatorPair { local: A, peer: B };

/// How many packets the IP layer of the calling thread's namespace was asked to send.
fn through_ip() -> u64 {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let line = counters.lines().find(|line| line.starts_with("Ip6OutRequests"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap()
}

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

/// The wire of host a, and what keeps its next hops up to date.
fn wire(joined: &Joined) -> (Arc<Wire>, tokio::task::JoinHandle<()>) {
    let sockets = || (WireSender::open(A, 0).unwrap(), LinkSender::open(0).unwrap());
    let (sender, link) = joined.a.run(sockets).unwrap();
    let (wire, wanted) = Wire::new(HashMap::from([(A, sender)]), Some(link));
    let wire = Arc::new(wire);
    let (follower, netlink) = (wire.clone(), joined.netlink_a.clone());
    (
        wire,
        tokio::spawn(async move { follower.follow(&netlink, 0, wanted).await }),
    )
}

/// Sends a packet until its next hop is known.
async fn wait_for_path(wire: &Wire, packet: WirePacket<'_>) {
    let started = StdInstant::now();
    while wire.path(PAIR).is_none() {
        assert!(started.elapsed() < Duration::from_secs(10), "no next hop is found");
        let _ = wire.send_on(PAIR, &[packet], at(1));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn all_but_a_packet_now_and_then_go_below_the_ip_layer() {
    isolated(
        "daemon::wire::tests::all_but_a_packet_now_and_then_go_below_the_ip_layer",
        || async {
            let joined = Joined::new().await;
            let (wire, follower) = wire(&joined);
            let packet = Header::A_TO_B.packet(b"12345678");
            let packets = [WirePacket::from(&packet[..]); 50];
            wait_for_path(&wire, packets[0]).await;
            // No other test is in this namespace, and nothing else sends: what the kernel itself has to say comes seldom.
            let sent = |now: Instant| {
                joined.a.run(|| {
                    let before = through_ip();
                    let outcome = wire.send_on(PAIR, &packets, now).unwrap();
                    (outcome.sent, through_ip() - before)
                })
            };
            let (first, below_all) = sent(at(1_000_000)).unwrap();
            assert_eq!(first, 50);
            assert!(
                (1..10).contains(&below_all),
                "{below_all} of 50 took the way through IP"
            );
            let (again, below_again) = sent(at(1_000_100)).unwrap();
            assert_eq!(again, 50);
            assert!(
                below_again < 5,
                "{below_again} of 50 took the way through IP right after"
            );
            follower.abort();
        },
    );
}

#[test]
fn where_the_ip_layer_lets_nothing_pass_nothing_is_sent_below_it() {
    isolated(
        "daemon::wire::tests::where_the_ip_layer_lets_nothing_pass_nothing_is_sent_below_it",
        || async {
            let joined = Joined::new().await;
            let (wire, follower) = wire(&joined);
            let packet = Header::A_TO_B.packet(b"12345678");
            let packets = [WirePacket::from(&packet[..]); 20];
            wait_for_path(&wire, packets[0]).await;
            // From now on the next hop that is remembered is wrong.
            follower.abort();
            let receiver = joined.b.run(|| UdpSocket::bind((B, 0))).unwrap().unwrap();
            drop(receiver);
            let address = joined.netlink_a.addresses().await.unwrap();
            let address = address.iter().find(|address| address.address == A).unwrap();
            joined
                .netlink_a
                .delete_address(address.index, A, address.prefix_len)
                .await
                .unwrap();
            joined.netlink_a.flush_table(crate::netlink::MAIN_TABLE).await.unwrap();
            let outcome = wire.send_on(PAIR, &packets, at(60_000_000)).unwrap();
            assert_eq!((outcome.sent, outcome.unreachable), (0, 20));
            assert!(wire.path(PAIR).is_none(), "to be looked up again first");
        },
    );
}

#[test]
fn a_next_hop_that_is_gone_is_forgotten_at_the_next_change() {
    isolated(
        "daemon::wire::tests::a_next_hop_that_is_gone_is_forgotten_at_the_next_change",
        || async {
            let joined = Joined::new().await;
            let (wire, follower) = wire(&joined);
            let packet = Header::A_TO_B.packet(b"12345678");
            wait_for_path(&wire, WirePacket::from(&packet[..])).await;
            joined.netlink_a.set_down(joined.index_a).await.unwrap();
            wire.look_up_again();
            let started = StdInstant::now();
            while wire.next_hops.load().contains_key(&PAIR) {
                assert!(started.elapsed() < Duration::from_secs(10), "it is still there");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            follower.abort();
        },
    );
}

#[test]
fn a_packet_that_the_link_takes_no_more_is_too_big_for_it() {
    isolated(
        "daemon::wire::tests::a_packet_that_the_link_takes_no_more_is_too_big_for_it",
        || async {
            let joined = Joined::new().await;
            // Until the link is ready, it has a queueing discipline that drops all.
            let bind =
                |namespace: &Namespace, address| namespace.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
            wait_until_delivered(&bind(&joined.a, A), &bind(&joined.b, B));
            let mut frames = Frames::default();
            let takes = |sender: &Arc<Mutex<XdpSender>>| {
                let packet = Header::A_TO_B.packet(&[0; 1_400]);
                sender.lock().unwrap().takes(&WirePacket::from(&packet[..]))
            };
            // The socket is opened where the interface is. All tests of a user share the memory that may be locked.
            let started = StdInstant::now();
            let open = || joined.a.run(|| XdpSender::open(joined.index_a, [0; 6], 9_000)).unwrap();
            let sender = loop {
                match open() {
                    Err(error)
                        if error.to_string().contains("No buffer space")
                            && started.elapsed() < Duration::from_secs(60) =>
                    {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    opened => break opened.unwrap(),
                }
            };
            let opened = Opened {
                ethernet: Ethernet {
                    address: [0; 6],
                    mtu: 9_000,
                    has_queue: false,
                },
                sender: Some(Arc::new(Mutex::new(sender))),
                asked: StdInstant::now(),
            };
            frames.0.insert(joined.index_a, opened);
            let sender = frames.on(&joined.netlink_a, joined.index_a).await.unwrap();
            assert!(takes(&sender));
            joined.netlink_a.set_mtu(joined.index_a, 1_400).await.unwrap();
            let again = frames.on(&joined.netlink_a, joined.index_a).await.unwrap();
            assert!(Arc::ptr_eq(&sender, &again) && !takes(&sender));
        },
    );
}

#[test]
fn without_a_packet_socket_all_goes_through_the_ip_layer() {
    isolated(
        "daemon::wire::tests::without_a_packet_socket_all_goes_through_the_ip_layer",
        || async {
            let joined = Joined::new().await;
            let sender = joined.a.run(|| WireSender::open(A, 0)).unwrap().unwrap();
            let (wire, mut wanted) = Wire::new(HashMap::from([(A, sender)]), None);
            let packet = Header::A_TO_B.packet(b"12345678");
            let packets = [WirePacket::from(&packet[..]); 20];
            assert_eq!(wire.send_on(PAIR, &packets, at(1)).unwrap().sent, 20);
            assert!(wanted.try_recv().is_err(), "nobody is asked for a next hop");
            let foreign = LocatorPair { local: B, peer: A };
            assert_eq!(wire.send_on(foreign, &packets, at(1)), None, "not one of ours");
        },
    );
}
