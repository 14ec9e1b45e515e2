//! The four-way exchange: as it should go, with losses, crossing, and after one side forgot (RFC 5533 section 7).

use alloc::vec::Vec;

use super::world::{A, B, DELAY, World, emit, identity, ms, secs};
use crate::wire::{ContextTag, Discard, I1, MAX_MESSAGE, Message, MessageType};
use crate::{CloseReason, ContextState, EndpointConfig, EstablishError, Event, Instant, LocatorPair, Rate};

fn config() -> EndpointConfig {
    EndpointConfig::default()
}

fn is_established(world: &World, host: usize) -> bool {
    let mut contexts = world.hosts[host].endpoint.contexts();
    contexts
        .next()
        .is_some_and(|context| context.state == ContextState::Established)
        && contexts.next().is_none()
}

fn both_are_established(world: &World) -> bool {
    is_established(world, A) && is_established(world, B)
}

/// Each side's tag for the context, which the other side must have.
fn assert_tags_agree(world: &World) {
    let flow = |from: usize, to: usize| {
        world.hosts[from]
            .dataplane
            .flow(world.pair(from, to))
            .expect("there is a flow")
            .clone()
    };
    let (a, b) = (flow(A, B), flow(B, A));
    assert_eq!((a.local_tag, a.peer_tag), (b.peer_tag, b.local_tag));
}

fn times(world: &World, kind: MessageType) -> Vec<Instant> {
    world.sent(kind).iter().map(|sent| sent.at).collect()
}

/// Starts an exchange with a tag that the host would not have drawn. The I1 that gets out is the one sent again.
fn establish_with_tag(world: &mut World, host: usize, ulids: LocatorPair, tag: ContextTag) {
    let endpoint = &mut world.hosts[host].endpoint;
    let id = endpoint.establish(world.now, ulids).expect("an exchange can start");
    while endpoint.poll_transmit(&mut [0; MAX_MESSAGE]).is_some() {}
    endpoint.contexts.set_local_tag(id, tag);
}

#[test]
fn exchange_establishes_both_ends_with_each_others_verified_locators() {
    let mut world = World::new(&config());
    let id = world.establish(A, B);
    assert_eq!(
        world.hosts[A].endpoint.context(id).map(|context| context.state),
        Some(ContextState::I1Sent)
    );
    world.run(2 * DELAY);
    assert_eq!(
        world.hosts[A].endpoint.context(id).map(|context| context.state),
        Some(ContextState::I2Sent)
    );
    assert_eq!(world.hosts[B].endpoint.contexts().count(), 0);
    world.run(secs(1));

    assert!(both_are_established(&world));
    assert_tags_agree(&world);
    for (host, peer) in [(A, B), (B, A)] {
        let context = world.hosts[host].context();
        assert_eq!(context.ulids, world.pair(host, peer));
        assert_eq!(context.locators, context.ulids);
        assert_eq!(context.peer_locators, world.hosts[peer].endpoint.identity().locators());
        assert_eq!(world.hosts[host].discards(), []);
    }
    let events = |host: usize| {
        world.hosts[host]
            .events
            .iter()
            .map(|(_, event)| event.clone())
            .collect::<Vec<_>>()
    };
    let established = |host: usize, initiator| {
        let context = world.hosts[host].context();
        [Event::Established {
            context: context.id,
            ulids: context.ulids,
            initiator,
        }]
    };
    assert_eq!(events(A), established(A, true));
    assert_eq!(events(B), established(B, false));
    let kinds: Vec<_> = world.control().iter().filter_map(|sent| sent.kind).collect();
    assert_eq!(
        kinds,
        [MessageType::I1, MessageType::R1, MessageType::I2, MessageType::R2]
    );
}

#[test]
fn a_second_context_for_the_same_pair_is_refused() {
    let mut world = World::established(&config());
    let id = world.hosts[A].context().id;
    let pair = world.pair(A, B);
    assert_eq!(
        world.hosts[A].endpoint.establish(world.now, pair),
        Err(EstablishError::Exists(id))
    );
    let own = LocatorPair {
        local: pair.local,
        peer: world.locator(A, 1),
    };
    assert_eq!(
        world.hosts[A].endpoint.establish(world.now, own),
        Err(EstablishError::NotOurs(own))
    );
    let foreign = pair.seen_by_peer();
    assert_eq!(
        world.hosts[A].endpoint.establish(world.now, foreign),
        Err(EstablishError::NotOurs(foreign))
    );
}

#[test]
fn responder_keeps_nothing_before_a_valid_i2() {
    let mut unlimited = config();
    unlimited.limits.r1 = Rate::UNLIMITED;
    let mut world = World::new(&unlimited);
    let b = world.locator(B, 0);
    for number in 0..10_000 {
        let source = identity(2 + (number % 8) as u16).locators()[0];
        let i1 = I1 {
            initiator_context_tag: ContextTag::from_random_bits(number),
            initiator_nonce: number as u32,
            ulid_pair: None,
            forked_instance: None,
        };
        world.inject(source, b, &emit(&Message::I1(i1)));
    }
    assert_eq!(world.sent(MessageType::R1).len(), 10_000);
    let endpoint = &world.hosts[B].endpoint;
    endpoint.contexts.assert_empty();
    assert_eq!(endpoint.failures.iter().count(), 0);
    assert_eq!(
        endpoint.transmits.len() + endpoint.updates.len() + endpoint.events.len() + endpoint.deliveries.len(),
        0
    );
    assert_eq!(endpoint.poll_timeout(), None);
}

#[test]
fn each_message_may_get_lost_once() {
    for (kind, resent) in [
        (MessageType::I1, MessageType::I1),
        (MessageType::R1, MessageType::I1),
        (MessageType::I2, MessageType::I2),
        (MessageType::R2, MessageType::I2),
    ] {
        let mut world = World::new(&config());
        world.lose(kind, 1);
        world.establish(A, B);
        let took = world
            .run_until(secs(20), both_are_established)
            .expect("the exchange recovers");
        // Half to one and a half times the 4 s of I1_TIMEOUT and I2_TIMEOUT, and two round trips.
        assert!(took > secs(2) && took < secs(6) + 4 * DELAY, "{kind} lost: {took:?}");
        let at = times(&world, resent);
        assert_eq!(at.len(), 2, "{kind} lost");
        assert!((at[1] - at[0]) >= secs(2) && (at[1] - at[0]) <= secs(6));
        world.run(secs(60));
        assert_eq!(times(&world, resent).len(), 2, "an established context resends nothing");
        assert_tags_agree(&world);
    }
}

/// A path so slow that everything is sent again before its answer can be there.
#[test]
fn answers_that_come_after_the_retransmission_make_one_context() {
    for both in [false, true] {
        for (there, back) in [(3_000, 3_000), (10, 9_000), (9_000, 10)] {
            let mut world = World::new(&config());
            let pair = world.pair(A, B);
            world.set_delay(pair.local, pair.peer, ms(there));
            world.set_delay(pair.peer, pair.local, ms(back));
            world.establish(A, B);
            if both {
                world.run(ms(4_000));
                world.establish(B, A);
            }
            world.run(secs(300));
            assert!(world.sent(MessageType::I1).len() > 1);
            assert!(
                both_are_established(&world),
                "{there} ms there, {back} ms back, both: {both}"
            );
            assert_tags_agree(&world);
        }
    }
}

#[test]
fn retransmissions_back_off_exponentially() {
    let mut world = World::new(&config());
    world.lose(MessageType::I1, 100);
    world.establish(A, B);
    world.run(secs(400));
    let at = times(&world, MessageType::I1);
    // The first and I1_RETRIES_MAX more.
    assert_eq!(at.len(), 5);
    for (index, pair) in at.windows(2).enumerate() {
        let (interval, nominal) = (pair[1] - pair[0], secs(4 << index));
        assert!(
            interval >= nominal / 2 && interval <= nominal * 3 / 2,
            "{interval:?} for {nominal:?}"
        );
    }
}

#[test]
fn i2_without_answer_falls_back_to_i1() {
    let mut world = World::new(&config());
    // The first I2 and I2_RETRIES_MAX more.
    world.lose(MessageType::I2, 3);
    world.establish(A, B);
    assert!(world.run_until(secs(200), both_are_established).is_some());
    let kinds: Vec<_> = world.control().iter().filter_map(|sent| sent.kind).collect();
    use MessageType as T;
    assert_eq!(kinds, [T::I1, T::R1, T::I2, T::I2, T::I2, T::I1, T::R1, T::I2, T::R2]);
}

#[test]
fn initiator_gives_up_in_the_end_even_if_r1_always_comes() {
    let mut world = World::new(&config());
    world.lose(MessageType::I2, 1_000);
    world.establish(A, B);
    world.run(secs(1_000));
    assert_eq!(world.sent(MessageType::I1).len(), 5);
    assert_eq!(world.sent(MessageType::I2).len(), 15);
    assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
}

#[test]
fn silent_peer_gives_no_answer_and_is_held_down() {
    let mut world = World::new(&config());
    let ulids = world.pair(A, B);
    world.cut_both_ways(ulids);
    world.establish(A, B);
    let gave_up = world.run_until(secs(400), |world| !world.hosts[A].events.is_empty());
    assert!(gave_up.is_some());
    assert_eq!(world.sent(MessageType::I1).len(), 5);
    assert_eq!(world.hosts[A].events, [(world.now, Event::NoAnswer { ulids })]);
    let endpoint = &mut world.hosts[A].endpoint;
    assert_eq!(endpoint.contexts().count(), 0);
    assert_eq!(endpoint.poll_timeout(), None);
    endpoint.contexts.assert_empty();

    let until = world.now + secs(60);
    world.run(ms(59_999));
    let other_local = world.pair_of(A, 1, B, 0);
    let endpoint = &mut world.hosts[A].endpoint;
    let state = ContextState::EFailed;
    let held_down = Err(EstablishError::HoldDown { state, until });
    assert_eq!(endpoint.establish(world.now, ulids), held_down);
    assert_eq!(endpoint.establish(world.now, other_local), held_down);
    assert!(endpoint.failures().eq([(ulids.peer, state, until)]));
    world.heal(ulids);
    world.run(ms(1));
    world.establish(A, B);
    assert!(world.run_until(secs(1), both_are_established).is_some());
    assert_eq!(world.hosts[A].endpoint.failures().count(), 0);
}

#[test]
fn hold_down_does_not_keep_the_peer_from_coming_to_us() {
    let mut world = World::new(&config());
    let ulids = world.pair(A, B);
    world.cut_both_ways(ulids);
    world.establish(A, B);
    assert!(
        world
            .run_until(secs(400), |world| !world.hosts[A].events.is_empty())
            .is_some()
    );
    world.heal(ulids);
    world.establish(B, A);
    assert!(world.run_until(secs(1), both_are_established).is_some());
}

/// Figure 4.
#[test]
fn crossing_i1_messages_make_one_context_at_each_end() {
    let mut world = World::new(&config());
    world.establish(A, B);
    world.establish(B, A);
    world.run(secs(60));
    assert!(both_are_established(&world));
    assert_tags_agree(&world);
    let kinds: Vec<_> = world.control().iter().filter_map(|sent| sent.kind).collect();
    assert_eq!(
        kinds,
        [MessageType::I1, MessageType::I1, MessageType::R2, MessageType::R2]
    );
}

#[test]
fn crossing_i1_messages_survive_the_loss_of_either_answer() {
    for lost in 1..=2 {
        let mut world = World::new(&config());
        world.lose(MessageType::R2, lost);
        world.establish(A, B);
        world.establish(B, A);
        assert!(world.run_until(secs(30), both_are_established).is_some(), "{lost} lost");
        world.run(secs(60));
        assert!(both_are_established(&world));
        assert_tags_agree(&world);
    }
}

/// Figure 5, at each moment at which the second I1 can leave.
#[test]
fn crossing_i2_and_i1_make_one_context_at_each_end() {
    for later in 0..=45 {
        let mut world = World::new(&config());
        world.establish(A, B);
        world.run(ms(later));
        if world.hosts[B].endpoint.contexts().count() == 0 {
            world.establish(B, A);
        }
        world.run(secs(60));
        assert!(both_are_established(&world), "second I1 after {later} ms");
        assert_tags_agree(&world);
        for host in [A, B] {
            let events = &world.hosts[host].events;
            let made = events
                .iter()
                .filter(|(_, event)| matches!(event, Event::Established { .. }))
                .count();
            assert_eq!((made, events.len()), (1, 1), "second I1 after {later} ms: {events:?}");
        }
    }
}

/// Figure 7.
#[test]
fn peer_that_lost_its_state_and_starts_again_replaces_the_context() {
    let mut world = World::established(&config());
    let before = world.hosts[A].context().id;
    world.restart(B, &config(), 77);
    world.establish(B, A);
    assert!(world.run_until(secs(1), both_are_established).is_some());
    world.run(secs(1));
    assert_tags_agree(&world);
    assert_eq!(world.hosts[A].context().id, before);

    let since = world.now;
    world.send_payload(A, world.pair(A, B));
    world.send_payload(B, world.pair(B, A));
    world.run(secs(1));
    assert_eq!((world.received_since(A, since), world.received_since(B, since)), (1, 1));
}

/// The old context's packets say nothing about the new one.
#[test]
fn traffic_from_before_does_not_make_a_replaced_context_explore() {
    let mut world = World::established(&config());
    // A packet without answer, as the last of every session.
    world.send_payload(A, world.pair(A, B));
    world.run(secs(3));
    world.restart(B, &config(), 77);
    world.run(secs(11));
    world.establish(B, A);
    world.run(secs(60));
    assert!(both_are_established(&world));
    assert_eq!(world.sent(MessageType::PROBE).len(), 0);
}

#[test]
fn context_is_closed_when_the_peer_uses_its_tag_for_another_pair() {
    let mut world = World::established(&config());
    let old = world.hosts[A].context();
    let tag = world.hosts[B]
        .dataplane
        .flow(world.pair(B, A))
        .expect("there is a flow")
        .local_tag;
    // B has lost the context and gives its tag to another one.
    world.restart(B, &config(), 77);
    let ulids = world.pair_of(B, 1, A, 0);
    establish_with_tag(&mut world, B, ulids, tag);
    world.run(secs(10));

    assert!(both_are_established(&world));
    let events = &world.hosts[A].events;
    assert!(events.iter().any(|(_, event)| *event
        == Event::Closed {
            context: old.id,
            ulids: old.ulids,
            reason: CloseReason::Confusion
        }));
    assert_eq!(world.hosts[A].context().ulids, ulids.seen_by_peer());
    assert!(world.hosts[A].dataplane.flow(old.ulids).is_none());
    assert_eq!(world.hosts[A].dataplane.len(), 1);
}

#[test]
fn two_peers_may_use_the_same_tag() {
    let mut world = World::with(&[config(), config(), config()], 1);
    world.establish(A, B);
    world.run(secs(1));
    let tag = world.hosts[A]
        .dataplane
        .flow(world.pair(A, B))
        .expect("there is a flow")
        .peer_tag;
    let ulids = world.pair(2, A);
    establish_with_tag(&mut world, 2, ulids, tag);
    world.run(secs(10));
    let endpoint = &mut world.hosts[A].endpoint;
    let ids: Vec<_> = endpoint.contexts().map(|context| context.id).collect();
    assert_eq!(ids.len(), 2);
    endpoint.close(ids[0]);
    assert_eq!(world.hosts[A].endpoint.contexts.by_peer_tag(tag), [ids[1]]);
}

#[test]
fn clock_that_goes_back_is_taken_as_standing_still() {
    let mut world = World::new(&config());
    let (start, delta) = (world.now, secs(100));
    let step = |world: &mut World, host: usize, now: Instant| -> Option<Vec<u8>> {
        let (a, b) = (world.locator(A, 0), world.locator(B, 0));
        let mut buffer = [0; MAX_MESSAGE];
        let len = world.hosts[host].endpoint.poll_transmit(&mut buffer)?.len;
        let (source, destination) = if host == A { (a, b) } else { (b, a) };
        world.hosts[1 - host]
            .endpoint
            .handle_message(now, source, destination, &buffer[..len]);
        Some(buffer[..len].to_vec())
    };
    let ulids = world.pair(A, B);
    world.hosts[A]
        .endpoint
        .establish(start, ulids)
        .expect("an exchange can start");
    for (sender, now) in [(A, start), (B, start - delta), (A, start - delta), (B, start - delta)] {
        assert!(step(&mut world, sender, now).is_some());
    }
    assert!(both_are_established(&world));
    let endpoint = &mut world.hosts[A].endpoint;
    let context = endpoint.contexts().next().expect("there is one");
    assert_eq!(context.created, start);
    endpoint.handle_timeout(start - delta);
    endpoint.handle_activity(start - delta, context.id);
    endpoint.handle_locator(start - delta, ulids.local, false);
    assert!(endpoint.poll_timeout().is_some_and(|at| at > start));
}

#[test]
fn closed_context_leaves_nothing_behind() {
    let mut world = World::established(&config());
    let context = world.hosts[A].context();
    world.hosts[A].endpoint.close(context.id);
    world.drain(A);
    let (id, ulids) = (context.id, context.ulids);
    assert_eq!(
        world.hosts[A].events[0].1,
        Event::Closed {
            context: id,
            ulids,
            reason: CloseReason::Requested
        }
    );
    let host = &world.hosts[A];
    assert!(host.dataplane.is_empty());
    host.endpoint.contexts.assert_empty();
    assert_eq!(host.endpoint.poll_timeout(), None);
    // Whoever still holds the flow and calls for it does no harm.
    world.hosts[A].endpoint.handle_activity(world.now, id);
    world.hosts[A].endpoint.close(id);
    world.drain(A);
    assert_eq!(world.hosts[A].events.len(), 1);
}

#[test]
fn answers_that_come_late_or_twice_change_nothing() {
    let mut world = World::established(&config());
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    let before = alloc::format!("{:?}", world.hosts[A].context());
    let mut replay = World::new(&config());
    replay.establish(A, B);
    replay.run(secs(1));
    for (kind, reason) in [
        (MessageType::R1, Discard::NoMatchingInitiator),
        (MessageType::R2, Discard::NoMatchingInitiator),
    ] {
        // The same seed: these are the very octets that A got.
        let message = replay.last(kind).packet[40..].to_vec();
        let count = world.hosts[A].discarded(reason);
        world.inject(b, a, &message);
        assert_eq!(world.hosts[A].discarded(reason), count + 1);
    }
    assert_eq!(alloc::format!("{:?}", world.hosts[A].context()), before);
    assert_eq!(world.log, []);
}

#[test]
fn repeated_i1_and_i2_of_an_established_peer_get_an_r2_again() {
    let mut world = World::new(&config());
    world.establish(A, B);
    world.run(secs(1));
    let (a, b) = (world.locator(A, 0), world.locator(B, 0));
    let before = world.hosts[B].context().id;
    for kind in [MessageType::I1, MessageType::I2] {
        let message = world.last(kind).packet[40..].to_vec();
        let sent = world.sent(MessageType::R2).len();
        world.inject(a, b, &message);
        assert_eq!(world.sent(MessageType::R2).len(), sent + 1, "{kind}");
    }
    assert_eq!(world.hosts[B].context().id, before);
    assert_eq!(world.hosts[B].events.len(), 1);
}

/// Within the lifetime of its validator an I2 can be sent again by whoever saw it. It must not bring back the tag of a
/// context that its initiator has lost since.
#[test]
fn i2_with_an_older_validator_than_the_last_one_is_not_believed() {
    let mut world = World::new(&config());
    let stranger = super::stranger::Stranger::new();
    let old = stranger.i2(&mut world, B);
    world.run(secs(10));
    let mut again = super::stranger::Stranger::new();
    again.tag = ContextTag::from_random_bits(99);
    again.establish(&mut world, B);
    stranger.send(&mut world, B, &Message::I2(old));
    assert_eq!(world.hosts[B].discards(), [(Discard::StaleValidator, 1)]);
    assert_eq!(world.hosts[B].context().peer_tag, Some(again.tag));
}

/// The R2 that answers the peer's I2 tells all, so nothing is to be told again.
#[test]
fn crossing_exchanges_need_no_update() {
    for later in [0, 5, 15, 25] {
        let mut world = World::new(&config());
        world.establish(A, B);
        world.run(ms(later));
        if world.hosts[B].endpoint.contexts().count() == 0 {
            world.establish(B, A);
        }
        world.run(secs(60));
        assert!(both_are_established(&world));
        for host in [A, B] {
            assert!(!world.hosts[host].context().updating, "second I1 after {later} ms");
            assert_eq!(world.hosts[host].context().peer_locators.len(), 2);
        }
        assert_eq!(
            world.sent(MessageType::UPDATE_REQUEST).len(),
            0,
            "second I1 after {later} ms"
        );
    }
}
