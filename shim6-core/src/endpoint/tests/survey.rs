//! What is told of pairs and totals.

use super::world::{A, B, World, fast, ms, secs};
use crate::{ContextState, EndpointConfig, PathInfo};

fn path(world: &World, local: usize, peer: usize) -> PathInfo {
    let pair = world.pair_of(A, local, B, peer);
    let paths = world.hosts[A].endpoint.paths();
    paths
        .into_iter()
        .find(|path| path.pair == pair)
        .expect("it is one of the pairs")
}

#[test]
fn pairs_tell_who_uses_them_what_failed_and_what_was_lost() {
    let mut world = World::established(&EndpointConfig::default());
    let ulids = world.pair(A, B);
    world.stream(A, ulids, ms(20), true);
    world.run(secs(3));
    assert_eq!(world.hosts[A].endpoint.paths().len(), 4);
    let used = path(&world, 0, 0);
    assert_eq!((used.users, used.doubts, used.usable), (1, 0, true));
    assert_eq!(used.named_users, [world.hosts[A].context().id]);
    assert_eq!(used.rtt, Some(ms(20)), "the handshake's");
    assert!(used.heard.is_some_and(|heard| world.now - heard < ms(50)));
    assert_eq!((used.failed, used.probes_sent), (None, 0));

    world.cut_both_ways(ulids);
    world.run(secs(20));
    let left = path(&world, 0, 0);
    assert_eq!(left.users, 0);
    assert!(left.failed > left.confirmed);
    assert!(left.probes_sent > left.probes_answered, "{left:?}");
    let (lost, of) = left.recent_losses;
    assert!(lost > 0 && lost <= of, "{left:?}");
    let now = world.hosts[A].context().locators;
    let paths = world.hosts[A].endpoint.paths();
    let used = paths.iter().find(|path| path.pair == now).expect("the pair in use");
    assert_eq!((used.users, used.rtt), (1, Some(ms(20))));
    assert!(used.confirmed.is_some() && used.probes_answered > 0);

    world.set_locator(A, 0, false);
    assert!(!path(&world, 0, 1).usable && path(&world, 1, 1).usable);
}

#[test]
fn the_pairs_of_a_context_come_in_the_order_of_preference() {
    let world = World::established(&fast());
    let context = world.hosts[A].context();
    let paths = world.hosts[A].endpoint.paths_of(context.id).expect("a context");
    assert_eq!(paths.len(), 4);
    assert_eq!(paths[0].pair, context.ulids);
    assert_eq!(world.hosts[A].endpoint.find(context.id.value()), Some(context.id));
    assert_eq!(world.hosts[A].endpoint.find(context.id.value() + 1), None);
}

#[test]
fn the_census_counts_traffic_of_contexts_that_are_gone() {
    let mut world = World::established(&fast());
    world.stream(A, world.pair(A, B), ms(20), true);
    world.run(secs(3));
    let before = world.hosts[A].endpoint.census();
    assert!(before.sent.0 >= 150 && before.received.0 >= 149, "{before:?}");
    assert!(before.states.contains(&(ContextState::Established, 1)));
    assert!(before.states.contains(&(ContextState::I1Sent, 0)));
    let id = world.hosts[A].context().id;
    world.hosts[A].endpoint.close(id);
    let after = world.hosts[A].endpoint.census();
    assert!(after.states.iter().all(|&(_, count)| count == 0));
    assert_eq!((after.sent, after.received), (before.sent, before.received));

    world = World::established(&fast());
    world.stream(A, world.pair(A, B), ms(20), true);
    for (local, peer) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        world.cut_both_ways(world.pair_of(A, local, B, peer));
    }
    world.run(secs(3));
    let census = world.hosts[A].endpoint.census();
    assert_eq!((census.exploring, census.inbound_ok, census.moved), (1, 0, 0));
}
