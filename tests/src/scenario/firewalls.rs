//! Firewalls that drop whatever has a Shim6 header.

use std::time::Duration;

use shim6_tun::lab::{Element, Failure, Topology};
use tokio::time::sleep;

use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::hosts::{NO_WORSE, compare};
use super::outages::is_home;
use super::{Findings, Scenario, Settings};

const OUTAGE: Duration = Duration::from_millis(1500);

/// A firewall on the path that sessions would move to.
pub(super) const FIREWALL_ON_OTHER_PATH: Scenario = Scenario {
    name: "firewall-on-other-path",
    summary: "A firewall on host a's second uplink drops protocol 140. The first uplink fails silently for a second and a half and \
              heals, beside a session that Shim6 has nothing to do with.",
    must_hold: &[HAS_CONTEXT, NO_WORSE, AT_HOME, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 15.2; RFC 5534 section 4.2",
    play: |findings, settings| Box::pin(firewall_on_other_path(findings, settings)),
};

const HAS_CONTEXT: &str = "there is a context, since on the first path nothing is dropped";
const AT_HOME: &str = "when the path works again, the session is on it, as if nothing had been";

async fn firewall_on_other_path(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::emulated_with(&[("a", 1, Element::DropShim6)]).await?;
    let ground = Ground::protected_on(topology, settings).await;
    let Some(mut ground) = findings.check_ok(HAS_CONTEXT, ground) else {
        anyhow::bail!("without a context nothing else can be tried");
    };
    ground.connect(ground.stage.plain()).await?;
    ground.go_on().await?;
    for _ in 0..settings.length.rounds(1) {
        outage(findings, &ground).await?;
        let home = ground
            .until_context("both hosts are at home", |a, b| is_home(a) && is_home(b))
            .await;
        findings.check_ok(AT_HOME, home);
        ground.go_on().await?;
    }
    ground.end(findings).await
}

/// A firewall on the path that sessions begin on.
pub(super) const FIREWALL_ON_OWN_PATH: Scenario = Scenario {
    name: "firewall-on-own-path",
    summary: "A firewall on host a's first uplink drops protocol 140, so that no context comes about. That uplink fails silently for \
              a second and a half and heals, beside a session that Shim6 has nothing to do with.",
    must_hold: &[NEVER_STEERED, NO_WORSE, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 sections 7.8 and 15.2",
    play: |findings, settings| Box::pin(firewall_on_own_path(findings, settings)),
};

const NEVER_STEERED: &str = "nothing is ever established or steered, and the session goes on untouched";

async fn firewall_on_own_path(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::emulated_with(&[("a", 0, Element::DropShim6)]).await?;
    let mut ground = Ground::bare(topology, settings).await?;
    ground.connect(ground.ulids).await?;
    ground.connect(ground.stage.plain()).await?;
    ground.go_on().await?;
    for _ in 0..settings.length.rounds(1) {
        outage(findings, &ground).await?;
        findings.check_ok(NEVER_STEERED, ground.go_on().await);
        let statuses = ground.statuses().await?;
        let contexts = statuses.iter().flat_map(|status| &status.contexts);
        let found: Vec<_> = contexts
            .filter(|context| context.steered || context.state == "established")
            .collect();
        findings.check(NEVER_STEERED, found.is_empty(), || format!("{found:#?}"));
    }
    ground.end(findings).await
}

/// The first uplink of host a fails and heals; which of the two sessions is back first?
async fn outage(findings: &mut Findings, ground: &Ground) -> anyhow::Result<()> {
    let sessions = [&ground.sessions[0], &ground.sessions[1]];
    let marks = sessions.map(|session| session.mark());
    ground.stage.cut(Failure::Blackhole).await?;
    sleep(OUTAGE).await;
    ground.stage.heal().await?;
    compare(findings, sessions, marks).await
}
