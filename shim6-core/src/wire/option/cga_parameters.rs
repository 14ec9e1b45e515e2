//! CGA Parameter Data Structure option (RFC 5533 section 5.15.4).
//!
//! ```text
//! |           Type = 4          |0|            Length             |
//! ~                   CGA Parameter Data Structure                ~
//! ```
//!
//! The structure is that of RFC 3972 section 3, with the Multi-Prefix extension of RFC 5535 when
//! HBA is used. It is opaque here: the contents are read as they are, and checked by who verifies
//! the locators.

use super::{OptionWriter, padded_len};
use crate::wire::OptionType;

/// Octets of the option for these parameters.
pub const fn buffer_len(parameters: &[u8]) -> usize {
    padded_len(parameters.len())
}

pub(in crate::wire) fn emit(parameters: &[u8], writer: &mut OptionWriter<'_>) {
    writer.put(OptionType::CGA_PARAMETERS, parameters);
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const GOLDEN: [u8; 24] = hex!("0008 000d 01020304 05060708 090a0b0c 0d 00000000000000");
    const PARAMETERS: [u8; 13] = hex!("0102030405060708090a0b0c0d");

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = [0; GOLDEN.len()];
        assert_eq!(buffer_len(&PARAMETERS), octets.len());
        emit(&PARAMETERS, &mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed_without_its_padding() {
        let set = OptionSet::collect(&GOLDEN, 0, &[OptionType::CGA_PARAMETERS]);
        assert_eq!(set.map(|set| set.cga_parameters), Ok(Some(&PARAMETERS[..])));
    }
}
