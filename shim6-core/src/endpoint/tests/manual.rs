//! Probes and moves that a person asks for.

use alloc::vec::Vec;
use core::time::Duration;

use super::world::{A, B, World, ms, secs};
use crate::wire::MessageType;
use crate::{Cause, ContextId, EndpointConfig, Event, LocatorPair, Moved, PathError, ReapState};

/// An established context with requests and replies running over it, and the other pair of locators.
fn busy() -> (World, ContextId, LocatorPair) {
    let mut world = World::established(&EndpointConfig::default());
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(3));
    world.log.clear();
    let (id, other) = (world.hosts[A].context().id, world.pair_of(A, 1, B, 1));
    (world, id, other)
}

fn probe(world: &mut World, id: ContextId, pair: LocatorPair) -> Result<(), PathError> {
    let done = world.hosts[A].endpoint.probe(world.now, id, pair, world.now + secs(1));
    world.drain(A);
    done
}

fn move_to(world: &mut World, id: ContextId, pair: LocatorPair) -> Result<Moved, PathError> {
    let done = world.hosts[A]
        .endpoint
        .move_to(world.now, id, pair, world.now + secs(1));
    world.drain(A);
    done
}

fn answers(world: &World) -> Vec<(LocatorPair, Option<Duration>)> {
    let events = world.hosts[A].events.iter();
    let answers = events.filter_map(|(_, event)| match event {
        Event::ProbeAnswered { pair, rtt, .. } => Some((*pair, *rtt)),
        _ => None,
    });
    answers.collect()
}

fn changes(world: &World, host: usize) -> Vec<(LocatorPair, Cause)> {
    let events = world.hosts[host].events.iter();
    let changes = events.filter_map(|(_, event)| match event {
        Event::PathChanged { to, cause, .. } => Some((*to, *cause)),
        _ => None,
    });
    changes.collect()
}

#[test]
fn a_probe_gives_the_round_trip_time_and_changes_nothing() {
    let (mut world, id, other) = busy();
    world.set_delay(other.local, other.peer, ms(35));
    probe(&mut world, id, other).expect("a probe");
    world.run(secs(1));
    assert_eq!(answers(&world), [(other, Some(ms(45)))]);
    for host in [A, B] {
        assert!(changes(&world, host).is_empty());
        assert_eq!(world.hosts[host].context().reap, ReapState::Operational);
    }
    assert_eq!(world.sent(MessageType::PROBE).len(), 2);
}

#[test]
fn a_probe_that_gets_lost_is_not_answered_and_an_answer_that_is_late_is_none() {
    let (mut world, id, other) = busy();
    world.cut(other.local, other.peer);
    probe(&mut world, id, other).expect("a probe");
    world.run(secs(5));
    assert!(answers(&world).is_empty());
    world.heal(other);
    world.set_delay(other.local, other.peer, ms(1_001));
    probe(&mut world, id, other).expect("another probe");
    world.run(secs(5));
    assert!(answers(&world).is_empty());
}

#[test]
fn tests_without_a_pause_are_refused_and_the_error_says_until_when() {
    let (mut world, id, other) = busy();
    probe(&mut world, id, other).expect("a probe");
    let Err(PathError::TooSoon { at }) = probe(&mut world, id, other) else {
        panic!("a second probe at once");
    };
    world.run(at - world.now);
    probe(&mut world, id, other).expect("a probe in time");
}

#[test]
fn a_move_waits_for_the_proof_and_stays_whatever_is_preferred() {
    let (mut world, id, other) = busy();
    assert_eq!(move_to(&mut world, id, other), Ok(Moved::OnAnswer));
    assert_eq!(
        world.hosts[A].context().locators,
        world.pair(A, B),
        "nothing is proved yet"
    );
    world.run(secs(120));
    assert_eq!(changes(&world, A), [(other, Cause::Requested)]);
    let context = world.hosts[A].context();
    assert_eq!(
        (context.locators, context.preferred, context.pinned),
        (other, other, true)
    );
    assert_eq!(context.last_failover.expect("a change").took, None);
    assert!(changes(&world, B).is_empty(), "each end chooses for what it sends");
    let since = world.now;
    world.run(secs(1));
    assert!(world.received_since(A, since) >= 50);

    // Once it may, it goes back.
    world.hosts[A].endpoint.release(world.now, id).expect("a context");
    world.drain(A);
    world.run(secs(60));
    assert_eq!(changes(&world, A)[1..], [(world.pair(A, B), Cause::Preferred)]);
    assert!(!world.hosts[A].context().pinned);
}

#[test]
fn a_pair_that_was_found_to_work_a_moment_ago_is_taken_at_once() {
    let (mut world, id, other) = busy();
    probe(&mut world, id, other).expect("a probe");
    world.run(secs(1));
    assert_eq!(move_to(&mut world, id, other), Ok(Moved::Now));
    assert_eq!(world.hosts[A].context().locators, other);
    assert_eq!(move_to(&mut world, id, other), Ok(Moved::Now), "it is there");
}

#[test]
fn a_pair_that_does_not_work_is_not_taken() {
    let (mut world, id, other) = busy();
    world.cut_both_ways(other);
    assert_eq!(move_to(&mut world, id, other), Ok(Moved::OnAnswer));
    world.run(secs(10));
    assert!(changes(&world, A).is_empty());
    assert!(!world.hosts[A].context().pinned);
}

#[test]
fn what_was_chosen_by_hand_is_left_when_it_fails_and_counts_no_more() {
    let (mut world, id, other) = busy();
    move_to(&mut world, id, other).expect("a move");
    world.run(secs(5));
    world.cut_both_ways(other);
    world.run(secs(60));
    let context = world.hosts[A].context();
    assert_eq!((context.locators, context.pinned), (world.pair(A, B), false));
    assert_eq!(context.reap, ReapState::Operational);
}

#[test]
fn what_cannot_be_probed_or_taken_is_named() {
    let (mut world, id, other) = busy();
    let stranger = LocatorPair::new(other.local, "2001:db8:bad::1".parse().unwrap());
    assert_eq!(move_to(&mut world, id, stranger), Err(PathError::NotAPair(stranger)));
    let gone = ContextId(77);
    assert_eq!(probe(&mut world, gone, other), Err(PathError::NoContext));
    assert_eq!(
        world.hosts[A].endpoint.release(world.now, gone),
        Err(PathError::NoContext)
    );
    world.set_locator(A, 1, false);
    assert_eq!(move_to(&mut world, id, other), Err(PathError::Unusable(other.local)));
    world.set_locator(A, 1, true);
    world.cut_both_ways(world.pair(A, B));
    let searches = |world: &World| world.hosts[A].context().reap != ReapState::Operational;
    world.run_until(secs(5), searches).expect("a failure is noticed");
    assert_eq!(move_to(&mut world, id, other), Err(PathError::Searching));
}
