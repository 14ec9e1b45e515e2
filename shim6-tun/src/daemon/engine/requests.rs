//! What clients of the control socket ask for.

use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_core::{ContextId, ContextInfo, Event, Instant, LocatorPair, Moved, PathInfo};

use super::Engine;
use crate::control::{Answer, Objection, Request};
use crate::daemon::report;
use crate::status::{
    ContextDetail, ContextStatus, MoveStatus, PairStatus, PathStatus, ProbeStatus, Status, UplinkStatus,
};

/// How long the answer to a probe is waited for: longer than any path takes that can be used.
const PATIENCE: Duration = Duration::from_secs(3);

/// The clients that wait for what is under way. The endpoint bounds how many probes there are at once.
#[derive(Default)]
pub(super) struct Waiting(Vec<Probe>);

/// A probe that a client waits for.
struct Probe {
    context: ContextId,
    pair: LocatorPair,
    sent: Instant,
    until: Instant,
    client: Client,
}

enum Client {
    Probe(Answer<Result<ProbeStatus, Objection>>),
    /// To use the pair; it was on this one before.
    Move(PairStatus, Answer<Result<MoveStatus, Objection>>),
}

impl Engine<'_> {
    pub(super) fn handle_request(&mut self, request: Request) {
        // Whoever asked may have left already.
        match request {
            Request::Status(answer) => drop(answer.send(self.status())),
            Request::Contexts(peer, answer) => drop(answer.send(self.contexts(peer))),
            Request::Context(number, answer) => drop(answer.send(self.context(number))),
            Request::Paths(number, answer) => drop(answer.send(self.path_list(number))),
            Request::Probe(number, pair, answer) => self.probe(number, pair, answer),
            Request::Move(number, pair, answer) => {
                if let Ok(id) = self.find(number) {
                    self.forks.choose(id, pair.is_some());
                }
                self.pin(number, pair, answer);
            }
            Request::Close(number, answer) => {
                let closed = self.find(number).map(|id| self.endpoint.close(id));
                drop(answer.send(closed));
            }
            Request::Session(request) => self.handle_session(request),
            Request::Reload(answer) => self.request_reload(answer),
            Request::Figures(answer) => drop(answer.send(self.figures())),
        }
    }

    pub(super) fn uplinks(&self) -> Vec<UplinkStatus> {
        let usable: Vec<_> = self.addresses.usable().collect();
        let uplinks = self.addresses.uplinks().map(|(uplink, address)| UplinkStatus {
            interface: uplink.interface.clone(),
            prefix: format!("{}/64", uplink.prefix),
            gateway: uplink.gateway,
            address,
            ulid: self.endpoint.identity().is_ulid(address),
            up: usable.contains(&address),
        });
        uplinks.collect()
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: self.shared.clock.millis(),
            tun: self.tun.device.name().to_owned(),
            observation: self.observers.method().to_string(),
            problems: self.problems().collect(),
            uplinks: self.uplinks(),
            contexts: self.contexts(None),
            failures: report::failures(&self.endpoint, self.shared.clock.now()),
            counters: report::counters(&self.endpoint, self.paths.report()),
            recent: self.journal.recent(),
        }
    }

    fn contexts(&self, peer: Option<Ipv6Addr>) -> Vec<ContextStatus> {
        let now = self.shared.clock.now();
        let is_meant =
            |info: &ContextInfo| peer.is_none_or(|peer| info.ulids.peer == peer || info.peer_locators.contains(&peer));
        let meant = self.endpoint.contexts().filter(is_meant);
        let mut contexts: Vec<_> = meant.map(|info| report::context(&info, now)).collect();
        contexts.sort_by_key(|context| context.id);
        contexts
    }

    fn context(&self, number: u64) -> Result<ContextDetail, Objection> {
        let now = self.shared.clock.now();
        let info = self.find(number).ok().and_then(|id| self.endpoint.context(id));
        let info = info.ok_or(Objection::NoSuchContext { context: number })?;
        Ok(ContextDetail {
            context: report::context(&info, now),
            paths: self.path_list(Some(number))?,
        })
    }

    fn path_list(&self, number: Option<u64>) -> Result<Vec<PathStatus>, Objection> {
        let paths = match number {
            None => self.endpoint.paths(),
            Some(number) => self.endpoint.paths_of(self.find(number)?).unwrap_or_default(),
        };
        Ok(self.tell_paths(&paths))
    }

    pub(super) fn tell_paths(&self, paths: &[PathInfo]) -> Vec<PathStatus> {
        let now = self.shared.clock.now();
        let uplink = |path: &PathInfo| {
            let mut uplinks = self.addresses.uplinks();
            uplinks.find_map(|(uplink, address)| (address == path.pair.local).then_some(uplink.interface.as_str()))
        };
        paths.iter().map(|path| report::path(path, uplink(path), now)).collect()
    }

    fn probe(&mut self, number: u64, pair: Option<PairStatus>, answer: Answer<Result<ProbeStatus, Objection>>) {
        let now = self.shared.clock.now();
        let until = now + PATIENCE;
        let asked = self.find(number).and_then(|id| {
            let in_use = self.endpoint.context(id).map(|info| info.locators);
            let pair = pair
                .map(wanted)
                .or(in_use)
                .ok_or(Objection::NoSuchContext { context: number })?;
            let sent = self.endpoint.probe(now, id, pair, until);
            sent.map_err(|error| report::path_refused(number, error, now))?;
            Ok((id, pair))
        });
        match asked {
            Ok((context, pair)) => self.waiting.0.push(Probe {
                context,
                pair,
                sent: now,
                until,
                client: Client::Probe(answer),
            }),
            Err(objection) => drop(answer.send(Err(objection))),
        }
    }

    /// Has a context send on a pair, or choose by itself again if none is given.
    pub(super) fn pin(&mut self, number: u64, to: Option<PairStatus>, answer: Answer<Result<MoveStatus, Objection>>) {
        match to {
            Some(pair) => self.move_to(number, pair, answer),
            None => drop(answer.send(self.release(number))),
        }
    }

    fn move_to(&mut self, number: u64, to: PairStatus, answer: Answer<Result<MoveStatus, Objection>>) {
        let now = self.shared.clock.now();
        let until = now + PATIENCE;
        let asked = self.find(number).and_then(|id| {
            let info = self
                .endpoint
                .context(id)
                .ok_or(Objection::NoSuchContext { context: number })?;
            let moved = self.endpoint.move_to(now, id, wanted(to), until);
            let moved = moved.map_err(|error| report::path_refused(number, error, now))?;
            Ok((id, report::pair(info.locators), moved))
        });
        match asked {
            Ok((_, from, Moved::Now)) => {
                let pinned = true;
                let probed = false;
                let context = number;
                drop(answer.send(Ok(MoveStatus {
                    context,
                    from,
                    to,
                    pinned,
                    probed,
                })));
            }
            Ok((context, from, Moved::OnAnswer)) => self.waiting.0.push(Probe {
                context,
                pair: wanted(to),
                sent: now,
                until,
                client: Client::Move(from, answer),
            }),
            Err(objection) => drop(answer.send(Err(objection))),
        }
    }

    fn release(&mut self, number: u64) -> Result<MoveStatus, Objection> {
        let now = self.shared.clock.now();
        let id = self.find(number)?;
        let released = self.endpoint.release(now, id);
        released.map_err(|error| report::path_refused(number, error, now))?;
        let info = self
            .endpoint
            .context(id)
            .ok_or(Objection::NoSuchContext { context: number })?;
        Ok(MoveStatus {
            context: number,
            from: report::pair(info.locators),
            to: report::pair(info.locators),
            pinned: false,
            probed: false,
        })
    }

    fn find(&self, number: u64) -> Result<ContextId, Objection> {
        self.endpoint
            .find(number)
            .ok_or(Objection::NoSuchContext { context: number })
    }
}

impl Waiting {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|probe| probe.until).min()
    }

    /// Tells those that their time has come whose probes were not answered.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for probe in self.0.extract_if(.., |probe| probe.until <= now) {
            let waited_ms = report::millis_since(probe.sent, now);
            let (context, pair) = (probe.context.value(), report::pair(probe.pair));
            match probe.client {
                Client::Probe(answer) => drop(answer.send(Ok(ProbeStatus {
                    context,
                    pair,
                    answered: false,
                    rtt_us: None,
                    waited_ms,
                }))),
                Client::Move(_, answer) => drop(answer.send(Err(Objection::NotProved {
                    context,
                    pair,
                    waited_ms,
                }))),
            }
        }
    }

    /// Tells those who wait for what has just happened.
    pub(super) fn handle_event(&mut self, event: &Event, now: Instant) {
        match *event {
            Event::ProbeAnswered { context, pair, rtt } => {
                let rtt_us = rtt.map(|rtt| rtt.as_micros() as u64);
                let is_meant = |probe: &mut Probe| {
                    // A move is told of by the change of path, which comes next.
                    probe.context == context && probe.pair == pair && matches!(probe.client, Client::Probe(_))
                };
                for probe in self.0.extract_if(.., is_meant) {
                    let waited_ms = report::millis_since(probe.sent, now);
                    if let Client::Probe(answer) = probe.client {
                        let (context, pair) = (context.value(), report::pair(pair));
                        let status = ProbeStatus {
                            context,
                            pair,
                            answered: true,
                            rtt_us,
                            waited_ms,
                        };
                        drop(answer.send(Ok(status)));
                    }
                }
            }
            Event::PathChanged { context, to, .. } => {
                let is_meant = |probe: &mut Probe| {
                    probe.context == context && probe.pair == to && matches!(probe.client, Client::Move(..))
                };
                for probe in self.0.extract_if(.., is_meant) {
                    if let Client::Move(from, answer) = probe.client {
                        let (context, to) = (context.value(), report::pair(to));
                        let status = MoveStatus {
                            context,
                            from,
                            to,
                            pinned: true,
                            probed: true,
                        };
                        drop(answer.send(Ok(status)));
                    }
                }
            }
            Event::Closed { context, .. } => {
                for probe in self.0.extract_if(.., |probe| probe.context == context) {
                    let objection = Objection::NoSuchContext {
                        context: context.value(),
                    };
                    match probe.client {
                        Client::Probe(answer) => drop(answer.send(Err(objection))),
                        Client::Move(_, answer) => drop(answer.send(Err(objection))),
                    }
                }
            }
            _ => {}
        }
    }
}

fn wanted(pair: PairStatus) -> LocatorPair {
    LocatorPair::new(pair.local, pair.peer)
}
