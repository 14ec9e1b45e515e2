//! What holds towards some peers only, and a configuration that changes.

use alloc::vec;
use core::net::Ipv6Addr;

use super::stranger::Stranger;
use super::world::{A, B, World, ms, secs};
use crate::wire::{Discard, Message, MessageType};
use crate::{
    AnswerRule, EndpointConfig, EstablishError, LimitsConfig, LocatorPair, PeerConfig, Prefix, Profile, ReapConfig,
};

fn towards(address: Ipv6Addr, length: u8) -> PeerConfig {
    PeerConfig {
        prefix: Prefix { address, length },
        profile: Profile::Rfc,
        reap: ReapConfig::rfc(),
        contexts_per_peer: None,
    }
}

fn rule(address: Ipv6Addr, length: u8, answer: bool) -> AnswerRule {
    AnswerRule {
        peers: vec![Prefix { address, length }],
        locals: None,
        answer,
    }
}

fn send_timeout(world: &World, host: usize) -> core::time::Duration {
    world.hosts[host].context().send_timeout
}

#[test]
fn the_longest_prefix_that_has_the_peer_says_which_timers_are_used() {
    let ulid = World::new(&EndpointConfig::default()).pair(A, B).peer;
    let slower = PeerConfig {
        reap: ReapConfig {
            send_timeout: secs(20),
            ..ReapConfig::rfc()
        },
        ..towards(ulid, 48)
    };
    let elsewhere = PeerConfig {
        reap: ReapConfig {
            send_timeout: secs(90),
            ..ReapConfig::rfc()
        },
        ..towards("2001:db8:ffff::".parse().expect("an address"), 128)
    };
    let config = EndpointConfig {
        peers: vec![towards(ulid, 32), slower, elsewhere],
        ..EndpointConfig::default()
    };
    let world = World::with(&[config, EndpointConfig::default()], 1);
    let mut world = world;
    world.establish(A, B);
    world.run(secs(1));
    assert_eq!(send_timeout(&world, A), secs(20));
    // The peer is told nothing of milliseconds, and so uses the RFC's values as well.
    assert_eq!(send_timeout(&world, B), secs(15));
    let mut plain = World::established(&EndpointConfig::default());
    plain.run(secs(1));
    assert!(send_timeout(&plain, A) < secs(1) && send_timeout(&plain, B) < secs(1));
}

#[test]
fn who_is_not_to_be_answered_gets_no_context_and_no_answer() {
    let stranger = Stranger::new();
    let mut world = World::new(&EndpointConfig::default());
    let i2 = stranger.i2(&mut world, A);
    let config = EndpointConfig {
        answers: vec![rule(stranger.ulid(), 128, false), rule(stranger.ulid(), 0, true)],
        ..EndpointConfig::default()
    };
    world.hosts[A].endpoint.set_config(world.now, config);
    world.log.clear();
    stranger.send(&mut world, A, &Message::I2(i2));
    world.run(ms(100));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
    assert_eq!(world.hosts[A].discarded(Discard::NotAnswered), 1);
    assert_eq!(
        (world.sent(MessageType::R1).len(), world.sent(MessageType::R2).len()),
        (0, 0)
    );
    // Others are answered, and this host may still ask.
    world.establish(B, A);
    world.run(secs(1));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 1);
}

#[test]
fn a_rule_about_another_ulid_of_this_host_does_not_fit() {
    let mut world = World::new(&EndpointConfig::default());
    let ulids = world.pair(B, A);
    let only = |local| EndpointConfig {
        answers: vec![AnswerRule {
            peers: vec![],
            locals: Some(vec![local]),
            answer: false,
        }],
        ..EndpointConfig::default()
    };
    let other = world.locator(A, 1);
    world.hosts[A].endpoint.set_config(world.now, only(other));
    world.establish(B, A);
    world.run(secs(1));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 1);
    // A context that is there goes on whatever the rules say by then.
    world.hosts[A].endpoint.set_config(world.now, only(ulids.peer));
    world.stream(B, ulids, ms(20), true);
    world.run(secs(5));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 1);
    assert_eq!(world.hosts[A].discarded(Discard::NotAnswered), 0);
}

#[test]
fn limits_change_with_the_configuration_and_can_be_another_for_some_peers() {
    let mut world = World::established(&EndpointConfig::default());
    let second = world.pair_of(A, 1, B, 0);
    let limits = LimitsConfig {
        contexts_per_peer: 1,
        ..LimitsConfig::default()
    };
    let config = EndpointConfig {
        limits,
        ..EndpointConfig::default()
    };
    let now = world.now;
    world.hosts[A].endpoint.set_config(now, config.clone());
    let establish = |world: &mut World, ulids: LocatorPair| world.hosts[A].endpoint.establish(now, ulids);
    assert_eq!(establish(&mut world, second), Err(EstablishError::Limit));
    let peer = PeerConfig {
        contexts_per_peer: Some(2),
        ..towards(second.peer, 64)
    };
    let config = EndpointConfig {
        peers: vec![peer],
        ..config
    };
    world.hosts[A].endpoint.set_config(now, config);
    assert!(establish(&mut world, second).is_ok());
}

#[test]
fn a_shorter_quiescence_holds_for_contexts_that_are_there() {
    let mut world = World::established(&EndpointConfig::default());
    world.run(secs(60));
    let config = EndpointConfig {
        quiescence: secs(300),
        ..EndpointConfig::default()
    };
    let now = world.now;
    world.hosts[A].endpoint.set_config(now, config);
    world.drain(A);
    world.run(secs(200));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 1);
    world.run(secs(60));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
}
