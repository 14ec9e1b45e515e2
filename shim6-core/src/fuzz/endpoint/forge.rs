//! Messages out of the parts of those that were seen on the network: real tags, nonces, validators, locators and
//! parameters, each in a place where it may not belong.

use alloc::vec::Vec;

use super::super::{Source, sealed};
use crate::wire::MessageType;
use crate::wire::option::{RawOptions, padded_len};

/// How many messages are remembered; the first ones, of the exchange that all begin with, stay.
const REMEMBERED: usize = 24;

/// Messages that somebody on the path has seen.
#[derive(Clone, Default)]
pub(super) struct Seen {
    messages: Vec<Vec<u8>>,
    next: usize,
}

impl Seen {
    pub(super) fn remember(&mut self, message: &[u8]) {
        if self.messages.contains(&message.to_vec()) {
            return;
        }
        if self.messages.len() < REMEMBERED {
            self.messages.push(message.to_vec());
        } else {
            self.next = (self.next + 1) % (REMEMBERED / 2);
            self.messages[REMEMBERED / 2 + self.next] = message.to_vec();
        }
    }

    fn any(&self, source: &mut Source<'_>) -> &[u8] {
        &self.messages[usize::from(source.octet()) % self.messages.len()]
    }

    /// A message that was seen, changed in a few places.
    pub(super) fn forge(&self, source: &mut Source<'_>) -> Vec<u8> {
        let mut message = self.any(source).to_vec();
        for _ in 0..source.octet() % 6 {
            self.change(&mut message, source);
        }
        // One in eight with whatever checksum it has now.
        if !source.octet().is_multiple_of(8) {
            sealed(&message)
        } else {
            message
        }
    }

    fn change(&self, message: &mut Vec<u8>, source: &mut Source<'_>) {
        match source.octet() % 8 {
            0 => set(message, usize::from(source.octet()), &[source.octet()]),
            1 => message[2] = source.octet() & 0x7f,
            // A tag, or a nonce, from where another message has one.
            2 => copy(self.any(source), 6, message, 6, 6),
            3 => {
                let (from, to) = (place_of_nonce(source), place_of_nonce(source));
                copy(self.any(source), from, message, to, 4);
            }
            4 => remove_option(message, source.octet()),
            5 => {
                let donor = self.any(source);
                let option = nth_option(donor, source.octet());
                message.extend_from_slice(option.map_or(&[], |(at, length)| &donor[at..at + length]));
            }
            6 => {
                let (option_type, critical, length) = (source.octet() % 16, source.octet() & 1, source.octet() % 64);
                let contents: Vec<_> = (0..length).map(|_| source.octet()).collect();
                append_option(message, option_type << 1 | critical, &contents);
            }
            _ => {
                let (which, at, value) = (source.octet(), source.octet(), source.octet());
                if let Some((start, length)) = nth_option(message, which) {
                    set(message, start + usize::from(at) % length, &[value]);
                }
            }
        }
    }
}

fn place_of_nonce(source: &mut Source<'_>) -> usize {
    source.one_of(&[12, 16, 20, 8])
}

fn set(message: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(place) = message.get_mut(at..at + octets.len()) {
        place.copy_from_slice(octets);
    }
}

fn copy(from: &[u8], at: usize, message: &mut [u8], to: usize, length: usize) {
    if let Some(octets) = from.get(at..at + length) {
        set(message, to, octets);
    }
}

/// Where the options of a message begin, by its type.
fn options_at(message: &[u8]) -> usize {
    let octets = match MessageType(message[2]) {
        MessageType::I2 => 24,
        MessageType::I2BIS => 32,
        MessageType::PROBE => {
            let counts = message.get(12).copied().unwrap_or(0);
            16 + 40 * usize::from(counts >> 4) + 40 * usize::from(counts & 15)
        }
        _ => 16,
    };
    octets.min(message.len())
}

/// Where the option is, and its octets with padding.
fn nth_option(message: &[u8], which: u8) -> Option<(usize, usize)> {
    let at = options_at(message);
    let all: Vec<_> = RawOptions::new(&message[at..], at).filter_map(Result::ok).collect();
    let option = all.get(usize::from(which).checked_rem(all.len())?)?;
    Some((option.offset, padded_len(option.contents.len())))
}

fn remove_option(message: &mut Vec<u8>, which: u8) {
    if let Some((at, length)) = nth_option(message, which) {
        message.drain(at..at + length);
    }
}

fn append_option(message: &mut Vec<u8>, type_and_critical: u8, contents: &[u8]) {
    let end = message.len() + padded_len(contents.len());
    message.extend_from_slice(&[0, type_and_critical]);
    message.extend_from_slice(&u16::try_from(contents.len()).unwrap_or(0).to_be_bytes());
    message.extend_from_slice(contents);
    message.resize(end, 0);
}
