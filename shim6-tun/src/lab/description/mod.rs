//! What a topology is to be: read from a TOML file, or put together in Rust.

mod check;
mod plan;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;

use super::Prefix;
use super::link::{Direction, Element, Impairment, Setting};
use crate::config::ConfigError;

pub(super) use plan::{Destination, Plan, PlannedLink};

/// Most nodes of a topology.
pub const MAX_NODES: usize = 64;
/// Most links of a topology.
pub const MAX_LINKS: usize = 128;

/// A topology to be: its nodes and the links between them.
///
/// ```
/// use std::time::Duration;
/// use shim6_tun::lab::{Description, Impairment, LinkSpec};
///
/// let description = Description::new()
///     .host("laptop")
///     .isp("fibre")
///     .isp("lte")
///     .host("server")
///     .link(LinkSpec::between("laptop", "fibre"))
///     .link(LinkSpec::between("laptop", "lte").impaired(Impairment::delay(Duration::from_millis(30))))
///     .link(LinkSpec::between("fibre", "lte"))
///     .link(LinkSpec::between("server", "fibre"));
/// description.check().unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// What the lots of all links are drawn from: with the same seed, the same packets are lost. Default 0.
    pub seed: u64,
    /// Hosts, ISPs and routers.
    pub nodes: Vec<NodeSpec>,
    /// The links, in the order in which hosts prefer them.
    pub links: Vec<LinkSpec>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// An end system.
    Host,
    /// A router that sells access.
    Isp,
    /// Any other router.
    Router,
}

impl NodeKind {
    /// Whether it forwards packets.
    #[must_use]
    pub fn forwards(self) -> bool {
        self != Self::Host
    }

    /// `host`, `isp` or `router`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Isp => "isp",
            Self::Router => "router",
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A node to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name: 1 to 15 small letters, digits and `-`.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// An address of its own, on no link. `None` for what it needs: routers without hosts get one, to send errors from.
    pub address: Option<Ipv6Addr>,
}

/// A link to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkSpec {
    /// Its name. Empty for those of its ends, with a `-` between.
    pub name: String,
    /// The nodes that it connects. The first is the inside of its elements, and sends [`Direction::Up`].
    pub ends: [String; 2],
    /// The interfaces at its ends. `None` for `eth0`, `eth1`, … on hosts, and on others the name of the node at the other end.
    pub interfaces: [Option<String>; 2],
    /// The /64 of a link that has a host. `None` for one that is free: 2001:db8:1::/64, 2001:db8:2::/64, …
    pub prefix: Option<Prefix>,
    /// The host's address. `None` for the prefix and `::1`.
    pub address: Option<Ipv6Addr>,
    /// Whether the router sends advertisements, by which the host configures itself; else it has its address from the start.
    pub advertise: bool,
    /// Whether it is a virtual Ethernet without emulator: as fast as this machine, and nothing can be done to its packets.
    pub plain: bool,
    /// What happens to packets at first, per direction.
    pub impairments: [Impairment; 2],
    /// What stands in the way of packets, from the first end on.
    pub elements: Vec<Element>,
}

impl Description {
    /// A topology of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a topology from TOML, and checks it. `path` is for messages.
    ///
    /// # Errors
    /// All that is not understood or makes no sense, each with its line and what is expected.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        read::parse(path, text)
    }

    /// Reads a topology from a TOML file, and checks it.
    ///
    /// # Errors
    /// The file cannot be read; else as for [`Description::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = crate::config::read::text(path)?;
        Self::parse(path, &text)
    }

    /// Adds a host.
    #[must_use]
    pub fn host(self, name: &str) -> Self {
        self.node(name, NodeKind::Host, None)
    }

    /// Adds an ISP.
    #[must_use]
    pub fn isp(self, name: &str) -> Self {
        self.node(name, NodeKind::Isp, None)
    }

    /// Adds a router.
    #[must_use]
    pub fn router(self, name: &str) -> Self {
        self.node(name, NodeKind::Router, None)
    }

    /// Adds a node, with an address of its own if one is given.
    #[must_use]
    pub fn node(mut self, name: &str, kind: NodeKind, address: Option<Ipv6Addr>) -> Self {
        self.nodes.push(NodeSpec {
            name: name.to_owned(),
            kind,
            address,
        });
        self
    }

    /// Adds a link.
    #[must_use]
    pub fn link(mut self, link: LinkSpec) -> Self {
        self.links.push(link);
        self
    }

    /// Draws all lots from this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// What does not, one line for each fault.
    pub fn check(&self) -> Result<(), String> {
        let faults = check::faults(self);
        if faults.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = faults.iter().map(|fault| fault.describe(self)).collect();
        Err(lines.join("\n"))
    }
}

impl LinkSpec {
    /// A link between two nodes that does nothing to packets.
    #[must_use]
    pub fn between(first: &str, second: &str) -> Self {
        Self {
            name: String::new(),
            ends: [first.to_owned(), second.to_owned()],
            interfaces: [None, None],
            prefix: None,
            address: None,
            advertise: false,
            plain: false,
            impairments: [Impairment::default(); 2],
            elements: Vec::new(),
        }
    }

    /// Calls it by this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Calls the interfaces at its ends by these names.
    #[must_use]
    pub fn interfaces(mut self, first: &str, second: &str) -> Self {
        self.interfaces = [Some(first.to_owned()), Some(second.to_owned())];
        self
    }

    /// Gives it this /64.
    #[must_use]
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Does this to the packets of both directions.
    #[must_use]
    pub fn impaired(mut self, impairment: Impairment) -> Self {
        self.impairments = [impairment; 2];
        self
    }

    /// Does this to the packets of one direction.
    #[must_use]
    pub fn impaired_one_way(mut self, direction: Direction, impairment: Impairment) -> Self {
        self.impairments[direction.index()] = impairment;
        self
    }

    /// Sets one thing for both directions.
    #[must_use]
    pub fn set(mut self, setting: Setting) -> Self {
        self.impairments = self.impairments.map(|impairment| impairment.with(setting));
        self
    }

    /// Puts an element behind those that are there, seen from the first end.
    #[must_use]
    pub fn element(mut self, element: Element) -> Self {
        self.elements.push(element);
        self
    }

    /// Has the router send advertisements, by which the host configures itself.
    #[must_use]
    pub fn advertised(mut self) -> Self {
        self.advertise = true;
        self
    }

    /// Makes it a virtual Ethernet without emulator.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// The link's name.
    #[must_use]
    pub fn name(&self) -> String {
        if self.name.is_empty() {
            format!("{}-{}", self.ends[0], self.ends[1])
        } else {
            self.name.clone()
        }
    }
}
