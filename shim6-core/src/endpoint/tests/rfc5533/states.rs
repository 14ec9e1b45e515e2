//! What a message does in each state (RFC 5533 sections 7.9 to 7.20, 10 to 12).

use alloc::vec::Vec;

use super::super::stranger::Stranger;
use super::super::world::{A, B, World, emit, identity, ms, seal, secs};
use super::{Kind, keepalive, list_of, proof, r1bis};
use crate::wire::{
    Announcement, ContextTag, Discard, ErrorCode, LocatorPreferences, Message, MessageType, Preference, R1,
    UpdateAcknowledgement, UpdateRequest,
};
use crate::{CloseReason, ContextState, EndpointConfig, Event, LocatorPair};

/// A host in this state towards the stranger, with the tag that the stranger had when it got there.
fn in_state(state: ContextState, stranger: &Stranger) -> World {
    let mut world = World::new(&EndpointConfig::default());
    let old = ContextTag::from_random_bits(5);
    let before = Stranger {
        tag: old,
        ..Stranger::new()
    };
    match state {
        ContextState::I1Sent => drop(stranger.i1_of(&mut world, A)),
        ContextState::I2Sent => drop(stranger.r2(&mut world, A)),
        _ => drop(before.establish(&mut world, A)),
    }
    if state == ContextState::I2bisSent {
        stranger.send(&mut world, A, &Message::R1bis(r1bis(old)));
    }
    assert_eq!(world.hosts[A].context().state, state);
    world.log.clear();
    world
}

/// Sections 7.13 and 7.20: only in I1-SENT does the state change.
#[test]
fn i2_and_i2bis_renew_a_context_in_every_state_and_are_answered() {
    use ContextState::{Established, I1Sent, I2Sent, I2bisSent};
    for kind in [Kind::I2, Kind::I2bis] {
        for (before, after) in [
            (I1Sent, Established),
            (I2Sent, I2Sent),
            (I2bisSent, I2bisSent),
            (Established, Established),
        ] {
            let stranger = Stranger::new();
            let mut world = in_state(before, &stranger);
            let (id, local_tag) = (world.hosts[A].context().id, world.hosts[A].context().local_tag);
            let second = stranger.identity.locators()[1];
            let a = world.locator(A, 0);
            world.inject(second, a, &emit(&proof(kind, &stranger, second)));
            let what = alloc::format!("{kind:?} in {before}");
            let context = world.hosts[A].context();
            assert_eq!((context.id, context.state), (id, after), "{what}");
            assert_eq!(context.peer_tag, Some(stranger.tag), "{what}");
            assert_eq!(context.peer_locators, stranger.identity.locators(), "{what}");
            // CT(peer) is known, so its packets can be rewritten, in I2-SENT as well.
            assert_eq!(world.hosts[A].dataplane.len(), 1, "{what}");
            let Message::R2(r2) = world.last(MessageType::R2).message() else {
                panic!("{what} got no R2")
            };
            assert_eq!(
                (r2.initiator_nonce, r2.responder_context_tag),
                (stranger.nonce, local_tag),
                "{what}"
            );
            assert_eq!(world.last(MessageType::R2).destination, second, "{what}");
        }
    }
}

/// Sections 7.13 and 7.20: the validator shows that somebody is there, but not that it is the peer.
#[test]
fn i2_and_i2bis_from_elsewhere_change_nothing_in_any_state() {
    use ContextState::{Established, I1Sent, I2Sent, I2bisSent};
    let elsewhere = identity(60).locators()[0];
    for kind in [Kind::I2, Kind::I2bis] {
        for state in [I1Sent, I2Sent, I2bisSent, Established] {
            let stranger = Stranger::new();
            let mut world = in_state(state, &stranger);
            let (before, a) = (alloc::format!("{:?}", world.hosts[A].context()), world.locator(A, 0));
            world.inject(elsewhere, a, &emit(&proof(kind, &stranger, elsewhere)));
            assert_eq!(alloc::format!("{:?}", world.hosts[A].context()), before);
            assert_eq!(world.hosts[A].discards(), [(Discard::LocatorNotInSet, 1)]);
            assert_eq!(world.log, []);
        }
    }
}

/// Section 7.13: the tag alone, which whoever was on the path has seen, gets nobody the R2 with our own.
#[test]
fn i2_and_i2bis_with_the_known_tag_from_elsewhere_get_no_r2() {
    let (elsewhere, old) = (identity(60).locators()[0], ContextTag::from_random_bits(5));
    for kind in [Kind::I2, Kind::I2bis] {
        let stranger = Stranger {
            tag: old,
            ..Stranger::new()
        };
        let mut world = in_state(ContextState::Established, &stranger);
        let a = world.locator(A, 0);
        world.inject(elsewhere, a, &emit(&proof(kind, &stranger, elsewhere)));
        assert_eq!(world.hosts[A].discards(), [(Discard::LocatorNotInSet, 1)]);
        assert_eq!(world.log, []);
        // From the peer itself it is a repetition.
        let second = stranger.identity.locators()[1];
        world.inject(second, a, &emit(&proof(kind, &stranger, second)));
        assert_eq!(world.last(MessageType::R2).destination, second);
    }
}

/// Section 7.9, as far as we follow it: an R2 is far larger than an I1, and goes where an exchange is under way only.
#[test]
fn i1_during_an_exchange_gets_an_r2_where_that_is_under_way_and_an_r1_elsewhere() {
    use ContextState::{I1Sent, I2Sent, I2bisSent};
    for state in [I1Sent, I2Sent, I2bisSent] {
        let stranger = Stranger::new();
        let mut world = in_state(state, &stranger);
        let (a, peer_tag) = (world.locator(A, 0), world.hosts[A].context().peer_tag);
        let mut i1 = stranger.i1();
        i1.ulid_pair = Some(crate::wire::UlidPair {
            sender: stranger.ulid(),
            receiver: a,
        });
        let message = emit(&Message::I1(i1));
        for (from, answer) in [
            (stranger.ulid(), MessageType::R2),
            (stranger.identity.locators()[1], MessageType::R1),
            (identity(60).locators()[0], MessageType::R1),
        ] {
            world.log.clear();
            world.inject(from, a, &message);
            let answers: Vec<_> = world.log.iter().map(|sent| (sent.kind, sent.destination)).collect();
            assert_eq!(answers, [(Some(answer), from)], "{state}");
        }
        let context = world.hosts[A].context();
        assert_eq!((context.state, context.peer_tag), (state, peer_tag));
    }
}

/// Section 7.20: what the peer lost is not used again.
#[test]
fn i2bis_makes_a_context_with_another_tag_than_the_one_it_names() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    stranger.send(&mut world, A, &proof(Kind::I2bis, &stranger, stranger.ulid()));
    let context = world.hosts[A].context();
    assert_eq!(
        (context.state, context.peer_tag),
        (ContextState::Established, Some(stranger.tag))
    );
    assert_ne!(context.local_tag, ContextTag::from_random_bits(42));
}

/// Section 7.11.
#[test]
fn r1_in_another_state_than_i1_sent_is_dropped() {
    let stranger = Stranger::new();
    let mut world = in_state(ContextState::I2bisSent, &stranger);
    let nonce = world.hosts[A]
        .endpoint
        .contexts
        .iter()
        .find_map(|c| Some(c.exchange.as_ref()?.nonce));
    let r1 = R1 {
        initiator_nonce: nonce.expect("an exchange is under way"),
        responder_nonce: 1,
        validator: Vec::from([1; 20]),
    };
    stranger.send(&mut world, A, &Message::R1(r1));
    assert_eq!(world.hosts[A].discards(), [(Discard::WrongState, 1)]);
    assert_eq!(
        (world.hosts[A].context().state, world.log.len()),
        (ContextState::I2bisSent, 0)
    );
}

/// Section 7.18: in I1-SENT and I2-SENT there is no CT(peer) yet, or one that is just being made.
#[test]
fn r1bis_in_another_state_than_established_is_dropped() {
    for state in [ContextState::I1Sent, ContextState::I2Sent] {
        let stranger = Stranger::new();
        let mut world = in_state(state, &stranger);
        stranger.send(&mut world, A, &Message::R1bis(r1bis(stranger.tag)));
        assert_eq!(world.hosts[A].discards(), [(Discard::NoContext, 1)]);
        assert_eq!((world.hosts[A].context().state, world.log.len()), (state, 0));
    }
    let stranger = Stranger::new();
    let mut world = in_state(ContextState::I2Sent, &stranger);
    stranger.send(&mut world, A, &proof(Kind::I2, &stranger, stranger.ulid()));
    world.log.clear();
    stranger.send(&mut world, A, &Message::R1bis(r1bis(stranger.tag)));
    assert_eq!(world.hosts[A].discards(), [(Discard::WrongState, 1)]);
    assert_eq!(
        (world.hosts[A].context().state, world.log.len()),
        (ContextState::I2Sent, 0)
    );
}

/// Sections 10.4, 10.5 and 12.2.
#[test]
fn everything_for_a_context_in_i1_sent_is_discarded() {
    let stranger = Stranger::new();
    let mut world = in_state(ContextState::I1Sent, &stranger);
    let (tag, a) = (world.hosts[A].context().local_tag, world.locator(A, 0));
    let acknowledgement = UpdateAcknowledgement {
        receiver_context_tag: tag,
        request_nonce: 1,
    };
    stranger.send(&mut world, A, &Message::UpdateAcknowledgement(acknowledgement));
    stranger.send(&mut world, A, &keepalive(tag));
    world.hosts[A]
        .endpoint
        .handle_unknown_tag(world.now, stranger.ulid(), a, tag);
    world.drain(A);
    assert_eq!(world.hosts[A].discards(), [(Discard::WrongState, 3)]);
    assert_eq!(
        (world.hosts[A].context().state, world.log.len()),
        (ContextState::I1Sent, 0)
    );
}

/// Section 12.2.
#[test]
fn payload_before_the_r2_is_discarded_and_repeats_the_i2() {
    let stranger = Stranger::new();
    let mut world = in_state(ContextState::I2Sent, &stranger);
    let (tag, a) = (world.hosts[A].context().local_tag, world.locator(A, 0));
    for (wait, sent) in [(0, 0), (600, 1), (100, 1), (600, 2)] {
        world.run(ms(wait));
        world.hosts[A]
            .endpoint
            .handle_unknown_tag(world.now, stranger.ulid(), a, tag);
        world.drain(A);
        assert_eq!(world.sent(MessageType::I2).len(), sent);
    }
    assert_eq!(world.hosts[A].discards(), [(Discard::WrongState, 4)]);
    assert_eq!(world.log.len(), 2);
}

/// Sections 10.4 and 10.5.
#[test]
fn updates_that_name_no_context_are_answered_with_an_r1bis() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let tag = ContextTag::from_random_bits(5);
    let request = Message::UpdateRequest(UpdateRequest {
        receiver_context_tag: tag,
        request_nonce: 1,
        announcement: Announcement::default(),
    });
    let acknowledgement = Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: tag,
        request_nonce: 1,
    });
    for message in [request, acknowledgement] {
        world.log.clear();
        stranger.send(&mut world, A, &message);
        assert_eq!(world.log.len(), 1, "{message:?}");
        let Message::R1bis(r1bis) = world.last(MessageType::R1BIS).message() else {
            panic!("not an R1bis")
        };
        assert_eq!(r1bis.packet_context_tag, tag);
    }
    assert_eq!(world.hosts[A].discards(), [(Discard::NoContext, 2)]);
}

/// Sections 10.4 and 10.5: the peer still has the context, so it gets the I2bis again, and what it says is taken.
#[test]
fn updates_during_a_recovery_are_taken_and_repeat_the_i2bis() {
    let stranger = Stranger::new();
    let mut world = in_state(ContextState::I2bisSent, &stranger);
    let tag = world.hosts[A].context().local_tag;
    world.run(ms(600));
    let request = UpdateRequest {
        receiver_context_tag: tag,
        request_nonce: 3,
        announcement: Announcement::default(),
    };
    stranger.send(&mut world, A, &Message::UpdateRequest(request));
    let count = |world: &World, kind| world.sent(kind).len();
    assert_eq!(count(&world, MessageType::I2BIS), 1);
    assert_eq!(count(&world, MessageType::UPDATE_ACKNOWLEDGEMENT), 1);
    world.run(ms(600));
    let acknowledgement = UpdateAcknowledgement {
        receiver_context_tag: tag,
        request_nonce: 4,
    };
    stranger.send(&mut world, A, &Message::UpdateAcknowledgement(acknowledgement));
    assert_eq!(count(&world, MessageType::I2BIS), 2);
    assert_eq!(world.hosts[A].discards(), [(Discard::NoMatchingUpdate, 1)]);
    assert_eq!(world.hosts[A].context().state, ContextState::I2bisSent);
}

/// Section 11: without CT(peer) nothing is done to packets.
#[test]
fn packets_of_a_context_that_is_being_set_up_are_left_alone() {
    for state in [ContextState::I1Sent, ContextState::I2Sent] {
        let mut world = in_state(state, &Stranger::new());
        world.run(secs(1));
        assert!(world.hosts[A].dataplane.is_empty(), "{state}");
    }
}

/// Section 5.15.3: what is said of another list is not believed before there is a context either.
#[test]
fn preferences_for_another_list_in_an_i2_set_up_nothing() {
    let stranger = Stranger::new();
    let generation = stranger.list().generation;
    for (generation, count, code, reason) in [
        (
            generation ^ 1,
            2,
            ErrorCode::GENERATION_OUT_OF_SYNC,
            Discard::PreferenceGeneration,
        ),
        (generation, 3, ErrorCode::PREFERENCE_COUNT, Discard::PreferenceCount),
    ] {
        let mut world = World::new(&EndpointConfig::default());
        let mut i2 = stranger.i2(&mut world, A);
        let elements = alloc::vec![Preference::default(); count];
        i2.announcement.preferences = Some(LocatorPreferences::new(generation, elements));
        world.log.clear();
        stranger.send(&mut world, A, &Message::I2(i2));
        let Message::Error(error) = world.last(MessageType::ERROR).message() else {
            panic!("not an Error")
        };
        assert_eq!((error.code, world.log.len()), (code, 1));
        assert_eq!(world.hosts[A].discards(), [(reason, 1)]);
        assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
    }
}

/// Section 7.1.
#[test]
fn tag_that_a_context_has_is_not_given_to_another() {
    let mut world = World::established(&EndpointConfig::default());
    let (first, other) = (world.hosts[A].context().id, world.pair_of(A, 1, B, 0));
    let mut copy = world.hosts[A].endpoint.clone();
    let id = copy.establish(world.now, other).expect("there is room");
    let next = copy.context(id).map(|context| context.local_tag).expect("it is there");
    let endpoint = &mut world.hosts[A].endpoint;
    endpoint.contexts.set_local_tag(first, next);
    let id = endpoint.establish(world.now, other).expect("there is room");
    assert_ne!(endpoint.context(id).map(|context| context.local_tag), Some(next));
}

/// A stranger with a context, and the same host under its second ULID with the same tag.
fn confused(world: &mut World) -> (Stranger, Stranger) {
    let one = Stranger::new();
    one.establish(world, A);
    world.log.clear();
    let ulid = one.identity.locators()[1];
    (
        one,
        Stranger {
            ulid,
            ..Stranger::new()
        },
    )
}

/// Section 7.6.
#[test]
fn i1_with_the_tag_of_another_context_removes_nothing() {
    let mut world = World::new(&EndpointConfig::default());
    let (one, other) = confused(&mut world);
    other.send(&mut world, A, &Message::I1(other.i1()));
    assert_eq!(world.hosts[A].context().ulids.peer, one.ulid());
    assert_eq!(world.sent(MessageType::R1).len(), 1);
}

/// Sections 7.15 and 7.16.
#[test]
fn r2_with_the_tag_of_another_context_of_the_same_peer_removes_that() {
    // Whether the lists have a locator in common is what tells one peer from two.
    for (common, left) in [(false, 2), (true, 1)] {
        let mut world = World::new(&EndpointConfig::default());
        let one = Stranger::new();
        one.establish_with(&mut world, A, list_of(&one, &[0]));
        let ulid = one.identity.locators()[1];
        let other = Stranger {
            ulid,
            ..Stranger::new()
        };
        let mut r2 = other.r2(&mut world, A);
        let list = if common {
            list_of(&one, &[0, 1])
        } else {
            list_of(&one, &[1])
        };
        r2.announcement.locators = Some(list);
        other.send(&mut world, A, &Message::R2(r2));
        let contexts: Vec<_> = world.hosts[A].endpoint.contexts().collect();
        let established = contexts.iter().filter(|c| c.state == ContextState::Established);
        assert_eq!(established.count(), left);
        assert!(contexts.iter().any(|context| context.ulids.peer == ulid));
        let confusion = |(_, event): &(_, Event)| {
            let reason = CloseReason::Confusion;
            matches!(event, Event::Closed { reason: why, ulids: LocatorPair { peer, .. }, .. }
                if *why == reason && *peer == one.ulid())
        };
        assert_eq!(world.hosts[A].events.iter().any(confusion), common);
        assert_eq!(world.hosts[A].dataplane.len(), left);
    }
}

/// Section 7.17 is about messages that name a context. Where the name is in a type that is not known, nobody can tell.
#[test]
fn unknown_type_above_63_gets_an_error_and_no_r1bis() {
    for message_type in [69, 100, 127] {
        let mut world = World::new(&EndpointConfig::default());
        let stranger = Stranger::new();
        let mut octets = alloc::vec![59, 1, message_type, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0];
        seal(&mut octets);
        stranger.send_octets(&mut world, A, &octets);
        let kinds: Vec<_> = world.log.iter().map(|sent| sent.kind).collect();
        assert_eq!(kinds, [Some(MessageType::ERROR)]);
    }
}

/// Section 10.4: a new list takes the place of the old one, and what was said of the old one is over.
#[test]
fn new_list_replaces_the_old_one_with_its_preferences() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let r2 = stranger.establish(&mut world, A);
    let told = |announcement| {
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag: r2.responder_context_tag,
            request_nonce: 1,
            announcement,
        })
    };
    let preference = Preference {
        priority: 9,
        ..Default::default()
    };
    let preferences = LocatorPreferences::new(stranger.list().generation, Vec::from([preference; 2]));
    stranger.send(
        &mut world,
        A,
        &told(Announcement {
            preferences: Some(preferences),
            ..Announcement::default()
        }),
    );
    assert_eq!(world.hosts[A].context().peer_preferences, [preference; 2]);
    let list = list_of(&stranger, &[0]);
    stranger.send(
        &mut world,
        A,
        &told(Announcement {
            locators: Some(list),
            ..Announcement::default()
        }),
    );
    let context = world.hosts[A].context();
    assert_eq!(context.peer_locators, [stranger.ulid()]);
    assert_eq!(context.peer_preferences, [Default::default()]);
    assert_eq!(world.sent(MessageType::UPDATE_ACKNOWLEDGEMENT).len(), 2);
}
