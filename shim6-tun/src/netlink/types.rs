use core::fmt;
use core::net::Ipv6Addr;

/// The number of the kernel's main routing table.
pub const MAIN_TABLE: u32 = 254;

/// A network interface as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Has a carrier (`IFF_LOWER_UP`).
    pub running: bool,
    /// Is the loopback interface.
    pub loopback: bool,
    /// Maximum transmission unit, in octets.
    pub mtu: u32,
}

/// An IPv6 address of an interface as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the interface that has it.
    pub index: u32,
    /// The address.
    pub address: Ipv6Addr,
    /// Length of its prefix, in bits.
    pub prefix_len: u8,
    /// Duplicate address detection is still running.
    pub tentative: bool,
    /// Duplicate address detection found another owner.
    pub dad_failed: bool,
    /// Its preferred lifetime is over: not chosen for new connections.
    pub deprecated: bool,
    /// Its scope is global, not link-local or host.
    pub global: bool,
}

/// An IPv6 address to be given to an interface, with infinite valid lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressSpec {
    /// Index of the interface.
    pub index: u32,
    /// The address.
    pub address: Ipv6Addr,
    /// Length of its prefix, in bits.
    pub prefix_len: u8,
    /// Skip duplicate address detection.
    pub no_dad: bool,
    /// Preferred lifetime 0: never chosen as a source address by the kernel.
    pub deprecated: bool,
    /// Do not add an on-link route for the prefix.
    pub no_prefix_route: bool,
}

impl fmt::Display for AddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "address {}/{} on interface {}",
            self.address, self.prefix_len, self.index
        )
    }
}

/// What a route does with the packets that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Forwards them.
    Unicast,
    /// Drops them silently.
    Blackhole,
}

/// An IPv6 route. Prefixes are an address and a length in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSpec {
    /// Destination prefix; `(::, 0)` is a default route.
    pub destination: (Ipv6Addr, u8),
    /// Source prefix that packets must have, `None` for any.
    pub source: Option<(Ipv6Addr, u8)>,
    /// Next hop, `None` for on-link.
    pub gateway: Option<Ipv6Addr>,
    /// Index of the output interface.
    pub output: Option<u32>,
    /// Routing table, 254 for main.
    pub table: u32,
    /// Metric (lower wins). `None` when adding: the kernel's default of 1024; when deleting: any.
    pub metric: Option<u32>,
    /// What it does.
    pub kind: RouteKind,
}

impl RouteSpec {
    /// Whether it matches every destination.
    pub fn is_default(&self) -> bool {
        self.destination.1 == 0
    }

    /// Whether `listed`, as the kernel reports it, is a route that this one describes: gateway,
    /// output and metric match anything where they are not given.
    pub fn describes(&self, listed: &RouteSpec) -> bool {
        let completed = RouteSpec {
            gateway: self.gateway.or(listed.gateway),
            output: self.output.or(listed.output),
            metric: self.metric.or(listed.metric),
            ..*self
        };
        completed == *listed
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == RouteKind::Blackhole {
            f.write_str("blackhole ")?;
        }
        write!(f, "route {}/{}", self.destination.0, self.destination.1)?;
        if let Some((address, length)) = self.source {
            write!(f, " from {address}/{length}")?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(output) = self.output {
            write!(f, " on interface {output}")?;
        }
        write!(f, " in table {}", self.table)
    }
}

/// An IPv6 policy routing rule that leads to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleSpec {
    /// Priority (lower is asked first).
    pub priority: u32,
    /// The table that it leads to.
    pub table: u32,
    /// Firewall mark that packets must have, compared in all bits.
    pub fwmark: Option<u32>,
    /// Matches the packets that the selectors do *not* match (`FIB_RULE_INVERT`).
    pub invert: bool,
    /// The only flow whose packets it is for.
    pub flow: Option<RuleFlow>,
}

/// The packets of one flow, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleFlow {
    /// Their source address.
    pub source: Ipv6Addr,
    /// Their destination address.
    pub destination: Ipv6Addr,
    /// The number of the protocol, one that has ports.
    pub protocol: u8,
    /// Their source port.
    pub source_port: u16,
    /// Their destination port.
    pub destination_port: u16,
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}:", self.priority)?;
        if self.invert {
            f.write_str(" not")?;
        }
        match (self.fwmark, self.flow) {
            (None, None) => f.write_str(" from all")?,
            (mark, flow) => {
                if let Some(flow) = flow {
                    write!(
                        f,
                        " from {} to {} ipproto {}",
                        flow.source, flow.destination, flow.protocol
                    )?;
                    write!(f, " sport {} dport {}", flow.source_port, flow.destination_port)?;
                }
                if let Some(mark) = mark {
                    write!(f, " fwmark {mark:#x}")?;
                }
            }
        }
        write!(f, " lookup {}", self.table)
    }
}

/// What a route says beside where packets go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RouteHints {
    /// The most octets that packets have; `None` for what the interface takes.
    pub mtu: Option<u32>,
    /// The source of packets whose sender has named none; `None` for the kernel's choice.
    pub preferred_source: Option<Ipv6Addr>,
}

/// Any IPv6 policy routing rule, as far as it matters which of them is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleOrder {
    /// Priority (lower is asked first).
    pub priority: u32,
    /// The table that it leads to; 0 if it does something else.
    pub table: u32,
    /// The firewall mark that it looks for, if it looks for one.
    pub fwmark: Option<u32>,
}

/// A change in the kernel's configuration, from [`Monitor::next`](super::Monitor::next).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface appeared or changed; its present state.
    Link(Link),
    /// The interface with this index is gone.
    LinkRemoved(u32),
    /// An IPv6 address was added or its state changed.
    AddressAdded(Address),
    /// An IPv6 address was removed.
    AddressRemoved(Address),
    /// A default route of the main table was added.
    RouteAdded(RouteSpec),
    /// A default route of the main table was removed.
    RouteRemoved(RouteSpec),
    /// A neighbour has not answered, and is taken for unreachable.
    NeighbourFailed {
        /// Index of the interface that leads to it.
        index: u32,
        /// Its address.
        address: Ipv6Addr,
    },
    /// A policy routing rule was added or removed.
    Rules,
    /// Messages were lost: read links, addresses and routes again.
    Overrun,
}
