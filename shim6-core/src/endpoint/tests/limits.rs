//! Every bound on what a peer can make grow or make us send is reached, and holds.

use alloc::vec;

use super::stranger::Stranger;
use super::world::{A, B, World, emit, fast, ms, seal, secs};
use crate::wire::{Discard, MAX_MESSAGE, Message, MessageType};
use crate::{ContextState, EndpointConfig, EstablishError, Event, LimitsConfig, LocatorPair, Rate};

const FOUR: Rate = Rate {
    total: 4,
    per_prefix: 4,
};

fn limited(limits: LimitsConfig) -> World {
    World::new(&EndpointConfig {
        limits,
        ..EndpointConfig::default()
    })
}

fn count(world: &World) -> usize {
    world.hosts[A].endpoint.contexts().count()
}

#[test]
fn contexts_in_total_are_bounded_in_both_roles() {
    let mut world = limited(LimitsConfig {
        contexts: 2,
        ..LimitsConfig::default()
    });
    for number in 50..55 {
        let stranger = Stranger::number(number);
        let i2 = stranger.i2(&mut world, A);
        stranger.send(&mut world, A, &Message::I2(i2));
    }
    assert_eq!((count(&world), world.hosts[A].discarded(Discard::ContextLimit)), (2, 3));
    let ulids = world.pair(A, B);
    assert_eq!(
        world.hosts[A].endpoint.establish(world.now, ulids),
        Err(EstablishError::Limit)
    );
    // Room for one is room for the next.
    let id = world.hosts[A].endpoint.contexts().next().expect("there are two").id;
    world.hosts[A].endpoint.close(id);
    world.drain(A);
    world.establish(A, B);
    world.run(secs(1));
    assert_eq!(count(&world), 2);
}

#[test]
fn peer_at_the_limit_may_still_renew_its_context() {
    let mut world = limited(LimitsConfig {
        contexts: 1,
        contexts_per_peer: 1,
        ..LimitsConfig::default()
    });
    let mut stranger = Stranger::new();
    stranger.establish(&mut world, A);
    stranger.tag = crate::wire::ContextTag::from_random_bits(3);
    stranger.establish(&mut world, A);
    assert_eq!(count(&world), 1);
    let ulids = world.hosts[A].context().ulids;
    assert_eq!(
        world.hosts[A].dataplane.flow(ulids).map(|flow| flow.peer_tag),
        Some(stranger.tag)
    );
}

#[test]
fn contexts_with_one_peer_are_bounded() {
    let mut world = limited(LimitsConfig {
        contexts_per_peer: 3,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    for instance in 0..6 {
        let mut i1 = stranger.i1();
        i1.initiator_context_tag = crate::wire::ContextTag::from_random_bits(instance.into());
        i1.forked_instance = (instance > 0).then_some(instance);
        let i2 = stranger.i2_for(&mut world, A, i1);
        stranger.send(&mut world, A, &Message::I2(i2));
    }
    assert_eq!((count(&world), world.hosts[A].discarded(Discard::ContextLimit)), (3, 3));
    let ulids = LocatorPair {
        local: world.locator(A, 1),
        peer: stranger.ulid(),
    };
    assert_eq!(
        world.hosts[A].endpoint.establish(world.now, ulids),
        Err(EstablishError::Limit)
    );
    Stranger::number(51).establish(&mut world, A);
    assert_eq!(count(&world), 4);
}

#[test]
fn locators_of_a_peer_are_bounded() {
    let mut world = limited(LimitsConfig {
        peer_locators: 1,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    stranger.establish(&mut world, A);
    assert_eq!(world.hosts[A].context().peer_locators, [stranger.ulid()]);
    // However many there are on the wire.
    let mut world = limited(LimitsConfig {
        peer_locators: 16,
        ..LimitsConfig::default()
    });
    let mut i2 = stranger.i2(&mut world, A);
    let mut list = stranger.list();
    list.locators = list.locators.iter().cycle().take(40).copied().collect();
    i2.announcement.locators = Some(list);
    stranger.send(&mut world, A, &Message::I2(i2));
    assert_eq!(world.hosts[A].context().peer_locators, stranger.identity.locators());
}

#[test]
fn output_queue_is_bounded() {
    let mut world = limited(LimitsConfig {
        transmit_queue: 3,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    let (a, i1) = (world.locator(A, 0), emit(&Message::I1(stranger.i1())));
    let endpoint = &mut world.hosts[A].endpoint;
    for _ in 0..10 {
        endpoint.handle_message(world.now, stranger.ulid(), a, &i1);
    }
    assert_eq!(
        (
            endpoint.transmits.len(),
            endpoint.counters().discarded(Discard::QueueFull)
        ),
        (3, 7)
    );
    world.drain(A);
    assert_eq!(world.sent(MessageType::R1).len(), 3);
    stranger.send_octets(&mut world, A, &i1);
    assert_eq!(world.sent(MessageType::R1).len(), 4);
}

#[test]
fn remembered_silent_peers_are_bounded() {
    let mut world = limited(LimitsConfig {
        holddowns: 1,
        ..LimitsConfig::default()
    });
    let pair = |number| LocatorPair {
        local: world.locator(A, 0),
        peer: Stranger::number(number).ulid(),
    };
    let pairs = [50, 51, 52].map(pair);
    for ulids in pairs {
        world.hosts[A]
            .endpoint
            .establish(world.now, ulids)
            .expect("an exchange can start");
    }
    world
        .run_until(secs(400), |world| world.hosts[A].events.len() == 3)
        .expect("nobody answers");
    assert!(
        world.hosts[A]
            .events
            .iter()
            .all(|(_, event)| matches!(event, Event::NoAnswer { .. }))
    );
    assert_eq!(world.hosts[A].endpoint.failures().count(), 1);
    // One that is over makes room.
    world.run(secs(60));
    world.hosts[A]
        .endpoint
        .establish(world.now, pairs[2])
        .expect("it was not remembered, or is no more");
    world.run(secs(400));
    let failures = world.hosts[A].endpoint.failures.iter();
    let failures: alloc::vec::Vec<_> = failures.map(|(peer, state, _)| (peer, state)).collect();
    assert_eq!(failures, [(pairs[2].peer, ContextState::EFailed)]);
}

/// Sends `message` ten times at once, then after some time once more.
fn flood(world: &mut World, stranger: &Stranger, octets: &[u8], kind: MessageType) -> [usize; 3] {
    world.log.clear();
    let mut counts = [0; 3];
    let pauses = [ms(0), ms(100), secs(1)];
    for (count, pause) in counts.iter_mut().zip(pauses) {
        world.run(pause);
        for _ in 0..10 {
            stranger.send_octets(world, A, octets);
        }
        *count = world.sent(kind).len();
    }
    counts
}

#[test]
fn r1_messages_are_limited_and_come_again() {
    let mut world = limited(LimitsConfig {
        r1: FOUR,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    let i1 = emit(&Message::I1(stranger.i1()));
    assert_eq!(flood(&mut world, &stranger, &i1, MessageType::R1), [4, 4, 8]);
    assert_eq!(world.hosts[A].discards(), [(Discard::RateLimited, 22)]);
}

#[test]
fn r2_messages_are_limited_and_come_again() {
    let mut world = limited(LimitsConfig {
        r2: FOUR,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    let i2 = stranger.i2(&mut world, A);
    assert_eq!(
        flood(&mut world, &stranger, &emit(&Message::I2(i2)), MessageType::R2),
        [4, 4, 8]
    );
    assert_eq!(world.hosts[A].discards(), [(Discard::RateLimited, 22)]);
}

#[test]
fn error_messages_are_limited_and_come_again() {
    let mut world = limited(LimitsConfig {
        errors: FOUR,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    let mut unknown = vec![59, 0, 99, 0, 0, 0, 0, 0];
    seal(&mut unknown);
    assert_eq!(flood(&mut world, &stranger, &unknown, MessageType::ERROR), [4, 4, 8]);
    assert_eq!(world.hosts[A].discarded(Discard::UnknownMessageType), 30);
    assert_eq!(world.hosts[A].discarded(Discard::RateLimited), 22);
}

#[test]
fn verifications_are_limited_and_come_again() {
    let mut world = limited(LimitsConfig {
        verifications: FOUR,
        ..LimitsConfig::default()
    });
    let stranger = Stranger::new();
    let mut i2 = stranger.i2(&mut world, A);
    i2.announcement.cga_parameters = Some(Stranger::number(51).parameters());
    let octets = emit(&Message::I2(i2));
    flood(&mut world, &stranger, &octets, MessageType::R2);
    assert_eq!(world.hosts[A].discarded(Discard::ParametersNotOfUlid), 8);
    assert_eq!(world.hosts[A].discarded(Discard::RateLimited), 22);
    // An R1 that nobody waits for, or an I2 with a wrong validator, takes nothing from the limit.
    let mut i2 = stranger.i2(&mut world, A);
    i2.validator[0] ^= 1;
    let octets = emit(&Message::I2(i2.clone()));
    flood(&mut world, &stranger, &octets, MessageType::R2);
    i2.validator[0] ^= 1;
    stranger.send(&mut world, A, &Message::I2(i2));
    assert_eq!(count(&world), 1);
}

#[test]
fn exchange_gets_through_once_a_limit_recovers() {
    let config = EndpointConfig {
        limits: LimitsConfig {
            r2: Rate {
                total: 1,
                per_prefix: 1,
            },
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    };
    let mut world = World::with(&[fast(), config], 1);
    let stranger = Stranger::new();
    stranger.establish(&mut world, B);
    world.establish(A, B);
    world.run(ms(500));
    assert!(world.hosts[A].context().activity.is_none());
    world.run(secs(10));
    assert!(world.hosts[A].context().activity.is_some());
}

#[test]
fn answers_are_not_much_larger_than_what_they_answer() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i1 = emit(&Message::I1(stranger.i1()));
    stranger.send_octets(&mut world, A, &i1);
    let r1 = world.last(MessageType::R1).packet.len() - 40;
    assert!(r1 <= 3 * i1.len(), "{r1} octets for {}", i1.len());
}

#[test]
fn validator_too_large_to_send_back_is_dropped_and_counted() {
    let mut world = World::new(&EndpointConfig::default());
    let stranger = Stranger::new();
    let i1 = stranger.i1_of(&mut world, A);
    let r1 = crate::wire::R1 {
        initiator_nonce: i1.initiator_nonce,
        responder_nonce: 1,
        // Beside the 24 octets of an I2 there is no room for an option of 1,224.
        validator: vec![0; 1_213],
    };
    stranger.send(&mut world, A, &Message::R1(r1));
    assert!(world.sent(MessageType::I2).is_empty());
    assert_eq!(world.hosts[A].discards(), [(Discard::TooLong, 1)]);
    // It falls back to I1 in the end.
    world.run(secs(100));
    assert!(world.sent(MessageType::I1).len() > 1);
}

#[test]
fn buffer_too_small_for_a_message_drops_it_without_a_word_to_anyone() {
    let mut world = World::new(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    let endpoint = &mut world.hosts[A].endpoint;
    endpoint.establish(world.now, ulids).expect("an exchange can start");
    assert_eq!(endpoint.poll_transmit(&mut [0; 15]), None);
    assert_eq!(endpoint.counters().discarded(Discard::TooLong), 1);
    assert_eq!(endpoint.poll_transmit(&mut [0; MAX_MESSAGE]), None);
}

/// One site's flood leaves the answers to others alone, and its contexts theirs.
#[test]
fn rates_are_limited_for_each_prefix_apart() {
    let rate = Rate {
        total: 100,
        per_prefix: 3,
    };
    let config = EndpointConfig {
        limits: LimitsConfig {
            r1: rate,
            r1bis: rate,
            errors: rate,
            verifications: rate,
            ..LimitsConfig::default()
        },
        ..EndpointConfig::default()
    };
    let mut unknown = vec![59, 0, 99, 0, 0, 0, 0, 0];
    seal(&mut unknown);
    let lost = emit(&Message::Keepalive(crate::wire::Keepalive {
        receiver_context_tag: crate::wire::ContextTag::MAX,
    }));
    let (noisy, quiet) = (Stranger::number(50), Stranger::number(51));
    let i1 = |stranger: &Stranger| emit(&Message::I1(stranger.i1()));
    for (octets, kind) in [
        (i1(&noisy), MessageType::R1),
        (lost, MessageType::R1BIS),
        (unknown, MessageType::ERROR),
    ] {
        let mut world = World::new(&config);
        let (a, addresses) = (world.locator(A, 0), noisy.identity.locators());
        for index in 0..20 {
            // From both addresses of the site.
            world.inject(addresses[index % 2], a, &octets);
        }
        assert_eq!(world.sent(kind).len(), 3, "{kind}");
        world.inject(quiet.ulid(), a, &octets);
        assert_eq!(world.sent(kind).len(), 4, "{kind}");
    }
    // And what costs hashes.
    let mut world = World::new(&config);
    let mut i2 = noisy.i2(&mut world, A);
    i2.announcement.cga_parameters = Some(quiet.parameters());
    let octets = emit(&Message::I2(i2));
    for _ in 0..20 {
        noisy.send_octets(&mut world, A, &octets);
    }
    assert_eq!(world.hosts[A].discarded(Discard::ParametersNotOfUlid), 3);
    quiet.establish(&mut world, A);
    assert_eq!(count(&world), 1);
}
