//! One end has lost the context (RFC 5533 sections 7.5, 7.17 to 7.20).

use alloc::vec::Vec;

use super::stranger::Stranger;
use super::world::{A, B, World, emit, fast, identity, ms, secs};
use crate::wire::{ContextTag, Discard, I2bis, Keepalive, Message, MessageType, R1bis, R2};
use crate::{CloseReason, ContextState, EndpointConfig, Event, Instant, LocatorPair};

/// A context that has moved to another pair than its ULIDs, with traffic from A to B and back.
pub(super) fn moved(config: &EndpointConfig) -> World {
    let mut world = World::established(config);
    world.stream(A, world.pair(A, B), ms(50), true);
    world.run(secs(1));
    world.cut_both_ways(world.pair(A, B));
    let is_moved = |world: &World| {
        let contexts = [A, B].map(|host| world.hosts[host].context());
        contexts.iter().all(|context| context.locators != context.ulids)
    };
    assert!(world.run_until(secs(3), is_moved).is_some());
    world.run(secs(2));
    world.log.clear();
    world
}

fn states(world: &World, host: usize) -> Vec<ContextState> {
    world.hosts[host]
        .endpoint
        .contexts()
        .map(|context| context.state)
        .collect()
}

fn agree(world: &World) -> bool {
    let both = [A, B].map(|host| world.hosts[host].endpoint.contexts().next());
    let [Some(a), Some(b)] = both else { return false };
    a.state == ContextState::Established
        && b.state == ContextState::Established
        && a.peer_tag == Some(b.local_tag)
        && b.peer_tag == Some(a.local_tag)
}

fn kinds(world: &World) -> Vec<MessageType> {
    world.control().iter().filter_map(|sent| sent.kind).collect()
}

fn times(world: &World, kind: MessageType) -> Vec<Instant> {
    world.sent(kind).iter().map(|sent| sent.at).collect()
}

/// Figure 6, with payload that bears the lost tag.
#[test]
fn payload_with_a_lost_tag_recovers_the_context() {
    let mut world = moved(&fast());
    let before = world.hosts[A].context();
    world.restart(B, &fast(), 77);
    let took = world.run_until(secs(1), agree).expect("the context is recovered");
    assert!(took < ms(200), "{took:?}");
    let exchange: Vec<_> = kinds(&world)
        .into_iter()
        .filter(|kind| *kind != MessageType::KEEPALIVE)
        .collect();
    // Payload that was under way asks again; that is silently discarded.
    assert_eq!(exchange[..2], [MessageType::R1BIS, MessageType::I2BIS]);
    assert_eq!(world.sent(MessageType::I2BIS).len(), 1);
    assert_eq!(world.sent(MessageType::R2).len(), 1);
    let after = world.hosts[A].context();
    assert_eq!((after.id, after.ulids), (before.id, before.ulids));
    assert!(
        world.hosts[A]
            .events
            .iter()
            .any(|(_, event)| matches!(event, Event::Recovering { .. }))
    );
    // On the pair that had been found, which is the one that works.
    assert_eq!(after.locators, before.locators);
    let since = world.now;
    world.run(secs(2));
    assert!(world.received_since(A, since) > 20 && world.received_since(B, since) > 20);
}

/// The first case of section 7.5: on the ULIDs nothing shows the loss before a probe does.
#[test]
fn probe_with_a_lost_tag_recovers_the_context_on_the_pair_that_works() {
    let mut world = World::established(&fast());
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(50), true);
    world.run(secs(1));
    world.restart(B, &fast(), 77);
    world.run(secs(5));
    assert_eq!(states(&world, B), [], "payload between the ULIDs needs no context");
    world.cut_both_ways(ulids);
    assert!(world.run_until(secs(3), agree).is_some());
    let context = world.hosts[A].context();
    assert!(context.locators != ulids && !world.is_cut(context.locators));
    let since = world.now;
    world.run(secs(2));
    assert!(world.received_since(A, since) > 20 && world.received_since(B, since) > 20);
}

#[test]
fn update_with_a_lost_tag_recovers_the_context() {
    let mut world = World::established(&EndpointConfig::default());
    world.restart(B, &EndpointConfig::default(), 77);
    let preference = crate::wire::Preference {
        priority: 7,
        ..Default::default()
    };
    world.set_preferences(A, &[(world.locator(A, 0), preference)]);
    assert!(world.run_until(secs(1), agree).is_some());
    // What was to be told came with the I2bis, so the update is over.
    world.run(secs(1));
    assert!(!world.hosts[A].context().updating);
    assert_eq!(world.hosts[B].context().peer_preferences[0], preference);
    assert_eq!(world.sent(MessageType::UPDATE_REQUEST).len(), 1);
}

#[test]
fn r1bis_keeps_nothing_at_who_sends_it() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    for number in 0..50 {
        let keepalive = Message::Keepalive(Keepalive {
            receiver_context_tag: ContextTag::from_random_bits(number),
        });
        stranger.send(&mut world, A, &keepalive);
    }
    assert_eq!(world.sent(MessageType::R1BIS).len(), 50);
    world.hosts[A].endpoint.contexts.assert_empty();
    assert_eq!(world.hosts[A].endpoint.poll_timeout(), None);
    for (number, sent) in world.sent(MessageType::R1BIS).iter().enumerate() {
        assert_eq!((sent.source, sent.destination), (world.locator(A, 0), stranger.ulid()));
        let Message::R1bis(r1bis) = sent.message() else {
            panic!("not an R1bis")
        };
        assert_eq!(r1bis.packet_context_tag, ContextTag::from_random_bits(number as u64));
    }
}

#[test]
fn messages_that_set_up_contexts_are_never_answered_by_r1bis() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let r2 = Message::R2(R2 {
        responder_context_tag: stranger.tag,
        initiator_nonce: 5,
        announcement: Default::default(),
    });
    let r1bis = Message::R1bis(R1bis {
        packet_context_tag: stranger.tag,
        responder_nonce: 1,
        validator: Vec::from([1; 20]),
    });
    stranger.send(&mut world, A, &r2);
    stranger.send(&mut world, A, &r1bis);
    assert_eq!(world.log, []);
    assert_eq!(
        world.hosts[A].discards(),
        [(Discard::NoContext, 1), (Discard::NoMatchingInitiator, 1)]
    );
}

#[test]
fn each_message_of_a_recovery_may_get_lost_once() {
    for kind in [MessageType::R1BIS, MessageType::I2BIS, MessageType::R2] {
        let mut world = moved(&fast());
        world.lose(kind, 1);
        world.restart(B, &fast(), 77);
        assert!(world.run_until(secs(8), agree).is_some(), "{kind} lost");
        let since = world.now;
        world.run(secs(1));
        assert!(world.received_since(B, since) > 10, "{kind} lost");
    }
}

#[test]
fn i2bis_is_sent_again_with_backoff_and_then_gives_way_to_i1() {
    let mut world = moved(&fast());
    world.stop_streams();
    world.run(secs(1));
    world.restart(B, &fast(), 77);
    world.lose(MessageType::I2BIS, 100);
    world.lose(MessageType::I1, 100);
    // Or each of them would bring another R1bis, and that another I2bis.
    world.lose(MessageType::PROBE, 1_000);
    let id = world.hosts[A].context().id;
    world.send_payload(A, world.pair(A, B));
    world.run(secs(2));
    assert_eq!(states(&world, A), [ContextState::I2bisSent]);
    world.run(secs(200));
    let sent = times(&world, MessageType::I2BIS);
    assert_eq!(sent.len(), 3);
    let waits: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= secs(2) && waits[0] <= secs(6), "{waits:?}");
    assert!(waits[1] >= secs(4) && waits[1] <= secs(12), "{waits:?}");
    assert_eq!(world.sent(MessageType::I1).len(), 4);
    // The I1 goes where the R1bis came from, so it has to name the ULIDs.
    for sent in world.sent(MessageType::I1) {
        let Message::I1(i1) = sent.message() else {
            panic!("not an I1")
        };
        let pair = i1.ulid_pair.expect("the ULIDs are not the addresses");
        assert_eq!(LocatorPair::new(pair.sender, pair.receiver), world.pair(A, B));
    }
    // And in the end the context is gone, and its peer held down.
    assert_eq!(states(&world, A), []);
    let (ulids, reason) = (world.pair(A, B), CloseReason::NoAnswer);
    let closed = Event::Closed {
        context: id,
        ulids,
        reason,
    };
    assert!(world.hosts[A].events.iter().any(|(_, event)| *event == closed));
    assert!(world.hosts[A].dataplane.is_empty());
}

#[test]
fn i1_after_a_failed_recovery_sets_the_context_up_again() {
    let mut world = moved(&fast());
    world.stop_streams();
    world.run(secs(1));
    world.restart(B, &fast(), 77);
    world.lose(MessageType::I2BIS, 100);
    let before = world.hosts[A].context();
    world.send_payload(A, world.pair(A, B));
    assert!(world.run_until(secs(60), agree).is_some());
    let after = world.hosts[A].context();
    // By I1 and R1 on the pair on which the loss showed.
    assert_eq!((after.id, after.locators), (before.id, before.locators));
    assert_eq!(world.sent(MessageType::I1).len(), 1);
}

#[test]
fn recovered_context_gets_a_tag_of_its_own() {
    let mut world = moved(&fast());
    let lost = world.hosts[B].context().local_tag;
    world.restart(B, &fast(), 77);
    assert!(world.run_until(secs(1), agree).is_some());
    assert_ne!(world.hosts[B].context().local_tag, lost);
}

#[test]
fn forged_r1bis_is_dropped() {
    let mut world = World::established(&EndpointConfig::default());
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    let tag = world.hosts[A].context().peer_tag.expect("the peer has told its tag");
    let r1bis = |tag: ContextTag| {
        emit(&Message::R1bis(R1bis {
            packet_context_tag: tag,
            responder_nonce: 1,
            validator: Vec::from([1; 20]),
        }))
    };
    let elsewhere = identity(60).locators()[0];
    world.inject(b, a, &r1bis(ContextTag::from_random_bits(tag.value() ^ 1)));
    world.inject(elsewhere, a, &r1bis(tag));
    assert_eq!(world.hosts[A].discards(), [(Discard::NoContext, 2)]);
    assert_eq!(states(&world, A), [ContextState::Established]);
    assert_eq!(world.log, []);
    // The right one is taken once.
    world.inject(b, a, &r1bis(tag));
    world.inject(b, a, &r1bis(tag));
    world.run(ms(600));
    world.inject(b, a, &r1bis(tag));
    assert_eq!(world.hosts[A].discarded(Discard::WrongState), 2);
    assert_eq!(states(&world, A), [ContextState::I2bisSent]);
    // The peer knows nothing of that validator, but has the context: nothing is lost once it is seen.
    assert_eq!(world.sent(MessageType::I2BIS).len(), 1);
    world.run(secs(60));
    assert!(agree(&world));
    assert_eq!(world.hosts[B].discarded(Discard::StaleValidator), 3);
}

/// The I2bis that should follow an R1bis for a tag that the host has lost.
fn i2bis(world: &mut World, stranger: &Stranger, lost: ContextTag) -> I2bis {
    let keepalive = Message::Keepalive(Keepalive {
        receiver_context_tag: lost,
    });
    stranger.send(world, A, &keepalive);
    let Message::R1bis(r1bis) = world.last(MessageType::R1BIS).message() else {
        panic!("not an R1bis")
    };
    let i2 = stranger.i2(world, A);
    I2bis {
        initiator_context_tag: stranger.tag,
        initiator_nonce: stranger.nonce,
        responder_nonce: r1bis.responder_nonce,
        packet_context_tag: lost,
        validator: r1bis.validator,
        ulid_pair: None,
        forked_instance: None,
        announcement: i2.announcement,
    }
}

#[test]
fn i2bis_is_believed_for_what_its_validator_vouches_for_only() {
    let lost = ContextTag::from_random_bits(42);
    let stranger = Stranger::new();
    type Change = fn(&mut I2bis);
    let changes: [(Change, Discard); 4] = [
        (|m| m.validator[3] ^= 1, Discard::BadValidator),
        (|m| m.validator.clear(), Discard::BadValidator),
        (
            |m| m.responder_nonce = m.responder_nonce.wrapping_add(9),
            Discard::StaleValidator,
        ),
        (
            |m| m.packet_context_tag = ContextTag::from_random_bits(43),
            Discard::BadValidator,
        ),
    ];
    for (change, reason) in changes {
        let mut world = World::new(&EndpointConfig::default());
        let mut message = i2bis(&mut world, &stranger, lost);
        change(&mut message);
        stranger.send(&mut world, A, &Message::I2bis(message));
        assert_eq!(world.hosts[A].discarded(reason), 1);
        assert_eq!(states(&world, A), []);
    }
    // An R1's validator is none for an I2bis.
    let mut world = World::new(&EndpointConfig::default());
    let mut message = i2bis(&mut world, &stranger, lost);
    let i2 = stranger.i2(&mut world, A);
    (message.validator, message.responder_nonce) = (i2.validator, i2.responder_nonce);
    stranger.send(&mut world, A, &Message::I2bis(message));
    assert_eq!(world.hosts[A].discarded(Discard::BadValidator), 1);
}

#[test]
fn i2bis_is_accepted_for_the_validators_lifetime() {
    let (lost, stranger) = (ContextTag::from_random_bits(42), Stranger::new());
    for (age, accepted) in [(secs(0), true), (secs(30), true), (secs(40), false)] {
        let mut world = World::new(&EndpointConfig::default());
        let message = i2bis(&mut world, &stranger, lost);
        world.run(age);
        stranger.send(&mut world, A, &Message::I2bis(message));
        assert_eq!(states(&world, A).len(), usize::from(accepted), "after {age:?}");
    }
}

#[test]
fn i2bis_without_proof_of_its_locators_sets_up_nothing() {
    let (lost, stranger) = (ContextTag::from_random_bits(42), Stranger::new());
    let mut world = World::new(&EndpointConfig::default());
    let mut message = i2bis(&mut world, &stranger, lost);
    message.announcement.cga_parameters = Some(Stranger::number(51).parameters());
    stranger.send(&mut world, A, &Message::I2bis(message));
    assert_eq!(world.hosts[A].discarded(Discard::ParametersNotOfUlid), 1);
    assert_eq!(states(&world, A), []);
}

/// The peer's payload on a context that is being recovered is a reason to repeat the I2bis (section 12.2), but not at the
/// rate of the payload.
#[test]
fn payload_from_the_peer_repeats_the_i2bis_within_bounds() {
    let mut world = moved(&fast());
    let (tag, on) = {
        let context = world.hosts[A].context();
        (context.peer_tag.expect("a tag"), context.locators)
    };
    // A forger on the path makes A believe that B has lost it. B has not, and its answers to the I2bis are lost.
    let r1bis = emit(&Message::R1bis(R1bis {
        packet_context_tag: tag,
        responder_nonce: 1,
        validator: Vec::from([1; 20]),
    }));
    world.inject(on.peer, on.local, &r1bis);
    assert_eq!(states(&world, A), [ContextState::I2bisSent]);
    let activity = world.hosts[A].context().activity.expect("the old association is there");
    assert!(
        (0..100).all(|_| !activity.record_received(world.now, 1)),
        "nobody is woken for each packet"
    );
    let since = world.now;
    world.run(ms(1_900));
    let received = world.received_since(A, since);
    assert!(received > 30, "payload goes on in both directions: {received}");
    let sent = world.sent(MessageType::I2BIS).len();
    assert!((3..=5).contains(&sent), "{sent}");
}

#[test]
fn i1_of_the_peer_during_a_recovery_gets_an_r2() {
    let mut world = moved(&fast());
    world.stop_streams();
    world.run(secs(1));
    world.restart(B, &fast(), 77);
    world.lose(MessageType::I2BIS, 1);
    world.send_payload(A, world.pair(A, B));
    let is_recovering = |world: &World| states(world, A) == [ContextState::I2bisSent];
    assert!(world.run_until(secs(1), is_recovering).is_some());
    // B wants the context as well, before it has heard of the old one.
    world.heal(world.pair(A, B));
    world.establish(B, A);
    assert!(
        world
            .run_until(ms(100), |world| states(world, B) == [ContextState::Established])
            .is_some()
    );
    assert!(world.run_until(secs(10), agree).is_some());
}

#[test]
fn hosts_that_both_lost_the_context_have_none() {
    let mut world = moved(&fast());
    world.stop_streams();
    world.run(secs(1));
    world.restart(A, &fast(), 76);
    world.restart(B, &fast(), 77);
    world.run(secs(100));
    assert_eq!((states(&world, A), states(&world, B)), (Vec::new(), Vec::new()));
}

/// The peer restarts again before it has got the I2bis: its validator is another one, and the first is worth nothing.
#[test]
fn peer_that_restarts_during_a_recovery_does_not_hold_it_up() {
    let mut world = moved(&fast());
    world.restart(B, &fast(), 77);
    let is_recovering = |world: &World| states(world, A) == [ContextState::I2bisSent];
    world.lose(MessageType::I2BIS, 1);
    assert!(world.run_until(secs(1), is_recovering).is_some());
    world.run(ms(100));
    world.restart(B, &fast(), 78);
    let took = world.run_until(secs(60), agree).expect("they agree in the end");
    assert!(took < secs(2), "{took:?}");
}

/// The R2 got lost, so the peer takes the context for established while this host still waits (section 12.2).
#[test]
fn message_with_our_tag_before_the_r2_repeats_the_i2() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let r2 = stranger.r2(&mut world, A);
    let keepalive = Message::Keepalive(Keepalive {
        receiver_context_tag: world.hosts[A].context().local_tag,
    });
    world.run(secs(1));
    for _ in 0..5 {
        stranger.send(&mut world, A, &keepalive);
    }
    world.run(ms(1));
    assert_eq!(world.sent(MessageType::I2).len(), 2, "once, and not for each message");
    assert_eq!(world.hosts[A].discarded(Discard::WrongState), 5);
    // However many come, it is sent no more often than without them.
    for _ in 0..10 {
        world.run(ms(200));
        stranger.send(&mut world, A, &keepalive);
    }
    assert_eq!(world.sent(MessageType::I2).len(), 3);
    stranger.send(&mut world, A, &Message::R2(r2));
    assert_eq!(states(&world, A), [ContextState::Established]);
}
