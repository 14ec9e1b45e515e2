//! How many prefixes an HBA set has room for.

use crate::{der, extension::multi_prefix_len, format::PARAMETERS_HEAD_LEN};

/// The most prefixes that an HBA-only set is generated for, see [`max_prefixes`].
pub const MAX_PREFIXES: usize = max_prefixes(der::MAX_ENCODED_NONCE_LEN);

/// The most prefixes that a set is generated for whose public key field takes `public_key_len` octets; 0 if none.
///
/// So that the largest Shim6 message of the set's owner, an I2bis (RFC 5533 section 5.9) with the parameters, all
/// addresses as locators and their preferences, fits the 1280 octets that every IPv6 link carries, with 104 octets
/// left for the responder's validator and other options. A CGA Signature option (RFC 5533 section 5.15.5) is counted
/// too, because whoever adds a prefix to the set later has to sign its locators. A field that is no longer than the
/// nonce of an HBA-only set is counted without it, since a key as short as that is no protection.
pub const fn max_prefixes(public_key_len: usize) -> usize {
    let mut prefixes = 0;
    // The length first, so that no sum overflows.
    while public_key_len <= LINK_MTU && largest_message_len(prefixes + 1, public_key_len) <= LINK_MTU {
        prefixes += 1;
    }
    prefixes
}

/// What every IPv6 link carries in one packet, in octets (RFC 8200 section 5).
const LINK_MTU: usize = 1280;

/// Octets of the message that [`max_prefixes`] is about, IPv6 header included.
const fn largest_message_len(prefixes: usize, public_key_len: usize) -> usize {
    const IPV6_HEADER: usize = 40;
    const I2BIS_FIXED_PART: usize = 32;
    const ULID_PAIR: usize = 40;
    const VALIDATOR_AND_OTHERS: usize = 104;
    // Option header, generation, count, methods; locators start at a multiple of 8.
    let locator_list = (4 + 4 + 1 + prefixes).next_multiple_of(8) + 16 * prefixes;
    // Option header, generation, element length, elements of 3 octets.
    let locator_preferences = (4 + 4 + 1 + 3 * prefixes).next_multiple_of(8);
    let parameters = PARAMETERS_HEAD_LEN + public_key_len + multi_prefix_len(prefixes);
    let parameters_option = (4 + parameters).next_multiple_of(8);
    let signature_option = if public_key_len > der::MAX_ENCODED_NONCE_LEN {
        (4 + max_signature_len(public_key_len)).next_multiple_of(8)
    } else {
        0
    };
    IPV6_HEADER
        + I2BIS_FIXED_PART
        + ULID_PAIR
        + VALIDATOR_AND_OTHERS
        + locator_list
        + locator_preferences
        + parameters_option
        + signature_option
}

/// The most octets that a signature takes by an RSA key whose SubjectPublicKeyInfo takes `public_key_len`: those of its
/// modulus.
const fn max_signature_len(public_key_len: usize) -> usize {
    // Tags, lengths, algorithm and an exponent of one octet. From 128 octets of modulus on, four lengths take one octet
    // more, from 256 on another.
    let around_modulus = match public_key_len {
        0..159 => 27,
        159..291 => 31,
        _ => 35,
    };
    public_key_len.saturating_sub(around_modulus)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field of RSA keys of 512 to 4096 bits, with the usual exponent and with the shortest.
    #[test]
    fn signature_is_never_longer_than_what_is_counted() {
        for (public_key_len, modulus_len) in [
            (94, 64),
            (162, 128),
            (294, 256),
            (422, 384),
            (550, 512),
            (92, 64),
            (160, 128),
            (292, 256),
            (420, 384),
            (548, 512),
        ] {
            let counted = max_signature_len(public_key_len);
            assert!(
                (modulus_len..modulus_len + 4).contains(&counted),
                "{counted} for {modulus_len}"
            );
        }
        assert_eq!(max_signature_len(0), 0);
    }

    /// Added up by hand, each option with its padding, behind 216 octets that are always there: locator list, preferences,
    /// parameters, signature.
    #[test]
    fn message_has_the_length_of_its_options() {
        let nonce = der::MAX_ENCODED_NONCE_LEN;
        assert_eq!(nonce, 78);
        assert_eq!(largest_message_len(3, nonce), 216 + 64 + 24 + 144);
        assert_eq!(largest_message_len(8, nonce), 216 + 152 + 40 + 184);
        assert_eq!(largest_message_len(3, 294), 216 + 64 + 24 + 360 + 264);
        assert_eq!(largest_message_len(8, 294), 216 + 152 + 40 + 400 + 264);
    }

    #[test]
    fn most_prefixes_fill_the_largest_message() {
        for public_key_len in [der::MAX_ENCODED_NONCE_LEN, 94, 162, 294, 422] {
            let most = max_prefixes(public_key_len);
            assert!(largest_message_len(most, public_key_len) <= LINK_MTU);
            assert!(largest_message_len(most + 1, public_key_len) > LINK_MTU);
        }
    }
}
