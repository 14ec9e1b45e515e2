//! Running the random world of a seed, with whatever goes wrong in it as a report.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::Failure;
use super::invariants::{Invariant, Violation};
use super::scenario::Scenario;
use super::trace::Trace;
use super::world::{Summary, World};

/// Runs a seed's random world.
///
/// # Errors
/// An invariant did not hold, or something panicked.
pub fn run_seed(seed: u64) -> Result<Summary, Box<Failure>> {
    World::new(Scenario::random(seed)).run_caught()
}

/// The same with the whole trace.
pub fn run_seed_traced(seed: u64) -> (Result<Summary, Box<Failure>>, Trace) {
    let mut world = World::new(Scenario {
        keep_trace: true,
        ..Scenario::random(seed)
    });
    let result = world.run_caught();
    (result, world.trace().clone())
}

impl World {
    /// As [`World::run`], with a panic as a failure like others.
    ///
    /// # Errors
    /// An invariant did not hold, or something panicked.
    pub fn run_caught(&mut self) -> Result<Summary, Box<Failure>> {
        // After a panic the world is only asked for its time and its trace.
        catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|panic| Err(self.panicked(&*panic)))
    }

    /// The report about a panic now.
    pub(super) fn panicked(&self, panic: &(dyn Any + Send)) -> Box<Failure> {
        let text = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("something without a text");
        self.failure(Violation::new(Invariant::NoPanic, text))
    }
}
