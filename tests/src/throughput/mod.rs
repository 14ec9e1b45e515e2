//! How fast traffic is over the plain kernel, over a kernel that carries packet by packet, over hosts with our daemons and over
//! these after a failure.
//!
//! [`case`](mod@case) names what is measured, [`scene`] is where, [`load`] is the traffic, [`run()`] takes turns and [`report`] puts
//! the figures side by side. `netbench throughput` is the program.

pub mod case;
pub mod counters;
pub mod cpu;
pub mod load;
pub mod report;
mod run;
mod sample;
pub mod scene;

pub use case::{Case, Kind, Selection, State};
pub use run::{Measured, Plan, run};
pub use sample::Sample;
