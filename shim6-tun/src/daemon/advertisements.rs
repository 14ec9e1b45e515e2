//! Which router has which prefix, by what routers advertise.
//!
//! Where several routers share a link, the kernel's routes do not tell whose a prefix is, and what is sent from it has to leave by
//! the router that advertised it (RFC 8028 section 3). The kernel acts on advertisements; here they are only listened to.

use core::net::Ipv6Addr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::sys::Readiness;
use crate::sys::router_socket::{ROUTER_ADVERTISEMENT, RouterSocket};

/// Octets of an advertisement before its options.
const FIXED: usize = 16;
const PREFIX_INFORMATION: u8 = 3;
const PREFIX_INFORMATION_OCTETS: usize = 32;
/// Most pairs of router and prefix that are remembered: anybody on a link can advertise.
const MAX_KNOWN: usize = 256;
/// Octets that are read of a message: more than any link carries in one.
const BUFFER: usize = 9_216;

/// What a router says of its prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertisement {
    interface: u32,
    router: Ipv6Addr,
    /// Each /64, and whether it is valid.
    prefixes: Vec<(Ipv6Addr, bool)>,
}

#[cfg(test)]
impl Advertisement {
    /// Of one prefix.
    pub(super) fn of(interface: u32, router: Ipv6Addr, prefix: Ipv6Addr) -> Self {
        Self {
            interface,
            router,
            prefixes: vec![(prefix, true)],
        }
    }
}

/// The routers of each prefix of each interface.
#[derive(Debug, Clone, Default)]
pub(super) struct Advertised(BTreeMap<(u32, Ipv6Addr), BTreeSet<Ipv6Addr>>);

impl Advertised {
    /// Takes in what a router says. Whether that is new.
    pub(super) fn note(&mut self, advertisement: &Advertisement) -> bool {
        let mut is_new = false;
        for &(prefix, is_valid) in &advertisement.prefixes {
            let key = (advertisement.interface, prefix);
            if !is_valid {
                let routers = self.0.get_mut(&key);
                is_new |= routers.is_some_and(|routers| routers.remove(&advertisement.router));
            } else if self.0.values().map(BTreeSet::len).sum::<usize>() < MAX_KNOWN {
                is_new |= self.0.entry(key).or_default().insert(advertisement.router);
            }
        }
        self.0.retain(|_, routers| !routers.is_empty());
        is_new
    }

    /// The interface is gone, or another network may be behind it.
    pub(super) fn forget(&mut self, interface: u32) {
        self.0.retain(|(index, _), _| *index != interface);
    }

    /// Whether this router has that prefix.
    pub(super) fn is_of(&self, router: Ipv6Addr, interface: u32, prefix: Ipv6Addr) -> bool {
        let routers = self.0.get(&(interface, prefix));
        routers.is_some_and(|routers| routers.contains(&router))
    }
}

/// Tells `heard` of the advertisements that come, until nobody listens.
pub(super) async fn listen<T>(
    socket: Arc<RouterSocket>,
    heard: mpsc::Sender<T>,
    wrap: impl Fn(Advertisement) -> T,
) -> std::io::Result<()> {
    let readiness = Readiness::of(&*socket)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let Some((length, interface, router)) = readiness.read(|| socket.receive(&mut buffer)).await? else {
            continue;
        };
        let advertisement = Advertisement {
            interface,
            router,
            prefixes: prefixes(&buffer[..length.min(BUFFER)]),
        };
        // Routers advertise again.
        if !advertisement.prefixes.is_empty()
            && let Err(mpsc::error::TrySendError::Closed(_)) = heard.try_send(wrap(advertisement))
        {
            return Ok(());
        }
    }
}

/// The /64 prefixes of a message (RFC 4861 section 4.6.2), none of one that is malformed.
fn prefixes(message: &[u8]) -> Vec<(Ipv6Addr, bool)> {
    let mut prefixes = Vec::new();
    let Some((fixed, mut options)) = message.split_at_checked(FIXED) else {
        return prefixes;
    };
    if fixed[..2] != [ROUTER_ADVERTISEMENT, 0] {
        return prefixes;
    }
    while let [kind, units, ..] = *options {
        let length = 8 * usize::from(units);
        let Some((option, rest)) = options.split_at_checked(length).filter(|_| length > 0) else {
            return Vec::new();
        };
        if kind == PREFIX_INFORMATION && length == PREFIX_INFORMATION_OCTETS && option[2] == 64 {
            let is_valid = option[4..8] != [0; 4];
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&option[16..24]);
            prefixes.push((octets.into(), is_valid));
        }
        options = rest;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    fn message(valid: u32) -> Vec<u8> {
        let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8];
        message.extend([0; 8]);
        // The router's link-layer address, of no interest.
        message.extend([1, 1, 2, 0, 0, 0, 0, 1]);
        message.extend([3, 4, 64, 0xc0]);
        message.extend(valid.to_be_bytes());
        message.extend([0; 8]);
        message.extend(PREFIX.octets());
        message
    }

    fn from(router: Ipv6Addr, valid: u32) -> Advertisement {
        Advertisement {
            interface: 2,
            router,
            prefixes: prefixes(&message(valid)),
        }
    }

    #[test]
    fn prefixes_are_read_and_malformed_messages_have_none() {
        assert_eq!(prefixes(&message(3600)), [(PREFIX, true)]);
        assert_eq!(prefixes(&message(0)), [(PREFIX, false)]);
        let whole = message(3600);
        for length in 0..whole.len() {
            // What ends with an option is whole, and has no prefix.
            assert_eq!(prefixes(&whole[..length]), [], "{length}");
        }
        let mut endless = whole;
        endless[17] = 0;
        assert_eq!(prefixes(&endless), []);
    }

    #[test]
    fn routers_of_a_prefix_are_those_that_advertise_it_last_as_valid() {
        let mut advertised = Advertised::default();
        assert!(advertised.note(&from(ROUTER, 3600)));
        assert!(!advertised.note(&from(ROUTER, 3600)), "nothing new");
        assert!(advertised.is_of(ROUTER, 2, PREFIX));
        assert!(!advertised.is_of(OTHER, 2, PREFIX) && !advertised.is_of(ROUTER, 3, PREFIX));
        assert!(advertised.note(&from(OTHER, 3600)));
        assert!(advertised.note(&from(ROUTER, 0)));
        assert!(advertised.is_of(OTHER, 2, PREFIX) && !advertised.is_of(ROUTER, 2, PREFIX));
        advertised.forget(2);
        assert!(!advertised.is_of(OTHER, 2, PREFIX));
    }

    #[test]
    fn only_so_much_is_remembered_of_what_anybody_can_advertise() {
        let mut advertised = Advertised::default();
        for number in 0..2 * MAX_KNOWN as u16 {
            let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            advertised.note(&from(router, 3600));
        }
        let known: usize = advertised.0.values().map(BTreeSet::len).sum();
        assert_eq!(known, MAX_KNOWN);
    }
}
