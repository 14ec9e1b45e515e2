//! Packets held while a path is looked for.

use core::time::Duration;

use proptest::collection::vec as vec_of;
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::super::hold::{HoldBuffer, HoldConfig, HoldCounters, OVERHEAD};
use super::*;

const TCP: u8 = 6;
const DCCP: u8 = 33;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const SCTP: u8 = 132;
const NEIGHBOR_SOLICITATION: u8 = 135;

/// Octets of a packet that is made of nothing but an IPv6 header and a number.
const SIZE: usize = IPV6_HEADER_LEN + 4 + OVERHEAD;

fn at(millis: u64) -> Instant {
    NOW + Duration::from_millis(millis)
}

fn holding(context: u64) -> Flow {
    Flow {
        context: ContextId(context),
        locators: ulids(),
        holding: true,
        ..sender_flow()
    }
}

/// The flow once its context has found a path.
fn found(context: u64, locators: LocatorPair) -> Flow {
    Flow {
        locators,
        holding: false,
        ..holding(context)
    }
}

fn numbered(transport: u8, number: u32) -> Vec<u8> {
    packet(ulids(), transport, &number.to_be_bytes())
}

fn numbers(packets: &[alloc::boxed::Box<[u8]>]) -> Vec<u32> {
    let number = |packet: &[u8]| u32::from_be_bytes(*packet.last_chunk().unwrap());
    packets.iter().map(|packet| number(packet)).collect()
}

/// A buffer for so many numbered packets of a context, and of all.
fn room_for(packets: usize, of_all: usize) -> HoldBuffer {
    HoldBuffer::new(HoldConfig {
        octets_per_context: packets * SIZE + SIZE - 1,
        octets: of_all * SIZE + SIZE - 1,
        ..HoldConfig::default()
    })
}

#[test]
fn flow_that_holds_is_steered_although_its_packets_leave_as_they_are() {
    let flow = holding(1);
    assert!(flow.is_steered() && !found(1, ulids()).is_steered() && found(1, locators()).is_steered());
    let fork = Flow {
        forked_instance: 3,
        ..holding(1)
    };
    assert!(!fork.is_steered());
    let table = table(flow);
    let mut buffer = behind(8, &numbered(UDP, 1));
    let outcome = table.outbound(&mut buffer, 8, NOW);
    assert!(matches!(outcome, Outbound::Unchanged { flow, .. } if flow.holding));
    assert_eq!(buffer[8..], numbered(UDP, 1));
}

#[test]
fn packet_of_a_flow_that_holds_is_counted_once_though_it_is_seen_again_on_the_uplink() {
    let table = table(holding(1));
    let packet = numbered(UDP, 1);
    let _ = table.outbound(&mut behind(8, &packet), 8, NOW);
    let sent = |table: &Dataplane| table.flow(ulids()).map(|flow| flow.activity.sent());
    assert_eq!(
        table.observe(ulids().local, ulids().peer, true, packet.len(), NOW),
        Observed::Recorded
    );
    assert_eq!(sent(&table), Some((1, 44)));
    let _ = table.observe(ulids().peer, ulids().local, false, packet.len(), NOW);
    assert_eq!(table.flow(ulids()).unwrap().activity.received(), (1, 44));
}

#[test]
fn packets_come_out_as_they_went_in_and_once() {
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    let chain = packet(ulids(), HOP_BY_HOP, &[TCP, 0, 1, 4, 0, 0, 0, 0, 0xaa]);
    let packets = [numbered(TCP, 1), numbered(UDP, 2), chain, vec![0x60; 3]];
    let held = packets.each_ref().map(|packet| buffer.hold(&holding(1), packet, NOW));
    assert_eq!(held, [true, true, true, false]);
    let mut trailing = numbered(UDP, 3);
    trailing.extend([0xee; 7]);
    assert!(buffer.hold(&holding(1), &trailing, NOW));
    let released = buffer.release(&found(1, locators()), at(1));
    let released: Vec<_> = released.iter().map(|packet| &packet[..]).collect();
    assert_eq!(released, [&packets[0][..], &packets[1], &packets[2], &numbered(UDP, 3)]);
    assert!(buffer.is_empty() && buffer.octets() == 0);
    assert!(buffer.release(&found(1, locators()), at(2)).is_empty());
}

#[test]
fn own_oldest_are_pushed_out_by_the_bound_of_a_context() {
    let mut buffer = room_for(3, 100);
    for number in 0..8 {
        assert!(buffer.hold(&holding(1), &numbered(TCP, number), at(0)));
        assert!(buffer.octets() <= 3 * SIZE);
    }
    buffer.hold(&holding(2), &numbered(TCP, 100), at(0));
    assert_eq!(numbers(&buffer.release(&found(1, locators()), at(1))), [5, 6, 7]);
    assert_eq!(numbers(&buffer.release(&found(2, locators()), at(1))), [100]);
    let counters = HoldCounters {
        held: 9,
        pushed_out: 5,
        released: 4,
        ..HoldCounters::default()
    };
    assert_eq!(buffer.counters(), counters);
}

#[test]
fn others_packets_are_not_pushed_out_by_the_bound_of_all() {
    let mut buffer = room_for(3, 4);
    for number in 0..3 {
        buffer.hold(&holding(1), &numbered(TCP, number), at(0));
    }
    assert!(buffer.hold(&holding(2), &numbered(TCP, 10), at(0)));
    assert!(buffer.hold(&holding(2), &numbered(TCP, 11), at(0)));
    // It has nothing to make room with.
    assert!(!buffer.hold(&holding(3), &numbered(TCP, 20), at(0)));
    // Nor has this enough, so it keeps what it has.
    assert!(!buffer.hold(&holding(2), &packet(ulids(), TCP, &[0; 200]), at(0)));
    assert_eq!((buffer.contexts(), buffer.counters().refused), (2, 2));
    assert_eq!(numbers(&buffer.release(&found(1, locators()), at(1))), [0, 1, 2]);
    assert_eq!(numbers(&buffer.release(&found(2, locators()), at(1))), [11]);
}

#[test]
fn packet_larger_than_a_bound_is_not_held_and_costs_no_other() {
    let mut buffer = room_for(2, 100);
    buffer.hold(&holding(1), &numbered(TCP, 1), at(0));
    assert!(!buffer.hold(&holding(1), &packet(ulids(), TCP, &[0; 300]), at(0)));
    assert_eq!(numbers(&buffer.release(&found(1, locators()), at(0))), [1]);
    let mut nothing = HoldBuffer::new(HoldConfig {
        octets_per_context: 0,
        ..HoldConfig::default()
    });
    assert!(!nothing.hold(&holding(1), &numbered(TCP, 1), at(0)));
    assert!(nothing.is_empty() && nothing.poll_timeout().is_none());
}

#[test]
fn what_is_too_old_is_not_sent_again() {
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    for (number, millis) in [(1, 0), (2, 1), (3, 1_000)] {
        buffer.hold(&holding(1), &numbered(TCP, number), at(millis));
    }
    assert_eq!(numbers(&buffer.release(&found(1, locators()), at(2_001))), [2, 3]);
    assert_eq!(buffer.counters().expired, 1);
}

#[test]
fn what_is_too_old_takes_no_room_even_if_its_context_has_gone_silent() {
    let mut buffer = room_for(3, 3);
    for number in 0..3 {
        buffer.hold(&holding(1), &numbered(TCP, number), at(0));
    }
    assert!(!buffer.hold(&holding(2), &numbered(TCP, 10), at(1_999)));
    assert!(buffer.hold(&holding(2), &numbered(TCP, 11), at(2_300)));
    assert_eq!((buffer.contexts(), buffer.counters().expired), (1, 3));
    // The same without anybody who sends: by the timer.
    let mut now = at(2_300);
    while let Some(next) = buffer.poll_timeout() {
        assert!(next > now && next <= at(5_000));
        now = next;
        buffer.handle_timeout(now);
    }
    assert!(now > at(4_300) && buffer.is_empty() && buffer.octets() == 0);
}

#[test]
fn context_that_is_gone_takes_its_packets_along() {
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    for context in [1, 2, 2, 3] {
        buffer.hold(&holding(context), &numbered(TCP, 0), at(0));
    }
    buffer.discard(ContextId(2));
    assert_eq!((buffer.counters().discarded, buffer.contexts()), (2, 2));
    assert!(buffer.release(&found(2, locators()), at(0)).is_empty());
    buffer.discard_all();
    assert_eq!((buffer.counters().discarded, buffer.octets()), (4, 0));
    assert!(buffer.is_empty());
}

#[test]
fn datagrams_are_not_sent_again_on_the_pair_that_they_were_sent_on() {
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    for (number, transport) in [(1, UDP), (2, TCP), (3, DCCP), (4, SCTP)] {
        buffer.hold(&holding(1), &numbered(transport, number), at(0));
    }
    assert_eq!(numbers(&buffer.release(&found(1, ulids()), at(1))), [2, 4]);
    assert_eq!(buffer.counters().sent_before, 2);
    // The pair is that of each packet.
    buffer.hold(&holding(1), &numbered(UDP, 5), at(0));
    let moved = Flow {
        locators: locators(),
        ..holding(1)
    };
    buffer.hold(&moved, &numbered(UDP, 6), at(0));
    assert_eq!(numbers(&buffer.release(&found(1, locators()), at(1))), [5]);
}

/// Packets by the transport that they should be taken for: one that retransmits.
fn retransmitting() -> Vec<Vec<u8>> {
    let fragment = [TCP, 0, 0, 8, 0, 0, 0, 1];
    let options = [TCP, 0, 1, 4, 0, 0, 0, 0];
    let authentication = [SCTP, 4, 0, 0, 0, 0, 0, 1];
    vec![
        numbered(TCP, 0),
        numbered(SCTP, 0),
        packet(ulids(), FRAGMENT, &fragment),
        packet(
            ulids(),
            HOP_BY_HOP,
            &[&[FRAGMENT][..], &options[1..], &fragment].concat(),
        ),
        packet(ulids(), DESTINATION_OPTIONS, &options),
        packet(ulids(), AUTHENTICATION, &[&authentication[..], &[0; 16]].concat()),
    ]
}

fn datagrams() -> Vec<Vec<u8>> {
    vec![
        numbered(UDP, 0),
        numbered(DCCP, 0),
        numbered(NO_NEXT_HEADER, 0),
        packet(ulids(), ICMPV6, &[ECHO_REQUEST, 0, 0, 0]),
        packet(ulids(), FRAGMENT, &[UDP, 0, 0, 8, 0, 0, 0, 1]),
        // What follows the fragment header may be in another fragment.
        packet(ulids(), FRAGMENT, &[DESTINATION_OPTIONS, 0, 0, 1, 0, 0, 0, 1, TCP, 0]),
        // Cut short.
        packet(ulids(), FRAGMENT, &[]),
        packet(ulids(), DESTINATION_OPTIONS, &[TCP, 7, 0, 0]),
        packet(ulids(), AUTHENTICATION, &[TCP]),
    ]
}

#[test]
fn only_what_is_retransmitted_is_held_where_datagrams_are_not_to_be() {
    let config = HoldConfig {
        datagrams: false,
        ..HoldConfig::default()
    };
    let mut buffer = HoldBuffer::new(config);
    for packet in retransmitting() {
        assert!(buffer.hold(&holding(1), &packet, at(0)), "{packet:?}");
    }
    for packet in datagrams() {
        assert!(!buffer.hold(&holding(1), &packet, at(0)), "{packet:?}");
    }
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    for packet in datagrams() {
        assert!(buffer.hold(&holding(1), &packet, at(0)), "{packet:?}");
    }
}

#[test]
fn what_is_no_payload_is_never_held() {
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    let mut past_end = numbered(TCP, 1);
    past_end[5] = 9;
    for packet in [
        packet(ulids(), PROTOCOL, &[0; 16]),
        packet(ulids(), HOP_BY_HOP, &[&[PROTOCOL][..], &[0; 15]].concat()),
        packet(ulids(), ICMPV6, &[NEIGHBOR_SOLICITATION, 0, 0, 0]),
        past_end,
        Vec::new(),
    ] {
        assert!(!buffer.hold(&holding(1), &packet, at(0)), "{packet:?}");
    }
    assert_eq!(buffer.counters(), HoldCounters::default());
}

/// A TCP segment with data.
fn segment(number: u32) -> Vec<u8> {
    let mut header = [0; 20];
    header[12] = 5 << 4;
    packet(ulids(), TCP, &[&header[..], &number.to_be_bytes()].concat())
}

/// The flow before its path has failed.
fn working(activity: &Arc<Activity>) -> Flow {
    Flow {
        activity: activity.clone(),
        ..found(1, ulids())
    }
}

#[test]
fn last_packet_before_the_failure_goes_first_on_another_pair() {
    let activity = Arc::default();
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    for number in [1, 2] {
        assert!(HoldBuffer::is_memorable(&segment(number)));
        buffer.remember(&working(&activity), &segment(number), at(number.into()));
    }
    buffer.hold(&holding(1), &numbered(UDP, 3), at(150));
    // What is sent while packets are held is among those.
    buffer.remember(&holding(1), &segment(4), at(151));
    assert_eq!(numbers(&buffer.release(&found(1, locators()), at(200))), [2, 3]);
    assert_eq!((buffer.counters().repeated, buffer.counters().released), (1, 1));
    assert!(buffer.release(&found(1, locators()), at(201)).is_empty());
}

/// A packet is seen before the network card has completed its checksum.
#[test]
fn repeated_packet_has_the_checksum_that_its_receiver_expects() {
    let mut buffer = HoldBuffer::new(HoldConfig::default());
    let mut seen = segment(1);
    seen[56..58].copy_from_slice(&[0xab, 0xcd]);
    buffer.remember(&working(&Arc::default()), &seen, at(0));
    let repeated = buffer.release(&found(1, locators()), at(1)).remove(0);
    assert_eq!((&repeated[..56], &repeated[58..]), (&seen[..56], &seen[58..]));
    let ends = [ulids().local, ulids().peer].map(|address| address.segments());
    let words = repeated[40..]
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = ends.iter().flatten().map(|&word| u32::from(word)).sum::<u32>() + 24 + 6 + words.sum::<u32>();
    assert_eq!(sum % 0xffff, 0);
}

#[test]
fn last_packet_is_not_repeated_on_its_own_pair_nor_late_nor_once_something_came_back() {
    let release = |received: Option<u64>, locators, now| {
        let activity: Arc<Activity> = Arc::default();
        let mut buffer = HoldBuffer::new(HoldConfig::default());
        buffer.remember(&working(&activity), &segment(1), at(100));
        if let Some(millis) = received {
            let _ = activity.record_received(at(millis), 60);
        }
        let flow = Flow {
            locators,
            ..working(&activity)
        };
        let released = buffer.release(&flow, at(now));
        assert_eq!(buffer.counters().repeated, released.len() as u64);
        released.len()
    };
    assert_eq!(release(None, locators(), 300), 1);
    // Its answer would have come later.
    assert_eq!(release(Some(100), locators(), 300), 1);
    assert_eq!(release(Some(101), locators(), 300), 0);
    assert_eq!(release(None, ulids(), 300), 0);
    assert_eq!(release(None, locators(), 2_101), 0);
    let mut off = HoldBuffer::new(HoldConfig {
        last_packet: false,
        ..HoldConfig::default()
    });
    off.remember(&working(&Arc::default()), &segment(1), at(0));
    assert!(off.release(&found(1, locators()), at(1)).is_empty());
}

#[test]
fn what_comes_back_when_the_path_is_in_doubt_already_is_no_answer() {
    let repeated = |received_first: bool| {
        let activity: Arc<Activity> = Arc::default();
        let mut buffer = HoldBuffer::new(HoldConfig::default());
        buffer.remember(&working(&activity), &segment(1), at(100));
        if received_first {
            let _ = activity.record_received(at(110), 60);
        }
        buffer.doubt(&working(&activity));
        // What the peer has sent again, on another path.
        let _ = activity.record_received(at(221), 60);
        let found = Flow {
            locators: locators(),
            ..working(&activity)
        };
        buffer.release(&found, at(222)).len()
    };
    assert_eq!(repeated(true), 0);
    assert_eq!(repeated(false), 1);
}

#[test]
fn only_small_tcp_packets_that_are_to_be_acknowledged_are_worth_remembering() {
    let mut acknowledgement = segment(0);
    acknowledgement.truncate(IPV6_HEADER_LEN + 20);
    acknowledgement[5] = 20;
    assert!(!HoldBuffer::is_memorable(&acknowledgement));
    let mut end = acknowledgement.clone();
    end[IPV6_HEADER_LEN + 13] |= 1;
    assert!(HoldBuffer::is_memorable(&end));
    let mut options = segment(0);
    options[IPV6_HEADER_LEN + 12] = 6 << 4;
    assert!(!HoldBuffer::is_memorable(&options), "the octets behind 20 are options");
    for packet in [
        numbered(UDP, 1),
        packet(ulids(), TCP, &[0x50; 300]),
        packet(ulids(), TCP, &[0x50; 19]),
        packet(ulids(), FRAGMENT, &[&[TCP, 0, 0, 0, 0, 0, 0, 1][..], &[0; 40]].concat()),
        segment(1)[..63].to_vec(),
    ] {
        assert!(!HoldBuffer::is_memorable(&packet), "{packet:?}");
    }
}

#[test]
fn memory_of_last_packets_is_bounded_and_ends() {
    let mut buffer = HoldBuffer::new(HoldConfig {
        octets: 2 * (256 + OVERHEAD),
        ..HoldConfig::default()
    });
    for context in 1..=3 {
        buffer.remember(&found(context, ulids()), &segment(context as u32), at(0));
    }
    assert!(buffer.release(&found(3, locators()), at(1)).is_empty());
    assert_eq!(numbers(&buffer.release(&found(2, locators()), at(1))), [2]);
    // The first one is too old by now, so that there is room for two.
    for context in [4, 5] {
        buffer.remember(&found(context, ulids()), &segment(context as u32), at(2_100));
    }
    assert_eq!(numbers(&buffer.release(&found(4, locators()), at(2_101))), [4]);
    assert_eq!(numbers(&buffer.release(&found(5, locators()), at(2_101))), [5]);
    buffer.remember(&found(6, ulids()), &segment(6), at(2_200));
    buffer.discard(ContextId(6));
    assert!(buffer.release(&found(6, locators()), at(2_201)).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Hold { context: u64, large: u16, datagram: bool },
    Release { context: u64, elsewhere: bool },
    Discard(u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let context = 0..4_u64;
    let step = prop_oneof![
        12 => (context.clone(), 0..400_u16, any::<bool>())
            .prop_map(|(context, large, datagram)| Step::Hold { context, large, datagram }),
        2 => (context.clone(), any::<bool>()).prop_map(|(context, elsewhere)| Step::Release { context, elsewhere }),
        1 => context.prop_map(Step::Discard),
        3 => (0..800_u64).prop_map(Step::Pass),
    ];
    vec_of(step, 0..200)
}

proptest! {
    #[test]
    fn bounds_hold_and_what_comes_out_is_the_newest_in_order_and_nothing_twice(
        steps in steps(),
        octets_per_context in 0..2_000_usize,
        octets in 0..4_000_usize,
    ) {
        let config = HoldConfig {
            octets_per_context, octets, max_age: Duration::from_secs(1), ..HoldConfig::default()
        };
        let mut buffer = HoldBuffer::new(config);
        let mut now = at(0);
        // By context what was held since its last release: the number in the packet, when, and whether a datagram.
        let mut held: [Vec<(u32, Instant, bool)>; 4] = Default::default();
        let mut number = 0_u32;
        for step in steps {
            match step {
                Step::Pass(millis) => now += Duration::from_millis(millis),
                Step::Discard(context) => {
                    buffer.discard(ContextId(context));
                    held[context as usize].clear();
                }
                Step::Hold { context, large, datagram } => {
                    number += 1;
                    let data = [&vec![0; large.into()][..], &number.to_be_bytes()].concat();
                    let packet = packet(ulids(), if datagram { UDP } else { TCP }, &data);
                    if buffer.hold(&holding(context), &packet, now) {
                        held[context as usize].push((number, now, datagram));
                    }
                }
                Step::Release { context, elsewhere } => {
                    let pair = if elsewhere { locators() } else { ulids() };
                    let released = numbers(&buffer.release(&found(context, pair), now));
                    let wanted = core::mem::take(&mut held[context as usize]).into_iter();
                    let wanted = wanted.filter(|(_, at, _)| now - *at <= config.max_age);
                    let wanted = wanted.filter(|(_, _, datagram)| elsewhere || !datagram);
                    let wanted: Vec<_> = wanted.map(|(number, _, _)| number).collect();
                    prop_assert!(wanted.ends_with(&released), "{released:?} of {wanted:?}");
                }
            }
            prop_assert!(buffer.octets() <= octets.min(4 * octets_per_context));
            let counters = buffer.counters();
            let gone = [
                counters.released, counters.pushed_out, counters.expired, counters.sent_before, counters.discarded,
            ];
            prop_assert!(gone.iter().sum::<u64>() <= counters.held);
        }
        buffer.discard_all();
        let HoldCounters { refused, held, released, pushed_out, expired, sent_before, discarded, .. } = buffer.counters();
        prop_assert_eq!(held, released + pushed_out + expired + sent_before + discarded);
        prop_assert_eq!(held + refused, u64::from(number));
        prop_assert_eq!(buffer.octets(), 0);
    }

    #[test]
    fn no_octets_make_it_panic(packet in vec_of(any::<u8>(), 0..120), next in any::<u8>()) {
        let mut buffer = HoldBuffer::new(HoldConfig::default());
        buffer.hold(&holding(1), &packet, at(0));
        let mut headed = super::packet(ulids(), next, &packet);
        buffer.hold(&holding(1), &headed, at(0));
        let _ = HoldBuffer::is_memorable(&packet) | HoldBuffer::is_memorable(&headed);
        headed.truncate(headed.len() / 2);
        buffer.hold(&holding(1), &headed, at(0));
        let _ = HoldBuffer::is_memorable(&headed);
    }
}
