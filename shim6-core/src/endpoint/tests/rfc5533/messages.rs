//! What is in the messages that a host sends (RFC 5533 sections 5 and 7).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::super::recovery::moved;
use super::super::stranger::Stranger;
use super::super::world::{A, B, Sent, World, emit, fast, secs};
use super::r1bis;
use crate::wire::{I2bis, Message, MessageType, R2};
use crate::{ContextState, EndpointConfig, LocatorPair};

fn r2_in(sent: &Sent) -> R2 {
    let Message::R2(r2) = sent.message() else {
        panic!("not an R2")
    };
    r2
}

fn last_i2bis(world: &World) -> (Sent, I2bis) {
    let sent = world.last(MessageType::I2BIS);
    let Message::I2bis(i2bis) = sent.message() else {
        panic!("not an I2bis")
    };
    (sent, i2bis)
}

/// Sections 5.4 and 7.7: nobody can tell them from others, or from another host's.
#[test]
fn nonces_and_tags_of_exchanges_are_all_different() {
    let mut seen = BTreeSet::new();
    for seed in 1..=15 {
        let configs = [EndpointConfig::default(), EndpointConfig::default()];
        let mut world = World::with(&configs, seed);
        for (local, peer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (now, ulids) = (world.now, world.pair_of(A, local, B, peer));
            world.hosts[A].endpoint.establish(now, ulids).expect("there is room");
            world.drain(A);
        }
        for sent in world.sent(MessageType::I1) {
            let Message::I1(i1) = sent.message() else {
                panic!("not an I1")
            };
            seen.insert(u64::from(i1.initiator_nonce));
            seen.insert(i1.initiator_context_tag.value());
        }
    }
    assert_eq!(seen.len(), 15 * 4 * 2);
}

/// Sections 5.5 and 7.10.
#[test]
fn r1_returns_the_nonce_of_the_i1_to_where_it_came_from() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    for to in [0, 1] {
        let local = world.locator(A, to);
        world.inject(stranger.ulid(), local, &emit(&Message::I1(stranger.i1())));
        let sent = world.last(MessageType::R1);
        let Message::R1(r1) = sent.message() else {
            panic!("not an R1")
        };
        assert_eq!(r1.initiator_nonce, stranger.nonce);
        assert!(!r1.validator.is_empty());
        assert_eq!((sent.source, sent.destination), (local, stranger.ulid()));
    }
}

/// Sections 5.6 and 7.11.
#[test]
fn i2_brings_back_what_the_r1_said() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    // Its R1 has 7 and twenty times 1.
    stranger.r2(&mut world, A);
    let Message::I2(i2) = world.last(MessageType::I2).message() else {
        panic!("not an I2")
    };
    assert_eq!((i2.responder_nonce, i2.validator), (7, Vec::from([1; 20])));
    assert_eq!((i2.ulid_pair, i2.forked_instance), (None, None));
    assert_eq!(i2.initiator_context_tag, world.hosts[A].context().local_tag);
    // The list, and what proves it.
    let list = world.hosts[A].endpoint.identity().locator_list();
    assert_eq!(i2.announcement.locators, Some(list));
    assert!(i2.announcement.cga_parameters.is_some());
}

/// Section 7.10: an R2 that answers an I1 has that I1's nonce, and this host's tag and locators.
#[test]
fn r2_that_answers_an_i1_returns_its_nonce_and_changes_nothing() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    stranger.i1_of(&mut world, A);
    stranger.send(&mut world, A, &Message::I1(stranger.i1()));
    let r2 = r2_in(&world.last(MessageType::R2));
    let context = world.hosts[A].context();
    assert_eq!(
        (r2.initiator_nonce, r2.responder_context_tag),
        (stranger.nonce, context.local_tag)
    );
    assert!(r2.announcement.locators.is_some() && r2.announcement.cga_parameters.is_some());
    assert_eq!((context.state, context.peer_tag), (ContextState::I1Sent, None));
}

/// Sections 5.6 and 7.11: the exchange goes on where the R1bis came from.
#[test]
fn i1_and_i2_on_other_addresses_than_the_ulids_name_the_ulids() {
    let mut world = moved(&fast());
    world.stop_streams();
    world.run(secs(1));
    world.restart(B, &fast(), 77);
    world.lose(MessageType::I2BIS, 100);
    let ulids = world.pair(A, B);
    world.send_payload(A, ulids);
    world.run(secs(60));
    let named = [MessageType::I1, MessageType::I2].map(|kind| {
        let sent = world.last(kind);
        assert_ne!(LocatorPair::new(sent.source, sent.destination), ulids);
        match sent.message() {
            Message::I1(i1) => i1.ulid_pair,
            Message::I2(i2) => i2.ulid_pair,
            other => panic!("{other:?}"),
        }
    });
    let named = named.map(|pair| pair.map(|pair| LocatorPair::new(pair.sender, pair.receiver)));
    assert_eq!(named, [Some(ulids); 2]);
}

/// Sections 5.9 and 7.18.
#[test]
fn i2bis_brings_back_what_the_r1bis_said_on_the_same_addresses() {
    for (local, peer) in [(0, 0), (0, 1), (1, 1)] {
        let mut world = World::established(&EndpointConfig::default());
        let context = world.hosts[A].context();
        let tag = context.peer_tag.expect("the peer has told its tag");
        let (ulids, on) = (context.ulids, world.pair_of(A, local, B, peer));
        world.inject(on.peer, on.local, &emit(&Message::R1bis(r1bis(tag))));
        let (sent, i2bis) = last_i2bis(&world);
        assert_eq!(LocatorPair::new(sent.source, sent.destination), on);
        assert_eq!((i2bis.packet_context_tag, i2bis.responder_nonce), (tag, 7));
        assert_eq!(i2bis.validator, [9; 13]);
        assert_eq!(i2bis.initiator_context_tag, context.local_tag);
        let named = i2bis.ulid_pair.map(|pair| LocatorPair::new(pair.sender, pair.receiver));
        assert_eq!(named, (on != ulids).then_some(ulids));
        assert_eq!(i2bis.forked_instance, None);
        assert!(i2bis.announcement.locators.is_some() && i2bis.announcement.cga_parameters.is_some());
        // CT(peer) is as before.
        assert_eq!(world.hosts[A].context().peer_tag, Some(tag));
    }
}

/// Section 7.18.
#[test]
fn i2bis_of_a_fork_names_its_instance() {
    let mut world = World::established(&EndpointConfig::default());
    let (now, ulids) = (world.now, world.pair(A, B));
    let instance = NonZeroU32::new(7).expect("not 0");
    let fork = world.hosts[A].endpoint.fork(now, ulids, instance);
    let fork = fork.expect("there is room");
    world.drain(A);
    world.run(secs(1));
    let tag = world.hosts[A].endpoint.context(fork).and_then(|fork| fork.peer_tag);
    let tag = tag.expect("it is established");
    world.inject(ulids.peer, ulids.local, &emit(&Message::R1bis(r1bis(tag))));
    assert_eq!(last_i2bis(&world).1.forked_instance, Some(7));
}

/// Section 7.12, and the randomisation of section 14.
#[test]
fn i2_is_sent_again_with_backoff_and_randomised() {
    let mut world = World::new(&EndpointConfig::default());
    world.lose(MessageType::I2, 100);
    world.establish(A, B);
    let is_over = |world: &World| world.sent(MessageType::I1).len() == 2;
    assert!(world.run_until(secs(60), is_over).is_some());
    let mut at: Vec<_> = world.sent(MessageType::I2).iter().map(|sent| sent.at).collect();
    assert_eq!(at.len(), 3);
    at.push(world.now);
    for (pair, nominal) in at.windows(2).zip([4, 8, 16]) {
        let wait = pair[1] - pair[0];
        assert!(wait >= secs(nominal) / 2 && wait <= secs(nominal) * 3 / 2, "{wait:?}");
    }
}
