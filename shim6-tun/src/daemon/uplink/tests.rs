use super::*;
use crate::daemon::advertisements::Advertisement;
use crate::daemon::testing::{GATEWAY, Provider, plain, tun};
use crate::lab::isolated;

const ONE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0);
const TWO: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa2, 0, 0, 0, 0, 0);
const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 0);
const OTHER_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        up: true,
        running: true,
        loopback: name == "lo",
        mtu: 1500,
    }
}

fn address(index: u32, prefix: Ipv6Addr) -> Address {
    Address {
        index,
        address: plain(prefix),
        prefix_len: 64,
        tentative: false,
        dad_failed: false,
        deprecated: false,
        global: true,
    }
}

fn route(index: u32) -> RouteSpec {
    RouteSpec {
        metric: Some(1024),
        ..crate::daemon::testing::default_route(index)
    }
}

/// Two ordinary uplinks, eth0 (2) and eth1 (3).
fn host() -> Host {
    Host {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        addresses: vec![address(2, ONE), address(3, TWO)],
        defaults: vec![route(2), route(3)],
        others: Vec::new(),
        advertised: Advertised::default(),
    }
}

fn hint(interface: &str) -> UplinkHint {
    UplinkHint {
        interface: interface.to_owned(),
        prefix: None,
        gateway: None,
    }
}

fn uplink(index: u32, interface: &str, prefix: Ipv6Addr) -> Uplink {
    Uplink {
        interface: interface.to_owned(),
        index,
        prefix,
        gateway: Some(GATEWAY),
        up: true,
        mtu: 1500,
    }
}

#[test]
fn uplinks_are_found_in_the_kernel() {
    isolated("daemon::uplink::tests::uplinks_are_found_in_the_kernel", || async {
        let netlink = Netlink::connect().unwrap();
        let nothing = discover(&netlink, &[]).await.unwrap_err();
        assert!(matches!(nothing, UplinkError::None { .. }), "{nothing}");

        let provider = Provider::new();
        let one = provider.connect(&netlink, 1).await;
        let two = provider.connect(&netlink, 2).await;
        // A VPN looks like an uplink, but goes over one.
        let (_device, tun) = tun(&netlink).await;
        let inside = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);
        let address = crate::daemon::testing::fixed(tun, inside, 64);
        netlink.add_address(&address).await.unwrap();
        let over_tun = RouteSpec {
            gateway: None,
            metric: Some(512),
            ..route(tun)
        };
        netlink.add_route(&over_tun).await.unwrap();

        let found = discover(&netlink, &[]).await.unwrap();
        assert_eq!(found, [one, two.clone()]);
        let found = discover(&netlink, &[hint("eth2")]).await.unwrap();
        assert_eq!(found, [two]);
    });
}

/// What there is without hints.
fn found(host: &Host) -> Result<Vec<Uplink>, UplinkError> {
    surveyed(host.survey(&[], &[]))
}

/// The only uplink of a hint.
fn hinted(host: &Host, hint: &UplinkHint) -> Result<Uplink, UplinkError> {
    surveyed(host.survey(std::slice::from_ref(hint), &[])).map(|mut uplinks| {
        assert_eq!(uplinks.len(), 1);
        uplinks.remove(0)
    })
}

fn surveyed(survey: Survey) -> Result<Vec<Uplink>, UplinkError> {
    survey.problems.into_iter().next().map_or(Ok(survey.uplinks), Err)
}

#[test]
fn only_interfaces_with_a_global_prefix_and_a_default_route_are_uplinks() {
    let mut host = host();
    host.links.extend([link(4, "lan"), link(5, "ula"), link(6, "tun0")]);
    host.addresses.extend([
        address(4, Ipv6Addr::new(0x2001, 0xdb8, 0xcc, 0, 0, 0, 0, 0)),
        address(5, LOCAL),
        address(6, Ipv6Addr::new(0x2001, 0xdb8, 0xdd, 0, 0, 0, 0, 0)),
    ]);
    host.defaults.extend([route(5), route(6)]);
    let found = surveyed(host.survey(&[], &[6])).unwrap();
    assert_eq!(found, [uplink(2, "eth0", ONE), uplink(3, "eth1", TWO)]);
}

#[test]
fn a_link_without_carrier_is_an_uplink_that_is_down() {
    let mut host = host();
    host.links[2].running = false;
    let up: Vec<bool> = found(&host).unwrap().iter().map(|u| u.up).collect();
    assert_eq!(up, [true, false]);
}

#[test]
fn hints_need_nothing_from_the_kernel_but_the_interface() {
    let mut host = host();
    (host.addresses, host.defaults) = (Vec::new(), Vec::new());
    let full = UplinkHint {
        prefix: Some(TWO),
        gateway: Some(GATEWAY),
        ..hint("eth1")
    };
    assert_eq!(hinted(&host, &full).unwrap(), uplink(3, "eth1", TWO));
}

#[test]
fn what_a_hint_lacks_is_named_in_the_error() {
    let mut host = host();
    host.addresses.remove(0);
    host.defaults.remove(1);
    let text = hinted(&host, &hint("eth0")).unwrap_err().to_string();
    assert!(text.contains("eth0") && text.contains("prefix = "), "{text}");
    let text = hinted(&host, &hint("eth1")).unwrap_err().to_string();
    assert!(text.contains("eth1") && text.contains("gateway = "), "{text}");
    let text = hinted(&host, &hint("wan")).unwrap_err().to_string();
    assert!(text.contains("wan") && text.contains("eth0, eth1"), "{text}");
}

#[test]
fn several_routers_have_to_be_decided_by_hints() {
    let mut host = host();
    let third = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 0);
    host.addresses.push(address(2, third));
    host.defaults.push(RouteSpec {
        gateway: Some(OTHER_ROUTER),
        ..route(2)
    });
    let mut hint = UplinkHint {
        prefix: Some(third),
        ..hint("eth0")
    };
    let text = hinted(&host, &hint).unwrap_err().to_string();
    assert!(text.contains("fe80::1, fe80::2"), "{text}");
    hint.gateway = Some(OTHER_ROUTER);
    let expected = Uplink {
        gateway: Some(OTHER_ROUTER),
        ..uplink(2, "eth0", third)
    };
    assert_eq!(hinted(&host, &hint).unwrap(), expected);
}

#[test]
fn the_router_is_that_of_the_prefix_else_the_one_with_the_lowest_metric() {
    let mut host = host();
    host.defaults.push(RouteSpec {
        gateway: Some(OTHER_ROUTER),
        metric: Some(512),
        ..route(2)
    });
    let found = hinted(&host, &hint("eth0")).unwrap();
    assert_eq!(found.gateway, Some(OTHER_ROUTER));
    host.defaults.push(RouteSpec {
        source: Some((ONE, 48)),
        metric: Some(4096),
        ..route(2)
    });
    let found = hinted(&host, &hint("eth0")).unwrap();
    assert_eq!(found.gateway, Some(GATEWAY));
}

#[test]
fn of_several_routers_on_a_link_each_prefix_has_the_one_that_advertises_it() {
    let mut host = host();
    let second = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 0);
    host.addresses.push(address(2, second));
    host.defaults.push(RouteSpec {
        gateway: Some(OTHER_ROUTER),
        ..route(2)
    });
    assert!(matches!(found(&host), Err(UplinkError::SeveralGateways { .. })));
    for (router, prefix) in [(GATEWAY, ONE), (OTHER_ROUTER, second)] {
        host.advertised.note(&Advertisement::of(2, router, prefix));
    }
    let routers: Vec<_> = found(&host)
        .unwrap()
        .iter()
        .map(|uplink| (uplink.prefix, uplink.gateway))
        .collect();
    assert_eq!(routers[..2], [(ONE, Some(GATEWAY)), (second, Some(OTHER_ROUTER))]);
}

#[test]
fn of_several_routers_on_a_link_a_prefix_has_the_one_with_an_address_in_it() {
    let mut host = host();
    let second = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 0);
    let router = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 1);
    host.addresses.push(address(2, second));
    host.defaults.push(RouteSpec {
        gateway: Some(router),
        metric: Some(9999),
        ..route(2)
    });
    let routers: Vec<_> = found(&host)
        .unwrap()
        .iter()
        .map(|uplink| (uplink.prefix, uplink.gateway))
        .collect();
    assert_eq!(routers[..2], [(ONE, Some(GATEWAY)), (second, Some(router))]);
}

#[test]
fn a_default_route_without_router_is_a_point_to_point_link() {
    let mut host = host();
    host.defaults[0].gateway = None;
    assert_eq!(hinted(&host, &hint("eth0")).unwrap().gateway, None);
}

#[test]
fn prefixes_that_cannot_be_used_are_refused() {
    let host = host();
    for bad in [
        plain(ONE),
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
    ] {
        let hint = UplinkHint {
            prefix: Some(bad),
            ..hint("eth0")
        };
        let refused = hinted(&host, &hint);
        assert!(matches!(refused, Err(UplinkError::BadPrefix { .. })), "{bad}");
    }
}

#[test]
fn of_two_uplinks_with_the_same_prefix_the_first_is_used() {
    let mut host = host();
    host.addresses[1].address = plain(ONE);
    let survey = host.survey(&[], &[]);
    assert_eq!(survey.uplinks, [uplink(2, "eth0", ONE)]);
    let text = survey.problems[0].to_string();
    assert!(text.contains("eth0 and eth1"), "{text}");
}

#[test]
fn an_interface_with_several_prefixes_is_an_uplink_with_each() {
    let mut host = host();
    let third = Ipv6Addr::new(0x2001, 0xdb8, 0xa3, 0, 0, 0, 0, 0);
    host.addresses.push(address(2, third));
    let expected = [uplink(2, "eth0", ONE), uplink(2, "eth0", third), uplink(3, "eth1", TWO)];
    assert_eq!(found(&host).unwrap(), expected);
    assert_eq!(surveyed(host.survey(&[hint("eth0")], &[])).unwrap(), expected[..2]);
}

#[test]
fn what_is_wrong_with_one_uplink_does_not_keep_others_from_being_found() {
    let mut host = host();
    host.links.remove(1);
    let survey = host.survey(&[hint("eth0"), hint("eth1")], &[]);
    assert_eq!(survey.uplinks, [uplink(3, "eth1", TWO)]);
    assert!(matches!(survey.problems[..], [UplinkError::NoInterface { .. }]));
}

#[test]
fn address_from_dhcp_is_under_a_prefix_that_is_on_the_link() {
    let mut host = host();
    host.addresses[0].prefix_len = 128;
    assert_eq!(found(&host).unwrap(), [uplink(3, "eth1", TWO)]);
    host.others.push(RouteSpec {
        destination: (ONE, 64),
        gateway: None,
        ..route(2)
    });
    assert_eq!(found(&host).unwrap().len(), 2);
}

#[test]
fn a_prefix_is_deprecated_when_all_addresses_under_it_are() {
    let mut host = host();
    let mut other = address(2, ONE);
    other.address = Ipv6Addr::from_bits(plain(ONE).to_bits() + 1);
    other.deprecated = true;
    host.addresses.push(other);
    let state = |host: &Host| host.survey(&[], &[]).prefix(2, ONE).unwrap().deprecated;
    assert!(!state(&host));
    host.addresses[0].deprecated = true;
    assert!(state(&host));
}

#[test]
fn deprecated_and_duplicate_addresses_do_not_count() {
    let mut host = host();
    host.addresses[0].deprecated = true;
    host.addresses[1].dad_failed = true;
    assert!(matches!(found(&host), Err(UplinkError::None { .. })));
}

#[test]
fn a_single_uplink_is_worth_a_warning() {
    let two = found(&host()).unwrap();
    assert_eq!(warning(&two), None);
    assert!(warning(&two[..1]).unwrap().contains("eth0"));
}
