//! Breadth-first search through all states of a model.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is explored.
pub(super) trait Model {
    /// Whatever an action changes.
    type State: Clone;
    /// Something that can happen.
    type Action: Clone + Debug;

    /// Where all begins.
    fn initial(&self) -> Self::State;
    /// What can happen next.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;
    /// Lets it happen.
    fn act(&self, state: &mut Self::State, action: &Self::Action);
    /// Whether the state is one of those to be explored.
    fn is_within(&self, state: &Self::State) -> bool;
    /// States with the same value are the same.
    fn fingerprint(&self, state: &Self::State) -> u64;
    /// What is wrong with a state.
    fn check(&mut self, state: &Self::State) -> Result<(), String>;
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Different states found.
    pub(super) states: usize,
    /// Actions tried.
    pub(super) transitions: usize,
    /// Actions on the longest of the shortest ways to a state.
    pub(super) depth: usize,
    /// Actions whose outcome was beyond the model's bounds.
    pub(super) beyond: usize,
    /// Whether states were left out because there were more than allowed.
    pub(super) is_cut: bool,
    /// The first state with a fault, by a shortest way to it.
    pub(super) fault: Option<Fault>,
}

/// A state that should not be.
#[derive(Debug)]
pub(super) struct Fault {
    /// What happened, in order.
    pub(super) trace: Vec<String>,
    /// What is wrong with it.
    pub(super) reason: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, action) in self.trace.iter().enumerate() {
            writeln!(f, "{:3}. {action}", number + 1)?;
        }
        f.write_str(&self.reason)
    }
}

struct Node<A> {
    parent: usize,
    action: Option<A>,
    depth: usize,
}

/// How many states of the frontier are kept whole. The others are made again from the initial state when it is their turn.
const KEPT: usize = 20_000;

/// Goes through all states, but `limit` at most, until one has a fault.
pub(super) fn explore<M: Model>(model: &mut M, limit: usize) -> Report {
    let mut report = Report::default();
    let mut nodes = Vec::new();
    let mut seen = HashMap::new();
    let mut frontier = VecDeque::new();
    let mut kept = 0;

    let root = model.initial();
    seen.insert(model.fingerprint(&root), 0);
    nodes.push(Node {
        parent: 0,
        action: None,
        depth: 0,
    });
    frontier.push_back((0, Some(root)));
    while let Some((index, state)) = frontier.pop_front() {
        kept -= usize::from(state.is_some() && index > 0);
        let state = state.unwrap_or_else(|| replay(model, &nodes, index));
        report.depth = report.depth.max(nodes[index].depth);
        if let Err(reason) = guarded(|| model.check(&state)) {
            report.fault = Some(fault(&nodes, index, None, reason));
            break;
        }
        for action in model.actions(&state) {
            report.transitions += 1;
            let mut next = state.clone();
            let acted = guarded(|| {
                model.act(&mut next, &action);
                Ok(model.fingerprint(&next))
            });
            let fingerprint = match acted {
                Ok(fingerprint) => fingerprint,
                Err(reason) => {
                    report.fault = Some(fault(&nodes, index, Some(action), reason));
                    report.states = nodes.len();
                    return report;
                }
            };
            if seen.contains_key(&fingerprint) {
                continue;
            }
            if !model.is_within(&next) {
                report.beyond += 1;
                continue;
            }
            if nodes.len() >= limit {
                report.is_cut = true;
                continue;
            }
            seen.insert(fingerprint, nodes.len());
            let is_kept = kept < KEPT;
            kept += usize::from(is_kept);
            frontier.push_back((nodes.len(), is_kept.then_some(next)));
            nodes.push(Node {
                parent: index,
                action: Some(action),
                depth: nodes[index].depth + 1,
            });
        }
    }
    report.states = nodes.len();
    if std::env::var_os("DBG").is_some() {
        for k in 1..6 {
            let n = nodes.len() - k * nodes.len() / 7;
            println!("{}", fault(&nodes, n.min(nodes.len() - 1), None, String::new()));
        }
    }
    report
}

/// Runs something that may panic: to the explorer a panic is a fault like others, with a way to it.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| Err(format!("panicked: {}", message(&*payload))))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(message), _) => message,
        (None, Some(message)) => message,
        (None, None) => "for no reason given",
    }
}

fn way<A: Clone>(nodes: &[Node<A>], mut index: usize) -> Vec<A> {
    let mut way = Vec::new();
    while let Some(action) = &nodes[index].action {
        way.push(action.clone());
        index = nodes[index].parent;
    }
    way.reverse();
    way
}

fn replay<M: Model>(model: &M, nodes: &[Node<M::Action>], index: usize) -> M::State {
    let mut state = model.initial();
    for action in way(nodes, index) {
        model.act(&mut state, &action);
    }
    state
}

fn fault<A: Clone + Debug>(nodes: &[Node<A>], index: usize, last: Option<A>, reason: String) -> Fault {
    let trace = way(nodes, index).into_iter().chain(last);
    Fault {
        trace: trace.map(|action| format!("{action:?}")).collect(),
        reason,
    }
}
