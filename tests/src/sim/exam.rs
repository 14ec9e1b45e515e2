//! The last thing that a world has to show: a session that loses its path finds another.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::failure::Failure;
use super::invariants::{Invariant, Violation};
use super::link::Link;
use super::settle::{Agreement, DELAY, IN_TIME, LOOK};
use super::world::World;

/// A context that is quiet for less time than this may be gone before its payload has found another path. No new one can be
/// set up while the path between the ULIDs is dead, so there is nothing to be asked for then.
const LASTING: Duration = Duration::from_secs(600);
/// How many times longer than anything else it may take to find the only path: the passes of both ends have to meet.
const PASSES: u32 = 4;

impl World {
    /// Paths of a session die so that at least one is left each way, and its payload has to flow again. Then all live again.
    pub(super) fn examine(&mut self, session: usize) -> Result<(), Box<Failure>> {
        let Some([ours, theirs]) = self.known_locators(session) else {
            return Ok(());
        };
        // Who uses a wrong tag is told so on the reversed addresses: for that a pair has to work both ways (RFC 5533 section 7.17).
        let kinds = if self.agreement(session) == Agreement::Both {
            5
        } else {
            4
        };
        let kind = self.network.below(kinds);
        let dead = match kind {
            // Both ends may use all the pairs that there are, one each.
            2 if ours.len() * theirs.len() < 3 => self.paths_in_use(session, 0),
            0..3 => self.paths_in_use(session, kind),
            _ => self.all_but_few(&ours, &theirs, kind == 3),
        };
        self.note(format!("session {session} loses {} paths (exam {kind})", dead.len()));
        for (from, to) in dead {
            self.links.set(from, to, Link::dead());
        }
        self.look_at_paths();
        let start = self.now;
        // What was sent before the cut has arrived, and what is sent from now on has to suffer from it.
        self.run_for(IN_TIME * 2)?;
        let end = self.now + self.settling_bound() * PASSES;
        while !self.flows(session, start + IN_TIME) {
            if self.now >= end {
                let ends = [false, true].map(|reverse| self.describe_end(session, reverse));
                let what = format!("session {session} finds no other path: {}, {}", ends[0], ends[1]);
                return Err(self.failure(Violation::new(Invariant::Liveness, what)));
            }
            self.run_for(LOOK)?;
        }
        self.links.set_all(Link::clean(DELAY));
        self.look_at_paths();
        Ok(())
    }

    /// The locators of the first and of the second host that each knows of the other, where both have a lasting context and
    /// there is more than one pair.
    fn known_locators(&self, session: usize) -> Option<[Vec<Ipv6Addr>; 2]> {
        let lasts = |reverse| {
            let plan = self.hosts[self.end_of(session, reverse)].plan();
            plan.config.quiescence >= LASTING
        };
        let (ours, theirs) = (self.context(session, true)?, self.context(session, false)?);
        let known = [ours.peer_locators, theirs.peer_locators];
        let knows_all =
            |reverse, known: &[Ipv6Addr]| known.len() == self.hosts[self.end_of(session, reverse)].locators().len();
        let have_both = matches!(
            self.agreement(session),
            Agreement::Both | Agreement::Differ { steered: false }
        );
        let is_settled = have_both && !ours.updating && !theirs.updating;
        let is_known = knows_all(false, &known[0]) && knows_all(true, &known[1]);
        let has_choice = known[0].len() * known[1].len() > 1;
        (is_settled && is_known && has_choice && lasts(false) && lasts(true)).then_some(known)
    }

    /// What the payload is sent on: by the first host, by the second, or the pairs of both, in both directions.
    fn paths_in_use(&self, session: usize, which: usize) -> Vec<(Ipv6Addr, Ipv6Addr)> {
        let ends = [false, true].map(|reverse| {
            let context = self.context(session, reverse);
            let pair = context.map_or(self.ulids(session, reverse), |context| context.locators);
            (pair.local, pair.peer)
        });
        match which {
            0 | 1 => vec![ends[which]],
            _ => ends
                .into_iter()
                .flat_map(|(local, peer)| [(local, peer), (peer, local)])
                .collect(),
        }
    }

    /// Everything but one pair that works both ways, or one way each on any two pairs.
    fn all_but_few(&mut self, ours: &[Ipv6Addr], theirs: &[Ipv6Addr], same: bool) -> Vec<(Ipv6Addr, Ipv6Addr)> {
        let dice = &mut self.network;
        let forth = (*dice.pick(ours), *dice.pick(theirs));
        let back = match same {
            true => (forth.1, forth.0),
            false => (*dice.pick(theirs), *dice.pick(ours)),
        };
        let pairs = ours
            .iter()
            .flat_map(|&one| theirs.iter().map(move |&other| (one, other)));
        let directed = pairs.flat_map(|(one, other)| [(one, other), (other, one)]);
        directed.filter(|&path| path != forth && path != back).collect()
    }
}
