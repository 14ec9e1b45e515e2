//! Captures: packets in pcapng files, which Wireshark and its kin read.
//!
//! The writer is ours; the reader is another library's, so that a capture read back is one that others can read.

use std::io::{self, Write};

use pcap_parser::pcapng::{Block, EnhancedPacketBlock};
use pcap_parser::{Linktype, PcapNGSlice};
use shim6_core::Instant;

/// Packets that start with their IPv6 header.
const LINKTYPE_IPV6: u16 = 229;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Version 1.0, major and minor.
const VERSION: [u16; 2] = [1, 0];
/// The length of a section that is not known in advance.
const LENGTH_UNKNOWN: u64 = u64::MAX;
const IF_NAME: u16 = 2;

/// Writes a capture. Time stamps are in microseconds, the resolution that the format takes for granted.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    interfaces: u32,
}

/// An interface of a capture, see [`Writer::add_interface`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface(u32);

impl<W: Write> Writer<W> {
    /// Starts a capture.
    ///
    /// # Errors
    ///
    /// The output's.
    pub fn new(output: W) -> io::Result<Self> {
        let mut writer = Self { output, interfaces: 0 };
        let mut body = BYTE_ORDER_MAGIC.to_le_bytes().to_vec();
        VERSION
            .iter()
            .for_each(|part| body.extend_from_slice(&part.to_le_bytes()));
        body.extend_from_slice(&LENGTH_UNKNOWN.to_le_bytes());
        writer.block(SECTION_HEADER, &body)?;
        Ok(writer)
    }

    /// Adds an interface, whose name is shown with its packets.
    ///
    /// # Errors
    ///
    /// The output's, or `InvalidInput` for a name longer than 65,535 octets.
    pub fn add_interface(&mut self, name: &str) -> io::Result<Interface> {
        let length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut body = Vec::new();
        body.extend_from_slice(&LINKTYPE_IPV6.to_le_bytes());
        body.extend_from_slice(&[0; 2]);
        // Snap length: none.
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&IF_NAME.to_le_bytes());
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(name.as_bytes());
        pad(&mut body);
        // The end of the options.
        body.extend_from_slice(&[0; 4]);
        self.block(INTERFACE_DESCRIPTION, &body)?;
        let interface = Interface(self.interfaces);
        self.interfaces += 1;
        Ok(interface)
    }

    /// Writes a packet, from its IPv6 header on, that passed `interface` at `at`.
    ///
    /// # Errors
    ///
    /// The output's, or `InvalidInput` for a packet of 4 GiB.
    pub fn write(&mut self, interface: Interface, at: Instant, packet: &[u8]) -> io::Result<()> {
        let length = u32::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let micros = at.as_micros();
        let mut body = Vec::with_capacity(24 + packet.len());
        for word in [interface.0, (micros >> 32) as u32, micros as u32, length, length] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(packet);
        pad(&mut body);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Ends the capture and gives the output back.
    ///
    /// # Errors
    ///
    /// The output's on flushing.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }

    /// `body` is a multiple of 4 octets.
    fn block(&mut self, block_type: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(12 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.output.write_all(&block_type.to_le_bytes())?;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(body)?;
        self.output.write_all(&length.to_le_bytes())
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A packet from a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Name of the interface; empty if it has none.
    pub interface: String,
    /// When it passed.
    pub at: Instant,
    /// The packet, from its IPv6 header on.
    pub packet: Vec<u8>,
}

/// Why octets cannot be read as a capture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not a pcapng file, or damaged.
    #[error("not a readable pcapng capture: {0}")]
    Format(String),
    /// A packet names an interface that was not described.
    #[error("a packet of the undescribed interface {0}")]
    Interface(u32),
    /// An interface whose packets are not plain IPv6.
    #[error("an interface of link type {0}, not 229 (IPv6)")]
    LinkType(i32),
}

/// Reads a capture of plain IPv6 packets in microseconds.
///
/// # Errors
///
/// The octets are not such a capture.
pub fn read(octets: &[u8]) -> Result<Vec<Captured>, ReadError> {
    let blocks = PcapNGSlice::from_slice(octets).map_err(|error| ReadError::Format(error.to_string()))?;
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    for block in blocks {
        match block.map_err(|error| ReadError::Format(error.to_string()))? {
            pcap_parser::PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                if interface.linktype != Linktype(LINKTYPE_IPV6.into()) {
                    return Err(ReadError::LinkType(interface.linktype.0));
                }
                let name = interface.if_name().and_then(Result::ok).unwrap_or_default();
                interfaces.push(name.to_owned());
            }
            pcap_parser::PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                packets.push(captured(&packet, &interfaces)?)
            }
            _ => {}
        }
    }
    Ok(packets)
}

fn captured(block: &EnhancedPacketBlock<'_>, interfaces: &[String]) -> Result<Captured, ReadError> {
    let index = usize::try_from(block.if_id).ok();
    let interface = index
        .and_then(|index| interfaces.get(index))
        .ok_or(ReadError::Interface(block.if_id))?
        .clone();
    let at = Instant::from_micros(u64::from(block.ts_high) << 32 | u64::from(block.ts_low));
    // The library leaves the padding on.
    let packet = block.data.get(..block.caplen as usize).unwrap_or(block.data).to_vec();
    Ok(Captured { interface, at, packet })
}
