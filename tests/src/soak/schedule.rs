//! What fails and when, from a seed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::sim::dice::{Dice, Stream};

/// A kind of failure, or of a disturbance that is none but must not do harm either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// An uplink swallows all packets in both directions; its link stays up
    Blackhole,
    /// Packets to a host vanish on one uplink
    OneWayIn,
    /// Packets from a host vanish on one uplink
    OneWayOut,
    /// The far end of an uplink goes down, the host loses the carrier
    LinkDown,
    /// A host's interface is set down and up again, without its addresses until somebody configures it
    InterfaceDown,
    /// An uplink swallows all packets for a moment, again and again
    Flapping,
    /// One uplink of each host swallows all packets, at the same time
    BothHosts,
    /// An uplink loses one of a few packets
    Loss,
    /// The delay of an uplink grows at once, and shrinks again
    Delay,
    /// A host loses the plain address of an uplink, so that its prefix counts as withdrawn; later it is back
    PrefixGone,
    /// Somebody deletes the daemon's own address of an uplink
    AddressDeleted,
    /// The configuration is read again, with another value in it
    Reload,
    /// The daemon of host b is killed and started again, while all paths work
    DaemonKilled,
    /// The same while an uplink swallows all packets and contexts are on other paths
    KilledWhileMoved,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Blackhole,
        Self::OneWayIn,
        Self::OneWayOut,
        Self::LinkDown,
        Self::InterfaceDown,
        Self::Flapping,
        Self::BothHosts,
        Self::Loss,
        Self::Delay,
        Self::PrefixGone,
        Self::AddressDeleted,
        Self::Reload,
        Self::DaemonKilled,
        Self::KilledWhileMoved,
    ];

    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::OneWayIn => "one-way-in",
            Self::OneWayOut => "one-way-out",
            Self::LinkDown => "link-down",
            Self::InterfaceDown => "interface-down",
            Self::Flapping => "flapping",
            Self::BothHosts => "both-hosts",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::PrefixGone => "prefix-gone",
            Self::AddressDeleted => "address-deleted",
            Self::Reload => "reload",
            Self::DaemonKilled => "daemon-killed",
            Self::KilledWhileMoved => "killed-while-moved",
        }
    }

    /// Whether a daemon is killed.
    #[must_use]
    pub fn kills(self) -> bool {
        matches!(self, Self::DaemonKilled | Self::KilledWhileMoved)
    }

    /// What it means, in a line.
    #[must_use]
    pub fn explained(self) -> &'static str {
        match self {
            Self::Blackhole => "an uplink swallows all packets, its link stays up",
            Self::OneWayIn => "packets to a host vanish on one uplink",
            Self::OneWayOut => "packets from a host vanish on one uplink",
            Self::LinkDown => "the far end of an uplink goes down, the carrier is lost",
            Self::InterfaceDown => "a host's interface is set down, and configured anew later",
            Self::Flapping => "an uplink swallows all packets for moments, again and again",
            Self::BothHosts => "one uplink of each host swallows all packets at the same time",
            Self::Loss => "an uplink loses one of a few packets",
            Self::Delay => "the delay of an uplink grows at once, and shrinks again",
            Self::PrefixGone => "the prefix of an uplink is withdrawn, and comes back",
            Self::AddressDeleted => "somebody deletes the daemon's own address",
            Self::Reload => "the configuration is read again, with a change",
            Self::DaemonKilled => "host b's daemon gets SIGKILL and is started again, all paths work",
            Self::KilledWhileMoved => "the same while an uplink swallows all packets",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that is done to the hosts and their network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How long nothing is disturbed before it.
    pub pause: Duration,
    /// What it is.
    pub kind: FaultKind,
    /// Which host it befalls: 0 is a, 1 is b. Killed is always the daemon of b, so that a is one that ran all the time.
    pub host: usize,
    /// Which uplink of that host, and of the other one where both are befallen.
    pub uplinks: [usize; 2],
    /// How long it lasts.
    pub lasts: Duration,
    /// How much: of so many packets one is lost, or so many milliseconds more, or so many times in turn.
    pub measure: u32,
}

/// Pauses and lengths of faults, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Shortest and longest pause.
    pub pause: [u64; 2],
    /// Shortest and longest fault.
    pub lasts: [u64; 2],
    /// Shortest and longest of those, one in eight, that take their time.
    pub long: [u64; 2],
}

impl Pace {
    /// For hours: contexts often get back to their own paths before the next failure.
    pub const LONG: Self = Self {
        pause: [3_000, 11_000],
        lasts: [800, 8_000],
        long: [15_000, 30_000],
    };
    /// For half a minute.
    pub const SHORT: Self = Self {
        pause: [300, 1_200],
        lasts: [800, 2_200],
        long: [2_000, 3_000],
    };

    /// The pace for a run of this length.
    #[must_use]
    pub fn of(length: Duration) -> Self {
        match length < Duration::from_secs(150) {
            true => Self::SHORT,
            false => Self::LONG,
        }
    }
}

/// The faults of a seed, without an end. Each kind comes once before one comes twice.
#[derive(Debug)]
pub struct Schedule {
    dice: Dice,
    pace: Pace,
    bag: Vec<FaultKind>,
}

impl Schedule {
    /// The schedule of this seed.
    #[must_use]
    pub fn new(seed: u64, pace: Pace) -> Self {
        Self {
            dice: Dice::new(seed, Stream::Failovers),
            pace,
            bag: Vec::new(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.bag.is_empty() {
            self.bag = FaultKind::ALL.to_vec();
        }
        let kind = self.bag.swap_remove(self.dice.below(self.bag.len()));
        let [from, to] = self.pace.pause;
        let pause = self.dice.millis(from..=to);
        let [from, to] = match self.dice.chance(125) {
            true => self.pace.long,
            false => self.pace.lasts,
        };
        let lasts = self.dice.millis(from..=to);
        let host = self.dice.below(2);
        let uplinks = [self.dice.below(2), self.dice.below(2)];
        let measure = match kind {
            FaultKind::Loss => *self.dice.pick(&[3, 5, 10, 20, 50]),
            FaultKind::Delay => *self.dice.pick(&[20, 50, 100, 200]),
            FaultKind::Flapping => *self.dice.pick(&[3, 4, 6, 8]),
            _ => 0,
        };
        Some(Fault {
            pause,
            kind,
            host,
            uplinks,
            lasts,
            measure,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            host,
            uplinks,
            measure,
            ..
        } = self;
        let names = ["a", "b"];
        let (name, other) = (names[*host], names[1 - host]);
        let place = format!("uplink {} of {name}", uplinks[0]);
        match kind {
            FaultKind::BothHosts => write!(f, "{place} and uplink {} of {other}", uplinks[1]),
            FaultKind::Loss => write!(f, "{place}: one of {measure} packets"),
            FaultKind::Delay => write!(f, "{place}: {measure} ms more each way"),
            FaultKind::Flapping => write!(f, "{place}: {measure} times"),
            FaultKind::Reload => write!(f, "daemon of {name}"),
            FaultKind::DaemonKilled => write!(f, "daemon of b"),
            FaultKind::KilledWhileMoved => write!(f, "daemon of b, while {place} is dead"),
            _ => f.write_str(&place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, count: usize) -> Vec<Fault> {
        Schedule::new(seed, Pace::LONG).take(count).collect()
    }

    #[test]
    fn schedule_of_a_seed_repeats_and_that_of_another_differs() {
        assert_eq!(faults(1, 50), faults(1, 50));
        assert_ne!(faults(1, 50), faults(2, 50));
    }

    #[test]
    fn each_kind_comes_once_before_one_comes_twice() {
        for round in faults(3, 5 * FaultKind::ALL.len()).chunks(FaultKind::ALL.len()) {
            let mut kinds: Vec<_> = round.iter().map(|fault| fault.kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, FaultKind::ALL);
        }
    }

    #[test]
    fn pauses_and_lengths_stay_in_their_bounds() {
        let ms = Duration::from_millis;
        for fault in faults(4, 500) {
            assert!((ms(3_000)..=ms(11_000)).contains(&fault.pause), "{fault:?}");
            assert!((ms(800)..=ms(30_000)).contains(&fault.lasts), "{fault:?}");
            assert!(
                fault.host < 2 && fault.uplinks.iter().all(|&uplink| uplink < 2),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_the_output_for_programs() {
        for kind in FaultKind::ALL {
            assert_eq!(serde_json::to_value(kind).expect("serialises"), kind.as_str());
        }
    }
}
