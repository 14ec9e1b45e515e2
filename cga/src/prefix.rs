//! The 64-bit subnet prefix of an address.

use core::{fmt, net::Ipv6Addr};

/// A 64-bit subnet prefix: the leftmost 8 octets of an IPv6 address, in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetPrefix([u8; Self::LEN]);

impl SubnetPrefix {
    /// Length of a prefix in octets.
    pub const LEN: usize = 8;

    /// The prefix made of these octets.
    pub const fn new(octets: [u8; Self::LEN]) -> Self {
        Self(octets)
    }

    /// The octets, in network order.
    pub const fn octets(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Whether the address is under this prefix.
    pub fn contains(&self, address: &Ipv6Addr) -> bool {
        Self::from(*address) == *self
    }

    /// Whether a host can have an address under this prefix: neither multicast (ff00::/8), nor ::/64, whose addresses
    /// are the unspecified one, the loopback one and those that stand for IPv4 (RFC 4291 section 2.4).
    pub const fn is_assignable(&self) -> bool {
        self.0[0] != 0xff && u64::from_be_bytes(self.0) != 0
    }

    /// The address with this prefix and the 64-bit interface identifier.
    pub fn to_address(self, interface_identifier: u64) -> Ipv6Addr {
        let upper = u128::from(u64::from_be_bytes(self.0)) << 64;
        Ipv6Addr::from_bits(upper | u128::from(interface_identifier))
    }
}

/// Takes the upper half of the address; the interface identifier is dropped.
impl From<Ipv6Addr> for SubnetPrefix {
    fn from(address: Ipv6Addr) -> Self {
        Self(((address.to_bits() >> 64) as u64).to_be_bytes())
    }
}

impl From<[u8; SubnetPrefix::LEN]> for SubnetPrefix {
    fn from(octets: [u8; Self::LEN]) -> Self {
        Self(octets)
    }
}

/// `2001:db8:a1::/64`
impl fmt::Display for SubnetPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/64", self.to_address(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_the_upper_half_of_an_address() {
        let address: Ipv6Addr = "2001:db8:a1:2:3:4:5:6".parse().unwrap();
        let prefix = SubnetPrefix::from(address);
        assert_eq!(
            prefix.octets(),
            &[0x20, 0x01, 0x0d, 0xb8, 0, 0xa1, 0, 2],
            "upper 8 octets in network order"
        );
        assert_eq!(prefix.to_address(0x0003_0004_0005_0006), address);
        assert!(prefix.contains(&address));
        assert!(!prefix.contains(&"2001:db8:a1:3:3:4:5:6".parse().unwrap()));
    }

    #[test]
    fn multicast_and_loopback_prefixes_are_not_assignable() {
        let is_assignable = |text: &str| SubnetPrefix::from(text.parse::<Ipv6Addr>().unwrap()).is_assignable();
        for text in [
            "::",
            "::1",
            "::ffff:192.0.2.1",
            "ff00::",
            "ff02::1",
            "ffff:ffff:ffff:ffff::",
        ] {
            assert!(!is_assignable(text), "{text}");
        }
        for text in ["0:0:0:1::", "1::", "2001:db8::", "fd00::1", "fe80::1", "feff:ffff::"] {
            assert!(is_assignable(text), "{text}");
        }
    }

    #[test]
    fn prefix_is_displayed_with_its_length() {
        let prefix = SubnetPrefix::from("2001:db8:a1::7".parse::<Ipv6Addr>().unwrap());
        assert_eq!(prefix.to_string(), "2001:db8:a1::/64");
    }
}
