//! What a program on this host is told of its session.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ContextStatus, PairStatus, PathStatus};

/// The protocols that have ports where a flow has them, by number and name.
const PROTOCOLS: [(u8, &str); 5] = [(6, "tcp"), (17, "udp"), (33, "dccp"), (132, "sctp"), (136, "udplite")];

/// A session as the program names it that has a socket: by its addresses, and where it matters by what else tells its packets
/// from others between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionName {
    /// This host's address, as the socket has it.
    pub local: Ipv6Addr,
    /// The peer's address, as the socket has it.
    pub peer: Ipv6Addr,
    /// One flow between these addresses; absent: all of them.
    #[serde(default)]
    pub flow: Option<SessionFlow>,
}

/// What tells a flow from others between the same addresses. Written `tcp:50000:443`: protocol, local port, peer's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionFlow {
    /// The number of the protocol, such as 6 for TCP.
    pub protocol: u8,
    /// This host's port.
    pub local_port: u16,
    /// The peer's port.
    pub peer_port: u16,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// What was asked for.
    pub session: SessionName,
    /// Whether it survives a failure of its path: there is an established context for it.
    pub protected: bool,
    /// Whether contexts for these addresses are made: `by-policy`, or `never`.
    pub protection: String,
    /// The context that its packets belong to, if there is one: a fork, if the flow has one.
    pub context: Option<ContextStatus>,
    /// This host's locators.
    pub local_locators: Vec<LocatorStatus>,
    /// The peer's locators that it has proved; none without a context.
    pub peer_locators: Vec<Ipv6Addr>,
    /// What is known of each pair, the most preferred first; none without an established context.
    pub paths: Vec<PathStatus>,
    /// The pair that packets are sent on.
    pub sends_on: PairStatus,
    /// The pair that the last packet with a Shim6 header arrived on, as this host sees it; absent where none was seen.
    pub arrives_on: Option<PairStatus>,
    /// The pair that the context goes back to instead of its ULIDs, if one was chosen.
    #[serde(default)]
    pub prefers: Option<PairStatus>,
    /// The flows between these addresses that have a fork.
    pub forks: Vec<ForkStatus>,
}

/// One of this host's locators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatorStatus {
    /// The address.
    pub address: Ipv6Addr,
    /// The interface that has it, if one has.
    pub uplink: Option<String>,
    /// Whether it can be used now.
    pub usable: bool,
}

/// A flow with a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkStatus {
    /// The flow.
    pub flow: SessionFlow,
    /// Its context.
    pub context: u64,
    /// Whether it follows the peer, which has forked it; if not, a program of this host has.
    pub learned: bool,
}

/// What became of a program's advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdviceStatus {
    /// The context that it was about.
    pub context: u64,
    /// Its failure detection state now: `operational`, `exploring` or `inbound-ok` (RFC 5534 section 6).
    pub reap: String,
}

impl SessionFlow {
    /// Whether packets of the protocol have ports by which a flow can be told.
    pub fn has_ports(self) -> bool {
        PROTOCOLS.iter().any(|&(number, _)| number == self.protocol)
    }
}

impl SessionName {
    /// Its addresses.
    pub fn pair(&self) -> PairStatus {
        PairStatus {
            local: self.local,
            peer: self.peer,
        }
    }
}

impl fmt::Display for SessionFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PROTOCOLS.iter().find(|(number, _)| *number == self.protocol) {
            Some((_, name)) => f.write_str(name)?,
            None => write!(f, "{}", self.protocol)?,
        }
        write!(f, ":{}:{}", self.local_port, self.peer_port)
    }
}

impl FromStr for SessionFlow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = text.split(':');
            let (protocol, local, peer) = (parts.next()?, parts.next()?, parts.next()?);
            let named = PROTOCOLS.iter().find(|(_, name)| *name == protocol);
            let protocol = named.map_or_else(|| protocol.parse().ok(), |(number, _)| Some(*number))?;
            let port = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
            let flow = Self {
                protocol,
                local_port: port(local)?,
                peer_port: port(peer)?,
            };
            (parts.next().is_none() && flow.has_ports()).then_some(flow)
        };
        read().ok_or_else(|| {
            let names = PROTOCOLS.map(|(_, name)| name).join(", ");
            format!("expected PROTOCOL:LOCAL_PORT:PEER_PORT, such as tcp:50000:443; the protocols are {names}")
        })
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.local, self.peer)?;
        self.flow.map_or(Ok(()), |flow| write!(f, " {flow}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_as_they_are_written() {
        for text in ["tcp:50000:443", "udp:1:65535", "sctp:7:9", "udplite:5:6", "dccp:5:6"] {
            let flow: SessionFlow = text.parse().expect("a flow");
            assert_eq!(flow.to_string(), text);
        }
        assert_eq!("6:1:2".parse::<SessionFlow>().expect("a flow").to_string(), "tcp:1:2");
    }

    #[test]
    fn what_tells_no_flow_is_refused_with_what_is_expected() {
        let wrong = [
            "",
            "tcp",
            "tcp:1",
            "tcp:1:2:3",
            "tcp:0:2",
            "tcp:1:0",
            "tcp:1:65536",
            "icmp:1:2",
            "58:1:2",
            "tcp:-1:2",
            "256:1:2",
        ];
        for text in wrong {
            let refused = text.parse::<SessionFlow>().expect_err(text);
            assert!(refused.contains("such as tcp:50000:443"), "{refused}");
        }
    }

    #[test]
    fn a_session_without_a_flow_needs_none_in_its_document() {
        let name: SessionName =
            serde_json::from_str(r#"{"local":"2001:db8::1","peer":"2001:db8::2"}"#).expect("a name");
        assert_eq!(name.flow, None);
        assert!(
            serde_json::from_str::<SessionName>(r#"{"local":"2001:db8::1","peer":"2001:db8::2","port":1}"#).is_err()
        );
    }
}
