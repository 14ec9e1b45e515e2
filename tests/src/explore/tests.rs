//! The worlds that are explored.
//!
//! `SHIM6_EXPLORE=2` and more makes them larger: one more loss, duplicate and packet in flight for each step.

use std::env;
use std::rc::Rc;
use std::time::Instant as WallClock;

use shim6_core::wire::MessageType;

use super::search::{Fault, Model, Report, explore};
use super::settle::Settled;
use super::setup::{Action, Budget, Setup};
use super::world::World;

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

fn setup(in_flight: usize, budget: Budget) -> Setup {
    Setup {
        budget,
        in_flight,
        ..Setup::default()
    }
}

#[test]
fn exchange_from_one_side_ends_in_agreement() {
    let budget = Budget {
        establish: [1, 0],
        lose: 2,
        duplicate: 2,
        timeouts: 1,
        ..Budget::default()
    };
    all_is_well("from one side", setup(4, budget));
}

/// Figures 4 and 5 of RFC 5533.
#[test]
fn exchange_from_both_sides_ends_in_agreement() {
    let budget = Budget {
        establish: [1, 1],
        lose: 1,
        duplicate: 1,
        timeouts: 1,
        ..Budget::default()
    };
    all_is_well("from both sides", setup(3, budget));
}

/// Figure 6: the responder loses the context, or has not got it yet, and payload shows it.
#[test]
fn context_that_the_responder_lost_is_recovered_or_given_up() {
    let budget = Budget {
        establish: [1, 0],
        crash: [0, 1],
        payload: [1, 0],
        lose: 1,
        duplicate: 1,
        timeouts: 1,
        ..Budget::default()
    };
    all_is_well("responder crashes", setup(3, budget));
}

/// Figure 7: the initiator loses the context, and begins again with a peer that has it.
#[test]
fn initiator_that_lost_the_context_gets_it_back() {
    let budget = Budget {
        establish: [2, 0],
        crash: [1, 0],
        payload: [0, 1],
        lose: 1,
        ..Budget::default()
    };
    all_is_well("initiator crashes", setup(3, budget));
}

#[test]
fn context_closed_at_either_end_is_recovered_or_given_up() {
    let budget = Budget {
        establish: [1, 0],
        close: [1, 1],
        payload: [1, 1],
        ..Budget::default()
    };
    all_is_well("closed", setup(3, budget));
}

/// Section 10: an Update Request at any time, of the exchange, too.
#[test]
fn peer_learns_of_new_locators() {
    let budget = Budget {
        establish: [1, 0],
        update: [1, 1],
        lose: 1,
        timeouts: 1,
        ..Budget::default()
    };
    all_is_well("new locators", setup(3, budget));
}

#[test]
fn fork_beside_its_context_ends_in_agreement() {
    let budget = Budget {
        establish: [1, 0],
        fork: [1, 0],
        lose: 1,
        timeouts: 1,
        ..Budget::default()
    };
    all_is_well("fork", setup(3, budget));
}

#[test]
fn locator_that_is_lost_at_any_time_is_left() {
    let budget = Budget {
        establish: [1, 0],
        locator: [1, 0],
        lose: 1,
        timeouts: 2,
        ..Budget::default()
    };
    all_is_well("locator lost", setup(3, budget));
}

/// Sections 7.6 and 7.15: a host that has lost its state gives a tag of old to a context with other ULIDs.
#[test]
fn tag_given_out_again_for_other_ulids_confuses_nobody() {
    let budget = Budget {
        establish: [2, 0],
        crash: [1, 0],
        ..Budget::default()
    };
    let setup = Setup {
        ulids: vec![[0, 0], [1, 1]],
        same_tags: true,
        ..setup(3, budget)
    };
    all_is_well("confusion", setup);
}

/// Without R1bis a context that one end has lost stays with the other: the check has to find it, by a shortest way.
#[test]
fn host_that_ignores_r1bis_is_found() {
    let budget = Budget {
        establish: [1, 0],
        crash: [0, 1],
        ..Budget::default()
    };
    let fault = fault_without(MessageType::R1BIS, budget);
    assert!(fault.reason.contains("ends without agreement"), "{fault}");
    assert!(fault.trace.len() <= 6, "{fault}");
    assert!(fault.trace[0].contains("begins an exchange"), "{fault}");
}

/// A lost Update Request is sent again for ever: such a world does not come to rest.
#[test]
fn host_that_ignores_update_acknowledgements_is_found() {
    let budget = Budget {
        establish: [1, 0],
        update: [1, 0],
        ..Budget::default()
    };
    let fault = fault_without(MessageType::UPDATE_ACKNOWLEDGEMENT, budget);
    assert!(fault.reason.contains("does not come to rest"), "{fault}");
    assert!(
        fault.trace.iter().any(|action| action.contains("changes its locators")),
        "{fault}"
    );
}

/// The explorer makes states again from the way to them when there are too many to keep.
#[test]
fn same_way_leads_to_the_same_state() {
    let budget = Budget {
        establish: [1, 1],
        ..Budget::default()
    };
    let setup = Rc::new(setup(3, budget));
    let run = |seed: usize| {
        let mut world = World::new(&setup);
        for step in 0..30 {
            let actions = world.actions();
            let Some(action) = actions.get((seed + step * step) % actions.len().max(1)) else {
                break;
            };
            world.act(action);
        }
        world.fingerprint(true)
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert!((1..20).any(|seed| run(seed) != run(0)));
}
