//! Probe (RFC 5534 section 5.2).
//!
//! ```text
//! |       59      |  Hdr Ext Len  |0|  Type = 67  |   Reserved  |0|
//! |            Checksum           |R|                             |
//! |                    Receiver Context Tag                       |
//! | Precvd| Psent |Sta|                 Reserved2                 |
//! ~      Psent records of sent, Precvd of received probes         ~
//! ~                            Options                            ~
//! ```
//!
//! A record is a source and a destination of 16 octets each, a nonce and data of 4 octets each. The
//! first sent record describes the message itself, so there is at least one. No option is defined.

use core::net::Ipv6Addr;

use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use crate::wire::header::{Control, put_tag, put_u32, tag_of, u32_at};
use crate::wire::option::OptionSet;
use crate::wire::{ContextTag, EmitError, ParseError};

/// Precvd in the upper half, Psent in the lower.
const COUNTS: usize = 12;
/// State in the two upper bits.
const STATE: usize = 13;
const FIXED: usize = 16;
/// The fixed part with the record of the message itself.
const MIN_LEN: usize = FIXED + RECORD;

const MAX_COUNT: usize = 15;

// Offsets in a record.
const SOURCE: usize = 0;
const DESTINATION: usize = 16;
const NONCE: usize = 32;
const DATA: usize = 36;
const RECORD: usize = 40;

/// A Probe in the octets that it came in; state and counts have been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeView<'a> {
    fixed: &'a [u8; MIN_LEN],
    state: State,
    sent: &'a [[u8; RECORD]],
    received: &'a [[u8; RECORD]],
}

/// The state as the view keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Operational,
    Exploring,
    InboundOk,
}

impl<'a> ProbeView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, _) = control.split::<MIN_LEN>()?;
        let (_, records) = control.split::<FIXED>()?;
        let state = match fixed[STATE] >> 6 {
            0 => State::Operational,
            1 => State::Exploring,
            2 => State::InboundOk,
            _ => return Err(ParseError::ProbeState),
        };
        let (sent, received) = (fixed[COUNTS] & 0x0f, fixed[COUNTS] >> 4);
        let mismatch = ParseError::ProbeCount { sent, received };
        if sent == 0 {
            return Err(mismatch);
        }
        let (sent, received) = (usize::from(sent), usize::from(received));
        let length = RECORD * (sent + received);
        let (records, options) = records.split_at_checked(length).ok_or(mismatch)?;
        OptionSet::collect(options, FIXED + length, &[])?;
        let (records, _) = records.as_chunks::<RECORD>();
        let (sent, received) = records.split_at_checked(sent).ok_or(mismatch)?;
        Ok(ProbeView {
            fixed,
            state,
            sent,
            received,
        })
    }

    /// The tag that the receiver has allocated.
    pub fn receiver_context_tag(&self) -> ContextTag {
        tag_of(self.fixed)
    }

    /// The sender's state.
    pub fn state(&self) -> ProbeState {
        match self.state {
            State::Operational => ProbeState::Operational,
            State::Exploring => ProbeState::Exploring,
            State::InboundOk => ProbeState::InboundOk,
        }
    }

    /// Probes that the sender has sent, this message first.
    pub fn sent(&self) -> impl Iterator<Item = ProbeRecord> + use<'a> {
        self.sent.iter().map(read_record)
    }

    /// Probes that the sender has received.
    pub fn received(&self) -> impl Iterator<Item = ProbeRecord> + use<'a> {
        self.received.iter().map(read_record)
    }

    /// Copies the message.
    pub fn to_message(&self) -> Probe {
        Probe {
            receiver_context_tag: self.receiver_context_tag(),
            report: Report {
                state: self.state(),
                sent: self.sent().collect(),
                received: self.received().collect(),
            },
        }
    }
}

/// Probe: tests a locator pair and reports what else was sent and received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The tag that the receiver has allocated.
    pub receiver_context_tag: ContextTag,
    /// State and records: 1 to 15 sent, the message itself first, and up to 15 received.
    pub report: Report,
}

impl Probe {
    pub(super) fn buffer_len(&self) -> usize {
        FIXED + RECORD * (self.report.sent.len() + self.report.received.len())
    }

    pub(super) fn check(&self) -> Result<(), EmitError> {
        let (sent, received) = (self.report.sent.len(), self.report.received.len());
        if sent == 0 || sent > MAX_COUNT || received > MAX_COUNT {
            return Err(EmitError::ProbeCount { sent, received });
        }
        Ok(())
    }

    /// The counts have been checked: both fit 4 bits.
    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.receiver_context_tag);
        let (sent, received) = (&self.report.sent, &self.report.received);
        out[COUNTS] = (received.len() << 4 | sent.len()) as u8;
        out[STATE] = match self.report.state {
            ProbeState::Operational => 0,
            ProbeState::Exploring => 1,
            ProbeState::InboundOk => 2,
        } << 6;
        let (places, _) = out[FIXED..].as_chunks_mut::<RECORD>();
        for (place, record) in places.iter_mut().zip(sent.iter().chain(received)) {
            write_record(record, place);
        }
    }
}

fn read_record(octets: &[u8; RECORD]) -> ProbeRecord {
    let address = |at: usize| Ipv6Addr::from(core::array::from_fn(|octet| octets[at + octet]));
    ProbeRecord {
        source: address(SOURCE),
        destination: address(DESTINATION),
        nonce: u32_at(octets, NONCE),
        data: u32_at(octets, DATA),
    }
}

fn write_record(record: &ProbeRecord, octets: &mut [u8; RECORD]) {
    octets[SOURCE..DESTINATION].copy_from_slice(&record.source.octets());
    octets[DESTINATION..NONCE].copy_from_slice(&record.destination.octets());
    put_u32(octets, NONCE, record.nonce);
    put_u32(octets, DATA, record.data);
}
