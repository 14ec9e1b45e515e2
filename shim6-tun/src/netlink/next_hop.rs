//! Where packets go first: route and neighbour, as the kernel would choose them.

use core::net::Ipv6Addr;

use futures_util::StreamExt as _;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::RouteType;

use super::{Netlink, NetlinkError, message, outcome};
use crate::sys::wire_socket::NextHop;

/// An interface that sends Ethernet frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Its link-layer address.
    pub address: [u8; 6],
    /// Its MTU, in octets.
    pub mtu: u32,
    /// Whether packets pass a queueing discipline, which may order, delay or drop them.
    pub has_queue: bool,
}

/// Where packets go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the interface.
    pub interface: u32,
    /// The neighbour there: a router, or the destination itself.
    pub neighbour: Ipv6Addr,
}

impl Netlink {
    /// The way of this host's own packets with these addresses and this mark, by the present routes and rules; `None` if there is
    /// none.
    pub async fn route(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        fwmark: u32,
    ) -> Result<Option<Route>, NetlinkError> {
        let operation = || format!("look up the route from {source} to {destination}");
        let request = RouteNetlinkMessage::GetRoute(message::lookup(source, destination, fwmark));
        let Some(RouteNetlinkMessage::NewRoute(route)) = self.get(request, operation).await? else {
            return Ok(None);
        };
        if route.header.kind != RouteType::Unicast {
            return Ok(None);
        }
        let spec = message::routes(&route).into_iter().next();
        Ok(spec.and_then(|spec| {
            Some(Route {
                interface: spec.output?,
                neighbour: spec.gateway.unwrap_or(destination),
            })
        }))
    }

    /// The next hop of such packets, or `None` if there is no route, or none to a neighbour whose link-layer address of 6 octets
    /// the kernel knows and believes in.
    pub async fn next_hop(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        fwmark: u32,
    ) -> Result<Option<NextHop>, NetlinkError> {
        let Some(Route { interface, neighbour }) = self.route(source, destination, fwmark).await? else {
            return Ok(None);
        };
        let operation = || format!("look up neighbour {neighbour} on interface {interface}");
        let request = RouteNetlinkMessage::GetNeighbour(message::neighbour(interface, neighbour));
        let answer = self.get(request, operation).await?;
        let Some(RouteNetlinkMessage::NewNeighbour(neighbour)) = answer else {
            return Ok(None);
        };
        Ok(link_address(&neighbour).map(|link_address| NextHop {
            interface,
            link_address,
        }))
    }

    /// Whether a neighbour is taken for unreachable, because it has not answered.
    ///
    /// # Errors
    ///
    /// The connection to the kernel is closed.
    pub async fn has_failed(&self, index: u32, address: Ipv6Addr) -> Result<bool, NetlinkError> {
        let operation = || format!("look up neighbour {address} on interface {index}");
        let request = RouteNetlinkMessage::GetNeighbour(message::neighbour(index, address));
        let answer = self.get(request, operation).await?;
        Ok(
            matches!(answer, Some(RouteNetlinkMessage::NewNeighbour(found)) if message::failed_neighbour(&found).is_some()),
        )
    }

    /// What is known of an interface as one that frames are sent on; `None` if it has no link-layer address of 6 octets.
    pub async fn ethernet(&self, index: u32) -> Result<Option<Ethernet>, NetlinkError> {
        let operation = || format!("look up interface {index}");
        let request = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_index(index).build());
        let Some(RouteNetlinkMessage::NewLink(link)) = self.get(request, operation).await? else {
            return Ok(None);
        };
        let (mut address, mut mtu, mut has_queue) = (None, None, true);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Address(octets) => address = octets[..].try_into().ok(),
                LinkAttribute::Mtu(octets) => mtu = Some(*octets),
                LinkAttribute::Qdisc(name) => has_queue = name != "noqueue",
                _ => {}
            }
        }
        Ok(address.zip(mtu).map(|(address, mtu)| Ethernet {
            address,
            mtu,
            has_queue,
        }))
    }

    /// Asks for one object; `None` if the kernel refuses.
    async fn get(
        &self,
        request: RouteNetlinkMessage,
        operation: impl Fn() -> String,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        let closed = || NetlinkError::Closed { operation: operation() };
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST;
        let mut answers = self.handle.clone().request(request).map_err(|_| closed())?;
        match answers.next().await.ok_or_else(closed)?.payload {
            NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
            NetlinkPayload::Error(error) => {
                if let Err(error) = outcome(&error, &operation) {
                    tracing::trace!(%error, "no next hop");
                }
                Ok(None)
            }
            _ => Err(closed()),
        }
    }
}

/// The address of a neighbour that packets can be sent to.
fn link_address(message: &NeighbourMessage) -> Option<[u8; 6]> {
    let known = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) if known => octets[..].try_into().ok(),
        _ => None,
    })
}
