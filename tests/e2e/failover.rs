//! The failover bench's machinery: a paced flow over emulated links goes on when its path fails.

use std::io::Write as _;
use std::time::Duration;

use shim6_tests::failover::{self, FailureKind, Plan, System, mptcp};
use shim6_tests::{binary, isolated};

/// One run; asserts that the session goes on and that every message arrives once and in order, and
/// nothing about time.
async fn survives(system: System, failure: FailureKind) {
    let plan = Plan {
        shim6: binary::shim6(),
        system,
        failure,
        rtt: Duration::from_millis(20),
    };
    let outcome = failover::run(&plan).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(outcome.until_smooth.is_ok(), "{:?}", outcome.until_smooth);
    let flow = outcome.flow;
    assert_eq!(flow.error, None);
    assert_eq!(flow.sent, flow.arrivals.len());
    assert!(flow.arrivals.is_sorted());
}

#[test]
fn a_paced_flow_survives_a_silent_blackhole() {
    isolated("failover::a_paced_flow_survives_a_silent_blackhole", || {
        survives(System::Shim6, FailureKind::Blackhole)
    });
}

#[test]
fn a_paced_flow_survives_the_far_link_going_down() {
    isolated("failover::a_paced_flow_survives_the_far_link_going_down", || {
        survives(System::Shim6, FailureKind::FarLinkDown)
    });
}

#[test]
fn what_it_is_compared_with_survives_too() {
    let name = "failover::what_it_is_compared_with_survives_too";
    if let Err(why) = mptcp::support() {
        // Not `lab::skip`: a lab does not need MPTCP.
        let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
        return;
    }
    isolated(name, || survives(System::Mptcp, FailureKind::Blackhole));
}
