//! Update Requests that a peer sends and that cannot be taken, and answers to ours that nobody should believe (RFC 5533
//! sections 10.4 and 10.5).

use alloc::vec;
use alloc::vec::Vec;

use super::stranger::Stranger;
use super::update::{of, preference, requests, world};
use super::world::{A, B, World, emit, identity, secs};
use crate::dataplane::IPV6_HEADER_LEN;
use crate::wire::{
    Announcement, Discard, Error, ErrorCode, LocatorList, LocatorPreferences, Message, MessageType, PreferenceFlags,
    UpdateAcknowledgement, UpdateRequest, VerificationMethod, View,
};
use crate::{ContextState, EndpointConfig, Event, LimitsConfig, Rate};

/// A context of A with a peer that the test plays, and what the peer may say next.
fn peer(config: &EndpointConfig) -> (World, Stranger, UpdateRequest) {
    let mut world = World::new(config);
    let stranger = Stranger::new();
    let r2 = stranger.establish(&mut world, A);
    world.log.clear();
    let request = UpdateRequest {
        receiver_context_tag: r2.responder_context_tag,
        request_nonce: 0x0bad_cafe,
        announcement: Announcement {
            locators: Some(LocatorList {
                generation: 77,
                ..stranger.list()
            }),
            ..Announcement::default()
        },
    };
    (world, stranger, request)
}

fn preferences(generation: u32, count: usize) -> Option<LocatorPreferences> {
    let elements = vec![preference(PreferenceFlags::TRANSIENT, 3); count];
    Some(LocatorPreferences::new(generation, elements))
}

fn acknowledged(world: &World) -> usize {
    world.sent(MessageType::UPDATE_ACKNOWLEDGEMENT).len()
}

/// The Error in answer to a message, and the octet that it points at, in the message.
fn error_about(world: &World, message: &Message) -> (ErrorCode, usize) {
    let Message::Error(error) = world.last(MessageType::ERROR).message() else {
        panic!("not an Error")
    };
    let octets = emit(message);
    assert_eq!(error.packet_in_error[IPV6_HEADER_LEN..][..octets.len()], octets);
    (error.code, usize::from(error.pointer) - IPV6_HEADER_LEN)
}

#[test]
fn list_is_verified_with_the_parameters_told_before() {
    let (mut world, stranger, mut request) = peer(&EndpointConfig::default());
    request
        .announcement
        .locators
        .as_mut()
        .expect("a list")
        .locators
        .reverse();
    stranger.send(&mut world, A, &Message::UpdateRequest(request));
    assert_eq!(acknowledged(&world), 1);
    let mut expected: Vec<_> = stranger.identity.locators().to_vec();
    expected.reverse();
    assert_eq!(world.hosts[A].context().peer_locators, expected);
}

#[test]
fn method_that_is_not_supported_is_told_even_for_the_list_that_is_known() {
    let (mut world, stranger, mut request) = peer(&EndpointConfig::default());
    stranger.send(&mut world, A, &Message::UpdateRequest(request.clone()));
    assert_eq!(acknowledged(&world), 1);
    for method in [VerificationMethod(77), VerificationMethod::CGA] {
        let list = request.announcement.locators.as_mut().expect("a list");
        list.locators[1].0 = method;
        let message = Message::UpdateRequest(request.clone());
        stranger.send(&mut world, A, &message);
        assert_eq!(acknowledged(&world), 1, "{method}");
        let (code, at) = error_about(&world, &message);
        assert_eq!(code, ErrorCode::VERIFICATION_METHOD);
        let octets = emit(&message);
        let view = View::parse(&octets).expect("a message");
        let list = view.options().and_then(|options| options.locators.as_ref());
        assert_eq!(list.and_then(|list| list.method_offset(1)), Some(at), "{method}");
    }
}

#[test]
fn list_that_is_not_the_peers_is_answered_with_an_error_at_its_method() {
    let foreign = identity(61).locators()[1];
    type Change = fn(&mut LocatorList, core::net::Ipv6Addr);
    let changes: [(Change, usize, Discard); 3] = [
        (
            |list, foreign| list.locators[1].1 = foreign,
            1,
            Discard::HbaVerificationFailed,
        ),
        (
            |list, _| list.locators[0].0 = VerificationMethod(3),
            0,
            Discard::UnsupportedVerificationMethod,
        ),
        (
            |list, _| list.locators[1].0 = VerificationMethod::CGA,
            1,
            Discard::UnsupportedVerificationMethod,
        ),
    ];
    for (change, index, reason) in changes {
        let (mut world, stranger, mut request) = peer(&EndpointConfig::default());
        let before = world.hosts[A].context().peer_locators;
        change(request.announcement.locators.as_mut().expect("a list"), foreign);
        let message = Message::UpdateRequest(request);
        stranger.send(&mut world, A, &message);
        assert_eq!(world.hosts[A].discards(), [(reason, 1)]);
        let octets = emit(&message);
        let Ok(View::UpdateRequest(view)) = View::parse(&octets) else {
            panic!("not an Update Request")
        };
        let list = view.options().locators.expect("a list");
        let offset = list.method_offset(index).expect("that many locators");
        assert_eq!(error_about(&world, &message), (ErrorCode::VERIFICATION_METHOD, offset));
        assert_eq!(
            (acknowledged(&world), world.hosts[A].context().peer_locators),
            (0, before)
        );
    }
}

#[test]
fn parameters_of_another_ulid_are_dropped_without_a_word() {
    let (mut world, stranger, mut request) = peer(&EndpointConfig::default());
    request.announcement.cga_parameters = Some(Stranger::number(51).parameters());
    stranger.send(&mut world, A, &Message::UpdateRequest(request.clone()));
    request.announcement.locators = None;
    stranger.send(&mut world, A, &Message::UpdateRequest(request));
    assert_eq!(world.hosts[A].discards(), [(Discard::ParametersNotOfUlid, 2)]);
    assert_eq!(world.log, []);
}

#[test]
fn preferences_for_another_list_are_answered_with_an_error_at_their_generation() {
    let (mut world, stranger, mut request) = peer(&EndpointConfig::default());
    let before = world.hosts[A].context();
    // With a new list, of which nothing may be taken, and without one.
    request.announcement.preferences = preferences(78, 2);
    for has_list in [true, false] {
        if !has_list {
            request.announcement.locators = None;
        }
        let message = Message::UpdateRequest(request.clone());
        stranger.send(&mut world, A, &message);
        let octets = emit(&message);
        let Ok(View::UpdateRequest(view)) = View::parse(&octets) else {
            panic!("not an Update Request")
        };
        let offset = view.options().preferences.expect("preferences").generation_offset();
        assert_eq!(
            error_about(&world, &message),
            (ErrorCode::GENERATION_OUT_OF_SYNC, offset)
        );
        assert_eq!(octets[offset..offset + 4], 78_u32.to_be_bytes());
    }
    let after = world.hosts[A].context();
    assert_eq!(
        (after.peer_locators, after.peer_preferences),
        (before.peer_locators, before.peer_preferences)
    );
    assert_eq!(world.hosts[A].discards(), [(Discard::PreferenceGeneration, 2)]);
    assert_eq!(acknowledged(&world), 0);
}

#[test]
fn preferences_for_another_number_of_locators_are_answered_with_an_error_at_their_length() {
    for count in [0, 1, 3] {
        let (mut world, stranger, mut request) = peer(&EndpointConfig::default());
        request.announcement.preferences = preferences(77, count);
        let message = Message::UpdateRequest(request);
        stranger.send(&mut world, A, &message);
        let octets = emit(&message);
        let Ok(View::UpdateRequest(view)) = View::parse(&octets) else {
            panic!("not an Update Request")
        };
        let offset = view.options().preferences.expect("preferences").length_offset();
        assert_eq!(error_about(&world, &message), (ErrorCode::PREFERENCE_COUNT, offset));
        assert_eq!(world.hosts[A].discards(), [(Discard::PreferenceCount, 1)]);
        assert_eq!(acknowledged(&world), 0);
    }
}

#[test]
fn preferences_of_a_list_longer_than_the_limit_still_fit_it() {
    let config = EndpointConfig {
        limits: LimitsConfig {
            peer_locators: 1,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    };
    let (mut world, stranger, mut request) = peer(&config);
    request.announcement.preferences = preferences(77, 2);
    stranger.send(&mut world, A, &Message::UpdateRequest(request));
    assert_eq!((acknowledged(&world), world.hosts[A].discards()), (1, vec![]));
    assert_eq!(world.hosts[A].context().peer_preferences.len(), 1);
}

#[test]
fn request_from_elsewhere_is_told_that_the_context_is_lost() {
    let (mut world, _, request) = peer(&EndpointConfig::default());
    let (a, elsewhere) = (world.locator(A, 0), identity(60).locators()[0]);
    let acknowledgement = Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: request.receiver_context_tag,
        request_nonce: 1,
    });
    for message in [Message::UpdateRequest(request), acknowledgement] {
        world.log.clear();
        world.inject(elsewhere, a, &emit(&message));
        let answers: Vec<_> = world.log.iter().map(|sent| (sent.kind, sent.destination)).collect();
        assert_eq!(answers, [(Some(MessageType::R1BIS), elsewhere)]);
    }
    assert_eq!(world.hosts[A].discards(), [(Discard::LocatorNotInSet, 2)]);
}

#[test]
fn repeated_request_costs_no_verification() {
    let config = EndpointConfig {
        limits: LimitsConfig {
            // The exchange takes one, the first request another.
            verifications: Rate {
                total: 2,
                per_prefix: 2,
            },
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    };
    let (mut world, stranger, request) = peer(&config);
    for _ in 0..20 {
        stranger.send(&mut world, A, &Message::UpdateRequest(request.clone()));
    }
    assert_eq!(acknowledged(&world), 20);
    // Another list under the same number is looked at.
    let mut other = request;
    other
        .announcement
        .locators
        .as_mut()
        .expect("a list")
        .locators
        .truncate(1);
    stranger.send(&mut world, A, &Message::UpdateRequest(other));
    assert_eq!(world.hosts[A].discards(), [(Discard::RateLimited, 1)]);
}

#[test]
fn request_before_the_context_is_established_is_dropped() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i1 = stranger.i1_of(&mut world, A);
    world.log.clear();
    let request = |nonce| {
        Message::UpdateRequest(UpdateRequest {
            receiver_context_tag: i1.initiator_context_tag,
            request_nonce: nonce,
            announcement: Announcement::default(),
        })
    };
    stranger.send(&mut world, A, &request(1));
    assert_eq!(world.hosts[A].discards(), [(Discard::WrongState, 1)]);
    assert_eq!(
        (world.hosts[A].context().state, world.log.len()),
        (ContextState::I1Sent, 0)
    );
}

/// The peer's I2 has crossed ours and its R2 got lost: it takes the context for established (section 10.4).
#[test]
fn request_while_our_i2_waits_for_its_answer_is_taken_and_the_i2_repeated() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    // To be in I2-SENT, with an R1 of the peer.
    stranger.r2(&mut world, A);
    assert_eq!(world.hosts[A].context().state, ContextState::I2Sent);
    // The peer's I2 crosses it.
    let i1 = stranger.i1();
    stranger.send(&mut world, A, &Message::I1(i1));
    let Message::R2(_) = world.last(MessageType::R2).message() else {
        panic!("an I1 in I2-SENT is answered by R2")
    };
    // Let the stranger have a validator of A for its own I2, from another instance of the same seed.
    let mut twin = World::new(&EndpointConfig::default());
    twin.run(secs(0));
    let i2 = stranger.i2(&mut twin, A);
    stranger.send(&mut world, A, &Message::I2(i2));
    let context = world.hosts[A].context();
    assert_eq!(
        (context.state, context.peer_tag),
        (ContextState::I2Sent, Some(stranger.tag))
    );
    world.run(secs(1));
    world.log.clear();
    let request = UpdateRequest {
        receiver_context_tag: context.local_tag,
        request_nonce: 9,
        announcement: Announcement::default(),
    };
    stranger.send(&mut world, A, &Message::UpdateRequest(request));
    assert_eq!((world.sent(MessageType::I2).len(), acknowledged(&world)), (1, 1));
    assert_eq!(world.hosts[A].context().state, ContextState::I2Sent);
}

#[test]
fn acknowledgement_with_another_nonce_is_ignored() {
    let (mut world, set) = world(&EndpointConfig::default());
    world.lose(MessageType::UPDATE_REQUEST, 1);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    let nonce = requests(&world)[0].1.request_nonce;
    let acknowledgement = |nonce| {
        emit(&Message::UpdateAcknowledgement(UpdateAcknowledgement {
            receiver_context_tag: world.hosts[A].context().local_tag,
            request_nonce: nonce,
        }))
    };
    let (wrong, right) = (acknowledgement(nonce ^ 1), acknowledgement(nonce));
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    world.inject(b, a, &wrong);
    assert!(world.hosts[A].context().updating);
    assert_eq!(world.hosts[A].discards(), [(Discard::NoMatchingUpdate, 1)]);
    world.inject(b, a, &right);
    assert!(!world.hosts[A].context().updating);
}

/// What B says of A's update, with this code.
fn refuse(world: &mut World, code: ErrorCode, change: impl Fn(&mut Vec<u8>)) {
    let mut packet = world.last(MessageType::UPDATE_REQUEST).packet;
    change(&mut packet);
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    world.inject(b, a, &emit(&Message::Error(Error::about(&packet, code, 40))));
}

#[test]
fn update_that_the_peer_refuses_is_not_repeated_for_ever() {
    for code in [
        ErrorCode::UNKNOWN_MESSAGE_TYPE,
        ErrorCode::VERIFICATION_METHOD,
        ErrorCode(125),
    ] {
        let (mut world, set) = world(&EndpointConfig::default());
        world.lose(MessageType::UPDATE_REQUEST, 100);
        world.set_identity(A, of(&set, &[0, 1, 2], 3));
        refuse(&mut world, code, |_| ());
        let context = world.hosts[A].context();
        assert!(!context.updating && context.state == ContextState::Established);
        let refused = Event::UpdateRefused {
            context: context.id,
            code,
        };
        assert!(world.hosts[A].events.iter().any(|(_, event)| *event == refused));
        world.run(secs(600));
        assert_eq!(requests(&world).len(), 1);
    }
}

#[test]
fn preferences_whose_list_the_peer_lacks_are_told_again_with_it() {
    let (mut world, set) = world(&EndpointConfig::default());
    world.lose(MessageType::UPDATE_REQUEST, 1);
    world.set_preferences(A, &[(set.addresses()[1], preference(PreferenceFlags::BROKEN, 0))]);
    refuse(&mut world, ErrorCode::GENERATION_OUT_OF_SYNC, |_| ());
    let sent = requests(&world);
    assert_eq!(sent.len(), 2);
    assert!(sent[1].1.announcement.locators.is_some() && sent[1].1.announcement.preferences.is_some());
    assert_ne!(sent[0].1.request_nonce, sent[1].1.request_nonce);
    world.run(secs(1));
    assert!(!world.hosts[A].context().updating);
}

#[test]
fn forged_refusal_changes_nothing() {
    let (mut world, set) = world(&EndpointConfig::default());
    world.lose(MessageType::UPDATE_REQUEST, 100);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    // Another nonce, another tag, addresses that are not the context's; with the checksum of the message mended.
    let places = [IPV6_HEADER_LEN + 15, IPV6_HEADER_LEN + 11, 39];
    for place in places {
        refuse(&mut world, ErrorCode::VERIFICATION_METHOD, |packet| {
            packet[place] ^= 1;
            super::world::seal(&mut packet[IPV6_HEADER_LEN..]);
        });
        assert!(world.hosts[A].context().updating, "octet {place}");
    }
    // Nothing that could be an update of ours.
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    for packet in [vec![], vec![0x60; 100], vec![0xff; 1_000]] {
        let error = Message::Error(Error::about(&packet, ErrorCode::VERIFICATION_METHOD, 0));
        world.inject(b, a, &emit(&error));
    }
    assert!(world.hosts[A].context().updating);
    assert_eq!(world.hosts[A].discarded(Discard::NoPacketInError), 3);
}

#[test]
fn tags_of_other_contexts_are_no_way_into_one() {
    let (mut world, _, mut request) = peer(&EndpointConfig::default());
    let other = Stranger::number(51);
    other.establish(&mut world, A);
    let before = alloc::format!("{:?}", world.hosts[A].endpoint.contexts);
    // The second peer knows the first one's tag, and sends from its own locator.
    request.announcement.locators = Some(other.list());
    request.announcement.cga_parameters = Some(other.parameters());
    other.send(&mut world, A, &Message::UpdateRequest(request));
    assert_eq!(alloc::format!("{:?}", world.hosts[A].endpoint.contexts), before);
    assert_eq!(world.hosts[A].discarded(Discard::LocatorNotInSet), 1);
}

/// Generations have no order, so a request that was abandoned, or sent again by somebody who saw it, brings the old list back.
#[test]
fn old_request_that_comes_late_is_mended_by_telling_all_again() {
    let (mut world, set) = world(&EndpointConfig::default());
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    world.run(secs(1));
    let old = world.last(MessageType::UPDATE_REQUEST).packet[IPV6_HEADER_LEN..].to_vec();
    world.set_identity(A, of(&set, &[0, 2], 4));
    world.run(secs(1));
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    let newest = [set.addresses()[0], set.addresses()[2]];
    assert_eq!(world.hosts[B].context().peer_locators, newest);
    world.inject(a, b, &old);
    assert_eq!(world.hosts[B].context().peer_locators, set.addresses());
    world.run(secs(1));
    assert_eq!(world.hosts[B].context().peer_locators, newest);
    // Within bounds, however often.
    let sent = requests(&world).len();
    for _ in 0..20 {
        world.inject(a, b, &old);
        world.run(crate::endpoint::tests::world::ms(50));
    }
    assert!(requests(&world).len() <= sent + 1);
    world.run(secs(10));
    // A repetition of the acknowledgement that came last is no sign of anything.
    let sent = requests(&world).len();
    let acknowledgement = Message::UpdateAcknowledgement(UpdateAcknowledgement {
        receiver_context_tag: world.hosts[A].context().local_tag,
        request_nonce: requests(&world)[sent - 1].1.request_nonce,
    });
    world.inject(b, a, &emit(&acknowledgement));
    world.run(secs(10));
    assert_eq!(requests(&world).len(), sent);
}

/// This host keeps only so many of them, but a locator of the list is not a sign of a lost context.
#[test]
fn message_from_a_locator_that_was_left_out_is_dropped_without_a_word() {
    let config = EndpointConfig {
        limits: LimitsConfig {
            peer_locators: 1,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    };
    let (mut world, stranger, request) = peer(&config);
    let (a, left_out) = (world.locator(A, 0), stranger.identity.locators()[1]);
    world.inject(left_out, a, &emit(&Message::UpdateRequest(request)));
    assert_eq!(
        (world.log.len(), world.hosts[A].discards()),
        (0, vec![(Discard::LocatorNotInSet, 1)])
    );
}
