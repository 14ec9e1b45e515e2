//! Tests of the Shim6 stack: what the test and bench programs of this package share.

pub mod binary;
pub mod compare;
pub mod conform;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod explore;
pub mod failover;
pub mod renumber;
pub mod scale;
pub mod scenario;
pub mod sim;
pub mod soak;
pub mod throughput;
pub mod tools;

/// Runs the body of a test in namespaces of its own, see [`shim6_tun::lab::isolated`], with the
/// `shim6` program built before: inside, Cargo would have no network.
///
/// # Panics
/// When the test fails or there is no program.
pub fn isolated<F: Future<Output = ()>>(test_name: &str, body: impl FnOnce() -> F) {
    binary::shim6();
    shim6_tun::lab::isolated(test_name, body);
}
