//! Which addresses this host takes: those of its identity on disk, so that they are the same after a restart.
//!
//! ```text
//! identity on disk        uplinks whose prefix is in it    what the host takes
//! none                    -                                a new set over all uplinks, stored
//! made by the daemon      all                              the stored set
//!                         not all                          a new set over all uplinks, stored in its place
//! made by a person        all                              the stored set
//!                         some                             the stored set; on the other uplinks addresses that are
//!                                                          signed with its key, or none if it has no key
//!                         none                             a new set, for this run only
//! ```
//!
//! What a person has made is never replaced: names in DNS may depend on it.

use std::time::SystemTime;

use anyhow::Context as _;
use shim6_cga::{Cga, HbaSet, PrivateKey, Sec, SubnetPrefix};
use shim6_core::Identity;

use super::generation;
use super::uplink::Uplink;
use crate::config::AddressConfig;
use crate::identity::{Store, StoredIdentity};

/// The addresses of this run, and where they are kept.
#[derive(Debug)]
pub(super) struct HostAddresses {
    /// One address for each prefix of the set, which may have more prefixes than there are uplinks.
    set: HbaSet,
    /// Addresses under prefixes that the set does not have (RFC 5535 section 8.1).
    later: Vec<Cga>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    store: Store,
    identity: StoredIdentity,
}

impl HostAddresses {
    /// Finds or makes the addresses, and takes those uplinks out for which there are none.
    ///
    /// # Errors
    ///
    /// The identity on disk cannot be read, or the uplinks' prefixes cannot make a set.
    pub(super) async fn obtain(config: &AddressConfig, uplinks: &mut Vec<Uplink>) -> anyhow::Result<Self> {
        let Some(directory) = &config.identity else {
            return Ok(Self::passing(generate(config, uplinks, None).await?));
        };
        let store = Store::new(directory);
        let Some(identity) = store.load()? else {
            return Self::make(config, uplinks, store).await;
        };
        let covers = |uplink: &Uplink| identity.set.prefixes().contains(&SubnetPrefix::from(uplink.prefix));
        let missing: Vec<&Uplink> = uplinks.iter().filter(|uplink| !covers(uplink)).collect();
        let mut later = Vec::new();
        if missing.is_empty() {
            tracing::info!(directory = %directory.display(), "taking the addresses of the stored identity");
        } else if identity.automatic {
            tracing::warn!(
                uplinks = %names(&missing),
                "the stored identity has no address for these uplinks: making a new one, with other addresses"
            );
            return Self::make(config, uplinks, store).await;
        } else if missing.len() == uplinks.len() {
            tracing::warn!(
                directory = %directory.display(),
                "the stored identity is for other prefixes than those of the uplinks: taking other addresses for this run; \
                 `shim6 address generate --force` makes lasting ones"
            );
            return Ok(Self::passing(generate(config, uplinks, None).await?));
        } else if let Some(key) = &identity.key {
            tracing::info!(
                uplinks = %names(&missing),
                "the stored identity has no address for these uplinks: sessions can move to them, with addresses that are \
                 signed with its key, but not start on them"
            );
            for uplink in missing {
                later.push(signed_later(uplink, key)?);
            }
        } else {
            tracing::warn!(
                uplinks = %names(&missing),
                "the stored identity has no address for these uplinks: they are not used; \
                 `shim6 address generate --force` makes an identity for all uplinks, with other addresses"
            );
            uplinks.retain(covers);
        }
        Ok(Self {
            set: identity.set.clone(),
            later,
            kept: Some(Kept { store, identity }),
        })
    }

    /// The uplinks with their addresses.
    pub(super) fn on<'a>(&'a self, uplinks: &'a [Uplink]) -> impl Iterator<Item = (&'a Uplink, core::net::Ipv6Addr)> {
        uplinks.iter().filter_map(|uplink| {
            let prefix = SubnetPrefix::from(uplink.prefix);
            let later = self.later.iter().map(Cga::address);
            let mut all = self.set.addresses().iter().copied().chain(later);
            Some((uplink, all.find(|address| prefix.contains(address))?))
        })
    }

    /// What peers are told of these uplinks.
    pub(super) fn identity(&self, uplinks: &[Uplink]) -> anyhow::Result<Identity> {
        let mut rng = rand::rng();
        let is_present = |address| self.on(uplinks).any(|(_, present)| present == address);
        let identity = Identity::from_hba_subset(&self.set, is_present, &mut rng);
        let key = self.kept.as_ref().and_then(|kept| kept.identity.key.as_ref());
        let later: Vec<_> = self.later.iter().map(Cga::address).collect();
        match key {
            Some(key) if !later.is_empty() => identity.with_signed_locators(key, &later, &mut rng).context(
                "signing the addresses that are not in the set; name fewer uplinks in the configuration, or make an \
                     identity for all of them: shim6 address generate --force",
            ),
            _ => Ok(identity),
        }
    }

    /// Goes on to the next collision count after a duplicate (RFC 5535 section 6, step 6.4); false after the last one.
    pub(super) fn avoid_duplicate(&mut self) -> bool {
        let next = self.set.collision_count() + 1;
        let later = self.later.iter().map(|address| address.with_collision_count(next));
        match (self.set.with_collision_count(next), later.collect()) {
            (Ok(set), Ok(later)) => {
                (self.set, self.later) = (set, later);
                true
            }
            _ => false,
        }
    }

    /// Keeps the collision count that worked for the next start.
    pub(super) fn keep(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        if kept.identity.set != self.set {
            kept.identity.set = self.set.clone();
            save(&kept.store, &kept.identity);
        }
    }

    async fn make(config: &AddressConfig, uplinks: &[Uplink], store: Store) -> anyhow::Result<Self> {
        let set = generate(config, uplinks, Some(&store)).await?;
        let identity = StoredIdentity {
            set: set.clone(),
            key: None,
            created: SystemTime::now(),
            automatic: true,
        };
        save(&store, &identity);
        Ok(Self {
            set,
            later: Vec::new(),
            kept: Some(Kept { store, identity }),
        })
    }

    fn passing(set: HbaSet) -> Self {
        Self {
            set,
            later: Vec::new(),
            kept: None,
        }
    }
}

/// A host that cannot keep its addresses can still use them.
fn save(store: &Store, identity: &StoredIdentity) {
    if let Err(error) = store.save(identity) {
        tracing::warn!(%error, "the addresses cannot be kept: the next start makes others");
    }
}

/// A new HBA set over the uplinks' prefixes.
async fn generate(config: &AddressConfig, uplinks: &[Uplink], store: Option<&Store>) -> anyhow::Result<HbaSet> {
    let prefixes: Vec<_> = uplinks.iter().map(|uplink| SubnetPrefix::from(uplink.prefix)).collect();
    generation::generate(Sec::try_from(config.sec)?, &prefixes, store).await
}

/// An address for an uplink whose prefix the set does not have. New at each start, as nobody knows it by name.
fn signed_later(uplink: &Uplink, key: &PrivateKey) -> anyhow::Result<Cga> {
    let prefix = SubnetPrefix::from(uplink.prefix);
    Cga::generate(prefix, key.public_key().spki(), &[], Sec::ZERO, &mut rand::rng())
        .with_context(|| format!("making an address for {}", uplink.interface))
}

fn names(uplinks: &[&Uplink]) -> String {
    let names: Vec<_> = uplinks.iter().map(|uplink| uplink.interface.as_str()).collect();
    names.join(", ")
}
