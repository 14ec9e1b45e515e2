//! Between our types and the messages of the netlink route family.

use core::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rtnetlink::packet_core::{DefaultNla, Nla as _};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use rtnetlink::packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use rtnetlink::{LinkUnspec, LinkVeth};

use super::types::{Address, AddressSpec, Link, RouteHints, RouteKind, RouteSpec, RuleFlow, RuleOrder, RuleSpec};

/// The kernel's loopback interface has this index in every namespace.
const LOOPBACK_INDEX: u32 = 1;
/// Attributes of rules, from `linux/fib_rules.h`.
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;
const INFINITE_LIFETIME: u32 = u32::MAX;

pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    // Bridges repeat their ports under a family of their own.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let name = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let mtu = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    let flags = message.header.flags;
    Some(Link {
        index: message.header.index,
        name,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::LowerUp),
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
        mtu: mtu.unwrap_or(0),
    })
}

pub(super) fn is_tun(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Tun)),
        _ => false,
    })
}

pub(super) fn veth(name: &str, peer: &str, peer_netns: Option<BorrowedFd<'_>>) -> LinkMessage {
    let mut end = LinkUnspec::new_with_name(peer);
    if let Some(fd) = peer_netns {
        end = end.setns_by_fd(fd.as_raw_fd());
    }
    LinkVeth::new(name, peer)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(end.build())))
        .build()
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    if message.header.family != AddressFamily::Inet6 {
        return None;
    }
    // With a point-to-point peer, IFA_LOCAL is ours and IFA_ADDRESS the peer's.
    let (mut local, mut plain, mut flags) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V6(address)) => local = Some(*address),
            AddressAttribute::Address(IpAddr::V6(address)) => plain = Some(*address),
            AddressAttribute::Flags(bits) => flags = Some(*bits),
            _ => {}
        }
    }
    let flags = flags.unwrap_or_else(|| AddressFlags::from_bits_retain(u32::from(message.header.flags.bits())));
    Some(Address {
        index: message.header.index,
        address: local.or(plain)?,
        prefix_len: message.header.prefix_len,
        tentative: flags.contains(AddressFlags::Tentative),
        dad_failed: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        global: message.header.scope == AddressScope::Universe,
    })
}

/// The number that marks who added an address (`IFA_PROTO`).
pub(super) fn address_tag(message: &AddressMessage) -> Option<u8> {
    message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
        _ => None,
    })
}

pub(super) fn address_to_add(spec: &AddressSpec, tag: Option<u8>) -> AddressMessage {
    let mut message = address_to_delete(spec.index, spec.address, spec.prefix_len);
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, spec.no_dad);
    flags.set(AddressFlags::Noprefixroute, spec.no_prefix_route);
    message.attributes.push(AddressAttribute::Flags(flags));
    if spec.deprecated {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = 0;
        lifetimes.ifa_valid = INFINITE_LIFETIME;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    if let Some(tag) = tag {
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::Other(tag)));
    }
    message
}

pub(super) fn address_to_delete(index: u32, address: Ipv6Addr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.index = index;
    message.header.prefix_len = prefix_len;
    message.attributes.push(AddressAttribute::Local(address.into()));
    message
}

/// The interface and the address of an IPv6 neighbour that does not answer; `None` of any other.
pub(super) fn failed_neighbour(message: &NeighbourMessage) -> Option<(u32, Ipv6Addr)> {
    let has_failed = message.header.state == NeighbourState::Failed;
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) if has_failed => {
            Some((message.header.ifindex, *address))
        }
        _ => None,
    })
}

/// The neighbour that is to be deleted or looked up.
pub(super) fn neighbour(index: u32, address: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

/// The table of a route message, whose header has no room for large numbers.
pub(super) fn route_table(message: &RouteMessage) -> u32 {
    let in_attribute = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    in_attribute.unwrap_or_else(|| u32::from(message.header.table))
}

/// The question for the routes of a table. The kernel may list others as well.
pub(super) fn routes_of(table: u32) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.attributes.push(RouteAttribute::Table(table));
    RouteNetlinkMessage::GetRoute(message)
}

/// The routes that a message tells of: one per next hop, none for kinds that we do not use.
pub(super) fn routes(message: &RouteMessage) -> Vec<RouteSpec> {
    let header = &message.header;
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        _ => return Vec::new(),
    };
    // Entries that the kernel cached for one destination are no configuration.
    if header.address_family != AddressFamily::Inet6 || header.flags.contains(RouteFlags::Cloned) {
        return Vec::new();
    }
    let mut route = RouteSpec {
        destination: (Ipv6Addr::UNSPECIFIED, header.destination_prefix_length),
        source: None,
        gateway: None,
        output: None,
        table: route_table(message),
        metric: None,
        kind,
    };
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                route.destination.0 = *address;
            }
            RouteAttribute::Source(RouteAddress::Inet6(address)) => {
                route.source = Some((*address, header.source_prefix_length));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => {
                route.gateway = Some(*address);
            }
            RouteAttribute::Oif(index) => route.output = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::MultiPath(list) => hops.extend_from_slice(list),
            _ => {}
        }
    }
    if kind == RouteKind::Blackhole {
        // The kernel shows them on the loopback interface, where nobody put them.
        route.output = None;
    }
    if hops.is_empty() {
        return vec![route];
    }
    let hop_routes = hops.iter().map(|hop| RouteSpec {
        output: Some(hop.interface_index),
        gateway: hop.attributes.iter().find_map(|a| match a {
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(*address),
            _ => None,
        }),
        ..route
    });
    hop_routes.collect()
}

pub(super) fn route_to_add(spec: &RouteSpec, tag: Option<u8>) -> RouteMessage {
    let mut message = route_message(spec);
    message.header.protocol = tag.map_or(RouteProtocol::Static, RouteProtocol::from);
    message.header.scope = RouteScope::Universe;
    message
}

/// Adds to a route what it says beside where packets go.
pub(super) fn hint(message: &mut RouteMessage, hints: &RouteHints) {
    let mtu = hints
        .mtu
        .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    let source = hints.preferred_source.map(RouteAddress::Inet6);
    let source = source.map(RouteAttribute::PrefSource);
    message.attributes.extend(mtu.into_iter().chain(source));
}

/// What a route says beside where packets go.
pub(super) fn hints(message: &RouteMessage) -> RouteHints {
    let mut hints = RouteHints::default();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Metrics(metrics) => {
                hints.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::PrefSource(RouteAddress::Inet6(source)) => hints.preferred_source = Some(*source),
            _ => {}
        }
    }
    hints
}

pub(super) fn route_to_delete(spec: &RouteSpec, tag: Option<u8>) -> RouteMessage {
    let mut message = route_message(spec);
    message.header.protocol = tag.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    message.header.scope = RouteScope::NoWhere;
    if spec.kind == RouteKind::Blackhole && spec.output.is_none() {
        // The kernel does not compare the kind: the interface keeps it from taking
        // an ordinary route with the same prefix.
        message.attributes.push(RouteAttribute::Oif(LOOPBACK_INDEX));
    }
    message
}

/// The request that deletes a route as it was listed, of whatever kind.
pub(super) fn listed_route_to_delete(listed: &RouteMessage) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = listed.header.clone();
    message.header.flags = RouteFlags::empty();
    message.attributes = listed
        .attributes
        .iter()
        .filter(|a| {
            matches!(
                a,
                RouteAttribute::Destination(_)
                    | RouteAttribute::Source(_)
                    | RouteAttribute::Gateway(_)
                    | RouteAttribute::Oif(_)
                    | RouteAttribute::Table(_)
                    | RouteAttribute::Priority(_)
                    | RouteAttribute::MultiPath(_)
            )
        })
        .cloned()
        .collect();
    message
}

fn route_message(spec: &RouteSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = spec.destination.1;
    message.header.kind = match spec.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(spec.table));
    if spec.destination.1 > 0 {
        let address = RouteAddress::Inet6(spec.destination.0);
        attributes.push(RouteAttribute::Destination(address));
    }
    if let Some((address, length)) = spec.source {
        message.header.source_prefix_length = length;
        attributes.push(RouteAttribute::Source(RouteAddress::Inet6(address)));
    }
    if let Some(gateway) = spec.gateway {
        attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(gateway)));
    }
    if let Some(output) = spec.output {
        attributes.push(RouteAttribute::Oif(output));
    }
    if let Some(metric) = spec.metric {
        attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

/// The rule that a message tells of, unless it has selectors that [`RuleSpec`] cannot say.
pub(super) fn rule(message: &RuleMessage) -> Option<RuleSpec> {
    let header = &message.header;
    let lengths = (header.src_len, header.dst_len);
    let plain = header.family == AddressFamily::Inet6
        && header.action == RuleAction::ToTable
        && (lengths == (0, 0) || lengths == (128, 128))
        && header.tos == 0;
    if !plain {
        return None;
    }
    let mut spec = RuleSpec {
        priority: 0,
        table: u32::from(header.table),
        fwmark: None,
        invert: header.flags.contains(RuleFlags::Invert),
        flow: None,
    };
    let (mut addresses, mut protocol, mut ports) = ((None, None), None, (None, None));
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => spec.priority = *priority,
            RuleAttribute::Table(table) => spec.table = *table,
            RuleAttribute::FwMark(mark) => spec.fwmark = Some(*mark),
            RuleAttribute::FwMask(u32::MAX) | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::Source(IpAddr::V6(source)) => addresses.0 = Some(*source),
            RuleAttribute::Destination(IpAddr::V6(destination)) => addresses.1 = Some(*destination),
            RuleAttribute::IpProtocol(number) => protocol = Some(u8::from(*number)),
            RuleAttribute::SourcePortRange(range) if range.start == range.end => ports.0 = Some(range.start),
            RuleAttribute::DestinationPortRange(range) if range.start == range.end => ports.1 = Some(range.start),
            RuleAttribute::Other(other) if is_whole_port(other) => {}
            _ => return None,
        }
    }
    let is_for_all = lengths == (0, 0) && addresses == (None, None) && protocol.is_none() && ports == (None, None);
    if !is_for_all {
        // All of them, or it is a rule that cannot be said.
        spec.flow = Some(RuleFlow {
            source: addresses.0?,
            destination: addresses.1?,
            protocol: protocol?,
            source_port: ports.0?,
            destination_port: ports.1?,
        });
    }
    Some(spec)
}

/// Whether it says that a port is compared in all bits, which kernels since 6.15 always say.
fn is_whole_port(mask: &DefaultNla) -> bool {
    let mut value = [0; 2];
    let is_mask = [FRA_SPORT_MASK, FRA_DPORT_MASK].contains(&mask.kind()) && mask.value_len() == value.len();
    if is_mask {
        mask.emit_value(&mut value);
    }
    is_mask && value == [0xff; 2]
}

/// Where a rule stands and what it leads to.
pub(super) fn rule_order(message: &RuleMessage) -> RuleOrder {
    let mut order = RuleOrder {
        priority: 0,
        table: u32::from(message.header.table),
        fwmark: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => order.priority = *priority,
            RuleAttribute::Table(table) => order.table = *table,
            RuleAttribute::FwMark(mark) => order.fwmark = Some(*mark),
            _ => {}
        }
    }
    if message.header.action != RuleAction::ToTable {
        order.table = 0;
    }
    order
}

/// The question by which route such a packet leaves.
pub(super) fn lookup(source: Ipv6Addr, destination: Ipv6Addr, fwmark: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = 128;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet6(destination)),
        RouteAttribute::Mark(fwmark),
    ];
    if !source.is_unspecified() {
        message.header.source_prefix_length = 128;
        message
            .attributes
            .push(RouteAttribute::Source(RouteAddress::Inet6(source)));
    }
    message
}

/// The interface of the route that answers a [`lookup`].
pub(super) fn output(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// The tag that a rule carries.
pub(super) fn rule_tag(message: &RuleMessage) -> Option<u8> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
        _ => None,
    })
}

pub(super) fn rule_message(spec: &RuleSpec, tag: Option<u8>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.action = RuleAction::ToTable;
    message.header.flags.set(RuleFlags::Invert, spec.invert);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Table(spec.table));
    attributes.push(RuleAttribute::Priority(spec.priority));
    if let Some(mark) = spec.fwmark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.push(RuleAttribute::FwMask(u32::MAX));
    }
    if let Some(flow) = spec.flow {
        (message.header.src_len, message.header.dst_len) = (128, 128);
        let port = |port| RulePortRange { start: port, end: port };
        attributes.extend([
            RuleAttribute::Source(IpAddr::V6(flow.source)),
            RuleAttribute::Destination(IpAddr::V6(flow.destination)),
            RuleAttribute::IpProtocol(IpProtocol::from(flow.protocol)),
            RuleAttribute::SourcePortRange(port(flow.source_port)),
            RuleAttribute::DestinationPortRange(port(flow.destination_port)),
        ]);
    }
    if let Some(tag) = tag {
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(tag)));
    }
    message
}
