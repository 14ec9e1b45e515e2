//! Established contexts: REAP's messages, and what it is told of the traffic (RFC 5534).

use core::net::Ipv6Addr;
use core::time::Duration;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use shim6_reap::{Cause, Config as ReapConfig, Event as ReapEvent, Instant, LocatorPair, State as ReapState, Transmit};

use super::{Arrival, Endpoint, Hint};
use crate::config::Profile;
use crate::context::{Association, Failover};
use crate::dataplane::{DataplaneUpdate, Flow, WAKE_ON_RECEIVED, WAKE_ON_SENT};
use crate::event::Event;
use crate::id::ContextId;
use crate::wire::{ContextTag, Discard, Keepalive, Message, Probe};

/// The shortest and longest Send Timeout that is believed when a peer announces it.
const ANNOUNCED_RANGE: core::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(300);

/// The shortest time between two looks at what passed, whatever the configuration says. REAP's timers have the same bound.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// A Send Timeout as announced in I2 and R2: by the Keepalive Timeout option in seconds (RFC 5534 section 5.3), and by our
/// option in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) seconds: Option<u16>,
    pub(super) milliseconds: Option<u32>,
}

impl Announced {
    pub(super) fn new(seconds: Option<u16>, milliseconds: Option<u32>) -> Self {
        Self { seconds, milliseconds }
    }

    /// Whether the message said anything.
    pub(super) fn is_some(self) -> bool {
        self.seconds.is_some() || self.milliseconds.is_some()
    }

    /// What this host announces. A peer that knows only seconds is told the Send Timeout that applies towards it, if that
    /// is not the default. One that knows milliseconds is told the least that it ever is: it grows with the round-trip time,
    /// but an answer that comes in time for the least comes in time for the rest.
    pub(super) fn ours(profile: Profile, config: &ReapConfig) -> Self {
        let default = ReapConfig::rfc().send_timeout;
        let towards_others = config.send_timeout.max(default);
        let seconds = towards_others
            .as_secs()
            .saturating_add(u64::from(towards_others.subsec_nanos() > 0));
        Self {
            seconds: (towards_others != default).then(|| u16::try_from(seconds).unwrap_or(u16::MAX)),
            milliseconds: match profile {
                Profile::Fast => Some(u32::try_from(config.send_timeout.as_millis()).unwrap_or(u32::MAX)),
                Profile::Rfc => None,
            },
        }
    }

    /// The timers towards a peer that announced this: ours where it knows milliseconds, else no faster than the RFC's.
    fn reap_config(self, profile: Profile, ours: &ReapConfig) -> ReapConfig {
        let default = ReapConfig::rfc();
        let clamp = |timeout: Duration| timeout.clamp(*ANNOUNCED_RANGE.start(), *ANNOUNCED_RANGE.end());
        if let (Profile::Fast, Some(milliseconds)) = (profile, self.milliseconds) {
            let keepalive_timeout = clamp(Duration::from_millis(u64::from(milliseconds)));
            return ReapConfig {
                keepalive_timeout,
                // What suits our own Send Timeout may be too slow for the peer's (RFC 5534 section 7: half of it at most).
                keepalive_interval: ours.keepalive_interval.map(|own| own.min(keepalive_timeout / 2)),
                ..*ours
            };
        }
        let seconds = self.seconds.filter(|&seconds| seconds > 0);
        ReapConfig {
            send_timeout: ours.send_timeout.max(default.send_timeout),
            keepalive_timeout: seconds.map_or(default.keepalive_timeout, |s| clamp(Duration::from_secs(s.into()))),
            keepalive_interval: None,
            initial_probe_timeout: ours.initial_probe_timeout.max(default.initial_probe_timeout),
            initial_probes: ours.initial_probes.min(default.initial_probes),
            max_probe_timeout: ours.max_probe_timeout.max(default.max_probe_timeout),
            follow_rtt: false,
        }
    }
}

/// The timers' values of late, to be shared by the contexts whose peers announce the same.
#[derive(Debug, Clone, Default)]
pub(super) struct ReapConfigs(VecDeque<Arc<ReapConfig>>);

impl ReapConfigs {
    /// As many as are kept: peers mostly have one of a few defaults.
    const KEPT: usize = 8;

    fn share(&mut self, config: ReapConfig) -> Arc<ReapConfig> {
        if let Some(shared) = self.0.iter().find(|shared| ***shared == config) {
            return shared.clone();
        }
        let shared = Arc::new(config);
        self.0.push_front(shared.clone());
        self.0.truncate(Self::KEPT);
        shared
    }
}

impl Endpoint {
    /// The timers towards a peer.
    pub(super) fn reap_config(&mut self, ulid: Ipv6Addr, announced: Announced) -> Arc<ReapConfig> {
        let (profile, ours) = self.config.reap_towards(ulid);
        let config = announced.reap_config(profile, ours);
        self.reap_configs.share(config)
    }

    /// Keepalive (RFC 5534 section 6.6).
    pub(super) fn handle_keepalive(&mut self, arrival: Arrival<'_>, keepalive: &Keepalive) -> Result<(), Discard> {
        let now = arrival.now;
        let id = self.addressed_context(arrival, keepalive.receiver_context_tag)?;
        self.repeat_exchange(now, id);
        self.with_reap(now, id, |reap, rng| reap.handle_keepalive(now, rng));
        Ok(())
    }

    /// Probe (RFC 5534 sections 6.7 to 6.9).
    pub(super) fn handle_probe(&mut self, arrival: Arrival<'_>, probe: &Probe) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let id = self.addressed_context(arrival, probe.receiver_context_tag)?;
        self.repeat_exchange(now, id);
        self.with_reap(now, id, |reap, rng| reap.handle_probe(now, on, &probe.report, rng));
        Ok(())
    }

    /// A control message other than Keepalive and Probe was sent on a context: to REAP it is as payload.
    pub(super) fn note_control_sent(&mut self, now: Instant, id: ContextId) {
        self.with_reap(now, id, |reap, _| reap.handle_control_sent(now));
    }

    /// A control message other than Keepalive and Probe was received on a context: to REAP it is as payload.
    pub(super) fn note_control_received(&mut self, now: Instant, id: ContextId) {
        self.with_reap(now, id, |reap, rng| reap.handle_control_received(now, now, rng));
    }

    /// What a transport thinks of the context's path.
    pub(super) fn heed_hint(&mut self, now: Instant, id: ContextId, hint: Hint) {
        self.with_reap(now, id, |reap, rng| match hint {
            Hint::Progress => reap.handle_payload_received(now, now, rng),
            Hint::Stalled => reap.explore(now, Cause::TransportHint, rng),
        });
    }

    /// A local locator came or went.
    pub(super) fn report_locator(&mut self, now: Instant, locator: Ipv6Addr, usable: bool) {
        for id in self.contexts.ids() {
            if !usable {
                self.advise(now, id);
            }
            self.with_reap(now, id, |reap, rng| {
                reap.set_usable(locator, usable);
                if !usable && reap.current_pair().local == locator && reap.state() == ReapState::Operational {
                    reap.explore(now, Cause::LocalHint, rng);
                }
            });
        }
    }

    /// Looks at what passed and whether a timer has run out.
    pub(super) fn look(&mut self, now: Instant, id: ContextId) {
        let Some(association) = self.contexts.get(id).and_then(|context| context.association.as_deref()) else {
            return;
        };
        // Whose probe waits for its turn is not asked for another one.
        let may_act = association.waiting.is_none();
        if may_act && association.reap.poll_timeout().is_some_and(|at| at <= now) {
            self.advise(now, id);
        }
        self.with_reap(now, id, |reap, rng| {
            if may_act && reap.poll_timeout().is_some_and(|at| at <= now) {
                reap.handle_timeout(now, rng);
            }
        });
        self.try_failback(now, id);
    }

    /// Tells a context what others have found out about its pairs.
    fn advise(&mut self, now: Instant, id: ContextId) {
        let experience = &self.experience;
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                let advice = experience.advice(now, association.reap.pairs());
                association.reap.advise(now, advice);
            }
        });
    }

    /// Tells all contexts that look for a pair that this one works.
    fn spread(&mut self, now: Instant, pair: LocatorPair) {
        for id in self.contexts.ids() {
            let association = self.contexts.get(id).and_then(|context| context.association.as_deref());
            let seeks = |association: &Association| {
                association.reap.state() != ReapState::Operational && association.reap.is_usable(pair)
            };
            if association.is_some_and(seeks) {
                self.advise(now, id);
                self.with_reap(now, id, |reap, rng| {
                    if reap.poll_timeout().is_some_and(|at| at <= now) {
                        reap.handle_timeout(now, rng);
                    }
                });
            }
        }
    }

    /// Tells REAP what passed, does something with it, and carries out what it wants.
    pub(super) fn with_reap(
        &mut self,
        now: Instant,
        id: ContextId,
        act: impl FnOnce(&mut shim6_reap::Reap, &mut dyn rand_core::Rng),
    ) {
        let (rng, holds) = (&mut self.rng, self.config.hold);
        let wanted = self.contexts.modify(id, |context| {
            let repetition = context.repetition();
            let association = context.association.as_deref_mut()?;
            let before = association.flow.clone();
            let was_settled = association.reap.state() == ReapState::Operational;
            let mut active = report_activity(association, now, rng);
            act(&mut association.reap, rng);
            let mut wanted = Vec::new();
            association.collect(now, &mut wanted);
            association.leave_if_unwanted(now, rng);
            if watch(association, now, active, repetition) {
                // Something passed between the report and the request to be woken.
                active = report_activity(association, now, rng);
                let missed = watch(association, now, active, repetition);
                association.next_look = missed.then_some(now).or(association.next_look);
            }
            association.collect(now, &mut wanted);
            association.hold(now, holds);
            let is_changed = !Arc::ptr_eq(&before, &association.flow);
            Some((is_changed.then(|| association.flow.clone()), wanted, was_settled))
        });
        let Some((flow, wanted, was_settled)) = wanted.flatten() else {
            return;
        };
        self.updates.extend(flow.map(DataplaneUpdate::Insert));
        let mut confirmed = Vec::new();
        for wanted in wanted {
            if let Wanted::Event(ReapEvent::PairConfirmed { pair }) = &wanted {
                confirmed.push(*pair);
            }
            self.carry_out(now, id, wanted);
        }
        // Only now: what has happened is told before what follows from it.
        for pair in confirmed {
            self.answer_asked(now, id, pair);
            // What a peer reports that is asked at last may be as old as the exploration.
            if was_settled {
                self.take_back(now, pair);
            }
        }
    }

    fn carry_out(&mut self, now: Instant, id: ContextId, wanted: Wanted) {
        match wanted {
            Wanted::Transmit(receiver_context_tag, Transmit::Keepalive { pair }) => {
                self.send(pair, Message::Keepalive(Keepalive { receiver_context_tag }));
            }
            Wanted::Transmit(_, Transmit::Probe { pair, probe }) => self.send_probe(now, id, pair, probe),
            Wanted::Event(ReapEvent::PairConfirmed { pair }) => {
                self.experience.note_answered(pair, self.pair_rtt(id, pair));
                // Whoever is not told now is advised at its own next probe.
                if self.experience.note_confirmed(now, pair) && self.spreads.allow(now) {
                    self.spread(now, pair);
                }
            }
            Wanted::Event(ReapEvent::StateChanged { from, to, cause }) => {
                self.events.push_back(Event::Reachability {
                    context: id,
                    from,
                    to,
                    cause,
                });
            }
            Wanted::Event(ReapEvent::PairChanged { from, to, cause }) => {
                match cause {
                    Cause::Preferred => self.experience.note_taken(now, to),
                    Cause::Requested => {}
                    _ => self.experience.note_failed(now, from, &self.config.failback),
                }
                self.plan_failback(now, id);
                let failover = self
                    .contexts
                    .get(id)
                    .and_then(|context| context.association.as_deref()?.last_failover());
                self.events.push_back(Event::PathChanged {
                    context: id,
                    from,
                    to,
                    cause,
                    took: failover.and_then(|failover| failover.took),
                });
            }
        }
    }
}

/// What REAP wants done.
enum Wanted {
    /// A message to the peer, whose tag for the context this is.
    Transmit(ContextTag, Transmit),
    /// News.
    Event(ReapEvent),
}

impl Association {
    /// Fetches what REAP wants, and follows it.
    fn collect(&mut self, now: Instant, wanted: &mut Vec<Wanted>) {
        while let Some(transmit) = self.reap.poll_transmit() {
            wanted.push(Wanted::Transmit(self.peer_tag, transmit));
        }
        while let Some(event) = self.reap.poll_event() {
            match event {
                ReapEvent::PairChanged { from, to, cause } => self.change_pair(now, from, to, cause),
                // What the probe that waits would say is over.
                ReapEvent::StateChanged {
                    to: ReapState::Operational,
                    ..
                } => (self.waiting, self.disturbed) = (None, None),
                ReapEvent::StateChanged {
                    from: ReapState::Operational,
                    cause,
                    ..
                } => {
                    // The packet that started the Send Timer, ours or the peer's, was the first that got no answer.
                    let silent = match cause {
                        Cause::SendTimeout => self.reap.send_timeout(),
                        Cause::PeerReport => self.reap.peers_send_timeout(),
                        _ => Duration::ZERO,
                    };
                    let since = now.as_micros().saturating_sub(silent.as_micros() as u64);
                    self.disturbed = Some(Instant::from_micros(since));
                }
                ReapEvent::StateChanged { .. } | ReapEvent::PairConfirmed { .. } => {}
            }
            wanted.push(Wanted::Event(event));
        }
    }

    /// Has copies of the packets kept while their path is in doubt, if there are any to be expected.
    fn hold(&mut self, now: Instant, holds: bool) {
        let holding = match self.reap.state() {
            ReapState::Operational => false,
            ReapState::Exploring | ReapState::InboundOk => self.flow.holding || (holds && self.is_busy(now)),
        };
        if self.flow.holding != holding {
            self.flow = Arc::new(Flow {
                holding,
                activity: self.activity.clone(),
                ..*self.flow
            });
        }
    }

    fn change_pair(&mut self, now: Instant, from: LocatorPair, to: LocatorPair, cause: Cause) {
        self.failovers += 1;
        self.unwanted = 0;
        // What was chosen by hand counts until it fails.
        self.pinned &= cause == Cause::Requested;
        self.last_failover = Some(Box::new(Failover {
            at: now,
            cause,
            from,
            to,
            took: self.disturbed.map(|since| now - since),
        }));
        self.flow = Arc::new(Flow {
            locators: to,
            activity: self.activity.clone(),
            ..*self.flow
        });
    }
}

/// Tells REAP what passed since it was last told. True: something did.
fn report_activity(association: &mut Association, now: Instant, rng: &mut dyn rand_core::Rng) -> bool {
    let snapshot = association.activity.take_snapshot();
    let (sent, received) = (snapshot.sent_packets, snapshot.received_packets);
    let before = core::mem::replace(&mut association.reported, (sent, received));
    let (sent, received) = (sent != before.0, received != before.1);
    let reap = &mut association.reap;
    let report_received = |reap: &mut shim6_reap::Reap, rng: &mut dyn rand_core::Rng| {
        let at = snapshot
            .first_unreplied
            .or(snapshot.last_received)
            .unwrap_or(now)
            .min(now);
        reap.handle_payload_received(at, now, rng);
    };
    let report_sent = |reap: &mut shim6_reap::Reap| {
        let at = snapshot.first_unanswered.or(snapshot.last_sent).unwrap_or(now).min(now);
        reap.handle_payload_sent(at);
    };
    let sent_last = match (snapshot.first_unanswered, snapshot.first_unreplied) {
        (Some(_), None) => true,
        (None, Some(_)) => false,
        _ => snapshot.last_sent >= snapshot.last_received,
    };
    match (received, sent) {
        (true, true) if sent_last => {
            report_received(reap, rng);
            report_sent(reap);
        }
        (true, true) => {
            report_sent(reap);
            report_received(reap, rng);
        }
        (true, false) => report_received(reap, rng),
        (false, true) => report_sent(reap),
        (false, false) => {}
    }
    received || sent
}

/// Decides how the next packets are noticed. An operational context with traffic is looked at in steps short enough for a
/// keepalive to be in time; an idle one asks the packet path to wake us, and so does one that waits for its peer. True: a
/// packet passed while we asked. `repetition`: from when on an I2 or I2bis may be repeated.
fn watch(association: &mut Association, now: Instant, active: bool, repetition: Option<Instant>) -> bool {
    let reap = &association.reap;
    let config = reap.config();
    let timers_run = reap.poll_timeout().is_some();
    let (mask, next_look) = match reap.state() {
        ReapState::Operational if active || timers_run => {
            let interval = config.keepalive_interval.unwrap_or(config.keepalive_timeout / 3);
            (0, Some(now + interval.min(config.send_timeout).max(SHORTEST_LOOK)))
        }
        ReapState::Operational => (WAKE_ON_SENT | WAKE_ON_RECEIVED, None),
        ReapState::Exploring => (WAKE_ON_RECEIVED, None),
        ReapState::InboundOk => (0, None),
    };
    // What the peer sends while it has not answered our I2 or I2bis is a reason to repeat that (RFC 5533 section 12.2), once
    // its time has come: nobody is woken for each packet before.
    let (mask, next_look) = match repetition {
        Some(at) if at <= now => (mask | WAKE_ON_RECEIVED, next_look),
        Some(at) => (mask, Some(next_look.map_or(at, |look| look.min(at)))),
        None => (mask, next_look),
    };
    association.next_look = next_look;
    association.activity.request_wake(mask);
    let snapshot = association.activity.snapshot();
    mask != 0 && (snapshot.sent_packets, snapshot.received_packets) != association.reported
}
