//! Attacks by lies: messages in the peer's name, and locators that nobody has proven.

use std::time::Duration;

use anyhow::Context as _;
use shim6_core::LocatorPair;
use shim6_core::reap::{Probe as Report, ProbeRecord, ProbeState};
use shim6_core::wire::{Announcement, LocatorList, Message, Probe, R1bis, UlidPair, UpdateRequest, VerificationMethod};
use shim6_tun::lab::Failure;
use tokio::time::sleep;

use super::attacker::{Attacker, Claim, PATIENCE};
use super::floods::{
    BOUNDED, NO_STATE, NOTHING_COMES, UNTOUCHED, check_memory, check_untouched, discards, grown, overheard, resident,
    until_grown,
};
use super::ground::{CLEAN, FAITHFUL, Ground, INTACT};
use super::{Findings, Scenario, Settings};

/// Of attacks after which the session has to move.
const MOVES_HOME: &str = "when the path fails afterwards, the session moves to an address that is the peer's";

/// Update Requests in the peer's name.
pub(super) const FORGED_UPDATES: Scenario = Scenario {
    name: "forged-updates",
    summary: "Update Requests in the peer's name: off the path with guessed tags; on the path with the right tag, and a list with \
              the attacker's address in it, or the attacker's own list and proof.",
    must_hold: &[
        GUESSES,
        UNPROVEN,
        TRUE_UPDATE,
        UNTOUCHED,
        NO_STATE,
        NOTHING_COMES,
        MOVES_HOME,
        INTACT,
        FAITHFUL,
        CLEAN,
    ],
    demanded_by: "RFC 5533 sections 7.2, 10.4 and 16; RFC 5535 section 7",
    play: |findings, settings| Box::pin(forged_updates(findings, settings)),
};

const GUESSES: &str = "an update with a guessed tag is none: no such context";
const UNPROVEN: &str = "an update with the right tag and an unproven locator is refused, and counted for that";
const TRUE_UPDATE: &str = "the same update with the peer's own locators and proof is taken (the tag was right)";

async fn forged_updates(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let (ground, mut attacker, heard) = overheard(settings).await?;
    let [victim, peer] = ground.ulids;
    let daemon = ground.stage.daemon_a()?;
    let (tag, announcement) = heard.towards(victim);
    let on = LocatorPair::new(peer, victim);
    let before = daemon.status().await?;
    for _ in 0..settings.length.rounds(300) {
        let guess = attacker.tag();
        let update = update(&mut attacker, guess, announcement.clone());
        attacker.say(on, &update).await?;
    }
    let guessed = until_grown(daemon, &before, |status| {
        status.counters.discards.get("no_context").copied()
    })
    .await?;
    let limited = grown(&before, &daemon.status().await?, |status| {
        status.counters.discards.get("rate_limited").copied()
    });
    findings.measure("refused for their tag", (guessed + limited) as f64, "");
    findings.check(GUESSES, guessed > 0, || format!("{guessed} without a context"));

    let lies = [
        with_stranger(announcement, attacker.addresses()[0])?,
        attacker.announcement(),
    ];
    for lie in lies {
        let now = daemon.status().await?;
        let update = update(&mut attacker, tag, lie);
        attacker.say(on, &update).await?;
        let refused = until_grown(daemon, &now, |status| {
            let counts = &status.counters.discards;
            let reasons = ["hba_verification_failed", "parameters_not_of_ulid"];
            Some(reasons.iter().filter_map(|reason| counts.get(*reason)).sum())
        });
        let refused = refused.await?;
        findings.check(UNPROVEN, refused > 0, || {
            format!("it was not refused\n{}", daemon.tail())
        });
    }
    let now = daemon.status().await?;
    let truth = update(&mut attacker, tag, announcement.clone());
    attacker.say(on, &truth).await?;
    let acknowledged = until_grown(daemon, &now, |status| {
        let sent = status.counters.sent.iter();
        Some(
            sent.filter(|(kind, _)| kind.contains("Acknowledgement"))
                .map(|(_, count)| *count)
                .sum(),
        )
    });
    let acknowledged = acknowledged.await?;
    findings.check(TRUE_UPDATE, acknowledged > 0, || {
        format!("it was not acknowledged\n{}", daemon.tail())
    });
    check_untouched(findings, &before, &daemon.status().await?);
    move_home(findings, &ground, &attacker).await?;
    ground.end(findings).await
}

fn update(attacker: &mut Attacker, tag: shim6_core::wire::ContextTag, announcement: Announcement) -> Message {
    Message::UpdateRequest(UpdateRequest {
        receiver_context_tag: tag,
        request_nonce: attacker.dice.u32(),
        announcement,
    })
}

/// What was told, with one more locator.
fn with_stranger(announcement: &Announcement, stranger: std::net::Ipv6Addr) -> anyhow::Result<Announcement> {
    let told = announcement.locators.as_ref().context("the peer told no locators")?;
    let mut locators = told.locators.clone();
    locators.push((VerificationMethod::HBA, stranger));
    Ok(Announcement {
        locators: Some(LocatorList {
            generation: told.generation.wrapping_add(1),
            locators,
        }),
        preferences: None,
        ..announcement.clone()
    })
}

/// Cuts the path of the session, and checks [`MOVES_HOME`] and [`NOTHING_COMES`].
async fn move_home(findings: &mut Findings, ground: &Ground, attacker: &Attacker) -> anyhow::Result<()> {
    let mark = ground.sessions[0].mark();
    ground.stage.cut(Failure::Blackhole).await?;
    let went_on = ground.go_on().await;
    findings.check_ok(MOVES_HOME, went_on);
    let [tcp, _] = ground.sessions[0].longest_gaps(mark);
    findings.measure_time("stall of the connection, the attacker being there", tcp);
    let locators = ground.stage.locators(ground.ulids).await?;
    let is_theirs = !attacker.addresses().contains(&locators[1]);
    findings.check(MOVES_HOME, is_theirs, || format!("{locators:?}"));
    let intercepted = attacker.intercepted();
    findings.check(NOTHING_COMES, intercepted == 0, || format!("{intercepted} packets"));
    ground.stage.heal().await
}

/// R1bis messages, as if the peer had lost its context.
pub(super) const R1BIS_STORM: Scenario = Scenario {
    name: "r1bis-storm",
    summary: "R1bis messages in the peer's name: off the path with guessed tags, then on the path with the right tag, which have \
              the host believe that its peer has lost the context.",
    must_hold: &[
        GUESSED_R1BIS,
        FEW_I2BIS,
        KEPT,
        NO_STATE,
        BOUNDED,
        INTACT,
        FAITHFUL,
        CLEAN,
    ],
    demanded_by: "RFC 5533 sections 7.18 and 16",
    play: |findings, settings| Box::pin(r1bis_storm(findings, settings)),
};

const GUESSED_R1BIS: &str = "an R1bis with a guessed tag is for no context, and is not answered";
const FEW_I2BIS: &str = "thousands with the right tag get an I2bis (the attack has an effect), but not more than a few";
const KEPT: &str = "the context is kept, and the session goes on";
/// First ones and their repetitions within the seconds that this takes.
const MOST_I2BIS: u64 = 12;

async fn r1bis_storm(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let (ground, mut attacker, heard) = overheard(settings).await?;
    let [victim, peer] = ground.ulids;
    let daemon = ground.stage.daemon_a()?;
    let on = LocatorPair::new(peer, victim);
    let start = daemon.status().await?;
    let memory = resident(daemon)?;
    let each = settings.length.rounds(1_000);
    for number in 0..each {
        let guess = attacker.tag();
        let r1bis = r1bis(&mut attacker, guess);
        attacker.say(on, &r1bis).await?;
        if number % 50 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let refused = until_grown(daemon, &start, |status| {
        status.counters.discards.get("no_context").copied()
    })
    .await?;
    let after = daemon.status().await?;
    let i2bis = |status: &shim6_tun::status::Status| status.counters.sent.get("I2bis").copied();
    let answered = grown(&start, &after, i2bis);
    findings.check(GUESSED_R1BIS, refused > 0 && answered == 0, || {
        format!("{refused} refused, {answered} I2bis")
    });
    check_untouched_but_for_state(findings, &ground, &start.contexts[0].id).await?;

    let right = heard.tag_from(victim);
    for number in 0..each {
        let r1bis = r1bis(&mut attacker, right);
        attacker.say(on, &r1bis).await?;
        if number % 50 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    ground.go_on().await?;
    let end = daemon.status().await?;
    let answered = grown(&after, &end, i2bis);
    findings.measure("I2bis for the storm", answered as f64, "");
    findings.measure("discards", (discards(&end) - discards(&after)) as f64, "");
    findings.check(FEW_I2BIS, (1..=MOST_I2BIS).contains(&answered), || {
        format!("{answered} I2bis")
    });
    let kept = end.contexts.iter().any(|context| context.id == start.contexts[0].id);
    findings.check(KEPT, kept, || format!("{:#?}", end.contexts));
    findings.check(NO_STATE, end.contexts.len() == start.contexts.len(), || {
        format!("{:#?}", end.contexts)
    });
    check_memory(findings, daemon, memory)?;
    findings.check_ok(KEPT, ground.go_on().await);
    ground.end(findings).await
}

async fn check_untouched_but_for_state(findings: &mut Findings, ground: &Ground, id: &u64) -> anyhow::Result<()> {
    let now = ground.stage.context_a(ground.ulids).await?;
    let is_kept = now
        .as_ref()
        .is_some_and(|now| now.id == *id && now.state == "established");
    findings.check(KEPT, is_kept, || format!("{now:#?}"));
    Ok(())
}

fn r1bis(attacker: &mut Attacker, tag: shim6_core::wire::ContextTag) -> Message {
    let mut validator = vec![0; 20];
    attacker.dice.fill(&mut validator);
    Message::R1bis(R1bis {
        packet_context_tag: tag,
        responder_nonce: attacker.dice.u32(),
        validator,
    })
}

/// Somebody else's ULID with one's own locators.
pub(super) const HIJACK: Scenario = Scenario {
    name: "hijack",
    summary: "The attacker sets up a context for the peer's ULID with locators of its own, proven for another ULID or not at all, \
              and says by forged probes that only its address works.",
    must_hold: &[
        STRANGER,
        IMPOSTOR,
        OWN_NAME,
        FALSE_PROBES,
        UNTOUCHED,
        NOTHING_COMES,
        MOVES_HOME,
        INTACT,
        FAITHFUL,
        CLEAN,
    ],
    demanded_by: "RFC 5533 sections 7.2, 12.4 and 16; RFC 5535 section 7; RFC 4218 section 4",
    play: |findings, settings| Box::pin(hijack(findings, settings)),
};

const STRANGER: &str = "a context for the peer's ULID with the attacker's locators and the attacker's proof is refused";
const IMPOSTOR: &str = "so is one with the attacker's locator beside the peer's own proof";
const OWN_NAME: &str = "the same exchange in the attacker's own name succeeds (it was made rightly)";
const FALSE_PROBES: &str = "probes from an address that is not the peer's are counted and change nothing";

/// In this time an R2 would have come; what an exchange has left behind is looked at as well.
const REFUSAL: Duration = Duration::from_millis(800);

async fn hijack(findings: &mut Findings, settings: &Settings) -> anyhow::Result<()> {
    let (ground, mut attacker, heard) = overheard(settings).await?;
    let [victim, peer] = ground.ulids;
    let daemon = ground.stage.daemon_a()?;
    let before = daemon.status().await?;
    let (tag, announcement) = heard.towards(victim);
    let mut claim = Claim {
        on: LocatorPair::new(attacker.addresses()[0], victim),
        ulids: Some(UlidPair {
            sender: peer,
            receiver: victim,
        }),
        announcement: attacker.announcement(),
    };
    for (statement, told) in [
        (STRANGER, attacker.announcement()),
        (IMPOSTOR, with_stranger(announcement, attacker.addresses()[0])?),
    ] {
        attacker.forget();
        claim.announcement = told;
        let agreed = attacker.knock(&claim, REFUSAL).await?;
        findings.check(statement, !agreed, || format!("there is an R2: {:?}", attacker.told()));
    }

    let now = daemon.status().await?;
    let from_elsewhere = LocatorPair::new(attacker.addresses()[0], victim);
    for _ in 0..settings.length.rounds(100) {
        let probe = probe(&mut attacker, tag, from_elsewhere);
        attacker.say(from_elsewhere, &probe).await?;
    }
    let refused = until_grown(daemon, &now, |status| {
        status.counters.discards.get("locator_not_in_set").copied()
    });
    let refused = refused.await?;
    findings.check(FALSE_PROBES, refused > 0, || {
        format!("{refused} refused\n{}", daemon.tail())
    });
    let untouched = daemon.status().await?;
    let [was, is] = [&before, &untouched].map(|status| status.contexts[0].clone());
    let same = (is.locators == was.locators) && is.peer_locators == was.peer_locators && is.failovers == was.failovers;
    findings.check(UNTOUCHED, same && untouched.contexts.len() == 1, || {
        format!("{:#?}", untouched.contexts)
    });

    attacker.forget();
    claim.ulids = None;
    claim.announcement = attacker.announcement();
    let agreed = attacker.knock(&claim, PATIENCE).await?;
    findings.check(OWN_NAME, agreed, || {
        format!("no R2: {:?}\n{}", attacker.told(), daemon.tail())
    });
    move_home(findings, &ground, &attacker).await?;
    ground.end(findings).await
}

/// A probe that says that everything which the victim sends gets lost, but what it sends to the attacker.
fn probe(attacker: &mut Attacker, tag: shim6_core::wire::ContextTag, on: LocatorPair) -> Message {
    let mut record = |pair: LocatorPair| ProbeRecord {
        source: pair.local,
        destination: pair.peer,
        nonce: attacker.dice.u32(),
        data: 0,
    };
    let (sent, received) = (vec![record(on)], vec![record(on.seen_by_peer())]);
    Message::Probe(Probe {
        receiver_context_tag: tag,
        report: Report {
            state: ProbeState::InboundOk,
            sent,
            received,
        },
    })
}
