//! A closer look at some pairs, for rules that programs in the kernel do not know: by taps that are open only while there is
//! such a pair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shim6_core::LocatorPair;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::super::shared::Shared;
use super::super::trigger::SharedTrigger;
use super::taps::sighting;
use crate::sys::Readiness;
use crate::sys::tap::{PacketTap, TapOptions};

/// How often it is seen to whether there is anything to be looked at.
const TICK: Duration = Duration::from_secs(1);
/// Room in the ring: a packet that is missed is one that is not counted.
const RING_OCTETS: usize = 512 * 1024;
/// Octets of each packet: as many as some extension headers and the ports take.
const SNAP_OCTETS: usize = 96;

/// Looks whenever that is wanted, until the task is dropped.
pub(super) async fn run(index: u32, interface: String, trigger: Arc<SharedTrigger>, shared: Arc<Shared>) {
    let mut wanted = trigger.wanted();
    // The trigger outlives its receiver, so there is no end to be waited for.
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        match look(index, &mut wanted, &trigger, &shared).await {
            Ok(()) => {}
            Err(error) => {
                // Most likely the interface is gone or down. What is to be looked at is asked for again.
                tracing::debug!(interface, %error, "looking at packets more closely");
                sleep(TICK).await;
            }
        }
    }
}

async fn look(
    index: u32,
    wanted: &mut watch::Receiver<bool>,
    trigger: &SharedTrigger,
    shared: &Shared,
) -> io::Result<()> {
    let options = TapOptions {
        ring_octets: RING_OCTETS,
        snap_octets: SNAP_OCTETS,
        ..TapOptions::default()
    };
    let mut tap = PacketTap::open(index, options)?;
    let readiness = Readiness::of(&tap)?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while *wanted.borrow_and_update() {
        let read = || {
            let (now, mut trigger) = (shared.clock.now(), trigger.lock());
            tap.read(&mut |packet| {
                let (source, destination) = (packet.source(), packet.destination());
                let ulids = match packet.outgoing {
                    true => LocatorPair::new(source, destination),
                    false => LocatorPair::new(destination, source),
                };
                if trigger.count_closely(&sighting(&packet, ulids), now) {
                    shared.propose(ulids);
                }
            })
        };
        tokio::select! {
            read = readiness.read(read) => { read?; }
            _ = tick.tick() => trigger.forget_quiet(shared.clock.now()),
            _ = wanted.changed() => {}
        }
    }
    Ok(())
}
