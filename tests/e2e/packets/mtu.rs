//! Paths with other MTUs than the one that was left: sockets learn what fits, and what they send arrives.

use std::time::{Duration, Instant};

use shim6_tests::isolated;
use shim6_tun::lab::{Host, Namespace, Topology};
use shim6_tun::sys::ancillary::{option, receive};
use socket2::Socket;

use super::lab::{LIMIT, Lab, Pair, address_of, octets, set};
use super::streams::{connected, exchange};

/// From `linux/in6.h`.
const IPV6_RECVERR: i32 = 25;
const ICMPV6_ORIGIN: u8 = 3;
const PACKET_TOO_BIG: u8 = 2;
/// Where `struct sock_extended_err` has the origin, the type and the MTU.
const ORIGIN: usize = 4;
const TYPE: usize = 5;
const INFO: usize = 8;

const SHIM_HEADER: i32 = 8;
const UDP_HEADERS: usize = 48;
/// The MTU of all other links.
const USUAL: i32 = 1_500;

async fn set_mtu(namespace: &Namespace, interface: &str, mtu: i32) {
    let netlink = namespace.netlink().expect("a connection");
    let link = netlink.link(interface).await.expect("an interface");
    netlink.set_mtu(link.index, mtu.unsigned_abs()).await.expect("an MTU");
}

/// Gives both ends of the link between a host and its second ISP this MTU.
async fn set_access(topology: &Topology, host: &Host, mtu: i32) {
    set_mtu(&host.namespace, &host.uplinks[1].interface, mtu).await;
    set_mtu(topology.isp(host, 1).expect("an ISP"), "access", mtu).await;
}

/// Gives all links of both second uplinks this MTU.
async fn set_path(topology: &Topology, mtu: i32) {
    for host in [&topology.a, &topology.b] {
        set_access(topology, host, mtu).await;
        set_mtu(topology.isp(host, 1).expect("an ISP"), "core", mtu).await;
        set_mtu(topology.core(), &format!("isp-{}2", host.name), mtu).await;
    }
}

fn known(socket: &Socket) -> i32 {
    let octets = option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, 4).expect("an MTU");
    i32::from_ne_bytes(octets.try_into().expect("four octets"))
}

/// Sockets that are connected to each other, the first of which does not fragment.
fn strict(pair: &Pair) -> [Socket; 2] {
    let (sender, receiver) = (pair.from.udp(), pair.to.udp());
    sender.connect(&address_of(&receiver).into()).expect("a peer");
    set(&sender, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1);
    [sender, receiver]
}

/// The sender knows at once what fits: it arrives, and nothing larger leaves.
fn assert_known(pair: &Pair, mtu: i32) {
    let [sender, receiver] = strict(pair);
    assert_eq!(known(&sender), mtu, "{}", pair.name);
    assert_largest(pair, &[sender, receiver], mtu);
}

fn assert_largest(pair: &Pair, [sender, receiver]: &[Socket; 2], mtu: i32) {
    let fits = octets(1, mtu.unsigned_abs() as usize - UDP_HEADERS);
    sender.send(&fits).expect("it fits");
    let arrived = receive(receiver, 0).unwrap_or_else(|error| panic!("{} octets {}: {error}", fits.len(), pair.name));
    assert!(arrived.data == fits, "{}", pair.name);
    let refused = sender.send(&octets(1, fits.len() + 1)).expect_err("it is too long");
    assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE), "{}", pair.name);
}

/// The sender learns from a router what fits, with the size that leaves room for the header.
fn assert_learned(pair: &Pair, mtu: i32) {
    let [sender, receiver] = strict(pair);
    set(&sender, libc::IPPROTO_IPV6, IPV6_RECVERR, 1);
    let before = known(&sender);
    if before > mtu {
        let deadline = Instant::now() + LIMIT;
        let told = loop {
            // Refused as long as an error waits to be looked at.
            let _ = sender.send(&octets(2, before.unsigned_abs() as usize - UDP_HEADERS));
            if let Ok(told) = receive(&sender, libc::MSG_ERRQUEUE) {
                let error = told.item(libc::IPPROTO_IPV6, IPV6_RECVERR).expect("an error").to_vec();
                if error[ORIGIN] == ICMPV6_ORIGIN {
                    break error;
                }
            }
            assert!(Instant::now() < deadline, "nothing is told {}", pair.name);
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(told[TYPE], PACKET_TOO_BIG);
        assert_eq!(told[INFO..INFO + 4], mtu.to_ne_bytes(), "{}", pair.name);
        until_known(pair, mtu);
    }
    assert_largest(pair, &[sender, receiver], mtu);
}

/// Waits until new sockets know what fits.
fn until_known(pair: &Pair, mtu: i32) {
    let deadline = Instant::now() + LIMIT;
    while known(&strict(pair)[0]) != mtu {
        assert!(Instant::now() < deadline, "{mtu} is not known {}", pair.name);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Large datagrams and streams arrive.
fn assert_carries(pair: &Pair) {
    let (sender, receiver) = (pair.from.udp(), pair.to.udp());
    for length in [1_180, 1_224, 1_232, 1_240, 1_452, 20_001, 65_527] {
        let data = octets(length, length);
        sender.send_to(&data, &address_of(&receiver).into()).expect("it leaves");
        let arrived = receive(&receiver, 0).unwrap_or_else(|error| panic!("{length} octets {}: {error}", pair.name));
        assert!(arrived.data == data, "{length} octets {}", pair.name);
    }
    let ends = connected(pair, true);
    exchange(pair, [&ends[0], &ends[1]], 1 << 20);
}

/// Packets that did not fit the uplink of a host.
async fn too_big(lab: &Lab) -> [u64; 2] {
    lab.status()
        .await
        .map(|status| status.counters.dataplane["wire_too_big"])
}

/// Host a's second uplink has another MTU than all other links. Connections that were there before go on.
async fn narrow(mtu: i32) {
    let topology = Topology::two_by_two().await.expect("a lab");
    set_access(&topology, &topology.a, mtu).await;
    let lab = Lab::start(topology, "").await;
    let pair = lab.pair();
    let old = {
        let pair = pair.clone();
        lab.blocking(move || {
            let ends = connected(&pair, true);
            exchange(&pair, [&ends[0], &ends[1]], 1 << 20);
            ends
        })
        .await
    };
    lab.steer().await;
    lab.blocking(move || {
        exchange(&pair, [&old[0], &old[1]], 1 << 20);
        assert_known(&pair, mtu - SHIM_HEADER);
        assert_carries(&pair);
        // Nothing at host b says what host a's uplink carries.
        let back = pair.reversed("between the ULIDs, from b to a");
        assert_learned(&back, mtu - SHIM_HEADER);
        assert_carries(&back);
    })
    .await;
    assert_eq!(too_big(&lab).await, [0; 2]);
    lab.end().await;
}

#[test]
fn path_over_a_tunnelled_uplink_has_room_for_what_is_sent() {
    isolated(
        "packets::mtu::path_over_a_tunnelled_uplink_has_room_for_what_is_sent",
        || narrow(1_492),
    );
}

#[test]
fn path_over_the_narrowest_uplink_there_may_be_carries_everything() {
    let name = "packets::mtu::path_over_the_narrowest_uplink_there_may_be_carries_everything";
    isolated(name, || narrow(1_280));
}

#[test]
fn path_with_large_packets_takes_large_packets() {
    isolated("packets::mtu::path_with_large_packets_takes_large_packets", || async {
        const LARGE: i32 = 9_000;
        let topology = Topology::two_by_two().await.expect("a lab");
        set_path(&topology, LARGE).await;
        let lab = Lab::steered(topology).await;
        for pair in [lab.pair(), lab.pair().reversed("between the ULIDs, from b to a")] {
            lab.blocking(move || {
                assert_known(&pair, LARGE - SHIM_HEADER);
                assert_carries(&pair);
            })
            .await;
        }
        assert_eq!(too_big(&lab).await, [0; 2]);
        lab.end().await;
    });
}

#[test]
fn change_of_an_uplinks_mtu_is_followed() {
    isolated("packets::mtu::change_of_an_uplinks_mtu_is_followed", || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        let pair = lab.pair();
        for mtu in [1_400, 1_280, USUAL] {
            let topology = lab.stage.topology();
            set_access(topology, &topology.a, mtu).await;
            let pair = pair.clone();
            lab.blocking(move || {
                until_known(&pair, mtu - SHIM_HEADER);
                assert_known(&pair, mtu - SHIM_HEADER);
                assert_carries(&pair);
            })
            .await;
        }
        lab.end().await;
    });
}

/// Sockets that probe for themselves send what the device takes, whatever the route says; the host then hears what the path
/// takes, as it would from a router.
#[test]
fn packet_that_does_not_fit_the_uplink_is_reported_to_its_socket() {
    let name = "packets::mtu::packet_that_does_not_fit_the_uplink_is_reported_to_its_socket";
    isolated(name, || async {
        const MTU: i32 = 1_400;
        let topology = Topology::two_by_two().await.expect("a lab");
        set_access(&topology, &topology.a, MTU).await;
        let lab = Lab::steered(topology).await;
        let pair = lab.pair();
        lab.blocking(move || {
            let [sender, receiver] = strict(&pair);
            set(
                &sender,
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            );
            set(&sender, libc::IPPROTO_IPV6, IPV6_RECVERR, 1);
            let deadline = Instant::now() + LIMIT;
            let told = loop {
                let _ = sender.send(&octets(3, 1_420));
                if let Ok(told) = receive(&sender, libc::MSG_ERRQUEUE) {
                    break told.item(libc::IPPROTO_IPV6, IPV6_RECVERR).expect("an error").to_vec();
                }
                assert!(Instant::now() < deadline, "nothing is told");
                std::thread::sleep(Duration::from_millis(5));
            };
            assert_eq!((told[ORIGIN], told[TYPE]), (ICMPV6_ORIGIN, PACKET_TOO_BIG));
            assert_eq!(told[INFO..INFO + 4], (MTU - SHIM_HEADER).to_ne_bytes());
            assert_largest_unchecked(&sender, &receiver);
        })
        .await;
        assert!(too_big(&lab).await[0] > 0);
        lab.end().await;
    });
}

/// What fits still arrives.
fn assert_largest_unchecked(sender: &Socket, receiver: &Socket) {
    let fits = octets(4, 1_200);
    sender.send(&fits).expect("it fits");
    assert!(receive(receiver, 0).expect("it arrives").data == fits);
}
