//! What is measured: each kind of traffic in each state of the path.

use std::fmt;

use serde::{Serialize, Serializer};

/// What carries the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The kernel alone, with all its offloads.
    Plain,
    /// The same once more, after daemons have come and gone as they do for [`State::Daemon`]: what it differs from the first by is
    /// what the method itself is wrong by.
    Again,
    /// The kernel alone, and no packet is larger than the MTU: no segmentation offload, no coalescing.
    PerPacket,
    /// A daemon on each host that has a context for the addresses in use; nothing has failed.
    Daemon,
    /// The same after a failure: the packets go through the daemons.
    Steered,
    /// A tunnel of userspace WireGuard, which encrypts; nothing has failed.
    Wireguard,
}

impl State {
    /// All of them; those first that others are compared with.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Again,
        Self::PerPacket,
        Self::Daemon,
        Self::Steered,
        Self::Wireguard,
    ];

    /// Those that others are compared with.
    pub const REFERENCES: [Self; 2] = [Self::Plain, Self::PerPacket];

    /// Whether it takes turns with the others that do in one lab, on the same addresses, where daemons come and go and nothing else
    /// changes. These are so close to each other that two labs would differ by more.
    #[must_use]
    pub fn takes_turns(self) -> bool {
        matches!(self, Self::Plain | Self::Again | Self::Daemon)
    }

    /// For people.
    #[must_use]
    pub fn explained(self) -> &'static str {
        match self {
            Self::Plain => "plain kernel, all offloads",
            Self::Again => "the same once more",
            Self::PerPacket => "kernel, packet by packet",
            Self::Daemon => "daemons, before a failure",
            Self::Steered => "daemons, after a failure",
            Self::Wireguard => "userspace WireGuard",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Again => "again",
            Self::PerPacket => "per-packet",
            Self::Daemon => "daemon",
            Self::Steered => "steered",
            Self::Wireguard => "wireguard",
        })
    }
}

/// Which host sends the payload. Host a connects in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Host a, the client.
    AToB,
    /// Host b, the server.
    BToA,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AToB => "a-b",
            Self::BToA => "b-a",
        })
    }
}

/// On which processors the ends of traffic run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Where the kernel puts them.
    Anywhere,
    /// Each on one of its own, as far as there are so many.
    Apart,
    /// All on one.
    Together,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP as fast as it goes.
    Tcp {
        /// How many connections at once.
        streams: usize,
        /// Who sends.
        direction: Direction,
    },
    /// Datagrams from host a to host b, as fast as one thread sends them with a call for each.
    Udp {
        /// Octets of payload in each.
        octets: usize,
    },
    /// Requests and responses of 64 octets, one at a time, over one TCP connection without Nagle's algorithm.
    Latency {
        /// Both ends on one processor, so that none has to be woken for the other: what is left is what the packets themselves take.
        near: bool,
    },
}

impl Kind {
    /// All that is measured.
    pub const ALL: [Self; 9] = [
        Self::tcp(1, Direction::AToB),
        Self::tcp(1, Direction::BToA),
        Self::tcp(8, Direction::AToB),
        Self::tcp(8, Direction::BToA),
        Self::Udp { octets: 64 },
        Self::Udp { octets: 512 },
        Self::Udp { octets: 1400 },
        Self::Latency { near: false },
        Self::Latency { near: true },
    ];

    const fn tcp(streams: usize, direction: Direction) -> Self {
        Self::Tcp { streams, direction }
    }

    /// Where the ends of the traffic run. A single flow depends on where the kernel puts its ends more than on anything that is compared
    /// here: the medians of requests were 20 us or 60, streams lost segments whenever their sender was moved. So those of a flow stay
    /// where they are: of a stream, each on its own processor, as the two hosts would be; of datagrams on one, as differences in
    /// the cost of each are what matters.
    #[must_use]
    pub fn placement(self) -> Placement {
        match self {
            Self::Tcp { streams: 1, .. } => Placement::Apart,
            Self::Udp { .. } | Self::Latency { near: true } => Placement::Together,
            Self::Tcp { .. } | Self::Latency { near: false } => Placement::Anywhere,
        }
    }

    /// For people.
    #[must_use]
    pub fn explained(self) -> String {
        match self {
            Self::Tcp { streams, direction } => {
                let (from, to) = match direction {
                    Direction::AToB => ('a', 'b'),
                    Direction::BToA => ('b', 'a'),
                };
                let streams = if streams == 1 {
                    "one stream".to_owned()
                } else {
                    format!("{streams} streams")
                };
                format!("TCP, {streams} from host {from} to host {to}: Gbit/s of payload")
            }
            Self::Udp { octets } => format!("UDP, {octets} octets of payload: datagrams received per second"),
            Self::Latency { near } => {
                let place = if near { ", both ends on one processor" } else { "" };
                format!("TCP request and response of 64 octets{place}: round-trip time in us")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { streams, direction } => write!(f, "tcp-{streams}/{direction}"),
            Self::Udp { octets } => write!(f, "udp-{octets}"),
            Self::Latency { near: false } => f.write_str("latency"),
            Self::Latency { near: true } => f.write_str("latency-near"),
        }
    }
}

/// One kind of traffic in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// What carries it.
    pub state: State,
    /// The traffic.
    pub kind: Kind,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.state, self.kind)
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Words that are part of no case's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCase {
    word: String,
    known: Vec<Case>,
}

impl fmt::Display for UnknownCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is part of no case's name; there are", self.word)?;
        self.known.iter().try_for_each(|case| write!(f, "\n  {case}"))
    }
}

impl std::error::Error for UnknownCase {}

/// The cases to measure, those with the same traffic together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    cases: Vec<Case>,
}

impl Selection {
    /// The cases in `states` whose name contains one of `words`, or all if there are no words; but those of [`State::Again`] only
    /// for a word that names it. With `references`, the cases that these are compared with, too.
    ///
    /// # Errors
    /// A word that selects nothing.
    pub fn of(states: &[State], words: &[String], references: bool) -> Result<Self, UnknownCase> {
        let all = Kind::ALL
            .iter()
            .flat_map(|&kind| states.iter().map(move |&state| Case { state, kind }));
        let known: Vec<Case> = all.collect();
        let contains = |case: &Case, word: &str| case.to_string().contains(word);
        let unknown = |word: &&String| word.is_empty() || !known.iter().any(|case| contains(case, word));
        if let Some(word) = words.iter().find(unknown) {
            let word = word.clone();
            return Err(UnknownCase { word, known });
        }
        let asked = |case: &Case| match case.state {
            State::Again => words
                .iter()
                .any(|word| word.starts_with("again") && contains(case, word)),
            _ => words.is_empty() || words.iter().any(|word| contains(case, word)),
        };
        let compared = |case: &Case| {
            let kind_is_asked = known.iter().any(|other| other.kind == case.kind && asked(other));
            references && State::REFERENCES.contains(&case.state) && kind_is_asked
        };
        let cases = known.iter().copied();
        Ok(Self {
            cases: cases.filter(|case| asked(case) || compared(case)).collect(),
        })
    }

    /// The cases, in the order of [`Kind::ALL`], then of the states.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The kinds of traffic.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(|&kind| self.of_kind(kind).next().is_some())
    }

    /// The cases with this traffic.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = Case> {
        self.cases.iter().copied().filter(move |case| case.kind == kind)
    }

    /// Whether there is a case in this state.
    #[must_use]
    pub fn has(&self, state: State) -> bool {
        self.cases.iter().any(|case| case.state == state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str], references: bool) -> Result<Vec<String>, UnknownCase> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let selection = Selection::of(&State::ALL, &words, references)?;
        Ok(selection.cases().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_cases_have_names_of_their_own() {
        let all = names(&[], true).expect("there are cases");
        assert_eq!(all.len(), (State::ALL.len() - 1) * Kind::ALL.len());
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for expected in [
            "plain/tcp-1/a-b",
            "steered/udp-64",
            "daemon/latency",
            "per-packet/tcp-8/b-a",
        ] {
            assert!(all.iter().any(|name| name == expected), "{all:?}");
        }
    }

    #[test]
    fn a_part_of_a_name_selects_and_brings_what_it_is_compared_with() {
        assert_eq!(names(&["steered/udp-5"], false), Ok(vec!["steered/udp-512".to_owned()]));
        let expected = ["plain/udp-512", "per-packet/udp-512", "steered/udp-512"];
        assert_eq!(
            names(&["steered/udp-5"], true),
            Ok(expected.map(str::to_owned).to_vec())
        );
        let several = names(&["daemon/latency-near", "plain/tcp-1/b-a"], false);
        assert_eq!(
            several,
            Ok(vec!["plain/tcp-1/b-a".to_owned(), "daemon/latency-near".to_owned()])
        );
    }

    #[test]
    fn plain_kernel_is_compared_with_itself_only_when_asked() {
        let expected = ["plain/latency-near", "again/latency-near", "per-packet/latency-near"];
        assert_eq!(
            names(&["again/latency-n"], true),
            Ok(expected.map(str::to_owned).to_vec())
        );
        let all = names(&["latency"], true).expect("there are cases");
        assert!(!all.iter().any(|name| name.starts_with("again")), "{all:?}");
        let both = names(&["again", "daemon/udp-64"], false).expect("there are cases");
        assert_eq!(both.len(), Kind::ALL.len() + 1, "{both:?}");
    }

    #[test]
    fn a_word_that_selects_nothing_is_an_error_that_lists_the_cases() {
        for word in ["tcp-2", ""] {
            let error = names(&["latency", word], true).expect_err("no such case");
            let text = error.to_string();
            assert!(text.starts_with(&format!("`{word}` ")), "{text}");
            assert!(text.lines().any(|line| line == "  steered/tcp-8/a-b"), "{text}");
        }
    }
}
