//! What the rules of RFC 6724 say about a pair of addresses.
//!
//! Its destination rules (section 6) compare a destination with the source that would be used for it: they are rules about
//! pairs. Of the ten:
//!
//! - 1 (unusable destinations) is what exploration finds out.
//! - 2 and 8 (scopes) have nothing to decide. Locators are global unicast or unique local addresses (RFC 5534 section 3.1), and
//!   both are of global scope (RFC 6724 section 3.1).
//! - 3, 4 and 7 (deprecated, home and tunnelled addresses) are known only to who configures the host, who says it with
//!   preferences.
//! - 5 (labels) and 6 (precedences) are here.
//! - 9 (longest matching prefix) is left out, as the section allows who has other means. Two addresses of one provider share more
//!   bits than others, and fail together when that provider does. What can be known without measuring is which pairs share no
//!   address with the pair that is likely to have failed, and they come first instead.
//! - 10 (the order as it was) is the order of both ends' lists.

use core::cmp::Reverse;
use core::net::Ipv6Addr;

use shim6_reap::LocatorPair;

/// How well a pair fits, by the rules that say something of it; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selection {
    /// Rule 5.
    labels_differ: bool,
    /// Rule 6.
    precedence: Reverse<u8>,
}

impl Selection {
    pub(super) fn of(pair: LocatorPair) -> Self {
        let ((_, source), (precedence, destination)) = (policy(pair.local), policy(pair.peer));
        Self {
            labels_differ: source != destination,
            precedence: Reverse(precedence),
        }
    }
}

/// The default policy table of RFC 6724 section 2.1: prefix, its length, precedence, label. Longer prefixes come first.
const POLICY: [(u128, u32, u8, u8); 9] = [
    (0x1, 128, 50, 0),
    (0xffff_0000_0000, 96, 35, 4),
    (0, 96, 1, 3),
    (0x2001 << 112, 32, 5, 5),
    (0x2002 << 112, 16, 30, 2),
    (0x3ffe << 112, 16, 1, 12),
    (0xfec0 << 112, 10, 1, 11),
    (0xfc00 << 112, 7, 3, 13),
    (0, 0, 40, 1),
];

/// The precedence and the label of an address.
fn policy(address: Ipv6Addr) -> (u8, u8) {
    let bits = address.to_bits();
    // Nothing is left of an address that is shifted by all its bits.
    let is_of = |prefix: u128, len: u32| (bits ^ prefix).checked_shr(128 - len).unwrap_or(0) == 0;
    let row = POLICY.iter().find(|&&(prefix, len, ..)| is_of(prefix, len));
    row.map_or((40, 1), |&(_, _, precedence, label)| (precedence, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(local: &str, peer: &str) -> LocatorPair {
        let address = |text: &str| text.parse().expect("an address");
        LocatorPair::new(address(local), address(peer))
    }

    /// Section 2.1, the table row by row, and what is just outside of each.
    #[test]
    fn addresses_have_the_precedences_and_labels_of_the_default_table() {
        for (text, expected) in [
            ("::1", (50, 0)),
            ("::2", (1, 3)),
            ("::", (1, 3)),
            ("::1:0:0:0", (40, 1)),
            ("::ffff:192.0.2.1", (35, 4)),
            ("::fffe:0:0", (40, 1)),
            ("2001:db8::1", (40, 1)),
            ("2001::1", (5, 5)),
            ("2001:0:ffff::1", (5, 5)),
            ("2001:1::1", (40, 1)),
            ("2002:c000:201::1", (30, 2)),
            ("2003::1", (40, 1)),
            ("3ffe::1", (1, 12)),
            ("3fff::1", (40, 1)),
            ("fc00::1", (3, 13)),
            ("fdff:ffff::1", (3, 13)),
            ("fec0::1", (1, 11)),
            ("feff:ffff::1", (1, 11)),
            ("fe80::1", (40, 1)),
        ] {
            assert_eq!(policy(text.parse().expect("an address")), expected, "{text}");
        }
    }

    #[test]
    fn prefixes_of_the_table_are_in_the_order_of_their_lengths() {
        assert!(POLICY.is_sorted_by_key(|&(_, len, ..)| Reverse(len)));
        assert!(
            POLICY
                .iter()
                .all(|&(prefix, len, ..)| len == 0 || prefix << (len - 1) << 1 == 0)
        );
    }

    /// From the best to the worst: rule 5 before rule 6.
    #[test]
    fn equal_labels_come_before_higher_precedences() {
        let ordered = [
            pair("2001:db8::1", "2001:db8::2"),
            pair("2002::1", "2002::2"),
            pair("2001::1", "2001::2"),
            pair("fd00::1", "fd00::2"),
            pair("fd00::1", "2001:db8::2"),
            pair("2001:db8::1", "2002::2"),
            pair("2001:db8::1", "fd00::2"),
        ];
        assert!(ordered.is_sorted_by(|a, b| Selection::of(*a) < Selection::of(*b)));
    }
}
