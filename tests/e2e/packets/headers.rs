//! What the headers say: hop limit, traffic class with ECN, flow label and the options of extension headers.

use shim6_tests::isolated;
use shim6_tun::lab::{Direction, Impairment, Topology};
use shim6_tun::sys::ancillary::{Received, receive, set_option};
use socket2::Socket;

use super::lab::{Lab, Pair, ROUTERS, address_of, octets, set};

/// From `linux/in6.h`, where the C library has no name for it.
const IPV6_FLOWLABEL_MGR: i32 = 32;
const IPV6_FLOWINFO_SEND: i32 = 33;
const IPV6_FLOWINFO: i32 = 11;
/// An option that a node which does not know it skips (RFC 4727).
const EXPERIMENT: u8 = 0x1e;
/// Fits a packet, and takes several fragments.
pub(super) const LENGTHS: [usize; 2] = [300, 5_000];

/// A datagram as the other host's socket sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) data: Vec<u8>,
    hop_limit: Option<i32>,
    traffic_class: Option<i32>,
    flow_label: u32,
    pub(super) hop_by_hop: Vec<Vec<u8>>,
    pub(super) routing: Vec<Vec<u8>>,
    pub(super) destination: Vec<Vec<u8>>,
}

impl Arrival {
    fn of(received: Received) -> Self {
        let all = |kind| {
            let items = received.items.iter();
            let items = items.filter(|item| (item.level, item.kind) == (libc::IPPROTO_IPV6, kind));
            items.map(|item| item.value.clone()).collect()
        };
        let flow = received.item(libc::IPPROTO_IPV6, IPV6_FLOWINFO);
        let flow = flow.map_or(0, |octets| {
            u32::from_be_bytes(*octets.first_chunk().expect("four octets"))
        });
        Self {
            hop_limit: received.integer(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
            traffic_class: received.integer(libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            flow_label: flow & 0xf_ffff,
            hop_by_hop: all(libc::IPV6_HOPOPTS),
            routing: all(libc::IPV6_RTHDR),
            destination: all(libc::IPV6_DSTOPTS),
            data: received.data,
        }
    }
}

/// Sends `data` from a socket that `prepare` has set up, and says what arrived.
pub(super) fn arrival(pair: &Pair, data: &[u8], prepare: impl FnOnce(&Socket)) -> Arrival {
    let (sender, receiver) = (pair.from.udp(), pair.to.udp());
    for name in [
        libc::IPV6_RECVHOPLIMIT,
        libc::IPV6_RECVTCLASS,
        libc::IPV6_RECVHOPOPTS,
        libc::IPV6_RECVRTHDR,
        libc::IPV6_RECVDSTOPTS,
        IPV6_FLOWINFO,
    ] {
        set(&receiver, libc::IPPROTO_IPV6, name, 1);
    }
    prepare(&sender);
    sender
        .send_to(data, &address_of(&receiver).into())
        .unwrap_or_else(|error| panic!("sending {}: {error}", pair.name));
    let received = receive(&receiver, 0).unwrap_or_else(|error| panic!("nothing arrived {}: {error}", pair.name));
    let arrival = Arrival::of(received);
    assert_eq!(arrival.data, data, "{}", pair.name);
    arrival
}

/// As [`arrival`], with a flow label.
fn labelled(pair: &Pair, data: &[u8], label: u32) -> Arrival {
    let (sender, receiver) = (pair.from.udp(), pair.to.udp());
    set(&receiver, libc::IPPROTO_IPV6, IPV6_FLOWINFO, 1);
    // `struct in6_flowlabel_req`: get or make the label for this destination, shared with anybody.
    let mut request = [0_u8; 32];
    request[..16].copy_from_slice(&pair.to.address.octets());
    request[16..20].copy_from_slice(&label.to_be_bytes());
    request[21] = 255;
    request[22..24].copy_from_slice(&1_u16.to_ne_bytes());
    set_option(&sender, libc::IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, &request).expect("a flow label");
    set(&sender, libc::IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1);
    let mut to = address_of(&receiver);
    to.set_flowinfo(label.to_be());
    sender.send_to(data, &to.into()).expect("it leaves");
    Arrival::of(receive(&receiver, 0).unwrap_or_else(|error| panic!("nothing arrived {}: {error}", pair.name)))
}

/// An extension header of options, with a first octet that the kernel fills in.
pub(super) fn options(length: usize) -> Vec<u8> {
    let mut header = vec![0, u8::try_from(length / 8 - 1).expect("a length")];
    while header.len() < length {
        let rest = length - header.len();
        // No place for another one may be left over that is too short.
        let data = if rest > 202 { 198 } else { rest - 2 };
        header.extend([EXPERIMENT, u8::try_from(data).expect("a length")]);
        header.extend(octets(length, data));
    }
    header
}

#[test]
fn header_fields_are_those_of_a_path_that_nothing_touches() {
    let name = "packets::headers::header_fields_are_those_of_a_path_that_nothing_touches";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        for hop_limit in [4, 64, 128, 255] {
            lab.compare("hop limit", move |pair| {
                let prepare = |socket: &Socket| set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hop_limit);
                let arrivals = LENGTHS.map(|length| arrival(pair, &octets(1, length), prepare));
                for arrival in &arrivals {
                    assert_eq!(arrival.hop_limit, Some(hop_limit - ROUTERS), "{}", pair.name);
                }
                arrivals.map(|arrival| arrival.hop_limit)
            })
            .await;
        }
        for class in [0, 1, 2, 3, 0x28, 0x2a, 0xb8, 0xbb, 0xfc, 0xff] {
            lab.compare("traffic class", move |pair| {
                let prepare = |socket: &Socket| set(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class);
                let arrivals = LENGTHS.map(|length| arrival(pair, &octets(2, length), prepare));
                for arrival in &arrivals {
                    assert_eq!(arrival.traffic_class, Some(class), "{}", pair.name);
                }
                arrivals.map(|arrival| arrival.traffic_class)
            })
            .await;
        }
        for label in [1, 0x1_2345, 0xf_ffff] {
            lab.compare("flow label", move |pair| {
                let arrivals = LENGTHS.map(|length| labelled(pair, &octets(3, length), label));
                for arrival in &arrivals {
                    assert_eq!(arrival.flow_label, label, "{}", pair.name);
                }
                arrivals.map(|arrival| arrival.flow_label)
            })
            .await;
        }
        lab.compare("flow label of the kernel's choice", |pair| {
            let label = arrival(pair, b"label", |_| ()).flow_label;
            label != 0
        })
        .await;
        lab.end().await;
    });
}

#[test]
fn congestion_that_a_router_marks_is_seen_by_the_receiver() {
    let name = "packets::headers::congestion_that_a_router_marks_is_seen_by_the_receiver";
    isolated(name, || async {
        let lab = Lab::steered(Topology::emulated().await.expect("a lab")).await;
        let topology = lab.stage.topology();
        for direction in Direction::ALL {
            let link = topology.link(&topology.a, 1).expect("a link");
            link.impair(direction, Impairment::default().congested());
        }
        lab.compare("ECN", |pair| {
            let sent = [0x20, 0x21, 0x22, 0x23];
            let arrived = sent.map(|class| {
                let prepare = |socket: &Socket| set(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class);
                arrival(pair, &octets(4, 100), prepare).traffic_class
            });
            assert_eq!(arrived, [0x20, 0x23, 0x23, 0x23].map(Some), "{}", pair.name);
            arrived
        })
        .await;
        lab.end().await;
    });
}

#[test]
fn destination_options_arrive_as_they_were_sent() {
    let name = "packets::headers::destination_options_arrive_as_they_were_sent";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        for length in [8, 64, 512] {
            lab.compare("destination options", move |pair| {
                with_options(pair, libc::IPV6_DSTOPTS, length)
            })
            .await;
        }
        lab.end().await;
    });
}

/// Sends with an extension header of options of this length, alone and in fragments.
pub(super) fn with_options(pair: &Pair, option: i32, length: usize) -> [Arrival; 2] {
    let header = options(length);
    LENGTHS.map(|length| {
        let prepare = |socket: &Socket| {
            set_option(socket, libc::IPPROTO_IPV6, option, &header).expect("options");
        };
        let mut arrival = arrival(pair, &octets(5, length), prepare);
        let found = if option == libc::IPV6_HOPOPTS {
            &arrival.hop_by_hop
        } else {
            &arrival.destination
        };
        assert_eq!(found.len(), 1, "{}: {arrival:?}", pair.name);
        // The first octet says what follows.
        assert_eq!(found[0][1..], header[1..], "{}", pair.name);
        // Differs from one flow to the next.
        arrival.flow_label = 0;
        arrival
    })
}
