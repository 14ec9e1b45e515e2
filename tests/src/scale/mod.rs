//! What many contexts cost: one daemon, and thousands of peers with hash-based addresses of their own.
//!
//! The daemon is the real program on a host of the lab, and the traffic is that of a real socket beside it. The [`peers`] are
//! played by one thread of this process behind a TUN device, each by an [`Endpoint`](shim6_core::Endpoint) of its own.
//! [`run()`] measures; `netbench scale` is the program.

mod peer;
pub mod peers;
pub mod report;
mod run;
mod traffic;

pub use report::Record;
pub use run::{Plan, run};
