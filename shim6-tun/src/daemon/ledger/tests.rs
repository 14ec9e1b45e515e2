use super::*;
use crate::daemon::testing::{Provider, default_route, fixed, hba, plain, tun};
use crate::lab::isolated;

const TABLE: u32 = 21_302;
const RULE: RuleSpec = RuleSpec {
    priority: 140,
    table: TABLE,
    fwmark: Some(0x5336),
    invert: true,
    flow: None,
};

/// Adds one of everything.
async fn fill(ledger: &mut Ledger, uplink: u32, tun: u32, prefix: Ipv6Addr) {
    let from_ours = RouteSpec {
        source: Some((hba(prefix), 128)),
        ..default_route(uplink)
    };
    let into_tun = RouteSpec {
        gateway: None,
        output: Some(tun),
        table: TABLE,
        ..from_ours
    };
    let pin = fixed(tun, hba(prefix), 128);
    let ours = fixed(uplink, hba(prefix), 64);
    assert!(ledger.add_address(&ours).await.unwrap());
    assert!(ledger.add_address(&pin).await.unwrap());
    assert!(ledger.add_route(&from_ours).await.unwrap());
    assert!(ledger.add_route(&into_tun).await.unwrap());
    assert!(ledger.add_rule(&RULE).await.unwrap());
}

#[test]
fn undoing_leaves_the_namespace_exactly_as_before() {
    isolated(
        "daemon::ledger::tests::undoing_leaves_the_namespace_exactly_as_before",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let (_device, tun) = tun(&netlink).await;
            netlink.settled().await;
            let before = netlink.snapshot().await;

            let mut ledger = Ledger::new(&netlink);
            fill(&mut ledger, uplink.index, tun, uplink.prefix).await;
            assert_eq!(ledger.len(), 5);
            assert_ne!(netlink.snapshot().await, before);
            assert!(ledger.undo_all().await.is_empty());
            assert_eq!(netlink.snapshot().await, before);
            assert!(ledger.is_empty());
        },
    );
}

#[test]
fn what_was_there_before_is_neither_recorded_nor_removed() {
    isolated(
        "daemon::ledger::tests::what_was_there_before_is_neither_recorded_nor_removed",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            netlink.add_rule(&RULE).await.unwrap();
            netlink.settled().await;
            let before = netlink.snapshot().await;

            let mut ledger = Ledger::new(&netlink);
            let address = fixed(uplink.index, plain(uplink.prefix), 64);
            let route = default_route(uplink.index);
            assert!(!ledger.add_address(&address).await.unwrap());
            assert!(!ledger.add_route(&route).await.unwrap());
            assert!(!ledger.add_rule(&RULE).await.unwrap());
            assert!(ledger.is_empty());
            assert!(!ledger.remove_address(&address).await.unwrap());
            assert!(!ledger.remove_route(&route).await.unwrap());
            assert!(ledger.undo_all().await.is_empty());
            assert_eq!(netlink.snapshot().await, before);
        },
    );
}

#[test]
fn undoing_does_not_mind_what_is_gone() {
    isolated("daemon::ledger::tests::undoing_does_not_mind_what_is_gone", || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        let uplink = provider.connect(&netlink, 1).await;
        let (device, tun) = tun(&netlink).await;
        let rules = netlink.rules().await.unwrap();
        let mut ledger = Ledger::new(&netlink);
        fill(&mut ledger, uplink.index, tun, uplink.prefix).await;

        // The pin goes with its interface, address and routes with the link.
        drop(device);
        netlink.set_down(uplink.index).await.unwrap();
        let errors = ledger.undo_all().await;
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(netlink.rules().await.unwrap(), rules);
    });
}

#[test]
fn what_the_kernel_took_is_recorded_once_when_added_again() {
    isolated(
        "daemon::ledger::tests::what_the_kernel_took_is_recorded_once_when_added_again",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let mut ledger = Ledger::new(&netlink);
            let address = fixed(uplink.index, hba(uplink.prefix), 64);
            assert!(ledger.add_address(&address).await.unwrap());
            netlink.set_down(uplink.index).await.unwrap();
            netlink.set_up(uplink.index).await.unwrap();
            assert!(ledger.add_address(&address).await.unwrap());
            assert_eq!(ledger.len(), 1);
            assert!(ledger.remove_address(&address).await.unwrap());
            assert!(ledger.is_empty());
        },
    );
}

#[test]
fn leftovers_of_a_killed_run_are_removed_by_the_next() {
    isolated(
        "daemon::ledger::tests::leftovers_of_a_killed_run_are_removed_by_the_next",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let (_device, tun) = tun(&netlink).await;
            netlink.settled().await;
            let before = netlink.snapshot().await;

            let mut killed = Ledger::new(&netlink);
            fill(&mut killed, uplink.index, tun, uplink.prefix).await;
            drop(killed);
            assert_eq!(remove_leftovers(&netlink).await.unwrap(), 5);
            assert_eq!(netlink.snapshot().await, before);
            assert_eq!(remove_leftovers(&netlink).await.unwrap(), 0);
        },
    );
}
