//! The world: its state, its clock, and one step of it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use shim6_core::{Instant, LocatorPair};

use super::adversary::Adversary;
use super::dice::{Dice, Stream};
use super::failure::Failure;
use super::host::{ContextView, Host, Outputs};
use super::invariants::{Invariant, Ledger, Paths, Proofs, Replies, Violation, check_contexts};
use super::link::Links;
use super::network::{Filter, InFlight};
use super::pool::Locator;
use super::scenario::{Action, Scenario};
use super::trace::{Trace, What};

/// Not at the epoch, where mistakes about "never" hide.
const START: Instant = Instant::from_micros(1_000_000_000);
/// More inputs at one moment than any world has: somebody asks to be called again and again.
const STEPS_AT_ONCE: usize = 5_000;
/// More inputs than any world needs.
const STEPS: u64 = 5_000_000;
/// With so many sessions all contexts are looked at after each input.
const FEW: usize = 64;
/// How many entries of the trace are kept where not all are.
const TRACE: usize = 120;

/// A world in virtual time.
#[derive(Debug)]
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pub(super) owners: BTreeMap<Ipv6Addr, Locator>,
    pub(super) links: Links,
    pub(super) network: Dice,
    pub(super) applications: Dice,
    pub(super) adversary: Option<Adversary>,
    pub(super) ledger: Ledger,
    pub(super) proofs: Proofs,
    pub(super) paths: Paths,
    pub(super) replies: Vec<Replies>,
    pub(super) trace: Trace,
    pub(super) filter: Option<Filter>,
    /// When each host last had payload with its applications' peers: sent, or delivered.
    pub(super) last_payload: BTreeMap<(usize, LocatorPair), Instant>,
    /// Sessions that do not pause.
    pub(super) running: Vec<bool>,
    /// Whether the script is over, done or not.
    pub(super) mended: bool,
    seeds: Dice,
    queue: BTreeMap<(Instant, u64), Due>,
    next_place: u64,
    steps: u64,
    steps_at_once: usize,
}

/// What a world did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Virtual time that passed.
    pub lasted: Duration,
    /// Inputs that hosts got.
    pub steps: u64,
    /// Datagrams that applications sent.
    pub sent: usize,
    /// Datagrams that arrived.
    pub arrived: usize,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Due {
    Packet(InFlight),
    Datagram { session: usize, reverse: bool },
    Script(Action),
    Start { host: usize, same_seed: bool },
    Adversary,
}

impl World {
    /// A world at its start: the hosts run, and nothing has been sent.
    pub fn new(scenario: Scenario) -> Self {
        let seed = scenario.seed;
        let hosts: Vec<_> = (scenario.hosts.iter().enumerate())
            .map(|(number, plan)| Host::new(number, plan))
            .collect();
        let owners = hosts.iter().enumerate().flat_map(|(host, own)| {
            let locators = own.locators().iter().enumerate();
            locators.map(move |(index, &address)| (address, Locator { host, index }))
        });
        let adversary = scenario.adversary.clone().map(|plan| {
            let locators = hosts.iter().map(|host| host.locators().to_vec());
            Adversary::new(plan, seed, locators.collect())
        });
        let mut world = Self {
            now: START,
            owners: owners.collect(),
            links: Links::new(scenario.link),
            network: Dice::new(seed, Stream::Network),
            applications: Dice::new(seed, Stream::Applications),
            seeds: Dice::new(seed, Stream::Hosts),
            adversary,
            ledger: Ledger::new(scenario.reuses_seeds),
            proofs: Proofs::new(hosts.len()),
            paths: Paths::new(scenario.report_age),
            replies: hosts.iter().map(|_| Replies::default()).collect(),
            trace: if scenario.keep_trace {
                Trace::whole()
            } else {
                Trace::last(TRACE)
            },
            filter: None,
            running: vec![true; scenario.sessions.len()],
            last_payload: BTreeMap::new(),
            mended: false,
            hosts,
            queue: BTreeMap::new(),
            next_place: 0,
            steps: 0,
            steps_at_once: 0,
            scenario,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        for host in 0..self.hosts.len() {
            let seed = self.seeds.seed();
            // An endpoint that has just been made has nothing to say.
            let _ = self.hosts[host].start(self.now, seed, false);
        }
        for (after, action) in self.scenario.script.clone() {
            self.enqueue(self.now + after, Due::Script(action));
        }
        for session in 0..self.scenario.sessions.len() {
            self.begin_session(session);
        }
        if let Some(adversary) = &self.adversary {
            self.enqueue(self.now + adversary.plan().interval, Due::Adversary);
        }
    }

    /// What it was made of.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A host.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// What happened: all of it or the end of it, as the scenario says.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Forgets what happened.
    pub fn clear_trace(&mut self) {
        self.trace.clear();
    }

    /// Every datagram that was sent, and when it arrived.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Which directed pairs work, and which contexts changed theirs.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What a host sent because of spoofed packets.
    pub fn replies(&self, host: usize) -> &Replies {
        &self.replies[host]
    }

    /// A host's context of a session.
    pub fn context(&self, session: usize, reverse: bool) -> Option<ContextView> {
        let (host, ulids) = (self.end_of(session, reverse), self.ulids(session, reverse));
        self.hosts[host].context(ulids, self.scenario.sessions[session].instance)
    }

    /// The address of a locator.
    ///
    /// # Panics
    /// When there is no such locator.
    pub fn address(&self, locator: Locator) -> Ipv6Addr {
        self.hosts[locator.host].locators()[locator.index]
    }

    /// The pair of two locators as the host of the first sees it.
    pub fn pair(&self, local: Locator, peer: Locator) -> LocatorPair {
        LocatorPair::new(self.address(local), self.address(peer))
    }

    /// A session's ULID pair, as its first host or (`reverse`) its second sees it.
    pub fn ulids(&self, session: usize, reverse: bool) -> LocatorPair {
        let session = &self.scenario.sessions[session];
        let pair = self.pair(session.from, session.to);
        if reverse { pair.seen_by_peer() } else { pair }
    }

    /// The host that is a session's first or (`reverse`) second.
    pub fn end_of(&self, session: usize, reverse: bool) -> usize {
        let session = &self.scenario.sessions[session];
        if reverse { session.to.host } else { session.from.host }
    }

    /// What it did so far.
    pub fn summary(&self) -> Summary {
        let datagrams = self.ledger.datagrams();
        Summary {
            lasted: self.now - START,
            steps: self.steps,
            sent: datagrams.len(),
            arrived: datagrams.iter().filter(|datagram| datagram.arrived.is_some()).count(),
        }
    }

    /// Runs for a while.
    ///
    /// # Errors
    /// An invariant did not hold.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Box<Failure>> {
        self.run_until(duration, |_| false).map(drop)
    }

    /// Runs until a condition holds, or for `limit`: then `None`, otherwise how long it took.
    ///
    /// # Errors
    /// An invariant did not hold.
    pub fn run_until(
        &mut self,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<Option<Duration>, Box<Failure>> {
        let (start, end) = (self.now, self.now + limit);
        loop {
            if condition(self) {
                return Ok(Some(self.now - start));
            }
            match self.step(end) {
                Ok(true) => {}
                Ok(false) => {
                    self.now = end;
                    return Ok(None);
                }
                Err(violation) => return Err(self.failure(violation)),
            }
        }
    }

    /// Does something now.
    ///
    /// # Errors
    /// An invariant did not hold.
    pub fn perform(&mut self, action: Action) -> Result<(), Box<Failure>> {
        self.act(action).map_err(|violation| self.failure(violation))
    }

    /// The report about a violation now.
    pub fn failure(&self, violation: Violation) -> Box<Failure> {
        Box::new(Failure::new(&self.scenario, self.now, violation, &self.trace))
    }

    pub(super) fn enqueue(&mut self, at: Instant, due: Due) {
        self.queue.insert((at, self.next_place), due);
        self.next_place += 1;
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.trace.push(self.now, What::Note(text.into()));
    }

    fn step(&mut self, end: Instant) -> Result<bool, Violation> {
        let queued = self.queue.keys().next().map(|&(at, _)| at);
        let timers = (0..)
            .zip(&self.hosts)
            .filter_map(|(index, host)| Some((host.poll_timeout(self.now)?, index)));
        let timer: Option<(Instant, usize)> = timers.min();
        let next = [queued, timer.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(at) = next.filter(|&at| at <= end) else {
            return Ok(false);
        };
        self.advance(at)?;
        if queued.is_some_and(|queued| queued <= self.now) {
            if let Some((_, due)) = self.queue.pop_first() {
                self.happen(due)?;
            }
        } else if let Some((_, host)) = timer {
            let outputs = self.hosts[host].timeout(self.now);
            self.finish(host, outputs, None)?;
        }
        Ok(true)
    }

    fn advance(&mut self, at: Instant) -> Result<(), Violation> {
        if at > self.now {
            (self.now, self.steps_at_once) = (at, 0);
        }
        self.steps += 1;
        self.steps_at_once += 1;
        if self.steps_at_once > STEPS_AT_ONCE {
            return Err(Violation::new(
                Invariant::Progress,
                format!("{STEPS_AT_ONCE} inputs at {at}"),
            ));
        }
        if self.steps > STEPS {
            return Err(Violation::new(
                Invariant::Progress,
                format!("{STEPS} inputs until {at}"),
            ));
        }
        Ok(())
    }

    fn happen(&mut self, due: Due) -> Result<(), Violation> {
        match due {
            Due::Packet(packet) => self.arrive(packet),
            Due::Datagram { session, reverse } => self.application(session, reverse),
            Due::Script(_) if self.mended => Ok(()),
            Due::Script(action) => self.act(action),
            Due::Start { host, same_seed } => self.start(host, same_seed),
            Due::Adversary => {
                self.adversary_strikes();
                Ok(())
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Violation> {
        self.note(format!("{action:?}"));
        let outputs = match action {
            Action::Establish { session, reverse } => return self.establish(session, reverse),
            Action::SetSession { session, running } => {
                self.running[session] = running;
                None
            }
            Action::Close { session, reverse } => self.context(session, reverse).map(|context| {
                let host = self.end_of(session, reverse);
                (
                    host,
                    self.hosts[host].command(self.now, |endpoint, _| endpoint.close(context.id)),
                )
            }),
            Action::SetPreferences { host, preferences } => {
                let now = self.now;
                let outputs = self.hosts[host].command(now, |endpoint, locators| {
                    let preferences: Vec<_> = locators.iter().copied().zip(preferences).collect();
                    endpoint.set_preferences(now, &preferences);
                });
                Some((host, outputs))
            }
            Action::SetConfig { host, config } => Some((host, self.hosts[host].set_config(self.now, *config))),
            Action::Hint { session, reverse, hint } => self.context(session, reverse).map(|context| {
                let (host, now) = (self.end_of(session, reverse), self.now);
                let outputs = self.hosts[host].command(now, |endpoint, _| endpoint.handle_hint(now, context.id, hint));
                (host, outputs)
            }),
            other => {
                let outputs = self.change_paths(other);
                self.look_at_paths();
                outputs
            }
        };
        outputs.map_or(Ok(()), |(host, outputs)| self.finish(host, outputs, None))
    }

    /// Does what makes paths live or die, and gives what a host has to say about it.
    fn change_paths(&mut self, action: Action) -> Option<(usize, Outputs)> {
        match action {
            Action::SetLink { from, to, link } => {
                let (from, to) = (self.address(from), self.address(to));
                self.links.set(from, to, link);
            }
            Action::SetAllLinks(link) => self.links.set_all(link),
            Action::Crash {
                host,
                down_for,
                same_seed,
            } => {
                self.hosts[host].crash();
                // With its seed it has its secrets again, so that what it asked before is answered in its next life.
                if !self.scenario.reuses_seeds {
                    self.proofs.forget(host);
                }
                self.enqueue(self.now + down_for, Due::Start { host, same_seed });
            }
            Action::SetLocator { locator, up, told } => {
                let outputs = self.hosts[locator.host].set_locator(self.now, locator.index, up, told);
                return Some((locator.host, outputs));
            }
            Action::SetIdentity { host, present } => {
                let outputs = self.hosts[host].set_identity(self.now, &present);
                return Some((host, outputs));
            }
            _ => {}
        }
        None
    }

    /// Notes which directed pairs work from now on.
    pub(super) fn look_at_paths(&mut self) {
        for (&from, source) in &self.owners {
            for (&to, destination) in self.owners.iter().filter(|(_, other)| other.host != source.host) {
                let is_up = self.hosts[source.host].is_up(from) && self.hosts[destination.host].is_up(to);
                let works = is_up && !self.links.get(from, to).blackhole;
                self.paths.note(self.now, (from, to), works);
            }
        }
    }

    /// Sets up a context, as far as the endpoint lets it: why it does not is in its own tests.
    pub(super) fn establish(&mut self, session: usize, reverse: bool) -> Result<(), Violation> {
        let (host, ulids, now) = (self.end_of(session, reverse), self.ulids(session, reverse), self.now);
        let instance = NonZeroU32::new(self.scenario.sessions[session].instance);
        let outputs = self.hosts[host].command(self.now, |endpoint, _| {
            let _ = match instance {
                None => endpoint.establish(now, ulids),
                Some(instance) => endpoint.fork(now, ulids, instance),
            };
        });
        self.finish(host, outputs, None)
    }

    /// Switches a host on, unless it runs.
    pub(super) fn start(&mut self, host: usize, same_seed: bool) -> Result<(), Violation> {
        if self.hosts[host].is_running() {
            return Ok(());
        }
        self.note(format!("h{host} starts"));
        let seed = self.seeds.seed();
        let outputs = self.hosts[host].start(self.now, seed, same_seed);
        self.look_at_paths();
        self.finish(host, outputs, None)
    }

    /// Looks at all contexts of a host: where they are thousands, only now and then.
    pub(super) fn check_host(&self, host: usize) -> Result<(), Violation> {
        let sessions = self.scenario.sessions.len();
        if sessions > FEW && !self.steps.is_multiple_of(sessions as u64) {
            return Ok(());
        }
        check_contexts(&self.hosts[host]).map_err(|mut violation| {
            violation.what = format!("h{host}: {}", violation.what);
            violation
        })
    }
}
