//! The scenario library, each scenario in its short form.

use shim6_tests::scenario::{Length, Settings, find};
use shim6_tests::{binary, isolated};

/// Plays the scenario of this name.
async fn play(name: &str) {
    let scenario = find(name).unwrap_or_else(|| panic!("there is no scenario {name}"));
    let settings = Settings {
        shim6: binary::shim6().to_owned(),
        seed: 1,
        length: Length::Short,
    };
    let findings = scenario
        .run(&settings)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    println!("{findings}");
    assert!(findings.held(), "{findings}");
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
    peer_without_shim6 = "peer-without-shim6"
    i1_flood = "i1-flood"
    replayed_i2 = "replayed-i2"
    forged_updates = "forged-updates"
    r1bis_storm = "r1bis-storm"
    hijack = "hijack"
}
