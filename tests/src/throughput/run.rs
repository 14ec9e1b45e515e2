//! All measurements, in turns.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::case::{Case, Kind, Selection, State};
use super::sample::Sample;
use super::scene::Scene;

/// How long traffic runs before it is measured; at most as long as it is then measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// About how long a state that takes turns with others is measured at a time.
const TURN: Duration = Duration::from_millis(125);

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
    /// The same, each divided into the rounds of turns that it was taken in: what is compared with another state.
    pub rounds: Vec<Sample>,
    /// How often contexts moved to other locators meanwhile, on both hosts together. None should.
    pub failovers: u64,
}

/// Measures. The states that take turns have one lab; each other has one of its own, which stays in that state. All states of one
/// kind of traffic follow each other. Progress goes to standard error.
///
/// # Errors
/// A lab could not be built, or a measurement failed. How the daemons end is told on standard error only.
pub async fn run(plan: &Plan<'_>) -> anyhow::Result<Vec<Measured>> {
    let mut scenes: Vec<Scene> = Vec::new();
    for state in State::ALL.into_iter().filter(|&state| plan.selection.has(state)) {
        if !scenes.iter().any(|scene| scene.has(state)) {
            let scene = Scene::build(state, plan.shim6).await;
            scenes.push(scene.with_context(|| format!("no lab for the state `{state}`"))?);
        }
    }
    let fresh = |&case: &Case| Measured {
        case,
        samples: Vec::new(),
        rounds: Vec::new(),
        failovers: 0,
    };
    let mut measured: Vec<Measured> = plan.selection.cases().iter().map(fresh).collect();
    for run in 0..plan.runs as usize {
        eprintln!("run {} of {}", run + 1, plan.runs);
        for kind in plan.selection.kinds() {
            let mut of_kind: Vec<&mut Measured> = measured.iter_mut().filter(|of| of.case.kind == kind).collect();
            let states: Vec<State> = of_kind.iter().map(|of| of.case.state).collect();
            let mut rounds: HashMap<State, BTreeMap<u32, Sample>> = HashMap::new();
            for turn in turns(&states, run, plan.window) {
                let scene = scenes.iter_mut().find(|scene| scene.has(turn.state));
                let (sample, moved) = measure(scene.context("a case without a lab")?, kind, &turn)
                    .await
                    .with_context(|| format!("{}/{kind}, run {}", turn.state, run + 1))?;
                let so_far = rounds.entry(turn.state).or_default().entry(turn.round).or_default();
                *so_far = std::mem::take(so_far).and(sample);
                if let Some(of) = of_kind.iter_mut().find(|of| of.case.state == turn.state) {
                    of.failovers += moved;
                }
            }
            for of in of_kind {
                let rounds = rounds.remove(&of.case.state).unwrap_or_default();
                let whole = rounds.values().cloned().reduce(Sample::and);
                of.samples.push(whole.context("a case without a turn")?);
                of.rounds.extend(rounds.into_values());
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

/// Something to be measured without a break.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Turn {
    state: State,
    /// Those of the same round are close to each other.
    round: u32,
    window: Duration,
}

/// What is measured in a run for one kind of traffic.
///
/// States that are close to each other have several short turns, in one order and then in the other: so what the machine does
/// meanwhile, as far as it changes steadily, is the same for all of them. Which states go first changes from run to run.
fn turns(states: &[State], run: usize, window: Duration) -> Vec<Turn> {
    let (close, mut apart): (Vec<State>, Vec<State>) = states.iter().partition(|state| state.takes_turns());
    let rounds = (window.as_secs_f64() / (2.0 * TURN.as_secs_f64())).round().max(1.0) as u32;
    let short = window / (2 * rounds);
    let whole = |state| Turn {
        state,
        round: 0,
        window,
    };
    let mut turns = Vec::new();
    if !apart.is_empty() {
        let first = run % apart.len();
        apart.rotate_left(first);
    }
    let (before, after) = apart.split_at(if run.is_multiple_of(2) { 0 } else { apart.len() });
    turns.extend(before.iter().copied().map(whole));
    for round in 0..rounds {
        let there_and_back = close.iter().chain(close.iter().rev());
        turns.extend(there_and_back.map(|&state| Turn {
            state,
            round,
            window: short,
        }));
    }
    turns.extend(after.iter().copied().map(whole));
    turns
}

/// A measurement, and how often contexts moved meanwhile.
async fn measure(scene: &mut Scene, kind: Kind, turn: &Turn) -> anyhow::Result<(Sample, u64)> {
    scene.enter(turn.state).await?;
    let before = scene.failovers().await?;
    let sample = scene.measure(kind, [WARM_UP.min(turn.window), turn.window]).await?;
    let moved = scene.failovers().await?.saturating_sub(before);
    if moved > 0 {
        eprintln!(
            "{}/{kind}: contexts moved {moved} times while this was measured",
            turn.state
        );
    }
    Ok((sample, moved))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(turns: &[Turn]) -> Vec<State> {
        turns.iter().map(|turn| turn.state).collect()
    }

    #[test]
    fn close_states_have_short_turns_in_both_orders() {
        use State::{Daemon, PerPacket, Plain, Steered};
        let run = turns(&[Plain, Daemon, PerPacket, Steered], 0, 4 * TURN);
        let expected = [
            Plain, Daemon, Daemon, Plain, Plain, Daemon, Daemon, Plain, PerPacket, Steered,
        ];
        assert_eq!(states(&run), expected);
        let next = turns(&[Plain, Daemon, PerPacket, Steered], 1, 4 * TURN);
        let expected = [
            Steered, PerPacket, Plain, Daemon, Daemon, Plain, Plain, Daemon, Daemon, Plain,
        ];
        assert_eq!(states(&next), expected);
        assert_eq!(turns(&[], 3, TURN), []);
    }

    #[test]
    fn each_state_has_its_whole_time_in_a_run() {
        for window in [0.05, 0.2, 0.6, 1.0, 7.0].map(Duration::from_secs_f64) {
            for run in 0..4 {
                let turns = turns(&State::ALL, run, window);
                for state in State::ALL {
                    let own = turns.iter().filter(|turn| turn.state == state);
                    let total: Duration = own.map(|turn| turn.window).sum();
                    assert!(window.abs_diff(total) < Duration::from_micros(1), "{state}: {total:?}");
                }
                let short = turns.iter().filter(|turn| turn.state.takes_turns());
                assert!(short.into_iter().all(|turn| turn.window <= TURN * 3 / 2), "{turns:?}");
            }
        }
    }
}
