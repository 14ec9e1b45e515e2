//! HBA sets (RFC 5535 section 6).

mod room;

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_core::Rng;

use crate::{
    der::{self, NONCE_LEN},
    error::{GenerateError, VerifyError},
    extension::encode_multi_prefix,
    format::{MAX_COLLISION_COUNT, Modifier},
    parameters::CgaParameters,
    prefix::SubnetPrefix,
    search::ModifierSearch,
    sec::Sec,
};

pub use room::{MAX_PREFIXES, max_prefixes};

/// An HBA set: one address under each prefix, bound to each other.
///
/// HBA-only, with a nonce in the place of a public key, or CGA/HBA, with a key that can sign for further locators (RFC
/// 5535 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HbaSet {
    /// Those of the first address; the others differ in the subnet prefix only.
    parameters: CgaParameters,
    sec: Sec,
    prefixes: Vec<SubnetPrefix>,
    addresses: Vec<Ipv6Addr>,
}

impl HbaSet {
    /// Generates an HBA-only set (RFC 5535 section 6) for 1 to [`MAX_PREFIXES`] different prefixes.
    ///
    /// The modifier and the extended modifier come from `rng`, which should be unpredictable for the sake of privacy;
    /// the same octets give the same set. Returns only when the modifier is found: see [`Sec`] for how long that
    /// takes, and [`HbaSearch`] for doing it in steps.
    pub fn generate(prefixes: &[SubnetPrefix], sec: Sec, rng: &mut dyn Rng) -> Result<Self, GenerateError> {
        Ok(HbaSearch::new(prefixes, sec, rng)?.run())
    }

    /// Generates a CGA/HBA set, whose owner has the private key of `public_key`: as [`generate`](Self::generate) does, see
    /// [`HbaSearch::with_public_key`].
    pub fn generate_with_public_key(
        prefixes: &[SubnetPrefix],
        public_key: &[u8],
        sec: Sec,
        rng: &mut dyn Rng,
    ) -> Result<Self, GenerateError> {
        Ok(HbaSearch::with_public_key(prefixes, public_key, sec, rng)?.run())
    }

    /// The set that stored parameters stand for, those of any of its addresses. Of a CGA/HBA set too.
    ///
    /// Checks what does not depend on the prefix: that they have a Multi-Prefix extension, the collision count and
    /// Hash2 for this Sec.
    pub fn from_parameters(parameters: &CgaParameters, sec: Sec) -> Result<Self, VerifyError> {
        let view = parameters.view();
        let prefixes = listed_prefixes(parameters)?;
        view.check_collision_count()?;
        view.check_hash2(sec)?;
        Ok(Self::assemble(parameters.clone(), sec, prefixes))
    }

    /// The set with another collision count, for when duplicate address detection finds one of the addresses in use
    /// (RFC 5535 section 6, step 6.4): start with 1, then 2. All addresses change.
    ///
    /// # Errors
    ///
    /// [`GenerateError::CollisionCount`] for more than 2: it would not verify.
    pub fn with_collision_count(&self, collision_count: u8) -> Result<Self, GenerateError> {
        if collision_count > MAX_COLLISION_COUNT {
            return Err(GenerateError::CollisionCount { given: collision_count });
        }
        let parameters = self.parameters.clone().with_collision_count(collision_count);
        Ok(Self::assemble(parameters, self.sec, self.prefixes.clone()))
    }

    /// The set, or that of the next collision count up to 2, of which no address is in use (RFC 5535 section 6, step
    /// 6.4). `is_duplicate` performs duplicate address detection; all addresses of a set are asked for until one is in
    /// use.
    ///
    /// # Errors
    ///
    /// [`GenerateError::TooManyCollisions`] if none of the collision counts will do.
    pub fn without_duplicates(self, mut is_duplicate: impl FnMut(Ipv6Addr) -> bool) -> Result<Self, GenerateError> {
        let mut set = self;
        while let Some(&address) = set.addresses.iter().find(|address| is_duplicate(**address)) {
            let next = set.with_collision_count(set.collision_count() + 1);
            set = next.map_err(|_| GenerateError::TooManyCollisions { address })?;
        }
        Ok(set)
    }

    /// Whether the parameters have a public key: a CGA/HBA set, not an HBA-only one.
    pub fn has_public_key(&self) -> bool {
        self.parameters
            .multi_prefix()
            .is_some_and(|extension| extension.has_public_key())
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

/// The generation of an [`HbaSet`] in steps, for a caller that has other things to do or shows its progress, or that
/// searches with several threads: each [`step`](ModifierSearch::step)s through a part of
/// [`modifier_search`](Self::modifier_search), and [`finish`](Self::finish) takes what is found.
#[derive(Clone, Debug)]
pub struct HbaSearch {
    search: ModifierSearch,
    /// All of the parameters but the final modifier.
    parameters: CgaParameters,
    prefixes: Vec<SubnetPrefix>,
}

impl HbaSearch {
    /// For an HBA-only set: checks the prefixes and draws the random values, but does not search yet. See
    /// [`HbaSet::generate`].
    pub fn new(prefixes: &[SubnetPrefix], sec: Sec, rng: &mut dyn Rng) -> Result<Self, GenerateError> {
        check_prefixes(prefixes, der::MAX_ENCODED_NONCE_LEN)?;
        let modifier = random_modifier(rng);
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let extension = encode_multi_prefix(prefixes, false);
        let parameters = CgaParameters::from_checked(modifier, &der::encode_nonce(&nonce), &extension);
        Ok(Self::of(parameters, sec, prefixes.to_vec()))
    }

    /// For a CGA/HBA set, whose owner has the private key of `public_key`, the DER octets of a SubjectPublicKeyInfo:
    /// checks prefixes and key and draws the modifier, but does not search yet.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Malformed`] if the key is not one DER SEQUENCE, [`GenerateError::TooManyPrefixes`] for more than
    /// [`max_prefixes`].
    pub fn with_public_key(
        prefixes: &[SubnetPrefix],
        public_key: &[u8],
        sec: Sec,
        rng: &mut dyn Rng,
    ) -> Result<Self, GenerateError> {
        der::check_public_key(public_key)?;
        check_prefixes(prefixes, public_key.len())?;
        let extension = encode_multi_prefix(prefixes, true);
        let parameters = CgaParameters::from_checked(random_modifier(rng), public_key, &extension);
        Ok(Self::of(parameters, sec, prefixes.to_vec()))
    }

    /// Continues a search that was left, from its [`parameters`](Self::parameters); gives the set that it would have
    /// given. Also starts one for parameters with further extension fields.
    ///
    /// # Errors
    ///
    /// [`VerifyError::NoMultiPrefix`] if the parameters are those of no set.
    pub fn resume(parameters: &CgaParameters, sec: Sec) -> Result<Self, VerifyError> {
        let prefixes = listed_prefixes(parameters)?;
        Ok(Self::of(parameters.clone(), sec, prefixes))
    }

    /// Tries at most `budget` modifiers, one hash each; gives the set once a modifier is found.
    pub fn step(&mut self, budget: u64) -> Option<HbaSet> {
        let modifier = self.search.step(budget)?;
        Some(self.assemble(modifier))
    }

    /// The set with this modifier, found by a part of [`modifier_search`](Self::modifier_search).
    ///
    /// # Errors
    ///
    /// [`VerifyError::Hash2NotZero`] if it is no modifier for these parameters.
    pub fn finish(&self, modifier: Modifier) -> Result<HbaSet, VerifyError> {
        let parameters = self.parameters.clone().with_modifier(modifier);
        parameters.view().check_hash2(self.search.sec())?;
        Ok(self.assemble(modifier))
    }

    /// The parameters with the modifier that is tried next: what [`resume`](Self::resume) takes. With threads, give them
    /// the [`candidate`](ModifierSearch::candidate) of the earliest part that is not searched to its end.
    pub fn parameters(&self) -> CgaParameters {
        self.parameters.clone().with_modifier(self.search.candidate())
    }

    /// The search for the modifier, of which a copy can be split.
    pub fn modifier_search(&self) -> &ModifierSearch {
        &self.search
    }

    /// Hashes computed so far; [`Sec::expected_hashes`] are expected in all.
    pub fn tried(&self) -> u64 {
        self.search.tried()
    }

    fn run(mut self) -> HbaSet {
        loop {
            if let Some(set) = self.step(u64::MAX) {
                return set;
            }
        }
    }

    fn of(parameters: CgaParameters, sec: Sec, prefixes: Vec<SubnetPrefix>) -> Self {
        let search = ModifierSearch::from_parameters(&parameters, sec);
        // Step 5, and the first of the prefixes as in the set that comes of it.
        let mut parameters = parameters.with_collision_count(0);
        if let Some(first) = prefixes.first() {
            parameters = parameters.with_subnet_prefix(*first);
        }
        Self {
            search,
            parameters,
            prefixes,
        }
    }

    fn assemble(&self, modifier: Modifier) -> HbaSet {
        let parameters = self.parameters.clone().with_modifier(modifier);
        HbaSet::assemble(parameters, self.search.sec(), self.prefixes.clone())
    }
}

/// Step 1 of RFC 3972 section 4.
pub(crate) fn random_modifier(rng: &mut dyn Rng) -> Modifier {
    let mut modifier = Modifier::default();
    rng.fill_bytes(&mut modifier);
    modifier
}

fn listed_prefixes(parameters: &CgaParameters) -> Result<Vec<SubnetPrefix>, VerifyError> {
    let multi_prefix = parameters.multi_prefix().ok_or(VerifyError::NoMultiPrefix)?;
    Ok(multi_prefix.prefixes().collect())
}

fn check_prefixes(prefixes: &[SubnetPrefix], public_key_len: usize) -> Result<(), GenerateError> {
    let most = max_prefixes(public_key_len);
    match prefixes.len() {
        0 => return Err(GenerateError::NoPrefixes),
        given if given > most => {
            return Err(GenerateError::TooManyPrefixes {
                given,
                most,
                public_key_len,
            });
        }
        _ => {}
    }
    for (index, &prefix) in prefixes.iter().enumerate() {
        if !prefix.is_assignable() {
            return Err(GenerateError::UnassignablePrefix { prefix });
        }
        if prefixes[..index].contains(&prefix) {
            return Err(GenerateError::DuplicatePrefix { prefix });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
