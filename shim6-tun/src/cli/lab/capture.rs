//! `shim6 lab capture`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::NameArgs;

/// The block of a packet in pcapng.
const ENHANCED_PACKET: u32 = 6;
/// Octets of a block beside its contents.
const FRAME: usize = 12;
/// More than any block has that a keeper sends.
const MAX_BLOCK: usize = 1 << 20;

/// Arguments of `shim6 lab capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The link
    #[arg(value_name = "LINK")]
    link: String,
    /// Where to write the capture, in the format pcapng; - for standard output, as for wireshark -k -i -
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// End after so many packets [default: on Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

pub(super) fn run(args: &CaptureArgs) -> anyhow::Result<ExitCode> {
    let keeper = args.name.keeper()?;
    let stream = keeper.capture(&args.link)?;
    let is_stdout = args.file.as_os_str() == "-";
    let mut output: Box<dyn Write> = if is_stdout {
        Box::new(io::stdout().lock())
    } else {
        let created = File::create(&args.file);
        Box::new(created.with_context(|| format!("cannot write {}; choose another file", args.file.display()))?)
    };
    let deadline = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (sender, blocks) = channel();
    // It ends with the process.
    thread::spawn(move || {
        let mut stream = stream;
        while let Ok(Some(block)) = next_block(&mut stream) {
            if sender.send(block).is_err() {
                return;
            }
        }
    });
    let mut packets = 0;
    while args.packets.is_none_or(|most| packets < most) {
        let received = match deadline {
            Some(deadline) => blocks.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => blocks.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let Ok(block) = received else {
            break;
        };
        // In whole blocks, and at once: whatever ends this, the file can be read.
        output.write_all(&block)?;
        output.flush()?;
        packets += u64::from(kind(&block) == Some(ENHANCED_PACKET));
    }
    if !is_stdout {
        writeln!(io::stderr().lock(), "{packets} packets in {}", args.file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn kind(block: &[u8]) -> Option<u32> {
    block.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

/// The next block of a capture as this machine writes it; nothing at its end.
fn next_block(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut block = vec![0; 8];
    match stream.read_exact(&mut block) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_ne_bytes([block[4], block[5], block[6], block[7]]) as usize;
    if !(FRAME..=MAX_BLOCK).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    block.resize(length, 0);
    stream.read_exact(&mut block[8..])?;
    Ok(Some(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_taken_block_by_block_and_a_broken_one_ends() {
        let mut writer = crate::lab::CaptureWriter::new(Vec::new(), ["up", "down"]).unwrap();
        let frame = crate::lab::CapturedFrame {
            direction: crate::lab::Direction::Up,
            at: std::time::SystemTime::now(),
            frame: vec![1; 99],
            remark: None,
        };
        writer.write(&frame).unwrap();
        let octets = writer.into_inner();
        let mut stream = &octets[..];
        let mut kinds = Vec::new();
        while let Some(block) = next_block(&mut stream).unwrap() {
            kinds.push(kind(&block).unwrap());
        }
        assert_eq!(kinds[1..], [1, 1, ENHANCED_PACKET]);
        assert!(next_block(&mut &octets[..octets.len() - 1][..20]).is_err());
        assert!(next_block(&mut &[0; 100][..]).is_err());
    }
}
