//! A TCP download goes on when its uplink fails; the one beside it, without Shim6, does not.

use std::sync::Arc;

use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::scenario::run_downloads;
use shim6_tun::lab::Failure;

use crate::plans::{self, assert_clean, assert_moved};

async fn survives(failure: Failure) {
    let plan = plans::download(failure);
    let live = Arc::new(Live::default());
    let outcome = run_downloads(binary::shim6(), &plan, &live)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let (summary, logs) = (outcome.summary(), &outcome.logs);
    assert!(summary.with_shim6.completed, "{summary:?}\n{logs}");
    assert!(summary.with_shim6.sha256_match, "{summary:?}\n{logs}");
    assert_eq!(summary.with_shim6.bytes, plan.octets());
    assert_moved(outcome.locators_before, outcome.locators_after);

    assert!(!summary.without_shim6.completed, "{summary:?}");
    assert!(summary.without_shim6.bytes > 0, "{summary:?}");
    assert!(summary.without_shim6.bytes < plan.octets(), "{summary:?}");
    assert_clean(&outcome.shutdown);
}

#[test]
fn download_survives_a_silent_blackhole() {
    isolated("downloads::download_survives_a_silent_blackhole", || {
        survives(Failure::Blackhole)
    });
}

#[test]
fn download_survives_its_link_going_down() {
    isolated("downloads::download_survives_its_link_going_down", || {
        survives(Failure::LinkDown)
    });
}

#[test]
fn download_survives_the_failure_of_one_direction() {
    isolated("downloads::download_survives_the_failure_of_one_direction", || {
        survives(Failure::OneWay)
    });
}
