//! CGA Signature option (RFC 5533 section 5.15.5).
//!
//! ```text
//! |           Type = 5          |0|            Length             |
//! ~                        CGA Signature                          ~
//! ```
//!
//! A PKCS #1 v1.5 signature over the Shim6 message type tag, the generation of the Locator List in the same message and
//! those of its locators whose method is CGA, in list order. Opaque here: who verifies the locators checks it.

use super::{OptionWriter, padded_len};
use crate::wire::OptionType;

/// Octets of the option for this signature.
pub const fn buffer_len(signature: &[u8]) -> usize {
    padded_len(signature.len())
}

pub(in crate::wire) fn emit(signature: &[u8], writer: &mut OptionWriter<'_>) {
    writer.put(OptionType::CGA_SIGNATURE, signature);
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const GOLDEN: [u8; 16] = hex!("000a 0006 51525354 5556 000000000000");
    const SIGNATURE: [u8; 6] = hex!("515253545556");

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = [0; GOLDEN.len()];
        assert_eq!(buffer_len(&SIGNATURE), octets.len());
        emit(&SIGNATURE, &mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed_without_its_padding() {
        let set = OptionSet::collect(&GOLDEN, 0, &[OptionType::CGA_SIGNATURE]);
        assert_eq!(set.map(|set| set.cga_signature), Ok(Some(&SIGNATURE[..])));
    }
}
