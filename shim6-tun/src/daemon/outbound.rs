//! From the TUN device to the uplinks: steered packets are cut to size and get their locators.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use shim6_core::dataplane::offload::{Offload, Segments, complete_checksum};
use shim6_core::dataplane::{HoldBuffer, Malformed, Outbound, PAYLOAD_HEADER_LEN, addresses};
use shim6_core::{Dataplane, Flow, Instant, LocatorPair};

use super::forks::ForkTable;
use super::shared::Shared;
use super::worker::{Pace, Stop};
use crate::sys::tun::{MAX_PACKET_OCTETS, TunQueue};
use crate::sys::wire_socket::{MAX_BATCH, WirePacket};

/// Packets read before they are sent together, and octets after which no more are read: as much as one packet can be that
/// stands for several.
const BATCH: usize = 64;
const BATCH_OCTETS: usize = 65_536;
/// Packets begin at multiples of this, as cache lines do.
const ALIGNMENT: usize = 64;
/// Room for the packets of a burst, the last of which may be the largest there is, each with headroom.
const BURST_OCTETS: usize = BATCH_OCTETS + BATCH * (PAYLOAD_HEADER_LEN + ALIGNMENT) + MAX_PACKET_OCTETS;

/// Runs until it is to stop, or the queue fails.
pub(crate) fn run(queue: &TunQueue, name: &str, shared: &Shared, stop: &Stop) -> anyhow::Result<()> {
    let (mut burst, mut pace) = (Burst::default(), Pace::new(&shared.streams));
    loop {
        match burst.read(queue) {
            Ok(()) => {
                burst.forward(shared);
                pace.read(burst.ready.len());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !pace.wait(queue.as_fd(), stop)? {
                    return Ok(());
                }
            }
            Err(error) => return Err(explain(name, error)),
        }
    }
}

/// Packets that came together, one behind the other, each with headroom.
///
/// In one buffer, since a buffer for the largest packet for each of them would be megabytes, of which most are touched
/// only now and then.
#[derive(Default)]
struct Burst {
    buffer: Vec<u8>,
    /// What is in the buffer.
    packets: Vec<Packet>,
    /// The headers of segments.
    heads: Vec<u8>,
    ready: Vec<Ready>,
}

/// What was read.
#[derive(Clone, Copy)]
struct Packet {
    /// Where it starts in the buffer.
    start: usize,
    length: usize,
    offload: Offload,
}

/// A packet to be sent.
struct Ready {
    locators: LocatorPair,
    /// Its headers, if they are not where its payload is.
    head: Range<usize>,
    /// Where the rest is in the buffer.
    body: Range<usize>,
}

impl Burst {
    /// Reads what there is, at least one packet.
    fn read(&mut self, queue: &TunQueue) -> io::Result<()> {
        self.packets.clear();
        self.buffer.resize(BURST_OCTETS, 0);
        let mut octets = 0;
        while self.packets.len() < BATCH && octets < BATCH_OCTETS {
            let start = self.next_start();
            match queue.try_recv(&mut self.buffer[start..]) {
                Ok((length, offload)) => {
                    octets += length;
                    self.packets.push(Packet { start, length, offload });
                }
                // A real failure shows again.
                Err(error) if self.packets.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Where the packet behind those that are there starts.
    fn next_start(&self) -> usize {
        let end = self.packets.last().map_or(0, |last| last.start + last.length);
        (end + PAYLOAD_HEADER_LEN).next_multiple_of(ALIGNMENT)
    }

    /// Adds a packet that was held.
    fn push(&mut self, packet: &[u8]) {
        let start = self.next_start();
        self.buffer.resize(start, 0);
        self.buffer.extend_from_slice(packet);
        self.packets.push(Packet {
            start,
            length: packet.len(),
            offload: Offload::default(),
        });
    }

    /// The packets as they were read.
    fn packets(&self) -> impl Iterator<Item = (&[u8], Offload)> {
        self.packets.iter().map(|packet| {
            let octets = &self.buffer[packet.start..packet.start + packet.length];
            (octets, packet.offload)
        })
    }

    /// Sends the packets, and holds those whose context looks for a path.
    fn forward(&mut self, shared: &Shared) {
        let mut held = shared.hold.enter();
        let (dataplane, forks, now) = (shared.dataplane.load(), shared.forks.load(), shared.clock.now());
        dataplane.warm_outbound(self.packets().map(|(packet, _)| packet));
        if let Some(held) = &mut held {
            for (packet, offload) in self.packets() {
                hold((&dataplane, &forks), held, packet, offload, now);
            }
        }
        if shared.hold.remembers() {
            for (packet, _) in self.packets().filter(|(packet, _)| HoldBuffer::is_memorable(packet)) {
                if let Some(flow) = flow_of((&dataplane, &forks), packet) {
                    let held = held.get_or_insert_with(|| shared.hold.lock());
                    held.remember(flow, packet, now);
                }
            }
        }
        self.ready.clear();
        self.heads.clear();
        for index in 0..self.packets.len() {
            self.rewrite(shared, (&dataplane, &forks, now), index);
        }
        self.send(shared, now);
    }

    /// Makes a packet ready to be sent, or counts why it is not.
    fn rewrite(&mut self, shared: &Shared, tables: (&Dataplane, &ForkTable, Instant), index: usize) {
        let Packet { start, length, offload } = self.packets[index];
        let (headroom, end) = (start - PAYLOAD_HEADER_LEN, start + length);
        let buffer = &mut self.buffer[headroom..end];
        let Some(moved) = rewrite(shared, tables, buffer) else {
            return;
        };
        let packet = &mut buffer[moved..];
        let offload = offload.behind(PAYLOAD_HEADER_LEN - moved);
        let Some((local, peer)) = addresses(packet) else { return };
        let locators = LocatorPair { local, peer };
        let body = headroom + moved..end;
        let done = if offload.segmentation.is_some() {
            self.cut(body, locators, offload)
        } else {
            let completed = offload.checksum.map(|checksum| complete_checksum(packet, checksum));
            completed.unwrap_or(Ok(())).map(|()| {
                self.ready.push(Ready {
                    locators,
                    head: 0..0,
                    body,
                });
            })
        };
        if done.is_err() {
            shared.counters.out_malformed.add(1);
        }
    }

    /// Makes the packets ready that the one at `whole` in the buffer stands for.
    fn cut(&mut self, whole: Range<usize>, locators: LocatorPair, offload: Offload) -> Result<(), Malformed> {
        let start = whole.start;
        let mut segments = Segments::new(&self.buffer[whole], offload)?;
        loop {
            let end = self.heads.len();
            let head = end..end + segments.header_len();
            self.heads.resize(head.end, 0);
            let Some(payload) = segments.next_into(&mut self.heads[head.clone()]) else {
                self.heads.truncate(end);
                return Ok(());
            };
            let body = start + payload.start..start + payload.end;
            self.ready.push(Ready { locators, head, body });
        }
    }

    /// Sends in order; consecutive packets of one locator pair go in one call.
    fn send(&self, shared: &Shared, now: Instant) {
        let mut packets = [WirePacket::default(); MAX_BATCH];
        for run in self.ready.chunk_by(|a, b| a.locators == b.locators) {
            for run in run.chunks(MAX_BATCH) {
                for (slot, ready) in packets.iter_mut().zip(run) {
                    let body = &self.buffer[ready.body.clone()];
                    *slot = match ready.head.is_empty() {
                        true => body.into(),
                        false => WirePacket {
                            head: &self.heads[ready.head.clone()],
                            body,
                        },
                    };
                }
                shared.send_on(run[0].locators, &packets[..run.len()], now);
            }
        }
    }
}

/// Keeps what the packet stands for, as it would have been sent without any offload.
fn hold(tables: (&Dataplane, &ForkTable), held: &mut HoldBuffer, packet: &[u8], offload: Offload, now: Instant) {
    let Some(flow) = flow_of(tables, packet).filter(|flow| flow.holding) else {
        return;
    };
    if offload.segmentation.is_none() {
        let mut packet = packet.to_vec();
        // One that is not whole is not held.
        if offload
            .checksum
            .is_none_or(|checksum| complete_checksum(&mut packet, checksum).is_ok())
        {
            held.hold(flow, &packet, now);
        }
    } else if let Ok(mut segments) = Segments::new(packet, offload) {
        let mut head = vec![0; segments.header_len()];
        while let Some(payload) = segments.next_into(&mut head) {
            held.hold(flow, &[&head, &packet[payload]].concat(), now);
        }
    }
}

fn flow_of<'a>((dataplane, forks): (&'a Dataplane, &ForkTable), packet: &[u8]) -> Option<&'a Arc<Flow>> {
    let (local, peer) = addresses(packet)?;
    let ulids = LocatorPair { local, peer };
    let forked = forks
        .of_outgoing(packet)
        .and_then(|forked| dataplane.flow_on(forked.instance, ulids));
    forked.or_else(|| dataplane.flow(ulids))
}

/// Sends packets that were held, by a table in which their flow has found a path. They count as sent on it: the peer sees
/// them arrive and answers, or is silent although they should have arrived.
pub(crate) fn replay(shared: &Shared, dataplane: &Dataplane, packets: &[Box<[u8]>], now: Instant) {
    let (mut burst, forks) = (Burst::default(), shared.forks.load());
    for packets in packets.chunks(BATCH) {
        burst.packets.clear();
        packets.iter().for_each(|packet| burst.push(packet));
        burst.ready.clear();
        for index in 0..packets.len() {
            burst.rewrite(shared, (dataplane, &forks, now), index);
        }
        burst.send(shared, now);
    }
}

fn explain(name: &str, error: io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EBADFD) => anyhow::anyhow!(
            "the TUN device {name} was deleted under the daemon; start it again, and let nothing else manage {name}"
        ),
        _ => anyhow::Error::new(error).context(format!("reading from the TUN device {name}")),
    }
}

/// Gives the packet that fills the buffer behind the headroom its locators. Returns where it starts then.
fn rewrite(
    shared: &Shared,
    (dataplane, forks, now): (&Dataplane, &ForkTable, Instant),
    buffer: &mut [u8],
) -> Option<usize> {
    let (counters, length) = (&shared.counters, buffer.len() - PAYLOAD_HEADER_LEN);
    let forked = forks.of_outgoing(&buffer[PAYLOAD_HEADER_LEN..]);
    let of_fork = forked.filter(|forked| dataplane.flow_on(forked.instance, forked.key.ulids).is_some());
    let instance = of_fork.map_or(0, |forked| forked.instance);
    let (start, flow, wake) = match dataplane.outbound_on(instance, buffer, PAYLOAD_HEADER_LEN, now) {
        Outbound::Rewritten { start, flow, wake } => {
            counters.out_rewritten.add(1);
            counters.out_rewritten_octets.add(length);
            (start, flow, wake)
        }
        Outbound::Unchanged { flow, wake } => {
            counters.out_unchanged.add(1);
            (PAYLOAD_HEADER_LEN, flow, wake)
        }
        // It came here by the route of its ULIDs, which the daemon's own socket does not take.
        Outbound::NotPayload => {
            counters.out_unchanged.add(1);
            return Some(PAYLOAD_HEADER_LEN);
        }
        // Its fork is gone, and it was led here before the kernel knew.
        Outbound::NoContext if forked.is_some() => {
            counters.out_unchanged.add(1);
            return Some(PAYLOAD_HEADER_LEN);
        }
        Outbound::NoContext => {
            counters.out_no_context.add(1);
            return None;
        }
        Outbound::Malformed(_) => {
            counters.out_malformed.add(1);
            return None;
        }
    };
    if wake {
        shared.wake(flow.context);
    }
    Some(start)
}
