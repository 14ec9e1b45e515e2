//! Networks of peers: a prefix of any length.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

pub(super) const EXPECTED: &str = "expected an IPv6 prefix or address such as \"2001:db8::/32\"";

/// An IPv6 prefix of 0 to 128 bits. An address is one of 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: Ipv6Addr,
    length: u8,
}

/// Why a text is no [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Neither an address nor an address with a length.
    #[error("{0:?} is no IPv6 prefix")]
    Syntax(String),
    /// There are bits behind the prefix.
    #[error("{0:?} has bits set after the first {1}, whose prefix is \"{2}\"")]
    HostBits(String, u8, Network),
}

impl Network {
    /// The first `length` bits of `address`; more than 128 are 128.
    #[must_use]
    pub fn new(address: Ipv6Addr, length: u8) -> Self {
        let length = length.min(128);
        Self {
            address: Ipv6Addr::from_bits(address.to_bits() & mask(length)),
            length,
        }
    }

    /// The first address.
    #[must_use]
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// How many bits count.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & mask(self.length) == 0
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let syntax = || NetworkError::Syntax(text.to_owned());
        let (address, length) = text.split_once('/').unwrap_or((text, "128"));
        let address: Ipv6Addr = address.parse().map_err(|_| syntax())?;
        // Not "+64" nor "064", which others would read otherwise.
        let is_plain =
            length.bytes().all(|octet| octet.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let length = length.parse().ok().filter(|&length: &u8| length <= 128 && is_plain);
        let length = length.ok_or_else(syntax)?;
        let network = Self::new(address, length);
        if network.address != address {
            return Err(NetworkError::HostBits(text.to_owned(), length, network));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            128 => write!(f, "{}", self.address),
            length => write!(f, "{}/{length}", self.address),
        }
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        let address = |text: &str| text.parse::<Ipv6Addr>().expect(text);
        assert!(network("2001:db8::/32").contains(address("2001:db8:ffff::1")));
        assert!(!network("2001:db8::/32").contains(address("2001:db9::1")));
        assert!(network("::/0").contains(address("fe80::1")));
        assert!(network("2001:db8::1").contains(address("2001:db8::1")));
        assert!(!network("2001:db8::1").contains(address("2001:db8::2")));
        assert!(network("2001:db8::/32").covers(network("2001:db8:1::/48")));
        assert!(!network("2001:db8:1::/48").covers(network("2001:db8::/32")));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "2001:db8::/129",
            "2001:db8::/-1",
            "2001:db8::/032",
            "192.0.2.0/24",
            "2001:db8::/",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Syntax(text.to_owned())));
        }
        assert_eq!(
            "2001:db8::1/32".parse::<Network>().expect_err("host bits").to_string(),
            "\"2001:db8::1/32\" has bits set after the first 32, whose prefix is \"2001:db8::/32\""
        );
        for text in ["2001:db8::/32", "::/0", "2001:db8::1"] {
            assert_eq!(network(text).to_string(), text);
        }
    }
}
