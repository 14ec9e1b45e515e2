//! Packets of another library through the packet path, out of one host and into the other.

use std::net::Ipv6Addr;
use std::sync::OnceLock;

use etherparse::TcpOptionElement;
use etherparse::defrag::IpDefragBuf;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use shim6_core::dataplane::{Dataplane, Inbound, Outbound, PAYLOAD_HEADER_LEN};
use shim6_core::{Flow, Instant, LocatorPair};
use shim6_interop::packet::{self, Dissected, Extensions, Packet, Routing, Upper};
use shim6_interop::reader;

use crate::world::World;

const SHIM6: u8 = 140;
const NOW: Instant = Instant::from_micros(0);

/// Both packet paths of two hosts that failed over, and their ULIDs as the first sees them.
struct Paths {
    dataplanes: [Dataplane; 2],
    ulids: LocatorPair,
}

fn paths() -> &'static Paths {
    static PATHS: OnceLock<Paths> = OnceLock::new();
    PATHS.get_or_init(|| {
        let world = World::failed_over();
        let ulids = world.ulids(0);
        Paths {
            dataplanes: world.hosts.map(|host| host.dataplane),
            ulids,
        }
    })
}

impl Paths {
    fn flow(&self, host: usize) -> &Flow {
        let LocatorPair { local, peer } = self.ulids;
        let ulids = [
            LocatorPair { local, peer },
            LocatorPair {
                local: peer,
                peer: local,
            },
        ];
        self.dataplanes[host].flow(ulids[host]).expect("each host has a flow")
    }

    /// The packet as the first host puts it on the wire.
    fn send(&self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = [&[0xee; PAYLOAD_HEADER_LEN], packet].concat();
        match self.dataplanes[0].outbound(&mut buffer, PAYLOAD_HEADER_LEN, NOW) {
            Outbound::Rewritten { start, .. } => buffer.split_off(start),
            other => panic!("not rewritten but {other:?}"),
        }
    }

    /// The packet as the second host gives it to its upper layers.
    fn receive(&self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = packet.to_vec();
        match self.dataplanes[1].inbound(&mut buffer, 0, NOW) {
            Inbound::Restored { start, .. } => buffer.split_off(start),
            other => panic!("not restored but {other:?}"),
        }
    }
}

fn upper() -> impl Strategy<Value = Upper> {
    let options = prop_oneof![
        Just(vec![]),
        any::<(u32, u32)>().prop_map(|(a, b)| vec![
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(a, b)
        ]),
        any::<(u16, u8)>().prop_map(|(size, scale)| vec![
            TcpOptionElement::MaximumSegmentSize(size),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::WindowScale(scale),
        ]),
        any::<[(u32, u32); 3]>()
            .prop_map(|[a, b, c]| vec![TcpOptionElement::SelectiveAcknowledgement(a, [Some(b), Some(c), None])]),
    ];
    prop_oneof![
        (any::<(u16, u16)>(), any::<(u32, u32)>(), options).prop_map(
            |(ports, (sequence, acknowledgement), options)| {
                Upper::Tcp {
                    ports,
                    sequence,
                    acknowledgement,
                    options,
                }
            }
        ),
        any::<(u16, u16)>().prop_map(|ports| Upper::Udp { ports }),
        any::<(u16, u16)>().prop_map(|(identifier, sequence)| Upper::EchoRequest { identifier, sequence }),
    ]
}

fn extensions() -> impl Strategy<Value = Extensions> {
    let routing = (0..6u8, of(0..6u8)).prop_map(|(length, final_destination_options)| Routing {
        length,
        final_destination_options,
    });
    (of(0..40u8), of(0..6u8), of(routing), any::<Option<u32>>()).prop_map(
        |(hop_by_hop, destination_options, routing, fragment)| Extensions {
            hop_by_hop,
            destination_options,
            routing,
            fragment,
        },
    )
}

/// A packet from the first host to the second.
fn packet() -> impl Strategy<Value = Packet> {
    let fixed = any::<(u8, u32, u8)>();
    (fixed, extensions(), upper(), vec(any::<u8>(), 0..1400)).prop_map(|(fixed, extensions, upper, payload)| {
        let ulids = paths().ulids;
        Packet {
            source: ulids.local,
            destination: ulids.peer,
            traffic_class: fixed.0,
            flow_label: fixed.1,
            hop_limit: fixed.2,
            extensions,
            upper,
            payload,
        }
    })
}

/// Where the Shim6 header belongs: behind what the path's routers act on (RFC 5533 section 11.1).
fn routing_sublayer_len(extensions: &Extensions) -> usize {
    let length = |units: Option<u8>| units.map_or(0, |units| 8 + 8 * usize::from(units));
    let routing = extensions.routing.as_ref().map(|routing| routing.length);
    let before_routing = routing.and(extensions.destination_options);
    length(extensions.hop_by_hop) + length(before_routing) + length(routing)
}

/// Looks at a packet on the wire with etherparse and the independent reader; gives what is above the Shim6 header.
fn assert_on_the_wire<'a>(sent: &'a [u8], original: &[u8], packet: &Packet) -> Dissected<'a> {
    let flow = paths().flow(0);
    let on_the_wire = packet::dissect(sent).expect("an IPv6 packet of the right Payload Length");
    assert_eq!(sent.len(), original.len() + PAYLOAD_HEADER_LEN);
    assert_eq!(
        (on_the_wire.source, on_the_wire.destination),
        (flow.locators.local, flow.locators.peer)
    );
    assert_eq!(on_the_wire.next_header, SHIM6);
    assert_eq!(on_the_wire.offset, 40 + routing_sublayer_len(&packet.extensions));
    assert_eq!(
        on_the_wire.extensions.fragment, None,
        "the Fragment header belongs behind the Shim6 header"
    );
    // Version, traffic class and flow label are the original's, and so is the hop limit.
    assert_eq!((&sent[..4], sent[7]), (&original[..4], original[7]));
    let header = reader::read(on_the_wire.rest).expect("a Shim6 header");
    assert_eq!((header.number("p"), header.len), (Some(1), PAYLOAD_HEADER_LEN));
    assert_eq!(
        header.number("receiver_context_tag"),
        Some(paths().flow(1).local_tag.value())
    );
    on_the_wire
}

/// The upper layer's checksum as seen from within the network: over the ULIDs, whatever the addresses are.
fn assert_checksum_below_the_shim(on_the_wire: &Dissected<'_>) {
    let next_header = on_the_wire.rest[0];
    let behind = &on_the_wire.rest[PAYLOAD_HEADER_LEN..];
    let (_, protocol, upper) =
        etherparse::Ipv6Extensions::from_slice(etherparse::IpNumber(next_header), behind).expect("extension headers");
    let LocatorPair { local, peer } = paths().ulids;
    packet::check_upper(protocol.0, local, peer, upper).expect("a right checksum over the ULIDs");
}

proptest! {
    #[test]
    fn packets_arrive_octet_for_octet(packet in packet()) {
        let original = packet.build().expect("a packet of less than 64 KiB");
        packet::check(&original).expect("built right");
        let sent = paths().send(&original);
        let on_the_wire = assert_on_the_wire(&sent, &original, &packet);
        assert_checksum_below_the_shim(&on_the_wire);
        let arrived = paths().receive(&sent);
        prop_assert_eq!(&arrived, &original);
        packet::check(&arrived).expect("a right checksum on arrival");
    }

    /// Each fragment is rewritten on its own; etherparse puts them together again.
    #[test]
    fn fragments_arrive_one_by_one_and_make_the_packet_again(packet in packet(), size in 1..60usize) {
        let fragments = packet.build_fragments(8 * size).expect("less than 64 KiB");
        let mut arrived_pieces: Option<IpDefragBuf> = None;
        for original in &fragments {
            let sent = paths().send(original);
            assert_on_the_wire(&sent, original, &packet);
            let arrived = paths().receive(&sent);
            prop_assert_eq!(&arrived, original);
            let (header, piece) = packet::fragment(&arrived).expect("whole headers").expect("a Fragment header");
            let pieces = arrived_pieces.get_or_insert_with(|| IpDefragBuf::new(header.next_header, vec![], vec![]));
            pieces.add(header.fragment_offset, header.more_fragments, piece).expect("fragments that fit together");
        }
        let whole = arrived_pieces.expect("at least one fragment");
        prop_assert!(whole.is_complete());
        let (_, protocol, upper) =
            etherparse::Ipv6Extensions::from_slice(whole.ip_number(), whole.data()).expect("extension headers");
        packet::check_upper(protocol.0, packet.source, packet.destination, upper).expect("a right checksum");
        prop_assert!(upper.ends_with(&packet.payload));
    }

    #[test]
    fn packets_between_other_addresses_are_left_alone(packet in packet(), addresses: (Ipv6Addr, Ipv6Addr)) {
        let packet = Packet { source: addresses.0, destination: addresses.1, ..packet };
        let original = packet.build().expect("a packet of less than 64 KiB");
        let mut buffer = [&[0xee; PAYLOAD_HEADER_LEN], &original[..]].concat();
        let out = paths().dataplanes[0].outbound(&mut buffer, PAYLOAD_HEADER_LEN, NOW);
        prop_assert!(matches!(out, Outbound::NoContext), "{:?}", out);
        prop_assert_eq!(&buffer[PAYLOAD_HEADER_LEN..], &original[..]);
        let inbound = paths().dataplanes[0].inbound(&mut buffer, PAYLOAD_HEADER_LEN, NOW);
        prop_assert!(matches!(inbound, Inbound::NotShim6), "{:?}", inbound);
        prop_assert_eq!(&buffer[PAYLOAD_HEADER_LEN..], &original[..]);
    }
}

#[test]
fn conversation_goes_on_over_the_other_locators_after_its_path_died() {
    let mut world = World::failed_over();
    let before = world.wire.len();
    world.hosts.iter_mut().for_each(|host| host.received.clear());
    world.converse(10);
    for host in 0..2 {
        assert_eq!(world.hosts[host].received.len(), 10);
        for packet in &world.hosts[host].received {
            let LocatorPair { local, peer } = world.ulids(host);
            let packet = packet::check(packet).expect("a right checksum");
            assert_eq!((packet.source, packet.destination), (peer, local));
        }
    }
    let payload = world.wire[before..]
        .iter()
        .filter(|(_, packet)| packet[40 + 2] & 0x80 != 0)
        .count();
    assert_eq!(payload, 20, "all of it under the Shim6 header");
}
