//! Verification that a peer's locators belong to its ULID (RFC 5533 section 7.2, RFC 5535 section 7).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_cga::CgaParameters;
use shim6_reap::Instant;

use super::Endpoint;
use crate::event::Event;
use crate::wire::message::View;
use crate::wire::{Discard, LocatorList, VerificationMethod};

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
        list: Option<&LocatorList>,
        parameters: Option<&[u8]>,
    ) -> Result<Vec<Ipv6Addr>, Refusal> {
        if list.is_none() && parameters.is_none() {
            return Ok(Vec::from([ulid]));
        }
        if !self.limits.verifications.allow(now) {
            return Err(Refusal::Silent(Discard::RateLimited));
        }
        let parameters = parameters.and_then(|octets| CgaParameters::parse(octets).ok());
        let parameters = parameters.ok_or(Refusal::Silent(Discard::ParametersNotOfUlid))?;
        let has_prefixes = parameters.multi_prefix().is_some();
        let of_ulid = if has_prefixes {
            parameters.verify_hba(&ulid)
        } else {
            parameters.verify_cga(&ulid)
        };
        of_ulid.map_err(|_| Refusal::Silent(Discard::ParametersNotOfUlid))?;
        let Some(list) = list else { return Ok(Vec::from([ulid])) };

        let mut verified = Vec::with_capacity(list.locators.len().min(self.config.limits.peer_locators));
        for (index, &(method, locator)) in list.locators.iter().take(self.config.limits.peer_locators).enumerate() {
            if method != VerificationMethod::HBA || !has_prefixes {
                return Err(Refusal::Method(index));
            }
            if !is_locator(locator) || self.identity.contains(locator) || parameters.verify_hba(&locator).is_err() {
                self.events.push_back(Event::LocatorRefused { peer: ulid, locator });
                return Err(Refusal::Silent(Discard::HbaVerificationFailed));
            }
            if !verified.contains(&locator) {
                verified.push(locator);
            }
        }
        Ok(verified)
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
