//! Responder Validator option (RFC 5533 section 5.15.1).
//!
//! ```text
//! |           Type = 1          |0|            Length             |
//! ~                           Validator                           ~
//! ```
//!
//! Only the responder interprets it, so any length is right, none included; the initiator copies
//! it from R1 into I2. It is read as the contents themselves.

use super::{OptionWriter, padded_len};
use crate::wire::OptionType;

/// Octets of the option for this validator.
pub const fn buffer_len(validator: &[u8]) -> usize {
    padded_len(validator.len())
}

pub(in crate::wire) fn emit(validator: &[u8], writer: &mut OptionWriter<'_>) {
    writer.put(OptionType::RESPONDER_VALIDATOR, validator);
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::wire::option::OptionSet;

    const GOLDEN: [u8; 16] = hex!("0002 0006 a1a2a3a4 a5a6 000000000000");
    const VALIDATOR: [u8; 6] = hex!("a1a2a3a4a5a6");

    #[test]
    fn golden_option_is_emitted() {
        let mut octets = [0; GOLDEN.len()];
        assert_eq!(buffer_len(&VALIDATOR), octets.len());
        emit(&VALIDATOR, &mut OptionWriter::new(&mut octets));
        assert_eq!(octets, GOLDEN);
    }

    #[test]
    fn golden_option_is_parsed_without_its_padding() {
        let set = OptionSet::collect(&GOLDEN, 0, &[OptionType::RESPONDER_VALIDATOR]);
        assert_eq!(set.map(|set| set.responder_validator), Ok(Some(&VALIDATOR[..])));
    }
}
