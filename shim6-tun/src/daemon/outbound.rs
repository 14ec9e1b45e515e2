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
/// Room for the largest packet and the header that goes in front.
const BUFFER: usize = PAYLOAD_HEADER_LEN + MAX_PACKET_OCTETS;

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

/// Packets that came together, each in a buffer with headroom.
#[derive(Default)]
struct Burst {
    buffers: Vec<Vec<u8>>,
    /// What is in the buffers.
    packets: Vec<Packet>,
    /// The headers of segments.
    heads: Vec<u8>,
    ready: Vec<Ready>,
}

/// What was read into a buffer.
#[derive(Clone, Copy)]
struct Packet {
    length: usize,
    offload: Offload,
}

/// A packet to be sent.
struct Ready {
    locators: LocatorPair,
    /// Its headers, if they are not where its payload is.
    head: Range<usize>,
    /// The buffer that the rest is in, and where.
    index: usize,
    body: Range<usize>,
}

impl Burst {
    /// Reads what there is, at least one packet.
    fn read(&mut self, queue: &TunQueue) -> io::Result<()> {
        self.packets.clear();
        let mut octets = 0;
        while self.packets.len() < BATCH && octets < BATCH_OCTETS {
            let index = self.packets.len();
            if index == self.buffers.len() {
                self.buffers.push(vec![0; BUFFER]);
            }
            match queue.try_recv(&mut self.buffers[index][PAYLOAD_HEADER_LEN..]) {
                Ok((length, offload)) => {
                    octets += length;
                    self.packets.push(Packet { length, offload });
                }
                // A real failure shows again.
                Err(error) if index == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// The packets as they were read.
    fn packets(&self) -> impl Iterator<Item = (&[u8], Offload)> {
        let packets = self.buffers.iter().zip(&self.packets);
        packets.map(|(buffer, packet)| {
            let octets = &buffer[PAYLOAD_HEADER_LEN..PAYLOAD_HEADER_LEN + packet.length];
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
        let Packet { length, offload } = self.packets[index];
        let buffer = &mut self.buffers[index][..PAYLOAD_HEADER_LEN + length];
        let Some(start) = rewrite(shared, tables, buffer) else {
            return;
        };
        let packet = &mut buffer[start..];
        let offload = offload.behind(PAYLOAD_HEADER_LEN - start);
        let Some((local, peer)) = addresses(packet) else { return };
        let locators = LocatorPair { local, peer };
        let body = start..PAYLOAD_HEADER_LEN + length;
        let done = if offload.segmentation.is_some() {
            self.cut(index, start, locators, offload)
        } else {
            let completed = offload.checksum.map(|checksum| complete_checksum(packet, checksum));
            completed.unwrap_or(Ok(())).map(|()| {
                self.ready.push(Ready {
                    locators,
                    head: 0..0,
                    index,
                    body,
                });
            })
        };
        if done.is_err() {
            shared.counters.out_malformed.add(1);
        }
    }

    /// Makes the packets ready that the one at `start` in the buffer stands for.
    fn cut(&mut self, index: usize, start: usize, locators: LocatorPair, offload: Offload) -> Result<(), Malformed> {
        let packet = &self.buffers[index][start..PAYLOAD_HEADER_LEN + self.packets[index].length];
        let mut segments = Segments::new(packet, offload)?;
        loop {
            let end = self.heads.len();
            let head = end..end + segments.header_len();
            self.heads.resize(head.end, 0);
            let Some(payload) = segments.next_into(&mut self.heads[head.clone()]) else {
                self.heads.truncate(end);
                return Ok(());
            };
            let body = start + payload.start..start + payload.end;
            self.ready.push(Ready {
                locators,
                head,
                index,
                body,
            });
        }
    }

    /// Sends in order; consecutive packets of one locator pair go in one call.
    fn send(&self, shared: &Shared, now: Instant) {
        let mut packets = [WirePacket::default(); MAX_BATCH];
        for run in self.ready.chunk_by(|a, b| a.locators == b.locators) {
            for run in run.chunks(MAX_BATCH) {
                for (slot, ready) in packets.iter_mut().zip(run) {
                    let body = &self.buffers[ready.index][ready.body.clone()];
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
        let with_headroom = |packet: &[u8]| [&[0; PAYLOAD_HEADER_LEN], packet].concat();
        burst.buffers = packets.iter().map(|packet| with_headroom(packet)).collect();
        let complete = |packet: &[u8]| Packet {
            length: packet.len(),
            offload: Offload::default(),
        };
        burst.packets = packets.iter().map(|packet| complete(packet)).collect();
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
