//! Error messages, sent and received (RFC 5533 sections 5.14 and 12.4).

use alloc::vec::Vec;

use shim6_reap::LocatorPair;

use super::verify::Fault;
use super::{Arrival, Endpoint};
use crate::dataplane::icmp::{Inner, shim6_header};
use crate::dataplane::{IPV6_HEADER_LEN, addresses};
use crate::event::Event;
use crate::wire::{Discard, Error, ErrorCode, Message, PROTOCOL, View};

impl Endpoint {
    /// Answers a message with an Error. Error messages have no options, so that no fault in one is ever answered.
    ///
    /// The pointer counts from the first octet of the packet in error. Where the caller gave the message alone, an IPv6
    /// header is put in front of it.
    pub(super) fn report_error(&mut self, arrival: Arrival<'_>, code: ErrorCode, offset: usize) {
        let Arrival {
            now,
            on,
            headers,
            octets,
        } = arrival;
        if !self.limits.errors.allow(now, on.peer) {
            self.counters.count_discard(Discard::RateLimited);
            return;
        }
        let mut packet = Vec::with_capacity(IPV6_HEADER_LEN.max(headers.len()) + octets.len());
        if headers.is_empty() {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes());
            packet.extend_from_slice(&[PROTOCOL, 0]);
            packet.extend_from_slice(&on.peer.octets());
            packet.extend_from_slice(&on.local.octets());
        } else {
            packet.extend_from_slice(headers);
        }
        let pointer = u16::try_from(packet.len() + offset).unwrap_or(u16::MAX);
        packet.extend_from_slice(octets);
        self.send(on, Message::Error(Error::about(&packet, code, pointer)));
    }

    /// Answers a message whose locators or preferences are not accepted.
    pub(super) fn report_fault(&mut self, arrival: Arrival<'_>, fault: Fault) {
        let Ok(view) = View::parse(arrival.octets) else { return };
        let options = view.options();
        let preferences = options.and_then(|options| options.preferences.as_ref());
        let (code, offset) = match fault {
            Fault::Method(index) => {
                let list = options.and_then(|options| options.locators.as_ref());
                let offset = list.and_then(|list| list.method_offset(index));
                (ErrorCode::VERIFICATION_METHOD, offset)
            }
            Fault::Generation => {
                let offset = preferences.map(|preferences| preferences.generation_offset());
                (ErrorCode::GENERATION_OUT_OF_SYNC, offset)
            }
            Fault::Count => {
                let offset = preferences.map(|preferences| preferences.length_offset());
                (ErrorCode::PREFERENCE_COUNT, offset)
            }
        };
        if let Some(offset) = offset {
            self.report_error(arrival, code, offset);
        }
    }

    /// Error (section 12.4): by the packet in error.
    ///
    /// Its sender proves nothing but that it saw the packet. So only what would go on for ever is changed by it: an Update
    /// Request that waits for its acknowledgement, which the sender of the Error has seen.
    pub(super) fn handle_error(&mut self, arrival: Arrival<'_>, error: &Error) -> Result<(), Discard> {
        let packet = error.packet_in_error.as_slice();
        let (source, destination) = addresses(packet).ok_or(Discard::NoPacketInError)?;
        let (inner, ..) = shim6_header(packet).map_err(|_| Discard::NoPacketInError)?;
        let on = LocatorPair {
            local: source,
            peer: destination,
        };
        let Inner::Control(message) = inner else {
            return Err(Discard::NoPacketInError);
        };
        let Ok(Message::UpdateRequest(request)) = Message::parse(message) else {
            // Of the other messages none is repeated for ever.
            return Ok(());
        };
        let Some(id) = self.updating_context(on, &request) else {
            return Err(Discard::NoMatchingUpdate);
        };
        match error.code {
            ErrorCode::GENERATION_OUT_OF_SYNC if request.announcement.locators.is_none() => {
                self.repeat_update_with_list(arrival.now, id);
            }
            code => {
                self.give_up_update(id);
                self.events.push_back(Event::UpdateRefused { context: id, code });
            }
        }
        Ok(())
    }
}
