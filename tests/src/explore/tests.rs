//! The worlds that are explored.
//!
//! `SHIM6_EXPLORE=2` and more makes them larger: one more loss, duplicate and packet in flight for each step.

use std::env;
use std::rc::Rc;
use std::time::Instant as WallClock;

use shim6_core::wire::MessageType;

use super::search::{Fault, Model, Report, explore};
use super::settle::Settled;
use super::world::{Action, Budget, Setup, World};

/// More states than there is memory for in the larger worlds.
const STATES: usize = 5_000_000;

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

    fn is_within(&self, world: &World) -> bool {
        world.is_within()
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
        "{name}: {} states, {} transitions, {} of them with too many packets in flight, depth {}, {:.1} s",
        report.states,
        report.transitions,
        report.beyond,
        report.depth,
        started.elapsed().as_secs_f64()
    );
    report
}

/// How much larger than usual the worlds are to be.
fn more() -> u8 {
    let value = env::var("SHIM6_EXPLORE").ok();
    let value = value.map(|value| value.parse::<u8>().expect("SHIM6_EXPLORE is a number from 1"));
    value.map_or(0, |value| value.saturating_sub(1))
}

fn all_is_well(name: &str, setup: Setup) {
    let mut setup = setup;
    setup.budget.lose += more();
    setup.budget.duplicate += more();
    setup.in_flight += usize::from(more());
    let report = explored(name, setup);
    if let Some(fault) = report.fault {
        panic!("{name}:\n{fault}");
    }
    assert!(!report.is_cut, "{name} has more states than {STATES}");
}

/// The fault that an endpoint has which never gets messages of a type.
fn fault_without(message_type: MessageType, budget: Budget) -> Fault {
    let setup = Setup {
        budget,
        ignored: Some(message_type),
        ..Setup::default()
    };
    let report = explored(&format!("without {message_type}"), setup);
    report.fault.expect("this cannot be well")
}

fn n(name: &str, default: u8) -> u8 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn budget() -> Budget {
    Budget {
        lose: n("LOSE", 1),
        duplicate: n("DUP", 1),
        timeouts: n("TO", 1),
        ..Budget::default()
    }
}

fn setup(budget: Budget) -> Setup {
    Setup {
        budget,
        in_flight: n("K", 3).into(),
        ..Setup::default()
    }
}

#[test]
fn exchange_from_one_side() {
    all_is_well(
        "from one side",
        setup(Budget {
            establish: [1, 0],
            ..budget()
        }),
    );
}

/// Figures 4 and 5 of RFC 5533.
#[test]
fn exchange_from_both_sides() {
    all_is_well(
        "from both sides",
        setup(Budget {
            establish: [1, 1],
            ..budget()
        }),
    );
}

/// Figure 6: the peer has lost the context, and payload shows it.
#[test]
fn recovery_of_a_lost_context() {
    all_is_well(
        "responder crashes",
        setup(Budget {
            establish: [1, 0],
            crash: [0, 1],
            payload: [1, 0],
            ..budget()
        }),
    );
}

/// Figure 7: the initiator has lost the context, and begins again.
#[test]
fn exchange_with_a_peer_that_still_has_the_context() {
    all_is_well(
        "initiator crashes",
        setup(Budget {
            establish: [2, 0],
            crash: [1, 0],
            payload: [0, 1],
            ..budget()
        }),
    );
}

#[test]
fn context_closed_at_one_end() {
    all_is_well(
        "closed",
        setup(Budget {
            establish: [1, 0],
            close: [1, 1],
            payload: [1, 1],
            ..budget()
        }),
    );
}

#[test]
fn new_locators() {
    all_is_well(
        "new locators",
        setup(Budget {
            establish: [1, 0],
            update: [1, 1],
            ..budget()
        }),
    );
}

#[test]
fn fork() {
    all_is_well(
        "fork",
        setup(Budget {
            establish: [1, 0],
            fork: [1, 1],
            ..budget()
        }),
    );
}

#[test]
fn lost_locator() {
    all_is_well(
        "lost locator",
        setup(Budget {
            establish: [1, 0],
            locator: [1, 0],
            ..budget()
        }),
    );
}

#[test]
fn confusion() {
    all_is_well(
        "confusion",
        Setup {
            ulids: vec![[0, 0], [1, 1]],
            same_tags: true,
            ..setup(Budget {
                establish: [2, 0],
                crash: [1, 0],
                payload: [0, 1],
                ..budget()
            })
        },
    );
}

#[test]
fn host_that_ignores_r1bis_is_found_with_the_way_to_its_fault() {
    let fault = fault_without(
        MessageType::R1BIS,
        Budget {
            establish: [1, 0],
            ..Budget::default()
        },
    );
    println!("{fault}");
}
