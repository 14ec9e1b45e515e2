//! Attacks by numbers: I1 from everywhere, the same I2 again and again.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::Context as _;
use shim6_core::LocatorPair;
use shim6_core::wire::{I1, Message, MessageType};
use shim6_tun::demo::daemon::Daemon;
use shim6_tun::lab::Topology;
use shim6_tun::status::{ContextStatus, Status};
use tokio::time::{Instant, sleep};

use super::attacker::{Attacker, Claim, Overheard, PATIENCE, parsed, under_own_prefix};
use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::{Findings, Scenario, Settings};

/// Of every attack.
pub(super) const UNTOUCHED: &str = "the context under attack is as it was: the same peer, the same locators, no move";
/// Of every attack that would have contexts made.
pub(super) const NO_STATE: &str = "no context is made for the attacker, in whosever name it speaks";
/// Of every attack that would cost memory.
pub(super) const BOUNDED: &str = "the daemon's memory grows by less than 16 MiB";
const GROWTH: u64 = 16 << 20;

/// I1 messages from all over the place.
pub(super) const I1_FLOOD: Scenario = Scenario {
    name: "i1-flood",
    summary: "A host off the path sends thousands of I1 with forged sources: of strangers everywhere, of one network, and of the \
              session's peer. Then an honest host sets up a context.",
    must_hold: &[
        NO_STATE, UNTOUCHED, LIMITED, COUNTED, HONEST, BOUNDED, INTACT, FAITHFUL, CLEAN,
    ],
    demanded_by: "RFC 5533 sections 7.9 and 16; RFC 4218 section 4",
    play: |findings, settings| Box::pin(i1_flood(findings, settings)),
};

const LIMITED: &str =
    "a network gets no more than the 1,000 R1 a second that the limits allow, however many I1 name it";
const COUNTED: &str = "what was not answered was counted: for its rate, or for what was wrong with it";
const HONEST: &str = "an honest host at the same place gets its context (the way in is open)";
/// Of so many I1 in a row: with too few of them no limit would be reached.
const OF_ONE_NETWORK: u32 = 4;
/// R1 in a second to one prefix: the default of the limits.
const R1_RATE: f64 = 1_000.0;

async fn i1_flood(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let ground = Ground::protected(settings).await?;
    let mut attacker = Attacker::at_the_core(ground.stage.topology(), settings.seed).await?;
    let daemon = ground.stage.daemon_a()?;
    let before = daemon.status().await?;
    let memory = resident(daemon)?;
    let [victim, peer] = ground.ulids;
    let mark = ground.sessions[0].mark();
    let start = Instant::now();
    let each = settings.length.rounds(1_500);
    for number in 0..each {
        // Strangers in networks of their own, which nobody routes; strangers of one network; the peer itself.
        let random = Ipv6Addr::from_bits(0x2a00 << 112 | u128::from(attacker.dice.u64()) << 48 | 1);
        let of_one_network =
            (1..=OF_ONE_NETWORK).map(|host| under_own_prefix(5, u64::from(number * OF_ONE_NETWORK + host)));
        for source in of_one_network.chain([random, peer]) {
            let i1 = Message::I1(I1 {
                initiator_context_tag: attacker.tag(),
                initiator_nonce: attacker.dice.u32(),
                ulid_pair: None,
                forked_instance: None,
            });
            attacker.say(LocatorPair::new(source, victim), &i1).await?;
        }
        if number % 25 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let flooded = start.elapsed();
    ground.go_on().await?;
    let answered = attacker.told().len();
    findings.measure(
        "I1 in a second",
        f64::from((OF_ONE_NETWORK + 2) * each) / flooded.as_secs_f64().max(0.001),
        "",
    );
    findings.measure("R1 to the one network", answered as f64, "");
    let most = R1_RATE * (start.elapsed().as_secs_f64() + 1.0);
    findings.check(LIMITED, answered > 0 && answered as f64 <= most, || {
        format!("{answered} R1 in {:?}", start.elapsed())
    });
    let after = daemon.status().await?;
    check_untouched(findings, &before, &after);
    let taken = grown(&before, &after, |status| status.counters.received.get("I1").copied());
    let answers = ["R1", "R2"].map(|kind| grown(&before, &after, |status| status.counters.sent.get(kind).copied()));
    let dropped = discards(&after) - discards(&before);
    findings.measure("I1 that reached the daemon", taken as f64, "");
    findings.measure("discards", dropped as f64, "");
    let is_counted = taken > u64::from(each) && answers.iter().sum::<u64>() + dropped >= taken;
    findings.check(COUNTED, is_counted, || {
        format!("{taken} I1, {answers:?} answers, {dropped} discards")
    });

    attacker.forget();
    let honest = Claim {
        on: LocatorPair::new(attacker.addresses()[0], victim),
        ulids: None,
        announcement: attacker.announcement(),
    };
    // The limits on its network have to be met by it alone again.
    sleep(Duration::from_millis(1_100)).await;
    let agreed = attacker.knock(&honest, PATIENCE).await?;
    let contexts = daemon.status().await?.contexts;
    let is_there = contexts.iter().any(|context| context.ulids.peer == honest.on.local);
    findings.check(HONEST, agreed && is_there, || {
        format!("agreed: {agreed}; {contexts:#?}")
    });
    check_memory(findings, daemon, memory)?;
    let [tcp, _] = ground.sessions[0].longest_gaps(mark);
    findings.measure_time("longest stall of the connection", tcp);
    ground.end(findings).await
}

/// An I2 that was good once.
pub(super) const REPLAYED_I2: Scenario = Scenario {
    name: "replayed-i2",
    summary: "A host on the path records the I2 that made the session's context, and sends it again and again: as it was, from \
              another address, and with another tag.",
    must_hold: &[
        UNTOUCHED,
        NO_STATE,
        REPETITION,
        REFUSED,
        NOTHING_COMES,
        BOUNDED,
        INTACT,
        FAITHFUL,
        CLEAN,
    ],
    demanded_by: "RFC 5533 sections 7.10.1, 7.13 and 16",
    play: |findings, settings| Box::pin(replayed_i2(findings, settings)),
};

/// Most beginnings until two hosts do not begin at the same moment.
const BEGINNINGS: u32 = 10;
const REPETITION: &str =
    "unchanged, it is a repetition, which is answered with an R2 and changes nothing (it still opens the door)";
const REFUSED: &str = "with another address or tag its validator is wrong, and that is what it is counted for";
/// Of every attack that would lead a session to the attacker.
pub(super) const NOTHING_COMES: &str = "no packet of the session ever comes to the attacker";

async fn replayed_i2(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let (ground, attacker, heard) = overheard(settings).await?;
    let mut attacker = attacker;
    let victim = if heard.on.peer == ground.ulids[0] {
        ground.stage.daemon_a()?
    } else {
        ground.stage.daemon_b()?
    };
    let start = ground.statuses().await?;
    let before = victim.status().await?;
    let memory = resident(victim)?;
    let each = settings.length.rounds(200);
    for _ in 0..each {
        attacker.send(&heard.i2).await?;
    }
    let r2 = until_grown(victim, &before, |status| status.counters.sent.get("R2").copied()).await?;
    findings.measure("R2 for the repetitions", r2 as f64, "");
    findings.check(REPETITION, r2 > 0, || format!("{r2} R2"));

    let before = victim.status().await?;
    let (_, Message::I2(i2)) = parsed(&heard.i2).context("an I2")? else {
        anyhow::bail!("what was recorded is no I2");
    };
    for number in 0..each {
        let elsewhere = LocatorPair::new(attacker.addresses()[0], heard.on.peer);
        attacker.say(elsewhere, &Message::I2(i2.clone())).await?;
        let mut renamed = i2.clone();
        renamed.initiator_context_tag = attacker.tag();
        attacker.say(heard.on, &Message::I2(renamed)).await?;
        if number % 50 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let refused = until_grown(victim, &before, |status| {
        status.counters.discards.get("bad_validator").copied()
    })
    .await?;
    findings.measure("refused for their validator", refused as f64, "");
    findings.check(REFUSED, refused > u64::from(each), || {
        format!("{refused} of {}: {:?}", 2 * each, victim.tail())
    });
    ground.go_on().await?;
    let end = ground.statuses().await?;
    for (before, after) in start.iter().zip(&end) {
        check_untouched(findings, before, after);
    }
    findings.check(NOTHING_COMES, attacker.received() == 0, || {
        format!("{} packets, of which {:?}", attacker.received(), attacker.told())
    });
    check_memory(findings, victim, memory)?;
    ground.end(findings).await
}

/// A protected session, whose context was overheard while it was made.
///
/// Hosts that begin at the same moment need no I2 (RFC 5533 section 7.4): then all begins anew.
pub(super) async fn overheard(settings: &Settings) -> anyhow::Result<(Ground, Attacker, Overheard)> {
    let mut tries = 0;
    loop {
        let mut ground = Ground::bare(Topology::two_by_two().await?, settings).await?;
        let attacker = Attacker::at_the_core(ground.stage.topology(), settings.seed).await?;
        ground.protect().await?;
        let packets = attacker.overheard();
        tries += 1;
        match Overheard::among(&packets) {
            Ok(heard) => return Ok((ground, attacker, heard)),
            Err(_) if tries < BEGINNINGS => drop(ground.stage.stop().await?),
            Err(error) => {
                let kinds = packets
                    .iter()
                    .filter_map(|packet| crate::sim::packet::control_type(packet));
                let kinds: Vec<_> = kinds.collect();
                return Err(error.context(format!("of {kinds:?} ({:?} is the one)", MessageType::I2)));
            }
        }
    }
}

/// Checks [`UNTOUCHED`] and [`NO_STATE`].
pub(super) fn check_untouched(findings: &mut Findings, before: &Status, after: &Status) {
    let [was, is] = [before, after].map(|status| status.contexts.iter().map(essence).collect::<Vec<_>>());
    let others: Vec<_> = is.iter().filter(|context| !was.contains(context)).collect();
    findings.check(UNTOUCHED, was.iter().all(|context| is.contains(context)), || {
        format!("{was:#?} became {is:#?}")
    });
    findings.check(NO_STATE, after.contexts.len() <= before.contexts.len(), || {
        format!("{others:#?}")
    });
}

/// Checks [`BOUNDED`].
pub(super) fn check_memory(findings: &mut Findings, daemon: &Daemon, before: u64) -> anyhow::Result<()> {
    let growth = resident(daemon)?.saturating_sub(before);
    findings.measure("growth of the daemon", (growth >> 10) as f64, "KiB");
    findings.check(BOUNDED, growth < GROWTH, || format!("by {growth} octets"));
    Ok(())
}

/// What an attack must not change.
fn essence(context: &ContextStatus) -> String {
    format!(
        "{} {:?} {:?} {:?} {} steered: {}",
        context.id, context.ulids, context.locators, context.peer_locators, context.failovers, context.steered
    )
}

/// Octets of memory that a daemon has.
pub(super) fn resident(daemon: &Daemon) -> anyhow::Result<u64> {
    let pid = daemon.pid().context("the daemon has ended")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("the kernel does not say how much memory a process has")? << 10)
}

pub(super) fn grown(before: &Status, after: &Status, counter: impl Fn(&Status) -> Option<u64>) -> u64 {
    counter(after).unwrap_or(0).saturating_sub(counter(before).unwrap_or(0))
}

/// How much a counter has grown when it does not any more, a second after `before` at the latest.
pub(super) async fn until_grown(
    daemon: &Daemon,
    before: &Status,
    counter: impl Fn(&Status) -> Option<u64>,
) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut last = 0;
    loop {
        sleep(Duration::from_millis(150)).await;
        let now = grown(before, &daemon.status().await?, &counter);
        if (now > 0 && now == last) || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

pub(super) fn discards(status: &Status) -> u64 {
    status.counters.discards.values().sum()
}
