//! How the daemon says that it is.

use super::Host;
use super::finding::Finding;
use crate::status::Status;

const CHECK: &str = "daemon";

pub(super) fn check(host: &Host) -> Vec<Finding> {
    match (&host.status, &host.no_status) {
        (Some(status), _) => of(status),
        (None, Some(why)) if why.contains("permission denied") => {
            vec![Finding::unchecked(CHECK, format!("it was not asked: {why}"))]
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or("it does not answer");
            vec![
                Finding::wrong(CHECK, why, "No session of this host is protected.")
                    .mend("systemctl start shim6   # or: shim6 run"),
            ]
        }
    }
}

fn of(status: &Status) -> Vec<Finding> {
    let mut findings: Vec<_> = status
        .problems
        .iter()
        .map(|problem| {
            Finding::wrong(
                CHECK,
                problem,
                "The daemon cannot do a part of its work until this has gone.",
            )
        })
        .collect();
    for uplink in status.uplinks.iter().filter(|uplink| !uplink.up) {
        let interface = &uplink.interface;
        let found = format!("uplink {interface} ({}) is down", uplink.address);
        let means = "Its link, its address or its default route is gone. Sessions are on the other uplinks.";
        findings.push(Finding::wrong(CHECK, found, means).mend(format!(
            "ip link show {interface}; ip -6 address show dev {interface}; ip -6 route show default dev {interface}"
        )));
    }
    for context in status.contexts.iter().filter(|context| context.reap == "exploring") {
        let (id, peer) = (context.id, context.ulids.peer);
        let found = format!("context {id} looks for a path to {peer}");
        let means = "No pair of addresses is known to work at the moment; what is sent waits.";
        findings.push(Finding::wrong(CHECK, found, means).mend(format!("shim6 doctor {peer}")));
    }
    let ours = env!("CARGO_PKG_VERSION");
    if status.version != ours {
        let found = format!("the daemon is version {}, and this program {ours}", status.version);
        let means = "It was not started again after an upgrade.";
        findings.push(Finding::doubtful(CHECK, found, means).mend("systemctl restart shim6"));
    }
    if findings.is_empty() {
        let (contexts, uplinks) = (status.contexts.len(), status.uplinks.len());
        let found = format!(
            "it runs (process {}), with {uplinks} uplinks and {contexts} contexts",
            status.pid
        );
        findings.push(Finding::good(CHECK, found));
    }
    findings
}
