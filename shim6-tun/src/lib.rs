//! Shim6 on Linux: the daemon, its command line, the lab and the demo.

pub mod cli;
pub mod config;
pub mod conform;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod identity;
pub mod lab;
pub mod metrics;
pub mod netlink;
mod privileges;
pub mod search;
pub mod status;
pub mod sys;
