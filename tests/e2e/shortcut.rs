//! Steered packets that do not pass through the daemon: what the programs in the kernel carry, and what becomes of it when they
//! are taken away. Only root can try it, see `CONTRIBUTING.md`; the tests of all kinds of packets run that way, too.

use std::collections::BTreeMap;
use std::net::TcpStream;

use shim6_tests::isolated;
use shim6_tun::lab::{Host, Topology, is_privileged};

use crate::packets::lab::{Lab, Pair};
use crate::packets::streams::{connected, exchange};
use crate::plans::assert_clean;

const OCTETS: usize = 20 << 20;
/// Octets that a packet carries at most here.
const MOST: u64 = 1_500;

async fn counters(lab: &Lab) -> [BTreeMap<String, u64>; 2] {
    lab.status().await.map(|status| status.counters.dataplane)
}

/// Sends a lot in both directions, and says how much of it each host has carried in the kernel.
async fn carried(lab: &Lab, pair: &Pair) -> [u64; 2] {
    let before = counters(lab).await;
    let on = pair.clone();
    lab.blocking(move || {
        let [client, server] = connected(&on, true);
        exchange(&on, [&client, &server], OCTETS);
    })
    .await;
    let after = counters(lab).await;
    [0, 1].map(|host| {
        let count = |counters: &BTreeMap<String, u64>, name: &str| counters.get(name).copied().unwrap_or_default();
        let grown = |name| count(&after[host], name) - count(&before[host], name);
        assert_eq!(grown("shortcut_failed"), 0);
        grown("shortcut_rewritten").min(grown("shortcut_restored"))
    })
}

/// A connection between the ULIDs.
struct Session([TcpStream; 2]);

impl Session {
    async fn open(lab: &Lab) -> Self {
        let pair = lab.pair();
        Self(lab.blocking(move || connected(&pair, true)).await)
    }

    /// Sends a lot in both directions, all of which arrives.
    async fn exchange(self, lab: &Lab) -> Self {
        let pair = lab.pair();
        let exchange = move || {
            exchange(&pair, [&self.0[0], &self.0[1]], OCTETS);
            self
        };
        lab.blocking(exchange).await
    }
}

async fn virtual_links(host: &Host) -> usize {
    let links = host
        .namespace
        .netlink()
        .expect("a connection")
        .links()
        .await
        .expect("links");
    let is_ours = |name: &str| name.ends_with("-in") || name.ends_with("-out");
    links.iter().filter(|link| is_ours(&link.name)).count()
}

/// Runs the body where the kernel permits what it tests.
fn as_root<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    let name = format!("shortcut::{test}");
    isolated(&name, || async {
        if is_privileged() {
            body().await;
        } else {
            eprintln!("skipped: {name}: set SHIM6_LAB_AS_ROOT=1, as root");
        }
    });
}

#[test]
fn steered_streams_go_past_the_daemon_until_their_path_is_whole_again() {
    as_root(
        "steered_streams_go_past_the_daemon_until_their_path_is_whole_again",
        || async {
            let mut lab = Lab::start(Topology::two_by_two().await.expect("a lab"), "").await;
            let pair = lab.pair();
            assert_eq!(carried(&lab, &pair).await, [0, 0], "nothing is steered");
            let session = Session::open(&lab).await;
            lab.steer().await;
            for pair in [&pair, &pair.reversed("between the ULIDs, from b to a")] {
                for carried in carried(&lab, pair).await {
                    assert!(carried > OCTETS as u64 / MOST, "{carried} packets");
                }
            }
            let session = session.exchange(&lab).await;
            lab.heal().await;
            assert_eq!(carried(&lab, &pair).await, [0, 0], "nothing is steered any more");
            session.exchange(&lab).await;
            assert_clean(&lab.stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
            for host in [&lab.stage.topology().a, &lab.stage.topology().b] {
                assert_eq!(virtual_links(host).await, 0);
            }
        },
    );
}

#[test]
fn a_session_goes_on_through_the_daemon_when_the_virtual_link_is_deleted() {
    as_root(
        "a_session_goes_on_through_the_daemon_when_the_virtual_link_is_deleted",
        || async {
            let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
            let session = Session::open(&lab).await.exchange(&lab).await;
            let netlink = lab.stage.topology().a.namespace.netlink().expect("a connection");
            let inside = netlink.link("shim0-in").await.expect("it is there");
            netlink.delete_link(inside.index).await.expect("it can be deleted");
            session.exchange(&lab).await;
            let [a, b] = carried(&lab, &lab.pair()).await;
            assert_eq!(a, 0);
            assert!(b > OCTETS as u64 / MOST, "the other host has its own: {b} packets");
        },
    );
}

#[test]
fn a_virtual_link_that_a_killed_run_left_is_gone_after_the_next() {
    as_root(
        "a_virtual_link_that_a_killed_run_left_is_gone_after_the_next",
        || async {
            let mut lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
            lab.stage.crash().await.expect("it can be killed");
            assert_eq!(virtual_links(&lab.stage.topology().a).await, 2);
            lab.stage.configure("[wire]\nin_kernel = false\n");
            lab.stage.heal().await.expect("a whole path");
            lab.stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(virtual_links(&lab.stage.topology().a).await, 0);
            assert_clean(&lab.stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
        },
    );
}
