//! The end of a world: everything is mended, and then both ends of each session have to agree and payload has to flow.

use std::time::Duration;

use shim6_core::{ContextState, Instant};

use super::failure::Failure;
use super::host::ContextView;
use super::invariants::{Invariant, Violation};
use super::link::Link;
use super::scenario::{Action, Kind, Protect, Session};
use super::world::{Summary, World};

/// The delay of all paths in the end.
pub(super) const DELAY: Duration = Duration::from_millis(10);
/// How often it is looked whether the world has settled.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// How old a datagram has to be to be missed.
pub(super) const IN_TIME: Duration = Duration::from_millis(200);

/// What the ends of a session know of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// Neither has a context.
    Neither,
    /// Both have one, and each has the other's tag.
    Both,
    /// One has a context and the other has none, or not yet.
    One {
        /// Whether the one is the session's second host.
        reverse: bool,
        /// Whether its payload bears other addresses than the ULIDs.
        steered: bool,
    },
    /// Both have one, with tags that do not fit.
    Differ {
        /// Whether the payload of one who has a wrong tag bears it, since its addresses are not the ULIDs.
        steered: bool,
    },
}

impl World {
    /// Runs the whole scenario: its script, then everything is mended and has to settle; then, if the scenario says so, each
    /// session's path dies and it has to find another.
    ///
    /// # Errors
    /// An invariant did not hold.
    pub fn run(&mut self) -> Result<Summary, Box<Failure>> {
        self.run_for(self.scenario.horizon)?;
        self.mend()?;
        self.settle()?;
        if self.scenario.exam {
            for session in 0..self.scenario.sessions.len() {
                self.examine(session)?;
                self.settle()?;
            }
        }
        Ok(self.summary())
    }

    /// Mends everything: all paths are clean, all hosts run, all locators work and endpoints know it, all sessions go on, and
    /// the adversary is gone.
    ///
    /// # Errors
    /// An invariant did not hold.
    pub fn mend(&mut self) -> Result<(), Box<Failure>> {
        self.note("everything is mended");
        self.mended = true;
        self.links.set_all(Link::clean(DELAY));
        self.clear_filter();
        self.dismiss_adversary();
        self.running.fill(true);
        for host in 0..self.hosts.len() {
            self.start(host, false).map_err(|violation| self.failure(violation))?;
            let count = self.hosts[host].locators().len();
            for index in 0..count {
                let outputs = self.hosts[host].set_locator(self.now, index, true, true);
                self.finish(host, outputs, None)
                    .map_err(|violation| self.failure(violation))?;
            }
            if self.hosts[host].present().contains(&false) {
                let present = vec![true; count];
                self.perform(Action::SetIdentity { host, present })?;
            }
        }
        self.look_at_paths();
        Ok(())
    }

    /// Runs until the world has settled.
    ///
    /// # Errors
    /// It did not in time, or an invariant did not hold.
    pub fn settle(&mut self) -> Result<(), Box<Failure>> {
        let (start, end) = (self.now, self.now + self.settling_bound());
        loop {
            self.run_for(LOOK)?;
            match self.unsettled(start) {
                None => return Ok(()),
                Some(what) if self.now >= end => {
                    return Err(self.failure(Violation::new(Invariant::Liveness, what)));
                }
                Some(_) => {}
            }
        }
    }

    /// What the ends of a session know of each other.
    pub fn agreement(&self, session: usize) -> Agreement {
        let settled = |reverse| {
            let context = self.context(session, reverse)?;
            (context.state == ContextState::Established).then_some(context)
        };
        match (settled(false), settled(true)) {
            (None, None) => Agreement::Neither,
            (Some(a), Some(b)) if Some(a.local_tag) == b.peer_tag && a.peer_tag == Some(b.local_tag) => Agreement::Both,
            (Some(a), Some(b)) => {
                let is_noticed = |own: &ContextView, other: &ContextView| {
                    own.peer_tag != Some(other.local_tag) && own.locators != own.ulids
                };
                Agreement::Differ {
                    steered: is_noticed(&a, &b) || is_noticed(&b, &a),
                }
            }
            (Some(a), None) => Agreement::One {
                reverse: false,
                steered: a.locators != a.ulids,
            },
            (None, Some(b)) => Agreement::One {
                reverse: true,
                steered: b.locators != b.ulids,
            },
        }
    }

    /// Whether the payload of a session flows: all that was sent lately but not just now has arrived, from all who send.
    pub fn flows(&self, session: usize, since: Instant) -> bool {
        let interval = self.scenario.sessions[session].interval;
        let until = self.now - IN_TIME;
        let from = since.max(until - interval * 2);
        let lately = self.ledger.datagrams().iter().rev();
        let lately = lately
            .take_while(|datagram| datagram.at >= from)
            .filter(|datagram| datagram.session == session && datagram.at <= until);
        let (mut sent, mut arrived) = ([0; 2], [0; 2]);
        for datagram in lately {
            sent[usize::from(datagram.reverse)] += 1;
            arrived[usize::from(datagram.reverse)] += usize::from(datagram.arrived.is_some());
        }
        let all_send = match self.scenario.sessions[session].kind {
            Kind::OneWay => sent[0] > 0,
            Kind::Replies | Kind::BothWays => sent[0] > 0 && sent[1] > 0,
        };
        all_send && sent == arrived
    }

    /// Why the world has not settled.
    fn unsettled(&self, since: Instant) -> Option<String> {
        (0..self.scenario.sessions.len()).find_map(|session| {
            let agreement = self.agreement(session);
            if !self.is_acceptable(session, &agreement) {
                let ends = [false, true].map(|reverse| self.describe_end(session, reverse));
                return Some(format!("session {session}: {agreement:?}: {}, {}", ends[0], ends[1]));
            }
            (!self.flows(session, since)).then(|| {
                let ends = [false, true].map(|reverse| self.describe_end(session, reverse));
                format!("session {session}: payload does not flow; {}, {}", ends[0], ends[1])
            })
        })
    }

    fn is_acceptable(&self, session: usize, agreement: &Agreement) -> bool {
        let has_shim6 = |reverse| self.hosts[self.end_of(session, reverse)].plan().shim6;
        let wants = match self.scenario.sessions[session].protect {
            Protect::Nobody => false,
            Protect::Initiator | Protect::Both => has_shim6(false) && has_shim6(true),
        };
        match agreement {
            Agreement::Both => true,
            Agreement::Neither => !wants,
            // Nothing shows either of them that the other has no context, as long as they send ordinary packets: the holder
            // does not set up another, and the other one may not want any.
            Agreement::One { reverse, steered } => {
                // The first host makes a context when it sends, the second one only if it sends on its own.
                let Session { protect, kind, .. } = self.scenario.sessions[session];
                let other_wants = match (reverse, protect) {
                    (_, Protect::Nobody) | (false, Protect::Initiator) => false,
                    (true, _) => true,
                    (false, Protect::Both) => kind == Kind::BothWays,
                };
                !steered && !other_wants
            }
            // An I2 or I2bis that comes late, or is sent again by somebody while its validator lives, sets its receiver back
            // to a tag that its sender no longer has. That shows when the tag is used, see the exam.
            Agreement::Differ { steered } => !steered,
        }
    }

    pub(super) fn describe_end(&self, session: usize, reverse: bool) -> String {
        let number = self.end_of(session, reverse);
        match self.context(session, reverse) {
            Some(context) => format!("h{number} has {context:?}"),
            None => format!("h{number} has no context for {}", self.ulids(session, reverse)),
        }
    }

    /// How long anything may take that the hosts' timers allow: a whole exchange without an answer, the hold-down after it,
    /// another exchange, and an exploration from the end of its backoff.
    pub fn settling_bound(&self) -> Duration {
        let later = self.scenario.script.iter().filter_map(|(_, action)| match action {
            Action::SetConfig { config, .. } => Some(&**config),
            _ => None,
        });
        let configs = self.scenario.hosts.iter().map(|plan| &plan.config).chain(later);
        let bounds = configs.map(|config| {
            let (establishment, reap) = (&config.establishment, &config.reap);
            let exchange = establishment.i1_timeout * (2 << establishment.i1_retries_max)
                + establishment.i2_timeout * (2 << establishment.i2_retries_max)
                + establishment.i2bis_timeout * (2 << establishment.i2bis_retries_max);
            exchange * 3
                + establishment.no_r1_holddown * 2
                + reap.send_timeout * 8
                + reap.keepalive_timeout * 8
                + reap.max_probe_timeout * 6
        });
        let slowest = self.scenario.sessions.iter().map(|session| session.interval * 20);
        bounds.max().unwrap_or_default() + slowest.max().unwrap_or_default()
    }
}
