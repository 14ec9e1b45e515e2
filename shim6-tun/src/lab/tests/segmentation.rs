//! Whether links carry what is larger than their MTU.

use std::net::SocketAddrV6;
use std::time::Duration;

use crate::demo::traffic::{bulk, sockets};
use crate::lab::{Host, Topology, isolated};
use crate::sys::tap::{PacketTap, TapOptions};

const MTU: u32 = 1500;
const WINDOW: Duration = Duration::from_millis(200);

/// The longest packet of a TCP stream from host b to host a that each interface of the routers and hosts on its path saw.
async fn longest_packets(topology: &Topology) -> Vec<(String, u32)> {
    let Topology { a, b, .. } = topology;
    let isps = [a, b].map(|host| topology.isp(host, 0).unwrap());
    let places = [
        (&b.namespace, "eth0"),
        (isps[1], "access"),
        (isps[1], "core"),
        (topology.core(), "isp-b1"),
        (topology.core(), "isp-a1"),
        (isps[0], "core"),
        (isps[0], "access"),
        (&a.namespace, "eth0"),
    ];
    let mut taps = Vec::new();
    for (namespace, name) in places {
        let index = namespace.netlink().unwrap().link(name).await.unwrap().index;
        let open = || PacketTap::open(index, TapOptions::default());
        taps.push((
            format!("{} {name}", namespace.name()),
            namespace.run(open).unwrap().unwrap(),
        ));
    }
    stream(a, b).await;
    let mut longest = Vec::new();
    for (name, mut tap) in taps {
        let mut length = 0;
        // What the ring has no room for is as long as what it has.
        tap.read(&mut |packet| length = length.max(packet.length)).unwrap();
        longest.push((name, length));
    }
    longest
}

async fn stream(a: &Host, b: &Host) {
    let [to, from] = [a, b].map(|host| host.uplinks[0].address);
    let listener = b.namespace.run(|| sockets::listen(from, None)).unwrap().unwrap();
    let server: SocketAddrV6 = sockets::local(listener.local_addr()).unwrap();
    let client = a.namespace.run(|| sockets::unconnected(to)).unwrap().unwrap();
    let streamed = tokio::task::spawn_blocking(move || bulk::measure(&listener, client, server, WINDOW, WINDOW));
    assert!(streamed.await.unwrap().unwrap().octets > 0);
}

#[test]
fn links_carry_packet_by_packet_only_when_told_to() {
    isolated(
        "lab::tests::segmentation::links_carry_packet_by_packet_only_when_told_to",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            for (place, length) in longest_packets(&topology).await {
                assert!(length > MTU, "{place}: {length}");
            }
            topology.disable_offloads().unwrap();
            for (place, length) in longest_packets(&topology).await {
                assert_eq!(length, MTU, "{place}");
            }
        },
    );
}
