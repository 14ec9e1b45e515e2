//! What hosts send because of packets whose source is spoofed.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use shim6_core::dataplane::addresses;
use shim6_core::{Instant, LimitsConfig};

use super::{Invariant, Violation};
use crate::sim::packet::describe;
use crate::sim::trace::Origin;

/// Replies to one message that was made up are at most so many times as long as it was, unless an address of the victim's
/// own context is the source: then the reply is an R2, and at most a full packet.
const AMPLIFICATION: usize = 3;
/// The longest control packet.
const LONGEST: usize = 1280;
/// A message that was seen and is sent again may be answered like the first time: by a message and a Probe.
const REPLIES_TO_REPLAY: usize = 2;

/// The replies of one host.
#[derive(Debug, Default)]
pub struct Replies {
    /// To messages that were made up.
    to_forged: u64,
    since: Option<Instant>,
    /// Sources of spoofed packets that no host has.
    third_parties: BTreeSet<Ipv6Addr>,
    /// What went to third parties, in octets, and what came in their names.
    sent_to_third_parties: u64,
    received_from_third_parties: u64,
}

impl Replies {
    /// Octets that were sent to addresses that nobody has, and octets that came with them as their source.
    pub fn third_parties(&self) -> (u64, u64) {
        (self.sent_to_third_parties, self.received_from_third_parties)
    }

    /// A host sent `packets` in answer to `trigger`, which the adversary sent.
    ///
    /// # Errors
    /// It was too much.
    pub fn check_reply(
        &mut self,
        now: Instant,
        (origin, trigger): (Origin, &[u8]),
        packets: &[Vec<u8>],
        limits: &LimitsConfig,
        is_host: impl Fn(Ipv6Addr) -> bool,
    ) -> Result<(), Violation> {
        let Some((source, _)) = addresses(trigger) else {
            return Ok(());
        };
        self.since.get_or_insert(now);
        let octets: usize = packets.iter().map(Vec::len).sum();
        let bound = match (origin, is_host(source)) {
            (Origin::Replayed, true) => REPLIES_TO_REPLAY * LONGEST,
            (_, true) => LONGEST.max(AMPLIFICATION * trigger.len()),
            (_, false) => AMPLIFICATION * trigger.len(),
        };
        if octets > bound {
            let what = format!(
                "{octets} octets answer the {} of [{}]",
                trigger.len(),
                describe(trigger)
            );
            return Err(Violation::new(Invariant::Replies, what));
        }
        if !is_host(source) {
            self.third_parties.insert(source);
            self.sent_to_third_parties += octets as u64;
            self.received_from_third_parties += trigger.len() as u64;
        }
        if origin == Origin::Forged {
            self.to_forged += packets.len() as u64;
            self.check_rate(now, limits)?;
        }
        Ok(())
    }

    /// A host sends a packet that answers nothing.
    ///
    /// # Errors
    /// It goes to somebody whom only spoofed packets have named.
    pub fn check_unasked(&self, packet: &[u8]) -> Result<(), Violation> {
        match addresses(packet) {
            Some((_, destination)) if self.third_parties.contains(&destination) => {
                let what = format!(
                    "a third party gets [{}] without having been named just now",
                    describe(packet)
                );
                Err(Violation::new(Invariant::Replies, what))
            }
            _ => Ok(()),
        }
    }

    /// The rate limits hold over the whole time: a second's burst, and what a second allows in each second since.
    fn check_rate(&self, now: Instant, limits: &LimitsConfig) -> Result<(), Violation> {
        let rates = [limits.r1, limits.r2, limits.r1bis, limits.errors];
        let per_second: u64 = rates.into_iter().map(|rate| u64::from(rate.total)).sum();
        let micros = now.as_micros() - self.since.unwrap_or(now).as_micros();
        let bound = per_second + per_second * micros / 1_000_000;
        if self.to_forged > bound {
            let what = format!(
                "{} replies to forged messages, and {bound} are allowed by now",
                self.to_forged
            );
            return Err(Violation::new(Invariant::Replies, what));
        }
        Ok(())
    }
}
