//! The daemon.

pub mod addresses;
pub mod ledger;
pub mod steering;
pub mod uplink;
