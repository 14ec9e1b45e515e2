//! What programs ask for their sessions.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::json;
use shim6_core::{
    ContextId, ContextInfo, ContextState, DataplaneUpdate, EstablishError, Event, Hint, Instant, LocatorPair,
    PathError, Protection,
};

use super::Engine;
use super::advice::{AdviceLimits, Subject};
use crate::control::{Advice, Answer, Objection, Protect, SessionRequest, SessionWish};
use crate::daemon::forks::{FlowKey, Forked, Heard, MOST_ASKED};
use crate::daemon::report;
use crate::status::{self, AdviceStatus, ForkStatus, LocatorStatus, PairStatus, SessionName, SessionStatus};

/// How long a peer's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pairs that may be kept without contexts.
const MOST_NEVER: usize = 1_024;

/// What is remembered for programs.
#[derive(Default)]
pub(super) struct Sessions {
    /// Those who wait for a context.
    waiting: Vec<Wait>,
    advice: AdviceLimits,
    /// The pair that packets of a context last arrived on.
    arrivals: HashMap<ContextId, LocatorPair>,
    /// Pairs that shall have no contexts.
    never: HashSet<LocatorPair>,
    /// The Forked Instance Identifiers of the contexts that have one.
    instances: HashMap<ContextId, u32>,
    /// The endpoint has been told something since it was last drained.
    has_more: bool,
}

type Told = Result<SessionStatus, Objection>;

struct Wait {
    session: SessionName,
    context: ContextId,
    /// The flow that is to be forked.
    flow: Option<FlowKey>,
    until: Instant,
    answer: Answer<Told>,
}

impl Sessions {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let at_once = self.has_more.then_some(Instant::EPOCH);
        at_once.or_else(|| self.waiting.iter().map(|wait| wait.until).min())
    }

    /// The endpoint is drained next.
    pub(super) fn handle_timeout(&mut self) {
        self.has_more = false;
    }
}

impl Engine<'_> {
    pub(super) fn handle_session(&mut self, request: SessionRequest) {
        let SessionRequest { session, user, wish } = request;
        // Whoever asked may have left already.
        match wish {
            SessionWish::Show(answer) => drop(answer.send(self.session(session))),
            SessionWish::Protect(Protect::Now, answer) => self.protect_now(session, answer),
            SessionWish::Protect(when, answer) => drop(answer.send(self.set_protection(session, when))),
            SessionWish::Prefer(pair, answer) => drop(answer.send(self.prefer(session, pair))),
            SessionWish::Pin(pair, answer) => match self.context_of(session) {
                Ok(info) => {
                    self.forks.choose(info.id, pair.is_some());
                    self.pin(info.id.value(), pair, answer);
                }
                Err(objection) => drop(answer.send(Err(objection))),
            },
            SessionWish::Advise(advice, answer) => drop(answer.send(self.advise(session, user, advice))),
            SessionWish::Fork(answer) => self.fork(session, answer),
            SessionWish::Join(answer) => drop(answer.send(self.join(session))),
        }
    }

    /// Follows what the packet tasks have heard.
    pub(super) fn handle_heard(&mut self, heard: Heard) {
        match heard {
            Heard::On(context, on) => {
                // It may have closed meanwhile.
                if self.endpoint.context(context).is_some() {
                    self.sessions.arrivals.insert(context, on);
                    self.forks.arrived(context, on);
                }
            }
            Heard::Flow(context, key) => {
                if self.forks.learn(context, key, self.shared.clock.now())
                    && let Some(forked) = self.forks.of(&key)
                {
                    self.tell_of_fork("forked", forked, "the peer has forked it");
                }
            }
        }
    }

    /// Says of an event about a context which session that is, and forgets one that is gone.
    pub(super) fn name_session(&mut self, event: &Event, told: &mut status::Event) {
        let gone = match event {
            Event::Closed { context, ulids, .. } => {
                self.sessions.arrivals.remove(context);
                Some((*ulids, self.sessions.instances.remove(context).unwrap_or(0)))
            }
            _ => None,
        };
        let of_context = || {
            let context = told.context.and_then(|number| self.endpoint.find(number))?;
            self.endpoint
                .context(context)
                .map(|info| (info.ulids, info.forked_instance))
        };
        let named = gone.or_else(of_context);
        if let (Some((ulids, instance)), Some(detail)) = (named, told.detail.as_object_mut()) {
            detail.insert("ulids".to_owned(), json!(report::pair(ulids)));
            detail.insert("forked_instance".to_owned(), instance.into());
        }
    }

    /// Forks come and go with their contexts. Gives the flows of those that went.
    pub(super) fn note_forks(&mut self, updates: &[DataplaneUpdate]) -> Vec<Forked> {
        let flows = updates.iter().filter_map(|update| match update {
            DataplaneUpdate::Insert(flow) if flow.forked_instance != 0 => Some((flow.context, flow.forked_instance)),
            _ => None,
        });
        self.sessions.instances.extend(flows);
        self.forks.note(updates)
    }

    /// Flows have lost their context, hence their fork.
    pub(super) fn note_lost_forks(&mut self, lost: Vec<Forked>) {
        for forked in lost {
            self.tell_of_fork("joined", forked, "its context is gone");
        }
    }

    /// Has forks send where their peers do, and forgets those that are quiet.
    pub(super) fn follow_forks(&mut self) {
        let now = self.shared.clock.now();
        if self.forks.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.forks.forget_quiet(now);
        for (context, pair) in self.forks.due(now) {
            let Some(info) = self.endpoint.context(context) else {
                continue;
            };
            if info.locators == pair {
                continue;
            }
            let moved = self.endpoint.move_to(now, context, pair, now + PATIENCE);
            let at = match moved {
                Err(PathError::TooSoon { at }) => Some(at),
                _ => None,
            };
            tracing::debug!(%context, %pair, ?moved, "following the peer of a fork");
            self.forks.look_again(context, now, at);
        }
    }

    /// Tells those who wait what became of it.
    pub(super) fn answer_sessions(&mut self) {
        let now = self.shared.clock.now();
        for wait in std::mem::take(&mut self.sessions.waiting) {
            let state = self.endpoint.context(wait.context).map(|info| info.state);
            let is_led = wait.flow.is_none_or(|key| self.paths.has_fork(&key));
            let is_over = wait.until <= now || wait.answer.is_closed();
            match state {
                Some(ContextState::Established) if is_led => {
                    if let Some(forked) = wait.flow.and_then(|key| self.forks.of(&key)) {
                        self.tell_of_fork("forked", forked, "as a program has asked");
                    }
                    drop(wait.answer.send(self.session(wait.session)));
                }
                None => {
                    self.forks.forget(wait.context);
                    drop(wait.answer.send(Err(refused(
                        "no context: the peer does not answer, so it probably does not speak Shim6; see shim6 status",
                    ))));
                }
                Some(_) if is_over && wait.flow.is_some() => {
                    self.endpoint.close(wait.context);
                    self.sessions.has_more = true;
                    self.forks.forget(wait.context);
                    let why = match state {
                        Some(ContextState::Established) => {
                            "the kernel takes no rule for the flow; see the daemon's log"
                        }
                        _ => "no fork: the peer has not answered yet; try again in a moment",
                    };
                    drop(wait.answer.send(Err(refused(why))));
                }
                Some(_) if is_over => drop(wait.answer.send(self.session(wait.session))),
                Some(_) => self.sessions.waiting.push(wait),
            }
        }
    }

    fn session(&self, session: SessionName) -> Told {
        let now = self.shared.clock.now();
        let ulids = ulids(session);
        let info = self.look_up(session);
        if info.is_none() {
            self.check_local(session)?;
        }
        let paths = info
            .as_ref()
            .and_then(|info| self.endpoint.paths_of(info.id))
            .unwrap_or_default();
        let locators = self.endpoint.identity().locators().iter();
        let local_locators = locators.map(|&address| {
            let mut uplinks = self.addresses.uplinks();
            LocatorStatus {
                address,
                uplink: uplinks.find_map(|(uplink, of)| (of == address).then(|| uplink.interface.clone())),
                usable: self.usable.contains(&address),
            }
        });
        let forks = self.forks.all().filter(|forked| forked.key.ulids == ulids);
        let forks = forks.map(|forked| ForkStatus {
            flow: forked.key.flow,
            context: forked.context.value(),
            learned: forked.learned,
        });
        let arrival = info.as_ref().and_then(|info| self.sessions.arrivals.get(&info.id));
        Ok(SessionStatus {
            session,
            protected: info
                .as_ref()
                .is_some_and(|info| info.state == ContextState::Established),
            protection: protection(self.endpoint.protection(ulids)).to_owned(),
            local_locators: local_locators.collect(),
            peer_locators: info.as_ref().map_or_else(Vec::new, |info| info.peer_locators.clone()),
            paths: self.tell_paths(&paths),
            sends_on: report::pair(info.as_ref().map_or(ulids, |info| info.locators)),
            arrives_on: arrival.copied().map(report::pair),
            prefers: info.as_ref().and_then(|info| info.wished).map(report::pair),
            forks: forks.collect(),
            context: info.map(|info| report::context(&info, now)),
        })
    }

    /// The context that a session's packets belong to, if there is one.
    fn look_up(&self, session: SessionName) -> Option<ContextInfo> {
        let ulids = ulids(session);
        let forked = session.flow.and_then(|flow| self.forks.of(&FlowKey { ulids, flow }));
        let forked = forked.and_then(|forked| self.endpoint.context(forked.context));
        let established = || {
            let flow = self.shared.dataplane.load().flow(ulids).map(|flow| flow.context);
            flow.and_then(|context| self.endpoint.context(context))
        };
        let any = || {
            let mut contexts = self.endpoint.contexts();
            contexts.find(|info| info.ulids == ulids && info.forked_instance == 0)
        };
        forked
            .filter(|info| info.ulids == ulids)
            .or_else(established)
            .or_else(any)
    }

    fn context_of(&self, session: SessionName) -> Result<ContextInfo, Objection> {
        if let Some(info) = self.look_up(session) {
            return Ok(info);
        }
        self.check_local(session)?;
        let SessionName { local, peer, .. } = session;
        Err(refused(format!(
            "there is no context between {local} and {peer}; to ask for one: shim6 session protect {local} {peer} now"
        )))
    }

    fn check_local(&self, session: SessionName) -> Result<(), Objection> {
        let identity = self.endpoint.identity();
        if identity.is_ulid(session.local) {
            return Ok(());
        }
        let ulids = identity.locators().iter().filter(|address| identity.is_ulid(**address));
        let ulids: Vec<_> = ulids.map(ToString::to_string).collect();
        Err(refused(format!(
            "{} is none of this host's addresses that sessions can be protected with; those are {}",
            session.local,
            ulids.join(", ")
        )))
    }

    fn protect_now(&mut self, session: SessionName, answer: Answer<Told>) {
        let (now, ulids) = (self.shared.clock.now(), ulids(session));
        match self.endpoint.establish(now, ulids) {
            Ok(context) | Err(EstablishError::Exists(context)) => self.sessions.waiting.push(Wait {
                session,
                context,
                flow: None,
                until: now + PATIENCE,
                answer,
            }),
            Err(error) => drop(answer.send(Err(self.not_established(session, error)))),
        }
    }

    fn not_established(&self, session: SessionName, error: EstablishError) -> Objection {
        let now = self.shared.clock.now();
        let SessionName { local, peer, .. } = session;
        let (message, retry_ms) = match error {
            EstablishError::NotOurs(_) => match self.check_local(session) {
                Err(objection) => return objection,
                Ok(()) => (
                    format!("{peer} is no address that a peer can have; name that of the other host"),
                    None,
                ),
            },
            EstablishError::HoldDown { state, until } => {
                let wait = report::millis_since(now, until);
                let message =
                    format!("{peer} is left alone ({state}), since it did not answer; it is tried again in {wait} ms");
                (message, Some(wait))
            }
            EstablishError::Limit => ("the limit on contexts is reached; see [limits]".to_owned(), None),
            EstablishError::Never(_) => {
                let remedy = format!("shim6 session protect {local} {peer} by-policy");
                (format!("{error}; to end that: {remedy}"), None)
            }
            _ => (error.to_string(), None),
        };
        Objection::SessionRefused { message, retry_ms }
    }

    fn set_protection(&mut self, session: SessionName, when: Protect) -> Told {
        self.check_local(session)?;
        let ulids = ulids(session);
        let never = &mut self.sessions.never;
        match when {
            Protect::Never if never.len() >= MOST_NEVER && !never.contains(&ulids) => {
                return Err(refused(format!(
                    "{MOST_NEVER} pairs of addresses are kept without contexts already; a [[policy]] can say it of many at once"
                )));
            }
            Protect::Never => {
                never.insert(ulids);
                self.endpoint.set_protection(ulids, Protection::Never);
            }
            Protect::ByPolicy | Protect::Now => {
                never.remove(&ulids);
                self.endpoint.set_protection(ulids, Protection::ByPolicy);
            }
        }
        self.session(session)
    }

    fn prefer(&mut self, session: SessionName, pair: Option<PairStatus>) -> Told {
        let now = self.shared.clock.now();
        let info = self.context_of(session)?;
        let pair = pair.map(|pair| LocatorPair::new(pair.local, pair.peer));
        let preferred = self.endpoint.prefer(now, info.id, pair);
        preferred.map_err(|error| report::path_refused(info.id.value(), error, now))?;
        self.session(session)
    }

    fn advise(&mut self, session: SessionName, user: Option<u32>, advice: Advice) -> Result<AdviceStatus, Objection> {
        let now = self.shared.clock.now();
        let info = self.context_of(session)?;
        if info.state != ContextState::Established {
            return Err(refused("the context is not established yet; try again when it is"));
        }
        self.sessions.advice.admit(now, user, Subject::of(&info), advice)?;
        let hint = match advice {
            Advice::Positive => Hint::Progress,
            Advice::Negative => Hint::Stalled,
        };
        self.endpoint.handle_hint(now, info.id, hint);
        let reap = self.endpoint.context(info.id).map_or(info.reap, |info| info.reap);
        Ok(AdviceStatus {
            context: info.id.value(),
            reap: report::reap_state(reap).to_owned(),
        })
    }

    fn fork(&mut self, session: SessionName, answer: Answer<Told>) {
        let now = self.shared.clock.now();
        match self.begin_fork(session, now) {
            Ok(Some((context, key))) => self.sessions.waiting.push(Wait {
                session,
                context,
                flow: Some(key),
                until: now + PATIENCE,
                answer,
            }),
            Ok(None) => drop(answer.send(self.session(session))),
            Err(objection) => drop(answer.send(Err(objection))),
        }
    }

    /// The context of the new fork and its flow; `None`: it has one.
    fn begin_fork(&mut self, session: SessionName, now: Instant) -> Result<Option<(ContextId, FlowKey)>, Objection> {
        self.check_local(session)?;
        let ulids = ulids(session);
        let flow = session.flow.ok_or_else(|| {
            refused("say which flow is to be forked by its protocol and ports, such as --flow tcp:50000:443")
        })?;
        let key = FlowKey { ulids, flow };
        if self.forks.of(&key).is_some() {
            return Ok(None);
        }
        if !self.forks.has_room() {
            return Err(refused(format!(
                "{MOST_ASKED} flows are forked already; end one of them with: shim6 session join"
            )));
        }
        if let Some(context) = self.forks.idle(ulids) {
            self.forks.assign(context, key, now);
            return Ok(Some((context, key)));
        }
        self.check_own_path(ulids)?;
        let instance = self.endpoint.unused_instance(ulids);
        let forked = self.endpoint.fork(now, ulids, instance);
        let context = forked.map_err(|error| self.not_established(session, error))?;
        self.forks.begin(context, ulids, instance);
        self.forks.assign(context, key, now);
        Ok(Some((context, key)))
    }

    /// A fork is set up on the path of the ULIDs. Without an answer there the peer would be left alone for a while, by all.
    fn check_own_path(&self, ulids: LocatorPair) -> Result<(), Objection> {
        let flow = self.shared.dataplane.load().flow(ulids).map(|flow| flow.context);
        let paths = flow
            .and_then(|context| self.endpoint.paths_of(context))
            .unwrap_or_default();
        let own = self
            .tell_paths(&paths)
            .into_iter()
            .find(|path| path.pair == report::pair(ulids));
        match own.map(|path| path.state) {
            Some(state) if ["down", "in-doubt", "failed"].contains(&state.as_str()) => Err(refused(format!(
                "a fork is set up on the path of the session's own addresses, and that is {state}; try again when it works"
            ))),
            _ => Ok(()),
        }
    }

    fn join(&mut self, session: SessionName) -> Told {
        self.check_local(session)?;
        let key = session.flow.map(|flow| FlowKey {
            ulids: ulids(session),
            flow,
        });
        let forked = key.and_then(|key| self.forks.of(&key)).filter(|forked| !forked.learned);
        let Some(forked) = forked else {
            return Err(refused(
                "no program of this host has forked that flow; those that have a fork: shim6 session show",
            ));
        };
        self.forks.leave(&forked.key);
        if self.forks.idle(forked.key.ulids) == Some(forked.context) {
            // Another flow may have it, and then its own path.
            let _ = self.endpoint.release(self.shared.clock.now(), forked.context);
        }
        self.tell_of_fork("joined", forked, "as a program has asked");
        self.session(session)
    }

    fn tell_of_fork(&mut self, kind: &str, forked: Forked, why: &str) {
        let Forked { context, key, learned } = forked;
        let FlowKey { ulids, flow } = key;
        let what = match kind {
            "forked" => "has a path of its own",
            _ => "takes the path of the others again",
        };
        let at_ms = self.shared.clock.millis();
        self.publish(status::Event {
            at_ms,
            kind: kind.to_owned(),
            context: Some(context.value()),
            message: format!("{flow} between {ulids} {what}: {why}"),
            detail: json!({ "ulids": report::pair(ulids), "flow": flow, "learned": learned }),
        });
    }
}

fn ulids(session: SessionName) -> LocatorPair {
    LocatorPair::new(session.local, session.peer)
}

fn protection(protection: Protection) -> &'static str {
    match protection {
        Protection::ByPolicy => "by-policy",
        Protection::Never => "never",
    }
}

fn refused(message: impl Into<String>) -> Objection {
    Objection::SessionRefused {
        message: message.into(),
        retry_ms: None,
    }
}
