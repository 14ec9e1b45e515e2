//! What a failed world says.

use std::fmt;

use shim6_core::Instant;

use super::invariants::Violation;
use super::scenario::Scenario;
use super::trace::Trace;

/// How many of the last entries a report has.
const TAIL: usize = 60;

/// An invariant did not hold. Both `Debug` and `Display` give the whole report, so that `unwrap` does, too.
#[derive(Clone)]
pub struct Failure {
    /// The seed of the world.
    pub seed: u64,
    /// What to run to see it again.
    pub command: String,
    /// When in the world's time.
    pub at: Instant,
    /// What did not hold.
    pub violation: Violation,
    /// The last things that happened, a line each.
    pub tail: Vec<String>,
}

impl Failure {
    /// The failure of a world, with the end of its trace.
    pub fn new(scenario: &Scenario, at: Instant, violation: Violation, trace: &Trace) -> Self {
        let tail = trace.entries().rev().take(TAIL).map(ToString::to_string);
        let mut tail: Vec<_> = tail.collect();
        tail.reverse();
        Self {
            seed: scenario.seed,
            command: scenario.command.clone(),
            at,
            violation,
            tail,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "world with seed {} failed at {}", self.seed, self.at)?;
        writeln!(f, "  {}: {}", self.violation.invariant, self.violation.what)?;
        writeln!(f, "  again: {}", self.command)?;
        writeln!(f, "  the last that happened:")?;
        self.tail.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
