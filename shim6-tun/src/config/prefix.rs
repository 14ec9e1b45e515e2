//! A /64 prefix, as uplinks have.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

pub(super) const EXPECTED: &str = "expected a unicast IPv6 /64 such as \"2001:db8:a1::/64\"";

/// An IPv6 /64 prefix: an address whose last 64 bits are zero. Written `2001:db8:a1::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix64(Ipv6Addr);

/// Why a text is not a usable /64 prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// There is no `/64` at the end.
    #[error("{0:?} has no prefix length")]
    NoLength(String),
    /// What is before the slash is not an IPv6 address.
    #[error("{0:?} is not an IPv6 prefix")]
    NotIpv6(String),
    /// The prefix is longer or shorter than 64 bits.
    #[error("{0:?} is not a /64")]
    NotSlash64(String),
    /// There are bits set after the first 64; the field is the prefix without them.
    #[error("it has bits set after the first 64, whose prefix is \"{0}\"")]
    HostBits(Prefix64),
    /// Multicast, link-local, loopback or unspecified: no uplink has such a prefix.
    #[error("{0} is {1}")]
    NotUnicast(Prefix64, &'static str),
}

impl Prefix64 {
    /// The /64 that `address` is in.
    #[must_use]
    pub fn of(address: Ipv6Addr) -> Self {
        Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))
    }

    /// The prefix as an address whose last 64 bits are zero.
    #[must_use]
    pub fn address(self) -> Ipv6Addr {
        self.0
    }

    /// The prefix's eight octets.
    #[must_use]
    pub fn octets(self) -> [u8; 8] {
        let mut octets = [0; 8];
        octets.copy_from_slice(&self.0.octets()[..8]);
        octets
    }

    /// Whether `address` is in this prefix.
    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        Self::of(address) == self
    }
}

impl fmt::Display for Prefix64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/64", self.0))
    }
}

impl FromStr for Prefix64 {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text
            .split_once('/')
            .ok_or_else(|| PrefixError::NoLength(text.to_owned()))?;
        let address: Ipv6Addr = address.parse().map_err(|_| PrefixError::NotIpv6(text.to_owned()))?;
        if length != "64" {
            return Err(PrefixError::NotSlash64(text.to_owned()));
        }
        let prefix = Self::of(address);
        if prefix.0 != address {
            return Err(PrefixError::HostBits(prefix));
        }
        if address.is_multicast() {
            Err(PrefixError::NotUnicast(prefix, "multicast"))
        } else if address.is_unicast_link_local() {
            Err(PrefixError::NotUnicast(prefix, "link-local"))
        } else if address.is_unspecified() {
            Err(PrefixError::NotUnicast(prefix, "reserved"))
        } else {
            Ok(prefix)
        }
    }
}
