//! What both ends tell each other of their Send Timeouts (RFC 5534 section 5.3), and what they make of it.

use core::time::Duration;

use super::stranger::Stranger;
use super::world::{A, B, World, fast, ms, rfc, secs};
use crate::wire::{Message, MessageType};
use crate::{EndpointConfig, ReapConfig};

fn with_send_timeout(send_timeout: Duration) -> EndpointConfig {
    EndpointConfig {
        reap: ReapConfig {
            send_timeout,
            ..ReapConfig::rfc()
        },
        ..EndpointConfig::default()
    }
}

fn reap_config(world: &World, host: usize) -> ReapConfig {
    let id = world.hosts[host].context().id;
    let context = world.hosts[host]
        .endpoint
        .contexts
        .get(id)
        .expect("the context is there");
    let association = context.association.as_ref().expect("the context is established");
    *association.reap.config()
}

/// The values of a host that a peer told these options, as initiator and as responder.
fn told(config: &EndpointConfig, seconds: Option<u16>, milliseconds: Option<u32>) -> ReapConfig {
    let stranger = Stranger::new();
    let mut responder = World::new(config);
    let mut i2 = stranger.i2(&mut responder, A);
    (i2.announcement.keepalive_timeout, i2.announcement.keepalive_timeout_ms) = (seconds, milliseconds);
    stranger.send(&mut responder, A, &Message::I2(i2));
    let mut initiator = World::new(config);
    let mut r2 = stranger.r2(&mut initiator, A);
    (r2.announcement.keepalive_timeout, r2.announcement.keepalive_timeout_ms) = (seconds, milliseconds);
    stranger.send(&mut initiator, A, &Message::R2(r2));
    assert_eq!(reap_config(&responder, A), reap_config(&initiator, A));
    reap_config(&initiator, A)
}

/// The options in what a host sends, in seconds and milliseconds.
fn announced(config: &EndpointConfig) -> (Option<u16>, Option<u32>) {
    let mut world = World::new(config);
    world.establish(A, B);
    world.run(secs(1));
    let Message::I2(i2) = world.last(MessageType::I2).message() else {
        panic!("not an I2")
    };
    let Message::R2(r2) = world.last(MessageType::R2).message() else {
        panic!("not an R2")
    };
    let options = (i2.announcement.keepalive_timeout, i2.announcement.keepalive_timeout_ms);
    assert_eq!(
        (r2.announcement.keepalive_timeout, r2.announcement.keepalive_timeout_ms),
        options
    );
    options
}

#[test]
fn peers_that_announce_milliseconds_use_them() {
    let world = World::established(&fast());
    for host in [A, B] {
        assert_eq!(reap_config(&world, host), fast().reap);
    }
    assert_eq!(
        told(&fast(), None, Some(700)),
        ReapConfig {
            keepalive_timeout: ms(700),
            ..fast().reap
        }
    );
    // Whoever says both knows milliseconds.
    assert_eq!(told(&fast(), Some(15), Some(700)).keepalive_timeout, ms(700));
}

#[test]
fn peers_that_announce_nothing_get_the_rfcs_values() {
    assert_eq!(told(&fast(), None, None), ReapConfig::default());
    assert_eq!(told(&EndpointConfig::default(), None, None), ReapConfig::default());
    let slow = with_send_timeout(secs(40));
    assert_eq!(told(&slow, None, None), slow.reap);
}

#[test]
fn announced_seconds_are_for_our_keepalives_only() {
    let expected = ReapConfig {
        keepalive_timeout: secs(30),
        ..ReapConfig::default()
    };
    assert_eq!(told(&fast(), Some(30), None), expected);
    assert_eq!(
        told(&fast(), Some(3), None),
        ReapConfig {
            keepalive_timeout: secs(3),
            ..ReapConfig::default()
        }
    );
    assert_eq!(told(&fast(), Some(0), None), ReapConfig::default());
}

#[test]
fn absurd_announcements_are_brought_into_range() {
    assert_eq!(told(&fast(), None, Some(0)).keepalive_timeout, ms(50));
    assert_eq!(told(&fast(), None, Some(u32::MAX)).keepalive_timeout, secs(300));
    assert_eq!(told(&fast(), Some(u16::MAX), None).keepalive_timeout, secs(300));
}

#[test]
fn seconds_are_announced_only_when_not_the_default() {
    assert_eq!(announced(&with_send_timeout(secs(15))), (None, Some(15_000)));
    assert_eq!(announced(&EndpointConfig::default()), (None, Some(120)));
    // Towards a peer that knows only seconds we use 15 s, so there is nothing to tell.
    assert_eq!(announced(&fast()), (None, Some(500)));
    assert_eq!(announced(&with_send_timeout(secs(20))), (Some(20), Some(20_000)));
    assert_eq!(announced(&with_send_timeout(ms(20_001))), (Some(21), Some(20_001)));
    assert_eq!(
        announced(&with_send_timeout(secs(100_000))),
        (Some(u16::MAX), Some(100_000_000))
    );
}

#[test]
fn the_profile_of_the_rfc_announces_no_milliseconds_and_heeds_none() {
    assert_eq!(announced(&rfc()), (None, None));
    assert_eq!(told(&rfc(), None, Some(150)), ReapConfig::rfc());
    assert_eq!(told(&EndpointConfig::default(), None, Some(120)), ReapConfig::fast());
    for configs in [[rfc(), EndpointConfig::default()], [EndpointConfig::default(), rfc()]] {
        let mut world = World::with(&configs, 1);
        world.establish(A, B);
        world.run(secs(1));
        for host in [A, B] {
            assert_eq!(reap_config(&world, host), ReapConfig::rfc());
        }
    }
}

#[test]
fn hosts_with_different_timeouts_are_content_with_each_other() {
    for configs in [
        [with_send_timeout(secs(15)), fast()],
        [fast(), EndpointConfig::default()],
    ] {
        for sender in [A, B] {
            let mut world = World::with(&configs, 1);
            world.establish(A, B);
            world.run(secs(1));
            let receiver = 1 - sender;
            world.stream(sender, world.pair(sender, receiver), ms(20), false);
            world.run(secs(60));
            assert!(world.sent(MessageType::PROBE).is_empty());
            assert!(!world.sent(MessageType::KEEPALIVE).is_empty());
        }
    }
}

#[test]
fn timeouts_of_zero_do_not_stop_time() {
    let reap = ReapConfig {
        send_timeout: Duration::ZERO,
        keepalive_timeout: Duration::ZERO,
        keepalive_interval: Some(Duration::ZERO),
        initial_probe_timeout: Duration::ZERO,
        initial_probes: 0,
        max_probe_timeout: Duration::ZERO,
        follow_rtt: true,
    };
    let mut world = World::established(&EndpointConfig {
        reap,
        ..EndpointConfig::default()
    });
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(1));
    world.cut_both_ways(world.pair(A, B));
    world.run(secs(1));
}

#[test]
fn keepalives_are_in_time_for_a_peer_that_is_faster_than_their_configured_interval() {
    let slow = EndpointConfig {
        reap: ReapConfig {
            keepalive_interval: Some(secs(5)),
            ..ReapConfig::default()
        },
        ..EndpointConfig::default()
    };
    assert_eq!(told(&slow, None, Some(300)).keepalive_interval, Some(ms(150)));
    assert_eq!(told(&slow, None, Some(60_000)).keepalive_interval, Some(secs(5)));
}

/// RFC 5534 section 5.3: the option may come in an Update Request as well.
#[test]
fn update_request_changes_the_timers_if_it_says_so() {
    let mut world = World::new(&fast());
    let stranger = Stranger::new();
    let r2 = stranger.establish(&mut world, A);
    let before = reap_config(&world, A);
    let mut request = crate::wire::UpdateRequest {
        receiver_context_tag: r2.responder_context_tag,
        request_nonce: 1,
        announcement: Default::default(),
    };
    stranger.send(&mut world, A, &Message::UpdateRequest(request.clone()));
    assert_eq!(reap_config(&world, A), before);
    request.announcement.keepalive_timeout_ms = Some(700);
    stranger.send(&mut world, A, &Message::UpdateRequest(request));
    assert_eq!(reap_config(&world, A).keepalive_timeout, ms(700));
}
