//! What peers are to be told of this host's locators.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use shim6_core::wire::{Preference, PreferenceFlags};
use shim6_core::{Identity, Instant};

use super::{Follower, LOOK};
use crate::config::UplinkConfig;
use crate::daemon::addresses::Addresses;
use crate::daemon::uplink::Uplink;

/// What the endpoint was told of this host's locators.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Told {
    locators: Vec<Ipv6Addr>,
    preferences: Vec<(Ipv6Addr, Preference)>,
    /// Of each former set that sessions are bound to.
    former: Vec<Vec<Ipv6Addr>>,
}

/// Identities for the endpoint, in the order in which it is to take them.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) identities: Vec<Identity>,
    /// Locators that were in none of the last ones.
    pub(crate) added: Vec<Ipv6Addr>,
    /// All locators.
    pub(crate) all: BTreeSet<Ipv6Addr>,
}

impl Follower {
    /// What the endpoint is to be told, if that is not what it was told last. `bound`: the addresses that sessions are bound to.
    ///
    /// # Errors
    ///
    /// There is no room for so many locators in a message.
    pub(in crate::daemon) fn news(
        &mut self,
        addresses: &Addresses,
        bound: &BTreeSet<Ipv6Addr>,
    ) -> anyhow::Result<Option<News>> {
        self.announced.extend(addresses.proven());
        let assigned: BTreeMap<_, _> = addresses.uplinks().map(|(uplink, address)| (address, uplink)).collect();
        self.announced.retain(|address| assigned.contains_key(address));
        let Some(host) = &self.host else { return Ok(None) };
        let is_listed = |address| self.announced.contains(&address) || bound.contains(&address);
        let present: Vec<_> = self.announced.iter().copied().collect();
        let current = host.identity(is_listed)?;
        let mut identities = host.former_identities(|address| bound.contains(&address), &present)?;
        let former = identities.iter().map(|identity| identity.locators().to_vec());
        let former: Vec<_> = former.collect();
        identities.push(current);
        let all: BTreeSet<_> = identities.iter().flat_map(Identity::locators).copied().collect();
        let preferences = all.iter().map(|locator| {
            let preference = match assigned.get(locator) {
                Some(uplink) => self.preference(uplink),
                // Sessions are bound to it, so peers know it, but the host does not have it any more.
                None => Preference {
                    flags: PreferenceFlags::BROKEN,
                    ..Preference::default()
                },
            };
            (*locator, preference)
        });
        let preferences: Vec<_> = preferences.collect();
        let locators = identities.last().map_or_else(Vec::new, |last| last.locators().to_vec());
        let told = Told {
            locators,
            preferences,
            former,
        };
        if told == self.told {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.told, told);
        let before: BTreeSet<_> = before.former.into_iter().flatten().chain(before.locators).collect();
        let preferences = &self.told.preferences;
        Ok(Some(News {
            identities: identities
                .iter()
                .map(|identity| identity.with_preferences(preferences))
                .collect(),
            added: all.difference(&before).copied().collect(),
            all,
        }))
    }

    /// The endpoint could not be told.
    pub(in crate::daemon) fn untold(&mut self) {
        self.told = Told::default();
    }

    /// Has it looked from time to time as long as peers know what the host does not have any more.
    pub(in crate::daemon) fn look_after_former(&mut self, now: Instant) {
        let broken = |(_, preference): &(Ipv6Addr, Preference)| preference.flags.is_broken();
        if !self.told.former.is_empty() || self.told.preferences.iter().any(broken) {
            self.wake(now + LOOK);
        }
    }

    /// What the configuration says of an uplink.
    fn preference(&self, uplink: &Uplink) -> Preference {
        let is_this = |configured: &&UplinkConfig| {
            configured.interface == uplink.interface || self.called.get(&configured.interface) == Some(&uplink.index)
        };
        let configured = self.uplinks.iter().find(is_this);
        configured.map_or_else(Preference::default, |configured| Preference {
            priority: configured.priority,
            weight: configured.weight,
            ..Preference::default()
        })
    }
}
