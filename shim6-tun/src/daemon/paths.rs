//! Makes the host's routing follow the table of flows: which ULID pairs are steered, and which ULIDs stay local.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use shim6_core::{ContextId, Dataplane, DataplaneUpdate, Flow, Instant, LocatorPair};

use super::outbound::replay;
use super::retry::Retry;
use super::shared::Shared;
use super::steering::{Steering, SteeringError};

/// What is on the host, and what is still to be done because the kernel refused it.
pub(crate) struct Paths<'a> {
    steering: &'a mut Steering,
    shared: Arc<Shared>,
    steered: HashSet<LocatorPair>,
    /// The ULID that each established context holds on to.
    holds: HashMap<ContextId, Ipv6Addr>,
    /// Pairs whose steering may differ from the table.
    unsettled: HashSet<LocatorPair>,
    /// Contexts that look for a path.
    holding: HashSet<ContextId>,
    to_pin: Vec<Ipv6Addr>,
    to_unpin: Vec<Ipv6Addr>,
    retry: Retry,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(steering: &'a mut Steering, shared: Arc<Shared>) -> Self {
        let (steered, unsettled) = (HashSet::new(), HashSet::new());
        let (to_pin, to_unpin) = (Vec::new(), Vec::new());
        Self {
            steering,
            shared,
            steered,
            holds: HashMap::new(),
            unsettled,
            holding: HashSet::new(),
            to_pin,
            to_unpin,
            retry: Retry::default(),
        }
    }

    /// Publishes the changed table and lets routing follow.
    ///
    /// At each moment a packet in the TUN device finds its flow: a new one is in the table before packets are led there,
    /// and one that ends stays in it until they are not.
    pub(crate) async fn apply(&mut self, updates: Vec<DataplaneUpdate>, now: Instant) {
        if updates.is_empty() {
            return;
        }
        let before = self.shared.dataplane.load_full();
        let (mut meanwhile, mut after) = ((*before).clone(), (*before).clone());
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for update in updates {
            let update = self.shared.hold.admit(update);
            match &update {
                DataplaneUpdate::Insert(flow) => {
                    self.unsettled.insert(flow.ulids);
                    if self.holds.insert(flow.context, flow.ulids.local).is_none() {
                        self.to_pin.push(flow.ulids.local);
                    }
                    changed.push(flow.clone());
                    meanwhile.apply(update.clone());
                }
                DataplaneUpdate::Remove(flow) => {
                    self.unsettled.insert(flow.ulids);
                    self.to_unpin.extend(self.holds.remove(&flow.context));
                    gone.push(flow.context);
                }
            }
            after.apply(update);
        }
        let after = Arc::new(after);
        if gone.is_empty() {
            self.publish(after.clone(), &changed, now);
            self.settle_by(&after, now).await;
        } else {
            self.publish(Arc::new(meanwhile), &changed, now);
            self.settle_by(&after, now).await;
            self.shared.dataplane.store(after);
            self.forget_held(&gone);
        }
    }

    /// When something that failed is to be tried again, or what is held is too old.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let times = [self.retry.at(), self.shared.hold.poll_timeout()];
        times.into_iter().flatten().min()
    }

    /// Tries again what failed, if it is time.
    pub(crate) async fn handle_timeout(&mut self, now: Instant) {
        self.shared.hold.handle_timeout(now);
        if self.retry.is_due(now) {
            let table = self.shared.dataplane.load_full();
            self.settle_by(&table, now).await;
        }
    }

    /// The TUN device was down and is up again: the kernel has removed its addresses and routes.
    pub(crate) async fn restore(&mut self, now: Instant) {
        if let Err(error) = self.steering.repin().await {
            tracing::error!(%error, "keeping the ULIDs");
        }
        self.unsettled.extend(self.steered.drain());
        let table = self.shared.dataplane.load_full();
        self.settle_by(&table, now).await;
    }

    /// Publishes a table in which these flows are new. What was held for those that have found a path is sent on it, before
    /// anything newer.
    fn publish(&mut self, table: Arc<Dataplane>, changed: &[Arc<Flow>], now: Instant) {
        let mut found = Vec::new();
        for flow in changed {
            let current = table.flow_by_tag(flow.local_tag);
            if !current.is_some_and(|current| Arc::ptr_eq(current, flow)) {
                // Replaced in the same batch.
                continue;
            }
            if flow.holding {
                self.holding.insert(flow.context);
            } else if self.holding.remove(&flow.context) {
                found.push(flow);
            }
        }
        let hold = &self.shared.hold;
        if found.is_empty() {
            hold.set_active(!self.holding.is_empty());
            return self.shared.dataplane.store(table);
        }
        // Whoever sends waits from here on until the last of them is sent.
        let mut held = hold.lock();
        self.shared.dataplane.store(table.clone());
        for flow in found {
            replay(&self.shared, &table, &held.release(flow, now), now);
        }
        hold.set_active(!self.holding.is_empty());
    }

    /// Drops what is held for contexts that are gone.
    fn forget_held(&mut self, gone: &[ContextId]) {
        for context in gone {
            if self.holding.remove(context) {
                self.shared.hold.lock().discard(*context);
            }
        }
        self.shared.hold.set_active(!self.holding.is_empty());
    }

    async fn settle_by(&mut self, table: &Dataplane, now: Instant) {
        match self.settle(table).await {
            Ok(()) => self.retry.succeeded(),
            Err(error) => {
                let wait = self.retry.failed(now);
                tracing::error!(%error, "steering packets; tried again in {wait:?}");
            }
        }
    }

    /// Does what is to be done; what fails stays to be done.
    async fn settle(&mut self, table: &Dataplane) -> Result<(), SteeringError> {
        while let Some(&ulid) = self.to_pin.last() {
            self.steering.pin(ulid).await?;
            self.to_pin.pop();
        }
        let wanted = |pair: &LocatorPair| table.flow(*pair).is_some_and(|flow| flow.is_steered());
        let wrong = self
            .unsettled
            .iter()
            .filter(|pair| wanted(pair) != self.steered.contains(pair));
        let (steer, unsteer): (Vec<_>, Vec<_>) = wrong.copied().partition(wanted);
        if !steer.is_empty() || !unsteer.is_empty() || self.steering.is_stale() {
            self.steering.apply(&steer, &unsteer).await?;
            self.steered.extend(steer);
            self.steered.retain(|pair| !unsteer.contains(pair));
        }
        self.unsettled.clear();
        while let Some(&ulid) = self.to_unpin.last() {
            self.steering.unpin(ulid).await?;
            self.to_unpin.pop();
        }
        Ok(())
    }
}
