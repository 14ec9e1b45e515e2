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

use shim6_reap::{MAX_RECORDS, Probe as Report, ProbeRecord, ProbeState};

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
    state: ProbeState,
    sent: &'a [[u8; RECORD]],
    received: &'a [[u8; RECORD]],
}

impl<'a> ProbeView<'a> {
    pub(super) fn parse(control: Control<'a>) -> Result<Self, ParseError> {
        let (fixed, _) = control.split::<MIN_LEN>()?;
        let (_, records) = control.split::<FIXED>()?;
        let state = ProbeState::from_bits(fixed[STATE] >> 6).ok_or(ParseError::ProbeState)?;
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
        self.state
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
        if sent == 0 || sent > MAX_RECORDS || received > MAX_RECORDS {
            return Err(EmitError::ProbeCount { sent, received });
        }
        Ok(())
    }

    /// The counts have been checked: both fit 4 bits.
    pub(super) fn write(&self, out: &mut [u8]) {
        put_tag(out, self.receiver_context_tag);
        let (sent, received) = (&self.report.sent, &self.report.received);
        out[COUNTS] = (received.len() << 4 | sent.len()) as u8;
        out[STATE] = self.report.state.bits() << 6;
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

#[cfg(test)]
mod tests {
    use alloc::vec;

    use hex_literal::hex;

    use super::*;
    use crate::wire::tests::{assert_golden, sealed};
    use crate::wire::{Message, OptionType};

    /// RFC 5534 section 5.2: two probes sent, one received, state InboundOk.
    const GOLDEN: [u8; 136] = hex!(
        "3b 10 43 00 d853 7edcba987654 12 80 0000"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "11111111 00000001"
        "20010db800b2000000000000000000bb"
        "20010db800a1000000000000000000aa"
        "22222222 00000002"
        "20010db800a1000000000000000000aa"
        "20010db800b2000000000000000000bb"
        "33333333 00000003"
    );

    fn message() -> Probe {
        let a = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa);
        let b = Ipv6Addr::new(0x2001, 0xdb8, 0xb2, 0, 0, 0, 0, 0xbb);
        let record = |source, destination, nonce, data| ProbeRecord {
            source,
            destination,
            nonce,
            data,
        };
        Probe {
            receiver_context_tag: ContextTag::from_random_bits(0x7edc_ba98_7654),
            report: Report {
                state: ProbeState::InboundOk,
                sent: vec![record(a, b, 0x1111_1111, 1), record(b, a, 0x2222_2222, 2)],
                received: vec![record(a, b, 0x3333_3333, 3)],
            },
        }
    }

    #[test]
    fn golden_message_is_parsed_and_emitted() {
        assert_golden(&GOLDEN, Message::Probe(message()));
    }

    #[test]
    fn reserved_bits_and_any_option_are_ignored() {
        let mut octets = [&GOLDEN[..], &hex!("0010 0001 ff 000000")].concat();
        octets[3] = 0xfe;
        octets[6] |= 0x80;
        octets[13] |= 0x3f;
        octets[14..16].fill(0xff);
        assert_eq!(Message::parse(&sealed(&octets)), Ok(Message::Probe(message())));
    }

    #[test]
    fn critical_option_after_the_records_is_refused() {
        let octets = [&GOLDEN[..], &hex!("0011 0001 ff 000000")].concat();
        let unknown = ParseError::UnknownCriticalOption {
            option_type: OptionType(8),
            offset: 136,
        };
        assert_eq!(Message::parse(&sealed(&octets)), Err(unknown));
    }

    #[test]
    fn undefined_state_is_refused() {
        let mut octets = GOLDEN;
        octets[13] = 0xc0;
        assert_eq!(Message::parse(&sealed(&octets)), Err(ParseError::ProbeState));
    }

    #[test]
    fn records_must_fit_the_length() {
        for (counts, sent, received) in [(0x13, 3, 1), (0x22, 2, 2), (0xff, 15, 15)] {
            let mut octets = GOLDEN;
            octets[12] = counts;
            let error = ParseError::ProbeCount { sent, received };
            assert_eq!(Message::parse(&sealed(&octets)), Err(error));
        }
    }

    #[test]
    fn at_least_one_sent_probe_is_required() {
        let mut octets = GOLDEN;
        octets[12] = 0x30;
        let error = ParseError::ProbeCount { sent: 0, received: 3 };
        assert_eq!(Message::parse(&sealed(&octets)), Err(error));
    }

    #[test]
    fn counts_that_four_bits_cannot_hold_are_not_emitted() {
        for (sent, received) in [(0, 1), (16, 0), (1, 16)] {
            let mut message = message();
            let record = message.report.received.remove(0);
            message.report.sent = vec![record; sent];
            message.report.received = vec![record; received];
            let error = EmitError::ProbeCount { sent, received };
            assert_eq!(Message::Probe(message).emit(&mut [0; 1280]), Err(error));
        }
    }

    #[test]
    fn fullest_probe_fits_a_packet() {
        let mut message = message();
        let record = message.report.received.remove(0);
        message.report.sent = vec![record; 15];
        message.report.received = vec![record; 15];
        let message = Message::Probe(message);
        let mut buffer = [0; 1280];
        assert_eq!(message.emit(&mut buffer), Ok(1216));
        assert_eq!(Message::parse(&buffer), Ok(message));
    }
}
