//! The applications: who sends what when.

use super::invariants::Violation;
use super::packet::Dressing;
use super::scenario::{Kind, Protect};
use super::world::{Due, World};

/// Destination port of datagrams that want a reply.
pub(super) const WANTS_REPLY: u16 = 7;
/// Destination port of datagrams that want none.
const WANTS_NOTHING: u16 = 9;
/// How many datagrams in a thousand have extension headers.
const DRESSED: u32 = 200;
/// How many datagrams in a thousand make a context where one is wanted.
const TRIGGERS: u32 = 500;

impl World {
    pub(super) fn begin_session(&mut self, session: usize) {
        let (kind, interval) = {
            let session = &self.scenario.sessions[session];
            (session.kind, session.interval)
        };
        for reverse in [false, true] {
            if !reverse || kind == Kind::BothWays {
                let at = self.now + self.applications.up_to(interval);
                self.enqueue(at, Due::Datagram { session, reverse });
            }
        }
    }

    /// It is time for a sender's next datagram.
    pub(super) fn application(&mut self, session: usize, reverse: bool) -> Result<(), Violation> {
        let (kind, protect, interval) = {
            let session = &self.scenario.sessions[session];
            (session.kind, session.protect, session.interval)
        };
        let pause = interval / 2 + self.applications.up_to(interval);
        self.enqueue(self.now + pause, Due::Datagram { session, reverse });
        let triggers = self.applications.chance(TRIGGERS);
        let host = self.end_of(session, reverse);
        if !self.running[session] || !self.hosts[host].is_running() {
            return Ok(());
        }
        let wants_context = match protect {
            Protect::Nobody => false,
            Protect::Initiator => !reverse,
            Protect::Both => true,
        };
        if wants_context && triggers && self.context(session, reverse).is_none() {
            self.establish(session, reverse)?;
        }
        let port = if kind == Kind::Replies {
            WANTS_REPLY
        } else {
            WANTS_NOTHING
        };
        self.send_datagram(session, reverse, port)
    }

    /// Replies to a datagram that has just arrived.
    pub(super) fn reply(&mut self, number: u64) -> Result<(), Violation> {
        let datagram = &self.ledger.datagrams()[number as usize];
        let (session, reverse) = (datagram.session, !datagram.reverse);
        self.send_datagram(session, reverse, WANTS_NOTHING)
    }

    /// How much data a session's next datagram has, and its extension headers.
    pub(super) fn draw_shape(&mut self, session: usize) -> (usize, Dressing) {
        let most = self.scenario.sessions[session].octets;
        let octets = self.applications.below(most + 1);
        let dressing = match self.applications.chance(DRESSED) {
            true => *self.applications.pick(&Dressing::ALL),
            false => Dressing::Plain,
        };
        (octets, dressing)
    }
}
