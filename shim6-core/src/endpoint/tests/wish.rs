//! What a transport wishes for its sessions.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::world::{A, B, World, ms, secs};
use crate::wire::{Discard, MessageType};
use crate::{
    Cause, CloseReason, ContextId, EndpointConfig, EstablishError, Event, FailbackConfig, LocatorPair, PathError,
    Protection,
};

/// An established context with requests and replies running over it, and the other pair of locators.
fn busy(config: &EndpointConfig) -> (World, ContextId, LocatorPair) {
    let mut world = World::established(config);
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(3));
    let (id, other) = (world.hosts[A].context().id, world.pair_of(A, 1, B, 1));
    (world, id, other)
}

fn prefer(world: &mut World, id: ContextId, pair: Option<LocatorPair>) -> Result<(), PathError> {
    let done = world.hosts[A].endpoint.prefer(world.now, id, pair);
    world.drain(A);
    done
}

fn changes(world: &World) -> Vec<(LocatorPair, Cause)> {
    let events = world.hosts[A].events.iter();
    let changes = events.filter_map(|(_, event)| match event {
        Event::PathChanged { to, cause, .. } => Some((*to, *cause)),
        _ => None,
    });
    changes.collect()
}

#[test]
fn a_pair_that_is_wished_for_is_taken_once_it_is_stable_and_left_when_the_wish_is_taken_back() {
    let config = EndpointConfig::default();
    let FailbackConfig { stable, .. } = config.failback;
    let (mut world, id, other) = busy(&config);
    prefer(&mut world, id, Some(other)).expect("one of its pairs");
    world.run(stable / 2);
    assert!(changes(&world).is_empty(), "nothing is hurried");
    world.run(stable);
    assert_eq!(changes(&world), [(other, Cause::Preferred)]);
    assert_eq!(world.hosts[A].context().wished, Some(other));
    assert_eq!(world.hosts[B].context().wished, None, "the peer chooses by itself");
    let ulids = world.hosts[A].context().ulids;
    prefer(&mut world, id, None).expect("a wish can be taken back");
    world.run(stable * 2);
    assert_eq!(changes(&world)[1..], [(ulids, Cause::Preferred)]);
}

#[test]
fn after_a_failure_the_context_goes_back_to_the_pair_that_is_wished_for_and_not_to_the_ulids() {
    let config = EndpointConfig::default();
    let (mut world, id, other) = busy(&config);
    prefer(&mut world, id, Some(other)).expect("one of its pairs");
    world.run(config.failback.stable * 2);
    world.cut_both_ways(other);
    world.run(secs(3));
    assert_ne!(world.hosts[A].context().locators, other, "it is dead");
    world.heal(other);
    world.run(config.failback.stable * 4);
    assert_eq!(world.hosts[A].context().locators, other);
    assert!(world.hosts[A].context().failovers >= 3);
}

#[test]
fn a_wish_for_a_dead_pair_moves_nothing() {
    let config = EndpointConfig::default();
    let (mut world, id, other) = busy(&config);
    world.cut_both_ways(other);
    prefer(&mut world, id, Some(other)).expect("one of its pairs");
    world.run(config.failback.stable * 3);
    assert!(changes(&world).is_empty());
}

#[test]
fn pairs_of_others_cannot_be_wished_for() {
    let (mut world, id, other) = busy(&EndpointConfig::default());
    let foreign = LocatorPair::new(other.local, "2001:db8:ffff::1".parse().expect("an address"));
    assert_eq!(prefer(&mut world, id, Some(foreign)), Err(PathError::NotAPair(foreign)));
    assert_eq!(world.hosts[A].context().wished, None);
    world.hosts[A].endpoint.close(id);
    assert_eq!(prefer(&mut world, id, Some(other)), Err(PathError::NoContext));
}

#[test]
fn a_pair_that_shall_have_no_context_loses_those_it_has_and_gets_none() {
    let (mut world, _, _) = busy(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    let fork = NonZeroU32::new(7).expect("not 0");
    world.hosts[A]
        .endpoint
        .fork(world.now, ulids, fork)
        .expect("there is room");
    world.drain(A);
    world.run(secs(1));
    let endpoint = &mut world.hosts[A].endpoint;
    assert_eq!(endpoint.contexts().count(), 2);
    endpoint.set_protection(ulids, Protection::Never);
    assert_eq!(endpoint.protection(ulids), Protection::Never);
    assert_eq!(endpoint.contexts().count(), 0);
    assert_eq!(endpoint.establish(world.now, ulids), Err(EstablishError::Never(ulids)));
    assert_eq!(endpoint.fork(world.now, ulids, fork), Err(EstablishError::Never(ulids)));
    world.drain(A);
    let closed = world.hosts[A].events.iter().filter(|(_, event)| {
        matches!(
            event,
            Event::Closed {
                reason: CloseReason::Requested,
                ..
            }
        )
    });
    assert_eq!(closed.count(), 2);
    // The peer may want what it likes.
    let others: Vec<_> = world.hosts[B].endpoint.contexts().map(|context| context.id).collect();
    others.into_iter().for_each(|id| world.hosts[B].endpoint.close(id));
    world.log.clear();
    world.establish(B, A);
    world.run(secs(3));
    assert!(world.sent(MessageType::R1).is_empty());
    assert!(world.hosts[A].discarded(Discard::NotAnswered) > 0);
    // Other pairs of the two hosts are not meant.
    let other = world.pair_of(A, 1, B, 1);
    world.hosts[A]
        .endpoint
        .establish(world.now, other)
        .expect("another pair");
    // Until it is taken back.
    let endpoint = &mut world.hosts[A].endpoint;
    endpoint.set_protection(ulids, Protection::ByPolicy);
    endpoint.establish(world.now, ulids).expect("it may be had again");
}
