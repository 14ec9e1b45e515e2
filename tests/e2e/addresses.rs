//! Sessions while prefixes and interfaces come, change and go: with router advertisements that the test itself sends.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shim6_tests::renumber::{advertise, delegate, is_under};
use shim6_tests::{binary, isolated};
use shim6_tun::daemon::ledger::LABEL;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Locators, Stage};
use shim6_tun::lab::{Failure, Host, Namespace};
use shim6_tun::netlink::{Address, AddressSpec, MAIN_TABLE, Netlink};
use shim6_tun::status::{ContextStatus, UplinkStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout};

use crate::plans::assert_clean;

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Questions and answers that show that a session goes on.
const GOES_ON: u64 = 50;
/// A prefix that comes later.
const LATER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 0);

/// A TCP session between host a and host b, over which a question and its answer go each 5 ms.
struct Session {
    answered: Arc<AtomicU64>,
    tasks: [AbortHandle; 2],
}

impl Session {
    async fn start(stage: &Stage, ulids: Locators) -> Self {
        let (listener, bound) = stage::listen(&stage.topology().b, ulids[1], None).expect("a listener");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let client = stage::tcp_client(&stage.topology().a, ulids[0]).expect("a client");
        let client = TcpSocket::from_std_stream(client);
        let connecting = timeout(LIMIT, client.connect(bound.into()));
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let client = client.expect("it connects in time").expect("it connects");
        let answered = Arc::new(AtomicU64::new(0));
        let tasks = [
            tokio::spawn(ask(client, answered.clone())).abort_handle(),
            tokio::spawn(answer(accepted.expect("a connection").0)).abort_handle(),
        ];
        Self { answered, tasks }
    }

    async fn goes_on(&self, stage: &Stage) {
        let wanted = self.answered.load(Relaxed) + GOES_ON;
        until("the session goes on", stage, async || {
            self.answered.load(Relaxed) >= wanted
        })
        .await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn ask(mut stream: TcpStream, answered: Arc<AtomicU64>) {
    let mut tick = interval(Duration::from_millis(5));
    loop {
        tick.tick().await;
        let number = answered.load(Relaxed).to_be_bytes();
        let mut answer = [0; 8];
        if stream.write_all(&number).await.is_err() || stream.read_exact(&mut answer).await.is_err() || answer != number
        {
            return;
        }
        answered.fetch_add(1, Relaxed);
    }
}

async fn answer(mut stream: TcpStream) {
    let mut question = [0; 8];
    while stream.read_exact(&mut question).await.is_ok() && stream.write_all(&question).await.is_ok() {}
}

async fn until(what: &str, stage: &Stage, is_so: impl AsyncFn() -> bool) {
    let mut tick = interval(Duration::from_millis(10));
    let wait = async {
        while !is_so().await {
            tick.tick().await;
        }
    };
    if timeout(LIMIT, wait).await.is_err() {
        let contexts = match stage.daemon_a() {
            Ok(daemon) => format!("{:#?}", daemon.status().await),
            Err(error) => error.to_string(),
        };
        panic!("not so: {what}\n{contexts}\n{}", stage.logs());
    }
}

/// Waits until host a has uplinks as wanted.
async fn uplinks(what: &str, stage: &Stage, wanted: impl Fn(&[UplinkStatus]) -> bool) -> Vec<UplinkStatus> {
    let daemon = stage.daemon_a().expect("it runs");
    until(what, stage, async || {
        daemon.status().await.is_ok_and(|status| wanted(&status.uplinks))
    })
    .await;
    daemon.status().await.expect("a status").uplinks
}

/// Waits until host b has a context for `ulids` that is as wanted.
async fn at_b(what: &str, stage: &Stage, ulids: Locators, wanted: impl Fn(&ContextStatus) -> bool) {
    until(
        what,
        stage,
        async || matches!(stage.context_b(ulids).await, Ok(Some(context)) if wanted(&context)),
    )
    .await;
}

fn netlink(namespace: &Namespace) -> Netlink {
    namespace.netlink().expect("a connection")
}

async fn addresses(host: &Host, prefix: Ipv6Addr) -> Vec<Address> {
    let mut all = netlink(&host.namespace).addresses().await.expect("addresses");
    all.retain(|address| is_under(address.address, prefix));
    all
}

async fn started() -> (Stage, Locators) {
    let mut stage = Stage::build(binary::shim6(), Arc::new(Live::default()))
        .await
        .expect("a lab");
    stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let ulids = stage.ulids().await.expect("addresses");
    (stage, ulids)
}

async fn protected(stage: &Stage, ulids: Locators) -> Session {
    let session = Session::start(stage, ulids).await;
    stage
        .wait_established(ulids, Instant::now() + LIMIT)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    session
}

#[test]
fn session_moves_to_a_prefix_that_its_router_advertises_and_away_when_that_is_withdrawn() {
    isolated(
        "addresses::session_moves_to_a_prefix_that_its_router_advertises_and_away_when_that_is_withdrawn",
        || async {
            let (mut stage, ulids) = started().await;
            let session = protected(&stage, ulids).await;
            session.goes_on(&stage).await;

            // The router has another prefix, and the peer is told of the locator.
            delegate(stage.topology(), 0, LATER).await.expect("a prefix");
            advertise(stage.topology(), 0, LATER, 3600).expect("it is sent");
            let is_later = |uplink: &UplinkStatus| uplink.up && is_under(uplink.address, LATER);
            let shown = uplinks("there is a third locator", &stage, |uplinks| {
                uplinks.len() == 3 && uplinks.iter().any(is_later)
            })
            .await;
            let later = shown
                .iter()
                .find(|uplink| is_later(uplink))
                .expect("it was there")
                .clone();
            assert!(!later.ulid && later.interface == "eth0", "{later:?}");
            let knows = |context: &ContextStatus| context.peer_locators.contains(&later.address);
            at_b("the peer knows the third locator", &stage, ulids, knows).await;

            // Nothing else is left: the session moves to it.
            let topology = stage.topology();
            topology.cut(Failure::Blackhole, &topology.a, 1).await.expect("a cut");
            // Only of the former prefix: what comes for it vanishes.
            topology.cut(Failure::OneWay, &topology.a, 0).await.expect("a cut");
            let is_there = |context: &ContextStatus| context.locators.peer == later.address;
            at_b("the session is on the third locator", &stage, ulids, is_there).await;
            session.goes_on(&stage).await;

            // Deprecated, it serves the session on, and no new one.
            advertise(stage.topology(), 0, LATER, 0).expect("it is sent");
            let host = stage.topology().a.clone();
            until("both addresses are deprecated", &stage, async || {
                let here = addresses(&host, LATER).await;
                here.len() == 2 && here.iter().all(|address| address.deprecated)
            })
            .await;
            session.goes_on(&stage).await;

            // Withdrawn, it is gone, and the peer forgets it.
            stage.topology().heal(&host, 1).await.expect("it heals");
            let here = addresses(&host, LATER).await;
            let plain = here.iter().find(|a| a.address != later.address).expect("the plain one");
            netlink(&host.namespace)
                .delete_address(plain.index, plain.address, plain.prefix_len)
                .await
                .expect("it is deleted");
            uplinks("the third locator is gone", &stage, |uplinks| uplinks.len() == 2).await;
            at_b("the peer has forgotten it", &stage, ulids, |context| {
                !knows(context) && context.locators.peer != later.address
            })
            .await;
            session.goes_on(&stage).await;
            assert!(addresses(&host, LATER).await.is_empty());
            drop(session);
            let shutdown = stage.stop().await.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(shutdown.bad_exits.is_empty(), "{shutdown:#?}");
            // What the router advertised is the kernel's.
            let left: Vec<_> = shutdown
                .leftovers
                .iter()
                .filter(|line| !line.contains("2001:db8:a3::"))
                .collect();
            assert!(left.is_empty(), "{left:#?}");
        },
    );
}

#[test]
fn session_survives_that_its_host_gets_all_its_prefixes_anew() {
    isolated(
        "addresses::session_survives_that_its_host_gets_all_its_prefixes_anew",
        || async {
            let (mut stage, ulids) = started().await;
            let session = protected(&stage, ulids).await;
            delegate(stage.topology(), 0, LATER).await.expect("a prefix");
            advertise(stage.topology(), 0, LATER, 3600).expect("it is sent");
            uplinks("there is a third locator", &stage, |uplinks| {
                uplinks.len() == 3 && uplinks.iter().all(|uplink| uplink.up)
            })
            .await;

            // The host's own addresses were for other prefixes: it makes new ones, and the session is told of them.
            let host = stage.topology().a.clone();
            let netlink = netlink(&host.namespace);
            for uplink in &host.uplinks {
                let index = netlink.link(&uplink.interface).await.expect("an interface").index;
                let deleted = netlink.delete_address(index, uplink.address, 64).await;
                deleted.expect("it is deleted");
            }
            for uplink in 0..2 {
                // What comes for the former prefixes vanishes.
                let topology = stage.topology();
                topology.cut(Failure::OneWay, &host, uplink).await.expect("a cut");
            }
            let is_new = |uplink: &UplinkStatus| uplink.ulid && uplink.up && is_under(uplink.address, LATER);
            let shown = uplinks("there are new addresses", &stage, |uplinks| {
                uplinks.iter().any(is_new) && uplinks.iter().all(|uplink| is_under(uplink.address, LATER))
            })
            .await;
            at_b("the session is under the new prefix", &stage, ulids, |context| {
                is_under(context.locators.peer, LATER)
            })
            .await;
            session.goes_on(&stage).await;

            // And a new session can be protected.
            let new = shown
                .iter()
                .find(|uplink| is_new(uplink))
                .expect("it was there")
                .address;
            let other = protected(&stage, [new, ulids[1]]).await;
            other.goes_on(&stage).await;
            session.goes_on(&stage).await;
            drop((session, other));
            let shutdown = stage.stop().await.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(shutdown.bad_exits.is_empty(), "{shutdown:#?}");
        },
    );
}

#[test]
fn session_survives_that_its_uplink_is_taken_down_renamed_and_set_up_again() {
    isolated(
        "addresses::session_survives_that_its_uplink_is_taken_down_renamed_and_set_up_again",
        || async {
            let (mut stage, ulids) = started().await;
            let session = protected(&stage, ulids).await;
            let host = stage.topology().a.clone();
            let netlink = netlink(&host.namespace);
            let eth0 = netlink.link("eth0").await.expect("an interface").index;
            let routes = netlink.routes(MAIN_TABLE).await.expect("routes");
            let default = routes
                .into_iter()
                .find(|route| route.is_default() && route.source.is_none() && route.output == Some(eth0));
            netlink.set_down(eth0).await.expect("it goes down");
            uplinks("the uplink is down", &stage, |uplinks| !uplinks[0].up).await;
            session.goes_on(&stage).await;

            netlink.rename(eth0, "fibre").await.expect("it is renamed");
            netlink.set_up(eth0).await.expect("it goes up");
            let plain = AddressSpec {
                index: eth0,
                address: host.uplinks[0].address,
                prefix_len: 64,
                no_dad: true,
                deprecated: false,
                no_prefix_route: false,
            };
            netlink.add_address(&plain).await.expect("it has its address again");
            // A router advertisement would bring it back as soon as the router is known to be there.
            until("the default route is back", &stage, async || {
                match netlink.add_route(&default.expect("a default route")).await {
                    Ok(()) => true,
                    Err(error) => error.is_exists(),
                }
            })
            .await;
            let shown = uplinks("the uplink is up under its new name", &stage, |uplinks| {
                uplinks.iter().any(|uplink| uplink.up && uplink.interface == "fibre")
            })
            .await;
            assert_eq!(shown[0].address, ulids[0]);
            at_b("the session is back on its own path", &stage, ulids, |context| {
                !context.steered
            })
            .await;
            session.goes_on(&stage).await;
            let problems = stage
                .daemon_a()
                .expect("it runs")
                .status()
                .await
                .expect("a status")
                .problems;
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.contains("eth0") && problem.contains("fibre")),
                "{problems:?}"
            );
            drop(session);
            let shutdown = stage.stop().await.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(shutdown.bad_exits.is_empty(), "{shutdown:#?}");
        },
    );
}

#[test]
fn what_a_killed_daemon_has_left_is_gone_after_the_next_run() {
    isolated(
        "addresses::what_a_killed_daemon_has_left_is_gone_after_the_next_run",
        || async {
            let mut stage = Stage::build(binary::shim6(), Arc::new(Live::default()))
                .await
                .expect("a lab");
            let netlink = netlink(&stage.topology().a.namespace);
            let labels = netlink.labels().await.expect("labels");
            stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
            let ulids = stage.ulids().await.expect("addresses");
            stage.crash().await.expect("it is killed");
            let left = netlink.labels().await.expect("labels");
            assert_eq!(left.iter().filter(|label| label.label == LABEL).count(), 2, "{left:?}");
            assert!(!addresses(&stage.topology().a, ulids[0]).await.is_empty());

            stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(stage.ulids().await.expect("addresses"), ulids);
            let session = protected(&stage, ulids).await;
            session.goes_on(&stage).await;
            drop(session);
            assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
            assert_eq!(netlink.labels().await.expect("labels"), labels);
        },
    );
}
