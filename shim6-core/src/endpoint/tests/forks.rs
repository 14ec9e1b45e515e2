//! Several contexts for one ULID pair (RFC 5533 sections 4.2 and 7.15).

use core::num::NonZeroU32;

use super::packets::datagram;
use super::world::{A, B, World, fast, secs};
use crate::dataplane::{Inbound, Outbound, PAYLOAD_HEADER_LEN};
use crate::wire::{Message, MessageType};
use crate::{CloseReason, ContextId, ContextState, EstablishError, Event};

fn instance(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("a fork is not instance 0")
}

/// A context and a fork of it.
fn forked() -> (World, ContextId) {
    let mut world = World::established(&fast());
    let ulids = world.pair(A, B);
    let id = world.hosts[A]
        .endpoint
        .fork(world.now, ulids, instance(7))
        .expect("there is room");
    world.drain(A);
    world.run(secs(1));
    (world, id)
}

#[test]
fn fork_is_another_context_of_the_same_ulids() {
    let (world, id) = forked();
    for host in [A, B] {
        let mut contexts: alloc::vec::Vec<_> = world.hosts[host].endpoint.contexts().collect();
        contexts.sort_by_key(|context| context.forked_instance);
        let [main, fork] = &contexts[..] else {
            panic!("{contexts:?}")
        };
        assert_eq!((main.forked_instance, fork.forked_instance), (0, 7));
        assert_eq!(main.ulids, fork.ulids);
        assert_eq!(fork.state, ContextState::Established);
        assert!(main.local_tag != fork.local_tag && main.peer_tag != fork.peer_tag);
    }
    assert_eq!(
        world.hosts[A]
            .endpoint
            .context(id)
            .map(|context| context.forked_instance),
        Some(7)
    );
    for kind in [MessageType::I1, MessageType::I2] {
        let instance = match world.last(kind).message() {
            Message::I1(i1) => i1.forked_instance,
            Message::I2(i2) => i2.forked_instance,
            other => panic!("{other:?}"),
        };
        assert_eq!(instance, Some(7));
    }
}

#[test]
fn an_instance_that_is_offered_can_be_forked() {
    let (mut world, _) = forked();
    let ulids = world.pair(A, B);
    for count in 2..10 {
        let endpoint = &mut world.hosts[A].endpoint;
        let instance = endpoint.unused_instance(ulids);
        endpoint.fork(world.now, ulids, instance).expect("nobody has it");
        assert_eq!(endpoint.contexts().count(), count + 1);
        world.drain(A);
    }
}

#[test]
fn instance_can_be_forked_once() {
    let (mut world, id) = forked();
    let ulids = world.pair(A, B);
    let endpoint = &mut world.hosts[A].endpoint;
    assert_eq!(
        endpoint.fork(world.now, ulids, instance(7)),
        Err(EstablishError::Exists(id))
    );
    assert!(endpoint.fork(world.now, ulids, instance(8)).is_ok());
}

/// What an upper layer assigns to the fork takes its path, the rest stays where it is.
#[test]
fn packets_of_a_fork_take_its_path_and_arrive_as_they_were_sent() {
    let (mut world, id) = forked();
    let ulids = world.pair(A, B);
    // The fork leaves the ULIDs: its own REAP is asked to, as an upper layer's wish would.
    let now = world.now;
    world.hosts[A]
        .endpoint
        .with_reap(now, id, |reap, rng| reap.explore(now, crate::Cause::LocalHint, rng));
    world.drain(A);
    let is_moved = |world: &World| {
        let fork = world.hosts[A].endpoint.context(id).expect("it is there");
        fork.locators != ulids
    };
    assert!(world.run_until(secs(2), is_moved).is_some());
    let packet = datagram(ulids, 9, 1);
    let mut buffer = alloc::vec![0; PAYLOAD_HEADER_LEN];
    buffer.extend_from_slice(&packet);
    let dataplane = &world.hosts[A].dataplane;
    assert!(matches!(
        dataplane.outbound(&mut buffer.clone(), PAYLOAD_HEADER_LEN, now),
        Outbound::Unchanged { .. }
    ));
    let Outbound::Rewritten { start, flow, .. } = dataplane.outbound_on(7, &mut buffer, PAYLOAD_HEADER_LEN, now) else {
        panic!("the fork's packets are rewritten")
    };
    assert_eq!(flow.context, id);
    let mut wire = buffer.split_off(start);
    let Inbound::Restored { start, flow, .. } = world.hosts[B].dataplane.inbound(&mut wire, 0, now) else {
        panic!("the peer has the fork")
    };
    assert_eq!(flow.forked_instance, 7);
    assert_eq!(wire[start..], packet);
}

#[test]
fn fork_that_the_peer_has_lost_is_recovered_as_a_fork() {
    let (mut world, _) = forked();
    world.restart(B, &fast(), 77);
    // A's contexts say something with their tags.
    let preference = crate::wire::Preference {
        priority: 1,
        ..Default::default()
    };
    world.set_preferences(A, &[(world.locator(A, 0), preference)]);
    world.run(secs(2));
    let mut instances: alloc::vec::Vec<_> = world.hosts[B].endpoint.contexts().map(|c| c.forked_instance).collect();
    instances.sort_unstable();
    assert_eq!(instances, [0, 7]);
}

/// The peer gives the main context's tag to the fork, so it has lost the main one (section 7.15).
#[test]
fn fork_with_the_tag_of_another_instance_replaces_it() {
    let mut world = World::established(&fast());
    let ulids = world.pair(A, B);
    let old = world.hosts[B].context();
    let tag = world.hosts[A].context().local_tag;
    world.restart(A, &fast(), 77);
    let id = world.hosts[A]
        .endpoint
        .fork(world.now, ulids, instance(3))
        .expect("there is room");
    while world.hosts[A].endpoint.poll_transmit(&mut [0; 1_280]).is_some() {}
    world.hosts[A].endpoint.contexts.set_local_tag(id, tag);
    world.run(secs(10));
    let context = world.hosts[B].context();
    assert_eq!((context.forked_instance, context.peer_tag), (3, Some(tag)));
    let closed = Event::Closed {
        context: old.id,
        ulids: old.ulids,
        reason: CloseReason::Confusion,
    };
    assert!(world.hosts[B].events.iter().any(|(_, event)| *event == closed));
}

/// The upper layers still talk, so the context that was removed is set up again (section 7.6).
#[test]
fn confused_context_with_traffic_is_set_up_again() {
    let mut world = World::established(&fast());
    let ulids = world.pair(A, B);
    world.stream(B, ulids.seen_by_peer(), super::world::ms(50), true);
    world.run(secs(1));
    let tag = world.hosts[A].context().local_tag;
    world.restart(A, &fast(), 77);
    let other = world.pair_of(A, 1, B, 0);
    let id = world.hosts[A]
        .endpoint
        .establish(world.now, other)
        .expect("there is room");
    while world.hosts[A].endpoint.poll_transmit(&mut [0; 1_280]).is_some() {}
    world.hosts[A].endpoint.contexts.set_local_tag(id, tag);
    world.run(secs(15));
    let established = |host: usize| {
        let contexts = world.hosts[host].endpoint.contexts();
        contexts
            .filter(|context| context.state == ContextState::Established)
            .count()
    };
    assert_eq!((established(A), established(B)), (2, 2));
}
