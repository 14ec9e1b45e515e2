//! Paths that fail, in every way and order in which some path is left.

use shim6_tun::lab::{Failure, Host};

use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::{Findings, Scenario, Settings};
use crate::sim::dice::{Dice, Stream};

const GOES_ON: &str = "while the path that was in use is cut, every session goes on over another one";
const SAME_CONTEXTS: &str = "it is the same contexts all the time";

/// Four sessions, and one failure after the other.
pub(super) const FAILOVER_STORM: Scenario = Scenario {
    name: "failover-storm",
    summary: "One after the other, the path in use is cut at either host by a silent blackhole, a lost carrier or one \
              direction, and healed when four sessions have moved away, in an order that the seed decides.",
    must_hold: &[GOES_ON, SAME_CONTEXTS, INTACT, FAITHFUL, CLEAN],
    demanded_by: "RFC 5533 sections 1.2 and 4, RFC 5534 sections 4.3 and 6",
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

/// The contexts that are established, by number.
fn established(status: &shim6_tun::status::Status) -> Vec<u64> {
    let contexts = status.contexts.iter().filter(|context| context.state == "established");
    contexts.map(|context| context.id).collect()
}

/// The uplink whose prefix an address is in.
fn uplink_of(host: &Host, address: std::net::Ipv6Addr) -> usize {
    let is_its = |prefix: std::net::Ipv6Addr| prefix.segments()[..4] == address.segments()[..4];
    host.uplinks
        .iter()
        .position(|uplink| is_its(uplink.prefix))
        .unwrap_or(0)
}
