//! What the fuzz targets under `cga/fuzz` run. An ordinary test runs it over the corpus that is kept there.
//!
//! Each body takes any octets and panics when a promise of this crate does not hold.

use core::net::Ipv6Addr;

use crate::{CgaParameters, CgaParametersRef, MAX_COLLISION_COUNT, Sec, VerifyError};

#[cfg(feature = "rsa")]
mod keys;
#[cfg(test)]
mod tests;

#[cfg(feature = "rsa")]
pub use keys::{private_key, public_key, signature};

/// A bit of the address that Hash1 decides.
const HASH1_BIT: u128 = 1;

/// CGA Parameters: they round-trip, and verify the addresses that they give and no other.
pub fn parameters(octets: &[u8]) {
    let Ok(view) = CgaParametersRef::parse(octets) else {
        assert!(CgaParameters::parse(octets).is_err());
        return;
    };
    round_trip(octets, view);
    for sec in [Sec::ZERO, Sec::ONE, Sec::TWO] {
        let address = view.address(sec);
        let verdict = view.verify_cga(&address);
        check_verdict(&view, sec, verdict);
        assert!(view.verify_cga(&without_bit(address)).is_err());

        let in_set = view
            .multi_prefix()
            .is_some_and(|set| set.contains(&view.subnet_prefix()));
        if in_set {
            assert_eq!(view.verify_hba(&address), verdict);
        } else {
            assert!(view.verify_hba(&address).is_err());
        }
    }
    if let Some(set) = view.multi_prefix() {
        let mut verifier = view.hba_verifier().expect("has the extension");
        for prefix in set.prefixes().take(8) {
            let member = view.to_owned().with_subnet_prefix(prefix).view().address(Sec::ZERO);
            assert_eq!(verifier.verify(&member), view.verify_hba(&member));
            assert_eq!(
                verifier.verify(&without_bit(member)),
                view.verify_hba(&without_bit(member))
            );
            check_verdict(&view, Sec::ZERO, view.verify_hba(&member));
            assert!(view.verify_hba(&without_bit(member)).is_err());
        }
    }
}

fn round_trip(octets: &[u8], view: CgaParametersRef<'_>) {
    let owned = CgaParameters::parse(octets).expect("was accepted as a view");
    assert_eq!(owned, view.to_owned());
    assert_eq!(owned.view(), view);
    assert_eq!(owned.to_vec(), octets);
    let built = CgaParameters::new(
        view.modifier(),
        view.subnet_prefix(),
        view.collision_count(),
        view.public_key(),
        view.extension_octets(),
    );
    assert_eq!(built, Ok(owned));
    let extension_octets: usize = view.extensions().map(|extension| 4 + extension.data().len()).sum();
    assert_eq!(extension_octets, view.extension_octets().len());
}

/// The verdict on an address that the parameters give: only collision count and Hash2 can be wrong with it.
fn check_verdict(view: &CgaParametersRef<'_>, sec: Sec, verdict: Result<Sec, VerifyError>) {
    let found = view.collision_count();
    match verdict {
        Ok(of_address) => assert!(of_address == sec && found <= MAX_COLLISION_COUNT),
        Err(VerifyError::CollisionCount { found: in_error }) => {
            assert!(in_error == found && found > MAX_COLLISION_COUNT)
        }
        Err(VerifyError::Hash2NotZero { sec: in_error }) => assert!(in_error == sec && sec != Sec::ZERO),
        Err(error) => panic!("{error}"),
    }
}

fn without_bit(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() ^ HASH1_BIT)
}
