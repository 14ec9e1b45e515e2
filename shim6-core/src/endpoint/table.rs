//! The contexts, and all ways to find one.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use core::net::Ipv6Addr;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use rand_core::Rng;
use shim6_reap::{Instant, LocatorPair};

use crate::context::Context;
use crate::id::ContextId;
use crate::rate::site_prefix;
use crate::wire::ContextTag;

/// All contexts of an endpoint.
///
/// The indices hold names only and compare with what is in the context: that is what keeps a context small. Their order
/// depends on the hashes' key, so nothing that is sent may depend on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Contexts {
    by_id: HashMap<ContextId, Box<Context>>,
    by_ulids: HashTable<ContextId>,
    by_local_tag: HashTable<ContextId>,
    /// Several peers may have picked the same tag.
    by_peer_tag: HashTable<ContextId>,
    by_nonce: HashTable<ContextId>,
    hasher: DefaultHashBuilder,
    /// All of them, to draw from.
    lot: Vec<ContextId>,
    per_peer: HashMap<Ipv6Addr, u32>,
    per_prefix: HashMap<u64, u32>,
    timers: BTreeSet<(Instant, ContextId)>,
    last_id: u64,
}

/// What a context can be found by, apart from its name. Two of them change while it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Keys {
    ulids: (LocatorPair, u32),
    local_tag: ContextTag,
    peer_tag: Option<ContextTag>,
    nonce: Option<u32>,
}

impl Keys {
    fn of(context: &Context) -> Self {
        Self {
            ulids: (context.ulids, context.forked_instance),
            local_tag: context.local_tag,
            peer_tag: context.peer_tag(),
            nonce: context.exchange.as_ref().map(|exchange| exchange.nonce),
        }
    }
}

impl Contexts {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Context> + '_ {
        self.by_id.values().map(Box::as_ref)
    }

    /// All names, the oldest first.
    pub(super) fn ids(&self) -> Vec<ContextId> {
        let mut ids = self.lot.clone();
        ids.sort_unstable();
        ids
    }

    pub(super) fn get(&self, id: ContextId) -> Option<&Context> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    /// The context of a ULID pair and Forked Instance Identifier.
    pub(super) fn by_ulids(&self, ulids: LocatorPair, forked_instance: u32) -> Option<&Context> {
        let key = (ulids, forked_instance);
        let is_it = |id: &ContextId| self.keys(*id).is_some_and(|keys| keys.ulids == key);
        self.get(*self.by_ulids.find(self.hash(key), is_it)?)
    }

    /// The context with this CT(local).
    pub(super) fn by_local_tag(&self, tag: ContextTag) -> Option<&Context> {
        let is_it = |id: &ContextId| self.keys(*id).is_some_and(|keys| keys.local_tag == tag);
        self.get(*self.by_local_tag.find(self.hash(tag), is_it)?)
    }

    /// The contexts with this CT(peer), the oldest first.
    pub(super) fn by_peer_tag(&self, tag: ContextTag) -> Vec<ContextId> {
        let found = self.by_peer_tag.iter_hash(self.hash(tag)).copied();
        let mut ids: Vec<_> = found
            .filter(|&id| self.keys(id).is_some_and(|keys| keys.peer_tag == Some(tag)))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The context whose exchange has this Initiator Nonce.
    pub(super) fn by_nonce(&self, nonce: u32) -> Option<&Context> {
        let is_it = |id: &ContextId| self.keys(*id).is_some_and(|keys| keys.nonce == Some(nonce));
        self.get(*self.by_nonce.find(self.hash(nonce), is_it)?)
    }

    /// How many contexts there are with a peer ULID, and with all that share its site's prefix.
    pub(super) fn with_peer(&self, peer: Ipv6Addr) -> (usize, usize) {
        let with_peer = self.per_peer.get(&peer).copied().unwrap_or(0);
        (with_peer as usize, self.with_prefix_of(peer))
    }

    pub(super) fn with_prefix_of(&self, peer: Ipv6Addr) -> usize {
        self.per_prefix.get(&site_prefix(peer)).copied().unwrap_or(0) as usize
    }

    /// A context drawn by lot.
    pub(super) fn draw(&self, rng: &mut dyn Rng) -> Option<&Context> {
        let place = (u64::from(rng.next_u32()) * self.lot.len() as u64) >> 32;
        self.get(*self.lot.get(place as usize)?)
    }

    /// When the first timer runs out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// The contexts whose timers have run out.
    pub(super) fn due(&self, now: Instant) -> Vec<ContextId> {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        due.map(|&(_, id)| id).collect()
    }

    /// A name that no context has had.
    pub(super) fn next_id(&mut self) -> ContextId {
        self.last_id += 1;
        ContextId(self.last_id)
    }

    /// Adds a context with a name of [`next_id`](Self::next_id).
    pub(super) fn insert(&mut self, mut context: Context) {
        let id = context.id;
        let peer = context.ulids.peer;
        context.place = self.lot.len() as u32;
        self.lot.push(id);
        *self.per_peer.entry(peer).or_default() += 1;
        *self.per_prefix.entry(site_prefix(peer)).or_default() += 1;
        let keys = Keys::of(&context);
        self.by_id.insert(id, Box::new(context));
        self.index(id, &keys);
        self.schedule(id);
    }

    /// Changes a context. Whatever is changed, it is found by its new tags and nonce, and its timer is where it belongs.
    pub(super) fn modify<R>(&mut self, id: ContextId, change: impl FnOnce(&mut Context) -> R) -> Option<R> {
        let context = self.by_id.get_mut(&id)?;
        let before = Keys::of(context);
        let result = change(context);
        let after = Keys::of(context);
        if before != after {
            self.unindex(id, &before);
            self.index(id, &after);
        }
        self.schedule(id);
        Some(result)
    }

    pub(super) fn remove(&mut self, id: ContextId) -> Option<Context> {
        let keys = self.keys(id)?;
        self.unindex(id, &keys);
        let context = *self.by_id.remove(&id)?;
        if let Some(timer) = context.timer {
            self.timers.remove(&(timer, id));
        }
        self.lot.swap_remove(context.place as usize);
        if let Some(moved) = self.lot.get(context.place as usize)
            && let Some(moved) = self.by_id.get_mut(moved)
        {
            moved.place = context.place;
        }
        decrement(&mut self.per_peer, &context.ulids.peer);
        decrement(&mut self.per_prefix, &site_prefix(context.ulids.peer));
        Some(context)
    }

    fn keys(&self, id: ContextId) -> Option<Keys> {
        self.get(id).map(Keys::of)
    }

    fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Enters a context, which is in `by_id`, in the indices.
    fn index(&mut self, id: ContextId, keys: &Keys) {
        let (by_id, hasher) = (&self.by_id, &self.hasher);
        // Called when a table grows, for each of its contexts.
        let rehash = |id: &ContextId, key: fn(&Keys, &DefaultHashBuilder) -> u64| {
            by_id.get(id).map_or(0, |context| key(&Keys::of(context), hasher))
        };
        let (ulids, local): (KeyHash, KeyHash) = (|k, h| h.hash_one(k.ulids), |k, h| h.hash_one(k.local_tag));
        self.by_ulids
            .insert_unique(ulids(keys, hasher), id, |id| rehash(id, ulids));
        self.by_local_tag
            .insert_unique(local(keys, hasher), id, |id| rehash(id, local));
        if let Some(tag) = keys.peer_tag {
            let hash: KeyHash = |k, h| k.peer_tag.map_or(0, |tag| h.hash_one(tag));
            self.by_peer_tag
                .insert_unique(hasher.hash_one(tag), id, |id| rehash(id, hash));
        }
        if let Some(nonce) = keys.nonce {
            let hash: KeyHash = |k, h| k.nonce.map_or(0, |nonce| h.hash_one(nonce));
            self.by_nonce
                .insert_unique(hasher.hash_one(nonce), id, |id| rehash(id, hash));
        }
    }

    fn unindex(&mut self, id: ContextId, keys: &Keys) {
        let (ulids, local_tag) = (self.hash(keys.ulids), self.hash(keys.local_tag));
        let tables = [
            (&mut self.by_ulids, Some(ulids)),
            (&mut self.by_local_tag, Some(local_tag)),
            (
                &mut self.by_peer_tag,
                keys.peer_tag.map(|tag| self.hasher.hash_one(tag)),
            ),
            (&mut self.by_nonce, keys.nonce.map(|nonce| self.hasher.hash_one(nonce))),
        ];
        for (table, hash) in tables {
            if let Some(hash) = hash
                && let Ok(entry) = table.find_entry(hash, |other| *other == id)
            {
                entry.remove();
            }
        }
    }

    /// Moves a context to its place in the timer queue.
    fn schedule(&mut self, id: ContextId) {
        let Some(context) = self.by_id.get_mut(&id) else {
            return;
        };
        let deadline = context.deadline();
        if deadline != context.timer {
            if let Some(timer) = core::mem::replace(&mut context.timer, deadline) {
                self.timers.remove(&(timer, id));
            }
            if let Some(deadline) = deadline {
                self.timers.insert((deadline, id));
            }
        }
    }
}

type KeyHash = fn(&Keys, &DefaultHashBuilder) -> u64;

fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
impl Contexts {
    /// No context, and nothing that one left behind.
    pub(super) fn assert_empty(&self) {
        assert_eq!(self.len(), 0);
        self.assert_indices_agree();
        assert!(self.per_peer.is_empty() && self.per_prefix.is_empty());
    }

    /// Gives a context a tag that its host would not have drawn.
    pub(super) fn set_local_tag(&mut self, id: ContextId, tag: ContextTag) {
        self.modify(id, |context| context.local_tag = tag);
    }
}

#[cfg(any(test, fuzzing))]
impl Contexts {
    /// Each context is in all the tables that its state asks for, and nothing else is.
    pub(super) fn assert_indices_agree(&self) {
        let count = |has: fn(&Keys) -> bool| self.iter().filter(|context| has(&Keys::of(context))).count();
        assert_eq!(self.by_ulids.len(), self.len());
        assert_eq!(self.by_local_tag.len(), self.len());
        assert_eq!(self.by_peer_tag.len(), count(|keys| keys.peer_tag.is_some()));
        assert_eq!(self.by_nonce.len(), count(|keys| keys.nonce.is_some()));
        assert_eq!(self.timers.len(), self.iter().filter(|c| c.timer.is_some()).count());
        assert_eq!(self.lot.len(), self.len());
        assert_eq!(self.per_peer.values().sum::<u32>() as usize, self.len());
        assert_eq!(self.per_prefix.values().sum::<u32>() as usize, self.len());
        for context in self.iter() {
            let id = context.id;
            assert!(context.exchange.is_some() || context.association.is_some());
            let found = self.by_ulids(context.ulids, context.forked_instance);
            assert_eq!(found.map(|found| found.id), Some(id));
            assert_eq!(self.by_local_tag(context.local_tag).map(|found| found.id), Some(id));
            assert!(context.peer_tag().is_none_or(|tag| self.by_peer_tag(tag).contains(&id)));
            let nonce = context.exchange.as_ref().map(|exchange| exchange.nonce);
            assert!(nonce.is_none_or(|nonce| self.by_nonce(nonce).is_some_and(|found| found.id == id)));
            assert_eq!(context.timer, context.deadline());
            assert!(context.timer.is_none_or(|timer| self.timers.contains(&(timer, id))));
            assert_eq!(self.lot[context.place as usize], id);
        }
    }
}
