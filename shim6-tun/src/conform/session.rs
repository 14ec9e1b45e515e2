//! One check's dealings with the target: packets out, packets in, and what is waited for.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use shim6_core::LocatorPair;
use shim6_core::wire::{ContextTag, I1, Message, PROTOCOL};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::host::OwnHost;
use super::packet::{control, describe, ipv6, octets_of, pair};
use super::{Done, LoggedPacket, Stop, Trigger, ms};

/// How long an answer is waited for after each time that it is asked for.
const PATIENCE: [Duration; 3] = [ms(800), ms(1200), ms(2000)];
/// What comes this long after an answer to a later message is no answer to an earlier one.
const GRACE: Duration = ms(120);
/// Between two messages that are to be answered with an Error, of all checks: hosts limit those.
const ERROR_DISTANCE: Duration = ms(260);

/// A packet, and when it came.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) packet: Vec<u8>,
}

impl Arrival {
    /// A control message that is as it should be, with its addresses, ours as `local`.
    pub(super) fn message(&self) -> Option<(LocatorPair, Message)> {
        let message = Message::parse(control(&self.packet)?).ok()?;
        Some((pair(&self.packet)?, message))
    }

    /// The addresses, ours as `local`.
    pub(super) fn pair(&self) -> Option<LocatorPair> {
        pair(&self.packet)
    }
}

/// Lets one after the other ask for an Error.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    next: Mutex<Option<Instant>>,
}

impl Pacer {
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        if let Some(at) = *next {
            tokio::time::sleep_until(at).await;
        }
        *next = Some(Instant::now() + ERROR_DISTANCE);
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) target: Ipv6Addr,
    pub(super) trigger: Trigger,
    pub(super) host: OwnHost,
    rng: ChaCha8Rng,
    outbound: mpsc::UnboundedSender<Vec<u8>>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    /// What came and was not asked for yet.
    unread: VecDeque<Arrival>,
    /// Nonces of I1 that were answered with an R1, and tags of packets that were with an R1bis: these may come twice.
    answered: (Vec<u32>, Vec<ContextTag>),
    pacer: Arc<Pacer>,
    begun: Instant,
    found_at: Instant,
    log: Vec<LoggedPacket>,
}

impl Session {
    pub(super) fn new(
        target: Ipv6Addr,
        trigger: Trigger,
        host: OwnHost,
        rng: ChaCha8Rng,
        (outbound, arrivals): (mpsc::UnboundedSender<Vec<u8>>, mpsc::UnboundedReceiver<Arrival>),
        pacer: Arc<Pacer>,
    ) -> Self {
        Self {
            target,
            trigger,
            host,
            rng,
            outbound,
            arrivals,
            unread: VecDeque::new(),
            answered: (Vec::new(), Vec::new()),
            pacer,
            begun: Instant::now(),
            found_at: Instant::now(),
            log: Vec::new(),
        }
    }

    /// From here on time counts.
    pub(super) fn begin(&mut self) {
        self.begun = Instant::now();
    }

    pub(super) fn into_log(self) -> Vec<LoggedPacket> {
        self.log
    }

    /// The pair of the ULIDs.
    pub(super) fn ulids(&self) -> LocatorPair {
        LocatorPair::new(self.host.ulid(), self.target)
    }

    /// From our other locator to the target's ULID.
    pub(super) fn second(&self) -> Done<LocatorPair> {
        let missing = || {
            Stop::NotApplicable(
                "the tester has one prefix only: it takes an interface with another one, see --interface".to_owned(),
            )
        };
        let local = self.host.second().ok_or_else(missing)?;
        Ok(LocatorPair::new(local, self.target))
    }

    /// From an address that does not belong to this host, as far as the target knows.
    pub(super) fn strange(&self) -> LocatorPair {
        LocatorPair::new(self.host.stranger(), self.target)
    }

    pub(super) fn random(&mut self) -> u32 {
        self.rng.next_u32()
    }

    pub(super) fn tag(&mut self) -> ContextTag {
        ContextTag::from_random_bits(self.rng.next_u64())
    }

    /// Sends octets behind an IPv6 header.
    pub(super) fn send(&mut self, on: LocatorPair, next_header: u8, octets: &[u8]) {
        let packet = ipv6(on, next_header, octets);
        self.log.push(LoggedPacket {
            at: self.begun.elapsed(),
            sent: true,
            octets: packet.clone(),
        });
        // A wire that is gone brings no answers, which is what is reported.
        drop(self.outbound.send(packet));
    }

    /// Sends a control message, or what only looks like one.
    pub(super) fn send_shim6(&mut self, on: LocatorPair, octets: &[u8]) {
        self.send(on, PROTOCOL, octets);
    }

    pub(super) fn send_message(&mut self, on: LocatorPair, message: &Message) {
        self.send_shim6(on, &octets_of(message));
    }

    /// Forgets what has come.
    pub(super) fn forget(&mut self) {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.take(arrival);
        }
        self.unread.clear();
    }

    /// The first packet that is wanted, of those that have come and those that come within this time. The others stay.
    pub(super) async fn find<T>(&mut self, within: Duration, mut want: impl FnMut(&Arrival) -> Option<T>) -> Option<T> {
        let end = Instant::now() + within;
        let mut looked_at = 0;
        loop {
            while let Some(arrival) = self.unread.get(looked_at) {
                if let Some(wanted) = want(arrival) {
                    self.found_at = arrival.at;
                    self.unread.remove(looked_at);
                    return Some(wanted);
                }
                looked_at += 1;
            }
            match timeout_at(end, self.arrivals.recv()).await {
                Ok(Some(arrival)) => self.take(arrival),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// As [`Session::find`], of which the check depends.
    pub(super) async fn expect<T>(
        &mut self,
        what: &str,
        within: Duration,
        want: impl FnMut(&Arrival) -> Option<T>,
    ) -> Done<T> {
        match self.find(within, want).await {
            Some(wanted) => Ok(wanted),
            None => Err(self.missing(what, within)),
        }
    }

    /// Sends a message until it is answered, three times at most.
    pub(super) async fn ask<T>(
        &mut self,
        what: &str,
        on: LocatorPair,
        octets: &[u8],
        mut want: impl FnMut(&Arrival) -> Option<T>,
    ) -> Done<T> {
        for within in PATIENCE {
            self.send_shim6(on, octets);
            if let Some(answer) = self.find(within, &mut want).await {
                return Ok(answer);
            }
        }
        Err(self.missing(what, PATIENCE.iter().sum()))
    }

    /// As [`Session::ask`], for answers that hosts send at some rate only.
    pub(super) async fn ask_slowly<T>(
        &mut self,
        what: &str,
        on: LocatorPair,
        octets: &[u8],
        mut want: impl FnMut(&Arrival) -> Option<T>,
    ) -> Done<T> {
        for within in PATIENCE {
            self.pacer.turn().await;
            self.send_shim6(on, octets);
            if let Some(answer) = self.find(within, &mut want).await {
                return Ok(answer);
            }
        }
        Err(self.missing(what, PATIENCE.iter().sum()))
    }

    /// Nothing of this kind has come, and nothing comes: not before the answer to an I1 that is sent now, and not for a
    /// moment behind it.
    ///
    /// An R1 or R1bis that was wanted before may come again, as it does if its request was sent again.
    pub(super) async fn nothing(&mut self, what: &str, mut unwanted: impl FnMut(&Arrival) -> bool) -> Done {
        self.fence().await?;
        let (nonces, tags) = self.answered.clone();
        let had = |arrival: &Arrival| match arrival.message() {
            Some((_, Message::R1(r1))) => nonces.contains(&r1.initiator_nonce),
            Some((_, Message::R1bis(r1bis))) => tags.contains(&r1bis.packet_context_tag),
            _ => false,
        };
        self.nothing_for(what, GRACE, |arrival| unwanted(arrival) && !had(arrival))
            .await
    }

    /// An R1 with this nonce has come.
    pub(super) fn note_r1(&mut self, nonce: u32) {
        self.answered.0.push(nonce);
    }

    /// An R1bis with this tag has come.
    pub(super) fn note_r1bis(&mut self, tag: ContextTag) {
        self.answered.1.push(tag);
    }

    /// Nothing of this kind has come, or comes within this time.
    pub(super) async fn nothing_for(
        &mut self,
        what: &str,
        time: Duration,
        mut unwanted: impl FnMut(&Arrival) -> bool,
    ) -> Done {
        match self
            .find(time, |arrival| unwanted(arrival).then(|| arrival.clone()))
            .await
        {
            None => Ok(()),
            Some(arrival) => Err(Stop::Fail(format!(
                "{what}: the target sent {}",
                describe(&arrival.packet)
            ))),
        }
    }

    /// An I1 for a context that nobody has, whose answer shows that the target has dealt with what came before.
    async fn fence(&mut self) -> Done {
        let i1 = I1 {
            initiator_context_tag: self.tag(),
            initiator_nonce: self.random(),
            ulid_pair: None,
            forked_instance: Some(self.random() | 1),
        };
        let octets = octets_of(&Message::I1(i1.clone()));
        self.note_r1(i1.initiator_nonce);
        self.ask(
            "R1 to an I1 that shows that the target is still there",
            self.ulids(),
            &octets,
            |arrival| match arrival.message()? {
                (_, Message::R1(r1)) if r1.initiator_nonce == i1.initiator_nonce => Some(()),
                _ => None,
            },
        )
        .await
    }

    /// When the packet came that was found last.
    pub(super) fn found_at(&self) -> Instant {
        self.found_at
    }

    /// Lets time pass.
    pub(super) async fn wait(&mut self, time: Duration) {
        sleep(time).await;
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.take(arrival);
        }
    }

    /// All that has come and was not asked for.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Arrival> {
        self.unread.iter()
    }

    fn take(&mut self, arrival: Arrival) {
        self.log.push(LoggedPacket {
            at: arrival.at.saturating_duration_since(self.begun),
            sent: false,
            octets: arrival.packet.clone(),
        });
        self.unread.push_back(arrival);
    }

    fn missing(&self, what: &str, within: Duration) -> Stop {
        let mut came: Vec<_> = self.unread.iter().map(|arrival| describe(&arrival.packet)).collect();
        came.dedup();
        let came = match came.as_slice() {
            [] => "nothing came".to_owned(),
            came => format!("what came: {}", came.join(", ")),
        };
        Stop::Fail(format!("no {what} within {:.1} s; {came}", within.as_secs_f64()))
    }
}
