//! From the uplinks to the TUN device: packets with a payload header get their ULIDs back and are put together, control
//! messages go to the engine. So do ICMPv6 errors about packets that were sent.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::Context as _;
use shim6_core::dataplane::offload::Coalescer;
use shim6_core::dataplane::{Inbound, PAYLOAD_HEADER_LEN, icmp};
use shim6_core::wire::payload;
use shim6_core::{Dataplane, Instant, LocatorPair};

use super::forks::{Ears, ForkTable};
use super::shared::{Shared, UnknownTag};
use super::worker::{Pace, STREAM, Stop};
use crate::sys::Readiness;
use crate::sys::tun::{MAX_PARTS, Tun, TunQueue};
use crate::sys::wire_socket::{MAX_BATCH, ReceivedPacket, RecvBatch, WireReceiver};

const BATCH: usize = MAX_BATCH;
const ICMP_BATCH: usize = 16;
/// Octets of the longest ICMPv6 error taken. RFC 4443 section 2.4 allows 1280 with the IPv6 header.
const ICMP_MAX: usize = 1_500;
/// Failures in a row after which the socket is taken for broken, so that the daemon ends instead of spinning.
const MAX_FAILURES: u32 = 1_000;
/// The P bit in the third octet of a Shim6 header: payload, not control (RFC 5533 section 5.1).
const P_BIT: u8 = 0x80;

/// Runs until it is to stop, or the socket fails.
pub(crate) fn run(receiver: &WireReceiver, tun: &Tun, shared: &Shared, stop: &Stop) -> anyhow::Result<()> {
    let mut batch = RecvBatch::new(BATCH);
    let mut coalescer = Coalescer::new(tun.takes_joined_datagrams());
    let (mut lost, mut ears) = (Lost::default(), Ears::default());
    let mut pace = Pace::new(&shared.streams);
    loop {
        let count = match receiver.recv_batch(&mut batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !pace.wait(receiver.as_fd(), stop)? {
                    return Ok(());
                }
                continue;
            }
            Err(error) => {
                lost.failed("Shim6 packets", error)?;
                continue;
            }
        };
        lost.failures = 0;
        restore(&mut batch, &mut coalescer, &mut ears, shared);
        deliver(batch.memory_mut(), &coalescer, tun.queues(), shared);
        lost.count(&batch, shared);
        pace.read(count);
        if (STREAM..BATCH).contains(&count) {
            pace.gather();
        }
    }
}

/// Gives the payload packets of a batch their ULIDs and puts together what belongs together; hands the others over.
fn restore(batch: &mut RecvBatch, coalescer: &mut Coalescer, ears: &mut Ears, shared: &Shared) {
    let (dataplane, forks) = (shared.dataplane.load(), shared.forks.load());
    let tags = batch
        .packets_mut()
        .filter_map(|packet| payload::parse(packet.message()).ok());
    dataplane.warm_inbound(tags.map(|(tag, _)| tag));
    let now = shared.clock.now();
    coalescer.clear();
    let mut restored = [const { 0..0 }; BATCH];
    let mut count = 0;
    for packet in batch.packets_mut() {
        let place = packet.place;
        if let Some(range) = handle(packet, (&dataplane, now), (ears, &forks), shared) {
            restored[count] = place + range.start..place + range.end;
            count += 1;
        }
    }
    let memory = batch.memory_mut();
    for packet in &restored[..count] {
        coalescer.push(memory, packet.clone());
    }
}

/// Writes restored packets into the TUN device: those of a flow always into the same queue, from which the kernel then gives us
/// what the flow sends.
fn deliver(memory: &mut [u8], coalescer: &Coalescer, queues: &[TunQueue], shared: &Shared) {
    for group in coalescer.groups() {
        let queue = &queues[group.flow_hash() as usize % queues.len()];
        let offload = group.finish(memory);
        let mut parts = [IoSlice::new(&[]); MAX_PARTS];
        for (slot, part) in parts.iter_mut().zip(group.parts()) {
            *slot = IoSlice::new(&memory[part.clone()]);
        }
        if queue.try_send(offload, &parts[..group.packets()]).is_err() {
            shared.counters.in_tun_full.add(group.packets());
        }
    }
}

/// The same for ICMPv6 errors, of which those go to the engine that are about packets with a Shim6 header.
pub(crate) async fn run_icmp(receiver: WireReceiver, shared: Arc<Shared>) -> anyhow::Result<()> {
    let batch = RecvBatch::with_message_octets(ICMP_BATCH, ICMP_MAX);
    receive("ICMPv6 errors", receiver, batch, &shared, |batch| {
        for packet in batch.packets_mut() {
            let (buffer, start) = packet.into_packet();
            // The others, of which anybody can send as many as of these, are the kernel's business alone.
            if icmp::parse(&buffer[start..]).is_ok() {
                shared.counters.icmp_errors.add(1);
                shared.hand_over_icmp_error(&buffer[start..]);
            }
        }
    })
    .await
}

async fn receive(
    what: &'static str,
    receiver: WireReceiver,
    mut batch: RecvBatch,
    shared: &Shared,
    handle: impl Fn(&mut RecvBatch),
) -> anyhow::Result<()> {
    let readiness = Readiness::of(&receiver).with_context(|| format!("watching the socket for {what}"))?;
    let mut lost = Lost::default();
    loop {
        match readiness.read(|| receiver.recv_batch(&mut batch)).await {
            Ok(_) => lost.failures = 0,
            Err(error) => {
                lost.failed(what, error)?;
                continue;
            }
        }
        handle(&mut batch);
        lost.count(&batch, shared);
    }
}

/// What a socket did not give.
#[derive(Default)]
struct Lost {
    /// Failures in a row.
    failures: u32,
    /// Packets that were received and could not be used, as far as they are counted.
    counted: u64,
}

impl Lost {
    /// A pending error of an earlier packet (an ICMP error, say) is no reason to stop: reading it clears it.
    fn failed(&mut self, what: &str, error: io::Error) -> anyhow::Result<()> {
        if self.failures >= MAX_FAILURES {
            return Err(error).with_context(|| format!("receiving {what}"));
        }
        tracing::debug!(%error, "receiving {what}");
        self.failures += 1;
        Ok(())
    }

    fn count(&mut self, batch: &RecvBatch, shared: &Shared) {
        let total = batch.errors().truncated + batch.errors().control_lost;
        shared.counters.in_truncated.add((total - self.counted) as usize);
        self.counted = total;
    }
}

/// Restores the ULIDs of a payload packet, and says where in its buffer it is then.
fn handle(
    packet: ReceivedPacket<'_>,
    (dataplane, now): (&Dataplane, Instant),
    (ears, forks): (&mut Ears, &ForkTable),
    shared: &Shared,
) -> Option<Range<usize>> {
    let message = packet.message();
    if message.len() < PAYLOAD_HEADER_LEN || message[2] & P_BIT == 0 {
        shared.hand_over(packet.source, packet.destination, message);
        return None;
    }
    let (source, destination, header) = (packet.source, packet.destination, payload::parse(message));
    let (buffer, start) = packet.into_packet();
    match dataplane.inbound(buffer, start, now) {
        Inbound::Restored { start, flow, wake } => {
            shared.counters.in_restored.add(1);
            shared.counters.in_restored_octets.add(buffer.len() - start);
            if wake {
                shared.wake(flow.context);
            }
            let on = LocatorPair::new(destination, source);
            ears.note((flow, on), &buffer[start..], forks, now, shared);
            return Some(start..buffer.len());
        }
        Inbound::NoContext => {
            shared.counters.in_no_context.add(1);
            if let Ok((tag, _)) = header {
                shared.report_unknown_tag(UnknownTag {
                    source,
                    destination,
                    tag,
                });
            }
        }
        Inbound::Malformed(_) | Inbound::NotShim6 | Inbound::Control { .. } => shared.counters.in_malformed.add(1),
    }
    None
}
