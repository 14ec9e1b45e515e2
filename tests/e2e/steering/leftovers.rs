//! What a daemon that was killed while packets were steered has left is gone after the next run, whatever the configuration
//! says by then.

use std::time::Duration;

use shim6_tests::isolated;
use shim6_tun::config::SteeringConfig;
use shim6_tun::demo::snapshot::Snapshot;
use shim6_tun::lab::{Failure, Host, Topology};
use tokio::time::{Instant, sleep};

use crate::packets::lab::{LIMIT, Lab};
use crate::plans::assert_clean;

/// All that another run may do differently in the routing.
const OTHERWISE: &str = "[steering]\ntable = 4711\nrule_priority = 77\nfwmark = 0x77\n[tun]\nname = \"other0\"\n";

/// What there is of a killed daemon's: tables that its rule leads to, and whether its device is there.
async fn left(host: &Host) -> (Vec<u32>, bool) {
    let netlink = host.namespace.netlink().expect("a connection");
    let rules = netlink.rules().await.expect("rules");
    let tables = [SteeringConfig::default().table, 4711];
    let ours = rules
        .iter()
        .map(|rule| rule.table)
        .filter(|table| tables.contains(table));
    (ours.collect(), netlink.link("shim0").await.is_ok())
}

#[test]
fn nothing_is_left_of_a_run_that_was_killed_while_it_steered() {
    let name = "steering::leftovers::nothing_is_left_of_a_run_that_was_killed_while_it_steered";
    isolated(name, || async {
        let mut lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        lab.stage.crash().await.expect("it can be killed");
        let topology = lab.stage.topology();
        for host in [&topology.a, &topology.b] {
            // The device went with its process, and its routes and addresses with it. The rule stays.
            assert_eq!(left(host).await, (vec![SteeringConfig::default().table], false));
        }

        // The next one does everything otherwise, and steers the same flow.
        lab.stage.configure(OTHERWISE);
        lab.stage.heal().await.expect("a whole path");
        lab.stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        lab.stage
            .wait_established(lab.ulids, Instant::now() + LIMIT)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        lab.steer().await;
        for host in [&lab.stage.topology().a, &lab.stage.topology().b] {
            assert_eq!(left(host).await, (vec![4711], false));
        }

        // Killed once more, and then with other addresses.
        lab.stage.crash().await.expect("it can be killed");
        for host in [&lab.stage.topology().a, &lab.stage.topology().b] {
            std::fs::remove_dir_all(lab.stage.identity_directory(host)).expect("no identity");
        }
        lab.stage.heal().await.expect("a whole path");
        lab.stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_ne!(lab.stage.ulids().await.expect("addresses"), lab.ulids);
        assert_clean(&lab.stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
        for host in [&lab.stage.topology().a, &lab.stage.topology().b] {
            assert_eq!(left(host).await, (vec![], false));
            let netlink = host.namespace.netlink().expect("a connection");
            for table in [SteeringConfig::default().table, 4711] {
                assert_eq!(netlink.routes(table).await.expect("routes"), []);
            }
        }
    });
}

#[test]
fn nothing_is_left_of_runs_that_are_killed_at_any_moment() {
    let name = "steering::leftovers::nothing_is_left_of_runs_that_are_killed_at_any_moment";
    isolated(name, || async {
        let mut lab = Lab::start(Topology::two_by_two().await.expect("a lab"), "").await;
        // Around what happens when a link goes down: it is noticed at once, explored, and steered.
        for micros in [0, 1_000, 3_000, 10_000, 30_000] {
            lab.stage.cut(Failure::LinkDown).await.expect("a cut");
            sleep(Duration::from_micros(micros)).await;
            lab.stage.crash().await.expect("it can be killed");
            lab.stage.heal().await.expect("a whole path");
            lab.stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
            lab.stage
                .wait_established(lab.ulids, Instant::now() + LIMIT)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
        }
        assert_clean(&lab.stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
        let host = &lab.stage.topology().a.namespace;
        let tables = [SteeringConfig::default().table];
        let snapshot = Snapshot::take(host, &tables).await.expect("a snapshot");
        assert!(!format!("{snapshot:?}").contains("shim0"), "{snapshot:?}");
    });
}
