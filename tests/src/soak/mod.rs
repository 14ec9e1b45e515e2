//! Random failures under load, for as long as one likes, and a page that says what became of it.
//!
//! Two hosts with two uplinks each, the real daemon on both, and some dozens of [`session`]s between all of their ULIDs. What
//! fails and when is a [`schedule`] from a seed; at least one pair of locators works at any time, so whatever is lost is lost by the
//! daemons. Once a second a [`sample`] is taken of the daemons' and the hosts' resources. In the end sessions are closed, contexts and daemons
//! ended, what is left behind is counted, and all of it is [judged](judge). `netbench soak` is the program; with `--scenarios` it plays the
//! [scenario library](crate::scenario) instead.

pub mod cli;
mod inflict;
pub mod judge;
pub mod report;
mod run;
pub mod sample;
pub mod scenarios;
pub mod schedule;
pub mod session;
mod trend;

pub use run::{Outcome, Plan, Sabotage, run};
