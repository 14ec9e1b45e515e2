//! The kernel's policy table of address labels (RFC 6724 section 2.1), which decides among the source addresses of an interface.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_route::addrlabel::{AddrLabelAttribute, AddrLabelMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{CREATE, Netlink, NetlinkError};

/// A line of the policy table: the label of the addresses under a prefix, on whatever interface. A source whose label is that of
/// the destination is preferred (RFC 6724 section 5, rule 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LabelSpec {
    /// The prefix; the longest that matches counts.
    pub prefix: (Ipv6Addr, u8),
    /// The label. It means nothing by itself.
    pub label: u32,
}

impl fmt::Display for LabelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, length) = self.prefix;
        write!(f, "address label {} of {address}/{length}", self.label)
    }
}

impl Netlink {
    /// The lines that are for all interfaces.
    pub async fn labels(&self) -> Result<Vec<LabelSpec>, NetlinkError> {
        let mut message = AddrLabelMessage::default();
        message.header.family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetAddrLabel(message);
        let messages = self.dump(request, "list the address labels").await?;
        let labels = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddrLabel(message) => label(message),
            _ => None,
        });
        Ok(labels.collect())
    }

    /// Adds a line. [`NetlinkError::is_exists`] if there is one for the same prefix, with whatever label.
    pub async fn add_label(&self, spec: &LabelSpec) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewAddrLabel(to_message(spec));
        self.execute(request, CREATE, || format!("add {spec}")).await
    }

    /// Deletes a line that is exactly `spec`.
    pub async fn delete_label(&self, spec: &LabelSpec) -> Result<(), NetlinkError> {
        // The kernel does not compare the label.
        if !self.labels().await?.contains(spec) {
            return Err(NetlinkError::Missing {
                operation: format!("delete {spec}"),
            });
        }
        let request = RouteNetlinkMessage::DelAddrLabel(to_message(spec));
        self.execute(request, 0, || format!("delete {spec}")).await
    }
}

fn label(message: &AddrLabelMessage) -> Option<LabelSpec> {
    if message.header.index != 0 {
        return None;
    }
    let (mut prefix, mut label) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddrLabelAttribute::Address(IpAddr::V6(address)) => prefix = Some((*address, message.header.prefix_len)),
            AddrLabelAttribute::Label(number) => label = Some(*number),
            _ => {}
        }
    }
    Some(LabelSpec {
        prefix: prefix?,
        label: label?,
    })
}

fn to_message(spec: &LabelSpec) -> AddrLabelMessage {
    let mut message = AddrLabelMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = spec.prefix.1;
    message.attributes = vec![
        AddrLabelAttribute::Address(spec.prefix.0.into()),
        AddrLabelAttribute::Label(spec.label),
    ];
    message
}
