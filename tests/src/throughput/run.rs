//! All measurements, in turns.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::case::{Case, Selection, State};
use super::sample::Sample;
use super::scene::Scene;

/// How long traffic runs before it is measured; at most as long as it is then measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The `shim6` program.
    pub shim6: &'a Path,
    /// The cases.
    pub selection: &'a Selection,
    /// How often each.
    pub runs: u64,
    /// For how long.
    pub window: Duration,
}

/// What the measurements of one case gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What was measured.
    pub case: Case,
    /// The measurements, in the order in which they were taken.
    pub samples: Vec<Sample>,
    /// How often contexts moved to other locators meanwhile, on both hosts together. None should.
    pub failovers: u64,
}

/// Measures, each state in a lab of its own that stays, so that switching between them takes no time: the states of one kind
/// of traffic follow each other. Progress goes to standard error.
///
/// # Errors
/// A lab could not be built, or a measurement failed. How the daemons end is told on standard error only.
pub async fn run(plan: &Plan<'_>) -> anyhow::Result<Vec<Measured>> {
    let mut scenes = Vec::new();
    for state in State::ALL.into_iter().filter(|&state| plan.selection.has(state)) {
        let scene = Scene::build(state, plan.shim6).await;
        scenes.push(scene.with_context(|| format!("no lab for the state `{state}`"))?);
    }
    let fresh = |&case: &Case| Measured {
        case,
        samples: Vec::new(),
        failovers: 0,
    };
    let mut measured: Vec<Measured> = plan.selection.cases().iter().map(fresh).collect();
    for run in 0..plan.runs as usize {
        eprintln!("run {} of {}", run + 1, plan.runs);
        for kind in plan.selection.kinds() {
            let mut turns: Vec<&mut Measured> = measured.iter_mut().filter(|of| of.case.kind == kind).collect();
            // Who goes first changes, so that a moment in which the machine is slow is unfair to nobody.
            let first = run % turns.len();
            turns.rotate_left(first);
            for turn in turns {
                let scene = scenes.iter().find(|scene| scene.state() == turn.case.state);
                measure(scene.context("a case without a lab")?, turn, plan.window)
                    .await
                    .with_context(|| format!("{}, run {}", turn.case, run + 1))?;
            }
        }
    }
    for scene in scenes {
        let state = scene.state();
        if let Err(error) = scene.end().await {
            eprintln!("{state}: {error:#}");
        }
    }
    Ok(measured)
}

async fn measure(scene: &Scene, measured: &mut Measured, window: Duration) -> anyhow::Result<()> {
    let before = scene.failovers().await?;
    let sample = scene.measure(measured.case.kind, [WARM_UP.min(window), window]).await?;
    let moved = scene.failovers().await?.saturating_sub(before);
    if moved > 0 {
        eprintln!(
            "{}: contexts moved {moved} times while this was measured",
            measured.case
        );
    }
    measured.failovers += moved;
    measured.samples.push(sample);
    Ok(())
}
