//! The daemon.

pub mod addresses;
pub mod ledger;
pub mod steering;
#[cfg(test)]
mod testing;
pub mod uplink;
