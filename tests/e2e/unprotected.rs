//! Without a daemon, the same download does not complete: so the tests with one can fail.

use std::sync::Arc;
use std::time::Duration;

use shim6_tests::isolated;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::scenario::{Plan, run_unprotected};
use shim6_tun::lab::Failure;

use crate::plans::{self, MAX_STALL};

async fn dies(failure: Failure) {
    let plan = Plan {
        // What a download with a daemon may take.
        patience: MAX_STALL + Duration::from_secs(1),
        ..plans::download(failure)
    };
    let live = Arc::new(Live::default());
    let download = run_unprotected(&plan, &live)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert!(!download.completed, "{download:?}");
    assert!(
        download.octets >= plan.octets() * plan.cut_percent / 100,
        "{download:?}"
    );
    assert!(download.octets < plan.octets(), "{download:?}");
    let cut = live.cut().expect("the uplink was cut");
    let silence = live.without().longest_silence(cut, live.now());
    assert!(silence > MAX_STALL, "{silence:?}");
}

#[test]
fn download_without_a_daemon_dies_of_a_blackhole() {
    isolated("unprotected::download_without_a_daemon_dies_of_a_blackhole", || {
        dies(Failure::Blackhole)
    });
}

#[test]
fn download_without_a_daemon_dies_with_its_link() {
    isolated("unprotected::download_without_a_daemon_dies_with_its_link", || {
        dies(Failure::LinkDown)
    });
}

#[test]
fn download_without_a_daemon_dies_when_one_direction_fails() {
    isolated(
        "unprotected::download_without_a_daemon_dies_when_one_direction_fails",
        || dies(Failure::OneWay),
    );
}
