//! The Shim6 checksum (RFC 5533 section 5.3).

/// One's complement of the one's complement sum of `octets`, taken as 16-bit big-endian words.
///
/// There is no pseudo-header, so that a message can change its locators without a new checksum.
/// To fill the field, compute over the message with the field zeroed. To verify, compute over the
/// message as received: the result is 0 when it is right. A last odd octet counts as the upper
/// half of a word.
pub fn checksum(octets: &[u8]) -> u16 {
    !fold(sum(octets))
}

/// The one's complement sum of `octets`, taken as 16-bit big-endian words, a last odd octet as the upper half of one. Sums
/// may be added to each other, and to single words, before they are [`fold`]ed.
///
/// It does not depend on the byte order (RFC 1071 section 2), so it is made of words as they are in memory, 32 bits wide and
/// several side by side, which a compiler makes vectors of.
pub(crate) fn sum(octets: &[u8]) -> u64 {
    const LANES: usize = 8;
    let (blocks, rest) = octets.as_chunks::<{ 4 * LANES }>();
    let mut lanes = [0_u64; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            // No slice has the 2^32 words that it takes to overflow this.
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, odd) = rest.as_chunks::<2>();
    let rest: u64 = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum();
    let odd = odd.first().map_or(0, |&last| u64::from(u16::from_ne_bytes([last, 0])));
    let folded = lanes.into_iter().map(|lane| u64::from(fold(lane))).sum::<u64>() + rest + odd;
    u64::from(u16::from_be(fold(folded)))
}

/// Adds up the 16-bit words of a sum, carries included.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

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
    fn wide_words_give_the_sum_that_narrow_ones_do() {
        let octets: Vec<u8> = (0..4_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for length in (0..200).chain([1_447, 1_448, 3_999, 4_000]) {
            let octets = &octets[4_000 - length..];
            let words = octets
                .chunks(2)
                .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
            let total: u64 = words.map(u64::from).sum();
            assert_eq!(checksum(octets), !fold(total), "{length} octets");
        }
    }

    #[test]
    fn odd_octet_is_the_upper_half_of_a_word() {
        assert_eq!(checksum(&[0x12, 0x34, 0x56]), !(0x1234 + 0x5600));
    }
}
