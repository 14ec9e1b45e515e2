//! From the TUN device to the uplinks: steered packets get their locators.

use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;

use shim6_core::dataplane::{HoldBuffer, Outbound, PAYLOAD_HEADER_LEN, addresses};
use shim6_core::{Dataplane, Flow, Instant, LocatorPair};

use super::shared::Shared;
use crate::sys::tun::Tun;

/// Packets rewritten before they are sent together.
const BATCH: usize = 64;
/// Room for the largest IPv6 packet and the header that goes in front.
const BUFFER: usize = PAYLOAD_HEADER_LEN + 65_536;

/// A packet that waits in `buffers[index]` to be sent.
struct Ready {
    index: usize,
    start: usize,
    end: usize,
    source: Ipv6Addr,
}

/// Runs until the TUN device fails.
pub(crate) async fn run(tun: Arc<Tun>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut buffers: Vec<Vec<u8>> = (0..BATCH).map(|_| vec![0; BUFFER]).collect();
    let mut lengths = Vec::with_capacity(BATCH);
    let mut ready = Vec::with_capacity(BATCH);
    loop {
        let first = &mut buffers[0][PAYLOAD_HEADER_LEN..];
        lengths.clear();
        lengths.push(tun.recv(first).await.map_err(|error| explain(&tun, error))?);
        for buffer in &mut buffers[1..] {
            match tun.try_recv(&mut buffer[PAYLOAD_HEADER_LEN..]) {
                Ok(length) => lengths.push(length),
                Err(_) => break, // Nothing left for now; a real failure shows again in `recv`.
            }
        }
        forward(&shared, &mut buffers, &lengths, &mut ready);
    }
}

/// Sends the packets of the given lengths that are in the buffers, and holds those whose context looks for a path.
fn forward(shared: &Shared, buffers: &mut [Vec<u8>], lengths: &[usize], ready: &mut Vec<Ready>) {
    let mut held = shared.hold.enter();
    let (dataplane, now) = (shared.dataplane.load(), shared.clock.now());
    let packets = || {
        let packets = buffers.iter().zip(lengths);
        packets.map(|(buffer, &length)| &buffer[PAYLOAD_HEADER_LEN..PAYLOAD_HEADER_LEN + length])
    };
    dataplane.warm_outbound(packets());
    if let Some(held) = &mut held {
        packets().for_each(|packet| hold(&dataplane, held, packet, now));
    }
    if shared.hold.remembers() {
        for packet in packets().filter(|packet| HoldBuffer::is_memorable(packet)) {
            if let Some(flow) = flow_of(&dataplane, packet) {
                let held = held.get_or_insert_with(|| shared.hold.lock());
                held.remember(flow, packet, now);
            }
        }
    }
    ready.clear();
    for (index, (buffer, &length)) in buffers.iter_mut().zip(lengths).enumerate() {
        ready.extend(rewrite(shared, (&dataplane, now), buffer, index, length));
    }
    send(shared, buffers, ready);
}

fn hold(dataplane: &Dataplane, held: &mut HoldBuffer, packet: &[u8], now: Instant) {
    if let Some(flow) = flow_of(dataplane, packet).filter(|flow| flow.holding) {
        held.hold(flow, packet, now);
    }
}

fn flow_of<'a>(dataplane: &'a Dataplane, packet: &[u8]) -> Option<&'a Arc<Flow>> {
    let (local, peer) = addresses(packet)?;
    dataplane.flow(LocatorPair { local, peer })
}

/// Sends packets that were held, by a table in which their flow has found a path. They count as sent on it: the peer sees
/// them arrive and answers, or is silent although they should have arrived.
pub(crate) fn replay(shared: &Shared, dataplane: &Dataplane, packets: &[Box<[u8]>], now: Instant) {
    for packets in packets.chunks(BATCH) {
        let with_headroom = |packet: &[u8]| [&[0; PAYLOAD_HEADER_LEN], packet].concat();
        let mut buffers: Vec<_> = packets.iter().map(|packet| with_headroom(packet)).collect();
        let rewritten = buffers.iter_mut().enumerate().filter_map(|(index, buffer)| {
            let length = buffer.len() - PAYLOAD_HEADER_LEN;
            rewrite(shared, (dataplane, now), buffer, index, length)
        });
        let ready: Vec<_> = rewritten.collect();
        send(shared, &buffers, &ready);
    }
}

fn explain(tun: &Tun, error: io::Error) -> anyhow::Error {
    let name = tun.name();
    match error.raw_os_error() {
        Some(libc::EBADFD) => anyhow::anyhow!(
            "the TUN device {name} was deleted under the daemon; start it again, and let nothing else manage {name}"
        ),
        _ => anyhow::Error::new(error).context(format!("reading from the TUN device {name}")),
    }
}

fn rewrite(
    shared: &Shared,
    (dataplane, now): (&Dataplane, Instant),
    buffer: &mut [u8],
    index: usize,
    length: usize,
) -> Option<Ready> {
    let end = PAYLOAD_HEADER_LEN + length;
    let counters = &shared.counters;
    let (start, flow, wake) = match dataplane.outbound(&mut buffer[..end], PAYLOAD_HEADER_LEN, now) {
        Outbound::Rewritten { start, flow, wake } => {
            counters.out_rewritten.add(1);
            (start, flow, wake)
        }
        Outbound::Unchanged { flow, wake } => {
            counters.out_unchanged.add(1);
            (PAYLOAD_HEADER_LEN, flow, wake)
        }
        // It came here by the route of its ULIDs, which the daemon's own socket does not take.
        Outbound::NotPayload => {
            counters.out_unchanged.add(1);
            let (source, _) = addresses(&buffer[PAYLOAD_HEADER_LEN..end])?;
            return Some(Ready {
                index,
                start: PAYLOAD_HEADER_LEN,
                end,
                source,
            });
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
    let (source, _) = addresses(&buffer[start..end])?;
    Some(Ready {
        index,
        start,
        end,
        source,
    })
}

/// Sends in order; consecutive packets of one locator go in one call.
fn send(shared: &Shared, buffers: &[Vec<u8>], ready: &[Ready]) {
    let mut packets: [&[u8]; BATCH] = [&[]; BATCH];
    for run in ready.chunk_by(|a, b| a.source == b.source) {
        for (slot, packet) in packets.iter_mut().zip(run) {
            *slot = &buffers[packet.index][packet.start..packet.end];
        }
        shared.send(run[0].source, &packets[..run.len()]);
    }
}
