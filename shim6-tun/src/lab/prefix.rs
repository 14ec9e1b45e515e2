//! IPv6 prefixes of any length.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An IPv6 prefix. Written `2001:db8:a1::/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: Ipv6Addr,
    length: u8,
}

impl Prefix {
    /// The prefix of this length that `address` is in; lengths above 128 are 128.
    #[must_use]
    pub fn of(address: Ipv6Addr, length: u8) -> Self {
        let length = length.min(128);
        Self {
            address: Ipv6Addr::from_bits(address.to_bits() & mask(length)),
            length,
        }
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// Its length in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & mask(self.length) == self.address.to_bits()
    }

    /// Whether there are addresses in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The address of it that has these last 64 bits.
    #[must_use]
    pub fn with(self, last: u64) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() | u128::from(last))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.length))
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no IPv6 prefix");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
        let length = length.parse().ok().filter(|length| *length <= 128).ok_or_else(wrong)?;
        let prefix = Self::of(address, length);
        if prefix.address != address {
            return Err(format!(
                "{text:?} has bits set after the first {length}: that would be {prefix}"
            ));
        }
        let is_reserved = address.is_multicast() || address.is_unicast_link_local() || length == 0;
        if is_reserved || address.is_loopback() {
            return Err(format!("{text:?} is not for hosts"));
        }
        Ok(prefix)
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_compared() {
        let prefix: Prefix = "2001:db8:a1::/48".parse().unwrap();
        assert_eq!(prefix.to_string(), "2001:db8:a1::/48");
        assert!(prefix.contains("2001:db8:a1:7::1".parse().unwrap()));
        assert!(!prefix.contains("2001:db8:a2::1".parse().unwrap()));
        assert!(prefix.overlaps("2001:db8:a1:1::/64".parse().unwrap()));
        assert!(!prefix.overlaps("2001:db8:a2::/48".parse().unwrap()));
        assert_eq!(prefix.with(1), "2001:db8:a1::1".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "2001:db8::",
            "x/64",
            "2001:db8::/129",
            "2001:db8::1/64",
            "ff02::/16",
            "fe80::/64",
            "::/0",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
