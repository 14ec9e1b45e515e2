//! Worlds in which paths fail again and again, in every way, while at least one directed pair works each way: no session may be
//! lost, and each has to be on pairs that work in a time that follows from the timers.
//!
//! A world has a few hosts with different timers, every directed pair its own delay, and sessions of all kinds. Then come rounds:
//! some things fail, some heal, all within a short time; when the last has happened, each session has its bound.

mod bound;
mod damping;
mod faults;
mod plan;
mod rounds;
mod wishes;

use std::time::Duration;

use super::failure::Failure;
use super::trace::Trace;

pub use bound::Timers;
pub use rounds::Failovers;

/// What happened in a world of failovers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often a session that had payload lost a directed pair that it used.
    pub failovers: usize,
    /// Changes of pairs, of all hosts' contexts.
    pub changes: usize,
    /// Inputs that hosts got.
    pub steps: u64,
    /// How long after the last event of its round a session with milliseconds as timers was on pairs that work, for those
    /// that were not at that moment.
    pub fast: Vec<Duration>,
    /// The same with the RFC's timers.
    pub rfc: Vec<Duration>,
}

impl Tally {
    /// Adds those of another world.
    pub fn add(&mut self, other: Self) {
        self.failovers += other.failovers;
        self.changes += other.changes;
        self.steps += other.steps;
        self.fast.extend(other.fast);
        self.rfc.extend(other.rfc);
    }
}

/// Runs the world of failovers of a seed.
///
/// # Errors
/// A session was lost, or another invariant did not hold, or something panicked.
pub fn run_failovers(seed: u64) -> Result<Tally, Box<Failure>> {
    Failovers::new(seed, false).run_caught()
}

/// The same with the whole trace.
pub fn run_failovers_traced(seed: u64) -> (Result<Tally, Box<Failure>>, Trace) {
    let mut failovers = Failovers::new(seed, true);
    let result = failovers.run_caught();
    (result, failovers.world().trace().clone())
}
