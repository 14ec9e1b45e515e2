//! Against the real kernel, in a namespace.

use nix::poll::{PollFd, PollFlags, poll};
use shim6_core::dataplane::offload::{Coalescer, Segments, Transport, complete_checksum};
use tokio::net::UdpSocket;

use super::*;
use crate::lab::isolated;
use crate::netlink::{AddressSpec, MAIN_TABLE, Netlink, RouteKind, RouteSpec};
use crate::sys::Readiness;
use crate::sys::testing::{A, B, address_spec, soon, wait_until_delivered};

const MTU: u32 = 1400;

/// A device with the address [`A`] and a route to [`B`].
async fn tun() -> (Tun, Netlink) {
    let tun = Tun::create("shim0", MTU, 1).unwrap();
    let netlink = Netlink::connect().unwrap();
    // Without a prefix route, or what is sent before the local route exists would go into the
    // device.
    let spec = AddressSpec {
        no_prefix_route: true,
        ..address_spec(tun.index(), A, 128)
    };
    netlink.add_address(&spec).await.unwrap();
    let itself = std::net::UdpSocket::bind((A, 0)).unwrap();
    wait_until_delivered(&itself, &itself);
    let route = RouteSpec {
        destination: (B, 128),
        source: None,
        gateway: None,
        output: Some(tun.index()),
        table: MAIN_TABLE,
        metric: None,
        kind: RouteKind::Unicast,
    };
    netlink.add_route(&route).await.unwrap();
    (tun, netlink)
}

/// Waits for the next packet.
async fn recv(tun: &Tun, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
    let queue = &tun.queues()[0];
    let readiness = Readiness::of(queue).unwrap();
    readiness.read(|| queue.try_recv(buffer)).await
}

/// Swaps addresses and UDP ports, which leaves the checksum as it is.
fn turn_around(packet: &mut [u8]) {
    let (left, right) = packet[8..40].split_at_mut(16);
    left.swap_with_slice(right);
    let (left, right) = packet[40..44].split_at_mut(2);
    left.swap_with_slice(right);
}

#[test]
fn a_new_device_is_up_with_its_mtu_and_without_any_address() {
    isolated(
        "sys::tun::tests::a_new_device_is_up_with_its_mtu_and_without_any_address",
        || async {
            let netlink = Netlink::connect().unwrap();
            let before = (
                netlink.routes(MAIN_TABLE).await.unwrap(),
                netlink.addresses().await.unwrap(),
            );
            let tun = Tun::create("shim0", MTU, 1).unwrap();
            assert_eq!(tun.name(), "shim0");
            let link = netlink.link("shim0").await.unwrap();
            assert!(
                link.up && link.running && link.mtu == MTU && link.index == tun.index(),
                "{link:?}"
            );
            let after = (
                netlink.routes(MAIN_TABLE).await.unwrap(),
                netlink.addresses().await.unwrap(),
            );
            assert_eq!(before, after);

            drop(tun);
            assert!(netlink.link("shim0").await.unwrap_err().is_not_found());
            drop(Tun::create("shim0", 1280, 1).unwrap());
        },
    );
}

#[test]
fn packets_pass_both_ways_with_headroom() {
    isolated("sys::tun::tests::packets_pass_both_ways_with_headroom", || async {
        const HEADROOM: usize = 64;
        let (tun, _netlink) = tun().await;
        let socket = UdpSocket::bind((A, 1111)).await.unwrap();
        socket.send_to(b"question", (B, 2222)).await.unwrap();

        let mut buffer = vec![0; HEADROOM + MTU as usize];
        let (length, offload) = soon("the packet", recv(&tun, &mut buffer[HEADROOM..])).await.unwrap();
        assert_eq!((length, offload.segmentation), (40 + 8 + 8, None));
        assert!(buffer[..HEADROOM].iter().all(|&octet| octet == 0));
        let packet = &mut buffer[HEADROOM..HEADROOM + length];
        assert_eq!((packet[0] >> 4, packet[6]), (6, 17));
        assert_eq!((&packet[8..24], &packet[24..40]), (&A.octets()[..], &B.octets()[..]));
        assert_eq!(&packet[48..], b"question");

        complete_checksum(packet, offload.checksum.unwrap()).unwrap();
        turn_around(packet);
        tun.try_send(packet).unwrap();
        // And in pieces.
        let (head, body) = packet.split_at(44);
        let parts = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(body)];
        tun.queues()[0].try_send(Offload::default(), &parts).unwrap();
        for _ in 0..2 {
            let mut answer = [0; 100];
            let (length, from) = soon("the answer", socket.recv_from(&mut answer)).await.unwrap();
            assert_eq!((&answer[..length], from), (&b"question"[..], (B, 2222).into()));
        }
    });
}

/// Over the device and back: what the kernel gives as one packet is cut, the datagrams are turned around, put together, and reach
/// the socket each as it was.
#[test]
fn datagrams_pass_both_ways_as_one_packet() {
    isolated("sys::tun::tests::datagrams_pass_both_ways_as_one_packet", || async {
        const SIZE: usize = 200;
        let (tun, _netlink) = tun().await;
        if !tun.takes_joined_datagrams() {
            eprintln!("left out: this kernel has no segmentation offload for UDP on TUN devices");
            return;
        }
        let socket = UdpSocket::bind((A, 1111)).await.unwrap();
        socket2::SockRef::from(&socket).set_nonblocking(true).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &(SIZE as i32)).unwrap();
        let payload: Vec<u8> = (0..10 * SIZE + 7).map(|i| (i / 3) as u8).collect();
        socket.send_to(&payload, (B, 2222)).await.unwrap();
        let mut buffer = vec![0; MAX_PACKET_OCTETS];
        let (length, offload) = soon("the packet", recv(&tun, &mut buffer)).await.unwrap();
        assert_eq!(length, 48 + payload.len(), "one packet");
        let segmentation = offload.segmentation.unwrap();
        assert_eq!(
            (segmentation.transport, usize::from(segmentation.size)),
            (Transport::Udp, SIZE)
        );

        let mut segments = Segments::new(&buffer[..length], offload).unwrap();
        let (mut memory, mut coalescer) = (Vec::new(), Coalescer::new(true));
        let mut head = vec![0; segments.header_len()];
        while let Some(payload) = segments.next_into(&mut head) {
            let mut packet = [&head, &buffer[payload]].concat();
            turn_around(&mut packet);
            let place = memory.len()..memory.len() + packet.len();
            memory.extend(packet);
            coalescer.push(&memory, place);
        }
        let [group] = coalescer.groups() else {
            panic!("they belong together")
        };
        let offload = group.finish(&mut memory);
        let parts: Vec<_> = group
            .parts()
            .iter()
            .map(|part| IoSlice::new(&memory[part.clone()]))
            .collect();
        tun.queues()[0].try_send(offload, &parts).unwrap();
        for expected in payload.chunks(SIZE) {
            let mut answer = [0; 2 * SIZE];
            let (length, from) = soon("the answer", socket.recv_from(&mut answer)).await.unwrap();
            assert_eq!((&answer[..length], from), (expected, (B, 2222).into()));
        }
    });
}

#[test]
fn packets_come_out_of_each_queue() {
    isolated("sys::tun::tests::packets_come_out_of_each_queue", || async {
        let tun = Tun::create("shim0", MTU, 3).unwrap();
        assert_eq!(tun.queues().len(), 3);
        let netlink = Netlink::connect().unwrap();
        let route = RouteSpec {
            destination: (B, 128),
            source: None,
            gateway: None,
            output: Some(tun.index()),
            table: MAIN_TABLE,
            metric: None,
            kind: RouteKind::Unicast,
        };
        netlink.add_address(&address_spec(tun.index(), A, 128)).await.unwrap();
        netlink.add_route(&route).await.unwrap();
        let itself = std::net::UdpSocket::bind((A, 0)).unwrap();
        wait_until_delivered(&itself, &itself);
        let mut seen = [false; 3];
        let mut buffer = [0; MTU as usize];
        // Each has other ports. That 200 of them miss a queue happens once in 10^35 runs.
        for _ in 0..200 {
            let socket = UdpSocket::bind((A, 0)).await.unwrap();
            socket.send_to(b"x", (B, 2222)).await.unwrap();
            for (queue, seen) in tun.queues().iter().zip(&mut seen) {
                *seen |= queue.try_recv(&mut buffer).is_ok();
            }
        }
        assert_eq!(seen, [true; 3]);
    });
}

#[test]
fn a_queue_is_emptied_after_one_wake_up() {
    isolated("sys::tun::tests::a_queue_is_emptied_after_one_wake_up", || async {
        let (tun, _netlink) = tun().await;
        let mut buffer = [0; MTU as usize];
        let queue = &tun.queues()[0];
        assert_eq!(
            queue.try_recv(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let socket = UdpSocket::bind((A, 1111)).await.unwrap();
        for length in 1..=20 {
            socket.send_to(&vec![0; length], (B, 2222)).await.unwrap();
        }
        assert_eq!(soon("the first", recv(&tun, &mut buffer)).await.unwrap().0, 49);
        for length in 2..=20 {
            assert_eq!(queue.try_recv(&mut buffer).unwrap().0, 48 + length);
        }
        assert_eq!(
            queue.try_recv(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    });
}

#[test]
fn a_deleted_device_is_an_error_and_not_a_wait() {
    isolated(
        "sys::tun::tests::a_deleted_device_is_an_error_and_not_a_wait",
        || async {
            let (tun, netlink) = tun().await;
            let (tun, mut buffer) = (std::sync::Arc::new(tun), [0; MTU as usize]);
            let try_recv = |tun: &Tun, buffer: &mut [u8]| tun.queues()[0].try_recv(buffer).unwrap_err().kind();
            assert_eq!(try_recv(&tun, &mut buffer), io::ErrorKind::WouldBlock);
            let waiting = tun.clone();
            let wait = tokio::task::spawn_blocking(move || {
                let mut watched = [PollFd::new(waiting.queues()[0].as_fd(), PollFlags::POLLIN)];
                poll(&mut watched, 10_000_u16)
            });
            netlink.delete_link(tun.index()).await.unwrap();
            assert_eq!(soon("the error", wait).await.unwrap(), Ok(1));
            assert_ne!(try_recv(&tun, &mut buffer), io::ErrorKind::WouldBlock);
        },
    );
}

#[test]
fn an_interface_of_the_same_name_is_left_alone() {
    isolated(
        "sys::tun::tests::an_interface_of_the_same_name_is_left_alone",
        || async {
            let tun = Tun::create("shim0", MTU, 1).unwrap();
            for name in ["shim0", "lo"] {
                let error = Tun::create(name, MTU, 1).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                assert!(error.to_string().contains(&format!("ip link delete {name}")), "{error}");
            }
            let link = Netlink::connect().unwrap().link("shim0").await.unwrap();
            assert!(link.up && link.index == tun.index());
        },
    );
}

#[test]
fn names_and_mtus_out_of_range_are_refused() {
    for name in ["", ".", "..", "sixteen-octets-x", "a/b", "a b", "a:b", "shim%d", "a\0b"] {
        let error = Tun::create(name, MTU, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
    }
    for mtu in [0, 1279, 65_536, u32::MAX] {
        let error = Tun::create("shim0", mtu, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&mtu.to_string()), "{error}");
    }
}

#[test]
fn errors_say_what_is_missing() {
    for (number, kind, hint) in [
        (libc::EPERM, io::ErrorKind::PermissionDenied, "CAP_NET_ADMIN"),
        (libc::EACCES, io::ErrorKind::PermissionDenied, "/dev/net/tun"),
        (
            libc::EBUSY,
            io::ErrorKind::AlreadyExists,
            "an interface of this name exists",
        ),
        (libc::ENODEV, io::ErrorKind::NotFound, "modprobe tun"),
        (libc::ENOMEM, io::ErrorKind::OutOfMemory, "creating shim0"),
    ] {
        let error = explain("shim0", io::Error::from_raw_os_error(number));
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(hint), "{error}");
    }
}
