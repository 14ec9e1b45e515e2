use core::time::Duration;
use std::net::{SocketAddr, UdpSocket as StdSocket};

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::daemon::testing::{LIMIT, PEER, Provider, default_route, fixed, hba, plain, tokio_socket, tun};
use crate::lab::isolated;

const TABLE: u32 = 21_302;
const PRIORITY: u32 = 140;
const MARK: u32 = 0x5336;
const PORT: u16 = 4_000;

async fn install(netlink: &Netlink, tun: u32) -> Steering {
    let installed = Steering::install(netlink, tun, TABLE, PRIORITY, MARK);
    installed.await.unwrap()
}

fn pair(local: Ipv6Addr) -> LocatorPair {
    LocatorPair { local, peer: PEER }
}

/// A connected socket, which looks its route up once. An unspecified `local` is chosen by the
/// kernel.
fn connected(local: Ipv6Addr) -> UdpSocket {
    let socket = StdSocket::bind((local, 0)).unwrap();
    socket.connect((PEER, PORT)).unwrap();
    tokio_socket(socket)
}

async fn arrived(receiver: &UdpSocket) -> String {
    let mut buffer = [0; 64];
    let length = timeout(LIMIT, receiver.recv(&mut buffer)).await;
    let length = length.expect("nothing arrives by the uplink").unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// The payload of the next datagram to the peer in the TUN. The kernel sends other packets, too.
async fn tunnelled(tun: &tun_rs::AsyncDevice) -> String {
    const IPV6_HEADER: usize = 40;
    const UDP_HEADER: usize = 8;
    let receive = async {
        loop {
            let mut buffer = [0; 1600];
            let length = tun.recv(&mut buffer).await.unwrap();
            let packet = &buffer[..length];
            if length > IPV6_HEADER + UDP_HEADER && packet[24..40] == PEER.octets() {
                let payload = &packet[IPV6_HEADER + UDP_HEADER..];
                return String::from_utf8_lossy(payload).into_owned();
            }
        }
    };
    let payload = timeout(LIMIT, receive).await;
    payload.expect("nothing arrives by the TUN")
}

#[test]
fn an_established_socket_moves_into_the_tun_and_back() {
    isolated(
        "daemon::steering::tests::an_established_socket_moves_into_the_tun_and_back",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = hba(uplink.prefix);
            let mut ledger = Ledger::new(&netlink);
            let address = fixed(uplink.index, ours, 64);
            ledger.add_address(&address).await.unwrap();
            add_source_route(&mut ledger, &uplink, ours).await.unwrap();
            let (device, tun) = tun(&netlink).await;
            let mut steering = install(&netlink, tun).await;

            let receiver = provider.receiver(PORT);
            // One that has our route cached, one that has the plain default route: the kernel
            // chooses the address added last.
            for socket in [connected(ours), connected(Ipv6Addr::UNSPECIFIED)] {
                assert_eq!(socket.local_addr().unwrap().ip(), ours);
                socket.send(b"before").await.unwrap();
                assert_eq!(arrived(&receiver).await, "before");

                steering.apply(&[(pair(ours), None)], &[]).await.unwrap();
                socket.send(b"steered").await.unwrap();
                assert_eq!(tunnelled(&device).await, "steered");

                steering.apply(&[], &[pair(ours)]).await.unwrap();
                socket.send(b"after").await.unwrap();
                // Hence "steered" did not come here.
                assert_eq!(arrived(&receiver).await, "after");
            }
        },
    );
}

#[test]
fn only_the_steered_pair_moves_and_never_a_marked_packet() {
    isolated(
        "daemon::steering::tests::only_the_steered_pair_moves_and_never_a_marked_packet",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = hba(uplink.prefix);
            let address = fixed(uplink.index, ours, 64);
            netlink.add_address(&address).await.unwrap();
            let (device, tun) = tun(&netlink).await;
            let mut steering = install(&netlink, tun).await;
            let receiver = provider.receiver(PORT);
            let (steered, other) = (connected(ours), connected(plain(uplink.prefix)));
            let marked = connected(ours);
            let option = nix::sys::socket::sockopt::Mark;
            nix::sys::socket::setsockopt(&marked, option, &MARK).unwrap();

            steering.apply(&[(pair(ours), None)], &[]).await.unwrap();
            steered.send(b"steered").await.unwrap();
            other.send(b"other").await.unwrap();
            assert_eq!(arrived(&receiver).await, "other");
            marked.send(b"marked").await.unwrap();
            assert_eq!(arrived(&receiver).await, "marked");
            assert_eq!(tunnelled(&device).await, "steered");
        },
    );
}

#[test]
fn steering_twice_and_unsteering_a_stranger_change_nothing() {
    isolated(
        "daemon::steering::tests::steering_twice_and_unsteering_a_stranger_change_nothing",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let (_device, tun) = tun(&netlink).await;
            let mut steering = install(&netlink, tun).await;
            netlink.settled().await;
            let (one, two) = (pair(hba(uplink.prefix)), pair(plain(uplink.prefix)));
            steering.apply(&[(one, None)], &[]).await.unwrap();
            let before = netlink.snapshot().await;
            steering.apply(&[(one, None)], &[two]).await.unwrap();
            assert_eq!(netlink.snapshot().await, before);
            steering.apply(&[(two, None)], &[one]).await.unwrap();
            let routes = netlink.routes(TABLE).await.unwrap();
            let sources: Vec<_> = routes.iter().map(|r| r.source).collect();
            assert_eq!(sources, [Some((two.local, 128))]);
        },
    );
}

#[test]
fn socket_learns_the_mtu_of_its_path_each_time_it_changes() {
    isolated(
        "daemon::steering::tests::socket_learns_the_mtu_of_its_path_each_time_it_changes",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = plain(uplink.prefix);
            let (_device, tun) = tun(&netlink).await;
            let mut steering = install(&netlink, tun).await;
            let socket = connected(ours);
            let known = || {
                // It looks its route up again when it sends.
                let _ = socket.try_send(b"now");
                let octets = crate::sys::ancillary::option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, 4).unwrap();
                u32::from_ne_bytes(octets.try_into().unwrap())
            };
            assert_eq!(known(), 1500);
            // Beyond what the device says of itself, too, and below the smallest that IPv6 knows.
            for mtu in [1492, 8992, 1272, 1284] {
                steering.apply(&[(pair(ours), Some(mtu))], &[]).await.unwrap();
                let routes = netlink.route_mtus(TABLE).await.unwrap();
                assert_eq!(routes.iter().map(|(_, mtu)| *mtu).collect::<Vec<_>>(), [Some(mtu)]);
                assert_eq!(known(), mtu);
            }
            steering.apply(&[], &[pair(ours)]).await.unwrap();
            assert_eq!(known(), 1500);
            assert!(steering.undo().await.is_empty());
        },
    );
}

#[test]
fn a_pinned_ulid_receives_after_its_link_went_down() {
    isolated(
        "daemon::steering::tests::a_pinned_ulid_receives_after_its_link_went_down",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = hba(uplink.prefix);
            let address = fixed(uplink.index, ours, 64);
            netlink.add_address(&address).await.unwrap();
            let (device, tun) = tun(&netlink).await;
            let mut steering = install(&netlink, tun).await;
            let socket = connected(ours);

            steering.pin(ours).await.unwrap();
            steering.pin(ours).await.unwrap();
            netlink.set_down(uplink.index).await.unwrap();
            deliver(&device, &socket, b"inbound").await;
            steering.unpin(ours).await.unwrap();
            deliver(&device, &socket, b"pinned once").await;

            steering.unpin(ours).await.unwrap();
            let addresses = netlink.addresses().await.unwrap();
            assert!(!addresses.iter().any(|a| a.address == ours));
            let refused = deliver(&device, &socket, b"refused");
            let refused = timeout(Duration::from_millis(300), refused).await;
            assert!(refused.is_err());
        },
    );
}

/// Sends a datagram in through the TUN until it arrives: the kernel makes even an address without
/// duplicate detection local only after it acknowledged it.
async fn deliver(tun: &tun_rs::AsyncDevice, socket: &UdpSocket, payload: &[u8]) {
    let SocketAddr::V6(to) = socket.local_addr().unwrap() else {
        unreachable!("bound to an IPv6 address");
    };
    let packet = datagram(*to.ip(), to.port(), payload);
    let repeat = async {
        loop {
            tun.send(&packet).await.unwrap();
            let mut buffer = [0; 64];
            let received = timeout(Duration::from_millis(50), socket.recv(&mut buffer)).await;
            if received.is_ok_and(|length| &buffer[..length.unwrap()] == payload) {
                return;
            }
        }
    };
    let arrived = timeout(LIMIT, repeat).await;
    arrived.expect("nothing arrives by the TUN");
}

/// A UDP packet from the peer's socket.
fn datagram(destination: Ipv6Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut udp = [PORT, port, length, 0].map(u16::to_be_bytes).concat();
    udp.extend_from_slice(payload);
    let pseudo_header = [PEER.octets(), destination.octets()].concat();
    let tail = [0, 17].map(u16::to_be_bytes).concat();
    let summed = [&pseudo_header[..], &tail, &length.to_be_bytes(), &udp].concat();
    let words = summed.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    udp[6..8].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());

    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[17, 64]);
    packet.extend_from_slice(&pseudo_header);
    packet.extend_from_slice(&udp);
    packet
}

#[test]
fn undoing_leaves_the_namespace_exactly_as_before() {
    isolated(
        "daemon::steering::tests::undoing_leaves_the_namespace_exactly_as_before",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let (_device, tun) = tun(&netlink).await;
            netlink.settled().await;
            let before = netlink.snapshot().await;
            let mut steering = install(&netlink, tun).await;
            let ours = hba(uplink.prefix);
            steering.pin(ours).await.unwrap();
            steering.apply(&[(pair(ours), None)], &[]).await.unwrap();
            assert_ne!(netlink.snapshot().await, before);
            assert!(steering.undo().await.is_empty());
            assert_eq!(netlink.snapshot().await, before);
        },
    );
}

#[test]
fn undoing_after_the_tun_is_gone_reports_nothing() {
    isolated(
        "daemon::steering::tests::undoing_after_the_tun_is_gone_reports_nothing",
        || async {
            let netlink = Netlink::connect().unwrap();
            let before = netlink.rules().await.unwrap();
            let (device, tun) = tun(&netlink).await;
            let mut steering = install(&netlink, tun).await;
            steering.pin(PEER).await.unwrap();
            drop(device);
            let errors = steering.undo().await;
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(netlink.rules().await.unwrap(), before);
        },
    );
}

#[test]
fn installing_clears_what_a_killed_run_left() {
    isolated(
        "daemon::steering::tests::installing_clears_what_a_killed_run_left",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let (_device, tun) = tun(&netlink).await;
            netlink.settled().await;
            let before = netlink.snapshot().await;
            let mut killed = install(&netlink, tun).await;
            let ours = hba(uplink.prefix);
            killed.apply(&[(pair(ours), None)], &[]).await.unwrap();
            let foreign = RouteSpec {
                table: TABLE,
                ..default_route(uplink.index)
            };
            netlink.add_route(&foreign).await.unwrap();
            drop(killed);

            let mut steering = install(&netlink, tun).await;
            assert_eq!(netlink.routes(TABLE).await.unwrap(), []);
            let rules = netlink.rules().await.unwrap();
            assert_eq!(rules.iter().filter(|r| r.table == TABLE).count(), 1);
            assert!(steering.undo().await.is_empty());
            assert_eq!(netlink.snapshot().await, before);
        },
    );
}

#[test]
fn the_kernels_tables_and_a_zero_mark_are_refused() {
    isolated(
        "daemon::steering::tests::the_kernels_tables_and_a_zero_mark_are_refused",
        || async {
            let netlink = Netlink::connect().unwrap();
            for table in RESERVED_TABLES {
                let refused = Steering::install(&netlink, 1, table, PRIORITY, MARK).await;
                assert!(matches!(refused, Err(SteeringError::ReservedTable(t)) if t == table));
            }
            let refused = Steering::install(&netlink, 1, TABLE, PRIORITY, 0).await;
            assert!(matches!(refused, Err(SteeringError::ZeroMark)));
        },
    );
}
