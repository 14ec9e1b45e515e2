//! The configuration for small devices: that sessions survive with it, and what memory and stack are enough, whatever others do.

mod flood;
mod hosts;
mod stack;

use std::time::Duration;

use shim6_core::shim::ShimConfig;

#[test]
fn session_of_two_small_devices_survives_a_failure() {
    let longest = hosts::session(&ShimConfig::small(), [1, 2].map(hosts::identity));
    assert!(
        longest.iter().all(|silence| *silence < Duration::from_millis(700)),
        "{longest:?}"
    );
}
