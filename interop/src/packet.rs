//! Real IPv6 packets, built and checked with etherparse.
//!
//! Packets have any of the extension headers that a Shim6 header has to find its place among (RFC 5533 section 11.1), and
//! TCP, UDP or an ICMPv6 echo request above them. Checking recomputes the upper layer's checksum.

use std::net::Ipv6Addr;

use etherparse::{
    IcmpEchoHeader, Icmpv6Header, Icmpv6Slice, Icmpv6Type, IpFragOffset, IpNumber, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, TcpHeader, TcpOptionElement, TcpSlice,
    UdpHeader, UdpSlice, err,
};

/// Routing type for experiments (RFC 4727), so that nobody looks into our routing headers.
const ROUTING_TYPE: u8 = 253;

/// An IPv6 packet to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address, which the upper layer's checksum covers too.
    pub destination: Ipv6Addr,
    /// Traffic Class.
    pub traffic_class: u8,
    /// Flow Label, of which the lower 20 bits are taken.
    pub flow_label: u32,
    /// Hop Limit.
    pub hop_limit: u8,
    /// Extension headers.
    pub extensions: Extensions,
    /// The upper layer's header.
    pub upper: Upper,
    /// What the upper layer carries.
    pub payload: Vec<u8>,
}

/// The extension headers of a packet, in their order. Options headers are filled with padding options. Lengths are in
/// units of 8 octets beyond the first 8, as in Hdr Ext Len.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Length of a Hop-by-Hop Options header.
    pub hop_by_hop: Option<u8>,
    /// Length of a Destination Options header: the one in front of the Routing header if there is one, else the one for
    /// the destination.
    pub destination_options: Option<u8>,
    /// A Routing header, used up (no segments left).
    pub routing: Option<Routing>,
    /// Identification of a Fragment header. From [`Packet::build`] it is the header of a whole packet.
    pub fragment: Option<u32>,
}

/// A Routing header and what may follow only with one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// Length of the Routing header.
    pub length: u8,
    /// Length of a Destination Options header for the destination, behind the Fragment header.
    pub final_destination_options: Option<u8>,
}

/// The upper layer's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// A TCP segment with the ACK flag.
    Tcp {
        /// Source and destination port.
        ports: (u16, u16),
        /// Sequence Number.
        sequence: u32,
        /// Acknowledgement Number.
        acknowledgement: u32,
        /// At most 40 octets of options.
        options: Vec<TcpOptionElement>,
    },
    /// A UDP datagram.
    Udp {
        /// Source and destination port.
        ports: (u16, u16),
    },
    /// An ICMPv6 echo request.
    EchoRequest {
        /// Identifier.
        identifier: u16,
        /// Sequence Number.
        sequence: u16,
    },
}

/// Why a packet cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The packet would be longer than its Payload Length can say.
    #[error("{0} octets are too many for an IPv6 packet")]
    TooLong(usize),
    /// The TCP options do not fit.
    #[error("TCP options: {0:?}")]
    TcpOptions(etherparse::TcpOptionWriteError),
    /// A value that a field cannot hold.
    #[error(transparent)]
    Value(#[from] err::ValueTooBigError<usize>),
    /// The extension headers cannot be written.
    #[error(transparent)]
    Extensions(#[from] err::ipv6_exts::HeaderWriteError),
    /// A fragment size that is no multiple of 8, or zero.
    #[error("fragments of {0} octets: not a positive multiple of 8")]
    FragmentSize(usize),
}

impl Packet {
    /// Builds the packet.
    ///
    /// # Errors
    ///
    /// A length is out of bounds.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let (mut extensions, protocol, upper) =
            (self.extensions.headers(), self.upper.protocol(), self.upper_octets()?);
        let first = extensions.set_next_headers(protocol);
        self.assemble(&extensions, first, &upper)
    }

    /// Builds the packet cut into fragments that carry at most `size` octets each. Without a Fragment header in
    /// [`Packet::extensions`] their identification is 0.
    ///
    /// # Errors
    ///
    /// As [`Packet::build`], or `size` is not a positive multiple of 8.
    pub fn build_fragments(&self, size: usize) -> Result<Vec<Vec<u8>>, BuildError> {
        if size == 0 || !size.is_multiple_of(8) {
            return Err(BuildError::FragmentSize(size));
        }
        let whole = Packet {
            extensions: Extensions {
                fragment: Some(self.extensions.fragment.unwrap_or(0)),
                ..self.extensions.clone()
            },
            ..self.clone()
        };
        let mut extensions = whole.extensions.headers();
        let first = extensions.set_next_headers(self.upper.protocol());
        // What is cut is all behind the Fragment header.
        let mut fragmentable = Vec::new();
        if let Some(last) = extensions
            .routing
            .as_mut()
            .and_then(|routing| routing.final_destination_options.take())
        {
            fragmentable.extend_from_slice(&last.to_bytes());
        }
        fragmentable.extend_from_slice(&whole.upper_octets()?);
        let count = fragmentable.len().div_ceil(size);
        let mut packets = Vec::with_capacity(count);
        for (index, piece) in fragmentable.chunks(size).enumerate() {
            let offset = index * size / 8;
            let offset = u16::try_from(offset)
                .ok()
                .and_then(|offset| IpFragOffset::try_new(offset).ok());
            let offset = offset.ok_or(BuildError::TooLong(fragmentable.len()))?;
            if let Some(fragment) = &mut extensions.fragment {
                (fragment.fragment_offset, fragment.more_fragments) = (offset, index + 1 < count);
            }
            packets.push(whole.assemble_fragment(&extensions, first, piece)?);
        }
        Ok(packets)
    }

    /// The writer follows the chain of headers to its end; in a fragment the rest of the chain is payload.
    fn assemble_fragment(
        &self,
        extensions: &Ipv6Extensions,
        first: IpNumber,
        piece: &[u8],
    ) -> Result<Vec<u8>, BuildError> {
        let next = extensions.fragment.as_ref().map(|fragment| fragment.next_header);
        let mut chained = extensions.clone();
        if let Some(fragment) = &mut chained.fragment {
            fragment.next_header = IpNumber::IPV6_NO_NEXT_HEADER;
        }
        let mut octets = self.assemble(&chained, first, piece)?;
        let field = octets.len() - piece.len() - Ipv6FragmentHeader::LEN;
        if let (Some(next), Some(octet)) = (next, octets.get_mut(field)) {
            *octet = next.0;
        }
        Ok(octets)
    }

    fn assemble(&self, extensions: &Ipv6Extensions, first: IpNumber, upper: &[u8]) -> Result<Vec<u8>, BuildError> {
        let length = extensions.header_len() + upper.len();
        let header = Ipv6Header {
            traffic_class: self.traffic_class,
            flow_label: Ipv6FlowLabel::try_new(self.flow_label & 0xf_ffff).unwrap_or_default(),
            payload_length: u16::try_from(length).map_err(|_| BuildError::TooLong(length))?,
            next_header: first,
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        let mut octets = header.to_bytes().to_vec();
        extensions.write(&mut octets, first)?;
        octets.extend_from_slice(upper);
        Ok(octets)
    }

    fn upper_octets(&self) -> Result<Vec<u8>, BuildError> {
        let (source, destination) = (self.source.octets(), self.destination.octets());
        let mut octets = match &self.upper {
            Upper::Tcp {
                ports,
                sequence,
                acknowledgement,
                options,
            } => {
                let mut header = TcpHeader::new(ports.0, ports.1, *sequence, 0xffff);
                header.ack = true;
                header.acknowledgment_number = *acknowledgement;
                header.set_options(options).map_err(BuildError::TcpOptions)?;
                header.checksum = header.calc_checksum_ipv6_raw(source, destination, &self.payload)?;
                header.to_bytes().to_vec()
            }
            Upper::Udp { ports } => {
                let addresses = Ipv6Header {
                    source,
                    destination,
                    ..Ipv6Header::default()
                };
                UdpHeader::with_ipv6_checksum(ports.0, ports.1, &addresses, &self.payload)?
                    .to_bytes()
                    .to_vec()
            }
            Upper::EchoRequest { identifier, sequence } => {
                let echo = Icmpv6Type::EchoRequest(IcmpEchoHeader {
                    id: *identifier,
                    seq: *sequence,
                });
                Icmpv6Header::with_checksum(echo, source, destination, &self.payload)?
                    .to_bytes()
                    .to_vec()
            }
        };
        octets.extend_from_slice(&self.payload);
        Ok(octets)
    }
}

impl Upper {
    fn protocol(&self) -> IpNumber {
        match self {
            Self::Tcp { .. } => IpNumber::TCP,
            Self::Udp { .. } => IpNumber::UDP,
            Self::EchoRequest { .. } => IpNumber::IPV6_ICMP,
        }
    }
}

impl Extensions {
    fn headers(&self) -> Ipv6Extensions {
        Ipv6Extensions {
            hop_by_hop_options: self.hop_by_hop.map(padding_options),
            destination_options: self.destination_options.map(padding_options),
            routing: self.routing.as_ref().map(|routing| Ipv6RoutingExtensions {
                routing: raw_header(routing.length, &[ROUTING_TYPE, 0]),
                final_destination_options: routing.final_destination_options.map(padding_options),
            }),
            fragment: self.fragment.map(|identification| {
                Ipv6FragmentHeader::new(IpNumber::IPV6_NO_NEXT_HEADER, IpFragOffset::ZERO, false, identification)
            }),
            auth: None,
        }
    }
}

/// An options header with as many PadN options as it takes.
fn padding_options(length: u8) -> Ipv6RawExtHeader {
    // Each group of 8 octets gets its own option; the first one begins behind Next Header and Hdr Ext Len.
    let mut contents = vec![1, 4, 0, 0, 0, 0];
    for _ in 0..length {
        contents.extend_from_slice(&[1, 6, 0, 0, 0, 0, 0, 0]);
    }
    raw_header(length, &contents)
}

/// An extension header of the given length that starts with `contents`; the rest is zero.
fn raw_header(length: u8, contents: &[u8]) -> Ipv6RawExtHeader {
    let mut whole = contents.to_vec();
    whole.resize(6 + 8 * usize::from(length), 0);
    Ipv6RawExtHeader::new_raw(IpNumber::IPV6_NO_NEXT_HEADER, &whole).unwrap_or_default()
}

/// What is wrong with a packet.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No IPv6 header.
    #[error(transparent)]
    Header(#[from] err::ipv6::HeaderSliceError),
    /// An extension header is not right.
    #[error(transparent)]
    Extensions(#[from] err::ipv6_exts::HeaderSliceError),
    /// The TCP header is not right.
    #[error(transparent)]
    Tcp(#[from] err::tcp::HeaderSliceError),
    /// The upper layer's header is cut short.
    #[error(transparent)]
    Short(#[from] err::LenError),
    /// Too long for a checksum.
    #[error(transparent)]
    TooLong(#[from] err::ValueTooBigError<usize>),
    /// The Payload Length is not that of the packet.
    #[error("Payload Length {field} with {octets} octets behind the IPv6 header")]
    PayloadLength {
        /// The field.
        field: u16,
        /// Octets there.
        octets: usize,
    },
    /// The upper layer's checksum is wrong.
    #[error("wrong checksum of protocol {0}")]
    Checksum(u8),
    /// An upper layer that this module does not know.
    #[error("protocol {0}, which is not known here")]
    Protocol(u8),
}

/// A packet that was taken apart as far as the first header that is no extension header of IPv6's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dissected<'a> {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// The extension headers in front.
    pub extensions: Ipv6Extensions,
    /// Type of what follows: 140 is a Shim6 header.
    pub next_header: u8,
    /// Where it starts in the packet.
    pub offset: usize,
    /// What follows, to the end of the packet.
    pub rest: &'a [u8],
}

/// Takes a packet apart. Its Payload Length must be that of `octets`. Headers are looked for behind a Fragment header too,
/// so of fragments only the first, and one whose headers are whole, is taken apart rightly; see [`fragment`].
///
/// # Errors
///
/// What etherparse finds wrong.
pub fn dissect(octets: &[u8]) -> Result<Dissected<'_>, Fault> {
    let (header, behind) = Ipv6Header::from_slice(octets)?;
    if usize::from(header.payload_length) != behind.len() {
        return Err(Fault::PayloadLength {
            field: header.payload_length,
            octets: behind.len(),
        });
    }
    let (extensions, next_header, rest) = Ipv6Extensions::from_slice(header.next_header, behind)?;
    Ok(Dissected {
        source: header.source.into(),
        destination: header.destination.into(),
        extensions,
        next_header: next_header.0,
        offset: octets.len() - rest.len(),
        rest,
    })
}

/// The Fragment header of a packet and the octets of the original behind it; `None` for a packet without one.
///
/// Unlike [`dissect`], this does not take what a fragment carries for headers.
///
/// # Errors
///
/// A header in front of it is cut short.
pub fn fragment(octets: &[u8]) -> Result<Option<(Ipv6FragmentHeader, &[u8])>, Fault> {
    let (header, mut rest) = Ipv6Header::from_slice(octets)?;
    let mut next_header = header.next_header;
    while let IpNumber::IPV6_HEADER_HOP_BY_HOP | IpNumber::IPV6_ROUTE_HEADER | IpNumber::IPV6_DESTINATION_OPTIONS =
        next_header
    {
        let extension;
        (extension, rest) = Ipv6RawExtHeader::from_slice(rest)?;
        next_header = extension.next_header;
    }
    match next_header {
        IpNumber::IPV6_FRAGMENTATION_HEADER => Ok(Some(Ipv6FragmentHeader::from_slice(rest)?)),
        _ => Ok(None),
    }
}

/// Checks an ordinary packet: its lengths, and the checksum of its upper layer, recomputed. Of a packet that is only a
/// fragment there is no checksum to check.
///
/// # Errors
///
/// The first fault.
pub fn check(octets: &[u8]) -> Result<Dissected<'_>, Fault> {
    let dissected = dissect(octets)?;
    if !dissected.extensions.is_fragmenting_payload() {
        check_upper(
            dissected.next_header,
            dissected.source,
            dissected.destination,
            dissected.rest,
        )?;
    }
    Ok(dissected)
}

/// Checks the checksum of TCP, UDP or ICMPv6 for these addresses.
///
/// # Errors
///
/// The header is cut short, the checksum wrong or the protocol another.
pub fn check_upper(protocol: u8, source: Ipv6Addr, destination: Ipv6Addr, octets: &[u8]) -> Result<(), Fault> {
    let (source, destination) = (source.octets(), destination.octets());
    let right = match IpNumber(protocol) {
        IpNumber::TCP => {
            let segment = TcpSlice::from_slice(octets)?;
            segment.calc_checksum_ipv6(source, destination)? == segment.checksum()
        }
        IpNumber::UDP => {
            let datagram = UdpSlice::from_slice(octets)?;
            let expected = datagram
                .to_header()
                .calc_checksum_ipv6_raw(source, destination, datagram.payload())?;
            expected == datagram.checksum()
        }
        IpNumber::IPV6_ICMP => Icmpv6Slice::from_slice(octets)?.is_checksum_valid(source, destination),
        IpNumber(other) => return Err(Fault::Protocol(other)),
    };
    if right { Ok(()) } else { Err(Fault::Checksum(protocol)) }
}

/// The IPv6 packet that carries a Shim6 control message, as it goes over the wire.
///
/// # Errors
///
/// The message is longer than any packet.
pub fn control(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Result<Vec<u8>, BuildError> {
    let header = Ipv6Header {
        payload_length: u16::try_from(message.len()).map_err(|_| BuildError::TooLong(message.len()))?,
        next_header: IpNumber::SHIM6,
        hop_limit: 64,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    Ok([&header.to_bytes()[..], message].concat())
}
