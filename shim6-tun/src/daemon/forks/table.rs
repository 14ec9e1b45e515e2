//! Which flow belongs to which fork, as those who move packets see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shim6_core::dataplane::addresses;
use shim6_core::{ContextId, Instant, LocatorPair};

use crate::daemon::policy::UpperLayer;
use crate::netlink::RuleFlow;
use crate::status::SessionFlow;

/// A flow between two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FlowKey {
    pub(crate) ulids: LocatorPair,
    pub(crate) flow: SessionFlow,
}

/// A flow that has a fork.
#[derive(Debug)]
pub(crate) struct ForkedFlow {
    pub(crate) key: FlowKey,
    pub(crate) instance: u32,
    pub(crate) context: ContextId,
    /// When a packet of it last arrived by the fork, in microseconds.
    heard: AtomicU64,
}

/// The flows that have forks.
#[derive(Debug, Default)]
pub(crate) struct ForkTable {
    flows: HashMap<FlowKey, Arc<ForkedFlow>>,
}

impl FlowKey {
    /// The flow of a packet that this host sends; `None` for one without ports.
    pub(crate) fn of_outgoing(packet: &[u8]) -> Option<Self> {
        let (source, destination) = addresses(packet)?;
        let upper = UpperLayer::of(packet);
        let (local_port, peer_port) = upper.ports?;
        Some(Self {
            ulids: LocatorPair::new(source, destination),
            flow: SessionFlow {
                protocol: upper.protocol?,
                local_port,
                peer_port,
            },
        })
    }

    /// The flow of a packet that this host receives.
    pub(crate) fn of_incoming(packet: &[u8]) -> Option<Self> {
        let Self { ulids, flow } = Self::of_outgoing(packet)?;
        Some(Self {
            ulids: LocatorPair::new(ulids.peer, ulids.local),
            flow: SessionFlow {
                protocol: flow.protocol,
                local_port: flow.peer_port,
                peer_port: flow.local_port,
            },
        })
    }

    /// What this host sends of it.
    pub(crate) fn rule(&self) -> RuleFlow {
        RuleFlow {
            source: self.ulids.local,
            destination: self.ulids.peer,
            protocol: self.flow.protocol,
            source_port: self.flow.local_port,
            destination_port: self.flow.peer_port,
        }
    }
}

impl ForkedFlow {
    pub(super) fn new(key: FlowKey, instance: u32, context: ContextId, now: Instant) -> Self {
        Self {
            key,
            instance,
            context,
            heard: AtomicU64::new(now.as_micros()),
        }
    }

    pub(super) fn hear(&self, now: Instant) {
        self.heard.store(now.as_micros(), Relaxed);
    }

    pub(super) fn heard(&self) -> Instant {
        Instant::from_micros(self.heard.load(Relaxed))
    }
}

impl ForkTable {
    pub(super) fn new(flows: HashMap<FlowKey, Arc<ForkedFlow>>) -> Self {
        Self { flows }
    }

    /// The table with what is in either; where both have a flow, as the other has it.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let mut flows = self.flows.clone();
        flows.extend(other.flows.iter().map(|(key, flow)| (*key, flow.clone())));
        Self { flows }
    }

    /// All flows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ForkedFlow>> {
        self.flows.values()
    }

    pub(crate) fn get(&self, key: &FlowKey) -> Option<&Arc<ForkedFlow>> {
        self.flows.get(key)
    }

    /// The fork that a packet of this host belongs to, if it has one.
    pub(crate) fn of_outgoing(&self, packet: &[u8]) -> Option<&Arc<ForkedFlow>> {
        // Mostly there are none, and then nothing is to be looked for in the packet.
        if self.flows.is_empty() {
            return None;
        }
        self.flows.get(&FlowKey::of_outgoing(packet)?)
    }
}
