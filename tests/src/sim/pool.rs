//! Who the hosts are: real HBA sets, and keys for those with signed locators.
//!
//! Making RSA keys takes its time, so there is one pool for the whole process. It comes from fixed seeds: a world's seed
//! means the same in every process.

use std::net::Ipv6Addr;
use std::sync::OnceLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use shim6_cga::{HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};
use shim6_core::Identity;

/// The most hosts that a world can have.
pub const MAX_HOSTS: usize = 6;
/// The most locators of one host that are members of its HBA set.
pub const MAX_MEMBERS: usize = 4;
/// The most locators of one host that are signed with its key.
pub const MAX_SIGNED: usize = 2;

/// The smallest that is accepted.
const KEY_BITS: usize = 1024;

/// A locator of a host, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator {
    /// The host.
    pub host: usize,
    /// Which of its locators, members of the HBA set first, then those that are signed.
    pub index: usize,
}

/// What a host is, whether it runs or not: all locators that it may ever have, and the proof of them.
#[derive(Debug)]
pub struct Owner {
    set: HbaSet,
    key: Option<PrivateKey>,
    signed: Vec<Ipv6Addr>,
}

impl Owner {
    /// The owner of this number with so many locators of each kind.
    ///
    /// # Panics
    /// Beyond the bounds of the pool, or without a member.
    pub fn of(host: usize, members: usize, signed: usize) -> &'static Self {
        type Cell = OnceLock<Owner>;
        const KINDS: usize = MAX_MEMBERS * (MAX_SIGNED + 1);
        static POOL: [[Cell; KINDS]; MAX_HOSTS] = [const { [const { Cell::new() }; KINDS] }; MAX_HOSTS];
        assert!(
            host < MAX_HOSTS && (1..=MAX_MEMBERS).contains(&members) && signed <= MAX_SIGNED,
            "no owner {host} with {members} + {signed} locators"
        );
        POOL[host][(members - 1) * (MAX_SIGNED + 1) + signed].get_or_init(|| Self::make(host, members, signed))
    }

    fn make(host: usize, members: usize, signed: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(host as u64);
        let prefixes: Vec<_> = (0..members)
            .map(|index| SubnetPrefix::from(under_prefix(Locator { host, index }, 0)))
            .collect();
        let key = (signed > 0)
            .then(|| PrivateKey::generate(KEY_BITS, KeySizes::default(), &mut rng).expect("the size is accepted"));
        let set = match &key {
            None => HbaSet::generate(&prefixes, Sec::ZERO, &mut rng),
            Some(key) => HbaSet::generate_with_public_key(&prefixes, key.public_key().spki(), Sec::ZERO, &mut rng),
        };
        let signed = (members..members + signed).map(|index| under_prefix(Locator { host, index }, 0xc6a));
        Self {
            set: set.expect("so few prefixes make a set"),
            key,
            signed: signed.collect(),
        }
    }

    /// All locators, members of the set first.
    pub fn locators(&self) -> Vec<Ipv6Addr> {
        [self.set.addresses(), &self.signed].concat()
    }

    /// The identity over those locators that are there, by index.
    pub fn identity(&self, is_present: impl Fn(usize) -> bool, seed: u64) -> Identity {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let all = self.locators();
        let index_of = |address| all.iter().position(|&own| own == address);
        let identity = Identity::from_hba_subset(&self.set, |own| index_of(own).is_some_and(&is_present), &mut rng);
        let members = self.set.addresses().len();
        let signed = (self.signed.iter().enumerate()).filter(|(index, _)| is_present(members + index));
        let signed: Vec<_> = signed.map(|(_, &locator)| locator).collect();
        match &self.key {
            Some(key) if !signed.is_empty() && !identity.locators().is_empty() => identity
                .with_signed_locators(key, &signed, &mut rng)
                .expect("the key is the set's and the locators are few"),
            _ => identity,
        }
    }
}

/// An address that no host has: third parties that a spoofed source may name, and routers.
pub fn nobody(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, number, 0, 0, 0, 1)
}

/// Which host and uplink an address is under by its prefix, for logs: `h0.1`.
pub fn name(address: Ipv6Addr) -> String {
    match address.segments() {
        [0x2001, 0xdb8, 0xffff, number, ..] => format!("nobody{number}"),
        [0x2001, 0xdb8, host, uplink, ..] if usize::from(host).wrapping_sub(1) < MAX_HOSTS => {
            format!("h{}.{uplink}", host - 1)
        }
        _ => address.to_string(),
    }
}

fn under_prefix(Locator { host, index }: Locator, identifier: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, host as u16 + 1, index as u16, 0, 0, 0, identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_are_named_after_host_and_index() {
        let locators = Owner::of(2, 2, 1).locators();
        let names: Vec<_> = locators.iter().map(|&locator| name(locator)).collect();
        assert_eq!(names, ["h2.0", "h2.1", "h2.2"]);
        assert_eq!(name(nobody(7)), "nobody7");
    }

    #[test]
    fn identity_has_the_locators_that_are_present() {
        let owner = Owner::of(2, 2, 1);
        let all = owner.locators();
        assert_eq!(owner.identity(|_| true, 1).locators(), all);
        assert_eq!(owner.identity(|index| index != 1, 1).locators(), [all[0], all[2]]);
    }
}
