//! What is not ours is not touched, while other packets are steered.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd as _;
use std::time::Duration;

use shim6_tests::isolated;
use shim6_tun::lab::{Namespace, Topology};
use shim6_tun::netlink::{AddressSpec, MAIN_TABLE, Netlink, RouteKind, RouteSpec};
use shim6_tun::sys::ancillary::receive;
use socket2::Type;

use super::lab::{Lab, Pair, ROUTERS, Side, address_of, octets, set};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const PORT: u16 = 5_336;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const UNKNOWN_PROTOCOL: i32 = 253;

/// A host behind host a, which forwards its packets by its second uplink.
async fn guest(topology: &Topology) -> Side {
    const OURS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 0, 0, 0, 0, 1);
    const GUEST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 0, 0, 0, 0, 2);
    let namespace = Namespace::new("guest").expect("a namespace");
    let (host, guest) = (&topology.a.namespace, namespace.netlink().expect("a connection"));
    let netlink = host.netlink().expect("a connection");
    let added = netlink.add_veth("lan", "eth0", Some(namespace.as_fd())).await;
    added.expect("a link");
    // Else the link-local address would change its state in the midst of the test.
    let settle = || std::fs::write("/proc/sys/net/ipv6/conf/lan/accept_dad", "0");
    host.run(settle).expect("a namespace").expect("a setting");
    for (netlink, name, address) in [(&netlink, "lan", OURS), (&guest, "eth0", GUEST)] {
        let index = netlink.link(name).await.expect("an interface").index;
        netlink.set_up(index).await.expect("it is up");
        let address = AddressSpec {
            index,
            address,
            prefix_len: 64,
            no_dad: true,
            deprecated: false,
            no_prefix_route: false,
        };
        netlink.add_address(&address).await.expect("an address");
    }
    let forward = || std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    host.run(forward).expect("a namespace").expect("a setting");

    let (everywhere, behind) = ((Ipv6Addr::UNSPECIFIED, 0), (OURS, 64));
    let uplink = &topology.a.uplinks[1];
    let isp = topology
        .isp(&topology.a, 1)
        .expect("an ISP")
        .netlink()
        .expect("a connection");
    let core = topology.core().netlink().expect("a connection");
    for (netlink, name, destination, source, gateway) in [
        (&guest, "eth0", everywhere, None, OURS),
        (&netlink, &*uplink.interface, everywhere, Some(behind), uplink.gateway),
        (&isp, "access", behind, None, uplink.address),
        // The ISP has the same link-local address on all its links.
        (&core, "isp-a2", behind, None, uplink.gateway),
    ] {
        let network = |(address, length): (Ipv6Addr, u8)| {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            (Ipv6Addr::from_bits(address.to_bits() & !host), length)
        };
        let route = RouteSpec {
            destination: network(destination),
            source: source.map(network),
            gateway: Some(gateway),
            output: Some(netlink.link(name).await.expect("an interface").index),
            table: MAIN_TABLE,
            metric: None,
            kind: RouteKind::Unicast,
        };
        netlink.add_route(&route).await.expect("a route");
    }
    link_local_address_comes(&netlink, "lan").await;
    Side {
        namespace,
        address: GUEST,
    }
}

/// It comes when the link is ready; later, it would look as if a daemon had left it.
async fn link_local_address_comes(netlink: &Netlink, interface: &str) {
    let index = netlink.link(interface).await.expect("an interface").index;
    let comes = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            let addresses = netlink.addresses().await.expect("addresses");
            if (addresses.iter()).any(|it| it.index == index && it.address.is_unicast_link_local()) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), comes)
        .await
        .expect("a link-local address");
}

/// Packets that went through a host's TUN device, received and sent.
fn tunnelled(namespace: &Namespace) -> [u64; 2] {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev").expect("counters");
    let text = namespace.run(read).expect("a namespace");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("shim0:"));
    let fields: Vec<_> = line.expect("a TUN device").split_whitespace().collect();
    [1, 9].map(|field| fields[field].parse().expect("a number"))
}

/// Datagrams, echo requests and packets of an unknown protocol, there and back.
fn assert_reaches(pair: &Pair, routers: i32) {
    for side in [pair.clone(), pair.reversed("back")] {
        let (sender, receiver) = (side.from.udp(), side.to.udp());
        set(&receiver, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1);
        let to = address_of(&receiver);
        for length in [0, 1_452, 9_001] {
            let data = octets(length, length);
            sender.send_to(&data, &to.into()).expect("it leaves");
            let arrived =
                receive(&receiver, 0).unwrap_or_else(|error| panic!("{length} octets {}: {error}", pair.name));
            assert!(arrived.data == data);
            let hops = arrived.integer(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT);
            assert_eq!(hops, Some(64 - routers), "{}", pair.name);
        }
        let (sender, receiver) = (
            side.from.socket(Type::RAW, UNKNOWN_PROTOCOL),
            side.to.socket(Type::RAW, UNKNOWN_PROTOCOL),
        );
        let data = octets(7, 700);
        let to = SocketAddrV6::new(side.to.address, 0, 0, 0);
        sender.send_to(&data, &to.into()).expect("it leaves");
        let arrived = receive(&receiver, 0).unwrap_or_else(|error| panic!("protocol 253 {}: {error}", pair.name));
        assert!(arrived.data == data);
        assert!(answers(&side.from, Some(side.from.address), to), "{}", pair.name);
    }
}

/// Whether an echo request is answered; its source is the kernel's choice if none is given.
fn answers(from: &Side, source: Option<Ipv6Addr>, to: SocketAddrV6) -> bool {
    let socket = from.unbound(Type::RAW, libc::IPPROTO_ICMPV6, source);
    let request = [&[ECHO_REQUEST, 0, 0, 0, 0x53, 0x36, 0, 1][..], &octets(1, 56)].concat();
    socket.send_to(&request, &to.into()).expect("it leaves");
    std::iter::from_fn(|| receive(&socket, 0).ok())
        .any(|reply| reply.data[0] == ECHO_REPLY && reply.data[4..] == request[4..])
}

#[test]
fn packets_of_others_pass_by_the_tun_device() {
    isolated("packets::others::packets_of_others_pass_by_the_tun_device", || async {
        let topology = Topology::two_by_two().await.expect("a lab");
        let guest = guest(&topology).await;
        let lab = Lab::steered(topology).await;
        lab.silence().await;
        // What was still on its way, and what its receivers said of it, comes before this.
        for pair in [
            lab.pair(),
            lab.pair().reversed("between the ULIDs, from b to a"),
            lab.pair(),
        ] {
            lab.blocking(move || {
                let (sender, receiver) = (pair.from.udp(), pair.to.udp());
                sender
                    .send_to(b"last", &address_of(&receiver).into())
                    .expect("it leaves");
                assert_eq!(receive(&receiver, 0).expect("it arrives").data, b"last");
            })
            .await;
        }
        let topology = lab.stage.topology();
        let hosts = [topology.a.namespace.clone(), topology.b.namespace.clone()];
        let before = hosts.each_ref().map(tunnelled);
        // Neither between plain addresses, nor from one of them to a ULID of a steered context, nor what is forwarded.
        let to_ulid = Pair {
            name: "from a plain address to a ULID",
            from: lab.plain().from,
            to: lab.pair().to,
        };
        let forwarded = Pair {
            name: "from a host behind host a",
            from: guest.clone(),
            to: lab.plain().to,
        };
        let plain = lab.plain();
        let gateway = topology.a.uplinks[1].gateway;
        let link = plain.from.namespace.netlink().expect("a connection");
        let link = link.link(&topology.a.uplinks[1].interface).await.expect("an interface");
        let near = topology.isp(&topology.a, 1).expect("an ISP").clone();
        lab.blocking(move || {
            assert_reaches(&plain, ROUTERS);
            assert_reaches(&to_ulid, ROUTERS);
            assert_reaches(&forwarded, ROUTERS + 1);
            // Neighbours: the router's link-local address, and all nodes on the link.
            assert!(answers(&plain.from, None, SocketAddrV6::new(gateway, 0, 0, link.index)));
            let router = Side {
                namespace: near,
                address: Ipv6Addr::UNSPECIFIED,
            };
            let listener = router.unbound(Type::DGRAM, libc::IPPROTO_UDP, None);
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0);
            listener.bind(&any.into()).expect("a port");
            let sender = plain.from.unbound(Type::DGRAM, libc::IPPROTO_UDP, None);
            let all = SocketAddrV6::new(ALL_NODES, PORT, 0, link.index);
            sender.send_to(b"all", &all.into()).expect("it leaves");
            assert_eq!(receive(&listener, 0).expect("it arrives").data, b"all");
        })
        .await;
        assert_eq!(hosts.each_ref().map(tunnelled), before);

        // What is ours does.
        let ours = lab.pair();
        lab.blocking(move || assert_reaches(&ours, ROUTERS)).await;
        let after = hosts.each_ref().map(tunnelled);
        assert!(
            after
                .iter()
                .flatten()
                .zip(before.iter().flatten())
                .all(|(after, before)| after > before)
        );
        lab.end().await;
        // Its end of the link to host a, and so that link, lives until here.
        drop(guest);
    });
}
