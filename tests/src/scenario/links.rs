//! Links that treat packets badly without failing.

use std::time::Duration;

use shim6_tun::demo::stage;
use shim6_tun::demo::traffic::{Transfer, download, serve};
use shim6_tun::lab::{Direction, Failure, Impairment, Link, Setting, Share, Topology};
use tokio::time::{Instant, sleep};

use super::faults::Kind;
use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::{Findings, Scenario, Settings};

/// One packet of a hundred gets lost, each way on every path.
pub(super) const LOSS: Scenario = Scenario {
    name: "loss",
    summary: "Every path loses 1 % of the packets each way, from before the context is set up. After a while the one in use fails.",
    must_hold: &[SET_UP, STAYS, FAILS_OVER, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 sections 7.8 and 7.12; RFC 5534 section 4.1",
    play: |findings, settings| Box::pin(loss(findings, settings)),
};

const SET_UP: &str = "the context is set up";
pub(super) const STAYS: &str = "loss alone moves nothing: the path is not left while it works";
pub(super) const FAILS_OVER: &str =
    "when the path fails, the session moves to another one, over which 1 % get lost as well";
/// On each of the two links of a path: 1 % in all.
const LOST: u32 = 5_000;

/// Steps of a quarter of a second in which nothing may move.
const CALM: u32 = 6;

async fn loss(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::emulated_from(settings.seed, &[]).await?;
    for link in links(&topology)? {
        impair(link, Impairment::default().losing(Share::per_million(LOST)));
    }
    let ground = Ground::protected_on(topology, settings).await;
    let Some(ground) = findings.check_ok(SET_UP, ground) else {
        anyhow::bail!("without a context nothing else can be tried");
    };
    if settings.has(Kind::Losing) {
        let Topology { a, .. } = ground.stage.topology();
        let path = ground.stage.topology().link(a, 0)?;
        impair(path, Impairment::default().losing(Share::percent(95)));
    }
    for _ in 0..settings.length.rounds(CALM) {
        let went_on = ground.go_on().await;
        for moves in moves(&ground).await? {
            let moves = moves.unwrap_or(0);
            findings.check(STAYS, moves == 0, || format!("{moves} moves\n{}", ground.stage.logs()));
        }
        went_on?;
    }
    for _ in 0..settings.length.rounds(1) {
        let mark = ground.sessions[0].mark();
        ground.stage.cut(Failure::Blackhole).await?;
        findings.check_ok(FAILS_OVER, ground.go_on().await);
        let [tcp, udp] = ground.sessions[0].longest_gaps(mark);
        findings.measure_time("stall of the connection", tcp);
        findings.measure_time("gap in datagrams", udp);
        ground.stage.heal().await?;
    }
    ground.end(findings).await
}

/// Packets that overtake each other on the path that is in use instead of the failed one.
pub(super) const REORDERING: Scenario = Scenario {
    name: "reordering",
    summary: "On the path that a session has moved to, packets overtake each other all the time: its delay jumps between none and \
              12 ms.",
    must_hold: &[OVERTAKEN, ONCE, STAYS_THERE, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 11",
    play: |findings, settings| Box::pin(reordering(findings, settings)),
};

pub(super) const OVERTAKEN: &str =
    "datagrams do overtake each other, one at least at each jump (the links do their work)";
pub(super) const ONCE: &str = "every datagram arrives, and none twice";
const STAYS_THERE: &str = "reordering alone moves nothing";
const JUMPS: u32 = 50;
const JUMP: Duration = Duration::from_millis(40);

async fn reordering(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = Topology::emulated_from(settings.seed, &[]).await?;
    let mut ground = Ground::protected_on(topology, settings).await?;
    ground.stage.cut(Failure::Blackhole).await?;
    ground
        .until_context("both hosts are on another path", |a, b| {
            a.steered && b.steered && a.reap == "operational" && b.reap == "operational"
        })
        .await?;
    ground.end_sessions(findings).await?;
    let before = moves(&ground).await?;
    ground.connect(ground.ulids).await?;
    for number in 0..settings.length.rounds(JUMPS) {
        let is_long = number % 2 == 0 || settings.has(Kind::Orderly);
        let mut impairment = Impairment::delay(Duration::from_millis(if is_long { 12 } else { 0 }));
        if settings.has(Kind::Doubling) {
            impairment.duplicate = Share::percent(10);
        }
        for link in links(ground.stage.topology())? {
            impair(link, impairment);
        }
        sleep(JUMP).await;
    }
    for link in links(ground.stage.topology())? {
        impair(link, Impairment::default());
    }
    ground.go_on().await?;
    let after = moves(&ground).await?;
    findings.check(STAYS_THERE, before == after, || {
        format!("{before:?} moves became {after:?}")
    });
    for session in std::mem::take(&mut ground.sessions) {
        let delivery = session.finish().await?;
        findings.check(INTACT, delivery.tcp.is_ok(), || format!("{:?}", delivery.tcp));
        let udp = delivery.udp;
        findings.measure("datagrams overtaken", udp.overtaken as f64, "");
        let jumps = settings.length.rounds(JUMPS / 2);
        findings.check(OVERTAKEN, udp.overtaken >= jumps.into(), || format!("{udp:?}"));
        findings.check(ONCE, udp.arrived == udp.sent && udp.repeated == 0, || {
            format!("{udp:?}")
        });
        findings.check(FAITHFUL, udp.strange == 0, || format!("{udp:?}"));
    }
    ground.stage.heal().await?;
    ground.end(findings).await
}

async fn moves(ground: &Ground) -> anyhow::Result<[Option<u64>; 2]> {
    let contexts = [
        ground.stage.context_a(ground.ulids).await?,
        ground.stage.context_b(ground.ulids).await?,
    ];
    Ok(contexts.map(|context| context.map(|context| context.failovers)))
}

/// A path that gets narrower.
pub(super) const MTU_DROP: Scenario = Scenario {
    name: "mtu-drop",
    summary: "In the midst of a download over the path that it has moved to, a router on that path gets an MTU of 1,400, and then of \
              1,300 octets.",
    must_hold: &[COMPLETE, ERRORS, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 section 8; RFC 8201",
    play: |findings, settings| Box::pin(mtu_drop(findings, settings)),
};

pub(super) const COMPLETE: &str = "the download completes, and is what was sent";
const ERRORS: &str = "what routers say of packets with locators reaches the socket that has sent them";

async fn mtu_drop(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let topology = match settings.has(Kind::Silent) {
        true => Topology::emulated().await?,
        false => Topology::two_by_two().await?,
    };
    let ground = Ground::protected_on(topology, settings).await?;
    for round in 0..settings.length.rounds(1) {
        mtu_round(findings, &ground, settings, settings.seed.wrapping_add(round.into())).await?;
    }
    ground.end(findings).await
}

async fn mtu_round(findings: &mut Findings, ground: &Ground, settings: &Settings, seed: u64) -> anyhow::Result<()> {
    let topology = ground.stage.topology();
    // Host a may be on its second uplink only.
    let set_mtu = |mtu: &'static str| {
        if settings.has(Kind::Silent) {
            let impairment = Impairment::default().with(Setting::Mtu(mtu.parse()?));
            impair(topology.link(&topology.a, 1)?, impairment);
            return Ok(());
        }
        let write = move || std::fs::write("/proc/sys/net/ipv6/conf/isp-a2/mtu", mtu);
        anyhow::Ok(topology.core().run(write)??)
    };
    ground.stage.cut(Failure::Blackhole).await?;
    ground.go_on().await?;
    let transfer = Transfer {
        seed,
        octets: 3_000_000,
        rate: 2_000_000,
    };
    let deadline = Instant::now() + settings.patience();
    let (listener, server) = stage::listen(&topology.b, ground.ulids[1], None)?;
    let socket = stage::tcp_client(&topology.a, ground.ulids[0])?;
    let serving = tokio::spawn(serve(listener, transfer, deadline));
    let arrived = std::cell::Cell::new(0);
    let loading = download(socket, server, transfer, tokio::time::sleep_until(deadline), |octets| {
        arrived.set(arrived.get() + octets);
    });
    let narrowing = async {
        for (share, mtu) in [(4, "1400"), (2, "1300")] {
            while arrived.get() < transfer.octets / share {
                sleep(Duration::from_millis(5)).await;
                anyhow::ensure!(Instant::now() < deadline, "the download did not come so far");
            }
            set_mtu(mtu)?;
        }
        Ok(())
    };
    let start = Instant::now();
    let (loaded, narrowed) = tokio::join!(loading, narrowing);
    serving.abort();
    findings.measure_time("a download of a second and a half", start.elapsed());
    findings.check(COMPLETE, loaded.completed && loaded.digest_matches, || {
        format!("{loaded:?}\n{}", ground.stage.logs())
    });
    narrowed?;
    let [_, b] = ground.statuses().await?;
    let delivered = b.counters.dataplane.get("icmp_delivered").copied().unwrap_or(0);
    findings.check(ERRORS, delivered > 0, || format!("{:?}", b.counters.dataplane));
    set_mtu("1500")?;
    ground.stage.heal().await
}

/// All emulated links.
pub(super) fn links(topology: &Topology) -> anyhow::Result<Vec<&Link>> {
    let uplinks = [(&topology.a, 0), (&topology.a, 1), (&topology.b, 0), (&topology.b, 1)];
    let links = uplinks
        .into_iter()
        .map(|(host, uplink)| Ok(topology.link(host, uplink)?));
    links.collect()
}

fn impair(link: &Link, impairment: Impairment) {
    for direction in Direction::ALL {
        link.impair(direction, impairment);
    }
}
