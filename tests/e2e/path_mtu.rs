//! Routers on the other path may have a smaller MTU. What they say of packets with locators reaches the socket that sent
//! them (RFC 5533 section 8).

use std::sync::Arc;
use std::time::Duration;

use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Stage};
use shim6_tun::demo::traffic::{Transfer, download, serve};
use shim6_tun::lab::Failure;
use tokio::time::{Instant, interval};

use crate::plans::{assert_clean, assert_moved};

/// Longer than it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// Far below 1492, which packets have when they leave, and well above the 1288 at which a socket need not follow.
const MTU: &str = "1400";

/// 6 MB in 2 s, of which 1 MB has arrived when the uplink is cut.
const TRANSFER: Transfer = Transfer {
    seed: 7,
    octets: 6_000_000,
    rate: 3_000_000,
};
const BEFORE_THE_CUT: u64 = 1_000_000;

#[test]
fn download_moves_to_a_path_with_a_smaller_mtu() {
    isolated("path_mtu::download_moves_to_a_path_with_a_smaller_mtu", || async {
        let live = Arc::new(Live::default());
        let mut stage = Stage::build(binary::shim6(), live.clone()).await.expect("a lab");
        let narrow = || std::fs::write("/proc/sys/net/ipv6/conf/isp-a2/mtu", MTU);
        stage
            .topology()
            .core()
            .run(narrow)
            .expect("a namespace")
            .expect("an MTU");
        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        let ulids = stage.ulids().await.expect("addresses");

        let deadline = Instant::now() + LIMIT;
        let (listener, server) = stage::listen(&stage.topology().b, ulids[1], None).expect("a listener");
        let socket = stage::tcp_client(&stage.topology().a, ulids[0]).expect("a client");
        let serving = tokio::spawn(serve(listener, TRANSFER, deadline));
        let arrived = live.clone();
        let mut client = tokio::spawn(async move {
            let count = |octets| arrived.with().record(arrived.now(), octets);
            download(socket, server, TRANSFER, tokio::time::sleep_until(deadline), count).await
        });
        stage
            .wait_established(ulids, deadline)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let mut tick = interval(Duration::from_millis(5));
        while live.with().total() < BEFORE_THE_CUT {
            tick.tick().await;
            assert!(Instant::now() < deadline && !client.is_finished(), "{}", stage.logs());
        }
        let before = stage.locators(ulids).await.expect("a context");
        stage.cut(Failure::Blackhole).await.expect("a cut");
        let download = (&mut client).await.expect("it ends");
        let status = stage.daemon_b().expect("it runs").status().await.expect("a status");
        let counters = &status.counters;
        assert!(download.completed, "{download:?}\n{counters:?}\n{}", stage.logs());
        assert_moved(before, stage.locators(ulids).await.expect("a context"));
        assert!(counters.dataplane["icmp_delivered"] > 0, "{counters:?}");
        serving.abort();
        assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
    });
}
