//! Verification of addresses against CGA Parameters (RFC 3972 section 5, RFC 5535 section 7).

use core::net::Ipv6Addr;

use crate::{
    error::VerifyError,
    extension::MultiPrefix,
    format::{MAX_COLLISION_COUNT, PARAMETERS_HEAD_LEN, PREFIX_AT, Varying},
    hash::{HashFunction, REGISTERED, ShortInput},
    parameters::{CgaParameters, CgaParametersRef},
    prefix::SubnetPrefix,
    sec::Sec,
};

/// The bits of an interface identifier that no hash decides: Sec (the three leftmost) and "u" and "g" (6 and 7).
const IGNORED_BITS: u64 = 0xe300_0000_0000_0000;

/// What Hash2 has in the place of subnet prefix and collision count (RFC 3972 section 3).
const HASH2_VARYING: Varying = [0; 9];

impl<'a> CgaParametersRef<'a> {
    /// The address that these parameters give at this Sec (RFC 3972 section 4, steps 5 to 7).
    ///
    /// It verifies only if Hash2 has the zero bits that Sec asks for, see [`ModifierSearch`](crate::ModifierSearch).
    pub fn address(&self, sec: Sec) -> Ipv6Addr {
        self.address_under(self.subnet_prefix(), sec)
    }

    /// Verifies that the address was made from these parameters (RFC 3972 section 5); gives the address's Sec.
    ///
    /// Steps in the RFC's order, but Sec is read before Hash1, since it decides the hash function (RFC 4982).
    pub fn verify_cga(&self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        self.check_collision_count()?;
        let prefix = SubnetPrefix::from(*address);
        let expected = self.subnet_prefix();
        if prefix != expected {
            return Err(VerifyError::PrefixMismatch {
                address: prefix,
                parameters: expected,
            });
        }
        let sec = check_hash1(address, |function| function.leftmost_bits(self.octets()))?;
        self.check_hash2(sec)?;
        Ok(sec)
    }

    /// Verifies that the address belongs to the HBA set of these parameters, under any of its prefixes (RFC 5535
    /// section 7.2); gives the address's Sec.
    ///
    /// The subnet prefix in the parameters does not matter: that of the address takes its place. For several addresses
    /// see [`hba_verifier`](Self::hba_verifier).
    pub fn verify_hba(&self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        let multi_prefix = self.multi_prefix().ok_or(VerifyError::NoMultiPrefix)?;
        let varying = self.check_prefix(address, multi_prefix)?;
        let sec = check_hash1(address, |function| function.leftmost_bits_with(self.octets(), &varying))?;
        self.check_hash2(sec)?;
        Ok(sec)
    }

    /// For the verification of several addresses of the HBA set of these parameters.
    ///
    /// # Errors
    ///
    /// [`VerifyError::NoMultiPrefix`] if the parameters define no set; all else is found out for each address.
    pub fn hba_verifier(&self) -> Result<HbaVerifier<'a>, VerifyError> {
        Ok(HbaVerifier {
            parameters: *self,
            multi_prefix: self.multi_prefix().ok_or(VerifyError::NoMultiPrefix)?,
            short: None,
            hash2: [None; REGISTERED.len()],
        })
    }

    /// The address under another prefix than that in the parameters (RFC 5535 section 6, steps 6.1 to 6.3).
    pub(crate) fn address_under(&self, prefix: SubnetPrefix, sec: Sec) -> Ipv6Addr {
        let varying = self.hash1_varying(prefix);
        let hash1 = sec.hash_function().leftmost_bits_with(self.octets(), &varying);
        prefix.to_address(hash1 & !IGNORED_BITS | sec.to_interface_identifier())
    }

    /// Step 1 of RFC 3972 section 5.
    pub(crate) fn check_collision_count(&self) -> Result<(), VerifyError> {
        match self.collision_count() {
            0..=MAX_COLLISION_COUNT => Ok(()),
            found => Err(VerifyError::CollisionCount { found }),
        }
    }

    /// Steps 6 and 7 of RFC 3972 section 5.
    pub(crate) fn check_hash2(&self, sec: Sec) -> Result<(), VerifyError> {
        check_hash2(sec, |function| {
            function.leftmost_bits_with(self.octets(), &HASH2_VARYING)
        })
    }

    /// Steps 1 to 2.2 of RFC 5535 section 7.2; gives what Hash1 has in the place of subnet prefix and collision count.
    fn check_prefix(&self, address: &Ipv6Addr, multi_prefix: MultiPrefix<'_>) -> Result<Varying, VerifyError> {
        let prefix = SubnetPrefix::from(*address);
        if !multi_prefix.contains(&prefix) {
            return Err(VerifyError::PrefixNotInSet { prefix });
        }
        self.check_collision_count()?;
        Ok(self.hash1_varying(prefix))
    }

    fn hash1_varying(&self, prefix: SubnetPrefix) -> Varying {
        let [a, b, c, d, e, f, g, h] = *prefix.octets();
        [a, b, c, d, e, f, g, h, self.collision_count()]
    }
}

impl CgaParameters {
    /// See [`CgaParametersRef::address`].
    pub fn address(&self, sec: Sec) -> Ipv6Addr {
        self.view().address(sec)
    }

    /// See [`CgaParametersRef::verify_cga`].
    pub fn verify_cga(&self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        self.view().verify_cga(address)
    }

    /// See [`CgaParametersRef::verify_hba`].
    pub fn verify_hba(&self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        self.view().verify_hba(address)
    }

    /// See [`CgaParametersRef::hba_verifier`].
    pub fn hba_verifier(&self) -> Result<HbaVerifier<'_>, VerifyError> {
        self.view().hba_verifier()
    }
}

/// The verification of the addresses of one HBA set, one after the other (RFC 5535 section 7.2).
///
/// One hash for each address, and one for the set where Sec asks for it, since Hash2 is the same for all addresses.
/// Allocates nothing.
#[derive(Clone, Debug)]
pub struct HbaVerifier<'a> {
    parameters: CgaParametersRef<'a>,
    multi_prefix: MultiPrefix<'a>,
    /// The parameters once more, if there is room.
    short: Option<ShortInput>,
    /// The verdict on Hash2 at each Sec that an address had.
    hash2: [Option<Result<(), VerifyError>>; REGISTERED.len()],
}

impl HbaVerifier<'_> {
    /// Verifies one address; gives its Sec. A failure says nothing about other addresses.
    pub fn verify(&mut self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        let varying = self.parameters.check_prefix(address, self.multi_prefix)?;
        let sec = check_hash1(address, |function| self.leftmost_bits(function, &varying))?;
        let slot = usize::from(sec.value());
        let verdict = match self.hash2[slot] {
            Some(verdict) => verdict,
            None => check_hash2(sec, |function| self.leftmost_bits(function, &HASH2_VARYING)),
        };
        self.hash2[slot] = Some(verdict);
        verdict.map(|()| sec)
    }

    fn leftmost_bits(&mut self, function: HashFunction, varying: &Varying) -> u64 {
        let octets = self.parameters.octets();
        // The one address that the parameters are those of: nothing has to be replaced.
        if octets[PREFIX_AT..PARAMETERS_HEAD_LEN] == *varying {
            return function.leftmost_bits(octets);
        }
        if self.short.is_none() {
            self.short = ShortInput::new(octets);
        }
        match &mut self.short {
            Some(short) => short.leftmost_bits_with(function, varying),
            None => function.leftmost_bits_with(octets, varying),
        }
    }
}

/// Steps 3 to 5 of RFC 3972 section 5; gives the address's Sec.
fn check_hash1(address: &Ipv6Addr, hash1: impl FnOnce(HashFunction) -> u64) -> Result<Sec, VerifyError> {
    let interface_identifier = address.to_bits() as u64;
    let sec = Sec::from_interface_identifier(interface_identifier)?;
    if (hash1(sec.hash_function()) ^ interface_identifier) & !IGNORED_BITS != 0 {
        return Err(VerifyError::Hash1Mismatch);
    }
    Ok(sec)
}

/// Steps 6 and 7 of RFC 3972 section 5.
fn check_hash2(sec: Sec, hash2: impl FnOnce(HashFunction) -> u64) -> Result<(), VerifyError> {
    // Where no bits are asked for, the RFC lets the hash be skipped.
    if sec.hash2_zero_bits() == 0 || sec.accepts_hash2(hash2(sec.hash_function())) {
        Ok(())
    } else {
        Err(VerifyError::Hash2NotZero { sec })
    }
}
