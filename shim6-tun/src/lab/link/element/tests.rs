//! Elements take what they shall, and nothing else.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::stateful::MAX_FLOWS;
use super::*;

const INSIDE: &str = "2001:db8:a1::1";
const OUTSIDE: &str = "2001:db8:b1::1";
const UDP: u8 = 17;

/// A packet with these addresses, next header and payload.
fn packet(source: &str, destination: &str, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 64];
    packet.extend(address(source));
    packet.extend(address(destination));
    packet.extend(payload);
    packet
}

fn udp(source: &str, from: u16, destination: &str, to: u16) -> Vec<u8> {
    let ports = [from.to_be_bytes(), to.to_be_bytes(), [0, 8], [0, 0]].concat();
    packet(source, destination, UDP, &ports)
}

/// An extension header of eight octets.
fn extension(next_header: u8) -> [u8; 8] {
    [next_header, 0, 1, 4, 0, 0, 0, 0]
}

struct Bench {
    chain: Chain,
    now: Instant,
}

impl Bench {
    fn of(elements: &[Element]) -> Self {
        Self {
            chain: Chain::new(elements),
            now: Instant::now(),
        }
    }

    fn up(&mut self, mut packet: Vec<u8>) -> bool {
        self.chain.pass(Direction::Up, &mut packet, self.now).is_ok()
    }

    fn down(&mut self, mut packet: Vec<u8>) -> bool {
        self.chain.pass(Direction::Down, &mut packet, self.now).is_ok()
    }
}

#[test]
fn a_firewall_drops_protocol_140_and_nothing_else() {
    let mut bench = Bench::of(&[Element::DropShim6]);
    for (next_header, payload, passes) in [
        (140, vec![59, 0, 0x80, 0, 0, 0, 0, 1], false),
        (60, [extension(140), extension(59)].concat(), false),
        (60, [extension(17), [0; 8]].concat(), true),
        (UDP, vec![0; 8], true),
        (44, vec![140, 0, 0, 1, 0, 0, 0, 1, 0], false),
    ] {
        let built = packet(INSIDE, OUTSIDE, next_header, &payload);
        assert_eq!(bench.up(built.clone()), passes, "{next_header}");
        assert_eq!(bench.down(built), passes, "{next_header}");
    }
}

#[test]
fn a_firewall_drops_payload_with_a_shim6_header_and_no_control_message() {
    let mut bench = Bench::of(&[Element::DropShim6Payload]);
    for (next_header, payload, passes) in [
        (140, vec![17, 0, 0x80, 0, 0, 0, 0, 1], false),
        (60, [&extension(140)[..], &[17, 0, 0xff, 0, 0, 0, 0, 1]].concat(), false),
        (140, vec![59, 5, 0x01, 0, 0, 0, 0, 1], true),
        (140, vec![59, 5], true),
        (UDP, vec![0, 0, 0x80, 0, 0, 0, 0, 1], true),
    ] {
        let built = packet(INSIDE, OUTSIDE, next_header, &payload);
        assert_eq!(bench.up(built.clone()), passes, "{next_header}");
        assert_eq!(bench.down(built), passes, "{next_header}");
    }
}

#[test]
fn a_firewall_drops_extension_headers_but_no_fragments() {
    let mut bench = Bench::of(&[Element::DropExtensionHeaders]);
    for next_header in [0, 43, 51, 60, 135, 139, 140, 253, 254] {
        let built = packet(INSIDE, OUTSIDE, next_header, &extension(59));
        assert!(!bench.up(built), "{next_header}");
    }
    for next_header in [TCP_, UDP, 44, 50, 58, 59] {
        let built = packet(INSIDE, OUTSIDE, next_header, &[UDP, 0, 0, 0, 0, 0, 0, 0]);
        assert!(bench.up(built), "{next_header}");
    }
    assert!(bench.up(packet("fe80::1", "ff02::16", 0, &extension(58))));
}

const TCP_: u8 = 6;

#[test]
fn a_stateful_firewall_lets_in_only_what_answers() {
    let mut bench = Bench::of(&[Element::Stateful]);
    assert!(!bench.down(udp(OUTSIDE, 53, INSIDE, 1000)));
    assert!(bench.up(udp(INSIDE, 1000, OUTSIDE, 53)));
    assert!(bench.down(udp(OUTSIDE, 53, INSIDE, 1000)));
    for other in [
        udp(OUTSIDE, 53, INSIDE, 1001),
        udp(OUTSIDE, 54, INSIDE, 1000),
        udp("2001:db8:b2::1", 53, INSIDE, 1000),
        packet(OUTSIDE, INSIDE, 140, &extension(59)),
    ] {
        assert!(!bench.down(other));
    }
    // A protocol that it does not know goes by addresses.
    assert!(bench.up(packet(INSIDE, OUTSIDE, 140, &extension(59))));
    assert!(bench.down(packet(OUTSIDE, INSIDE, 140, &extension(59))));
    assert!(!bench.down(packet("2001:db8:b2::1", INSIDE, 140, &extension(59))));
}

#[test]
fn a_stateful_firewall_forgets_what_was_silent() {
    let mut bench = Bench::of(&[Element::Stateful]);
    assert!(bench.up(udp(INSIDE, 1000, OUTSIDE, 53)));
    bench.now += Duration::from_secs(119);
    assert!(bench.down(udp(OUTSIDE, 53, INSIDE, 1000)));
    bench.now += Duration::from_secs(121);
    assert!(!bench.down(udp(OUTSIDE, 53, INSIDE, 1000)));
}

#[test]
fn a_stateful_firewall_lets_in_errors_about_its_flows() {
    let mut bench = Bench::of(&[Element::Stateful]);
    let error = |about: Vec<u8>| {
        packet(
            "2001:db8:c::1",
            INSIDE,
            58,
            &[&[2, 0, 0, 0, 0, 0, 5, 0][..], &about].concat(),
        )
    };
    let sent = udp(INSIDE, 1000, OUTSIDE, 53);
    assert!(!bench.down(error(sent.clone())));
    assert!(bench.up(sent.clone()));
    assert!(bench.down(error(sent)));
    assert!(!bench.down(error(udp(INSIDE, 1001, OUTSIDE, 53))));
    assert!(!bench.down(error(vec![0x60])));
}

#[test]
fn a_stateful_firewall_remembers_so_many_flows_and_no_more() {
    let mut bench = Bench::of(&[Element::Stateful]);
    for flow in 0..MAX_FLOWS {
        let ports = (flow as u16, 1 + (flow >> 16) as u16);
        assert!(bench.up(udp(INSIDE, ports.0, OUTSIDE, ports.1)));
    }
    assert!(!bench.up(udp(INSIDE, 1, OUTSIDE, 99)));
    bench.now += Duration::from_secs(121);
    assert!(bench.up(udp(INSIDE, 1, OUTSIDE, 99)));
}

#[test]
fn an_ingress_filter_drops_foreign_sources_from_inside() {
    let mut bench = Bench::of(&[Element::IngressFilter(vec!["2001:db8:a1::/64".parse().unwrap()])]);
    assert!(bench.up(udp(INSIDE, 1, OUTSIDE, 2)));
    assert!(!bench.up(udp("2001:db8:a2::1", 1, OUTSIDE, 2)));
    assert!(bench.down(udp("2001:db8:a2::1", 1, INSIDE, 2)));
    assert!(bench.up(udp("fe80::1", 1, "fe80::2", 2)));
}

#[test]
fn translation_comes_before_or_behind_a_filter_as_the_link_has_it() {
    let nptv6 = Element::Nptv6 {
        inside: "fd00:a::/48".parse().unwrap(),
        outside: "2001:db8:a1::/48".parse().unwrap(),
    };
    let filter = Element::IngressFilter(vec!["2001:db8:a1::/48".parse().unwrap()]);
    let sent = udp("fd00:a::1", 1, OUTSIDE, 2);
    assert!(Bench::of(&[nptv6.clone(), filter.clone()]).up(sent.clone()));
    assert!(!Bench::of(&[filter, nptv6.clone()]).up(sent.clone()));

    let mut chain = Chain::new(&[nptv6]);
    let (mut there, now) = (sent.clone(), Instant::now());
    chain.pass(Direction::Up, &mut there, now).unwrap();
    let outside = headers::source(&there).unwrap();
    assert!("2001:db8:a1::/48".parse::<Prefix>().unwrap().contains(outside));
    // A router's error about it comes back to the host as one about what it sent.
    let error = [&[3, 0, 0, 0, 0, 0, 0, 0][..], &there].concat();
    let mut error = packet("2001:db8:c::1", &outside.to_string(), 58, &error);
    chain.pass(Direction::Down, &mut error, now).unwrap();
    assert_eq!(headers::destination(&error), Some("fd00:a::1".parse().unwrap()));
    assert_eq!(error[48..], sent);
}

#[test]
fn no_packet_is_too_short_for_an_element() {
    let elements = [
        Element::DropShim6,
        Element::DropShim6Payload,
        Element::DropExtensionHeaders,
        Element::Stateful,
        Element::IngressFilter(vec!["2001:db8:a1::/64".parse().unwrap()]),
        Element::Nptv6 {
            inside: "2001:db8:a1::/48".parse().unwrap(),
            outside: "2001:db8:a2::/48".parse().unwrap(),
        },
    ];
    let whole = [
        extension(43).to_vec(),
        extension(44).to_vec(),
        extension(58).to_vec(),
        udp(INSIDE, 1, OUTSIDE, 2),
    ];
    let whole = packet(INSIDE, OUTSIDE, 60, &whole.concat());
    for element in elements {
        let mut bench = Bench::of(&[element]);
        for length in 0..=whole.len() {
            bench.up(whole[..length].to_vec());
            bench.down(whole[..length].to_vec());
        }
    }
}
