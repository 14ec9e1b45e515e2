//! Running a world of failovers.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shim6_core::{ContextState, Instant, LocatorPair, ReapState};

use super::Tally;
use super::bound::Timers;
use super::damping::Damping;
use super::faults::{Faults, Ground, times};
use super::plan::{Plan, timers};
use super::wishes::Wishes;
use crate::sim::dice::{Dice, Stream};
use crate::sim::failure::Failure;
use crate::sim::invariants::{Invariant, Violation};
use crate::sim::link::Link;
use crate::sim::pool::Locator;
use crate::sim::scenario::{Action, Sabotage};
use crate::sim::settle::Agreement;
use crate::sim::world::World;

/// How often it is looked whether a session is well.
const LOOK: Duration = Duration::from_millis(10);
/// How long setting up a context may take, with all losses on its way.
const SETTING_UP: Duration = Duration::from_secs(60);

/// A session that has to be well again.
#[derive(Debug)]
struct Recovery {
    session: usize,
    /// How long that may take.
    bound: Duration,
    is_well: bool,
    /// Since when.
    since: Instant,
}

impl Recovery {
    fn new(session: usize, start: Instant, bound: Duration) -> Self {
        Self {
            session,
            bound,
            is_well: true,
            since: start,
        }
    }

    fn look(&mut self, now: Instant, is_well: bool) {
        if is_well != self.is_well {
            (self.is_well, self.since) = (is_well, now);
        }
    }
}

/// A world of failovers.
#[derive(Debug)]
pub struct Failovers {
    world: World,
    dice: Dice,
    links: BTreeMap<(Locator, Locator), Link>,
    longest: Duration,
    faults: Faults,
    /// Whether packets are lost now and then.
    lossy: bool,
    wishes: Wishes,
    damping: Damping,
    /// When each session was last seen well: neither end was looking for a pair then.
    last_well: Vec<Instant>,
    /// How many of the world's changes have been looked at.
    seen: usize,
    tally: Tally,
}

impl Failovers {
    /// The world of a seed, at its start.
    pub fn new(seed: u64, keep_trace: bool) -> Self {
        let mut dice = Dice::new(seed, Stream::Failovers);
        let mut plan = Plan::random(seed, &mut dice);
        plan.scenario.keep_trace = keep_trace;
        Self::with(plan, dice)
    }

    /// The same with something wrong with each host.
    pub fn sabotaged(seed: u64, sabotage: Sabotage) -> Self {
        let mut dice = Dice::new(seed, Stream::Failovers);
        let mut plan = Plan::random(seed, &mut dice);
        for host in &mut plan.scenario.hosts {
            host.sabotage = Some(sabotage);
        }
        Self::with(plan, dice)
    }

    fn with(plan: Plan, dice: Dice) -> Self {
        let world = World::new(plan.scenario);
        Self {
            lossy: plan.links.values().any(|link| link.loss > 0),
            last_well: vec![world.now(); world.running.len()],
            world,
            dice,
            links: plan.links,
            longest: plan.longest,
            wishes: plan.wishes,
            damping: Damping::default(),
            seen: 0,
            faults: Faults::new(),
            tally: Tally::default(),
        }
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// A session was lost, or another invariant did not hold.
    pub fn run(&mut self) -> Result<Tally, Box<Failure>> {
        self.set_up()?;
        for _ in 0..self.dice.between(2..=10) {
            self.round()?;
            self.check_damping()?;
        }
        // A lost probe puts everything off. And where pairs are many, each waits for its turn for long.
        if !self.lossy && self.dice.chance(300) {
            self.converge()?;
            self.check_damping()?;
        }
        let mut tally = std::mem::take(&mut self.tally);
        tally.changes = self.world.paths().changes().len();
        tally.steps = self.world.summary().steps;
        Ok(tally)
    }

    /// As [`run`](Self::run), with a panic as a failure like others.
    ///
    /// # Errors
    /// A session was lost, or another invariant did not hold, or something panicked.
    pub fn run_caught(&mut self) -> Result<Tally, Box<Failure>> {
        catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|panic| Err(self.world.panicked(&*panic)))
    }

    /// Gives paths their delays, and waits for the contexts.
    fn set_up(&mut self) -> Result<(), Box<Failure>> {
        for (&(from, to), &link) in &self.links {
            self.world.perform(Action::SetLink { from, to, link })?;
        }
        let all = |world: &World| (0..world.scenario().sessions.len()).all(|it| world.agreement(it) == Agreement::Both);
        let end = self.world.now() + SETTING_UP;
        while !all(&self.world) {
            if self.world.now() >= end {
                let what = "no contexts in the beginning";
                return Err(self.world.failure(Violation::new(Invariant::Liveness, what)));
            }
            self.world.run_for(Duration::from_millis(100))?;
        }
        self.world.run_for(self.longest * 4)
    }

    /// Things fail and heal; then each session that has payload has to be on pairs that work.
    fn round(&mut self) -> Result<(), Box<Failure>> {
        self.pause_sessions()?;
        let events = self.draw_events();
        let start = self.world.now();
        let first = events.first().map_or(Duration::ZERO, |&(at, _)| at);
        self.world.run_for(first)?;
        self.note_well();
        let mut hit = BTreeSet::new();
        for (at, action) in events {
            self.world.run_for(start + at - self.world.now())?;
            self.world.perform(action)?;
            let sessions = 0..self.world.scenario().sessions.len();
            hit.extend(sessions.filter(|&it| self.world.running[it] && !self.is_on_working_pairs(it)));
        }
        self.tally.failovers += hit.len();
        self.judge()?;
        let pause = self.dice.millis(0..=1_000);
        self.world.run_for(pause)
    }

    /// Nothing goes wrong before now. Who is not well now may have been looking for a pair ever since it was: a session that paused
    /// is not waited for, and its ends' probes are as far apart as they have become since.
    fn note_well(&mut self) {
        let now = self.world.now();
        for session in 0..self.last_well.len() {
            if self.is_well(session) {
                self.last_well[session] = now;
            }
        }
    }

    /// For how long a session's ends may have been looking for a pair.
    fn before(&self, session: usize) -> Duration {
        self.world.now() - self.last_well[session]
    }

    /// Some sessions have nothing to say for a round.
    fn pause_sessions(&mut self) -> Result<(), Box<Failure>> {
        for session in 0..self.world.running.len() {
            let running = !self.dice.chance(100);
            if running != self.world.running[session] {
                self.world.perform(Action::SetSession { session, running })?;
            }
        }
        Ok(())
    }

    /// What happens in a round, and when after its start.
    fn draw_events(&mut self) -> Vec<(Duration, Action)> {
        let sessions = &self.world.scenario().sessions;
        let served: BTreeSet<_> = (sessions.iter())
            .flat_map(|session| {
                [
                    (session.from.host, session.to.host),
                    (session.to.host, session.from.host),
                ]
            })
            .collect();
        let in_use: Vec<_> = (0..sessions.len()).flat_map(|session| self.in_use(session)).collect();
        let ground = Ground {
            links: &self.links,
            served: &served,
            in_use: &in_use,
        };
        let dice = &mut self.dice;
        let next = ground.draw(dice, &self.faults);
        let mut steps = ground.steps(&self.faults, &next);
        shuffle(dice, &mut steps);
        let mut events: Vec<_> = times(dice, steps.len()).into_iter().zip(steps).collect();
        match dice.below(10) {
            // Something goes and comes before that, a few times.
            0..2 if !next.is_empty() => {
                let things: Vec<_> = next.iter().map(|(&thing, &fault)| (thing, fault)).collect();
                let &(thing, fault) = dice.pick(&things);
                let mut at = Duration::ZERO;
                let mut flaps = Vec::new();
                for _ in 0..dice.between(1..=6) {
                    for fails in [true, false] {
                        at += dice.millis(10..=800);
                        flaps.push((at, ground.set(thing, fault, fails)));
                    }
                }
                flaps.push((at, ground.set(thing, fault, true)));
                events = flaps
                    .into_iter()
                    .chain(events.into_iter().map(|(after, action)| (at + after, action)))
                    .collect();
            }
            // Nothing at all works for a while.
            2 => {
                let pairs: Vec<_> = served.iter().copied().collect();
                let all = ground
                    .cut_all(*dice.pick(&pairs))
                    .into_iter()
                    .map(|action| (Duration::ZERO, action));
                let lasts = dice.millis(50..=10_000);
                let again = ground.mended(&next);
                let later = |(after, action)| (lasts + after, action);
                let again = again.into_iter().map(|action| (Duration::ZERO, action));
                events = all.chain(events.into_iter().chain(again).map(later)).collect();
                events.sort_by_key(|&(at, _)| at);
            }
            _ => {}
        }
        self.faults = next;
        events
    }

    /// The paths that a session's payload takes.
    fn in_use(&self, session: usize) -> impl Iterator<Item = (Locator, Locator)> + use<> {
        let ends = [false, true].map(|reverse| {
            let pair = self.world.context(session, reverse)?.locators;
            Some((
                *self.world.owners.get(&pair.local)?,
                *self.world.owners.get(&pair.peer)?,
            ))
        });
        ends.into_iter().flatten()
    }

    /// Waits until each session has been well for so long that whatever happened would have been noticed since. Without losses
    /// it is well at the end of its bound, and stays so. Losses may be taken for failures, and may be of probes: then it is
    /// not unwell for longer than twice the bound at a stretch.
    fn judge(&mut self) -> Result<(), Box<Failure>> {
        let start = self.world.now();
        let sessions = (0..self.world.running.len()).filter(|&session| self.world.running[session]);
        let mut open: Vec<_> = sessions
            .map(|session| Recovery::new(session, start, self.bound(session, self.before(session))))
            .collect();
        while !open.is_empty() {
            let now = self.world.now();
            for it in &mut open {
                it.look(now, self.is_well(it.session));
                let is_in_time = match self.lossy {
                    false => it.is_well || now < start + it.bound,
                    true => it.is_well || now < it.since + it.bound * 2,
                };
                if !is_in_time {
                    return Err(self.lost(it.session, now - start));
                }
            }
            let is_done = |it: &Recovery| {
                let is_calm = it.is_well && now - it.since >= self.noticed(it.session);
                is_calm || (self.lossy && now >= start + it.bound * 4)
            };
            let is_slow = open.iter().any(|it| !self.is_fast(it.session));
            let (done, left) = open.into_iter().partition(is_done);
            open = left;
            self.count(start, done);
            self.world.run_for(if is_slow { LOOK * 10 } else { LOOK })?;
        }
        Ok(())
    }

    fn count(&mut self, start: Instant, done: Vec<Recovery>) {
        for Recovery { session, since, .. } in done {
            let took = since - start;
            match self.is_fast(session) {
                _ if took.is_zero() => {}
                true => self.tally.fast.push(took),
                false => self.tally.rfc.push(took),
            }
        }
    }

    fn check_damping(&mut self) -> Result<(), Box<Failure>> {
        let changes = &self.world.paths().changes()[self.seen..];
        for change in changes {
            let config = &self.world.hosts[change.host].plan().config.failback;
            let result = self.damping.check(change, config);
            result.map_err(|violation| self.world.failure(violation))?;
        }
        self.seen += changes.len();
        Ok(())
    }

    /// Nothing happens any more: each end has to come to the best pair of its own order that works, and to stay there.
    fn converge(&mut self) -> Result<(), Box<Failure>> {
        let sessions = 0..self.world.running.len();
        for session in sessions.clone() {
            self.world.perform(Action::SetSession { session, running: true })?;
        }
        self.note_well();
        self.judge()?;
        let bounds = sessions.clone().map(|session| self.convergence(session));
        let bound = bounds.max().unwrap_or_default();
        let end = self.world.now() + bound;
        let waits = |it: &Self| sessions.clone().find_map(|session| it.better_pair(session));
        while let Some(what) = waits(self) {
            if self.world.now() >= end {
                let violation = Violation::new(Invariant::Convergence, format!("after {bound:?} {what}"));
                return Err(self.world.failure(violation));
            }
            self.world.run_for(Duration::from_millis(500))?;
        }
        let changes = self.world.paths().changes().len();
        self.world.run_for(bound.min(Duration::from_secs(60)))?;
        match self.world.paths().changes().get(changes) {
            None => Ok(()),
            Some(change) => {
                let what = format!("{change:?}, although all was well");
                Err(self.world.failure(Violation::new(Invariant::Convergence, what)))
            }
        }
    }

    /// How long it takes at most until both ends of a session are on the pairs that they like best.
    ///
    /// The pairs that are better than the present one are tested in turn, one in each interval. Of each of them the first answer
    /// begins its trial, and the first answer after the time that it has to be stable for ends it: that is a turn before and a turn
    /// after. The time to be stable for is at most the limit of the damping, or two intervals.
    fn convergence(&self, session: usize) -> Duration {
        let ends = [false, true].map(|reverse| self.world.end_of(session, reverse));
        let pairs: usize = ends.iter().map(|&end| self.world.hosts[end].locators().len()).product();
        let configs = ends.map(|end| self.world.hosts[end].plan().config.failback);
        let timers = self.timers(session);
        let interval = configs
            .iter()
            .map(|config| config.interval)
            .max()
            .unwrap_or_default()
            .max(timers.send_timeout * 4);
        let stable = configs.iter().map(|config| config.max_stable).max().unwrap_or_default();
        self.bound(session, Duration::ZERO) + stable.max(interval * 2) + interval * (2 * pairs as u32 + 2)
    }

    /// What a session's end would rather use, and could. Who is at home stays there, unless that is a last resort.
    fn better_pair(&self, session: usize) -> Option<String> {
        let locator = |address| self.world.owners[&address];
        [false, true].into_iter().find_map(|reverse| {
            let context = self.world.context(session, reverse)?;
            let (home, current) = [context.ulids, context.locators]
                .map(|pair| (locator(pair.local), locator(pair.peer)))
                .into();
            let is_better = |&(local, peer): &(Locator, Locator)| {
                (local.host, peer.host) == (home.0.host, home.1.host)
                    && self.world.paths().works(self.world.pair(local, peer))
                    && self.wishes.prefers((local, peer), current, home)
            };
            let better = self
                .links
                .keys()
                .copied()
                .find(is_better)
                .filter(|_| current != home || !self.wishes.keeps(home));
            better.map(|better| {
                let (host, current, better) = (
                    self.world.end_of(session, reverse),
                    context.locators,
                    self.world.pair(better.0, better.1),
                );
                let info = self.world.hosts[host]
                    .endpoint()
                    .and_then(|endpoint| endpoint.context(context.id));
                let timeout = info.map(|info| info.send_timeout);
                format!("h{host} uses {current} and not {better} in session {session}, Send Timeout {timeout:?}")
            })
        })
    }

    fn lost(&self, session: usize, took: Duration) -> Box<Failure> {
        let [one, other] = [false, true].map(|reverse| self.world.describe_end(session, reverse));
        let what = format!("session {session} is lost: after {took:?} {one}, {other}");
        self.world.failure(Violation::new(Invariant::Liveness, what))
    }

    fn timers(&self, session: usize) -> Timers {
        let ends = [false, true].map(|reverse| &self.world.hosts[self.world.end_of(session, reverse)].plan().config);
        timers(ends[0], ends[1], self.longest)
    }

    fn is_fast(&self, session: usize) -> bool {
        self.timers(session).longest_spacing < Duration::from_secs(60)
    }

    fn bound(&self, session: usize, before: Duration) -> Duration {
        let locators =
            [false, true].map(|reverse| self.world.hosts[self.world.end_of(session, reverse)].locators().len());
        let pairs = (locators[0] * locators[1]) as u32;
        self.timers(session)
            .recovery(pairs, self.gap(session), self.longest, before)
    }

    fn noticed(&self, session: usize) -> Duration {
        self.timers(session).noticed(self.gap(session), self.longest)
    }

    /// Applications pause for up to one and a half intervals.
    fn gap(&self, session: usize) -> Duration {
        self.world.scenario().sessions[session].interval * 3 / 2
    }

    /// Whether both ends send on pairs that work, content with them.
    fn is_well(&self, session: usize) -> bool {
        let is_operational = |reverse| {
            let context = self.world.context(session, reverse);
            context.is_some_and(|context| {
                context.state == ContextState::Established && context.reap == ReapState::Operational
            })
        };
        is_operational(false)
            && is_operational(true)
            && self.world.agreement(session) == Agreement::Both
            && self.is_on_working_pairs(session)
    }

    /// Whether the directed pairs that both ends send on work. Where one of them sends nothing it is for keepalives.
    fn is_on_working_pairs(&self, session: usize) -> bool {
        let works = |pair: LocatorPair| self.world.paths().works(pair);
        [false, true].into_iter().all(|reverse| {
            self.world
                .context(session, reverse)
                .is_some_and(|it| works(it.locators))
        })
    }
}

fn shuffle<T>(dice: &mut Dice, of: &mut [T]) {
    for last in (1..of.len()).rev() {
        of.swap(last, dice.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_that_paused_while_nothing_worked_has_as_long_as_its_probes_are_apart() {
        let is_meant = |it: &Failovers| !it.lossy && it.is_fast(0);
        let mut it = (0..)
            .map(|seed| Failovers::new(seed, false))
            .find(is_meant)
            .expect("one of many");
        it.set_up().unwrap();
        it.note_well();
        let usual = it.bound(0, it.before(0));
        let healthy = it.links.clone();
        let set_all = |it: &mut Failovers, link_of: &dyn Fn(Link) -> Link| {
            for (&(from, to), &link) in &healthy {
                let link = link_of(link);
                it.world.perform(Action::SetLink { from, to, link }).unwrap();
            }
        };
        set_all(&mut it, &|_| Link::dead());
        it.world.run_for(it.noticed(0)).unwrap();
        let pause = Action::SetSession {
            session: 0,
            running: false,
        };
        it.world.perform(pause).unwrap();
        it.world.run_for(Duration::from_secs(30)).unwrap();
        set_all(&mut it, &|link| link);
        it.note_well();
        let bound = it.bound(0, it.before(0));
        assert!(
            bound > usual + it.timers(0).longest_spacing / 2,
            "{bound:?} and {usual:?}"
        );
    }
}
