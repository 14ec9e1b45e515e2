//! The target: a host of this stack behind a wire, with applications that answer echo requests.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use shim6_core::cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::dataplane::{Inbound, Observed, Outbound, PAYLOAD_HEADER_LEN, addresses};
use shim6_core::wire::{MAX_MESSAGE, PROTOCOL};
use shim6_core::{ContextId, Dataplane, Endpoint, EndpointConfig, Identity, Instant, LocatorPair};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::faults::Fault;
use crate::conform::Wire;
use crate::conform::packet::{ICMPV6, IPV6_HEADER, icmp, ipv6};

const PREFIXES: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 0xb2, 0, 0, 0, 0, 0),
];
/// How much later forged answers come than right ones.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(40);
/// Echo requests of one host after which there is to be a context.
const PACKETS: u32 = 20;

pub(super) struct Target {
    endpoint: Endpoint,
    dataplane: Dataplane,
    ulid: Ipv6Addr,
    /// Packets without a context.
    seen: HashMap<LocatorPair, u32>,
    fault: Fault,
}

impl Target {
    pub(super) fn new(fault: Fault) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let set = HbaSet::generate(&PREFIXES.map(SubnetPrefix::from), Sec::ZERO, &mut rng).expect("a set");
        let config = EndpointConfig {
            hold: false,
            ..EndpointConfig::default()
        };
        Self {
            ulid: set.addresses()[0],
            endpoint: Endpoint::new(config, Identity::from_hba_set(&set, &mut rng), [7; 32]),
            dataplane: Dataplane::default(),
            seen: HashMap::new(),
            fault,
        }
    }

    pub(super) fn ulid(&self) -> Ipv6Addr {
        self.ulid
    }

    /// Runs it behind a wire, until that is dropped.
    pub(super) fn start(mut self) -> Wire {
        let (wire, mut from_tester, to_tester) = Wire::new();
        tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            let now = |at: tokio::time::Instant| {
                Instant::from_micros(1_000_000 + at.duration_since(begun).as_micros() as u64)
            };
            loop {
                let due = self.endpoint.poll_timeout().map(|at| {
                    let after = at.as_micros().saturating_sub(1_000_000);
                    begun + std::time::Duration::from_micros(after)
                });
                let timer = async {
                    match due {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                let mut out = Vec::new();
                tokio::select! {
                    // Else chance would decide what comes first, and nothing could be seen again.
                    biased;
                    packet = from_tester.recv() => {
                        let Some(packet) = packet else { return };
                        if let Some(forged) = self.fault.forge(&packet) {
                            let to_tester = to_tester.clone();
                            tokio::spawn(async move {
                                tokio::time::sleep(MOMENT).await;
                                drop(to_tester.try_send(forged));
                            });
                        }
                        if let Some(mut packet) = self.fault.inbound(packet) {
                            self.receive(now(tokio::time::Instant::now()), &mut packet, &mut out);
                        }
                    }
                    () = timer => {
                        self.endpoint.handle_timeout(now(tokio::time::Instant::now()));
                        self.drain(&mut out);
                    }
                }
                deliver(self.fault, out, &to_tester);
            }
        });
        wire
    }

    fn receive(&mut self, now: Instant, packet: &mut [u8], out: &mut Vec<Vec<u8>>) {
        let Some((source, destination)) = addresses(packet) else {
            return;
        };
        match self.dataplane.inbound(packet, 0, now) {
            Inbound::Restored { start, flow, wake } => {
                let wake = wake.then_some(flow.context);
                self.wake(now, wake);
                self.answer(now, &packet[start..], out);
            }
            Inbound::NoContext | Inbound::Control { .. } => self.endpoint.handle_packet(now, packet),
            Inbound::NotShim6 => {
                if packet.get(IPV6_HEADER).is_some_and(|kind| *kind < 128) {
                    self.endpoint.handle_packet(now, packet);
                }
                let observed = self.dataplane.observe(source, destination, false, packet.len(), now);
                self.note(now, observed, LocatorPair::new(destination, source));
                self.answer(now, packet, out);
            }
            Inbound::Malformed(_) => {}
        }
        self.drain(out);
    }

    /// Counts what has no context yet.
    fn note(&mut self, now: Instant, observed: Observed, ulids: LocatorPair) {
        match observed {
            Observed::Wake(context) => self.wake(now, Some(context)),
            Observed::Recorded => {}
            Observed::NoContext(_) => {
                let seen = self.seen.entry(ulids).or_default();
                *seen += 1;
                if *seen == PACKETS {
                    // Another end may have been quicker.
                    let _ = self.endpoint.establish(now, ulids);
                }
            }
        }
    }

    /// What the kernel does with an echo request.
    fn answer(&mut self, now: Instant, packet: &[u8], out: &mut Vec<Vec<u8>>) {
        let (Some((peer, local)), Some(&[128, 0, _, _, ref body @ ..])) =
            (addresses(packet), packet.get(IPV6_HEADER..))
        else {
            return;
        };
        if packet[6] != ICMPV6 || local != self.ulid {
            return;
        }
        let on = LocatorPair::new(local, peer);
        let reply = ipv6(on, ICMPV6, &icmp(on, 129, 0, body));
        let mut buffer = [&[0; PAYLOAD_HEADER_LEN][..], &reply].concat();
        let steered = self.dataplane.flow(on).is_some_and(|flow| flow.is_steered());
        if !steered {
            let observed = self.dataplane.observe(local, peer, true, reply.len(), now);
            out.push(reply);
            return self.note(now, observed, on);
        }
        let (start, wake) = match self.dataplane.outbound(&mut buffer, PAYLOAD_HEADER_LEN, now) {
            Outbound::Rewritten { start, flow, wake } => (start, wake.then_some(flow.context)),
            Outbound::Unchanged { flow, wake } => (PAYLOAD_HEADER_LEN, wake.then_some(flow.context)),
            Outbound::NoContext | Outbound::NotPayload | Outbound::Malformed(_) => return,
        };
        out.push(buffer[start..].to_vec());
        self.wake(now, wake);
    }

    fn wake(&mut self, now: Instant, context: Option<ContextId>) {
        if let Some(context) = context {
            self.endpoint.handle_activity(now, context);
        }
    }

    fn drain(&mut self, out: &mut Vec<Vec<u8>>) {
        while let Some(update) = self.endpoint.poll_dataplane() {
            self.dataplane.apply(update);
        }
        let mut buffer = [0; MAX_MESSAGE];
        while let Some(transmit) = self.endpoint.poll_transmit(&mut buffer) {
            let on = LocatorPair::new(transmit.source, transmit.destination);
            out.push(ipv6(on, PROTOCOL, &buffer[..transmit.len]));
        }
        while self.endpoint.poll_deliver(&mut buffer).is_some() {}
        while self.endpoint.poll_event().is_some() {}
    }
}

fn deliver(fault: Fault, out: Vec<Vec<u8>>, to_tester: &mpsc::Sender<Vec<u8>>) {
    for packet in out {
        for (delay, packet) in fault.outbound(packet) {
            let to_tester = to_tester.clone();
            if delay.is_zero() {
                drop(to_tester.try_send(packet));
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    drop(to_tester.try_send(packet));
                });
            }
        }
    }
}
