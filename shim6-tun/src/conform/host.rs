//! The host that the tester is during one check.

use std::net::Ipv6Addr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use shim6_core::cga::{GenerateError, HbaSet, Sec, SubnetPrefix};
use shim6_core::wire::{Announcement, LocatorList, VerificationMethod};

/// A set of addresses that can be proved, and another one, which can be proved as well but does not belong to the first.
#[derive(Debug)]
pub(super) struct OwnHost {
    set: HbaSet,
    other: HbaSet,
    generation: u32,
}

impl OwnHost {
    pub(super) fn new(prefixes: &[Ipv6Addr], rng: &mut ChaCha8Rng) -> Result<Self, GenerateError> {
        let prefixes: Vec<_> = prefixes.iter().copied().map(SubnetPrefix::from).collect();
        Ok(Self {
            set: HbaSet::generate(&prefixes, Sec::ZERO, rng)?,
            other: HbaSet::generate(&prefixes, Sec::ZERO, rng)?,
            generation: rng.next_u32(),
        })
    }

    /// The address that the target knows first.
    pub(super) fn ulid(&self) -> Ipv6Addr {
        self.set.addresses()[0]
    }

    /// The other locator, if the tester has another prefix.
    pub(super) fn second(&self) -> Option<Ipv6Addr> {
        self.set.addresses().get(1).copied()
    }

    /// An address that is in no list of ours.
    pub(super) fn stranger(&self) -> Ipv6Addr {
        self.other.addresses()[0]
    }

    pub(super) fn locators(&self) -> &[Ipv6Addr] {
        self.set.addresses()
    }

    pub(super) fn all_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.set.addresses().iter().chain(self.other.addresses()).copied()
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// What proves the locators.
    pub(super) fn parameters(&self) -> Vec<u8> {
        self.set.parameters().to_vec()
    }

    /// What proves addresses that are not ours.
    pub(super) fn other_parameters(&self) -> Vec<u8> {
        self.other.parameters().to_vec()
    }

    /// All that there is to tell a peer.
    pub(super) fn announcement(&self) -> Announcement {
        self.announcement_of(self.set.addresses(), self.generation)
    }

    /// Some locators, under another generation.
    pub(super) fn announcement_of(&self, locators: &[Ipv6Addr], generation: u32) -> Announcement {
        Announcement {
            locators: Some(LocatorList {
                generation,
                locators: locators
                    .iter()
                    .map(|&locator| (VerificationMethod::HBA, locator))
                    .collect(),
            }),
            cga_parameters: Some(self.parameters()),
            ..Announcement::default()
        }
    }
}
