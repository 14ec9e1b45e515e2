//! What others may send in a peer's name, and what is sent again: it changes nothing, and is counted.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use shim6_reap::{Probe as Report, ProbeRecord, ProbeState};

use super::stranger::Stranger;
use super::world::{A, B, World, emit, fast, identity, secs};
use crate::wire::{ContextTag, Discard, Keepalive, Message, MessageType, Probe, R1, UlidPair};
use crate::{ContextState, EndpointConfig};

/// What must not change, as text.
fn state(world: &World, host: usize) -> String {
    let endpoint = &world.hosts[host].endpoint;
    let mut contexts: Vec<_> = endpoint.contexts.iter().collect();
    contexts.sort_by_key(|context| context.id);
    format!(
        "{contexts:?} {:?} {:?}",
        endpoint.poll_timeout(),
        world.hosts[host].events
    )
}

/// The message is dropped for this reason, without a trace or an answer.
fn assert_dropped(world: &mut World, host: usize, from: Ipv6Addr, to: Ipv6Addr, message: &Message, reason: Discard) {
    let sent = world.log.len();
    assert_not_taken(world, host, from, to, message, reason);
    assert_eq!(world.log.len(), sent, "{message:?} was answered");
}

/// The message is dropped for this reason, without a trace, but its sender is told that it has a context that is lost.
fn assert_unknown(world: &mut World, host: usize, from: Ipv6Addr, to: Ipv6Addr, message: &Message, reason: Discard) {
    let sent = world.log.len();
    assert_not_taken(world, host, from, to, message, reason);
    let answers: Vec<_> = world.log[sent..]
        .iter()
        .map(|sent| (sent.kind, sent.destination))
        .collect();
    assert_eq!(answers, [(Some(MessageType::R1BIS), from)], "{message:?}");
}

fn assert_not_taken(world: &mut World, host: usize, from: Ipv6Addr, to: Ipv6Addr, message: &Message, reason: Discard) {
    let (before, count) = (state(world, host), world.hosts[host].discarded(reason));
    world.inject_at(host, from, to, &emit(message));
    assert_eq!(
        world.hosts[host].discarded(reason),
        count + 1,
        "{message:?}: {:?}",
        world.hosts[host].discards()
    );
    assert_eq!(state(world, host), before, "{message:?}");
}

#[test]
fn forged_r1_is_dropped() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i1 = stranger.i1_of(&mut world, A);
    let (a, other) = (world.locator(A, 0), identity(60).locators()[0]);
    let r1 = |nonce| {
        Message::R1(R1 {
            initiator_nonce: nonce,
            responder_nonce: 1,
            validator: Vec::from([0; 20]),
        })
    };
    let reason = Discard::NoMatchingInitiator;
    assert_dropped(&mut world, A, stranger.ulid(), a, &r1(i1.initiator_nonce ^ 1), reason);
    assert_dropped(&mut world, A, other, a, &r1(i1.initiator_nonce), reason);
    let second = world.locator(A, 1);
    assert_dropped(&mut world, A, stranger.ulid(), second, &r1(i1.initiator_nonce), reason);
    assert_eq!(world.hosts[A].context().state, ContextState::I1Sent);
    // The right one is taken, but only once.
    stranger.send(&mut world, A, &r1(i1.initiator_nonce));
    assert_eq!(world.hosts[A].context().state, ContextState::I2Sent);
    assert_dropped(
        &mut world,
        A,
        stranger.ulid(),
        a,
        &r1(i1.initiator_nonce),
        Discard::WrongState,
    );
}

#[test]
fn forged_r2_is_dropped() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let r2 = stranger.r2(&mut world, A);
    let (a, second) = (world.locator(A, 0), world.locator(A, 1));
    let reason = Discard::NoMatchingInitiator;
    let mut wrong_nonce = r2.clone();
    wrong_nonce.initiator_nonce ^= 1;
    assert_dropped(&mut world, A, stranger.ulid(), a, &Message::R2(wrong_nonce), reason);
    let from = stranger.identity.locators()[1];
    assert_dropped(&mut world, A, from, a, &Message::R2(r2.clone()), reason);
    assert_dropped(&mut world, A, stranger.ulid(), second, &Message::R2(r2.clone()), reason);
    let other = identity(60).locators()[0];
    assert_dropped(&mut world, A, other, a, &Message::R2(r2.clone()), reason);
    stranger.send(&mut world, A, &Message::R2(r2.clone()));
    assert_eq!(world.hosts[A].context().state, ContextState::Established);
    assert_dropped(&mut world, A, stranger.ulid(), a, &Message::R2(r2), reason);
}

fn probe(tag: ContextTag, source: Ipv6Addr, destination: Ipv6Addr, state: ProbeState) -> Message {
    let record = ProbeRecord {
        source,
        destination,
        nonce: 99,
        data: 0,
    };
    let report = Report {
        state,
        sent: Vec::from([record]),
        received: Vec::new(),
    };
    Message::Probe(Probe {
        receiver_context_tag: tag,
        report,
    })
}

#[test]
fn forged_keepalive_and_probe_are_dropped() {
    let mut world = World::established(&fast());
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    let tag = world.hosts[A]
        .dataplane
        .flow(world.pair(A, B))
        .expect("there is a flow")
        .local_tag;
    let wrong = ContextTag::from_random_bits(tag.value() ^ 1);
    let other = identity(60).locators()[0];
    for (tag, from, reason) in [(wrong, b, Discard::NoContext), (tag, other, Discard::LocatorNotInSet)] {
        let keepalive = Message::Keepalive(Keepalive {
            receiver_context_tag: tag,
        });
        assert_unknown(&mut world, A, from, a, &keepalive, reason);
        for state in [ProbeState::Operational, ProbeState::Exploring, ProbeState::InboundOk] {
            assert_unknown(&mut world, A, from, a, &probe(tag, from, a, state), reason);
        }
    }
}

#[test]
fn keepalive_and_probe_before_the_context_is_established_are_dropped() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i1 = stranger.i1_of(&mut world, A);
    let a = world.locator(A, 0);
    let keepalive = Message::Keepalive(Keepalive {
        receiver_context_tag: i1.initiator_context_tag,
    });
    assert_dropped(&mut world, A, stranger.ulid(), a, &keepalive, Discard::WrongState);
    let probe = probe(i1.initiator_context_tag, stranger.ulid(), a, ProbeState::Exploring);
    assert_dropped(&mut world, A, stranger.ulid(), a, &probe, Discard::WrongState);
}

/// Whoever can see a tag still cannot redirect payload: that takes the nonce of a probe that we sent to the new place.
#[test]
fn probe_without_our_nonces_moves_no_payload() {
    let mut world = World::new(&fast());
    let stranger = Stranger::new();
    let r2 = stranger.establish(&mut world, A);
    let a = world.locator(A, 0);
    let second = stranger.identity.locators()[1];
    let reported: Vec<_> = (0..15)
        .map(|nonce| ProbeRecord {
            source: a,
            destination: second,
            nonce,
            data: 0,
        })
        .collect();
    let record = ProbeRecord {
        source: second,
        destination: a,
        nonce: 99,
        data: 0,
    };
    for state in [ProbeState::Exploring, ProbeState::InboundOk, ProbeState::Operational] {
        let report = Report {
            state,
            sent: Vec::from([record]),
            received: reported.clone(),
        };
        let message = Message::Probe(Probe {
            receiver_context_tag: r2.responder_context_tag,
            report,
        });
        world.inject(second, a, &emit(&message));
        world.run(secs(2));
        assert_eq!(world.hosts[A].context().locators.peer, stranger.ulid());
    }
}

#[test]
fn replayed_i2_is_stale_after_the_validator_lifetime() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i2 = Message::I2(stranger.i2(&mut world, A));
    let a = world.locator(A, 0);
    world.run(secs(30));
    stranger.send(&mut world, A, &i2);
    let id = world.hosts[A].context().id;
    world.hosts[A].endpoint.close(id);
    world.drain(A);
    world.run(secs(8));
    assert_dropped(&mut world, A, stranger.ulid(), a, &i2, Discard::StaleValidator);
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
}

#[test]
fn i2_with_anything_that_the_validator_vouches_for_changed_is_dropped() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i2 = stranger.i2(&mut world, A);
    let (ulid, second) = (stranger.ulid(), stranger.identity.locators()[1]);
    let (a, a2) = (world.locator(A, 0), world.locator(A, 1));
    let reason = Discard::BadValidator;

    let mut changed = i2.clone();
    changed.initiator_context_tag = ContextTag::from_random_bits(5);
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), reason);
    let mut changed = i2.clone();
    changed.forked_instance = Some(1);
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), reason);
    let mut changed = i2.clone();
    changed.validator[3] ^= 1;
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), reason);
    let mut changed = i2.clone();
    changed.validator.truncate(19);
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), reason);
    let mut changed = i2.clone();
    changed.ulid_pair = Some(UlidPair {
        sender: second,
        receiver: a,
    });
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), reason);
    let mut changed = i2.clone();
    changed.ulid_pair = Some(UlidPair {
        sender: ulid,
        receiver: a2,
    });
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), reason);
    // From or to another locator than the I1, with the ULIDs spelled out so that only the locators differ.
    let mut spelled = i2.clone();
    spelled.ulid_pair = Some(UlidPair {
        sender: ulid,
        receiver: a,
    });
    assert_dropped(&mut world, A, second, a, &Message::I2(spelled.clone()), reason);
    assert_dropped(&mut world, A, ulid, a2, &Message::I2(spelled), reason);
    let mut changed = i2.clone();
    changed.responder_nonce = changed.responder_nonce.wrapping_add(1);
    assert_dropped(&mut world, A, ulid, a, &Message::I2(changed), Discard::StaleValidator);
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);

    // The Initiator Nonce may change between I1 and I2, and comes back in the R2.
    let mut changed = i2;
    changed.initiator_nonce ^= 1;
    stranger.send(&mut world, A, &Message::I2(changed.clone()));
    let Message::R2(r2) = world.last(MessageType::R2).message() else {
        panic!("not an R2")
    };
    assert_eq!(r2.initiator_nonce, changed.initiator_nonce);
}

#[test]
fn exchange_about_ulids_that_are_not_ours_or_no_peers_is_dropped() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let (a, a2) = (world.locator(A, 0), world.locator(A, 1));
    let pairs = [
        (stranger.ulid(), world.locator(B, 0)),
        (a2, a),
        (Ipv6Addr::LOCALHOST, a),
        ("ff02::1".parse().expect("an address"), a),
        ("fe80::1".parse().expect("an address"), a),
        (Ipv6Addr::UNSPECIFIED, a),
    ];
    for (sender, receiver) in pairs {
        let mut i1 = stranger.i1();
        i1.ulid_pair = Some(UlidPair { sender, receiver });
        assert_dropped(
            &mut world,
            A,
            stranger.ulid(),
            a,
            &Message::I1(i1),
            Discard::LocatorNotInSet,
        );
    }
}

/// Section 7.9: an I1 from elsewhere does not get the R2 of an established context.
#[test]
fn i1_from_outside_the_peers_locators_gets_no_r2() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    stranger.establish(&mut world, A);
    let a = world.locator(A, 0);
    let mut i1 = stranger.i1();
    i1.ulid_pair = Some(UlidPair {
        sender: stranger.ulid(),
        receiver: a,
    });
    let answers = |world: &World| (world.sent(MessageType::R1).len(), world.sent(MessageType::R2).len());
    let before = answers(&world);
    world.inject(identity(60).locators()[0], a, &emit(&Message::I1(i1.clone())));
    assert_eq!(answers(&world), (before.0 + 1, before.1));
    world.inject(stranger.identity.locators()[1], a, &emit(&Message::I1(i1)));
    assert_eq!(answers(&world), (before.0 + 1, before.1 + 1));
}

/// A third party cannot have a context's payload sent to it: the locator of the I2 must be the peer's own.
#[test]
fn exchange_from_a_locator_that_is_not_the_peers_sets_up_nothing() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let (a, elsewhere) = (world.locator(A, 0), identity(60).locators()[0]);
    let mut i1 = stranger.i1();
    i1.ulid_pair = Some(UlidPair {
        sender: stranger.ulid(),
        receiver: a,
    });
    world.inject(elsewhere, a, &emit(&Message::I1(i1.clone())));
    let Message::R1(r1) = world.last(MessageType::R1).message() else {
        panic!("not an R1")
    };
    let mut i2 = stranger.i2_for(&mut world, A, i1);
    (i2.responder_nonce, i2.validator) = (r1.responder_nonce, r1.validator);
    assert_dropped(
        &mut world,
        A,
        elsewhere,
        a,
        &Message::I2(i2.clone()),
        Discard::LocatorNotInSet,
    );
    (i2.announcement.locators, i2.announcement.cga_parameters) = (None, None);
    assert_dropped(&mut world, A, elsewhere, a, &Message::I2(i2), Discard::LocatorNotInSet);
}

#[test]
fn exchange_on_another_locator_pair_sends_payload_there() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let (a, second) = (world.locator(A, 0), stranger.identity.locators()[1]);
    let mut i1 = stranger.i1();
    i1.ulid_pair = Some(UlidPair {
        sender: stranger.ulid(),
        receiver: a,
    });
    world.inject(second, a, &emit(&Message::I1(i1.clone())));
    let Message::R1(r1) = world.last(MessageType::R1).message() else {
        panic!("not an R1")
    };
    assert_eq!(world.last(MessageType::R1).destination, second);
    let mut i2 = stranger.i2_for(&mut world, A, i1);
    (i2.responder_nonce, i2.validator) = (r1.responder_nonce, r1.validator);
    world.inject(second, a, &emit(&Message::I2(i2)));
    let context = world.hosts[A].context();
    assert_eq!((context.ulids.peer, context.locators.peer), (stranger.ulid(), second));
    assert_eq!(world.last(MessageType::R2).destination, second);
    assert!(
        world.hosts[A]
            .dataplane
            .flow(context.ulids)
            .is_some_and(|flow| flow.is_steered())
    );
}

/// Ordinary payload belongs to the instance 0 (section 12.4), so another instance must not take it over.
#[test]
fn forked_instance_of_the_peer_leaves_our_payload_alone() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    stranger.establish(&mut world, A);
    let ulids = world.hosts[A].context().ulids;
    let flow = world.hosts[A].dataplane.flow(ulids).expect("there is a flow").clone();
    let mut i1 = stranger.i1();
    i1.forked_instance = Some(7);
    i1.initiator_context_tag = ContextTag::from_random_bits(77);
    let i2 = stranger.i2_for(&mut world, A, i1);
    stranger.send(&mut world, A, &Message::I2(i2));
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 2);
    assert_eq!(
        world.hosts[A].dataplane.flow(ulids).map(|flow| flow.context),
        Some(flow.context)
    );
    let forked = world.hosts[A]
        .endpoint
        .contexts()
        .map(|context| context.id)
        .find(|id| *id != flow.context);
    world.hosts[A].endpoint.close(forked.expect("there is a second one"));
    world.drain(A);
    assert_eq!(
        world.hosts[A].dataplane.flow(ulids).map(|flow| flow.context),
        Some(flow.context)
    );
}
