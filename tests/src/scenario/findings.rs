//! What came of a scenario.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use super::{Length, Scenario, Settings};
use crate::compare::Samples;

/// What is known of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was never looked at: as bad as a statement that did not hold.
    Unchecked,
    /// It held whenever it was looked at.
    Holds,
    /// It did not hold; this was seen, the first time.
    Broken(String),
}

/// A statement of [`Scenario::must_hold`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold.
    pub statement: &'static str,
    /// Whether it does.
    pub verdict: Verdict,
    /// How often it was looked at.
    pub times: u64,
}

/// Something that was measured, once or in each round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Its unit, such as `ms`; empty for numbers.
    pub unit: &'static str,
    /// The values, in the order in which they were measured.
    pub values: Samples,
}

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Its name.
    pub scenario: &'static str,
    /// The seed it was played with.
    pub seed: u64,
    /// How much of it was played.
    pub length: Length,
    /// What must hold, and whether it did.
    pub checks: Vec<Check>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// How long it took.
    pub took: Duration,
    #[serde(skip)]
    broken: Arc<Notify>,
}

impl Findings {
    pub(crate) fn new(scenario: &Scenario, settings: &Settings) -> Self {
        let unchecked = |&statement: &&'static str| Check {
            statement,
            verdict: Verdict::Unchecked,
            times: 0,
        };
        Self {
            scenario: scenario.name,
            seed: settings.seed,
            length: settings.length,
            checks: scenario.must_hold.iter().map(unchecked).collect(),
            figures: Vec::new(),
            took: Duration::ZERO,
            broken: Arc::default(),
        }
    }

    /// Is told of a statement that does not hold.
    pub(super) fn broken(&self) -> Arc<Notify> {
        Arc::clone(&self.broken)
    }

    /// Whether everything held that must.
    #[must_use]
    pub fn held(&self) -> bool {
        self.checks.iter().all(|check| check.verdict == Verdict::Holds)
    }

    /// Whether some statement did not hold.
    pub(super) fn is_broken(&self) -> bool {
        self.checks
            .iter()
            .any(|check| matches!(check.verdict, Verdict::Broken(_)))
    }

    /// Notes whether a statement held; if not, what was `seen` instead. One that is broken stays so.
    ///
    /// # Panics
    /// The scenario does not make that statement.
    pub(crate) fn check(&mut self, statement: &str, held: bool, seen: impl FnOnce() -> String) {
        let check = self.checks.iter_mut().find(|check| check.statement == statement);
        let check = check.unwrap_or_else(|| panic!("`{statement}` is no statement of {}", self.scenario));
        check.times += 1;
        match check.verdict {
            Verdict::Broken(_) => {}
            Verdict::Unchecked | Verdict::Holds if held => check.verdict = Verdict::Holds,
            Verdict::Unchecked | Verdict::Holds => {
                check.verdict = Verdict::Broken(seen());
                self.broken.notify_one();
            }
        }
    }

    /// [`check`](Self::check) for what was tried, and gives what came of it if it held.
    pub(super) fn check_ok<T>(&mut self, statement: &str, tried: anyhow::Result<T>) -> Option<T> {
        match tried {
            Ok(value) => {
                self.check(statement, true, String::new);
                Some(value)
            }
            Err(error) => {
                self.check(statement, false, || format!("{error:#}"));
                None
            }
        }
    }

    /// Notes a measured value.
    pub(super) fn measure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        let known = self.figures.iter().position(|figure| figure.name == name);
        let index = known.unwrap_or_else(|| {
            self.figures.push(Figure {
                name,
                unit,
                values: Samples::default(),
            });
            self.figures.len() - 1
        });
        self.figures[index].values.push(value);
    }

    /// Notes a measured time, in milliseconds.
    pub(super) fn measure_time(&mut self, name: &'static str, time: Duration) {
        self.measure(name, (time.as_secs_f64() * 1e4).round() / 10.0, "ms");
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.held() { "holds" } else { "BROKEN" };
        let took = self.took.as_secs_f64();
        writeln!(f, "{} (seed {}, {took:.1} s): {verdict}", self.scenario, self.seed)?;
        for check in &self.checks {
            match &check.verdict {
                Verdict::Holds => writeln!(f, "  ok      {} ({}x)", check.statement, check.times)?,
                Verdict::Unchecked => writeln!(f, "  ??      {}: never looked at", check.statement)?,
                Verdict::Broken(seen) => writeln!(f, "  BROKEN  {}: {seen}", check.statement)?,
            }
        }
        for figure in &self.figures {
            writeln!(f, "  {figure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unit, values } = self;
        let (Some(median), Some((least, most))) = (values.median(), values.range()) else {
            return write!(f, "{name}: -");
        };
        write!(f, "{name}: {median}")?;
        if least < most {
            write!(f, " ({least} to {most})")?;
        }
        if !unit.is_empty() {
            write!(f, " {unit}")?;
        }
        Ok(())
    }
}
