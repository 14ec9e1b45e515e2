//! A daemon that is killed and started again has lost its contexts. Its peer has not: a flow on another path than its own
//! goes on once the peer has been told (RFC 5533 section 7.5).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Locators, Stage};
use shim6_tun::demo::traffic::{Dialogue, converse, echo};
use shim6_tun::lab::Failure;
use shim6_tun::status::Status;
use tokio::time::{Instant, interval, timeout};

use crate::plans::{assert_clean, assert_moved};

/// Longer than anything takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Answers that show that a flow goes on.
const GOES_ON: u64 = 50;

/// A request each 5 ms from host a to host b, without an end.
pub(crate) struct Requests {
    answered: Arc<AtomicU64>,
    /// The port of host b.
    pub(crate) port: u16,
    tasks: [tokio::task::AbortHandle; 2],
}

impl Requests {
    pub(crate) fn start(stage: &Stage, ulids: Locators) -> Self {
        let (server, bound) = stage::udp(&stage.topology().b, ulids[1]).expect("a server");
        let (client, _) = stage::udp(&stage.topology().a, ulids[0]).expect("a client");
        let answered = Arc::new(AtomicU64::new(0));
        let counted = answered.clone();
        let dialogue = Dialogue {
            seed: 1,
            requests: u64::MAX,
            interval: Duration::from_millis(5),
        };
        let asking = async move {
            let count = |_| {
                counted.fetch_add(1, Relaxed);
            };
            converse(client, bound, dialogue, Instant::now() + 10 * LIMIT, count).await
        };
        let tasks = [
            tokio::spawn(echo(server)).abort_handle(),
            tokio::spawn(asking).abort_handle(),
        ];
        Self {
            answered,
            port: bound.port(),
            tasks,
        }
    }

    pub(crate) async fn go_on(&self, stage: &Stage) {
        let wanted = self.answered.load(Relaxed) + GOES_ON;
        until("the flow goes on", stage, async || {
            self.answered.load(Relaxed) >= wanted
        })
        .await;
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

pub(crate) async fn until(what: &str, stage: &Stage, is_so: impl AsyncFn() -> bool) {
    let mut tick = interval(Duration::from_millis(10));
    let wait = async {
        while !is_so().await {
            tick.tick().await;
        }
    };
    if timeout(LIMIT, wait).await.is_err() {
        panic!("not so: {what}\n{}", stage.logs());
    }
}

/// Waits until both hosts have an established context for `ulids` on another path.
pub(crate) async fn moved(stage: &Stage, ulids: Locators) {
    until("both hosts are on another path", stage, async || {
        let contexts = [stage.context_a(ulids).await, stage.context_b(ulids).await];
        contexts
            .into_iter()
            .all(|context| matches!(context, Ok(Some(context)) if context.steered && context.state == "established"))
    })
    .await;
}

fn sent(status: &Status, kind: &str) -> u64 {
    status.counters.sent.get(kind).copied().unwrap_or(0)
}

#[test]
fn flow_on_another_path_goes_on_when_a_daemon_has_lost_its_context() {
    isolated(
        "restart::flow_on_another_path_goes_on_when_a_daemon_has_lost_its_context",
        || async {
            let live = Arc::new(Live::default());
            let mut stage = Stage::build(binary::shim6(), live).await.expect("a lab");
            stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
            let ulids = stage.ulids().await.expect("addresses");
            let requests = Requests::start(&stage, ulids);
            stage
                .wait_established(ulids, Instant::now() + LIMIT)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
            requests.go_on(&stage).await;
            let before = stage.locators(ulids).await.expect("a context");
            stage.cut(Failure::Blackhole).await.expect("a cut");
            moved(&stage, ulids).await;
            requests.go_on(&stage).await;
            let context = stage.context_a(ulids).await.expect("a status").expect("a context");

            stage.restart_b().await.unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(stage.ulids().await.expect("addresses"), ulids);
            requests.go_on(&stage).await;
            moved(&stage, ulids).await;
            let after = stage.locators(ulids).await.expect("a context");
            assert_moved(before, after);

            // It is the same context, and host a has not made another one: host b has asked for it.
            let renewed = stage.context_a(ulids).await.expect("a status").expect("a context");
            assert_eq!(renewed.id, context.id, "{}", stage.logs());
            let a = stage.daemon_a().expect("it runs").status().await.expect("a status");
            let b = stage.daemon_b().expect("it runs").status().await.expect("a status");
            assert!(sent(&b, "R1bis") > 0, "{:?}\n{}", b.counters, stage.logs());
            assert!(sent(&a, "I2bis") > 0, "{:?}\n{}", a.counters, stage.logs());
            drop(requests);
            assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
        },
    );
}
