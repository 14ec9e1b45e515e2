//! The Responder Validator: what lets a responder keep no state before a valid I2 (RFC 5533 section 7.10.1).
//!
//! The Responder Nonce counts periods of time, so its age can be told from the nonce alone. The validator is a keyed hash
//! over the nonce and all that must be the same in I1 and I2. Section 7.13 names the Initiator Nonce among its inputs and
//! section 7.10.1 the Initiator Context Tag; only the tag is bound to stay the same between I1 and I2 (section 7.11).

use core::net::Ipv6Addr;
use core::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rand_core::Rng;
use sha2::Sha256;
use shim6_reap::{Instant, LocatorPair};
use subtle::ConstantTimeEq;

use crate::wire::{ContextTag, Discard};

/// Octets of the hash that are sent. 160 bits cannot be guessed, and with them the option needs no padding.
pub(crate) const VALIDATOR_LEN: usize = 20;
/// Parts into which the lifetime is divided: a validator lives for at most one part longer than the lifetime.
const PERIODS_PER_LIFETIME: u32 = 4;

/// What a validator vouches for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) initiator_context_tag: ContextTag,
    /// `peer` is the initiator, `local` this host.
    pub(crate) ulids: LocatorPair,
    pub(crate) locators: LocatorPair,
    pub(crate) forked_instance: u32,
}

/// Makes and checks Responder Validators.
#[derive(Clone)]
pub(crate) struct Validator {
    /// A whole block of the hash: HMAC needs no other preparation of it.
    secret: [u8; 64],
    period: Duration,
    /// Added to the count of periods: the nonce of a restarted host does not start at the same value.
    offset: u32,
}

impl Validator {
    pub(crate) fn new(lifetime: Duration, rng: &mut dyn Rng) -> Self {
        let mut secret = [0; 64];
        rng.fill_bytes(&mut secret);
        let period = (lifetime / PERIODS_PER_LIFETIME).max(Duration::from_millis(1));
        Self {
            secret,
            period,
            offset: rng.next_u32(),
        }
    }

    /// The Responder Nonce and validator of an R1 sent now.
    pub(crate) fn issue(&self, now: Instant, exchange: &Exchange) -> (u32, [u8; VALIDATOR_LEN]) {
        let nonce = self.nonce(now);
        let hash = self.mac(nonce, exchange).finalize().into_bytes();
        let mut validator = [0; VALIDATOR_LEN];
        validator.copy_from_slice(&hash[..VALIDATOR_LEN]);
        (nonce, validator)
    }

    /// Checks what came back in an I2.
    pub(crate) fn check(&self, now: Instant, nonce: u32, validator: &[u8], exchange: &Exchange) -> Result<(), Discard> {
        if self.nonce(now).wrapping_sub(nonce) > PERIODS_PER_LIFETIME {
            return Err(Discard::StaleValidator);
        }
        let hash = self.mac(nonce, exchange).finalize().into_bytes();
        if bool::from(hash[..VALIDATOR_LEN].ct_eq(validator)) {
            Ok(())
        } else {
            Err(Discard::BadValidator)
        }
    }

    fn nonce(&self, now: Instant) -> u32 {
        let periods = u128::from(now.as_micros()) / self.period.as_micros();
        // Wraps by design: only differences of a few periods are looked at.
        self.offset.wrapping_add(periods as u32)
    }

    fn mac(&self, nonce: u32, exchange: &Exchange) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&self.secret.into());
        mac.update(&nonce.to_be_bytes());
        mac.update(&exchange.initiator_context_tag.value().to_be_bytes());
        for address in [
            exchange.ulids.peer,
            exchange.ulids.local,
            exchange.locators.peer,
            exchange.locators.local,
        ] {
            mac.update(&Ipv6Addr::octets(&address));
        }
        mac.update(&exchange.forked_instance.to_be_bytes());
        mac
    }
}

impl core::fmt::Debug for Validator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Validator")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn exchange() -> Exchange {
        let pair = |a: u16, b: u16| LocatorPair {
            local: Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, 0, 1),
            peer: Ipv6Addr::new(0x2001, 0xdb8, b, 0, 0, 0, 0, 1),
        };
        Exchange {
            initiator_context_tag: ContextTag::from_random_bits(42),
            ulids: pair(1, 2),
            locators: pair(3, 4),
            forked_instance: 0,
        }
    }

    fn validator() -> Validator {
        Validator::new(Duration::from_secs(30), &mut ChaCha12Rng::seed_from_u64(1))
    }

    #[test]
    fn a_validator_is_accepted_for_its_lifetime_and_not_much_longer() {
        let validator = validator();
        let issued = Instant::from_micros(100 * SECOND);
        let (nonce, octets) = validator.issue(issued, &exchange());
        for (age, expected) in [(0, Ok(())), (30, Ok(())), (38, Err(Discard::StaleValidator))] {
            let now = Instant::from_micros((100 + age) * SECOND);
            assert_eq!(
                validator.check(now, nonce, &octets, &exchange()),
                expected,
                "at {age} s"
            );
        }
    }

    #[test]
    fn a_nonce_from_the_future_is_stale() {
        let validator = validator();
        let (nonce, octets) = validator.issue(Instant::from_micros(100 * SECOND), &exchange());
        let before = Instant::from_micros(10 * SECOND);
        assert_eq!(
            validator.check(before, nonce, &octets, &exchange()),
            Err(Discard::StaleValidator)
        );
    }

    #[test]
    fn a_validator_holds_for_its_own_exchange_only() {
        let validator = validator();
        let now = Instant::from_micros(0);
        let (nonce, octets) = validator.issue(now, &exchange());
        let other = exchange().ulids.peer;
        let changes: [fn(&mut Exchange, Ipv6Addr); 6] = [
            |e, _| e.initiator_context_tag = ContextTag::from_random_bits(43),
            |e, other| e.ulids.local = other,
            |e, _| e.ulids.peer = e.ulids.local,
            |e, other| e.locators.local = other,
            |e, other| e.locators.peer = other,
            |e, _| e.forked_instance = 1,
        ];
        for change in changes {
            let mut changed = exchange();
            change(&mut changed, other);
            assert_eq!(
                validator.check(now, nonce, &octets, &changed),
                Err(Discard::BadValidator),
                "{changed:?}"
            );
        }
        assert_eq!(
            validator.check(now, nonce, &octets[..19], &exchange()),
            Err(Discard::BadValidator)
        );
        assert_eq!(
            validator.check(now, nonce, &[], &exchange()),
            Err(Discard::BadValidator)
        );
    }

    #[test]
    fn two_hosts_do_not_accept_each_others_validators() {
        let other = Validator::new(Duration::from_secs(30), &mut ChaCha12Rng::seed_from_u64(2));
        let now = Instant::from_micros(0);
        let (_, octets) = validator().issue(now, &exchange());
        assert_eq!(
            other.check(now, other.nonce(now), &octets, &exchange()),
            Err(Discard::BadValidator)
        );
    }
}
