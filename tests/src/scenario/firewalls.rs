//! Firewalls that drop whatever has a Shim6 header.

use std::time::Duration;

use shim6_tun::lab::{Direction, Element, Failure, Impairment, Prefix, Share, Topology};
use tokio::time::{Instant, sleep};

use super::faults::Kind;
use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::hosts::{NO_WORSE, OUTAGE, compare};
use super::outages::is_home;
use super::traffic::OneWay;
use super::{Findings, Scenario, Settings};

/// How long a session is cut off after the outage, if that is to be wrong.
const LINGERS: Duration = Duration::from_secs(3);
/// How long datagrams go one way.
const ONE_WAY: Duration = Duration::from_secs(2);
/// Datagrams that are one each 5 ms do not come at once if there is none for so long.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A firewall on the path that sessions would move to.
pub(super) const FIREWALL_ON_OTHER_PATH: Scenario = Scenario {
    name: "firewall-on-other-path",
    summary: "A firewall on host a's second uplink drops protocol 140. The first uplink fails silently for 1.2 seconds and \
              heals, beside a session that Shim6 has nothing to do with.",
    must_hold: &[HAS_CONTEXT, NO_WORSE, AT_HOME, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 15.2; RFC 5534 section 4.2",
    play: |findings, settings| Box::pin(firewall_on_other_path(findings, settings)),
};

const HAS_CONTEXT: &str = "there is a context, since on the first path nothing is dropped";
pub(super) const AT_HOME: &str = "when the path works again, the session is on it, as if nothing had been";

async fn firewall_on_other_path(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = behind_firewall(1, settings).await?;
    let ground = Ground::protected_on(topology, settings).await;
    let Some(mut ground) = findings.check_ok(HAS_CONTEXT, ground) else {
        anyhow::bail!("without a context nothing else can be tried");
    };
    ground.connect(ground.stage.plain()).await?;
    ground.go_on().await?;
    for _ in 0..settings.length.rounds(1) {
        outage(findings, &ground, settings).await?;
        at_home(findings, &ground).await;
        ground.go_on().await?;
    }
    ground.end(findings).await
}

/// A firewall on the path that sessions begin on.
pub(super) const FIREWALL_ON_OWN_PATH: Scenario = Scenario {
    name: "firewall-on-own-path",
    summary: "A firewall on host a's first uplink drops protocol 140, so that no context comes about. That uplink fails silently for 1.2 seconds and heals, beside a session that Shim6 has nothing to do with.",
    must_hold: &[NEVER_STEERED, NO_WORSE, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 sections 7.8 and 15.2",
    play: |findings, settings| Box::pin(firewall_on_own_path(findings, settings)),
};

pub(super) const NEVER_STEERED: &str = "nothing is ever established or steered, and the session goes on untouched";

async fn firewall_on_own_path(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = behind_firewall(0, settings).await?;
    let mut ground = Ground::bare(topology, settings).await?;
    ground.connect(ground.ulids).await?;
    ground.connect(ground.stage.plain()).await?;
    ground.go_on().await?;
    for _ in 0..settings.length.rounds(1) {
        outage(findings, &ground, settings).await?;
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

/// A firewall that comes when there is a context already.
pub(super) const FIREWALL_COMES_LATER: Scenario = Scenario {
    name: "firewall-comes-later",
    summary: "When there is a context, firewalls that drop protocol 140 come onto both uplinks of host a. First datagrams go one way \
              only; then the first uplink fails silently for 1.2 seconds and heals, beside a session that Shim6 has \
              nothing to do with.",
    must_hold: &[ALL_ARRIVE, NO_WORSE, NEVER_LEFT, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 15.2; RFC 5534 sections 4.1 and 6.2",
    play: |findings, settings| Box::pin(firewall_comes_later(findings, settings)),
};

pub(super) const ALL_ARRIVE: &str =
    "while the path works, every datagram that goes one way arrives, once and at once, though keepalives are eaten";
const NEVER_LEFT: &str = "no host ever leaves the session's own path, since none hears of another one that works";

async fn firewall_comes_later(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::emulated_from(settings.seed, &[]).await?;
    let mut ground = Ground::protected_on(topology, settings).await?;
    for round in 0..settings.length.rounds(1) {
        ground.end_sessions(findings).await?;
        let topology = ground.stage.topology();
        for uplink in [0, 1] {
            topology.link(&topology.a, uplink)?.put(&[Element::DropShim6]);
        }
        if settings.has(Kind::Losing) {
            let lossy = Impairment::default().losing(Share::percent(5));
            topology.link(&topology.a, 0)?.impair(Direction::Down, lossy);
        }
        let seed = settings.seed.wrapping_add(round.into());
        let datagrams = OneWay::start([&topology.a, &topology.b], ground.ulids, seed)?;
        sleep(ONE_WAY).await;
        let (came, gap) = datagrams.finish().await?;
        findings.measure_time("longest gap in datagrams that go one way", gap);
        let all_came = came.arrived == came.sent && came.repeated == 0 && gap < AT_ONCE;
        findings.check(ALL_ARRIVE, all_came, || {
            format!("{came:?}, a gap of {gap:?}\n{}", ground.stage.logs())
        });
        ground.connect(ground.ulids).await?;
        ground.connect(ground.stage.plain()).await?;
        ground.go_on().await?;
        outage(findings, &ground, settings).await?;
        ground.go_on().await?;
        let contexts = ground.contexts().await?;
        let is_left = contexts
            .iter()
            .any(|context| context.failovers > 0 || context.locators != context.ulids);
        findings.check(NEVER_LEFT, !is_left && contexts.len() == 2, || format!("{contexts:#?}"));
    }
    ground.end(findings).await
}

/// Firewalls that let the control messages pass, and eat what they say works.
pub(super) const FIREWALL_EATS_PAYLOAD: Scenario = Scenario {
    name: "firewall-eats-payload",
    summary: "When there is a context, firewalls come onto both uplinks of host a that drop payload with a Shim6 header and let control \
              messages pass. A while later the first uplink fails silently for 1.2 seconds and heals; then the firewalls go.",
    must_hold: &[NOTHING_EATEN, FEW_MESSAGES, UNHARMED, RECOVERS, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 15.2; RFC 5534 sections 4.2 and 4.3",
    play: |findings, settings| Box::pin(firewall_eats_payload(findings, settings)),
};

pub(super) const NOTHING_EATEN: &str = "while the session's own path works, it stays there and goes on without a gap";
const FEW_MESSAGES: &str = "a host sends no more than a hundred control messages a second meanwhile";
const UNHARMED: &str = "a session that Shim6 has nothing to do with is back when the path is";
const RECOVERS: &str = "when the firewalls are gone the session goes on, and is on its own path again";

async fn firewall_eats_payload(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::emulated_from(settings.seed, &[]).await?;
    let mut ground = Ground::protected_on(topology, settings).await?;
    ground.connect(ground.stage.plain()).await?;
    ground.go_on().await?;
    for _ in 0..settings.length.rounds(1) {
        eat_payload(findings, &ground, settings).await?;
    }
    ground.end(findings).await
}

async fn eat_payload(findings: &mut Findings, ground: &Ground, settings: &Settings) -> anyhow::Result<()> {
    let topology = ground.stage.topology();
    let links = [topology.link(&topology.a, 0)?, topology.link(&topology.a, 1)?];
    let moves = async || {
        let contexts = ground.contexts().await?;
        anyhow::Ok(contexts.iter().map(|context| context.failovers).sum::<u64>())
    };
    links.iter().for_each(|link| link.put(&[Element::DropShim6Payload]));
    if settings.has(Kind::Losing) {
        let lossy = Impairment::default().losing(Share::percent(95));
        links[0].impair(Direction::Down, lossy);
    }
    let [session, plain] = [&ground.sessions[0], &ground.sessions[1]];
    let (mark, before) = (session.mark(), moves().await?);
    sleep(ONE_WAY).await;
    let (gaps, moved) = (session.longest_gaps(mark), moves().await? - before);
    let is_calm = moved == 0 && gaps.iter().all(|&gap| gap < AT_ONCE);
    findings.check(NOTHING_EATEN, is_calm, || format!("gaps of {gaps:?}, {moved} moves"));

    let (start, sent_before) = (Instant::now(), sent(ground).await?);
    let marks = [session.mark(), plain.mark()];
    ground.stage.cut(Failure::Blackhole).await?;
    sleep(OUTAGE).await;
    ground.stage.heal().await?;
    findings.check_ok(UNHARMED, ground.goes_on(1).await);
    for (after, before) in sent(ground).await?.into_iter().zip(sent_before) {
        let rate = after.saturating_sub(before) as f64 / start.elapsed().as_secs_f64();
        findings.measure("control messages a second", rate.round(), "");
        findings.check(FEW_MESSAGES, rate <= 100.0, || format!("{rate:.0} a second"));
    }
    links.iter().for_each(|link| link.put(&[]));
    findings.check_ok(RECOVERS, ground.go_on().await);
    let home = ground
        .until_context("both hosts are at home", |a, b| is_home(a) && is_home(b))
        .await;
    findings.check_ok(RECOVERS, home);
    ground.go_on().await?;
    let [with, without] = [session.longest_gaps(marks[0]), plain.longest_gaps(marks[1])];
    findings.measure_time("outage of the connection", with[0]);
    findings.measure_time("outage of the connection without Shim6", without[0]);
    findings.measure_time("outage of datagrams", with[1]);
    findings.measure_time("outage of datagrams without Shim6", without[1]);
    Ok(())
}

async fn at_home(findings: &mut Findings, ground: &Ground) {
    let home = ground
        .until_context("both hosts are at home", |a, b| is_home(a) && is_home(b))
        .await;
    findings.check_ok(AT_HOME, home);
}

/// How many control messages each host has sent.
async fn sent(ground: &Ground) -> anyhow::Result<[u64; 2]> {
    let statuses = ground.statuses().await?;
    Ok(statuses.map(|status| status.counters.sent.values().sum()))
}

/// A firewall that drops protocol 140 on an uplink of host a.
async fn behind_firewall(uplink: usize, settings: &Settings) -> anyhow::Result<Topology> {
    let firewall = [("a", uplink, Element::DropShim6)];
    let elements = if settings.has(Kind::Open) { &[] } else { &firewall[..] };
    Ok(Topology::emulated_with(elements).await?)
}

/// The first uplink of host a fails and heals; which of the two sessions is back first?
async fn outage(findings: &mut Findings, ground: &Ground, settings: &Settings) -> anyhow::Result<()> {
    let sessions = [&ground.sessions[0], &ground.sessions[1]];
    let marks = sessions.map(|session| session.mark());
    ground.stage.cut(Failure::Blackhole).await?;
    sleep(OUTAGE).await;
    ground.stage.heal().await?;
    if settings.has(Kind::Lingering) {
        let topology = ground.stage.topology();
        let link = topology.link(&topology.a, 0)?;
        // Of what host a sends there, only the other session's packets pass.
        let others = Prefix::of(ground.stage.plain()[0], 128);
        link.put(&[Element::DropShim6, Element::IngressFilter(vec![others])]);
        sleep(LINGERS).await;
        link.put(&[Element::DropShim6]);
    }
    compare(findings, sessions, marks).await
}
