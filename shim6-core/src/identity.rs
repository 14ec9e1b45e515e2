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
        Self::from_hba_subset(set, |_| true, rng)
    }

    /// The identity over those addresses of a set that this host has now: a set may list prefixes of uplinks that are
    /// not there at present.
    pub fn from_hba_subset(set: &HbaSet, is_present: impl Fn(Ipv6Addr) -> bool, rng: &mut dyn Rng) -> Self {
        let (locators, parameters) = set
            .addresses()
            .iter()
            .enumerate()
            .filter(|&(_, &address)| is_present(address))
            .filter_map(|(index, &address)| Some((address, set.parameters_for(index)?.to_vec())))
            .unzip();
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

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;
    use shim6_cga::{CgaParameters, Sec, SubnetPrefix};

    use super::*;

    #[test]
    fn subset_announces_only_the_addresses_that_are_there_with_parameters_of_their_own() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let prefixes = [1, 2, 3].map(|last| SubnetPrefix::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, last]));
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("a set");
        let absent = set.addresses()[1];
        let identity = Identity::from_hba_subset(&set, |address| address != absent, &mut rng);
        assert_eq!(identity.locators(), [set.addresses()[0], set.addresses()[2]]);
        assert_eq!(identity.parameters(absent), None);
        for &locator in identity.locators() {
            let parameters = identity.parameters(locator).expect("parameters of each locator");
            let parameters = CgaParameters::parse(parameters).expect("well-formed parameters");
            assert_eq!(parameters.verify_cga(&locator), Ok(Sec::ZERO));
        }
    }
}
