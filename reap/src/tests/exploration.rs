//! Order, spacing and backoff of probes (RFC 5534 4.3, 6.5).

use std::time::Duration;
use std::vec::Vec;

use super::world::{Body, World};
use super::{at, events, only_probe, pair, pairs, probe_from_peer, rng, secs, transmits};
use crate::{Cause, Config, Event, Instant, LocatorPair, Probe, ProbeState, Reap, State, Transmit};

/// Runs `reap` alone from `now` for `count` time-outs; gives when it probed which pair in which state.
fn alone(reap: &mut Reap, count: usize, seed: u64) -> Vec<(Instant, LocatorPair, ProbeState)> {
    let rng = &mut rng(seed);
    let mut probes = Vec::new();
    for _ in 0..count {
        let now = reap.poll_timeout().expect("something to wait for");
        reap.handle_timeout(now, rng);
        for transmit in transmits(reap) {
            match transmit {
                Transmit::Probe { pair, probe } => probes.push((now, pair, probe.state)),
                Transmit::Keepalive { .. } => panic!("keepalive while exploring"),
            }
        }
    }
    probes
}

fn exploring(config: Config, pairs: Vec<LocatorPair>) -> Reap {
    let mut reap = Reap::new(config, pairs, pair(0, 0));
    reap.handle_payload_sent(at(1.0));
    reap
}

#[test]
fn four_probes_at_the_initial_spacing_then_it_doubles_up_to_the_limit() {
    let mut reap = exploring(Config::default(), pairs(2, 2));
    let probes = alone(&mut reap, 16, 4);
    assert_eq!(probes[0].0, at(16.0), "the first at the Send Timeout");
    let nominal = [
        0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0,
    ];
    let mut distinct = Vec::new();
    for (gap, nominal) in probes
        .windows(2)
        .map(|two| (two[1].0 - two[0].0).as_secs_f64())
        .zip(nominal)
    {
        assert!(
            gap >= nominal * 0.85 - 1e-6 && gap <= f64::min(nominal * 1.15, 60.0) + 1e-6,
            "{gap} for {nominal}"
        );
        distinct.push(gap / nominal);
    }
    assert!(
        distinct.windows(2).filter(|two| two[0] != two[1]).count() > 8,
        "no jitter: {distinct:?}"
    );
    assert!(probes.iter().all(|probe| probe.2 == ProbeState::Exploring));
}

#[test]
fn after_a_send_timeout_the_current_pair_comes_last_and_the_list_wraps_round() {
    let mut reap = exploring(Config::default(), pairs(2, 2));
    let order: Vec<LocatorPair> = alone(&mut reap, 8, 4).into_iter().map(|probe| probe.1).collect();
    let pass = [pair(0, 1), pair(1, 0), pair(1, 1), pair(0, 0)];
    assert_eq!(order, [pass, pass].concat());
}

#[test]
fn a_requested_exploration_follows_the_order_of_preference() {
    let mut reap = Reap::new(Config::default(), pairs(1, 3), pair(0, 0));
    reap.explore(at(1.0), Cause::Requested, &mut rng(1));
    assert_eq!(only_probe(&mut reap).0, pair(0, 0));
    let order: Vec<LocatorPair> = alone(&mut reap, 2, 4).into_iter().map(|probe| probe.1).collect();
    assert_eq!(order, [pair(0, 1), pair(0, 2)]);
}

#[test]
fn a_local_hint_explores_at_once_and_stops_the_timers() {
    let mut reap = Reap::new(Config::default(), pairs(2, 1), pair(0, 0));
    reap.handle_payload_sent(at(1.0));
    reap.explore(at(2.0), Cause::LocalHint, &mut rng(1));
    let (from, to, cause) = (State::Operational, State::Exploring, Cause::LocalHint);
    assert_eq!(events(&mut reap), [Event::StateChanged { from, to, cause }]);
    let (on, probe) = only_probe(&mut reap);
    assert_eq!((on, probe.state), (pair(1, 0), ProbeState::Exploring));
    assert!(
        reap.poll_timeout().is_some_and(|next| next < at(3.0)),
        "the next probe, not the Send Timer"
    );
}

#[test]
fn repeated_hints_never_probe_faster_than_the_initial_spacing() {
    let mut reap = exploring(Config::default(), pairs(2, 2));
    let mut last = alone(&mut reap, 9, 4)[8].0;
    let rng = &mut rng(1);
    let mut probes = 0;
    for milli in 1..=3000 {
        let now = last + secs(f64::from(milli) / 1000.0);
        reap.explore(now, Cause::LocalHint, rng);
        if reap.poll_timeout().is_some_and(|due| due <= now) {
            reap.handle_timeout(now, rng);
        }
        probes += transmits(&mut reap).len();
    }
    assert!((5..=7).contains(&probes), "{probes} probes in 3 s");
    last += secs(3.0);
    assert!(
        reap.poll_timeout().is_some_and(|next| next - last <= secs(0.575)),
        "hastened"
    );
}

#[test]
fn pairs_of_an_unusable_local_address_are_skipped() {
    let mut reap = exploring(Config::default(), pairs(3, 2));
    reap.set_usable(pair(0, 0).local, false);
    reap.set_usable(pair(2, 0).local, false);
    let order: Vec<LocatorPair> = alone(&mut reap, 4, 4).into_iter().map(|probe| probe.1).collect();
    assert_eq!(order, [pair(1, 0), pair(1, 1), pair(1, 0), pair(1, 1)]);
}

#[test]
fn an_answer_does_not_use_an_unusable_pair() {
    let mut reap = Reap::new(Config::default(), pairs(2, 1), pair(0, 0));
    reap.set_usable(pair(0, 0).local, false);
    let probe = probe_from_peer(ProbeState::Exploring, pair(0, 0), 1, Vec::new());
    reap.handle_probe(at(1.0), pair(0, 0), &probe, &mut rng(1));
    assert_eq!(only_probe(&mut reap).0, pair(1, 0));
}

#[test]
fn without_a_usable_pair_nothing_is_sent_until_one_comes_up() {
    let mut reap = exploring(Config::default(), pairs(2, 1));
    reap.set_usable(pair(0, 0).local, false);
    reap.set_usable(pair(1, 0).local, false);
    assert_eq!(alone(&mut reap, 12, 4), []);
    assert_eq!(reap.state(), State::Exploring);
    let far = reap.poll_timeout().unwrap();

    let now = far - secs(20.0);
    reap.set_usable(pair(1, 0).local, true);
    assert!(
        reap.poll_timeout().is_some_and(|next| next <= now),
        "at once, not after the backed-off interval"
    );
    reap.handle_timeout(now, &mut rng(1));
    assert_eq!(only_probe(&mut reap).0, pair(1, 0));
}

#[test]
fn a_new_pair_is_probed_soon_and_the_pass_goes_on() {
    let mut reap = exploring(Config::default(), pairs(1, 3));
    let last = alone(&mut reap, 8, 4)[7].0;
    let mut more = pairs(1, 3);
    more.insert(0, pair(1, 0));
    reap.set_pairs(more);
    assert_eq!(reap.pairs().len(), 4);
    let next = alone(&mut reap, 1, 4)[0];
    assert_eq!((next.0, next.1), (last + secs(0.5), pair(1, 0)));
}

#[test]
fn no_pairs_at_all_is_survived() {
    let mut reap = Reap::new(Config::default(), Vec::new(), pair(0, 0));
    reap.handle_payload_sent(at(1.0));
    assert_eq!(alone(&mut reap, 20, 4), []);
    let probe = probe_from_peer(ProbeState::Exploring, pair(0, 0), 1, Vec::new());
    reap.handle_probe(at(1000.0), pair(0, 0), &probe, &mut rng(1));
    assert_eq!(reap.state(), State::InboundOk);
    assert_eq!(transmits(&mut reap), []);
}

#[test]
fn the_answer_goes_back_the_way_the_probe_came_once_per_pass() {
    let rng = &mut rng(1);
    let mut reap = Reap::new(Config::default(), pairs(2, 2), pair(0, 0));
    let mut order = Vec::new();
    for nonce in 0..5 {
        let probe = probe_from_peer(ProbeState::Exploring, pair(1, 1), nonce, Vec::new());
        reap.handle_probe(at(1.0 + f64::from(nonce)), pair(1, 1), &probe, rng);
        let (on, answer) = only_probe(&mut reap);
        assert_eq!(answer.state, ProbeState::InboundOk);
        order.push(on);
    }
    // The peer's probes drive the pass; a new pass begins with the way back again.
    assert_eq!(order[..4], [pair(1, 1), pair(0, 1), pair(1, 0), pair(0, 0)]);
    assert_eq!(order[4], pair(0, 1), "the pass ended only with this probe");
}

#[test]
fn the_way_back_is_tried_again_even_if_it_had_its_turn() {
    let mut reap = exploring(Config::default(), pairs(2, 1));
    let tried = alone(&mut reap, 1, 4)[0];
    assert_eq!(tried.1, pair(1, 0));
    let probe = probe_from_peer(ProbeState::Exploring, pair(1, 0), 1, Vec::new());
    reap.handle_probe(tried.0 + secs(0.1), pair(1, 0), &probe, &mut rng(1));
    assert_eq!(only_probe(&mut reap).0, pair(1, 0));
}

#[test]
fn hearing_the_peer_while_exploring_shortens_the_interval_again() {
    let mut reap = exploring(
        Config {
            send_timeout: secs(100.0),
            ..Config::default()
        },
        pairs(2, 2),
    );
    let last = alone(&mut reap, 10, 4)[9].0;
    assert!(reap.poll_timeout().unwrap() - last > secs(10.0));
    let now = last + secs(1.0);
    reap.handle_keepalive(now, &mut rng(1));
    assert_eq!(reap.state(), State::InboundOk);
    assert!(reap.poll_timeout().unwrap() - now <= secs(0.575));
}

#[test]
fn falling_back_to_exploring_does_not_shorten_the_interval() {
    let config = Config {
        send_timeout: secs(3.0),
        ..Config::default()
    };
    let mut reap = exploring(config, pairs(1, 1));
    alone(&mut reap, 1, 4);
    reap.handle_keepalive(reap.poll_timeout().unwrap(), &mut rng(1));
    transmits(&mut reap);
    let probes = alone(&mut reap, 8, 4);
    let back = probes
        .iter()
        .position(|probe| probe.2 == ProbeState::Exploring)
        .expect("the Send Timer ran");
    assert!(probes[back + 1].0 - probes[back].0 >= secs(0.85), "{probes:?}");
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let run = |seed| {
        let mut world = World::new(Config::default(), [3, 3], seed);
        world.loss_per_mille = 100;
        world.flow(0, 0.3, 0.0);
        world.flow(1, 0.7, 0.1);
        world.run_for(20.0);
        world.cut(0, 0, 0);
        world.run_for(100.0);
        (world.log, world.events)
    };
    assert!(run(5) == run(5));
    assert!(run(5) != run(6));
}

#[test]
fn each_direction_finds_a_pair_of_its_own() {
    let mut world = World::new(Config::default(), [2, 2], 3);
    world.flow(0, 0.2, 0.0);
    world.flow(1, 0.2, 0.1);
    world.run_for(5.0);
    // From 0 to 1 only the last pair works, from 1 to 0 only one that shares no address with it.
    for (i, j) in [(0, 0), (0, 1), (1, 0)] {
        world.cut(0, i, j);
    }
    for (i, j) in [(0, 1), (1, 0), (1, 1)] {
        world.cut(1, i, j);
    }
    assert!(world.run_until(at(60.0), World::is_well));
    assert_eq!(world.reap(0).current_pair(), pair(1, 1));
    assert_eq!(world.reap(1).current_pair(), pair(0, 0).seen_by_peer());

    // And the other way round.
    for (i, j) in [(0, 0), (1, 1)] {
        world.cut(0, i, j);
        world.cut(1, i, j);
    }
    world.mend(0, 0, 1);
    world.mend(1, 0, 1);
    assert!(world.run_until(at(180.0), World::is_well));
    assert_eq!(world.reap(0).current_pair(), pair(0, 1));
    assert_eq!(world.reap(1).current_pair(), pair(1, 0).seen_by_peer());
}

#[test]
fn probes_that_all_get_through_late_do_not_make_the_pair_flap() {
    let initial_probe_timeout = Duration::from_millis(25);
    let config = Config {
        send_timeout: secs(2.0),
        initial_probe_timeout,
        ..Config::default()
    };
    let mut world = World::new(config, [2, 2], 3);
    world.delay = secs(0.15);
    world.flow(0, 0.1, 0.0);
    world.flow(1, 0.1, 0.05);
    world.run_for(5.0);
    world.cut(0, 0, 0);
    world.cut(1, 0, 0);
    assert!(world.run_until(at(20.0), World::is_well));
    world.run_for(60.0);
    let probes = world
        .reap_packets()
        .filter(|packet| matches!(packet.body, Body::Probe(Probe { .. })))
        .count();
    assert!(probes > 6, "several were on their way at once: {probes}");
    for host in 0..2 {
        let changes = world
            .events
            .iter()
            .filter(|event| matches!(event, (_, who, Event::PairChanged { .. }) if *who == host));
        assert_eq!(changes.count(), 1, "host {host}");
    }
}

#[test]
fn machine_that_does_not_explore_has_no_room_taken_for_it() {
    // A host may have a million contexts, nearly all of which work.
    assert!(size_of::<Reap>() <= 208, "{}", size_of::<Reap>());
}
