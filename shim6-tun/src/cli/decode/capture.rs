//! Frames of a capture file, pcap or pcapng, as they are read: of a file that is still written, too.

use std::io::Read;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{
    LegacyPcapBlock, PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

/// Octets read at once.
const CHUNK: usize = 1 << 16;
/// Largest block of a capture: larger ones are no packets but damage.
const MAX_BLOCK: usize = 1 << 26;

/// The first octets of pcapng files, and of pcap files in either order and resolution.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const PCAP: [u32; 3] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];

/// Octets that are enough for [`is_capture`].
pub(super) const MAGIC: usize = 4;

/// Whether a file that starts like this is a capture.
pub(super) fn is_capture(start: &[u8]) -> bool {
    let Some(start) = start.first_chunk::<MAGIC>() else {
        return false;
    };
    let number = u32::from_le_bytes(*start);
    *start == PCAPNG || PCAP.contains(&number) || PCAP.contains(&number.swap_bytes())
}

/// A frame as the capture has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The first of a capture is 1.
    pub(super) number: u64,
    pub(super) time: Option<SystemTime>,
    /// Type of the link layer's header (the registry of tcpdump.org).
    pub(super) link: u16,
    pub(super) octets: &'a [u8],
    /// Whether the capture left out the frame's end.
    pub(super) is_cut: bool,
}

/// Gives each frame of the capture in `source` to `each`.
///
/// # Errors
///
/// That of `each`, or when the capture cannot be read, is damaged, or ends within a packet; what comes before has been
/// given.
pub(super) fn for_each(
    source: &mut dyn Read,
    each: &mut dyn FnMut(&Frame<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut reader = Reader {
        source,
        buffer: Vec::new(),
        at: 0,
        consumed: 0,
        frames: 0,
    };
    while reader.buffer.len() < MAGIC {
        if !reader.refill()? {
            bail!("the capture ends within its first octets");
        }
    }
    if reader.buffer.starts_with(&PCAPNG) {
        reader.pcapng(each)
    } else {
        reader.pcap(each)
    }
}

struct Reader<'a> {
    source: &'a mut dyn Read,
    buffer: Vec<u8>,
    /// Where in the buffer the next block starts.
    at: usize,
    /// Octets of the capture before the buffer.
    consumed: usize,
    frames: u64,
}

/// What an interface of a pcapng file has to say about its packets.
#[derive(Clone, Copy)]
struct Interface {
    link: u16,
    /// As in the option if_tsresol.
    resolution: u8,
    /// Seconds.
    offset: i64,
}

/// What became of an attempt to parse what the buffer has.
enum Step {
    /// So many octets are done with.
    Done(usize),
    Incomplete,
    Damaged,
}

impl Reader<'_> {
    fn pcap(&mut self, each: &mut dyn FnMut(&Frame<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut header: Option<PcapHeader> = None;
        self.run(|frames, octets| {
            let Some(header) = &header else {
                return match parse_pcap_header(octets) {
                    Ok((rest, parsed)) => {
                        header = Some(parsed);
                        Ok(Step::Done(octets.len() - rest.len()))
                    }
                    Err(error) => Ok(failed(error.is_incomplete())),
                };
            };
            let parse = match (header.is_modified_format(), header.is_bigendian()) {
                (true, _) => parse_pcap_frame_modified,
                (false, true) => parse_pcap_frame_be,
                (false, false) => parse_pcap_frame,
            };
            match parse(octets) {
                Ok((rest, block)) => {
                    *frames += 1;
                    each(&Frame {
                        number: *frames,
                        time: pcap_time(header, &block),
                        // Above the type are flags about the frame check sequence.
                        link: header.network.0 as u16,
                        octets: block.data,
                        is_cut: block.origlen > block.caplen,
                    })?;
                    Ok(Step::Done(octets.len() - rest.len()))
                }
                Err(error) => Ok(failed(error.is_incomplete())),
            }
        })
    }

    fn pcapng(&mut self, each: &mut dyn FnMut(&Frame<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut big_endian = false;
        let mut interfaces: Vec<Interface> = Vec::new();
        self.run(|frames, octets| {
            let parse = if big_endian { parse_block_be } else { parse_block_le };
            let (rest, block) = match parse(octets) {
                Ok(parsed) => parsed,
                Err(error) => return Ok(failed(error.is_incomplete())),
            };
            let mut frame = |interface: u32, ticks: Option<u64>, octets: &[u8], original: u32| {
                *frames += 1;
                // A packet of an interface that the capture does not describe has nothing to be read by.
                let Some(interface) = interfaces.get(interface as usize) else {
                    return Ok(());
                };
                each(&Frame {
                    number: *frames,
                    time: ticks.and_then(|ticks| pcapng_time(ticks, *interface)),
                    link: interface.link,
                    octets,
                    is_cut: original as usize > octets.len(),
                })
            };
            match &block {
                Block::EnhancedPacket(packet) => {
                    let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    frame(packet.if_id, Some(ticks), packet.packet_data(), packet.origlen)?;
                }
                Block::SimplePacket(packet) => frame(0, None, packet.packet_data(), packet.origlen)?,
                Block::SectionHeader(section) => {
                    big_endian = section.big_endian();
                    interfaces.clear();
                }
                Block::InterfaceDescription(interface) => interfaces.push(Interface {
                    link: interface.linktype.0 as u16,
                    resolution: interface.if_tsresol,
                    offset: interface.if_tsoffset,
                }),
                _ => {}
            }
            Ok(Step::Done(octets.len() - rest.len()))
        })
    }

    /// Takes steps to the end of the capture.
    fn run(&mut self, mut step: impl FnMut(&mut u64, &[u8]) -> anyhow::Result<Step>) -> anyhow::Result<()> {
        loop {
            let octets = &self.buffer[self.at..];
            let taken = match octets {
                [] => Step::Incomplete,
                octets => step(&mut self.frames, octets)?,
            };
            match taken {
                // Nothing taken would go on for ever.
                Step::Done(0) | Step::Damaged => bail!(
                    "the capture is damaged at octet {}, behind packet {}; what comes before has been decoded",
                    self.consumed + self.at,
                    self.frames
                ),
                Step::Done(taken) => self.at += taken,
                Step::Incomplete if self.refill()? => {}
                Step::Incomplete if self.at == self.buffer.len() => return Ok(()),
                Step::Incomplete => bail!(
                    "the capture ends within the block behind packet {}; what comes before has been decoded. Was it \
                     still being written, or copied in part?",
                    self.frames
                ),
            }
        }
    }

    /// Reads on. `false` at the end of the file.
    fn refill(&mut self) -> anyhow::Result<bool> {
        self.buffer.drain(..self.at);
        self.consumed += self.at;
        self.at = 0;
        if self.buffer.len() > MAX_BLOCK {
            bail!(
                "the capture is damaged behind packet {}: no packet has {} octets; what comes before has been decoded",
                self.frames,
                self.buffer.len()
            );
        }
        let filled = self.buffer.len();
        // Twice as much each time, so that a large block is not tried in vain too often.
        self.buffer.resize(filled + CHUNK.max(filled), 0);
        let read = loop {
            match self.source.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read.context("cannot read the capture; check the file")?,
            }
        };
        self.buffer.truncate(filled + read);
        Ok(read > 0)
    }
}

fn failed(is_incomplete: bool) -> Step {
    if is_incomplete { Step::Incomplete } else { Step::Damaged }
}

fn pcap_time(header: &PcapHeader, block: &LegacyPcapBlock<'_>) -> Option<SystemTime> {
    let unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
    let since =
        Duration::from_secs(block.ts_sec.into()).checked_add(Duration::from_nanos(u64::from(block.ts_usec) * unit))?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// The resolution is a power of 10, or of 2 if its first bit is set.
fn pcapng_time(ticks: u64, interface: Interface) -> Option<SystemTime> {
    let exponent = u32::from(interface.resolution & 0x7f);
    let base: u128 = if interface.resolution & 0x80 == 0 { 10 } else { 2 };
    let units = base.checked_pow(exponent)?;
    let seconds = u64::try_from(u128::from(ticks) / units).ok()?;
    let nanos = (u128::from(ticks) % units).checked_mul(1_000_000_000)? / units;
    let seconds = seconds.checked_add_signed(interface.offset)?;
    // Below a second, so it fits.
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos as u32))
}

#[cfg(test)]
mod tests;
