//! The host's links, addresses, routes and rules, over the kernel's netlink route family.
//!
//! IPv6 only. A [`Netlink`] belongs to the network namespace of the thread that connected it,
//! and stays there.

mod error;
mod label;
mod message;
mod monitor;
mod next_hop;
#[cfg(test)]
mod tests;
mod types;
mod virtual_link;

use core::net::Ipv6Addr;
use std::os::fd::BorrowedFd;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, LinkUnspec};

pub use self::error::NetlinkError;
pub use self::label::LabelSpec;
pub use self::monitor::Monitor;
pub use self::next_hop::{Ethernet, Route};
pub use self::types::{
    Address, AddressSpec, Change, Link, MAIN_TABLE, RouteHints, RouteKind, RouteSpec, RuleFlow, RuleOrder, RuleSpec,
};
pub use self::virtual_link::VirtualLink;

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A dump that something else changes meanwhile is repeated up to this many times.
const DUMP_ATTEMPTS: u32 = 16;

/// A connection to the kernel's network configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
    tag: Option<u8>,
}

impl Netlink {
    /// Connects, in the network namespace of the calling thread and on its Tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        Self::connect_as(false)
    }

    /// As [`connect`](Self::connect), but the kernel (since 4.20) lists only the routes of the table asked for, and not all of
    /// which the others are dropped here. There may be many thousands.
    pub fn connect_selective() -> Result<Self, NetlinkError> {
        Self::connect_as(true)
    }

    fn connect_as(selective: bool) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| NetlinkError::NoRuntime)?;
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        // Forwarded, so that an answer and a connection that broke can be told apart.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        socket.set_cap_ack(true).map_err(NetlinkError::Open)?;
        socket.set_ext_ack(true).map_err(NetlinkError::Open)?;
        if selective {
            // A kernel that does not know it lists all.
            let _ = socket.set_netlink_get_strict_chk(true);
        }
        runtime.spawn(connection);
        Ok(Self { handle, tag: None })
    }

    /// The same connection, but marking the addresses, routes and rules that it adds with
    /// `tag` (`proto` in the output of `ip`), so that [`remove_tagged`](Self::remove_tagged)
    /// finds them. Kernels before 5.18 do not mark addresses.
    pub fn tagged(&self, tag: u8) -> Self {
        Self {
            handle: self.handle.clone(),
            tag: Some(tag),
        }
    }

    /// All interfaces.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let messages = self.dump(request, "list the interfaces").await?;
        let links = messages.iter().filter_map(|m| match m {
            RouteNetlinkMessage::NewLink(m) => message::link(m),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The interface called `name`.
    pub async fn link(&self, name: &str) -> Result<Link, NetlinkError> {
        let links = self.links().await?;
        let link = links.into_iter().find(|link| link.name == name);
        link.ok_or_else(|| NetlinkError::NoSuchLink(name.to_owned()))
    }

    /// The indexes of the TUN and TAP interfaces.
    pub async fn tun_links(&self) -> Result<Vec<u32>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let messages = self.dump(request, "list the interfaces").await?;
        let tuns = messages.iter().filter_map(|m| match m {
            RouteNetlinkMessage::NewLink(m) => message::is_tun(m).then_some(m.header.index),
            _ => None,
        });
        Ok(tuns.collect())
    }

    /// Sets an interface up.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.change_link(message, || format!("set interface {index} up")).await
    }

    /// Sets an interface down; the kernel then removes its addresses and routes.
    pub async fn set_down(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).down().build();
        self.change_link(message, || format!("set interface {index} down"))
            .await
    }

    /// Sets the maximum transmission unit of an interface, in octets.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.change_link(message, || format!("set the MTU of interface {index} to {mtu}"))
            .await
    }

    /// Renames an interface. Kernels before 6.2 refuse that while it is up.
    pub async fn rename(&self, index: u32, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).name(name.to_owned()).build();
        self.change_link(message, || format!("rename interface {index} to {name}"))
            .await
    }

    /// Deletes an interface.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).build();
        let request = RouteNetlinkMessage::DelLink(message);
        self.execute(request, 0, || format!("delete interface {index}")).await
    }

    /// Adds a pair of connected virtual interfaces, `peer` in the namespace `peer_netns`
    /// (`None`: in this one). Both are down.
    pub async fn add_veth(
        &self,
        name: &str,
        peer: &str,
        peer_netns: Option<BorrowedFd<'_>>,
    ) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewLink(message::veth(name, peer, peer_netns));
        self.execute(request, CREATE, || {
            format!("add the virtual interfaces {name} and {peer}")
        })
        .await
    }

    /// The IPv6 addresses of all interfaces.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let messages = self.address_messages().await?;
        Ok(messages.iter().filter_map(message::address).collect())
    }

    /// Adds an address. [`NetlinkError::is_exists`] if the interface has it already.
    pub async fn add_address(&self, spec: &AddressSpec) -> Result<(), NetlinkError> {
        let message = message::address_to_add(spec, self.tag);
        let request = RouteNetlinkMessage::NewAddress(message);
        self.execute(request, CREATE, || format!("add {spec}")).await
    }

    /// Sets the lifetimes of an address that the interface has to what `spec` says, or adds it.
    pub async fn set_address(&self, spec: &AddressSpec) -> Result<(), NetlinkError> {
        let message = message::address_to_add(spec, self.tag);
        let request = RouteNetlinkMessage::NewAddress(message);
        self.execute(request, NLM_F_CREATE | NLM_F_REPLACE, || format!("set {spec}"))
            .await
    }

    /// Deletes an address, which also makes every socket of the namespace look up its
    /// IPv6 route again.
    pub async fn delete_address(&self, index: u32, address: Ipv6Addr, prefix_len: u8) -> Result<(), NetlinkError> {
        let message = message::address_to_delete(index, address, prefix_len);
        let request = RouteNetlinkMessage::DelAddress(message);
        self.execute(request, 0, || {
            format!("delete address {address}/{prefix_len} on interface {index}")
        })
        .await
    }

    /// Forgets what is known of a neighbour, and drops the packets that wait for its link-layer address.
    /// [`NetlinkError::is_not_found`] if nothing is known.
    pub async fn delete_neighbour(&self, index: u32, address: Ipv6Addr) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelNeighbour(message::neighbour(index, address));
        self.execute(request, 0, || {
            format!("delete neighbour {address} on interface {index}")
        })
        .await
    }

    /// The unicast and blackhole routes of a table.
    pub async fn routes(&self, table: u32) -> Result<Vec<RouteSpec>, NetlinkError> {
        let listed = self.dump(message::routes_of(table), "list the IPv6 routes").await;
        let messages = match listed {
            // There is no such table.
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            listed => listed?,
        };
        let routes = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(message::routes(route)),
            _ => None,
        });
        Ok(routes.flatten().filter(|route| route.table == table).collect())
    }

    /// The unicast routes of a table, each with what it says beside where packets go.
    pub async fn hinted_routes(&self, table: u32) -> Result<Vec<(RouteSpec, RouteHints)>, NetlinkError> {
        let messages = self.route_messages().await?;
        let routes = messages.iter().flat_map(|listed| {
            let hints = message::hints(listed);
            message::routes(listed).into_iter().map(move |route| (route, hints))
        });
        Ok(routes.filter(|(route, _)| route.table == table).collect())
    }

    /// Adds a route. [`NetlinkError::is_exists`] if there is one with the same prefixes and
    /// metric.
    pub async fn add_route(&self, spec: &RouteSpec) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewRoute(message::route_to_add(spec, self.tag));
        self.execute(request, CREATE, || format!("add {spec}")).await
    }

    /// Adds a route with what it says beside where packets go. One with the same prefixes and metric is replaced in one step, so
    /// that no packet goes another way meanwhile.
    pub async fn set_route(&self, spec: &RouteSpec, hints: &RouteHints) -> Result<(), NetlinkError> {
        let mut message = message::route_to_add(spec, self.tag);
        message::hint(&mut message, hints);
        let request = RouteNetlinkMessage::NewRoute(message);
        self.execute(request, NLM_F_CREATE | NLM_F_REPLACE, || format!("set {spec}"))
            .await
    }

    /// Deletes the first route that has what `spec` gives; if this connection is
    /// [`tagged`](Self::tagged), only one that carries the tag.
    pub async fn delete_route(&self, spec: &RouteSpec) -> Result<(), NetlinkError> {
        // Asked to delete a route with a source prefix that does not exist, the kernel takes
        // the route without source and the same destination: somebody's default route, unless
        // the tag keeps it from that.
        if spec.source.is_some() && self.tag.is_none() {
            let listed = self.routes(spec.table).await?;
            if !listed.iter().any(|route| spec.describes(route)) {
                return Err(NetlinkError::Missing {
                    operation: format!("delete {spec}"),
                });
            }
        }
        let request = RouteNetlinkMessage::DelRoute(message::route_to_delete(spec, self.tag));
        self.execute(request, 0, || format!("delete {spec}")).await
    }

    /// The rules that lead to a table and select by nothing but the mark and a single flow.
    pub async fn rules(&self) -> Result<Vec<RuleSpec>, NetlinkError> {
        Ok(self.rule_messages().await?.iter().filter_map(message::rule).collect())
    }

    /// All rules, whatever they select by, in the order in which the kernel asks them.
    pub async fn rule_order(&self) -> Result<Vec<RuleOrder>, NetlinkError> {
        Ok(self.rule_messages().await?.iter().map(message::rule_order).collect())
    }

    /// The interface by which a packet of this host with these addresses and mark leaves, and its source if `source` is the
    /// unspecified address; `None` where there is no way.
    pub async fn output_for(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        fwmark: u32,
    ) -> Result<Option<(u32, Option<Ipv6Addr>)>, NetlinkError> {
        let operation = || format!("look up the route from {source} to {destination}");
        let question = RouteNetlinkMessage::GetRoute(message::lookup(source, destination, fwmark));
        let mut request = NetlinkMessage::from(question);
        request.header.flags = NLM_F_REQUEST;
        let closed = || NetlinkError::Closed { operation: operation() };
        let mut answers = self.handle.clone().request(request).map_err(|_| closed())?;
        match answers.next().await.ok_or_else(closed)?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                let output = message::output(&route);
                Ok(output.map(|output| (output, message::hints(&route).preferred_source)))
            }
            NetlinkPayload::Error(error) => match outcome(&error, operation) {
                Err(error) if error.is_unreachable() => Ok(None),
                other => other.map(|()| None),
            },
            _ => Err(closed()),
        }
    }

    /// Adds a rule. [`NetlinkError::is_exists`] if there is an identical one.
    pub async fn add_rule(&self, spec: &RuleSpec) -> Result<(), NetlinkError> {
        // The kernel calls rules different that differ only in the tag.
        if self.rules().await?.contains(spec) {
            return Err(kernel_error(format!("add {spec}"), Errno::EEXIST as i32, None));
        }
        let request = RouteNetlinkMessage::NewRule(message::rule_message(spec, self.tag));
        self.execute(request, CREATE, || format!("add {spec}")).await
    }

    /// Deletes one rule that is exactly `spec`.
    pub async fn delete_rule(&self, spec: &RuleSpec) -> Result<(), NetlinkError> {
        // The kernel would take the first rule that agrees in what the request gives, and does
        // not compare all of it.
        if !self.rules().await?.contains(spec) {
            return Err(NetlinkError::Missing {
                operation: format!("delete {spec}"),
            });
        }
        let request = RouteNetlinkMessage::DelRule(message::rule_message(spec, self.tag));
        self.execute(request, 0, || format!("delete {spec}")).await
    }

    /// Deletes all routes of a table, of whatever kind.
    pub async fn flush_table(&self, table: u32) -> Result<(), NetlinkError> {
        for listed in self.route_messages().await? {
            if message::route_table(&listed) == table {
                self.delete_listed_route(&listed).await?;
            }
        }
        Ok(())
    }

    /// Deletes the addresses, routes and rules that carry `tag`, as an earlier run left them.
    /// Returns how many there were.
    pub async fn remove_tagged(&self, tag: u8) -> Result<usize, NetlinkError> {
        let mut removed = 0;
        for listed in self.route_messages().await? {
            if u8::from(listed.header.protocol) == tag {
                self.delete_listed_route(&listed).await?;
                removed += 1;
            }
        }
        for listed in self.address_messages().await? {
            let Some(found) = message::address(&listed) else {
                continue;
            };
            if message::address_tag(&listed) == Some(tag) {
                let deleted = self.delete_address(found.index, found.address, found.prefix_len);
                unless_missing(deleted.await)?;
                removed += 1;
            }
        }
        let ours = self.tagged(tag);
        for listed in self.rule_messages().await? {
            if let Some(found) = message::rule(&listed)
                && message::rule_tag(&listed) == Some(tag)
            {
                unless_missing(ours.delete_rule(&found).await)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Subscribes to changes of links, IPv6 addresses and IPv6 routes, in the network namespace
    /// of the calling thread and on its Tokio runtime.
    pub fn monitor() -> Result<Monitor, NetlinkError> {
        Monitor::subscribe()
    }

    async fn rule_messages(&self) -> Result<Vec<RuleMessage>, NetlinkError> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetRule(message);
        let messages = self.dump(request, "list the routing rules").await?;
        let rules = messages.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        });
        Ok(rules.collect())
    }

    async fn delete_listed_route(&self, listed: &RouteMessage) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelRoute(message::listed_route_to_delete(listed));
        let deleted = self.execute(request, 0, || {
            let table = message::route_table(listed);
            format!("delete a route of table {table}")
        });
        unless_missing(deleted.await)
    }

    async fn address_messages(&self) -> Result<Vec<AddressMessage>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetAddress(message);
        let messages = self.dump(request, "list the IPv6 addresses").await?;
        let addresses = messages.into_iter().filter_map(|m| match m {
            RouteNetlinkMessage::NewAddress(m) => Some(m),
            _ => None,
        });
        Ok(addresses.collect())
    }

    async fn route_messages(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetRoute(message);
        let messages = self.dump(request, "list the IPv6 routes").await?;
        let routes = messages.into_iter().filter_map(|m| match m {
            RouteNetlinkMessage::NewRoute(m) => Some(m),
            _ => None,
        });
        Ok(routes.collect())
    }

    async fn change_link(&self, message: LinkMessage, operation: impl Fn() -> String) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewLink(message);
        self.execute(request, 0, operation).await
    }

    /// Sends a request and waits for the kernel's acknowledgement.
    async fn execute(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        operation: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let closed = || NetlinkError::Closed { operation: operation() };
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.handle.clone().request(request).map_err(|_| closed())?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return outcome(&error, operation);
            }
        }
        Err(closed())
    }

    /// Asks for all objects of a kind, again if they changed meanwhile.
    async fn dump(
        &self,
        request: RouteNetlinkMessage,
        operation: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(messages) = self.dump_once(request.clone(), operation).await? {
                return Ok(messages);
            }
        }
        Err(NetlinkError::Unstable {
            operation: operation.to_owned(),
            attempts: DUMP_ATTEMPTS,
        })
    }

    /// `None` if the kernel says that the list is not consistent.
    async fn dump_once(
        &self,
        request: RouteNetlinkMessage,
        operation: &str,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        let closed = || NetlinkError::Closed {
            operation: operation.to_owned(),
        };
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self.handle.clone().request(request).map_err(|_| closed())?;
        let (mut messages, mut consistent) = (Vec::new(), true);
        while let Some(answer) = answers.next().await {
            consistent &= answer.header.flags & NLM_F_DUMP_INTR == 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => messages.push(message),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(kernel_error(operation.to_owned(), done.code, None));
                }
                NetlinkPayload::Done(_) => return Ok(consistent.then_some(messages)),
                NetlinkPayload::Error(error) => {
                    outcome(&error, || operation.to_owned())?;
                }
                _ => {}
            }
        }
        Err(closed())
    }
}

/// An object that is gone already needs no deleting.
pub(crate) fn unless_missing(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn outcome(answer: &ErrorMessage, operation: impl Fn() -> String) -> Result<(), NetlinkError> {
    match answer.code {
        None => Ok(()),
        Some(code) => Err(kernel_error(
            operation(),
            code.get(),
            error::explanation(&answer.header),
        )),
    }
}

fn kernel_error(operation: String, code: i32, detail: Option<String>) -> NetlinkError {
    NetlinkError::Kernel {
        operation,
        errno: Errno::from_raw(code.saturating_abs()),
        detail,
    }
}
