//! A firewall that lets in what answers.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::headers::{self, Headers, ICMPV6, TCP};
use crate::lab::link::Direction;

/// How long a flow is remembered after its last packet.
const MEMORY: Duration = Duration::from_secs(120);
/// The same for TCP.
const TCP_MEMORY: Duration = Duration::from_secs(7200);
/// Most flows that are remembered. Further ones do not get through.
pub(super) const MAX_FLOWS: usize = 65_536;
/// TCP, UDP, DCCP, SCTP and UDP-Lite begin with two ports.
const WITH_PORTS: [u8; 5] = [TCP, 17, 33, 132, 136];
const LAST_ERROR: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// Octets of an ICMPv6 error before the packet that it quotes.
const ERROR_OCTETS: usize = 8;

/// The flows that have begun inside.
#[derive(Debug, Default)]
pub(super) struct Firewall {
    flows: HashMap<Flow, Instant>,
}

/// Seen from inside. A protocol without ports is one flow for each pair of addresses, and so are fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    inside: Ipv6Addr,
    outside: Ipv6Addr,
    protocol: u8,
    ports: Option<(u16, u16)>,
}

impl Firewall {
    /// Whether a packet gets through.
    pub(super) fn passes(&mut self, direction: Direction, packet: &[u8], now: Instant) -> bool {
        let headers = Headers::of(packet);
        let upper = packet.get(headers.offset..).unwrap_or_default();
        if headers.upper == Some(ICMPV6) && upper.first().is_some_and(|&kind| kind <= LAST_ERROR) {
            // It belongs to the flow of the packet that it quotes, which went the other way.
            let quoted = upper.get(ERROR_OCTETS..).unwrap_or_default();
            return match Flow::of(quoted, direction.opposite()) {
                Some(flow) => direction == Direction::Up || self.knows(flow, now),
                None => false,
            };
        }
        let Some(flow) = Flow::of(packet, direction) else {
            return false;
        };
        if direction == Direction::Down && !self.knows(flow, now) {
            return false;
        }
        let is_remembered = self.remember(flow, now);
        if headers.fragment.is_some() {
            // Those behind the first have no ports.
            self.remember(Flow { ports: None, ..flow }, now);
        }
        is_remembered
    }

    fn knows(&self, flow: Flow, now: Instant) -> bool {
        self.flows.get(&flow).is_some_and(|&last| now < last + flow.memory())
    }

    fn remember(&mut self, flow: Flow, now: Instant) -> bool {
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&flow) {
            self.flows.retain(|flow, last| now < *last + flow.memory());
            if self.flows.len() >= MAX_FLOWS {
                return false;
            }
        }
        self.flows.insert(flow, now);
        true
    }
}

impl Flow {
    /// Of a packet that goes in this direction.
    fn of(packet: &[u8], direction: Direction) -> Option<Self> {
        let headers = Headers::of(packet);
        let (source, destination) = (headers::source(packet)?, headers::destination(packet)?);
        let protocol = headers.upper?;
        let upper = packet.get(headers.offset..).unwrap_or_default();
        let word = |at: usize| upper.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets));
        let ports = match protocol {
            _ if WITH_PORTS.contains(&protocol) => word(0).zip(word(2)),
            // Requests and replies have the same identifier.
            ICMPV6 if matches!(upper.first(), Some(&(ECHO_REQUEST | ECHO_REPLY))) => word(4).zip(word(4)),
            _ => None,
        };
        Some(match direction {
            Direction::Up => Self {
                inside: source,
                outside: destination,
                protocol,
                ports,
            },
            Direction::Down => Self {
                inside: destination,
                outside: source,
                protocol,
                ports: ports.map(|(source, destination)| (destination, source)),
            },
        })
    }

    fn memory(&self) -> Duration {
        if self.protocol == TCP { TCP_MEMORY } else { MEMORY }
    }
}
