//! The addresses that this host can prove to be its own.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;
use shim6_cga::HbaSet;
#[cfg(feature = "rsa")]
use {
    rand_core::CryptoRng,
    shim6_cga::{CgaParametersRef, PrivateKey, SignatureError},
};

use crate::wire::option::Announcement;
use crate::wire::{LocatorList, LocatorPreferences, Preference, VerificationMethod};
#[cfg(any(test, feature = "rsa"))]
use crate::wire::{
    MAX_MESSAGE,
    option::{cga_parameters, cga_signature, padded_len},
};

/// This host's locators, Ls(local), with what proves that they belong together: they are addresses of one HBA set (RFC
/// 5535), or signed with the set's key (RFC 5533 section 5.15.5).
#[derive(Debug, Clone)]
pub struct Identity {
    /// The members of the set, which can be ULIDs, then those that are signed.
    locators: Vec<Ipv6Addr>,
    /// The encoded CGA Parameters of each member, in the order of `locators`.
    parameters: Vec<Vec<u8>>,
    /// Over the generation and the locators behind the members.
    signature: Option<Vec<u8>>,
    generation: u32,
    /// Of each locator, in their order; empty while all are alike.
    preferences: Vec<Preference>,
}

/// How much of an [`Identity`] a message tells, where there is no room for all of it (RFC 5533 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Locators and preferences.
    Whole,
    /// All locators.
    Locators,
    /// The ULID and so many others of the set, which need no signature.
    Members(usize),
    /// Nothing: the peer knows the ULID.
    Nothing,
}

/// Why locators are not added to an [`Identity`].
#[cfg(feature = "rsa")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The addresses prove nothing about that key: they have another one, or none.
    #[error("the key is not the one that the addresses were made with")]
    ForeignKey,
    /// The key cannot sign.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// With so many locators no message would fit the 1280 octets that every IPv6 link carries.
    #[error(
        "{locators} locators and what proves them take {octets} octets of a message, and at most {ROOM} are left for it"
    )]
    NoRoom {
        /// How many there would be, members of the set included.
        locators: usize,
        /// Octets of their options.
        octets: usize,
    },
}

/// Octets that the options about a host's locators may take: what the fixed part of the largest message, an I2bis (RFC
/// 5533 section 5.9), leaves beside a ULID Pair option and 104 octets for the validator and others.
#[cfg(any(test, feature = "rsa"))]
const ROOM: usize = MAX_MESSAGE - 32 - 40 - 104;

impl Identity {
    /// That of a host that has no locators yet: it can have no contexts.
    pub fn none() -> Self {
        Self {
            locators: Vec::new(),
            parameters: Vec::new(),
            signature: None,
            generation: 0,
            preferences: Vec::new(),
        }
    }

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
            signature: None,
            generation: rng.next_u32(),
            preferences: Vec::new(),
        }
    }

    /// Adds locators that are not in the set, such as an address under a prefix that came later (RFC 5535 section 8.1),
    /// signed with the set's key. They are no ULIDs: no context can be set up for them.
    ///
    /// The signature holds for every peer, so the key is not needed any more.
    ///
    /// # Errors
    ///
    /// The key is not the set's, or cannot sign; or there is no room for so many locators in a message.
    #[cfg(feature = "rsa")]
    pub fn with_signed_locators(
        mut self,
        key: &PrivateKey,
        locators: &[Ipv6Addr],
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, IdentityError> {
        let own = self
            .parameters
            .first()
            .and_then(|octets| CgaParametersRef::parse(octets).ok());
        if own.is_none_or(|own| own.public_key() != key.public_key().spki()) {
            return Err(IdentityError::ForeignKey);
        }
        for &locator in locators {
            if !self.contains(locator) {
                self.locators.push(locator);
            }
        }
        let signed = &self.locators[self.parameters.len()..];
        if !signed.is_empty() {
            self.signature = Some(key.sign_locators(self.generation, signed, rng)?);
        }
        match (self.locators.len(), self.announcement_len()) {
            (locators, octets) if octets > ROOM => Err(IdentityError::NoRoom { locators, octets }),
            _ => Ok(self),
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

    /// Whether `address` can be the ULID of a context: peers can verify that it is this host's.
    pub fn is_ulid(&self, address: Ipv6Addr) -> bool {
        self.parameters(address).is_some()
    }

    /// Number of the present list of locators.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// What this host thinks of one of its locators.
    pub(crate) fn preference(&self, locator: Ipv6Addr) -> Preference {
        let index = self.locators.iter().position(|&own| own == locator);
        let preference = index.and_then(|index| self.preferences.get(index).copied());
        preference.unwrap_or_default()
    }

    /// The same locators with other preferences; those that are not named have none.
    #[must_use]
    pub fn with_preferences(&self, preferences: &[(Ipv6Addr, Preference)]) -> Self {
        let of = |locator: &Ipv6Addr| {
            let named = preferences.iter().find(|(named, _)| named == locator);
            named.map_or_else(Preference::default, |&(_, preference)| preference)
        };
        let mut preferences: Vec<_> = self.locators.iter().map(of).collect();
        if preferences
            .iter()
            .all(|preference| *preference == Preference::default())
        {
            preferences.clear();
        }
        Self {
            preferences,
            ..self.clone()
        }
    }

    /// The options that tell a peer of the locators, without the time-outs.
    pub(crate) fn announcement(&self, ulid: Ipv6Addr, extent: Extent) -> Announcement {
        let locators = match extent {
            Extent::Whole | Extent::Locators => self.locator_list(),
            Extent::Members(others) => self.short_list(ulid, others),
            Extent::Nothing => return Announcement::default(),
        };
        let is_signed = locators.generation == self.generation;
        Announcement {
            preferences: (extent == Extent::Whole).then(|| self.locator_preferences()).flatten(),
            cga_parameters: self.parameters(ulid).map(<[u8]>::to_vec),
            cga_signature: self.signature().filter(|_| is_signed).map(<[u8]>::to_vec),
            locators: Some(locators),
            ..Announcement::default()
        }
    }

    /// The extents of an announcement, the largest first.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> + use<> {
        let others = self.parameters.len().saturating_sub(1);
        [Extent::Whole, Extent::Locators]
            .into_iter()
            .chain((0..=others).rev().map(Extent::Members))
            .chain([Extent::Nothing])
    }

    /// The Locator Preferences option, unless all locators are alike.
    pub(crate) fn locator_preferences(&self) -> Option<LocatorPreferences> {
        let preferences = self.preferences.clone();
        (!preferences.is_empty()).then(|| LocatorPreferences::new(self.generation, preferences))
    }

    /// Preferences that say nothing, to take back earlier ones.
    pub(crate) fn no_preferences(&self) -> LocatorPreferences {
        let elements = self.locators.iter().map(|_| Preference::default()).collect();
        LocatorPreferences::new(self.generation, elements)
    }

    /// A list of the ULID and some others that belong to its set, as a generation of its own.
    fn short_list(&self, ulid: Ipv6Addr, others: usize) -> LocatorList {
        let members = self.locators[..self.parameters.len()].iter();
        let others = members.filter(|&&member| member != ulid).take(others);
        LocatorList {
            generation: self.generation.wrapping_add(1),
            locators: [&ulid]
                .into_iter()
                .chain(others)
                .map(|&locator| (VerificationMethod::HBA, locator))
                .collect(),
        }
    }

    /// The CGA Signature option's contents, where there are locators that need it.
    pub(crate) fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// The encoded CGA Parameters data structure that belongs to `ulid`.
    pub(crate) fn parameters(&self, ulid: Ipv6Addr) -> Option<&[u8]> {
        let index = self.locators.iter().position(|&locator| locator == ulid)?;
        self.parameters.get(index).map(Vec::as_slice)
    }

    /// Octets of the options that tell a peer of these locators and their preferences.
    #[cfg(any(test, feature = "rsa"))]
    fn announcement_len(&self) -> usize {
        let parameters = self
            .parameters
            .iter()
            .map(|parameters| cga_parameters::buffer_len(parameters));
        // Generation, Element Len and at most 3 octets for each locator (RFC 5533 section 5.15.3).
        let preferences = padded_len(4 + 1 + 3 * self.locators.len());
        let signature = self.signature().map_or(0, cga_signature::buffer_len);
        self.locator_list().buffer_len() + preferences + parameters.max().unwrap_or(0) + signature
    }

    /// The Locator List option that tells a peer of these locators.
    pub(crate) fn locator_list(&self) -> LocatorList {
        let (members, signed) = self.locators.split_at(self.parameters.len());
        let members = members.iter().map(|&locator| (VerificationMethod::HBA, locator));
        let signed = signed.iter().map(|&locator| (VerificationMethod::CGA, locator));
        LocatorList {
            generation: self.generation,
            locators: members.chain(signed).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;
    use shim6_cga::{CgaParameters, Sec, SubnetPrefix};

    use super::*;

    /// The bound on prefixes at generation and the one on signed locators are of the same message.
    #[test]
    fn set_of_as_many_prefixes_as_can_be_generated_just_has_room() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let prefixes = (0..shim6_cga::MAX_PREFIXES as u8).map(|last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, last]);
        let prefixes: Vec<_> = prefixes.map(SubnetPrefix::new).collect();
        let set = HbaSet::generate(&prefixes, Sec::ZERO, &mut rng).expect("a set");
        let left = ROOM.checked_sub(Identity::from_hba_set(&set, &mut rng).announcement_len());
        // One more takes 8 octets in the parameters, 17 in the list and 3 in the preferences, each padded.
        assert!(left.is_some_and(|left| left < 8 + 24 + 8), "{left:?}");
    }

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
