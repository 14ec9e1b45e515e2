//! The parts of which topologies are made: nodes and the links between them.

use std::net::Ipv6Addr;
use std::time::Duration;

use tokio::time::timeout;

use super::{LabError, Namespace};
use crate::netlink::{Address, AddressSpec, MAIN_TABLE, Monitor, Netlink, NetlinkError, RouteKind, RouteSpec};

/// A link that has no carrier after this long never gets one.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A host or router under construction: a namespace and a netlink connection in it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) namespace: Namespace,
    pub(super) netlink: Netlink,
}

impl Node {
    /// A node with the kernel's defaults.
    pub(super) fn host(name: &str) -> Result<Self, LabError> {
        let namespace = Namespace::new(name)?;
        let netlink = namespace.netlink()?;
        Ok(Self { namespace, netlink })
    }

    /// A node that forwards.
    pub(super) fn router(name: &str) -> Result<Self, LabError> {
        let node = Self::host(name)?;
        node.namespace.set("all/forwarding", "1")?;
        Ok(node)
    }

    /// Gives an interface an address, usable at once; one that it has already is left alone.
    pub(super) async fn add_address(&self, index: u32, address: Ipv6Addr, prefix_len: u8) -> Result<(), LabError> {
        let spec = AddressSpec {
            index,
            address,
            prefix_len,
            no_dad: true,
            deprecated: false,
            no_prefix_route: false,
        };
        match self.netlink.add_address(&spec).await {
            Err(error) if error.is_exists() => Ok(()),
            answer => answer.map_err(|error| self.error(error)),
        }
    }

    /// Adds a route to `destination` through `gateway` on the interface `output`.
    pub(super) async fn add_route(
        &self,
        destination: (Ipv6Addr, u8),
        gateway: Ipv6Addr,
        output: u32,
        metric: u32,
    ) -> Result<(), LabError> {
        let route = RouteSpec {
            destination,
            source: None,
            gateway: Some(gateway),
            output: Some(output),
            table: MAIN_TABLE,
            metric: Some(metric),
            kind: RouteKind::Unicast,
        };
        self.netlink.add_route(&route).await.map_err(|error| self.error(error))
    }

    /// Makes packets to `destination` vanish, unless a route of lower metric takes them.
    pub(super) async fn add_blackhole(&self, destination: (Ipv6Addr, u8), metric: u32) -> Result<(), LabError> {
        match self.netlink.add_route(&blackhole(destination, metric)).await {
            Err(error) if error.is_exists() => Ok(()),
            answer => answer.map_err(|error| self.error(error)),
        }
    }

    /// Sets the most octets that packets of an interface have.
    pub(super) async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), LabError> {
        let answer = self.netlink.set_mtu(index, mtu).await;
        answer.map_err(|error| self.error(error))
    }

    /// Undoes [`Node::add_blackhole`].
    pub(super) async fn delete_blackhole(&self, destination: (Ipv6Addr, u8), metric: u32) -> Result<(), LabError> {
        let route = blackhole(destination, metric);
        match self.netlink.delete_route(&route).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map_err(|error| self.error(error)),
        }
    }

    /// Sets an interface up.
    pub(super) async fn set_up(&self, index: u32) -> Result<(), LabError> {
        let answer = self.netlink.set_up(index).await;
        answer.map_err(|error| self.error(error))
    }

    /// Sets an interface down.
    pub(super) async fn set_down(&self, index: u32) -> Result<(), LabError> {
        let answer = self.netlink.set_down(index).await;
        answer.map_err(|error| self.error(error))
    }

    pub(super) fn error(&self, error: NetlinkError) -> LabError {
        LabError::netlink(self.namespace.name(), error)
    }
}

/// Links two nodes by a veth pair, and returns the interface indexes at both ends when packets
/// can pass.
pub(super) async fn connect(
    (near, near_name): (&Node, &str),
    (far, far_name): (&Node, &str),
) -> Result<(u32, u32), LabError> {
    let (near_index, far_index) = add_pair((near, near_name), (far, far_name)).await?;
    for (node, name) in [(near, near_name), (far, far_name)] {
        // Else addresses would be tentative for one to two seconds.
        node.namespace.set(&format!("{name}/accept_dad"), "0")?;
    }
    let ready = async { tokio::try_join!(ready(near, near_name, near_index), ready(far, far_name, far_index)) };
    ready.await?;
    Ok((near_index, far_index))
}

/// Adds a veth pair whose ends have different indexes: to the kernel, an end whose peer has the
/// same index is no veth but hardware, and news of its carrier may then wait for a second.
pub(super) async fn add_pair(
    (near, near_name): (&Node, &str),
    (far, far_name): (&Node, &str),
) -> Result<(u32, u32), LabError> {
    loop {
        let netns = Some(std::os::fd::AsFd::as_fd(&far.namespace));
        let added = near.netlink.add_veth(near_name, far_name, netns).await;
        added.map_err(|error| near.error(error))?;
        let index = async |node: &Node, name| {
            let link = node.netlink.link(name).await;
            link.map(|link| link.index).map_err(|error| node.error(error))
        };
        let (near_index, far_index) = (index(near, near_name).await?, index(far, far_name).await?);
        if near_index != far_index {
            return Ok((near_index, far_index));
        }
        // An index is not used again: a second interface at one end only makes the next differ.
        let advance = async {
            near.netlink.delete_link(near_index).await?;
            near.netlink.add_veth(near_name, "spare", None).await?;
            let spare = near.netlink.link("spare").await?;
            near.netlink.delete_link(spare.index).await
        };
        advance.await.map_err(|error| near.error(error))?;
    }
}

/// Sets an interface up and waits until it can send and receive: the kernel then gives it a
/// link-local address.
pub(super) async fn ready(node: &Node, name: &str, index: u32) -> Result<(), LabError> {
    let monitor = node.namespace.monitor()?;
    node.set_up(index).await?;
    wait_for_address(node, (name, index), monitor, |_| true).await.map(drop)
}

/// Waits until an interface has a usable address of the kind that is wanted.
pub(super) async fn wait_for_address(
    node: &Node,
    (name, index): (&str, u32),
    mut monitor: Monitor,
    is_wanted: impl Fn(&Address) -> bool,
) -> Result<Ipv6Addr, LabError> {
    let usable = async {
        loop {
            let addresses = node.netlink.addresses().await;
            let addresses = addresses.map_err(|error| node.error(error))?;
            let is_usable = |address: &&Address| address.index == index && !address.tentative && is_wanted(address);
            if let Some(found) = addresses.iter().find(is_usable) {
                return Ok(Some(found.address));
            }
            if monitor.next().await.is_none() {
                return Ok(None);
            }
        }
    };
    match timeout(READY_LIMIT, usable).await {
        Ok(Ok(Some(address))) => Ok(address),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) | Err(_) => Err(LabError::NotReady {
            namespace: node.namespace.name().to_owned(),
            interface: name.to_owned(),
            waited: READY_LIMIT,
        }),
    }
}

fn blackhole(destination: (Ipv6Addr, u8), metric: u32) -> RouteSpec {
    RouteSpec {
        destination,
        source: None,
        gateway: None,
        output: None,
        table: MAIN_TABLE,
        metric: Some(metric),
        kind: RouteKind::Blackhole,
    }
}
