//! Token buckets: the bound on everything that costs an answer or a hash.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;
use shim6_reap::Instant;

use crate::config::Rate;

/// In millionths of an event, so that a microsecond adds as many of them as events are allowed in a second.
const SCALE: u64 = 1_000_000;

/// Prefixes counted apart at the most, whatever a configuration says.
const MOST_PREFIXES: usize = 1 << 16;

/// One bucket. It starts full; `spent` is what is missing, so that zeroed octets are a full one.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    spent: u64,
    updated: u64,
}

impl Bucket {
    /// Takes one event out of the bucket, or says that there is none left.
    fn allow(&mut self, now: Instant, per_second: u32) -> bool {
        let per_second = u64::from(per_second);
        let elapsed = now.as_micros().saturating_sub(self.updated);
        self.updated = self.updated.max(now.as_micros());
        self.spent = self.spent.saturating_sub(elapsed.saturating_mul(per_second));
        let is_left = self.spent + SCALE <= per_second * SCALE;
        if is_left {
            self.spent += SCALE;
        }
        is_left
    }
}

/// A bound for all senders together, and one for each prefix, so that one site cannot use up what is for all.
///
/// Prefixes are counted in a table of fixed size: however many are made up, it does not grow, and what is shared with an
/// attacker's prefixes is by chance, since the place in the table depends on a secret.
#[derive(Debug, Clone)]
pub(crate) struct RateLimit {
    rate: Rate,
    total: Bucket,
    prefixes: Vec<Bucket>,
    key: u64,
}

impl RateLimit {
    pub(crate) fn new(rate: Rate, prefixes: usize, rng: &mut dyn Rng) -> Self {
        let mut buckets = Vec::new();
        buckets.resize(prefixes.clamp(1, MOST_PREFIXES), Bucket::default());
        Self {
            rate,
            total: Bucket::default(),
            prefixes: buckets,
            key: rng.next_u64(),
        }
    }

    /// Counts one event for `address`, or says that there have been too many.
    pub(crate) fn allow(&mut self, now: Instant, address: Ipv6Addr) -> bool {
        // Mixed as SplitMix64 does: every bit of the key and the prefix has its part in the place.
        let mut mixed = site_prefix(address) ^ self.key;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let place = ((u128::from(mixed) * self.prefixes.len() as u128) >> 64) as usize;
        self.prefixes[place].allow(now, self.rate.per_prefix) && self.total.allow(now, self.rate.total)
    }
}

/// The first 48 bits of an address, which are a site's (RFC 6177).
pub(crate) fn site_prefix(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 80) as u64
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn bucket(per_second: u32) -> impl FnMut(u64) -> bool {
        let mut bucket = Bucket::default();
        move |micros| bucket.allow(Instant::from_micros(micros), per_second)
    }

    fn limit(total: u32, per_prefix: u32) -> RateLimit {
        RateLimit::new(Rate { total, per_prefix }, 1_024, &mut ChaCha12Rng::seed_from_u64(1))
    }

    fn site(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1)
    }

    #[test]
    fn a_burst_empties_the_bucket_and_time_refills_it() {
        let mut allow = bucket(10);
        assert_eq!((0..20).filter(|_| allow(5_000_000)).count(), 10);
        assert!(!allow(5_099_000));
        assert!(allow(5_100_000));
        assert!(!allow(5_100_000));
        assert_eq!((0..20).filter(|_| allow(500_000_000)).count(), 10);
    }

    #[test]
    fn time_that_goes_back_earns_nothing() {
        let mut allow = bucket(1);
        assert!(allow(9_000_000));
        assert!(!allow(1_000_000));
        assert!(!allow(9_500_000));
        assert!(allow(10_000_000));
    }

    #[test]
    fn a_limit_of_zero_allows_nothing() {
        let mut allow = bucket(0);
        assert!(!allow(0));
        assert!(!allow(u64::MAX));
    }

    #[test]
    fn the_largest_limit_never_overflows() {
        let mut allow = bucket(u32::MAX);
        assert!((0..1_000).all(|_| allow(0)));
        assert!(allow(u64::MAX));
    }

    #[test]
    fn one_site_leaves_room_for_others() {
        let (mut limit, now) = (limit(100, 10), Instant::from_micros(0));
        let same_site = |host| Ipv6Addr::new(0x2001, 0xdb8, 1, 0xabcd, 0, 0, 0, host);
        assert_eq!((0..50).filter(|&host| limit.allow(now, same_site(host))).count(), 10);
        assert!(limit.allow(now, site(2)));
    }

    #[test]
    fn all_sites_together_have_a_bound_and_no_table_grows() {
        let (mut limit, now) = (limit(100, 10), Instant::from_micros(0));
        let octets = limit.prefixes.capacity();
        assert_eq!(
            (0..60_000).filter(|&number| limit.allow(now, site(number))).count(),
            100
        );
        assert_eq!(limit.prefixes.capacity(), octets);
    }

    #[test]
    fn sites_are_spread_over_the_table() {
        let (mut limit, now) = (limit(u32::MAX, 1), Instant::from_micros(0));
        // 500 in 1,024 places: by chance a fifth of them meet another one.
        let alone = (0..500).filter(|&number| limit.allow(now, site(number))).count();
        assert!((350..=450).contains(&alone), "{alone}");
    }
}
