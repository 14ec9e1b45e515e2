//! Which addresses this host takes: those of its identity on disk, so that they are the same after a restart.
//!
//! ```text
//! identity on disk        prefixes of the uplinks in it    what the host takes
//! none                    -                                a new set over all, stored
//! made by the daemon      all                              the stored set
//!                         not all                          a new set over all, stored in its place
//! made by a person        all                              the stored set
//!                         some                             the stored set; under the other prefixes addresses that are
//!                                                          signed with its key, or none if it has no key
//!                         none                             a new set, for this run only
//! ```
//!
//! What a person has made is never replaced: names in DNS may depend on it. A file that holds no identity, as after a bad disk, is set
//! aside under another name, and taken for none; the person is told. Where only the key is lost, the set is used without.
//!
//! That is at the start. A prefix that comes later gets a signed address: the set stays, since sessions under way are bound to it.
//! Only when no prefix of the set is left there is a new one, with the same key, so that new sessions can be protected. The
//! former set is kept as long as sessions are bound to it, and its sessions can move to the new addresses, which are signed for
//! them (RFC 5535 section 8.1).

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::SystemTime;

use anyhow::Context as _;
use shim6_cga::{Cga, HbaSet, PrivateKey, Sec, SubnetPrefix};
use shim6_core::Identity;

use super::generation;
use crate::config::AddressConfig;
use crate::identity::{IdentityError, PublicIdentity, Store, StoredIdentity};

/// Most former sets that are remembered, for a host that goes from network to network.
const MAX_FORMER: usize = 8;

/// The addresses of this run, and where they are kept.
#[derive(Debug)]
pub(super) struct HostAddresses {
    /// One address for each prefix of its set, which may have more prefixes than there are uplinks. And the key.
    identity: StoredIdentity,
    /// Addresses under prefixes that the set does not have (RFC 5535 section 8.1).
    later: Vec<Cga>,
    /// Sets before this one with the same key, the latest last: sessions may be bound to them, and their prefixes may come back.
    former: Vec<HbaSet>,
    /// Addresses that other hosts have.
    taken: BTreeSet<Ipv6Addr>,
    /// None for this run only.
    store: Option<Store>,
    /// What was wrong with the identity on disk, for people.
    damage: Option<String>,
    /// Why the addresses are not kept, for people.
    unkept: Option<String>,
}

/// A set that was made in place of one that serves no more, see [`HostAddresses::renewal`].
#[derive(Debug)]
pub(super) struct Renewal {
    set: HbaSet,
    /// The set's key, where it is not the one that the host has.
    key: Option<PrivateKey>,
}

impl HostAddresses {
    /// Finds or makes addresses for these prefixes.
    ///
    /// # Errors
    ///
    /// The identity on disk cannot be read, or the prefixes cannot make a set.
    pub(super) async fn obtain(config: &AddressConfig, prefixes: &[Ipv6Addr]) -> anyhow::Result<Self> {
        let Some(directory) = &config.identity else {
            return Ok(Self::of(generate(config, prefixes, None).await?, None));
        };
        let store = Store::new(directory);
        let mut damage = None;
        let identity = match store.load() {
            Err(error) if error.is_damage() => return Self::replace_damaged(config, prefixes, store, &error).await,
            Err(error) if error.is_lost_key() => {
                damage = Some(without_key(&error));
                store.load_public()?.map(PublicIdentity::without_key)
            }
            identity => identity?,
        };
        let Some(identity) = identity else {
            return Self::make(config, prefixes, store).await;
        };
        let covers = |prefix: &&Ipv6Addr| identity.set.prefixes().contains(&SubnetPrefix::from(**prefix));
        let missing: Vec<&Ipv6Addr> = prefixes.iter().filter(|prefix| !covers(prefix)).collect();
        if missing.is_empty() {
            tracing::info!(directory = %directory.display(), "taking the addresses of the stored identity");
        } else if identity.automatic {
            tracing::warn!(
                prefixes = %list(&missing),
                "the stored identity has no address for these prefixes: making a new one, with other addresses"
            );
            return Self::make(config, prefixes, store).await;
        } else if missing.len() == prefixes.len() {
            tracing::warn!(
                directory = %directory.display(),
                "the stored identity is for other prefixes than those of the uplinks: taking other addresses for this run; \
                 `shim6 address generate --force` makes lasting ones"
            );
            return Ok(Self::of(generate(config, prefixes, None).await?, None));
        } else if identity.key.is_some() {
            tracing::info!(
                prefixes = %list(&missing),
                "the stored identity has no address for these prefixes: sessions can move to them, with addresses that are \
                 signed with its key, but not start on them"
            );
        } else {
            tracing::warn!(
                prefixes = %list(&missing),
                "the stored identity has no address for these prefixes: they are not used; \
                 `shim6 address generate --force` makes an identity for all of them, with other addresses"
            );
        }
        Ok(Self {
            damage,
            ..Self::of(identity, Some(store))
        })
    }

    /// Looks whether the identity on disk, if there is one, can be used at all.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub(super) fn check(config: &AddressConfig) -> anyhow::Result<()> {
        if let Some(directory) = &config.identity {
            match Store::new(directory).load() {
                Err(error) if error.is_damage() || error.is_lost_key() => {}
                read => drop(read?),
            }
        }
        Ok(())
    }

    /// The address under a prefix; made and signed later on, where the set has none. None if there is none: the set has no key.
    pub(super) fn under(&mut self, prefix: Ipv6Addr) -> anyhow::Result<Option<Ipv6Addr>> {
        let wanted = SubnetPrefix::from(prefix);
        if let Some(address) = self.known(wanted) {
            return Ok(Some(address));
        }
        // One that is there all the same is another host's, and so were those before it.
        let is_exhausted = self.later.iter().any(|later| wanted.contains(&later.address()));
        let Some(key) = self.identity.key.as_ref().filter(|_| !is_exhausted) else {
            return Ok(None);
        };
        let made = Cga::generate(wanted, key.public_key().spki(), &[], Sec::ZERO, &mut rand::rng())
            .with_context(|| format!("making an address for {prefix}/64"))?;
        let address = made.address();
        self.later.push(made);
        Ok(Some(address))
    }

    /// Whether the set has an address under this prefix that this host can have.
    pub(super) fn is_member(&self, prefix: Ipv6Addr) -> bool {
        let prefix = SubnetPrefix::from(prefix);
        let mut members = self.members();
        members.any(|address| prefix.contains(&address))
    }

    /// Whether an address is one of the set, so that sessions can start from it.
    pub(super) fn is_ulid(&self, address: Ipv6Addr) -> bool {
        self.identity.set.addresses().contains(&address)
    }

    /// What peers are told when the host has those addresses of which `is_present` says so.
    ///
    /// # Errors
    ///
    /// There is no room for so many in a message.
    pub(super) fn identity(&self, is_present: impl Fn(Ipv6Addr) -> bool) -> anyhow::Result<Identity> {
        let later = self.later.iter().map(Cga::address).filter(|later| is_present(*later));
        self.signed(&self.identity.set, &later.collect::<Vec<_>>(), is_present)
    }

    /// What those peers are told with whom sessions are bound to a former set, and the addresses that such sessions may be bound
    /// to.
    ///
    /// # Errors
    ///
    /// As [`identity`](Self::identity).
    pub(super) fn former_identities(
        &self,
        is_bound: impl Fn(Ipv6Addr) -> bool,
        present: &[Ipv6Addr],
    ) -> anyhow::Result<Vec<Identity>> {
        let bound = |set: &&HbaSet| set.addresses().iter().any(|address| is_bound(*address));
        let identities = self.former.iter().filter(bound).map(|set| {
            let others: Vec<_> = present
                .iter()
                .copied()
                .filter(|a| !set.addresses().contains(a))
                .collect();
            let is_listed = |address| is_bound(address) || present.contains(&address);
            self.signed(set, &others, is_listed)
        });
        identities.collect()
    }

    /// Goes back to a former set if it has one of these prefixes.
    pub(super) fn revive(&mut self, prefixes: &[Ipv6Addr]) -> bool {
        let has = |set: &HbaSet| {
            let mut prefixes = prefixes.iter().copied().map(SubnetPrefix::from);
            prefixes.any(|prefix| set.prefixes().contains(&prefix))
        };
        let Some(number) = self.former.iter().rposition(has) else {
            return false;
        };
        let set = self.former.remove(number);
        self.take(set);
        true
    }

    /// Goes on to the next collision count after a duplicate (RFC 5535 section 6, step 6.4); false after the last one. All
    /// addresses change: only for a start.
    pub(super) fn avoid_duplicate(&mut self) -> bool {
        let next = self.identity.set.collision_count() + 1;
        let later = self.later.iter().map(|address| address.with_collision_count(next));
        match (self.identity.set.with_collision_count(next), later.collect()) {
            (Ok(set), Ok(later)) => {
                (self.identity.set, self.later) = (set, later);
                true
            }
            _ => false,
        }
    }

    /// Goes on to another address in place of this one, which another host has: a signed one goes on to the next collision count
    /// (RFC 3972 section 4); one of the set cannot, as all others would change, and is replaced by a signed one. From now on
    /// [`under`](Self::under) gives that one, or none.
    pub(super) fn avoid(&mut self, taken: Ipv6Addr) {
        self.taken.insert(taken);
        if let Some(later) = self.later.iter_mut().find(|later| later.address() == taken)
            && let Ok(next) = later.with_collision_count(later.collision_count() + 1)
        {
            *later = next;
        }
    }

    /// The addresses that other hosts were found to have.
    pub(super) fn taken(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.taken.iter().copied()
    }

    /// Forgets what was made and found out for a prefix that is gone.
    pub(super) fn forget(&mut self, prefix: Ipv6Addr) {
        let prefix = SubnetPrefix::from(prefix);
        self.later.retain(|later| !prefix.contains(&later.address()));
        self.taken.retain(|taken| !prefix.contains(taken));
    }

    /// Keeps the set, which has proved to be nobody else's, for the next start.
    pub(super) fn keep(&mut self) {
        let Some(store) = self.store.as_ref().filter(|_| self.unkept.is_none()) else {
            return;
        };
        let is_kept = matches!(store.load_public(), Ok(Some(kept)) if kept.set == self.identity.set);
        if !is_kept {
            self.save();
        }
    }

    /// What is wrong with what is on disk: why the addresses are others than before, or will be with the next start.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        [&self.damage, &self.unkept].into_iter().flatten().map(String::as_str)
    }

    /// Makes a set over other prefixes, with the key of the present one where it has one: then sessions that are bound to this one
    /// can move to the new addresses.
    pub(super) fn renewal(
        &self,
        config: &AddressConfig,
        prefixes: &[Ipv6Addr],
    ) -> impl Future<Output = anyhow::Result<Renewal>> + Send + 'static {
        let sec = config.sec;
        let prefixes: Vec<_> = prefixes.iter().copied().map(SubnetPrefix::from).collect();
        let key = self.identity.key.as_ref();
        let spki = key.map(|key| key.public_key().spki().to_vec());
        async move {
            let sec = Sec::try_from(sec)?;
            let (set, key) = match spki {
                Some(spki) => (generation::generate_with(sec, &prefixes, &spki).await?, None),
                None => generation::generate(sec, &prefixes, None).await?,
            };
            Ok(Renewal { set, key })
        }
    }

    /// Takes the new set. One that a person has made stays on disk.
    pub(super) fn renew(&mut self, renewal: Renewal) {
        let Renewal { set, key } = renewal;
        self.take(set);
        if let Some(key) = key {
            self.identity.key = Some(key);
            // Nothing can be signed for the sessions of those.
            self.former.clear();
        }
        self.identity.created = SystemTime::now();
        if self.identity.automatic {
            self.save();
        }
    }

    fn take(&mut self, set: HbaSet) {
        self.former.push(std::mem::replace(&mut self.identity.set, set));
        if self.former.len() > MAX_FORMER {
            self.former.remove(0);
        }
        self.later.clear();
    }

    async fn make(config: &AddressConfig, prefixes: &[Ipv6Addr], store: Store) -> anyhow::Result<Self> {
        let identity = generate(config, prefixes, Some(&store)).await?;
        let mut made = Self::of(identity, Some(store));
        made.save();
        Ok(made)
    }

    /// Starts with other addresses, rather than not at all: sessions without protection are better than none. What cannot be set
    /// aside stays, and the addresses are for this run only.
    async fn replace_damaged(
        config: &AddressConfig,
        prefixes: &[Ipv6Addr],
        store: Store,
        error: &IdentityError,
    ) -> anyhow::Result<Self> {
        let (mut made, done) = match store.lock().and_then(|writer| writer.set_aside()) {
            Ok(aside) => {
                let done = format!(
                    "it is {} now, and the host has other addresses; to have the former ones again, put the right file back and \
                     restart the daemon",
                    aside.display()
                );
                (Self::make(config, prefixes, store).await?, done)
            }
            Err(refused) => {
                let done = format!("the host has other addresses for this run ({refused})");
                (Self::of(generate(config, prefixes, None).await?, None), done)
            }
        };
        let damage = format!("the stored identity is damaged: {error}; {done}");
        tracing::error!("{damage}");
        made.damage = Some(damage);
        Ok(made)
    }

    fn of(identity: StoredIdentity, store: Option<Store>) -> Self {
        Self {
            identity,
            later: Vec::new(),
            former: Vec::new(),
            taken: BTreeSet::new(),
            store,
            damage: None,
            unkept: None,
        }
    }

    /// A host that cannot keep its addresses can still use them.
    fn save(&mut self) {
        let Some(store) = &self.store else { return };
        self.unkept = None;
        if let Err(error) = store.save(&self.identity) {
            tracing::warn!(%error, "the addresses cannot be kept: the next start makes others");
            self.unkept = Some(format!(
                "the addresses cannot be kept, and the next start makes others: {error}"
            ));
        }
    }

    fn known(&self, prefix: SubnetPrefix) -> Option<Ipv6Addr> {
        let later = self.later.iter().map(Cga::address);
        let later = later.filter(|address| !self.taken.contains(address));
        let mut all = self.members().chain(later);
        all.find(|address| prefix.contains(address))
    }

    /// The addresses of the set that no other host has.
    fn members(&self) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.identity.set.addresses().iter().copied();
        all.filter(|address| !self.taken.contains(address))
    }

    fn signed(
        &self,
        set: &HbaSet,
        others: &[Ipv6Addr],
        is_present: impl Fn(Ipv6Addr) -> bool,
    ) -> anyhow::Result<Identity> {
        let mut rng = rand::rng();
        let identity = Identity::from_hba_subset(set, is_present, &mut rng);
        match &self.identity.key {
            // Without a member there is nothing that could prove anything.
            Some(key) if !others.is_empty() && !identity.locators().is_empty() => {
                identity.with_signed_locators(key, others, &mut rng).context(
                    "signing the addresses that are not in the set; name fewer uplinks in the configuration, or make an \
                     identity for all of them: shim6 address generate --force",
                )
            }
            _ => Ok(identity),
        }
    }
}

/// What is said of a set whose key is lost.
fn without_key(error: &IdentityError) -> String {
    let damage = format!(
        "the key of the stored identity is lost: {error}; its addresses stay, but nothing can be signed with it: sessions cannot \
         move to prefixes that come later; put the right file back, or make another identity: shim6 address rotate --new-key"
    );
    tracing::error!("{damage}");
    damage
}

/// A new identity over these prefixes.
async fn generate(
    config: &AddressConfig,
    prefixes: &[Ipv6Addr],
    store: Option<&Store>,
) -> anyhow::Result<StoredIdentity> {
    let prefixes: Vec<_> = prefixes.iter().copied().map(SubnetPrefix::from).collect();
    let (set, key) = generation::generate(Sec::try_from(config.sec)?, &prefixes, store).await?;
    Ok(StoredIdentity {
        set,
        key,
        created: SystemTime::now(),
        automatic: true,
    })
}

fn list(prefixes: &[&Ipv6Addr]) -> String {
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| format!("{prefix}/64")).collect();
    prefixes.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shim6_cga::KeySizes;

    use super::*;

    const ONE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0);
    const TWO: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa2, 0, 0, 0, 0, 0);
    const THREE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 0);

    fn host() -> HostAddresses {
        let mut rng = rand::rng();
        let key = PrivateKey::generate(1024, KeySizes::default(), &mut rng).unwrap();
        HostAddresses::of(
            StoredIdentity {
                set: set(ONE, &key),
                key: Some(key),
                created: SystemTime::now(),
                automatic: true,
            },
            None,
        )
    }

    fn set(prefix: Ipv6Addr, key: &PrivateKey) -> HbaSet {
        let prefixes = [SubnetPrefix::from(prefix)];
        HbaSet::generate_with_public_key(&prefixes, key.public_key().spki(), Sec::ZERO, &mut rand::rng()).unwrap()
    }

    fn renewed(host: &HostAddresses, prefix: Ipv6Addr) -> Renewal {
        Renewal {
            set: set(prefix, host.identity.key.as_ref().unwrap()),
            key: None,
        }
    }

    #[test]
    fn signed_address_in_use_goes_on_to_the_next_collision_count_three_times_in_all() {
        let mut host = host();
        let mut tried = Vec::new();
        while let Some(address) = host.under(TWO).unwrap() {
            assert!(!tried.contains(&address) && !host.is_ulid(address));
            host.avoid(address);
            tried.push(address);
        }
        assert_eq!(tried.len(), 3);
        // On another link it is tried again.
        host.forget(TWO);
        assert!(host.under(TWO).unwrap().is_some());
    }

    #[test]
    fn address_of_the_set_in_use_is_replaced_by_a_signed_one() {
        let mut host = host();
        let member = host.under(ONE).unwrap().unwrap();
        assert!(host.is_ulid(member) && host.is_member(ONE));
        host.avoid(member);
        assert!(!host.is_member(ONE));
        let signed = host.under(ONE).unwrap().unwrap();
        assert!(!host.is_ulid(signed));
    }

    #[test]
    fn sessions_of_a_former_set_are_told_the_addresses_of_the_new_one() {
        let mut host = host();
        let former = host.under(ONE).unwrap().unwrap();
        host.renew(renewed(&host, TWO));
        let new = host.under(TWO).unwrap().unwrap();
        assert!(host.is_ulid(new) && !host.is_ulid(former));
        assert_eq!(host.identity(|address| address == new).unwrap().locators(), [new]);
        let told = host.former_identities(|address| address == former, &[new]).unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].locators(), [former, new]);
        assert!(told[0].is_ulid(former) && !told[0].is_ulid(new));
        // Nobody is told what no session is bound to.
        assert!(host.former_identities(|_| false, &[new]).unwrap().is_empty());
    }

    #[test]
    fn host_that_is_back_has_its_former_set_again() {
        let mut host = host();
        let former = host.under(ONE).unwrap().unwrap();
        host.renew(renewed(&host, TWO));
        assert!(!host.revive(&[THREE]));
        assert!(host.revive(&[THREE, ONE]));
        assert_eq!(host.under(ONE).unwrap(), Some(former));
        assert!(host.is_ulid(former));
    }

    fn stored() -> (tempfile::TempDir, Store, AddressConfig) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let config = AddressConfig {
            identity: Some(directory.path().to_owned()),
            ..AddressConfig::default()
        };
        store.save(&host().identity).unwrap();
        (directory, store, config)
    }

    #[tokio::test]
    async fn damaged_identity_is_set_aside_and_another_one_made() {
        let (directory, store, config) = stored();
        let former = store.load().unwrap().unwrap().set;
        fs::write(store.identity_path(), "version = 1\nsec = ").unwrap();
        HostAddresses::check(&config).unwrap();
        let mut host = HostAddresses::obtain(&config, &[ONE]).await.unwrap();
        let address = host.under(ONE).unwrap().unwrap();
        assert!(!former.addresses().contains(&address));
        assert_eq!(store.load().unwrap().unwrap().set.addresses(), [address]);
        let aside = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.path());
        let aside: Vec<_> = aside
            .filter(|path| path.to_string_lossy().contains("/damaged-"))
            .collect();
        assert_eq!(fs::read(&aside[0]).unwrap(), b"version = 1\nsec = ");
        let told: Vec<_> = host.problems().collect();
        assert!(told[0].contains(&*aside[0].to_string_lossy()), "{told:?}");

        // The next start has nothing to tell.
        let host = HostAddresses::obtain(&config, &[ONE]).await.unwrap();
        assert_eq!(host.problems().count(), 0);
        assert!(host.is_ulid(address));
    }

    #[tokio::test]
    async fn identity_without_its_key_keeps_its_addresses() {
        let (_directory, store, config) = stored();
        let former = store.load().unwrap().unwrap().set;
        let key = store.load_public().unwrap().unwrap().key.unwrap();
        fs::write(&key, "no key").unwrap();
        HostAddresses::check(&config).unwrap();
        let mut host = HostAddresses::obtain(&config, &[ONE]).await.unwrap();
        assert_eq!(host.under(ONE).unwrap(), Some(former.addresses()[0]));
        assert_eq!(host.under(TWO).unwrap(), None, "nothing can be signed");
        let told: Vec<_> = host.problems().collect();
        assert!(told[0].contains(&*key.to_string_lossy()), "{told:?}");
        assert_eq!(fs::read(&key).unwrap(), b"no key", "it is left as it is");
    }

    #[tokio::test]
    async fn identity_of_a_newer_version_is_left_alone() {
        let (_directory, store, config) = stored();
        fs::write(store.identity_path(), "version = 2\n").unwrap();
        HostAddresses::check(&config).unwrap_err();
        HostAddresses::obtain(&config, &[ONE]).await.unwrap_err();
        assert_eq!(fs::read(store.identity_path()).unwrap(), b"version = 2\n");
    }

    #[test]
    fn former_sets_are_remembered_up_to_a_bound() {
        let mut host = host();
        for number in 0..2 * MAX_FORMER {
            let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0x100 + number as u16, 0, 0, 0, 0, 0);
            host.renew(renewed(&host, prefix));
        }
        assert_eq!(host.former.len(), MAX_FORMER);
    }
}
