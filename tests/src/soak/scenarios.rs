//! The scenario library, again and again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::scenario::{self, Findings, Length, Scenario, Settings, Verdict};

/// Runs from here on play the long form of each scenario.
const LONG: Duration = Duration::from_secs(600);
/// A scenario that takes longer than this never ends.
const LIMIT: Duration = Duration::from_secs(900);

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Played {
    /// Its name.
    pub scenario: &'static str,
    /// What is done, in a sentence.
    pub summary: &'static str,
    /// How often it was played.
    pub times: usize,
    /// How long all of that took, in seconds.
    pub seconds: f64,
    /// How often statements were looked at.
    pub checks: u64,
    /// What did not hold, with the seed that shows it.
    pub broken: Vec<Broken>,
}

/// A statement that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The scenario's seed.
    pub seed: u64,
    /// What was to hold.
    pub statement: String,
    /// What was seen.
    pub seen: String,
}

impl Played {
    fn new(scenario: &Scenario) -> Self {
        Self {
            scenario: scenario.name,
            summary: scenario.summary,
            times: 0,
            seconds: 0.0,
            checks: 0,
            broken: Vec::new(),
        }
    }

    fn add(&mut self, seed: u64, came: Result<Findings, String>) {
        self.times += 1;
        let mut broken = |statement: &str, seen: String| {
            self.broken.push(Broken {
                seed,
                statement: statement.to_owned(),
                seen,
            });
        };
        match came {
            Ok(findings) => {
                for check in findings.checks {
                    self.checks += check.times;
                    match check.verdict {
                        Verdict::Holds => {}
                        Verdict::Unchecked => broken(check.statement, "never looked at".to_owned()),
                        Verdict::Broken(seen) => broken(check.statement, seen),
                    }
                }
            }
            Err(why) => broken("it can be played", why),
        }
    }
}

/// Plays all scenarios in turn, each at least once, until `length` is over; each time with another seed, from `seed` on. Tells of each
/// on standard error.
pub async fn run(shim6: &Path, length: Duration, seed: u64) -> Vec<Played> {
    let start = Instant::now();
    let mut played: Vec<_> = scenario::all().iter().map(Played::new).collect();
    let turns = (0..).flat_map(|round| (0..scenario::all().len()).map(move |which| (round, which)));
    for (round, which) in turns {
        if round > 0 && start.elapsed() >= length {
            break;
        }
        let scenario = &scenario::all()[which];
        let settings = Settings {
            shim6: shim6.to_owned(),
            seed: seed.wrapping_add(round),
            length: if length >= LONG { Length::Long } else { Length::Short },
            fault: None,
        };
        let began = Instant::now();
        let came = match tokio::time::timeout(LIMIT, scenario.run(&settings)).await {
            Ok(Ok(findings)) => Ok(findings),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("it did not end within {LIMIT:?}")),
        };
        match &came {
            Ok(findings) => eprint!("{findings}"),
            Err(why) => eprintln!("{} (seed {}): {why}", scenario.name, settings.seed),
        }
        played[which].seconds += began.elapsed().as_secs_f64();
        played[which].add(settings.seed, came);
    }
    played
}

/// Whether everything held.
#[must_use]
pub fn is_passed(played: &[Played]) -> bool {
    !played.is_empty() && played.iter().all(|one| one.times > 0 && one.broken.is_empty())
}

/// The lines for a terminal.
#[must_use]
pub fn table(played: &[Played]) -> String {
    let mut text = String::from("scenario                        times  looked at  broken   seconds\n");
    for one in played {
        let _ = writeln!(
            text,
            "{:<30} {:>6} {:>10} {:>7} {:>9.1}",
            one.scenario,
            one.times,
            one.checks,
            one.broken.len(),
            one.seconds
        );
    }
    for one in played {
        for Broken { seed, statement, seen } in &one.broken {
            // All of it, with the daemons' logs, was told when it happened.
            let seen = seen.lines().next().unwrap_or_default();
            let _ = writeln!(text, "BROKEN  {} (seed {seed}): {statement}: {seen}", one.scenario);
        }
    }
    text.push_str(match is_passed(played) {
        true => "passed\n",
        false => "FAILED\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenario_that_could_not_be_played_fails() {
        let mut played: Vec<_> = scenario::all().iter().map(Played::new).collect();
        assert!(!is_passed(&played), "none was played");
        played.iter_mut().for_each(|one| one.times = 1);
        assert!(is_passed(&played));
        played[0].add(7, Err("no lab\nand a log".to_owned()));
        assert!(!is_passed(&played));
        let table = table(&played);
        let line = format!(
            "BROKEN  {} (seed 7): it can be played: no lab\nFAILED\n",
            played[0].scenario
        );
        assert!(table.ends_with(&line), "{table}");
    }

    #[test]
    fn statements_are_counted_and_those_that_do_not_hold_are_told_with_their_seed() {
        let scenario = &scenario::all()[0];
        let settings = Settings {
            shim6: "shim6".into(),
            seed: 7,
            length: Length::Long,
            fault: None,
        };
        let mut findings = Findings::new(scenario, &settings);
        for statement in scenario.must_hold {
            findings.check(statement, true, String::new);
            findings.check(statement, true, String::new);
        }
        let mut played = Played::new(scenario);
        played.add(7, Ok(findings.clone()));
        assert_eq!((played.times, played.checks), (1, 2 * scenario.must_hold.len() as u64));
        assert!(is_passed(std::slice::from_ref(&played)));

        findings.check(scenario.must_hold[1], false, || "something else".to_owned());
        played.add(8, Ok(findings));
        assert!(!is_passed(std::slice::from_ref(&played)), "one of two times it failed");
        let told = |broken: &Broken| (broken.seed, broken.statement.clone(), broken.seen.clone());
        let expected = (8, scenario.must_hold[1].to_owned(), "something else".to_owned());
        assert_eq!(played.broken.iter().map(told).collect::<Vec<_>>(), [expected]);

        played.broken.clear();
        played.add(9, Ok(Findings::new(scenario, &settings)));
        assert_eq!(played.broken.len(), scenario.must_hold.len(), "none was looked at");
        assert_eq!(played.times, 3);
    }
}
