use std::path::PathBuf;

use super::finding::Level;
use super::*;
use crate::config::AddressConfig;
use crate::daemon::testing::Provider;
use crate::lab::isolated;

/// What is found on the host of this namespace, without a daemon.
async fn found() -> Vec<Finding> {
    let config = Config {
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
            has(&findings, "routes", Level::Wrong, "leave by eth1, and not by eth2"),
            "{findings:#?}"
        );
        let wrong: Vec<_> = findings
            .iter()
            .filter(|finding| finding.level == Level::Wrong)
            .collect();
        assert_eq!(wrong.len(), 2, "{wrong:#?}");
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
