//! The command line of `netbench soak`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::{Plan, Sabotage, report, run, scenarios};

/// What `netbench soak` is told.
#[derive(Debug, Clone, Args)]
pub struct SoakArgs {
    /// Print a JSON object with everything that was seen
    #[arg(long)]
    json: bool,
    /// How long failures are inflicted, in minutes: 0.1 to 10000
    #[arg(long, value_name = "N", value_parser = minutes, default_value = "60", conflicts_with = "hours")]
    minutes: Duration,
    /// The same in hours: 0.1 to 100
    #[arg(long, value_name = "N", value_parser = hours)]
    hours: Option<Duration>,
    /// What fails when: the same number gives the same failures
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many sessions there are
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(8..=512))]
    sessions: u64,
    /// A session is lost when nothing arrives for so many seconds: 1 to 600
    #[arg(long, value_name = "N", default_value = "20", value_parser = patience)]
    patience: Duration,
    /// Write a page about it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Play the scenario library instead, again and again with other seeds, each scenario at least once
    ///
    /// From ten minutes on in its long form. docs/scenarios.md says what is in it.
    #[arg(long, conflicts_with_all = ["sessions", "patience", "report", "logs", "sabotage"])]
    scenarios: bool,
    /// Keep the daemons' logs in this directory, which is made
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Do something that must make the run fail, to see that it does
    #[arg(long, value_enum, hide = true)]
    sabotage: Option<Sabotage>,
}

impl SoakArgs {
    /// Says at once what would else be said after an hour.
    ///
    /// # Errors
    /// The page or the logs cannot be written.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.report {
            std::fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(path) = &self.logs {
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(())
    }

    /// Runs, and shows what came of it.
    ///
    /// # Errors
    /// It could not be run, or shown.
    pub async fn run(&self, shim6: &Path) -> anyhow::Result<ExitCode> {
        let length = self.hours.unwrap_or(self.minutes);
        if self.scenarios {
            return self.play(shim6, length).await;
        }
        let plan = Plan {
            shim6,
            length,
            seed: self.seed,
            sessions: usize::try_from(self.sessions)?,
            patience: self.patience,
            sabotage: self.sabotage,
            logs: self.logs.as_deref(),
        };
        let outcome = run(&plan).await?;
        if let Some(path) = &self.report {
            std::fs::write(path, report::html(&outcome)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        match self.json {
            true => println!("{}", serde_json::to_string(&outcome)?),
            false => print!("{}", report::table(&outcome)),
        }
        Ok(exit_code(outcome.is_passed()))
    }

    async fn play(&self, shim6: &Path, length: Duration) -> anyhow::Result<ExitCode> {
        let played = scenarios::run(shim6, length, self.seed).await;
        match self.json {
            true => println!("{}", serde_json::to_string(&played)?),
            false => print!("{}", scenarios::table(&played)),
        }
        Ok(exit_code(scenarios::is_passed(&played)))
    }
}

fn exit_code(passed: bool) -> ExitCode {
    match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    scaled(text, 60.0, 0.1..=10_000.0)
}

fn hours(text: &str) -> Result<Duration, String> {
    scaled(text, 3600.0, 0.1..=100.0)
}

fn patience(text: &str) -> Result<Duration, String> {
    scaled(text, 1.0, 1.0..=600.0)
}

fn scaled(text: &str, unit: f64, range: std::ops::RangeInclusive<f64>) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(number) if range.contains(&number) => Ok(Duration::from_secs_f64(number * unit)),
        _ => Err(format!("expected {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds() {
        assert_eq!(minutes("0.5"), Ok(Duration::from_secs(30)));
        assert_eq!(hours("1"), Ok(Duration::from_secs(3600)));
        for bad in ["0", "-1", "nan", "inf", "x", "100000"] {
            assert!(
                minutes(bad).is_err() && hours(bad).is_err() && patience(bad).is_err(),
                "{bad}"
            );
        }
    }
}
