//! Where packets go first: route and neighbour, as the kernel would choose them.

use core::net::Ipv6Addr;

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError, message, outcome};
use crate::sys::wire_socket::NextHop;

impl Netlink {
    /// The next hop of this host's own packets with these addresses and this mark, by the present routes and rules. `None` if
    /// there is no route, or none to a neighbour whose link-layer address of 6 octets the kernel knows and believes in.
    pub async fn next_hop(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        fwmark: u32,
    ) -> Result<Option<NextHop>, NetlinkError> {
        let operation = || format!("look up the route from {source} to {destination}");
        let request = RouteNetlinkMessage::GetRoute(lookup(source, destination, fwmark));
        let Some(RouteNetlinkMessage::NewRoute(route)) = self.get(request, operation).await? else {
            return Ok(None);
        };
        if route.header.kind != RouteType::Unicast {
            return Ok(None);
        }
        let Some(spec) = message::routes(&route).into_iter().next() else {
            return Ok(None);
        };
        let Some(interface) = spec.output else {
            return Ok(None);
        };
        let neighbour = spec.gateway.unwrap_or(destination);
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

/// The question by which route such a packet leaves.
fn lookup(source: Ipv6Addr, destination: Ipv6Addr, fwmark: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = 128;
    message.header.source_prefix_length = 128;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet6(destination)),
        RouteAttribute::Source(RouteAddress::Inet6(source)),
        RouteAttribute::Mark(fwmark),
    ];
    message
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
