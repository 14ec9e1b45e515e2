//! TCP and UDP between two smoltcp stacks, with and without Shim6, when a path fails in the middle.

#[path = "../examples/failover/world.rs"]
mod world;

use shim6_smoltcp::shim6_core::Event;
use smoltcp::time::Duration;
use world::{A, B, Failure, Report, TCP_TIMEOUT, World};

const OCTETS: usize = 4_000_000;

fn run(is_protected: [bool; 2], failure: Failure) -> Report {
    World::new(OCTETS, is_protected, failure).run()
}

fn moves(report: &Report, of: usize) -> usize {
    let moves = report.events.iter();
    moves
        .filter(|(_, host, event)| *host == of && matches!(event, Event::PathChanged { .. }))
        .count()
}

#[test]
fn transfer_and_datagrams_go_on_when_the_path_is_cut() {
    let report = run([true, true], Failure::Cut);
    assert!(report.completed_at > report.failed_at, "{report:?}");
    assert_eq!(report.received, OCTETS);
    assert!(report.tcp_stall < Duration::from_millis(1_200), "{report:?}");
    assert!(report.udp_stall < Duration::from_millis(500), "{report:?}");
    assert!(report.echoes + 25 > report.datagrams, "{report:?}");
    assert!(moves(&report, A) == 1 && moves(&report, B) == 1, "{report:?}");
}

#[test]
fn transfer_goes_on_when_a_device_takes_nothing_any_more() {
    let report = run([true, true], Failure::Jam);
    assert!(report.completed_at > report.failed_at, "{report:?}");
    assert_eq!(report.received, OCTETS);
    assert!(report.tcp_stall < Duration::from_millis(1_500), "{report:?}");
}

#[test]
fn without_shim6_the_connection_times_out() {
    for failure in [Failure::Cut, Failure::Jam] {
        let report = run([false, false], failure);
        assert_eq!(report.completed_at, None);
        let waited = report.given_up_at.zip(report.failed_at).map(|(up, at)| up - at);
        assert!(
            waited.is_some_and(|waited| waited + Duration::from_secs(1) > TCP_TIMEOUT),
            "{failure:?}: {waited:?}"
        );
        assert!(report.received < OCTETS, "{failure:?}");
        assert!(report.udp_stall + Duration::from_secs(1) > TCP_TIMEOUT, "{failure:?}");
    }
}

#[test]
fn with_shim6_at_one_host_alone_all_is_as_without() {
    for protected in [[true, false], [false, true]] {
        let report = run(protected, Failure::Nothing);
        assert_eq!(report.received, OCTETS);
        assert!(report.completed_at.is_some(), "{report:?}");
        let report = run(protected, Failure::Cut);
        assert!(
            report.given_up_at.is_some() && report.completed_at.is_none(),
            "{report:?}"
        );
    }
}

#[test]
fn wrapper_costs_no_time_while_nothing_fails() {
    let [with, without] = [true, false].map(|is_protected| run([is_protected; 2], Failure::Nothing));
    let [with, without] = [with, without].map(|report| report.completed_at.expect("complete").total_micros());
    assert!(with < without + without / 20, "{with} µs instead of {without} µs");
}

#[test]
fn same_seeds_give_the_same_run() {
    let [one, other] = [0, 1].map(|_| run([true, true], Failure::Cut));
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}
