//! What a topology consists of, and that it leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;

use super::traffic::{Mesh, soon, without};
use crate::lab::{Failure, LabError, Topology, isolated};
use crate::netlink::{Change, MAIN_TABLE};

#[test]
fn first_datagrams_pass_between_all_addresses() {
    isolated(
        "lab::tests::topology::first_datagrams_pass_between_all_addresses",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            let mut mesh = Mesh::new(&topology).await;
            let all = mesh.all();
            assert_eq!(all.len(), 8);
            mesh.first_datagrams_pass(&all).await;
        },
    );
}

#[test]
fn hosts_have_what_router_advertisements_give() {
    isolated(
        "lab::tests::topology::hosts_have_what_router_advertisements_give",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            for (host, prefixes) in [
                (&topology.a, ["2001:db8:a1::", "2001:db8:a2::"]),
                (&topology.b, ["2001:db8:b1::", "2001:db8:b2::"]),
            ] {
                let netlink = host.namespace.netlink().unwrap();
                let routes = netlink.routes(MAIN_TABLE).await.unwrap();
                let addresses = netlink.addresses().await.unwrap();
                assert_eq!(host.uplinks.len(), 2);
                for (number, uplink) in host.uplinks.iter().enumerate() {
                    let prefix: Ipv6Addr = prefixes[number].parse().unwrap();
                    assert_eq!(uplink.prefix, prefix);
                    assert_eq!(uplink.address, Ipv6Addr::from_bits(prefix.to_bits() + 1));
                    assert_eq!(uplink.gateway, "fe80::1".parse::<Ipv6Addr>().unwrap());
                    assert_eq!(uplink.interface, format!("eth{number}"));

                    let link = netlink.link(&uplink.interface).await.unwrap();
                    let own: Vec<_> = addresses.iter().filter(|a| a.index == link.index && a.global).collect();
                    assert_eq!(own.len(), 1);
                    assert_eq!((own[0].address, own[0].prefix_len), (uplink.address, 64));
                    assert!(!own[0].tentative && !own[0].deprecated);
                    let default = routes
                        .iter()
                        .find(|route| route.is_default() && route.output == Some(link.index))
                        .unwrap();
                    assert_eq!(default.gateway, Some(uplink.gateway));
                    assert_eq!(default.source, None);
                    assert_eq!(default.metric, Some(1024 * (number as u32 + 1)));
                }
            }
        },
    );
}

#[test]
fn ends_of_a_link_have_different_indexes() {
    isolated(
        "lab::tests::topology::ends_of_a_link_have_different_indexes",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            for host in [&topology.a, &topology.b] {
                for (number, uplink) in host.uplinks.iter().enumerate() {
                    let netlink = host.namespace.netlink().unwrap();
                    let near = netlink.link(&uplink.interface).await.unwrap().index;
                    let isp = topology.isp(host, number).unwrap().netlink().unwrap();
                    assert_ne!(near, isp.link("access").await.unwrap().index);
                }
            }
        },
    );
}

#[test]
fn topologies_side_by_side_do_not_disturb_each_other() {
    isolated(
        "lab::tests::topology::topologies_side_by_side_do_not_disturb_each_other",
        || async {
            let (one, two) = tokio::try_join!(Topology::two_by_two(), Topology::two_by_two()).unwrap();
            let (mut in_one, mut in_two) = (Mesh::new(&one).await, Mesh::new(&two).await);
            let all = in_one.all();
            one.cut(Failure::LinkDown, &one.a, 0).await.unwrap();
            in_one.passes_exactly(&without(&all, "a0")).await;
            in_two.passes_exactly(&all).await;
            drop((one, in_one));
            in_two.passes_exactly(&all).await;
        },
    );
}

#[test]
fn an_uplink_of_another_topology_is_refused() {
    isolated(
        "lab::tests::topology::an_uplink_of_another_topology_is_refused",
        || async {
            let one = Topology::two_by_two().await.unwrap();
            let two = Topology::two_by_two().await.unwrap();
            for (host, uplink) in [(&two.a, 0), (&one.a, 2)] {
                let error = one.cut(Failure::Blackhole, host, uplink).await.unwrap_err();
                assert!(matches!(error, LabError::NoSuchUplink { .. }), "{error}");
                assert!(one.heal(host, uplink).await.is_err());
            }
        },
    );
}

#[test]
fn nothing_is_left_of_a_dropped_topology() {
    isolated(
        "lab::tests::topology::nothing_is_left_of_a_dropped_topology",
        || async {
            let before = namespaces_held();
            let topology = Topology::two_by_two().await.unwrap();
            assert_eq!(namespaces_held().len(), before.len() + 7);
            // One host is kept to see the far ends of its links disappear.
            let host = topology.a.namespace.clone();
            let mut monitor = host.monitor().unwrap();
            let netlink = host.netlink().unwrap();
            let mut links = BTreeSet::new();
            for uplink in &topology.a.uplinks {
                links.insert(netlink.link(&uplink.interface).await.unwrap().index);
            }
            drop(topology);
            while !links.is_empty() {
                match soon(monitor.next()).await.unwrap() {
                    Change::LinkRemoved(index) => drop(links.remove(&index)),
                    Change::Overrun => panic!("messages were lost"),
                    _ => {}
                }
            }
            let left = netlink.links().await.unwrap();
            assert!(left.iter().all(|link| link.loopback), "{left:?}");
            drop((netlink, monitor, host));
            assert_eq!(namespaces_held(), before);
        },
    );
}

/// The network namespaces to which this process has descriptors.
fn namespaces_held() -> Vec<std::path::PathBuf> {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("net:["))
        .collect()
}
