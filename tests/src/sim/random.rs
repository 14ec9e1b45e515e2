//! Worlds at random.

use std::ops::RangeInclusive;
use std::time::Duration;

use shim6_core::wire::{Preference, PreferenceFlags};
use shim6_core::{
    EndpointConfig, EstablishmentConfig, FailbackConfig, Hint, LAST_RESORT, LimitsConfig, Profile, Rate, ReapConfig,
    UpdateConfig,
};

use super::dice::{Dice, Stream};
use super::link::{Link, Refusal};
use super::pool::Locator;
use super::scenario::{Action, AdversaryPlan, Forgery, HostPlan, Kind, Protect, Scenario, Session};

/// How fast a world's timers are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As two of our hosts may agree on.
    Fast,
    /// As RFC 5533 section 14 and RFC 5534 section 7 have them.
    Rfc,
}

impl Scenario {
    /// The world of a seed: a few hosts, paths of any quality, sessions, a script of mishaps, and sometimes an adversary.
    pub fn random(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Scenario);
        let pace = if dice.chance(30) { Pace::Rfc } else { Pace::Fast };
        let hosts = hosts(&mut dice, pace);
        let sessions = sessions(&mut dice, &hosts, pace);
        let horizon = match pace {
            Pace::Fast => dice.millis(2_000..=20_000),
            Pace::Rfc => dice.millis(20_000..=200_000),
        };
        let reuses_seeds = dice.chance(50);
        let link = link(&mut dice);
        let script = script(&mut dice, (&hosts, &sessions), horizon, reuses_seeds);
        let adversary = dice.chance(300).then(|| adversary(&mut dice));
        Self {
            seed,
            command: format!("cargo run --release -p shim6-tests --bin worlds -- --seed {seed} --trace"),
            hosts,
            link,
            sessions,
            script,
            adversary,
            horizon,
            exam: dice.chance(500),
            reuses_seeds,
            report_age: None,
            keep_trace: false,
        }
    }
}

/// What a host may be told to use instead. Timers that RFC 5534 gives stay.
fn another(dice: &mut Dice, former: &EndpointConfig) -> EndpointConfig {
    let other = config(dice);
    match former.profile {
        Profile::Fast => other,
        Profile::Rfc => EndpointConfig {
            profile: Profile::Rfc,
            reap: former.reap,
            ..other
        },
    }
}

fn config(dice: &mut Dice) -> EndpointConfig {
    let timeout = dice.millis(200..=2_000);
    EndpointConfig {
        reap: ReapConfig {
            send_timeout: timeout,
            keepalive_timeout: timeout,
            initial_probe_timeout: dice.millis(50..=500),
            max_probe_timeout: dice.millis(1_000..=4_000),
            follow_rtt: dice.chance(500),
            ..ReapConfig::default()
        },
        profile: Profile::Fast,
        failback: FailbackConfig {
            enabled: dice.chance(700),
            interval: dice.millis(100..=1_000),
            stable: dice.millis(500..=5_000),
            ..FailbackConfig::default()
        },
        hold: dice.chance(700),
        establishment: EstablishmentConfig {
            i1_timeout: dice.millis(200..=1_000),
            i1_retries_max: dice.between(1..=3) as u32,
            i2_timeout: dice.millis(200..=1_000),
            i2_retries_max: dice.between(1..=2) as u32,
            i2bis_timeout: dice.millis(200..=1_000),
            i2bis_retries_max: dice.between(1..=2) as u32,
            no_r1_holddown: dice.millis(500..=5_000),
            icmp_holddown: dice.millis(1_000..=10_000),
            validator_lifetime: dice.millis(1_000..=30_000),
        },
        update: UpdateConfig {
            timeout: dice.millis(200..=1_000),
            max_timeout: dice.millis(1_000..=4_000),
        },
        quiescence: if dice.chance(300) {
            dice.millis(3_000..=8_000)
        } else {
            Duration::from_secs(7_440)
        },
        deliver_all_icmp: dice.chance(500),
        limits: limits(dice),
        // Everybody is answered, and all peers are alike.
        peers: Vec::new(),
        answers: Vec::new(),
    }
}

fn limits(dice: &mut Dice) -> LimitsConfig {
    LimitsConfig {
        contexts: dice.between(8..=40) as usize,
        contexts_per_peer: dice.between(4..=16) as usize,
        idle_before_eviction: dice.millis(500..=5_000),
        counted_prefixes: 16,
        peer_locators: if dice.chance(50) {
            dice.between(1..=3) as usize
        } else {
            16
        },
        r1: rate(dice, 20..=200),
        r2: rate(dice, 20..=200),
        r1bis: rate(dice, 20..=200),
        errors: rate(dice, 1..=10),
        ..LimitsConfig::default()
    }
}

/// A site of the worlds is a host: what one host may ask for is what all may.
fn rate(dice: &mut Dice, range: RangeInclusive<u64>) -> Rate {
    let total = dice.between(range) as u32;
    Rate {
        total,
        per_prefix: total,
    }
}

fn hosts(dice: &mut Dice, pace: Pace) -> Vec<HostPlan> {
    let config = |dice: &mut Dice| match pace {
        Pace::Fast => config(dice),
        Pace::Rfc => EndpointConfig {
            profile: Profile::Rfc,
            reap: ReapConfig::rfc(),
            limits: limits(dice),
            ..EndpointConfig::default()
        },
    };
    let (common, alike) = (config(dice), dice.chance(500));
    let count = *dice.pick(&[2, 2, 2, 3, 4]);
    let plan = |dice: &mut Dice| HostPlan {
        signed: if dice.chance(60) {
            dice.between(1..=2) as usize
        } else {
            0
        },
        shim6: !dice.chance(40),
        ..HostPlan::new(
            *dice.pick(&[1, 2, 2, 2, 3]),
            &if alike { common.clone() } else { config(dice) },
        )
    };
    (0..count).map(|_| plan(dice)).collect()
}

fn sessions(dice: &mut Dice, hosts: &[HostPlan], pace: Pace) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for _ in 0..dice.between(1..=3) {
        let from = dice.below(hosts.len());
        let to = (from + 1 + dice.below(hosts.len() - 1)) % hosts.len();
        let ulid = |dice: &mut Dice, host: usize| Locator {
            host,
            index: dice.below(hosts[host].members),
        };
        let (from, to) = (ulid(dice, from), ulid(dice, to));
        let taken = |session: &Session| {
            let pair = (session.from, session.to);
            pair == (from, to) || pair == (to, from)
        };
        if sessions.iter().any(taken) {
            continue;
        }
        sessions.push(Session {
            from,
            to,
            interval: match pace {
                Pace::Fast => dice.millis(100..=800),
                Pace::Rfc => dice.millis(500..=4_000),
            },
            kind: *dice.pick(&[Kind::OneWay, Kind::Replies, Kind::BothWays, Kind::BothWays]),
            protect: *dice.pick(&[Protect::Initiator, Protect::Both, Protect::Both]),
            octets: *dice.pick(&[40, 400, 1_200]),
            instance: if dice.chance(50) { dice.between(1..=3) as u32 } else { 0 },
        });
    }
    // Another instance of a pair, now and then.
    if dice.chance(100) {
        let fork = Session {
            instance: 9,
            ..sessions[0].clone()
        };
        sessions.push(fork);
    }
    sessions
}

fn link(dice: &mut Dice) -> Link {
    let delay = dice.millis(1..=150);
    let mut some = |most: u64, chance: u32| {
        if dice.chance(chance) {
            dice.between(0..=most) as u32
        } else {
            0
        }
    };
    let (loss, duplication, reordering, corruption) = (some(300, 400), some(300, 300), some(300, 300), some(100, 200));
    Link {
        jitter: if dice.chance(300) {
            dice.up_to(delay)
        } else {
            Duration::ZERO
        },
        refusal: dice.chance(50).then_some(Refusal::TooBig(1280)),
        loss,
        duplication,
        reordering,
        corruption,
        ..Link::clean(delay)
    }
}

fn script(
    dice: &mut Dice,
    (hosts, sessions): (&[HostPlan], &[Session]),
    horizon: Duration,
    reuses_seeds: bool,
) -> Vec<(Duration, Action)> {
    let mut script = Vec::new();
    for _ in 0..dice.between(0..=10) {
        let at = dice.up_to(horizon);
        match dice.below(100) {
            0..40 => cut(dice, hosts, sessions, at, &mut script),
            40..50 => {
                let (from, to) = two_locators(dice, hosts);
                let link = link(dice);
                script.push((at, Action::SetLink { from, to, link }));
            }
            50..55 => script.push((at, Action::SetAllLinks(link(dice)))),
            55..70 => script.push((
                at,
                Action::Crash {
                    host: dice.below(hosts.len()),
                    down_for: dice.millis(0..=3_000),
                    same_seed: reuses_seeds && dice.chance(700),
                },
            )),
            70..78 => identity(dice, hosts, sessions, at, &mut script),
            78..85 => {
                let locator = any_locator(dice, hosts);
                let told = dice.chance(700);
                let set = |up| Action::SetLocator { locator, up, told };
                script.push((at, set(false)));
                script.push((at + dice.millis(100..=10_000), set(true)));
            }
            other => {
                let (session, reverse) = (dice.below(sessions.len()), dice.chance(500));
                script.push((
                    at,
                    match other {
                        85..92 => Action::Close { session, reverse },
                        92..94 => Action::Establish { session, reverse },
                        94..96 => preferences(dice, hosts),
                        96 => Action::Hint {
                            session,
                            reverse,
                            hint: *dice.pick(&[Hint::Progress, Hint::Stalled]),
                        },
                        97 => {
                            let host = dice.below(hosts.len());
                            Action::SetConfig {
                                host,
                                config: Box::new(another(dice, &hosts[host].config)),
                            }
                        }
                        _ => Action::SetSession {
                            session,
                            running: dice.chance(300),
                        },
                    },
                ));
            }
        }
    }
    script
}

/// A session's ULID pair or any other dies, in one direction or both, and mostly lives again.
fn cut(dice: &mut Dice, hosts: &[HostPlan], sessions: &[Session], at: Duration, script: &mut Vec<(Duration, Action)>) {
    let (from, to) = if dice.chance(600) {
        let session = dice.pick(sessions);
        (session.from, session.to)
    } else {
        two_locators(dice, hosts)
    };
    let directions = *dice.pick(&[[true, false], [false, true], [true, true], [true, true]]);
    let mended = dice.chance(600).then(|| at + dice.millis(100..=8_000));
    let clean = Link::clean(dice.millis(1..=150));
    let dead = Link {
        refusal: dice.chance(200).then_some(Refusal::Unreachable),
        ..Link::dead()
    };
    for (from, to) in [(from, to), (to, from)]
        .into_iter()
        .zip(directions)
        .filter_map(|(pair, is)| is.then_some(pair))
    {
        let set = |link| Action::SetLink { from, to, link };
        script.push((at, set(dead)));
        script.extend(mended.map(|at| (at, set(clean))));
    }
}

/// A host loses some of its locators and gets them back later. Its ULIDs in use stay.
fn identity(
    dice: &mut Dice,
    hosts: &[HostPlan],
    sessions: &[Session],
    at: Duration,
    script: &mut Vec<(Duration, Action)>,
) {
    let host = dice.below(hosts.len());
    let in_use = |index| {
        let ends = sessions.iter().flat_map(|session| [session.from, session.to]);
        index == 0 || ends.into_iter().any(|ulid| ulid == Locator { host, index })
    };
    let present: Vec<_> = (0..hosts[host].locators())
        .map(|index| in_use(index) || dice.chance(400))
        .collect();
    let all = vec![true; present.len()];
    script.push((at, Action::SetIdentity { host, present }));
    if dice.chance(700) {
        let again = Action::SetIdentity { host, present: all };
        script.push((at + dice.millis(0..=8_000), again));
    }
}

/// The highest of four is the last resort.
fn priority(of_four: usize) -> u8 {
    u8::try_from(of_four)
        .ok()
        .filter(|&number| number < 3)
        .unwrap_or(LAST_RESORT)
}

fn preferences(dice: &mut Dice, hosts: &[HostPlan]) -> Action {
    let host = dice.below(hosts.len());
    let preference = |dice: &mut Dice| Preference {
        flags: PreferenceFlags(dice.below(4) as u8),
        priority: priority(dice.below(4)),
        weight: dice.below(4) as u8,
    };
    Action::SetPreferences {
        host,
        preferences: (0..hosts[host].locators()).map(|_| preference(dice)).collect(),
    }
}

fn any_locator(dice: &mut Dice, hosts: &[HostPlan]) -> Locator {
    let host = dice.below(hosts.len());
    Locator {
        host,
        index: dice.below(hosts[host].locators()),
    }
}

fn two_locators(dice: &mut Dice, hosts: &[HostPlan]) -> (Locator, Locator) {
    let from = any_locator(dice, hosts);
    loop {
        let to = any_locator(dice, hosts);
        if to.host != from.host {
            return (from, to);
        }
    }
}

fn adversary(dice: &mut Dice) -> AdversaryPlan {
    AdversaryPlan {
        interval: dice.millis(50..=1_000),
        burst: dice.between(1..=5) as usize,
        replays: dice.between(0..=1000) as u32,
        redirects: dice.between(0..=500) as u32,
        forgeries: Forgery::ALL.to_vec(),
    }
}
