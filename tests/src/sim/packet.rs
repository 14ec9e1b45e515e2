//! Whole IPv6 packets: what applications send, and how a log names what is on the network.

use std::net::Ipv6Addr;

use shim6_core::LocatorPair;
use shim6_core::dataplane::{IPV6_HEADER_LEN, PAYLOAD_HEADER_LEN, addresses};
use shim6_core::reap::ProbeRecord;
use shim6_core::wire::{self, Message, MessageType, PROTOCOL, checksum, payload};

use super::link::Refusal;
use super::pool::name;

/// UDP's protocol number.
pub const UDP: u8 = 17;
/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;
/// Octets of a UDP header.
pub const UDP_HEADER_LEN: usize = 8;
/// What the data of our applications starts with, before the number.
const MARK: [u8; 4] = *b"sim6";

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// An options header with nothing but padding: its Next Header is to be filled in.
const PADDING: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];

/// Extension headers in front of a datagram, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dressing {
    /// None.
    Plain,
    /// Hop-by-Hop Options: the Shim6 header goes behind them (RFC 5533 section 11.1).
    HopByHop,
    /// Destination Options for the last destination: the Shim6 header goes before them.
    DestinationOptions,
    /// Destination Options and a Routing header that is done with: the Shim6 header goes behind both.
    Routed,
    /// A Fragment header of a packet that is in one piece: the Shim6 header goes before it.
    Fragment,
}

impl Dressing {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::HopByHop,
        Self::DestinationOptions,
        Self::Routed,
        Self::Fragment,
    ];

    fn headers(self) -> &'static [u8] {
        match self {
            Self::Plain => &[],
            Self::HopByHop => &[HOP_BY_HOP],
            Self::DestinationOptions => &[DESTINATION_OPTIONS],
            Self::Routed => &[DESTINATION_OPTIONS, ROUTING],
            Self::Fragment => &[FRAGMENT],
        }
    }
}

/// A packet with these addresses.
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("the payload fits a packet");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[next_header, 64]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram that says its number, of about so many octets; what follows the number depends on it.
pub fn datagram(ulids: LocatorPair, port: u16, number: u64, octets: usize, dressing: Dressing) -> Vec<u8> {
    let length = UDP_HEADER_LEN + MARK.len() + 8 + octets;
    let mut udp = Vec::with_capacity(length);
    udp.extend_from_slice(&4_000_u16.to_be_bytes());
    udp.extend_from_slice(&port.to_be_bytes());
    udp.extend_from_slice(&(length as u16).to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(&MARK);
    udp.extend_from_slice(&number.to_be_bytes());
    udp.extend((udp.len()..length).map(|index| (index as u8).wrapping_mul(31) ^ number as u8));
    let sum = upper_checksum(ulids.local, ulids.peer, UDP, &udp);
    udp[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());

    let headers = dressing.headers();
    let mut upper = Vec::with_capacity(headers.len() * 8 + udp.len());
    for (index, &header) in headers.iter().enumerate() {
        let mut octets = match header {
            HOP_BY_HOP | DESTINATION_OPTIONS => PADDING,
            // No segments left; an offset of 0 and no more fragments.
            _ => [0; 8],
        };
        octets[0] = headers.get(index + 1).copied().unwrap_or(UDP);
        upper.extend_from_slice(&octets);
    }
    upper.extend_from_slice(&udp);
    ipv6(ulids.local, ulids.peer, headers.first().copied().unwrap_or(UDP), &upper)
}

/// The protocol number of the upper layer and where it starts, behind the extension headers that [`Dressing`] has. Nothing
/// for what is cut short.
pub fn upper_layer(packet: &[u8]) -> Option<(u8, usize)> {
    let mut next = *packet.get(6)?;
    let mut offset = IPV6_HEADER_LEN;
    while matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
        let header = packet.get(offset..offset + 2)?;
        let length = if next == FRAGMENT {
            8
        } else {
            8 + 8 * usize::from(header[1])
        };
        (next, offset) = (header[0], offset + length);
    }
    (offset <= packet.len()).then_some((next, offset))
}

/// A datagram of our applications, as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Its number.
    pub number: u64,
    /// The port that it is for.
    pub port: u16,
}

/// Why something that arrived is no datagram of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDatagram {
    /// It is another protocol's, or cut short.
    OtherProtocol,
    /// The checksum does not fit the addresses and contents.
    Checksum,
    /// The data are not our applications'.
    Foreign,
}

/// Reads a datagram as an application's kernel and the application would.
pub fn read_datagram(packet: &[u8]) -> Result<Datagram, NotDatagram> {
    let (source, destination) = addresses(packet).ok_or(NotDatagram::OtherProtocol)?;
    let length = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let packet = packet.get(..length).ok_or(NotDatagram::OtherProtocol)?;
    let (UDP, offset) = upper_layer(packet).ok_or(NotDatagram::OtherProtocol)? else {
        return Err(NotDatagram::OtherProtocol);
    };
    let udp = &packet[offset..];
    let Some(header) = udp.first_chunk::<UDP_HEADER_LEN>() else {
        return Err(NotDatagram::OtherProtocol);
    };
    let declared = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if declared != udp.len() || upper_checksum(source, destination, UDP, udp) != 0 {
        return Err(NotDatagram::Checksum);
    }
    let data = udp[UDP_HEADER_LEN..].strip_prefix(&MARK).ok_or(NotDatagram::Foreign)?;
    Ok(Datagram {
        number: u64::from_be_bytes(*data.first_chunk().ok_or(NotDatagram::Foreign)?),
        port: u16::from_be_bytes([header[2], header[3]]),
    })
}

/// The checksum with the pseudo-header of RFC 8200 section 8.1; over a message with its checksum in place 0 if it is right.
pub fn upper_checksum(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, octets: &[u8]) -> u16 {
    let mut covered = Vec::with_capacity(40 + octets.len());
    covered.extend_from_slice(&source.octets());
    covered.extend_from_slice(&destination.octets());
    covered.extend_from_slice(&(octets.len() as u32).to_be_bytes());
    covered.extend_from_slice(&[0, 0, 0, protocol]);
    covered.extend_from_slice(octets);
    checksum(&covered)
}

/// The ICMPv6 error with which `router` answers the sender of `packet` (RFC 4443 sections 3.1, 3.2). Nothing for what has no
/// addresses, and for errors, which are never answered.
pub fn refusal(router: Ipv6Addr, refusal: Refusal, packet: &[u8]) -> Option<Vec<u8>> {
    let (kind, code, parameter) = match refusal {
        Refusal::Unreachable => (1, 0, 0),
        Refusal::TooBig(mtu) => (2, 0, u32::from(mtu)),
    };
    icmp_error(router, [kind, code], parameter, packet)
}

/// "Unrecognized Next Header type encountered" (RFC 4443 section 3.4) about the header behind the IPv6 header: what a host
/// without Shim6 answers.
pub fn unrecognized_next_header(packet: &[u8]) -> Option<Vec<u8>> {
    let (_, host) = addresses(packet)?;
    icmp_error(host, [4, 1], 6, packet)
}

fn icmp_error(from: Ipv6Addr, [kind, code]: [u8; 2], parameter: u32, packet: &[u8]) -> Option<Vec<u8>> {
    const MINIMUM_MTU: usize = 1280;
    let (source, _) = addresses(packet)?;
    if let Some((ICMPV6, offset)) = upper_layer(packet)
        && packet.get(offset).is_none_or(|&kind| kind < 128)
    {
        return None;
    }
    let quoted = &packet[..packet.len().min(MINIMUM_MTU - IPV6_HEADER_LEN - 8)];
    let mut icmp = vec![kind, code, 0, 0];
    icmp.extend_from_slice(&parameter.to_be_bytes());
    icmp.extend_from_slice(quoted);
    let sum = upper_checksum(from, source, ICMPV6, &icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(ipv6(from, source, ICMPV6, &icmp))
}

/// A control message as a whole packet.
///
/// # Panics
/// When the format cannot hold the message.
pub fn control_packet(on: LocatorPair, message: &Message) -> Vec<u8> {
    let mut octets = [0; wire::MAX_MESSAGE];
    let length = message.emit(&mut octets).expect("the message can be written");
    ipv6(on.local, on.peer, PROTOCOL, &octets[..length])
}

/// The control message in a packet, if there is one: from its Next Header octet on.
pub fn control_of(packet: &[u8]) -> Option<&[u8]> {
    let shim6 = packet.get(IPV6_HEADER_LEN..)?;
    (packet[6] == PROTOCOL && shim6.get(2)? & 0x80 == 0).then_some(shim6)
}

/// The type of a packet's control message, `None` for every other packet.
pub fn control_type(packet: &[u8]) -> Option<MessageType> {
    Some(MessageType(*control_of(packet)?.get(2)?))
}

/// One line about a packet, for people.
pub fn describe(packet: &[u8]) -> String {
    let Some((source, destination)) = addresses(packet) else {
        return format!("{} octets that are no IPv6 packet", packet.len());
    };
    let on = format!("{} -> {}", name(source), name(destination));
    if let Some(control) = control_of(packet) {
        return match Message::parse(control) {
            Ok(message) => format!("{on} {}", describe_message(&message)),
            Err(error) => format!("{on} Shim6 message: {error}"),
        };
    }
    let shim6 = shim6_offset(packet);
    let tag = shim6.and_then(|offset| payload::parse(packet.get(offset..)?).ok());
    match (tag, read_datagram(packet)) {
        (Some((tag, _)), _) => format!("{on} payload tag={tag} octets={}", packet.len() - PAYLOAD_HEADER_LEN),
        (None, Ok(datagram)) => format!("{on} datagram {} octets={}", datagram.number, packet.len()),
        (None, Err(reason)) => match upper_layer(packet) {
            Some((ICMPV6, offset)) => {
                let kind = packet.get(offset..offset + 2);
                format!("{on} ICMPv6 type,code={kind:?} about [{}]", {
                    packet.get(offset + 8..).map(describe).unwrap_or_default()
                })
            }
            _ => format!("{on} {} octets: {reason:?}", packet.len()),
        },
    }
}

/// Where a packet's Shim6 header is, behind what may stand in front of it.
pub fn shim6_offset(packet: &[u8]) -> Option<usize> {
    let (next, offset) = upper_layer(packet)?;
    (next == PROTOCOL && packet.len() >= offset + PAYLOAD_HEADER_LEN).then_some(offset)
}

fn describe_message(message: &Message) -> String {
    let kind = message.message_type();
    match message {
        Message::I1(m) => format!("{kind} tag={} nonce={:#x}", m.initiator_context_tag, m.initiator_nonce),
        Message::R1(m) => format!("{kind} nonce={:#x} nonce_r={:#x}", m.initiator_nonce, m.responder_nonce),
        Message::I2(m) => format!("{kind} tag={} nonce={:#x}", m.initiator_context_tag, m.initiator_nonce),
        Message::R2(m) => format!("{kind} tag={} nonce={:#x}", m.responder_context_tag, m.initiator_nonce),
        Message::R1bis(m) => format!(
            "{kind} about tag={} nonce_r={:#x}",
            m.packet_context_tag, m.responder_nonce
        ),
        Message::I2bis(m) => format!(
            "{kind} tag={} nonce={:#x} about tag={}",
            m.initiator_context_tag, m.initiator_nonce, m.packet_context_tag
        ),
        Message::UpdateRequest(m) => {
            let locators = m.announcement.locators.iter().flat_map(|list| &list.locators);
            let locators: Vec<_> = locators.map(|&(_, locator)| name(locator)).collect();
            format!(
                "{kind} to tag={} nonce={:#x} {locators:?}",
                m.receiver_context_tag, m.request_nonce
            )
        }
        Message::UpdateAcknowledgement(m) => {
            format!("{kind} to tag={} nonce={:#x}", m.receiver_context_tag, m.request_nonce)
        }
        Message::Error(m) => {
            format!(
                "{kind} {} at {} about [{}]",
                m.code,
                m.pointer,
                describe(&m.packet_in_error)
            )
        }
        Message::Keepalive(m) => format!("{kind} to tag={}", m.receiver_context_tag),
        Message::Probe(m) => {
            let nonces = |records: &[ProbeRecord]| {
                let nonces = records.iter().map(|record| format!("{:x}", record.nonce));
                nonces.collect::<Vec<_>>().join(",")
            };
            let report = &m.report;
            format!(
                "{kind} to tag={} {} sent={} received={}",
                m.receiver_context_tag,
                report.state,
                nonces(&report.sent),
                nonces(&report.received)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: LocatorPair = LocatorPair {
        local: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
        peer: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2),
    };

    #[test]
    fn datagram_is_read_in_every_dressing() {
        for dressing in Dressing::ALL {
            let packet = datagram(PAIR, 7, 42, 100, dressing);
            assert_eq!(
                read_datagram(&packet),
                Ok(Datagram { number: 42, port: 7 }),
                "{dressing:?}"
            );
        }
    }

    #[test]
    fn another_address_or_any_flipped_bit_of_the_datagram_is_noticed() {
        let packet = datagram(PAIR, 7, 42, 10, Dressing::Plain);
        for bit in 8 * 8..packet.len() * 8 {
            let mut packet = packet.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(read_datagram(&packet).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn errors_have_a_right_checksum_and_are_never_answered() {
        let packet = datagram(PAIR, 7, 42, 1300, Dressing::Plain);
        let error = refusal(PAIR.peer, Refusal::TooBig(1280), &packet).expect("an answer");
        assert_eq!(error.len(), 1280);
        assert_eq!(addresses(&error), Some((PAIR.peer, PAIR.local)));
        assert_eq!(
            upper_checksum(PAIR.peer, PAIR.local, ICMPV6, &error[IPV6_HEADER_LEN..]),
            0
        );
        assert_eq!(refusal(PAIR.peer, Refusal::Unreachable, &error), None);
        assert_eq!(unrecognized_next_header(&error), None);
    }
}
