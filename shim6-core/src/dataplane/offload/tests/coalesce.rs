//! Many packets put together to one.

use core::ops::Range;

use proptest::prelude::{Just, Strategy, any};
use proptest::{prop_assert_eq, prop_oneof, proptest};

use super::*;

/// Memory with all packets, and where they are.
fn in_memory(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut memory = Vec::new();
    let mut places = Vec::new();
    for packet in packets {
        // Nothing is next to anything.
        memory.resize(memory.len() + 8, 0xee);
        places.push(memory.len()..memory.len() + packet.len());
        memory.extend(packet);
    }
    (memory, places)
}

/// What comes out: for each group how many packets it was, and what a receiver makes of it.
fn coalesced(packets: &[Vec<u8>]) -> Vec<(usize, Vec<Vec<u8>>)> {
    coalesced_by(&mut Coalescer::new(true), packets)
}

fn coalesced_by(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(usize, Vec<Vec<u8>>)> {
    let (mut memory, places) = in_memory(packets);
    coalescer.clear();
    places.into_iter().for_each(|place| coalescer.push(&memory, place));
    let groups = coalescer.groups().iter().map(|group| {
        let offload = group.finish(&mut memory);
        let parts = group.parts().iter().map(|part| &memory[part.clone()]);
        let packet = parts.collect::<Vec<_>>().concat();
        (group.packets(), cut(&packet, offload).unwrap())
    });
    groups.collect()
}

fn sizes(packets: &[Vec<u8>]) -> Vec<usize> {
    let groups = coalesced(packets);
    let again: Vec<_> = groups.iter().flat_map(|(_, packets)| packets.clone()).collect();
    let mut sorted = [again, packets.to_vec()];
    sorted.iter_mut().for_each(|packets| packets.sort());
    assert_eq!(sorted[0], sorted[1]);
    groups.iter().map(|(count, _)| *count).collect()
}

fn tcp(sequence: u32, octets: usize) -> Draft {
    Draft::tcp(sequence, ACK, &payload(octets))
}

#[test]
fn consecutive_segments_become_one_packet() {
    let packets = [0, 1_000, 2_000, 3_000].map(|at| tcp(at, 1_000).packet());
    let groups = coalesced(&packets);
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0], (4, packets.to_vec()));
}

#[test]
fn sequence_numbers_wrap_around() {
    let packets = [u32::MAX - 9, 90, 190].map(|at| tcp(at, 100).packet());
    assert_eq!(sizes(&packets), [3]);
}

#[test]
fn a_short_or_pushed_segment_is_the_last_of_its_group() {
    let short = [tcp(0, 1_000), tcp(1_000, 400), tcp(1_400, 1_000), tcp(2_400, 1_000)];
    assert_eq!(sizes(&short.map(|draft| draft.packet())), [2, 2]);
    let pushed = Draft::tcp(1_000, ACK | PSH, &payload(1_000));
    let packets = [tcp(0, 1_000), pushed.clone(), tcp(2_000, 1_000), tcp(3_000, 1_000)];
    assert_eq!(sizes(&packets.map(|draft| draft.packet())), [2, 2]);
    assert_eq!(sizes(&[pushed, tcp(2_000, 1_000)].map(|draft| draft.packet())), [1, 1]);
    let longer = [tcp(0, 1_000), tcp(1_000, 1_001)];
    assert_eq!(sizes(&longer.map(|draft| draft.packet())), [1, 1]);
}

#[test]
fn segments_that_differ_in_anything_else_stay_apart() {
    let first = tcp(0, 100);
    let next = tcp(100, 100);
    assert_eq!(sizes(&[first.packet(), next.packet()]), [2]);
    let with = |change: &dyn Fn(&mut Draft)| {
        let mut changed = next.clone();
        change(&mut changed);
        changed.packet()
    };
    let in_header = |at: usize| with(&|draft| draft.transport[at] ^= 1);
    let others = [
        // Ports, acknowledgment, window, urgent pointer, an option.
        in_header(0),
        in_header(3),
        in_header(11),
        in_header(15),
        in_header(19),
        in_header(25),
        with(&|draft| draft.traffic_class = 3),
        with(&|draft| draft.host = 2),
        with(&|draft| draft.extension = Vec::from([TCP, 0, 1, 4, 0, 0, 0, 0])),
        tcp(99, 100).packet(),
        tcp(101, 100).packet(),
        tcp(100, 0).packet(),
    ];
    for (i, other) in others.into_iter().enumerate() {
        assert_eq!(sizes(&[first.packet(), other]), [1, 1], "change {i}");
    }
    for flags in [0, ACK | FIN, ACK | SYN, ACK | 0x04, ACK | URG, ACK | CWR, ACK | ECE] {
        let other = Draft::tcp(100, flags, &payload(100)).packet();
        assert_eq!(sizes(&[first.packet(), other]), [1, 1], "flags {flags:#x}");
    }
    let hop_limit = |packet: &mut Vec<u8>| packet[7] = 60;
    let mut other = next.packet();
    hop_limit(&mut other);
    assert_eq!(sizes(&[first.packet(), other]), [1, 1]);
}

#[test]
fn wrong_checksums_are_left_for_the_receiver_to_find() {
    let packets = [0, 100, 200].map(|at| tcp(at, 100).packet());
    let expected = [vec_of([1, 2]), vec_of([1, 1, 1]), vec_of([2, 1])];
    for (damaged, expected) in expected.into_iter().enumerate() {
        let mut packets = packets.clone();
        packets[damaged][80] ^= 4;
        assert_eq!(sizes(&packets), expected, "packet {damaged} is damaged");
    }
}

fn vec_of<const N: usize>(values: [usize; N]) -> Vec<usize> {
    Vec::from(values)
}

#[test]
fn datagrams_of_one_size_become_one_packet_if_that_is_wanted() {
    let octets = payload(900);
    let packets: Vec<_> = octets.chunks(200).map(|octets| Draft::udp(octets).packet()).collect();
    assert_eq!(sizes(&packets), [5]);
    let apart = coalesced_by(&mut Coalescer::new(false), &packets);
    assert_eq!(apart.len(), 5);
    let longer = [Draft::udp(&octets[..200]), Draft::udp(&octets[..201])];
    assert_eq!(sizes(&longer.map(|draft| draft.packet())), [1, 1]);
    let empty = [Draft::udp(&[]), Draft::udp(&[])];
    assert_eq!(sizes(&empty.map(|draft| draft.packet())), [1, 1]);
    // As many as a kernel cuts.
    let many = Vec::from_iter((0..70).map(|_| Draft::udp(&octets[..20]).packet()));
    assert_eq!(sizes(&many), [64, 6]);
}

#[test]
fn datagrams_without_checksum_or_with_a_wrong_length_stay_as_they_are() {
    let good = Draft::udp(&payload(20)).packet();
    let mut unchecked = good.clone();
    unchecked[46..48].fill(0);
    assert_eq!(sizes(&[unchecked.clone(), unchecked]), [1, 1]);
    let mut short = good.clone();
    short[45] -= 1;
    assert_eq!(sizes(&[short.clone(), short]), [1, 1]);
}

#[test]
fn a_packet_is_never_longer_than_ip_allows() {
    let packets = Vec::from_iter((0..64).map(|i| tcp(i * 1_400, 1_400).packet()));
    let sizes = sizes(&packets);
    assert_eq!(sizes.iter().sum::<usize>(), 64);
    assert_eq!(sizes[0], (MAX_OCTETS - 72) / 1_400);
}

#[test]
fn nothing_between_the_same_hosts_overtakes_what_shows_no_ports() {
    let other = |host| {
        let mut draft = Draft::of(44, payload(40));
        draft.host = host;
        draft.octets()
    };
    let segments = [0, 100, 200].map(|at| tcp(at, 100).packet());
    let [first, second, third] = segments;
    let packets = [first.clone(), other(1), second.clone(), third.clone()];
    assert_eq!(sizes(&packets), [1, 1, 2]);
    let packets = [first, other(2), second, third];
    assert_eq!(sizes(&packets), [3, 1]);
}

#[test]
fn what_is_no_packet_is_a_group_of_its_own() {
    for packet in [Vec::new(), Vec::from([0x60]), payload(39), payload(40)] {
        assert_eq!(coalesced(&[packet.clone(), packet]).len(), 2);
    }
}

const MAX_OCTETS: usize = 65_535;

/// What one of some flows sends next.
#[derive(Clone, Debug)]
enum Step {
    Segment { octets: usize, push: bool },
    Gap,
    Acknowledgment,
    Damaged,
    Datagram { octets: usize },
    Other,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => any::<bool>().prop_map(|push| Step::Segment { octets: 100, push }),
        9 => Just(Step::Segment { octets: 100, push: false }),
        1 => (1..100_usize, any::<bool>()).prop_map(|(octets, push)| Step::Segment { octets, push }),
        1 => Just(Step::Gap),
        1 => Just(Step::Acknowledgment),
        1 => Just(Step::Damaged),
        4 => prop_oneof![Just(50), Just(50), 0..60_usize].prop_map(|octets| Step::Datagram { octets }),
        1 => Just(Step::Other),
    ]
}

proptest! {
    /// Each host gets the packets that were sent to it, octet for octet, and those of each flow in their order.
    #[test]
    fn what_was_put_together_is_what_came(steps in proptest::collection::vec((0..3_u8, step()), 0..64)) {
        let mut next = [0_u32; 3];
        let mut packets = Vec::new();
        for (host, step) in steps {
            let sequence = &mut next[usize::from(host)];
            let mut draft = match step {
                Step::Segment { octets, push } => {
                    let draft = Draft::tcp(*sequence, if push { ACK | PSH } else { ACK }, &payload(octets));
                    *sequence += octets as u32;
                    draft
                }
                Step::Gap => {
                    *sequence += 7;
                    tcp(*sequence, 0)
                }
                Step::Acknowledgment => tcp(*sequence, 0),
                Step::Damaged => tcp(*sequence, 100),
                Step::Datagram { octets } => Draft::udp(&payload(octets)),
                Step::Other => Draft::of(ICMPV6, payload(20)),
            };
            draft.host = host;
            let mut packet = if matches!(step, Step::Other) { draft.octets() } else { draft.packet() };
            if matches!(step, Step::Damaged) {
                packet[60] ^= 1;
            }
            packets.push(packet);
        }
        let again: Vec<_> = coalesced(&packets).into_iter().flat_map(|(_, packets)| packets).collect();
        prop_assert_eq!(again.len(), packets.len());
        for host in 0..3 {
            let of_host = |packets: &[Vec<u8>], kinds: &[u8]| {
                let packets = packets.iter().filter(|packet| packet[23] == host && kinds.contains(&packet[6]));
                packets.cloned().collect::<Vec<_>>()
            };
            for kinds in [[TCP, ICMPV6], [UDP, ICMPV6]] {
                prop_assert_eq!(of_host(&again, &kinds), of_host(&packets, &kinds));
            }
        }
    }
}
