//! Each failure cuts what it says, and nothing else.

use std::collections::BTreeSet;

use super::traffic::{Mesh, Path, icmp_errors, soon, without, without_towards};
use crate::lab::{Failure, Host, Namespace, Topology, UnknownFailure, isolated};
use crate::netlink::{Change, Link, MAIN_TABLE, Monitor};

#[test]
fn names_of_failures_are_read_back() {
    for failure in Failure::ALL {
        assert_eq!(failure.to_string().parse(), Ok(failure));
        let value = clap::ValueEnum::to_possible_value(&failure).unwrap();
        assert_eq!(value.get_name(), failure.as_str());
    }
    let error = "flood".parse::<Failure>().unwrap_err();
    assert_eq!(error, UnknownFailure("flood".to_owned()));
}

#[test]
fn blackhole_cuts_both_directions_silently() {
    isolated(
        "lab::tests::failure::blackhole_cuts_both_directions_silently",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            cuts_exactly(&topology, Failure::Blackhole, without).await;
            assert_eq!(icmp_errors(&topology.a) + icmp_errors(&topology.b), 0);
        },
    );
}

#[test]
fn one_way_cuts_the_direction_towards_the_host_silently() {
    isolated(
        "lab::tests::failure::one_way_cuts_the_direction_towards_the_host_silently",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            cuts_exactly(&topology, Failure::OneWay, without_towards).await;
            assert_eq!(icmp_errors(&topology.a) + icmp_errors(&topology.b), 0);
        },
    );
}

#[test]
fn link_down_cuts_both_directions() {
    isolated("lab::tests::failure::link_down_cuts_both_directions", || async {
        let topology = Topology::two_by_two().await.unwrap();
        cuts_exactly(&topology, Failure::LinkDown, without).await;
    });
}

#[test]
fn the_peer_hears_nothing_of_a_link_that_is_down() {
    isolated(
        "lab::tests::failure::the_peer_hears_nothing_of_a_link_that_is_down",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            let mut mesh = Mesh::new(&topology).await;
            let rest = without(&mesh.all(), "a0");
            topology.cut(Failure::LinkDown, &topology.a, 0).await.unwrap();
            mesh.passes_exactly(&rest).await;
            assert_eq!(icmp_errors(&topology.b), 0);
        },
    );
}

#[test]
fn link_down_takes_the_carrier_and_nothing_else() {
    isolated(
        "lab::tests::failure::link_down_takes_the_carrier_and_nothing_else",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            let host = &topology.a;
            let mut monitor = host.namespace.monitor().unwrap();
            let before = state(&host.namespace).await;

            topology.cut(Failure::LinkDown, host, 1).await.unwrap();
            let lost = soon(next_of(&mut monitor, "eth1", |link| !link.running)).await;
            assert!(lost.up);
            assert_eq!(state(&host.namespace).await, before);
            let netlink = host.namespace.netlink().unwrap();
            assert!(netlink.link("eth0").await.unwrap().running);

            topology.heal(host, 1).await.unwrap();
            soon(next_of(&mut monitor, "eth1", |link| link.running)).await;
            assert_eq!(state(&host.namespace).await, before);
        },
    );
}

#[test]
fn silent_failures_leave_the_carrier() {
    isolated("lab::tests::failure::silent_failures_leave_the_carrier", || async {
        let topology = Topology::two_by_two().await.unwrap();
        let netlink = topology.b.namespace.netlink().unwrap();
        let before = netlink.links().await.unwrap();
        for failure in [Failure::Blackhole, Failure::OneWay] {
            topology.cut(failure, &topology.b, 0).await.unwrap();
            assert_eq!(netlink.links().await.unwrap(), before);
        }
    });
}

#[test]
fn a_cut_replaces_another_and_healing_restores_every_route() {
    isolated(
        "lab::tests::failure::a_cut_replaces_another_and_healing_restores_every_route",
        || async {
            let topology = Topology::two_by_two().await.unwrap();
            let mut mesh = Mesh::new(&topology).await;
            let all = mesh.all();
            let isp = topology.isp(&topology.b, 1).unwrap();
            let before = state(isp).await;
            for first in Failure::ALL {
                for second in Failure::ALL {
                    topology.cut(first, &topology.b, 1).await.unwrap();
                    topology.cut(second, &topology.b, 1).await.unwrap();
                    let rest = match second {
                        Failure::OneWay => without_towards(&all, "b1"),
                        Failure::Blackhole | Failure::LinkDown => without(&all, "b1"),
                    };
                    mesh.passes_exactly(&rest).await;
                    topology.heal(&topology.b, 1).await.unwrap();
                    topology.heal(&topology.b, 1).await.unwrap();
                    assert_eq!(state(isp).await, before, "{first}, then {second}");
                }
            }
            mesh.passes_exactly(&all).await;
        },
    );
}

/// Cuts an uplink of each host in turn and then both at once; `rest` gives the directions that
/// are left when the uplink of the given label is cut.
pub(super) async fn cuts_exactly(
    topology: &Topology,
    failure: Failure,
    rest: fn(&BTreeSet<Path>, &str) -> BTreeSet<Path>,
) {
    let mut mesh = Mesh::new(topology).await;
    let all = mesh.all();
    let cut = async |host: &Host, uplink| topology.cut(failure, host, uplink).await.unwrap();
    let heal = async |host: &Host, uplink| topology.heal(host, uplink).await.unwrap();
    mesh.passes_exactly(&all).await;

    cut(&topology.a, 0).await;
    mesh.passes_exactly(&rest(&all, "a0")).await;
    cut(&topology.b, 1).await;
    mesh.passes_exactly(&rest(&rest(&all, "a0"), "b1")).await;
    heal(&topology.a, 0).await;
    mesh.passes_exactly(&rest(&all, "b1")).await;
    heal(&topology.b, 1).await;
    mesh.passes_exactly(&all).await;
}

/// The global addresses and all unicast and blackhole routes of a namespace, in a fixed order.
async fn state(namespace: &Namespace) -> BTreeSet<String> {
    let netlink = namespace.netlink().unwrap();
    let addresses = netlink.addresses().await.unwrap();
    let addresses = addresses.iter().filter(|address| address.global);
    let routes = netlink.routes(MAIN_TABLE).await.unwrap();
    let addresses = addresses.map(|address| format!("{address:?}"));
    addresses
        .chain(routes.iter().map(|route| format!("{route:?}")))
        .collect()
}

async fn next_of(monitor: &mut Monitor, name: &str, wanted: impl Fn(&Link) -> bool) -> Link {
    loop {
        match monitor.next().await.unwrap() {
            Change::Link(link) if link.name == name && wanted(&link) => return link,
            Change::Overrun => panic!("messages were lost"),
            _ => {}
        }
    }
}
