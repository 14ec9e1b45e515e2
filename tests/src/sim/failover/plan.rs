//! Who is in a world of failovers, and how far they are apart.

use std::collections::BTreeMap;
use std::time::Duration;

use shim6_core::wire::{Preference, PreferenceFlags};
use shim6_core::{EndpointConfig, EstablishmentConfig, FailbackConfig, LAST_RESORT, LimitsConfig, Profile, ReapConfig};

use super::bound::Timers;
use super::wishes::Wishes;
use crate::sim::dice::Dice;
use crate::sim::link::Link;
use crate::sim::pool::Locator;
use crate::sim::scenario::{Action, HostPlan, Kind, Protect, Scenario, Session};

/// What a world of failovers is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    /// Every directed pair of locators of different hosts while nothing is wrong with it.
    pub(super) links: BTreeMap<(Locator, Locator), Link>,
    /// The longest that a packet is on its way.
    pub(super) longest: Duration,
    pub(super) wishes: Wishes,
}

impl Plan {
    pub(super) fn random(seed: u64, dice: &mut Dice) -> Self {
        let hosts = hosts(dice);
        let locators: Vec<_> = (hosts.iter().enumerate())
            .flat_map(|(host, plan)| (0..plan.locators()).map(move |index| Locator { host, index }))
            .collect();
        let links = links(dice, &locators);
        let longest = links
            .values()
            .map(|link| link.delay + link.jitter)
            .max()
            .unwrap_or_default();
        let sessions = sessions(dice, &hosts);
        // A probe takes its time. Then its receiver may go on reporting it for as long as it is InboundOk, which is a Send
        // Timeout after it last heard one. The report takes its time, too.
        let timers = hosts
            .iter()
            .map(|host| Timers::between(&host.config.reap, &host.config.reap, longest * 2));
        let report_age = longest * 2 + timers.map(|timers| timers.send_timeout).max().unwrap_or_default();
        let preferences = preferences(dice, &hosts);
        let tell = |(host, preferences)| (Duration::ZERO, Action::SetPreferences { host, preferences });
        let scenario = Scenario {
            seed,
            command: format!("cargo run --release -p shim6-tests --bin worlds -- --failovers --seed {seed} --trace"),
            script: preferences.iter().cloned().enumerate().map(tell).collect(),
            hosts,
            sessions,
            report_age: Some(report_age),
            keep_trace: false,
            ..Scenario::quiet("", 0, &EndpointConfig::default())
        };
        Self {
            scenario,
            links,
            longest,
            wishes: Wishes::new(preferences),
        }
    }
}

fn config(dice: &mut Dice, profile: Profile) -> EndpointConfig {
    let stable = dice.millis(1_000..=3_000);
    EndpointConfig {
        profile,
        reap: ReapConfig {
            send_timeout: dice.millis(100..=300),
            initial_probe_timeout: dice.millis(30..=80),
            max_probe_timeout: dice.millis(1_000..=5_000),
            ..ReapConfig::fast()
        },
        failback: FailbackConfig {
            interval: dice.millis(200..=1_000),
            stable,
            max_stable: stable * 6,
            ..FailbackConfig::default()
        },
        // Not what these worlds are about.
        establishment: EstablishmentConfig {
            i1_timeout: Duration::from_secs(1),
            i2_timeout: Duration::from_secs(1),
            i2bis_timeout: Duration::from_secs(1),
            no_r1_holddown: Duration::from_secs(1),
            ..EstablishmentConfig::default()
        },
        limits: LimitsConfig {
            counted_prefixes: 16,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    }
}

/// REAP's values between two hosts that are so far apart.
pub(super) fn timers(one: &EndpointConfig, other: &EndpointConfig, delay: Duration) -> Timers {
    Timers::between(effective(one, other), effective(other, one), delay * 2)
}

/// REAP's values of a host towards another.
fn effective<'a>(own: &'a EndpointConfig, peer: &EndpointConfig) -> &'a ReapConfig {
    const RFC: ReapConfig = ReapConfig::rfc();
    match [own.profile, peer.profile] {
        [Profile::Fast, Profile::Fast] => &own.reap,
        _ => &RFC,
    }
}

fn hosts(dice: &mut Dice) -> Vec<HostPlan> {
    let slow = *dice.pick(&[0, 0, 0, 0, 0, 300, 1000]);
    let count = *dice.pick(&[2, 2, 2, 3, 4]);
    let plan = |dice: &mut Dice| {
        let locators = *dice.pick(&[1, 2, 2, 2, 3, 3, 4]);
        let profile = if dice.chance(slow) { Profile::Rfc } else { Profile::Fast };
        HostPlan::new(locators, &config(dice, profile))
    };
    let mut hosts: Vec<_> = (0..count).map(|_| plan(dice)).collect();
    // With one locator each there is nothing to fail over to.
    if hosts.iter().all(|host| host.members == 1) {
        hosts[0].members = 2;
    }
    hosts
}

/// Every directed pair has a delay of its own, from next door to the other side of the world.
fn links(dice: &mut Dice, locators: &[Locator]) -> BTreeMap<(Locator, Locator), Link> {
    let far = *dice.pick(&[2, 10, 50, 150, 300]);
    let loss = *dice.pick(&[0, 0, 0, 2, 10]);
    let is_steady = dice.chance(700);
    let mut links = BTreeMap::new();
    for &from in locators {
        for &to in locators.iter().filter(|to| to.host != from.host) {
            let delay = dice.millis(1..=far);
            let jitter = if is_steady {
                Duration::ZERO
            } else {
                dice.up_to(delay / 4)
            };
            let link = Link {
                jitter,
                loss,
                ..Link::clean(delay)
            };
            links.insert((from, to), link);
        }
    }
    links
}

fn sessions(dice: &mut Dice, hosts: &[HostPlan]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let wanted = dice.between(1..=5);
    // Where hosts have few locators there may not be so many.
    for attempt in 0.. {
        let Some(session) = session(dice, hosts) else { continue };
        let (from, to) = (session.from, session.to);
        let is_taken = |session: &Session| [(from, to), (to, from)].contains(&(session.from, session.to));
        if !sessions.iter().any(is_taken) {
            sessions.push(session);
        }
        if attempt >= wanted {
            break;
        }
    }
    sessions
}

/// A session between two hosts with more than one locator pair.
fn session(dice: &mut Dice, hosts: &[HostPlan]) -> Option<Session> {
    let from = dice.below(hosts.len());
    let to = (from + 1 + dice.below(hosts.len() - 1)) % hosts.len();
    let is_fast = [from, to].iter().all(|&end| hosts[end].config.profile == Profile::Fast);
    let ulid = |dice: &mut Dice, host: usize| Locator {
        host,
        index: dice.below(hosts[host].members),
    };
    (hosts[from].members * hosts[to].members > 1).then(|| Session {
        from: ulid(dice, from),
        to: ulid(dice, to),
        interval: match is_fast {
            true => dice.millis(10..=130),
            false => dice.millis(300..=3_000),
        },
        kind: *dice.pick(&[Kind::OneWay, Kind::Replies, Kind::BothWays, Kind::BothWays]),
        protect: Protect::Initiator,
        octets: 100,
        instance: if dice.chance(50) { dice.between(1..=3) as u32 } else { 0 },
    })
}

/// What hosts prefer, which their peers may see otherwise.
fn preferences(dice: &mut Dice, hosts: &[HostPlan]) -> Vec<Vec<Preference>> {
    let preference = |dice: &mut Dice| Preference {
        flags: match dice.chance(100) {
            true => *dice.pick(&[PreferenceFlags::BROKEN, PreferenceFlags::TRANSIENT]),
            false => PreferenceFlags(0),
        },
        priority: [0, 1, LAST_RESORT][dice.below(3)],
        weight: 0,
    };
    let mut wishes = Vec::new();
    for plan in hosts {
        let has_wishes = dice.chance(400);
        let of = |_| {
            if has_wishes {
                preference(dice)
            } else {
                Preference::default()
            }
        };
        wishes.push((0..plan.locators()).map(of).collect());
    }
    wishes
}
