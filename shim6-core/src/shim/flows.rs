//! Which flows take a forked context: the assignment that RFC 5533 section 12.4 leaves to the upper layer.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use shim6_reap::LocatorPair;

use crate::dataplane::{Flow, addresses, position};
use crate::endpoint::EstablishError;

/// Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// A flow of a transport between two ULIDs, as this host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The addresses that the transport knows.
    pub ulids: LocatorPair,
    /// The transport's protocol number: 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// This host's port.
    pub local_port: u16,
    /// The peer's port.
    pub peer_port: u16,
}

impl FlowKey {
    /// The flow of an IPv6 packet that this host sends, with its ULIDs in it; `None` where no ports are to be seen, as in
    /// fragments.
    pub fn of_sent(packet: &[u8]) -> Option<Self> {
        let (local, peer) = addresses(packet)?;
        let (protocol, [local_port, peer_port]) = ports(packet)?;
        Some(Self {
            ulids: LocatorPair { local, peer },
            protocol,
            local_port,
            peer_port,
        })
    }

    /// The flow of an IPv6 packet that this host receives.
    pub fn of_received(packet: &[u8]) -> Option<Self> {
        let sent = Self::of_sent(packet)?;
        Some(Self {
            ulids: sent.ulids.seen_by_peer(),
            local_port: sent.peer_port,
            peer_port: sent.local_port,
            ..sent
        })
    }
}

fn ports(packet: &[u8]) -> Option<(u8, [u16; 2])> {
    let (packet, field, offset) = position(packet)?;
    let protocol = *packet.get(field)?;
    let &[a, b, c, d] = packet.get(offset..)?.first_chunk()?;
    WITH_PORTS
        .contains(&protocol)
        .then(|| (protocol, [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]))
}

/// Why a flow gets no context of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// The context cannot be had now.
    #[error(transparent)]
    Establish(#[from] EstablishError),
    /// It has one.
    #[error("the flow has a context of its own already")]
    Forked,
    /// There are as many as [`ShimConfig::flows`](super::ShimConfig::flows) says.
    #[error("{limit} flows have contexts of their own, and no more may have one")]
    Limit {
        /// How many there may be.
        limit: usize,
    },
}

/// The flows that do not take their ULID pair's own context.
#[derive(Debug)]
pub(super) struct Flows {
    limit: usize,
    assigned: HashMap<FlowKey, Assignment>,
}

#[derive(Debug, Clone, Copy)]
struct Assignment {
    /// The Forked Instance Identifier.
    instance: u32,
    /// It follows from what the peer does, and goes with it.
    learned: bool,
}

impl Flows {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            assigned: HashMap::new(),
        }
    }

    /// The instance that a packet belongs to whose sender is this host.
    pub(super) fn instance(&self, ulids: LocatorPair, packet: &[u8]) -> u32 {
        // Nearly always.
        if self.assigned.is_empty() {
            return 0;
        }
        FlowKey::of_sent(packet)
            .filter(|key| key.ulids == ulids)
            .map_or(0, |key| self.instance_of(&key))
    }

    /// The instance that a flow belongs to.
    pub(super) fn instance_of(&self, key: &FlowKey) -> u32 {
        self.assigned.get(key).map_or(0, |assignment| assignment.instance)
    }

    /// Whether a flow can be assigned.
    pub(super) fn check_room(&self, key: &FlowKey) -> Result<(), ForkError> {
        match self.assigned.get(key) {
            Some(assignment) if !assignment.learned => Err(ForkError::Forked),
            None if self.assigned.len() >= self.limit => Err(ForkError::Limit { limit: self.limit }),
            _ => Ok(()),
        }
    }

    pub(super) fn assign(&mut self, key: FlowKey, instance: u32) {
        let assignment = Assignment {
            instance,
            learned: false,
        };
        self.assigned.insert(key, assignment);
    }

    /// The peer sends a flow's packets on a forked context: so they are answered on it, unless this host wants it otherwise.
    /// Only the peer can make such packets, and no more than the limit of flows comes of it.
    pub(super) fn learn(&mut self, flow: &Flow, restored: &[u8]) {
        let Some(key) = FlowKey::of_received(restored).filter(|key| key.ulids == flow.ulids) else {
            return;
        };
        let has_room = self.assigned.len() < self.limit;
        let learned = Assignment {
            instance: flow.forked_instance,
            learned: true,
        };
        match self.assigned.entry(key) {
            Entry::Occupied(mut known) if known.get().learned => {
                known.insert(learned);
            }
            Entry::Vacant(vacant) if has_room => {
                vacant.insert(learned);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    pub(super) fn remove(&mut self, key: &FlowKey) {
        self.assigned.remove(key);
    }

    /// Keeps the flows whose context is still there.
    pub(super) fn retain(&mut self, is_there: impl Fn(LocatorPair, u32) -> bool) {
        self.assigned
            .retain(|key, assignment| is_there(key.ulids, assignment.instance));
    }

    /// How many flows do not take their ULID pair's own context.
    pub(super) fn len(&self) -> usize {
        self.assigned.len()
    }
}
