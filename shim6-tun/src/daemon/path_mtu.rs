//! How many octets the packets of an upper layer may have on each path.
//!
//! That is what the uplink carries, less the Shim6 header (RFC 5533 section 8). The kernel gets it with the route that steers
//! a pair, and what a router further on says reaches it as a Packet Too Big. It does not believe one below 1280 octets,
//! though, which is what remains of a path with the smallest MTU of IPv6: such a path is remembered here, and its MTU goes
//! into the route, too.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_core::dataplane::PAYLOAD_HEADER_LEN;
use shim6_core::{Instant, LocatorPair};

/// The smallest MTU of a path (RFC 8200 section 5).
const MIN_PATH_MTU: u32 = 1280;
/// What a router has said is forgotten after this time, in case the path is another one by then (RFC 8201 section 4).
const LIFETIME: Duration = Duration::from_secs(600);
/// Narrow paths remembered at once. Each is one between a locator of ours and one that a peer has proved.
const MAX_NARROW: usize = 16_384;
const HEADER: u32 = PAYLOAD_HEADER_LEN as u32;

/// What is known of the MTUs of the paths.
#[derive(Debug, Default)]
pub(crate) struct PathMtus {
    /// The most that the configuration allows.
    most: Option<u32>,
    /// By this host's locator.
    uplinks: HashMap<Ipv6Addr, u32>,
    /// Paths with less room for upper layers than the kernel believes: how much, and until when.
    narrow: HashMap<LocatorPair, (u32, Instant)>,
    ends: VecDeque<(Instant, LocatorPair)>,
}

impl PathMtus {
    /// `most`: what packets of upper layers may have on any path.
    pub(crate) fn new(most: Option<u32>) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// What a packet of an upper layer may have on this path; `None` if nothing is known of it.
    pub(crate) fn of(&self, path: LocatorPair) -> Option<u32> {
        let uplink = self.uplinks.get(&path.local);
        let uplink = uplink.map(|mtu| mtu.saturating_sub(HEADER));
        let narrow = self.narrow.get(&path).map(|(mtu, _)| *mtu);
        [self.most, uplink, narrow].into_iter().flatten().min()
    }

    /// The MTUs of the uplinks are these, each with this host's locator there. Returns whether any has changed.
    pub(crate) fn set_uplinks(&mut self, mtus: impl Iterator<Item = (Ipv6Addr, u32)>) -> bool {
        // One that is not known says nothing.
        let uplinks = mtus.filter(|(_, mtu)| *mtu >= MIN_PATH_MTU).collect();
        let has_changed = self.uplinks != uplinks;
        self.uplinks = uplinks;
        has_changed
    }

    /// A router has no room for packets of more than `mtu` octets, without the header of the shim. Returns whether the kernel
    /// has to be told in another way than by that message.
    pub(crate) fn narrow(&mut self, path: LocatorPair, mtu: u32, now: Instant) -> bool {
        let mtu = mtu.max(MIN_PATH_MTU - HEADER);
        let known = self.of(path).is_some_and(|known| known <= mtu);
        let is_full = self.narrow.len() >= MAX_NARROW && !self.narrow.contains_key(&path);
        if mtu >= MIN_PATH_MTU || known || is_full {
            return false;
        }
        let end = now + LIFETIME;
        self.narrow.insert(path, (mtu, end));
        self.ends.push_back((end, path));
        true
    }

    /// When something is to be forgotten.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// Forgets what is too old. Returns whether there was anything.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.narrow.len();
        while let Some(&(end, path)) = self.ends.front().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            // It may have been said again since.
            if self.narrow.get(&path).is_some_and(|(_, at)| *at == end) {
                self.narrow.remove(&path);
            }
        }
        self.narrow.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000);

    fn path(local: u16, peer: u16) -> LocatorPair {
        let address = |number| Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1);
        LocatorPair::new(address(local), address(peer))
    }

    fn mtus(most: Option<u32>) -> PathMtus {
        let mut mtus = PathMtus::new(most);
        let uplinks = [
            (path(1, 9).local, 1500),
            (path(2, 9).local, 1280),
            (path(3, 9).local, 0),
        ];
        assert!(mtus.set_uplinks(uplinks.into_iter()));
        assert!(!mtus.set_uplinks(uplinks.into_iter()));
        mtus
    }

    #[test]
    fn path_has_room_for_what_its_uplink_carries_less_the_header() {
        let mtus = mtus(None);
        assert_eq!(mtus.of(path(1, 9)), Some(1492));
        assert_eq!(mtus.of(path(2, 9)), Some(1272));
        assert_eq!(mtus.of(path(3, 9)), None);
    }

    #[test]
    fn configuration_bounds_every_path() {
        let mtus = mtus(Some(1400));
        assert_eq!(mtus.of(path(1, 9)), Some(1400));
        assert_eq!(mtus.of(path(2, 9)), Some(1272));
        assert_eq!(mtus.of(path(3, 9)), Some(1400));
    }

    #[test]
    fn narrow_path_is_remembered_for_ten_minutes_and_no_other_with_it() {
        let mut mtus = mtus(None);
        assert!(!mtus.narrow(path(1, 9), 1280, NOW), "the kernel believes this");
        assert!(mtus.narrow(path(1, 9), 1272, NOW));
        assert!(!mtus.narrow(path(1, 9), 1272, NOW));
        assert!(!mtus.narrow(path(2, 9), 1272, NOW), "the uplink is as narrow");
        assert_eq!((mtus.of(path(1, 9)), mtus.of(path(1, 8))), (Some(1272), Some(1492)));
        assert_eq!(mtus.poll_timeout(), Some(NOW + LIFETIME));
        assert!(!mtus.handle_timeout(NOW + LIFETIME - Duration::from_micros(1)));
        assert!(mtus.handle_timeout(NOW + LIFETIME));
        assert_eq!((mtus.of(path(1, 9)), mtus.poll_timeout()), (Some(1492), None));
    }

    #[test]
    fn no_path_is_narrower_than_the_smallest_link() {
        let mut mtus = mtus(None);
        assert!(mtus.narrow(path(1, 9), 60, NOW));
        assert_eq!(mtus.of(path(1, 9)), Some(1272));
    }

    #[test]
    fn narrow_paths_are_bounded() {
        let mut mtus = mtus(None);
        for number in 0..MAX_NARROW as u128 + 3 {
            let peer = Ipv6Addr::from_bits(path(1, 9).peer.to_bits() + number);
            mtus.narrow(LocatorPair { peer, ..path(1, 9) }, 1272, NOW);
        }
        assert_eq!((mtus.narrow.len(), mtus.ends.len()), (MAX_NARROW, MAX_NARROW));
        assert!(mtus.handle_timeout(NOW + LIFETIME));
        assert!(mtus.narrow.is_empty() && mtus.ends.is_empty());
    }
}
