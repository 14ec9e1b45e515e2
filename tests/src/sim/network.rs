//! Packets on their way: from a host to the network, through it, and into a host.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shim6_core::dataplane::addresses;
use shim6_core::{CloseReason, Event, LocatorPair};

use super::host::Outputs;
use super::invariants::{Change, Delivery, Invariant, Violation};
use super::link::{Arrival, Fate};
use super::packet::{datagram, refusal};
use super::pool::nobody;
use super::scenario::Sabotage;
use super::trace::{Origin, What};
use super::world::{Due, World};

/// How long a packet of a router or the adversary is on its way.
const SHORT_WAY: Duration = Duration::from_millis(5);
/// The routers' address.
const ROUTER: u16 = 0xff;

/// What a [filter](World::set_filter) wants done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What its path does.
    Pass,
    /// It is lost.
    Lose,
    /// It arrives after this time.
    Delay(Duration),
}

/// A look at each packet that a host sends, before its path has its way with it.
pub(super) struct Filter(Box<FilterFn>);

type FilterFn = dyn FnMut(usize, &[u8]) -> Verdict + Send;

/// A packet on its way.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    octets: Arc<[u8]>,
    origin: Origin,
    damaged: bool,
}

impl World {
    /// Has a look at each packet that hosts send from now on; it is given the host's number and the packet.
    pub fn set_filter(&mut self, filter: impl FnMut(usize, &[u8]) -> Verdict + Send + 'static) {
        self.filter = Some(Filter(Box::new(filter)));
    }

    /// All packets pass again.
    pub fn clear_filter(&mut self) {
        self.filter = None;
    }

    /// Puts a packet on the network that no host sends; it goes to its destination on no host's path.
    pub fn inject(&mut self, origin: Origin, packet: Vec<u8>) {
        let octets: Arc<[u8]> = packet.into();
        self.trace.push(self.now, What::Sent(origin, octets.clone()));
        let packet = InFlight {
            octets,
            origin,
            damaged: false,
        };
        self.enqueue(self.now + SHORT_WAY, Due::Packet(packet));
    }

    /// From now on the adversary neither sees nor sends anything.
    pub fn dismiss_adversary(&mut self) {
        self.adversary = None;
    }

    pub(super) fn adversary_strikes(&mut self) {
        let Some(adversary) = &mut self.adversary else { return };
        let (packets, interval) = (adversary.strike(), adversary.plan().interval);
        for (origin, packet) in packets {
            self.inject(origin, packet);
        }
        self.enqueue(self.now + interval, Due::Adversary);
    }

    /// Takes what came of an input to a host: sends it, delivers it, and checks the host. `trigger` is the packet that the
    /// input was.
    pub(super) fn finish(
        &mut self,
        host: usize,
        outputs: Outputs,
        trigger: Option<&InFlight>,
    ) -> Result<(), Violation> {
        self.check_replies(host, &outputs, trigger)?;
        for (ulids, packet) in outputs.replayed {
            self.last_payload.insert((host, ulids), self.now);
            self.launch_payload(host, ulids, packet)?;
        }
        for event in outputs.events {
            self.check_teardown(host, &event)?;
            let change = self.change_of(host, &event);
            self.trace.push(self.now, What::Said(host, event));
            change.map_or(Ok(()), |change| self.paths.note_change(change))?;
        }
        for packet in outputs.packets {
            self.launch(host, packet);
        }
        for packet in outputs.delivered {
            self.deliver(host, &packet, trigger)?;
        }
        self.check_host(host)
    }

    fn change_of(&self, host: usize, event: &Event) -> Option<Change> {
        let &Event::PathChanged {
            context,
            from,
            to,
            cause,
            took: _,
        } = event
        else {
            return None;
        };
        let (from, to) = match self.hosts[host].plan().sabotage {
            Some(Sabotage::Backwards) => (to, from),
            _ => (from, to),
        };
        Some(Change {
            at: self.now,
            host,
            context,
            from,
            to,
            cause,
        })
    }

    /// A context that is torn down for quiescence was quiet for as long as its host's plan says.
    fn check_teardown(&self, host: usize, event: &Event) -> Result<(), Violation> {
        let &Event::Closed {
            ulids,
            reason: CloseReason::Quiescent,
            ..
        } = event
        else {
            return Ok(());
        };
        // Payload of an instance is not told from that of another here.
        let mut sessions = (0..).zip(&self.scenario.sessions);
        let is_forked = sessions.any(|(index, session)| {
            session.instance != 0 && [false, true].iter().any(|&reverse| self.ulids(index, reverse) == ulids)
        });
        let quiet = self.last_payload.get(&(host, ulids)).map(|&last| self.now - last);
        let bound = self.hosts[host].plan().config.quiescence;
        match quiet.filter(|&quiet| quiet < bound && !is_forked) {
            None => Ok(()),
            Some(quiet) => {
                let what = format!("h{host} tears {ulids} down {quiet:?} after its last payload, not after {bound:?}");
                Err(Violation::new(Invariant::Quiescence, what))
            }
        }
    }

    fn check_replies(&mut self, host: usize, outputs: &Outputs, trigger: Option<&InFlight>) -> Result<(), Violation> {
        let spoofed = trigger.filter(|packet| matches!(packet.origin, Origin::Forged | Origin::Replayed));
        let owners = &self.owners;
        match spoofed {
            Some(packet) => {
                let limits = &self.hosts[host].plan().config.limits;
                let trigger = (packet.origin, &packet.octets[..]);
                let is_host = |address| owners.contains_key(&address);
                self.replies[host].check_reply(self.now, trigger, &outputs.packets, limits, is_host)
            }
            None => (outputs.packets.iter()).try_for_each(|packet| self.replies[host].check_unasked(packet)),
        }
    }

    /// A host's application sends a datagram of an instance.
    fn send_payload(
        &mut self,
        host: usize,
        (ulids, instance): (LocatorPair, u32),
        packet: &[u8],
    ) -> Result<(), Violation> {
        self.last_payload.insert((host, ulids), self.now);
        let mut outputs = self.hosts[host].send(self.now, instance, packet);
        if let Some(payload) = outputs.payload.take() {
            self.launch_payload(host, ulids, payload)?;
        }
        self.finish(host, outputs, None)
    }

    fn launch_payload(&mut self, host: usize, ulids: LocatorPair, packet: Vec<u8>) -> Result<(), Violation> {
        let host_of = |address| self.owners.get(&address).map(|locator| locator.host);
        let belongs = |one, other| host_of(one).is_some() && host_of(one) == host_of(other);
        self.proofs.check(host, ulids, &packet, belongs)?;
        self.launch(host, packet);
        Ok(())
    }

    fn launch(&mut self, host: usize, packet: Vec<u8>) {
        let octets: Arc<[u8]> = packet.into();
        let origin = Origin::Host(host);
        self.trace.push(self.now, What::Sent(origin, octets.clone()));
        self.proofs.note_sent(host, &octets);
        if let Some(adversary) = &mut self.adversary {
            adversary.watch(&octets);
        }
        let Some((source, destination)) = addresses(&octets) else {
            return;
        };
        let verdict = match &mut self.filter {
            Some(Filter(filter)) => filter(host, &octets),
            None => Verdict::Pass,
        };
        let fate = match verdict {
            Verdict::Lose => Fate::Lost,
            Verdict::Delay(delay) => Fate::Arrives(Arrival { delay, flipped: None }, None),
            Verdict::Pass if !self.hosts[host].is_up(source) => Fate::Lost,
            Verdict::Pass => self
                .links
                .get(source, destination)
                .fate(octets.len(), &mut self.network),
        };
        match fate {
            Fate::Lost => self.trace.push(self.now, What::Lost),
            Fate::Refused(reason) => {
                self.trace.push(self.now, What::Lost);
                if let Some(answer) = refusal(nobody(ROUTER), reason, &octets) {
                    self.inject(Origin::Router, answer);
                }
            }
            Fate::Arrives(first, second) => {
                self.will_arrive(&octets, origin, first);
                if let Some(second) = second {
                    self.trace.push(self.now, What::Duplicated);
                    self.will_arrive(&octets, origin, second);
                }
            }
        }
    }

    fn will_arrive(&mut self, octets: &Arc<[u8]>, origin: Origin, arrival: Arrival) {
        let octets = match arrival.flipped {
            None => octets.clone(),
            Some(bit) => {
                let mut octets = octets.to_vec();
                octets[bit / 8] ^= 1 << (bit % 8);
                octets.into()
            }
        };
        let packet = InFlight {
            octets,
            origin,
            damaged: arrival.flipped.is_some(),
        };
        self.enqueue(self.now + arrival.delay, Due::Packet(packet));
    }

    pub(super) fn arrive(&mut self, packet: InFlight) -> Result<(), Violation> {
        let Some((_, destination)) = addresses(&packet.octets) else {
            return Ok(());
        };
        // What is sent to a locator that nobody has is lost.
        let Some(host) = self.owners.get(&destination).map(|locator| locator.host) else {
            return Ok(());
        };
        if !self.hosts[host].is_up(destination) {
            return Ok(());
        }
        self.trace.push(self.now, What::Arrived(host, packet.octets.clone()));
        self.proofs.note_received(host, &packet.octets);
        let outputs = self.hosts[host].receive(self.now, packet.octets.to_vec());
        self.finish(host, outputs, Some(&packet))
    }

    /// A host's upper layers get a packet.
    fn deliver(&mut self, host: usize, packet: &[u8], trigger: Option<&InFlight>) -> Result<(), Violation> {
        let trust = trigger.map_or((Origin::Host(host), false), |packet| (packet.origin, packet.damaged));
        let receiver = match self.hosts[host].plan().sabotage {
            Some(Sabotage::WrongHost) => 0,
            _ => host,
        };

        let delivery = self.ledger.deliver(self.now, receiver, packet, trust)?;
        if let Delivery::Datagram { number, port, first } = delivery {
            self.trace.push(self.now, What::Delivered(host, number));
            let ulids = self.ledger.datagrams()[number as usize].ulids.seen_by_peer();
            self.last_payload.insert((host, ulids), self.now);
            if first && port == super::traffic::WANTS_REPLY {
                return self.reply(number);
            }
        }
        Ok(())
    }

    /// Sends a datagram of a session, which the ledger gives a number.
    pub(super) fn send_datagram(&mut self, session: usize, reverse: bool, port: u16) -> Result<(), Violation> {
        let (host, ulids) = (self.end_of(session, reverse), self.ulids(session, reverse));
        let (octets, dressing) = self.draw_shape(session);
        let number = self.ledger.next_number();
        let packet: Arc<[u8]> = datagram(ulids, port, number, octets, dressing).into();
        self.ledger.note_sent(super::invariants::SentDatagram {
            session,
            reverse,
            to: self.end_of(session, !reverse),
            ulids,
            at: self.now,
            packet: packet.clone(),
            arrived: None,
            arrivals: 0,
        });
        let instance = self.scenario.sessions[session].instance;
        self.send_payload(host, (ulids, instance), &packet)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}
