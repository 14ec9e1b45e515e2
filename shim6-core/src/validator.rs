//! The Responder Validator: what lets a responder keep no state before a valid I2 or I2bis (RFC 5533 sections 7.10.1 and
//! 7.17.1).
//!
//! The Responder Nonce counts periods of time, so its age can be told from the nonce alone. The validator is a keyed hash
//! over the nonce and all that must be the same in the two messages of the initiator. Section 7.13 names the Initiator
//! Nonce among its inputs and section 7.10.1 the Initiator Context Tag; only the tag is bound to stay the same between I1
//! and I2 (section 7.11).
//!
//! The key is drawn anew after some lifetimes. The one before is kept: a validator may be used across the change.
//!
//! The validator also carries when it was made, so that a responder, which keeps nothing meanwhile, learns the round-trip
//! time of the exchange when it comes back.

use core::net::Ipv6Addr;
use core::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use sha2::Sha256;
use shim6_reap::{Instant, LocatorPair};
use subtle::ConstantTimeEq;

use crate::wire::{ContextTag, Discard};

/// Octets of the hash that are sent: 128 bits cannot be guessed.
const HASH_LEN: usize = 16;
/// Octets of the time stamp in front of it: microseconds, which 32 bits count for longer than any validator lives.
const STAMP_LEN: usize = 4;
/// Octets of a validator, with which its option needs no padding.
pub(crate) const VALIDATOR_LEN: usize = STAMP_LEN + HASH_LEN;
/// What a validator is, apart from being opaque to everybody else.
type Octets = [u8; VALIDATOR_LEN];
/// Parts into which the lifetime is divided: a validator lives for at most one part longer than the lifetime.
const PERIODS_PER_LIFETIME: u32 = 4;
/// Periods for which a key makes validators: four lifetimes.
const PERIODS_PER_KEY: u64 = 16;

/// What a validator vouches for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Exchange {
    /// Of an R1: that its receiver sent the I1.
    Establishment {
        initiator_context_tag: ContextTag,
        /// `peer` is the initiator, `local` this host.
        ulids: LocatorPair,
        locators: LocatorPair,
        forked_instance: u32,
    },
    /// Of an R1bis: that its receiver sent the packet with a tag that this host does not know.
    Recovery {
        packet_context_tag: ContextTag,
        locators: LocatorPair,
    },
}

/// Makes and checks Responder Validators.
#[derive(Clone)]
pub(crate) struct Validator {
    period: Duration,
    /// Added to the count of periods: the nonce of a restarted host does not start at the same value.
    offset: u32,
    /// The count of periods divided by [`PERIODS_PER_KEY`] at which `current` is used.
    epoch: u64,
    current: Hmac<Sha256>,
    /// The key of the epoch before, if there has been one.
    previous: Option<Hmac<Sha256>>,
    keys: ChaCha12Rng,
}

impl Validator {
    pub(crate) fn new(lifetime: Duration, rng: &mut dyn Rng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut keys = ChaCha12Rng::from_seed(seed);
        Self {
            period: (lifetime / PERIODS_PER_LIFETIME).max(Duration::from_millis(1)),
            offset: rng.next_u32(),
            epoch: 0,
            current: draw_key(&mut keys),
            previous: None,
            keys,
        }
    }

    /// The Responder Nonce and validator of an R1 or R1bis sent now.
    pub(crate) fn issue(&mut self, now: Instant, exchange: &Exchange) -> (u32, Octets) {
        let periods = self.advance(now);
        let nonce = self.nonce(periods);
        (nonce, octets(&self.current, stamp(now), nonce, exchange))
    }

    /// Checks what came back in an I2 or I2bis, and gives how long ago it was issued.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        nonce: u32,
        validator: &[u8],
        exchange: &Exchange,
    ) -> Result<Duration, Discard> {
        let stamped = *validator.first_chunk().ok_or(Discard::BadValidator)?;
        let present = self.advance(now);
        let age = self.nonce(present).wrapping_sub(nonce);
        if age > PERIODS_PER_LIFETIME {
            return Err(Discard::StaleValidator);
        }
        let issued = present.checked_sub(u64::from(age)).ok_or(Discard::StaleValidator)?;
        let key = match self.epoch - issued / PERIODS_PER_KEY {
            0 => &self.current,
            // Two epochs ago is longer than any validator lives.
            _ => self.previous.as_ref().ok_or(Discard::StaleValidator)?,
        };
        if bool::from(octets(key, stamped, nonce, exchange)[..].ct_eq(validator)) {
            let elapsed = u32::from_be_bytes(stamp(now)).wrapping_sub(u32::from_be_bytes(stamped));
            Ok(Duration::from_micros(elapsed.into()))
        } else {
            Err(Discard::BadValidator)
        }
    }

    /// The count of periods, with the keys that belong to it.
    fn advance(&mut self, now: Instant) -> u64 {
        let periods = u128::from(now.as_micros()) / self.period.as_micros();
        // Microseconds in 64 bits: the count fits.
        let periods = periods as u64;
        let epoch = periods / PERIODS_PER_KEY;
        if epoch > self.epoch {
            let before = core::mem::replace(&mut self.current, draw_key(&mut self.keys));
            self.previous = (epoch == self.epoch + 1).then_some(before);
            self.epoch = epoch;
        }
        periods
    }

    fn nonce(&self, periods: u64) -> u32 {
        // Wraps by design: only differences of a few periods are looked at.
        self.offset.wrapping_add(periods as u32)
    }
}

fn draw_key(rng: &mut ChaCha12Rng) -> Hmac<Sha256> {
    // A whole block of the hash: HMAC needs no other preparation of it.
    let mut key = [0; 64];
    rng.fill_bytes(&mut key);
    <Hmac<Sha256> as KeyInit>::new(&key.into())
}

/// The time stamp of a validator issued at `now`, which wraps.
fn stamp(now: Instant) -> [u8; STAMP_LEN] {
    (now.as_micros() as u32).to_be_bytes()
}

fn octets(key: &Hmac<Sha256>, stamp: [u8; STAMP_LEN], nonce: u32, exchange: &Exchange) -> Octets {
    let hash = mac(key, stamp, nonce, exchange).finalize().into_bytes();
    let mut octets = [0; VALIDATOR_LEN];
    octets[..STAMP_LEN].copy_from_slice(&stamp);
    octets[STAMP_LEN..].copy_from_slice(&hash[..HASH_LEN]);
    octets
}

fn mac(key: &Hmac<Sha256>, stamp: [u8; STAMP_LEN], nonce: u32, exchange: &Exchange) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(&stamp);
    mac.update(&nonce.to_be_bytes());
    let add_pair = |mac: &mut Hmac<Sha256>, pair: &LocatorPair| {
        mac.update(&Ipv6Addr::octets(&pair.peer));
        mac.update(&Ipv6Addr::octets(&pair.local));
    };
    match exchange {
        Exchange::Establishment {
            initiator_context_tag,
            ulids,
            locators,
            forked_instance,
        } => {
            mac.update(&[0]);
            mac.update(&initiator_context_tag.value().to_be_bytes());
            add_pair(&mut mac, ulids);
            add_pair(&mut mac, locators);
            mac.update(&forked_instance.to_be_bytes());
        }
        Exchange::Recovery {
            packet_context_tag,
            locators,
        } => {
            mac.update(&[1]);
            mac.update(&packet_context_tag.value().to_be_bytes());
            add_pair(&mut mac, locators);
        }
    }
    mac
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

    fn pair(a: u16, b: u16) -> LocatorPair {
        LocatorPair {
            local: Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, 0, 1),
            peer: Ipv6Addr::new(0x2001, 0xdb8, b, 0, 0, 0, 0, 1),
        }
    }

    fn tag(value: u64) -> ContextTag {
        ContextTag::from_random_bits(value)
    }

    fn establishment(value: u64, ulids: LocatorPair, locators: LocatorPair, forked_instance: u32) -> Exchange {
        Exchange::Establishment {
            initiator_context_tag: tag(value),
            ulids,
            locators,
            forked_instance,
        }
    }

    fn exchange() -> Exchange {
        establishment(42, pair(1, 2), pair(3, 4), 0)
    }

    fn recovery(value: u64, locators: LocatorPair) -> Exchange {
        Exchange::Recovery {
            packet_context_tag: tag(value),
            locators,
        }
    }

    fn validator() -> Validator {
        Validator::new(Duration::from_secs(30), &mut ChaCha12Rng::seed_from_u64(1))
    }

    #[test]
    fn a_validator_is_accepted_for_its_lifetime_and_not_much_longer() {
        let mut validator = validator();
        let issued = Instant::from_micros(100 * SECOND);
        let (nonce, octets) = validator.issue(issued, &exchange());
        let old = |seconds| Ok(Duration::from_secs(seconds));
        for (age, expected) in [(0, old(0)), (30, old(30)), (38, Err(Discard::StaleValidator))] {
            let now = Instant::from_micros((100 + age) * SECOND);
            assert_eq!(
                validator.check(now, nonce, &octets, &exchange()),
                expected,
                "at {age} s"
            );
        }
    }

    #[test]
    fn the_time_stamp_is_vouched_for_and_may_wrap() {
        let mut validator = validator();
        let issued = Instant::from_micros((1 << 32) - 1);
        let (nonce, octets) = validator.issue(issued, &exchange());
        let now = issued + Duration::from_millis(20);
        let age = validator.check(now, nonce, &octets, &exchange());
        assert_eq!(age, Ok(Duration::from_millis(20)));
        let mut younger = octets;
        younger[STAMP_LEN - 1] ^= 1;
        let age = validator.check(now, nonce, &younger, &exchange());
        assert_eq!(age, Err(Discard::BadValidator));
    }

    #[test]
    fn a_nonce_from_the_future_is_stale() {
        let mut validator = validator();
        let (nonce, octets) = validator.issue(Instant::from_micros(100 * SECOND), &exchange());
        let before = Instant::from_micros(10 * SECOND);
        assert_eq!(
            validator.check(before, nonce, &octets, &exchange()),
            Err(Discard::StaleValidator)
        );
    }

    #[test]
    fn a_validator_holds_for_its_own_exchange_only() {
        let mut validator = validator();
        let now = Instant::from_micros(0);
        let (nonce, octets) = validator.issue(now, &exchange());
        let others = [
            establishment(43, pair(1, 2), pair(3, 4), 0),
            establishment(42, pair(9, 2), pair(3, 4), 0),
            establishment(42, pair(1, 9), pair(3, 4), 0),
            establishment(42, pair(1, 2), pair(9, 4), 0),
            establishment(42, pair(1, 2), pair(3, 9), 0),
            establishment(42, pair(1, 2), pair(3, 4), 1),
            recovery(42, pair(3, 4)),
        ];
        for other in others {
            assert_eq!(
                validator.check(now, nonce, &octets, &other),
                Err(Discard::BadValidator),
                "{other:?}"
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
        let mut other = Validator::new(Duration::from_secs(30), &mut ChaCha12Rng::seed_from_u64(2));
        let now = Instant::from_micros(0);
        let (_, octets) = validator().issue(now, &exchange());
        assert_eq!(
            other.check(now, other.nonce(0), &octets, &exchange()),
            Err(Discard::BadValidator)
        );
    }

    #[test]
    fn a_recovery_validator_holds_for_its_tag_and_locators_only() {
        let mut validator = validator();
        let now = Instant::from_micros(0);
        let (nonce, octets) = validator.issue(now, &recovery(42, pair(1, 2)));
        assert_eq!(
            validator.check(now, nonce, &octets, &recovery(42, pair(1, 2))),
            Ok(Duration::ZERO)
        );
        for other in [
            recovery(43, pair(1, 2)),
            recovery(42, pair(2, 1)),
            recovery(42, pair(1, 3)),
            exchange(),
        ] {
            assert_eq!(
                validator.check(now, nonce, &octets, &other),
                Err(Discard::BadValidator),
                "{other:?}"
            );
        }
    }

    /// The key changes every 16 periods of 7.5 s: after 120 s, 240 s and so on.
    #[test]
    fn a_validator_survives_the_change_of_the_key_for_its_lifetime() {
        let mut validator = validator();
        let at = |seconds: u64| Instant::from_micros(seconds * SECOND);
        let (nonce, octets) = validator.issue(at(119), &exchange());
        let with_key = |validator: &Validator| super::octets(&validator.current, [0; STAMP_LEN], 0, &exchange());
        let key = with_key(&validator);
        let old = |seconds| Ok(Duration::from_secs(seconds));
        assert_eq!(validator.check(at(121), nonce, &octets, &exchange()), old(2));
        assert_ne!(with_key(&validator), key);
        assert_eq!(validator.check(at(148), nonce, &octets, &exchange()), old(29));
        let stale = Err(Discard::StaleValidator);
        assert_eq!(validator.check(at(158), nonce, &octets, &exchange()), stale);
    }

    #[test]
    fn after_a_long_time_no_old_key_is_kept() {
        let mut validator = validator();
        validator.issue(Instant::from_micros(0), &exchange());
        validator.issue(Instant::from_micros(1_000 * SECOND), &exchange());
        assert!(validator.previous.is_none());
    }
}
