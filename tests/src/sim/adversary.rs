//! Somebody who sees every packet and sends what it likes, with any source address, but changes nothing on its way.
//!
//! It does not use what it sees to speak in the name of a peer on a live context with the right tag and locators: against
//! somebody on the path, who can do that, Shim6 does not protect (RFC 5533 section 16).

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::sync::Arc;

use shim6_core::LocatorPair;
use shim6_core::dataplane::{IPV6_HEADER_LEN, addresses};
use shim6_core::reap::{Probe as Report, ProbeRecord, ProbeState};
use shim6_core::wire::{
    ContextTag, Error, ErrorCode, I1, I2, I2bis, Keepalive, Message, MessageType, PROTOCOL, Probe, R1, R1bis, R2,
    UlidPair, UpdateAcknowledgement, UpdateRequest, checksum, payload,
};

use super::dice::{Dice, Stream};
use super::link::Refusal;
use super::packet::{
    UDP, control_of, control_packet, control_type, ipv6, refusal, shim6_offset, unrecognized_next_header,
};
use super::pool::nobody;
use super::scenario::{AdversaryPlan, Forgery};
use super::trace::Origin;

/// How many packets it remembers.
const MEMORY: usize = 200;
/// How many third parties it names.
const THIRD_PARTIES: u16 = 4;

/// The adversary of a world.
#[derive(Debug)]
pub struct Adversary {
    plan: AdversaryPlan,
    dice: Dice,
    seen: VecDeque<Arc<[u8]>>,
    /// All locators of all hosts.
    locators: Vec<Vec<Ipv6Addr>>,
}

impl Adversary {
    /// An adversary among hosts with these locators.
    pub fn new(plan: AdversaryPlan, seed: u64, locators: Vec<Vec<Ipv6Addr>>) -> Self {
        Self {
            plan,
            dice: Dice::new(seed, Stream::Adversary),
            seen: VecDeque::new(),
            locators,
        }
    }

    /// What it does.
    pub fn plan(&self) -> &AdversaryPlan {
        &self.plan
    }

    /// It sees a packet.
    pub fn watch(&mut self, packet: &Arc<[u8]>) {
        if self.seen.len() >= MEMORY {
            self.seen.pop_front();
        }
        self.seen.push_back(packet.clone());
    }

    /// The packets that it sends now.
    pub fn strike(&mut self) -> Vec<(Origin, Vec<u8>)> {
        (0..self.plan.burst).filter_map(|_| self.shoot()).collect()
    }

    fn shoot(&mut self) -> Option<(Origin, Vec<u8>)> {
        if self.dice.chance(self.plan.replays) {
            return self.replay();
        }
        let (forgeries, dice) = (&self.plan.forgeries, &mut self.dice);
        let forgery = *forgeries.get(dice.below(forgeries.len().max(1)))?;
        Some((Origin::Forged, self.forge(forgery)?))
    }

    fn replay(&mut self) -> Option<(Origin, Vec<u8>)> {
        let mut packet = self.recall()?.to_vec();
        if !self.dice.chance(self.plan.redirects) {
            return Some((Origin::Replayed, packet));
        }
        // Payload in another's name is beyond Shim6: its tag alone finds the context (RFC 5533 section 12.2).
        control_of(&packet)?;
        let (_, destination) = addresses(&packet)?;
        let source = self.source(destination)?;
        packet[8..24].copy_from_slice(&source.octets());
        Some((Origin::Forged, packet))
    }

    fn recall(&mut self) -> Option<Arc<[u8]>> {
        let index = self.dice.below(self.seen.len().max(1));
        self.seen.get(index).cloned()
    }

    /// A source address for a packet to `destination`: another host's or a third party's.
    fn source(&mut self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        if self.dice.chance(400) {
            return Some(nobody(self.dice.below(usize::from(THIRD_PARTIES)) as u16));
        }
        let others: Vec<_> = self
            .locators
            .iter()
            .filter(|own| !own.contains(&destination))
            .flatten()
            .collect();
        others.get(self.dice.below(others.len().max(1))).map(|&&source| source)
    }

    fn forge(&mut self, forgery: Forgery) -> Option<Vec<u8>> {
        let victim = self.dice.below(self.locators.len());
        let destination = *self.dice.pick(&self.locators[victim]);
        let source = self.source(destination)?;
        let on = LocatorPair::new(source, destination);
        let tag = ContextTag::from_random_bits(self.dice.u64());
        let message = match forgery {
            Forgery::I1 => {
                let ulids = (self.source(destination)?, *self.dice.pick(&self.locators[victim]));
                Message::I1(I1 {
                    initiator_context_tag: tag,
                    initiator_nonce: self.dice.u32(),
                    ulid_pair: self.dice.chance(500).then_some(UlidPair {
                        sender: ulids.0,
                        receiver: ulids.1,
                    }),
                    forked_instance: self.dice.chance(200).then(|| self.dice.u32()),
                })
            }
            Forgery::R1 => Message::R1(R1 {
                initiator_nonce: self.dice.u32(),
                responder_nonce: self.dice.u32(),
                validator: self.octets(20),
            }),
            Forgery::R1bis => Message::R1bis(R1bis {
                packet_context_tag: if self.dice.chance(500) {
                    self.tag_in_payload().unwrap_or(tag)
                } else {
                    tag
                },
                responder_nonce: self.dice.u32(),
                validator: self.octets(20),
            }),
            Forgery::UpdateAcknowledgement => Message::UpdateAcknowledgement(UpdateAcknowledgement {
                receiver_context_tag: tag,
                request_nonce: self.dice.u32(),
            }),
            Forgery::I2 | Forgery::R2 | Forgery::I2bis | Forgery::UpdateRequest => {
                return self.forge_exchange(forgery, on, tag);
            }
            Forgery::Keepalive => Message::Keepalive(Keepalive {
                receiver_context_tag: tag,
            }),
            Forgery::Probe => self.probe(on, tag),
            Forgery::ProbeFromElsewhere => {
                let (on, tag) = self.seen_tag()?;
                let message = self.probe(on, tag);
                return Some(control_packet(on, &message));
            }
            Forgery::Error => Message::Error(Error {
                code: ErrorCode::VERIFICATION_METHOD,
                pointer: self.dice.u32() as u16,
                packet_in_error: self.recall()?.iter().copied().take(200).collect(),
            }),
            Forgery::Payload => {
                let mut header = [0; payload::LEN];
                payload::emit(tag, UDP, &mut header);
                let octets = [&header[..], &self.octets(40)].concat();
                return Some(ipv6(source, destination, PROTOCOL, &octets));
            }
            Forgery::IcmpError => return self.icmp_error(),
            Forgery::Garbage => {
                let units = self.dice.between(1..=20) as usize;
                let mut octets = self.octets(8 * units);
                octets[0] = 59;
                octets[2] &= 0x7f;
                return Some(ipv6(source, destination, PROTOCOL, &seal(octets)));
            }
            Forgery::Mutation => return self.mutate(),
        };
        Some(control_packet(on, &message))
    }

    /// An error about something that was seen, but for an I1.
    fn icmp_error(&mut self) -> Option<Vec<u8>> {
        let packet = self
            .recall()
            .filter(|packet| control_type(packet) != Some(MessageType::I1))?;
        let router = nobody(self.dice.below(usize::from(THIRD_PARTIES)) as u16);
        match self.dice.below(3) {
            0 => refusal(router, Refusal::Unreachable, &packet),
            1 => refusal(router, Refusal::TooBig(1280), &packet),
            _ => unrecognized_next_header(&packet),
        }
    }

    /// A message of another exchange with what says which one it belongs to made up: nobody accepts it.
    fn forge_exchange(&mut self, forgery: Forgery, on: LocatorPair, tag: ContextTag) -> Option<Vec<u8>> {
        let seen = self
            .seen
            .iter()
            .rev()
            .filter_map(|packet| Message::parse(control_of(packet)?).ok());
        let (i2, announcement) = seen.into_iter().find_map(|message| match message {
            Message::I2(i2) => Some((Some(i2.clone()), i2.announcement)),
            Message::R2(r2) => Some((None, r2.announcement)),
            _ => None,
        })?;
        let nonce = self.dice.u32();
        let message = match forgery {
            Forgery::I2 => Message::I2(I2 {
                initiator_context_tag: tag,
                initiator_nonce: nonce,
                ..i2?
            }),
            Forgery::I2bis => {
                let I2 {
                    responder_nonce,
                    validator,
                    ulid_pair,
                    forked_instance,
                    ..
                } = i2?;
                Message::I2bis(I2bis {
                    initiator_context_tag: tag,
                    initiator_nonce: nonce,
                    packet_context_tag: ContextTag::from_random_bits(self.dice.u64()),
                    responder_nonce,
                    validator,
                    ulid_pair,
                    forked_instance,
                    announcement,
                })
            }
            Forgery::UpdateRequest => Message::UpdateRequest(UpdateRequest {
                receiver_context_tag: tag,
                request_nonce: nonce,
                announcement,
            }),
            _ => Message::R2(R2 {
                responder_context_tag: tag,
                initiator_nonce: nonce,
                announcement,
            }),
        };
        Some(control_packet(on, &message))
    }

    fn probe(&mut self, on: LocatorPair, tag: ContextTag) -> Message {
        let mut record = |pair: LocatorPair| ProbeRecord {
            source: pair.local,
            destination: pair.peer,
            nonce: self.dice.u32(),
            data: 0,
        };
        let (sent, received) = (vec![record(on)], vec![record(on.seen_by_peer())]);
        let state = *self
            .dice
            .pick(&[ProbeState::Operational, ProbeState::Exploring, ProbeState::InboundOk]);
        Message::Probe(Probe {
            receiver_context_tag: tag,
            report: Report { state, sent, received },
        })
    }

    /// A tag that somebody was sent, and a pair that ends there and does not begin at its peer.
    fn seen_tag(&mut self) -> Option<(LocatorPair, ContextTag)> {
        let packet = self.recall()?;
        let (peer, destination) = addresses(&packet)?;
        let tag = match Message::parse(control_of(&packet)?).ok()? {
            Message::Keepalive(keepalive) => keepalive.receiver_context_tag,
            Message::Probe(probe) => probe.receiver_context_tag,
            _ => return None,
        };
        let source = self.source(destination)?;
        let peers = self.locators.iter().find(|own| own.contains(&peer))?;
        (!peers.contains(&source)).then_some((LocatorPair::new(source, destination), tag))
    }

    /// What was seen, with octets changed; the source is a third party's, so that nothing of it is a peer's word.
    fn mutate(&mut self) -> Option<Vec<u8>> {
        let packet = self.recall()?;
        control_of(&packet)?;
        let (_, destination) = addresses(&packet)?;
        let mut octets = packet[IPV6_HEADER_LEN..].to_vec();
        for _ in 0..self.dice.between(1..=3) {
            let index = self.dice.below(octets.len());
            octets[index] ^= 1 << self.dice.below(8);
        }
        octets[2] &= 0x7f;
        let source = nobody(self.dice.below(usize::from(THIRD_PARTIES)) as u16);
        Some(ipv6(source, destination, PROTOCOL, &seal(octets)))
    }

    /// The tag of payload that was seen.
    fn tag_in_payload(&self) -> Option<ContextTag> {
        self.seen.iter().rev().find_map(|packet| {
            let (tag, _) = payload::parse(packet.get(shim6_offset(packet)?..)?).ok()?;
            Some(tag)
        })
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.dice.fill(&mut octets);
        octets
    }
}

/// Gives a changed message its right length and checksum.
fn seal(mut octets: Vec<u8>) -> Vec<u8> {
    octets[1] = u8::try_from(octets.len() / 8 - 1).unwrap_or(u8::MAX);
    octets[4..6].fill(0);
    let sum = checksum(&octets);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    octets
}
