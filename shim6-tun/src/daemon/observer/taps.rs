//! By packet taps, which show the headers of all packets.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shim6_core::dataplane::{HOLD_SMALL, HoldBuffer, Observed};
use shim6_core::{Dataplane, Instant, LocatorPair};
use tokio::task::JoinHandle;

use super::super::shared::Shared;
use super::super::trigger::{SharedTrigger, Sighting, Trigger};
use super::super::uplink::Uplink;
use crate::sys::Readiness;
use crate::sys::tap::{PacketTap, TapOptions, TapPacket};

/// A packet that is this old, by the system's clock, was in no ring for so long: the clock was set.
const OLDEST: Duration = Duration::from_secs(1);

/// The taps on the uplinks, each read by a task of its own.
///
/// A tap dies with its interface, and the uplink may come back under another index: so they follow the uplinks.
#[derive(Debug)]
pub(super) struct Taps {
    trigger: Arc<SharedTrigger>,
    shared: Arc<Shared>,
    /// By interface name.
    open: HashMap<String, Tap>,
}

#[derive(Debug)]
struct Tap {
    index: u32,
    task: JoinHandle<()>,
}

impl Taps {
    pub(super) fn new(trigger: Arc<SharedTrigger>, shared: Arc<Shared>) -> Self {
        Self {
            trigger,
            shared,
            open: HashMap::new(),
        }
    }

    /// Watches an uplink's interface, unless it is watched already.
    ///
    /// # Errors
    ///
    /// The system's, for example if there is no such interface now.
    pub(super) fn watch(&mut self, uplink: &Uplink) -> io::Result<()> {
        let watched = |observer: &Tap| observer.index == uplink.index && !observer.task.is_finished();
        if self.open.get(&uplink.interface).is_some_and(watched) {
            return Ok(());
        }
        let options = TapOptions {
            whole_octets: if self.shared.hold.remembers() { HOLD_SMALL } else { 0 },
            ..TapOptions::default()
        };
        let tap = PacketTap::open(uplink.index, options)?;
        let readiness = Readiness::of(&tap)?;
        let task = run(
            tap,
            readiness,
            uplink.interface.clone(),
            self.trigger.clone(),
            self.shared.clone(),
        );
        let observer = Tap {
            index: uplink.index,
            task: tokio::spawn(task),
        };
        self.open.insert(uplink.interface.clone(), observer);
        Ok(())
    }

    /// Forgets the tap on an interface that was removed: should another come with the same index, this tap is deaf to it.
    pub(super) fn forget(&mut self, index: u32) {
        self.open.retain(|_, observer| observer.index != index);
    }

    /// Forgets all taps, when it is not known which interfaces were removed.
    pub(super) fn forget_all(&mut self) {
        self.open.clear();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs until the tap fails. That is no reason for the daemon to stop: other uplinks work, and packets go their way.
async fn run(
    mut tap: PacketTap,
    readiness: Readiness,
    interface: String,
    trigger: Arc<SharedTrigger>,
    shared: Arc<Shared>,
) {
    let mut missed = 0;
    loop {
        let read = || {
            let mut trigger = trigger.lock();
            // One look at the clocks and at the table per batch. The packets are some milliseconds old, which matters: one
            // from before a failure must not count as a sign of life after it.
            let (clocks, dataplane) = (Clocks::read(&shared), shared.dataplane.load());
            let mut memory = None;
            tap.read(&mut |packet| {
                let now = clocks.time_of(packet.seen_at);
                observe(&packet, now, &dataplane, &mut trigger, &shared);
                remember(&packet, now, &dataplane, &shared, &mut memory);
            })
        };
        let seen = match readiness.read(read).await {
            Ok(seen) => seen,
            // The interface went down; the tap works again when it is back.
            Err(error) if error.kind() == io::ErrorKind::NetworkDown => continue,
            Err(error) => return tracing::error!(interface, %error, "reading the packet tap"),
        };
        shared.counters.observed.add(seen);
        if let Ok(statistics) = tap.statistics() {
            shared.counters.observe_missed.add((statistics.drops - missed) as usize);
            missed = statistics.drops;
        }
    }
}

/// The same moment on our clock and on that of the taps.
struct Clocks {
    ours: Instant,
    taps: Duration,
}

impl Clocks {
    fn read(shared: &Shared) -> Self {
        // Before the epoch, no packet has an age.
        let taps = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            ours: shared.clock.now(),
            taps,
        }
    }

    /// When the kernel saw a packet. The taps' clock may be set meanwhile: what seems older than a packet in the ring can be
    /// is taken for new.
    fn time_of(&self, seen_at: Duration) -> Instant {
        let age = self.taps.saturating_sub(seen_at);
        if age < OLDEST { self.ours - age } else { self.ours }
    }
}

fn observe(packet: &TapPacket<'_>, now: Instant, dataplane: &Dataplane, trigger: &mut Trigger, shared: &Shared) {
    let (source, destination, outgoing) = (packet.source(), packet.destination(), packet.outgoing);
    match dataplane.observe(source, destination, outgoing, packet.length as usize, now) {
        Observed::Recorded => {}
        Observed::Wake(context) => shared.wake(context),
        Observed::NoContext(ulids) => {
            // Only pairs that a context could be made for; all other traffic of the host is none of our business.
            if shared.wire.has(ulids.local)
                && !shared.wire.has(ulids.peer)
                && trigger.count(&sighting(packet, ulids), now)
            {
                shared.propose(ulids);
            }
        }
    }
}

/// What the trigger has to know of a packet.
pub(super) fn sighting<'a>(packet: &TapPacket<'a>, ulids: LocatorPair) -> Sighting<'a> {
    Sighting {
        ulids,
        outgoing: packet.outgoing,
        length: u64::from(packet.length),
        octets: packet.octets,
    }
}

/// Remembers a packet of a context that may be the last one before its path fails. The lock is taken for the first such
/// packet of a batch.
fn remember<'a>(
    packet: &TapPacket<'_>,
    now: Instant,
    dataplane: &Dataplane,
    shared: &'a Shared,
    memory: &mut Option<MutexGuard<'a, HoldBuffer>>,
) {
    if !packet.outgoing || !shared.hold.remembers() {
        return;
    }
    // None if it was cut off.
    let whole = packet.octets.get(..packet.length as usize);
    let Some(whole) = whole.filter(|whole| HoldBuffer::is_memorable(whole)) else {
        return;
    };
    if let Some(flow) = dataplane.flow(LocatorPair::new(packet.source(), packet.destination())) {
        memory
            .get_or_insert_with(|| shared.hold.lock())
            .remember(flow, whole, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_old_as_they_say_unless_the_clock_was_set_since() {
        let (now, hour) = (Instant::from_micros(10_000_000), Duration::from_secs(3_600));
        let clocks = Clocks {
            ours: now,
            taps: 1_000 * hour,
        };
        let seen = |age| clocks.time_of(clocks.taps - age);
        assert_eq!(seen(Duration::ZERO), now);
        assert_eq!(seen(Duration::from_millis(5)), Instant::from_micros(9_995_000));
        assert_eq!(seen(hour), now, "the clock went forwards");
        assert_eq!(clocks.time_of(clocks.taps + hour), now, "the clock went back");
    }
}
