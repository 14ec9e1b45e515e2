//! Verification of addresses against CGA Parameters (RFC 3972 section 5, RFC 5535 section 7).

use core::net::Ipv6Addr;

use crate::{
    error::VerifyError,
    extension::MultiPrefix,
    hash::REGISTERED,
    parameters::{COLLISION_COUNT_AT, CgaParametersRef, MAX_COLLISION_COUNT, Modifier, PARAMETERS_HEAD_LEN, PREFIX_AT},
    prefix::SubnetPrefix,
    sec::Sec,
};

/// The bits of an interface identifier that no hash decides: Sec (the three leftmost) and "u" and "g" (6 and 7).
const IGNORED_BITS: u64 = 0xe300_0000_0000_0000;

impl<'a> CgaParametersRef<'a> {
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
        let sec = self.check_hash1(address, prefix)?;
        self.check_hash2(sec)?;
        Ok(sec)
    }

    /// Verifies that the address belongs to the HBA set of these parameters, under any of its prefixes (RFC 5535
    /// section 7.2); gives the address's Sec.
    ///
    /// The subnet prefix in the parameters does not matter: that of the address takes its place. For several addresses
    /// see [`hba_verifier`](Self::hba_verifier).
    pub fn verify_hba(&self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        self.hba_verifier()?.verify(address)
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
            hash2: [None; REGISTERED.len()],
        })
    }

    /// The address under another prefix than that in the parameters (RFC 5535 section 6, steps 6.1 to 6.3).
    pub(crate) fn address_under(&self, prefix: SubnetPrefix, sec: Sec) -> Ipv6Addr {
        let hash = self.hash1(prefix, sec) & !IGNORED_BITS;
        prefix.to_address(hash | sec.to_interface_identifier())
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
        if sec == Sec::ZERO || hash2_fits(sec, &hash2_head(self.modifier()), self.tail) {
            Ok(())
        } else {
            Err(VerifyError::Hash2NotZero { sec })
        }
    }

    /// Steps 3 to 5 of RFC 3972 section 5, with `prefix` as subnet prefix; gives the address's Sec.
    fn check_hash1(&self, address: &Ipv6Addr, prefix: SubnetPrefix) -> Result<Sec, VerifyError> {
        let interface_identifier = address.to_bits() as u64;
        let sec = Sec::from_interface_identifier(interface_identifier)?;
        if (self.hash1(prefix, sec) ^ interface_identifier) & !IGNORED_BITS != 0 {
            return Err(VerifyError::Hash1Mismatch);
        }
        Ok(sec)
    }

    /// Hash1 with `prefix` in the place of the subnet prefix.
    pub(crate) fn hash1(&self, prefix: SubnetPrefix, sec: Sec) -> u64 {
        let mut head = *self.head;
        head[PREFIX_AT..COLLISION_COUNT_AT].copy_from_slice(prefix.octets());
        sec.hash_function().leftmost_bits(&head, self.tail)
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
    /// The verdict on Hash2 at each Sec that an address had.
    hash2: [Option<Result<(), VerifyError>>; REGISTERED.len()],
}

impl HbaVerifier<'_> {
    /// Verifies one address; gives its Sec. A failure says nothing about other addresses.
    pub fn verify(&mut self, address: &Ipv6Addr) -> Result<Sec, VerifyError> {
        let prefix = SubnetPrefix::from(*address);
        if !self.multi_prefix.contains(&prefix) {
            return Err(VerifyError::PrefixNotInSet { prefix });
        }
        self.parameters.check_collision_count()?;
        let sec = self.parameters.check_hash1(address, prefix)?;
        let verdict = &mut self.hash2[usize::from(sec.value())];
        (*verdict.get_or_insert_with(|| self.parameters.check_hash2(sec))).map(|()| sec)
    }
}

/// What precedes the public key in Hash2's input: the modifier and 9 zero octets.
pub(crate) fn hash2_head(modifier: Modifier) -> [u8; PARAMETERS_HEAD_LEN] {
    let mut head = [0; PARAMETERS_HEAD_LEN];
    head[..PREFIX_AT].copy_from_slice(&modifier);
    head
}

/// Whether the Hash2 over `head` and `tail` starts with the zero bits that Sec asks for.
pub(crate) fn hash2_fits(sec: Sec, head: &[u8], tail: &[u8]) -> bool {
    let hash2 = sec.hash_function().leftmost_bits(head, tail);
    hash2.leading_zeros() >= sec.hash2_zero_bits()
}
