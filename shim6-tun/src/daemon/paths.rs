//! Makes the host's routing follow the table of flows: which ULID pairs are steered, and which ULIDs stay local.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use shim6_core::{ContextId, DataplaneUpdate, Instant, LocatorPair};

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
        let mut ends = false;
        for update in updates {
            match &update {
                DataplaneUpdate::Insert(flow) => {
                    self.unsettled.insert(flow.ulids);
                    if self.holds.insert(flow.context, flow.ulids.local).is_none() {
                        self.to_pin.push(flow.ulids.local);
                    }
                    meanwhile.apply(update.clone());
                }
                DataplaneUpdate::Remove(flow) => {
                    self.unsettled.insert(flow.ulids);
                    self.to_unpin.extend(self.holds.remove(&flow.context));
                    ends = true;
                }
            }
            after.apply(update);
        }
        let after = Arc::new(after);
        if ends {
            self.shared.dataplane.store(Arc::new(meanwhile));
            self.settle_by(&after, now).await;
        }
        self.shared.dataplane.store(after.clone());
        if !ends {
            self.settle_by(&after, now).await;
        }
    }

    /// When something that failed is to be tried again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.retry.at()
    }

    /// Tries again what failed, if it is time.
    pub(crate) async fn handle_timeout(&mut self, now: Instant) {
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

    async fn settle_by(&mut self, table: &shim6_core::Dataplane, now: Instant) {
        match self.settle(table).await {
            Ok(()) => self.retry.succeeded(),
            Err(error) => {
                let wait = self.retry.failed(now);
                tracing::error!(%error, "steering packets; tried again in {wait:?}");
            }
        }
    }

    /// Does what is to be done; what fails stays to be done.
    async fn settle(&mut self, table: &shim6_core::Dataplane) -> Result<(), SteeringError> {
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
