//! Makes the host's routing follow the table of flows: which ULID pairs are steered, and which ULIDs stay local.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use shim6_core::{ContextId, Dataplane, DataplaneUpdate, Flow, Instant, LocatorPair};

use super::forks::{FlowKey, ForkTable};
use super::outbound::replay;
use super::path_mtu::PathMtus;
use super::retry::Retry;
use super::shared::Shared;
use super::shortcut::Shortcut;
use super::steering::{Steering, SteeringError};
use super::uplink::Uplink;

/// Pairs whose steering is changed in one round. An uplink that dies may move 10,000 at once; meanwhile there are probes to
/// send and messages to answer.
const ROUND: usize = 256;

/// What is on the host, and what is still to be done because the kernel refused it.
pub(crate) struct Paths<'a> {
    steering: &'a mut Steering,
    /// The way past the packet tasks.
    shortcut: Option<Shortcut>,
    shared: Arc<Shared>,
    /// Each with the MTU that its route has.
    steered: HashMap<LocatorPair, Option<u32>>,
    /// Flows that are steered whatever becomes of the others between their ULIDs.
    forks: Arc<ForkTable>,
    mtus: PathMtus,
    /// What keeps steered packets from being steered, for people.
    obstacle: Option<String>,
    /// The ULIDs that each established context holds on to.
    holds: HashMap<ContextId, LocatorPair>,
    /// Pairs whose steering may differ from the table.
    unsettled: HashSet<LocatorPair>,
    /// Pairs that the kernel refused, to be tried again with the others when it is time.
    refused: HashSet<LocatorPair>,
    /// What is to be published, and whose contexts are gone then, once their packets are not led into the TUN device any more.
    next: Option<(Arc<Dataplane>, Vec<ContextId>)>,
    /// Something was published that routing has not followed yet.
    changed: bool,
    /// Another round is due.
    backlog: bool,
    /// Contexts that look for a path.
    holding: HashSet<ContextId>,
    to_pin: Vec<LocatorPair>,
    to_unpin: Vec<LocatorPair>,
    retry: Retry,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(
        steering: &'a mut Steering,
        shortcut: Option<Shortcut>,
        mtus: PathMtus,
        shared: Arc<Shared>,
    ) -> Self {
        let (steered, unsettled) = (HashMap::new(), HashSet::new());
        let (to_pin, to_unpin) = (Vec::new(), Vec::new());
        Self {
            steering,
            shortcut,
            shared,
            steered,
            forks: Arc::default(),
            mtus,
            obstacle: None,
            holds: HashMap::new(),
            unsettled,
            refused: HashSet::new(),
            next: None,
            changed: false,
            backlog: false,
            holding: HashSet::new(),
            to_pin,
            to_unpin,
            retry: Retry::default(),
        }
    }

    /// Publishes the changed table, and sends what was held for those that have found a path. Then [`follow`](Self::follow)
    /// has to be called.
    ///
    /// At each moment a packet in the TUN device finds its flow: a new one is in the table before packets are led there,
    /// and one that ends stays in it until they are not.
    pub(crate) fn publish(&mut self, updates: Vec<DataplaneUpdate>, now: Instant) {
        if updates.is_empty() {
            return;
        }
        self.changed = true;
        let before = self.shared.dataplane.load_full();
        let (mut meanwhile, mut after) = ((*before).clone(), (*before).clone());
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for update in updates {
            if let Some(shortcut) = &mut self.shortcut {
                shortcut.announce(&update);
            }
            match &update {
                DataplaneUpdate::Insert(flow) => {
                    self.unsettled.insert(flow.ulids);
                    if self.holds.insert(flow.context, flow.ulids).is_none() {
                        self.to_pin.push(flow.ulids);
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
        if gone.is_empty() {
            self.store(Arc::new(after), &changed, now);
        } else {
            self.store(Arc::new(meanwhile), &changed, now);
            self.next = Some((Arc::new(after), gone));
        }
    }

    /// Lets routing follow what was published: at most [`ROUND`] pairs, and those that are gone.
    pub(crate) async fn follow(&mut self, now: Instant) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        if let Some((after, gone)) = self.next.take() {
            self.settle_by(&after, now).await;
            self.shared.dataplane.store(after);
            self.forget_held(&gone);
        } else {
            let table = self.shared.dataplane.load_full();
            self.settle_by(&table, now).await;
        }
    }

    /// These flows have forks, and no others. Those who move packets have to know of them before [`follow`](Self::follow), and
    /// until then also of those that were before.
    pub(crate) fn set_forks(&mut self, forks: Arc<ForkTable>) {
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.set_forked(forks.iter().map(|forked| forked.key.ulids).collect());
        }
        self.forks = forks;
        self.changed = true;
    }

    /// Whether the packets of a forked flow are steered.
    pub(crate) fn has_fork(&self, key: &FlowKey) -> bool {
        self.steering.has_fork(&key.rule())
    }

    /// Whether some packets go elsewhere than they should until the next round.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// When something that failed is to be tried again, or what is held is too old; at once if not all is done.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let backlog = self.backlog.then_some(Instant::EPOCH);
        let times = [
            backlog,
            self.retry.at(),
            self.shared.hold.poll_timeout(),
            self.mtus.poll_timeout(),
            self.shortcut.as_ref().and_then(Shortcut::poll_timeout),
        ];
        times.into_iter().flatten().min()
    }

    /// Does the next round, and tries again what failed, if it is time.
    pub(crate) async fn handle_timeout(&mut self, now: Instant) {
        self.shared.hold.handle_timeout(now);
        if self.mtus.handle_timeout(now) {
            self.look_again();
        }
        if let Some(shortcut) = &mut self.shortcut {
            let table = self.shared.dataplane.load_full();
            shortcut.handle_timeout(now, &table).await;
        }
        let is_due = self.retry.is_due(now);
        if is_due {
            self.unsettled.extend(self.refused.drain());
        }
        if is_due || self.backlog {
            let table = self.shared.dataplane.load_full();
            self.settle_by(&table, now).await;
        }
    }

    /// The uplinks have these MTUs; what is steered follows with the next round.
    pub(crate) fn set_uplinks<'u>(&mut self, uplinks: impl Iterator<Item = (&'u Uplink, Ipv6Addr)>) {
        let mtus: HashMap<_, _> = uplinks.map(|(uplink, address)| (address, uplink.mtu)).collect();
        if self
            .mtus
            .set_uplinks(mtus.iter().map(|(address, mtu)| (*address, *mtu)))
        {
            self.shared.uplink_mtus.store(Arc::new(mtus));
            self.look_again();
        }
    }

    /// A router has said that packets of more than `mtu` octets between these ULIDs do not fit. Makes the route say so where
    /// the kernel would not believe the router.
    pub(crate) async fn limit_mtu(&mut self, ulids: LocatorPair, mtu: u32, now: Instant) {
        let table = self.shared.dataplane.load_full();
        let Some(flow) = table.flow(ulids) else { return };
        if self.mtus.narrow(flow.locators, mtu, now) {
            tracing::info!(%ulids, path = %flow.locators, mtu, "the path has the smallest MTU there is");
        } else if self
            .steered
            .get(&ulids)
            .is_none_or(|set| *set == self.mtus.of(flow.locators))
        {
            return;
        }
        // Another context may have learned it of this path before.
        self.unsettled.insert(ulids);
        self.settle_by(&table, now).await;
    }

    /// Sees to it that steered packets are steered, whatever rules others have.
    pub(crate) async fn assert_precedence(&mut self) {
        match self.steering.assert_precedence(self.steered.keys().copied()).await {
            Ok(obstacle) => {
                if let Some(obstacle) = obstacle
                    .as_ref()
                    .filter(|obstacle| self.obstacle.as_ref() != Some(obstacle))
                {
                    tracing::error!("{obstacle}");
                }
                self.obstacle = obstacle;
            }
            Err(error) => tracing::error!(%error, "looking whether steered packets are steered"),
        }
    }

    /// The way past the packet tasks, if there is one.
    pub(crate) fn shortcut(&mut self) -> Option<&mut Shortcut> {
        self.shortcut.as_mut()
    }

    /// An interface was removed. If it was of the shortcut, that is none any more.
    pub(crate) fn forget_link(&mut self, index: u32) {
        let Some(shortcut) = &mut self.shortcut else { return };
        let link = shortcut.link();
        if [link.inside, link.outside].contains(&index) {
            tracing::warn!(
                "the daemon's virtual link was removed: steered packets pass through the daemon from now on"
            );
            self.shortcut = None;
        } else {
            shortcut.forget(index);
        }
    }

    /// It is not known which interfaces were removed.
    pub(crate) fn forget_all_links(&mut self) {
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.forget_all();
        }
    }

    /// What was done to packets, by name.
    pub(crate) fn report(&self) -> BTreeMap<String, u64> {
        let mut report = self.shared.report();
        if let Some(shortcut) = &self.shortcut {
            let counts = shortcut.counts();
            // They are rewritten and restored packets as all others.
            for (name, count) in [
                ("out_rewritten", counts.rewritten),
                ("out_rewritten_octets", counts.rewritten_octets),
                ("in_restored", counts.restored),
                ("in_restored_octets", counts.restored_octets),
            ] {
                *report.entry(name.to_owned()).or_default() += count;
            }
            let named = [
                ("shortcut_rewritten", counts.rewritten),
                ("shortcut_restored", counts.restored),
                ("shortcut_failed", counts.failed),
            ];
            report.extend(named.map(|(name, count)| (name.to_owned(), count)));
        }
        report
    }

    /// What keeps steered packets from being steered.
    pub(crate) fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// All that is steered is compared with what it should be, in the next rounds.
    fn look_again(&mut self) {
        self.unsettled.extend(self.steered.keys());
        self.backlog |= !self.unsettled.is_empty();
    }

    /// The TUN device was down and is up again: the kernel has removed its addresses and routes.
    pub(crate) async fn restore(&mut self, now: Instant) {
        if let Err(error) = self.steering.repin().await {
            tracing::error!(%error, "keeping the ULIDs");
        }
        self.unsettled.extend(self.steered.drain().map(|(pair, _)| pair));
        let table = self.shared.dataplane.load_full();
        self.settle_by(&table, now).await;
    }

    /// Makes a table in which these flows are new the one that packets meet. What was held for those that have found a path is
    /// sent on it, before anything newer.
    fn store(&mut self, table: Arc<Dataplane>, changed: &[Arc<Flow>], now: Instant) {
        let mut found = Vec::new();
        for flow in changed {
            let current = table.flow_by_tag(flow.local_tag);
            if !current.is_some_and(|current| Arc::ptr_eq(current, flow)) {
                // Replaced in the same batch.
                continue;
            }
            if flow.holding {
                if self.holding.insert(flow.context) {
                    self.shared.hold.lock().doubt(flow);
                }
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
            Ok(()) if !self.refused.is_empty() => {}
            Ok(()) => self.retry.succeeded(),
            Err(error) => {
                let wait = self.retry.failed(now);
                tracing::error!(%error, "steering packets; tried again in {wait:?}");
            }
        }
    }

    /// Does a round of what is to be done; what fails stays to be done.
    async fn settle(&mut self, table: &Dataplane) -> Result<(), SteeringError> {
        self.backlog = false;
        self.steering.learn_sources(&self.to_pin).await?;
        while let Some(&ulids) = self.to_pin.last() {
            self.steering.pin(ulids).await?;
            self.to_pin.pop();
        }
        // What is refused of a fork must not keep others from being steered.
        let forks = self.settle_forks(table).await;
        let mtus = &self.mtus;
        let wanted = |pair: &LocatorPair| {
            let flow = table.flow(*pair).filter(|flow| flow.is_steered())?;
            Some(mtus.of(flow.locators))
        };
        let steered = &self.steered;
        self.unsettled.retain(|pair| wanted(pair) != steered.get(pair).copied());
        let round = next_round(&self.unsettled, table);
        let (mut steer, mut unsteer) = (Vec::new(), Vec::new());
        for &pair in &round {
            match wanted(&pair) {
                Some(mtu) => steer.push((pair, mtu)),
                None => unsteer.push(pair),
            }
        }
        if let Some(shortcut) = &mut self.shortcut {
            let round: HashSet<_> = round.iter().collect();
            let turn = |pair: &LocatorPair| round.contains(pair) || steered.contains_key(pair);
            shortcut.settle(table, turn).await;
        }
        if !round.is_empty() || self.steering.is_stale() {
            let done = self.steering.apply(&steer, &unsteer).await;
            for pair in &round {
                self.unsettled.remove(pair);
            }
            self.backlog = !self.unsettled.is_empty();
            if done.is_err() {
                self.refused.extend(round);
                return done;
            }
            let has_new = !steer.is_empty();
            self.steered.extend(steer);
            for pair in &unsteer {
                self.steered.remove(pair);
            }
            if has_new {
                self.assert_precedence().await;
            }
        }
        while !self.backlog
            && let Some(&ulids) = self.to_unpin.last()
        {
            self.steering.unpin(ulids).await?;
            self.to_unpin.pop();
        }
        forks
    }
}

impl Paths<'_> {
    async fn settle_forks(&mut self, table: &Dataplane) -> Result<(), SteeringError> {
        let rules: BTreeSet<_> = self.forks.iter().map(|forked| forked.key.rule()).collect();
        let mut routes = BTreeMap::new();
        for forked in self.forks.iter() {
            let ulids = forked.key.ulids;
            let flow = table.flow_on(forked.instance, ulids);
            let mtu = flow.and_then(|flow| self.mtus.of(flow.locators));
            // One route serves all flows between the ULIDs.
            let least = routes.entry(ulids).or_insert(mtu);
            *least = [*least, mtu].into_iter().flatten().min();
        }
        self.steering.settle_forks(&rules, &routes).await
    }
}

/// The pairs to be changed next: all that have no flow any more, since their packets would be dropped, and of the others those
/// that had something to send or to receive last.
fn next_round(unsettled: &HashSet<LocatorPair>, table: &Dataplane) -> Vec<LocatorPair> {
    let last_use = |pair: &LocatorPair| {
        let activity = &table.flow(*pair)?.activity;
        Some(activity.last_sent().max(activity.last_received()))
    };
    let (mut round, mut others) = (Vec::new(), Vec::new());
    for pair in unsettled {
        match last_use(pair) {
            None => round.push(*pair),
            Some(at) => others.push((Reverse(at), *pair)),
        }
    }
    if others.len() > ROUND {
        others.select_nth_unstable_by_key(ROUND, |(at, _)| *at);
        others.truncate(ROUND);
    }
    round.extend(others.into_iter().map(|(_, pair)| pair));
    round
}

#[cfg(test)]
mod tests;
