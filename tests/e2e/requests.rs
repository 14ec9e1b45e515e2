//! A UDP request/response flow goes on when its uplink fails.

use std::sync::Arc;

use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::scenario::run_requests;
use shim6_tun::lab::Failure;

use crate::plans::{self, assert_clean, assert_moved};

async fn survives(failure: Failure) {
    let plan = plans::requests(failure);
    let live = Arc::new(Live::default());
    let outcome = run_requests(binary::shim6(), &plan, &live)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let (exchange, logs) = (&outcome.exchange, &outcome.logs);
    assert!(exchange.completed, "{exchange:?}\n{logs}");
    assert!(exchange.digest_matches, "{exchange:?}\n{logs}");
    assert_eq!(exchange.strange, 0, "{exchange:?}");
    assert_moved(outcome.locators_before, outcome.locators_after);
    assert_clean(&outcome.shutdown);
}

#[test]
fn requests_survive_a_silent_blackhole() {
    isolated("requests::requests_survive_a_silent_blackhole", || {
        survives(Failure::Blackhole)
    });
}

#[test]
fn requests_survive_their_link_going_down() {
    isolated("requests::requests_survive_their_link_going_down", || {
        survives(Failure::LinkDown)
    });
}

#[test]
fn requests_survive_the_failure_of_one_direction() {
    isolated("requests::requests_survive_the_failure_of_one_direction", || {
        survives(Failure::OneWay)
    });
}
