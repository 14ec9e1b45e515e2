//! Addresses made with a public key (RFC 3972 section 4).

use core::net::Ipv6Addr;

use rand_core::Rng;

use crate::{
    error::{GenerateError, VerifyError},
    format::{MAX_COLLISION_COUNT, Modifier},
    hba::random_modifier,
    parameters::CgaParameters,
    prefix::SubnetPrefix,
    search::ModifierSearch,
    sec::Sec,
};

/// A cryptographically generated address with the parameters it is made from.
///
/// Those of several addresses under several prefixes are an [`HbaSet`](crate::HbaSet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cga {
    parameters: CgaParameters,
    sec: Sec,
    address: Ipv6Addr,
}

impl Cga {
    /// Generates an address (RFC 3972 section 4) under this prefix.
    ///
    /// `public_key` are the DER octets of a SubjectPublicKeyInfo, `extensions` those of any number of extension fields.
    /// The modifier comes from `rng`, which should be unpredictable for the sake of privacy; the same octets give the
    /// same address. Returns only when the modifier is found: see [`Sec`] for how long that takes, and [`CgaSearch`] for
    /// doing it in steps.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Malformed`] for a key that is not one DER SEQUENCE or octets that are no extension fields,
    /// [`GenerateError::UnassignablePrefix`] for a prefix that no host has an address under.
    pub fn generate(
        prefix: SubnetPrefix,
        public_key: &[u8],
        extensions: &[u8],
        sec: Sec,
        rng: &mut dyn Rng,
    ) -> Result<Self, GenerateError> {
        let mut search = CgaSearch::new(prefix, public_key, extensions, sec, rng)?;
        loop {
            if let Some(address) = search.step(u64::MAX) {
                return Ok(address);
            }
        }
    }

    /// The address that stored parameters stand for.
    ///
    /// Checks what its verification will look at: the collision count, and Hash2 for this Sec.
    pub fn from_parameters(parameters: &CgaParameters, sec: Sec) -> Result<Self, VerifyError> {
        parameters.view().check_collision_count()?;
        parameters.view().check_hash2(sec)?;
        Ok(Self::assemble(parameters.clone(), sec))
    }

    /// The address with another collision count, for when duplicate address detection finds this one in use (RFC 3972
    /// section 4, step 8): start with 1, then 2.
    ///
    /// # Errors
    ///
    /// [`GenerateError::CollisionCount`] for more than 2: it would not verify.
    pub fn with_collision_count(&self, collision_count: u8) -> Result<Self, GenerateError> {
        if collision_count > MAX_COLLISION_COUNT {
            return Err(GenerateError::CollisionCount { given: collision_count });
        }
        let parameters = self.parameters.clone().with_collision_count(collision_count);
        Ok(Self::assemble(parameters, self.sec))
    }

    /// The address, or that of the next collision count up to 2, which is not in use (RFC 3972 section 4, step 8).
    /// `is_duplicate` performs duplicate address detection.
    ///
    /// # Errors
    ///
    /// [`GenerateError::TooManyCollisions`] if none of the collision counts will do.
    pub fn without_duplicates(self, mut is_duplicate: impl FnMut(Ipv6Addr) -> bool) -> Result<Self, GenerateError> {
        let mut cga = self;
        while is_duplicate(cga.address) {
            let address = cga.address;
            let next = cga.with_collision_count(cga.collision_count() + 1);
            cga = next.map_err(|_| GenerateError::TooManyCollisions { address })?;
        }
        Ok(cga)
    }

    /// The address.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// The parameters, which verify the address.
    pub fn parameters(&self) -> &CgaParameters {
        &self.parameters
    }

    /// The Sec of the address.
    pub fn sec(&self) -> Sec {
        self.sec
    }

    /// How many collisions the address was changed after.
    pub fn collision_count(&self) -> u8 {
        self.parameters.collision_count()
    }

    fn assemble(parameters: CgaParameters, sec: Sec) -> Self {
        Self {
            address: parameters.address(sec),
            parameters,
            sec,
        }
    }
}

/// The generation of a [`Cga`] in steps, for a caller that has other things to do or shows its progress, or that
/// searches with several threads: each [`step`](ModifierSearch::step)s through a part of
/// [`modifier_search`](Self::modifier_search), and [`finish`](Self::finish) takes what is found.
#[derive(Clone, Debug)]
pub struct CgaSearch {
    search: ModifierSearch,
    /// All of the parameters but the final modifier.
    parameters: CgaParameters,
}

impl CgaSearch {
    /// Checks prefix, key and extension fields and draws the modifier, but does not search yet. See [`Cga::generate`].
    pub fn new(
        prefix: SubnetPrefix,
        public_key: &[u8],
        extensions: &[u8],
        sec: Sec,
        rng: &mut dyn Rng,
    ) -> Result<Self, GenerateError> {
        if !prefix.is_assignable() {
            return Err(GenerateError::UnassignablePrefix { prefix });
        }
        let parameters = CgaParameters::new(Modifier::default(), prefix, 0, public_key, extensions)?;
        Ok(Self::resume(&parameters.with_modifier(random_modifier(rng)), sec))
    }

    /// Continues a search that was left, from its [`parameters`](Self::parameters); gives the address that it would have
    /// given.
    pub fn resume(parameters: &CgaParameters, sec: Sec) -> Self {
        Self {
            search: ModifierSearch::from_parameters(parameters, sec),
            // Step 4.
            parameters: parameters.clone().with_collision_count(0),
        }
    }

    /// Tries at most `budget` modifiers, one hash each; gives the address once a modifier is found.
    pub fn step(&mut self, budget: u64) -> Option<Cga> {
        let modifier = self.search.step(budget)?;
        Some(self.assemble(modifier))
    }

    /// The address with this modifier, found by a part of [`modifier_search`](Self::modifier_search).
    ///
    /// # Errors
    ///
    /// [`VerifyError::Hash2NotZero`] if it is no modifier for these parameters.
    pub fn finish(&self, modifier: Modifier) -> Result<Cga, VerifyError> {
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

    fn assemble(&self, modifier: Modifier) -> Cga {
        Cga::assemble(self.parameters.clone().with_modifier(modifier), self.search.sec())
    }
}
