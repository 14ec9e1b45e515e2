//! What is noted of packets with a Shim6 header that arrive: on which pair those of a context do, and which flows are in forks.

use std::collections::HashMap;
use std::time::Duration;

use shim6_core::{ContextId, Flow, Instant, LocatorPair};

use super::{FlowKey, ForkTable};
use crate::daemon::shared::Shared;

/// Contexts of which it is remembered what the engine was told.
const MOST_KNOWN: usize = 16_384;
/// Flows that the engine was told of lately.
const MOST_TOLD: usize = 256;
/// How long that is.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What the engine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Packets of a context arrive on another pair, as this host sees it, than before.
    On(ContextId, LocatorPair),
    /// A packet of this flow has arrived with the tag of a fork that it does not belong to here.
    Flow(ContextId, FlowKey),
}

/// Belongs to the one who receives.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    last: Option<(ContextId, LocatorPair)>,
    known: HashMap<ContextId, LocatorPair>,
    told: HashMap<FlowKey, Instant>,
}

impl Ears {
    /// Notes a packet that was restored and had arrived on this pair.
    pub(crate) fn note(
        &mut self,
        (flow, on): (&Flow, LocatorPair),
        packet: &[u8],
        forks: &ForkTable,
        now: Instant,
        shared: &Shared,
    ) {
        let context = flow.context;
        // Mostly one like the packet before.
        if self.last != Some((context, on)) {
            self.last = Some((context, on));
            if self.known.get(&context) != Some(&on) && shared.report_heard(Heard::On(context, on)) {
                if self.known.len() >= MOST_KNOWN {
                    self.known.clear();
                }
                self.known.insert(context, on);
            }
        }
        if flow.forked_instance == 0 {
            return;
        }
        let Some(key) = FlowKey::of_incoming(packet) else {
            return;
        };
        match forks.get(&key) {
            Some(forked) if forked.context == context => forked.hear(now),
            Some(_) => {}
            None if self.may_tell(key, now) => drop(shared.report_heard(Heard::Flow(context, key))),
            None => {}
        }
    }

    /// Once in a while: the engine may not want to know.
    fn may_tell(&mut self, key: FlowKey, now: Instant) -> bool {
        let is_recent = |told: &Instant| now - *told < TELL_AGAIN;
        if self.told.get(&key).is_some_and(is_recent) {
            return false;
        }
        if self.told.len() >= MOST_TOLD {
            self.told.retain(|_, told| is_recent(told));
        }
        let has_room = self.told.len() < MOST_TOLD;
        if has_room {
            self.told.insert(key, now);
        }
        has_room
    }
}
