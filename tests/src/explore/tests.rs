//! The worlds that are explored.

use std::rc::Rc;
use std::time::Instant as WallClock;

use shim6_core::wire::MessageType;

use super::search::{Model, Report, explore};
use super::settle::Settled;
use super::world::{Action, Budget, Setup, World};

/// More states than the worlds of ordinary runs have.
const STATES: usize = 2_000_000;

struct Check {
    setup: Rc<Setup>,
    settled: Settled,
}

impl Model for Check {
    type State = World;
    type Action = Action;

    fn initial(&self) -> World {
        World::new(&self.setup)
    }

    fn actions(&self, world: &World) -> Vec<Action> {
        world.actions()
    }

    fn act(&self, world: &mut World, action: &Action) {
        world.act(action);
    }

    fn fingerprint(&self, world: &World) -> u64 {
        world.fingerprint(true)
    }

    fn check(&mut self, world: &World) -> Result<(), String> {
        world.check()?;
        self.settled.check(world)
    }
}

fn explored(name: &str, setup: Setup) -> Report {
    let mut check = Check {
        setup: Rc::new(setup),
        settled: Settled::default(),
    };
    let started = WallClock::now();
    let report = explore(&mut check, STATES);
    println!(
        "{name}: {} states, {} transitions, depth {}, {:.1} s",
        report.states,
        report.transitions,
        report.depth,
        started.elapsed().as_secs_f64()
    );
    report
}

fn all_is_well(name: &str, setup: Setup) {
    let report = explored(name, setup);
    if let Some(fault) = report.fault {
        panic!("{name}:\n{fault}");
    }
    assert!(!report.is_cut, "{name} has more states than {STATES}");
}

#[test]
fn exchange_from_one_side() {
    let budget = Budget {
        establish: [1, 0],
        lose: 2,
        duplicate: 2,
        ..Budget::default()
    };
    all_is_well(
        "from one side",
        Setup {
            budget,
            ..Setup::default()
        },
    );
}

#[test]
fn exchange_from_both_sides() {
    let budget = Budget {
        establish: [1, 1],
        lose: 1,
        duplicate: 1,
        ..Budget::default()
    };
    all_is_well(
        "from both sides",
        Setup {
            budget,
            ..Setup::default()
        },
    );
}

#[test]
fn ignored_answers_are_a_fault() {
    let budget = Budget {
        establish: [1, 0],
        ..Budget::default()
    };
    let setup = Setup {
        budget,
        ignored: Some(MessageType::R2),
        ..Setup::default()
    };
    let fault = explored("without R2", setup).fault.expect("a fault");
    println!("{fault}");
}
