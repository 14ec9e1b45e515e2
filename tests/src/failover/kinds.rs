//! What can be compared, and under which failures.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;
use shim6_tun::lab::{Failure, Host, LabError, Topology};

/// How the path between the sender, host a, and the receiver, host b, fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The sender's first uplink swallows every packet in both directions; its link stays up
    Blackhole,
    /// The sender's first uplink loses its carrier
    LinkDown,
    /// Packets to the receiver's first uplink vanish silently; those from it still arrive
    OneWay,
    /// The receiver's first uplink loses its carrier; the sender's is untouched
    FarLinkDown,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Blackhole, Self::LinkDown, Self::OneWay, Self::FarLinkDown];

    /// The name in output and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::LinkDown => "link-down",
            Self::OneWay => "one-way",
            Self::FarLinkDown => "far-link-down",
        }
    }

    /// What it means, in a line.
    #[must_use]
    pub fn explained(self) -> &'static str {
        match self {
            Self::Blackhole => "the sender's first uplink swallows every packet, its link stays up",
            Self::LinkDown => "the sender's first uplink loses its carrier",
            Self::OneWay => "packets to the receiver's first uplink vanish, those from it arrive",
            Self::FarLinkDown => "the receiver's first uplink loses its carrier",
        }
    }

    /// Makes it happen.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn cut(self, topology: &Topology) -> Result<(), LabError> {
        let (failure, host) = self.place(topology);
        topology.cut(failure, host, 0).await
    }

    /// Undoes it.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn heal(self, topology: &Topology) -> Result<(), LabError> {
        topology.heal(self.place(topology).1, 0).await
    }

    fn place(self, Topology { a, b, .. }: &Topology) -> (Failure, &Host) {
        match self {
            Self::Blackhole => (Failure::Blackhole, a),
            Self::LinkDown => (Failure::LinkDown, a),
            Self::OneWay => (Failure::OneWay, b),
            Self::FarLinkDown => (Failure::LinkDown, b),
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What carries the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Plain TCP between the first ULIDs of two hosts on which our daemon runs with its defaults
    Shim6,
    /// Kernel MPTCP, a full mesh of subflows over both uplinks of both hosts
    Mptcp,
    /// Kernel MPTCP, the subflows over second uplinks used only when the first fails
    MptcpBackup,
    /// Plain TCP and nothing else: it loses its session, for reference
    Tcp,
}

impl System {
    /// What is compared if nothing else is asked for.
    pub const COMPARED: [Self; 3] = [Self::Shim6, Self::Mptcp, Self::MptcpBackup];

    /// The name in output and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shim6 => "shim6",
            Self::Mptcp => "mptcp",
            Self::MptcpBackup => "mptcp-backup",
            Self::Tcp => "tcp",
        }
    }

    /// Whether the kernel has to have MPTCP.
    #[must_use]
    pub fn is_mptcp(self) -> bool {
        matches!(self, Self::Mptcp | Self::MptcpBackup)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_output() {
        for failure in FailureKind::ALL {
            let value = failure.to_possible_value().expect("not hidden");
            assert_eq!(value.get_name(), failure.as_str());
            let json = serde_json::to_value(failure).expect("serialises");
            assert_eq!(json, failure.as_str());
        }
        for system in System::value_variants() {
            let value = system.to_possible_value().expect("not hidden");
            assert_eq!(value.get_name(), system.as_str());
            let json = serde_json::to_value(system).expect("serialises");
            assert_eq!(json, system.as_str());
        }
    }
}
