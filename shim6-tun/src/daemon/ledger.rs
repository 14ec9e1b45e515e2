//! What the daemon added to the host, so that all of it can be taken away again.

use core::net::Ipv6Addr;
use std::collections::{BTreeMap, HashMap};

use futures_util::future::join_all;

use crate::netlink::{AddressSpec, LabelSpec, Netlink, NetlinkError, RouteHints, RouteSpec, RuleSpec, unless_missing};

/// Marks our addresses, routes and rules in the kernel (`proto 140` in the output of `ip`, after
/// Shim6's protocol number).
pub const TAG: u8 = 140;

/// The label of the prefixes whose other addresses are not to be chosen while there is one of ours. Address labels bear no mark of
/// who has added them: this number, which nothing else uses, is ours.
pub const LABEL: u32 = 0x5336;

/// Removes the addresses, address labels, routes, rules and virtual links that an earlier run left because it was killed. Only for a
/// daemon that knows itself to be the only one in its network namespace.
///
/// Returns how many there were.
pub async fn remove_leftovers(netlink: &Netlink) -> Result<usize, NetlinkError> {
    let tagged = netlink.remove_tagged(TAG).await?;
    Ok(tagged + remove_labels(netlink).await? + netlink.remove_virtual_links().await?)
}

/// The lines for our prefixes, and those for single addresses under them.
async fn remove_labels(netlink: &Netlink) -> Result<usize, NetlinkError> {
    let labels = netlink.labels().await?;
    let (ours, others): (Vec<_>, Vec<_>) = labels.into_iter().partition(|label| label.label == LABEL);
    let is_under = |address: Ipv6Addr| {
        ours.iter().any(|ours| {
            let shift = 128 - u32::from(ours.prefix.1);
            let difference = ours.prefix.0.to_bits() ^ address.to_bits();
            difference.checked_shr(shift).is_none_or(|bits| bits == 0)
        })
    };
    let singles = others
        .iter()
        .filter(|label| label.prefix.1 == 128 && is_under(label.prefix.0));
    let mut removed = 0;
    // First the single ones, which are recognised by the others.
    for label in singles.chain(&ours) {
        unless_missing(netlink.delete_label(label).await)?;
        removed += 1;
    }
    Ok(removed)
}

/// Adds addresses, address labels, routes and rules, and remembers those that were not there before.
///
/// What is being added is recorded before the kernel is asked, so that a future may be dropped
/// half-way: undoing then takes away what the kernel did nevertheless.
#[derive(Debug)]
pub struct Ledger {
    netlink: Netlink,
    /// By the order of adding.
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<Entry, u64>,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Address(u32, Ipv6Addr, u8),
    Route(RouteSpec),
    Rule(RuleSpec),
    Label(LabelSpec),
}

impl Ledger {
    /// An empty ledger over the connection's network namespace.
    pub fn new(netlink: &Netlink) -> Self {
        Self {
            netlink: netlink.tagged(TAG),
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            next: 0,
        }
    }

    /// The connection, for reading.
    pub fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// How many objects are recorded.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an address. `false` if the interface had it already: then it stays as it is.
    pub async fn add_address(&mut self, spec: &AddressSpec) -> Result<bool, NetlinkError> {
        let netlink = self.netlink.clone();
        self.add(Entry::address(spec), netlink.add_address(spec)).await
    }

    /// Adds a route. `false` if there was one with the same prefixes and metric.
    pub async fn add_route(&mut self, spec: &RouteSpec) -> Result<bool, NetlinkError> {
        let netlink = self.netlink.clone();
        self.add(Entry::Route(*spec), netlink.add_route(spec)).await
    }

    /// Adds a rule. `false` if there was the same one.
    pub async fn add_rule(&mut self, spec: &RuleSpec) -> Result<bool, NetlinkError> {
        let netlink = self.netlink.clone();
        self.add(Entry::Rule(*spec), netlink.add_rule(spec)).await
    }

    /// Adds an address label. `false` if there was one for the same prefix.
    pub async fn add_label(&mut self, spec: &LabelSpec) -> Result<bool, NetlinkError> {
        let netlink = self.netlink.clone();
        self.add(Entry::Label(*spec), netlink.add_label(spec)).await
    }

    /// Sets the lifetimes of an address if it is ours. `false` if it is not.
    pub async fn set_address(&mut self, spec: &AddressSpec) -> Result<bool, NetlinkError> {
        if !self.numbers.contains_key(&Entry::address(spec)) {
            return Ok(false);
        }
        self.netlink.set_address(spec).await.map(|()| true)
    }

    /// Adds routes, or gives those that are there what they say beside where packets go. All of them are asked for before the
    /// first answer: what they cost is then mostly the kernel's work. Only for tables in which nobody else has routes.
    pub async fn set_routes(&mut self, specs: &[(RouteSpec, RouteHints)]) -> Vec<Result<bool, NetlinkError>> {
        let netlink = self.netlink.clone();
        let set = |(spec, hints): &(RouteSpec, RouteHints)| {
            let (netlink, spec, hints) = (netlink.clone(), *spec, *hints);
            (
                Entry::Route(spec),
                async move { netlink.set_route(&spec, &hints).await },
            )
        };
        let entries = specs.iter().map(set);
        let (entries, requests): (Vec<_>, Vec<_>) = entries.unzip();
        let were_ours: Vec<_> = entries.iter().map(|entry| self.begin(*entry)).collect();
        let answers = join_all(requests).await;
        let begun = entries.into_iter().zip(were_ours).zip(answers);
        begun
            .map(|((entry, was_ours), added)| self.added(entry, was_ours, added))
            .collect()
    }

    /// Deletes an address if it is ours. `false` if it is not, or was gone.
    pub async fn remove_address(&mut self, spec: &AddressSpec) -> Result<bool, NetlinkError> {
        self.remove(Entry::address(spec)).await
    }

    /// Deletes a route if it is ours. `false` if it is not, or was gone.
    pub async fn remove_route(&mut self, spec: &RouteSpec) -> Result<bool, NetlinkError> {
        self.remove(Entry::Route(*spec)).await
    }

    /// Deletes a rule if it is ours. `false` if it is not, or was gone.
    pub async fn remove_rule(&mut self, spec: &RuleSpec) -> Result<bool, NetlinkError> {
        self.remove(Entry::Rule(*spec)).await
    }

    /// Deletes an address label if it is ours. `false` if it is not, or was gone.
    pub async fn remove_label(&mut self, spec: &LabelSpec) -> Result<bool, NetlinkError> {
        self.remove(Entry::Label(*spec)).await
    }

    /// Deletes those of the routes that are ours, as [`set_routes`](Self::set_routes) adds them.
    pub async fn remove_routes(&mut self, specs: &[RouteSpec]) -> Vec<Result<bool, NetlinkError>> {
        let netlink = self.netlink.clone();
        let ours = |spec: &&RouteSpec| self.numbers.contains_key(&Entry::Route(**spec));
        let ours: Vec<_> = specs.iter().filter(ours).collect();
        let answers = join_all(ours.iter().map(|spec| netlink.delete_route(spec))).await;
        let answers = ours.into_iter().zip(answers);
        answers
            .map(|(spec, deleted)| self.deleted(&Entry::Route(*spec), deleted))
            .collect()
    }

    /// Deletes everything recorded, last added first. What is gone already is fine; what cannot
    /// be deleted is reported, stays recorded, and does not keep the rest from being deleted.
    pub async fn undo_all(&mut self) -> Vec<NetlinkError> {
        let mut errors = Vec::new();
        let numbers: Vec<u64> = self.entries.keys().rev().copied().collect();
        for number in numbers {
            let Some(&entry) = self.entries.get(&number) else {
                continue;
            };
            if let Err(error) = self.remove(entry).await {
                errors.push(error);
            }
        }
        errors
    }

    async fn add(
        &mut self,
        entry: Entry,
        request: impl Future<Output = Result<(), NetlinkError>>,
    ) -> Result<bool, NetlinkError> {
        let was_ours = self.begin(entry);
        let added = request.await;
        self.added(entry, was_ours, added)
    }

    /// Something is about to be added. Returns whether it was before.
    fn begin(&mut self, entry: Entry) -> bool {
        let was_ours = self.numbers.contains_key(&entry);
        if !was_ours {
            self.record(entry);
        }
        was_ours
    }

    /// The kernel's answer is there.
    fn added(&mut self, entry: Entry, was_ours: bool, added: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
        if added.is_ok() {
            // The kernel may have removed it meanwhile, and we added it again: it is the latest now.
            self.record(entry);
        } else if !was_ours {
            self.forget(&entry);
        }
        match added {
            Err(error) if error.is_exists() => Ok(false),
            added => added.map(|()| true),
        }
    }

    fn record(&mut self, entry: Entry) {
        self.forget(&entry);
        self.entries.insert(self.next, entry);
        self.numbers.insert(entry, self.next);
        self.next += 1;
    }

    async fn remove(&mut self, entry: Entry) -> Result<bool, NetlinkError> {
        if !self.numbers.contains_key(&entry) {
            return Ok(false);
        }
        let deleted = match &entry {
            Entry::Address(index, address, prefix_len) => {
                let netlink = &self.netlink;
                netlink.delete_address(*index, *address, *prefix_len).await
            }
            Entry::Route(spec) => self.netlink.delete_route(spec).await,
            Entry::Rule(spec) => self.netlink.delete_rule(spec).await,
            Entry::Label(spec) => self.netlink.delete_label(spec).await,
        };
        self.deleted(&entry, deleted)
    }

    fn deleted(&mut self, entry: &Entry, deleted: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
        let was_there = deleted.is_ok();
        unless_missing(deleted)?;
        self.forget(entry);
        Ok(was_there)
    }

    fn forget(&mut self, entry: &Entry) {
        if let Some(number) = self.numbers.remove(entry) {
            self.entries.remove(&number);
        }
    }
}

impl Entry {
    fn address(spec: &AddressSpec) -> Self {
        Self::Address(spec.index, spec.address, spec.prefix_len)
    }
}

#[cfg(test)]
mod tests;
