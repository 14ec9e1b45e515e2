//! Octets: messages that are made wrong on purpose, and packets that arrived.

use std::net::Ipv6Addr;

use shim6_core::LocatorPair;
use shim6_core::wire::{ContextTag, MAX_MESSAGE, Message, PROTOCOL, PacketKind, checksum, classify};

/// Octets of an IPv6 header.
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// Where the checksum of a control message is.
const CHECKSUM: core::ops::Range<usize> = 4..6;

/// A packet with these addresses, `local` being the sender.
pub(super) fn ipv6(on: LocatorPair, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, HOP_LIMIT]);
    packet.extend(on.local.octets());
    packet.extend(on.peer.octets());
    packet.extend(payload);
    packet
}

/// The octets of a message; nothing if the format cannot hold it.
pub(super) fn octets_of(message: &Message) -> Vec<u8> {
    let mut buffer = [0; MAX_MESSAGE];
    message
        .emit(&mut buffer)
        .map_or_else(|_| Vec::new(), |length| buffer[..length].to_vec())
}

/// A message of any type, with what stands behind its checksum.
pub(super) fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![59, 0, kind, 0, 0, 0];
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(8), 0);
    seal(&mut octets);
    octets
}

/// Writes Hdr Ext Len and the checksum as they should be for these octets.
pub(super) fn seal(octets: &mut [u8]) {
    octets[1] = u8::try_from(octets.len() / 8 - 1).unwrap_or(u8::MAX);
    reseal(octets);
}

/// Writes the checksum anew, and leaves the length.
pub(super) fn reseal(octets: &mut [u8]) {
    octets[CHECKSUM].fill(0);
    let sum = checksum(octets).to_be_bytes();
    octets[CHECKSUM].copy_from_slice(&sum);
}

/// Adds an option to a message, padded with `padding`.
pub(super) fn add_option(octets: &mut Vec<u8>, kind: u16, critical: bool, contents: &[u8], padding: u8) {
    octets.extend((kind << 1 | u16::from(critical)).to_be_bytes());
    octets.extend((contents.len() as u16).to_be_bytes());
    octets.extend(contents);
    octets.resize(octets.len().next_multiple_of(8), padding);
    seal(octets);
}

/// The options of a message, each with its place, type, critical bit, contents and padding. `at` is where they start.
pub(super) fn options(octets: &[u8], at: usize) -> Option<Vec<RawOption<'_>>> {
    let mut found = Vec::new();
    let mut at = at;
    while at < octets.len() {
        let head = octets.get(at..at + 4)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let end = (at + 4 + length).next_multiple_of(8);
        found.push(RawOption {
            at,
            kind: kind >> 1,
            contents: octets.get(at + 4..at + 4 + length)?,
            padding: octets.get(at + 4 + length..end)?,
        });
        at = end;
    }
    Some(found)
}

/// An option as it came.
#[derive(Debug)]
pub(super) struct RawOption<'a> {
    /// From the start of the message.
    pub(super) at: usize,
    pub(super) kind: u16,
    pub(super) contents: &'a [u8],
    pub(super) padding: &'a [u8],
}

/// An ICMPv6 message with its checksum, which covers these addresses.
pub(super) fn icmp(on: LocatorPair, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(body);
    let sum = upper_checksum(on, ICMPV6, &message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// An echo request, or with `reply` an answer that nobody asked for: payload that is not answered.
pub(super) fn echo(on: LocatorPair, reply: bool, id: u16, number: u16) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    let [c, d] = number.to_be_bytes();
    let kind = if reply { ECHO_REPLY } else { ECHO_REQUEST };
    icmp(
        on,
        kind,
        0,
        &[a, b, c, d, b'c', b'o', b'n', b'f', b'o', b'r', b'm', b'.'],
    )
}

/// The checksum with the pseudo-header of RFC 8200 section 8.1; 0 over a right message.
fn upper_checksum(on: LocatorPair, protocol: u8, octets: &[u8]) -> u16 {
    let mut covered = Vec::with_capacity(40 + octets.len());
    covered.extend(on.local.octets());
    covered.extend(on.peer.octets());
    covered.extend((octets.len() as u32).to_be_bytes());
    covered.extend([0, 0, 0, protocol]);
    covered.extend(octets);
    checksum(&covered)
}

/// The payload behind a payload header.
pub(super) fn payload(tag: ContextTag, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; shim6_core::wire::payload::LEN];
    shim6_core::wire::payload::emit(tag, next_header, &mut header);
    [&header, payload].concat()
}

/// Where a packet goes to.
pub(super) fn destination(packet: &[u8]) -> Option<Ipv6Addr> {
    address(packet, 24)
}

fn address(packet: &[u8], at: usize) -> Option<Ipv6Addr> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
    Some(octets.into())
}

/// The addresses of a packet that came, ours being `local`.
pub(super) fn pair(packet: &[u8]) -> Option<LocatorPair> {
    Some(LocatorPair::new(destination(packet)?, address(packet, 8)?))
}

/// From the Shim6 header on.
pub(super) fn shim6(packet: &[u8]) -> Option<&[u8]> {
    (*packet.get(6)? == PROTOCOL).then(|| packet.get(IPV6_HEADER..))?
}

/// A control message, whatever it has in it.
pub(super) fn control(packet: &[u8]) -> Option<&[u8]> {
    match classify(shim6(packet)?) {
        Ok(PacketKind::Control(message)) => Some(message),
        _ => None,
    }
}

/// The id of an echo reply between these addresses, whose checksum is right, without a payload header in front of it or
/// behind one with this tag.
pub(super) fn echo_reply(packet: &[u8], ulids: LocatorPair) -> Option<(u16, u16, Option<ContextTag>)> {
    let (tag, message) = match *packet.get(6)? {
        ICMPV6 => (None, packet.get(IPV6_HEADER..)?),
        _ => match classify(shim6(packet)?) {
            Ok(PacketKind::Payload {
                tag,
                next_header: ICMPV6,
            }) => (Some(tag), packet.get(IPV6_HEADER + 8..)?),
            _ => return None,
        },
    };
    let on = LocatorPair::new(ulids.peer, ulids.local);
    let [ECHO_REPLY, 0, _, _, a, b, c, d, ..] = *message else {
        return None;
    };
    (upper_checksum(on, ICMPV6, message) == 0).then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), tag))
}

/// What a packet is, in a few words.
pub(super) fn describe(packet: &[u8]) -> String {
    match (packet.get(6), packet.get(IPV6_HEADER)) {
        (Some(&PROTOCOL), _) => match shim6(packet).map(classify) {
            Some(Ok(PacketKind::Payload { tag, .. })) => format!("payload with tag {tag}"),
            Some(Ok(PacketKind::Control(octets))) => match Message::parse(octets) {
                Ok(message) => message.message_type().to_string(),
                Err(why) => format!("message of type {} ({why})", octets[2]),
            },
            _ => "a Shim6 header that cannot be read".to_owned(),
        },
        (Some(&ICMPV6), Some(&ECHO_REQUEST)) => "echo request".to_owned(),
        (Some(&ICMPV6), Some(&ECHO_REPLY)) => "echo reply".to_owned(),
        (Some(&ICMPV6), Some(kind)) => format!("ICMPv6 type {kind}"),
        (Some(other), _) => format!("packet of protocol {other}"),
        (None, _) => "no packet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_sealed_again() {
        let mut octets = message_of(1, &[0; 10]);
        octets[3] = 2;
        assert!(Message::parse(&octets).is_err());
        reseal(&mut octets);
        assert!(Message::parse(&octets).is_ok());
        add_option(&mut octets, 7, false, &[0, 0, 0, 9], 0);
        let Ok(Message::I1(i1)) = Message::parse(&octets) else {
            panic!("no I1");
        };
        assert_eq!(i1.forked_instance, Some(9));
        let found = options(&octets, 16).expect("options");
        assert_eq!(
            (found.len(), found[0].at, found[0].contents),
            (1, 16, &[0, 0, 0, 9][..])
        );
    }

    #[test]
    fn echo_reply_needs_the_checksum_of_its_ulids() {
        let [ours, theirs, other]: [Ipv6Addr; 3] =
            [1, 2, 3].map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
        let on = LocatorPair::new(theirs, ours);
        let reply = ipv6(on, ICMPV6, &echo(on, true, 7, 8));
        let ulids = on.seen_by_peer();
        assert_eq!(echo_reply(&reply, ulids), Some((7, 8, None)));
        assert_eq!(echo_reply(&reply, LocatorPair::new(other, theirs)), None);
        // Behind a payload header the addresses of the packet are others.
        let tag = ContextTag::from_random_bits(99);
        let elsewhere = LocatorPair::new(other, ours);
        let moved = ipv6(elsewhere, PROTOCOL, &payload(tag, ICMPV6, &echo(on, true, 7, 8)));
        assert_eq!(echo_reply(&moved, ulids), Some((7, 8, Some(tag))));
    }
}
