//! What is known of a lab, to show it.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::description::NodeKind;
use super::link::LinkCounters;

/// A lab: its nodes and links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStatus {
    /// The nodes, in the order of the description.
    pub nodes: Vec<NodeStatus>,
    /// The links, in the order of the description.
    pub links: Vec<LinkStatus>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its global addresses, each with the interface that has it.
    pub addresses: Vec<(String, Ipv6Addr)>,
}

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// It works.
    Up,
    /// Packets vanish, in one direction at least. The ends do not notice.
    Blackhole,
    /// Its ends have no carrier.
    NoCarrier,
}

impl LinkState {
    /// `up`, `blackhole` or `no-carrier`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Blackhole => "blackhole",
            Self::NoCarrier => "no-carrier",
        }
    }
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// The nodes at its ends.
    pub ends: [String; 2],
    /// The interfaces at its ends.
    pub interfaces: [String; 2],
    /// Its /64, if it has a host.
    pub prefix: Option<String>,
    /// How it is.
    pub state: LinkState,
    /// Whether it has no emulator.
    pub plain: bool,
    /// What stands in the way of packets.
    pub elements: Vec<String>,
    /// From the first end to the second.
    pub up: DirectionStatus,
    /// From the second end to the first.
    pub down: DirectionStatus,
}

/// A direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionStatus {
    /// What is done to packets, as one would set it.
    pub settings: String,
    /// Whether all packets vanish.
    pub blackhole: bool,
    /// What it has done.
    pub counters: LinkCounters,
}
