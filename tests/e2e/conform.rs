//! `shim6 conform` against the daemon, and against what is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use shim6_tests::conform::Stage;
use shim6_tests::{binary, isolated};
use shim6_tun::conform::all;
use shim6_tun::lab::Topology;

/// The document with all checks, made by the program that it names.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance-daemon.md");

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn assert_fails(output: &Output, code: i32, said: &[&str]) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    for said in said {
        assert!(err.contains(said), "{said:?} is not in\n{err}");
    }
}

fn addresses(topology: &Topology) -> usize {
    let counted = topology.a.namespace.run(|| {
        let text = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
        text.lines().count()
    });
    counted.expect("a namespace")
}

#[test]
fn daemon_does_what_the_rfcs_say() {
    isolated("conform::daemon_does_what_the_rfcs_say", || async {
        let stage = Stage::build(binary::shim6())
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let before = addresses(stage.topology());
        let file = tempfile::NamedTempFile::new().expect("a file");
        let junit = file.path().to_string_lossy().into_owned();
        let output = stage
            .conform(&[stage.target(), "--json", "--junit", &junit])
            .await
            .expect("runs");
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
        let checks = said["checks"].as_array().expect("a list");
        let other: Vec<_> = checks.iter().filter(|check| check["outcome"] != "pass").collect();
        assert!(other.is_empty(), "{other:#?}");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(checks.len(), all().iter().filter(|check| !check.slow).count());
        let xml = fs::read_to_string(file.path()).expect("JUnit's file");
        assert_eq!(xml.matches("<testcase ").count(), checks.len());
        assert_eq!(addresses(stage.topology()), before, "addresses are left");

        // In the same lab, since it is there: a part, with its packets.
        let output = stage
            .conform(&[stage.target(), "--check", "7.10", "--packets", "all"])
            .await
            .expect("runs");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("sent  2001:db8:a1:") && said.contains("R1, "), "{said}");
        assert!(said.contains("3 checks: 3 pass, 0 fail, 0 not applicable"), "{said}");
        stage.stop().await.expect("the daemon ends");
    });
}

#[test]
fn what_cannot_be_tested_is_named() {
    isolated("conform::what_cannot_be_tested_is_named", || async {
        let topology = Topology::two_by_two().await.expect("a lab");
        let run = async |arguments: &[&str]| {
            let mut command = topology.a.namespace.command(binary::shim6());
            command.arg("conform").args(arguments);
            tokio::process::Command::from(command).output().await.expect("runs")
        };
        let plain = topology.b.uplinks[0].address.to_string();
        let own = topology.a.uplinks[0].address.to_string();
        let before = addresses(&topology);
        // Without a daemon, the kernel answers.
        assert_fails(
            &run(&[&plain]).await,
            1,
            &[
                &plain,
                "does not speak Shim6",
                "Unrecognized Next Header",
                "shim6 doctor",
            ],
        );
        assert_fails(
            &run(&["2001:db8:b1::77"]).await,
            1,
            &["2001:db8:b1::77", "cannot be tested"],
        );
        assert_fails(&run(&[&own]).await, 2, &["an address of this host"]);
        assert_fails(&run(&["192.0.2.1"]).await, 2, &["IPv4"]);
        assert_fails(&run(&["ff02::1"]).await, 2, &["no global address"]);
        assert_fails(
            &run(&[&plain, "--interface", "eth7"]).await,
            1,
            &["no interface eth7", "eth0, eth1"],
        );
        let nowhere = "/nonexistent/out.xml";
        assert_fails(&run(&[&plain, "--junit", nowhere]).await, 1, &[nowhere]);
        assert_fails(&run(&[&plain, "--check", "7.99"]).await, 2, &["7.99", "--list"]);
        assert_fails(&run(&[&plain, "--check", "7.12-"]).await, 2, &["7.12-"]);
        assert_eq!(addresses(&topology), before, "addresses are left");
        let mut command = topology.a.namespace.command(Path::new("setpriv"));
        command
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .arg(binary::shim6());
        command.args(["conform", &plain]);
        // Where there is no such tool the message is not looked at.
        if let Ok(output) = tokio::process::Command::from(command).output().await
            && output.status.code() != Some(127)
        {
            assert_fails(&output, 1, &["CAP_NET_ADMIN", "run it as root"]);
        }
    });
}

#[test]
fn list_needs_no_rights() {
    let output = Command::new(binary::shim6())
        .args(["conform", "--list"])
        .output()
        .expect("runs");
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), all().len());
    let output = Command::new(binary::shim6()).arg("conform").output().expect("runs");
    assert_fails(&output, 2, &["TARGET"]);
}

#[test]
fn document_has_all_checks_and_no_failure() {
    let document = fs::read_to_string(DOCUMENT).expect("the document");
    let rows: BTreeSet<(String, bool)> = document
        .lines()
        .filter(|line| line.starts_with("| 55"))
        .map(|line| {
            let cells: Vec<_> = line.split(" | ").collect();
            let id = cells[0].trim_start_matches("| ").to_owned();
            let check = all().iter().find(|check| check.id == id);
            assert_eq!(
                Some(cells[2]),
                check.map(|check| check.title),
                "{id} is another; make the document again"
            );
            (id, !cells[3].starts_with("FAIL"))
        })
        .collect();
    let expected = all().iter().map(|check| (check.id.to_owned(), true)).collect();
    assert_eq!(rows, expected, "make the document again");
}
