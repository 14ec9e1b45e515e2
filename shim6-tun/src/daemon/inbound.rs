//! From the uplinks to the TUN device: packets with a payload header get their ULIDs back, control messages go to the
//! engine. So do ICMPv6 errors about packets that were sent.

use std::sync::Arc;

use anyhow::Context as _;
use shim6_core::dataplane::{Inbound, PAYLOAD_HEADER_LEN, icmp};
use shim6_core::wire::payload;

use super::shared::{Shared, UnknownTag};
use crate::sys::Readiness;
use crate::sys::tun::Tun;
use crate::sys::wire_socket::{ReceivedPacket, RecvBatch, WireReceiver};

const BATCH: usize = 64;
const ICMP_BATCH: usize = 16;
/// Octets of the longest ICMPv6 error taken. RFC 4443 section 2.4 allows 1280 with the IPv6 header.
const ICMP_MAX: usize = 1_500;
/// Failures in a row after which the socket is taken for broken, so that the daemon ends instead of spinning.
const MAX_FAILURES: u32 = 1_000;
/// The P bit in the third octet of a Shim6 header: payload, not control (RFC 5533 section 5.1).
const P_BIT: u8 = 0x80;

/// Runs until the socket fails.
pub(crate) async fn run(receiver: WireReceiver, tun: Arc<Tun>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let batch = RecvBatch::new(BATCH);
    receive("Shim6 packets", receiver, batch, &shared, |batch| {
        let tags = batch
            .packets_mut()
            .filter_map(|packet| payload::parse(packet.message()).ok());
        shared.dataplane.load().warm_inbound(tags.map(|(tag, _)| tag));
        batch.packets_mut().for_each(|packet| handle(packet, &tun, &shared));
    })
    .await
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
    let mut errors = 0;
    let mut failures = 0;
    loop {
        match readiness.read(|| receiver.recv_batch(&mut batch)).await {
            Ok(_) => failures = 0,
            // A pending error of an earlier packet (an ICMP error, say) is no reason to stop: reading it clears it.
            Err(error) if failures < MAX_FAILURES => {
                tracing::debug!(%error, "receiving {what}");
                failures += 1;
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("receiving {what}")),
        }
        handle(&mut batch);
        let total = batch.errors().truncated + batch.errors().control_lost;
        shared.counters.in_truncated.add((total - errors) as usize);
        errors = total;
    }
}

fn handle(packet: ReceivedPacket<'_>, tun: &Tun, shared: &Shared) {
    let message = packet.message();
    if message.len() < PAYLOAD_HEADER_LEN || message[2] & P_BIT == 0 {
        return shared.hand_over(packet.source, packet.destination, message);
    }
    let (source, destination, header) = (packet.source, packet.destination, payload::parse(message));
    let (buffer, start) = packet.into_packet();
    let dataplane = shared.dataplane.load();
    match dataplane.inbound(buffer, start, shared.clock.now()) {
        Inbound::Restored { start, flow, wake } => {
            shared.counters.in_restored.add(1);
            if wake {
                shared.wake(flow.context);
            }
            if tun.try_send(&buffer[start..]).is_err() {
                shared.counters.in_tun_full.add(1);
            }
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
}
