//! Every datagram that an application sent, and what arrived of it.

use std::sync::Arc;

use shim6_core::dataplane::IPV6_HEADER_LEN;
use shim6_core::{Instant, LocatorPair};

use super::{Invariant, Violation};
use crate::sim::packet::{ICMPV6, NotDatagram, describe, read_datagram, upper_layer};
use crate::sim::trace::Origin;

/// A datagram as its application sent it.
#[derive(Debug, Clone)]
pub struct SentDatagram {
    /// The session it belongs to.
    pub session: usize,
    /// Whether the session's second host sent it.
    pub reverse: bool,
    /// The host that it is for.
    pub to: usize,
    /// Its ULIDs as the sender sees them.
    pub ulids: LocatorPair,
    /// When it was sent.
    pub at: Instant,
    /// The whole packet.
    pub packet: Arc<[u8]>,
    /// When it arrived first.
    pub arrived: Option<Instant>,
    /// How often it arrived.
    pub arrivals: u32,
}

/// What became of a packet that was handed to a host's upper layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// This datagram arrived, for the first time or again. The port is that of [`read_datagram`].
    Datagram {
        /// Its number.
        number: u64,
        /// The port that it is for.
        port: u16,
        /// Whether it is there for the first time.
        first: bool,
    },
    /// The upper layers drop it, and rightly so.
    Dropped,
}

/// The datagrams of a world, by their numbers.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: Vec<SentDatagram>,
    /// Whether a wrong checksum may come from a tag that is used again.
    tolerates_reuse: bool,
}

impl Ledger {
    /// Without datagrams.
    pub fn new(tolerates_reuse: bool) -> Self {
        Self {
            sent: Vec::new(),
            tolerates_reuse,
        }
    }

    /// The number that the next datagram has to bear.
    pub fn next_number(&self) -> u64 {
        self.sent.len() as u64
    }

    /// Notes the datagram of the next number.
    pub fn note_sent(&mut self, datagram: SentDatagram) {
        self.sent.push(datagram);
    }

    /// All datagrams, in the order they were sent.
    pub fn datagrams(&self) -> &[SentDatagram] {
        &self.sent
    }

    /// A host's upper layers get a packet that came from `origin`, maybe `damaged` on the way.
    ///
    /// # Errors
    /// It is not what was sent, or not for this host.
    pub fn deliver(
        &mut self,
        now: Instant,
        host: usize,
        packet: &[u8],
        (origin, damaged): (Origin, bool),
    ) -> Result<Delivery, Violation> {
        let wrong = |what: String| Err(Violation::new(Invariant::Payload, format!("h{host} delivers {what}")));
        let honest = matches!(origin, Origin::Host(_) | Origin::Replayed) && !damaged;
        if let Some((ICMPV6, offset)) = upper_layer(packet) {
            let quote = packet.get(offset + 8..).unwrap_or(&[]);
            // What a host quotes may be damaged, or be sent in this host's name by somebody else.
            return match origin == Origin::Router {
                true => self.check_quote(host, quote).map(|()| Delivery::Dropped),
                false => Ok(Delivery::Dropped),
            };
        }
        let datagram = match read_datagram(packet) {
            Ok(datagram) => datagram,
            Err(NotDatagram::Checksum) if honest && !self.tolerates_reuse => {
                return wrong(format!(
                    "other octets or addresses than were sent: {}",
                    describe(packet)
                ));
            }
            Err(_) => return Ok(Delivery::Dropped),
        };
        let index = usize::try_from(datagram.number).unwrap_or(usize::MAX);
        let Some(sent) = self.sent.get_mut(index) else {
            return wrong(format!("datagram {index}, which nobody sent"));
        };
        if sent.to != host {
            return wrong(format!("datagram {index}, which is for h{}", sent.to));
        }
        // What the checksum does not cover may be damaged: traffic class, flow label, hop limit, extension headers.
        let same = match damaged {
            false => sent.packet[..] == *packet,
            true => sent.packet[8..IPV6_HEADER_LEN] == packet[8..IPV6_HEADER_LEN],
        };
        if !same {
            return wrong(format!(
                "datagram {index} changed: [{}] was sent, [{}] arrived",
                describe(&sent.packet),
                describe(packet)
            ));
        }
        let first = sent.arrived.is_none();
        sent.arrived.get_or_insert(now);
        sent.arrivals += 1;
        Ok(Delivery::Datagram {
            number: datagram.number,
            port: datagram.port,
            first,
        })
    }

    /// An ICMPv6 error that a host's upper layers get quotes a packet as they sent it (RFC 5533 section 8).
    fn check_quote(&self, host: usize, quote: &[u8]) -> Result<(), Violation> {
        let is_quoted = |sent: &SentDatagram| {
            let shorter = sent.packet.len().min(quote.len());
            shorter >= IPV6_HEADER_LEN && sent.packet[..shorter] == quote[..shorter]
        };
        if self.sent.iter().rev().any(is_quoted) {
            return Ok(());
        }
        let what = format!(
            "h{host} delivers an ICMPv6 error about what nobody sent: [{}]",
            describe(quote)
        );
        Err(Violation::new(Invariant::Payload, what))
    }
}
