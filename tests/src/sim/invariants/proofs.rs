//! Which locator pairs each host has tested, worked out from its packets alone.
//!
//! A host asks on a pair by sending something that only a receiver of that packet can return: the nonce of an I1, I2, I2bis,
//! Probe or Update Request, the validator of an R1 or R1bis. When it comes back, whoever is at the pair's other end has received it (RFC 5533
//! section 7.2, RFC 4218).

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv6Addr;

use shim6_core::LocatorPair;
use shim6_core::dataplane::addresses;
use shim6_core::wire::Message;

use super::{Invariant, Violation};
use crate::sim::packet::control_of;
use crate::sim::pool::name;

/// What each host of a world has asked and been answered since it was started.
#[derive(Debug)]
pub struct Proofs {
    hosts: Vec<HostProofs>,
}

#[derive(Debug, Default)]
struct HostProofs {
    asked: HashMap<Secret, BTreeSet<LocatorPair>>,
    tested: BTreeSet<LocatorPair>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Secret {
    Initiator(u32),
    Probe(u32),
    Update(u32),
    Validator(Vec<u8>),
}

impl Proofs {
    /// Nobody has tested anything.
    pub fn new(hosts: usize) -> Self {
        Self {
            hosts: (0..hosts).map(|_| HostProofs::default()).collect(),
        }
    }

    /// A host has lost all that it knew.
    pub fn forget(&mut self, host: usize) {
        self.hosts[host] = HostProofs::default();
    }

    /// A host sends a packet.
    pub fn note_sent(&mut self, host: usize, packet: &[u8]) {
        let Some((on, message)) = read(packet) else { return };
        let secret = match message {
            Message::I1(i1) => Secret::Initiator(i1.initiator_nonce),
            Message::I2(i2) => Secret::Initiator(i2.initiator_nonce),
            Message::I2bis(i2bis) => Secret::Initiator(i2bis.initiator_nonce),
            Message::R1(r1) => Secret::Validator(r1.validator),
            Message::R1bis(r1bis) => Secret::Validator(r1bis.validator),
            Message::UpdateRequest(request) => Secret::Update(request.request_nonce),
            Message::Probe(probe) => match probe.report.sent.first() {
                Some(record) => Secret::Probe(record.nonce),
                None => return,
            },
            _ => return,
        };
        self.hosts[host].asked.entry(secret).or_default().insert(on);
    }

    /// A host receives a packet.
    pub fn note_received(&mut self, host: usize, packet: &[u8]) {
        let Some((_, message)) = read(packet) else { return };
        let returned = match message {
            Message::R1(r1) => vec![Secret::Initiator(r1.initiator_nonce)],
            Message::R2(r2) => vec![Secret::Initiator(r2.initiator_nonce)],
            Message::I2(i2) => vec![Secret::Validator(i2.validator)],
            Message::I2bis(i2bis) => vec![Secret::Validator(i2bis.validator)],
            Message::UpdateAcknowledgement(answer) => vec![Secret::Update(answer.request_nonce)],
            Message::Probe(probe) => {
                let records = probe.report.received.iter();
                records.map(|record| Secret::Probe(record.nonce)).collect()
            }
            _ => return,
        };
        let host = &mut self.hosts[host];
        for secret in returned {
            if let Some(pairs) = host.asked.get(&secret) {
                host.tested.extend(pairs);
            }
        }
    }

    /// A host sends payload with these ULIDs. `belongs` says whether two addresses are the same host's.
    ///
    /// # Errors
    /// The packet has other addresses, which the sender has not tested or which are not the peer's.
    pub fn check(
        &self,
        host: usize,
        ulids: LocatorPair,
        packet: &[u8],
        belongs: impl Fn(Ipv6Addr, Ipv6Addr) -> bool,
    ) -> Result<(), Violation> {
        let Some((local, peer)) = addresses(packet) else {
            return Err(Violation::new(
                Invariant::Payload,
                "payload became something that is no packet",
            ));
        };
        let pair = LocatorPair { local, peer };
        let fault = if pair == ulids {
            return Ok(());
        } else if !belongs(local, ulids.local) {
            "from a locator that is not its own"
        } else if !belongs(peer, ulids.peer) {
            "to a locator that is not the peer's"
        } else if !self.hosts[host].tested.contains(&pair) {
            "on a pair that it has not tested"
        } else {
            return Ok(());
        };
        let what = format!(
            "h{host} sends payload for {} -> {} {fault}: {} -> {}",
            name(ulids.local),
            name(ulids.peer),
            name(local),
            name(peer)
        );
        Err(Violation::new(Invariant::Locators, what))
    }
}

fn read(packet: &[u8]) -> Option<(LocatorPair, Message)> {
    let (local, peer) = addresses(packet)?;
    let message = Message::parse(control_of(packet)?).ok()?;
    Some((LocatorPair { local, peer }, message))
}
