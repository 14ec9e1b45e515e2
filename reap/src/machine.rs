//! The machine itself: takes inputs, asks the table, and queues what follows.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use rand_core::Rng;

use crate::explore::{Explorer, Place, Turn};
use crate::history::{History, Purpose, Reported};
use crate::pace::Pace;
use crate::table::{Input, Message, rule};
use crate::time::micros;
use crate::timers::{Due, Timers};
use crate::{Advice, Cause, Config, Event, Instant, LocatorPair, Probe, ProbeRecord, ProbeState, Rtt, State, Transmit};

/// What the data of a test's record say: this probe is a test. Of others they are a time.
const TEST: u32 = u32::MAX;

/// The most outputs of a kind that wait for a caller who does not fetch them; the oldest go first.
const MAX_QUEUED: usize = 16;

/// Failure detection and locator pair exploration for one context (RFC 5534).
///
/// The crate's documentation says in which order to call what. Nothing here refers to the peer's claims before the peer
/// has proved them: only a pair that we probed ourselves, and whose nonce the peer returned, can become the current one.
#[derive(Clone, Debug)]
pub struct Reap {
    config: Arc<Config>,
    state: State,
    current: LocatorPair,
    /// Of the current pair.
    rtt: Option<Rtt>,
    timers: Timers,
    explorer: Explorer,
    /// None where no probe came or went since the last exploration began.
    history: Option<Box<History>>,
    /// The latest time seen. Time never runs backwards from here on.
    clock: Instant,
    /// When the present state was entered.
    entered: Instant,
    /// None where there are none: the caller fetches them after each call.
    queues: Option<Box<Queues>>,
}

/// What waits for the caller.
#[derive(Clone, Debug, Default)]
struct Queues {
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Reap {
    /// A machine in [`State::Operational`] whose payload uses `current`. `pairs` are those that may be explored, the most
    /// preferred first; a pair that comes twice counts once. Machines with the same configuration can share it.
    pub fn new(config: impl Into<Arc<Config>>, pairs: Vec<LocatorPair>, current: LocatorPair) -> Self {
        Self {
            config: config.into(),
            state: State::Operational,
            current,
            rtt: None,
            timers: Timers::new(),
            explorer: Explorer::new(pairs),
            history: None,
            clock: Instant::EPOCH,
            entered: Instant::EPOCH,
            queues: None,
        }
    }

    /// The state (RFC 5534 6).
    pub fn state(&self) -> State {
        self.state
    }

    /// The pair that payload is to be sent on, also while another one is being looked for (RFC 5534 3.5, 6.9).
    pub fn current_pair(&self) -> LocatorPair {
        self.current
    }

    /// The pairs that may be explored, the most preferred first.
    pub fn pairs(&self) -> &[LocatorPair] {
        self.explorer.pairs()
    }

    /// Whether `pair` is one of the pairs and its local address has not been declared unusable.
    pub fn is_usable(&self, pair: LocatorPair) -> bool {
        self.explorer.is_usable(pair)
    }

    /// The timers' values.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The round-trip time, if there was a sample of it since the current pair was taken into use.
    pub fn rtt(&self) -> Option<Rtt> {
        self.rtt
    }

    /// The round-trip time on `pair`: [`Reap::rtt`] on the current one, else by the latest sample there that is remembered.
    pub fn pair_rtt(&self, pair: LocatorPair) -> Option<Rtt> {
        let own = self.rtt.filter(|_| pair == self.current);
        own.or_else(|| self.history.as_ref()?.rtt(pair))
    }

    /// How long a sent packet may stay without any answer now: the configured value, or what it has grown to.
    pub fn send_timeout(&self) -> Duration {
        self.pace().send_timeout()
    }

    /// How long the peer lets a packet go unanswered now, as far as can be told from here.
    pub fn peers_send_timeout(&self) -> Duration {
        self.pace().peers_send_timeout()
    }

    /// A payload packet was sent at `at`, which may be some time ago (RFC 5534 6.2).
    pub fn handle_payload_sent(&mut self, at: Instant) {
        self.advance(at);
        self.timers.note_sent(at);
        self.timers.apply(&rule(self.state, Input::PayloadSent), at);
    }

    /// A payload packet was received at `at`, which may be some time before `now` (RFC 5534 6.1).
    pub fn handle_payload_received(&mut self, at: Instant, now: Instant, rng: &mut dyn Rng) {
        let now = self.advance(now);
        let at = at.min(now);
        self.timers.note_received(at);
        if self.state == State::Exploring {
            // What came before we began to explore says nothing about now.
            if at >= self.entered {
                self.step(Input::PayloadReceived, now, rng);
            }
        } else {
            self.timers.apply(&rule(self.state, Input::PayloadReceived), at);
        }
    }

    /// A Shim6 control message other than Keepalive and Probe was sent: the same as payload (RFC 5534 6.2).
    ///
    /// Sending a Keepalive or a Probe is *not* to be reported here, although 6.2 does not except them as 6.1 does: a
    /// keepalive would stop the very timer that sends it.
    pub fn handle_control_sent(&mut self, at: Instant) {
        self.handle_payload_sent(at);
    }

    /// A Shim6 control message other than Keepalive and Probe was received: the same as payload (RFC 5534 6.1).
    pub fn handle_control_received(&mut self, at: Instant, now: Instant, rng: &mut dyn Rng) {
        self.handle_payload_received(at, now, rng);
    }

    /// A Keepalive was received (RFC 5534 6.6).
    pub fn handle_keepalive(&mut self, now: Instant, rng: &mut dyn Rng) {
        let now = self.advance(now);
        self.step(Input::Keepalive, now, rng);
    }

    /// A Probe was received (RFC 5534 6.7 to 6.9). `on` is the pair that it arrived on as we see it: its destination is
    /// our local address. One without any sent record, which no peer can send, is ignored.
    pub fn handle_probe(&mut self, now: Instant, on: LocatorPair, probe: &Probe, rng: &mut dyn Rng) {
        let now = self.advance(now);
        let Some(&record) = probe.sent.first() else {
            return;
        };
        let history = self.history.as_mut();
        // Only a peer that follows the round-trip time, too, means by the data how long the report has waited.
        let waited = (self.config.follow_rtt).then(|| Duration::from_micros(record.data.into()));
        let reported = history.map_or_else(Reported::default, |history| {
            history.acknowledge(&probe.received, now, waited)
        });
        let rule = rule(self.state, self.input(probe, &reported));
        // While all is well, only the probe that this one answers says how things are now: that an earlier one had arrived, too,
        // may be news, but old news.
        let latest = probe.received.first().map(ProbeRecord::sender_pair);
        for &pair in &reported.confirmed {
            if self.state != State::Operational || latest == Some(pair) {
                self.announce(Event::PairConfirmed { pair });
            }
        }
        let before = self.current;
        let becomes_operational = rule.goto == Some(State::Operational);
        if becomes_operational || rule.message == Some(Message::Probe(ProbeState::Operational)) {
            self.choose_pair(&reported.pairs);
        }
        if let Some((_, sample)) = reported
            .sample
            .filter(|&(pair, _)| pair == before && pair == self.current)
        {
            self.note_rtt(sample);
        }
        if let Some(to) = rule.goto {
            self.enter(to, now, Cause::PeerReport);
        }
        // To report a probe is to vouch for its addresses, so they must be those that it came with.
        if record.sender_pair() == on.seen_by_peer() {
            self.history.get_or_insert_default().note_received(record, now);
        }
        self.timers.apply(&rule, now);
        self.send(rule.message, Turn::Reply(Some(on)), now, rng);
    }

    /// Time has come to `now`: does everything that is due (RFC 5534 6.3 to 6.5).
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut dyn Rng) {
        let now = self.advance(now);
        match self.timers.expire(now, Pace::new(&self.config, self.rtt)) {
            Some(Due::Keepalive) => self.send(Some(Message::Keepalive), Turn::Timer, now, rng),
            Some(Due::KeepaliveTimeout) => self.step(Input::KeepaliveTimeout, now, rng),
            Some(Due::SendTimeout) => self.step(Input::SendTimeout, now, rng),
            None => {}
        }
        self.probe_if_due(now, rng);
    }

    /// Starts exploring because of `cause`. While exploring already, only hastens the next probe, and never beyond the
    /// initial spacing, so that repeated hints make no burst.
    ///
    /// The pairs are tried in order of preference, but for the current one: [`Cause::LocalHint`] says that it is gone, and
    /// puts it last. [`Cause::Requested`], [`Cause::IcmpError`], [`Cause::TransportHint`] and [`Cause::Preferred`] put it
    /// first: if it works, the peer reports it, and it stays.
    pub fn explore(&mut self, now: Instant, cause: Cause, rng: &mut dyn Rng) {
        let now = self.advance(now);
        if self.state == State::Operational {
            self.step_because(Input::Hint, cause, now, rng);
        } else {
            self.explorer.hasten(Pace::new(&self.config, self.rtt));
            self.probe_if_due(now, rng);
        }
    }

    /// Takes what is known of pairs from elsewhere, in place of what was known before: in what order to try them. While
    /// exploring, a pair said to work that was not tried yet makes the next probe due now. Advice never decides: a pair
    /// has to be confirmed by the peer all the same.
    ///
    /// It counts until the exploration under way is over, else for the one that begins next, if that is within
    /// [`Config::max_probe_timeout`].
    pub fn advise(&mut self, now: Instant, advice: Advice) {
        let now = self.advance(now);
        self.explorer.advise(advice, self.state.into(), now);
    }

    /// Takes a round-trip time of the current pair that was measured elsewhere: the handshake's.
    pub fn note_rtt(&mut self, sample: Duration) {
        self.rtt = Some(
            self.rtt
                .map_or_else(|| Rtt::first(sample), |rtt| rtt.with_sample(sample)),
        );
    }

    /// Tests `pair` while all is well: sends one probe on it that the peer answers without any change to its state or
    /// its pair, and to ours (RFC 5534 6.8, 6.9). If what we send there arrives, [`Event::PairConfirmed`] says so.
    ///
    /// Gives false, and does nothing, unless the state is [`State::Operational`] and the pair usable, and within four
    /// Send Timeouts of the last test (the longer one of both hosts): each test counts as a sign of life at both ends, so
    /// that tests without pause would hide that the current pair has failed. Keepalives follow it for one Send Timeout, and
    /// a packet that gets no answer then needs another one to be noticed; what is left is for the pauses between packets.
    ///
    /// For the peer this starts the wait for a packet of ours. So keepalives are sent on the current pair, as if payload
    /// had been received, unless we send payload.
    pub fn probe_quietly(&mut self, now: Instant, pair: LocatorPair, rng: &mut dyn Rng) -> bool {
        let now = self.advance(now);
        let is_early = self.next_test().is_some_and(|next| now < next);
        if self.state != State::Operational || !self.is_usable(pair) || is_early {
            return false;
        }
        self.timers.expect_reply(now);
        let record = self.note_sent(pair, Purpose::Test, rng);
        let probe = Probe {
            state: ProbeState::InboundOk,
            sent: Vec::from([record]),
            received: Vec::new(),
        };
        self.transmit(Transmit::Probe { pair, probe });
        true
    }

    /// The least time between two tests by [`Reap::probe_quietly`].
    pub fn test_interval(&self) -> Duration {
        self.send_timeout().max(self.peers_send_timeout()).saturating_mul(4)
    }

    /// When the next test may be sent; `None`: at once.
    pub fn next_test(&self) -> Option<Instant> {
        let last = self.history.as_ref()?.last_test()?;
        Some(last + self.test_interval())
    }

    /// The probe that was given out last has left only now: the caller had to let others go first. Round-trip times,
    /// the Send Timeout and the time to the next probe count from now.
    pub fn note_probe_left(&mut self, now: Instant, probe: &mut Probe) {
        let now = self.advance(now);
        if let Some(history) = &mut self.history {
            history.note_left(now, probe);
        }
        self.explorer.note_left(now);
        self.timers.note_left(now);
    }

    /// Makes `pair` the current one without an exploration. Gives false, and does nothing, unless the state is
    /// [`State::Operational`] and the pair another usable one.
    ///
    /// The caller vouches that it works: by a recent [`Event::PairConfirmed`], of this machine or of another one for the
    /// same two hosts.
    pub fn switch_to(&mut self, now: Instant, pair: LocatorPair, cause: Cause) -> bool {
        self.advance(now);
        if self.state != State::Operational || pair == self.current || !self.is_usable(pair) {
            return false;
        }
        self.change_pair(pair, cause);
        // A peer that does not hear our answer goes on reporting the probes that brought us to the pair before.
        if let Some(history) = &mut self.history {
            history.note_switch();
        }
        true
    }

    /// Says whether the local address `local` is locally operational (RFC 5534 3.2): pairs with one that is not are
    /// skipped. Whether to leave the current pair is for [`Reap::explore`].
    pub fn set_usable(&mut self, local: Ipv6Addr, usable: bool) {
        if self.explorer.set_usable(local, usable) {
            self.explorer.hasten(Pace::new(&self.config, self.rtt));
        }
    }

    /// Replaces the pairs that may be explored, the most preferred first. How many there are is for the caller to bound.
    /// The current pair stays, even when it is no longer among them, until another one is confirmed.
    pub fn set_pairs(&mut self, pairs: Vec<LocatorPair>) {
        if self.explorer.set_pairs(pairs) {
            self.explorer.hasten(Pace::new(&self.config, self.rtt));
        }
    }

    /// Sets how long the peer lets a packet go unanswered: its Keepalive Timeout option (RFC 5534 5.3).
    pub fn set_keepalive_timeout(&mut self, timeout: Duration) {
        if self.config.keepalive_timeout != timeout {
            Arc::make_mut(&mut self.config).keepalive_timeout = timeout;
        }
    }

    /// Replaces the timers' values; timers that run follow, the probe that is due next stays where it is.
    pub fn set_config(&mut self, config: impl Into<Arc<Config>>) {
        self.config = config.into();
    }

    /// The next message to send, if any.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.queues.as_mut()?.transmits.pop_front();
        self.drop_empty_queues();
        transmit
    }

    /// The next event, if any.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.queues.as_mut()?.events.pop_front();
        self.drop_empty_queues();
        event
    }

    /// When to call [`Reap::handle_timeout`], if ever. May lie in the past: then at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = self.timers.deadline(self.pace());
        timers.into_iter().chain(self.explorer.deadline()).min()
    }

    #[cfg(test)]
    pub(crate) fn running(&self) -> crate::timers::Running {
        self.timers.running()
    }

    fn pace(&self) -> Pace<'_> {
        Pace::new(&self.config, self.rtt)
    }

    /// What a probe of the peer is to our state machine.
    ///
    /// A peer that is Operational and reports probes, but none of this exploration, answers one from before it, or a test. It
    /// could not know, and does not mean that it hears us on the current pair: that is no more than a sign of life, or answers
    /// that are long on their way would end each exploration before its own come (RFC 5534 6.9). And a test of the peer's does
    /// not say that it hears us, as its state would.
    fn input(&self, probe: &Probe, reported: &Reported) -> Input {
        if self.state == State::Operational {
            return Input::Probe(probe.state);
        }
        let is_old = reported.pairs.is_empty() && !probe.received.is_empty();
        let is_test = probe.sent.first().is_some_and(|record| record.data == TEST);
        match probe.state {
            ProbeState::Operational if is_old => Input::Keepalive,
            ProbeState::InboundOk if is_test => Input::Probe(ProbeState::Exploring),
            state => Input::Probe(state),
        }
    }

    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn probe_if_due(&mut self, now: Instant, rng: &mut dyn Rng) {
        if self.explorer.deadline().is_some_and(|due| due <= now) {
            let rule = rule(self.state, Input::Retransmission);
            self.timers.apply(&rule, now);
            self.send(rule.message, Turn::Timer, now, rng);
        }
    }

    fn step(&mut self, input: Input, now: Instant, rng: &mut dyn Rng) {
        let cause = if input == Input::SendTimeout {
            Cause::SendTimeout
        } else {
            Cause::PeerReport
        };
        self.step_because(input, cause, now, rng);
    }

    fn step_because(&mut self, input: Input, cause: Cause, now: Instant, rng: &mut dyn Rng) {
        let rule = rule(self.state, input);
        if let Some(to) = rule.goto {
            self.enter(to, now, cause);
        }
        self.timers.apply(&rule, now);
        self.send(rule.message, Turn::Reply(None), now, rng);
    }

    fn enter(&mut self, to: State, now: Instant, cause: Cause) {
        let from = core::mem::replace(&mut self.state, to);
        match (from, to) {
            (State::Operational, State::Exploring | State::InboundOk) => {
                self.history.take_if(|history| !history.begin_exploration());
                let pace = Pace::new(&self.config, self.rtt);
                let place = self.place_of_current(cause);
                self.explorer.begin(cause, place, now, pace);
            }
            (State::Exploring, State::InboundOk) => self.explorer.restart_backoff(),
            (State::InboundOk, State::Exploring) => {
                // The records are those since the last transition to Exploring (RFC 5534 5.2).
                if let Some(history) = &mut self.history {
                    history.forget_received();
                }
            }
            (State::Exploring | State::InboundOk, State::Operational) => self.explorer.end(),
            (State::Operational, State::Operational)
            | (State::Exploring, State::Exploring)
            | (State::InboundOk, State::InboundOk) => return,
        }
        if to == State::Exploring {
            self.timers.clear(now);
        }
        self.entered = now;
        self.announce(Event::StateChanged { from, to, cause });
    }

    /// Where the current pair comes in an exploration because of `cause`.
    fn place_of_current(&self, cause: Cause) -> Place {
        match cause {
            // A Send Timeout that knows nothing of the path may just be too short for it.
            Cause::SendTimeout if self.config.follow_rtt && self.rtt.is_none() => Place::First(self.current),
            Cause::SendTimeout | Cause::PeerReport | Cause::LocalHint => Place::Last(self.current),
            Cause::IcmpError | Cause::Requested | Cause::TransportHint | Cause::Preferred => Place::First(self.current),
        }
    }

    /// Chooses the current pair by the probes that the peer reports, the latest sent first (RFC 5534 6.8).
    ///
    /// The current pair stays if a probe on it was reported since the exploration began, as in the RFC's Example 5.
    /// Otherwise a host whose probes on several pairs all get through would switch with each report that comes in, and
    /// end on the one it likes least. Probes from before a switch without an exploration are not among the reported.
    fn choose_pair(&mut self, reported: &[LocatorPair]) {
        let usable = |pair: &&LocatorPair| self.explorer.is_usable(**pair);
        let Some(&to) = reported.iter().find(usable) else {
            return;
        };
        let is_confirmed = |history: &History| history.is_confirmed(self.current);
        if self.is_usable(self.current) && self.history.as_deref().is_some_and(is_confirmed) {
            return;
        }
        self.change_pair(to, self.explorer.cause());
    }

    /// Another pair is another path: the round-trip time of the old one says nothing about it.
    fn change_pair(&mut self, to: LocatorPair, cause: Cause) {
        let from = core::mem::replace(&mut self.current, to);
        self.rtt = self.history.as_ref().and_then(|history| history.rtt(to));
        self.announce(Event::PairChanged { from, to, cause });
    }

    fn send(&mut self, message: Option<Message>, turn: Turn, now: Instant, rng: &mut dyn Rng) {
        match message {
            None => {}
            Some(Message::Keepalive) => self.transmit(Transmit::Keepalive { pair: self.current }),
            Some(Message::Probe(ProbeState::Operational)) => {
                // The peer has either confirmed this pair or heard our payload on it; the way that its probe came is
                // only known to work in the other direction.
                let pair = match turn {
                    Turn::Reply(Some(on)) if !self.is_usable(self.current) && self.is_usable(on) => on,
                    _ => self.current,
                };
                self.send_probe(ProbeState::Operational, pair, rng);
            }
            Some(Message::Probe(state)) => {
                if let Some(pair) = self
                    .explorer
                    .probe(state, turn, now, Pace::new(&self.config, self.rtt), rng)
                {
                    self.send_probe(state, pair, rng);
                }
            }
        }
    }

    fn send_probe(&mut self, state: ProbeState, pair: LocatorPair, rng: &mut dyn Rng) {
        self.note_sent(pair, Purpose::of(state), rng);
        let history = self.history.get_or_insert_default();
        let probe = Probe {
            state,
            sent: history.sent_records(),
            received: history.received_records(),
        };
        self.transmit(Transmit::Probe { pair, probe });
    }

    fn note_sent(&mut self, pair: LocatorPair, purpose: Purpose, rng: &mut dyn Rng) -> ProbeRecord {
        let history = self.history.get_or_insert_default();
        let waited = u32::try_from(micros(history.waited(self.clock))).unwrap_or(u32::MAX);
        let record = ProbeRecord {
            source: pair.local,
            destination: pair.peer,
            nonce: rng.next_u32(),
            data: if purpose == Purpose::Test {
                TEST
            } else {
                waited.min(TEST - 1)
            },
        };
        history.note_sent(record, purpose, self.clock);
        record
    }

    fn transmit(&mut self, transmit: Transmit) {
        push(&mut self.queues.get_or_insert_default().transmits, transmit);
    }

    fn announce(&mut self, event: Event) {
        push(&mut self.queues.get_or_insert_default().events, event);
    }

    fn drop_empty_queues(&mut self) {
        let is_empty = |queues: &Queues| queues.transmits.is_empty() && queues.events.is_empty();
        if self.queues.as_deref().is_some_and(is_empty) {
            self.queues = None;
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_QUEUED {
        queue.pop_front();
    }
    queue.push_back(item);
}
