//! Against the real kernel, where it permits: as root in the initial user namespace.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

use tokio::runtime::Runtime;

use super::super::{CounterOptions, Counters};
use super::*;
use crate::lab::Namespace;
use crate::netlink::{MAIN_TABLE, Netlink, RouteKind, RouteSpec};
use crate::sys::ethtool;
use crate::sys::testing::{
    A, B, DEADLINE, Header, Joined, address_spec, skip_without_bpf, until_done, wait_until_delivered,
};
use crate::sys::tun::Tun;
use crate::sys::wire_socket::{RecvBatch, WirePacket, WireReceiver, WireSender};

const ULID_A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, 1);
const ULID_B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xb, 0, 0, 0, 0, 0, 1);
const TAG_A: u64 = 0x1234_5678_9abc;
const TAG_B: u64 = 0x7fff_0000_0001;

/// One host's end.
struct End {
    tun: Tun,
    shortcut: Shortcut,
    _attachment: ShortcutAttachment,
}

/// Two hosts between which the ULIDs are led into the TUN devices, and nobody reads those.
struct Hosts {
    joined: Joined,
    a: End,
    b: End,
}

fn outgoing(tag: u64, locators: Pair, interface: u32) -> Outgoing {
    Outgoing {
        locators,
        tag,
        interface,
        next_hop: locators.1,
        mtu: 1500,
    }
}

async fn end(
    namespace: &Namespace,
    netlink: &Netlink,
    uplink: u32,
    (ulid, other): Pair,
    tag: u64,
    locator: Ipv6Addr,
) -> io::Result<End> {
    let tun = namespace.run(|| Tun::create("shim0", 1492, 1)).unwrap().unwrap();
    let queues = Shortcut::queues().unwrap();
    let link = netlink.add_virtual_link("shim0-in", "shim0-out", queues).await.unwrap();
    namespace
        .run(|| ethtool::cut_and_join("shim0-in", "shim0-out"))
        .unwrap()
        .unwrap();
    for index in [link.inside, link.outside] {
        netlink.set_up(index).await.unwrap();
    }
    netlink.add_address(&address_spec(uplink, ulid, 128)).await.unwrap();
    netlink.add_route(&route_to(other, tun.index())).await.unwrap();
    let devices = ShortcutDevices {
        tun: tun.index(),
        tun_mtu: 1492,
        inside: link.inside,
        inside_address: link.inside_address,
        outside: link.outside,
    };
    let shortcut = namespace.run(|| Shortcut::new(&devices, 16)).unwrap()?;
    let attachment = namespace.run(|| shortcut.watch(uplink)).unwrap()?;
    let incoming = Incoming {
        ulids: (ulid, other),
        locator,
    };
    shortcut.receive(tag, &incoming)?;
    Ok(End {
        tun,
        shortcut,
        _attachment: attachment,
    })
}

fn route_to(destination: Ipv6Addr, output: u32) -> RouteSpec {
    RouteSpec {
        destination: (destination, 128),
        source: None,
        gateway: None,
        output: Some(output),
        table: MAIN_TABLE,
        metric: None,
        kind: RouteKind::Unicast,
    }
}

impl Hosts {
    /// Both directions by the shortcut.
    fn steer(&self) {
        let (index_a, index_b) = (self.joined.index_a, self.joined.index_b);
        let sent = self
            .a
            .shortcut
            .send((ULID_A, ULID_B), &outgoing(TAG_B, (A, B), index_a));
        sent.unwrap();
        let sent = self
            .b
            .shortcut
            .send((ULID_B, ULID_A), &outgoing(TAG_A, (B, A), index_b));
        sent.unwrap();
    }

    fn sockets(&self) -> [UdpSocket; 2] {
        [(&self.joined.a, ULID_A), (&self.joined.b, ULID_B)].map(|(namespace, address)| {
            let socket = namespace.run(|| UdpSocket::bind((address, 3333))).unwrap().unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            socket
        })
    }

    fn no_packet_came_to_the_daemons(&self) {
        let mut buffer = vec![0; 65_536];
        for end in [&self.a, &self.b] {
            let read = end.tun.queues()[0].try_recv(&mut buffer);
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}

fn deliver(from: &UdpSocket, to: &UdpSocket, payload: &[u8]) {
    from.send_to(payload, to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 2048];
    let (octets, source) = to.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..octets], source), (payload, from.local_addr().unwrap()));
}

/// Runs the body with two hosts, if the kernel permits that.
fn permitted<F: Future<Output = ()>>(test: &str, body: impl FnOnce(Hosts) -> F) {
    Runtime::new().unwrap().block_on(async {
        let joined = Joined::new().await;
        let a = end(&joined.a, &joined.netlink_a, joined.index_a, (ULID_A, ULID_B), TAG_A, A).await;
        let a = match a {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return skip_without_bpf(test, &error);
            }
            a => a.unwrap(),
        };
        let b = end(&joined.b, &joined.netlink_b, joined.index_b, (ULID_B, ULID_A), TAG_B, B).await;
        let hosts = Hosts {
            joined,
            a,
            b: b.unwrap(),
        };
        hosts.steer();
        body(hosts).await;
    });
}

#[test]
fn a_stream_is_cut_carried_put_together_and_never_comes_to_the_daemon() {
    permitted("a_stream_is_cut", |hosts| async move {
        const OCTETS: usize = 20_000_000;
        let octet = |at: usize| (at * 31 % 251) as u8;
        let mut counters = Counters::new(CounterOptions {
            flows: 1,
            locals: &[],
            candidates: 1,
            packets: 0,
            octets: 0,
            small: false,
        })
        .unwrap();
        counters.follow((ULID_B, ULID_A)).unwrap();
        let _attachment = hosts
            .joined
            .b
            .run(|| counters.attach(hosts.b.tun.index()))
            .unwrap()
            .unwrap();
        let listen = || TcpListener::bind((ULID_B, 5000)).unwrap();
        let listener = hosts.joined.b.run(listen).unwrap();
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            stream.write_all(b"thanks").unwrap();
            received
        });
        let connect = || TcpStream::connect((ULID_B, 5000)).unwrap();
        let mut stream = hosts.joined.a.run(connect).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let sent: Vec<u8> = (0..OCTETS).map(octet).collect();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "thanks");
        assert!(receiver.join().unwrap() == sent);
        hosts.no_packet_came_to_the_daemons();
        let (a, b) = (hosts.a.shortcut.counts(), hosts.b.shortcut.counts());
        assert!(
            a.rewritten as usize > OCTETS / 1_500 && b.restored as usize > OCTETS / 1_500,
            "{a:?} {b:?}"
        );
        assert!(a.restored > 0 && b.rewritten > 0, "{a:?} {b:?}");
        assert_eq!((a.failed, b.failed), (0, 0));
        for (packets, octets) in [(a.rewritten, a.rewritten_octets), (b.restored, b.restored_octets)] {
            let (least, most) = (OCTETS as u64 + 60 * packets, 1_492 * packets);
            assert!((least..=most).contains(&octets), "{a:?} {b:?}");
        }
        let joined = counters.counts(counters.followed[&(ULID_B, ULID_A)]).received;
        assert!(joined.octets as usize > OCTETS, "{joined:?}");
        assert!(joined.packets < b.restored / 2, "put together: {joined:?} of {b:?}");
    });
}

#[test]
fn datagrams_arrive_from_the_device_and_with_the_fields_that_they_were_sent_with() {
    permitted("datagrams_arrive_from_the_device", |hosts| async move {
        let [a, b] = hosts.sockets();
        for octets in [0, 1, 2, 1_000, 1_444] {
            deliver(&a, &b, &vec![7; octets]);
            deliver(&b, &a, &vec![9; octets]);
        }
        let socket = socket2::SockRef::from(&a);
        socket.set_unicast_hops_v6(17).unwrap();
        socket.set_tclass_v6(0x29).unwrap();
        let ask = |option: i32| crate::sys::ancillary::set_option(&b, libc::IPPROTO_IPV6, option, &1_i32.to_ne_bytes());
        for option in [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS, libc::IPV6_RECVPKTINFO] {
            ask(option).unwrap();
        }
        a.send_to(b"fields", b.local_addr().unwrap()).unwrap();
        let received = crate::sys::ancillary::receive(&b, 0).unwrap();
        assert_eq!(received.integer(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT), Some(17));
        assert_eq!(received.integer(libc::IPPROTO_IPV6, libc::IPV6_TCLASS), Some(0x29));
        let info = received.item(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO).unwrap();
        assert_eq!(info[16..20], hosts.b.tun.index().to_ne_bytes(), "the TUN device");
        hosts.no_packet_came_to_the_daemons();
    });
}

#[test]
fn what_is_not_for_it_goes_to_the_daemon() {
    permitted("what_is_not_for_it", |hosts| async move {
        let [a, b] = hosts.sockets();
        deliver(&a, &b, b"by the shortcut");
        let read = |end: &End| {
            let mut buffer = vec![0; 65_536];
            let (length, _) = end.tun.queues()[0].try_recv(&mut buffer).unwrap();
            buffer.truncate(length);
            buffer
        };
        let send = |octets: usize| a.send_to(&vec![0; octets], b.local_addr().unwrap()).unwrap();

        // Of an uplink with a smaller MTU.
        let mut narrow = outgoing(TAG_B, (A, B), hosts.joined.index_a);
        narrow.mtu = 1_400;
        hosts.a.shortcut.send((ULID_A, ULID_B), &narrow).unwrap();
        send(1_400 - 8 - 48);
        hosts.no_packet_came_to_the_daemons();
        send(1_400 - 8 - 48 + 1);
        assert_eq!(read(&hosts.a).len(), 1_400 - 8 + 1);

        // Cut packets of the same stream: each of them would be too large.
        let segment = 1_400_i32;
        crate::sys::ancillary::set_option(&a, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes()).unwrap();
        send(14_000);
        assert_eq!(read(&hosts.a).len(), 14_048);
        narrow.mtu = 1_500;
        hosts.a.shortcut.send((ULID_A, ULID_B), &narrow).unwrap();
        let before = hosts.a.shortcut.counts().rewritten;
        send(14_000);
        hosts.no_packet_came_to_the_daemons();
        assert_eq!(hosts.a.shortcut.counts().rewritten - before, 10);

        // Of a pair that is not, or no longer, sent by it.
        hosts.a.shortcut.stop_sending((ULID_A, ULID_B));
        send(100);
        assert_eq!(read(&hosts.a).len(), 148);
        assert_eq!(hosts.a.shortcut.counts().failed, 0);
    });
}

#[test]
fn what_comes_and_is_not_for_it_is_left_to_the_daemon() {
    permitted("what_comes_and_is_not_for_it", |hosts| async move {
        let mut receiver = hosts.joined.b.run(WireReceiver::open).unwrap().unwrap();
        let sender = hosts.joined.a.run(|| WireSender::open(A, 0x5336)).unwrap().unwrap();
        let udp = [0x0d, 5, 0x0d, 5, 0, 8, 0, 0];
        let with = |header: [u8; 8]| [&header[..], &udp].concat();
        let good = {
            let mut header = with_p_bit(TAG_B);
            header[0] = 17;
            header
        };
        let changed = |at: usize, to: u8| {
            let mut header = good;
            header[at] = to;
            header
        };
        let strange = [
            ("control message", with(changed(2, good[2] & 0x7f))),
            ("unknown tag", with(changed(7, good[7] ^ 1))),
            ("long header", with(changed(1, 1))),
            ("Shim6 in Shim6", with(changed(0, 140))),
            ("ICMPv6", with(changed(0, 58))),
            ("no payload", good.to_vec()),
        ];
        for (what, payload) in &strange {
            let packet = Header::A_TO_B.packet(payload);
            let sent = sender.send_parts(&[WirePacket::from(&packet[..])]).unwrap();
            assert_eq!(sent.sent, 1, "{what}");
            let mut batch = RecvBatch::new(4);
            until_done(what, &mut receiver, |receiver| {
                receiver.recv_batch(&mut batch).map(|_| true)
            })
            .await;
            let messages: Vec<_> = batch.packets_mut().map(|packet| packet.message().to_vec()).collect();
            assert_eq!(messages, std::slice::from_ref(payload), "{what}");
        }
        assert_eq!(hosts.b.shortcut.counts(), ShortcutCounts::default());

        // To another address of this host than those that the context is known by.
        let other = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xbb);
        let (netlink, index) = (&hosts.joined.netlink_b, hosts.joined.index_b);
        netlink.add_address(&address_spec(index, other, 64)).await.unwrap();
        let bind = |namespace: &Namespace, address| namespace.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
        wait_until_delivered(&bind(&hosts.joined.a, A), &bind(&hosts.joined.b, other));
        let mut header = Header::A_TO_B;
        header.destination = other;
        let packet = header.packet(&with(good));
        let _ = sender.send_parts(&[WirePacket::from(&packet[..])]).unwrap();
        let mut batch = RecvBatch::new(4);
        until_done("a packet to another address", &mut receiver, |receiver| {
            receiver.recv_batch(&mut batch).map(|_| true)
        })
        .await;
        assert_eq!(hosts.b.shortcut.counts(), ShortcutCounts::default());

        let packet = Header::A_TO_B.packet(&with(good));
        let [_a, b] = hosts.sockets();
        let _ = sender.send_parts(&[WirePacket::from(&packet[..])]).unwrap();
        let mut buffer = [0; 10];
        // Its checksum is zero, which UDP over IPv6 does not permit: so it is restored, and the kernel drops it.
        b.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        assert!(b.recv(&mut buffer).is_err());
        assert_eq!(hosts.b.shortcut.counts().restored, 1);

        hosts.b.shortcut.stop_receiving(TAG_B);
        let _ = sender.send_parts(&[WirePacket::from(&packet[..])]).unwrap();
        let mut batch = RecvBatch::new(4);
        until_done("a packet of a context that ended", &mut receiver, |receiver| {
            receiver.recv_batch(&mut batch).map(|_| true)
        })
        .await;
    });
}

#[test]
fn each_processor_has_queues_of_its_own_and_a_flow_is_in_one_of_them() {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    permitted("each_processor_has_queues_of_its_own", |hosts| async move {
        let [a, b] = hosts.sockets();
        // Only then it says from which queue the last datagram came.
        b.connect(a.local_addr().unwrap()).unwrap();
        let this = Pid::from_raw(0);
        let usable = sched_getaffinity(this).unwrap();
        let mut queues = Vec::new();
        for processor in (0..CpuSet::count()).filter(|&processor| usable.is_set(processor).unwrap()) {
            let mut only = CpuSet::new();
            only.set(processor).unwrap();
            sched_setaffinity(this, &only).unwrap();
            // Whole, in fragments, whole.
            let of_packets = [100, 2_000, 1_444, 60_000, 0].map(|octets| {
                let mut buffer = vec![0; 65_536];
                a.send_to(&vec![7; octets], b.local_addr().unwrap()).unwrap();
                assert_eq!(b.recv(&mut buffer).unwrap(), octets);
                crate::sys::ancillary::option(&b, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID, 4).unwrap()
            });
            assert!(of_packets.iter().all(|queue| *queue == of_packets[0]), "{of_packets:?}");
            queues.push(of_packets[0].clone());
        }
        sched_setaffinity(this, &usable).unwrap();
        let different: std::collections::HashSet<_> = queues.iter().collect();
        assert_eq!(different.len(), queues.len(), "{queues:?}");
        assert!(!different.contains(&vec![0; 4]), "each queue has a number");
        hosts.no_packet_came_to_the_daemons();
    });
}
