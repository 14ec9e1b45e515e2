//! The Shim6 checksum (RFC 5533 section 5.3).

/// One's complement of the one's complement sum of `octets`, taken as 16-bit big-endian words.
///
/// There is no pseudo-header, so that a message can change its locators without a new checksum.
/// To fill the field, compute over the message with the field zeroed. To verify, compute over the
/// message as received: the result is 0 when it is right. A last odd octet counts as the upper
/// half of a word.
pub fn checksum(octets: &[u8]) -> u16 {
    // No slice has the 2^48 words that it takes to overflow 64 bits.
    let (words, odd) = octets.as_chunks::<2>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    if let [last] = odd {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_matches_the_worked_example_of_rfc_1071() {
        // RFC 1071 section 3: the words 0001 f203 f4f5 f6f7 sum up to ddf2.
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&octets), !0xddf2);
    }

    #[test]
    fn nothing_sums_up_to_zero() {
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0; 40]), 0xffff);
    }

    #[test]
    fn carries_are_folded_more_than_once() {
        assert_eq!(checksum(&[0xff; 2048]), 0);
    }

    #[test]
    fn odd_octet_is_the_upper_half_of_a_word() {
        assert_eq!(checksum(&[0x12, 0x34, 0x56]), !(0x1234 + 0x5600));
    }
}
