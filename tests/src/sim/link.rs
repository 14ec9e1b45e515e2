//! What the network does to the packets of one directed locator pair.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::dice::Dice;

/// A directed path from one locator to another. Chances are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// How long every packet is on its way.
    pub delay: Duration,
    /// Added to the delay, evenly from zero to this.
    pub jitter: Duration,
    /// How many packets vanish.
    pub loss: u32,
    /// How many packets arrive twice.
    pub duplication: u32,
    /// How many packets are held back, by one to four delays.
    pub reordering: u32,
    /// How many packets arrive with one bit flipped.
    pub corruption: u32,
    /// All packets vanish.
    pub blackhole: bool,
    /// What a router on the way answers to the packets that vanish.
    pub refusal: Option<Refusal>,
}

/// An ICMPv6 error that a router answers with, for each packet that it does not forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Destination Unreachable, no route. Goes with [`Link::blackhole`].
    Unreachable,
    /// Packet Too Big: packets of more than so many octets vanish.
    TooBig(u16),
}

/// What becomes of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It vanishes.
    Lost,
    /// It vanishes, and a router says so.
    Refused(Refusal),
    /// It arrives, once or twice.
    Arrives(Arrival, Option<Arrival>),
}

/// One arrival of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// After how long.
    pub delay: Duration,
    /// With this bit flipped.
    pub flipped: Option<usize>,
}

impl Link {
    /// A path that delays and does nothing else.
    pub const fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0,
            duplication: 0,
            reordering: 0,
            corruption: 0,
            blackhole: false,
            refusal: None,
        }
    }

    /// A path on which everything vanishes.
    pub const fn dead() -> Self {
        let mut link = Self::clean(Duration::ZERO);
        link.blackhole = true;
        link
    }

    /// Draws what becomes of a packet of `octets`.
    pub fn fate(&self, octets: usize, dice: &mut Dice) -> Fate {
        match self.refusal {
            Some(Refusal::TooBig(mtu)) if octets > usize::from(mtu) => return Fate::Refused(Refusal::TooBig(mtu)),
            Some(Refusal::Unreachable) if self.blackhole => return Fate::Refused(Refusal::Unreachable),
            _ if self.blackhole || dice.chance(self.loss) => return Fate::Lost,
            _ => {}
        }
        let first = self.arrival(octets, dice);
        let second = dice.chance(self.duplication).then(|| self.arrival(octets, dice));
        Fate::Arrives(first, second)
    }

    fn arrival(&self, octets: usize, dice: &mut Dice) -> Arrival {
        let mut delay = self.delay;
        if !self.jitter.is_zero() {
            delay += dice.up_to(self.jitter);
        }
        if dice.chance(self.reordering) {
            delay += self.delay * dice.between(1..=4) as u32;
        }
        let flipped = dice.chance(self.corruption).then(|| dice.below(octets * 8));
        Arrival { delay, flipped }
    }
}

/// All directed pairs.
#[derive(Debug, Clone)]
pub struct Links {
    default: Link,
    others: BTreeMap<(Ipv6Addr, Ipv6Addr), Link>,
}

impl Links {
    /// All pairs alike.
    pub fn new(default: Link) -> Self {
        Self {
            default,
            others: BTreeMap::new(),
        }
    }

    /// The path from `source` to `destination`.
    pub fn get(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Link {
        *self.others.get(&(source, destination)).unwrap_or(&self.default)
    }

    /// Changes one path, for packets sent from now on.
    pub fn set(&mut self, source: Ipv6Addr, destination: Ipv6Addr, link: Link) {
        self.others.insert((source, destination), link);
    }

    /// Changes all paths.
    pub fn set_all(&mut self, link: Link) {
        *self = Self::new(link);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dice::Stream;
    use super::*;

    #[test]
    fn chances_are_kept_about_and_certainties_exactly() {
        let mut dice = Dice::new(1, Stream::Network);
        let delay = Duration::from_millis(10);
        let lossy = Link {
            loss: 300,
            ..Link::clean(delay)
        };
        let lost = (0..10_000).filter(|_| lossy.fate(100, &mut dice) == Fate::Lost).count();
        assert!((2_700..3_300).contains(&lost), "{lost}");
        let arrives = Fate::Arrives(Arrival { delay, flipped: None }, None);
        assert!((0..1000).all(|_| Link::clean(delay).fate(100, &mut dice) == arrives));
        assert!((0..1000).all(|_| Link::dead().fate(100, &mut dice) == Fate::Lost));
    }

    #[test]
    fn router_refuses_what_is_too_big_and_nothing_else() {
        let mut dice = Dice::new(1, Stream::Network);
        let narrow = Link {
            refusal: Some(Refusal::TooBig(1280)),
            ..Link::clean(Duration::ZERO)
        };
        assert_eq!(narrow.fate(1281, &mut dice), Fate::Refused(Refusal::TooBig(1280)));
        assert!(matches!(narrow.fate(1280, &mut dice), Fate::Arrives(..)));
    }
}
