//! Verification that a peer's locators belong to its ULID (RFC 5533 section 7.2, RFC 5535 section 7).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_cga::CgaParametersRef;
use shim6_reap::Instant;

use super::Endpoint;
use crate::context::PeerLocators;
use crate::event::Event;
use crate::wire::{Discard, LocatorList, LocatorPreferences, VerificationMethod};

/// What a message says of its sender's locators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) list: Option<&'a LocatorList>,
    pub(super) parameters: Option<&'a [u8]>,
    #[cfg_attr(not(feature = "rsa"), expect(dead_code, reason = "nothing here could verify it"))]
    pub(super) signature: Option<&'a [u8]>,
    pub(super) preferences: Option<&'a LocatorPreferences>,
}

/// Why a peer's locators are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Drop the message without a word.
    Silent(Discard),
    /// Drop it, and answer with an Error.
    Error(Fault, Discard),
    /// The locator with this index is not shown to be the peer's. An Update Request is answered with an Error (section
    /// 10.4), other messages are dropped without a word (sections 7.13, 7.16, 7.20).
    Unproven(usize, Discard),
}

/// What an Error points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The verification method of this locator (by index) is not supported, does not go with the parameters, or showed
    /// nothing.
    Method(usize),
    /// The preferences are for another list.
    Generation,
    /// The preferences are for another number of locators.
    Count,
}

impl Endpoint {
    /// The peer's verified locators, Ls(peer): those of its list, or its ULID alone if it sent none.
    pub(super) fn verify_locators(
        &mut self,
        now: Instant,
        ulid: Ipv6Addr,
        claim: Claim<'_>,
    ) -> Result<PeerLocators, Refusal> {
        let locators = match claim.list {
            Some(list) => self.verify_list(now, ulid, list, claim)?,
            None => {
                if let Some(parameters) = claim.parameters {
                    self.verify_ulid(now, ulid, parameters)?;
                }
                Vec::from([ulid])
            }
        };
        let mut peer = PeerLocators {
            locators: locators.into(),
            listed: claim
                .list
                .map_or(1, |list| u8::try_from(list.locators.len()).unwrap_or(u8::MAX)),
            generation: claim.list.map(|list| list.generation),
            preferences: Box::default(),
            parameters: claim.parameters.map(Box::from),
        };
        if let Some(preferences) = claim.preferences {
            peer.prefer(preferences)?;
        }
        Ok(peer)
    }

    /// Checks that the CGA Parameters are those of the peer's ULID.
    pub(super) fn verify_ulid(&mut self, now: Instant, ulid: Ipv6Addr, parameters: &[u8]) -> Result<(), Refusal> {
        if !self.limits.verifications.allow(now, ulid) {
            return Err(Refusal::Silent(Discard::RateLimited));
        }
        let parameters = CgaParametersRef::parse(parameters).ok();
        let is_of_ulid = parameters.is_some_and(|parameters| match parameters.hba_verifier() {
            Ok(mut members) => members.verify(&ulid).is_ok(),
            Err(_) => parameters.verify_cga(&ulid).is_ok(),
        });
        is_of_ulid
            .then_some(())
            .ok_or(Refusal::Silent(Discard::ParametersNotOfUlid))
    }

    fn verify_list(
        &mut self,
        now: Instant,
        ulid: Ipv6Addr,
        list: &LocatorList,
        claim: Claim<'_>,
    ) -> Result<Vec<Ipv6Addr>, Refusal> {
        if !self.limits.verifications.allow(now, ulid) {
            return Err(Refusal::Silent(Discard::RateLimited));
        }
        let parameters = claim.parameters.and_then(|octets| CgaParametersRef::parse(octets).ok());
        let parameters = parameters.ok_or(Refusal::Silent(Discard::ParametersNotOfUlid))?;
        let mut members = parameters.hba_verifier().ok();
        let of_ulid = match &mut members {
            Some(members) => members.verify(&ulid),
            None => parameters.verify_cga(&ulid),
        };
        of_ulid.map_err(|_| Refusal::Silent(Discard::ParametersNotOfUlid))?;

        // An HBA-only set has no key that could sign (RFC 5535 section 5, P flag).
        let has_key = parameters
            .multi_prefix()
            .is_none_or(|multi_prefix| multi_prefix.has_public_key());
        let mut verified = Vec::with_capacity(list.locators.len().min(self.config.limits.peer_locators));
        for (index, &(method, locator)) in list.locators.iter().enumerate() {
            let is_member = match (method, &mut members) {
                // Only so many are kept, but the signature is over all that it is claimed for.
                (VerificationMethod::CGA, _) if has_key && cfg!(feature = "rsa") => true,
                (VerificationMethod::HBA, Some(_)) if index >= self.config.limits.peer_locators => continue,
                (VerificationMethod::HBA, Some(members)) => members.verify(&locator).is_ok(),
                _ => {
                    let reason = Discard::UnsupportedVerificationMethod;
                    return Err(Refusal::Error(Fault::Method(index), reason));
                }
            };
            if !is_member || !is_locator(locator) || self.is_local(locator) {
                self.events.push_back(Event::LocatorRefused { peer: ulid, locator });
                return Err(Refusal::Unproven(index, Discard::HbaVerificationFailed));
            }
            // One that comes twice is kept twice: preferences go by the place in the list.
            if verified.len() < self.config.limits.peer_locators {
                verified.push(locator);
            }
        }
        #[cfg(feature = "rsa")]
        self.verify_signature(now, ulid, list, parameters, claim.signature)?;
        Ok(verified)
    }

    /// Verifies the signature over the locators whose method is CGA, if there are any (RFC 5533 section 5.15.5).
    #[cfg(feature = "rsa")]
    fn verify_signature(
        &mut self,
        now: Instant,
        ulid: Ipv6Addr,
        list: &LocatorList,
        parameters: CgaParametersRef<'_>,
        signature: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let is_signed = |(method, _): &(VerificationMethod, Ipv6Addr)| *method == VerificationMethod::CGA;
        let Some(first) = list.locators.iter().position(is_signed) else {
            return Ok(());
        };
        let unproven = Refusal::Unproven(first, Discard::SignatureVerificationFailed);
        let signed: Vec<_> = list
            .locators
            .iter()
            .filter(|locator| is_signed(locator))
            .map(|l| l.1)
            .collect();
        let signature = signature.ok_or(unproven)?;
        if !self.limits.signatures.allow(now, ulid) {
            return Err(Refusal::Silent(Discard::RateLimited));
        }
        let sizes = self.config.limits.peer_key_sizes;
        parameters
            .verify_signed_locators(&ulid, list.generation, &signed, signature, sizes)
            .map_err(|_| unproven)?;
        Ok(())
    }
}

/// Whether packets could be sent to this address as a locator at all (RFC 5534 section 3.1). A hash proves that a prefix
/// was chosen by the owner of the ULID, not that it makes sense: without this a peer could have us probe a multicast group.
pub(super) fn is_locator(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let global = first & 0xe000 == 0x2000;
    let unique_local = first & 0xfe00 == 0xfc00;
    global || unique_local
}

impl PeerLocators {
    /// Records preferences, which have to be for this very list (RFC 5533 section 10.4).
    pub(super) fn prefer(&mut self, preferences: &LocatorPreferences) -> Result<(), Refusal> {
        if self.generation != Some(preferences.generation) {
            return Err(Refusal::Error(Fault::Generation, Discard::PreferenceGeneration));
        }
        if preferences.elements.len() != usize::from(self.listed) {
            return Err(Refusal::Error(Fault::Count, Discard::PreferenceCount));
        }
        self.preferences = preferences.elements.iter().copied().take(self.locators.len()).collect();
        Ok(())
    }
}
