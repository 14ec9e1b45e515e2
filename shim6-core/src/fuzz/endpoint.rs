//! Two endpoints with a context between them, a network, and somebody who sends what he likes.

mod forge;
mod world;

use core::time::Duration;

use super::Source;
use world::World;

/// Operations in one run. What an endpoint does depends on what it did before, but not on that much of it.
const MAX_OPERATIONS: usize = 96;

/// A sequence of operations, each chosen by an octet and described by those that follow.
pub fn endpoint(octets: &[u8]) {
    let mut world = World::established();
    let mut source = Source::new(octets);
    for _ in 0..MAX_OPERATIONS {
        if source.is_empty() {
            break;
        }
        operate(&mut world, &mut source);
    }
    // What was begun comes to its end, and goes on doing so.
    for _ in 0..20 {
        world.deliver_all();
        world.wait(Duration::from_secs(1));
    }
}

fn operate(world: &mut World, source: &mut Source<'_>) {
    match source.octet() % 16 {
        0..=2 => world.deliver(0),
        3 => world.deliver(source.octet().into()),
        4 => world.lose(source.octet().into()),
        5 => world.duplicate(source.octet().into()),
        6 => world.deliver_all(),
        // From a millisecond to a good half minute.
        7 => world.wait(Duration::from_millis(1 << (source.octet() % 16))),
        8 => world.wait_for_timeout(),
        9..=11 => world.inject(source),
        12 => world.command(source),
        13 => world.send_payload(source),
        14 if source.octet().is_multiple_of(2) => world.answer_by_icmp(source),
        14 => world.send_packet(source),
        _ => world.inject_as_it_is(source),
    }
}
