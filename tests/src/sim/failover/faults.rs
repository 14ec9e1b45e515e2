//! What is wrong in a world at the moment, and what goes wrong next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::sim::dice::Dice;
use crate::sim::link::{Link, Refusal};
use crate::sim::pool::Locator;
use crate::sim::scenario::Action;

/// Something that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// The way from one locator to another.
    Path(Locator, Locator),
    /// A host's own link.
    Uplink(Locator),
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody is told.
    Silent,
    /// A router answers that there is no way, or the host knows that its link is down.
    Told,
}

/// All that is wrong.
pub(super) type Faults = BTreeMap<Thing, Fault>;

/// The network that the faults are in.
pub(super) struct Ground<'a> {
    pub(super) links: &'a BTreeMap<(Locator, Locator), Link>,
    /// Directed pairs of hosts with sessions: for each, one path has to work.
    pub(super) served: &'a BTreeSet<(usize, usize)>,
    /// Paths that payload takes at the moment.
    pub(super) in_use: &'a [(Locator, Locator)],
}

impl Ground<'_> {
    /// What will be wrong after the next round: some of what is wrong now, and more.
    pub(super) fn draw(&self, dice: &mut Dice, now: &Faults) -> Faults {
        let heals = *dice.pick(&[200, 600, 1000]);
        let mut next: Faults = now.iter().map(|(&thing, &fault)| (thing, fault)).collect();
        next.retain(|_, _| !dice.chance(heals));
        for _ in 0..dice.between(1..=3) {
            self.fail(dice, &mut next);
        }
        self.spare(dice, &mut next);
        // What goes on being wrong does so in the same way.
        for (thing, fault) in &mut next {
            *fault = now.get(thing).copied().unwrap_or(*fault);
        }
        next
    }

    /// The actions that lead from one state to another.
    pub(super) fn steps(&self, from: &Faults, to: &Faults) -> Vec<Action> {
        let ends = from.iter().filter(|&(thing, _)| !to.contains_key(thing));
        let begins = to.iter().filter(|&(thing, _)| !from.contains_key(thing));
        let healed = ends.map(|(&thing, &fault)| self.set(thing, fault, false));
        let broken = begins.map(|(&thing, &fault)| self.set(thing, fault, true));
        healed.chain(broken).collect()
    }

    /// The action with which something fails, or works again as quietly as it had failed.
    pub(super) fn set(&self, thing: Thing, fault: Fault, fails: bool) -> Action {
        match thing {
            Thing::Path(from, to) if fails => {
                let refusal = (fault == Fault::Told).then_some(Refusal::Unreachable);
                let link = Link {
                    refusal,
                    ..Link::dead()
                };
                Action::SetLink { from, to, link }
            }
            Thing::Path(from, to) => Action::SetLink {
                from,
                to,
                link: self.links[&(from, to)],
            },
            Thing::Uplink(locator) => Action::SetLocator {
                locator,
                up: !fails,
                told: fault == Fault::Told,
            },
        }
    }

    /// Everything between the hosts of this directed pair and back fails.
    pub(super) fn cut_all(&self, (one, other): (usize, usize)) -> Vec<Action> {
        let paths = self.links.keys();
        let paths = paths.filter(|(from, to)| [(one, other), (other, one)].contains(&(from.host, to.host)));
        paths
            .map(|&(from, to)| self.set(Thing::Path(from, to), Fault::Silent, true))
            .collect()
    }

    /// All paths are as these faults have them.
    pub(super) fn mended(&self, faults: &Faults) -> Vec<Action> {
        let set = |&(from, to): &(Locator, Locator)| {
            let thing = Thing::Path(from, to);
            self.set(
                thing,
                faults.get(&thing).copied().unwrap_or(Fault::Silent),
                faults.contains_key(&thing),
            )
        };
        self.links.keys().map(set).collect()
    }

    /// One more failure.
    fn fail(&self, dice: &mut Dice, faults: &mut Faults) {
        let paths: Vec<_> = self.links.keys().copied().collect();
        let (from, to) = match dice.chance(700) && !self.in_use.is_empty() {
            true => *dice.pick(self.in_use),
            false => *dice.pick(&paths),
        };
        let fault = if dice.chance(300) { Fault::Told } else { Fault::Silent };
        let end = if dice.chance(500) { from } else { to };
        let directions = *dice.pick(&[[true, false], [false, true], [true, true], [true, true]]);
        let is_hit = |&(source, destination): &(Locator, Locator)| {
            (directions[0] && source == end) || (directions[1] && destination == end)
        };
        match dice.below(10) {
            // A path, in one direction or both.
            0..3 => drop(faults.insert(Thing::Path(from, to), fault)),
            3..5 => faults.extend([(from, to), (to, from)].map(|(from, to)| (Thing::Path(from, to), fault))),
            // An uplink, somewhere behind the host's own link: in one direction or both.
            5..8 => {
                let hit = paths.into_iter().filter(is_hit);
                faults.extend(hit.map(|(from, to)| (Thing::Path(from, to), fault)));
            }
            _ => drop(faults.insert(Thing::Uplink(end), fault)),
        }
    }

    /// Heals something where no path is left.
    fn spare(&self, dice: &mut Dice, faults: &mut Faults) {
        for &(from, to) in self.served {
            let between = self
                .links
                .keys()
                .filter(|path| (path.0.host, path.1.host) == (from, to));
            let between: Vec<_> = between.copied().collect();
            if !between.iter().any(|&path| works(faults, path)) {
                let &(from, to) = dice.pick(&between);
                for thing in [Thing::Path(from, to), Thing::Uplink(from), Thing::Uplink(to)] {
                    faults.remove(&thing);
                }
            }
        }
    }
}

fn works(faults: &Faults, (from, to): (Locator, Locator)) -> bool {
    let things = [Thing::Path(from, to), Thing::Uplink(from), Thing::Uplink(to)];
    !things.iter().any(|thing| faults.contains_key(thing))
}

/// When the events of a round happen, counted from its start.
pub(super) fn times(dice: &mut Dice, count: usize) -> Vec<Duration> {
    let window = *dice.pick(&[0, 0, 50, 300, 2_000]);
    let mut times: Vec<_> = (0..count).map(|_| dice.millis(0..=window)).collect();
    times.sort_unstable();
    times
}
