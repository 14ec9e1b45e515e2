//! What the tests of this module share: two joined namespaces, packets, and waiting with a
//! deadline.

use std::io;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::lab::Namespace;
use crate::netlink::{AddressSpec, Netlink};
use crate::sys::Readiness;

pub(crate) const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xa);
pub(crate) const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xb);

/// Far more than anything here takes, so that a test ends instead of hanging.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Two namespaces joined by a veth pair: `eth0` in each, with the addresses [`A`] and [`B`].
pub(crate) struct Joined {
    pub(crate) a: Namespace,
    pub(crate) b: Namespace,
    pub(crate) netlink_a: Netlink,
    pub(crate) netlink_b: Netlink,
    pub(crate) index_a: u32,
    pub(crate) index_b: u32,
}

impl Joined {
    pub(crate) async fn new() -> Self {
        let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
        let (netlink_a, netlink_b) = (a.netlink().unwrap(), b.netlink().unwrap());
        netlink_a.add_veth("eth0", "eth0", Some(b.as_fd())).await.unwrap();
        let index_a = netlink_a.link("eth0").await.unwrap().index;
        let index_b = netlink_b.link("eth0").await.unwrap().index;
        for (netlink, index, address) in [(&netlink_a, index_a, A), (&netlink_b, index_b, B)] {
            netlink.add_address(&address_spec(index, address, 64)).await.unwrap();
            netlink.set_up(index).await.unwrap();
        }
        let joined = Self {
            a,
            b,
            netlink_a,
            netlink_b,
            index_a,
            index_b,
        };
        let bind = |namespace: &Namespace, address: Ipv6Addr| {
            namespace.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap()
        };
        wait_until_delivered(&bind(&joined.a, A), &bind(&joined.b, B));
        joined
    }
}

pub(crate) fn address_spec(index: u32, address: Ipv6Addr, prefix_len: u8) -> AddressSpec {
    AddressSpec {
        index,
        address,
        prefix_len,
        no_dad: true,
        deprecated: false,
        no_prefix_route: false,
    }
}

/// Sends until a datagram arrives. Right after an address was added, its local route is still
/// missing, as the kernel adds that later, in a work queue; the same goes for a link that has just
/// come up.
pub(crate) fn wait_until_delivered(from: &UdpSocket, to: &UdpSocket) {
    let destination = to.local_addr().unwrap();
    to.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let started = Instant::now();
    for attempt in 0_u64.. {
        assert!(started.elapsed() < DEADLINE, "nothing arrives at {destination}");
        // Until the address is usable, sending may fail as well.
        if from.send_to(&attempt.to_be_bytes(), destination).is_err() {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut buffer = [0; 8];
        // Until the last one is there, so that none is left on its way.
        while to.recv(&mut buffer).is_ok() {
            if buffer == attempt.to_be_bytes() {
                return;
            }
        }
    }
}

/// Says that a test was left out as the kernel takes no programs from us here.
pub(crate) fn skip_without_bpf(test: &str, error: &io::Error) {
    // Not `eprintln!`, which the test runner would hide.
    let _ = io::Write::write_fmt(
        &mut io::stderr(),
        format_args!("skipped: {test}: {error}: needs CAP_BPF in the initial user namespace\n"),
    );
}

/// Fields of an IPv6 header that the tests choose.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    pub(crate) flow_label: u32,
}

impl Header {
    /// From [`A`] to [`B`], with protocol 140.
    pub(crate) const A_TO_B: Self = Self {
        source: A,
        destination: B,
        next_header: 140,
        hop_limit: 64,
        traffic_class: 0,
        flow_label: 0,
    };

    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let length = u16::try_from(payload.len()).unwrap();
        let mut packet = Vec::new();
        packet.extend(first.to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet.extend([self.next_header, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(payload);
        packet
    }
}

/// Calls `step` whenever `io` is readable, until it says that it is done. `WouldBlock` waits for
/// more.
pub(crate) async fn until_done<T: AsFd>(what: &str, io: &mut T, mut step: impl FnMut(&mut T) -> io::Result<bool>) {
    let readiness = Readiness::of(io).unwrap();
    let work = async { while !readiness.read(|| step(io)).await.unwrap() {} };
    soon(what, work).await;
}

/// What `future` gives, within the deadline.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: waited in vain"))
}
