//! Paths that fail, in every way and order in which some path is left.

use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_tun::lab::{Direction, Failure, Host, Topology};
use shim6_tun::status::{ContextStatus, Status};
use tokio::time::sleep;

use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::{Findings, Scenario, Settings};
use crate::sim::dice::{Dice, Stream};

pub(super) const GOES_ON: &str = "while the path that was in use is cut, every session goes on over another one";
const SAME_CONTEXTS: &str = "it is the same contexts all the time";

/// Four sessions, and one failure after the other.
pub(super) const FAILOVER_STORM: Scenario = Scenario {
    name: "failover-storm",
    summary: "One after the other, the path in use is cut at either host by a silent blackhole, a lost carrier or one \
              direction, and healed when four sessions have moved away, in an order that the seed decides.",
    must_hold: &[GOES_ON, SAME_CONTEXTS, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 1.1; RFC 5534 sections 4 and 6",
    play: |findings, settings| Box::pin(failover_storm(findings, settings)),
};

async fn failover_storm(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let mut ground = Ground::protected(settings).await?;
    let [a, b] = ground.statuses().await?.map(|status| status.uplinks);
    for pair in [(0, 1), (1, 0), (1, 1)] {
        ground.connect([a[pair.0].address, b[pair.1].address]).await?;
    }
    ground
        .until("each session has its context", async || {
            let statuses = ground.statuses().await;
            statuses.is_ok_and(|statuses| statuses.iter().all(|status| established(status).len() == 4))
        })
        .await?;
    let before = ground.statuses().await?.each_ref().map(established);
    let mut dice = Dice::new(settings.seed, Stream::Failovers);
    for _ in 0..settings.length.rounds(4) {
        let context = ground.stage.locators(ground.ulids).await?;
        let failure = *dice.pick(&Failure::ALL);
        let topology = ground.stage.topology();
        let (host, address) = *dice.pick(&[(&topology.a, context[0]), (&topology.b, context[1])]);
        let uplink = uplink_of(host, address);
        let marks: Vec<_> = ground.sessions.iter().map(|session| session.mark()).collect();
        topology.cut(failure, host, uplink).await?;
        let went_on = ground.go_on().await;
        for (session, mark) in ground.sessions.iter().zip(marks) {
            let [tcp, udp] = session.longest_gaps(mark);
            findings.measure_time("stall of a connection", tcp);
            findings.measure_time("gap in datagrams", udp);
        }
        let went_on = went_on.map_err(|error| error.context(format!("{failure} at host {}", host.name)));
        findings.check_ok(GOES_ON, went_on);
        topology.heal(host, uplink).await?;
    }
    let after = ground.statuses().await?.each_ref().map(established);
    findings.check(SAME_CONTEXTS, after == before, || {
        format!("{before:?} became {after:?}")
    });
    ground.end(findings).await
}

/// A path that comes and goes.
pub(super) const FLAPPING: Scenario = Scenario {
    name: "flapping",
    summary: "The uplink in use goes for 1.3 s and comes back for 900 ms, again and again, silently, then stays.",
    must_hold: &[CALMS_DOWN, COMES_BACK, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5534 section 6; [fail-back](configuration.md#failback)",
    play: |findings, settings| Box::pin(flapping(findings, settings)),
};

pub(super) const CALMS_DOWN: &str =
    "the sessions leave it once: while it flaps no host moves back to it, nor more than twice in all";
pub(super) const COMES_BACK: &str = "when it has been stable for a while, both hosts are back on it";
/// Two probes in a row get lost, of which there is one each 500 to 625 ms: one alone would be forgiven.
const GONE: Duration = Duration::from_millis(1300);
/// Long enough for a host that is in a hurry to move back.
const BACK: Duration = Duration::from_millis(900);

async fn flapping(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let ground = Ground::protected(settings).await?;
    let session = &ground.sessions[0];
    let mark = session.mark();
    for _ in 0..settings.length.rounds(2) {
        ground.stage.cut(Failure::Blackhole).await?;
        sleep(GONE).await;
        ground.stage.heal().await?;
        sleep(BACK).await;
    }
    let [tcp, udp] = session.longest_gaps(mark);
    findings.measure_time("longest stall of the connection", tcp);
    findings.measure_time("longest gap in datagrams", udp);
    let contexts = [
        ground.stage.context_a(ground.ulids).await?,
        ground.stage.context_b(ground.ulids).await?,
    ];
    for context in contexts.iter().flatten() {
        findings.measure("moves of a host", context.failovers as f64, "");
        findings.check(CALMS_DOWN, context.failovers <= 2 && context.steered, || {
            format!("{context:#?}")
        });
    }
    let back = ground
        .until_context("both hosts are back", |a, b| is_home(a) && is_home(b))
        .await;
    findings.check_ok(COMES_BACK, back);
    ground.end(findings).await
}

/// Paths that work one way only.
pub(super) const ASYMMETRIC_ROUTING: Scenario = Scenario {
    name: "asymmetric-routing",
    summary: "What host a sends arrives by its first uplink only, and what it receives by its second only.",
    must_hold: &[
        EACH_ITS_WAY,
        GOES_ON_ASYMMETRICALLY,
        COMES_BACK,
        INTACT,
        FAITHFUL,
        CLEAN,
    ],
    demanded_by: "RFC 5534 sections 3.3 (unidirectionally operational pairs) and 4.2",
    play: |findings, settings| Box::pin(asymmetric_routing(findings, settings)),
};

pub(super) const EACH_ITS_WAY: &str =
    "each host ends on a pair that works in its direction, though no pair works in both";
const GOES_ON_ASYMMETRICALLY: &str = "the session goes on over the two";

async fn asymmetric_routing(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let ground = Ground::protected_on(Topology::emulated().await?, settings).await?;
    let topology = ground.stage.topology();
    let [first, second] = [topology.link(&topology.a, 0)?, topology.link(&topology.a, 1)?];
    let mark = ground.sessions[0].mark();
    first.blackhole(Direction::Down, true);
    second.blackhole(Direction::Up, true);
    let is_under = |address: Ipv6Addr, uplink: usize| uplink_of(&topology.a, address) == uplink;
    let each = ground
        .until_context("each host uses what works in its direction", |a, b| {
            let settled = a.reap == "operational" && b.reap == "operational";
            settled && is_under(a.locators.local, 0) && is_under(b.locators.peer, 1)
        })
        .await;
    findings.check_ok(EACH_ITS_WAY, each);
    findings.check_ok(GOES_ON_ASYMMETRICALLY, ground.go_on().await);
    let [tcp, udp] = ground.sessions[0].longest_gaps(mark);
    findings.measure_time("stall of the connection", tcp);
    findings.measure_time("gap in datagrams", udp);
    for _ in 0..settings.length.rounds(1) {
        findings.check_ok(GOES_ON_ASYMMETRICALLY, ground.go_on().await);
    }
    first.blackhole(Direction::Down, false);
    second.blackhole(Direction::Up, false);
    let back = ground
        .until_context("both hosts are back", |a, b| is_home(a) && is_home(b))
        .await;
    findings.check_ok(COMES_BACK, back);
    ground.end(findings).await
}

/// One uplink of each host at the same moment.
pub(super) const BOTH_LOSE_UPLINKS: Scenario = Scenario {
    name: "both-lose-uplinks",
    summary: "Both hosts lose an uplink at the same moment, in each combination of failures; then it heals, and both lose the \
              other one.",
    must_hold: &[GOES_ON_DIAGONALLY, SAME_CONTEXTS, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5534 sections 4.2 and 4.3",
    play: |findings, settings| Box::pin(both_lose_uplinks(findings, settings)),
};

pub(super) const GOES_ON_DIAGONALLY: &str = "the session goes on over the one pair of uplinks that is left";

async fn both_lose_uplinks(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let ground = Ground::protected(settings).await?;
    let before = ground.statuses().await?.each_ref().map(established);
    let mut dice = Dice::new(settings.seed, Stream::Failovers);
    let topology = ground.stage.topology();
    for round in 0..settings.length.rounds(4) {
        let uplink = (round % 2) as usize;
        let (at_a, at_b) = (*dice.pick(&Failure::ALL), *dice.pick(&Failure::ALL));
        let session = &ground.sessions[0];
        let mark = session.mark();
        tokio::try_join!(
            topology.cut(at_a, &topology.a, uplink),
            topology.cut(at_b, &topology.b, uplink)
        )?;
        let went_on = ground.go_on().await;
        let [tcp, udp] = session.longest_gaps(mark);
        findings.measure_time("stall of the connection", tcp);
        findings.measure_time("gap in datagrams", udp);
        let went_on = went_on.map_err(|error| error.context(format!("{at_a} at host a and {at_b} at host b")));
        findings.check_ok(GOES_ON_DIAGONALLY, went_on);
        topology.heal(&topology.a, uplink).await?;
        topology.heal(&topology.b, uplink).await?;
        // After a lost carrier the host takes a moment to have its address again.
        ground
            .until("all uplinks are up again", async || {
                let statuses = ground.statuses().await;
                statuses.is_ok_and(|both| both.iter().all(|status| status.uplinks.iter().all(|uplink| uplink.up)))
            })
            .await?;
    }
    let after = ground.statuses().await?.each_ref().map(established);
    findings.check(SAME_CONTEXTS, after == before, || {
        format!("{before:?} became {after:?}")
    });
    ground.end(findings).await
}

/// No path at all.
pub(super) const ALL_UPLINKS_DOWN: Scenario = Scenario {
    name: "all-uplinks-down",
    summary: "Nothing passes on any uplink of host a for 800 ms; then one of the two works again, which is not \
              always the one that was in use.",
    must_hold: &[RESUMES, SAME_CONTEXTS, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5534 sections 4.2 and 6",
    play: |findings, settings| Box::pin(all_uplinks_down(findings, settings)),
};

pub(super) const RESUMES: &str = "the session resumes over whichever uplink works first";
const DARKNESS: Duration = Duration::from_millis(800);

async fn all_uplinks_down(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let ground = Ground::protected(settings).await?;
    let before = ground.statuses().await?.each_ref().map(established);
    let topology = ground.stage.topology();
    for round in 0..settings.length.rounds(2) {
        for uplink in [0, 1] {
            topology.cut(Failure::Blackhole, &topology.a, uplink).await?;
        }
        sleep(DARKNESS).await;
        let first = 1 - (round % 2) as usize;
        let mark = ground.sessions[0].mark();
        topology.heal(&topology.a, first).await?;
        findings.check_ok(RESUMES, ground.go_on().await);
        let [tcp, udp] = ground.sessions[0].longest_gaps(mark);
        findings.measure_time("darkness, and until the connection resumed", tcp);
        findings.measure_time("darkness, and until datagrams came again", udp);
        topology.heal(&topology.a, 1 - first).await?;
    }
    let after = ground.statuses().await?.each_ref().map(established);
    findings.check(SAME_CONTEXTS, after == before, || {
        format!("{before:?} became {after:?}")
    });
    ground.end(findings).await
}

/// Whether a context is where it began, and content.
pub(super) fn is_home(context: &ContextStatus) -> bool {
    context.reap == "operational" && !context.steered && context.locators == context.ulids
}

/// The contexts that are established, by number.
pub(super) fn established(status: &Status) -> Vec<u64> {
    let contexts = status.contexts.iter().filter(|context| context.state == "established");
    contexts.map(|context| context.id).collect()
}

/// The uplink whose prefix an address is in.
fn uplink_of(host: &Host, address: Ipv6Addr) -> usize {
    let is_its = |prefix: Ipv6Addr| prefix.segments()[..4] == address.segments()[..4];
    host.uplinks
        .iter()
        .position(|uplink| is_its(uplink.prefix))
        .unwrap_or(usize::MAX)
}
