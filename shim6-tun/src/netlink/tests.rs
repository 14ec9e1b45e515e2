//! Against the real kernel, in namespaces of their own.

use core::time::Duration;

use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteType};

use super::*;
use crate::lab::isolated;

const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 1);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

async fn veth(netlink: &Netlink) -> (u32, u32) {
    netlink.add_veth("eth0", "isp0", None).await.unwrap();
    let (eth0, isp0) = (
        netlink.link("eth0").await.unwrap().index,
        netlink.link("isp0").await.unwrap().index,
    );
    netlink.set_up(eth0).await.unwrap();
    netlink.set_up(isp0).await.unwrap();
    (eth0, isp0)
}

fn spec(index: u32) -> AddressSpec {
    AddressSpec {
        index,
        address: ADDRESS,
        prefix_len: 64,
        no_dad: true,
        deprecated: false,
        no_prefix_route: false,
    }
}

fn default_route(output: u32) -> RouteSpec {
    RouteSpec {
        destination: (Ipv6Addr::UNSPECIFIED, 0),
        source: None,
        gateway: Some(GATEWAY),
        output: Some(output),
        table: MAIN_TABLE,
        metric: None,
        kind: RouteKind::Unicast,
    }
}

fn only<T>(found: impl Iterator<Item = T>) -> T {
    let mut found: Vec<T> = found.collect();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// For the tests of other modules too.
impl Netlink {
    /// All of the namespace's IPv6 configuration as the kernel tells it, in a fixed order.
    pub(crate) async fn snapshot(&self) -> Vec<String> {
        let links = self.links().await.unwrap();
        let addresses = self.address_messages().await.unwrap();
        let mut routes = self.route_messages().await.unwrap();
        for route in &mut routes {
            // When it was last used.
            let attributes = &mut route.attributes;
            attributes.retain(|a| !matches!(a, RouteAttribute::CacheInfo(_)));
        }
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetRule(message);
        let rules = self.dump(request, "list the routing rules").await.unwrap();

        let links = links.iter().map(|m| format!("{m:?}"));
        let addresses = addresses.iter().map(|m| format!("{m:?}"));
        let routes = routes.iter().map(|m| format!("{m:?}"));
        let rules = rules.iter().map(|m| format!("{m:?}"));
        let mut lines: Vec<_> = links.chain(addresses).chain(routes).chain(rules).collect();
        lines.sort();
        lines
    }

    /// Waits until the kernel is done with what it does after a change was acknowledged: the
    /// link-local addresses, duplicate address detection, and the entries that make addresses
    /// local.
    pub(crate) async fn settled(&self) {
        let limit = tokio::time::Instant::now() + Duration::from_secs(20);
        while !self.is_settled().await {
            assert!(tokio::time::Instant::now() < limit, "the kernel does not settle");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_settled(&self) -> bool {
        let links = self.links().await.unwrap();
        let addresses = self.addresses().await.unwrap();
        let routes = self.route_messages().await.unwrap();
        let has_link_local = |link: &Link| {
            let mut on_it = addresses.iter().filter(|a| a.index == link.index);
            on_it.any(|a| a.address.is_unicast_link_local())
        };
        let is_local = |address: &Address| {
            let to = RouteAttribute::Destination(RouteAddress::Inet6(address.address));
            let on = RouteAttribute::Oif(address.index);
            let mut local = routes.iter().filter(|r| r.header.kind == RouteType::Local);
            local.any(|r| r.attributes.contains(&to) && r.attributes.contains(&on))
        };
        let mut running = links.iter().filter(|l| l.up && l.running && !l.loopback);
        running.all(has_link_local) && addresses.iter().all(|a| !a.tentative && is_local(a))
    }
}

#[test]
fn an_interface_is_added_changed_and_deleted() {
    isolated("netlink::tests::an_interface_is_added_changed_and_deleted", || async {
        let netlink = Netlink::connect().unwrap();
        assert!(netlink.link("lo").await.unwrap().loopback);
        let missing = netlink.link("eth0").await.unwrap_err();
        assert!(missing.is_not_found() && missing.to_string().contains("eth0"));

        let (eth0, isp0) = veth(&netlink).await;
        let again = netlink.add_veth("eth0", "isp0", None).await.unwrap_err();
        assert!(again.is_exists(), "{again}");
        let link = netlink.link("eth0").await.unwrap();
        assert!(link.up && link.running && !link.loopback);

        netlink.set_mtu(eth0, 1400).await.unwrap();
        assert_eq!(netlink.link("eth0").await.unwrap().mtu, 1400);
        netlink.set_down(isp0).await.unwrap();
        let link = netlink.link("eth0").await.unwrap();
        assert!(link.up && !link.running, "the carrier is gone: {link:?}");

        netlink.delete_link(eth0).await.unwrap();
        assert!(netlink.delete_link(eth0).await.unwrap_err().is_not_found());
        assert_eq!(netlink.links().await.unwrap().len(), 1);
    });
}

#[test]
fn an_address_is_added_listed_and_deleted() {
    isolated("netlink::tests::an_address_is_added_listed_and_deleted", || async {
        let netlink = Netlink::connect().unwrap();
        let (eth0, _) = veth(&netlink).await;
        netlink.add_address(&spec(eth0)).await.unwrap();
        let again = netlink.add_address(&spec(eth0)).await.unwrap_err();
        assert!(again.is_exists(), "{again}");

        let mine = |a: &Address| a.address == ADDRESS;
        let listed = netlink.addresses().await.unwrap().into_iter().filter(mine);
        let expected = Address {
            index: eth0,
            address: ADDRESS,
            prefix_len: 64,
            tentative: false,
            dad_failed: false,
            deprecated: false,
            global: true,
        };
        assert_eq!(only(listed), expected);
        let on_link = |r: &RouteSpec| r.destination == (PREFIX, 64);
        assert!(netlink.routes(MAIN_TABLE).await.unwrap().iter().any(on_link));

        netlink.delete_address(eth0, ADDRESS, 64).await.unwrap();
        let gone = netlink.delete_address(eth0, ADDRESS, 64).await;
        assert!(gone.unwrap_err().is_not_found());
        assert!(!netlink.routes(MAIN_TABLE).await.unwrap().iter().any(on_link));
    });
}

#[test]
fn a_deprecated_address_without_prefix_route_is_just_that() {
    isolated(
        "netlink::tests::a_deprecated_address_without_prefix_route_is_just_that",
        || async {
            let netlink = Netlink::connect().unwrap();
            let (eth0, _) = veth(&netlink).await;
            let spec = AddressSpec {
                deprecated: true,
                no_prefix_route: true,
                ..spec(eth0)
            };
            netlink.add_address(&spec).await.unwrap();
            let addresses = netlink.addresses().await.unwrap();
            assert!(only(addresses.iter().filter(|a| a.address == ADDRESS)).deprecated);
            let routes = netlink.routes(MAIN_TABLE).await.unwrap();
            assert!(!routes.iter().any(|r| r.destination == (PREFIX, 64)));
        },
    );
}

#[test]
fn a_route_with_a_source_is_one_of_its_own() {
    isolated("netlink::tests::a_route_with_a_source_is_one_of_its_own", || async {
        let netlink = Netlink::connect().unwrap();
        let (eth0, _) = veth(&netlink).await;
        let plain = default_route(eth0);
        let from = RouteSpec {
            source: Some((ADDRESS, 128)),
            ..plain
        };
        netlink.add_route(&plain).await.unwrap();
        netlink.add_route(&from).await.unwrap();
        assert!(netlink.add_route(&from).await.unwrap_err().is_exists());

        let defaults = || async {
            let routes = netlink.routes(MAIN_TABLE).await.unwrap();
            let defaults = routes.into_iter().filter(RouteSpec::is_default);
            defaults.collect::<Vec<_>>()
        };
        let listed = defaults().await;
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().any(|r| plain.describes(r)));
        assert!(listed.iter().any(|r| from.describes(r)));

        netlink.delete_route(&from).await.unwrap();
        assert!(netlink.delete_route(&from).await.unwrap_err().is_not_found());
        assert!(plain.describes(&only(defaults().await.into_iter())));
    });
}

#[test]
fn deleting_a_blackhole_leaves_the_route_of_the_same_prefix() {
    isolated(
        "netlink::tests::deleting_a_blackhole_leaves_the_route_of_the_same_prefix",
        || async {
            let netlink = Netlink::connect().unwrap();
            let (eth0, _) = veth(&netlink).await;
            let unicast = RouteSpec {
                destination: (PREFIX, 64),
                metric: Some(10),
                ..default_route(eth0)
            };
            let blackhole = RouteSpec {
                gateway: None,
                output: None,
                metric: None,
                kind: RouteKind::Blackhole,
                ..unicast
            };
            netlink.add_route(&unicast).await.unwrap();
            netlink.add_route(&blackhole).await.unwrap();
            let listed = netlink.routes(MAIN_TABLE).await.unwrap();
            assert!(listed.iter().any(|r| blackhole.describes(r)), "{listed:?}");
            // The ordinary route has the lower metric, hence comes first.
            netlink.delete_route(&blackhole).await.unwrap();
            let listed = netlink.routes(MAIN_TABLE).await.unwrap();
            assert!(!listed.iter().any(|r| r.kind == RouteKind::Blackhole));
            assert!(listed.contains(&unicast));
        },
    );
}

#[test]
fn a_rule_is_deleted_only_when_it_is_exactly_that_one() {
    isolated(
        "netlink::tests::a_rule_is_deleted_only_when_it_is_exactly_that_one",
        || async {
            let netlink = Netlink::connect().unwrap();
            let before = netlink.rules().await.unwrap();
            let rule = RuleSpec {
                priority: 140,
                table: 21_302,
                fwmark: Some(0x5336),
                invert: true,
                flow: None,
            };
            netlink.add_rule(&rule).await.unwrap();
            assert!(netlink.add_rule(&rule).await.unwrap_err().is_exists());
            let with = netlink.rules().await.unwrap();
            assert_eq!(with.len(), before.len() + 1);
            assert!(with.contains(&rule));

            let similar = RuleSpec { invert: false, ..rule };
            let refused = netlink.delete_rule(&similar).await.unwrap_err();
            assert!(refused.is_not_found(), "{refused}");
            assert_eq!(netlink.rules().await.unwrap(), with);
            // One for a flow is told from others by each of its selectors.
            let flow = RuleFlow {
                source: "2001:db8:a::1".parse().unwrap(),
                destination: "2001:db8:b::1".parse().unwrap(),
                protocol: 6,
                source_port: 50_000,
                destination_port: 443,
            };
            let for_flow = |flow| RuleSpec {
                fwmark: None,
                invert: false,
                flow: Some(flow),
                ..rule
            };
            netlink.add_rule(&for_flow(flow)).await.unwrap();
            assert!(netlink.add_rule(&for_flow(flow)).await.unwrap_err().is_exists());
            let other = RuleFlow {
                source_port: 50_001,
                ..flow
            };
            assert!(netlink.delete_rule(&for_flow(other)).await.unwrap_err().is_not_found());
            netlink.add_rule(&for_flow(other)).await.unwrap();
            let listed = netlink.rules().await.unwrap();
            assert!(
                listed.contains(&for_flow(flow)) && listed.contains(&for_flow(other)),
                "{listed:?}"
            );
            for flow in [flow, other] {
                netlink.delete_rule(&for_flow(flow)).await.unwrap();
            }
            netlink.delete_rule(&rule).await.unwrap();
            assert_eq!(netlink.rules().await.unwrap(), before);
        },
    );
}

#[test]
fn flushing_a_table_empties_it_and_no_other() {
    isolated("netlink::tests::flushing_a_table_empties_it_and_no_other", || async {
        let netlink = Netlink::connect().unwrap();
        let (eth0, _) = veth(&netlink).await;
        netlink.add_route(&default_route(eth0)).await.unwrap();
        netlink.settled().await;
        let main = netlink.routes(MAIN_TABLE).await.unwrap();
        for last in 1..=20 {
            let source = Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, last);
            let own = RouteSpec {
                source: Some((source, 128)),
                table: 21_302,
                ..default_route(eth0)
            };
            netlink.add_route(&own).await.unwrap();
        }
        assert_eq!(netlink.routes(21_302).await.unwrap().len(), 20);
        netlink.flush_table(21_302).await.unwrap();
        assert_eq!(netlink.routes(21_302).await.unwrap(), []);
        assert_eq!(netlink.routes(MAIN_TABLE).await.unwrap(), main);
        netlink.flush_table(21_302).await.unwrap();
    });
}

#[test]
fn only_what_carries_the_tag_is_removed_by_it() {
    isolated("netlink::tests::only_what_carries_the_tag_is_removed_by_it", || async {
        let netlink = Netlink::connect().unwrap();
        let (eth0, _) = veth(&netlink).await;
        netlink.add_address(&spec(eth0)).await.unwrap();
        netlink.add_route(&default_route(eth0)).await.unwrap();
        netlink.settled().await;
        let before = netlink.snapshot().await;

        let ours = netlink.tagged(140);
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 2);
        let address = AddressSpec {
            address: other,
            no_prefix_route: true,
            ..spec(eth0)
        };
        let route = RouteSpec {
            source: Some((other, 128)),
            ..default_route(eth0)
        };
        ours.add_address(&address).await.unwrap();
        ours.add_route(&route).await.unwrap();
        let rule = RuleSpec {
            priority: 140,
            table: 21_302,
            fwmark: Some(0x5336),
            invert: true,
            flow: None,
        };
        ours.add_rule(&rule).await.unwrap();
        let foreign = ours.delete_route(&default_route(eth0)).await;
        assert!(foreign.unwrap_err().is_not_found());
        assert_eq!(netlink.remove_tagged(140).await.unwrap(), 3);
        assert_eq!(netlink.snapshot().await, before);
    });
}

#[test]
fn the_monitor_sees_links_addresses_and_default_routes_change() {
    isolated(
        "netlink::tests::the_monitor_sees_links_addresses_and_default_routes_change",
        || async {
            let netlink = Netlink::connect().unwrap();
            let (eth0, isp0) = veth(&netlink).await;
            let mut monitor = Netlink::monitor().unwrap();
            netlink.add_address(&spec(eth0)).await.unwrap();
            let route = default_route(eth0);
            netlink.add_route(&route).await.unwrap();
            // In either order: the address is announced when the kernel is done with it.
            let (mut address_there, mut route_there) = (false, false);
            until(&mut monitor, |change| {
                match change {
                    Change::AddressAdded(a) => address_there |= a.address == ADDRESS,
                    Change::RouteAdded(r) => route_there |= route.describes(r),
                    _ => {}
                }
                address_there && route_there
            })
            .await;

            netlink.set_down(isp0).await.unwrap();
            until(
                &mut monitor,
                |c| matches!(c, Change::Link(l) if l.index == eth0 && l.up && !l.running),
            )
            .await;
            netlink.set_down(eth0).await.unwrap();
            let (mut address_gone, mut route_gone, mut down) = (false, false, false);
            until(&mut monitor, |change| {
                match change {
                    Change::AddressRemoved(a) => address_gone |= a.address == ADDRESS,
                    Change::RouteRemoved(r) => route_gone |= route.describes(r),
                    Change::Link(l) => down |= l.index == eth0 && !l.up,
                    _ => {}
                }
                address_gone && route_gone && down
            })
            .await;
            netlink.delete_link(eth0).await.unwrap();
            until(&mut monitor, |c| *c == Change::LinkRemoved(eth0)).await;
        },
    );
}

async fn until(monitor: &mut Monitor, mut wanted: impl FnMut(&Change) -> bool) {
    while !wanted(&monitor.next().await.unwrap()) {}
}

#[test]
fn an_error_gives_the_object_the_cause_and_the_kernels_words() {
    isolated(
        "netlink::tests::an_error_gives_the_object_the_cause_and_the_kernels_words",
        || async {
            let netlink = Netlink::connect().unwrap();
            let (eth0, _) = veth(&netlink).await;
            let error = netlink.set_mtu(eth0, 1 << 30).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains("set the MTU of interface"), "{text}");
            let NetlinkError::Kernel { detail, .. } = error else {
                panic!("{text}");
            };
            assert!(text.contains(&detail.expect("the kernel explains itself")));
        },
    );
}

#[test]
fn without_a_runtime_connecting_fails_instead_of_panicking() {
    let error = Netlink::connect().unwrap_err();
    assert!(matches!(error, NetlinkError::NoRuntime));
    assert!(matches!(Netlink::monitor(), Err(NetlinkError::NoRuntime)));
}

#[test]
fn a_truncated_explanation_is_none() {
    let mut answer = vec![0; 16];
    answer.extend_from_slice(&[8, 0, 1, 0, b'n', b'o', 0, 0]);
    assert_eq!(error::explanation(&answer).as_deref(), Some("no"));
    for length in 0..answer.len() {
        assert_eq!(error::explanation(&answer[..length]), None);
    }
    answer[16] = 0;
    assert_eq!(error::explanation(&answer), None);
}

#[test]
fn a_route_is_replaced_in_one_step_with_another_mtu() {
    isolated(
        "netlink::tests::a_route_is_replaced_in_one_step_with_another_mtu",
        || async {
            let netlink = Netlink::connect().unwrap().tagged(140);
            netlink.add_veth("eth0", "eth1", None).await.unwrap();
            let index = netlink.link("eth0").await.unwrap().index;
            netlink.set_up(index).await.unwrap();
            let route = RouteSpec {
                destination: ("2001:db8:1::2".parse().unwrap(), 128),
                source: Some(("2001:db8::1".parse().unwrap(), 128)),
                gateway: None,
                output: Some(index),
                table: 99,
                metric: Some(1024),
                kind: RouteKind::Unicast,
            };
            for mtu in [Some(1400), Some(1272), None] {
                let hints = RouteHints {
                    mtu,
                    ..RouteHints::default()
                };
                netlink.set_route(&route, &hints).await.unwrap();
                assert_eq!(netlink.hinted_routes(99).await.unwrap(), [(route, hints)]);
            }
            netlink.delete_route(&route).await.unwrap();
            assert_eq!(netlink.hinted_routes(99).await.unwrap(), []);
        },
    );
}

#[test]
fn rules_are_listed_in_order_and_a_lookup_goes_by_them() {
    isolated(
        "netlink::tests::rules_are_listed_in_order_and_a_lookup_goes_by_them",
        || async {
            let netlink = Netlink::connect().unwrap();
            netlink.add_veth("eth0", "eth1", None).await.unwrap();
            let mut indexes = Vec::new();
            for (name, table) in [("eth0", 98), ("eth1", 99)] {
                let index = netlink.link(name).await.unwrap().index;
                netlink.set_up(index).await.unwrap();
                let everywhere = RouteSpec {
                    gateway: None,
                    table,
                    ..default_route(index)
                };
                netlink.add_route(&everywhere).await.unwrap();
                indexes.push(index);
            }
            let (from, to) = ("2001:db8::1".parse().unwrap(), "2001:db8:1::2".parse().unwrap());
            assert_eq!(netlink.output_for(from, to, 0).await.unwrap(), None);
            let rule = |priority, table, fwmark| RuleSpec {
                priority,
                table,
                fwmark,
                invert: false,
                flow: None,
            };
            netlink.add_rule(&rule(20, 98, None)).await.unwrap();
            netlink.add_rule(&rule(10, 99, Some(7))).await.unwrap();
            let order = netlink.rule_order().await.unwrap();
            let order: Vec<_> = order.iter().map(|r| (r.priority, r.table, r.fwmark)).collect();
            assert_eq!(
                order,
                [(0, 255, None), (10, 99, Some(7)), (20, 98, None), (32766, 254, None)]
            );
            let output = async |mark| netlink.output_for(from, to, mark).await.unwrap().unwrap().0;
            assert_eq!(output(0).await, indexes[0]);
            assert_eq!(output(7).await, indexes[1]);
        },
    );
}

#[test]
fn selective_connection_lists_what_the_other_does() {
    isolated(
        "netlink::tests::selective_connection_lists_what_the_other_does",
        || async {
            let (all, selective) = (Netlink::connect().unwrap(), Netlink::connect_selective().unwrap());
            let (eth0, _) = veth(&all).await;
            all.add_address(&spec(eth0)).await.unwrap();
            all.add_route(&default_route(eth0)).await.unwrap();
            let elsewhere = RouteSpec {
                table: 21_302,
                ..default_route(eth0)
            };
            all.add_route(&elsewhere).await.unwrap();
            all.settled().await;
            for table in [MAIN_TABLE, 21_302, 21_303] {
                assert_eq!(selective.routes(table).await.unwrap(), all.routes(table).await.unwrap());
            }
            assert_eq!(selective.routes(21_302).await.unwrap().len(), 1);
            assert_eq!(selective.links().await.unwrap(), all.links().await.unwrap());
            assert_eq!(selective.addresses().await.unwrap(), all.addresses().await.unwrap());
            assert!(selective.tun_links().await.unwrap().is_empty());
        },
    );
}

#[test]
fn address_labels_are_listed_added_and_deleted() {
    isolated(
        "netlink::tests::address_labels_are_listed_added_and_deleted",
        || async {
            let netlink = Netlink::connect().unwrap();
            let before = netlink.labels().await.unwrap();
            let all = (Ipv6Addr::UNSPECIFIED, 0);
            assert!(before.iter().any(|label| label.prefix == all), "{before:?}");
            let ours = LabelSpec {
                prefix: (PREFIX, 64),
                label: 21_302,
            };
            netlink.add_label(&ours).await.unwrap();
            assert!(netlink.labels().await.unwrap().contains(&ours));
            assert!(netlink.add_label(&ours).await.unwrap_err().is_exists());
            // One that somebody else has given the prefix is not ours.
            let other = LabelSpec { label: 7, ..ours };
            assert!(netlink.delete_label(&other).await.unwrap_err().is_not_found());
            netlink.delete_label(&ours).await.unwrap();
            assert_eq!(netlink.labels().await.unwrap(), before);
        },
    );
}

#[test]
fn lost_notifications_are_told() {
    isolated("netlink::tests::lost_notifications_are_told", || async {
        let netlink = Netlink::connect().unwrap();
        let (eth0, _) = veth(&netlink).await;
        let (subscribed, is_subscribed) = std::sync::mpsc::channel();
        let (flooded, is_flooded) = std::sync::mpsc::channel::<()>();
        // On a thread that does not read what comes until there is too much of it.
        let reader = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let mut monitor = Netlink::monitor().unwrap();
                subscribed.send(()).unwrap();
                is_flooded.recv().unwrap();
                while monitor.next().await.unwrap() != Change::Overrun {}
            });
        });
        is_subscribed.recv().unwrap();
        for _ in 0..6_000 {
            netlink.add_address(&spec(eth0)).await.unwrap();
            netlink.delete_address(eth0, ADDRESS, 64).await.unwrap();
        }
        flooded.send(()).unwrap();
        let read = tokio::task::spawn_blocking(|| reader.join().unwrap());
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("nobody is told of the loss")
            .unwrap();
    });
}
