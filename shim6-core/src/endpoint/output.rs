//! The queue of messages to send.

use core::net::Ipv6Addr;

use alloc::vec::Vec;

use shim6_reap::LocatorPair;

use super::{Arrival, Endpoint};
use crate::dataplane::IPV6_HEADER_LEN;
use crate::wire::{self, Discard, ErrorCode, Message, MessageType, PROTOCOL};

/// Where a message from [`Endpoint::poll_transmit`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The IPv6 source address. The message must leave by the uplink that owns it.
    pub source: Ipv6Addr,
    /// The IPv6 destination address.
    pub destination: Ipv6Addr,
    /// Octets written, a multiple of 8.
    pub len: usize,
    /// What kind of message it is, for logs.
    pub message_type: MessageType,
}

#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    on: LocatorPair,
    message: Message,
}

impl Endpoint {
    pub(super) fn send(&mut self, on: LocatorPair, message: Message) {
        if self.transmits.len() < self.config.limits.transmit_queue {
            self.transmits.push_back(Outgoing { on, message });
        } else {
            self.counters.count_discard(Discard::RateLimited);
        }
    }

    pub(super) fn next_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(Outgoing { on, message }) = self.transmits.pop_front() {
            // A message too large for its packet can only be one that carries back a huge validator: the peer's doing.
            if let Ok(len) = message.emit(buffer) {
                let message_type = message.message_type();
                self.counters.count_sent(message_type);
                return Some(Transmit {
                    source: on.local,
                    destination: on.peer,
                    len,
                    message_type,
                });
            }
            self.counters.count_discard(Discard::TooLong);
        }
        None
    }

    /// Answers a message with an Error (RFC 5533 section 5.14). The pointer counts from the IPv6 header, which is rebuilt
    /// in front of the message. Error messages have no options, so that no fault in one is ever answered.
    pub(super) fn report_error(&mut self, arrival: Arrival<'_>, code: ErrorCode, offset: usize) {
        let Arrival { now, on, octets } = arrival;
        if !self.limits.errors.allow(now) {
            self.counters.count_discard(Discard::RateLimited);
            return;
        }
        let mut packet_in_error = Vec::with_capacity(IPV6_HEADER_LEN + octets.len());
        packet_in_error.extend_from_slice(&[0x60, 0, 0, 0]);
        packet_in_error.extend_from_slice(&u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes());
        packet_in_error.extend_from_slice(&[PROTOCOL, 0]);
        packet_in_error.extend_from_slice(&on.peer.octets());
        packet_in_error.extend_from_slice(&on.local.octets());
        packet_in_error.extend_from_slice(octets);
        let pointer = u16::try_from(IPV6_HEADER_LEN + offset).unwrap_or(u16::MAX);
        self.send(
            on,
            Message::Error(wire::Error {
                code,
                pointer,
                packet_in_error,
            }),
        );
    }
}
