//! Verification that a peer's locators belong to its ULID (RFC 5533 section 7.2, RFC 5535 section 7).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_cga::CgaParametersRef;
use shim6_reap::Instant;

use super::Endpoint;
use crate::event::Event;
use crate::wire::message::View;
use crate::wire::{Discard, LocatorList, VerificationMethod};

/// What a message says of its sender's locators.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) list: Option<&'a LocatorList>,
    pub(super) parameters: Option<&'a [u8]>,
    pub(super) signature: Option<&'a [u8]>,
}

/// Why a peer's locators are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Drop the message without a word.
    Silent(Discard),
    /// The verification method of this locator (by index) is not supported, or does not go with the parameters: to be
    /// answered with an Error.
    Method(usize),
}

impl Endpoint {
    /// The peer's verified locators, Ls(peer): those of its list, or its ULID alone if it sent none.
    pub(super) fn verify_locators(
        &mut self,
        now: Instant,
        ulid: Ipv6Addr,
        claim: Claim<'_>,
    ) -> Result<Vec<Ipv6Addr>, Refusal> {
        if claim.list.is_none() && claim.parameters.is_none() {
            return Ok(Vec::from([ulid]));
        }
        if !self.limits.verifications.allow(now) {
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
        let Some(list) = claim.list else {
            return Ok(Vec::from([ulid]));
        };

        // An HBA-only set has no key that could sign (RFC 5535 section 5, P flag).
        let has_key = parameters
            .multi_prefix()
            .is_none_or(|multi_prefix| multi_prefix.has_public_key());
        let mut verified = Vec::with_capacity(list.locators.len().min(self.config.limits.peer_locators));
        for (index, &(method, locator)) in list.locators.iter().enumerate() {
            let is_member = match (method, &mut members) {
                // Only so many are kept, but the signature is over all that it is claimed for.
                (VerificationMethod::CGA, _) if has_key => true,
                (VerificationMethod::HBA, Some(_)) if index >= self.config.limits.peer_locators => continue,
                (VerificationMethod::HBA, Some(members)) => members.verify(&locator).is_ok(),
                _ => return Err(Refusal::Method(index)),
            };
            if !is_member || !is_locator(locator) || self.identity.contains(locator) {
                self.events.push_back(Event::LocatorRefused { peer: ulid, locator });
                return Err(Refusal::Silent(Discard::HbaVerificationFailed));
            }
            if !verified.contains(&locator) && verified.len() < self.config.limits.peer_locators {
                verified.push(locator);
            }
        }
        self.verify_signature(now, ulid, list, parameters, claim.signature)?;
        Ok(verified)
    }

    /// Verifies the signature over the locators whose method is CGA, if there are any (RFC 5533 section 5.15.5).
    fn verify_signature(
        &mut self,
        now: Instant,
        ulid: Ipv6Addr,
        list: &LocatorList,
        parameters: CgaParametersRef<'_>,
        signature: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let signed = list
            .locators
            .iter()
            .filter(|(method, _)| *method == VerificationMethod::CGA);
        let signed: Vec<_> = signed.map(|&(_, locator)| locator).collect();
        if signed.is_empty() {
            return Ok(());
        }
        let signature = signature.ok_or(Refusal::Silent(Discard::SignatureVerificationFailed))?;
        if !self.limits.signatures.allow(now) {
            return Err(Refusal::Silent(Discard::RateLimited));
        }
        let sizes = self.config.limits.peer_key_sizes;
        parameters
            .verify_signed_locators(&ulid, list.generation, &signed, signature, sizes)
            .map_err(|_| Refusal::Silent(Discard::SignatureVerificationFailed))?;
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

/// Where in a message the verification method of a locator is, for the pointer of an Error.
pub(super) fn method_offset(message: &[u8], index: usize) -> Option<usize> {
    let list = match View::parse(message).ok()? {
        View::I2(i2) => i2.options().locators,
        View::R2(r2) => r2.options().locators,
        _ => None,
    };
    list?.method_offset(index)
}
