//! The virtual link that steered packets take inside this host, see [`crate::sys::bpf::Shortcut`].

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{CREATE, Netlink, NetlinkError, unless_missing};

/// The group of our virtual links, which the kernel gives them in the moment of their making: "S6" and Shim6's protocol number.
const GROUP: u32 = 0x5336_008c;
/// The largest MTU that such an interface can have: it is never what bounds a packet.
const MTU: u32 = 65_535;

/// The ends of a virtual link within this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualLink {
    /// Index of the first end.
    pub inside: u32,
    /// Its link-layer address.
    pub inside_address: [u8; 6],
    /// Index of the second end.
    pub outside: u32,
}

impl Netlink {
    /// Adds a virtual link with so many queues in each direction. Its ends are down, have no addresses and look for no neighbours.
    ///
    /// # Errors
    ///
    /// `NetlinkError::Refused` as everywhere, for example as there is an interface of one of these names.
    pub async fn add_virtual_link(
        &self,
        inside: &str,
        outside: &str,
        queues: u32,
    ) -> Result<VirtualLink, NetlinkError> {
        let end = prepared(LinkUnspec::new_with_name(outside), queues).build();
        let message = prepared(LinkVeth::new(inside, outside), queues);
        let message = message.set_info_data(InfoData::Veth(InfoVeth::Peer(end))).build();
        let operation = || format!("add the virtual interfaces {inside} and {outside}");
        self.execute(RouteNetlinkMessage::NewLink(message), CREATE, operation)
            .await?;
        let (inside, outside) = (self.link(inside).await?, self.link(outside).await?);
        for index in [inside.index, outside.index] {
            self.want_no_address(index).await?;
        }
        let ethernet = self.ethernet(inside.index).await?;
        let no_address = || NetlinkError::NoSuchLink(inside.name.clone());
        Ok(VirtualLink {
            inside: inside.index,
            inside_address: ethernet.ok_or_else(no_address)?.address,
            outside: outside.index,
        })
    }

    /// An address would make the kernel look for neighbours and routers there.
    async fn want_no_address(&self, index: u32) -> Result<(), NetlinkError> {
        let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_address]))
            .build();
        let operation = || format!("keep the kernel from giving interface {index} an address");
        self.change_link(message, operation).await
    }

    /// Deletes the virtual links that an earlier run left. Returns how many there were.
    pub async fn remove_virtual_links(&self) -> Result<usize, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let messages = self.dump(request, "list the interfaces").await?;
        let ours: Vec<_> = messages
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(message) => is_ours(message).then_some(message.header.index),
                _ => None,
            })
            .collect();
        for index in &ours {
            // The second end goes with the first.
            unless_missing(self.delete_link(*index).await)?;
        }
        Ok(ours.len() / 2)
    }
}

fn prepared<T>(builder: LinkMessageBuilder<T>, queues: u32) -> LinkMessageBuilder<T> {
    builder
        .link_group(GROUP)
        .mtu(MTU)
        .arp(false)
        .append_extra_attribute(LinkAttribute::NumTxQueues(queues))
        .append_extra_attribute(LinkAttribute::NumRxQueues(queues))
}

fn is_ours(message: &LinkMessage) -> bool {
    let has_group = message.attributes.contains(&LinkAttribute::Group(GROUP));
    has_group
        && message.attributes.iter().any(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
            _ => false,
        })
}
