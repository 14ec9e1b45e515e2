use tokio::time::timeout;

use super::*;
use crate::daemon::testing::{LIMIT, Provider, fixed, hba, plain};
use crate::lab::isolated;
use crate::netlink::MAIN_TABLE;

/// Takes in changes until `wanted` happens to one of our addresses.
async fn until(addresses: &mut Addresses, monitor: &mut Monitor, wanted: AddressEvent) {
    let wait = async {
        loop {
            let change = monitor.next().await.unwrap();
            let events = addresses.handle_change(&change).await.unwrap();
            if events.contains(&wanted) {
                return;
            }
        }
    };
    let happened = timeout(LIMIT, wait).await;
    happened.unwrap_or_else(|_| panic!("{wanted:?} does not happen: {addresses:?}"));
}

async fn has_route(netlink: &Netlink, uplink: &Uplink, address: Ipv6Addr) -> bool {
    let routes = netlink.routes(MAIN_TABLE).await.unwrap();
    let wanted = source_route(uplink, address);
    routes.iter().any(|listed| wanted.describes(listed))
}

#[test]
fn an_assigned_address_has_a_source_route_and_goes_when_undone() {
    isolated(
        "daemon::addresses::tests::an_assigned_address_has_a_source_route_and_goes_when_undone",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            netlink.settled().await;
            let before = netlink.snapshot().await;
            let ours = hba(uplink.prefix);
            let mut addresses = Addresses::new(&netlink, false);
            addresses.assign(&uplink, ours).await.unwrap();
            assert_eq!(addresses.usable().collect::<Vec<_>>(), [ours]);
            assert!(has_route(&netlink, &uplink, ours).await);
            assert!(addresses.undo().await.is_empty());
            assert_eq!(netlink.snapshot().await, before);
        },
    );
}

#[test]
fn an_address_comes_back_with_its_link() {
    isolated(
        "daemon::addresses::tests::an_address_comes_back_with_its_link",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = hba(uplink.prefix);
            let mut monitor = Netlink::monitor().unwrap();
            let mut addresses = Addresses::new(&netlink, false);
            addresses.assign(&uplink, ours).await.unwrap();

            for _ in 0..2 {
                netlink.set_down(uplink.index).await.unwrap();
                until(&mut addresses, &mut monitor, AddressEvent::Lost(ours)).await;
                assert_eq!(addresses.usable().count(), 0);
                assert!(!has_route(&netlink, &uplink, ours).await);

                netlink.set_up(uplink.index).await.unwrap();
                until(&mut addresses, &mut monitor, AddressEvent::Usable(ours)).await;
                assert!(has_route(&netlink, &uplink, ours).await);
                let listed = netlink.addresses().await.unwrap();
                assert!(listed.iter().any(|a| a.address == ours));
            }
        },
    );
}

#[test]
fn losing_the_carrier_loses_the_address_until_it_returns() {
    isolated(
        "daemon::addresses::tests::losing_the_carrier_loses_the_address_until_it_returns",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let other = provider.connect(&netlink, 2).await;
            let (ours, untouched) = (hba(uplink.prefix), hba(other.prefix));
            let mut monitor = Netlink::monitor().unwrap();
            let mut addresses = Addresses::new(&netlink, false);
            addresses.assign(&uplink, ours).await.unwrap();
            addresses.assign(&other, untouched).await.unwrap();

            provider.set_carrier(1, false).await;
            until(&mut addresses, &mut monitor, AddressEvent::Lost(ours)).await;
            assert_eq!(addresses.usable().collect::<Vec<_>>(), [untouched]);
            let up: Vec<_> = addresses.uplinks().map(|(u, _)| u.up).collect();
            assert_eq!(up, [false, true]);
            provider.set_carrier(1, true).await;
            until(&mut addresses, &mut monitor, AddressEvent::Usable(ours)).await;
            assert!(has_route(&netlink, &uplink, ours).await);
        },
    );
}

#[test]
fn an_interface_that_is_plugged_in_again_gets_its_address() {
    isolated(
        "daemon::addresses::tests::an_interface_that_is_plugged_in_again_gets_its_address",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = hba(uplink.prefix);
            let mut monitor = Netlink::monitor().unwrap();
            let mut addresses = Addresses::new(&netlink, false);
            addresses.assign(&uplink, ours).await.unwrap();
            netlink.delete_link(uplink.index).await.unwrap();
            until(&mut addresses, &mut monitor, AddressEvent::Lost(ours)).await;
            let again = provider.connect(&netlink, 1).await;
            assert_ne!(again.index, uplink.index);
            until(&mut addresses, &mut monitor, AddressEvent::Usable(ours)).await;
            assert!(has_route(&netlink, &again, ours).await);
            assert!(addresses.undo().await.is_empty());
        },
    );
}

#[test]
fn an_address_on_a_link_that_is_down_waits_for_it() {
    isolated(
        "daemon::addresses::tests::an_address_on_a_link_that_is_down_waits_for_it",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            netlink.set_down(uplink.index).await.unwrap();
            let ours = hba(uplink.prefix);
            let mut monitor = Netlink::monitor().unwrap();
            let mut addresses = Addresses::new(&netlink, true);
            addresses.assign(&uplink, ours).await.unwrap();
            addresses.settle(&mut monitor).await.unwrap();
            assert_eq!(addresses.usable().count(), 0);
            netlink.set_up(uplink.index).await.unwrap();
            until(&mut addresses, &mut monitor, AddressEvent::Usable(ours)).await;
        },
    );
}

#[test]
fn an_address_is_usable_only_after_duplicate_detection() {
    isolated(
        "daemon::addresses::tests::an_address_is_usable_only_after_duplicate_detection",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ours = hba(uplink.prefix);
            let mut monitor = Netlink::monitor().unwrap();
            let mut addresses = Addresses::new(&netlink, true);
            addresses.assign(&uplink, ours).await.unwrap();
            assert_eq!(addresses.usable().count(), 0);
            addresses.settle(&mut monitor).await.unwrap();
            assert_eq!(addresses.usable().collect::<Vec<_>>(), [ours]);
            let listed = netlink.addresses().await.unwrap();
            assert!(listed.iter().any(|a| a.address == ours && !a.tentative));
        },
    );
}

#[test]
fn an_address_that_another_host_has_is_given_up() {
    isolated(
        "daemon::addresses::tests::an_address_that_another_host_has_is_given_up",
        || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let (taken, free) = (hba(uplink.prefix), plain(uplink.prefix).to_bits() + 7);
            let far = provider.netlink.link("isp1").await.unwrap().index;
            provider.netlink.add_address(&fixed(far, taken, 64)).await.unwrap();
            netlink.settled().await;
            let before = netlink.snapshot().await;

            let mut monitor = Netlink::monitor().unwrap();
            let mut addresses = Addresses::new(&netlink, true);
            addresses.assign(&uplink, taken).await.unwrap();
            let error = addresses.settle(&mut monitor).await.unwrap_err();
            assert!(
                matches!(error, AddressError::Duplicate { address, .. } if address == taken),
                "{error}"
            );
            assert_eq!(netlink.snapshot().await, before);
            assert_eq!(addresses.uplinks().count(), 0);

            let free = Ipv6Addr::from_bits(free);
            addresses.assign(&uplink, free).await.unwrap();
            addresses.settle(&mut monitor).await.unwrap();
            assert_eq!(addresses.usable().collect::<Vec<_>>(), [free]);
        },
    );
}

#[test]
fn an_overrun_is_made_up_for() {
    isolated("daemon::addresses::tests::an_overrun_is_made_up_for", || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        let uplink = provider.connect(&netlink, 1).await;
        let ours = hba(uplink.prefix);
        let mut addresses = Addresses::new(&netlink, false);
        addresses.assign(&uplink, ours).await.unwrap();
        netlink.set_down(uplink.index).await.unwrap();
        let events = addresses.handle_change(&Change::Overrun).await.unwrap();
        assert_eq!(events, [AddressEvent::Lost(ours)]);
        netlink.set_up(uplink.index).await.unwrap();
        // The carrier of a veth comes with the link itself.
        let events = addresses.handle_change(&Change::Overrun).await.unwrap();
        assert_eq!(events, [AddressEvent::Usable(ours)]);
        assert!(has_route(&netlink, &uplink, ours).await);
    });
}

/// Takes in changes until our source route is said to be deleted.
async fn route_loss(addresses: &mut Addresses, monitor: &mut Monitor) -> Result<Vec<AddressEvent>, AddressError> {
    let wait = async {
        loop {
            let change = monitor.next().await.unwrap();
            let result = addresses.handle_change(&change).await;
            if matches!(&change, Change::RouteRemoved(route) if route.source.is_some()) {
                return result;
            }
            result.unwrap();
        }
    };
    timeout(LIMIT, wait)
        .await
        .expect("nobody says that the route was deleted")
}

#[test]
fn source_route_that_somebody_deletes_is_brought_back_and_else_its_address_is_not_used() {
    let name = "daemon::addresses::tests::\
                source_route_that_somebody_deletes_is_brought_back_and_else_its_address_is_not_used";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        let uplink = provider.connect(&netlink, 1).await;
        let ours = hba(uplink.prefix);
        let mut monitor = Netlink::monitor().unwrap();
        let mut addresses = Addresses::new(&netlink, false);
        addresses.assign(&uplink, ours).await.unwrap();
        let route = source_route(&uplink, ours);

        netlink.delete_route(&route).await.unwrap();
        let events = route_loss(&mut addresses, &mut monitor).await.unwrap();
        assert_eq!(events, [], "it was usable all the time");
        assert!(has_route(&netlink, &uplink, ours).await);
        assert_eq!(addresses.usable().count(), 1);

        // Again, at once: somebody does not want it.
        netlink.delete_route(&route).await.unwrap();
        let refused = route_loss(&mut addresses, &mut monitor).await;
        assert!(matches!(refused, Err(AddressError::Unrouted { .. })), "{refused:?}");
        assert_eq!(addresses.usable().count(), 0);
        let events = addresses.handle_change(&Change::Overrun).await.unwrap();
        assert_eq!(events, [AddressEvent::Usable(ours)]);
        assert!(has_route(&netlink, &uplink, ours).await);

        // Whoever brings it back, it serves.
        netlink.delete_route(&route).await.unwrap();
        assert!(route_loss(&mut addresses, &mut monitor).await.is_err());
        netlink.add_route(&route).await.unwrap();
        until(&mut addresses, &mut monitor, AddressEvent::Usable(ours)).await;
        assert!(addresses.undo().await.is_empty());
    });
}
