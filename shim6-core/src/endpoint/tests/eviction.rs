//! Contexts that end by themselves (RFC 5533 section 9), and those that make room for others.

use super::stranger::Stranger;
use super::world::{A, B, World, fast, secs};
use crate::wire::{Discard, Message};
use crate::{CloseReason, ContextId, EndpointConfig, Event, LimitsConfig};

const QUIESCENCE: u64 = 600;

fn config() -> EndpointConfig {
    EndpointConfig {
        quiescence: secs(QUIESCENCE),
        ..fast()
    }
}

fn closed(world: &World, host: usize) -> alloc::vec::Vec<(ContextId, CloseReason)> {
    let events = world.hosts[host].events.iter();
    events
        .filter_map(|(_, event)| match event {
            Event::Closed { context, reason, .. } => Some((*context, *reason)),
            _ => None,
        })
        .collect()
}

#[test]
fn quiet_context_is_torn_down_and_never_an_earlier_one() {
    let mut world = World::established(&config());
    let (id, created) = (world.hosts[A].context().id, world.hosts[A].context().created);
    world.run(secs(QUIESCENCE - 10));
    assert_eq!(closed(&world, A), []);
    let is_gone = |world: &World| !closed(world, A).is_empty();
    assert!(world.run_until(secs(11), is_gone).is_some());
    assert_eq!(closed(&world, A), [(id, CloseReason::Quiescent)]);
    assert!(world.now - created >= secs(QUIESCENCE));
    world.run(secs(1));
    for host in [A, B] {
        world.hosts[host].endpoint.contexts.assert_empty();
        assert!(world.hosts[host].dataplane.is_empty());
    }
    assert_eq!(world.log, [], "it goes without a word");
}

#[test]
fn traffic_in_either_direction_keeps_a_context() {
    for from in [A, B] {
        let mut world = World::established(&config());
        let pair = world.pair(from, 1 - from);
        // Far apart, and without replies.
        world.stream(from, pair, secs(QUIESCENCE - 60), false);
        world.run(secs(20 * QUIESCENCE));
        assert_eq!((closed(&world, A).len(), closed(&world, B).len()), (0, 0));
        world.stop_streams();
        world.run(secs(3 * QUIESCENCE));
        assert_eq!((closed(&world, A).len(), closed(&world, B).len()), (1, 1));
    }
}

#[test]
fn last_packet_counts_and_not_the_last_look_at_it() {
    let mut world = World::established(&config());
    world.run(secs(500));
    world.send_payload(A, world.pair(A, B));
    let sent = world.now;
    let is_gone = |world: &World| !closed(world, A).is_empty();
    assert!(world.run_until(secs(3 * QUIESCENCE), is_gone).is_some());
    let age = world.now - sent;
    assert!(age >= secs(QUIESCENCE) && age < secs(QUIESCENCE + 30), "{age:?}");
}

#[test]
fn context_in_use_is_kept_however_quiet() {
    let mut world = World::established(&config());
    let id = world.hosts[A].context().id;
    world.hosts[A].endpoint.set_in_use(id, true);
    world.run(secs(10 * QUIESCENCE));
    assert_eq!((closed(&world, A).len(), closed(&world, B).len()), (0, 1));
    world.hosts[A].endpoint.set_in_use(id, false);
    world.run(secs(QUIESCENCE + 1));
    assert_eq!(closed(&world, A), [(id, CloseReason::Quiescent)]);
}

/// A has room for four contexts.
fn full() -> World {
    let config = EndpointConfig {
        limits: LimitsConfig {
            contexts: 4,
            contexts_per_peer: 3,
            ..LimitsConfig::default()
        },
        ..fast()
    };
    World::new(&config)
}

fn peers(world: &World) -> alloc::vec::Vec<core::net::Ipv6Addr> {
    let mut contexts: alloc::vec::Vec<_> = world.hosts[A].endpoint.contexts().collect();
    contexts.sort_by_key(|context| context.id);
    contexts.iter().map(|context| context.ulids.peer).collect()
}

#[test]
fn longest_idle_context_makes_room_for_a_new_one() {
    let mut world = full();
    let strangers = [50, 51, 52, 53, 54].map(Stranger::number);
    for stranger in &strangers[..4] {
        stranger.establish(&mut world, A);
        world.run(secs(10));
    }
    // The first two have been idle for more than 30 s, the first one longer.
    strangers[4].establish(&mut world, A);
    let expected: alloc::vec::Vec<_> = strangers[1..].iter().map(Stranger::ulid).collect();
    assert_eq!(peers(&world), expected);
    let reasons: alloc::vec::Vec<_> = closed(&world, A).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [CloseReason::Evicted]);
}

#[test]
fn prefix_with_the_most_contexts_makes_room() {
    let mut world = full();
    // One peer, longest idle, and three contexts of another.
    let (one, many) = (Stranger::number(50), Stranger::number(51));
    one.establish(&mut world, A);
    world.run(secs(60));
    for instance in 0..3 {
        let mut i1 = many.i1();
        i1.initiator_context_tag = crate::wire::ContextTag::from_random_bits(1_000 + u64::from(instance));
        i1.forked_instance = (instance > 0).then_some(instance);
        let i2 = many.i2_for(&mut world, A, i1);
        many.send(&mut world, A, &Message::I2(i2));
    }
    assert_eq!(peers(&world).len(), 4);
    world.run(secs(40));
    Stranger::number(52).establish(&mut world, A);
    let left = peers(&world);
    assert!(
        left.contains(&one.ulid()) && left.contains(&Stranger::number(52).ulid()),
        "{left:?}"
    );
    assert_eq!(left.iter().filter(|peer| **peer == many.ulid()).count(), 2);
}

#[test]
fn contexts_with_traffic_or_in_use_make_no_room() {
    let mut world = full();
    let strangers = [50, 51, 52].map(Stranger::number);
    strangers
        .iter()
        .for_each(|stranger| drop(stranger.establish(&mut world, A)));
    let in_use = world.hosts[A]
        .endpoint
        .contexts()
        .map(|context| context.id)
        .min()
        .expect("there are three");
    world.hosts[A].endpoint.set_in_use(in_use, true);
    world.establish(A, B);
    world.run(secs(1));
    let ids: alloc::vec::Vec<_> = world.hosts[A].endpoint.contexts().map(|context| context.id).collect();
    for id in ids.into_iter().filter(|id| *id != in_use) {
        let activity = world.hosts[A].endpoint.context(id).and_then(|context| context.activity);
        let activity = activity.expect("it is established");
        let _ = activity.record_received(world.now + secs(39), 1);
    }
    world.run(secs(40));
    let late = Stranger::number(54);
    let i2 = late.i2(&mut world, A);
    late.send(&mut world, A, &Message::I2(i2));
    assert_eq!(world.hosts[A].discarded(Discard::ContextLimit), 1);
    assert_eq!(closed(&world, A), []);
}

#[test]
fn contexts_of_one_prefix_are_bounded() {
    let config = EndpointConfig {
        limits: LimitsConfig {
            contexts_per_peer: 10,
            contexts_per_prefix: 2,
            ..LimitsConfig::default()
        },
        ..fast()
    };
    let mut world = World::new(&config);
    let stranger = Stranger::new();
    // The set's second address is of the same site.
    for (index, instance) in [(0, 0), (0, 1), (1, 0)] {
        let other = Stranger {
            ulid: stranger.identity.locators()[index],
            ..Stranger::new()
        };
        let mut i1 = other.i1();
        i1.initiator_context_tag = crate::wire::ContextTag::from_random_bits(index as u64 * 10 + u64::from(instance));
        i1.forked_instance = (instance > 0).then_some(instance);
        let mut i2 = other.i2_for(&mut world, A, i1);
        i2.announcement.cga_parameters = Some(stranger.set.parameters_for(index).expect("parameters").to_vec());
        other.send(&mut world, A, &Message::I2(i2));
    }
    assert_eq!(peers(&world), [stranger.ulid(), stranger.ulid()]);
    assert_eq!(world.hosts[A].discarded(Discard::ContextLimit), 1);
    Stranger::number(60).establish(&mut world, A);
    assert_eq!(peers(&world).len(), 3);
}
