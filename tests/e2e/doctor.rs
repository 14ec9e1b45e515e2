//! `shim6 doctor`: a host or a way that is made wrong on purpose is found wrong, for the right reason.

use std::net::Ipv6Addr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;
use shim6_tests::{binary, isolated};
use shim6_tun::demo::daemon::Daemon;
use shim6_tun::demo::live::Live;
use shim6_tun::lab::{Host, Namespace, Topology, skip};

/// Runs it on `host`, whose daemon has its files below `directory`.
async fn doctor(host: &Host, directory: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = host.namespace.command(binary::shim6());
    let config = directory.join(&host.name).join("shim6.toml");
    command
        .arg("doctor")
        .arg("--json")
        .arg("--config")
        .arg(config)
        .args(arguments);
    let output: Output = tokio::process::Command::from(command).output().await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = said["findings"].as_array().expect("a list").clone();
    assert_eq!(said["healthy"], output.status.success(), "{said}");
    (output.status.code(), findings)
}

fn has(findings: &[Value], check: &str, level: &str, text: &str) -> bool {
    let is = |finding: &&Value| {
        let found = finding["found"].as_str().unwrap_or_default();
        finding["check"] == check && finding["level"] == level && found.contains(text)
    };
    findings.iter().any(|finding| is(&finding))
}

/// Runs a command in a namespace; `None` where it is not installed.
async fn run(namespace: &Namespace, line: &str) -> Option<Output> {
    let mut words = line.split_whitespace();
    let mut command = namespace.command(words.next()?);
    command.args(words);
    tokio::process::Command::from(command).output().await.ok()
}

/// A packet filter that drops protocol 140 where `hook` says; false where there is no nft.
async fn drop_shim6(namespace: &Namespace, hook: &str) -> bool {
    let lines = [
        "nft add table inet t".to_owned(),
        format!("nft add chain inet t c {{ type filter hook {hook} priority 0 ; }}"),
        "nft add rule inet t c meta l4proto 140 drop".to_owned(),
    ];
    for line in lines {
        if !run(namespace, &line)
            .await
            .is_some_and(|output| output.status.success())
        {
            return false;
        }
    }
    true
}

async fn start(host: &Host, directory: &Path) -> Daemon {
    let live = Arc::new(Live::default());
    let started = Daemon::start(binary::shim6(), host, directory, "", &live).await;
    started.unwrap_or_else(|error| panic!("{error:#}"))
}

async fn address(daemon: &Daemon) -> Ipv6Addr {
    daemon.status().await.expect("a status").uplinks[0].address
}

#[test]
fn filter_that_drops_shim6_is_found_and_the_command_given_opens_it() {
    let name = "doctor::filter_that_drops_shim6_is_found_and_the_command_given_opens_it";
    isolated(name, || async {
        let lab = Topology::two_by_two().await.expect("a lab");
        let directory = tempfile::tempdir().expect("a directory");
        let daemon = start(&lab.a, directory.path()).await;
        let (_, findings) = doctor(&lab.a, directory.path(), &["--name", "::1"]).await;
        assert!(has(&findings, "daemon", "good", "2 uplinks"), "{findings:#?}");
        assert!(!has(&findings, "firewall", "wrong", ""), "{findings:#?}");

        if !drop_shim6(&lab.a.namespace, "input").await {
            return skip(name, "there is no nft here");
        }
        let (code, findings) = doctor(&lab.a, directory.path(), &["--name", "::1"]).await;
        assert_eq!(code, Some(1));
        assert!(
            has(&findings, "firewall", "wrong", "chain inet t c drops"),
            "{findings:#?}"
        );
        let wrong = findings
            .iter()
            .find(|finding| finding["check"] == "firewall")
            .expect("a finding");
        let mend = wrong["mend"][0].as_str().expect("a command");
        let mend = mend.split('#').next().expect("a command");
        assert!(
            run(&lab.a.namespace, mend)
                .await
                .is_some_and(|output| output.status.success()),
            "{mend}"
        );
        let (_, findings) = doctor(&lab.a, directory.path(), &["--name", "::1"]).await;
        assert!(has(&findings, "firewall", "good", ""), "{findings:#?}");
        daemon.stop().await.expect("it stops");
    });
}

#[test]
fn way_to_a_peer_is_told_apart_by_what_is_wrong_with_it() {
    let name = "doctor::way_to_a_peer_is_told_apart_by_what_is_wrong_with_it";
    isolated(name, || async {
        let lab = Topology::two_by_two().await.expect("a lab");
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        let ours = start(&lab.a, directory).await;
        let plain = lab.b.uplinks[0].address.to_string();
        let (code, findings) = doctor(&lab.a, directory, &[&plain]).await;
        assert_eq!(code, Some(1));
        assert!(has(&findings, "peer", "wrong", "does not speak Shim6"), "{findings:#?}");

        let theirs = start(&lab.b, directory).await;
        let peer = address(&theirs).await.to_string();
        let (code, findings) = doctor(&lab.a, directory, &[&peer]).await;
        assert_eq!(code, Some(0), "{findings:#?}");
        assert!(has(&findings, "peer", "good", "all 2 pairs work"), "{findings:#?}");

        // One that the other daemon does not protect.
        let (_, findings) = doctor(&lab.a, directory, &[&plain]).await;
        assert!(
            has(&findings, "peer", "wrong", "as far as the last router"),
            "{findings:#?}"
        );

        lab.cut(shim6_tun::lab::Failure::Blackhole, &lab.a, 1)
            .await
            .expect("a cut");
        let (code, findings) = doctor(&lab.a, directory, &[&peer]).await;
        assert_eq!(code, Some(1));
        assert!(has(&findings, "peer", "doubtful", "1 of 2 pairs work"), "{findings:#?}");
        assert!(has(&findings, "peer", "wrong", "nothing comes back"), "{findings:#?}");
        lab.heal(&lab.a, 1).await.expect("healed");

        if drop_shim6(lab.core(), "forward").await {
            let (code, findings) = doctor(&lab.a, directory, &[&peer]).await;
            assert_eq!(code, Some(1));
            assert!(has(&findings, "peer", "wrong", "eats it"), "{findings:#?}");
        } else {
            skip(name, "there is no nft here");
        }
        ours.stop().await.expect("it stops");
        theirs.stop().await.expect("it stops");
    });
}
