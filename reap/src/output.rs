//! What the machine gives its caller: messages to send and news.

use core::fmt;

use crate::{LocatorPair, Probe, State};

/// Why something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A whole Send Timeout passed without any packet from the peer.
    SendTimeout,
    /// The peer was heard: its probe said so, or, while we were exploring, any packet of it.
    PeerReport,
    /// A local hint said that the current pair is gone.
    LocalHint,
    /// A router said that it could not send a packet on (ICMPv6, RFC 5533 8).
    IcmpError,
    /// A person or the program around us asked for it.
    Requested,
    /// The transport above us said that it makes no progress.
    TransportHint,
    /// A pair that is preferred to the current one works again.
    Preferred,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendTimeout => "send-timeout",
            Self::PeerReport => "peer-report",
            Self::LocalHint => "local-hint",
            Self::IcmpError => "icmp-error",
            Self::Requested => "requested",
            Self::TransportHint => "transport-hint",
            Self::Preferred => "preferred",
        })
    }
}

/// Something that the caller may want to act on or to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state changed.
    StateChanged {
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// What made it change.
        cause: Cause,
    },
    /// The pair for payload that we send changed. Comes before the change to [`State::Operational`] that it goes with.
    PairChanged {
        /// The pair before.
        from: LocatorPair,
        /// The pair now, which the peer has confirmed.
        to: LocatorPair,
        /// What had started the exploration that found it, or what [`Reap::switch_to`](crate::Reap::switch_to) was given.
        cause: Cause,
    },
    /// The peer has received a probe of ours on this pair, which it had not reported before: what we send on it arrives.
    /// Comes before a [`Event::PairChanged`] that follows from it.
    PairConfirmed {
        /// The pair.
        pair: LocatorPair,
    },
}

/// A message to send on `pair`, whichever pair the payload uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A Keepalive message (RFC 5534 5.1).
    Keepalive {
        /// The addresses to send it with.
        pair: LocatorPair,
    },
    /// A Probe message (RFC 5534 5.2).
    Probe {
        /// The addresses to send it with; those of the first of the probe's sent records.
        pair: LocatorPair,
        /// Its contents.
        probe: Probe,
    },
}

impl Transmit {
    /// The addresses to send the message with.
    pub fn pair(&self) -> LocatorPair {
        match self {
            Self::Keepalive { pair } | Self::Probe { pair, .. } => *pair,
        }
    }
}
