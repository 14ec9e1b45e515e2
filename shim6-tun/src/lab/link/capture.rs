//! Captures of what enters a link, as pcapng, which Wireshark and its kin read.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use super::Direction;

/// Frames that wait for whoever captures.
const WAITING: usize = 16_384;

const LINKTYPE_ETHERNET: u16 = 1;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Version 1.0, major and minor.
const VERSION: [u16; 2] = [1, 0];
/// The length of a section that is not known in advance.
const LENGTH_UNKNOWN: u64 = u64::MAX;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
/// Time stamps are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;
const COMMENT: u16 = 1;

/// A frame that came to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// Which way it went.
    pub direction: Direction,
    /// When it entered the link.
    pub at: SystemTime,
    /// The frame, from its Ethernet header on, as it came: before an element changed it.
    pub frame: Vec<u8>,
    /// What became of it, where that is not simply that it arrives.
    pub remark: Option<String>,
}

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    frames: Receiver<CapturedFrame>,
    missed: Arc<AtomicU64>,
}

/// The link's end of a capture.
#[derive(Debug)]
pub(super) struct Sink {
    frames: SyncSender<CapturedFrame>,
    missed: Arc<AtomicU64>,
}

impl Capture {
    pub(super) fn new() -> (Sink, Self) {
        let (sender, receiver) = sync_channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        let sink = Sink {
            frames: sender,
            missed: Arc::clone(&missed),
        };
        let capture = Self {
            frames: receiver,
            missed,
        };
        (sink, capture)
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// The link is gone.
    pub fn next(&self) -> Result<CapturedFrame, RecvError> {
        self.frames.recv()
    }

    /// Waits for the next frame, but not longer than that: then there is none.
    ///
    /// # Errors
    /// The link is gone.
    pub fn next_within(&self, limit: Duration) -> Result<Option<CapturedFrame>, RecvError> {
        match self.frames.recv_timeout(limit) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// Frames that are not in the capture because they were not taken fast enough.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Sink {
    /// Never waits. `false` when nobody captures any more.
    pub(super) fn put(&self, frame: CapturedFrame) -> bool {
        match self.frames.try_send(frame) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// Writes a capture of one link: each direction is an interface, and a comment says of a packet that does not arrive what became
/// of it.
#[derive(Debug)]
pub struct CaptureWriter<W> {
    output: W,
}

impl<W: Write> CaptureWriter<W> {
    /// Starts a capture of a link whose directions have these names.
    ///
    /// # Errors
    /// The output's.
    pub fn new(output: W, directions: [&str; 2]) -> io::Result<Self> {
        let mut writer = Self { output };
        let mut body = BYTE_ORDER_MAGIC.to_ne_bytes().to_vec();
        VERSION.iter().for_each(|part| body.extend(part.to_ne_bytes()));
        body.extend(LENGTH_UNKNOWN.to_ne_bytes());
        writer.block(SECTION_HEADER, &body)?;
        for name in directions {
            let mut body = LINKTYPE_ETHERNET.to_ne_bytes().to_vec();
            // Reserved; then the most octets that are kept of a packet: all.
            body.extend([0; 2]);
            body.extend([0; 4]);
            option(&mut body, IF_NAME, name.as_bytes())?;
            option(&mut body, IF_TSRESOL, &[NANOSECONDS])?;
            body.extend([0; 4]);
            writer.block(INTERFACE_DESCRIPTION, &body)?;
        }
        writer.output.flush()?;
        Ok(writer)
    }

    /// Writes a frame, and does not keep it back.
    ///
    /// # Errors
    /// The output's.
    pub fn write(&mut self, captured: &CapturedFrame) -> io::Result<()> {
        let since = captured.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let length = u32::try_from(captured.frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut body = Vec::with_capacity(64 + captured.frame.len());
        let interface = captured.direction.index() as u32;
        for word in [interface, (nanos >> 32) as u32, nanos as u32, length, length] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(&captured.frame);
        pad(&mut body);
        if let Some(remark) = &captured.remark {
            option(&mut body, COMMENT, remark.as_bytes())?;
            body.extend([0; 4]);
        }
        self.block(ENHANCED_PACKET, &body)?;
        self.output.flush()
    }

    /// Ends the capture and gives the output back.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.output
    }

    /// In one piece, so that a file which is cut short ends with a whole block.
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(12 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut block = Vec::with_capacity(12 + body.len());
        block.extend(kind.to_ne_bytes());
        block.extend(length.to_ne_bytes());
        block.extend(body);
        block.extend(length.to_ne_bytes());
        self.output.write_all(&block)
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) -> io::Result<()> {
    let length = u16::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    body.extend(code.to_ne_bytes());
    body.extend(length.to_ne_bytes());
    body.extend(value);
    pad(body);
    Ok(())
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use pcap_parser::PcapNGSlice;
    use pcap_parser::pcapng::Block;

    use super::*;

    #[test]
    fn another_library_reads_what_is_written() {
        let mut octets = Vec::new();
        let mut writer = CaptureWriter::new(&mut octets, ["l from a", "l from b"]).unwrap();
        let frame = |direction, remark: Option<&str>| CapturedFrame {
            direction,
            at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789),
            frame: vec![7; 61],
            remark: remark.map(str::to_owned),
        };
        writer.write(&frame(Direction::Up, None)).unwrap();
        writer.write(&frame(Direction::Down, Some("lost by the link"))).unwrap();
        let (mut names, mut packets) = (Vec::new(), Vec::new());
        for block in PcapNGSlice::from_slice(&octets).unwrap() {
            match block.unwrap() {
                pcap_parser::PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                    assert_eq!((interface.linktype.0, interface.if_tsresol), (1, 9));
                    names.push(interface.if_name().unwrap().unwrap().to_owned());
                }
                pcap_parser::PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                    let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    assert_eq!((time, packet.caplen), (1_234_567_890_123_456_789, 61));
                    let comment = packet.options.iter().find(|option| option.code.0 == COMMENT);
                    packets.push((packet.if_id, comment.map(|comment| comment.value.to_vec())));
                }
                _ => {}
            }
        }
        assert_eq!(names, ["l from a", "l from b"]);
        assert_eq!(packets[0], (0, None));
        assert_eq!(packets[1].0, 1);
        assert!(packets[1].1.as_ref().unwrap().starts_with(b"lost by the link"));
    }

    #[test]
    fn who_does_not_take_frames_misses_them_and_holds_up_nobody() {
        let (sink, capture) = Capture::new();
        let frame = CapturedFrame {
            direction: Direction::Up,
            at: SystemTime::now(),
            frame: Vec::new(),
            remark: None,
        };
        for _ in 0..WAITING + 5 {
            assert!(sink.put(frame.clone()));
        }
        assert_eq!(capture.missed(), 5);
        drop(capture);
        assert!(!sink.put(frame));
    }
}
