//! The failover bench's machinery: a paced flow over emulated links goes on when its path fails.

use std::io::Write as _;
use std::time::Duration;

use shim6_tests::failover::{self, FailureKind, Plan, System, mptcp};
use shim6_tests::{binary, isolated};

fn plan(system: System, failure: FailureKind) -> Plan<'static> {
    Plan {
        shim6: binary::shim6(),
        system,
        failure,
        rtt: Duration::from_millis(20),
    }
}

/// One run; asserts that the session goes on and that every message arrives once and in order, and
/// nothing about time.
async fn survives(system: System, failure: FailureKind) {
    let plan = plan(system, failure);
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
fn what_it_is_compared_with_is_measured_too() {
    let name = "failover::what_it_is_compared_with_is_measured_too";
    if let Err(why) = mptcp::support() {
        // Not `lab::skip`: a lab does not need MPTCP.
        let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
        return;
    }
    isolated(name, || async {
        let plan = plan(System::Mptcp, FailureKind::Blackhole);
        let outcome = failover::run(&plan).await.unwrap_or_else(|error| panic!("{error:#}"));
        // Whether the kernel's MPTCP gets over it in time is for the bench to tell. It had all its subflows, worked
        // until the cut, and its connection did not break.
        let flow = outcome.flow;
        assert_eq!(flow.error, None);
        assert!(flow.arrivals.iter().any(|&at| at < outcome.cut), "{:?}", outcome.cut);
        assert!(flow.arrivals.is_sorted());
    });
}
