//! Octets of any kind, and events in any order.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use proptest::collection::vec as vec_of;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::world::{A, B, World, fast, identity, ms, seal, secs};
use crate::wire::MessageType;
use crate::{EndpointConfig, ReapState};

/// Messages of a whole life, from another world: nothing in them is valid in this one.
fn recorded() -> Vec<Vec<u8>> {
    let mut world = World::with(&[fast(), fast()], 99);
    world.lose(MessageType::R2, 1);
    world.establish(A, B);
    world.run(secs(10));
    live(&mut world);
    messages(&world)
}

/// Traffic, keepalives and an exploration.
fn live(world: &mut World) {
    world.stream(A, world.pair(A, B), ms(50), false);
    world.run(secs(2));
    world.cut(world.locator(A, 0), world.locator(B, 0));
    world.run(secs(3));
}

fn messages(world: &World) -> Vec<Vec<u8>> {
    world.control().iter().map(|sent| sent.packet[40..].to_vec()).collect()
}

/// Changes octets and the length; `sealed`: with a right checksum again, so that more than the checksum is tested.
fn mutate(message: &[u8], changes: &[(Index, u8)], resize: isize, sealed: bool) -> Vec<u8> {
    let mut octets = message.to_vec();
    for (index, value) in changes {
        *index.get_mut(&mut octets) = *value;
    }
    octets.resize(octets.len().saturating_add_signed(8 * resize).clamp(8, 2_048), 0);
    if sealed {
        seal(&mut octets);
    }
    octets
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8)>> {
    vec_of(any::<(Index, u8)>(), 0..6)
}

fn candidates() -> Vec<Ipv6Addr> {
    [A as u16, B as u16, 60]
        .iter()
        .flat_map(|&number| identity(number).locators().to_vec())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn garbage_makes_no_context_and_no_panic(
        mut octets in vec_of(any::<u8>(), 0..400),
        source in any::<Index>(),
        is_plausible in any::<bool>(),
    ) {
        let mut world = World::new(&EndpointConfig::default());
        let (a, source) = (world.locator(A, 0), *source.get(&candidates()));
        if is_plausible && octets.len() >= 8 {
            octets.truncate(octets.len() / 8 * 8);
            octets[2] &= 0x7f;
            octets[3] &= 0xfe;
            seal(&mut octets);
        }
        world.inject_at(A, source, a, &octets);
        prop_assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
        prop_assert!(world.log.len() <= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn another_hosts_messages_make_no_context(
        inputs in vec_of((any::<Index>(), changes(), -2_isize..3, any::<bool>(), any::<Index>()), 1..60)
    ) {
        let mut world = World::new(&EndpointConfig::default());
        let (a, recorded) = (world.locator(A, 0), recorded());
        for (which, changes, resize, sealed, source) in inputs {
            let octets = mutate(which.get::<Vec<u8>>(&recorded), &changes, resize, sealed);
            world.inject_at(A, *source.get(&candidates()), a, &octets);
        }
        prop_assert_eq!(world.hosts[A].endpoint.contexts().count(), 0);
        prop_assert!(world.hosts[A].dataplane.is_empty());
    }

    #[test]
    fn mutated_messages_leave_a_world_that_works(
        inputs in vec_of((any::<Index>(), changes(), -2_isize..3, any::<bool>(), any::<Index>(), any::<bool>()), 1..80)
    ) {
        let mut world = World::established(&fast());
        live(&mut world);
        let own = messages(&world);
        let others = recorded();
        for (which, changes, resize, sealed, source, is_own) in inputs {
            let octets = mutate(which.get::<Vec<u8>>(if is_own { &own } else { &others }), &changes, resize, sealed);
            let source = *source.get(&candidates());
            for host in [A, B] {
                let destination = world.locator(host, 0);
                world.inject_at(host, source, destination, &octets);
            }
            world.run(ms(20));
        }
        world.heal(world.pair(A, B));
        world.run(secs(120));
        let since = world.now;
        world.run(secs(5));
        prop_assert!(world.received_since(B, since) >= 99);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Establish(usize),
    Close(usize),
    Cut(usize, usize, bool),
    Heal,
    Locator(usize, usize, bool),
    Stream(usize, bool),
    StopStreams,
    Lose(MessageType, usize),
    Run(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let kinds = [
        MessageType::I1,
        MessageType::R1,
        MessageType::I2,
        MessageType::R2,
        MessageType::KEEPALIVE,
        MessageType::PROBE,
    ];
    prop_oneof![
        (0..2_usize).prop_map(Act::Establish),
        (0..2_usize).prop_map(Act::Close),
        (0..2_usize, 0..2_usize, any::<bool>()).prop_map(|(local, peer, back)| Act::Cut(local, peer, back)),
        Just(Act::Heal),
        (0..2_usize, 0..2_usize, any::<bool>()).prop_map(|(host, index, up)| Act::Locator(host, index, up)),
        (0..2_usize, any::<bool>()).prop_map(|(from, replies)| Act::Stream(from, replies)),
        Just(Act::StopStreams),
        (0..kinds.len(), 1..4_usize).prop_map(move |(kind, count)| Act::Lose(kinds[kind], count)),
        (1..5_000_u64).prop_map(Act::Run),
        (1..60_u64).prop_map(Act::Run),
    ]
}

fn all_pairs(world: &World) -> [crate::LocatorPair; 4] {
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(local, peer)| world.pair_of(A, local, B, peer))
}

fn start(world: &mut World, from: usize) {
    let ulids = world.pair(from, 1 - from);
    // It may exist or be held down.
    let _ = world.hosts[from].endpoint.establish(world.now, ulids);
    world.drain(from);
}

fn perform(world: &mut World, act: &Act) {
    match *act {
        Act::Establish(from) => start(world, from),
        Act::Close(host) => {
            let ids: Vec<_> = world.hosts[host]
                .endpoint
                .contexts()
                .map(|context| context.id)
                .collect();
            ids.into_iter().for_each(|id| world.hosts[host].endpoint.close(id));
            world.drain(host);
        }
        Act::Cut(local, peer, back) => {
            let pair = world.pair_of(A, local, B, peer);
            let pair = if back { pair.seen_by_peer() } else { pair };
            world.cut(pair.local, pair.peer);
        }
        Act::Heal => all_pairs(world).into_iter().for_each(|pair| world.heal(pair)),
        Act::Locator(host, index, usable) => world.set_locator(host, index, usable),
        Act::Stream(from, replies) => {
            world.stop_streams();
            let ulids = world.pair(from, 1 - from);
            world.stream(from, ulids, ms(50), replies);
        }
        Act::StopStreams => world.stop_streams(),
        Act::Lose(kind, count) => world.lose(kind, count),
        Act::Run(milliseconds) => world.run(ms(milliseconds)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_traffic_flows_again_once_the_network_is_well(acts in vec_of(act(), 1..40)) {
        let mut world = World::new(&fast());
        acts.iter().for_each(|act| perform(&mut world, act));
        world.stop_streams();
        perform(&mut world, &Act::Heal);
        for (host, index) in [(A, 0), (A, 1), (B, 0), (B, 1)] {
            world.set_locator(host, index, true);
        }
        world.forget_losses();
        // Exchanges that were going on come to their end, and hold-downs too.
        world.run(secs(500));
        for host in [A, B] {
            start(&mut world, host);
            world.run(secs(1));
        }
        // More often than keepalives would be due.
        world.stream(A, world.pair(A, B), ms(150), true);
        world.run(secs(240));
        let since = world.now;
        world.log.clear();
        world.run(secs(20));
        for host in [A, B] {
            prop_assert_eq!(world.hosts[host].context().reap, ReapState::Operational);
            prop_assert!(world.received_since(host, since) >= 130);
        }
        prop_assert!(world.control().is_empty());
    }
}
