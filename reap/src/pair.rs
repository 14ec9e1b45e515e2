//! A pair of locators, as one host sees it.

use core::fmt;
use core::net::Ipv6Addr;

/// A locator of ours and one of the peer's (the address pair of RFC 5534 3.3).
///
/// For a packet that we send, `local` is the source; for one that we receive, the destination. So the pair on which a
/// packet arrived is also the pair on which the answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocatorPair {
    /// Our locator.
    pub local: Ipv6Addr,
    /// The peer's locator.
    pub peer: Ipv6Addr,
}

impl LocatorPair {
    /// The pair of our `local` and the peer's `peer`.
    pub const fn new(local: Ipv6Addr, peer: Ipv6Addr) -> Self {
        Self { local, peer }
    }

    /// The same two addresses as the peer sees them.
    #[must_use]
    pub const fn seen_by_peer(self) -> Self {
        Self {
            local: self.peer,
            peer: self.local,
        }
    }
}

impl fmt::Display for LocatorPair {
    /// `local -> peer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.local, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_pair_reads_from_local_to_peer() {
        let pair = LocatorPair::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(pair.to_string(), "2001:db8::1 -> 2001:db8::2");
        assert_eq!(pair.seen_by_peer().to_string(), "2001:db8::2 -> 2001:db8::1");
    }
}
