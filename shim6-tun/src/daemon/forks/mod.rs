//! Flows with a context, hence a path, of their own: forks (RFC 5533 section 4.2).
//!
//! A program of this host has a flow forked, or the peer has: then its packets arrive with a fork's tag, and what this host sends in
//! the flow takes the fork too, and the path that the peer has chosen for it. Both kinds are bounded: each flow costs a policy rule,
//! which the kernel asks for each route that it looks up, whoever wants it.

mod ears;
mod table;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use shim6_core::{ContextId, DataplaneUpdate, Instant, LocatorPair};

pub(crate) use self::ears::{Ears, Heard};
pub(crate) use self::table::{FlowKey, ForkTable, ForkedFlow};

/// Flows that programs of this host may have forked at once.
pub(crate) const MOST_ASKED: usize = 32;
/// Flows that peers may have forked at once, all of them, and one.
const MOST_LEARNED: usize = 32;
const MOST_LEARNED_OF_PEER: usize = 8;
/// A flow that a peer has forked is forgotten after so long without a packet in it.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// The pauses between two attempts to follow a peer to another path: the first, and what they grow to.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);
const FOLLOW_LATE: Duration = Duration::from_secs(64);

/// All forks of this host.
#[derive(Debug, Default)]
pub(crate) struct Forks {
    forks: BTreeMap<ContextId, Fork>,
    /// The table is another one than was taken last.
    changed: bool,
}

/// A forked context.
#[derive(Debug)]
struct Fork {
    ulids: LocatorPair,
    instance: u32,
    /// A program of this host has asked for it.
    ours: bool,
    established: bool,
    flows: Vec<Arc<ForkedFlow>>,
    follow: Follow,
}

/// Of a fork of the peer: where it sends, and whether this host sends there too.
#[derive(Debug, Default)]
struct Follow {
    /// The pair that the last packet arrived on, as this host sees it.
    wanted: Option<LocatorPair>,
    /// When to look whether that is the pair in use.
    next: Option<Instant>,
    pause: Duration,
    /// Somebody of this host has chosen a path.
    given_up: bool,
}

/// A flow that has a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forked {
    pub(crate) context: ContextId,
    pub(crate) key: FlowKey,
    pub(crate) learned: bool,
}

impl Forks {
    /// The fork of a flow, if it has one.
    pub(crate) fn of(&self, key: &FlowKey) -> Option<Forked> {
        self.all().find(|forked| forked.key == *key)
    }

    /// All flows with forks.
    pub(crate) fn all(&self) -> impl Iterator<Item = Forked> + '_ {
        self.forks.iter().flat_map(|(&context, fork)| {
            let forked = move |flow: &Arc<ForkedFlow>| Forked {
                context,
                key: flow.key,
                learned: !fork.ours,
            };
            fork.flows.iter().map(forked)
        })
    }

    /// Whether another flow may be forked by a program.
    pub(crate) fn has_room(&self) -> bool {
        self.all().filter(|forked| !forked.learned).count() < MOST_ASKED
    }

    /// A context that a program has asked for, is established and has no flow any more.
    pub(crate) fn idle(&self, ulids: LocatorPair) -> Option<ContextId> {
        let is_idle = |fork: &Fork| fork.ulids == ulids && fork.ours && fork.established && fork.flows.is_empty();
        self.forks
            .iter()
            .find_map(|(&context, fork)| is_idle(fork).then_some(context))
    }

    /// A program has asked for a context for forks.
    pub(crate) fn begin(&mut self, context: ContextId, ulids: LocatorPair, instance: NonZeroU32) {
        self.forks.insert(context, Fork::new(ulids, instance.get(), true));
    }

    /// A flow that has no fork belongs to this one from now on.
    pub(crate) fn assign(&mut self, context: ContextId, key: FlowKey, now: Instant) {
        let Some(fork) = self.forks.get_mut(&context).filter(|fork| fork.ulids == key.ulids) else {
            return;
        };
        let flow = ForkedFlow::new(key, fork.instance, context, now);
        fork.flows.push(Arc::new(flow));
        self.changed = true;
    }

    /// A flow belongs to no fork any more. Says which one it had.
    pub(crate) fn leave(&mut self, key: &FlowKey) -> Option<ContextId> {
        let forked = self.of(key)?;
        let fork = self.forks.get_mut(&forked.context)?;
        fork.flows.retain(|flow| flow.key != *key);
        self.changed = true;
        Some(forked.context)
    }

    /// Somebody of this host has chosen a path for the context, which follows nobody then, or none any more.
    pub(crate) fn choose(&mut self, context: ContextId, is_chosen: bool) {
        if let Some(fork) = self.forks.get_mut(&context) {
            fork.follow.given_up = is_chosen;
            fork.follow.next = Some(Instant::EPOCH);
        }
    }

    /// A context that a program has asked for did not come about.
    pub(crate) fn forget(&mut self, context: ContextId) {
        let forgotten = self.forks.remove(&context);
        self.changed |= forgotten.is_some_and(|fork| !fork.flows.is_empty());
    }

    /// Forks come and go with their contexts. Gives the flows of those that went.
    pub(crate) fn note(&mut self, updates: &[DataplaneUpdate]) -> Vec<Forked> {
        let mut lost = Vec::new();
        for update in updates {
            match update {
                DataplaneUpdate::Insert(flow) if flow.forked_instance != 0 => {
                    let new = || Fork::new(flow.ulids, flow.forked_instance, false);
                    let fork = self.forks.entry(flow.context).or_insert_with(new);
                    fork.follow.next = fork.follow.next.or(Some(Instant::EPOCH));
                    self.changed |= !std::mem::replace(&mut fork.established, true);
                }
                DataplaneUpdate::Remove(flow) if flow.forked_instance != 0 => {
                    lost.extend(self.all().filter(|forked| forked.context == flow.context));
                    self.forget(flow.context);
                }
                DataplaneUpdate::Insert(_) | DataplaneUpdate::Remove(_) => {}
            }
        }
        lost
    }

    /// Packets of a flow have arrived in a fork, by its tag. Says whether what this host sends in it takes the fork from now on.
    pub(crate) fn learn(&mut self, context: ContextId, key: FlowKey, now: Instant) -> bool {
        let is_theirs = |fork: &Fork| !fork.ours && fork.established && fork.ulids == key.ulids;
        if !self.forks.get(&context).is_some_and(is_theirs) || self.of(&key).is_some() {
            return false;
        }
        let learned: Vec<_> = self.all().filter(|forked| forked.learned).collect();
        let of_peer = learned.iter().filter(|forked| forked.key.ulids.peer == key.ulids.peer);
        if learned.len() >= MOST_LEARNED || of_peer.count() >= MOST_LEARNED_OF_PEER {
            return false;
        }
        self.assign(context, key, now);
        true
    }

    /// A packet of a fork has arrived on another pair than the one before.
    pub(crate) fn arrived(&mut self, context: ContextId, on: LocatorPair) {
        if let Some(fork) = self.forks.get_mut(&context).filter(|fork| !fork.ours) {
            fork.follow = Follow {
                wanted: Some(on),
                next: Some(Instant::EPOCH),
                pause: FOLLOW_AGAIN,
                given_up: fork.follow.given_up,
            };
        }
    }

    /// The contexts that are to be looked at now, whether they send where their peer does.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(ContextId, LocatorPair)> {
        let mut due = Vec::new();
        for (&context, fork) in &mut self.forks {
            let follow = &mut fork.follow;
            if follow.next.is_none_or(|next| next > now) {
                continue;
            }
            follow.next = None;
            due.extend(
                follow
                    .wanted
                    .filter(|_| !fork.ours && !follow.given_up)
                    .map(|pair| (context, pair)),
            );
        }
        due
    }

    /// A context does not send where its peer does, and is to be looked at again; at a certain time, if there is one.
    pub(crate) fn look_again(&mut self, context: ContextId, now: Instant, at: Option<Instant>) {
        if let Some(fork) = self.forks.get_mut(&context) {
            let follow = &mut fork.follow;
            follow.next = Some(at.unwrap_or(now + follow.pause).max(now + Duration::from_millis(1)));
            follow.pause = (follow.pause * 2).min(FOLLOW_LATE);
        }
    }

    /// Flows of the peers' forks that have been quiet for long leave them.
    pub(crate) fn forget_quiet(&mut self, now: Instant) {
        for fork in self.forks.values_mut().filter(|fork| !fork.ours) {
            let before = fork.flows.len();
            fork.flows.retain(|flow| now - flow.heard() < FORGET_AFTER);
            self.changed |= fork.flows.len() != before;
        }
    }

    /// When [`due`](Self::due) and [`forget_quiet`](Self::forget_quiet) are to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let follow = self.forks.values().filter_map(|fork| fork.follow.next);
        let learned = self
            .forks
            .values()
            .filter(|fork| !fork.ours)
            .flat_map(|fork| &fork.flows);
        follow.chain(learned.map(|flow| flow.heard() + FORGET_AFTER)).min()
    }

    /// The table of flows, if it has changed since it was taken last.
    pub(crate) fn take_table(&mut self) -> Option<ForkTable> {
        std::mem::take(&mut self.changed).then(|| {
            let established = self.forks.values().filter(|fork| fork.established);
            let flows = established.flat_map(|fork| fork.flows.iter().cloned());
            ForkTable::new(flows.map(|flow| (flow.key, flow)).collect())
        })
    }
}

impl Fork {
    fn new(ulids: LocatorPair, instance: u32, ours: bool) -> Self {
        Self {
            ulids,
            instance,
            ours,
            established: false,
            flows: Vec::new(),
            follow: Follow::default(),
        }
    }
}

#[cfg(test)]
mod tests;
