use std::path::PathBuf;

use super::finding::Level;
use super::*;
use crate::config::{AddressConfig, UplinkConfig};
use crate::daemon::testing::Provider;
use crate::lab::isolated;

/// What is found on the host of this namespace, without a daemon.
async fn found() -> Vec<Finding> {
    found_with(Vec::new()).await
}

/// The same where the configuration names the uplinks.
async fn found_with(uplinks: Vec<UplinkConfig>) -> Vec<Finding> {
    let config = Config {
        uplinks,
        addresses: AddressConfig {
            identity: None,
            ..AddressConfig::default()
        },
        ..Config::default()
    };
    let host = Host::look(config, PathBuf::from("/nowhere/shim6.sock")).await.unwrap();
    examine(&host, Some("::1")).await.unwrap()
}

fn has(findings: &[Finding], check: &str, level: Level, text: &str) -> bool {
    let is = |finding: &&Finding| finding.check == check && finding.level == level && finding.found.contains(text);
    findings.iter().any(|finding| is(&finding))
}

#[test]
fn a_host_with_two_uplinks_lacks_nothing_but_the_daemon() {
    let name = "cli::doctor::tests::a_host_with_two_uplinks_lacks_nothing_but_the_daemon";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        provider.connect(&netlink, 2).await;
        let findings = found().await;
        assert!(has(&findings, "uplinks", Level::Good, "eth1 is up"), "{findings:#?}");
        assert!(has(&findings, "routes", Level::Good, "leave by eth1"), "{findings:#?}");
        assert!(
            has(&findings, "daemon", Level::Wrong, "no daemon runs"),
            "{findings:#?}"
        );
        // Both uplinks have a plain default route, and the kernel knows nothing of sources.
        assert!(
            has(&findings, "routes", Level::Doubtful, "leave by eth1, and not by eth2"),
            "{findings:#?}"
        );
        let wrong: Vec<_> = findings
            .iter()
            .filter(|finding| finding.level == Level::Wrong)
            .collect();
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        assert!(
            wrong
                .iter()
                .all(|finding| finding.means.is_some() && !finding.mend.is_empty()),
            "{wrong:#?}"
        );
    });
}

#[test]
fn what_is_broken_on_the_host_is_found() {
    let name = "cli::doctor::tests::what_is_broken_on_the_host_is_found";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        assert!(has(&found().await, "uplinks", Level::Wrong, "no uplink found"));

        let provider = Provider::new();
        let first = provider.connect(&netlink, 1).await;
        assert!(has(
            &found().await,
            "uplinks",
            Level::Doubtful,
            "eth1 is the only uplink"
        ));

        provider.connect(&netlink, 2).await;
        netlink.set_mtu(first.index, 1280).await.unwrap();
        assert!(has(
            &found().await,
            "uplinks",
            Level::Wrong,
            "eth1 has an MTU of 1280 octets"
        ));
        netlink.set_mtu(first.index, 1288).await.unwrap();
        assert!(has(&found().await, "uplinks", Level::Good, "eth1 is up"));

        provider.set_carrier(2, false).await;
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        while !has(&found().await, "uplinks", Level::Wrong, "eth2 is down") {
            tick.tick().await;
        }

        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        assert!(has(&found().await, "kernel", Level::Wrong, "IPv6 is off"));
    });
}

#[test]
fn uplink_that_may_come_later_is_no_fault_as_long_as_there_is_another() {
    let name = "cli::doctor::tests::uplink_that_may_come_later_is_no_fault_as_long_as_there_is_another";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        let findings = found_with(named(&["eth1", "wwan0"])).await;
        assert!(
            has(
                &findings,
                "uplinks",
                Level::Doubtful,
                "wwan0: there is no such interface (there are eth1)"
            ),
            "{findings:#?}"
        );
        assert!(has(&findings, "uplinks", Level::Good, "eth1 is up"), "{findings:#?}");
        assert!(!has(&findings, "uplinks", Level::Wrong, ""), "{findings:#?}");

        netlink.add_veth("wwan0", "far", None).await.unwrap();
        let findings = found_with(named(&["eth1", "wwan0"])).await;
        assert!(
            has(&findings, "uplinks", Level::Doubtful, "wwan0: it is down"),
            "{findings:#?}"
        );
        for link in ["wwan0", "far"] {
            let index = netlink.link(link).await.unwrap().index;
            netlink.set_up(index).await.unwrap();
        }
        let findings = found_with(named(&["eth1", "wwan0"])).await;
        assert!(
            has(
                &findings,
                "uplinks",
                Level::Wrong,
                "wwan0: it has no global IPv6 address"
            ),
            "{findings:#?}"
        );
        let findings = found_with(named(&["wlan0"])).await;
        assert!(
            has(&findings, "uplinks", Level::Wrong, "wlan0: there is no such interface"),
            "{findings:#?}"
        );
    });
}

#[test]
fn uplink_that_the_daemon_goes_on_with_is_told_apart_from_one_that_is_down() {
    let name = "cli::doctor::tests::uplink_that_the_daemon_goes_on_with_is_told_apart_from_one_that_is_down";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 7);
        let mut status = status(address);
        let findings = routing::check(&host(status.clone()), &netlink).await;
        assert!(
            has(
                &findings,
                "uplinks",
                Level::Doubtful,
                "no address of the host itself in 2001:db8:a1::/64"
            ),
            "{findings:#?}"
        );
        assert!(
            has(&findings, "routes", Level::Wrong, "have no way out"),
            "{findings:#?}"
        );
        status.uplinks[0].up = false;
        let findings = routing::check(&host(status), &netlink).await;
        assert_eq!(findings, [], "the daemon's own finding says it all");
    });
}

#[test]
fn a_host_that_forwards_is_told_why_it_gets_no_route() {
    let name = "cli::doctor::tests::a_host_that_forwards_is_told_why_it_gets_no_route";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        netlink.add_veth("lan0", "far", None).await.unwrap();
        for link in ["lan0", "far"] {
            let index = netlink.link(link).await.unwrap().index;
            netlink.set_up(index).await.unwrap();
        }
        let is_told = |findings: &[Finding]| has(findings, "uplinks", Level::Doubtful, "lan0 is no uplink");
        assert!(!is_told(&found().await));
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        assert!(is_told(&found().await));
        std::fs::write("/proc/sys/net/ipv6/conf/lan0/accept_ra", "2").unwrap();
        assert!(!is_told(&found().await));
    });
}

/// These uplinks, with nothing but their names.
fn named(names: &[&str]) -> Vec<UplinkConfig> {
    let named = |name: &&str| UplinkConfig {
        interface: (*name).to_owned(),
        prefix: None,
        gateway: None,
        priority: 0,
        weight: 0,
        metered: false,
    };
    names.iter().map(named).collect()
}

/// The status of a daemon that has one uplink, `eth1`, with this address.
fn status(address: Ipv6Addr) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: 0,
        tun: "shim0".to_owned(),
        observation: "tap".to_owned(),
        problems: Vec::new(),
        uplinks: vec![crate::status::UplinkStatus {
            interface: "eth1".to_owned(),
            prefix: "2001:db8:a1::/64".to_owned(),
            gateway: None,
            address,
            ulid: true,
            up: true,
        }],
        contexts: Vec::new(),
        failures: Vec::new(),
        recent: Vec::new(),
        counters: crate::status::Counters::default(),
    }
}

fn host(status: Status) -> Host {
    Host {
        config: Config::default(),
        locals: status.uplinks.iter().map(Local::from).collect(),
        status: Some(status),
        no_status: None,
        uplinks: Vec::new(),
        no_uplinks: Vec::new(),
    }
}

#[test]
fn new_connections_from_an_address_that_is_not_protected_are_told() {
    let name = "cli::doctor::tests::new_connections_from_an_address_that_is_not_protected_are_told";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        let uplink = provider.connect(&netlink, 1).await;
        let plain = crate::daemon::testing::plain(uplink.prefix);
        let other = Ipv6Addr::from_bits(uplink.prefix.to_bits() | 0xabcd);
        let findings = routing::check(&host(status(plain)), &netlink).await;
        assert!(
            has(&findings, "routes", Level::Good, "which is protected"),
            "{findings:#?}"
        );
        let findings = routing::check(&host(status(other)), &netlink).await;
        assert!(
            has(&findings, "routes", Level::Doubtful, &format!("are made from {plain}")),
            "{findings:#?}"
        );
        let told = findings
            .iter()
            .find(|finding| finding.check == "routes" && finding.level == Level::Doubtful)
            .unwrap();
        assert!(
            told.mend.last().unwrap().ends_with("dev eth1 preferred_lft 0"),
            "{told:?}"
        );
    });
}

#[test]
fn what_the_daemon_says_of_itself_is_passed_on() {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 7);
    let well = daemon::check(&host(status(address)));
    assert!(
        has(&well, "daemon", Level::Good, "1 uplinks and 0 contexts"),
        "{well:#?}"
    );

    let mut ill = status(address);
    ill.problems.push("a rule is in the way".to_owned());
    ill.uplinks[0].up = false;
    ill.version = "0.0.9".to_owned();
    let ill = daemon::check(&host(ill));
    assert!(has(&ill, "daemon", Level::Wrong, "a rule is in the way"), "{ill:#?}");
    assert!(has(&ill, "daemon", Level::Wrong, "uplink eth1"), "{ill:#?}");
    assert!(has(&ill, "daemon", Level::Doubtful, "version 0.0.9"), "{ill:#?}");

    let mut nobody = host(status(address));
    (nobody.status, nobody.no_status) = (None, Some("permission denied at /run/shim6".to_owned()));
    assert_eq!(daemon::check(&nobody)[0].level, Level::Unchecked);
}

#[test]
fn the_last_line_says_how_it_is() {
    assert!(text(&[Finding::good("x", "y")]).ends_with("\nNothing is wrong.\n"));
    let skipped = text(&[Finding::unchecked("x", "y")]);
    assert!(
        skipped.ends_with("Nothing is wrong; 1 could not be looked at.\n"),
        "{skipped}"
    );
    let wrong = text(&[Finding::wrong("x", "y", "z"), Finding::doubtful("x", "y", "z")]);
    assert!(wrong.ends_with("1 wrong, 1 doubtful, 0 not looked at.\n"), "{wrong}");
}
