//! The packet path: rewriting, finding a packet's flow among many, and publishing a changed table.

use std::hint::black_box;
use std::net::Ipv6Addr;
use std::sync::Arc;

use allocation_counter::measure;
use rand_chacha::rand_core::Rng;
use shim6_core::dataplane::{Inbound, Outbound};
use shim6_core::wire::{ContextTag, payload};
use shim6_core::{Activity, Dataplane, DataplaneUpdate, Endpoint, Flow, Instant, LocatorPair};

mod common;

use common::paired::{self, Effort};

const NOW: Instant = Instant::from_micros(1_000_000);
const HEADROOM: usize = 8;
const IPV6_HEADER: usize = 40;
const PAYLOAD_HEADER: usize = 8;
/// Packets that come together.
const BURST: usize = 64;
/// Packets in one run of what is compared.
const BATCH: usize = 1024;

fn main() {
    let effort = Effort::from_args();
    if !effort.measures() {
        println!("Not a measurement: each way runs once, to see that it does. `cargo bench` measures.");
    }
    rewriting(effort);
    let counts: &[usize] = if effort.measures() {
        &[1_000, 100_000, 1_000_000]
    } else {
        &[1_000, 2_000]
    };
    let tables: Vec<_> = counts.iter().map(|&count| Table::new(count)).collect();
    lookups(effort, &tables);
    publishing(effort, &tables);
}

/// A number for each context.
fn contexts(count: usize) -> Vec<shim6_core::ContextId> {
    let mut rng = common::rng(1);
    let mut endpoint = common::endpoint(&mut rng);
    let local = endpoint.identity().locators()[0];
    let mut establish = |endpoint: &mut Endpoint| {
        let peer = common::stranger(&mut rng);
        let context = endpoint.establish(NOW, LocatorPair { local, peer }).expect("a context");
        while endpoint.poll_transmit(&mut [0; 64]).is_some() {}
        endpoint.close(context);
        while endpoint.poll_event().is_some() {}
        context
    };
    (0..count).map(|_| establish(&mut endpoint)).collect()
}

/// Steered flows with random peers and tags, in the order in which their packets come, which is random, too.
struct Table {
    dataplane: Dataplane,
    local: Ipv6Addr,
    arrivals: Vec<(Ipv6Addr, ContextTag)>,
}

impl Table {
    fn new(count: usize) -> Self {
        let mut rng = common::rng(2);
        let tag = |rng: &mut dyn Rng| ContextTag::from_random_bits(rng.next_u64());
        let [local, backup] = [(); 2].map(|()| common::stranger(&mut rng));
        let mut dataplane = Dataplane::default();
        let mut arrivals = Vec::new();
        for context in contexts(count) {
            let [peer, other] = [(); 2].map(|()| common::stranger(&mut rng));
            let flow = Flow {
                context,
                ulids: LocatorPair { local, peer },
                forked_instance: 0,
                locators: LocatorPair {
                    local: backup,
                    peer: other,
                },
                local_tag: tag(&mut rng),
                peer_tag: tag(&mut rng),
                activity: Arc::new(Activity::default()),
                holding: false,
            };
            arrivals.push((peer, flow.local_tag));
            dataplane.apply(DataplaneUpdate::Insert(Arc::new(flow)));
        }
        for index in 1..arrivals.len() {
            arrivals.swap(index, rng.next_u64() as usize % (index + 1));
        }
        Self {
            dataplane,
            local,
            arrivals,
        }
    }

    /// What tells the flow of the next packet.
    fn next(&self, next: &mut usize) -> (LocatorPair, ContextTag) {
        let (peer, tag) = self.arrivals[*next];
        *next = (*next + 1) % self.arrivals.len();
        let local = self.local;
        (LocatorPair { local, peer }, tag)
    }
}

/// An IPv6 packet without extension headers behind [`HEADROOM`].
fn packet(ulids: LocatorPair, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADROOM];
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next_header, 64]);
    packet.extend_from_slice(&ulids.local.octets());
    packet.extend_from_slice(&ulids.peer.octets());
    packet.extend_from_slice(payload);
    packet
}

/// The peer's packet with this host's tag, where it starts without headroom.
fn tagged(ulids: LocatorPair, tag: ContextTag) -> Vec<u8> {
    let header = (0x8000_0000_0000 | tag.value()).to_be_bytes();
    let payload = [&[17, 0], &header[2..], &[0; 1392]].concat();
    packet(ulids.seen_by_peer(), 140, &payload).split_off(HEADROOM)
}

fn rewriting(effort: Effort) {
    paired::title(
        "Rewriting of a packet in cache, of one flow among 1,000, beside a copy of its headers",
        ["", "rewriting", "copy", "ratio"],
    );
    let table = Table::new(1_000);
    let dataplane = &table.dataplane;
    let (ulids, tag) = table.next(&mut 0);
    let original = packet(ulids, 17, &[0; 1400]);
    let mut buffer = original.clone();
    let end = HEADROOM + IPV6_HEADER;
    let mut out = || {
        for _ in 0..BATCH {
            buffer[..end].copy_from_slice(black_box(&original[..end]));
            let outbound = dataplane.outbound(black_box(&mut buffer), HEADROOM, NOW);
            assert!(matches!(outbound, Outbound::Rewritten { start: 0, .. }));
        }
    };
    let allocations = measure(&mut out).count_total;
    let mut copied = original.clone();
    let mut copy = |from: &[u8], end: usize| {
        for _ in 0..BATCH {
            black_box(&mut copied)[..end].copy_from_slice(black_box(&from[..end]));
        }
    };
    let comparison = effort.compare(out, || copy(&original, end)).of_each(BATCH);
    paired::row_of_times("outbound", &comparison);
    println!("    allocations: {allocations}");

    let original = tagged(ulids, tag);
    let mut buffer = original.clone();
    let end = IPV6_HEADER + PAYLOAD_HEADER;
    let mut inbound = || {
        for _ in 0..BATCH {
            buffer[..end].copy_from_slice(black_box(&original[..end]));
            let inbound = dataplane.inbound(black_box(&mut buffer), 0, NOW);
            assert!(matches!(inbound, Inbound::Restored { start: 8, .. }));
        }
    };
    let allocations = measure(&mut inbound).count_total;
    let comparison = effort.compare(inbound, || copy(&original, end)).of_each(BATCH);
    paired::row_of_times("inbound", &comparison);
    println!("    allocations: {allocations}");
}

/// Octets of the packets of random flows.
const SHORT: usize = IPV6_HEADER + PAYLOAD_HEADER + 64;

/// What becomes of the packets of random flows.
#[derive(Clone, Copy)]
enum Way {
    Out,
    In,
}

impl Way {
    /// A packet behind [`HEADROOM`], and where what tells its flow is in it.
    fn template(self, ulids: LocatorPair, tag: ContextTag) -> [u8; HEADROOM + SHORT] {
        let mut packet = match self {
            Self::Out => packet(ulids, 17, &[0; SHORT]),
            Self::In => [vec![0; HEADROOM], tagged(ulids, tag)].concat(),
        };
        packet.truncate(HEADROOM + SHORT);
        packet[HEADROOM + 4..HEADROOM + 6].copy_from_slice(&((SHORT - IPV6_HEADER) as u16).to_be_bytes());
        packet.try_into().expect("its size")
    }

    /// Makes it the packet of another flow.
    fn readdress(self, packet: &mut [u8], peer: Ipv6Addr, tag: ContextTag) {
        match self {
            Self::Out => packet[HEADROOM + 24..HEADROOM + 40].copy_from_slice(&peer.octets()),
            Self::In => {
                let tag = (0x8000_0000_0000 | tag.value()).to_be_bytes();
                packet[HEADROOM + IPV6_HEADER + 2..][..6].copy_from_slice(&tag[2..]);
            }
        }
    }

    fn warm(self, dataplane: &Dataplane, burst: &[[u8; HEADROOM + SHORT]]) {
        let packets = burst.iter().map(|packet| &packet[HEADROOM..]);
        match self {
            Self::Out => dataplane.warm_outbound(packets),
            Self::In => {
                let tag = |packet: &[u8]| payload::parse(&packet[IPV6_HEADER..]).map(|(tag, _)| tag).ok();
                dataplane.warm_inbound(packets.filter_map(tag));
            }
        }
    }

    fn pass(self, dataplane: &Dataplane, packet: &mut [u8]) {
        match self {
            Self::Out => {
                let outbound = dataplane.outbound(packet, HEADROOM, NOW);
                assert!(matches!(outbound, Outbound::Rewritten { start: 0, .. }));
            }
            Self::In => {
                let inbound = dataplane.inbound(packet, HEADROOM, NOW);
                assert!(matches!(inbound, Inbound::Restored { start: 16, .. }));
            }
        }
    }
}

/// Takes the next [`BATCH`] of a table's packets through it.
fn batch(table: &Table, next: &mut usize, way: Way, warms: bool) {
    let (ulids, tag) = table.next(&mut 0);
    let template = way.template(ulids, tag);
    let mut burst = [template; BURST];
    for _ in 0..BATCH / BURST {
        for packet in &mut burst {
            let (ulids, tag) = table.next(next);
            *packet = template;
            way.readdress(packet, ulids.peer, tag);
        }
        if warms {
            way.warm(&table.dataplane, &burst);
        }
        for packet in &mut burst {
            way.pass(&table.dataplane, black_box(packet));
        }
    }
}

fn lookups(effort: Effort, tables: &[Table]) {
    for (name, way) in [("out", Way::Out), ("in", Way::In)] {
        for (how, warms) in [("in bursts", true), ("one by one", false)] {
            let what = format!("Rewriting a packet of a random flow on its way {name}, {how}");
            compare_tables(effort, tables, &what, |table, next| batch(table, next, way, warms));
        }
    }
    compare_tables(
        effort,
        tables,
        "Finding a random flow by its ULID pair, one by one",
        |table, next| {
            for _ in 0..BATCH {
                let ulids = table.next(next).0;
                assert_eq!(table.dataplane.flow(ulids).map(|flow| flow.ulids), Some(ulids));
            }
        },
    );
    compare_tables(
        effort,
        tables,
        "Finding a random flow by its tag, one by one",
        |table, next| {
            for _ in 0..BATCH {
                let tag = table.next(next).1;
                assert_eq!(table.dataplane.flow_by_tag(tag).map(|flow| flow.local_tag), Some(tag));
            }
        },
    );
    let arrays: Vec<Vec<u64>> = tables
        .iter()
        .map(|table| (0..32 * table.arrivals.len() as u64).collect())
        .collect();
    paired::title(
        "For comparison: reading at a random place of an array of 256 octets for each context",
        ["contexts", "among so many", "among 1,000", "ratio"],
    );
    for array in &arrays {
        let (mut of_many, mut of_few) = (1, 1);
        let comparison = effort.compare(|| wander(array, &mut of_many), || wander(&arrays[0], &mut of_few));
        paired::row_of_times(&(array.len() / 32).to_string(), &comparison.of_each(BATCH));
    }
}

/// Reads at places that each depend on what was read before.
fn wander(array: &[u64], place: &mut u64) {
    for _ in 0..BATCH {
        let random = place
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        *place = random ^ black_box(array[(((random >> 32) * array.len() as u64) >> 32) as usize]);
    }
}

fn compare_tables(effort: Effort, tables: &[Table], what: &str, run: impl Fn(&Table, &mut usize)) {
    paired::title(what, ["contexts", "among so many", "among 1,000", "ratio"]);
    for table in tables {
        let (mut next, mut next_of_few) = (0, 0);
        let comparison = effort.compare(|| run(table, &mut next), || run(&tables[0], &mut next_of_few));
        paired::row_of_times(&table.arrivals.len().to_string(), &comparison.of_each(BATCH));
    }
}

/// What a change costs while a reader holds the table as it was.
fn publishing(effort: Effort, tables: &[Table]) {
    paired::title(
        "Publishing a copy with one changed flow while the table before is in use",
        ["contexts", "among so many", "among 1,000", "ratio"],
    );
    let publish = |table: &Table, next: &mut usize, published: &mut Arc<Dataplane>| {
        let (ulids, _) = table.next(next);
        let flow = table.dataplane.flow(ulids).expect("a flow").clone();
        let mut changed = (**published).clone();
        changed.apply(DataplaneUpdate::Insert(flow));
        *published = Arc::new(changed);
    };
    for table in tables {
        let (mut next, mut next_of_few) = (0, 0);
        let (mut published, mut few) = (Arc::new(table.dataplane.clone()), Arc::new(tables[0].dataplane.clone()));
        let comparison = effort.compare(
            || publish(table, &mut next, &mut published),
            || publish(&tables[0], &mut next_of_few, &mut few),
        );
        paired::row_of_times(&table.arrivals.len().to_string(), &comparison);
    }
}
