//! Locators and preferences that change while contexts live (RFC 5533 section 10).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};

use super::world::{A, B, World, fast, ms, rfc, secs};
use crate::wire::{Message, MessageType, Preference, PreferenceFlags, UpdateRequest};
use crate::{ContextState, EndpointConfig, Event, Identity, Instant, LocatorPair, ReapState};

/// A host's set under three prefixes.
pub(super) fn wide_set(number: u16) -> HbaSet {
    let prefix = |uplink| SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, number + 1, uplink, 0, 0, 0, 0));
    let mut rng = ChaCha12Rng::seed_from_u64(u64::from(number) + 100);
    HbaSet::generate(&[prefix(0xa), prefix(0xb), prefix(0xc)], Sec::ZERO, &mut rng).expect("three prefixes make a set")
}

/// The identity over those of its addresses.
pub(super) fn of(set: &HbaSet, indices: &[usize], generation: u64) -> Identity {
    let is_there = |address| indices.iter().any(|&index| set.addresses()[index] == address);
    Identity::from_hba_subset(set, is_there, &mut ChaCha12Rng::seed_from_u64(generation))
}

/// Two hosts with a context between their first locators, of which A's set has a third.
pub(super) fn world(config: &EndpointConfig) -> (World, HbaSet) {
    let set = wide_set(A as u16);
    let identities = [of(&set, &[0, 1], 1), of(&wide_set(B as u16), &[0, 1, 2], 2)];
    let mut world = World::with_identities(config, identities);
    world.establish(A, B);
    world.run(secs(1));
    assert_eq!(world.hosts[B].context().state, ContextState::Established);
    world.log.clear();
    (world, set)
}

pub(super) fn requests(world: &World) -> Vec<(Instant, UpdateRequest)> {
    let sent = world.sent(MessageType::UPDATE_REQUEST);
    sent.iter()
        .map(|sent| match sent.message() {
            Message::UpdateRequest(request) => (sent.at, request),
            other => panic!("not an Update Request: {other:?}"),
        })
        .collect()
}

pub(super) fn preference(flags: PreferenceFlags, priority: u8) -> Preference {
    Preference {
        flags,
        priority,
        weight: 0,
    }
}

const NONE: PreferenceFlags = PreferenceFlags(0);

#[test]
fn new_locator_is_told_to_the_peer_and_acknowledged() {
    let (mut world, set) = world(&rfc());
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    assert!(world.hosts[A].context().updating);
    world.run(ms(100));
    assert!(!world.hosts[A].context().updating);
    assert_eq!(world.hosts[B].context().peer_locators, set.addresses());
    let (request, acknowledgement) = (&requests(&world)[0].1, world.last(MessageType::UPDATE_ACKNOWLEDGEMENT));
    let Message::UpdateAcknowledgement(message) = acknowledgement.message() else {
        panic!("not an acknowledgement")
    };
    assert_eq!(message.request_nonce, request.request_nonce);
    assert_eq!(Some(message.receiver_context_tag), world.hosts[B].context().peer_tag);
    assert_eq!(
        (acknowledgement.source, acknowledgement.destination),
        (world.locator(B, 0), world.locator(A, 0))
    );
    assert_eq!(world.control().len(), 2);
    let updated = |(_, event): &(Instant, Event)| matches!(event, Event::PeerUpdated { .. });
    assert_eq!(world.hosts[B].events.iter().filter(|event| updated(event)).count(), 1);
}

/// The peer drops what comes from a locator that it does not know (section 7.2).
#[test]
fn new_locator_is_no_source_before_the_peer_has_acknowledged_it() {
    let (mut world, set) = world(&fast());
    let new = set.addresses()[2];
    world.lose(MessageType::UPDATE_REQUEST, 100);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(1));
    // The first two locators do not reach B any more.
    for local in [0, 1] {
        for peer in [0, 1, 2] {
            world.cut_both_ways(world.pair_of(A, local, B, peer));
        }
    }
    world.run(secs(10));
    assert!(world.log.iter().all(|sent| sent.source != new));
    assert_eq!(world.hosts[A].context().reap, ReapState::Exploring);
}

#[test]
fn acknowledged_locator_carries_the_traffic_when_the_others_fail() {
    let (mut world, set) = world(&fast());
    let new = set.addresses()[2];
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(1));
    for local in [0, 1] {
        for peer in [0, 1, 2] {
            world.cut_both_ways(world.pair_of(A, local, B, peer));
        }
    }
    let is_moved = |world: &World| {
        let contexts = [A, B].map(|host| world.hosts[host].context());
        contexts[0].locators.local == new && contexts[1].locators.peer == new
    };
    assert!(world.run_until(secs(3), is_moved).is_some());
    let since = world.now;
    world.run(secs(1));
    assert!(world.received_since(A, since) > 20 && world.received_since(B, since) > 20);
}

#[test]
fn locator_that_goes_away_is_left_by_both_ends() {
    let (mut world, set) = world(&fast());
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(20), true);
    world.run(secs(1));
    // Onto the second locator, and then without it.
    world.cut_both_ways(ulids);
    let gone = set.addresses()[1];
    let is_on = |world: &World, local| world.hosts[A].context().locators.local == local;
    assert!(world.run_until(secs(3), |world| is_on(world, gone)).is_some());
    world.run(secs(1));
    let (old, identity) = (world.hosts[A].context().locators, of(&set, &[0, 2], 3));
    world.set_identity(A, identity);
    let is_left = |world: &World| {
        [A, B].iter().all(|&host| {
            let context = world.hosts[host].context();
            context.reap == ReapState::Operational && context.locators != old && context.locators.peer != gone
        })
    };
    assert!(world.run_until(secs(3), is_left).is_some());
    assert!(
        world
            .run_until(secs(20), |world| !world.hosts[A].context().updating)
            .is_some()
    );
    assert_eq!(
        world.hosts[B].context().peer_locators,
        [set.addresses()[0], set.addresses()[2]]
    );
    let since = world.now;
    world.run(secs(1));
    assert!(world.received_since(A, since) > 20 && world.received_since(B, since) > 20);
}

/// The context stays what the applications know it by, even where its ULID is no locator any more.
#[test]
fn peer_list_without_the_current_locator_makes_the_host_look_for_another() {
    let (mut world, set) = world(&fast());
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(20), true);
    world.run(secs(1));
    // Packets still get through on the old pair, so nothing but the list says that it is over.
    let tag = world.hosts[B].context().local_tag;
    let list = of(&set, &[1, 2], 9);
    let request = UpdateRequest {
        receiver_context_tag: tag,
        request_nonce: 1,
        announcement: list.announcement(set.addresses()[1], crate::identity::Extent::Whole),
    };
    let mut request = request;
    request.announcement.cga_parameters = None;
    world.inject(
        ulids.local,
        ulids.peer,
        &super::world::emit(&Message::UpdateRequest(request)),
    );
    assert_eq!(world.sent(MessageType::UPDATE_ACKNOWLEDGEMENT).len(), 1);
    let context = world.hosts[B].context();
    assert_eq!(context.peer_locators, [set.addresses()[1], set.addresses()[2]]);
    assert_eq!(
        (context.reap, context.locators.peer),
        (ReapState::Exploring, ulids.local)
    );
    let is_moved = |world: &World| world.hosts[B].context().locators.peer != ulids.local;
    assert!(world.run_until(secs(1), is_moved).is_some());
}

#[test]
fn update_is_sent_again_with_backoff_for_as_long_as_the_context_lives() {
    let (mut world, set) = world(&EndpointConfig::default());
    world.lose(MessageType::UPDATE_REQUEST, 1_000);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    world.run(secs(3_600));
    let sent = requests(&world);
    assert!(sent.iter().all(|(_, request)| *request == sent[0].1), "the nonce stays");
    let waits: Vec<_> = sent
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_secs_f64())
        .collect();
    for (wait, nominal) in waits.iter().zip([4.0, 8.0, 16.0, 32.0, 64.0]) {
        assert!((nominal * 0.5..nominal * 1.5).contains(wait), "{waits:?}");
    }
    assert!(waits[5..].iter().all(|wait| (60.0..=180.0).contains(wait)), "{waits:?}");
    assert!(waits.len() > 20);
    world.forget_losses();
    assert!(
        world
            .run_until(secs(180), |world| !world.hosts[A].context().updating)
            .is_some()
    );
}

#[test]
fn lost_acknowledgement_is_asked_for_again() {
    let (mut world, set) = world(&EndpointConfig::default());
    world.lose(MessageType::UPDATE_ACKNOWLEDGEMENT, 2);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    assert!(
        world
            .run_until(secs(30), |world| !world.hosts[A].context().updating)
            .is_some()
    );
    assert_eq!(world.sent(MessageType::UPDATE_ACKNOWLEDGEMENT).len(), 3);
    let updated = world.hosts[B]
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::PeerUpdated { .. }));
    assert_eq!(updated.count(), 1, "a repetition is no news");
}

/// Section 10.3.
#[test]
fn newer_information_replaces_an_update_that_is_under_way() {
    let (mut world, set) = world(&EndpointConfig::default());
    let broken = preference(PreferenceFlags::BROKEN, 0);
    world.set_identity(A, of(&set, &[0, 2], 3));
    world.run(ms(5));
    world.set_identity(A, of(&set, &[0, 1, 2], 4));
    world.run(ms(5));
    world.set_preferences(A, &[(set.addresses()[1], broken)]);
    let sent = requests(&world);
    assert_eq!(sent.len(), 3);
    let announced = |index: usize| &sent[index].1.announcement;
    let generation = |index: usize| announced(index).locators.as_ref().map(|list| list.generation);
    assert_ne!(generation(0), generation(1));
    assert_eq!(generation(1), generation(2), "the list is the same, and told again");
    assert!(announced(1).preferences.is_none() && announced(2).preferences.is_some());
    let nonces: Vec<_> = sent.iter().map(|(_, request)| request.request_nonce).collect();
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2]);
    // Acknowledgements of the first two are ignored.
    world.run(ms(100));
    assert_eq!(world.hosts[A].discarded(crate::wire::Discard::NoMatchingUpdate), 2);
    assert!(!world.hosts[A].context().updating);
    let context = world.hosts[B].context();
    assert_eq!(context.peer_locators, set.addresses());
    assert_eq!(context.peer_preferences[1], broken);
}

#[test]
fn preferences_alone_are_told_without_the_list() {
    let (mut world, set) = world(&EndpointConfig::default());
    let second = preference(NONE, 10);
    world.set_preferences(A, &[(set.addresses()[1], second)]);
    world.run(ms(100));
    let request = &requests(&world)[0].1;
    assert!(request.announcement.locators.is_none() && request.announcement.cga_parameters.is_none());
    assert_eq!(
        world.hosts[B].context().peer_preferences,
        [Preference::default(), second]
    );
    // The same again is no news; none is.
    world.set_preferences(A, &[(set.addresses()[1], second)]);
    assert_eq!(requests(&world).len(), 1);
    world.set_preferences(A, &[]);
    world.run(ms(100));
    assert_eq!(requests(&world).len(), 2);
    assert_eq!(world.hosts[B].context().peer_preferences, [Preference::default(); 2]);
}

#[test]
fn preferences_are_in_the_first_exchange_already() {
    let (a, b) = (wide_set(A as u16), wide_set(B as u16));
    let mut world = World::with_identities(&fast(), [of(&a, &[0, 1], 1), of(&b, &[0, 1], 2)]);
    let (first, second) = (preference(NONE, 1), preference(PreferenceFlags::TRANSIENT, 2));
    world.set_preferences(A, &[(a.addresses()[0], first)]);
    world.set_preferences(B, &[(b.addresses()[1], second)]);
    world.establish(A, B);
    world.run(secs(1));
    assert_eq!(
        world.hosts[B].context().peer_preferences,
        [first, Preference::default()]
    );
    assert_eq!(
        world.hosts[A].context().peer_preferences,
        [Preference::default(), second]
    );
    assert!(requests(&world).is_empty());
}

#[test]
fn current_locator_that_the_peer_calls_broken_is_left() {
    let (mut world, set) = world(&fast());
    let ulids = world.pair(A, B);
    world.stream(B, ulids.seen_by_peer(), ms(20), false);
    world.run(secs(1));
    world.set_preferences(A, &[(set.addresses()[0], preference(PreferenceFlags::BROKEN, 0))]);
    let is_moved = |world: &World| world.hosts[B].context().locators.peer == set.addresses()[1];
    assert!(world.run_until(secs(2), is_moved).is_some());
}

#[test]
fn all_locators_broken_leaves_the_context_where_it_is() {
    let (mut world, set) = world(&fast());
    let broken = preference(PreferenceFlags::BROKEN, 0);
    world.set_preferences(A, &[(set.addresses()[0], broken), (set.addresses()[1], broken)]);
    world.run(secs(5));
    assert_eq!(
        world.hosts[B].context().failovers + world.hosts[A].context().failovers,
        0
    );
    assert_eq!(world.sent(MessageType::PROBE).len(), 0);
}

#[test]
fn exploration_tries_preferred_locators_first() {
    let (mut world, set) = world(&fast());
    let ulids = world.pair(A, B);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    let at = |index: usize, priority| (set.addresses()[index], preference(NONE, priority));
    world.set_preferences(A, &[at(0, 0), at(1, 9), at(2, 3)]);
    world.stream(B, ulids.seen_by_peer(), ms(20), true);
    world.run(secs(1));
    world.log.clear();
    for peer in [0, 1, 2] {
        world.cut_both_ways(world.pair_of(A, 0, B, peer));
    }
    let is_moved = |world: &World| {
        let contexts = [A, B].map(|host| world.hosts[host].context());
        contexts[0].locators.local != ulids.local && contexts[1].locators.peer != ulids.local
    };
    assert!(world.run_until(secs(5), is_moved).is_some());
    let contexts = [A, B].map(|host| world.hosts[host].context());
    let preferred = set.addresses()[2];
    assert_eq!(
        (contexts[0].locators.local, contexts[1].locators.peer),
        (preferred, preferred)
    );
    let probes = world.sent(MessageType::PROBE).into_iter();
    let left_alone = set.addresses()[1];
    assert_eq!(
        probes
            .filter(|sent| [sent.source, sent.destination].contains(&left_alone))
            .count(),
        0
    );
}

#[test]
fn context_of_a_ulid_that_the_new_identity_lacks_keeps_its_locators() {
    let (mut world, set) = world(&fast());
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(20), true);
    world.run(secs(1));
    // A set of its own, with nothing in common.
    world.set_identity(A, of(&wide_set(7), &[0, 1], 5));
    assert!(requests(&world).is_empty());
    assert_eq!(world.hosts[A].context().ulids, ulids);
    assert_eq!(
        world.hosts[B].context().peer_locators,
        [set.addresses()[0], set.addresses()[1]]
    );
    // Messages to the former locators are still this host's, in the harness as well.
    let keepalive = Message::Keepalive(crate::wire::Keepalive {
        receiver_context_tag: world.hosts[A].context().local_tag,
    });
    let octets = super::world::emit(&keepalive);
    world.inject_at(A, ulids.peer, ulids.local, &octets);
    assert_eq!(world.hosts[A].discards(), []);
    // New contexts are for the new ULIDs.
    let new = LocatorPair::new(wide_set(7).addresses()[0], ulids.peer);
    assert!(world.hosts[A].endpoint.establish(world.now, new).is_ok());
    let other = LocatorPair::new(ulids.local, wide_set(B as u16).addresses()[1]);
    assert!(world.hosts[A].endpoint.establish(world.now, other).is_err());
}

#[test]
fn identity_that_changes_during_an_exchange_is_told_after_it() {
    let set = wide_set(A as u16);
    let identities = [of(&set, &[0, 1], 1), of(&wide_set(B as u16), &[0, 1, 2], 2)];
    let mut world = World::with_identities(&EndpointConfig::default(), identities);
    world.establish(A, B);
    // The I2 is on its way.
    world.run(ms(25));
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    world.run(secs(1));
    assert_eq!(requests(&world).len(), 1);
    assert_eq!(world.hosts[B].context().peer_locators, set.addresses());
}

/// The R2 answers whichever I2 came first, so after two that differ nobody can tell what the peer knows.
#[test]
fn i2_that_was_repeated_with_other_locators_is_followed_by_an_update() {
    let set = wide_set(A as u16);
    let identities = [of(&set, &[0, 1], 1), of(&wide_set(B as u16), &[0, 1, 2], 2)];
    let mut world = World::with_identities(&EndpointConfig::default(), identities);
    world.set_delay(world.locator(B, 0), world.locator(A, 0), secs(3));
    world.establish(A, B);
    // B has its context by the first I2, and its R2 is on the way for longer than A waits.
    let two = |world: &World| world.sent(MessageType::I2).len() == 2;
    world.run(secs(4));
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    assert!(
        world
            .run_until(secs(10), |world| two(world)
                || world.hosts[A].context().peer_tag.is_some())
            .is_some()
    );
    world.run(secs(20));
    assert_eq!(world.hosts[B].context().peer_locators, set.addresses());
    assert!(!world.hosts[A].context().updating);
}

/// What the I2 told is not forgotten with the fallback to I1: the R2 that comes late answers it.
#[test]
fn fallback_to_i1_forgets_nothing_that_was_told() {
    let mut world = World::new(&fast());
    let ulids = world.pair(A, B);
    // So late that the I2 has been sent three times before, and the I1 again.
    world.establish(A, B);
    world.run(ms(25));
    world.set_delay(ulids.peer, ulids.local, secs(45));
    let fallen_back = |world: &World| world.sent(MessageType::I1).len() == 2;
    assert!(world.run_until(secs(60), fallen_back).is_some());
    world.set_locator(A, 0, false);
    let established = |world: &World| world.hosts[A].context().peer_tag.is_some();
    assert!(world.run_until(secs(60), established).is_some());
    // The first locator is lost, and the second known to the peer: so that is where the search goes.
    let moved = |world: &World| world.hosts[A].context().locators.local == world.locator(A, 1);
    assert!(world.run_until(secs(60), moved).is_some());
}

/// Whoever sends to a locator knows it, acknowledged or not.
#[test]
fn locator_that_the_peer_sends_to_can_be_a_source() {
    let (mut world, set) = world(&fast());
    let new = set.addresses()[2];
    world.lose(MessageType::UPDATE_ACKNOWLEDGEMENT, 1_000);
    world.set_identity(A, of(&set, &[0, 1, 2], 3));
    world.run(secs(10));
    assert!(world.hosts[A].context().updating);
    assert!(world.log.iter().all(|sent| sent.source != new));
    let keepalive = Message::Keepalive(crate::wire::Keepalive {
        receiver_context_tag: world.hosts[A].context().local_tag,
    });
    world.inject(world.locator(B, 0), new, &super::world::emit(&keepalive));
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(1));
    for local in [0, 1] {
        for peer in [0, 1, 2] {
            world.cut_both_ways(world.pair_of(A, local, B, peer));
        }
    }
    assert!(
        world
            .run_until(secs(5), |world| world.hosts[A].context().locators.local == new)
            .is_some()
    );
}
