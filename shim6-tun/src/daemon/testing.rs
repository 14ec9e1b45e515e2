//! A host in the test's own namespaces, with real uplinks to a provider's namespace.

use core::net::Ipv6Addr;
use core::time::Duration;
use std::net::UdpSocket as StdSocket;

use tokio::net::UdpSocket;

use super::uplink::Uplink;
use crate::lab::Namespace;
use crate::netlink::{AddressSpec, MAIN_TABLE, Netlink, RouteKind, RouteSpec};

/// The provider's router, on its end of each link.
pub(super) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// A host beyond the provider, which in fact is on its router.
pub(super) const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 1);
/// Longer than anything takes on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Provider {
    pub(crate) namespace: Namespace,
    pub(crate) netlink: Netlink,
}

impl Provider {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new("isp").unwrap();
        let netlink = namespace.netlink().unwrap();
        Self { namespace, netlink }
    }

    /// Connects `eth<number>` of the host, with the prefix 2001:db8:a<number>::/64, the plain
    /// address <prefix>::1 and a default route.
    pub(crate) async fn connect(&self, host: &Netlink, number: u16) -> Uplink {
        let (interface, far) = (format!("eth{number}"), format!("isp{number}"));
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xa0 + number, 0, 0, 0, 0, 0);
        let namespace = std::os::fd::AsFd::as_fd(&self.namespace);
        host.add_veth(&interface, &far, Some(namespace)).await.unwrap();
        let index = host.link(&interface).await.unwrap().index;
        let far = self.netlink.link(&far).await.unwrap().index;
        self.netlink.set_up(far).await.unwrap();
        host.set_up(index).await.unwrap();
        self.netlink.add_address(&fixed(far, GATEWAY, 64)).await.unwrap();
        self.netlink.add_address(&fixed(far, PEER, 128)).await.unwrap();
        let back = RouteSpec {
            destination: (prefix, 64),
            gateway: None,
            ..default_route(far)
        };
        self.netlink.add_route(&back).await.unwrap();
        host.add_address(&fixed(index, plain(prefix), 64)).await.unwrap();
        // The kernel takes a second one only with another metric.
        let out = RouteSpec {
            metric: Some(1024 * u32::from(number)),
            ..default_route(index)
        };
        host.add_route(&out).await.unwrap();
        Uplink {
            interface,
            index,
            prefix,
            gateway: Some(GATEWAY),
            up: true,
            mtu: 1500,
        }
    }

    /// Takes the carrier from the host's end of `eth<number>`, or gives it back.
    pub(crate) async fn set_carrier(&self, number: u16, on: bool) {
        let far = self.netlink.link(&format!("isp{number}")).await.unwrap().index;
        if on {
            self.netlink.set_up(far).await.unwrap();
        } else {
            self.netlink.set_down(far).await.unwrap();
        }
    }

    /// A socket that receives what gets to the peer.
    pub(super) fn receiver(&self, port: u16) -> UdpSocket {
        let socket = self.namespace.run(|| StdSocket::bind((PEER, port)).unwrap());
        tokio_socket(socket.unwrap())
    }
}

pub(super) fn tokio_socket(socket: StdSocket) -> UdpSocket {
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

/// The address that the host has without us.
pub(crate) fn plain(prefix: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() | 1)
}

/// One that stands for an address of ours.
pub(super) fn hba(prefix: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() | 0x1c5a_7b29_93d1_4e07)
}

/// An address that can be used at once.
pub(super) fn fixed(index: u32, address: Ipv6Addr, prefix_len: u8) -> AddressSpec {
    AddressSpec {
        index,
        address,
        prefix_len,
        no_dad: true,
        deprecated: false,
        no_prefix_route: false,
    }
}

pub(super) fn default_route(output: u32) -> RouteSpec {
    RouteSpec {
        destination: (Ipv6Addr::UNSPECIFIED, 0),
        source: None,
        gateway: Some(GATEWAY),
        output: Some(output),
        table: MAIN_TABLE,
        metric: Some(1024),
        kind: RouteKind::Unicast,
    }
}

/// A running TUN.
pub(super) async fn tun(netlink: &Netlink) -> (tun_rs::AsyncDevice, u32) {
    let device = tun_rs::DeviceBuilder::new().name("shim0").mtu(1492);
    let device = device.build_async().unwrap();
    let index = netlink.link("shim0").await.unwrap().index;
    netlink.set_up(index).await.unwrap();
    (device, index)
}
