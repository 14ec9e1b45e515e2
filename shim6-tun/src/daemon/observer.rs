//! Watches ordinary packets on an uplink: which ULID pairs have traffic, and when the last packet came and went.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use shim6_core::dataplane::Observed;

use super::shared::{Input, Shared};
use super::trigger::Trigger;
use crate::sys::tap::{PacketTap, TapPacket};

/// Runs until the tap fails, which it does when its interface is removed.
pub(crate) async fn run(tap: PacketTap, trigger: Arc<Mutex<Trigger>>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut tap = tap.watch().context("watching the packet tap")?;
    let mut missed = 0;
    loop {
        let mut guard = tap.readable_mut().await.context("waiting for the packet tap")?;
        let result = {
            // One observer per uplink, each at its own pace: the lock is hardly ever waited for.
            let mut trigger = trigger.lock().unwrap_or_else(PoisonError::into_inner);
            guard.get_inner_mut().read(&mut |packet| observe(&packet, &mut trigger, &shared))
        };
        // The ring has no end-of-file: it is read until it is empty, then waited for again.
        guard.clear_ready();
        let seen = match result {
            Ok(seen) => seen,
            // The interface went down; the tap works again when it is back.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
            Err(error) => return Err(error).context("reading the packet tap"),
        };
        shared.counters.observed.add(seen);
        if let Ok(statistics) = guard.get_inner_mut().statistics() {
            shared.counters.observe_missed.add((statistics.drops - missed) as usize);
            missed = statistics.drops;
        }
    }
}

fn observe(packet: &TapPacket<'_>, trigger: &mut Trigger, shared: &Shared) {
    let now = shared.clock.now();
    let (source, destination, outgoing) = (packet.source(), packet.destination(), packet.outgoing);
    match shared.dataplane.load().observe(source, destination, outgoing, packet.length as usize, now) {
        Observed::Recorded => {}
        Observed::Wake(context) => shared.tell(Input::Activity(context)),
        Observed::NoContext(ulids) => {
            // Only pairs that a context could be made for; all other traffic of the host is none of our business.
            if shared.senders.contains_key(&ulids.local)
                && !shared.senders.contains_key(&ulids.peer)
                && trigger.count(ulids, outgoing, u64::from(packet.length), now)
            {
                shared.tell(Input::Candidate(ulids));
            }
        }
    }
}
