//! How most tests begin and end: two hosts whose daemons run.

use std::sync::Arc;

use shim6_tests::binary;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{Locators, Stage};
use tokio::time::Instant;

use crate::plans::assert_clean;
use crate::restart::{LIMIT, Requests};

/// Daemons with these tables in their configuration, and the addresses that are protected.
pub(crate) async fn running(tables: &str) -> (Stage, Locators) {
    let mut stage = Stage::build(binary::shim6(), Arc::new(Live::default()))
        .await
        .expect("a lab");
    stage.configure(tables);
    stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let ulids = stage.ulids().await.expect("addresses");
    (stage, ulids)
}

/// Waits until there is a context between these addresses.
pub(crate) async fn established(stage: &Stage, ulids: Locators) {
    let established = stage.wait_established(ulids, Instant::now() + LIMIT).await;
    established.unwrap_or_else(|error| panic!("{error:#}"));
}

/// The same with traffic that has made a context.
pub(crate) async fn protected(tables: &str) -> (Stage, Locators, Requests) {
    let (stage, ulids) = running(tables).await;
    let requests = Requests::start(&stage, ulids);
    established(&stage, ulids).await;
    (stage, ulids, requests)
}

/// Ends the daemons, which have to leave nothing behind.
pub(crate) async fn stopped(mut stage: Stage) {
    assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
}
