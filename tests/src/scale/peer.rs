//! One host with the protocol and an application that sends each datagram back.

use std::net::Ipv6Addr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::dataplane::{Inbound, Observed, Outbound, PAYLOAD_HEADER_LEN, addresses};
use shim6_core::wire::{MAX_MESSAGE, PROTOCOL};
use shim6_core::{
    ContextId, ContextState, Dataplane, Endpoint, EndpointConfig, Identity, Instant, LimitsConfig, LocatorPair,
};

use crate::sim::packet::{UDP, UDP_HEADER_LEN, ipv6, upper_layer};

/// A host with two locators.
#[derive(Debug)]
pub(super) struct Peer {
    endpoint: Endpoint,
    dataplane: Dataplane,
    locators: [Ipv6Addr; 2],
}

impl Peer {
    /// The host of this number, with an address under each of two prefixes. Each has its own set of addresses.
    pub(super) fn new(number: usize, prefixes: [Ipv6Addr; 2]) -> anyhow::Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
        let set = HbaSet::generate(&prefixes.map(SubnetPrefix::from), Sec::ZERO, &mut rng)?;
        let config = EndpointConfig {
            // It has one context, and there are thousands of it.
            limits: LimitsConfig {
                contexts: 4,
                counted_prefixes: 1,
                ..LimitsConfig::default()
            },
            hold: false,
            ..EndpointConfig::default()
        };
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let &[first, second] = set.addresses() else {
            anyhow::bail!("two prefixes do not make two addresses");
        };
        Ok(Self {
            endpoint: Endpoint::new(config, Identity::from_hba_set(&set, &mut rng), seed),
            dataplane: Dataplane::default(),
            locators: [first, second],
        })
    }

    /// Its locators; the first is its ULID.
    pub(super) fn locators(&self) -> [Ipv6Addr; 2] {
        self.locators
    }

    pub(super) fn is_established(&self) -> bool {
        self.endpoint
            .contexts()
            .any(|context| context.state == ContextState::Established)
    }

    /// When it wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    /// The time that it asked for has come.
    pub(super) fn timeout(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        self.endpoint.handle_timeout(now);
        self.drain(send);
    }

    /// A packet from the network.
    pub(super) fn receive(&mut self, now: Instant, packet: &mut [u8], send: &mut dyn FnMut(&[u8])) {
        let Some((source, destination)) = addresses(packet) else {
            return;
        };
        match self.dataplane.inbound(packet, 0, now) {
            Inbound::Restored { start, flow, wake } => {
                let wake = wake.then_some(flow.context);
                self.wake(now, wake);
                self.answer(now, &packet[start..], send);
            }
            Inbound::NoContext | Inbound::Control { .. } => self.endpoint.handle_packet(now, packet),
            Inbound::NotShim6 => {
                let observed = self.dataplane.observe(source, destination, false, packet.len(), now);
                self.wake(now, woken(&observed));
                self.answer(now, packet, send);
            }
            Inbound::Malformed(_) => {}
        }
        self.drain(send);
    }

    /// What its application does with a packet: sends a datagram back.
    fn answer(&mut self, now: Instant, packet: &[u8], send: &mut dyn FnMut(&[u8])) {
        let Some(mut buffer) = echo(packet) else {
            return;
        };
        let Some((local, peer)) = addresses(&buffer[PAYLOAD_HEADER_LEN..]) else {
            return;
        };
        let steered = self
            .dataplane
            .flow(LocatorPair { local, peer })
            .is_some_and(|flow| flow.is_steered());
        let (start, wake) = if steered {
            match self.dataplane.outbound(&mut buffer, PAYLOAD_HEADER_LEN, now) {
                Outbound::Rewritten { start, flow, wake } => (start, wake.then_some(flow.context)),
                Outbound::Unchanged { flow, wake } => (PAYLOAD_HEADER_LEN, wake.then_some(flow.context)),
                Outbound::NoContext | Outbound::NotPayload | Outbound::Malformed(_) => return,
            }
        } else {
            let octets = buffer.len() - PAYLOAD_HEADER_LEN;
            let observed = self.dataplane.observe(local, peer, true, octets, now);
            (PAYLOAD_HEADER_LEN, woken(&observed))
        };
        send(&buffer[start..]);
        self.wake(now, wake);
    }

    fn wake(&mut self, now: Instant, context: Option<ContextId>) {
        if let Some(context) = context {
            self.endpoint.handle_activity(now, context);
        }
    }

    /// In the order that [`Endpoint`] asks for.
    fn drain(&mut self, send: &mut dyn FnMut(&[u8])) {
        while let Some(update) = self.endpoint.poll_dataplane() {
            self.dataplane.apply(update);
        }
        let mut buffer = [0; MAX_MESSAGE];
        while let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) {
            let message = &buffer[..transmit.len];
            send(&ipv6(transmit.source, transmit.destination, PROTOCOL, message));
        }
        // No upper layer heeds them.
        while self.endpoint.poll_deliver(&mut buffer).is_some() {}
        while self.endpoint.poll_event().is_some() {}
    }
}

fn woken(observed: &Observed) -> Option<ContextId> {
    match observed {
        Observed::Wake(context) => Some(*context),
        Observed::Recorded | Observed::NoContext(_) => None,
    }
}

/// The same datagram the other way round, behind room for a payload header; nothing for any other packet. Its checksum stays
/// right, because a sum does not depend on the order.
fn echo(packet: &[u8]) -> Option<Vec<u8>> {
    let (UDP, at) = upper_layer(packet)? else {
        return None;
    };
    let (source, destination) = addresses(packet)?;
    let datagram = packet.get(at..).filter(|datagram| datagram.len() >= UDP_HEADER_LEN)?;
    let mut answer = datagram.to_vec();
    answer[..2].copy_from_slice(&datagram[2..4]);
    answer[2..4].copy_from_slice(&datagram[..2]);
    let packet = ipv6(destination, source, UDP, &answer);
    Some([&[0; PAYLOAD_HEADER_LEN], &packet[..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::packet::upper_checksum;

    const PREFIXES: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0x2001, 0xdb8, 0x1000, 0, 0, 0, 0, 0),
        Ipv6Addr::new(0x2001, 0xdb8, 0x2000, 0, 0, 0, 0, 0),
    ];
    const FROM: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

    fn datagram(to: Ipv6Addr) -> Vec<u8> {
        let mut datagram = vec![0x10, 0x01, 0x20, 0x02, 0, 12, 0, 0, 1, 2, 3, 4];
        let sum = upper_checksum(FROM, to, UDP, &datagram);
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        ipv6(FROM, to, UDP, &datagram)
    }

    #[test]
    fn datagram_is_sent_back_with_a_right_checksum() {
        let mut peer = Peer::new(3, PREFIXES).expect("a host");
        let to = peer.locators()[0];
        let mut sent = Vec::new();
        peer.receive(Instant::EPOCH, &mut datagram(to), &mut |packet| {
            sent.push(packet.to_vec())
        });
        let [answer] = sent.as_slice() else {
            panic!("{sent:?}");
        };
        assert_eq!(addresses(answer), Some((to, FROM)));
        assert_eq!(answer[40..44], [0x20, 0x02, 0x10, 0x01]);
        // With the checksum in place, the sum over all is nothing.
        let mut zeroed = answer[40..].to_vec();
        zeroed[6..8].fill(0);
        assert_eq!(answer[46..48], upper_checksum(to, FROM, UDP, &zeroed).to_be_bytes());
    }

    #[test]
    fn context_is_set_up_with_whoever_asks_for_it() {
        let [mut one, mut other] = [1, 2].map(|number| Peer::new(number, PREFIXES).expect("a host"));
        assert_ne!(one.locators(), other.locators());
        let ulids = LocatorPair::new(one.locators()[0], other.locators()[0]);
        one.endpoint.establish(Instant::EPOCH, ulids).expect("a context");
        let mut to_other = Vec::new();
        one.drain(&mut |packet| to_other.push(packet.to_vec()));
        while let Some(mut packet) = to_other.pop() {
            let mut to_one = Vec::new();
            other.receive(Instant::EPOCH, &mut packet, &mut |packet| to_one.push(packet.to_vec()));
            for mut packet in to_one {
                one.receive(Instant::EPOCH, &mut packet, &mut |packet| {
                    to_other.push(packet.to_vec())
                });
            }
        }
        assert!(one.is_established() && other.is_established());
    }
}
