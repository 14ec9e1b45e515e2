//! How long a paced TCP flow stalls when its path fails: over our daemons, over kernel MPTCP, over
//! plain TCP.
//!
//! [`run()`] makes one run in a lab of its own, [`analysis`] says what is measured, [`flow`] moves the
//! messages and [`report`] puts the runs side by side. `netbench failover` is the program.

pub mod analysis;
pub mod flow;
mod kinds;
pub mod mptcp;
pub mod report;
mod run;

pub use kinds::{FailureKind, System};
pub use run::{Outcome, PATIENCE, Plan, run};
