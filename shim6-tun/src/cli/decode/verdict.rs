//! What a receiver does with a header, by the checks that need no context.
//!
//! The judge is the stack itself: what is said here is what the daemon does.

use std::net::Ipv6Addr;

use shim6_core::wire::{Discard, ErrorCode, MessageType, PacketKind, ParseError, View, check_addresses, classify};

use super::dump::Kind;

/// The addresses of the packet, as far as they are known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Addresses {
    pub(super) source: Option<Ipv6Addr>,
    pub(super) destination: Option<Ipv6Addr>,
}

/// What a receiver does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on with the context that the message is about.
    Accept,
    /// It drops the packet in silence.
    Drop(Discard),
    /// It drops the packet and sends an Error message.
    Error {
        reason: Discard,
        code: ErrorCode,
        /// Octets from the start of the IPv6 header.
        pointer: usize,
    },
    /// The capture does not have all octets of the message, so that it cannot be told.
    Unknown,
}

/// The verdict about a header, and what is wrong with it in words.
///
/// `before` is how many octets of the packet come before the header, from the first one of its IPv6 header on.
pub(super) fn judge(octets: &[u8], before: usize, addresses: Addresses) -> (Verdict, String) {
    let parsed = match classify(octets) {
        Ok(PacketKind::Payload { .. }) => return (Verdict::Accept, String::new()),
        // The addresses of payload are for its context to check.
        Err(error @ ParseError::PayloadHeaderLength { .. }) => Err(error),
        Ok(PacketKind::Control(_)) | Err(_) => {
            if let Err(reason) = check(addresses) {
                let said = "an address of the packet is multicast or unspecified";
                return (Verdict::Drop(reason), said.to_owned());
            }
            View::parse(octets).map(drop)
        }
    };
    let Err(error) = parsed else {
        return (Verdict::Accept, String::new());
    };
    let reason = error.reason();
    let verdict = match error.error_report() {
        Some((code, offset)) => Verdict::Error {
            reason,
            code,
            pointer: before + offset,
        },
        None => Verdict::Drop(reason),
    };
    (verdict, error.to_string())
}

/// One address that is known is checked in place of both.
fn check(Addresses { source, destination }: Addresses) -> Result<(), Discard> {
    match (source.or(destination), destination.or(source)) {
        (Some(source), Some(destination)) => check_addresses(source, destination),
        _ => Ok(()),
    }
}

impl Verdict {
    pub(super) fn word(&self) -> Option<&'static str> {
        match self {
            Self::Accept => Some("accept"),
            Self::Drop(_) => Some("drop"),
            Self::Error { .. } => Some("error"),
            Self::Unknown => None,
        }
    }

    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Drop(reason) | Self::Error { reason, .. } => Some(reason.as_str()),
            Self::Accept | Self::Unknown => None,
        }
    }

    /// Code and pointer of the Error message.
    pub(super) fn report(&self) -> Option<(ErrorCode, usize)> {
        match self {
            Self::Error { code, pointer, .. } => Some((*code, *pointer)),
            _ => None,
        }
    }

    /// One line for people.
    pub(super) fn in_words(&self, kind: Kind, said: &str) -> String {
        match self {
            Self::Accept => format!("accept: {}", next(kind)),
            Self::Drop(reason) => format!("drop: {said} ({reason}); the sender is not told"),
            Self::Error { reason, code, pointer } => format!(
                "error: {said} ({reason}); the sender gets Error {} ({code}), pointer {pointer}",
                code.0
            ),
            Self::Unknown => "cannot be told: the capture has not all octets of it".to_owned(),
        }
    }
}

/// What happens to a message without a fault.
fn next(kind: Kind) -> &'static str {
    let Kind::Control(message_type) = kind else {
        return "a receiver that has the context puts its ULIDs back and delivers the payload; another answers with R1bis";
    };
    match message_type {
        MessageType::I1 => "a receiver answers with R1, or with R2 if it has the context, and keeps nothing",
        MessageType::R1 => "a receiver that sent an I1 with this nonce sends I2",
        MessageType::I2 => "a receiver verifies the validator and the locators, makes the context, and answers with R2",
        MessageType::R2 => {
            "a receiver that sent an I2 or I2bis with this nonce verifies the locators and has the context"
        }
        MessageType::R1BIS => "a receiver with a context that has this tag for its peer sends I2bis",
        MessageType::I2BIS => {
            "a receiver verifies the validator and the locators, makes the context anew, and answers with R2"
        }
        MessageType::UPDATE_REQUEST => {
            "a receiver that has the context takes the locators and preferences, and answers with Update \
             Acknowledgement; another answers with R1bis"
        }
        MessageType::UPDATE_ACKNOWLEDGEMENT => "a receiver that sent an Update Request with this nonce is done with it",
        MessageType::KEEPALIVE => {
            "a receiver that has the context knows that its packets arrive; another answers with R1bis"
        }
        MessageType::PROBE => {
            "a receiver that has the context learns which paths work and may answer with a Probe; another answers with R1bis"
        }
        _ => "a receiver may note it, and never answers it",
    }
}
