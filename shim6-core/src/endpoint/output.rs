//! The queue of messages to send.

use core::net::Ipv6Addr;

use shim6_reap::LocatorPair;

use super::Endpoint;
use crate::wire::{Discard, Message, MessageType};

/// Where a message from [`Endpoint::poll_transmit`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
            self.counters.count_discard(Discard::QueueFull);
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
}
