//! The link emulator does what it is told, and nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::failure::cuts_exactly;
use super::traffic::{Mesh, soon, without, without_towards};
use crate::lab::{Direction, Element, Failure, Host, Impairment, LabError, Prefix, Share, Topology, isolated};
use crate::sys::ancillary::{receive, set_option};

/// Longer than this machine takes for a packet, however busy it is.
const LONG: Duration = Duration::from_millis(400);
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn every_path_has_the_round_trip_time_that_is_asked_for() {
    isolated(
        "lab::tests::link::every_path_has_the_round_trip_time_that_is_asked_for",
        || async {
            for rtt in [1, 20, 100].map(Duration::from_millis) {
                let topology = Topology::with_rtt(rtt).await.unwrap();
                Mesh::new(&topology).await;
                for near in 0..2 {
                    for far in 0..2 {
                        let [a, b] = pair(&topology, near, far);
                        let trips: Vec<_> = (0..5).map(|_| there(&a, &b) + there(&b, &a)).collect();
                        assert!(trips.iter().all(|&trip| trip >= rtt), "{rtt:?}: {trips:?}");
                        let best = trips.iter().min().unwrap();
                        assert!(*best < rtt + LONG, "{rtt:?}: {trips:?}");
                    }
                }
            }
        },
    );
}

#[test]
fn each_direction_is_delayed_by_itself_and_only_from_then_on() {
    isolated(
        "lab::tests::link::each_direction_is_delayed_by_itself_and_only_from_then_on",
        || async {
            let topology = Topology::emulated().await.unwrap();
            Mesh::new(&topology).await;
            let [a, b] = pair(&topology, 0, 0);
            let link = topology.link(&topology.a, 0).unwrap();
            assert!(there(&a, &b) < LONG && there(&b, &a) < LONG);
            link.impair(Direction::Up, Impairment::delay(LONG));
            assert_eq!(link.impairment(Direction::Up).delay, LONG);
            assert!(there(&a, &b) >= LONG && there(&b, &a) < LONG);
            link.impair(Direction::Up, Impairment::default());
            link.impair(Direction::Down, Impairment::delay(LONG));
            assert!(there(&a, &b) < LONG && there(&b, &a) >= LONG);
            let [second_a, second_b] = pair(&topology, 1, 1);
            assert!(there(&second_b, &second_a) < LONG);
            let counted = link.counters(Direction::Up);
            assert_eq!((counted.passed >= 3, counted.dropped), (true, 0));
        },
    );
}

#[test]
fn packets_keep_their_order_and_none_is_lost() {
    isolated(
        "lab::tests::link::packets_keep_their_order_and_none_is_lost",
        || async {
            let topology = Topology::with_rtt(Duration::from_millis(20)).await.unwrap();
            Mesh::new(&topology).await;
            let [a, b] = pair(&topology, 0, 0);
            let destination = b.local_addr().unwrap();
            for round in 0..10_u8 {
                for number in 0..20 {
                    a.send_to(&[round, number], destination).unwrap();
                }
                for number in 0..20 {
                    let mut buffer = [0; 2];
                    b.recv(&mut buffer).unwrap();
                    assert_eq!(buffer, [round, number]);
                }
            }
        },
    );
}

#[test]
fn failures_cut_and_heal_emulated_paths() {
    isolated("lab::tests::link::failures_cut_and_heal_emulated_paths", || async {
        let topology = async || Topology::with_rtt(Duration::from_millis(5)).await.unwrap();
        cuts_exactly(&topology().await, Failure::Blackhole, without).await;
        cuts_exactly(&topology().await, Failure::OneWay, without_towards).await;
        cuts_exactly(&topology().await, Failure::LinkDown, without).await;
    });
}

#[test]
fn what_stands_in_the_way_can_change_while_packets_pass() {
    isolated(
        "lab::tests::link::what_stands_in_the_way_can_change_while_packets_pass",
        || async {
            let topology = Topology::emulated_from(7, &[]).await.unwrap();
            Mesh::new(&topology).await;
            let [a, b] = pair(&topology, 0, 0);
            let link = topology.link(&topology.a, 0).unwrap();
            let filtered = || link.counters(Direction::Up).filtered;
            let send = || a.send_to(b"x", b.local_addr().unwrap()).unwrap();
            send();
            b.recv(&mut [0]).unwrap();
            assert_eq!(filtered(), 0);

            let elsewhere = Prefix::of(topology.a.uplinks[1].prefix, 64);
            link.put(&[Element::IngressFilter(vec![elsewhere])]);
            send();
            let deadline = Instant::now() + LIMIT;
            while filtered() == 0 {
                assert!(Instant::now() < deadline, "it passed");
                std::thread::yield_now();
            }

            link.put(&[]);
            send();
            b.recv(&mut [0]).unwrap();
            b.set_nonblocking(true).unwrap();
            assert!(b.recv(&mut [0]).is_err(), "what was filtered came later");
        },
    );
}

#[test]
fn packets_are_lost_and_marked_as_told() {
    isolated("lab::tests::link::packets_are_lost_and_marked_as_told", || async {
        let topology = Topology::emulated().await.unwrap();
        Mesh::new(&topology).await;
        let [a, b] = pair(&topology, 0, 0);
        let link = topology.link(&topology.a, 0).unwrap();
        let before = link.counters(Direction::Up);
        link.impair(Direction::Up, Impairment::default().losing(Share::percent(25)));
        for _ in 0..200 {
            a.send_to(b"x", b.local_addr().unwrap()).unwrap();
        }
        let counted = || link.counters(Direction::Up);
        while counted().passed + counted().dropped < before.passed + before.dropped + 200 {
            std::thread::yield_now();
        }
        let lost = counted().lost - before.lost;
        assert!((25..=80).contains(&lost), "{:?}", counted());
        link.impair(Direction::Up, Impairment::default().congested());
        // Neighbours may have had something to say, and lost that.
        b.set_read_timeout(Some(LONG)).unwrap();
        while b.recv(&mut [0]).is_ok() {}
        b.set_read_timeout(Some(LIMIT)).unwrap();

        let level = libc::IPPROTO_IPV6;
        set_option(&b, level, libc::IPV6_RECVTCLASS, &1_i32.to_ne_bytes()).unwrap();
        for (sent, arrives) in [(0_i32, 0), (1, 3), (2, 3), (3, 3), (0xb8, 0xb8), (0xba, 0xbb)] {
            set_option(&a, level, libc::IPV6_TCLASS, &sent.to_ne_bytes()).unwrap();
            a.send_to(b"x", b.local_addr().unwrap()).unwrap();
            let arrived = receive(&b, 0).unwrap();
            assert_eq!(arrived.integer(level, libc::IPV6_TCLASS), Some(arrives));
        }
    });
}

#[test]
fn links_go_with_their_topology() {
    isolated("lab::tests::link::links_go_with_their_topology", || async {
        let topology = Topology::emulated().await.unwrap();
        let core = topology.core().clone();
        let mut monitor = core.monitor().unwrap();
        let names = async || {
            let links = core.netlink().unwrap().links().await.unwrap();
            links.into_iter().map(|link| link.name).collect::<Vec<_>>()
        };
        assert_eq!(names().await, ["lo", "isp-a1", "isp-a2", "isp-b1", "isp-b2"]);
        drop(topology);
        while names().await != ["lo"] {
            soon(monitor.next()).await;
        }
    });
}

#[test]
fn plain_links_cannot_be_impaired() {
    isolated("lab::tests::link::plain_links_cannot_be_impaired", || async {
        let topology = Topology::two_by_two().await.unwrap();
        let error = topology.link(&topology.a, 0).unwrap_err();
        assert!(matches!(error, LabError::NotEmulated), "{error}");
        let error = topology.link(&topology.b, 2).unwrap_err();
        assert!(matches!(error, LabError::NoSuchUplink { uplink: 2, .. }), "{error}");
    });
}

/// A socket on an uplink of host a and one on an uplink of host b.
fn pair(topology: &Topology, near: usize, far: usize) -> [UdpSocket; 2] {
    let bind = |host: &Host, uplink: usize| {
        let address = SocketAddr::from((host.uplinks[uplink].address, 0));
        let socket = host.namespace.run(|| UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    };
    [bind(&topology.a, near), bind(&topology.b, far)]
}

/// How long a datagram takes.
fn there(from: &UdpSocket, to: &UdpSocket) -> Duration {
    let started = Instant::now();
    from.send_to(b"x", to.local_addr().unwrap()).unwrap();
    to.recv(&mut [0]).unwrap();
    started.elapsed()
}
