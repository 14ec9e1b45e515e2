use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::Arc;

use tokio::time::timeout;

use crate::config::{Config, HoldConfig, ObserveConfig, ObserveMethod};
use crate::daemon::clock::Clock;
use crate::daemon::observer::Observers;
use crate::daemon::policy::Policy;
use crate::daemon::shared::Shared;
use crate::daemon::testing::{LIMIT, PEER, Provider};
use crate::daemon::trigger::Trigger;
use crate::daemon::wire::Wire;
use crate::lab::isolated;
use crate::netlink::{Change, Monitor, Netlink};

/// Sends until the taps have shown more than `before` packets.
async fn seen_after(shared: &Shared, before: u64) -> u64 {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
    let look = async {
        while shared.counters.observed.get() == before {
            tick.tick().await;
            socket.send_to(b"seen?", (PEER, 9)).unwrap();
        }
        shared.counters.observed.get()
    };
    timeout(LIMIT, look).await.expect("the tap shows nothing")
}

async fn removed(monitor: &mut Monitor, index: u32) {
    let wait = async { while monitor.next().await.unwrap() != Change::LinkRemoved(index) {} };
    timeout(LIMIT, wait).await.expect("the interface is not removed");
}

#[test]
fn an_uplink_that_was_unplugged_is_watched_again_when_it_is_back() {
    let name = "daemon::tests::taps::an_uplink_that_was_unplugged_is_watched_again_when_it_is_back";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let mut monitor = Netlink::monitor().unwrap();
        let provider = Provider::new();
        let before = provider.connect(&netlink, 1).await;
        let (shared, _inputs) = Shared::new(
            Clock::start(),
            Wire::new(HashMap::new(), None).0,
            &HoldConfig::default(),
        );
        let shared = Arc::new(shared);
        let policy = Policy::new(&Config::default(), |_| Vec::new());
        let mut observers = Observers::taps(Trigger::new(policy, 10), shared.clone());
        observers.watch(&before).unwrap();
        let seen = seen_after(&shared, 0).await;

        netlink.delete_link(before.index).await.unwrap();
        removed(&mut monitor, before.index).await;
        observers.forget(before.index);
        assert!(observers.watch(&before).is_err(), "there is no such interface");

        let after = provider.connect(&netlink, 1).await;
        assert_ne!(before.index, after.index);
        observers.watch(&after).unwrap();
        seen_after(&shared, seen).await;
    });
}

#[test]
fn where_programs_are_not_permitted_there_are_taps_unless_programs_are_asked_for() {
    let name = "daemon::tests::taps::where_programs_are_not_permitted_there_are_taps_unless_programs_are_asked_for";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        let uplink = [provider.connect(&netlink, 1).await];
        let (shared, _inputs) = Shared::new(
            Clock::start(),
            Wire::new(HashMap::new(), None).0,
            &HoldConfig::default(),
        );
        let shared = Arc::new(shared);
        let open = |method| {
            let config = Config {
                observe: ObserveConfig { method },
                ..Config::default()
            };
            Observers::open(&config, &uplink, shared.clone())
        };
        // A user namespace of one's own is not the initial one, whoever made it.
        let observers = open(ObserveMethod::Auto).unwrap();
        assert_eq!(observers.method(), ObserveMethod::Tap);
        seen_after(&shared, 0).await;
        drop(observers);
        assert_eq!(open(ObserveMethod::Tap).unwrap().method(), ObserveMethod::Tap);
        let refused = format!("{:#}", open(ObserveMethod::Ebpf).unwrap_err());
        assert!(
            refused.contains("observe.method") && refused.contains("BPF"),
            "{refused}"
        );
    });
}
