//! From the uplinks to the TUN device: packets with a payload header get their ULIDs back, control messages go to the
//! engine.

use std::sync::Arc;

use anyhow::Context as _;
use shim6_core::dataplane::{Inbound, PAYLOAD_HEADER_LEN};

use super::shared::Shared;
use crate::sys::Readiness;
use crate::sys::tun::Tun;
use crate::sys::wire_socket::{ReceivedPacket, RecvBatch, WireReceiver};

const BATCH: usize = 64;
/// Failures in a row after which the socket is taken for broken, so that the daemon ends instead of spinning.
const MAX_FAILURES: u32 = 1_000;
/// The P bit in the third octet of a Shim6 header: payload, not control (RFC 5533 section 5.1).
const P_BIT: u8 = 0x80;

/// Runs until the socket fails.
pub(crate) async fn run(receiver: WireReceiver, tun: Arc<Tun>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let readiness = Readiness::of(&receiver).context("watching the Shim6 socket")?;
    let mut batch = RecvBatch::new(BATCH);
    let mut errors = 0;
    let mut failures = 0;
    loop {
        match readiness.read(|| receiver.recv_batch(&mut batch)).await {
            Ok(_) => failures = 0,
            // A pending error of an earlier packet (an ICMP error, say) is no reason to stop: reading it clears it.
            Err(error) if failures < MAX_FAILURES => {
                tracing::debug!(%error, "receiving Shim6 packets");
                failures += 1;
                continue;
            }
            Err(error) => return Err(error).context("receiving Shim6 packets"),
        }
        for packet in batch.packets_mut() {
            handle(packet, &tun, &shared);
        }
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
        Inbound::NoContext => shared.counters.in_no_context.add(1),
        Inbound::Malformed(_) | Inbound::NotShim6 | Inbound::Control { .. } => shared.counters.in_malformed.add(1),
    }
}
