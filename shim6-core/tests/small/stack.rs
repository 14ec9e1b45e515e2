//! How much stack a whole session takes. A thread with less dies, and the test program with it.

use std::thread;

use shim6_core::Identity;
use shim6_core::shim::ShimConfig;

use crate::hosts;

/// Octets that are enough, the start of the thread included. What is needed `cargo bench -p shim6-core --bench memory` says.
const ENOUGH: usize = 24 * 1024;

fn session_on_a_small_stack(identities: [Identity; 2]) {
    let run = move || hosts::session(&ShimConfig::small(), identities);
    let thread = thread::Builder::new().stack_size(ENOUGH).spawn(run).expect("a thread");
    thread.join().expect("it did not panic");
}

#[test]
fn session_fits_a_small_stack() {
    session_on_a_small_stack([1, 2].map(hosts::identity));
}

#[cfg(feature = "rsa")]
#[test]
fn session_with_a_signed_locator_fits_a_small_stack() {
    session_on_a_small_stack([hosts::signed_identity(), hosts::identity(2)]);
}
