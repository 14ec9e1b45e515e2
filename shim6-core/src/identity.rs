//! The addresses that this host can prove to be its own.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;
use shim6_cga::HbaSet;

use crate::wire::{LocatorList, VerificationMethod};

/// This host's locators, Ls(local), with the parameters that prove that they belong together (RFC 5535).
#[derive(Debug, Clone)]
pub struct Identity {
    locators: Vec<Ipv6Addr>,
    /// The encoded CGA Parameters of each locator, in the order of `locators`.
    parameters: Vec<Vec<u8>>,
    generation: u32,
}

impl Identity {
    /// The identity that an HBA set gives. The Locator List Generation is drawn at random (RFC 5533 section 10.1).
    pub fn from_hba_set(set: &HbaSet, rng: &mut dyn Rng) -> Self {
        let locators: Vec<_> = set.addresses().to_vec();
        let parameters = (0..locators.len())
            .filter_map(|index| set.parameters_for(index))
            .map(|own| own.to_vec())
            .collect();
        Self {
            locators,
            parameters,
            generation: rng.next_u32(),
        }
    }

    /// The locators, in order of preference.
    pub fn locators(&self) -> &[Ipv6Addr] {
        &self.locators
    }

    /// Whether `address` is one of this host's locators.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        self.locators.contains(&address)
    }

    /// The encoded CGA Parameters data structure that belongs to `ulid`.
    pub(crate) fn parameters(&self, ulid: Ipv6Addr) -> Option<&[u8]> {
        let index = self.locators.iter().position(|&locator| locator == ulid)?;
        self.parameters.get(index).map(Vec::as_slice)
    }

    /// The Locator List option that tells a peer of these locators.
    pub(crate) fn locator_list(&self) -> LocatorList {
        LocatorList {
            generation: self.generation,
            locators: self
                .locators
                .iter()
                .map(|&locator| (VerificationMethod::HBA, locator))
                .collect(),
        }
    }
}
