//! Kernel MPTCP, set up as someone would who wants it to survive the failure of an uplink.
//!
//! Both hosts send each source address by the uplink that owns it. The sender, who opens the
//! connection, has both of its addresses as `subflow fullmesh` endpoints; the receiver announces its
//! second address (`signal`), the first being the one that is connected to. That makes four subflows,
//! each address with each. As `backup`, the endpoints on the second uplinks carry that flag, and only
//! the subflow between the first uplinks is used while it works.
//!
//! And both hosts get a larger receive buffer than the kernel's 128 KiB. What arrives behind a gap on other subflows
//! waits there until the gap is filled, each message with the kernel's overhead of some 700 octets, which MPTCP cannot
//! squeeze out as TCP does. At 200 messages a second the default is full before the sender has noticed a failure; then there
//! is no room for what would fill the gap, and the connection stands still (Linux 6.18).

mod netlink;

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::net::if_::if_nametoindex;
use shim6_tun::lab::{Host, Topology};
use shim6_tun::netlink::{MAIN_TABLE, RouteKind, RouteSpec};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep};

use netlink::PathManager;

/// Subflows of a full mesh of two by two addresses, beside the first.
const MORE_SUBFLOWS: u64 = 3;
/// As many subflows and announced addresses as the kernel allows.
const LIMIT: u32 = 8;
/// `net.ipv4.tcp_rmem`: the least, the first and the largest size of a receive buffer.
const RECEIVE_BUFFER: &str = "4096 4194304 33554432";
/// How often the number of subflows is looked at.
const POLL: Duration = Duration::from_millis(20);

/// An address that the path manager may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    address: Ipv6Addr,
    /// Index of the interface that has it.
    interface: u32,
    role: Role,
    /// Only to be used when nothing else works.
    backup: bool,
}

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Open subflows from it to every address of the peer.
    FullMesh,
    /// Announce it to the peer.
    Signal,
}

/// Whether this kernel has MPTCP and lets its path manager be configured; tried in the namespace of
/// the calling thread.
///
/// # Errors
/// What is missing.
pub fn support() -> io::Result<()> {
    let what = |what: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::MPTCP)).map_err(what("no MPTCP socket can be made"))?;
    PathManager::connect()
        .map(drop)
        .map_err(what("its path manager cannot be reached"))
}

/// Sets up both hosts; with `backup`, the second uplinks are in reserve.
pub(super) async fn configure(Topology { a, b, .. }: &Topology, backup: bool) -> anyhow::Result<()> {
    for host in [a, b] {
        route_by_source(host).await?;
        let enlarge = || fs::write("/proc/sys/net/ipv4/tcp_rmem", RECEIVE_BUFFER);
        let enlarged = host.namespace.run(enlarge)?;
        enlarged.with_context(|| format!("cannot set net.ipv4.tcp_rmem on host {}", host.name))?;
    }
    let second = |number: usize| backup && number > 0;
    let sender = (0..).zip(&a.uplinks);
    let sender: Vec<_> = sender
        .map(|(number, uplink)| (uplink, Role::FullMesh, second(number)))
        .collect();
    let receiver = (0..).zip(&b.uplinks).skip(1);
    let receiver: Vec<_> = receiver
        .map(|(number, uplink)| (uplink, Role::Signal, second(number)))
        .collect();
    for (host, endpoints) in [(a, sender), (b, receiver)] {
        let set = || {
            let mut manager = PathManager::connect()?;
            manager.set_limits(LIMIT, LIMIT)?;
            for (uplink, role, backup) in endpoints {
                manager.add_endpoint(&Endpoint {
                    address: uplink.address,
                    interface: if_nametoindex(uplink.interface.as_str())?,
                    role,
                    backup,
                })?;
            }
            io::Result::Ok(())
        };
        let set = host.namespace.run(set)?;
        set.with_context(|| format!("cannot configure MPTCP on host {}", host.name))?;
    }
    Ok(())
}

/// Waits until the connection of a fresh topology has all its subflows.
pub(super) async fn wait_for_subflows(receiver: &Host, deadline: Instant) -> anyhow::Result<()> {
    loop {
        let read = || fs::read_to_string("/proc/thread-self/net/netstat");
        let counters = receiver.namespace.run(read)?.context("cannot read the counters")?;
        let more = joined(&counters).context("the kernel does not count MPTCP's subflows")?;
        if more >= MORE_SUBFLOWS {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (subflows, wanted) = (1 + more, 1 + MORE_SUBFLOWS);
            bail!("MPTCP has {subflows} subflows instead of {wanted}: the comparison would not be fair");
        }
        sleep(POLL).await;
    }
}

/// How many subflows have joined a connection: those whose handshake is complete. (`MPTCP_INFO` also
/// counts those that are only tried.)
fn joined(counters: &str) -> Option<u64> {
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("MPTcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "MPJoinAckRx")?.1.parse().ok()
}

/// Makes a host send by the uplink that owns the source address, as our daemon does for itself.
async fn route_by_source(host: &Host) -> anyhow::Result<()> {
    let netlink = host.namespace.netlink()?;
    for uplink in &host.uplinks {
        let route = RouteSpec {
            destination: (Ipv6Addr::UNSPECIFIED, 0),
            source: Some((uplink.prefix, 64)),
            gateway: Some(uplink.gateway),
            output: Some(netlink.link(&uplink.interface).await?.index),
            table: MAIN_TABLE,
            metric: None,
            kind: RouteKind::Unicast,
        };
        netlink.add_route(&route).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_subflows_are_read_from_the_counters() {
        let counters = "TcpExt: SyncookiesSent A\nTcpExt: 7 8\n\
                        MPTcpExt: MPJoinSynRx MPJoinAckRx MPCurrEstab\nMPTcpExt: 4 3 1\n";
        assert_eq!(joined(counters), Some(3));
        assert_eq!(joined("TcpExt: A\nTcpExt: 7\n"), None);
        assert_eq!(joined("MPTcpExt: MPJoinAckRx\nMPTcpExt:\n"), None);
    }
}
