//! An ISP that gives its customer other prefixes: host a of a lab, as by DHCPv6 prefix delegation and router advertisements.

use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::ensure;
use shim6_tun::lab::Topology;
use shim6_tun::netlink::{MAIN_TABLE, RouteKind, RouteSpec};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Where routers send their advertisements.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The ISP of an uplink of host a gets another prefix for its customer, and carries its packets.
///
/// # Errors
/// The kernel refused.
pub async fn delegate(topology: &Topology, uplink: usize, prefix: Ipv6Addr) -> anyhow::Result<()> {
    let isp = topology.isp(&topology.a, uplink)?;
    let route = |output, gateway| RouteSpec {
        destination: (prefix, 64),
        source: None,
        gateway,
        output: Some(output),
        table: MAIN_TABLE,
        metric: Some(1024),
        kind: RouteKind::Unicast,
    };
    let at_isp = isp.netlink()?;
    let access = at_isp.link("access").await?.index;
    at_isp.add_route(&route(access, None)).await?;
    let core = topology.core().netlink()?;
    let to_isp = core.link(isp.name()).await?.index;
    core.add_route(&route(to_isp, Some(GATEWAY))).await?;
    Ok(())
}

/// Sends a router advertisement (RFC 4861 section 4.2) to host a, of a router that is no default router, with a prefix for
/// autoconfiguration that is preferred for so many seconds.
///
/// # Errors
/// The kernel refused.
pub fn advertise(topology: &Topology, uplink: usize, prefix: Ipv6Addr, preferred: u32) -> anyhow::Result<()> {
    let isp = topology.isp(&topology.a, uplink)?;
    let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0];
    message.extend([0; 8]);
    // Prefix Information: on the link, and for autoconfiguration.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(7200_u32.to_be_bytes());
    message.extend(preferred.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    let sent = isp.run(|| {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        let access = nix::net::if_::if_nametoindex("access")?;
        socket.set_multicast_if_v6(access)?;
        socket.set_multicast_hops_v6(255)?;
        socket.bind(&SocketAddrV6::new(GATEWAY, 0, 0, access).into())?;
        socket.send_to(&message, &SockAddr::from(SocketAddrV6::new(ALL_NODES, 0, 0, access)))
    });
    let sent = sent??;
    ensure!(sent == message.len(), "{sent} of {} octets were sent", message.len());
    Ok(())
}

/// Whether an address is under a /64.
#[must_use]
pub fn is_under(address: Ipv6Addr, prefix: Ipv6Addr) -> bool {
    address.segments()[..4] == prefix.segments()[..4]
}
