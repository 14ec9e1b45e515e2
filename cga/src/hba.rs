//! HBA sets (RFC 5535 section 6).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;

use crate::{
    der::{self, NONCE_LEN},
    error::{GenerateError, VerifyError},
    extension::{encode_multi_prefix, multi_prefix_len},
    parameters::{CgaParameters, MAX_COLLISION_COUNT, Modifier, PARAMETERS_HEAD_LEN},
    prefix::SubnetPrefix,
    search::ModifierSearch,
    sec::Sec,
};

/// The most prefixes that an HBA set is generated for.
///
/// So that the largest Shim6 message of the set's owner, an I2bis (RFC 5533 section 5.9) with the parameters, all
/// addresses as locators and their preferences, fits the 1280 octets that every IPv6 link carries, with 104 octets
/// left for the responder's validator and other options.
pub const MAX_PREFIXES: usize = 32;

const _: () = assert!(largest_message_len(MAX_PREFIXES) <= 1280);
const _: () = assert!(largest_message_len(MAX_PREFIXES + 1) > 1280);

/// An HBA-only set: one address under each prefix, bound to each other without a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HbaSet {
    /// Those of the first address; the others differ in the subnet prefix only.
    parameters: CgaParameters,
    sec: Sec,
    prefixes: Vec<SubnetPrefix>,
    addresses: Vec<Ipv6Addr>,
}

impl HbaSet {
    /// Generates a set (RFC 5535 section 6) for 1 to [`MAX_PREFIXES`] different prefixes.
    ///
    /// The modifier and the extended modifier come from `rng`, which should be unpredictable for the sake of privacy;
    /// the same octets give the same set. Returns only when the modifier is found: see [`Sec`] for how long that
    /// takes, and [`HbaSearch`] for doing it in steps.
    pub fn generate(prefixes: &[SubnetPrefix], sec: Sec, rng: &mut dyn Rng) -> Result<Self, GenerateError> {
        let mut search = HbaSearch::new(prefixes, sec, rng)?;
        loop {
            if let Some(set) = search.step(u64::MAX) {
                return Ok(set);
            }
        }
    }

    /// The set that stored parameters stand for, those of any of its addresses.
    ///
    /// Checks what does not depend on the prefix: that they have a Multi-Prefix extension, the collision count and
    /// Hash2 for this Sec.
    pub fn from_parameters(parameters: &CgaParameters, sec: Sec) -> Result<Self, VerifyError> {
        let view = parameters.view();
        let multi_prefix = view.multi_prefix().ok_or(VerifyError::NoMultiPrefix)?;
        view.check_collision_count()?;
        view.check_hash2(sec)?;
        let prefixes = multi_prefix.prefixes().collect();
        Ok(Self::assemble(parameters.clone(), sec, prefixes))
    }

    /// The set with another collision count, for when duplicate address detection finds one of the addresses in use
    /// (RFC 5535 section 6, step 6.4): start with 1, then 2. All addresses change.
    ///
    /// # Errors
    ///
    /// [`GenerateError::CollisionCount`] for more than 2: after three collisions something else is wrong.
    pub fn with_collision_count(&self, collision_count: u8) -> Result<Self, GenerateError> {
        if collision_count > MAX_COLLISION_COUNT {
            return Err(GenerateError::CollisionCount { given: collision_count });
        }
        let parameters = self.parameters.clone().with_collision_count(collision_count);
        Ok(Self::assemble(parameters, self.sec, self.prefixes.clone()))
    }

    /// The addresses, in the order of the prefixes.
    pub fn addresses(&self) -> &[Ipv6Addr] {
        &self.addresses
    }

    /// The prefixes, in the order given at generation.
    pub fn prefixes(&self) -> &[SubnetPrefix] {
        &self.prefixes
    }

    /// The Sec of all addresses.
    pub fn sec(&self) -> Sec {
        self.sec
    }

    /// How many collisions the addresses were changed after.
    pub fn collision_count(&self) -> u8 {
        self.parameters.collision_count()
    }

    /// The parameters of the first address. They verify all addresses of the set as HBAs.
    pub fn parameters(&self) -> &CgaParameters {
        &self.parameters
    }

    /// The parameters of the address at `index`, with its prefix; `None` past the last address.
    ///
    /// They verify all addresses of the set as HBAs, and this one as CGA too.
    pub fn parameters_for(&self, index: usize) -> Option<CgaParameters> {
        let prefix = *self.prefixes.get(index)?;
        Some(self.parameters.clone().with_subnet_prefix(prefix))
    }

    fn assemble(parameters: CgaParameters, sec: Sec, prefixes: Vec<SubnetPrefix>) -> Self {
        let view = parameters.view();
        let addresses = prefixes.iter().map(|prefix| view.address_under(*prefix, sec)).collect();
        let parameters = match prefixes.first() {
            Some(first) => parameters.with_subnet_prefix(*first),
            None => parameters,
        };
        Self {
            parameters,
            sec,
            prefixes,
            addresses,
        }
    }
}

/// The generation of an [`HbaSet`] in steps, for a caller that has other things to do or shows its progress.
#[derive(Clone, Debug)]
pub struct HbaSearch {
    search: ModifierSearch,
    /// All of the parameters but the final modifier.
    parameters: CgaParameters,
    prefixes: Vec<SubnetPrefix>,
}

impl HbaSearch {
    /// Checks the prefixes and draws the random values, but does not search yet. See [`HbaSet::generate`].
    pub fn new(prefixes: &[SubnetPrefix], sec: Sec, rng: &mut dyn Rng) -> Result<Self, GenerateError> {
        check_prefixes(prefixes)?;
        let mut modifier = Modifier::default();
        rng.fill_bytes(&mut modifier);
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let key = der::encode_nonce(&nonce);
        let extensions = encode_multi_prefix(prefixes, false);
        Ok(Self {
            search: ModifierSearch::new(modifier, sec, &key, &extensions),
            parameters: CgaParameters::from_checked(modifier, &key, &extensions),
            prefixes: prefixes.to_vec(),
        })
    }

    /// Tries at most `budget` modifiers, one hash each; gives the set once a modifier is found.
    pub fn step(&mut self, budget: u64) -> Option<HbaSet> {
        let modifier = self.search.step(budget)?;
        let parameters = self.parameters.clone().with_modifier(modifier);
        Some(HbaSet::assemble(parameters, self.search.sec(), self.prefixes.clone()))
    }

    /// Hashes computed so far; 2^(16 * Sec) are expected in all.
    pub fn tried(&self) -> u64 {
        self.search.tried()
    }
}

fn check_prefixes(prefixes: &[SubnetPrefix]) -> Result<(), GenerateError> {
    let given = prefixes.len();
    match given {
        0 => return Err(GenerateError::NoPrefixes),
        1..=MAX_PREFIXES => {}
        _ => return Err(GenerateError::TooManyPrefixes { given }),
    }
    for (index, prefix) in prefixes.iter().enumerate() {
        if prefixes[..index].contains(prefix) {
            return Err(GenerateError::DuplicatePrefix { prefix: *prefix });
        }
    }
    Ok(())
}

/// Octets of the message that [`MAX_PREFIXES`] is about, IPv6 header included.
const fn largest_message_len(prefixes: usize) -> usize {
    const IPV6_HEADER: usize = 40;
    const I2BIS_FIXED_PART: usize = 32;
    const ULID_PAIR: usize = 40;
    const VALIDATOR_AND_OTHERS: usize = 104;
    // Option header, generation, count, methods; locators start at a multiple of 8.
    let locator_list = (4 + 4 + 1 + prefixes).next_multiple_of(8) + 16 * prefixes;
    // Option header, generation, element length, elements of 3 octets.
    let locator_preferences = (4 + 4 + 1 + 3 * prefixes).next_multiple_of(8);
    let parameters = PARAMETERS_HEAD_LEN + der::MAX_ENCODED_NONCE_LEN + multi_prefix_len(prefixes);
    let parameters_option = (4 + parameters).next_multiple_of(8);
    IPV6_HEADER
        + I2BIS_FIXED_PART
        + ULID_PAIR
        + VALIDATOR_AND_OTHERS
        + locator_list
        + locator_preferences
        + parameters_option
}

#[cfg(test)]
mod tests;
