//! Hosts that restart, get other addresses, or do not know the protocol.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shim6_tun::demo::daemon::Daemon;
use shim6_tun::demo::live::Live;
use shim6_tun::lab::{Failure, Topology};
use shim6_tun::status::UplinkStatus;
use tokio::time::{Instant, sleep};

use super::faults::Kind;
use super::ground::{CLEAN, FAITHFUL, Ground, INTACT, LIMIT};
use super::traffic::Traffic;
use super::{Findings, Scenario, Settings};
use crate::renumber::{advertise, delegate, is_under};

/// The other host loses everything that it knew of contexts, then its sockets as well.
pub(super) const PEER_REBOOTS: Scenario = Scenario {
    name: "peer-reboots",
    summary: "While the session is on another path than its own, the peer's daemon is killed and started again; then the peer's \
              sockets are gone as well, and a new session begins.",
    must_hold: &[
        GOES_ON_AFTER_RESTART,
        SAME_CONTEXT,
        NEW_SESSION,
        ONE_CONTEXT,
        INTACT,
        FAITHFUL,
        CLEAN,
    ],
    demanded_by: "RFC 5533 sections 7.5 (recovery), 7.6 (confusion) and 7.17 to 7.20",
    play: |findings, settings| Box::pin(peer_reboots(findings, settings)),
};

pub(super) const GOES_ON_AFTER_RESTART: &str =
    "the session goes on where it was, as soon as the peer's daemon is there again";
const SAME_CONTEXT: &str = "the host that did not restart keeps its context, and renews it with the peer";
const NEW_SESSION: &str = "a new session after the reboot goes on over the same path at once";
const ONE_CONTEXT: &str = "there is one context for the two ULIDs, however often the peer reboots";

async fn peer_reboots(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let mut ground = Ground::protected(settings).await?;
    let ulids = ground.ulids;
    ground.stage.cut(Failure::Blackhole).await?;
    moved(&ground).await?;
    ground.go_on().await?;
    let context = ground
        .stage
        .context_a(ulids)
        .await?
        .context("host a has no context")?
        .id;
    for _ in 0..settings.length.rounds(1) {
        let mark = ground.sessions[0].mark();
        ground.stage.restart_b().await?;
        findings.check_ok(GOES_ON_AFTER_RESTART, ground.go_on().await);
        let [tcp, _] = ground.sessions[0].longest_gaps(mark);
        findings.measure_time("stall, the start of the daemon included", tcp);
        moved(&ground).await?;
        let now = ground.stage.context_a(ulids).await?.map(|context| context.id);
        findings.check(SAME_CONTEXT, now == Some(context), || {
            format!("{context} became {now:?}")
        });

        // As a reboot takes them: neither end says goodbye to the other's context.
        ground.end_sessions(findings).await?;
        ground.stage.restart_b().await?;
        let start = Instant::now();
        let connected = async {
            ground.connect(ulids).await?;
            ground.go_on().await
        };
        findings.check_ok(NEW_SESSION, connected.await);
        findings.measure_time("until the new session had gone on", start.elapsed());
        moved(&ground).await?;
        let [a, b] = ground.statuses().await?;
        let counts = [a.contexts.len(), b.contexts.len()];
        findings.check(ONE_CONTEXT, counts == [1, 1], || format!("{counts:?} contexts"));
    }
    ground.stage.heal().await?;
    ground.end(findings).await
}

/// Waits until both hosts have the session on another path than its own.
async fn moved(ground: &Ground) -> anyhow::Result<()> {
    ground
        .until_context("both hosts are on another path", |a, b| {
            let is_moved = |state: &str, steered| state == "established" && steered;
            is_moved(&a.state, a.steered) && is_moved(&b.state, b.steered)
        })
        .await
}

/// The prefixes of a host change while it has a session.
pub(super) const RENUMBERING: Scenario = Scenario {
    name: "renumbering",
    summary: "The first uplink of host a gets another prefix and loses the one that the session began on; then the second uplink \
              fails.",
    must_hold: &[PEER_IS_TOLD, GOES_ON_RENUMBERED, INTACT, FAITHFUL, ENDS],
    demanded_by: "RFC 5533 sections 1.5 and 10.1 to 10.4",
    play: |findings, settings| Box::pin(renumbering(findings, settings)),
};

pub(super) const PEER_IS_TOLD: &str = "the peer is told of the new address while an old one still works";
pub(super) const GOES_ON_RENUMBERED: &str = "the session, whose ULID is an address of the lost prefix, goes on";
const ENDS: &str = "the daemons end with 0";

async fn renumbering(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let mut ground = Ground::protected(settings).await?;
    let topology = ground.stage.topology();
    let netlink = topology.a.namespace.netlink()?;
    let link = netlink.link(&topology.a.uplinks[0].interface).await?.index;
    let mut old = topology.a.uplinks[0].prefix;
    for round in 0..settings.length.rounds(1) {
        // 2001:db8:a3::, 2001:db8:a4:: and so on.
        let new = Ipv6Addr::new(0x2001, 0xdb8, 0xa3 + u16::try_from(round)?, 0, 0, 0, 0, 0);
        delegate(topology, 0, new).await?;
        if !settings.has(Kind::Unadvertised) {
            advertise(topology, 0, new, 3600)?;
        }
        let told = ground
            .until_context("the peer knows the new address", |_, b| {
                b.peer_locators.iter().any(|&locator| is_under(locator, new))
            })
            .await;
        findings.check_ok(PEER_IS_TOLD, told);

        // Nothing comes to the old prefix any more, and its addresses are gone, which makes the daemon withdraw its own.
        let mark = ground.sessions[0].mark();
        topology.cut(Failure::OneWay, &topology.a, 0).await?;
        for address in netlink.addresses().await? {
            if address.index == link && is_under(address.address, old) && address.prefix_len == 64 {
                netlink.delete_address(link, address.address, 64).await?;
            }
        }
        ground
            .until("the old prefix is withdrawn", async || {
                let withdrawn = |uplinks: &[UplinkStatus]| !uplinks.iter().any(|uplink| is_under(uplink.address, old));
                ground.statuses().await.is_ok_and(|[a, _]| withdrawn(&a.uplinks))
            })
            .await?;
        findings.check_ok(GOES_ON_RENUMBERED, ground.go_on().await);
        // Only the new address is left.
        topology.cut(Failure::Blackhole, &topology.a, 1).await?;
        let there = ground
            .until_context("the session is on the new address", |_, b| {
                is_under(b.locators.peer, new)
            })
            .await;
        findings.check_ok(GOES_ON_RENUMBERED, there);
        findings.check_ok(GOES_ON_RENUMBERED, ground.go_on().await);
        let [tcp, _] = ground.sessions[0].longest_gaps(mark);
        findings.measure_time("longest stall", tcp);
        topology.heal(&topology.a, 1).await?;
        old = new;
    }
    ground.end_sessions(findings).await?;
    let shutdown = ground.stage.stop().await?;
    // What the router advertised is left, and what was deleted here is not.
    findings.check(ENDS, shutdown.bad_exits.is_empty(), || format!("{shutdown:#?}"));
    Ok(())
}

/// A peer that does not know the protocol.
pub(super) const PEER_WITHOUT_SHIM6: Scenario = Scenario {
    name: "peer-without-shim6",
    summary: "Only host a has a daemon. The path fails silently for 1.2 seconds and heals, beside a session in which \
              neither end knows of Shim6.",
    must_hold: &[NO_CONTEXT, FEW_ATTEMPTS, NO_WORSE, INTACT, FAITHFUL],
    demanded_by: "RFC 5533 sections 7.8 and 14",
    play: |findings, settings| Box::pin(peer_without_shim6(findings, settings)),
};

pub(super) const NO_CONTEXT: &str =
    "nothing is ever established with it or steered, and the daemon knows that it is left alone";
const FEW_ATTEMPTS: &str = "no more than five I1 are sent to it";
/// Also of sessions whose Shim6 packets a firewall eats.
pub(super) const NO_WORSE: &str =
    "the session is back no more than a second later than one that Shim6 has nothing to do with";
/// TCP sends again 0.2, 0.6, 1.4 and 3 seconds after it began: between two of these, so that two connections are back at about the same
/// moment whatever becomes of a few milliseconds.
pub(super) const OUTAGE: Duration = Duration::from_millis(1200);

async fn peer_without_shim6(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::two_by_two().await?;
    let directory = tempfile::tempdir()?;
    let live = Arc::new(Live::default());
    let daemon = Daemon::start(&settings.shim6, &topology.a, directory.path(), "", &live).await?;
    let plain_b = topology.b.uplinks[0].address;
    // Only when it is to fail.
    let knowing = match settings.has(Kind::Knowing) {
        true => Some(Daemon::start(&settings.shim6, &topology.b, directory.path(), "", &live).await?),
        false => None,
    };
    let peer = match &knowing {
        Some(daemon) => daemon.status().await?.uplinks[0].address,
        None => plain_b,
    };
    let own = daemon.status().await?.uplinks[0].address;
    let hosts = [&topology.a, &topology.b];
    let with = Traffic::start(hosts, [own, peer], settings.seed).await?;
    let without = Traffic::start(hosts, [topology.a.uplinks[0].address, plain_b], settings.seed).await?;
    let deadline = Instant::now() + settings.patience();
    while [&with, &without]
        .iter()
        .any(|session| session.arrived()[0].min(session.arrived()[1]) < 20)
    {
        anyhow::ensure!(Instant::now() < deadline, "the sessions did not begin");
        sleep(Duration::from_millis(5)).await;
    }
    let left_alone = loop {
        let status = daemon.status().await?;
        let is_left = status.failures.iter().any(|failure| failure.peer == peer);
        if is_left || Instant::now() > deadline {
            break is_left;
        }
        sleep(Duration::from_millis(20)).await;
    };
    findings.check(NO_CONTEXT, left_alone, || {
        format!("the peer is no failure\n{}", daemon.tail())
    });
    for _ in 0..settings.length.rounds(1) {
        let marks = [with.mark(), without.mark()];
        topology.cut(Failure::Blackhole, &topology.a, 0).await?;
        sleep(OUTAGE).await;
        topology.heal(&topology.a, 0).await?;
        compare(findings, [&with, &without], marks).await?;
        let status = daemon.status().await?;
        let quiet = status
            .contexts
            .iter()
            .all(|context| !context.steered && context.state != "established");
        findings.check(NO_CONTEXT, quiet, || format!("{:#?}", status.contexts));
    }
    let sent = daemon.status().await?.counters.sent.get("I1").copied().unwrap_or(0);
    findings.measure("I1 sent", sent as f64, "");
    findings.check(FEW_ATTEMPTS, sent <= 5, || format!("{sent} I1"));
    for session in [with, without] {
        let delivery = session.finish().await?;
        findings.check(INTACT, delivery.tcp.is_ok(), || format!("{:?}", delivery.tcp));
        findings.check(FAITHFUL, delivery.udp.strange == 0, || format!("{:?}", delivery.udp));
    }
    daemon.stop().await?;
    Ok(())
}

/// After an outage that is over: waits until both sessions go on, and checks [`NO_WORSE`].
pub(super) async fn compare(
    findings: &mut Findings,
    sessions: [&Traffic; 2],
    marks: [super::traffic::Mark; 2],
) -> anyhow::Result<()> {
    let before = sessions.map(Traffic::arrived);
    let deadline = Instant::now() + LIMIT;
    let goes_on = |session: &Traffic, before: [usize; 2]| {
        session
            .arrived()
            .iter()
            .zip(before)
            .all(|(now, before)| *now > before + 20)
    };
    while !sessions
        .iter()
        .zip(before)
        .all(|(session, before)| goes_on(session, before))
    {
        anyhow::ensure!(
            Instant::now() < deadline,
            "a session did not go on: {:?}",
            sessions.map(Traffic::error)
        );
        sleep(Duration::from_millis(5)).await;
    }
    let [with, without] = [0, 1].map(|index| sessions[index].longest_gaps(marks[index]));
    findings.measure_time("outage of the connection", with[0]);
    findings.measure_time("outage of the connection without Shim6", without[0]);
    findings.measure_time("outage of datagrams", with[1]);
    findings.measure_time("outage of datagrams without Shim6", without[1]);
    let margin = Duration::from_secs(1);
    let no_worse = with
        .iter()
        .zip(without)
        .all(|(with, without)| *with <= without + margin);
    findings.check(NO_WORSE, no_worse, || {
        format!("{with:?} with it, {without:?} without it")
    });
    Ok(())
}
