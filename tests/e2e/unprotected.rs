//! Without a daemon, the same download does not complete: so the tests with one can fail.

use std::sync::Arc;

use shim6_tests::isolated;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::scenario::run_unprotected;
use shim6_tun::lab::Failure;

use crate::plans;

async fn dies(failure: Failure) {
    let plan = plans::download(failure);
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
