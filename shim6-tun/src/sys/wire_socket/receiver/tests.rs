//! What is read from the ancillary data of a packet.

use super::*;

/// One control message, padded to its alignment.
fn item(kind: i32, value: &[u8]) -> Vec<u8> {
    let length = size_of::<libc::cmsghdr>() + value.len();
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(libc::IPPROTO_IPV6.to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(length.next_multiple_of(size_of::<usize>()), 0xaa);
    octets
}

fn parse(control: &[u8]) -> Option<PacketInfo> {
    parse_control(control, &mut Extensions::default())
}

fn packet_info(address: Ipv6Addr, interface: u32) -> Vec<u8> {
    item(
        libc::IPV6_PKTINFO,
        &[&address.octets()[..], &interface.to_ne_bytes()].concat(),
    )
}

#[test]
fn control_messages_are_read_in_any_order_and_unknown_ones_skipped() {
    let parts = [
        item(4711, &[1, 2, 3]),
        item(libc::IPV6_FLOWINFO, &[0x0a, 0x51, 0x23, 0x45]),
        item(libc::IPV6_HOPLIMIT, &63_i32.to_ne_bytes()),
        packet_info(Ipv6Addr::LOCALHOST, 9),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let info = parse(&order.map(|part| parts[part].as_slice()).concat()).unwrap();
        assert_eq!((info.destination, info.interface), (Ipv6Addr::LOCALHOST, 9));
        assert_eq!((info.hop_limit, info.traffic_class), (63, 0xa5));
        assert_eq!(info.flow_label, 0x1_2345);
    }
}

#[test]
fn control_messages_that_are_missing_or_cut_off_give_nothing() {
    let info = packet_info(Ipv6Addr::LOCALHOST, 9);
    let hop_limit = item(libc::IPV6_HOPLIMIT, &63_i32.to_ne_bytes());
    let whole = [info.clone(), hop_limit.clone()].concat();
    assert!(parse(&whole).is_some());
    assert!(parse(&info).is_none());
    assert!(parse(&hop_limit).is_none());
    // The hop limit ends 4 octets before its padding does.
    for length in 0..whole.len() - 4 {
        assert!(parse(&whole[..length]).is_none(), "{length} octets");
    }
    let impossible = [item(libc::IPV6_HOPLIMIT, &256_i32.to_ne_bytes()), info].concat();
    assert!(parse(&impossible).is_none());
    // A length of zero or beyond counting must neither loop nor overflow.
    for length in [0_usize, 1, usize::MAX] {
        let mut broken = whole.clone();
        broken[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
        assert!(parse(&broken).is_none());
    }
}

#[test]
fn extension_headers_are_a_chain_again_without_what_the_destination_has_dealt_with() {
    let header = |next, octet| [next, 0, octet, octet, 0, 0, 0, 0];
    let mut extensions = Extensions::default();
    extensions.push(HOP_BY_HOP, &header(DESTINATION_OPTIONS, 1)).unwrap();
    extensions.push(DESTINATION_OPTIONS, &header(ROUTING, 2)).unwrap();
    extensions.push(ROUTING, &header(DESTINATION_OPTIONS, 3)).unwrap();
    extensions.push(DESTINATION_OPTIONS, &header(140, 4)).unwrap();
    extensions.complete(140);
    let chain = [header(DESTINATION_OPTIONS, 1), header(ROUTING, 2), header(140, 3)];
    assert_eq!(extensions.octets, chain.concat());
    assert_eq!(extensions.first(140), HOP_BY_HOP);

    extensions.clear();
    extensions.push(DESTINATION_OPTIONS, &header(140, 4)).unwrap();
    extensions.complete(140);
    assert_eq!((extensions.octets.len(), extensions.first(140)), (0, 140));
}

#[test]
fn extension_headers_without_room_or_octets_are_refused() {
    let mut extensions = Extensions::default();
    assert_eq!(extensions.push(ROUTING, &[]), None);
    for _ in 0..2 {
        extensions.push(ROUTING, &[0; 512]).unwrap();
    }
    assert_eq!(extensions.push(ROUTING, &[0; 8]), None);
    assert!(IPV6_HEADER_OCTETS + extensions.octets.len() <= HEADROOM_OCTETS);
}
