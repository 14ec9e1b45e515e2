//! What a Probe message says (RFC 5534 5.2), apart from its octets.

use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

use crate::LocatorPair;

/// The most records of either kind that the 4-bit counts Psent and Precvd of a Probe can announce.
pub const MAX_RECORDS: usize = 15;

/// One probe, as its sender describes it and its receiver copies it back (RFC 5534 5.2); 40 octets on the wire.
///
/// Always from the viewpoint of the probe's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeRecord {
    /// The source address that the probe was sent with.
    pub source: Ipv6Addr,
    /// The destination address that it was sent to.
    pub destination: Ipv6Addr,
    /// Random, so that only a host that got the probe can report it.
    pub nonce: u32,
    /// Without meaning in the RFC; the receiver copies it back unchanged. Ours is, in microseconds, how long the first of
    /// the probe's received records has waited to be reported, so that the peer can tell the round-trip time; all ones say that
    /// the probe is a test ([`Reap::probe_quietly`](crate::Reap::probe_quietly)).
    pub data: u32,
}

impl ProbeRecord {
    /// The addresses as the sender's locator pair.
    pub const fn sender_pair(&self) -> LocatorPair {
        LocatorPair {
            local: self.source,
            peer: self.destination,
        }
    }
}

/// The State field of a Probe (RFC 5534 5.2): what the sender thinks after sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeState {
    /// 0: both directions work.
    Operational,
    /// 1: the sender hears nothing from us.
    Exploring,
    /// 2: the sender hears us, but does not know that we hear it.
    InboundOk,
}

impl ProbeState {
    /// The value of the 2-bit field.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Operational => 0,
            Self::Exploring => 1,
            Self::InboundOk => 2,
        }
    }

    /// The state with this value; `None` for 3 and above, which have no meaning.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Operational),
            1 => Some(Self::Exploring),
            2 => Some(Self::InboundOk),
            _ => None,
        }
    }
}

impl fmt::Display for ProbeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operational => "operational",
            Self::Exploring => "exploring",
            Self::InboundOk => "inbound-ok",
        })
    }
}

/// The contents of a Probe message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The sender's state after sending this probe.
    pub state: ProbeState,
    /// Probes that the sender sent: this one first, then earlier ones; 1 to [`MAX_RECORDS`].
    pub sent: Vec<ProbeRecord>,
    /// Probes that the sender received; 0 to [`MAX_RECORDS`].
    pub received: Vec<ProbeRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_defined_states_have_a_meaning() {
        for bits in 0..=2 {
            assert_eq!(ProbeState::from_bits(bits).map(ProbeState::bits), Some(bits));
        }
        assert_eq!(ProbeState::from_bits(3), None);
    }
}
