//! The scenario library, each scenario in its short form.

use std::sync::Arc;

use shim6_tests::scenario::{Fault, Findings, Length, Settings, Verdict, faults, find};
use shim6_tests::{binary, isolated};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

fn settings() -> Settings {
    Settings {
        shim6: binary::shim6().to_owned(),
        seed: 1,
        length: Length::Short,
        fault: None,
    }
}

/// Plays the scenario of this name.
async fn play(name: &str) {
    let scenario = find(name).unwrap_or_else(|| panic!("there is no scenario {name}"));
    let findings = scenario
        .run(&settings())
        .await
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    println!("{findings}");
    assert!(findings.held(), "{findings}");
}

/// Labs that are up at the same time.
const AT_ONCE: usize = 4;

/// Plays every second one of all faults, from this one on, each of which has to be seen.
async fn play_faults(first: usize) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let labs = LocalSet::new();
    let play = |fault: &'static Fault| {
        let places = Arc::clone(&places);
        labs.spawn_local(async move {
            let _place = places.acquire().await.expect("nobody closes it");
            seen(fault, fault.run(&settings()).await)
        })
    };
    let played: Vec<_> = faults().iter().skip(first).step_by(2).map(play).collect();
    labs.await;
    let mut unseen = Vec::new();
    for one in played {
        unseen.extend(one.await.expect("it was played").err());
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn each_scenario_fails_with_what_is_done_wrong_first_half() {
    let name = "scenarios::each_scenario_fails_with_what_is_done_wrong_first_half";
    isolated(name, || play_faults(0));
}

#[test]
fn each_scenario_fails_with_what_is_done_wrong_second_half() {
    let name = "scenarios::each_scenario_fails_with_what_is_done_wrong_second_half";
    isolated(name, || play_faults(1));
}

/// Whether the scenario has failed with it, as it must; else what came instead.
fn seen(fault: &Fault, came: anyhow::Result<Findings>) -> Result<(), String> {
    let Fault { scenario, wrong, .. } = fault;
    let findings = came.map_err(|error| format!("{scenario} with {wrong}: {error:#}"))?;
    println!("with {wrong}: {findings}");
    let broken = findings
        .checks
        .iter()
        .filter(|check| matches!(check.verdict, Verdict::Broken(_)));
    let broken: Vec<_> = broken.map(|check| check.statement).collect();
    match broken == [fault.breaks] {
        true => Ok(()),
        false => Err(format!(
            "{scenario} with {wrong}: not {:?} is broken, but {broken:?}\n{findings}",
            fault.breaks
        )),
    }
}

macro_rules! scenarios {
    ($($test:ident = $name:literal)*) => {
        $(
            #[test]
            fn $test() {
                isolated(concat!("scenarios::", stringify!($test)), || play($name));
            }
        )*

        #[test]
        fn every_scenario_is_played() {
            let played = [$($name),*];
            let all: Vec<_> = shim6_tests::scenario::all().iter().map(|scenario| scenario.name).collect();
            assert_eq!(played.as_slice(), all);
        }
    };
}

scenarios! {
    failover_storm = "failover-storm"
    flapping = "flapping"
    asymmetric_routing = "asymmetric-routing"
    both_lose_uplinks = "both-lose-uplinks"
    all_uplinks_down = "all-uplinks-down"
    peer_reboots = "peer-reboots"
    renumbering = "renumbering"
    loss = "loss"
    reordering = "reordering"
    mtu_drop = "mtu-drop"
    firewall_on_other_path = "firewall-on-other-path"
    firewall_on_own_path = "firewall-on-own-path"
    firewall_comes_later = "firewall-comes-later"
    firewall_eats_payload = "firewall-eats-payload"
    peer_without_shim6 = "peer-without-shim6"
    i1_flood = "i1-flood"
    replayed_i2 = "replayed-i2"
    forged_updates = "forged-updates"
    r1bis_storm = "r1bis-storm"
    hijack = "hijack"
}
